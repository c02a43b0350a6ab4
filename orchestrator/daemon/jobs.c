/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/daemon/jobs.h"

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "orchestrator/daemon/job_launch.h"
#include "orchestrator/job_environment.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#define MAX_READING 8
#define MAX_READING_UID 2

struct VrJobs {
    char *program, *socket, *uri, *root;
    guint max_jobs, max_reading, max_reading_uid;
    GPtrArray *running; /* VrJob * */
    gboolean stopping;
};

struct VrJob {
    VrJobs *jobs;
    VrJobLaunch *launch;
    VrJobEnded ended;
    void *data;
    guint timeout;
    uid_t uid;
    gboolean read_only, own;
};

static void job_free(VrJob *job)
{
    g_clear_handle_id(&job->timeout, g_source_remove);
    g_clear_pointer(&job->launch, vr_job_launch_free);
    g_free(job);
}

VrJobs *vr_jobs_new(const VrJobsConfig *config)
{
    VrJobs *jobs = g_new0(VrJobs, 1);

    jobs->program = g_strdup(config->program);
    jobs->socket = g_strdup(config->socket);
    jobs->uri = g_strdup(config->uri);
    jobs->root = g_strdup(config->root);
    jobs->max_jobs = config->max_jobs;
    jobs->max_reading = config->max_reading ? config->max_reading : MAX_READING;
    jobs->max_reading_uid = config->max_reading_uid ? config->max_reading_uid : MAX_READING_UID;
    jobs->running = g_ptr_array_new_with_free_func((GDestroyNotify)job_free);
    return jobs;
}

static void on_ended(int exit_status, void *data)
{
    VrJob *job = data;

    if (job->ended)
        job->ended(job, exit_status, job->data);
    g_ptr_array_remove_fast(job->jobs->running, job);
}

void vr_jobs_free(VrJobs *jobs)
{
    if (!jobs)
        return;
    while (jobs->running->len > 0)
        on_ended(VR_JOB_UNKNOWN, jobs->running->pdata[0]);
    g_ptr_array_unref(jobs->running);
    g_free(jobs->program);
    g_free(jobs->socket);
    g_free(jobs->uri);
    g_free(jobs->root);
    g_free(jobs);
}

const char *vr_jobs_uri(const VrJobs *jobs)
{
    return jobs->uri;
}

const char *vr_jobs_root(const VrJobs *jobs)
{
    return jobs->root;
}

/* ---- limits ---- */

static gboolean is_root(uid_t uid)
{
    return uid == 0 || uid == geteuid();
}

/* Jobs of the same kind of peer: root's are counted apart from all others', so that nobody else keeps root out. */
static guint count(const VrJobs *jobs, const VrJobRequest *like, gboolean same_user)
{
    guint n = 0;

    for (guint i = 0; i < jobs->running->len; i++) {
        const VrJob *job = jobs->running->pdata[i];
        n += !job->own && job->read_only == like->read_only && is_root(job->uid) == is_root(like->uid) &&
             (!same_user || job->uid == like->uid);
    }
    return n;
}

static gboolean may_start(const VrJobs *jobs, const VrJobRequest *request, GError **error)
{
    guint max = request->read_only ? jobs->max_reading : jobs->max_jobs;

    if (request->own)
        return TRUE;
    if (jobs->stopping)
        g_set_error(error, VR_ERROR, VR_ERROR_BUSY, "virt-reimaged is being stopped");
    else if (request->read_only && !is_root(request->uid) && count(jobs, request, TRUE) >= jobs->max_reading_uid)
        g_set_error(error, VR_ERROR, VR_ERROR_BUSY, "%u commands of this user are under way, and there may be no more",
                    jobs->max_reading_uid);
    else if (count(jobs, request, FALSE) >= max)
        g_set_error(error, VR_ERROR, VR_ERROR_BUSY, "%u commands are under way, and there may be no more", max);
    else
        return TRUE;
    vr_error_next(error, "give the command again in a moment");
    return FALSE;
}

/* ---- a job ---- */

static gboolean on_timeout(gpointer data)
{
    VrJob *job = data;

    job->timeout = 0;
    vr_debug("a job took too long and is killed");
    vr_job_signal(job, SIGKILL);
    return G_SOURCE_REMOVE;
}

/* What is there for all jobs, and then what the request gives, which cannot say otherwise. */
static char **environment_of(const VrJobs *jobs, const VrJobRequest *request)
{
    g_autoptr(GStrvBuilder) builder = g_strv_builder_new();
    g_autofree char *root = g_strconcat("VIRT_REIMAGE_JOB_ROOT=", jobs->root, NULL);
    g_autofree char *uri = g_strconcat("LIBVIRT_DEFAULT_URI=", jobs->uri, NULL);
    g_autofree char *uid = g_strdup_printf(VR_JOB_UID "=%u", (unsigned)request->uid);

    if (request->env)
        g_strv_builder_addv(builder, (const char **)(gpointer)request->env);
    g_strv_builder_add(builder, request->read_only ? "VIRT_REIMAGE_JOB=ro" : "VIRT_REIMAGE_JOB=1");
    if (!request->own && !is_root(request->uid))
        g_strv_builder_add(builder, uid);
    if (jobs->root)
        g_strv_builder_add(builder, root);
    if (jobs->uri)
        g_strv_builder_add(builder, uri);
    return g_strv_builder_end(builder);
}

static gboolean is_socket(const char *path)
{
    return path && g_file_test(path, G_FILE_TEST_EXISTS);
}

static VrJobLaunch *launch(const VrJobs *jobs, const VrJobRequest *request, VrJob *job, GError **error)
{
    vr_autofd null = open("/dev/null", O_RDWR | O_CLOEXEC);
    g_auto(GStrv) env = environment_of(jobs, request);
    VrJobLaunchRequest launch = {.program = jobs->program,
                                 .socket = is_socket(jobs->socket) ? jobs->socket : NULL,
                                 .argv = request->argv,
                                 .env = (const char *const *)env,
                                 .cwd = request->cwd};

    for (guint i = 0; i < G_N_ELEMENTS(launch.fds); i++)
        launch.fds[i] = request->fds[i] < 0 ? null : request->fds[i];
    return vr_job_launch(&launch, on_ended, job, error);
}

VrJob *vr_jobs_start(VrJobs *jobs, const VrJobRequest *request, VrJobEnded ended, void *data, GError **error)
{
    VrJob *job;

    if (!may_start(jobs, request, error))
        return NULL;
    job = g_new0(VrJob, 1);
    job->jobs = jobs;
    job->ended = ended;
    job->data = data;
    job->uid = request->uid;
    job->read_only = request->read_only;
    job->own = request->own;
    job->launch = launch(jobs, request, job, error);
    if (!job->launch) {
        job_free(job);
        return NULL;
    }
    g_autofree char *words = g_strjoinv(" ", (char **)request->argv);
    vr_debug("a job of uid %u begins%s: %s", (unsigned)request->uid, request->own ? ", of the daemon's own" : "",
             words);
    if (request->timeout_ms > 0)
        job->timeout = g_timeout_add((guint)MIN(request->timeout_ms, G_MAXINT), on_timeout, job);
    g_ptr_array_add(jobs->running, job);
    return job;
}

void vr_job_signal(VrJob *job, int number)
{
    vr_job_launch_signal(job->launch, number);
}

void vr_job_forget(VrJob *job)
{
    job->ended = NULL;
}

guint vr_jobs_running(const VrJobs *jobs)
{
    return jobs->running->len;
}

void vr_jobs_stop(VrJobs *jobs)
{
    jobs->stopping = TRUE;
}

void vr_jobs_signal(VrJobs *jobs, int number)
{
    for (guint i = 0; i < jobs->running->len; i++)
        vr_job_signal(jobs->running->pdata[i], number);
}
