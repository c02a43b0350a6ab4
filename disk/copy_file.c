/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How one file is best read and written. What the kernel and the file system can is found by trying, and remembered:
 *
 *   read    from the page cache where the bytes are there already, else with O_DIRECT: a cold copy leaves nothing behind
 *   write   with O_DIRECT, on btrfs by the kernel's workers side by side, for its checksums; else RWF_DONTCACHE (kernel 6.14); else cached, and written back early rather than all at the end
 *
 * O_DIRECT is asked for on a descriptor of our own, since its flags belong to whoever else holds the caller's. What is not
 * aligned (the tail of a file) goes through the caller's: other pages, so the two do not meet.
 */
#include "disk/copy_private.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#define WINDOW (8u << 20) /* is asked about at once */
#define SYS_CACHESTAT 451 /* the same on every architecture; kernel 6.5 */

/* ---- what is done to files ---- */

static gssize real_read(int fd, guint8 *buffer, gsize length, guint64 offset, void *data)
{
    gssize n = pread(fd, buffer, length, (off_t)offset);
    return n < 0 ? -errno : n;
}

static gssize real_write(int fd, const guint8 *buffer, gsize length, guint64 offset, void *data)
{
    gssize n = pwrite(fd, buffer, length, (off_t)offset);
    return n < 0 ? -errno : n;
}

static int real_flush(int fd, void *data)
{
    return fsync(fd) < 0 ? -errno : 0;
}

static int real_share(int source, guint64 offset, int target, guint64 at, guint64 length, void *data)
{
    const struct file_clone_range range = {
        .src_fd = source, .src_offset = offset, .src_length = length, .dest_offset = at};
    return ioctl(target, FICLONERANGE, &range) < 0 ? -errno : 0;
}

static int real_completion(VrCopySide side, guint64 offset, guint8 *buffer, int result, void *data)
{
    return result;
}

const VrCopyOps vr_copy_real_ops = {real_read, real_write, real_flush, real_share, real_completion, NULL};
static const VrCopyOps *present_ops = &vr_copy_real_ops;

void vr_copy_set_ops(const VrCopyOps *ops)
{
    present_ops = ops ? ops : &vr_copy_real_ops;
}

const VrCopyOps *vr_copy_ops(void)
{
    return present_ops;
}

/* ---- residency ---- */

typedef struct {
    guint64 offset, length;
} CacheRange;

typedef struct {
    guint64 cached, dirty, writeback, evicted, recently_evicted; /* pages */
} CacheState;

/* Pages of the range that are in the cache, or -1. */
static gint64 ask_mincore(int fd, guint64 offset, guint64 length, gsize page)
{
    guint8 pages[WINDOW / 4096 + 1];
    gsize n = (gsize)((length + page - 1) / page);
    if (n > sizeof pages)
        return -1;
    void *map = mmap(NULL, length, PROT_READ, MAP_SHARED, fd, (off_t)offset);
    if (map == MAP_FAILED)
        return -1;
    gint64 cached = mincore(map, length, pages) < 0 ? -1 : 0;
    for (gsize i = 0; cached >= 0 && i < n; i++)
        cached += pages[i] & 1;
    (void)munmap(map, length);
    return cached;
}

gboolean vr_range_is_cached(int fd, guint64 offset, guint64 length)
{
    CacheRange range = {offset, length};
    CacheState state = {0};
    gsize page = (gsize)sysconf(_SC_PAGESIZE);
    gint64 cached;
    if (syscall(SYS_CACHESTAT, fd, &range, &state, 0) == 0)
        cached = (gint64)state.cached;
    else
        cached = ask_mincore(fd, offset / page * page, MIN(length, WINDOW), page);
    return cached > 0 && (guint64)cached * page * 2 > length;
}

/* ---- a file ---- */

void vr_copy_file_open(VrCopyFile *file, int fd, gboolean is_target)
{
    *file = (VrCopyFile){.fd = fd, .direct_fd = -1, .is_target = is_target, .uncached = is_target};
    char path[64];
    (void)g_snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    struct stat st;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
        file->size = (guint64)st.st_size;
    struct statfs fs;
    file->checksums = is_target && fstatfs(fd, &fs) == 0 && fs.f_type == BTRFS_SUPER_MAGIC;
    file->direct_fd = open(path, (is_target ? O_WRONLY : O_RDONLY) | O_DIRECT | O_CLOEXEC | O_NONBLOCK);
    file->no_direct = file->direct_fd < 0;
}

void vr_copy_file_close(VrCopyFile *file)
{
    vr_fd_clear(&file->direct_fd);
}

static gboolean is_hot(VrCopyFile *file, guint64 offset, guint32 length)
{
    if (offset < file->window_start || offset + length > file->window_end) {
        file->window_start = offset;
        file->window_end = MAX(MIN(offset + WINDOW, file->size), offset + length);
        file->window_hot = vr_range_is_cached(file->fd, offset, file->window_end - offset);
    }
    return file->window_hot;
}

int vr_copy_file_choose(VrCopyFile *file, const guint8 *buffer, guint64 offset, guint32 length)
{
    if (file->no_direct || (offset | length | (guintptr)buffer) % VR_COPY_ALIGNMENT)
        return file->fd;
    return !file->is_target && is_hot(file, offset, length) ? file->fd : file->direct_fd;
}

/* ---- zeros ---- */

static gboolean is_zero(const guint8 *bytes, gsize length)
{
    return length == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, length - 1) == 0);
}

gboolean vr_next_run(const guint8 *buffer, guint32 end, guint32 *at, guint32 *length)
{
    guint32 start = *at, stop;
    while (start < end && is_zero(buffer + start, MIN(end - start, VR_COPY_GRAIN)))
        start += MIN(end - start, VR_COPY_GRAIN);
    for (stop = start; stop < end && (stop == start || !is_zero(buffer + stop, MIN(end - stop, VR_COPY_GRAIN)));)
        stop += MIN(end - stop, VR_COPY_GRAIN);
    *at = start;
    *length = stop - start;
    return stop > start;
}

/* ---- shared blocks ---- */

/* What is hashed must be the target's: it must be readable then. */
gboolean vr_copy_is_readable(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    return flags >= 0 && (flags & O_ACCMODE) == O_RDWR;
}

gboolean vr_copy_clone(const VrCopyJob *job, const int *targets, guint n_targets, gboolean digest)
{
    const VrCopyOps *ops = vr_copy_ops();
    struct stat st;
    if (job->no_clone || job->length == 0 || fstat(job->source_fd, &st) < 0 || !S_ISREG(st.st_mode) ||
        (guint64)st.st_size != job->length || (digest && !vr_copy_is_readable(targets[0])))
        return FALSE;
    for (guint i = 0; i < n_targets; i++)
        if (ops->share(job->source_fd, 0, targets[i], 0, 0, ops->data) < 0)
            return FALSE; /* those that were shared already are written over */
    struct stat now;
    return fstat(targets[0], &now) == 0 && (guint64)now.st_size == job->length;
}

gboolean vr_copy_clone_range(const VrCopySegment *segment, guint64 length, const int *targets, guint n_targets)
{
    const VrCopyOps *ops = vr_copy_ops();
    for (guint i = 0; i < n_targets; i++)
        if (ops->share(segment->fd, segment->offset, targets[i], segment->target, length, ops->data) < 0)
            return FALSE;
    return n_targets > 0;
}
