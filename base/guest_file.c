/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/guest_file.h"

#include <string.h>

VrGuestFile *vr_guest_file_new(VrGuestFileKind kind, const char *path, guint mode, const char *owner, const void *data,
                               gsize length)
{
    VrGuestFile *file = g_new(VrGuestFile, 1);

    *file = (VrGuestFile){g_strdup(path), kind, mode, g_strdup(owner), g_bytes_new(data, length)};
    return file;
}

VrGuestFile *vr_guest_file_copy(const VrGuestFile *file)
{
    VrGuestFile *copy = g_new(VrGuestFile, 1);

    *copy = (VrGuestFile){g_strdup(file->path), file->kind, file->mode, g_strdup(file->owner), g_bytes_ref(file->data)};
    return copy;
}

void vr_guest_file_free(VrGuestFile *file)
{
    if (!file)
        return;
    g_free(file->path);
    g_free(file->owner);
    g_bytes_unref(file->data);
    g_free(file);
}

GPtrArray *vr_guest_files_new(void)
{
    return g_ptr_array_new_with_free_func((GDestroyNotify)vr_guest_file_free);
}

static gboolean is_same(const VrGuestFile *a, const VrGuestFile *b)
{
    return strcmp(a->path, b->path) == 0 && a->kind == b->kind && a->mode == b->mode &&
           g_strcmp0(a->owner, b->owner) == 0 && g_bytes_equal(a->data, b->data);
}

static gboolean has(const GPtrArray *list, const VrGuestFile *file)
{
    for (guint i = 0; i < list->len; i++)
        if (is_same(g_ptr_array_index(list, i), file))
            return TRUE;
    return FALSE;
}

gboolean vr_guest_files_same(const GPtrArray *a, const GPtrArray *b)
{
    for (guint i = 0; i < a->len; i++)
        if (!has(b, g_ptr_array_index(a, i)))
            return FALSE;
    return a->len == b->len;
}
