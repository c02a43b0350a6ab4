/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* upgrade, reimage, apply, retry, rollback: choose the targets, then let the executor run them. */
#include "base/error.h"
#include "orchestrator/cli/automatic.h"
#include "orchestrator/cli/notices.h"
#include "orchestrator/cli/output.h"
#include "orchestrator/cli/plan.h"
#include "orchestrator/cli/run.h"
#include "orchestrator/cli/run_process.h"
#include "orchestrator/cli/run_view.h"
#include "orchestrator/cli/worker.h"
#include "orchestrator/current_version.h"

typedef gboolean (*Choose)(VrTargets *targets, const VrSession *session, GError **error);

static gboolean execute(const VrSession *session, const VrTargets *targets, GError **error)
{
    const VrCliOptions *options = &session->cli->options;
    VrRunRequest request = {.kind = targets->kind,
                            .automatic_rollback =
                                session->set->model->policy.automatic_rollback && !options->no_auto_rollback,
                            .automatic = options->automatic,
                            .windowed = options->automatic,
                            .walk = options->walk,
                            .temp_disks = options->temp_disk,
                            .detached = vr_worker_is(session->cli),
                            .ignored = (const char *const *)options->ignore,
                            .reason = options->reason,
                            .role = options->role};

    return vr_run_process(session, targets, &request, VR_EVENT_START, 0, error);
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
    if (targets->asked_out > 0)
        g_string_append_printf(why, "%s the guests of %u of %u say SkipUpgrade", why->len ? "," : ":",
                               targets->asked_out, targets->count);
    if (targets->kind == VR_RUN_APPLY)
        vr_say(session->cli, "set %s: %u of %u instances %s behind the model, and none can be brought to it%s",
               session->set->name, targets->behind, targets->count, targets->behind == 1 ? "is" : "are", why->str);
    else if (targets->image)
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
        vr_json_print_nothing(session->set->name, NULL, targets->count);
    else if (g_str_equal(session->cli->command->name, "retry") && targets->guarded == 0)
        vr_say(session->cli, "set %s: nothing failed in its last run, so there is nothing to try again",
               session->set->name);
    else if (targets->kind == VR_RUN_APPLY && targets->behind == 0)
        vr_say(session->cli, "set %s: %s up to date with the model (revision %u)", session->set->name,
               session->cli->options.all || session->cli->n_args < 2 ? "all instances are" : "what was named is",
               session->set->revision);
    else if (targets->kind == VR_RUN_APPLY || targets->pinned + targets->guarded + targets->asked_out > 0 ||
             session->cli->options.role)
        say_left_alone(session, targets);
    else if (targets->image)
        vr_say(session->cli, "set %s: all instances (%u) run %s %s already", session->set->name, targets->count,
               targets->image->name, targets->image->version);
    else
        vr_say(session->cli, "set %s: all instances run the generation already that they would go to",
               session->set->name);
    return TRUE;
}

/* D29: nobody is left to be moved to it, so the set has come to this version, if anybody runs it. */
static gboolean settle_upgrade(const VrSession *session, const VrTargets *targets, GError **error)
{
    gboolean runs = targets->count > targets->pinned + targets->guarded;

    if (targets->kind != VR_RUN_UPGRADE || session->cli->options.role || session->cli->options.dry_run || !runs)
        return TRUE;
    return vr_current_version_set(session->journal, session->owner, session->set, targets->image->name,
                                  targets->image->version, error);
}

/* A person's word is one when nothing stands against what he asks for: what is refused changes nothing. */
static gboolean take_word(const VrSession *session, const VrTargets *targets, GError **error)
{
    return !targets->is_word || !session->owner ||
           vr_registry_word(session->journal, session->owner, session->set, error);
}

gboolean vr_run_targets(VrSession *session, VrTargets *targets, GError **error)
{
    if (targets->chosen == 0)
        return take_word(session, targets, error) && settle_upgrade(session, targets, error) &&
               nothing_to_do(session, targets);
    if (session->cli->options.dry_run)
        return vr_plan_show(session, targets, error);
    if (!vr_plan_check(session, targets, error) || !vr_targets_verify(targets, session, error) ||
        !take_word(session, targets, error))
        return FALSE;
    if (targets->chosen == 0) /* the guests have said that they stay out of it */
        return nothing_to_do(session, targets);
    return execute(session, targets, error);
}

static gboolean run(const VrCli *cli, VrOpenRun open_run, Choose choose, GError **error)
{
    g_auto(VrSession) session = {.open_run = open_run};
    g_auto(VrTargets) targets = {0};

    return vr_session_open(&session, cli, error) && vr_session_take_set(&session, cli->args[0], error) &&
           choose(&targets, &session, error) && vr_run_targets(&session, &targets, error);
}

/* --detach: what follows is done by a worker, which says itself why it cannot begin. */
static gboolean is_for_a_worker(const VrCli *cli)
{
    return cli->options.detach && !cli->options.dry_run && !vr_worker_is(cli);
}

static gboolean leave_to_worker(const VrCli *cli, GError **error)
{
    const char *set = cli->args[0];

    if (!vr_worker_start(cli, error))
        return FALSE;
    vr_tell(cli, "it goes on by itself: '%s status %s --watch' shows it, '%s pause %s' and '%s cancel %s' stop it",
            VR_PROGRAM, set, VR_PROGRAM, set, VR_PROGRAM, set);
    return TRUE;
}

/* A word that was mistyped does not end the run in flight. */
static gboolean can_replace(const VrCli *cli, GError **error)
{
    VrCli looks = *cli;
    g_auto(VrSession) session = {0};
    g_auto(VrTargets) targets = {0};

    looks.options.dry_run = TRUE;
    return vr_session_open(&session, &looks, error) && vr_session_take_set(&session, cli->args[0], error) &&
           vr_targets_of_upgrade(&targets, &session, error);
}

/* D21: one at a time; --replace ends the first at its batch border. */
static gboolean begin_upgrade(const VrCli *cli, GError **error)
{
    g_autoptr(VrRun) ended = NULL;

    if (cli->options.automatic)
        return vr_automatic_run(cli, error);
    if (cli->options.replace && !cli->options.dry_run &&
        (!can_replace(cli, error) || !vr_run_end_open(cli, VR_EVENT_CANCEL, FALSE, &ended, error)))
        return FALSE;
    return run(cli, cli->options.replace ? VR_OPEN_RUN_CANCEL : VR_OPEN_RUN_REFUSE, vr_targets_of_upgrade, error);
}

/* B8: only what the model flags. */
static gboolean targets_of_reimage(VrTargets *targets, const VrSession *session, GError **error)
{
    char **temp = session->set->model->temp_disks;
    g_autofree char *names = g_strjoinv(", ", temp);

    if (!session->cli->options.temp_disk)
        return vr_targets_of_reimage(targets, session, error);
    if (!temp[0]) {
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED,
                    "the model of set '%s' flags no disk as temporary, so none is made anew", session->set->name);
        vr_error_next(error, "tempDisks in it names their targets");
        return FALSE;
    }
    if (!vr_targets_of_reimage(targets, session, error))
        return FALSE;
    if (targets->chosen > 0)
        vr_note(session->cli,
                "%s of each instance %s made anew while it is off; no rollback brings back what is on %s now", names,
                temp[1] ? "are" : "is", temp[1] ? "them" : "it");
    return TRUE;
}

static gboolean begin_reimage(const VrCli *cli, GError **error)
{
    return run(cli, VR_OPEN_RUN_REFUSE, targets_of_reimage, error);
}

/* F10 */
static gboolean begin_retry(const VrCli *cli, GError **error)
{
    return run(cli, VR_OPEN_RUN_REFUSE, vr_targets_of_retry, error);
}

/* F4, decision 7: the run in flight puts back what is on its way; what it had moved goes back in a run of its own, and what it had not
 * touched is not touched. */
static gboolean rollback_in_flight(const VrCli *cli, VrRun *ended, GError **error)
{
    g_auto(VrSession) session = {.open_run = VR_OPEN_RUN_CANCEL};
    g_auto(VrTargets) targets = {0};
    gboolean moved = FALSE;

    if (!vr_session_open_write(&session, cli, error) || !vr_session_take_set(&session, cli->args[0], error) ||
        !vr_targets_of_undo(&targets, &session, ended->id, &moved, error))
        return FALSE;
    if (moved)
        return vr_run_targets(&session, &targets, error);
    if (cli->options.json)
        vr_json_print_nothing(ended->set_name, ended->id, targets.count);
    vr_say(cli, "set %s: run %s is ended, and had moved no instance", ended->set_name, ended->id);
    return TRUE;
}

static gboolean begin_apply(const VrCli *cli, GError **error)
{
    return run(cli, VR_OPEN_RUN_REFUSE, vr_targets_of_apply, error);
}

static gboolean check_rollback(const VrCliOptions *options, guint n_args, GError **error)
{
    gboolean names = n_args > 1 || options->to_generation != VR_GENERATION_NOT_GIVEN;

    if (options->run && !options->all)
        g_set_error(error, VR_ERROR, VR_ERROR_USAGE, "--run goes with --all");
    else if (options->all && names)
        g_set_error(error, VR_ERROR, VR_ERROR_USAGE, "--all undoes a run: give neither instances nor --to-generation");
    else
        return TRUE;
    return FALSE;
}

static gboolean begin_rollback(const VrCli *cli, GError **error)
{
    g_autoptr(VrRun) ended = NULL;

    if (cli->options.all && !cli->options.dry_run && !vr_run_end_open(cli, VR_EVENT_CANCEL_NOW, TRUE, &ended, error))
        return FALSE;
    if (ended)
        return rollback_in_flight(cli, ended, error);
    return run(cli, VR_OPEN_RUN_REFUSE, vr_targets_of_rollback, error);
}

/* --- the commands ------------------------------------------------------------------------------------ */

/* J7: whatever becomes of it, others are told that it was asked for. */
static gboolean ask_for(const VrCli *cli, gboolean (*command)(const VrCli *cli, GError **error), GError **error)
{
    if (cli->options.print_diff && !cli->options.dry_run) {
        g_set_error(error, VR_ERROR, VR_ERROR_USAGE, "--print-diff of %s goes with --dry-run", cli->command->name);
        vr_error_next(error, "type both, and nothing is changed");
        return FALSE;
    }
    return is_for_a_worker(cli) ? leave_to_worker(cli, error) : vr_as_request(cli, command, error);
}

gboolean vr_cmd_upgrade(const VrCli *cli, GError **error)
{
    if (cli->options.automatic && !vr_automatic_is_due(cli, error))
        return FALSE; /* so nobody has asked for anything */
    return ask_for(cli, begin_upgrade, error);
}

gboolean vr_cmd_reimage(const VrCli *cli, GError **error)
{
    return ask_for(cli, begin_reimage, error);
}

gboolean vr_cmd_apply(const VrCli *cli, GError **error)
{
    return ask_for(cli, begin_apply, error);
}

gboolean vr_cmd_retry(const VrCli *cli, GError **error)
{
    return ask_for(cli, begin_retry, error);
}

gboolean vr_cmd_rollback(const VrCli *cli, GError **error)
{
    return check_rollback(&cli->options, cli->n_args, error) && ask_for(cli, begin_rollback, error);
}
