/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Memory, descriptors and the kernel's part of the ring: made before the first block, gone after the last. */
#include "disk/copy_ring.h"

#include "base/fd.h"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#define DEFAULT_DEPTH 12
#define DEFAULT_BLOCK (1u << 20)
#define MAX_DEPTH 64 /* and not more than the digest's queue holds */
#define SUBMISSIONS 256
#define HUGE_PAGE (2u << 20)

/* Held while a ring is mapped or unmapped, and for nothing else. liburing does both with bare system calls, so ThreadSanitizer does
 * not see that an address went from the ring of one thread to that of another; this tells it. */
static pthread_mutex_t ring_maps = PTHREAD_MUTEX_INITIALIZER;

static int map_ring(VrRing *ring)
{
    struct io_uring_params params = {.flags = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP};
    params.cq_entries = MAX(2 * SUBMISSIONS, ring->depth * (ring->max_requests + ring->run->n_targets) + 2);
    pthread_mutex_lock(&ring_maps);
    int made = io_uring_queue_init_params(SUBMISSIONS, &ring->ring, &params);
    pthread_mutex_unlock(&ring_maps);
    return made;
}

static void unmap_ring(VrRing *ring)
{
    pthread_mutex_lock(&ring_maps);
    io_uring_queue_exit(&ring->ring);
    pthread_mutex_unlock(&ring_maps);
}

static void choose_sizes(VrRing *ring)
{
    const VrCopyJob *job = ring->run->job;
    guint64 block = job->block_size ? job->block_size : DEFAULT_BLOCK;
    ring->block = (guint)CLAMP((block + VR_COPY_ALIGNMENT - 1) / VR_COPY_ALIGNMENT * VR_COPY_ALIGNMENT,
                               VR_COPY_ALIGNMENT, VR_COPY_MAX_BLOCK);
    ring->depth = CLAMP(job->queue_depth ? job->queue_depth : DEFAULT_DEPTH, 1, MAX_DEPTH);
    ring->depth = MIN(ring->depth, VR_COPY_MAX_BUFFERS / ring->block);
    /* A part or a run that is not aligned is two requests. Every second grain is zeros at worst. */
    guint runs = ring->block / VR_COPY_GRAIN / 2 + 1;
    ring->max_requests = MAX(2 * VR_BLOCK_PARTS, 2 * runs * ring->run->n_targets);
}

static gboolean map_buffers(VrRing *ring)
{
    ring->memory_size = (gsize)ring->depth * ring->block;
    ring->memory = mmap(NULL, ring->memory_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (ring->memory == MAP_FAILED)
        return FALSE;
    if (ring->memory_size >= HUGE_PAGE)
        (void)madvise(ring->memory, ring->memory_size, MADV_HUGEPAGE);
    return TRUE;
}

gboolean vr_ring_open(VrRing *ring)
{
    choose_sizes(ring);
    if (!map_buffers(ring))
        return FALSE;
    if (map_ring(ring) < 0) {
        (void)munmap(ring->memory, ring->memory_size);
        return FALSE;
    }
    ring->slots = g_new0(VrSlot, ring->depth);
    ring->order = g_new0(guint, ring->depth);
    ring->requests = g_new0(VrRequest, ring->depth * ring->max_requests);
    for (guint i = 0; i < ring->depth; i++) {
        ring->slots[i].buffer = ring->memory + (gsize)i * ring->block;
        ring->slots[i].requests = ring->requests + (gsize)i * ring->max_requests;
    }
    for (guint i = 0; i < ring->run->n_targets; i++)
        vr_copy_file_open(&ring->targets[i], ring->run->targets[i], TRUE);
    return TRUE;
}

void vr_ring_close(VrRing *ring)
{
    unmap_ring(ring);
    for (guint i = 0; i < ring->run->n_targets; i++)
        vr_copy_file_close(&ring->targets[i]);
    for (guint i = 0; i < ring->n_sources; i++)
        vr_copy_file_close(&ring->sources[i]);
    vr_fd_clear(&ring->wake_fd);
    g_free(ring->slots);
    g_free(ring->order);
    g_free(ring->requests);
    (void)munmap(ring->memory, ring->memory_size);
}
