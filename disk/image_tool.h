/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The second opinion: qemu-img, asked only about an image that vr_image_check() accepted (SAFETY section 3). It runs with
 * 30 s of CPU and 1 GiB, as nobody when we are root, and it opens no file at all: it reads the bytes through a socket that
 * we answer. So it sees a file of mode 0600, cannot see any other, and a path, a link or a lock cannot mislead it.
 */
#pragma once

#include "disk/image_check.h"

/* Asks about the image of fd; verdict is that of vr_image_check(), accepted. An image that qemu-img does not open, finds
 * corrupt, sees otherwise than we do, or dies of becomes a refusal in *verdict. Leaked clusters are a text in *warning
 * (may be NULL; free with g_free). FALSE with an error: it could not be asked (not installed, an I/O error of the file). */
gboolean vr_image_tool_check(int fd, VrImageVerdict *verdict, char **warning, GError **error);
