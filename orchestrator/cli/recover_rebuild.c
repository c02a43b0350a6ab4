/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* recover --rebuild: state.db is lost; what domains and the store say of instances is written into a new one. */
#include "base/error.h"
#include "engine/rebuild.h"
#include "hv/connection.h"
#include "orchestrator/cli/output.h"
#include "orchestrator/cli/session.h"

typedef struct {
    const VrCli *cli;
    VrSession *session;
    guint restored, lost, known;
    GPtrArray *sets; /* char *, not owned: whose model is asked for */
} Rebuild;

static void say_generations(const Rebuild *rebuild, const VrFoundInstance *found)
{
    for (guint i = 0; i < found->generations->len; i++) {
        const VrGeneration *generation = g_ptr_array_index(found->generations, i);
        vr_say(rebuild->cli, "  generation %u: %s, %s%s%s, %s", generation->number,
               vr_generation_state_name(generation->state), generation->image ? generation->image : "version not known",
               generation->image ? " " : "", generation->image ? generation->version : "", generation->path);
    }
}

static void say_found(Rebuild *rebuild, const VrFoundInstance *found)
{
    gboolean dry = rebuild->cli->options.dry_run;

    if (found->restorable)
        vr_say(rebuild->cli, "%s (%s) of set %s %s", found->domain, found->uuid, found->set_name,
               dry ? "would be restored" : "is restored");
    else
        vr_say(rebuild->cli, "%s is not restored", found->domain ? found->domain : found->uuid);
    say_generations(rebuild, found);
    for (guint i = 0; i < found->said->len; i++)
        vr_say(rebuild->cli, "  %s", (const char *)g_ptr_array_index(found->said, i));
}

/* The lock of the set too: a process that still works by the lost state.db has it. */
static gboolean restore(Rebuild *rebuild, const VrFoundInstance *found, GError **error)
{
    VrSession *session = rebuild->session;
    g_autoptr(VrOwner) owner = NULL;

    if (rebuild->cli->options.dry_run)
        return TRUE;
    owner = vr_owner_acquire(session->journal, vr_store_root_fd(session->store), found->set_name, "recover --rebuild",
                             error);
    return owner && vr_rebuild_restore(session->journal, owner, found, error);
}

static void note_set(Rebuild *rebuild, const char *name)
{
    if (!g_ptr_array_find_with_equal_func(rebuild->sets, name, g_str_equal, NULL))
        g_ptr_array_add(rebuild->sets, (gpointer)name);
}

static gboolean take(Rebuild *rebuild, const VrFoundInstance *found, GError **error)
{
    if (found->known) {
        rebuild->known++;
        return TRUE;
    }
    if (found->restorable && !restore(rebuild, found, error))
        return FALSE;
    say_found(rebuild, found);
    if (found->restorable) {
        rebuild->restored++;
        note_set(rebuild, found->set_name);
    } else if (found->domain) {
        rebuild->lost++;
    }
    return TRUE;
}

static gboolean open_all(VrSession *session, const VrCli *cli, GError **error)
{
    session->cli = cli;
    session->store = vr_store_open_lost(cli->options.root, cli->options.dry_run, error);
    if (!session->store)
        return FALSE;
    if (vr_store_db(session->store)) {
        session->journal = vr_journal_new(vr_store_db(session->store), error);
        if (!session->journal || !vr_registry_init(vr_store_db(session->store), error))
            return FALSE;
    }
    return vr_session_connect(session, error);
}

static gboolean say_end(const Rebuild *rebuild, GError **error)
{
    g_autofree char *names = NULL;

    if (rebuild->known > 0)
        vr_say(rebuild->cli, "%u instance%s known to state.db: left as it says", rebuild->known,
               rebuild->known == 1 ? " is" : "s are");
    if (rebuild->restored == 0 && rebuild->lost == 0)
        vr_say(rebuild->cli, "nothing is to be restored");
    if (rebuild->restored > 0) {
        g_ptr_array_add(rebuild->sets, NULL);
        names = g_strjoinv(", ", (char **)rebuild->sets->pdata);
        vr_say(rebuild->cli,
               "sets are not in the store: define %s again with '%s set-define FILE'. Runs, protections, excluded "
               "versions and "
               "whether a kept disk was ever healthy are not known any more",
               names, VR_PROGRAM);
    }
    if (rebuild->lost == 0)
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_PERSON, "%u instance%s not restored, for the reasons above", rebuild->lost,
                rebuild->lost == 1 ? " is" : "s are");
    vr_error_next(error, "mend what is said there, and run '%s recover --rebuild' again", VR_PROGRAM);
    return FALSE;
}

gboolean vr_recover_rebuild(const VrCli *cli, GError **error)
{
    g_auto(VrSession) session = {0};
    g_autoptr(GPtrArray) all = NULL;
    g_autoptr(GPtrArray) sets = g_ptr_array_new();
    Rebuild rebuild = {.cli = cli, .session = &session, .sets = sets};

    if (!open_all(&session, cli, error))
        return FALSE;
    all = vr_rebuild_look(session.store, session.hv, session.journal, error);
    for (guint i = 0; all && i < all->len; i++)
        if (!take(&rebuild, g_ptr_array_index(all, i), error))
            return FALSE;
    return all && say_end(&rebuild, error);
}
