/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Lines of JSON over a Unix socket, of which the first may carry descriptors (SCM_RIGHTS). This is how a command reaches the daemon (after the upgrade of
 * its connection; docs/daemon.md), and how the daemon hands a job to virt-reimage-job:
 *
 *   {"argv": [...], "env": [...]}   with standard input, output, error, and the directory that the command was given in
 *   {"signal": "INT"}               any time after that: INT, TERM, HUP, and from the daemon KILL
 *
 * and back come {"started": true} and {"exit": N}; 128+N where signal N killed it. A unit says the first before it begins the job, and begins nothing if
 * that cannot be sent any more: who closes without having read it knows that nothing was done. On the read-only socket no descriptors are taken, as the mere end of one
 * can keep who closes it waiting (a file of FUSE whose program hangs): there they come with {"started": true}, the reading ends of standard output and error.
 *
 * A reader takes what there is and never waits; what it did not ask for (other descriptors, a line that has no end, bytes that are no JSON) is the end of the
 * connection.
 */
#pragma once

#include <glib.h>
#include <jansson.h>

#define VR_FD_LINES_FDS_MAX 4
#define VR_FD_LINES_COMMAND_FDS 4   /* standard input, output, error, directory */
#define VR_FD_LINES_READER_FDS 2    /* standard output, error */
#define VR_FD_LINES_MAX (64 * 1024) /* bytes of one line; so much fits into a socket that nobody reads yet */

/* In the place of an exit status. */
#define VR_JOB_UNKNOWN (-1)   /* what started it is gone, and it may go on */
#define VR_JOB_NOT_BEGUN (-2) /* its unit did not begin: nothing was done */

typedef struct VrFdLines VrFdLines;

/* Reads from fd, which stays the caller's; n: that many descriptors come with the first line that has any. */
VrFdLines *vr_fd_lines_new(int fd, guint n);
void vr_fd_lines_free(VrFdLines *lines);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrFdLines, vr_fd_lines_free)

typedef enum { VR_FD_LINES_LINE, VR_FD_LINES_NONE, VR_FD_LINES_END, VR_FD_LINES_BAD } VrFdLinesGot;

/* The next line, without waiting. LINE: *document, to be dropped by the caller. END: the other side has closed, or is gone. BAD: it does not keep to what is
 * said above. */
VrFdLinesGot vr_fd_lines_take(VrFdLines *lines, json_t **document);

/* The n descriptors that came with a line, in the caller's hands then; FALSE: none came. */
gboolean vr_fd_lines_fds(VrFdLines *lines, int *fds);

/* TRUE when nothing of what was read waits, and the other side has closed. Does not take anything. */
gboolean vr_fd_lines_is_over(VrFdLines *lines);

/* Sends one line with n descriptors (0: none). wait_ms: for a reader that does not read; 0 is right for one that was sent little before.
 * VR_ERROR_USAGE: no reader takes one so long. */
gboolean vr_fd_lines_send(int fd, const json_t *document, const int *fds, guint n, gint64 wait_ms, GError **error);

/* "INT" of SIGINT, and back; NULL and 0: none of the four. */
const char *vr_fd_lines_signal_name(int number);
int vr_fd_lines_signal(const json_t *document);
