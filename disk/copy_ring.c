/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The ring. A slot is one buffer and the block in it:
 *
 *   FREE -> READING -> WRITING -> HASHING -> FREE
 *
 * A block is read once into its slot, by as many requests as it has parts; packed parts come from the unpacker's threads. When all
 * of it is there the slot is handed to the digest as soon as every earlier block was (stream order), and written to every target.
 * It is free again when the last target has its bytes and the digest is past it; HASHING is the state of a slot that
 * waits for the second only.
 *
 * Invariants: in_flight counts requests that the kernel has and whose completion was not seen. No buffer is freed, and vr_copy_ring
 * does not return, before it is 0, no thread unpacks, and the digest is past all of them. After the first error nothing new is
 * asked for. liburing returns -errno. The completion queue holds all that slots can ask for.
 *
 * One thread owns the ring and the slots; the digest's and the unpacker's threads touch only buffers that were given to them.
 */
#include "disk/copy_ring.h"

#include "base/error.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#ifndef RWF_DONTCACHE
#define RWF_DONTCACHE 0x00000080 /* kernel 6.14 */
#endif

#define MAX_RETRIES 1000 /* of one request after EAGAIN or EINTR, in a row */

static void fail(VrRing *ring, VrCopySide side, guint64 offset, int errnum)
{
    if (!ring->failed)
        vr_copy_fail(ring->error, side, offset, ring->run->job->length, errnum);
    ring->failed = TRUE;
}

/* The ring itself, neither side of the copy. */
static void fail_ring(VrRing *ring, int errnum)
{
    if (!ring->failed)
        vr_set_error_errno(ring->error, errnum, "io_uring");
    ring->failed = TRUE;
}

/* ---- requests ---- */

/* Hands over what was asked for. What the kernel does not take is not in flight: it goes with the ring. */
static void submit(VrRing *ring)
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
        ring->in_flight -= MIN(ring->unsubmitted, ring->in_flight);
        ring->unsubmitted = 0;
    }
}

/* A free entry for one more request, counted as unsubmitted. */
static struct io_uring_sqe *get_entry(VrRing *ring)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->ring);
    if (!sqe) {
        submit(ring);
        sqe = io_uring_get_sqe(&ring->ring);
    }
    if (sqe)
        ring->unsubmitted++;
    else
        fail_ring(ring, EBUSY);
    return sqe;
}

static void ask(VrRing *ring, VrRequest *request)
{
    struct io_uring_sqe *sqe = get_entry(ring);
    if (!sqe)
        return;
    guint8 *at = request->slot->buffer + request->at;
    VrCopyFile *file = request->file;
    int fd = vr_copy_file_choose(file, at, request->offset, request->left);
    request->direct = fd != file->fd;
    request->uncached = !request->direct && file->uncached;
    if (request->side == VR_SIDE_SOURCE)
        io_uring_prep_read(sqe, fd, at, request->left, request->offset);
    else
        io_uring_prep_write(sqe, fd, at, request->left, request->offset);
    if (file->checksums)
        sqe->flags |= IOSQE_ASYNC;
    if (request->uncached)
        sqe->rw_flags = RWF_DONTCACHE;
    io_uring_sqe_set_data(sqe, request);
    ring->in_flight++;
}

static void add_request(VrRing *ring, VrSlot *slot, VrRequest request)
{
    g_assert(slot->n_requests < ring->max_requests);
    VrRequest *added = &slot->requests[slot->n_requests++];
    *added = request;
    added->slot = slot;
    slot->pending++;
    ask(ring, added);
}

/* An aligned body, and a tail that is not. */
static void add_requests(VrRing *ring, VrSlot *slot, VrRequest request)
{
    guint32 tail = request.left % VR_COPY_ALIGNMENT;
    if (request.file->no_direct || request.offset % VR_COPY_ALIGNMENT || tail == request.left)
        tail = 0;
    request.left -= tail;
    add_request(ring, slot, request);
    if (tail == 0)
        return;
    request.offset += request.left;
    request.at += request.left;
    request.left = tail;
    add_request(ring, slot, request);
}

/* Cached pages go to the disk now, not all at the end. Nobody waits for it: the flush at the end tells errors. */
static void write_back(VrRing *ring, const VrSlot *slot)
{
    for (guint i = 0; i < ring->run->n_targets; i++) {
        const VrCopyFile *file = &ring->targets[i];
        struct io_uring_sqe *sqe = !file->no_direct || file->uncached ? NULL : get_entry(ring);
        if (!sqe)
            continue;
        io_uring_prep_sync_file_range(sqe, file->fd, slot->block.length, slot->block.target, SYNC_FILE_RANGE_WRITE);
        io_uring_sqe_set_data(sqe, NULL);
        ring->in_flight++;
    }
}

/* ---- packed parts ---- */

static void ask_wake(VrRing *ring)
{
    struct io_uring_sqe *sqe = get_entry(ring);
    if (!sqe)
        return;
    io_uring_prep_read(sqe, ring->wake_fd, &ring->wake_value, sizeof ring->wake_value, 0);
    io_uring_sqe_set_data(sqe, &ring->wake_value);
    ring->in_flight++;
    ring->wake_asked = TRUE;
}

static gboolean open_pool(VrRing *ring)
{
    if (ring->pool)
        return TRUE;
    if (ring->wake_fd < 0)
        ring->wake_fd = eventfd(0, EFD_CLOEXEC);
    if (ring->wake_fd < 0) {
        fail_ring(ring, errno);
        return FALSE;
    }
    ring->pool = vr_unpack_pool_new(ring->wake_fd, ring->error);
    ring->failed |= ring->pool == NULL;
    return ring->pool != NULL;
}

static void unpack(VrRing *ring, VrSlot *slot)
{
    if (!open_pool(ring))
        return;
    slot->unpack = (VrUnpackJob){.block = &slot->block, .buffer = slot->buffer, .owner = slot};
    slot->pending++;
    ring->unpacking++;
    vr_unpack_pool_give(ring->pool, &slot->unpack);
    if (!ring->wake_asked)
        ask_wake(ring);
}

/* ---- reading ---- */

static VrCopyFile *find_source(VrRing *ring, int fd)
{
    for (guint i = 0; i < ring->n_sources; i++)
        if (ring->sources[i].fd == fd)
            return &ring->sources[i];
    if (ring->n_sources == VR_COPY_SOURCES)
        return NULL;
    vr_copy_file_open(&ring->sources[ring->n_sources], fd, FALSE);
    return &ring->sources[ring->n_sources++];
}

static void read_slot(VrRing *ring, VrSlot *slot)
{
    const VrBlock *block = &slot->block;
    for (guint i = 0; i < block->n_parts && !ring->failed; i++) {
        const VrPart *part = &block->parts[i];
        if (part->packing)
            continue;
        VrCopyFile *file = find_source(ring, part->fd);
        if (!file) {
            fail_ring(ring, EMFILE);
            return;
        }
        add_requests(
            ring, slot,
            (VrRequest){
                .side = VR_SIDE_SOURCE, .file = file, .offset = part->offset, .at = part->at, .left = part->length});
    }
    if (block->n_packed > 0 && !ring->failed)
        unpack(ring, slot);
}

static VrSlot *find_free(VrRing *ring)
{
    for (guint i = 0; i < ring->depth; i++)
        if (ring->slots[i].state == SLOT_FREE)
            return &ring->slots[i];
    return NULL;
}

static void finish_reading(VrRing *ring, VrSlot *slot);

static void start_slot(VrRing *ring, VrSlot *slot)
{
    slot->state = SLOT_READING;
    slot->is_read = slot->is_taken = FALSE;
    slot->n_requests = slot->pending = 0;
    ring->order[(ring->order_head + ring->order_count++) % ring->depth] = (guint)(slot - ring->slots);
    vr_rate_spend(&ring->rate, slot->block.length);
    slot->pending++; /* until all are asked for */
    read_slot(ring, slot);
    if (--slot->pending == 0 && !ring->failed)
        finish_reading(ring, slot); /* all of it came from memory */
}

/* Starts reads into all free slots. */
static void fill(VrRing *ring)
{
    VrSlot *slot;
    while (!ring->failed && !ring->at_end && vr_rate_delay(&ring->rate) == 0 && (slot = find_free(ring))) {
        if (!vr_stream_next(&ring->stream, slot->buffer, ring->block, &slot->block, ring->error)) {
            ring->failed = TRUE;
            return;
        }
        ring->at_end = slot->block.length == 0;
        if (!ring->at_end)
            start_slot(ring, slot);
    }
}

/* ---- what is done ---- */

/* Pushes every block whose turn in the stream it is, each with the hole before it. */
static void feed_digest(VrRing *ring)
{
    while (ring->order_count > 0) {
        VrSlot *slot = &ring->slots[ring->order[ring->order_head]];
        if (!slot->is_read)
            return;
        vr_digest_push(ring->run->digest, NULL, slot->block.target - ring->pushed);
        vr_digest_push(ring->run->digest, slot->buffer, slot->block.length);
        ring->pushed = slot->block.target + slot->block.length;
        slot->is_taken = TRUE;
        ring->order_head = (ring->order_head + 1) % ring->depth;
        ring->order_count--;
    }
}

static void finish_writing(VrRing *ring, VrSlot *slot)
{
    slot->state = SLOT_HASHING;
    write_back(ring, slot);
}

static void finish_reading(VrRing *ring, VrSlot *slot)
{
    guint32 length;
    slot->is_read = TRUE;
    feed_digest(ring);
    slot->state = SLOT_WRITING;
    slot->n_requests = 0;
    slot->pending = 1; /* until all are asked for */
    guint n_targets = slot->block.is_shared ? 0 : ring->run->n_targets;
    for (guint32 at = 0; vr_next_run(slot->buffer, slot->block.length, &at, &length); at += length)
        for (guint i = 0; i < n_targets && !ring->failed; i++)
            add_requests(ring, slot,
                         (VrRequest){.side = VR_SIDE_TARGET,
                                     .file = &ring->targets[i],
                                     .offset = slot->block.target + at,
                                     .at = at,
                                     .left = length});
    if (--slot->pending == 0 && !ring->failed)
        finish_writing(ring, slot);
}

static void finish_one(VrRing *ring, VrSlot *slot)
{
    if (--slot->pending > 0)
        return;
    if (slot->state == SLOT_READING)
        finish_reading(ring, slot);
    else
        finish_writing(ring, slot);
}

/* Something was tried that does not go here: it is remembered, and the request is made the next best way. */
static gboolean fall_back(VrRing *ring, VrRequest *request, int result)
{
    if (result != -EINVAL && result != -EOPNOTSUPP)
        return FALSE;
    if (!request->direct && !request->uncached)
        return FALSE;
    if (request->direct)
        request->file->no_direct = TRUE;
    else
        request->file->uncached = FALSE;
    ask(ring, request);
    return TRUE;
}

static void complete(VrRing *ring, VrRequest *request, int result)
{
    guint8 *at = request->slot->buffer + request->at;
    const VrCopyOps *ops = vr_copy_ops();
    result = ops->completion(request->side, request->offset, at, result, ops->data);
    if (ring->failed || fall_back(ring, request, result))
        return; /* drained only */
    if ((result == -EINTR || result == -EAGAIN) && ++request->retries < MAX_RETRIES) {
        ask(ring, request);
        return;
    }
    if (result <= 0) {
        fail(ring, request->side, request->offset, -result);
        return;
    }
    request->retries = 0;
    request->offset += (guint)result;
    request->at += (guint)result;
    request->left -= MIN((guint)result, request->left);
    if (request->left > 0)
        ask(ring, request); /* a short one goes on */
    else
        finish_one(ring, request->slot);
}

static void take_unpacked(VrRing *ring)
{
    VrUnpackJob *job;
    ring->wake_asked = FALSE;
    while (ring->pool && (job = vr_unpack_pool_take_back(ring->pool))) {
        VrSlot *slot = job->owner;
        ring->unpacking--;
        if (job->result < 0)
            fail(ring, VR_SIDE_SOURCE, job->offset, -job->result);
        if (!ring->failed)
            finish_one(ring, slot);
    }
    if (ring->unpacking > 0 && !ring->failed && !ring->wake_asked)
        ask_wake(ring);
}

/* ---- completions ---- */

/* Takes every completion that is there. */
static void reap(VrRing *ring)
{
    struct io_uring_cqe *cqe;
    while (io_uring_peek_cqe(&ring->ring, &cqe) == 0 && cqe) {
        void *data = io_uring_cqe_get_data(cqe);
        int result = cqe->res;
        io_uring_cqe_seen(&ring->ring, cqe);
        ring->in_flight--;
        if (data == &ring->wake_value)
            take_unpacked(ring);
        else if (data)
            complete(ring, data, result);
    }
}

/* At least one completion. Where waiting itself fails, the ring's memory is looked at now and then: it must be drained. */
static void wait_for_completion(VrRing *ring)
{
    struct io_uring_cqe *cqe;
    int waited = io_uring_wait_cqe(&ring->ring, &cqe);
    if (waited < 0 && waited != -EINTR && waited != -EAGAIN) {
        fail_ring(ring, -waited);
        g_usleep(1000);
    }
    reap(ring);
}

/* The threads end first; then one more wake-up brings back the request that waits for them. */
static void drain(VrRing *ring)
{
    const guint64 one = 1;
    vr_unpack_pool_free(ring->pool);
    ring->pool = NULL;
    ring->unpacking = 0;
    submit(ring);
    if (ring->wake_asked)
        while (write(ring->wake_fd, &one, sizeof one) < 0 && errno == EINTR)
            ;
    while (ring->in_flight > 0)
        wait_for_completion(ring);
}

/* ---- the loop ---- */

/* Frees the slots that the digest is past, and tells how far all is. TRUE when some still wait for the digest. */
static gboolean collect_hashed(VrRing *ring)
{
    guint64 done = vr_digest_done(ring->run->digest);
    guint64 all_before = ring->stream.end;
    gboolean waiting = FALSE;
    for (guint i = 0; i < ring->depth; i++) {
        VrSlot *slot = &ring->slots[i];
        if (slot->state == SLOT_HASHING) {
            if (slot->is_taken && done >= slot->block.target + slot->block.length)
                slot->state = SLOT_FREE;
            else
                waiting = TRUE;
        }
        if (slot->state != SLOT_FREE)
            all_before = MIN(all_before, slot->block.target);
    }
    vr_copy_report(ring->run->job, ring->run->digest ? done : all_before);
    return waiting;
}

static void check_cancelled(VrRing *ring)
{
    if (!ring->failed && vr_copy_is_cancelled(ring->run->job, ring->error))
        ring->failed = TRUE;
}

static void move(VrRing *ring)
{
    while (!ring->failed) {
        gboolean waiting = collect_hashed(ring);
        fill(ring);
        submit(ring);
        check_cancelled(ring);
        if (ring->in_flight > 0)
            wait_for_completion(ring);
        else if (waiting)
            vr_digest_wait(ring->run->digest, vr_digest_done(ring->run->digest));
        else if (ring->at_end)
            return;
        else
            g_usleep((gulong)MIN(vr_rate_delay(&ring->rate), 50000));
    }
}

gboolean vr_copy_ring(const VrCopyRun *run, gboolean *unavailable, GError **error)
{
    VrRing ring = {.run = run, .wake_fd = -1, .error = error};
    vr_stream_init(&ring.stream, run);
    vr_rate_init(&ring.rate, run->job->limit_rate);
    *unavailable = !vr_ring_open(&ring);
    if (*unavailable)
        return FALSE;
    move(&ring);
    drain(&ring);
    vr_stream_end(&ring.stream);
    if (ring.failed)
        vr_digest_stop(run->digest); /* it may be reading buffers */
    else
        vr_digest_push(run->digest, NULL, run->job->length - ring.pushed);
    vr_ring_close(&ring);
    return !ring.failed;
}
