/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Between the parts of a publication:
 *
 *   store_source    what was given, what it must be, who vouches for it
 *   store_fill      how its bytes become the disk: a copy, or through a copy of our own, unpacked and flattened
 *   store_publish   what is there already, and how the version becomes visible
 */
#pragma once

#include "disk/convert.h"
#include "disk/input.h"
#include "disk/store_private.h"

#include <sys/stat.h>

/* One file that was given: the image, or a link of its chain. */
typedef struct {
    const char *file;  /* as it was asked for */
    const char *shown; /* the same for messages: "standard input" */
    char *inner_name;  /* owned: base name without the suffix of a compressed file; NULL: standard input */
    gboolean is_stdin;
    VrCompression compression;
    int fd; /* owned, but for standard input */
    struct stat st;
    int own_fd; /* owned: our own copy of the image in it, that nobody else can write to; -1: none */

    char wanted[VR_DIGEST_HEX_LENGTH + 1]; /* what it must be; "": anything */
    char digest[VR_DIGEST_HEX_LENGTH + 1]; /* of what was given, once it was read */
    char image[VR_DIGEST_HEX_LENGTH + 1];  /* of what was in it, once that is in own_fd */
    gboolean vouched;                      /* digest and signature were compared */
    VrImageVerdict verdict;                /* once it was checked */
} VrSource;

typedef struct {
    VrStore *store; /* NULL in a dry run of the first publication */
    const VrPublication *asked;

    VrSource sources[VR_CONVERT_LINKS]; /* top first */
    guint n_sources;
    VrSignature *signature; /* owned; NULL when none was given */
    guint8 key[32];

    /* What will be stored, or is. */
    VrImageFormat format;
    guint64 file_size, virtual_size;
    char stored[VR_DIGEST_HEX_LENGTH + 1];
    gboolean boot_known;
    VrImageBoot boot;

    VrImage *offer; /* owned: carries publisher, offer, sku as they will be written */
} Publication;

/* ---- store_source.c ---- */

void vr_publication_clear(Publication *p);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Publication, vr_publication_clear)

/* The digests, the signature and its key as they were asked for, and the policy on unsigned versions. Reads no image. */
gboolean vr_publication_terms(Publication *p, GError **error);

/* Opens the sources: regular files, or standard input that is no terminal. */
gboolean vr_publication_open(Publication *p, GError **error);

/* Standard input and compressed files can be read in one way only: from begin to end, into a file. */
gboolean vr_source_is_stream(const VrSource *source);

/* The source is as it was when it was opened. */
gboolean vr_source_unchanged(const VrSource *source, GError **error);

/* Reads what was not read yet, without keeping it, and compares digests and signature. Standard input is gone after it. */
gboolean vr_publication_vouch(Publication *p, GError **error);

/* Reads a source into the empty file source->own_fd, within the limits; digest and signature are compared, then the image is
 * checked. A vouched source is read once more: it is this copy that counts. */
gboolean vr_publication_spool(Publication *p, VrSource *source, GError **error);

/* The image check of a source that is no stream. */
gboolean vr_publication_check(Publication *p, VrSource *source, GError **error);

/* Compares the digest with the one that was asked for. */
gboolean vr_source_compare(const VrSource *source, GError **error);

/* What sourceDigest says: of one file its digest; of a chain SHA-256 of the text "sha256:HEX\n" of each link, top first. */
void vr_publication_digest(const Publication *p, char digest[VR_DIGEST_HEX_LENGTH + 1]);

/* ---- store_fill.c ---- */

#define VR_SPACE_MARGIN VR_STORE_KEPT_FREE

/* What can be known without writing: every file image, the chain, the space. */
gboolean vr_publication_look(Publication *p, GError **error);

/* Makes disk.FMT in dir_fd, 0444, checked and flushed; tmp_fd: a directory for what is thrown away. */
gboolean vr_publication_fill(Publication *p, int tmp_fd, int dir_fd, GError **error);

/* What vr_publication_fill() would make; a stream is read into a file without a name. */
gboolean vr_publication_rehearse(Publication *p, GError **error);

/* "disk.qcow2". Free with g_free. */
char *vr_publication_disk_name(const Publication *p);
