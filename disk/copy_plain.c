/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where the kernel gives no ring: one block after the other, through the page cache, written back early. */
#include "disk/copy_private.h"

#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#define BLOCK (512u << 10)

typedef struct {
    const VrCopyRun *run;
    VrStream stream;
    VrRate rate;
    VrUnpacker *unpacker; /* made when the first packed cluster comes */
    guint8 *buffer;
    guint64 pushed; /* bytes of the stream */
} Plain;

/* One call that is repeated where that is all an error asks for; bytes, 0 at the end, or -errno. */
static gssize move_once(VrCopySide side, int fd, guint8 *buffer, gsize length, guint64 offset)
{
    const VrCopyOps *ops = vr_copy_ops();
    for (guint tries = 0;; tries++) {
        gssize n = side == VR_SIDE_SOURCE ? ops->read(fd, buffer, length, offset, ops->data)
                                          : ops->write(fd, buffer, length, offset, ops->data);
        if ((n != -EINTR && n != -EAGAIN) || tries >= 1000)
            return n;
    }
}

static gboolean move_all(const Plain *plain, VrCopySide side, int fd, guint8 *buffer, gsize length, guint64 offset,
                         GError **error)
{
    while (length > 0) {
        gssize n = move_once(side, fd, buffer, length, offset);
        if (n <= 0) {
            vr_copy_fail(error, side, offset, plain->run->job->length, (int)-n);
            return FALSE;
        }
        buffer += n;
        offset += (guint64)n;
        length -= (gsize)n;
    }
    return TRUE;
}

static gboolean unpack_block(Plain *plain, const VrBlock *block, GError **error)
{
    guint64 offset = 0;
    if (block->n_packed == 0)
        return TRUE;
    if (!plain->unpacker)
        plain->unpacker = vr_unpacker_new();
    int result = plain->unpacker ? vr_unpack_block(plain->unpacker, block, plain->buffer, &offset) : -ENOMEM;
    if (result < 0)
        vr_copy_fail(error, VR_SIDE_SOURCE, offset, plain->run->job->length, -result);
    return result == 0;
}

static gboolean read_block(Plain *plain, const VrBlock *block, GError **error)
{
    for (guint i = 0; i < block->n_parts; i++) {
        const VrPart *part = &block->parts[i];
        if (!part->packing &&
            !move_all(plain, VR_SIDE_SOURCE, part->fd, plain->buffer + part->at, part->length, part->offset, error))
            return FALSE;
    }
    return unpack_block(plain, block, error);
}

static gboolean write_block(Plain *plain, const VrBlock *block, GError **error)
{
    const VrCopyRun *run = plain->run;
    guint n_targets = block->is_shared ? 0 : run->n_targets;
    guint32 length;
    for (guint32 at = 0; vr_next_run(plain->buffer, block->length, &at, &length); at += length)
        for (guint i = 0; i < n_targets; i++) {
            guint64 offset = block->target + at;
            if (!move_all(plain, VR_SIDE_TARGET, run->targets[i], plain->buffer + at, length, offset, error))
                return FALSE;
            (void)sync_file_range(run->targets[i], (off_t)offset, length, SYNC_FILE_RANGE_WRITE);
        }
    return TRUE;
}

/* There is one buffer: it must be free again. */
static gboolean wait_for_digest(Plain *plain, GError **error)
{
    VrDigest *digest = plain->run->digest;
    for (; vr_digest_done(digest) < plain->pushed; vr_digest_wait(digest, plain->pushed - 1))
        if (vr_copy_is_cancelled(plain->run->job, error))
            return FALSE;
    return TRUE;
}

static gboolean wait_for_rate(Plain *plain, GError **error)
{
    for (gint64 delay; (delay = vr_rate_delay(&plain->rate)) > 0; g_usleep((gulong)MIN(delay, 50000)))
        if (vr_copy_is_cancelled(plain->run->job, error))
            return FALSE;
    return !vr_copy_is_cancelled(plain->run->job, error);
}

static gboolean move_block(Plain *plain, const VrBlock *block, GError **error)
{
    if (!wait_for_rate(plain, error) || !read_block(plain, block, error))
        return FALSE;
    vr_rate_spend(&plain->rate, block->length);
    vr_digest_push(plain->run->digest, NULL, block->target - plain->pushed);
    vr_digest_push(plain->run->digest, plain->buffer, block->length);
    plain->pushed = block->target + block->length;
    if (!write_block(plain, block, error) || !wait_for_digest(plain, error))
        return FALSE;
    vr_copy_report(plain->run->job, plain->pushed);
    return TRUE;
}

static gboolean move_blocks(Plain *plain, GError **error)
{
    guint asked = plain->run->job->block_size;
    guint32 max = CLAMP(asked / VR_COPY_ALIGNMENT * VR_COPY_ALIGNMENT, VR_COPY_ALIGNMENT, BLOCK);
    VrBlock block;
    for (;;) {
        if (!vr_stream_next(&plain->stream, plain->buffer, asked ? max : BLOCK, &block, error))
            return FALSE;
        if (block.length == 0)
            break;
        if (!move_block(plain, &block, error))
            return FALSE;
    }
    vr_digest_push(plain->run->digest, NULL, plain->run->job->length - plain->pushed);
    return TRUE;
}

gboolean vr_copy_plain(const VrCopyRun *run, GError **error)
{
    Plain plain = {.run = run};
    if (posix_memalign((void **)&plain.buffer, VR_COPY_ALIGNMENT, BLOCK) != 0) {
        vr_digest_stop(run->digest);
        vr_set_error_errno(error, ENOMEM, "cannot copy");
        return FALSE;
    }
    vr_stream_init(&plain.stream, run);
    vr_rate_init(&plain.rate, run->job->limit_rate);
    gboolean ok = move_blocks(&plain, error);
    if (!ok)
        vr_digest_stop(run->digest); /* it may be reading the buffer */
    vr_stream_end(&plain.stream);
    vr_unpacker_free(plain.unpacker);
    free(plain.buffer);
    return ok;
}
