/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/gc.h"

#include "base/error.h"

#include <string.h>
#include <sys/stat.h>

void vr_gc_clear(VrGc *gc)
{
    g_clear_pointer(&gc->in_use, vr_in_use_free);
}

/* --- one disk ---------------------------------------------------------------------------------------- */

static guint64 bytes_of(const VrGeneration *generation)
{
    struct stat st;

    return lstat(generation->path, &st) == 0 && S_ISREG(st.st_mode) ? (guint64)st.st_blocks * 512 : 0;
}

/* What keeps this one disk and is no fault of the journal or of libvirt. */
static gboolean is_obstacle(const GError *error)
{
    return g_error_matches(error, VR_ERROR, VR_ERROR_REFUSED) || g_error_matches(error, VR_ERROR, VR_ERROR_CONFLICT) ||
           g_error_matches(error, VR_ERROR, VR_ERROR_IO) || g_error_matches(error, VR_ERROR, VR_ERROR_NO_SPACE);
}

static gboolean retire(VrGc *gc, VrGcDisk *disk, const VrRetireCheck *check, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autofree char *obstacle = NULL;

    disk->bytes = bytes_of(disk->generation);
    if (gc->dry_run)
        obstacle = vr_retire_obstacle(gc->engine->store, disk->generation, check);
    else if (!vr_retire(gc->engine, disk->generation, check, disk->why, &local)) {
        if (!is_obstacle(local)) {
            g_propagate_error(error, g_steal_pointer(&local));
            return FALSE;
        }
        obstacle = g_strdup(local->message);
    }
    disk->obstacle = obstacle;
    gc->tell(disk, gc->data);
    return TRUE;
}

/* One that was never booted is only of account when its file stayed behind. */
static gboolean is_of_account(VrGc *gc, const VrVerdict *verdict)
{
    return verdict->goes && (verdict->generation->state != VR_GENERATION_DISCARDED ||
                             vr_retire_is_there(gc->engine->store, verdict->generation));
}

static gboolean retire_those(VrGc *gc, const VrGcDisk *of, const GPtrArray *verdicts, VrMayRetire may, GError **error)
{
    for (guint i = 0; i < verdicts->len; i++) {
        const VrVerdict *verdict = g_ptr_array_index(verdicts, i);
        VrRetireCheck check = {.in_use = gc->in_use, .may = may};
        VrGcDisk disk = *of;

        if (!is_of_account(gc, verdict))
            continue;
        if (!gc->in_use)
            gc->in_use = vr_in_use_read(gc->engine->store, gc->engine->hv, gc->engine->journal, error);
        if (!gc->in_use)
            return FALSE;
        check.in_use = gc->in_use;
        disk.generation = verdict->generation;
        disk.why = verdict->why;
        if (!retire(gc, &disk, &check, error))
            return FALSE;
    }
    return TRUE;
}

/* --- a set ------------------------------------------------------------------------------------------- */

GPtrArray *vr_gc_judge(VrJournal *journal, const VrSet *set, const char *uuid, const GPtrArray *generations,
                       GError **error)
{
    VrRetentionFacts facts;

    if (!vr_retention_facts(journal, set->name, uuid, generations, &facts, error))
        return NULL;
    return vr_retention_judge(generations, &set->model->retention, &facts);
}

gboolean vr_gc_set(VrGc *gc, const VrSet *set, GError **error)
{
    for (guint i = 0; i < set->instances->len; i++) {
        const VrInstance *instance = g_ptr_array_index(set->instances, i);
        VrGcDisk of = {.set_name = set->name, .domain = instance->domain, .uuid = instance->uuid};
        g_autoptr(GPtrArray) all = vr_journal_generations(gc->engine->journal, instance->uuid, error);
        g_autoptr(GPtrArray) verdicts = all ? vr_gc_judge(gc->engine->journal, set, instance->uuid, all, error) : NULL;

        if (!verdicts || !retire_those(gc, &of, verdicts, NULL, error))
            return FALSE;
    }
    return TRUE;
}

/* --- what instances left ----------------------------------------------------------------------------- */

typedef struct {
    char *uuid, *domain;
} Left;

static void left_free(gpointer data)
{
    Left *left = data;

    g_free(left->uuid);
    g_free(left->domain);
    g_free(left);
}

/* Of our making, and not gone, of instances that are in no set; the name is that of its last swap. 4, 6: as in in_use.c. */
static GPtrArray *read_left(VrDb *db, GError **error)
{
    g_autoptr(GPtrArray) rows = g_ptr_array_new_with_free_func(left_free);
    int step = -1;

    if (!vr_db_begin_read(db, error))
        return NULL;
    {
        g_autoptr(sqlite3_stmt) stmt = vr_db_prepare(
            db, error,
            "SELECT DISTINCT uuid, (SELECT domain FROM swaps WHERE uuid = generations.uuid ORDER BY seq DESC LIMIT 1) "
            "FROM generations WHERE ours AND state != 6 AND uuid NOT IN (SELECT uuid FROM instances) ORDER BY uuid",
            "");
        while (stmt && (step = vr_db_step(db, stmt, error)) == 1) {
            Left *left = g_new0(Left, 1);
            left->uuid = vr_db_text(stmt, 0);
            left->domain = vr_db_text(stmt, 1);
            g_ptr_array_add(rows, left);
        }
    }
    vr_db_rollback(db);
    return step == 0 ? g_steal_pointer(&rows) : NULL;
}

/* A set that was defined meanwhile has its own retention, and its own owner. */
static gboolean is_in_no_set(VrDb *db, const char *uuid, void *data, GError **error)
{
    g_autoptr(sqlite3_stmt) stmt = vr_db_prepare(db, error, "SELECT set_name FROM instances WHERE uuid = ?", "s", uuid);
    int step = stmt ? vr_db_step(db, stmt, error) : -1;

    if (step == 1)
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "its instance is in set %s by now",
                    (const char *)sqlite3_column_text(stmt, 0));
    return step == 0;
}

gboolean vr_gc_left(VrGc *gc, gboolean at_once, GError **error)
{
    VrJournal *journal = gc->engine->journal;
    g_autoptr(GPtrArray) rows = read_left(vr_journal_db(journal), error);

    for (guint i = 0; rows && i < rows->len; i++) {
        const Left *left = g_ptr_array_index(rows, i);
        VrGcDisk of = {.domain = left->domain ? left->domain : left->uuid, .uuid = left->uuid};
        g_autoptr(GPtrArray) all = vr_journal_generations(journal, left->uuid, error);
        g_autoptr(GPtrArray) verdicts = NULL;
        VrRetentionFacts facts;

        if (!all || !vr_retention_facts(journal, NULL, left->uuid, all, &facts, error))
            return FALSE;
        verdicts = vr_retention_judge(all, at_once ? NULL : &vr_retention_default, &facts);
        if (!retire_those(gc, &of, verdicts, is_in_no_set, error))
            return FALSE;
    }
    return rows != NULL;
}

/* --- what the journal does not know ------------------------------------------------------------------ */

/* Also one that is not ours any more, since its instance was released with it. */
static gboolean lies_in(const VrGeneration *generation, const char *directory)
{
    g_autofree char *its = g_path_get_dirname(generation->path);

    return generation->ours || g_str_equal(its, directory);
}

static void know(GHashTable *known, const VrGeneration *generation, const char *directory)
{
    static const char *const beside[] = {"xml", "nvram", "seed.iso", "console.log"};

    if (generation->state == VR_GENERATION_DISCARDED || generation->state == VR_GENERATION_DELETED)
        return;
    if (lies_in(generation, directory))
        g_hash_table_add(known, g_path_get_basename(generation->path));
    for (gsize i = 0; i < G_N_ELEMENTS(beside); i++)
        g_hash_table_add(known, g_strdup_printf("g%u.%s", generation->number, beside[i]));
}

static gboolean list_directory(VrStore *store, VrJournal *journal, const char *uuid, GPtrArray *unknown, GError **error)
{
    g_autofree char *relpath = g_build_filename("disks", uuid, NULL);
    g_autofree char *directory = g_build_filename(vr_store_root(store), relpath, NULL);
    g_autoptr(GHashTable) known = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autoptr(GPtrArray) names = vr_store_children(store, relpath, error);
    g_autoptr(GPtrArray) all = names ? vr_journal_generations(journal, uuid, error) : NULL;

    for (guint i = 0; all && i < all->len; i++)
        know(known, g_ptr_array_index(all, i), directory);
    for (guint i = 0; all && i < names->len; i++) {
        const char *name = g_ptr_array_index(names, i);
        if (!g_str_has_prefix(name, ".tmp-") && !g_hash_table_contains(known, name))
            g_ptr_array_add(unknown, g_build_filename(directory, name, NULL));
    }
    return all != NULL;
}

static int by_text(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

GPtrArray *vr_gc_unknown(VrStore *store, VrJournal *journal, const char *uuid, GError **error)
{
    g_autoptr(GPtrArray) unknown = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) uuids = uuid ? NULL : vr_store_children(store, "disks", error);

    if (uuid)
        return list_directory(store, journal, uuid, unknown, error) ? g_steal_pointer(&unknown) : NULL;
    for (guint i = 0; uuids && i < uuids->len; i++) {
        const char *name = g_ptr_array_index(uuids, i);
        if (!g_uuid_string_is_valid(name))
            g_ptr_array_add(unknown, g_build_filename(vr_store_root(store), "disks", name, NULL));
        else if (!list_directory(store, journal, name, unknown, error))
            return NULL;
    }
    if (!uuids)
        return NULL;
    g_ptr_array_sort(unknown, by_text);
    return g_steal_pointer(&unknown);
}
