/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A new OS disk: a qcow2 overlay on an image version (row B6, B13). */
#pragma once

#include "disk/disk_file.h"
#include "disk/store.h"

/* Makes file `name` ("g3.qcow2") in the instance's directory as an overlay on `image` (backing format always
 * written, absolute backing path), checks that its backing name and size are what was asked, fsyncs and
 * renames it into place without replacing. image must be in the store as it was read: gone is VR_ERROR_NOT_FOUND, published anew with
 * other bytes VR_ERROR_CONFLICT. Size = max(image, min_size) bytes. Mode 0600. Nothing is left on an error.
 * before (may be NULL) is told which file it is; its error is ours. */
gboolean vr_overlay_create(VrStore *store, const char *uuid, const char *name, const VrImage *image, guint64 min_size,
                           VrDiskBefore before, void *data, GError **error);
