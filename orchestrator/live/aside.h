/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is written to standard error while frames are drawn on the same terminal: warnings, a word at a Ctrl-C, what a library says. It goes into a pipe, and whoever draws
 * puts it above the frame. Who writes never waits: what does not fit into the pipe is lost.
 */
#pragma once

#include <glib.h>

typedef struct VrAside VrAside;

/* From now on standard error goes there, where it is the terminal that fd is. NULL: it is something else, and stays as it is. */
VrAside *vr_aside_begin(int fd);

/* Standard error is what it was; what is in the pipe still goes there. */
void vr_aside_end(VrAside *aside);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrAside, vr_aside_end)

/* To be polled for reading; -1 without an aside. */
int vr_aside_fd(const VrAside *aside);

/* This process ends by a signal, and its last words are on the terminal: nothing is to be drawn into them. */
gboolean vr_aside_is_crashing(void);

/* Whole lines that have come, without blank ones; NULL: none. Free with g_free. */
char *vr_aside_take(VrAside *aside);
