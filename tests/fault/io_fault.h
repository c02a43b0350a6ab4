/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Faults of the kernel's file operations, for the sweep of errors: this file stands before the C library in the test program, for our
 * code and for SQLite alike. Only what lies beneath one directory is counted; other threads count too. What io_uring does
 * cannot be seen from here: the copy engine reports its completions (vr_copy_set_ops).
 */
#pragma once

#include <glib.h>

typedef enum {
    IO_OPEN, /* and making of files */
    IO_READ,
    IO_WRITE,
    IO_FLUSH,
    IO_RENAME,
    IO_UNLINK, /* and rmdir */
    IO_MKDIR,
    IO_MODE,   /* fchmod, fchown */
    IO_LENGTH, /* ftruncate, fallocate */
    IO_COMPLETION,
    IO_KINDS
} IoKind;
const char *io_kind_name(IoKind kind);

#define IO_SHORT (-1) /* instead of an errno: half of what was asked for is done */

/* Counts beneath `dir`, but not beneath dir/except. Both outlive it; NULL: nothing. */
void io_fault_watch(const char *dir, const char *except);

/* The nth operation of the kind (from 1) fails with an errno or IO_SHORT, with `stays` all after it too. nth 0: only counts. */
void io_fault_arm(IoKind kind, guint nth, int how, gboolean stays);
void io_fault_disarm(void);

/* Between the two nothing that the calling thread does is counted or fails: it stands for another process. */
void io_fault_aside(gboolean on);

/* Since it was armed: operations of the kind, and the path of the first that failed (NULL: none did). */
guint io_fault_count(void);
const char *io_fault_hit(void);

/* A result of io_uring, for fd: the one that is believed. */
int io_fault_completion(int result);
