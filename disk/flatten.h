/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A new OS disk that stands alone, out of an overlay and the image version below it (row B21). */
#pragma once

#include "disk/disk_file.h"
#include "disk/store.h"

/* Makes file `name` in the instance's directory as vr_overlay_create() does, but as a qcow2 without a backing file that has what a guest reads on
 * the overlay, and its size. overlay_fd: open for reading, and nobody writes to it; its backing file must be the disk of `base`
 * (VR_ERROR_REFUSED). VR_ERROR_NO_SPACE before anything is written. cancelled: NULL, or set to non-zero by another thread. */
gboolean vr_flatten_make(VrStore *store, const char *uuid, const char *name, int overlay_fd, const VrImage *base,
                         const gint *cancelled, VrDiskBefore before, void *data, GError **error);

/* Bytes that the new disk takes, at most. The overlay may be in use: then they are about right. */
gboolean vr_flatten_bytes(VrStore *store, int overlay_fd, const VrImage *base, guint64 *bytes, GError **error);

/* VR_ERROR_NO_SPACE when the store has no room for so many bytes beside what is kept free. */
gboolean vr_flatten_has_room(VrStore *store, guint64 bytes, GError **error);
