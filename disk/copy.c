/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The job around the copy: what must be so before and after, which way the bytes go, and which error is told.
 *
 *   length of the target set (its holes are there then) -> segments of data through the ring, or plainly ->
 *   the source is asked whether it is still that long -> the digest ends -> fsync of the target
 *
 * The digest has seen every byte of the source in stream order, holes as zeros. It is of what was read, and what was read was
 * written from the same buffer.
 */
#include "disk/copy.h"

#include "base/durable.h"
#include "base/error.h"
#include "base/log.h"
#include "disk/copy_private.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PLAIN_BLOCK (512 * 1024)

/* ---- segments ---- */

gboolean vr_segments_next(VrSegments *segments, guint64 max, guint64 *offset, guint32 *length)
{
    if (segments->at >= segments->data_end) {
        off_t data = lseek(segments->fd, (off_t)segments->at, SEEK_DATA);
        if (data < 0 && errno == ENXIO) /* a hole up to the end (or a file that became shorter: asked at the end) */
            segments->at = segments->length;
        else if (data >= 0)
            segments->at = MAX((guint64)data, segments->at);
        off_t hole = data < 0 ? -1 : lseek(segments->fd, (off_t)segments->at, SEEK_HOLE);
        segments->data_end = hole > (off_t)segments->at ? MIN((guint64)hole, segments->length) : segments->length;
    }
    if (segments->at >= segments->length)
        return FALSE;
    *offset = segments->at;
    *length = (guint32)MIN(segments->data_end - segments->at, max);
    segments->at += *length;
    return TRUE;
}

/* ---- errors, faults, progress ---- */

void vr_copy_fail(GError **error, VrCopySide side, guint64 offset, guint64 length, int errnum)
{
    if (side == VR_SIDE_SOURCE && errnum == 0)
        g_set_error(error, VR_ERROR, VR_ERROR_INVALID,
                    "the source ends at byte %" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT
                    ": it was changed while it was read",
                    offset, length);
    else
        vr_set_error_errno(error, errnum ? errnum : EIO, "cannot %s at byte %" G_GUINT64_FORMAT,
                           side == VR_SIDE_SOURCE ? "read the source" : "write the target", offset);
}

static VrCopyFault test_fault; /* set before the threads of a test start */
static void *test_fault_data;

void vr_copy_set_fault(VrCopyFault fault, void *data)
{
    test_fault = fault;
    test_fault_data = data;
}

int vr_copy_result(VrCopySide side, guint64 offset, guint8 *buffer, int result)
{
    return test_fault ? test_fault(side, offset, buffer, result, test_fault_data) : result;
}

gboolean vr_copy_is_cancelled(const VrCopyJob *job, GError **error)
{
    if (!job->cancelled || !g_atomic_int_get(job->cancelled))
        return FALSE;
    g_set_error_literal(error, VR_ERROR, VR_ERROR_CANCELLED, "the copy was cancelled");
    return TRUE;
}

void vr_copy_report(const VrCopyJob *job, guint64 done)
{
    if (job->progress)
        job->progress(&(VrCopyProgress){done, job->length}, job->progress_data);
}

gboolean vr_source_is_whole(int fd, guint64 length, GError **error)
{
    struct stat st;
    if (fstat(fd, &st) < 0) {
        vr_set_error_errno(error, errno, "cannot look at the source");
        return FALSE;
    }
    if (!S_ISREG(st.st_mode) || (guint64)st.st_size >= length)
        return TRUE;
    vr_copy_fail(error, VR_SIDE_SOURCE, (guint64)st.st_size, length, 0);
    return FALSE;
}

/* ---- the plain way: one block after the other ---- */

/* One call that is repeated where that is all an error asks for; bytes, 0 at the end, or -errno. */
static gssize move_once(VrCopySide side, int fd, guint8 *buffer, gsize length, guint64 offset)
{
    for (;;) {
        gssize n = side == VR_SIDE_SOURCE ? pread(fd, buffer, length, (off_t)offset)
                                          : pwrite(fd, buffer, length, (off_t)offset);
        n = vr_copy_result(side, offset, buffer, n < 0 ? -errno : (int)n);
        if (n != -EINTR && n != -EAGAIN)
            return n;
    }
}

static gboolean move_all(VrCopySide side, int fd, guint8 *buffer, gsize length, guint64 offset, guint64 total,
                         GError **error)
{
    while (length > 0) {
        gssize n = move_once(side, fd, buffer, length, offset);
        if (n <= 0) {
            vr_copy_fail(error, side, offset, total, (int)-n);
            return FALSE;
        }
        buffer += n;
        offset += (guint64)n;
        length -= (gsize)n;
    }
    return TRUE;
}

static gboolean move_plainly(const VrCopyJob *job, VrDigest *digest, guint8 *buffer, GError **error)
{
    VrSegments segments = {.fd = job->source_fd, .length = job->length};
    guint64 at = 0, offset;
    guint32 n, max = MIN(job->block_size ? job->block_size : PLAIN_BLOCK, PLAIN_BLOCK);
    while (vr_segments_next(&segments, max, &offset, &n)) {
        if (vr_copy_is_cancelled(job, error) ||
            !move_all(VR_SIDE_SOURCE, job->source_fd, buffer, n, offset, job->length, error))
            return FALSE;
        vr_digest_push(digest, NULL, offset - at);
        vr_digest_push(digest, buffer, n);
        at = offset + n;
        if (!move_all(VR_SIDE_TARGET, job->target_fd, buffer, n, offset, job->length, error))
            return FALSE;
        for (; vr_digest_done(digest) < at; vr_digest_wait(digest, at - 1)) /* one buffer: it must be free again */
            if (vr_copy_is_cancelled(job, error))
                return FALSE;
        vr_copy_report(job, at);
    }
    vr_digest_push(digest, NULL, job->length - at);
    return TRUE;
}

gboolean vr_copy_plain(const VrCopyJob *job, VrDigest *digest, GError **error)
{
    g_autofree guint8 *buffer = g_malloc(PLAIN_BLOCK);
    gboolean ok = move_plainly(job, digest, buffer, error);
    if (!ok)
        vr_digest_stop(digest); /* it may be reading the buffer */
    return ok;
}

/* ---- the job ---- */

static gboolean move_segments(const VrCopyJob *job, VrDigest *digest, GError **error)
{
    static gint told;
    gboolean unavailable = FALSE;
    if (!job->plain) {
        gboolean ok = vr_copy_ring(job, digest, &unavailable, error);
        if (!unavailable)
            return ok;
        if (g_atomic_int_compare_and_exchange(&told, FALSE, TRUE))
            vr_debug("io_uring is not available here: copies take the plain path");
    }
    return vr_copy_plain(job, digest, error);
}

/* The rest of the stream may be a long hole: the digest is behind, and a cancel is still heard. */
static gboolean wait_for_digest(const VrCopyJob *job, VrDigest *digest, GError **error)
{
    for (guint64 done; (done = vr_digest_done(digest)) < job->length; vr_digest_wait(digest, done)) {
        if (vr_copy_is_cancelled(job, error))
            return FALSE;
        vr_copy_report(job, done);
    }
    return TRUE;
}

gboolean vr_copy(const VrCopyJob *job, char digest[VR_DIGEST_HEX_LENGTH + 1], GError **error)
{
    if (vr_copy_is_cancelled(job, error))
        return FALSE;
    if (ftruncate(job->target_fd, (off_t)job->length) < 0) {
        vr_set_error_errno(error, errno, "cannot set the length of the target");
        return FALSE;
    }
    VrDigest *hash = vr_digest_new(error);
    if (!hash)
        return FALSE;
    (void)posix_fadvise(job->source_fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    if (!move_segments(job, hash, error) || !wait_for_digest(job, hash, error) ||
        !vr_source_is_whole(job->source_fd, job->length, error))
        vr_digest_stop(hash);
    if (!vr_digest_finish(hash, digest, error) || !vr_fsync(job->target_fd, "the target", error))
        return FALSE;
    vr_copy_report(job, job->length);
    return TRUE;
}
