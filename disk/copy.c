/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The job around the copy: what must be so before and after, which way the bytes go, and which error is told.
 *
 *   length of the targets set (their holes are there then) -> blocks shared with the source, where that goes -> the rest
 *   through the ring, or plainly -> the source is asked whether it is still that long -> the digest ends -> fsync of the targets
 *
 * The digest has seen every byte of a target in stream order, holes as zeros. It is of what was read, and what was read was
 * written from the same buffer. Of shared blocks it is read from the target, which the source's owner cannot change.
 */
#include "disk/copy.h"

#include "base/error.h"
#include "base/log.h"
#include "disk/copy_private.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- errors, cancel, progress ---- */

void vr_copy_fail(GError **error, VrCopySide side, guint64 offset, guint64 length, int errnum)
{
    if (side == VR_SIDE_SOURCE && errnum == 0)
        g_set_error(error, VR_ERROR, VR_ERROR_INVALID,
                    "the source ends at byte %" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT
                    ": it was changed while it was read",
                    offset, length);
    else if (side == VR_SIDE_SOURCE && errnum == EBADMSG)
        g_set_error(error, VR_ERROR, VR_ERROR_INVALID,
                    "the compressed cluster at byte %" G_GUINT64_FORMAT " of the source is damaged", offset);
    else
        vr_set_error_errno(error, errnum ? errnum : EIO, "cannot %s at byte %" G_GUINT64_FORMAT,
                           side == VR_SIDE_SOURCE ? "read the source" : "write the target", offset);
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
        job->progress(&(VrCopyProgress){MIN(done, job->length), job->length}, job->progress_data);
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

/* ---- a limit of bytes a second ---- */

void vr_rate_init(VrRate *rate, guint64 bytes_per_s)
{
    *rate = (VrRate){.rate = bytes_per_s, .next_us = g_get_monotonic_time(), .burst_us = G_USEC_PER_SEC / 10};
}

gint64 vr_rate_delay(const VrRate *rate)
{
    return rate->rate ? MAX(rate->next_us - g_get_monotonic_time(), 0) : 0;
}

void vr_rate_spend(VrRate *rate, guint64 bytes)
{
    if (!rate->rate)
        return;
    gint64 earliest = g_get_monotonic_time() - rate->burst_us;
    rate->next_us = MAX(rate->next_us, earliest) + (gint64)((double)bytes * G_USEC_PER_SEC / (double)rate->rate);
}

/* ---- the job ---- */

static gboolean move_blocks(const VrCopyRun *run, GError **error)
{
    static gint told;
    gboolean unavailable = FALSE;
    if (!run->job->plain) {
        gboolean ok = vr_copy_ring(run, &unavailable, error);
        if (!unavailable)
            return ok;
        if (g_atomic_int_compare_and_exchange(&told, FALSE, TRUE))
            vr_debug("io_uring is not available here: copies take the plain path");
    }
    return vr_copy_plain(run, error);
}

/* The rest of the stream may be a long hole: the digest is behind, and a cancel is still heard. */
static gboolean wait_for_digest(const VrCopyRun *run, GError **error)
{
    for (guint64 done; (done = vr_digest_done(run->digest)) < run->job->length; vr_digest_wait(run->digest, done)) {
        if (vr_copy_is_cancelled(run->job, error))
            return FALSE;
        vr_copy_report(run->job, done);
    }
    return TRUE;
}

static gboolean has_segments(const VrCopyJob *job)
{
    return job->next || job->segments;
}

static gboolean set_lengths(const VrCopyRun *run, GError **error)
{
    for (guint i = 0; i < run->n_targets; i++)
        if (ftruncate(run->targets[i], (off_t)run->job->length) < 0) {
            vr_set_error_errno(error, errno, "cannot set the length of the target");
            return FALSE;
        }
    return TRUE;
}

static gboolean flush_targets(const int *targets, guint n_targets, GError **error)
{
    const VrCopyOps *ops = vr_copy_ops();
    for (guint i = 0; i < n_targets; i++) {
        int result = ops->flush(targets[i], ops->data);
        if (result < 0) {
            vr_set_error_errno(error, -result, "cannot flush the target");
            return FALSE;
        }
    }
    return TRUE;
}

static gboolean end_digest(VrDigest *hash, char *digest, GError **error)
{
    return !hash || vr_digest_finish(hash, digest, error);
}

/* All targets share the source's blocks: for the digest one of them is read. */
static gboolean run_shared(VrCopyRun *run, GError **error)
{
    VrCopyJob job = *run->job;
    job.source_fd = run->targets[0];
    run->job = &job;
    run->n_targets = 0;
    gboolean ok = !run->digest || (move_blocks(run, error) && wait_for_digest(run, error));
    run->job = NULL;
    return ok;
}

static gboolean run_copied(const VrCopyRun *run, GError **error)
{
    const VrCopyJob *job = run->job;
    if (!has_segments(job))
        (void)posix_fadvise(job->source_fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    return move_blocks(run, error) && wait_for_digest(run, error) &&
           (has_segments(job) || vr_source_is_whole(job->source_fd, job->length, error));
}

static gboolean check_job(const VrCopyJob *job, GError **error)
{
    if (vr_copy_is_cancelled(job, error))
        return FALSE;
    if (!job->targets || (job->n_targets > 0 && job->n_targets <= VR_COPY_TARGETS))
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_USAGE, "one read writes 1 to %d targets, not %u", VR_COPY_TARGETS,
                job->n_targets);
    return FALSE;
}

gboolean vr_copy(const VrCopyJob *job, char digest[VR_DIGEST_HEX_LENGTH + 1], GError **error)
{
    if (!check_job(job, error))
        return FALSE;
    const int *targets = job->targets ? job->targets : &job->target_fd;
    guint n_targets = job->targets ? job->n_targets : 1;
    VrCopyRun run = {.job = job, .targets = targets, .n_targets = n_targets};
    if (!set_lengths(&run, error))
        return FALSE;
    run.digest = digest ? vr_digest_new(error) : NULL;
    if (digest && !run.digest)
        return FALSE;
    gboolean shared = !has_segments(job) && vr_copy_clone(job, targets, n_targets, digest != NULL);
    gboolean ok = shared ? run_shared(&run, error) : run_copied(&run, error);
    if (!ok)
        vr_digest_stop(run.digest);
    if (!end_digest(run.digest, digest, error) || !ok || !flush_targets(targets, n_targets, error))
        return FALSE;
    vr_copy_report(job, job->length);
    return TRUE;
}
