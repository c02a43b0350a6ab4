/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/history.h"

#include "base/clock.h"
#include "base/error.h"
#include "orchestrator/outbox.h"
#include "orchestrator/tallies.h"

#include <stdlib.h>

static void run_instance_free(gpointer data)
{
    VrRunInstance *instance = data;

    g_free(instance->domain);
    g_free(instance->reason);
    g_free(instance->swap_id);
    g_free(instance->image);
    g_free(instance->version);
    g_free(instance);
}

void vr_run_free(VrRun *run)
{
    if (!run)
        return;
    g_free(run->id);
    g_free(run->set_name);
    g_free(run->image);
    g_free(run->version);
    g_free(run->started_by);
    g_free(run->reason);
    g_free(run->role);
    g_free(run->request_id);
    g_free(run->error_code);
    g_free(run->error_text);
    g_free(run->state);
    g_strfreev(run->ignored);
    g_clear_pointer(&run->instances, g_ptr_array_unref);
    g_free(run);
}

GPtrArray *vr_run_instances_new(void)
{
    return g_ptr_array_new_with_free_func(run_instance_free);
}

/* --- writing ----------------------------------------------------------------------------------------- */

/* Sortable by time, short enough to type, and unique by its random tail. */
static char *new_run_id(gint64 wall_us)
{
    g_autoptr(GDateTime) when = g_date_time_new_from_unix_utc(wall_us / G_USEC_PER_SEC);
    g_autofree char *stamp = g_date_time_format(when, "%Y%m%d-%H%M%S");

    return g_strdup_printf("%s-%04x", stamp, g_random_int() & 0xffff);
}

/* A name that people type has few random digits, and many runs may begin in a second. In a transaction. */
static char *free_run_id(VrDb *db, gint64 wall_us, GError **error)
{
    for (;;) {
        g_autofree char *id = new_run_id(wall_us);
        g_autoptr(sqlite3_stmt) stmt = vr_db_prepare(db, error, "SELECT 1 FROM runs WHERE id = ?", "s", id);
        int found = stmt ? vr_db_step(db, stmt, error) : -1;

        if (found <= 0)
            return found == 0 ? g_steal_pointer(&id) : NULL;
    }
}

static gboolean write_instance(VrDb *db, const char *run_id, gint64 ordinal, const VrRunInstance *instance,
                               GError **error)
{
    return vr_db_run(db, NULL, error,
                     "INSERT INTO run_instances (run_id, ordinal, uuid, domain, batch, phase, reason, swap_id, "
                     "to_generation, canary, image, version) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT "
                     "(run_id, uuid) DO UPDATE SET batch = excluded.batch, "
                     "phase = excluded.phase, reason = excluded.reason, swap_id = excluded.swap_id",
                     "sissiissiiss", run_id, ordinal, instance->uuid, instance->domain, (gint64)instance->batch,
                     (gint64)instance->phase, instance->reason, instance->swap_id, (gint64)instance->to_generation,
                     (gint64)instance->canary, instance->image, instance->version);
}

static gboolean write_run(VrDb *db, const VrRun *run, GError **error)
{
    if (!vr_db_run(db, NULL, error,
                   "INSERT INTO runs (id, set_name, kind, status, image, version, started_by, reason, started_us, "
                   "detached, role, request_id, automatic) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                   "ssiissssiissi", run->id, run->set_name, (gint64)run->kind, (gint64)run->status, run->image,
                   run->version, run->started_by, run->reason, run->started_us, (gint64)run->detached, run->role,
                   run->request_id, (gint64)run->automatic))
        return FALSE;
    for (guint i = 0; i < run->instances->len; i++)
        if (!write_instance(db, run->id, i, g_ptr_array_index(run->instances, i), error))
            return FALSE;
    return TRUE;
}

static gboolean end(VrDb *db, gboolean ok, GError **error)
{
    if (ok)
        return vr_db_commit(db, error);
    vr_db_rollback(db);
    return FALSE;
}

gboolean vr_history_begin(VrJournal *journal, const VrOwner *owner, VrRun *run, GError **error)
{
    VrDb *db = vr_journal_db(journal);

    run->started_us = vr_clock_wall_us();
    run->status = VR_RUN_ROLLING_FORWARD;
    g_free(run->id);
    run->id = NULL;
    if (!vr_owner_begin(journal, owner, error))
        return FALSE;
    run->id = free_run_id(db, run->started_us, error);
    return end(db, run->id && write_run(db, run, error) && vr_outbox_accept(db, run, error), error);
}

gboolean vr_history_instance(VrJournal *journal, const VrOwner *owner, const char *run_id,
                             const VrRunInstance *instance, GError **error)
{
    VrDb *db = vr_journal_db(journal);

    return vr_owner_begin(journal, owner, error) && end(db, write_instance(db, run_id, 0, instance, error), error);
}

gboolean vr_history_state(VrJournal *journal, const VrOwner *owner, const char *run_id, const char *state,
                          GError **error)
{
    VrDb *db = vr_journal_db(journal);

    return vr_owner_begin(journal, owner, error) &&
           end(db, vr_db_run(db, NULL, error, "UPDATE runs SET state = ? WHERE id = ?", "ss", state, run_id), error);
}

gboolean vr_history_detach(VrJournal *journal, const VrOwner *owner, VrRun *run, GError **error)
{
    VrDb *db = vr_journal_db(journal);

    if (!vr_owner_begin(journal, owner, error) ||
        !end(db, vr_db_run(db, NULL, error, "UPDATE runs SET detached = 1 WHERE id = ?", "s", run->id), error))
        return FALSE;
    run->detached = TRUE;
    return TRUE;
}

/* --- reading ----------------------------------------------------------------------------------------- */

static gboolean read_instances(VrDb *db, VrRun *run, GError **error)
{
    g_autoptr(sqlite3_stmt) stmt =
        vr_db_prepare(db, error,
                      "SELECT uuid, domain, batch, phase, reason, swap_id, to_generation, "
                      "canary, image, version FROM run_instances WHERE run_id = ? ORDER BY ordinal",
                      "s", run->id);
    int row = -1;

    while (stmt && (row = vr_db_step(db, stmt, error)) == 1) {
        VrRunInstance *instance = g_new0(VrRunInstance, 1);
        g_strlcpy(instance->uuid, (const char *)sqlite3_column_text(stmt, 0), sizeof(instance->uuid));
        instance->domain = vr_db_text(stmt, 1);
        instance->batch = (guint)sqlite3_column_int64(stmt, 2);
        instance->phase = (VrInstancePhase)sqlite3_column_int(stmt, 3);
        instance->reason = vr_db_text(stmt, 4);
        instance->swap_id = vr_db_text(stmt, 5);
        instance->to_generation = (guint)sqlite3_column_int64(stmt, 6);
        instance->canary = sqlite3_column_int(stmt, 7) != 0;
        instance->image = vr_db_text(stmt, 8);
        instance->version = vr_db_text(stmt, 9);
        g_ptr_array_add(run->instances, instance);
    }
    return row == 0;
}

static VrRun *read_run(sqlite3_stmt *stmt)
{
    VrRun *run = g_new0(VrRun, 1);

    run->id = vr_db_text(stmt, 0);
    run->set_name = vr_db_text(stmt, 1);
    run->kind = (VrRunKind)sqlite3_column_int(stmt, 2);
    run->status = (VrRunStatus)sqlite3_column_int(stmt, 3);
    run->image = vr_db_text(stmt, 4);
    run->version = vr_db_text(stmt, 5);
    run->started_by = vr_db_text(stmt, 6);
    run->reason = vr_db_text(stmt, 7);
    run->started_us = sqlite3_column_int64(stmt, 8);
    run->completed_us = sqlite3_column_int64(stmt, 9);
    run->error_code = vr_db_text(stmt, 10);
    run->error_text = vr_db_text(stmt, 11);
    run->detached = sqlite3_column_int(stmt, 12) != 0;
    run->state = vr_db_text(stmt, 13);
    run->role = vr_db_text(stmt, 14);
    run->request_id = vr_db_text(stmt, 15);
    run->automatic = sqlite3_column_int(stmt, 16) != 0;
    run->instances = vr_run_instances_new();
    return run;
}

static gboolean read_runs(VrDb *db, GPtrArray *runs, const char *set_name, const char *run_id, gint64 limit,
                          GError **error)
{
    g_autoptr(sqlite3_stmt) stmt = vr_db_prepare(
        db, error,
        "SELECT id, set_name, kind, status, image, version, started_by, reason, started_us, completed_us, "
        "error_code, error_text, detached, state, role, request_id, automatic FROM runs WHERE set_name = ?1 AND (?2 IS "
        "NULL OR id "
        "= ?2) "
        "ORDER BY seq DESC LIMIT ?3",
        "ssi", set_name, run_id, limit);
    int row = -1;

    while (stmt && (row = vr_db_step(db, stmt, error)) == 1)
        g_ptr_array_add(runs, read_run(stmt));
    for (guint i = 0; row == 0 && i < runs->len; i++)
        if (!read_instances(db, g_ptr_array_index(runs, i), error))
            return FALSE;
    return row == 0;
}

/* --- ends -------------------------------------------------------------------------------------------- */

/* In a transaction: the end in its row, and the notice that tells of it (outbox.h), so that neither is without the other. */
static gboolean end_and_tell(VrDb *db, const char *set_name, const VrRun *run, GError **error)
{
    g_autoptr(GPtrArray) now = g_ptr_array_new_with_free_func((GDestroyNotify)vr_run_free);

    return vr_db_run(db, NULL, error,
                     "UPDATE runs SET status = ?, completed_us = ?, error_code = ?, error_text = ? WHERE id = ?",
                     "iisss", (gint64)run->status, run->completed_us, run->error_code, run->error_text, run->id) &&
           read_runs(db, now, set_name, run->id, 1, error) &&
           (now->len == 0 || vr_outbox_complete(db, now->pdata[0], error));
}

gboolean vr_history_end(VrJournal *journal, const VrOwner *owner, const VrRun *run, GError **error)
{
    VrDb *db = vr_journal_db(journal);

    return vr_owner_begin(journal, owner, error) &&
           end(db, end_and_tell(db, owner->set_name, run, error) && vr_tallies_keep(journal, owner->set_name, error),
               error);
}

/* Ids of the runs of a set that have no end, and are not detached. In a transaction; element: char *. */
static GPtrArray *open_ids(VrDb *db, const char *set_name, GError **error)
{
    g_autoptr(GPtrArray) ids = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(sqlite3_stmt) stmt = vr_db_prepare(
        db, error, "SELECT id FROM runs WHERE set_name = ? AND completed_us = 0 AND detached = 0 ORDER BY seq", "s",
        set_name);
    int row = -1;

    while (stmt && (row = vr_db_step(db, stmt, error)) == 1)
        g_ptr_array_add(ids, vr_db_text(stmt, 0));
    return row == 0 ? g_steal_pointer(&ids) : NULL;
}

static gboolean close_all(VrDb *db, const char *set_name, const VrRun *how, guint *closed, GError **error)
{
    g_autoptr(GPtrArray) ids = open_ids(db, set_name, error);

    for (guint i = 0; ids && i < ids->len; i++) {
        VrRun run = *how;
        run.id = ids->pdata[i];
        if (!end_and_tell(db, set_name, &run, error))
            return FALSE;
        (*closed)++;
    }
    return ids != NULL;
}

gboolean vr_history_close_open(VrJournal *journal, const VrOwner *owner, const char *code, const char *text,
                               guint *closed, GError **error)
{
    VrDb *db = vr_journal_db(journal);
    const VrRun how = {.status = VR_RUN_FAULTED,
                       .completed_us = vr_clock_wall_us(),
                       .error_code = (char *)code,
                       .error_text = (char *)text};
    guint count = 0;
    gboolean ok =
        vr_owner_begin(journal, owner, error) && end(db, close_all(db, owner->set_name, &how, &count, error), error);

    if (closed)
        *closed = count;
    return ok;
}

/* --- lists ------------------------------------------------------------------------------------------- */

static GPtrArray *list(VrDb *db, const char *set_name, const char *run_id, gint64 limit, GError **error)
{
    g_autoptr(GPtrArray) runs = g_ptr_array_new_with_free_func((GDestroyNotify)vr_run_free);
    gboolean ok;

    if (!vr_db_begin_read(db, error))
        return NULL;
    ok = read_runs(db, runs, set_name, run_id, limit, error);
    vr_db_rollback(db);
    return ok ? g_steal_pointer(&runs) : NULL;
}

GPtrArray *vr_history_list(VrDb *db, const char *set_name, guint limit, GError **error)
{
    return list(db, set_name, NULL, limit == 0 ? -1 : (gint64)limit, error);
}

VrRun *vr_history_get(VrDb *db, const char *set_name, const char *run_id, GError **error)
{
    g_autoptr(GPtrArray) runs = list(db, set_name, run_id, 1, error);

    if (runs && runs->len == 0) {
        g_set_error(error, VR_ERROR, VR_ERROR_NOT_FOUND, "set '%s' has no run '%s'", set_name, run_id);
        vr_error_next(error, "'virt-reimage history %s' lists them", set_name);
    }
    return runs && runs->len > 0 ? g_ptr_array_steal_index(runs, 0) : NULL;
}

VrRun *vr_history_last(VrDb *db, const char *set_name, GError **error)
{
    g_autoptr(GPtrArray) runs = list(db, set_name, NULL, 1, error);

    return runs && runs->len > 0 ? g_ptr_array_steal_index(runs, 0) : NULL;
}

VrRun *vr_history_open(VrDb *db, const char *set_name, GError **error)
{
    g_autoptr(VrRun) last = vr_history_last(db, set_name, error); /* no other one can be without its end */

    return last && last->completed_us == 0 ? g_steal_pointer(&last) : NULL;
}

VrRunCounts vr_run_counts(const VrRun *run)
{
    VrRunCounts counts = {0};

    for (guint i = 0; i < run->instances->len; i++) {
        const VrRunInstance *instance = g_ptr_array_index(run->instances, i);
        switch (instance->phase) {
        case VR_PHASE_PENDING:
            counts.pending++;
            break;
        case VR_PHASE_SKIPPED:
            counts.skipped++;
            break;
        case VR_PHASE_COMMITTED:
            counts.successful++;
            break;
        case VR_PHASE_RESTORED:
            counts.restored++;
            counts.failed++;
            break;
        case VR_PHASE_UNKNOWN:
            counts.unknown++;
            counts.failed++;
            break;
        case VR_PHASE_FAILED:
            counts.failed++;
            break;
        default:
            counts.in_progress++;
        }
    }
    return counts;
}

/* --- spread ------------------------------------------------------------------------------------------ */

static int compare_int64(const void *a, const void *b)
{
    gint64 x = *(const gint64 *)a, y = *(const gint64 *)b;

    return (x > y) - (x < y);
}

/* Nearest rank: the smallest value that at least percent % of all are not above. */
static gint64 rank(const gint64 *sorted, guint count, guint percent)
{
    return sorted[(count * percent + 99) / 100 - 1];
}

VrSpread vr_spread_of(const gint64 *values, guint count)
{
    g_autofree gint64 *sorted = g_new(gint64, count + 1);
    VrSpread spread = {-1, -1, -1, 0};

    for (guint i = 0; i < count; i++)
        if (values[i] >= 0)
            sorted[spread.count++] = values[i];
    if (spread.count == 0)
        return spread;
    qsort(sorted, spread.count, sizeof(*sorted), compare_int64);
    spread.p50 = rank(sorted, spread.count, 50);
    spread.p95 = rank(sorted, spread.count, 95);
    spread.max = sorted[spread.count - 1];
    return spread;
}
