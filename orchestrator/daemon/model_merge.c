/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/daemon/model_merge.h"

#include "base/error.h"

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
