/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/cli/run_process.h"

#include "base/durable.h"
#include "base/error.h"
#include "base/fd.h"
#include "orchestrator/cli/live_view.h"
#include "orchestrator/cli/notices.h"
#include "orchestrator/cli/output.h"
#include "orchestrator/cli/progress.h"
#include "orchestrator/cli/signals.h"
#include "orchestrator/cli/worker.h"
#include "orchestrator/control.h"

#include <fcntl.h>

#define WAIT_MS 200

typedef struct {
    VrProgressView view;
    const VrSession *session;
    VrExecutor *executor;
    VrControlServer *server;
    gboolean is_live; /* there is a terminal to draw the run on */
    VrLiveView *live; /* that; NULL: there is none, or it is not drawn now */
    gboolean goes_on; /* with a run that is older than this process */
    GError *failed;   /* why a worker cannot go on */
} Process;

int vr_run_dir(const VrSession *session, GError **error)
{
    g_autofree char *path = g_build_filename("run", session->set->name, NULL);

    return vr_open_beneath(vr_store_root_fd(session->store), path, O_RDONLY | O_DIRECTORY, 0, error);
}

static int make_run_dir(const VrSession *session, GError **error)
{
    g_autofree char *path = g_build_filename("run", session->set->name, NULL);
    vr_autofd parent = vr_mkdir_beneath(vr_store_root_fd(session->store), "run", 0700, error);

    return parent < 0 ? -1 : vr_mkdir_beneath(vr_store_root_fd(session->store), path, 0700, error);
}

gboolean vr_run_where(const VrSession *session, const VrRun *run, VrRunState *state, gboolean *answers, GError **error)
{
    vr_autofd dir = vr_session_is_owned(session, run->set_name, NULL) ? vr_run_dir(session, NULL) : -1;
    g_autofree char *said = dir >= 0 ? vr_control_look(dir, run->set_name, NULL) : NULL;

    if (answers)
        *answers = said != NULL;
    return vr_run_state_read(state, said ? said : run->state, error);
}

/* The run has its number: from here on others can speak to it. One in the foreground goes on without that. */
static gboolean open_to_others(Process *process, const VrRun *run, GError **error)
{
    vr_autofd dir = make_run_dir(process->session, error);

    if (dir < 0)
        return FALSE;
    process->server = vr_control_server_new(dir, run, process->executor, error);
    return process->server && (!vr_worker_is(process->session->cli) ||
                               vr_worker_ready(process->session->cli, dir, !process->goes_on, error));
}

static void begun(Process *process, const VrRun *run)
{
    g_autoptr(GError) local = NULL;

    if (open_to_others(process, run, &local))
        return;
    if (!vr_worker_is(process->session->cli)) {
        vr_warn(process->session->cli, "%s; no other command can pause or end this run", local->message);
        return;
    }
    if (process->goes_on) {
        g_prefix_error(&local, "run %s of '%s' stays open: ", run->id, run->set_name);
        vr_executor_leave(process->executor);
    } else {
        vr_executor_cancel(process->executor, TRUE);
    }
    process->failed = g_steal_pointer(&local);
}

/* As a view, or as lines. What there is to say at the end of a run comes below the view's last frame. */
static void show(const VrProgress *progress, void *data)
{
    Process *process = data;
    gboolean begins = progress->kind == VR_PROGRESS_RUN;

    if (progress->kind == VR_PROGRESS_END) {
        process->view.drawn = process->live != NULL;
        g_clear_pointer(&process->live, vr_live_view_end);
    }
    if (!process->live && !(begins && process->is_live))
        vr_progress_show(progress, &process->view);
    if (!begins)
        return;
    begun(process, progress->run);
    vr_notices_leave(process->session->cli); /* that it has begun is told now, and not at its end */
    if (process->is_live)
        process->live = vr_live_view_begin(process->session, progress->run);
    if (process->is_live && !process->live)
        vr_progress_show(progress, &process->view);
}

gboolean vr_run_process(const VrSession *session, const VrTargets *targets, const VrRunRequest *asked, VrEventType say,
                        guint domain, GError **error)
{
    Process process = {.view = {.cli = session->cli, .session = session, .targets = targets},
                       .session = session,
                       .is_live = vr_live_view_can(session->cli),
                       .goes_on = asked->goes_on != NULL};
    g_autoptr(VrRun) run = NULL;
    g_autoptr(VrExtensions) extensions = NULL;
    g_autoptr(VrOsContent) os_content = NULL;
    VrRunRequest request = *asked;
    gboolean ok;

    if (request.kind != VR_RUN_ROLLBACK) { /* which goes back to a disk that has them */
        extensions = vr_extensions_load(session->set->model, error);
        if (!extensions || !vr_os_content_load(session->set->model, &os_content, error) ||
            (os_content && !vr_os_content_prepare(os_content, session->store, error))) {
            vr_run_free(request.goes_on);
            return FALSE;
        }
    }
    process.view.goes_on = process.goes_on;
    request.request_id = session->cli->request;
    request.extensions = extensions;
    request.os_content = os_content;
    request.set = session->set;
    request.image = targets->image;
    request.targets = targets->targets;
    request.outside = session->outside;
    request.progress = show;
    request.progress_data = &process;
    process.executor = vr_executor_new(&session->engine, &request);
    if (say != VR_EVENT_START)
        vr_executor_say(process.executor, say, domain);
    vr_signals_set_run(process.executor, request.detached);
    ok = vr_executor_run(process.executor, &run, error);
    vr_live_view_end(process.live); /* of one that has not ended */
    vr_signals_set_run(NULL, FALSE);
    vr_control_server_free(process.server);
    vr_executor_free(process.executor);
    if (process.failed) {
        g_clear_error(error);
        g_propagate_error(error, process.failed);
        return FALSE;
    }
    return ok;
}

/* ---- saying something to the one that is open ---- */

gboolean vr_run_say(const VrSession *session, int dir, const char *set_name, VrEventType type, guint domain,
                    char **text, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autofree char *holder = NULL, *advice = NULL;

    if (vr_control_say(dir, set_name, type, domain, text, &local))
        return TRUE;
    if (!g_error_matches(local, VR_ERROR, VR_ERROR_TIMEOUT) || !vr_session_is_owned(session, set_name, &holder)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    advice = vr_owner_advice(set_name, holder);
    g_set_error(error, VR_ERROR, VR_ERROR_TIMEOUT,
                "set '%s' is held by %s, which does not answer, and may hear this later", set_name, holder);
    vr_error_next(error, "%s", advice);
    return FALSE;
}

/* ---- ending the one that is open ---- */

static gboolean end_process(const VrSession *session, const VrRun *run, VrEventType how, GError **error)
{
    vr_autofd dir = vr_run_dir(session, error);
    g_autoptr(GError) local = NULL;
    g_autofree char *text = NULL;

    if (dir < 0)
        return FALSE;
    if (vr_run_say(session, dir, run->set_name, how, 0, &text, &local)) {
        vr_tell(session->cli, "ending run %s first: %s", run->id, text);
    } else if (g_error_matches(local, VR_ERROR, VR_ERROR_CONFLICT)) {
        vr_tell(session->cli, "waiting for the process of run %s: %s", run->id,
                local->message); /* its end came first */
    } else {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    while (vr_session_is_owned(session, run->set_name, NULL))
        g_usleep(WAIT_MS * 1000);
    return TRUE;
}

gboolean vr_run_end_open(const VrCli *cli, VrEventType how, gboolean for_rollback, VrRun **ended, GError **error)
{
    g_auto(VrSession) session = {0};
    g_autoptr(GError) local = NULL;
    g_autoptr(VrRun) run = NULL;

    *ended = NULL;
    if (!vr_session_open_read(&session, cli, error) || !vr_session_read_any_set(&session, cli->args[0], error))
        return FALSE;
    run = vr_history_open(vr_store_db(session.store), session.set->name, &local);
    if (local) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    if (run && for_rollback &&
        (run->kind == VR_RUN_ROLLBACK || (cli->options.run && !g_str_equal(cli->options.run, run->id)))) {
        g_set_error(error, VR_ERROR, VR_ERROR_BUSY, "set '%s': run %s (%s) is open", run->set_name, run->id,
                    vr_run_kind_name(run->kind));
        vr_error_next(error, "wait until it ends, or end it with '%s cancel %s'", VR_PROGRAM, run->set_name);
        return FALSE;
    }
    if (run && vr_session_is_owned(&session, run->set_name, NULL) && !end_process(&session, run, how, &local) &&
        !g_error_matches(local, VR_ERROR, VR_ERROR_DISCONNECTED)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    *ended = g_steal_pointer(&run);
    return TRUE;
}
