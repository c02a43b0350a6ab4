/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "disk/new_disk.h"

#include "base/error.h"
#include "base/fd.h"
#include "disk/qcow2.h"
#include "disk/version.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#define SECTOR 512

void vr_new_disk_clear(VrNewDisk *disk)
{
    vr_tmpdir_free(disk->tmp);
    g_free(disk->dir_path);
}

gboolean vr_new_disk_begin(VrNewDisk *disk, VrStore *store, const char *uuid, const char *name, GError **error)
{
    struct stat st;
    disk->name = name;
    if (!vr_name_check(name, "disk", error))
        return FALSE;
    vr_autofd dir_fd = vr_store_instance_dir(store, uuid, &disk->dir_path, error);
    if (dir_fd < 0)
        return FALSE;
    if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
        g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "%s/%s exists already", disk->dir_path, name);
        return FALSE;
    }
    g_autofree char *opid = g_uuid_string_random();
    disk->tmp = vr_tmpdir_new(dir_fd, opid, error);
    if (!disk->tmp)
        g_prefix_error(error, "cannot make %s/%s: ", disk->dir_path, name);
    return disk->tmp != NULL;
}

static gboolean tell(int fd, VrDiskBefore before, void *data, GError **error)
{
    VrFileId id;
    if (!vr_disk_file_id_at(fd, "", &id)) {
        vr_set_error_errno(error, errno, "cannot look at the new disk");
        return FALSE;
    }
    return before(&id, data, error);
}

gboolean vr_new_disk_end(const VrNewDisk *disk, int fd, VrDiskBefore before, void *data, GError **error)
{
    if (before && !tell(fd, before, data, error))
        return FALSE;
    return vr_durable_rename(disk->tmp->dir_fd, disk->name, disk->tmp->parent_fd, disk->name, error);
}

guint64 vr_new_disk_size(const VrImage *image, guint64 min_size)
{
    guint64 size = MAX(image->virtual_size, min_size);
    return size + (SECTOR - size % SECTOR) % SECTOR;
}

int vr_new_disk_create(const VrNewDisk *disk, GError **error)
{
    vr_autofd fd = vr_open_beneath(disk->tmp->dir_fd, disk->name, O_RDWR | O_CREAT | O_EXCL, 0600, error);

    if (fd >= 0 && fchmod(fd, 0600) < 0) {
        vr_set_error_errno(error, errno, "cannot set the mode of %s", disk->name);
        return -1;
    }
    return vr_fd_steal(&fd);
}

gboolean vr_new_disk_stands_alone(int fd, guint64 size, GError **error)
{
    VrQcow2Header header;

    if (!vr_qcow2_header_read(fd, &header, error))
        return FALSE;
    if (header.size == size && header.backing_offset == 0 && header.incompatible == 0)
        return TRUE;
    g_set_error_literal(error, VR_ERROR, VR_ERROR_INVALID, "what was written is not the disk that was asked for");
    return FALSE;
}
