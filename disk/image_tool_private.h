/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Between image_tool.c and the socket that its child reads the image through. Not for others. */
#pragma once

#include <glib.h>

typedef struct VrToolNbd VrToolNbd;

/* Begins to serve the first `size` bytes of fd, read-only, to whoever has the other end of a socket pair. */
VrToolNbd *vr_tool_nbd_start(int fd, guint64 size, GError **error);

/* The other end, for the child; not the caller's to close. */
int vr_tool_nbd_child_fd(const VrToolNbd *nbd);

/* Ends it, also in the middle of an answer, and frees. FALSE with the error when the image itself could not be read. */
gboolean vr_tool_nbd_stop(VrToolNbd *nbd, GError **error);
