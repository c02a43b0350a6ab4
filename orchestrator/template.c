/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/template.h"

#include "base/error.h"

#include <string.h>

#define FIELD_MAX 40 /* characters of a name that a message repeats */

const char *const vr_template_names[] = {"instance.name",
                                         "instance.uuid",
                                         "instance.index",
                                         "instance.upgradeDomain",
                                         "instance.role",
                                         "instance.zone",
                                         "instance.mac",
                                         "set.name",
                                         "image.name",
                                         "image.version",
                                         NULL};

G_STATIC_ASSERT(G_N_ELEMENTS(vr_template_names) == VR_FIELDS + 1);

static gboolean is_name(const char *name, gsize length)
{
    return length > 0 && length <= FIELD_MAX &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.") >= length;
}

/* values NULL: any field has one. NULL with an error. */
static const char *value_of(const char *name, gsize length, guint line, const char *const *values, GError **error)
{
    g_autofree char *all = NULL;

    for (guint i = 0; i < VR_FIELDS; i++) {
        if (strlen(vr_template_names[i]) != length || strncmp(vr_template_names[i], name, length) != 0)
            continue;
        if (values == NULL)
            return "";
        if (values[i] == NULL)
            g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "line %u: @{%s}: it has none", line, vr_template_names[i]);
        return values[i];
    }
    all = g_strjoinv(", ", (char **)vr_template_names);
    if (is_name(name, length))
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED,
                    "line %u: there is no field @{%.*s}; there are %s, and @@{ is a plain @{", line, (int)length, name,
                    all);
    else
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED,
                    "line %u: what follows @{ is no field; there are %s, and @@{ is a plain @{", line, all);
    return NULL;
}

/* at: behind the "@{"; gives what stands behind the "}". NULL with an error. */
static const char *put_field(GString *result, const char *at, guint line, const char *const *values, GError **error)
{
    const char *end = at + strcspn(at, "}\n");
    const char *value;

    if (*end != '}') {
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "line %u: a field @{ has no }; @@{ is a plain @{", line);
        return NULL;
    }
    value = value_of(at, (gsize)(end - at), line, values, error);
    if (value == NULL)
        return NULL;
    g_string_append(result, value);
    return end + 1;
}

static char *expand(const char *text, const char *const *values, GError **error)
{
    g_autoptr(GString) result = g_string_new(NULL);
    guint line = 1;

    while (*text != '\0') {
        if (g_str_has_prefix(text, "@@{")) {
            g_string_append(result, "@{");
            text += 3;
        } else if (g_str_has_prefix(text, "@{")) {
            text = put_field(result, text + 2, line, values, error);
            if (text == NULL)
                return NULL;
        } else {
            line += *text == '\n';
            g_string_append_c(result, *text++);
        }
    }
    return g_string_free(g_steal_pointer(&result), FALSE);
}

char *vr_template_expand(const char *text, const char *const values[VR_FIELDS], GError **error)
{
    return expand(text, values, error);
}

gboolean vr_template_check(const char *text, GError **error)
{
    g_autofree char *expanded = expand(text, NULL, error);

    return expanded != NULL;
}
