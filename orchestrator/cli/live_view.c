/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/cli/live_view.h"

#include "base/clock.h"
#include "base/error.h"
#include "orchestrator/cli/output.h"
#include "orchestrator/cli/signals.h"
#include "orchestrator/cli/worker.h"
#include "orchestrator/live/changes.h"
#include "orchestrator/live/screen.h"
#include "orchestrator/live/watch.h"

#include <stdio.h>
#include <unistd.h>

#define LOOK_US 250000

struct VrLiveView {
    VrSession session;
    VrLiveSource *source;
    VrWatch *watch;
};

gboolean vr_live_view_can(const VrCli *cli)
{
    const VrCliOptions *options = &cli->options;

    return !options->json && !options->quiet && !options->plain && !vr_worker_is(cli) && vr_screen_can(STDOUT_FILENO);
}

static VrSnapshot *read_source(void *data)
{
    g_autoptr(GError) local = NULL;

    return vr_live_source_read(data, &local); /* a busy database is read the next time */
}

VrLiveView *vr_live_view_begin(const VrSession *session, const VrRun *run)
{
    g_autoptr(VrLiveView) view = g_new0(VrLiveView, 1); /* ends what has begun of it */
    VrWatchOptions options = {.fd = STDOUT_FILENO, .read = read_source};

    if (!vr_session_open_read(&view->session, session->cli, NULL))
        return NULL;
    fflush(stdout);
    view->source = vr_live_source_new(view->session.store, view->session.journal, session->set, run->id);
    options.data = view->source;
    view->watch = vr_watch_begin(&options);
    return view->watch ? g_steal_pointer(&view) : NULL;
}

void vr_live_view_end(VrLiveView *view)
{
    if (!view)
        return;
    vr_watch_end(view->watch);
    vr_live_source_free(view->source);
    vr_session_clear(&view->session);
    g_free(view);
}

/* ---- of any run ---- */

static void watch_lines(VrLiveSource *source, const gint *cancelled)
{
    g_autoptr(VrSnapshot) before = NULL;

    while (!g_atomic_int_get(cancelled) && !ferror(stdout)) {
        VrSnapshot *now = read_source(source);
        if (now) {
            g_autofree char *text = vr_live_changes(before, now, vr_clock_wall_us());
            fputs(text, stdout);
            fflush(stdout);
            vr_snapshot_free(before);
            before = now;
        }
        if (now && (now->ended || !now->has_process))
            return;
        g_usleep(LOOK_US);
    }
}

static void watch_run(const VrSession *session, const VrRun *run)
{
    g_autoptr(VrLiveSource) source = vr_live_source_new(session->store, session->journal, session->set, run->id);
    gint cancelled = 0;
    const VrWatchOptions options = {
        .fd = STDOUT_FILENO, .read = read_source, .data = source, .attached = TRUE, .cancelled = &cancelled};

    vr_signals_set_flag(&cancelled);
    if (vr_live_view_can(session->cli))
        vr_watch(&options);
    else
        watch_lines(source, &cancelled);
    vr_signals_set_flag(NULL);
}

gboolean vr_live_view_watch(const VrCli *cli, GError **error)
{
    g_auto(VrSession) session = {0};
    g_autoptr(GError) local = NULL;
    g_autoptr(VrRun) run = NULL;

    if (cli->options.json) {
        g_set_error(error, VR_ERROR, VR_ERROR_USAGE, "status: --watch is for people, and does not go with --json");
        vr_error_next(error, "'%s --json status %s' answers once", VR_PROGRAM, cli->args[0]);
        return FALSE;
    }
    if (!vr_session_open_read(&session, cli, error) || !vr_session_read_set(&session, cli->args[0], error))
        return FALSE;
    run = vr_history_last(vr_store_db(session.store), session.set->name, &local);
    if (local) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    if (run)
        watch_run(&session, run);
    else
        vr_say(cli, "set %s: no run yet; '%s upgrade %s' begins one", session.set->name, VR_PROGRAM, session.set->name);
    return TRUE;
}
