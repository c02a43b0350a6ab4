/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Takes in what an admin gave, in one pass: each byte that was given goes into its sums, is inflated when it is
 * compressed, and what comes out goes into a sum of its own and to a file, where zeros become holes. Sizes are limited, so
 * that a small file cannot fill the disk.
 */
#pragma once

#include "disk/copy.h"
#include "disk/inflate.h"
#include "disk/signature.h"

typedef struct {
    int fd;           /* not owned; read from where it stands: a file or a pipe */
    const char *name; /* for messages */
    guint64 length;   /* of a file, for the progress; 0: not known */
    VrCompression compression;
    gboolean blake2b;      /* its sum is wanted too */
    int target_fd;         /* not owned; empty. -1: only the sums of what was given, nothing is inflated */
    guint64 max_size;      /* bytes that may come out, zeros too */
    const char *limit;     /* what that limit is, for the message: "--max-size" */
    guint64 max_written;   /* bytes that may be written */
    guint64 limit_rate;    /* bytes a second that are read at most; 0 = no limit */
    const gint *cancelled; /* NULL, or set to non-zero by another thread */
    void (*progress)(const VrCopyProgress *progress, void *data); /* of what was given */
    void *progress_data;
} VrInput;

typedef struct {
    char given[VR_DIGEST_HEX_LENGTH + 1]; /* SHA-256 of the bytes that were given */
    guint8 blake2b[VR_BLAKE2B_BYTES];     /* of the same */
    char image[VR_DIGEST_HEX_LENGTH + 1]; /* SHA-256 of what came out; "" without a target */
    guint64 size;                         /* bytes that came out */
} VrInputSums;

/* On an error nothing can be said about the target. It is not flushed. */
gboolean vr_input_take(const VrInput *input, VrInputSums *sums, GError **error);
