/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The process of a job, in one of two ways. With a socket (virt-reimage-job.socket) the service manager makes a unit of its own of it: our end of the
 * connection is all that we have of the job, and its end is no end of the job. Without one it is our child, in a session of its own.
 *
 * A socket that is there and at which nobody listens is an error, and no child is made instead: the daemon's own unit is shut in so far that a job in it would
 * fail somewhere on its way.
 */
#pragma once

#include <glib.h>

typedef struct VrJobLaunch VrJobLaunch;

typedef struct {
    const char *program;     /* the file */
    const char *socket;      /* NULL: a child */
    const char *const *argv; /* without the program's name */
    const char *const *env;  /* NAME=VALUE beside what it inherits (job_environment.h) */
    int fds[3];              /* all there; copies are made */
    int cwd;                 /* -1: / */
    guint begin_ms;          /* for a unit to begin; 0: 90 s, as the service manager has */
} VrJobLaunchRequest;

/* exit_status as VrJobEnded has it. Once, from the main loop. */
typedef void (*VrJobLaunchEnded)(int exit_status, void *data);

/* VR_ERROR_DISCONNECTED: nobody listens at the socket. VR_ERROR_BUSY: too many wait there. */
VrJobLaunch *vr_job_launch(const VrJobLaunchRequest *request, VrJobLaunchEnded ended, void *data, GError **error);
void vr_job_launch_signal(VrJobLaunch *launch, int number);

/* The process, if it still runs, goes on; its end is not heard of. */
void vr_job_launch_free(VrJobLaunch *launch);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrJobLaunch, vr_job_launch_free)
