/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a qcow2 file says of the one behind it, by our own look at its header. */
#pragma once

#include "disk/qcow2.h"

/* *name: NULL when there is none, else free with g_free. FALSE when it cannot be told; VR_ERROR_INVALID: no qcow2 file. */
gboolean vr_backing_name(int fd, char **name, GError **error);

/* The format in the extensions of a header that the first `length` bytes of the file hold; NULL: they do not say. Free with g_free. */
char *vr_backing_format(const guint8 *bytes, gsize length, const VrQcow2Header *header);

/* The local files that the backing name of the file at `path` may mean. Element: char *, absolute, freed with the array. */
GPtrArray *vr_backing_paths(const char *name, const char *path);
