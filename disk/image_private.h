/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Between image_check.c (the question, raw images) and the qcow2 rules. Not for others. */
#pragma once

#include "disk/image_check.h"

/* What a rule function gives: how the look at the image went. */
typedef enum {
    VR_LOOK_OK,      /* nothing against it */
    VR_LOOK_REFUSED, /* the verdict says why */
    VR_LOOK_FAILED   /* the file could not be read: the error is set */
} VrLook;

typedef struct {
    int fd;
    guint64 file_size;
    guint64 max_virtual_size;
    VrImageVerdict *verdict;
    GError **error;
} VrImageLook;

/* Writes rule and reason into the verdict; always VR_LOOK_REFUSED. */
VrLook vr_image_refuse(VrImageLook *look, VrImageRule rule, const char *format, ...) G_GNUC_PRINTF(3, 4);

/* Size rules of every format. */
VrLook vr_image_check_virtual_size(VrImageLook *look, guint64 size);

/* All rules of a file that begins with the qcow2 magic. */
VrLook vr_qcow2_check(VrImageLook *look);
