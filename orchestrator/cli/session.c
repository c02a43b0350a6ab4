/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/cli/session.h"

#include "base/clock.h"
#include "base/confine.h"
#include "base/durable.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "disk/version.h"
#include "engine/release.h"
#include "hv/connection.h"
#include "orchestrator/cli/output.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

void vr_session_clear(VrSession *session)
{
    g_clear_pointer(&session->outside, vr_outside_free);
    g_clear_pointer(&session->set, vr_set_free);
    g_clear_pointer(&session->owner, vr_owner_release);
    g_clear_pointer(&session->hv, vr_hv_close);
    g_clear_pointer(&session->journal, vr_journal_free);
    g_clear_pointer(&session->store, vr_store_close);
}

static gboolean open_store(VrSession *session, const VrCli *cli, gboolean read_only, GError **error)
{
    session->cli = cli;
    session->store = vr_store_open(cli->options.root, read_only, error);
    if (!session->store)
        return FALSE;
    session->journal = vr_journal_new(vr_store_db(session->store), error);
    return session->journal && vr_registry_init(vr_store_db(session->store), error);
}

gboolean vr_session_open_read(VrSession *session, const VrCli *cli, GError **error)
{
    return open_store(session, cli, TRUE, error);
}

gboolean vr_session_open_write(VrSession *session, const VrCli *cli, GError **error)
{
    if (!open_store(session, cli, FALSE, error))
        return FALSE;
    vr_store_sweep(session->store);
    return TRUE;
}

gboolean vr_session_open(VrSession *session, const VrCli *cli, GError **error)
{
    return cli->options.dry_run ? vr_session_open_read(session, cli, error)
                                : vr_session_open_write(session, cli, error);
}

void vr_session_touch(const VrSession *session)
{
    (void)utimensat(vr_store_root_fd(session->store), "images", NULL, AT_SYMLINK_NOFOLLOW); /* else it looks later */
}

gboolean vr_session_connect(VrSession *session, GError **error)
{
    if (!session->hv)
        session->hv = vr_connection_open(session->cli->options.uri, NULL, error);
    return session->hv != NULL;
}

gboolean vr_session_is_unreachable(const VrSession *session, const GError *error)
{
    return !session->hv && g_error_matches(error, VR_ERROR, VR_ERROR_DISCONNECTED);
}

/* --- reading ----------------------------------------------------------------------------------------- */

gboolean vr_session_is_owned(const VrSession *session, const char *name, char **holder)
{
    vr_autofd locks = vr_open_beneath(vr_store_root_fd(session->store), "locks", O_RDONLY | O_DIRECTORY, 0, NULL);

    if (holder)
        *holder = NULL;
    return locks >= 0 && vr_lock_is_held(locks, name, holder);
}

gboolean vr_session_note_releases(const VrSession *session, GError **error)
{
    const char *set_name = session->set->name;
    g_autoptr(GPtrArray) open = vr_release_open_ones(session->journal, set_name, error);

    for (guint i = 0; open && i < open->len; i++) {
        int index = vr_set_find(session->set, open->pdata[i], NULL);
        if (index >= 0)
            vr_note(session->cli, "the release of '%s' has not come to its end: run '%s release %s %s'",
                    vr_set_instance(session->set, (guint)index)->domain, VR_PROGRAM, set_name,
                    vr_set_instance(session->set, (guint)index)->domain);
    }
    return open != NULL;
}

static gboolean note_open_swaps(const VrSession *session, GError **error)
{
    g_autoptr(GPtrArray) open = vr_journal_open_swaps(session->journal, session->set->name, error);

    if (!open)
        return FALSE;
    if (open->len > 0 && !vr_session_is_owned(session, session->set->name, NULL))
        vr_note(session->cli, "%u open swap%s that no run works on: run '%s recover %s'", open->len,
                open->len == 1 ? "" : "s", VR_PROGRAM, session->set->name);
    return vr_session_is_owned(session, session->set->name, NULL) || vr_session_note_releases(session, error);
}

static gboolean load_set(VrSession *session, const char *name, GError **error)
{
    g_clear_pointer(&session->set, vr_set_free);
    session->set = vr_registry_get_any(vr_store_db(session->store), name, error);
    return session->set != NULL;
}

gboolean vr_session_read_any_set(VrSession *session, const char *name, GError **error)
{
    return load_set(session, name, error) && note_open_swaps(session, error);
}

gboolean vr_session_read_set(VrSession *session, const char *name, GError **error)
{
    return vr_session_read_any_set(session, name, error) && vr_set_require_model(session->set, error);
}

/* --- changing ---------------------------------------------------------------------------------------- */

static void fill_engine(VrSession *session)
{
    session->engine =
        (VrEngine){.store = session->store, .hv = session->hv, .journal = session->journal, .owner = session->owner};
}

static gboolean recover(VrSession *session, GError **error)
{
    g_autoptr(GPtrArray) told = NULL;
    gboolean ok = vr_recover_set(&session->engine, session->set, FALSE, &told, error);

    for (guint i = 0; told && i < told->len; i++)
        vr_tell(session->cli, "recovered: %s", (const char *)g_ptr_array_index(told, i));
    return ok;
}

gboolean vr_session_close_run(VrSession *session, VrRun *run, GError **error)
{
    run->status = VR_RUN_CANCELLED;
    run->completed_us = vr_clock_wall_us();
    g_free(run->error_text);
    run->error_text = g_strdup("cancelled after its process had ended");
    return vr_history_end(session->journal, session->owner, run, error);
}

/* Once what was in flight is settled. */
static gboolean meet_open_run(VrSession *session, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(VrRun) run = vr_history_open(vr_store_db(session->store), session->owner->set_name, &local);

    if (local) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    if (!run || session->open_run == VR_OPEN_RUN_KEEP)
        return TRUE;
    if (session->open_run == VR_OPEN_RUN_CANCEL)
        return vr_session_close_run(session, run, error);
    g_set_error(error, VR_ERROR, VR_ERROR_BUSY, "set '%s': run %s (%s) is open", run->set_name, run->id,
                vr_run_kind_name(run->kind));
    vr_error_now(error, "its process is gone");
    vr_error_next(error, "'%s resume %s' goes on with it, '%s cancel %s' ends it", VR_PROGRAM, run->set_name,
                  VR_PROGRAM, run->set_name);
    return FALSE;
}

/* Who owns a set swaps guests, or puts one back: from before its first thread of libvirt on it cannot write to what is not the store's
 * (SAFETY 4.26). */
static void confine(const VrSession *session)
{
    const char *const dirs[] = {vr_store_root(session->store), NULL};
    g_autoptr(GError) local = NULL;

    if (vr_connection_is_in_process(session->cli->options.uri))
        vr_debug("the hypervisor is in this process, so Landlock cannot keep it from data disks");
    else if (!vr_confine(dirs, &local) && g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND))
        vr_debug("%s: nothing but our own care keeps us from data disks", local->message);
    else if (local)
        vr_warning(NULL, "this process is not kept from data disks: %s", local->message);
}

gboolean vr_session_own(VrSession *session, const char *name, const char *text, GError **error)
{
    g_autofree char *what = g_strdup_printf("%s %s", session->cli->command->name, name);
    g_autoptr(GError) local = NULL;

    if (!vr_name_check(name, "set", error))
        return FALSE;
    confine(session);
    if (!vr_session_connect(session, error)) {
        vr_error_now(error, "set '%s' is as it was", name);
        return FALSE;
    }
    session->owner = vr_owner_acquire(session->journal, vr_store_root_fd(session->store), name, what, error);
    if (!session->owner)
        return FALSE;
    fill_engine(session);
    if (load_set(session, name, &local)) {
        if (!session->set->model && text)
            session->set->model = vr_model_parse(text, strlen(text), name, NULL); /* for its health and policy */
        return recover(session, error) && meet_open_run(session, error);
    }
    if (g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND))
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

gboolean vr_session_take_any_set(VrSession *session, const char *name, GError **error)
{
    /* A name that nobody defined gets no lock file. */
    if (!load_set(session, name, error))
        return FALSE;
    if (session->cli->options.dry_run)
        return vr_session_connect(session, error) && note_open_swaps(session, error);
    return vr_session_own(session, name, NULL, error) && (session->set || load_set(session, name, error));
}

gboolean vr_session_take_set(VrSession *session, const char *name, GError **error)
{
    return load_set(session, name, error) && vr_set_require_model(session->set, error) &&
           vr_session_take_any_set(session, name, error) && vr_set_require_model(session->set, error);
}

/* --- instances --------------------------------------------------------------------------------------- */

const VrInstance *vr_set_instance(const VrSet *set, guint index)
{
    return g_ptr_array_index(set->instances, index);
}

int vr_session_find(const VrSession *session, const char *name, GError **error)
{
    char uuid[VR_UUID_LENGTH + 1];
    int index = vr_set_find(session->set, name, NULL);

    if (index < 0 && session->hv && vr_hv_lookup(session->hv, name, uuid, NULL))
        index = vr_set_find(session->set, uuid, NULL);
    return index >= 0 ? index : vr_set_find(session->set, name, error);
}

const VrInstance *vr_session_instance(const VrSession *session, const char *name, GError **error)
{
    int index = vr_session_find(session, name, error);

    return index < 0 ? NULL : vr_set_instance(session->set, (guint)index);
}
