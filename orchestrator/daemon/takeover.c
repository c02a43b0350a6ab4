/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/daemon/takeover.h"

#include "base/log.h"
#include "orchestrator/daemon/run_workers.h"

#include <jansson.h>
#include <signal.h>
#include <unistd.h>

#define MESSAGE_TAKEN "5d1b0c0f9f0c4a5d8a3c3b1f6f0a7e21"
#define MESSAGE_LEFT "0f6b7f6a1d3c4c0db7a9d1c5e2b84f93"
#define RETRY_S 30
#define RETRIES 10
#define STEP_MS 250 /* of the wait for the end */
#define SECOND_S 15 /* until what is no run hears it again */
#define ANSWER_MAX (16 * 1024 * 1024)

struct VrTakeover {
    VrService *service;
    VrJobs *jobs;
    char *root;
    GQueue *sets;  /* char *, still to be looked at */
    char *set;     /* that is looked at */
    GQueue *later; /* char *, whose libvirt could not be reached */
    guint tries, timer;
    VrJobCapture *job;
    /* the stop */
    guint hold, steps;
};

static void look_at_next(VrTakeover *takeover);

/* ---- jobs ---- */

static void start(VrTakeover *takeover, const char *const *argv, VrJobCaptured ended)
{
    const VrJobRequest request = {.argv = argv, .fds = {-1, -1, -1}, .cwd = -1, .own = TRUE};
    g_autoptr(GError) local = NULL;

    takeover->job = vr_jobs_capture(takeover->jobs, &request, ended, takeover, &local);
    if (!takeover->job)
        vr_warning(takeover->set, "what is open was not looked at: %s", local->message);
}

static json_t *document_of(const VrJobOutput *output)
{
    gsize size = (gsize)MIN(output->out_size, ANSWER_MAX);
    g_autofree char *text = g_malloc(size + 1);
    ssize_t got = pread(output->out, text, size, 0);

    return got > 0 ? json_loadb(text, (gsize)got, 0, NULL) : NULL;
}

static gboolean is_unreachable(const VrJobOutput *output)
{
    return g_strcmp0(output->code, "Disconnected") == 0 || g_strcmp0(output->code, "Timeout") == 0;
}

/* ---- taking over ---- */

/* Said once: nothing here tries it again, but for a libvirt that is not there yet. */
static void report_failure(VrTakeover *takeover, const VrJobOutput *output, const char *what)
{
    const char *why = output->message ? output->message : "it gave no reason";

    if (is_unreachable(output) && takeover->tries < RETRIES) {
        g_queue_push_tail(takeover->later, g_strdup(takeover->set));
        return;
    }
    vr_log(VR_LOG_WARNING, MESSAGE_LEFT, takeover->set,
           "what was open when the daemon began stays so: %s: %s; 'virt-reimage status %s' shows it", what, why,
           takeover->set);
}

static void on_taken(VrJobOutput *output, void *data)
{
    VrTakeover *takeover = data;

    takeover->job = NULL;
    if (output->exit_status == 0)
        vr_log(VR_LOG_INFO, MESSAGE_TAKEN, takeover->set, "what was open when the daemon began is taken over");
    else
        report_failure(takeover, output, "it cannot be taken over");
    look_at_next(takeover);
}

static gboolean is_paused(const json_t *run)
{
    return json_is_true(json_object_get(run, "pauseRequested")) ||
           g_strcmp0(json_string_value(json_object_get(run, "hold")), "paused") == 0;
}

/* What is to be done about a set by its status; NULL: nothing is open, or somebody works on it. */
static const char *verb_for(const json_t *status)
{
    const json_t *run = json_object_get(status, "openRun");
    gboolean open_swaps = json_integer_value(json_object_get(status, "openSwapCount")) > 0;

    if (json_is_string(json_object_get(status, "lockHolder")))
        return NULL;
    if (json_is_object(run) && json_is_true(json_object_get(run, "detached")))
        return is_paused(run) ? "pause" : "resume";
    return json_is_object(run) || open_swaps ? "recover" : NULL;
}

static void on_status(VrJobOutput *output, void *data)
{
    VrTakeover *takeover = data;
    json_t *status = output->exit_status == 0 ? document_of(output) : NULL;
    const char *verb = status ? verb_for(status) : NULL;
    const char *argv[] = {verb, "--", takeover->set, NULL};

    takeover->job = NULL;
    if (!status)
        report_failure(takeover, output, "its status cannot be read");
    json_decref(status);
    if (verb)
        start(takeover, argv, on_taken);
    if (!takeover->job)
        look_at_next(takeover);
}

static gboolean try_again(gpointer data)
{
    VrTakeover *takeover = data;

    takeover->timer = 0;
    takeover->tries++;
    while (!g_queue_is_empty(takeover->later))
        g_queue_push_tail(takeover->sets, g_queue_pop_head(takeover->later));
    look_at_next(takeover);
    return G_SOURCE_REMOVE;
}

static void look_at_next(VrTakeover *takeover)
{
    const char *argv[] = {"status", "--json", "--", NULL, NULL};

    g_clear_pointer(&takeover->set, g_free);
    while (!takeover->job && !vr_service_stopping(takeover->service) &&
           (takeover->set = g_queue_pop_head(takeover->sets))) {
        argv[3] = takeover->set;
        start(takeover, argv, on_status);
        if (!takeover->job)
            g_clear_pointer(&takeover->set, g_free);
    }
    if (!takeover->job && !g_queue_is_empty(takeover->later) && takeover->timer == 0)
        takeover->timer = g_timeout_add_seconds(RETRY_S, try_again, takeover);
}

/* A store that is not there yet has no sets. */
static void on_sets(VrJobOutput *output, void *data)
{
    VrTakeover *takeover = data;
    json_t *sets = document_of(output), *set;
    const json_t *list = json_is_array(sets) ? sets : json_object_get(sets, "sets");
    gsize i;

    takeover->job = NULL;
    if (output->exit_status != 0 && g_strcmp0(output->code, "NotFound") != 0 && !vr_service_stopping(takeover->service))
        vr_warning(NULL, "what is open was not looked at: %s",
                   output->message ? output->message : "no reason was given");
    json_array_foreach(list, i, set)
    {
        const char *name = json_string_value(json_object_get(set, "name"));
        if (name)
            g_queue_push_tail(takeover->sets, g_strdup(name));
    }
    json_decref(sets);
    look_at_next(takeover);
}

/* ---- the stop ---- */

static gboolean wait_for_end(gpointer data)
{
    VrTakeover *takeover = data;
    guint running = vr_jobs_running(takeover->jobs), workers = vr_run_workers_signal(takeover->root, 0);
    g_autofree char *why = NULL;

    if (running + workers == 0) {
        takeover->timer = 0;
        vr_service_release(takeover->service, takeover->hold);
        return G_SOURCE_REMOVE;
    }
    if (++takeover->steps == SECOND_S * 1000 / STEP_MS)
        vr_jobs_signal(takeover->jobs, SIGTERM);
    why = g_strdup_printf("%u command%s and %u run%s come to an end or to a batch border", running,
                          running == 1 ? "" : "s", workers, workers == 1 ? "" : "s");
    (void)vr_service_hold(takeover->service, takeover->hold, why);
    return G_SOURCE_CONTINUE;
}

static void stop(void *data)
{
    VrTakeover *takeover = data;

    g_clear_handle_id(&takeover->timer, g_source_remove);
    vr_jobs_stop(takeover->jobs);
    vr_jobs_signal(takeover->jobs, SIGTERM);
    (void)vr_run_workers_signal(takeover->root, SIGTERM);
    takeover->hold = vr_service_hold(takeover->service, 0, "runs come to their batch border");
    takeover->timer = g_timeout_add(STEP_MS, wait_for_end, takeover);
}

/* ---- its life ---- */

VrTakeover *vr_takeover_new(VrService *service, VrJobs *jobs, const char *root)
{
    static const char *const argv[] = {"set-list", "--json", NULL};
    VrTakeover *takeover = g_new0(VrTakeover, 1);

    takeover->service = service;
    takeover->jobs = jobs;
    takeover->root = g_strdup(root);
    takeover->sets = g_queue_new();
    takeover->later = g_queue_new();
    vr_service_add_stop(service, stop, takeover);
    start(takeover, argv, on_sets);
    return takeover;
}

void vr_takeover_free(VrTakeover *takeover)
{
    if (!takeover)
        return;
    g_clear_handle_id(&takeover->timer, g_source_remove);
    if (takeover->job)
        vr_job_capture_forget(takeover->job);
    g_queue_free_full(takeover->sets, g_free);
    g_queue_free_full(takeover->later, g_free);
    g_free(takeover->set);
    g_free(takeover->root);
    g_free(takeover);
}
