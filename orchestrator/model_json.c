/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/model_json.h"

#include "base/error.h"
#include "orchestrator/yaml_doc.h"

#include <math.h>
#include <string.h>

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
