/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * pause, resume, cancel, walk, promote, approve: a person's word to the run of a set. Where a process works on the run, it answers over its
 * socket. Where the run is open and its process is gone, a new one goes on with it. A pause, its end and an approval come before its first step; a
 * walk and a promote fit only where it waits, so they are said to the new one, which answers them. A cancel needs none.
 */
#include "base/error.h"
#include "base/fd.h"
#include "orchestrator/cli/output.h"
#include "orchestrator/cli/run_process.h"
#include "orchestrator/cli/worker.h"

typedef struct {
    VrEventType event;
    guint domain;
} Word;

/* The one document of these commands. text: what became of the word, or would. */
static void answer(const VrCli *cli, const char *name, const char *text)
{
    if (cli->options.json)
        vr_json_print(
            json_pack("{s:s, s:b, s:o}", "set", name, "dryRun", cli->options.dry_run, "message", vr_json_text(text)));
    else
        vr_say(cli, "set %s: %s", name, text);
}

/* ---- to the process that works on it ---- */

static gboolean say_there(const VrSession *session, const char *name, const Word *word, GError **error)
{
    vr_autofd dir = vr_run_dir(session, error);
    g_autoptr(GError) local = NULL;
    g_autofree char *text = NULL, *holder = NULL;

    if (dir < 0)
        return FALSE;
    if (vr_run_say(session, dir, name, word->event, word->domain, &text, &local)) {
        answer(session->cli, name, text);
        return TRUE;
    }
    if (!g_error_matches(local, VR_ERROR, VR_ERROR_DISCONNECTED)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    (void)vr_session_is_owned(session, name, &holder);
    g_set_error(error, VR_ERROR, VR_ERROR_BUSY, "set '%s' is held by %s, and no run listens there", name,
                holder ? holder : "nobody any more");
    vr_error_next(error, "wait until it ends");
    return FALSE;
}

/* ---- without one ---- */

static VrRun *open_run(const VrSession *session, GError **error)
{
    g_autoptr(GError) local = NULL;
    VrRun *run = vr_history_open(vr_store_db(session->store), session->set->name, &local);

    if (local)
        g_propagate_error(error, g_steal_pointer(&local));
    else if (!run) {
        g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "set '%s': no run is open", session->set->name);
        vr_error_next(error, "'%s history %s' lists those that there were", VR_PROGRAM, session->set->name);
    }
    return run;
}

/* A word that no executor hears as a person's: it is in the audit all the same. */
static gboolean note_word(const VrSession *session, const char *run_id, VrEventType event, GError **error)
{
    g_autofree char *line =
        g_strdup_printf("%s by %s", vr_operation_name(vr_operation_of_event(event)), g_get_user_name());

    return vr_journal_event(session->journal, session->owner, run_id, NULL, "control", line, error);
}

static gboolean end_here(const VrCli *cli, GError **error)
{
    g_auto(VrSession) session = {.open_run = VR_OPEN_RUN_KEEP};
    g_autoptr(VrRun) run = NULL;
    g_autofree char *text = NULL;

    if (!vr_session_open_write(&session, cli, error) || !vr_session_take_any_set(&session, cli->args[0], error))
        return FALSE;
    run = open_run(&session, error);
    if (!run || !note_word(&session, run->id, VR_EVENT_CANCEL, error) || !vr_session_close_run(&session, run, error))
        return FALSE;
    text = g_strdup_printf("run %s, which had no process any more, is cancelled", run->id);
    answer(cli, run->set_name, text);
    return TRUE;
}

/* The version that each instance was to be moved to, where they differ. */
static gboolean give_images(VrTargets *targets, const VrSession *session, const VrRun *run, GError **error)
{
    for (guint i = 0; i < targets->count; i++) {
        const VrRunInstance *past = g_ptr_array_index(run->instances, i);
        if (!past->version)
            continue;
        targets->targets[i].image = vr_targets_stored(targets, session, past->image, past->version, error);
        if (!targets->targets[i].image)
            return FALSE;
    }
    return TRUE;
}

static gboolean comes_first(VrEventType event)
{
    return event != VR_EVENT_WALK && event != VR_EVENT_PROMOTE;
}

static gboolean go_on(const VrSession *session, VrRun **open, const Word *word, GError **error)
{
    VrRun *run = *open;
    g_auto(VrTargets) targets = {0};
    VrRunRequest request = {0};

    if (!vr_targets_init(&targets, session, run->kind, error) ||
        !vr_executor_past(session->set, run, targets.targets, &request, error) ||
        !give_images(&targets, session, run, error))
        return FALSE;
    if (run->version) {
        targets.image = vr_store_get(session->store, run->image, run->version, error);
        if (!targets.image)
            return FALSE;
    }
    for (guint i = 0; i < targets.count; i++)
        targets.chosen += targets.targets[i].chosen ? 1 : 0;
    if (comes_first(word->event) && !note_word(session, run->id, word->event, error))
        return FALSE;
    request.goes_on = g_steal_pointer(open);
    return vr_run_process(session, &targets, &request, comes_first(word->event) ? word->event : VR_EVENT_START,
                          word->domain, error);
}

static gboolean work_on(const VrCli *cli, const Word *word, GError **error)
{
    g_auto(VrSession) session = {.open_run = VR_OPEN_RUN_KEEP};
    g_autoptr(VrRun) run = NULL;

    if (!vr_session_open_write(&session, cli, error) || !vr_session_take_set(&session, cli->args[0], error))
        return FALSE;
    run = open_run(&session, error);
    return run && go_on(&session, &run, word, error);
}

static gboolean open_any(VrSession *session, const VrCli *cli, GError **error)
{
    if (!vr_session_open_read(session, cli, error))
        return FALSE;
    session->set = vr_registry_get_any(vr_store_db(session->store), cli->args[0], error);
    return session->set != NULL;
}

static gboolean restart(const VrCli *cli, const VrRun *run, const Word *word, GError **error)
{
    g_auto(VrSession) session = {0};
    g_autofree char *text =
        g_strdup_printf("run %s goes on; '%s status %s' shows it", run->id, VR_PROGRAM, run->set_name);

    if (!vr_worker_start(cli, error))
        return FALSE;
    if (comes_first(word->event)) {
        answer(cli, run->set_name, text);
        return TRUE;
    }
    vr_say(cli, "set %s: %s", run->set_name, text);
    return open_any(&session, cli, error) && say_there(&session, cli->args[0], word, error);
}

static gboolean say_interrupted(const VrCli *cli, const VrRun *run, const Word *word, GError **error)
{
    VrOperation operation = vr_operation_of_event(word->event);

    switch (vr_run_answer(operation, VR_POINT_INTERRUPTED)) {
    case VR_ANSWER_NOW:
        return end_here(cli, error);
    case VR_ANSWER_RESTARTS:
        return restart(cli, run, word, error);
    default:
        g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "set '%s': run %s: %s", run->set_name, run->id,
                    vr_run_refusal(operation, VR_POINT_INTERRUPTED));
        return FALSE;
    }
}

/* ---- the commands ---- */

/* --dry-run */
static gboolean say_what_would_be(const VrSession *session, const VrRun *run, VrEventType event, GError **error)
{
    VrOperation operation = vr_operation_of_event(event);
    g_auto(VrRunState) state = {.point = VR_POINT_INTERRUPTED};
    g_autofree char *text = NULL;
    VrAnswer given;

    if (vr_session_is_owned(session, run->set_name, NULL) && !vr_run_where(session, run, &state, NULL, error))
        return FALSE;
    given = vr_run_answer(operation, state.point);
    if (given == VR_ANSWER_REFUSED) {
        g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "set '%s': run %s: %s", run->set_name, run->id,
                    vr_run_refusal(operation, state.point));
        return FALSE;
    }
    text = g_strdup_printf("run %s (%s): %s: %s", run->id, vr_run_point_name(state.point), vr_operation_name(operation),
                           vr_answer_name(given));
    answer(session->cli, run->set_name, text);
    return TRUE;
}

static gboolean tell_run(const VrCli *cli, VrEventType event, guint domain, GError **error)
{
    g_auto(VrSession) session = {0};
    g_autoptr(VrRun) run = NULL;
    Word word = {event, domain};

    if (vr_worker_is(cli))
        return work_on(cli, &word, error);
    if (!open_any(&session, cli, error))
        return FALSE;
    if (cli->options.dry_run) {
        run = open_run(&session, error);
        return run && say_what_would_be(&session, run, event, error);
    }
    if (vr_session_is_owned(&session, cli->args[0], NULL))
        return say_there(&session, cli->args[0], &word, error);
    run = open_run(&session, error);
    vr_session_clear(&session);
    return run && say_interrupted(cli, run, &word, error);
}

gboolean vr_cmd_pause(const VrCli *cli, GError **error)
{
    return tell_run(cli, VR_EVENT_PAUSE, 0, error);
}

gboolean vr_cmd_resume(const VrCli *cli, GError **error)
{
    return tell_run(cli, VR_EVENT_RESUME, 0, error);
}

gboolean vr_cmd_cancel(const VrCli *cli, GError **error)
{
    return tell_run(cli, cli->options.now ? VR_EVENT_CANCEL_NOW : VR_EVENT_CANCEL, 0, error);
}

gboolean vr_cmd_promote(const VrCli *cli, GError **error)
{
    return tell_run(cli, VR_EVENT_PROMOTE, 0, error);
}

gboolean vr_cmd_approve(const VrCli *cli, GError **error)
{
    return tell_run(cli, VR_EVENT_APPROVE, 0, error);
}

gboolean vr_cmd_walk(const VrCli *cli, GError **error)
{
    guint64 domain;

    if (!g_ascii_string_to_unsigned(cli->args[1], 10, 0, 19, &domain, NULL)) {
        g_set_error(error, VR_ERROR, VR_ERROR_USAGE, "'%s' is no upgrade domain: they are numbered from 0",
                    cli->args[1]);
        vr_error_next(error, "'%s set-info %s' shows them", VR_PROGRAM, cli->args[0]);
        return FALSE;
    }
    return tell_run(cli, VR_EVENT_WALK, (guint)domain, error);
}
