/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Packed clusters. Those of one block lie near each other in the file as a rule: they are read with one call and
 * unpacked from there. A cluster is asked for no more bytes than are wanted of it, and it must give them all; what a hostile
 * one does more than that is not looked at. Memory is what is allocated here, whatever the clusters say.
 *
 * The pool: lock guards waiting, ready and closed; `more` is signalled when a job waits or at the end. A job's block and buffer
 * belong to one thread of the pool from vr_unpack_pool_give() until it is in `ready`.
 */
#include "disk/copy_private.h"

#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#define SPAN (1u << 20)                             /* read at once */
#define PACKED_MAX (VR_COPY_MAX_BLOCK + (4u << 10)) /* of one cluster */
#define WINDOW_BITS (-12)                           /* raw deflate; QEMU block/qcow2-threads.c */
#define MAX_THREADS 4

struct VrUnpacker {
    guint8 *packed; /* PACKED_MAX */
    guint8 *plain;  /* VR_COPY_MAX_BLOCK: a cluster of which only the middle is wanted */
    z_stream deflate;
    gboolean deflate_ready;
    ZSTD_DCtx *zstd;
};

VrUnpacker *vr_unpacker_new(void)
{
    VrUnpacker *unpacker = g_new0(VrUnpacker, 1);
    unpacker->packed = malloc(PACKED_MAX);
    unpacker->plain = malloc(VR_COPY_MAX_BLOCK);
    unpacker->deflate_ready = inflateInit2(&unpacker->deflate, WINDOW_BITS) == Z_OK;
    unpacker->zstd = ZSTD_createDCtx();
    if (unpacker->packed && unpacker->plain && unpacker->deflate_ready && unpacker->zstd)
        return unpacker;
    vr_unpacker_free(unpacker);
    return NULL;
}

void vr_unpacker_free(VrUnpacker *unpacker)
{
    if (!unpacker)
        return;
    if (unpacker->deflate_ready)
        (void)inflateEnd(&unpacker->deflate);
    (void)ZSTD_freeDCtx(unpacker->zstd);
    free(unpacker->packed);
    free(unpacker->plain);
    g_free(unpacker);
}

/* ---- one cluster ---- */

static gboolean unpack_deflate(VrUnpacker *unpacker, const guint8 *in, gsize in_length, guint8 *out, gsize out_length)
{
    z_stream *z = &unpacker->deflate;
    if (inflateReset(z) != Z_OK)
        return FALSE;
    z->next_in = (Bytef *)in;
    z->avail_in = (uInt)in_length;
    z->next_out = out;
    z->avail_out = (uInt)out_length;
    int result = inflate(z, Z_SYNC_FLUSH);
    return z->avail_out == 0 && (result == Z_OK || result == Z_STREAM_END || result == Z_BUF_ERROR);
}

static gboolean unpack_zstd(VrUnpacker *unpacker, const guint8 *in, gsize in_length, guint8 *out, gsize out_length)
{
    ZSTD_inBuffer input = {in, in_length, 0};
    ZSTD_outBuffer output = {out, out_length, 0};
    if (ZSTD_isError(ZSTD_DCtx_reset(unpacker->zstd, ZSTD_reset_session_only)))
        return FALSE;
    while (output.pos < output.size) {
        gsize in_before = input.pos, out_before = output.pos;
        if (ZSTD_isError(ZSTD_decompressStream(unpacker->zstd, &output, &input)) ||
            (input.pos == in_before && output.pos == out_before))
            return FALSE;
    }
    return TRUE;
}

static gboolean unpack_part(VrUnpacker *unpacker, const VrPart *part, const guint8 *packed, gsize length,
                            guint8 *buffer)
{
    guint8 *out = part->skip ? unpacker->plain : buffer + part->at;
    gsize wanted = (gsize)part->skip + part->length;
    if (wanted > VR_COPY_MAX_BLOCK)
        return FALSE;
    gboolean ok = part->packing == VR_PACKED_ZSTD ? unpack_zstd(unpacker, packed, length, out, wanted)
                                                  : unpack_deflate(unpacker, packed, length, out, wanted);
    if (ok && part->skip)
        memcpy(buffer + part->at, unpacker->plain + part->skip, part->length);
    return ok;
}

/* ---- a block ---- */

/* Bytes that were read: fewer at the end of the file, since packed clusters are counted in whole sectors; or -errno. */
static gssize read_span(VrUnpacker *unpacker, int fd, guint64 offset, gsize length)
{
    const VrCopyOps *ops = vr_copy_ops();
    gsize got = 0;
    for (guint tries = 0; got < length;) {
        gssize n = ops->read(fd, unpacker->packed + got, length - got, offset + got, ops->data);
        if ((n == -EINTR || n == -EAGAIN) && tries++ < 1000)
            continue;
        if (n < 0)
            return n;
        if (n == 0)
            break;
        tries = 0;
        got += (gsize)n;
    }
    return (gssize)got;
}

/* The parts from first on whose packed bytes follow each other within one span; *length: from the first's offset. */
static guint span_of(const VrBlock *block, guint first, gsize *length)
{
    const VrPart *a = &block->parts[first];
    guint64 end = a->offset + a->packed;
    guint n = 1;
    for (; first + n < block->n_parts; n++) {
        const VrPart *b = &block->parts[first + n];
        guint64 b_end = b->offset + b->packed;
        if (!b->packing || b->fd != a->fd || b->offset < a->offset || b->offset > end + 4096 ||
            b_end > a->offset + SPAN)
            break;
        end = MAX(end, b_end);
    }
    *length = (gsize)(end - a->offset);
    return n;
}

static int unpack_span(VrUnpacker *unpacker, const VrBlock *block, guint first, guint n, gsize length, guint8 *buffer,
                       guint64 *ret_offset)
{
    const VrPart *a = &block->parts[first];
    *ret_offset = a->offset;
    if (length > PACKED_MAX)
        return -EBADMSG;
    gboolean was_cached = vr_range_is_cached(a->fd, a->offset, length);
    gssize got = read_span(unpacker, a->fd, a->offset, length);
    if (got < 0)
        return (int)got;
    if (!was_cached)
        (void)posix_fadvise(a->fd, (off_t)a->offset, (off_t)length, POSIX_FADV_DONTNEED);
    for (guint i = first; i < first + n; i++) {
        const VrPart *part = &block->parts[i];
        gsize at = (gsize)(part->offset - a->offset);
        *ret_offset = part->offset;
        if (at >= (gsize)got ||
            !unpack_part(unpacker, part, unpacker->packed + at, MIN(part->packed, (gsize)got - at), buffer))
            return -EBADMSG;
    }
    return 0;
}

int vr_unpack_block(VrUnpacker *unpacker, const VrBlock *block, guint8 *buffer, guint64 *ret_offset)
{
    for (guint i = 0, n; i < block->n_parts; i += n) {
        gsize length;
        n = 1;
        if (!block->parts[i].packing)
            continue;
        n = span_of(block, i, &length);
        int result = unpack_span(unpacker, block, i, n, length, buffer, ret_offset);
        if (result < 0)
            return result;
    }
    return 0;
}

/* ---- threads ---- */

struct VrUnpackPool {
    pthread_mutex_t lock;
    pthread_cond_t more;
    VrUnpackJob *waiting, **waiting_end; /* first come, first served */
    VrUnpackJob *ready;
    gboolean closed;
    int wake_fd; /* an eventfd of the caller's */
    guint n_threads;
    pthread_t threads[MAX_THREADS];
};

/* NULL at the end. */
static VrUnpackJob *next_job(VrUnpackPool *pool)
{
    pthread_mutex_lock(&pool->lock);
    while (!pool->waiting && !pool->closed)
        pthread_cond_wait(&pool->more, &pool->lock);
    VrUnpackJob *job = pool->closed ? NULL : pool->waiting;
    if (job) {
        pool->waiting = job->next;
        if (!pool->waiting)
            pool->waiting_end = &pool->waiting;
    }
    pthread_mutex_unlock(&pool->lock);
    return job;
}

static void give_back(VrUnpackPool *pool, VrUnpackJob *job)
{
    guint64 one = 1;
    pthread_mutex_lock(&pool->lock);
    job->next = pool->ready;
    pool->ready = job;
    pthread_mutex_unlock(&pool->lock);
    while (write(pool->wake_fd, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

static void *work(void *data)
{
    VrUnpackPool *pool = data;
    VrUnpacker *unpacker = vr_unpacker_new();
    VrUnpackJob *job;
    while ((job = next_job(pool))) {
        job->offset = 0;
        job->result = unpacker ? vr_unpack_block(unpacker, job->block, job->buffer, &job->offset) : -ENOMEM;
        give_back(pool, job);
    }
    vr_unpacker_free(unpacker);
    return NULL;
}

VrUnpackPool *vr_unpack_pool_new(int wake_fd, GError **error)
{
    VrUnpackPool *pool = g_new0(VrUnpackPool, 1);
    guint wanted = CLAMP(g_get_num_processors(), 1, MAX_THREADS);
    int failed = 0;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->more, NULL);
    pool->waiting_end = &pool->waiting;
    pool->wake_fd = wake_fd;
    while (pool->n_threads < wanted && failed == 0) {
        failed = pthread_create(&pool->threads[pool->n_threads], NULL, work, pool);
        pool->n_threads += failed == 0;
    }
    if (pool->n_threads > 0)
        return pool;
    vr_set_error_errno(error, failed, "cannot start a thread that unpacks clusters");
    vr_unpack_pool_free(pool);
    return NULL;
}

void vr_unpack_pool_give(VrUnpackPool *pool, VrUnpackJob *job)
{
    pthread_mutex_lock(&pool->lock);
    job->next = NULL;
    *pool->waiting_end = job;
    pool->waiting_end = &job->next;
    pthread_cond_signal(&pool->more);
    pthread_mutex_unlock(&pool->lock);
}

VrUnpackJob *vr_unpack_pool_take_back(VrUnpackPool *pool)
{
    pthread_mutex_lock(&pool->lock);
    VrUnpackJob *job = pool->ready;
    if (job)
        pool->ready = job->next;
    pthread_mutex_unlock(&pool->lock);
    return job;
}

void vr_unpack_pool_free(VrUnpackPool *pool)
{
    if (!pool)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->closed = TRUE;
    pthread_cond_broadcast(&pool->more);
    pthread_mutex_unlock(&pool->lock);
    for (guint i = 0; i < pool->n_threads; i++)
        pthread_join(pool->threads[i], NULL);
    pthread_cond_destroy(&pool->more);
    pthread_mutex_destroy(&pool->lock);
    g_free(pool);
}
