/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The state of the ring, between its set-up and its loop; the story is in copy_ring.c. */
#pragma once

#include "disk/copy_private.h"

#include <liburing.h>

typedef enum { SLOT_FREE, SLOT_READING, SLOT_WRITING, SLOT_HASHING } SlotState;

struct VrSlot;

typedef struct {
    struct VrSlot *slot;
    VrCopySide side;
    VrCopyFile *file;
    guint64 offset; /* of what is left */
    guint32 at;     /* in the buffer */
    guint32 left;
    guint retries; /* in a row */
    gboolean direct, uncached;
} VrRequest;

typedef struct VrSlot {
    SlotState state;
    guint8 *buffer;
    VrBlock block;
    VrUnpackJob unpack;
    VrRequest *requests;
    guint n_requests;
    guint pending;     /* requests and an unpacking that are not done */
    gboolean is_read;  /* all of it is in the buffer */
    gboolean is_taken; /* pushed to the digest */
} VrSlot;

typedef struct {
    const VrCopyRun *run;
    struct io_uring ring;
    guint depth, block, max_requests; /* of a slot */
    VrSlot *slots;
    VrRequest *requests;
    guint8 *memory;
    gsize memory_size;
    guint in_flight;   /* asked and not yet seen */
    guint unsubmitted; /* of all, what the kernel does not have yet */
    guint unpacking;   /* slots that the pool has */
    VrStream stream;
    gboolean at_end; /* of the stream */
    VrRate rate;
    VrCopyFile targets[VR_COPY_TARGETS], sources[VR_COPY_SOURCES];
    guint n_sources, next_source;
    VrUnpackPool *pool;
    int wake_fd;
    guint64 wake_value;  /* where the kernel writes */
    gboolean wake_asked; /* never without an unpacking, but in drain() */
    guint *order;        /* slots in stream order that were not pushed: a ring of `depth` */
    guint order_head, order_count;
    guint64 pushed; /* bytes of the stream */
    gboolean failed;
    GError **error; /* written once */
} VrRing;

/* FALSE: the kernel gives no ring or no memory for it; nothing is left behind. */
gboolean vr_ring_open(VrRing *ring);
void vr_ring_close(VrRing *ring);
