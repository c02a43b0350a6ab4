/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Segments become blocks. Segments that follow each other in the target without a gap share one block, so that small
 * clusters from many places are many small reads but one write; a long segment gives many blocks.
 */
#include "disk/copy_private.h"

#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* ---- a plain file ---- */

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

static void next_of_file(VrStream *stream)
{
    guint64 offset;
    guint32 length;
    stream->now = (VrCopySegment){0};
    if (vr_segments_next(&stream->holes, 1u << 30, &offset, &length))
        stream->now = (VrCopySegment){.fd = stream->holes.fd, .offset = offset, .target = offset, .length = length};
}

/* ---- all kinds ---- */

void vr_stream_init(VrStream *stream, const VrCopyRun *run)
{
    const VrCopyJob *job = run->job;
    *stream = (VrStream){.job = job, .digest = run->digest != NULL};
    stream->holes = (VrSegments){.fd = job->source_fd, .length = job->length};
    stream->n_share = run->n_targets;
    if (!job->no_clone && run->n_targets > 0 && (!run->digest || vr_copy_is_readable(run->targets[0])))
        stream->share = run->targets;
}

/* Packed clusters are small and not aligned, so they are read through the page cache, and with its read-ahead: RWF_DONTCACHE
 * drops what was read ahead too, which costs half of the speed (measured). */
static void note_packed(VrStream *stream)
{
    const VrCopySegment *s = &stream->now;
    if (s->length == 0 || !s->packing || stream->n_packed == VR_COPY_SOURCES)
        return;
    for (guint i = 0; i < stream->n_packed; i++)
        if (stream->packed[i].fd == s->fd)
            return;
    off_t size = lseek(s->fd, 0, SEEK_END);
    stream->packed[stream->n_packed].fd = s->fd;
    stream->packed[stream->n_packed++].cold = size > 0 && !vr_range_is_cached(s->fd, 0, (guint64)size);
}

void vr_stream_end(VrStream *stream)
{
    for (guint i = 0; i < stream->n_packed; i++)
        if (stream->packed[i].cold)
            (void)posix_fadvise(stream->packed[i].fd, 0, 0, POSIX_FADV_DONTNEED);
    stream->n_packed = 0;
}

/* Of our own code: a wrong one would write outside the file, or over what is there. */
static gboolean check_segment(const VrStream *stream, GError **error)
{
    const VrCopySegment *s = &stream->now;
    if (s->length == 0)
        return TRUE;
    gboolean ok = s->target >= stream->end && s->target <= stream->job->length &&
                  s->length <= stream->job->length - s->target && (s->fd >= 0 || s->bytes) &&
                  (!s->packing || s->length <= VR_COPY_MAX_BLOCK);
    if (!ok)
        g_set_error(error, VR_ERROR, VR_ERROR_FAILED,
                    "a wrong plan: %" G_GUINT64_FORMAT " bytes for byte %" G_GUINT64_FORMAT, s->length, s->target);
    return ok;
}

/* Shares the aligned part of the new segment with the targets: it is passed over then, or read from a target for the digest.
 * The rest of the segment, if there is one, waits in `rest`. */
static void share_segment(VrStream *stream)
{
    VrCopySegment *s = &stream->now;
    guint64 length = s->length / VR_COPY_ALIGNMENT * VR_COPY_ALIGNMENT;
    stream->is_shared = FALSE;
    if (!stream->share || s->fd < 0 || s->packing || length == 0 || (s->offset | s->target) % VR_COPY_ALIGNMENT)
        return;
    if (!vr_copy_clone_range(s, length, stream->share, stream->n_share)) {
        stream->share = NULL;
        return;
    }
    stream->rest = *s;
    stream->rest.offset += length;
    stream->rest.target += length;
    stream->rest.length -= length;
    stream->is_shared = TRUE;
    *s = (VrCopySegment){.fd = stream->share[0], .offset = s->target, .target = s->target, .length = length};
}

static gboolean ask_segment(VrStream *stream, GError **error)
{
    const VrCopyJob *job = stream->job;
    if (job->next) {
        stream->now = (VrCopySegment){0};
        if (!job->next(job->next_data, &stream->now, error))
            return FALSE;
    } else if (job->segments) {
        stream->now = stream->index < job->n_segments ? job->segments[stream->index++] : (VrCopySegment){0};
    } else {
        next_of_file(stream);
    }
    note_packed(stream);
    return check_segment(stream, error);
}

static gboolean next_segment(VrStream *stream, GError **error)
{
    while (stream->now.length == 0) {
        stream->is_shared = FALSE;
        if (stream->rest.length > 0) {
            stream->now = stream->rest;
            stream->rest.length = 0;
            return TRUE;
        }
        if (!ask_segment(stream, error))
            return FALSE;
        if (stream->now.length == 0)
            return TRUE;
        share_segment(stream);
        if (stream->is_shared && !stream->digest) {
            stream->end = stream->now.target + stream->now.length;
            stream->now.length = 0;
        }
    }
    return TRUE;
}

/* Moves the first n bytes of the present segment to the block's end. */
static void take(VrStream *stream, guint8 *buffer, VrBlock *block, guint32 n)
{
    VrCopySegment *s = &stream->now;
    if (s->fd < 0) {
        memcpy(buffer + block->length, s->bytes, n);
        s->bytes += n;
    } else {
        block->parts[block->n_parts++] = (VrPart){.fd = s->fd,
                                                  .offset = s->offset,
                                                  .at = block->length,
                                                  .length = n,
                                                  .packing = s->packing,
                                                  .packed = s->packed,
                                                  .skip = s->skip};
        block->n_packed += s->packing != VR_PACKED_NOT;
    }
    if (s->packing)
        s->skip += n;
    else
        s->offset += n;
    s->target += n;
    s->length -= n;
    block->length += n;
    stream->end = s->target;
}

gboolean vr_stream_next(VrStream *stream, guint8 *buffer, guint32 max, VrBlock *block, GError **error)
{
    block->length = block->n_parts = block->n_packed = 0;
    while (block->length < max && block->n_parts < VR_BLOCK_PARTS) {
        if (!next_segment(stream, error))
            return FALSE;
        const VrCopySegment *s = &stream->now;
        if (s->length == 0 || (block->length > 0 &&
                               (s->target != block->target + block->length || stream->is_shared != block->is_shared)))
            break;
        guint32 n = (guint32)MIN(s->length, max - block->length);
        if (s->packing && n < s->length && block->length > 0)
            break; /* not half of a cluster: it would be unpacked twice */
        if (block->length == 0) {
            block->target = s->target;
            block->is_shared = stream->is_shared;
        }
        take(stream, buffer, block, n);
    }
    return TRUE;
}
