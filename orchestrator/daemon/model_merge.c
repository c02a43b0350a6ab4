/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/daemon/model_merge.h"

#include "base/error.h"
#include "orchestrator/yaml_doc.h"

#include <math.h>
#include <string.h>

/* ---- YAML to JSON ---- */

/* As YAML's JSON schema has them. NULL: a text. */
static json_t *plain_value(const char *text)
{
    char *end = NULL;
    json_int_t integer;
    double real;

    if (g_str_equal(text, "") || g_str_equal(text, "~") || g_ascii_strcasecmp(text, "null") == 0)
        return json_null();
    if (g_ascii_strcasecmp(text, "true") == 0 || g_ascii_strcasecmp(text, "false") == 0)
        return json_boolean(g_ascii_strcasecmp(text, "true") == 0);
    if (!g_ascii_isdigit(*text) && *text != '-')
        return NULL;
    integer = g_ascii_strtoll(text, &end, 10);
    if (!*end && g_ascii_isdigit(end[-1])) {
        g_autofree char *again = g_strdup_printf("%" JSON_INTEGER_FORMAT, integer);
        return g_str_equal(again, text) ? json_integer(integer) : NULL; /* 007 and 10^30 stay as they are */
    }
    real = g_ascii_strtod(text, &end);
    return !*end && strchr(text, '.') && isfinite(real) ? json_real(real) : NULL;
}

static json_t *scalar_to_json(const VrYamlNode *node)
{
    json_t *value = node->plain ? plain_value(node->text) : NULL;

    return value ? value : json_string(node->text);
}

/* No deeper than VR_YAML_MAX_DEPTH. */
static json_t *node_to_json(const VrYamlNode *node)
{
    json_t *value;

    if (node->kind == VR_YAML_SCALAR)
        return scalar_to_json(node);
    value = node->kind == VR_YAML_MAP ? json_object() : json_array();
    for (guint i = 0; i < node->values->len; i++) {
        json_t *child = node_to_json(node->values->pdata[i]);
        if (node->kind == VR_YAML_MAP)
            json_object_set_new(value, ((const VrYamlNode *)node->keys->pdata[i])->text, child);
        else
            json_array_append_new(value, child);
    }
    return value;
}

json_t *vr_model_to_json(const char *text, gsize length, GError **error)
{
    g_autoptr(VrYamlNode) root = vr_yaml_parse(text, length, "model", error);
    json_t *model = root ? node_to_json(root) : NULL;

    if (!model || json_is_object(model))
        return model;
    json_decref(model);
    g_set_error(error, VR_ERROR, VR_ERROR_INVALID, "the model is no map");
    return NULL;
}

/* ---- merging ---- */

/* The spelling that an object has for a name; the name itself when it has none. */
static const char *spelling(json_t *object, const char *name)
{
    const char *key;
    json_t *value;

    json_object_foreach(object, key, value)
    {
        if (g_ascii_strcasecmp(key, name) == 0)
            return key;
    }
    return name;
}

/* Removing frees the key that spelling() has lent. */
static void merge_member(json_t *target, const char *name, json_t *value)
{
    g_autofree char *key = g_strdup(spelling(target, name));
    json_t *member = json_object_get(target, key);

    if (json_is_null(value)) {
        json_object_del(target, key);
    } else if (json_is_object(value)) {
        if (!json_is_object(member)) {
            json_object_set_new(target, key, json_object());
            member = json_object_get(target, key);
        }
        vr_json_merge(member, value); /* so nulls of a new object vanish too */
    } else {
        json_object_set(target, key, value);
    }
}

void vr_json_merge(json_t *target, json_t *patch)
{
    const char *name;
    json_t *value;

    json_object_foreach(patch, name, value)
    {
        merge_member(target, name, value);
    }
}

/* ---- what is looked at ---- */

static json_t *get(json_t *object, const char *name)
{
    return json_object_get(object, spelling(object, name));
}

gboolean vr_model_set_name(json_t *model, const char *name, GError **error)
{
    json_t *given = get(model, "name");

    if (!given) {
        json_object_set_new(model, "name", json_string(name));
        return TRUE;
    }
    if (json_is_string(given) && g_str_equal(json_string_value(given), name))
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_USAGE,
                "the model has another name than the path, where it is '%s'; a set keeps its name", name);
    return FALSE;
}

gboolean vr_model_rolls(json_t *model)
{
    const char *mode = json_string_value(get(get(model, "upgradePolicy"), "mode"));

    return mode && g_ascii_strcasecmp(mode, "manual") != 0;
}
