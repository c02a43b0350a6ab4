/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Small files of this host that an admin names, each of which may be a secret. */
#pragma once

#include <glib.h>

typedef struct {
    guint8 *data; /* never NULL once it was read; a NUL follows the last byte */
    gsize length;
} VrPayload;
void vr_payload_clear(VrPayload *payload); /* overwrites it first */

/* Reads a regular file of at most max bytes; never waits for the writer of a FIFO. mode (may be NULL): its permissions. VR_ERROR_REFUSED names it:
 * it is not there, no regular file, or too large. */
gboolean vr_host_file_read(const char *path, gsize max, VrPayload *payload, guint *mode, GError **error);

/* The same as bytes that are overwritten when nobody has them any more. */
GBytes *vr_host_file_bytes(const char *path, gsize max, GError **error);

/* From here on what is in memory is in no core file, whoever takes it. */
void vr_leave_no_core(void);
