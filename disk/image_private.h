/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Between image_check.c (the question, raw images), the qcow2 rules, and the tests that make reads fail. Not for others. */
#pragma once

#include "disk/image_check.h"

/* What a rule function gives: how the look at the image went. */
typedef enum {
    VR_LOOK_OK,      /* nothing against it */
    VR_LOOK_REFUSED, /* the verdict says why */
    VR_LOOK_FAILED   /* the file could not be read: the error is set */
} VrLook;

/* Where the bytes come from: a descriptor, or a test's memory with faults. `data` belongs to the caller. */
typedef struct {
    void *data;
    guint64 size;
    /* As vr_pread_all(): *got < length only at the end. */
    gboolean (*read)(void *data, void *into, gsize length, guint64 offset, gsize *got, GError **error);
    /* The first offset at or after this one that is not in a hole; G_MAXUINT64: a hole up to the end. */
    guint64 (*next_data)(void *data, guint64 offset);
} VrImageBytes;

typedef struct {
    const VrImageBytes *bytes;
    guint64 file_size;
    guint64 max_virtual_size;
    gboolean allow_compressed, allow_backing;
    VrImageVerdict *verdict;
    GError **error;
} VrImageLook;

/* vr_image_check() over any bytes. */
gboolean vr_image_check_bytes(const VrImageBytes *bytes, const VrImagePolicy *policy, VrImageVerdict *verdict,
                              GError **error);

/* Writes rule and reason into the verdict; always VR_LOOK_REFUSED. */
VrLook vr_image_refuse(VrImageLook *look, VrImageRule rule, const char *format, ...) G_GNUC_PRINTF(3, 4);

/* Reads exactly this much; fewer bytes are a refusal: the size was looked at before. */
VrLook vr_image_read(VrImageLook *look, void *into, gsize length, guint64 offset);

/* Size rules of every format. */
VrLook vr_image_check_virtual_size(VrImageLook *look, guint64 size);

/* All rules of a file that begins with the qcow2 magic. */
VrLook vr_qcow2_check(VrImageLook *look);
