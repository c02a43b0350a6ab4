/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/extension_files.h"

#include "base/error.h"

#include <string.h>

#define SCRIPT_MAX (256 * 1024) /* as Azure's */
#define FILE_MAX (1024 * 1024)  /* goes to the guest in one message */
#define PROTECTED_MAX (64 * 1024)

void vr_extensions_free(VrExtensions *extensions)
{
    if (!extensions)
        return;
    for (guint i = 0; i < extensions->count; i++) {
        VrExtensionPayload *payload = &extensions->all[i];
        vr_payload_clear(&payload->script);
        vr_payload_clear(&payload->protected_settings);
        for (guint j = 0; payload->files && j < payload->extension->files->len; j++)
            vr_payload_clear(&payload->files[j]);
        g_free(payload->files);
        g_free(payload->interpreter);
        g_free(payload->interpreter_argument);
    }
    g_free(extensions->all);
    g_free(extensions);
}

static gboolean refuse(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);

static gboolean refuse(GError **error, const char *format, ...)
{
    g_autofree char *text = NULL;
    va_list arguments;

    va_start(arguments, format);
    text = g_strdup_vprintf(format, arguments);
    va_end(arguments);
    g_set_error_literal(error, VR_ERROR, VR_ERROR_REFUSED, text);
    return FALSE;
}

/* --- one extension ------------------------------------------------------------------------------------- */

/* The first line, as the kernel would take it: /run, where a script lies in the guest, may be mounted noexec. */
static gboolean read_interpreter(const char *path, VrExtensionPayload *payload, GError **error)
{
    const char *text = (const char *)payload->script.data;
    g_autofree char *line = g_strndup(text, strcspn(text, "\n"));
    gsize length;

    if (payload->script.length == 0 || strlen(text) != payload->script.length)
        return refuse(error, "%s is %s; a program goes into files and command", path,
                      payload->script.length == 0 ? "empty" : "no script: it has a zero byte");
    if (!g_str_has_prefix(line, "#!")) {
        payload->interpreter = g_strdup("/bin/sh");
        return TRUE;
    }
    if (g_str_has_suffix(line, "\r"))
        return refuse(error,
                      "%s has lines that end with a carriage return, as on Windows: a guest finds no such "
                      "interpreter; 'dos2unix' mends it",
                      path);
    g_strstrip(memmove(line, line + 2, strlen(line) - 1));
    length = strcspn(line, " \t");
    payload->interpreter = g_strndup(line, length);
    payload->interpreter_argument = line[length] ? g_strdup(g_strchug(line + length)) : NULL;
    if (payload->interpreter[0] != '/' || !g_utf8_validate(line, -1, NULL))
        return refuse(error, "%s: its first line names no interpreter by an absolute path", path);
    return TRUE;
}

static gboolean read_script(const VrExtension *extension, VrExtensionPayload *payload, GError **error)
{
    return !extension->script || (vr_host_file_read(extension->script, SCRIPT_MAX, &payload->script, NULL, error) &&
                                  read_interpreter(extension->script, payload, error));
}

static gboolean read_protected(const VrExtension *extension, VrExtensionPayload *payload, GError **error)
{
    guint mode = 0;

    if (!extension->protected_file)
        return TRUE;
    if (!vr_host_file_read(extension->protected_file, PROTECTED_MAX, &payload->protected_settings, &mode, error))
        return FALSE;
    return (mode & 07) == 0 ||
           refuse(error, "%s is a secret that every user of this host may use (mode %04o): run 'chmod 600' on it",
                  extension->protected_file, mode);
}

static gboolean read_files(const VrExtension *extension, VrExtensionPayload *payload, GError **error)
{
    payload->files = g_new0(VrPayload, extension->files->len);
    for (guint i = 0; i < extension->files->len; i++) {
        const VrExtensionFile *file = g_ptr_array_index(extension->files, i);
        if (!vr_host_file_read(file->source, FILE_MAX, &payload->files[i], NULL, error))
            return FALSE;
    }
    return TRUE;
}

VrExtensions *vr_extensions_load(const VrModel *model, GError **error)
{
    g_autoptr(VrExtensions) extensions = g_new0(VrExtensions, 1);

    if (model->extensions->len > 0)
        vr_leave_no_core();
    extensions->all = g_new0(VrExtensionPayload, model->extensions->len);
    for (guint i = 0; i < model->extensions->len; i++) {
        const VrExtension *extension = g_ptr_array_index(model->extensions, i);
        VrExtensionPayload *payload = &extensions->all[extensions->count++];

        payload->extension = extension;
        if (!read_script(extension, payload, error) || !read_protected(extension, payload, error) ||
            !read_files(extension, payload, error)) {
            g_prefix_error(error, "extension %s: ", extension->name);
            return NULL;
        }
    }
    return g_steal_pointer(&extensions);
}
