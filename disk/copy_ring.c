/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The ring. A slot is one buffer and one request at a time:
 *
 *   FREE -> READING -> WRITING -> HASHING -> FREE
 *
 * A block is read once into its slot. When all of it is there the slot is handed to the digest as soon as every earlier
 * block was (stream order), and written. It is free again when it was written and the digest is past it; HASHING is
 * the state of a slot that waits for the second only. With more than one target, WRITING would end when the last
 * of them has its bytes; nothing else changes.
 *
 * Invariants: in_flight counts requests that the kernel has and whose completion was not seen. No buffer is freed, and vr_copy_ring
 * does not return, before it is 0 and the digest is past all of them. After the first error nothing new is asked for. liburing returns -errno.
 *
 * One thread owns the ring and the slots; the digest's thread only reads buffers that were pushed to it.
 */
#include "disk/copy_private.h"

#include "base/error.h"

#include <errno.h>
#include <liburing.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEFAULT_DEPTH 8
#define DEFAULT_BLOCK (512u << 10)
#define MAX_DEPTH 64 /* and not more than the digest's queue holds */
#define MAX_BUFFERS (32u << 20)
#define ALIGNMENT 4096
#define MAX_RETRIES 1000 /* of one request after EAGAIN or EINTR, in a row */

typedef enum { SLOT_FREE, SLOT_READING, SLOT_WRITING, SLOT_HASHING } SlotState;

typedef struct {
    SlotState state;
    guint8 *buffer;
    guint64 offset; /* of the block in both files */
    guint32 length;
    guint32 moved;     /* bytes of the present request's side that are done */
    guint retries;     /* in a row */
    gboolean is_read;  /* all of it is in the buffer */
    gboolean is_taken; /* pushed to the digest */
} Slot;

typedef struct {
    const VrCopyJob *job;
    struct io_uring ring;
    guint depth, block;
    Slot *slots;
    guint8 *memory;
    guint in_flight;   /* asked and not yet seen */
    guint unsubmitted; /* of these, what the kernel does not have yet */
    VrSegments segments;
    gboolean at_end; /* of the segments */
    VrDigest *digest;
    guint *order; /* slots in stream order that were not pushed: a ring of `depth` */
    guint order_head, order_count;
    guint64 pushed; /* bytes of the stream */
    gboolean failed;
    GError **error; /* written once */
} Ring;

/* ---- set-up ---- */

/* Held while a ring is mapped or unmapped, and for nothing else. liburing does both with bare system calls, so ThreadSanitizer does
 * not see that an address went from the ring of one thread to that of another; this tells it. */
static pthread_mutex_t ring_maps = PTHREAD_MUTEX_INITIALIZER;

static int map_ring(Ring *ring)
{
    pthread_mutex_lock(&ring_maps);
    int made = io_uring_queue_init(ring->depth, &ring->ring, 0);
    pthread_mutex_unlock(&ring_maps);
    return made;
}

static void unmap_ring(Ring *ring)
{
    pthread_mutex_lock(&ring_maps);
    io_uring_queue_exit(&ring->ring);
    pthread_mutex_unlock(&ring_maps);
}

static void choose_sizes(Ring *ring)
{
    const VrCopyJob *job = ring->job;
    guint64 block = job->block_size ? job->block_size : DEFAULT_BLOCK;
    ring->block = (guint)CLAMP((block + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT, ALIGNMENT, MAX_BUFFERS / 4);
    ring->depth = CLAMP(job->queue_depth ? job->queue_depth : DEFAULT_DEPTH, 1, MAX_DEPTH);
    ring->depth = MAX(MIN(ring->depth, MAX_BUFFERS / ring->block), 1);
}

/* FALSE: the kernel gives no ring or no memory for it; nothing is left behind. */
static gboolean ring_open(Ring *ring)
{
    choose_sizes(ring);
    if (posix_memalign((void **)&ring->memory, ALIGNMENT, (gsize)ring->depth * ring->block) != 0)
        return FALSE;
    if (map_ring(ring) < 0) {
        free(ring->memory);
        return FALSE;
    }
    ring->slots = g_new0(Slot, ring->depth);
    ring->order = g_new0(guint, ring->depth);
    for (guint i = 0; i < ring->depth; i++)
        ring->slots[i].buffer = ring->memory + (gsize)i * ring->block;
    return TRUE;
}

static void ring_close(Ring *ring)
{
    unmap_ring(ring);
    g_free(ring->slots);
    g_free(ring->order);
    free(ring->memory);
}

static void fail(Ring *ring, VrCopySide side, guint64 offset, int errnum)
{
    if (!ring->failed)
        vr_copy_fail(ring->error, side, offset, ring->job->length, errnum);
    ring->failed = TRUE;
}

/* The ring itself, neither side of the copy. */
static void fail_ring(Ring *ring, int errnum)
{
    if (!ring->failed)
        vr_set_error_errno(ring->error, errnum, "io_uring");
    ring->failed = TRUE;
}

/* ---- requests ---- */

static VrCopySide side_of(const Slot *slot)
{
    return slot->state == SLOT_READING ? VR_SIDE_SOURCE : VR_SIDE_TARGET;
}

/* Asks for what is left of the slot's present side. There is one request a slot, so the ring has room. */
static void ask(Ring *ring, Slot *slot)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->ring);
    guint8 *at = slot->buffer + slot->moved;
    guint left = slot->length - slot->moved;
    guint64 offset = slot->offset + slot->moved;
    if (!sqe) {
        fail(ring, side_of(slot), offset, EBUSY);
        return;
    }
    if (slot->state == SLOT_READING)
        io_uring_prep_read(sqe, ring->job->source_fd, at, left, offset);
    else
        io_uring_prep_write(sqe, ring->job->target_fd, at, left, offset);
    io_uring_sqe_set_data(sqe, slot);
    ring->in_flight++;
    ring->unsubmitted++;
}

/* Hands over what was asked for. What the kernel does not take is not in flight: it goes with the ring. */
static void submit(Ring *ring)
{
    for (guint tries = 0; ring->unsubmitted > 0; tries++) {
        int n = io_uring_submit(&ring->ring);
        if (n > 0) {
            ring->unsubmitted -= MIN((guint)n, ring->unsubmitted);
            tries = 0;
            continue;
        }
        if ((n == -EINTR || n == -EAGAIN || n == -EBUSY || n == 0) && tries < MAX_RETRIES) {
            g_usleep(tries * 10);
            continue;
        }
        fail_ring(ring, n < 0 ? -n : EIO);
        ring->in_flight -= ring->unsubmitted;
        ring->unsubmitted = 0;
    }
}

static Slot *find_free(Ring *ring)
{
    for (guint i = 0; i < ring->depth; i++)
        if (ring->slots[i].state == SLOT_FREE)
            return &ring->slots[i];
    return NULL;
}

/* Starts reads into all free slots. */
static void fill(Ring *ring)
{
    Slot *slot;
    while (!ring->failed && !ring->at_end && (slot = find_free(ring))) {
        guint64 offset;
        guint32 length;
        if (!vr_segments_next(&ring->segments, ring->block, &offset, &length)) {
            ring->at_end = TRUE;
            return;
        }
        *slot = (Slot){.state = SLOT_READING, .buffer = slot->buffer, .offset = offset, .length = length};
        ring->order[(ring->order_head + ring->order_count++) % ring->depth] = (guint)(slot - ring->slots);
        ask(ring, slot);
    }
}

/* ---- completions ---- */

/* Pushes every block whose turn in the stream it is, each with the hole before it. */
static void feed_digest(Ring *ring)
{
    while (ring->order_count > 0) {
        Slot *slot = &ring->slots[ring->order[ring->order_head]];
        if (!slot->is_read)
            return;
        vr_digest_push(ring->digest, NULL, slot->offset - ring->pushed);
        vr_digest_push(ring->digest, slot->buffer, slot->length);
        ring->pushed = slot->offset + slot->length;
        slot->is_taken = TRUE;
        ring->order_head = (ring->order_head + 1) % ring->depth;
        ring->order_count--;
    }
}

/* All bytes of the slot's present side are done. */
static void advance(Ring *ring, Slot *slot)
{
    slot->moved = 0;
    if (slot->state == SLOT_WRITING) {
        slot->state = SLOT_HASHING;
        return;
    }
    slot->is_read = TRUE;
    feed_digest(ring);
    slot->state = SLOT_WRITING;
    ask(ring, slot);
}

static void complete(Ring *ring, Slot *slot, int result)
{
    VrCopySide side = side_of(slot);
    guint64 offset = slot->offset + slot->moved;
    result = vr_copy_result(side, offset, slot->buffer + slot->moved, result);
    if (ring->failed)
        return; /* drained only */
    if ((result == -EINTR || result == -EAGAIN) && ++slot->retries < MAX_RETRIES) {
        ask(ring, slot);
        return;
    }
    if (result <= 0) {
        fail(ring, side, offset, -result);
        return;
    }
    slot->retries = 0;
    slot->moved += (guint)result;
    if (slot->moved < slot->length)
        ask(ring, slot); /* a short one goes on */
    else
        advance(ring, slot);
}

/* Takes every completion that is there; their number. */
static guint reap(Ring *ring)
{
    struct io_uring_cqe *cqe;
    guint seen = 0;
    while (io_uring_peek_cqe(&ring->ring, &cqe) == 0 && cqe) {
        Slot *slot = io_uring_cqe_get_data(cqe);
        int result = cqe->res;
        io_uring_cqe_seen(&ring->ring, cqe);
        ring->in_flight--;
        seen++;
        complete(ring, slot, result);
    }
    return seen;
}

/* At least one completion. Where waiting itself fails, the ring's memory is looked at now and then: it must be drained. */
static void wait_for_completion(Ring *ring)
{
    struct io_uring_cqe *cqe;
    int waited = io_uring_wait_cqe(&ring->ring, &cqe);
    if (waited < 0 && waited != -EINTR && waited != -EAGAIN) {
        fail_ring(ring, -waited);
        g_usleep(1000);
    }
    (void)reap(ring);
}

static void drain(Ring *ring)
{
    submit(ring);
    while (ring->in_flight > 0)
        wait_for_completion(ring);
}

/* ---- the loop ---- */

/* Frees the slots that the digest is past. TRUE when some still wait for it. */
static gboolean collect_hashed(Ring *ring)
{
    guint64 done = vr_digest_done(ring->digest);
    gboolean waiting = FALSE;
    for (guint i = 0; i < ring->depth; i++) {
        Slot *slot = &ring->slots[i];
        if (slot->state != SLOT_HASHING)
            continue;
        if (slot->is_taken && done >= slot->offset + slot->length)
            slot->state = SLOT_FREE;
        else
            waiting = TRUE;
    }
    vr_copy_report(ring->job, done);
    return waiting;
}

static void check_cancelled(Ring *ring)
{
    if (!ring->failed && vr_copy_is_cancelled(ring->job, ring->error))
        ring->failed = TRUE;
}

static void run(Ring *ring)
{
    while (!ring->failed) {
        gboolean waiting = collect_hashed(ring);
        fill(ring);
        submit(ring);
        check_cancelled(ring);
        if (ring->in_flight > 0)
            wait_for_completion(ring);
        else if (waiting)
            vr_digest_wait(ring->digest, vr_digest_done(ring->digest));
        else if (ring->at_end)
            return;
    }
}

gboolean vr_copy_ring(const VrCopyJob *job, VrDigest *digest, gboolean *unavailable, GError **error)
{
    Ring ring = {
        .job = job, .segments = {.fd = job->source_fd, .length = job->length}, .digest = digest, .error = error};
    *unavailable = !ring_open(&ring);
    if (*unavailable)
        return FALSE;
    run(&ring);
    drain(&ring);
    if (ring.failed)
        vr_digest_stop(digest); /* it may be reading buffers */
    else
        vr_digest_push(digest, NULL, job->length - ring.pushed);
    ring_close(&ring);
    return !ring.failed;
}
