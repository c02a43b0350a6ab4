/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "disk/backing.h"

#include "base/durable.h"
#include "base/error.h"

#include <jansson.h>
#include <string.h>

#define MAX_NAME 1023    /* of a backing file, as QEMU has it */
#define MAX_JSON_DEPTH 8 /* of a json: name */

gboolean vr_backing_name(int fd, char **name, GError **error)
{
    VrQcow2Header header;
    gsize got;

    *name = NULL;
    if (!vr_qcow2_header_read(fd, &header, error))
        return FALSE;
    if (header.backing_offset == 0 || header.backing_length == 0)
        return TRUE;
    if (header.backing_length > MAX_NAME) {
        g_set_error_literal(error, VR_ERROR, VR_ERROR_INVALID, "its backing name is longer than QEMU allows");
        return FALSE;
    }
    g_autofree char *text = g_malloc0((gsize)header.backing_length + 1);
    if (!vr_pread_all(fd, text, header.backing_length, header.backing_offset, &got, error))
        return FALSE;
    *name = g_steal_pointer(&text);
    return TRUE;
}

char *vr_backing_format(const guint8 *bytes, gsize length, const VrQcow2Header *header)
{
    guint32 size = 0;
    const guint8 *name = vr_qcow2_extension(bytes, length, header, VR_QCOW2_EXT_BACKING_FORMAT, &size);

    return name ? g_strndup((const char *)name, size) : NULL;
}

/* Every string in the document that is a path. */
static void collect_json(const json_t *json, GPtrArray *paths, int depth)
{
    const char *text = json_string_value(json), *key;
    json_t *member;
    size_t index;

    if (depth > MAX_JSON_DEPTH)
        return;
    if (text && (*text == '/' || g_str_has_prefix(text, "file:")))
        g_ptr_array_add(paths, g_strdup(*text == '/' ? text : text + strlen("file:")));
    json_object_foreach((json_t *)(gpointer)json, key, member) collect_json(member, paths, depth + 1);
    json_array_foreach(json, index, member) collect_json(member, paths, depth + 1);
}

GPtrArray *vr_backing_paths(const char *name, const char *path)
{
    GPtrArray *paths = g_ptr_array_new_with_free_func(g_free);
    g_autofree char *dir = g_path_get_dirname(path);

    if (g_str_has_prefix(name, "json:")) {
        json_t *json = json_loads(name + strlen("json:"), 0, NULL);
        collect_json(json, paths, 0);
        json_decref(json);
        return paths;
    }
    if (g_str_has_prefix(name, "file:"))
        name += strlen("file:");
    g_ptr_array_add(paths, g_canonicalize_filename(name, dir));
    return paths;
}
