/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * qemu-img follows links and overwrites whatever has the name (SAFETY 4.7), so it is given a name that nobody else has:
 *
 *   locked temp directory in disks/UUID -> qemu-img create there, both formats and an absolute backing path written ->
 *   our own look at the header: it names that base, that format, that size -> 0600 -> fsync -> the caller is told which file
 *   it is -> rename without replacing
 *
 * The base cannot go while this runs: the swap journaled its generation before, and a deletion asks for that under the same write
 * lock (store_delete.c). What may have happened before that is looked at here: it is gone, or it is another one by now.
 */
#include "disk/overlay.h"

#include "base/child.h"
#include "base/durable.h"
#include "base/error.h"
#include "base/fd.h"
#include "disk/backing.h"
#include "disk/new_disk.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOOK                                                                                                           \
    4096 /* bytes of the file that hold the header, its extensions and the backing name, which QEMU limits to 1,023 */

/* SAFETY section 3: 30 s of CPU and 1 GiB for any tool that opens an image. */
static const VrChildLimits limits = {.timeout_ms = 60000, .max_memory = 1024 * 1024 * 1024, .max_cpu_s = 30};

/* qemu-img tells in its words only, so the file system is asked: with less than this it does not hold an overlay and its records. */
#define LEAST_ROOM (1024 * 1024)

static void tell_no_space(VrStore *store, GError **error)
{
    guint64 available;
    if (error && *error && vr_store_free_bytes(store, &available, NULL) && available < LEAST_ROOM)
        (*error)->code = VR_ERROR_NO_SPACE;
}

static gboolean run_qemu_img(const char *path, const VrImage *image, guint64 size, GError **error)
{
    g_autofree char *bytes = g_strdup_printf("%" G_GUINT64_FORMAT, size);
    const char *argv[] = {"qemu-img", "create",    "-q", "-f",  "qcow2", "-F", vr_image_format_name(image->format),
                          "-b",       image->path, path, bytes, NULL};
    return vr_child_run(argv, &limits, NULL, error);
}

/* ---- what it made ---- */

static gboolean has_backing_format(const guint8 *bytes, gsize got, const VrQcow2Header *header, const char *format)
{
    g_autofree char *said = vr_backing_format(bytes, got, header);
    return g_strcmp0(said, format) == 0;
}

static gboolean has_backing_name(const guint8 *bytes, gsize got, const VrQcow2Header *header, const char *path)
{
    gsize length = strlen(path);
    return header->backing_length == length && header->backing_offset <= got &&
           length <= got - header->backing_offset && memcmp(bytes + header->backing_offset, path, length) == 0;
}

static gboolean check_result(int fd, const VrImage *image, guint64 size, GError **error)
{
    guint8 bytes[LOOK];
    gsize got;
    VrQcow2Header header;
    if (!vr_pread_all(fd, bytes, sizeof bytes, 0, &got, error))
        return FALSE;
    const char *wrong = NULL;
    if (!vr_qcow2_header_decode(bytes, got, &header))
        wrong = "has no qcow2 header";
    else if (header.size != size)
        wrong = "has another size";
    else if (!has_backing_name(bytes, got, &header, image->path))
        wrong = "names another base";
    else if (!has_backing_format(bytes, got, &header, vr_image_format_name(image->format)))
        wrong = "does not name the base's format";
    if (wrong)
        g_set_error(error, VR_ERROR, VR_ERROR_CHILD, "what qemu-img made %s", wrong);
    return wrong == NULL;
}

/* ---- in its place ---- */

static gboolean seal(int fd, const char *name, const VrImage *image, guint64 size, GError **error)
{
    struct stat st;
    if (fstat(fd, &st) < 0 || fchmod(fd, 0600) < 0) {
        vr_set_error_errno(error, errno, "cannot set the mode of %s", name);
        return FALSE;
    }
    if (!S_ISREG(st.st_mode) || st.st_nlink != 1) {
        g_set_error(error, VR_ERROR, VR_ERROR_CHILD, "what qemu-img made is not a plain file");
        return FALSE;
    }
    return check_result(fd, image, size, error) && vr_fsync(fd, name, error);
}

/* Gives a descriptor of what it made, or -1. */
static int make_in(VrStore *store, const VrNewDisk *disk, const VrImage *image, guint64 size, GError **error)
{
    g_autofree char *path = g_build_filename(disk->dir_path, disk->tmp->name, disk->name, NULL);
    if (!run_qemu_img(path, image, size, error)) {
        tell_no_space(store, error);
        return -1;
    }
    vr_autofd fd = vr_open_beneath(disk->tmp->dir_fd, disk->name, O_RDWR, 0, error);
    return fd >= 0 && seal(fd, disk->name, image, size, error) ? vr_fd_steal(&fd) : -1;
}

gboolean vr_overlay_create(VrStore *store, const char *uuid, const char *name, const VrImage *image, guint64 min_size,
                           VrDiskBefore before, void *data, GError **error)
{
    g_auto(VrNewDisk) disk = {0};
    if (!vr_image_require(store, image, error) || !vr_new_disk_begin(&disk, store, uuid, name, error))
        return FALSE;
    vr_autofd fd = make_in(store, &disk, image, vr_new_disk_size(image, min_size), error);
    if (fd >= 0 && vr_new_disk_end(&disk, fd, before, data, error))
        return TRUE;
    g_prefix_error(error, "cannot make %s/%s on %s %s: ", disk.dir_path, name, image->name, image->version);
    return FALSE;
}
