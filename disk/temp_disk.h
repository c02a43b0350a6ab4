/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A disk that holds nothing of worth, made anew (row B8): a raw file whose only content is one file system or swap space, or nothing that is
 * known. The new file has its size, owner and mode, and the type, label and UUID that were found; it takes the old one's place at once. See temp_disk.c.
 */
#pragma once

#include "disk/disk_file.h"

typedef struct {
    char *path;                   /* links resolved */
    VrFileId file;                /* that was looked at */
    char *type;                   /* ext4, xfs, vfat, swap; NULL: nothing that is known */
    char *label, *uuid, *version; /* NULL: it has none */
} VrTempDisk;
void vr_temp_disk_clear(VrTempDisk *disk);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(VrTempDisk, vr_temp_disk_clear)

/* Reads what is on it; a guest may run on it. VR_ERROR_REFUSED: it is no plain file with one name, it has partitions, or what it holds is not made
 * anew here (LVM, LUKS, RAID, a file system whose mkfs is not installed). */
gboolean vr_temp_disk_look(const char *path, VrTempDisk *disk, GError **error);

/* "ext4, label scratch, UUID 5b2a…", "nothing that is known". Free with g_free. */
char *vr_temp_disk_text(const VrTempDisk *disk);

/* Makes it anew; nobody has it open. beside: the name that the new file has in its directory for a moment; a file of that name is VR_ERROR_CONFLICT.
 * before is told of the new file when it is whole and flushed, and has no name yet. VR_ERROR_CONFLICT: the file at the path is not the one that was
 * looked at. On an error the old file is as it was. Writes outside of what the process is confined to, into that directory alone. */
gboolean vr_temp_disk_make(const VrTempDisk *disk, const char *beside, VrDiskBefore before, void *data, GError **error);

/* What a process that ended between the two left: unlinks `beside` in the directory of the disk if it is that file. Absent is success. */
gboolean vr_temp_disk_tidy(const char *path, const char *beside, const VrFileId *file, GError **error);
