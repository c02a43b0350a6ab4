/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Small text files that an admin names: digests, signatures, keys. */
#pragma once

#include <glib.h>

/* Reads all of fd, a regular file of at most max bytes without a NUL; path is for messages. A text that ends with NUL;
 * free with g_free. Another kind of file or a larger one: VR_ERROR_INVALID. */
char *vr_small_file_read(int fd, const char *path, gsize max, GError **error);

/* The same by its path, following links; it never waits for the writer of a FIFO. */
char *vr_small_file_open(const char *path, gsize max, GError **error);
