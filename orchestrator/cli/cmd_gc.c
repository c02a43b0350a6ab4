/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* gc: deletes the OS disks that retention does not keep, and lists what it does not know. */
#include "base/error.h"
#include "orchestrator/cli/output.h"
#include "orchestrator/cli/session.h"
#include "orchestrator/gc.h"

typedef struct {
    const VrCli *cli;
    json_t *deleted, *kept, *unknown; /* owned */
    guint64 bytes;
    guint count;
    gboolean unreachable; /* libvirt is */
} Answer;

static void answer_clear(Answer *answer)
{
    json_decref(answer->deleted);
    json_decref(answer->kept);
    json_decref(answer->unknown);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Answer, answer_clear)

static json_t *disk_json(const VrGcDisk *disk)
{
    return json_pack("{s:o, s:o, s:s, s:i, s:o, s:I, s:o, s:o}", "set", vr_json_text(disk->set_name), "domain",
                     vr_json_text(disk->domain), "uuid", disk->uuid, "generation", (int)disk->generation->number,
                     "path", vr_json_text(disk->generation->path), "sizeOnDiskBytes", (json_int_t)disk->bytes, "reason",
                     vr_json_text(disk->why), "keptBecause", vr_json_text(disk->obstacle));
}

static void take_disk(const VrGcDisk *disk, void *data)
{
    Answer *answer = data;
    g_autofree char *size = vr_text_size(disk->bytes);

    json_array_append_new(disk->obstacle ? answer->kept : answer->deleted, disk_json(disk));
    if (disk->obstacle) {
        vr_say(answer->cli, "%s: generation %u stays, though %s: %s", disk->domain, disk->generation->number, disk->why,
               disk->obstacle);
        return;
    }
    vr_say(answer->cli, "%s: generation %u %s deleted, %s: %s", disk->domain, disk->generation->number,
           answer->cli->options.dry_run ? "would be" : "is", size, disk->why);
    answer->bytes += disk->bytes;
    answer->count++;
}

static void take_unknown(Answer *answer, const GPtrArray *paths)
{
    for (guint i = 0; i < paths->len; i++) {
        json_array_append_new(answer->unknown, vr_json_text(paths->pdata[i]));
        vr_say(answer->cli, "%s is not known here and is left", (const char *)paths->pdata[i]);
    }
}

static VrGc gc_of(const VrSession *session, const VrEngine *engine, Answer *answer)
{
    return (VrGc){.engine = engine, .dry_run = session->cli->options.dry_run, .tell = take_disk, .data = answer};
}

/* In a dry run without an owner. */
static VrEngine engine_of(const VrSession *session)
{
    return (VrEngine){.store = session->store, .hv = session->hv, .journal = session->journal, .owner = session->owner};
}

static gboolean gc_set(const VrCli *cli, const char *name, Answer *answer, GError **error)
{
    g_auto(VrSession) session = {0};
    g_autoptr(GError) local = NULL;
    VrEngine engine;

    if (!vr_session_open(&session, cli, &local) || !vr_session_take_set(&session, name, &local)) {
        answer->unreachable = vr_session_is_unreachable(&session, local);
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    engine = engine_of(&session);
    g_auto(VrGc) gc = gc_of(&session, &engine, answer);
    return vr_gc_set(&gc, session.set, error);
}

/* What is unknown in the directories of the set's instances. */
static gboolean list_of_set(const VrCli *cli, const char *name, Answer *answer, GError **error)
{
    g_auto(VrSession) session = {0};

    if (!vr_session_open_read(&session, cli, error) || !vr_session_read_any_set(&session, name, error))
        return FALSE;
    for (guint i = 0; i < session.set->instances->len; i++) {
        g_autoptr(GPtrArray) paths =
            vr_gc_unknown(session.store, session.journal, vr_set_instance(session.set, i)->uuid, error);
        if (!paths)
            return FALSE;
        take_unknown(answer, paths);
    }
    return TRUE;
}

static gboolean gc_left(const VrCli *cli, Answer *answer, GError **error)
{
    g_auto(VrSession) session = {0};
    g_autoptr(GPtrArray) paths = NULL;
    VrEngine engine;

    if (!vr_session_open(&session, cli, error) || !vr_session_connect(&session, error))
        return FALSE;
    if (!cli->options.dry_run)
        session.owner =
            vr_owner_acquire(session.journal, vr_store_root_fd(session.store), VR_GC_LEFT_OWNER, "gc", error);
    if (!cli->options.dry_run && !session.owner)
        return FALSE;
    engine = engine_of(&session);
    g_auto(VrGc) gc = gc_of(&session, &engine, answer);
    if (!vr_gc_left(&gc, cli->options.left, error))
        return FALSE;
    paths = vr_gc_unknown(session.store, session.journal, NULL, error);
    if (paths)
        take_unknown(answer, paths);
    return paths != NULL;
}

static gboolean has_answer(const Answer *answer)
{
    return json_array_size(answer->deleted) + json_array_size(answer->kept) + json_array_size(answer->unknown) > 0;
}

static void end(Answer *answer)
{
    const VrCli *cli = answer->cli;
    g_autofree char *size = vr_text_size(answer->bytes);

    if (cli->options.json)
        vr_json_print(json_pack("{s:b, s:O, s:O, s:O}", "dryRun", cli->options.dry_run, "deleted", answer->deleted,
                                "kept", answer->kept, "unknown", answer->unknown));
    vr_say(cli, "%u disk%s %s deleted, %s", answer->count, answer->count == 1 ? "" : "s",
           cli->options.dry_run ? "would be"
           : answer->count == 1 ? "was"
                                : "were",
           size);
}

static GPtrArray *all_sets(const VrCli *cli, GError **error)
{
    g_auto(VrSession) session = {0};

    return vr_session_open_read(&session, cli, error) ? vr_registry_list(vr_store_db(session.store), error) : NULL;
}

/* One set that is owned, or whose model cannot be read, does not keep the others from it; libvirt that cannot be reached does. The first
 * error is the answer. */
static gboolean gc_all(const VrCli *cli, Answer *answer, GError **error)
{
    g_autoptr(GPtrArray) names = all_sets(cli, error);
    g_autoptr(GError) first = NULL;

    for (guint i = 0; names && i <= names->len && !answer->unreachable; i++) {
        g_autoptr(GError) local = NULL;
        if (i < names->len ? gc_set(cli, names->pdata[i], answer, &local) : gc_left(cli, answer, &local))
            continue;
        if (!first)
            first = g_steal_pointer(&local);
        else
            vr_warn(cli, "%s", local->message);
    }
    if (!first)
        return names != NULL;
    g_propagate_error(error, g_steal_pointer(&first));
    return FALSE;
}

/* A store that is not there is not made for this. */
static gboolean has_store(const VrCli *cli, GError **error)
{
    g_auto(VrSession) probe = {0};

    return vr_session_open_read(&probe, cli, error);
}

gboolean vr_cmd_gc(const VrCli *cli, GError **error)
{
    g_auto(Answer) answer = {.cli = cli, .deleted = json_array(), .kept = json_array(), .unknown = json_array()};
    g_autoptr(GError) local = NULL;
    const char *name = cli->n_args > 0 ? cli->args[0] : NULL;

    if (name && cli->options.left) {
        g_set_error(error, VR_ERROR, VR_ERROR_USAGE, "--left is about instances that are in no set: leave '%s' out",
                    name);
        return FALSE;
    }
    if (!has_store(cli, error))
        return FALSE;
    if (name)
        (void)(gc_set(cli, name, &answer, &local) && list_of_set(cli, name, &answer, &local));
    else
        (void)gc_all(cli, &answer, &local);
    if (!local || has_answer(&answer))
        end(&answer);
    if (!local)
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}
