/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The one runner of child processes: argv only, no shell, a clean environment (PATH, LANG=C), standard
 * input from /dev/null or a text, a process group of its own (so that Ctrl-C on the terminal is ours alone), and
 * limits on wall time and output. Death by a signal is an error of its own. A child dies with the
 * thread that started it (PR_SET_PDEATHSIG).
 */
#pragma once

#include <glib.h>

typedef struct {
    gint64 timeout_ms; /* wall time; 0 = 60 s. At the deadline the process group gets SIGKILL */
    gsize max_output;  /* bytes kept of each of stdout and stderr; 0 = 1 MiB. More is VR_ERROR_CHILD and kills it */
    gboolean
        begin_only; /* more than max_output kills it, and is no error: what came first is wanted. exit_status is then 0 */
    guint64 max_memory;  /* RLIMIT_AS in bytes; 0 = none */
    guint max_cpu_s;     /* RLIMIT_CPU in seconds; 0 = none */
    gboolean nobody;     /* when we are root: as user and group 65534 without any other group or privilege to gain */
    const char *input;   /* what it reads from standard input, to the end; NULL = nothing */
    int keep_fd;         /* above 2: this descriptor stays open in the child, under its own number; 0 = none */
    const gint *aborted; /* NULL, or set to non-zero by another thread: it is killed, and that is VR_ERROR_CANCELLED */
} VrChildLimits;

typedef struct {
    int exit_status; /* 0..255 */
    char *out, *err; /* NUL-terminated; owned */
    gsize out_length, err_length;
    int term_signal;   /* what killed it, also when FALSE is returned for that; 0 = none, or it was us */
    gboolean too_much; /* it said more than max_output: FALSE was returned for that */
} VrChildResult;

void vr_child_result_clear(VrChildResult *result);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(VrChildResult, vr_child_result_clear)

#define VR_CHILD_NOT_BEGUN 127 /* exit status of a program that could not be run */

/* Starts the program in file `path` in a session of its own: with our environment, our standard output and error, standard input from
 * /dev/null, and keep_fd (above 2) open. It outlives us. *pid is to be waited for by one who stays. A program that cannot be run ends with
 * VR_CHILD_NOT_BEGUN. */
gboolean vr_child_leave(const char *path, const char *const *argv, int keep_fd, GPid *pid, GError **error);

/* Starts the program in file `path` and lets go of it: it is a child of init's, in a session of its own and in /, with our environment and nothing but
 * /dev/null open. Whether it could be run nobody hears. */
gboolean vr_child_let_go(const char *path, const char *const *argv, GError **error);

/* What vr_child_hand_over() gives to a program; all are the caller's, and stay open here. */
typedef struct {
    const char *path;        /* the file */
    const char *const *argv; /* argv[0] too */
    const char *const *environment;
    int fds[3]; /* its standard input, output and error */
    int cwd;    /* a directory's descriptor, O_PATH will do; -1: / */
} VrChildGiven;

/* Starts a program that is somebody else's from then on: in a session of its own, with exactly these descriptors, this directory and this environment, and
 * with signals as they are by default. It outlives us. *pid is to be waited for by one who stays. A program that cannot be run ends with
 * VR_CHILD_NOT_BEGUN. */
gboolean vr_child_hand_over(const VrChildGiven *given, GPid *pid, GError **error);

/* Runs a program for a person, such as an editor, to its end: in our process group, with our environment, terminal and descriptors 0 to 2, and
 * for as long as it takes. argv[0] is looked up in PATH. A status other than 0 is VR_ERROR_CHILD. */
gboolean vr_child_attend(const char *const *argv, GError **error);

/* Runs argv[0] (looked up in PATH) to its end. TRUE for any exit status when result is given; with result NULL, a
 * status other than 0 is VR_ERROR_CHILD with the last line of stderr. limits may be NULL. */
gboolean vr_child_run(const char *const *argv, const VrChildLimits *limits, VrChildResult *result, GError **error);
