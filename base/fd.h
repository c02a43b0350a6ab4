/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A file descriptor that closes itself at the end of its scope and keeps errno. */
#pragma once

#include <glib.h>

/* Closes *fd unless it is negative, sets it to -1, keeps errno. */
void vr_fd_clear(int *fd);

/* Hands ownership on: returns *fd and leaves -1 behind. */
int vr_fd_steal(int *fd);

/* A file in memory that holds the text, read from its beginning; -1 with errno. The caller's. */
int vr_fd_of_text(const char *text);

#define vr_autofd __attribute__((cleanup(vr_fd_clear))) int
