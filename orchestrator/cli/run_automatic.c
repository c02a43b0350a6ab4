/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * upgrade --automatic: what virt-reimaged and timers say. It is refused unless it is due, and that is asked once more by whoever owns the
 * set by then. That this version was tried is written before anything can fail (registry_auto.c), so that no end of it, not even a
 * kill, leads to the next try by itself.
 */
#include "base/error.h"
#include "orchestrator/cli/automatic.h"
#include "orchestrator/cli/run.h"
#include "orchestrator/trigger_facts.h"

/* What a person says of an upgrade is not for one that begins by itself. */
static gboolean check_options(const VrCliOptions *options, GError **error)
{
    const char *other = options->version            ? "--version"
                        : options->role             ? "--role"
                        : options->canary           ? "--canary"
                        : options->walk             ? "--walk"
                        : options->replace          ? "--replace"
                        : options->no_auto_rollback ? "--no-auto-rollback"
                        : options->ignore           ? "--ignore"
                                                    : NULL;

    if (!other)
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_USAGE,
                "%s does not go with --automatic: the model says how an upgrade goes "
                "that begins by itself",
                other);
    return FALSE;
}

static gboolean is_due(const VrSession *session, GError **error)
{
    g_auto(VrTrigger) trigger = {0};

    if (!vr_trigger_look(session->store, session->journal, session->set, &trigger, error))
        return FALSE;
    if (trigger.state == VR_TRIGGER_DUE)
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "set '%s': no upgrade begins by itself now (%s): %s",
                session->set->name, vr_trigger_state_name(trigger.state), trigger.reason);
    vr_error_next(error, "'%s triggers %s' shows when one would", VR_PROGRAM, session->set->name);
    return FALSE;
}

gboolean vr_automatic_is_due(const VrCli *cli, GError **error)
{
    g_auto(VrSession) session = {0};

    return check_options(&cli->options, error) && vr_session_open_read(&session, cli, error) &&
           vr_session_read_any_set(&session, cli->args[0], error) && is_due(&session, error);
}

/* The id of the set's last run, "" when there is none. Free with g_free; NULL: error. */
static char *last_run(const VrSession *session, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(VrRun) run = vr_history_last(vr_store_db(session->store), session->set->name, &local);

    if (!local)
        return g_strdup(run ? run->id : "");
    g_propagate_error(error, g_steal_pointer(&local));
    return NULL;
}

static gboolean tried(const VrSession *session, const VrTargets *targets, const char *text, GError **error)
{
    return vr_registry_tried(session->journal, session->owner, session->set, targets->image->name,
                             targets->image->version, text, error);
}

/* There was no run: why not is kept, since no history has it. An error of that would hide the one that matters. */
static void note_no_run(const VrSession *session, const VrTargets *targets, const char *before, const GError *why)
{
    g_autofree char *after = last_run(session, NULL);

    if (g_strcmp0(before, after) == 0)
        (void)tried(session, targets, why ? why->message : "no instance was left that could be moved to it", NULL);
}

static gboolean begin(VrSession *session, VrTargets *targets, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autofree char *before = last_run(session, error);
    gboolean ok;

    if (!before || !tried(session, targets, NULL, error))
        return FALSE;
    ok = vr_run_targets(session, targets, &local);
    note_no_run(session, targets, before, local);
    if (local)
        g_propagate_error(error, g_steal_pointer(&local));
    return ok;
}

gboolean vr_automatic_run(const VrCli *cli, GError **error)
{
    g_auto(VrSession) session = {.open_run = VR_OPEN_RUN_REFUSE};
    g_auto(VrTargets) targets = {0};

    if (!vr_session_open(&session, cli, error) || !vr_session_take_set(&session, cli->args[0], error) ||
        !is_due(&session, error) || !vr_targets_of_upgrade(&targets, &session, error))
        return FALSE;
    return cli->options.dry_run ? vr_run_targets(&session, &targets, error) : begin(&session, &targets, error);
}
