/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Between the parts of the copy engine: segments, the digest thread, the two ways to move bytes. Not for others, but for tests. */
#pragma once

#include "disk/copy.h"

/* ---- segments: where a source has data ---- */

typedef struct {
    int fd;
    guint64 length;   /* of the whole source */
    guint64 at;       /* next byte that was not given out */
    guint64 data_end; /* end of the data extent that `at` lies in, when at < data_end */
} VrSegments;

/* The next piece of data, at most max bytes: FALSE at the end. What lies between two pieces is a hole. errno-free: a file
 * system that cannot tell is one extent of data. */
gboolean vr_segments_next(VrSegments *segments, guint64 max, guint64 *offset, guint32 *length);

/* ---- digest: SHA-256 in stream order in a thread of its own ---- */

typedef struct VrDigest VrDigest;

VrDigest *vr_digest_new(GError **error);

/* In stream order; data must stay as it is until vr_digest_done() is past it, or vr_digest_stop(). NULL data is `length`
 * zeros. Blocks while VR_DIGEST_QUEUE pieces wait. */
#define VR_DIGEST_QUEUE 132
void vr_digest_push(VrDigest *digest, const void *data, guint64 length);

/* Bytes of the stream that were taken in so far. */
guint64 vr_digest_done(VrDigest *digest);

/* Waits until more than `than` bytes were taken in, but at most for a fifth of a second. */
void vr_digest_wait(VrDigest *digest, guint64 than);

/* Gives up: when it returns no buffer is read any more. May be repeated. */
void vr_digest_stop(VrDigest *digest);

/* Takes in all that was pushed, writes the digest and frees. FALSE with an error; FALSE without one after a stop. */
gboolean vr_digest_finish(VrDigest *digest, char hex[VR_DIGEST_HEX_LENGTH + 1], GError **error);

/* ---- moving bytes ---- */

typedef enum { VR_SIDE_SOURCE, VR_SIDE_TARGET } VrCopySide;

/* Writes the error of one side, with its place. errnum 0: end of file. */
void vr_copy_fail(GError **error, VrCopySide side, guint64 offset, guint64 length, int errnum);

/* A regular file that is shorter than `length` by now is VR_ERROR_INVALID: its end was taken for a hole. */
gboolean vr_source_is_whole(int fd, guint64 length, GError **error);

gboolean vr_copy_is_cancelled(const VrCopyJob *job, GError **error);
void vr_copy_report(const VrCopyJob *job, guint64 done);

/* Both move all segments, feed the digest and leave flushing to the caller; on an error they have stopped the digest. Ring:
 * *unavailable tells that the kernel gives us no ring and nothing was done. */
gboolean vr_copy_ring(const VrCopyJob *job, VrDigest *digest, gboolean *unavailable, GError **error);
gboolean vr_copy_plain(const VrCopyJob *job, VrDigest *digest, GError **error);

/* ---- faults, for tests ---- */

/* Sees each result of a read or a write (bytes, or -errno) with its buffer, and gives the one that is believed. The ring cannot
 * be reached by replacing libc's functions, so the seam is here. NULL in the program. */
typedef int (*VrCopyFault)(VrCopySide side, guint64 offset, guint8 *buffer, int result, void *data);
void vr_copy_set_fault(VrCopyFault fault, void *data);
int vr_copy_result(VrCopySide side, guint64 offset, guint8 *buffer, int result);
