/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* upgrade, reimage, rollback: choose the targets, then let the executor run them. */
#include "base/error.h"
#include "orchestrator/cli/output.h"
#include "orchestrator/cli/plan.h"
#include "orchestrator/cli/progress.h"
#include "orchestrator/cli/signals.h"
#include "orchestrator/cli/targets.h"

typedef gboolean (*Choose)(VrTargets *targets, const VrSession *session, GError **error);

static gboolean execute(const VrSession *session, const VrTargets *targets, GError **error)
{
    const VrCliOptions *options = &session->cli->options;
    VrProgressView view = {.cli = session->cli, .session = session, .targets = targets};
    VrRunRequest request = {.kind = targets->kind,
                            .set = session->set,
                            .image = targets->image,
                            .targets = targets->targets,
                            .automatic_rollback =
                                session->set->model->policy.automatic_rollback && !options->no_auto_rollback,
                            .reason = options->reason,
                            .progress = vr_progress_show,
                            .progress_data = &view};
    g_autoptr(VrExecutor) executor = vr_executor_new(&session->engine, &request);
    g_autoptr(VrRun) run = NULL;
    gboolean ok;

    vr_signals_set_run(executor);
    ok = vr_executor_run(executor, &run, error);
    vr_signals_set_run(NULL);
    return ok;
}

static void say_left_alone(const VrSession *session, const VrTargets *targets)
{
    g_autoptr(GString) why = g_string_new(NULL);

    if (targets->pinned > 0)
        g_string_append_printf(why, ": %u of %u %s pinned to another version", targets->pinned, targets->count,
                               targets->pinned == 1 ? "is" : "are");
    if (targets->guarded > 0)
        g_string_append_printf(why, "%s %u of %u %s protected", why->len ? "," : ":", targets->guarded, targets->count,
                               targets->guarded == 1 ? "is" : "are");
    if (targets->image)
        vr_say(session->cli, "set %s: no instance is to be moved to %s %s%s", session->set->name, targets->image->name,
               targets->image->version, why->str);
    else
        vr_say(session->cli, "set %s: no instance is to be moved%s", session->set->name, why->str);
    for (guint i = 0; i < targets->count; i++)
        vr_say(session->cli, "left alone: %s: %s", vr_set_instance(session->set, i)->domain,
               targets->targets[i].skipped);
}

/* Nobody needs to be moved: that is success, and no run. */
static gboolean nothing_to_do(const VrSession *session, const VrTargets *targets)
{
    if (session->cli->options.json)
        vr_json_print_line(json_pack("{s:s, s:s, s:i}", "event", "nothingToDo", "set", session->set->name,
                                     "skippedInstanceCount", (int)targets->count));
    else if (targets->pinned + targets->guarded > 0 || session->cli->options.role)
        say_left_alone(session, targets);
    else if (targets->image)
        vr_say(session->cli, "set %s: all instances (%u) run %s %s already", session->set->name, targets->count,
               targets->image->name, targets->image->version);
    else
        vr_say(session->cli, "set %s: all instances run the generation already that they would go to",
               session->set->name);
    return TRUE;
}

static gboolean run(const VrCli *cli, Choose choose, GError **error)
{
    g_auto(VrSession) session = {0};
    g_auto(VrTargets) targets = {0};

    if (!vr_session_open(&session, cli, error) || !vr_session_take_set(&session, cli->args[0], error) ||
        !choose(&targets, &session, error))
        return FALSE;
    if (targets.chosen == 0)
        return nothing_to_do(&session, &targets);
    if (cli->options.dry_run)
        return vr_plan_show(&session, &targets, error);
    if (!vr_plan_check(&session, &targets, error) ||
        (targets.image && !vr_store_verify(session.store, targets.image, FALSE, error)))
        return FALSE;
    return execute(&session, &targets, error);
}

gboolean vr_cmd_upgrade(const VrCli *cli, GError **error)
{
    return run(cli, vr_targets_of_upgrade, error);
}

gboolean vr_cmd_reimage(const VrCli *cli, GError **error)
{
    return run(cli, vr_targets_of_reimage, error);
}

gboolean vr_cmd_rollback(const VrCli *cli, GError **error)
{
    return run(cli, vr_targets_of_rollback, error);
}
