/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The copy engine: a file's bytes to a new file through io_uring with SHA-256 in stream order beside it,
 * and fsync of the target at the end. Where io_uring is forbidden it takes the plain path and says so once.
 */
#pragma once

#include <glib.h>

#define VR_DIGEST_HEX_LENGTH 64

typedef struct {
    guint64 bytes_done, bytes_total;
} VrCopyProgress;

typedef struct {
    int source_fd;         /* not owned; read from offset 0 to `length` */
    int target_fd;         /* not owned; empty, opened for writing */
    guint64 length;        /* bytes; a source that ends before is VR_ERROR_INVALID (it changed while it was read) */
    guint queue_depth;     /* requests in flight; 0 = 8 */
    guint block_size;      /* bytes of one request; 0 = 512 KiB */
    gboolean plain;        /* no io_uring (tests, fallback) */
    const gint *cancelled; /* NULL, or set to non-zero by another thread at any time: VR_ERROR_CANCELLED */
    void (*progress)(const VrCopyProgress *progress, void *data);
    void *progress_data;
} VrCopyJob;

/* Copies; holes of the source stay holes in the target. digest receives lower-case hex of SHA-256 of all `length` bytes.
 * On an error nothing can be said about the target: the caller throws it away. */
gboolean vr_copy(const VrCopyJob *job, char digest[VR_DIGEST_HEX_LENGTH + 1], GError **error);

/* SHA-256 of the first `length` bytes of fd, lower-case hex. */
gboolean vr_digest_fd(int fd, guint64 length, char digest[VR_DIGEST_HEX_LENGTH + 1], GError **error);
