/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "disk/disk_file.h"

#include "base/durable.h"
#include "base/error.h"
#include "base/fd.h"
#include "disk/backing.h"
#include "disk/image_check.h"
#include "disk/qcow2.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* QEMU block/file-posix.c: one byte a permission from each of these on. It uses a handful; the ranges have room. */
#define QEMU_PERMISSION_BASE 100
#define QEMU_SHARED_BASE 200
#define QEMU_LOCK_BYTES 64
/* QEMU include/block/block-common.h: the permissions of these bytes */
#define QEMU_CONSISTENT_READ 0
#define QEMU_WRITE 1
#define QEMU_RESIZE 3

/* Read-only, following links (a guest's disk may be /dev/vg/lv); never waits for the writer of a FIFO. */
static int open_disk(const char *path, struct stat *st, GError **error)
{
    vr_autofd fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 || fstat(fd, st) < 0) {
        vr_set_error_errno(error, errno, "cannot open %s", path);
        return -1;
    }
    if (S_ISREG(st->st_mode) || S_ISBLK(st->st_mode))
        return vr_fd_steal(&fd);
    g_set_error(error, VR_ERROR, VR_ERROR_INVALID, "%s is neither a file nor a block device", path);
    return -1;
}

static gboolean size_of(int fd, const struct stat *st, const char *path, guint64 *size, GError **error)
{
    *size = (guint64)st->st_size;
    if (!S_ISBLK(st->st_mode) || ioctl(fd, BLKGETSIZE64, size) == 0)
        return TRUE;
    vr_set_error_errno(error, errno, "cannot learn the size of %s", path);
    return FALSE;
}

gboolean vr_disk_file_id_at(int fd, const char *name, VrFileId *id)
{
    struct statx stx;

    if (statx(fd, name, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME, &stx) < 0)
        return FALSE;
    id->device = makedev(stx.stx_dev_major, stx.stx_dev_minor);
    id->inode = stx.stx_ino;
    id->size = stx.stx_size;
    id->mtime_ns = stx.stx_mtime.tv_sec * 1000000000 + stx.stx_mtime.tv_nsec;
    id->born_ns = stx.stx_mask & STATX_BTIME ? stx.stx_btime.tv_sec * 1000000000 + stx.stx_btime.tv_nsec : 0;
    if (S_ISREG(stx.stx_mode))
        return TRUE;
    errno = EINVAL;
    return FALSE;
}

gboolean vr_disk_file_same(const VrFileId *a, const VrFileId *b)
{
    if (a->inode != b->inode)
        return FALSE;
    /* The number of a device may be another one after a reboot (btrfs, device-mapper, the order of discovery). */
    return a->born_ns != 0 && b->born_ns != 0 ? a->born_ns == b->born_ns : a->device == b->device;
}

/* A device is itself, not the node in /dev that names it. */
gboolean vr_disk_file_id_of(int fd, const char *path, VrFileId *id, GError **error)
{
    struct stat st;
    if (fstat(fd, &st) < 0) {
        vr_set_error_errno(error, errno, "cannot look at %s", path);
        return FALSE;
    }
    if (S_ISREG(st.st_mode)) {
        if (vr_disk_file_id_at(fd, "", id))
            return TRUE;
        vr_set_error_errno(error, errno, "cannot look at %s", path);
        return FALSE;
    }
    if (!S_ISBLK(st.st_mode)) {
        g_set_error(error, VR_ERROR, VR_ERROR_INVALID, "%s is neither a file nor a block device", path);
        return FALSE;
    }
    *id = (VrFileId){.device = st.st_rdev};
    return size_of(fd, &st, path, &id->size, error);
}

gboolean vr_disk_file_id(const char *path, VrFileId *id, GError **error)
{
    struct stat st;
    vr_autofd fd = open_disk(path, &st, error);
    return fd >= 0 && vr_disk_file_id_of(fd, path, id, error);
}

/* Somebody else's lock of any kind in the range. */
static gboolean ask_lock(int fd, off_t start, off_t length, gboolean *held, const char *path, GError **error)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
    if (fcntl(fd, F_OFD_GETLK, &lock) < 0) {
        vr_set_error_errno(error, errno, "cannot ask for the locks of %s", path);
        return FALSE;
    }
    *held = lock.l_type != F_UNLCK;
    return TRUE;
}

/* One of the paths below /dev in a command line is this device. */
static gboolean names_device(const char *words, gsize length, dev_t device)
{
    const char *end = words + length;
    struct stat st;
    for (const char *at = words; (at = memmem(at, (gsize)(end - at), "/dev/", 5)); at += 5) {
        g_autofree char *path = g_strndup(at, strcspn(at, ",\"'\\ "));
        if (stat(path, &st) == 0 && S_ISBLK(st.st_mode) && st.st_rdev == device)
            return TRUE;
    }
    return FALSE;
}

/* What is run beside guests, on the nodes in /dev that we see. */
static gboolean is_tool(const char *program)
{
    static const char *const tools[] = {"qemu-img", "qemu-io", "qemu-nbd", NULL};

    return g_strv_contains(tools, program);
}

/* A QEMU, or with tools qemu-img and its like too, by the name that it was started under. */
static gboolean is_qemu_on(const char *process, dev_t device, gboolean tools)
{
    g_autofree char *path = g_build_filename("/proc", process, "cmdline", NULL);
    g_autofree char *words = NULL;
    gsize length = 0;
    if (!g_file_get_contents(path, &words, &length, NULL) || length == 0)
        return FALSE;
    g_autofree char *program = g_path_get_basename(words);
    return (g_str_has_prefix(program, "qemu") || g_str_has_prefix(program, "kvm")) && (tools || !is_tool(program)) &&
           names_device(words, length, device);
}

/* Locks are on the node that was opened, and libvirt gives each QEMU a /dev of its own: seen on libvirt 9.0, where no lock shows on the
 * host's node. So a device is held also while a QEMU runs that was started on it. (What files a process has open is not to be seen
 * under Landlock.) */
static gboolean is_on_command_line(dev_t device, gboolean tools, gboolean *held, GError **error)
{
    DIR *proc = opendir("/proc");
    if (!proc) {
        vr_set_error_errno(error, errno, "cannot read /proc");
        return FALSE;
    }
    *held = FALSE;
    for (struct dirent *entry; !*held && (entry = readdir(proc));)
        *held = g_ascii_isdigit(entry->d_name[0]) && is_qemu_on(entry->d_name, device, tools);
    closedir(proc);
    return TRUE;
}

gboolean vr_disk_file_is_open_by_qemu(const char *path, gboolean *held, GError **error)
{
    struct stat st;
    vr_autofd fd = open_disk(path, &st, error);
    if (fd < 0 || !ask_lock(fd, QEMU_PERMISSION_BASE, QEMU_LOCK_BYTES, held, path, error))
        return FALSE;
    if (*held)
        return TRUE;
    if (!ask_lock(fd, QEMU_SHARED_BASE, QEMU_LOCK_BYTES, held, path, error))
        return FALSE;
    return *held || !S_ISBLK(st.st_mode) || is_on_command_line(st.st_rdev, TRUE, held, error);
}

/* What a guest's QEMU takes, and another does not share; what the other takes, and the guest's does not share. */
gboolean vr_disk_file_keeps_qemu_out(const char *path, gboolean *out, GError **error)
{
    static const off_t conflicts[] = {QEMU_PERMISSION_BASE + QEMU_WRITE, QEMU_PERMISSION_BASE + QEMU_RESIZE,
                                      QEMU_SHARED_BASE + QEMU_CONSISTENT_READ, QEMU_SHARED_BASE + QEMU_WRITE,
                                      QEMU_SHARED_BASE + QEMU_RESIZE};
    struct stat st;
    vr_autofd fd = open_disk(path, &st, error);
    *out = FALSE;
    for (gsize i = 0; fd >= 0 && !*out && i < G_N_ELEMENTS(conflicts); i++)
        if (!ask_lock(fd, conflicts[i], 1, out, path, error))
            return FALSE;
    return fd >= 0 && (*out || !S_ISBLK(st.st_mode) || is_on_command_line(st.st_rdev, FALSE, out, error));
}

gboolean vr_disk_file_is_written_by_qemu(int fd)
{
    gboolean written = FALSE;

    return ask_lock(fd, QEMU_PERMISSION_BASE + QEMU_WRITE, 1, &written, "the file", NULL) && written;
}

gboolean vr_disk_file_virtual_size(const char *path, const char *format, guint64 *bytes, GError **error)
{
    struct stat st;
    VrImageFormat known;
    VrQcow2Header header;
    if (!vr_image_format_parse(format, &known, error))
        return FALSE;
    vr_autofd fd = open_disk(path, &st, error);
    if (fd < 0)
        return FALSE;
    if (known == VR_FORMAT_RAW) {
        if (!size_of(fd, &st, path, bytes, error))
            return FALSE;
        *bytes = (*bytes + 511) / 512 * 512; /* as QEMU shows it to the guest */
        return TRUE;
    }
    if (!vr_qcow2_header_read(fd, &header, error)) {
        g_prefix_error(error, "%s: ", path);
        return FALSE;
    }
    *bytes = header.size;
    return TRUE;
}

gboolean vr_disk_file_growth(const char *path, const char *format, guint64 *bytes, GError **error)
{
    struct stat st;
    guint64 size;
    if (!vr_disk_file_virtual_size(path, format, &size, error))
        return FALSE;
    if (stat(path, &st) < 0) {
        vr_set_error_errno(error, errno, "%s", path);
        return FALSE;
    }
    guint64 taken = (guint64)st.st_blocks * 512;
    *bytes = size > taken ? size - taken : 0;
    return TRUE;
}

void vr_disk_look_clear(VrDiskLook *look)
{
    g_clear_pointer(&look->backing, g_free);
    g_clear_pointer(&look->backing_format, g_free);
}

/* Extensions may lie in all of the first cluster. */
static gboolean look_at_extensions(int fd, const VrQcow2Header *header, VrDiskLook *look, GError **error)
{
    gsize length = (gsize)1 << MIN(header->cluster_bits, VR_QCOW2_MAX_CLUSTER_BITS);
    g_autofree guint8 *bytes = g_malloc(length);
    gsize got = 0;

    if (!vr_pread_all(fd, bytes, length, 0, &got, error))
        return FALSE;
    look->backing_format = vr_backing_format(bytes, got, header);
    look->data_file = (header->incompatible & VR_QCOW2_DATA_FILE) ||
                      (header->autoclear & VR_QCOW2_AUTOCLEAR_DATA_FILE_RAW) ||
                      vr_qcow2_extension(bytes, got, header, VR_QCOW2_EXT_DATA_FILE, NULL);
    return TRUE;
}

gboolean vr_disk_file_look_of(int fd, const char *path, const char *format, VrDiskLook *look, GError **error)
{
    VrImageFormat known;
    VrQcow2Header header;

    if (!vr_image_format_parse(format, &known, error))
        return FALSE;
    if (known == VR_FORMAT_RAW)
        return TRUE;
    if (!vr_qcow2_header_read(fd, &header, error) || !vr_backing_name(fd, &look->backing, error) ||
        !look_at_extensions(fd, &header, look, error)) {
        g_prefix_error(error, "%s: ", path);
        return FALSE;
    }
    look->snapshots = header.snapshots;
    look->incompatible = header.incompatible;
    look->autoclear = header.autoclear;
    look->size = header.size;
    return TRUE;
}

gboolean vr_disk_file_look(const char *path, const char *format, VrDiskLook *look, GError **error)
{
    struct stat st;
    VrImageFormat known;

    if (!vr_image_format_parse(format, &known, error))
        return FALSE;
    if (known == VR_FORMAT_RAW)
        return TRUE;
    vr_autofd fd = open_disk(path, &st, error);
    return fd >= 0 && vr_disk_file_look_of(fd, path, format, look, error);
}
