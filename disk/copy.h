/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The copy engine: segments of any sources to the same places of one or more new files, each byte read once, with SHA-256 in
 * stream order beside it, and fsync of the targets at the end. It takes the best way that the kernel and the file systems
 * offer: shared blocks (reflink), io_uring, or one block after the other where io_uring is forbidden (said once).
 */
#pragma once

#include <glib.h>

#define VR_DIGEST_HEX_LENGTH 64

typedef struct {
    guint64 bytes_done, bytes_total;
} VrCopyProgress;

typedef enum {
    VR_PACKED_NOT,
    VR_PACKED_DEFLATE, /* raw deflate, window of 4 KiB, as qcow2 has it */
    VR_PACKED_ZSTD
} VrPacking;

/* A run of bytes of the targets and where it comes from. */
typedef struct {
    int fd;              /* not owned; negative: `bytes` */
    const guint8 *bytes; /* with a negative fd: `length` bytes that stay until the next segment is asked for */
    guint64 offset;      /* of the first byte in fd */
    guint64 target;      /* its place in every target; segments ascend and do not overlap, between them are zeros */
    guint64 length;      /* bytes in the targets; not 0 */
    VrPacking packing;   /* of what lies at offset */
    guint32 packed;      /* bytes at offset, of which the last may be behind the end of fd */
    guint32 skip;        /* packed: bytes of the unpacked cluster before the first that is wanted */
} VrCopySegment;

typedef struct {
    int source_fd;  /* not owned; its data is copied unless there are segments */
    int target_fd;  /* not owned; empty, opened for writing; not used with `targets` */
    guint64 length; /* of the targets; a source that ends before is VR_ERROR_INVALID (it changed while it was read) */
    const int *targets;    /* NULL, or n_targets descriptors like target_fd */
    guint n_targets;       /* at most VR_COPY_TARGETS; an error of one ends the copy to all */
    guint queue_depth;     /* blocks in flight; 0 = as measured to be best */
    guint block_size;      /* bytes of one block; 0 = as measured to be best */
    gboolean plain;        /* no io_uring (tests, fallback) */
    gboolean no_clone;     /* no shared blocks: a copy that stays when the source's medium is damaged */
    guint64 limit_rate;    /* bytes a second that are read at most; 0 = no limit */
    const gint *cancelled; /* NULL, or set to non-zero by another thread at any time: VR_ERROR_CANCELLED */
    void (*progress)(const VrCopyProgress *progress, void *data);
    void *progress_data;
    /* Instead of source_fd: an array, or a function that gives one after the other. */
    const VrCopySegment *segments;
    gsize n_segments;
    /* TRUE with length 0 at the end; FALSE with an error. Called by the thread that called vr_copy(). */
    gboolean (*next)(void *data, VrCopySegment *segment, GError **error);
    void *next_data;
} VrCopyJob;

#define VR_COPY_TARGETS 64

/* Copies; holes and blocks of zeros become holes of the targets. digest: NULL, or receives lower-case hex of SHA-256 of all
 * `length` bytes of a target. Takes 48 MiB of memory or less. On an error nothing can be said about the targets, and nothing
 * is in flight any more: the caller throws them away. */
gboolean vr_copy(const VrCopyJob *job, char digest[VR_DIGEST_HEX_LENGTH + 1], GError **error);

/* SHA-256 of the first `length` bytes of fd, lower-case hex. */
gboolean vr_digest_fd(int fd, guint64 length, char digest[VR_DIGEST_HEX_LENGTH + 1], GError **error);
