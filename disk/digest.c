/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The hash runs beside the I/O: the copy pushes pieces in stream order into a short queue, one thread takes them in.
 * Pieces are named by their place in the stream, so "is this buffer free" is one comparison with vr_digest_done().
 *
 * lock guards queue, head, count, done, closed and abandoned; `more` is signalled when the queue grows or closes, `less` when it
 * shrinks. The EVP context belongs to the thread until it was joined.
 */
#include "disk/copy_private.h"

#include "base/durable.h"
#include "base/error.h"

#include <errno.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ZEROS (64 * 1024)
#define READ_BLOCK (512 * 1024)

static const guint8 zeros[ZEROS];

typedef struct {
    const void *data; /* NULL: zeros */
    guint64 length;
} Piece;

struct VrDigest {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t more, less;
    Piece queue[VR_DIGEST_QUEUE]; /* a ring */
    guint head, count;
    guint64 done;
    gboolean closed, abandoned;
    EVP_MD_CTX *context;
    gboolean joined; /* of the thread that owns the digest */
    gboolean failed; /* by OpenSSL; the thread's until it was joined */
};

static gboolean is_abandoned(VrDigest *digest)
{
    pthread_mutex_lock(&digest->lock);
    gboolean abandoned = digest->abandoned;
    pthread_mutex_unlock(&digest->lock);
    return abandoned;
}

static void add_done(VrDigest *digest, guint64 length)
{
    pthread_mutex_lock(&digest->lock);
    digest->done += length;
    pthread_cond_broadcast(&digest->less);
    pthread_mutex_unlock(&digest->lock);
}

/* A hole may be terabytes long: in steps, so that progress is seen and an end is heard. */
static void take_zeros(VrDigest *digest, guint64 length)
{
    const guint64 step = 64 * ZEROS;
    while (length > 0 && !is_abandoned(digest)) {
        guint64 n = MIN(length, step);
        for (guint64 left = n; left > 0; left -= MIN(left, ZEROS))
            if (EVP_DigestUpdate(digest->context, zeros, MIN(left, ZEROS)) != 1)
                digest->failed = TRUE;
        length -= n;
        add_done(digest, n);
    }
}

static void take(VrDigest *digest, const Piece *piece)
{
    if (!piece->data) {
        take_zeros(digest, piece->length);
        return;
    }
    if (EVP_DigestUpdate(digest->context, piece->data, piece->length) != 1)
        digest->failed = TRUE;
    add_done(digest, piece->length);
}

/* FALSE at the end. */
static gboolean next_piece(VrDigest *digest, Piece *piece)
{
    pthread_mutex_lock(&digest->lock);
    while (digest->count == 0 && !digest->closed)
        pthread_cond_wait(&digest->more, &digest->lock);
    gboolean is_one = digest->count > 0 && !digest->abandoned;
    if (is_one) {
        *piece = digest->queue[digest->head];
        digest->head = (digest->head + 1) % VR_DIGEST_QUEUE;
        digest->count--;
        pthread_cond_broadcast(&digest->less);
    }
    pthread_mutex_unlock(&digest->lock);
    return is_one;
}

static void *run(void *data)
{
    VrDigest *digest = data;
    Piece piece;
    while (next_piece(digest, &piece))
        take(digest, &piece);
    return NULL;
}

static void release(VrDigest *digest)
{
    EVP_MD_CTX_free(digest->context);
    pthread_cond_destroy(&digest->more);
    pthread_cond_destroy(&digest->less);
    pthread_mutex_destroy(&digest->lock);
    g_free(digest);
}

static void init_conditions(VrDigest *digest)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&digest->lock, NULL);
    pthread_cond_init(&digest->more, NULL);
    pthread_cond_init(&digest->less, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

VrDigest *vr_digest_new(GError **error)
{
    VrDigest *digest = g_new0(VrDigest, 1);
    digest->context = EVP_MD_CTX_new();
    init_conditions(digest);
    if (!digest->context || EVP_DigestInit_ex(digest->context, EVP_sha256(), NULL) != 1) {
        g_set_error_literal(error, VR_ERROR, VR_ERROR_FAILED, "OpenSSL gives no SHA-256");
    } else {
        int failed = pthread_create(&digest->thread, NULL, run, digest);
        if (failed == 0)
            return digest;
        vr_set_error_errno(error, failed, "cannot start the digest's thread");
    }
    release(digest);
    return NULL;
}

void vr_digest_push(VrDigest *digest, const void *data, guint64 length)
{
    if (length == 0 || !digest)
        return;
    pthread_mutex_lock(&digest->lock);
    while (digest->count == VR_DIGEST_QUEUE)
        pthread_cond_wait(&digest->less, &digest->lock);
    digest->queue[(digest->head + digest->count) % VR_DIGEST_QUEUE] = (Piece){data, length};
    digest->count++;
    pthread_cond_signal(&digest->more);
    pthread_mutex_unlock(&digest->lock);
}

guint64 vr_digest_done(VrDigest *digest)
{
    if (!digest)
        return G_MAXUINT64;
    pthread_mutex_lock(&digest->lock);
    guint64 done = digest->done;
    pthread_mutex_unlock(&digest->lock);
    return done;
}

void vr_digest_wait(VrDigest *digest, guint64 than)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += 200000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&digest->lock);
    while (digest->done <= than && pthread_cond_timedwait(&digest->less, &digest->lock, &until) == 0)
        ;
    pthread_mutex_unlock(&digest->lock);
}

static void to_hex(const guint8 *sum, gsize length, char *hex)
{
    for (gsize i = 0; i < length; i++) {
        hex[2 * i] = "0123456789abcdef"[sum[i] >> 4];
        hex[2 * i + 1] = "0123456789abcdef"[sum[i] & 15];
    }
    hex[2 * length] = '\0';
}

static void end_thread(VrDigest *digest, gboolean abandon)
{
    if (digest->joined)
        return;
    pthread_mutex_lock(&digest->lock);
    digest->closed = TRUE;
    digest->abandoned = abandon;
    pthread_cond_signal(&digest->more);
    pthread_mutex_unlock(&digest->lock);
    pthread_join(digest->thread, NULL);
    digest->joined = TRUE;
}

void vr_digest_stop(VrDigest *digest)
{
    if (digest)
        end_thread(digest, TRUE);
}

gboolean vr_digest_finish(VrDigest *digest, char hex[VR_DIGEST_HEX_LENGTH + 1], GError **error)
{
    guint8 sum[EVP_MAX_MD_SIZE];
    guint length = 0;
    end_thread(digest, FALSE);
    gboolean stopped = digest->abandoned;
    gboolean ok = !stopped && !digest->failed && EVP_DigestFinal_ex(digest->context, sum, &length) == 1 &&
                  length * 2 == VR_DIGEST_HEX_LENGTH;
    if (ok)
        to_hex(sum, length, hex);
    else if (!stopped)
        g_set_error_literal(error, VR_ERROR, VR_ERROR_FAILED, "OpenSSL failed in SHA-256");
    release(digest);
    return ok;
}

/* ---- of a file ---- */

/* Two buffers in turn: one is read while the other is taken in. */
static gboolean push_file(int fd, guint64 length, VrDigest *digest, guint8 *buffers, GError **error)
{
    VrSegments segments = {.fd = fd, .length = length};
    guint64 at = 0, offset, busy_until[2] = {0, 0};
    guint32 n;
    for (guint turn = 0; vr_segments_next(&segments, READ_BLOCK, &offset, &n); turn = !turn) {
        guint8 *buffer = buffers + turn * READ_BLOCK;
        gsize got;
        while (vr_digest_done(digest) < busy_until[turn])
            vr_digest_wait(digest, busy_until[turn] - 1);
        if (!vr_pread_all(fd, buffer, n, offset, &got, error))
            return FALSE;
        if (got < n) {
            vr_copy_fail(error, VR_SIDE_SOURCE, offset + got, length, 0);
            return FALSE;
        }
        vr_digest_push(digest, NULL, offset - at);
        vr_digest_push(digest, buffer, n);
        at = busy_until[turn] = offset + n;
    }
    vr_digest_push(digest, NULL, length - at);
    return TRUE;
}

gboolean vr_digest_fd(int fd, guint64 length, char digest[VR_DIGEST_HEX_LENGTH + 1], GError **error)
{
    VrDigest *hash = vr_digest_new(error);
    if (!hash)
        return FALSE;
    g_autofree guint8 *buffers = g_malloc(2 * READ_BLOCK);
    if (!push_file(fd, length, hash, buffers, error) || !vr_source_is_whole(fd, length, error))
        vr_digest_stop(hash);
    return vr_digest_finish(hash, digest, error);
}
