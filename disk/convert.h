/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One disk out of another: raw or qcow2 (with zlib or zstd clusters too), alone or as a chain, to raw or to an
 * uncompressed qcow2 that stands alone. Plan first, then copy: what is written and where is known before the first byte.
 */
#pragma once

#include "disk/copy.h"
#include "disk/image_check.h"

#define VR_CONVERT_LINKS 32

/* An image whose format is known. A qcow2 was accepted by vr_image_check(), but for the backing file of a link above another
 * (SAFETY 3); what it names is not looked at: the order of the links is what the caller says. */
typedef struct {
    int fd; /* not owned; readable */
    VrImageFormat format;
} VrConvertLink;

typedef struct {
    const VrConvertLink *links; /* top first; 1 to VR_CONVERT_LINKS */
    guint n_links;
    VrImageFormat format; /* of the targets */
    guint cluster_bits;   /* of a qcow2 target, 12 to 21; 0 = 16 (64 KiB) */
    guint64
        virtual_size; /* of the targets, in whole sectors, not less than the top's; zeros behind that; 0: the top's */
    VrCopyJob copy;   /* targets, limits, cancel, progress; source, segments and length are not looked at */
} VrConvertJob;

typedef struct {
    guint64 virtual_size; /* in whole sectors of 512 bytes */
    guint64 file_size;    /* of each target */
    guint64 data;         /* bytes of the disk that a source has data for */
} VrConvertPlan;

/* Looks at the sources only: for a preview and for the question whether there is space. */
gboolean vr_convert_plan(const VrConvertJob *job, VrConvertPlan *plan, GError **error);

/* Converts. digest: NULL, or receives SHA-256 of a target's file, lower-case hex (for a raw target that is of the whole disk, holes
 * too: it costs a second a GiB). plan: NULL, or receives what was done. Errors, cancel and targets as vr_copy();
 * VR_ERROR_INVALID for a damaged source. */
gboolean vr_convert(const VrConvertJob *job, VrConvertPlan *plan, char digest[VR_DIGEST_HEX_LENGTH + 1],
                    GError **error);
