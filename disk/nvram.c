/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "disk/nvram.h"

#include "base/error.h"
#include "base/fd.h"
#include "disk/new_disk.h"
#include "disk/qcow2.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

static const char *what_is_wrong(const struct stat *st)
{
    if (!S_ISREG(st->st_mode))
        return "is no regular file";
    if (st->st_nlink != 1)
        return "has more than one name";
    if (st->st_size == 0)
        return "is empty";
    return (guint64)st->st_size > VR_NVRAM_MAX_BYTES ? "is larger than 64 MiB" : NULL;
}

/* The file lies where QEMU's user may write: what is checked is the descriptor that is read. */
static int open_nvram(const char *path, struct stat *st, GError **error)
{
    vr_autofd fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    const char *wrong;

    if (fd < 0 && errno != ELOOP) {
        vr_set_error_errno(error, errno, "cannot open the NVRAM %s", path);
        return -1;
    }
    if (fd >= 0 && fstat(fd, st) < 0) {
        vr_set_error_errno(error, errno, "cannot look at the NVRAM %s", path);
        return -1;
    }
    wrong = fd < 0 ? "is a symbolic link" : what_is_wrong(st);
    if (!wrong)
        return vr_fd_steal(&fd);
    g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "the NVRAM %s %s, so it is not taken for one", path, wrong);
    return -1;
}

static gboolean identify(int fd, const char *path, VrFileId *id, GError **error)
{
    if (vr_disk_file_id_at(fd, "", id))
        return TRUE;
    vr_set_error_errno(error, errno, "cannot look at the NVRAM %s", path);
    return FALSE;
}

gboolean vr_nvram_look(const char *path, VrFileId *id, GError **error)
{
    struct stat st;
    vr_autofd fd = open_nvram(path, &st, error);

    return fd >= 0 && identify(fd, path, id, error);
}

/* ---- the copy ---- */

static gboolean is_unchanged(int fd, const VrFileId *before, const char *path, GError **error)
{
    VrFileId now;

    if (!identify(fd, path, &now, error))
        return FALSE;
    if (now.size == before->size && now.mtime_ns == before->mtime_ns)
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "the NVRAM %s changed while it was read", path);
    return FALSE;
}

static gboolean stands_alone(const guint8 *bytes, gsize length, const char *format, const char *path, GError **error)
{
    VrQcow2Header header;

    if (strcmp(format, "raw") == 0)
        return TRUE;
    if (vr_qcow2_header_decode(bytes, length, &header) && header.backing_offset == 0 &&
        !(header.incompatible & VR_QCOW2_DATA_FILE))
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "the NVRAM %s is no qcow2 file that stands alone", path);
    return FALSE;
}

/* The whole of it; free with g_free. */
static guint8 *read_all(const char *path, const char *format, gsize *length, GError **error)
{
    struct stat st;
    vr_autofd fd = open_nvram(path, &st, error);
    g_autofree guint8 *bytes = NULL;
    VrFileId id;

    if (fd < 0 || !identify(fd, path, &id, error))
        return NULL;
    bytes = g_malloc(id.size);
    if (!vr_pread_all(fd, bytes, id.size, 0, length, error) || !is_unchanged(fd, &id, path, error) ||
        !stands_alone(bytes, *length, format, path, error))
        return NULL;
    return g_steal_pointer(&bytes);
}

static int write_all(const VrNewDisk *disk, const guint8 *bytes, gsize length, GError **error)
{
    vr_autofd fd = vr_open_beneath(disk->tmp->dir_fd, disk->name, O_WRONLY | O_CREAT | O_EXCL, 0600, error);

    if (fd < 0)
        return -1;
    if (fchmod(fd, 0600) < 0) {
        vr_set_error_errno(error, errno, "cannot set the mode of %s", disk->name);
        return -1;
    }
    if (!vr_write_all(fd, bytes, length, disk->name, error) || !vr_fsync(fd, disk->name, error))
        return -1;
    return vr_fd_steal(&fd);
}

gboolean vr_nvram_copy(VrStore *store, const char *uuid, const char *name, const char *from, const char *format,
                       VrDiskBefore before, void *data, GError **error)
{
    g_auto(VrNewDisk) disk = {0};
    gsize length;
    g_autofree guint8 *bytes = read_all(from, format, &length, error);

    if (!bytes || !vr_new_disk_begin(&disk, store, uuid, name, error))
        return FALSE;
    vr_autofd fd = write_all(&disk, bytes, length, error);
    if (fd >= 0 && vr_new_disk_end(&disk, fd, before, data, error))
        return TRUE;
    g_prefix_error(error, "cannot copy the NVRAM %s to %s/%s: ", from, disk.dir_path, name);
    return FALSE;
}
