/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Jobs: what the daemon does for a peer or by itself is a process of virt-reimage, never a call in the daemon. So nothing that a job
 * does, waits for or dies of reaches the main loop, the same words give the same answer through every door, and a daemon that dies
 * takes no job with it.
 *
 * A job is started in a unit of its own where VrJobsConfig.socket is served (virt-reimage-job.socket), else as a child of the daemon,
 * with a session of its own and without a death signal. All calls are of the thread of the main loop, and so are all callbacks, which
 * never come from within the call that starts a job.
 */
#pragma once

#include "orchestrator/fd_lines.h"

#include <glib.h>
#include <sys/types.h>

typedef struct VrJobs VrJobs;
typedef struct VrJob VrJob;

typedef struct {
    const char *program;   /* the file of virt-reimage, absolute */
    const char *socket;    /* of virt-reimage-job.socket; NULL or not there: own children */
    const char *uri;       /* each job is told it as LIBVIRT_DEFAULT_URI; NULL: as virsh chooses */
    const char *root;      /* ... and this as VIRT_REIMAGE_JOB_ROOT (cli/job.h); absolute; NULL: by the URI */
    guint max_jobs;        /* of peers at once, and of root as many more; a run that goes on detached is none */
    guint max_reading;     /* beside them, those of the read-only socket; 0: 8 */
    guint max_reading_uid; /* ... those of one user; 0: 2 */
} VrJobsConfig;

typedef struct {
    const char *const *argv; /* the words after the program's name */
    const char *const
        *env;          /* NAME=VALUE, NULL-terminated, beside VIRT_REIMAGE_JOB=1 and what the daemon has; may be NULL */
    int fds[3];        /* standard input, output, error; the job gets copies; -1 = /dev/null */
    int cwd;           /* a directory's descriptor; -1: / */
    gint64 timeout_ms; /* then SIGKILL; 0: none */
    uid_t uid;         /* of the peer, for the limits */
    gboolean read_only; /* came by the read-only socket */
    gboolean own;       /* the daemon's own: counts for no limit, and is started while it stops */
} VrJobRequest;

/* exit_status: 0..255, 128+N where signal N killed it, VR_JOB_UNKNOWN or VR_JOB_NOT_BEGUN (orchestrator/fd_lines.h). The job is freed after it. */
typedef void (*VrJobEnded)(VrJob *job, int exit_status, void *data);

/* Copies what config says. */
VrJobs *vr_jobs_new(const VrJobsConfig *config);

/* Jobs that run go on without us: `ended` is called for each, with VR_JOB_UNKNOWN. */
void vr_jobs_free(VrJobs *jobs);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrJobs, vr_jobs_free)

/* What the jobs are told; as in VrJobsConfig. */
const char *vr_jobs_uri(const VrJobs *jobs);
const char *vr_jobs_root(const VrJobs *jobs);

/* Borrowed, until `ended` was called. VR_ERROR_BUSY: as many run as may, or the daemon stops (vr_jobs_stop()). ended may be NULL. */
VrJob *vr_jobs_start(VrJobs *jobs, const VrJobRequest *request, VrJobEnded ended, void *data, GError **error);

/* To the job's process alone. */
void vr_job_signal(VrJob *job, int signal);

/* Nobody wants to hear of its end any more: `ended` is not called. The job goes on. */
void vr_job_forget(VrJob *job);

/* Jobs that run now: `own` are counted too. */
guint vr_jobs_running(const VrJobs *jobs);

/* To all that run. */
void vr_jobs_signal(VrJobs *jobs, int signal);

/* From now on only jobs of the daemon's own are started. */
void vr_jobs_stop(VrJobs *jobs);

/* ---- a job whose output is wanted (job_capture.c) ---- */

typedef struct {
    int exit_status; /* as VrJobEnded */
    int out; /* a file in memory with all of its standard output, at its begin; the callback may steal it (vr_fd_steal()) */
    guint64 out_size;    /* bytes */
    GError *error;       /* what it said on standard error at its end; NULL: nothing; of the callback to steal */
    const char *message; /* of error, printable; NULL: there is none */
    const char *code;    /* the name of its error (vr_error_name()); NULL: it said none */
} VrJobOutput;

typedef void (*VrJobCaptured)(VrJobOutput *output, void *data);

typedef struct VrJobCapture VrJobCapture;

/* vr_jobs_start(), with standard output and error collected in files in memory, of 64 MiB at most each: what says more has exit status 1 and
 * nothing in out. fds[1] and fds[2] are ignored. The job's environment has VIRT_REIMAGE_ERROR_JSON=1, which asks main()'s report() for
 * its error in one line of JSON (orchestrator/error_json.h). */
VrJobCapture *vr_jobs_capture(VrJobs *jobs, const VrJobRequest *request, VrJobCaptured captured, void *data,
                              GError **error);

/* Nobody wants to hear of it any more: `captured` is not called. The job goes on. */
void vr_job_capture_forget(VrJobCapture *capture);
