/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/os_data.h"

#include "base/error.h"
#include "disk/ssh_key.h"
#include "orchestrator/host_file.h"

#include <string.h>

#define SSH_KEY_MAX_BYTES (16 * 1024)

static gboolean is_text(GBytes *bytes)
{
    gsize length;
    const char *text = g_bytes_get_data(bytes, &length);

    return g_utf8_validate(text, (gssize)length, NULL); /* nor a NUL */
}

static char *text_of(GBytes *bytes)
{
    gsize length;
    const char *text = g_bytes_get_data(bytes, &length);

    return g_strndup(text ? text : "", length);
}

static gboolean check_template(GBytes *bytes, GError **error)
{
    g_autofree char *text = NULL;

    if (!is_text(bytes)) {
        g_set_error_literal(error, VR_ERROR, VR_ERROR_REFUSED, "it is no UTF-8 text, so it cannot be a template");
        return FALSE;
    }
    text = text_of(bytes);
    return vr_template_check(text, error);
}

gboolean vr_os_data_load(const VrProfileData *data, gsize max, GBytes **bytes, GError **error)
{
    g_autoptr(GBytes) read = NULL;

    *bytes = NULL;
    if (!data->file && !data->text)
        return TRUE;
    read = data->file ? vr_host_file_bytes(data->file, max, error) : g_bytes_new(data->text, strlen(data->text));
    if (!read)
        return FALSE;
    if (data->is_template && !check_template(read, error)) {
        g_prefix_error(error, "%s%s", data->file ? data->file : "", data->file ? ": " : "");
        return FALSE;
    }
    *bytes = g_steal_pointer(&read);
    return TRUE;
}

GBytes *vr_os_data_of(const VrProfileData *data, GBytes *bytes, gsize max, const char *const *values, GError **error)
{
    g_autofree char *text = data->is_template ? text_of(bytes) : NULL;
    g_autofree char *expanded = text ? vr_template_expand(text, values, error) : NULL;
    gsize length = expanded ? strlen(expanded) : 0;

    if (!text)
        return g_bytes_ref(bytes);
    if (!expanded)
        return NULL;
    if (length <= max)
        return g_bytes_new_take(g_steal_pointer(&expanded), length);
    g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "with its fields it is larger than %" G_GSIZE_FORMAT " KiB",
                max / 1024);
    return NULL;
}

char *vr_os_key_load(const VrProfileKey *key, GError **error)
{
    g_autoptr(GBytes) bytes = key->file ? vr_host_file_bytes(key->file, SSH_KEY_MAX_BYTES, error) : NULL;
    g_autofree char *line = NULL;
    const char *wrong;

    if (!key->file)
        return g_strdup(key->data);
    if (!bytes)
        return NULL;
    line = is_text(bytes) ? g_strchomp(text_of(bytes)) : g_strdup("");
    wrong = vr_ssh_key_check(line);
    if (!wrong)
        return g_steal_pointer(&line);
    g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "%s: what is in it %s", key->file, wrong);
    return NULL;
}
