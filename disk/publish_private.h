/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Between the two halves of a publication: what was given (store_source.c), and how it becomes visible (store_publish.c). */
#pragma once

#include "disk/input.h"
#include "disk/store_private.h"

#include <sys/stat.h>

typedef struct {
    VrStore *store; /* NULL in a dry run of the first publication */
    const VrPublication *asked;

    /* What was given. */
    const char *shown; /* the file's name for messages, "standard input" */
    char *inner_name;  /* owned: base name without the suffix of a compressed file; NULL: standard input */
    gboolean is_stdin;
    VrCompression compression;
    int source_fd; /* owned, but for standard input */
    struct stat source;

    /* What it must be. */
    char wanted[VR_DIGEST_HEX_LENGTH + 1]; /* "" when none was given */
    VrSignature *signature;                /* owned; NULL when none was given */
    guint8 key[32];

    /* What it is, once it was read. */
    VrImageVerdict verdict;
    char digest[VR_DIGEST_HEX_LENGTH + 1]; /* of what was given */
    char stored[VR_DIGEST_HEX_LENGTH + 1]; /* of what is stored */
    gboolean vouched;                      /* digest and signature were compared */

    VrImage *offer; /* owned: carries publisher, offer, sku as they will be written */
} Publication;

void vr_publication_clear(Publication *p);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Publication, vr_publication_clear)

/* The digest, the signature and its key as they were asked for, and the policy on unsigned versions. Reads no image. */
gboolean vr_publication_terms(Publication *p, GError **error);

/* Opens the source: a regular file, or standard input that is no terminal. */
gboolean vr_publication_open(Publication *p, GError **error);

/* Standard input and compressed files can be read in one way only: from begin to end, into a file. */
gboolean vr_publication_is_stream(const Publication *p);

/* The source is as it was when it was opened. */
gboolean vr_publication_unchanged(const Publication *p, GError **error);

/* Reads all that was given, without keeping it, and compares digest and signature. Standard input is gone after it. */
gboolean vr_publication_vouch(Publication *p, GError **error);

/* Reads a stream into the empty file fd, within the limits; digest and signature are compared, then the image is checked
 * (p->verdict). */
gboolean vr_publication_spool(Publication *p, int fd, GError **error);

/* The image check of a source that is no stream. */
gboolean vr_publication_check(Publication *p, GError **error);

/* Compares p->digest with the one that was asked for. */
gboolean vr_publication_compare(const Publication *p, GError **error);

#define VR_SPACE_MARGIN (4 << 20) /* for directories, image.json, the database */
