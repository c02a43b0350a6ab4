/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A file of a guest as it was read, or as it is to be written. Everything in it that was read is hostile input, and may be a secret. */
#pragma once

#include <glib.h>

typedef enum { VR_GUEST_FILE_REGULAR, VR_GUEST_FILE_DIRECTORY, VR_GUEST_FILE_LINK } VrGuestFileKind;

typedef struct {
    char *path; /* absolute */
    VrGuestFileKind kind;
    guint mode;   /* 0 to 07777; nothing of a link */
    char *owner;  /* "www-data", "www-data:adm", "33:4"; NULL: root:root. Names are those of the guest */
    GBytes *data; /* of a link: where it leads; of a directory: nothing */
} VrGuestFile;

/* Of what is read from one guest: more is an error. */
#define VR_GUEST_FILES_MAX 256u
#define VR_GUEST_FILES_MAX_BYTES (16u << 20) /* together */

/* Copies its arguments. */
VrGuestFile *vr_guest_file_new(VrGuestFileKind kind, const char *path, guint mode, const char *owner, const void *data,
                               gsize length);
/* Shares the bytes. */
VrGuestFile *vr_guest_file_copy(const VrGuestFile *file);
void vr_guest_file_free(VrGuestFile *file);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrGuestFile, vr_guest_file_free)

/* An empty list of VrGuestFile *, which frees them. */
GPtrArray *vr_guest_files_new(void);

/* TRUE when both lists say the same, in whatever order. */
gboolean vr_guest_files_same(const GPtrArray *a, const GPtrArray *b);
