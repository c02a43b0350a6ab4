/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What overlay, clone and nvram share: a new file of a generation is made in a locked temp directory beside its place. Not for others. */
#pragma once

#include "base/durable.h"
#include "disk/disk_file.h"
#include "disk/store_private.h"

typedef struct {
    const char *name; /* not owned */
    char *dir_path;   /* owned: disks/UUID */
    VrTmpdir *tmp;    /* owned: the disk is made in it, under its name */
} VrNewDisk;

/* Whatever was made and did not take its place is gone after it. */
void vr_new_disk_clear(VrNewDisk *disk);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(VrNewDisk, vr_new_disk_clear)

/* The name is one, and nobody has it (VR_ERROR_CONFLICT): asked before the work, the rename says it again. */
gboolean vr_new_disk_begin(VrNewDisk *disk, VrStore *store, const char *uuid, const char *name, GError **error);

/* Its empty file, 0600 whatever the umask is. A descriptor, or -1. */
int vr_new_disk_create(const VrNewDisk *disk, GError **error);

/* What was written there is a qcow2 disk of that size, with nothing below it and no feature that was not asked for; else VR_ERROR_INVALID. */
gboolean vr_new_disk_stands_alone(int fd, guint64 size, GError **error);

/* Tells `before` (may be NULL) of the file behind fd, which is whole and flushed by then, renames it into place without replacing, and
 * flushes both directories. */
gboolean vr_new_disk_end(const VrNewDisk *disk, int fd, VrDiskBefore before, void *data, GError **error);

/* B13: max(image, min_size) in whole sectors. */
guint64 vr_new_disk_size(const VrImage *image, guint64 min_size);
