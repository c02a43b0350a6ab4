/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* recover: what every command that changes a set does first, on its own. */
#include "base/error.h"
#include "orchestrator/cli/output.h"
#include "orchestrator/cli/session.h"

/* Only reads: an owner in name, without the lock and with a number that no write would pass with. */
static gboolean would_recover(VrSession *session, GPtrArray **told, GError **error)
{
    VrOwner nobody = {.set_name = session->set->name, .fence = -1};
    VrEngine engine = {.store = session->store, .hv = session->hv, .journal = session->journal, .owner = &nobody};

    return vr_recover_set(&engine, session->set, TRUE, told, error);
}

/* Nothing is in flight: is a run? */
static void say_what_is_open(const VrSession *session, const char *name)
{
    g_autoptr(VrRun) run = vr_history_open(vr_store_db(session->store), name, NULL);

    if (run && run->detached)
        vr_say(session->cli,
               "set %s: nothing is in flight; run %s is open: '%s resume %s' goes on with it, '%s cancel %s' ends it",
               name, run->id, VR_PROGRAM, name, VR_PROGRAM, name);
    else
        vr_say(session->cli, "set %s: nothing is open", name);
}

static gboolean dry_run(VrSession *session, const char *name, GError **error)
{
    const VrCli *cli = session->cli;
    g_autoptr(GPtrArray) told = NULL;
    g_autofree char *holder = NULL;

    session->set = vr_registry_get_any(vr_store_db(session->store), name, error);
    if (!session->set)
        return FALSE;
    if (vr_session_is_owned(session, name, &holder)) {
        g_autofree char *advice = vr_owner_advice(name, holder);
        vr_say(cli, "set %s: owned now by %s; there is nothing to recover while it works; %s", name, holder, advice);
        return TRUE;
    }
    if (!vr_session_connect(session, error) || !would_recover(session, &told, error))
        return FALSE;
    for (guint i = 0; i < told->len; i++)
        vr_say(cli, "set %s: %s", name, (const char *)g_ptr_array_index(told, i));
    if (told->len == 0)
        say_what_is_open(session, name);
    return vr_session_note_releases(session, error);
}

/* Taking the set recovers it and says what it did. */
static gboolean take(VrSession *session, const char *name, GError **error)
{
    if (!vr_session_take_any_set(session, name, error))
        return FALSE;
    say_what_is_open(session, name);
    return !session->set || vr_session_note_releases(session, error);
}

static gboolean recover_set(const VrCli *cli, const char *name, gboolean *unreachable, GError **error)
{
    g_auto(VrSession) session = {.open_run = VR_OPEN_RUN_KEEP};
    g_autoptr(GError) local = NULL;

    if (vr_session_open(&session, cli, &local) &&
        (cli->options.dry_run ? dry_run(&session, name, &local) : take(&session, name, &local)))
        return TRUE;
    *unreachable = vr_session_is_unreachable(&session, local);
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

static GPtrArray *all_sets(const VrCli *cli, GError **error)
{
    g_auto(VrSession) session = {0};

    return vr_session_open(&session, cli, error) ? vr_registry_list(vr_store_db(session.store), error) : NULL;
}

/* --- --forget ---------------------------------------------------------------------------------------- */

/* What else is open in the set keeps it from being done. */
static gboolean none_open(const VrSession *session, const char *name, GError **error)
{
    g_autoptr(GPtrArray) open = vr_journal_open_swaps(session->journal, name, error);

    if (!open || open->len == 0)
        return open != NULL;
    g_set_error(error, VR_ERROR, VR_ERROR_PERSON, "set '%s': %u more swap%s open", name, open->len,
                open->len == 1 ? " is" : "s are");
    vr_error_next(error, "'%s recover %s' says what is to be done about them", VR_PROGRAM, name);
    return FALSE;
}

static gboolean would_forget(const VrCli *cli, const char *name, GError **error)
{
    g_auto(VrSession) session = {0};
    VrOwner nobody = {.set_name = (char *)name, .fence = -1};
    g_autofree char *told = NULL;

    if (!vr_session_open_read(&session, cli, error) || !vr_session_connect(&session, error))
        return FALSE;
    VrEngine engine = {.store = session.store, .hv = session.hv, .journal = session.journal, .owner = &nobody};
    told = vr_recover_forget(&engine, cli->options.forget, TRUE, error);
    if (told)
        vr_say(cli, "set %s: '%s': %s", name, cli->options.forget, told);
    return told != NULL;
}

/* Taking the set recovers it first; that an instance is UNKNOWN is why one is here. */
static gboolean forget(const VrCli *cli, const char *name, GError **error)
{
    g_auto(VrSession) session = {.open_run = VR_OPEN_RUN_KEEP};
    g_autoptr(GError) local = NULL;
    g_autofree char *told = NULL;

    if (cli->options.dry_run)
        return would_forget(cli, name, error);
    if (!vr_session_open_write(&session, cli, error))
        return FALSE;
    if (!vr_session_take_any_set(&session, name, &local) && !g_error_matches(local, VR_ERROR, VR_ERROR_PERSON)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    told = vr_recover_forget(&session.engine, cli->options.forget, FALSE, error);
    if (!told)
        return FALSE;
    vr_say(cli, "set %s: '%s': %s", name, cli->options.forget, told);
    return none_open(&session, name, error);
}

static gboolean check_usage(const VrCli *cli, GError **error)
{
    const VrCliOptions *options = &cli->options;

    if (options->rebuild && (options->forget || cli->n_args > 0))
        g_set_error(error, VR_ERROR, VR_ERROR_USAGE,
                    "--rebuild is for the whole store: no set and no --forget beside it");
    else if (options->forget && cli->n_args != 1)
        g_set_error(error, VR_ERROR, VR_ERROR_USAGE, "--forget INSTANCE needs the set of that instance");
    else
        return TRUE;
    return FALSE;
}

/* One set that cannot be recovered does not keep the others from it, and libvirt that cannot be reached does; the first error is the answer. */
gboolean vr_cmd_recover(const VrCli *cli, GError **error)
{
    g_autoptr(GPtrArray) names = NULL;
    g_autoptr(GError) first = NULL;
    gboolean unreachable = FALSE;

    if (!check_usage(cli, error))
        return FALSE;
    if (cli->options.rebuild)
        return vr_recover_rebuild(cli, error);
    if (cli->options.forget)
        return forget(cli, cli->args[0], error);
    if (cli->n_args == 0)
        names = all_sets(cli, error);
    else
        names = g_ptr_array_new_with_free_func(g_free);
    if (!names)
        return FALSE;
    for (guint i = 0; i < cli->n_args; i++)
        g_ptr_array_add(names, g_strdup(cli->args[i]));
    for (guint i = 0; i < names->len && !unreachable; i++) {
        g_autoptr(GError) local = NULL;
        if (recover_set(cli, g_ptr_array_index(names, i), &unreachable, &local))
            continue;
        if (!first)
            first = g_steal_pointer(&local);
        else
            vr_warn(cli, "%s", local->message);
    }
    if (names->len == 0)
        vr_say(cli, "no set is defined, so nothing is open");
    if (!first)
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&first));
    return FALSE;
}
