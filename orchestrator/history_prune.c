/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What of the history goes (J1, decision 10). A run goes when it is older than the model says, or when as many newer ones are kept
 * as it says; but never
 *
 *   - one that has no end yet, or whose swap is open or UNKNOWN: recovery needs it;
 *   - the newest one forward that moved an instance: 'rollback --all' undoes it;
 *   - the last five upgrades of two months: 'history --azure' shows them;
 *   - the newest one in which a version failed: nobody tries that version again without a person's word (invariant 21).
 *
 * Which generation replaced which is kept with the generations (vr_journal_forget_run), so a rollback of one instance goes as far
 * back as its disks do; so is what extensions did on them.
 */
#include "base/clock.h"
#include "orchestrator/extension_results.h"
#include "orchestrator/history.h"
#include "orchestrator/tallies.h"

#define AZURE_RUNS 5
#define AZURE_AGE_US (62 * 86400 * (gint64)G_USEC_PER_SEC)

typedef struct {
    VrRunKind kind;
    VrRunStatus status;
    char *id, *version; /* version: with its image; NULL: there is none */
    gboolean internal;  /* it says nothing about its version */
    gint64 completed_us;
} Row;

static void row_clear(gpointer data)
{
    Row *row = data;

    g_free(row->id);
    g_free(row->version);
}

/* All of a set, newest first. Element: Row. */
static GArray *read_rows(VrDb *db, const char *set_name, GError **error)
{
    g_autoptr(GArray) rows = g_array_new(FALSE, TRUE, sizeof(Row));
    g_autoptr(sqlite3_stmt) stmt =
        vr_db_prepare(db, error,
                      "SELECT id, kind, status, image || ' ' || version, error_code IS ?2, completed_us FROM runs "
                      "WHERE set_name = ?1 ORDER BY seq DESC",
                      "ss", set_name, VR_CODE_INTERNAL);
    int step = -1;

    g_array_set_clear_func(rows, row_clear);
    while (stmt && (step = vr_db_step(db, stmt, error)) == 1) {
        Row row = {.id = vr_db_text(stmt, 0),
                   .kind = (VrRunKind)sqlite3_column_int(stmt, 1),
                   .status = (VrRunStatus)sqlite3_column_int(stmt, 2),
                   .version = vr_db_text(stmt, 3),
                   .internal = sqlite3_column_int(stmt, 4) != 0,
                   .completed_us = sqlite3_column_int64(stmt, 5)};
        g_array_append_val(rows, row);
    }
    return step == 0 ? g_steal_pointer(&rows) : NULL;
}

/* failed: versions whose newest failure was seen. */
static gboolean is_newest_failure(const Row *row, GHashTable *failed)
{
    return row->status == VR_RUN_FAULTED && !row->internal && row->version &&
           (row->kind == VR_RUN_UPGRADE || row->kind == VR_RUN_REIMAGE) && g_hash_table_add(failed, row->version);
}

static gboolean forget(VrJournal *journal, const char *run_id, GError **error)
{
    VrDb *db = vr_journal_db(journal);

    return vr_journal_forget_run(journal, run_id, error) &&
           vr_db_run(db, NULL, error, "DELETE FROM run_instances WHERE run_id = ?", "s", run_id) &&
           vr_db_run(db, NULL, error, "DELETE FROM runs WHERE id = ?", "s", run_id);
}

/* What was seen of the newer runs. */
typedef struct {
    guint runs, upgrades;
    gboolean moved;
    GHashTable *failed;
} Newer;

static gboolean is_kept(const Row *row, Newer *newer, const VrHistoryRetention *retention, gboolean moved,
                        gboolean open)
{
    gint64 age_us = vr_clock_wall_us() - row->completed_us;
    gboolean undone = moved && row->kind != VR_RUN_ROLLBACK && !newer->moved;
    gboolean failure = is_newest_failure(row, newer->failed);
    gboolean shown = row->kind == VR_RUN_UPGRADE && newer->upgrades < AZURE_RUNS && age_us < AZURE_AGE_US;
    gboolean recent = newer->runs < retention->runs && age_us / 1000 < retention->max_age_ms;

    newer->runs++;
    newer->upgrades += row->kind == VR_RUN_UPGRADE ? 1 : 0;
    newer->moved = newer->moved || undone;
    return undone || failure || shown || recent || open || row->completed_us == 0;
}

static gboolean prune(VrJournal *journal, const GArray *rows, const VrHistoryRetention *retention, guint *forgotten,
                      GError **error)
{
    g_autoptr(GHashTable) failed = g_hash_table_new(g_str_hash, g_str_equal);
    Newer newer = {.failed = failed};

    for (guint i = 0; i < rows->len; i++) {
        const Row *row = &g_array_index(rows, Row, i);
        gboolean moved, open;
        if (!vr_journal_run_outcome(journal, row->id, &moved, &open, error))
            return FALSE;
        if (is_kept(row, &newer, retention, moved, open))
            continue;
        if (!forget(journal, row->id, error))
            return FALSE;
        (*forgotten)++;
    }
    return TRUE;
}

static gboolean end_prune(VrJournal *journal, const VrOwner *owner, guint forgotten, GError **error)
{
    g_autofree char *text = g_strdup_printf("%u", forgotten);

    return forgotten == 0 || (vr_extension_results_prune(journal, error) &&
                              vr_journal_add_event(journal, owner, NULL, NULL, "history-pruned", text, error));
}

gboolean vr_history_prune(VrJournal *journal, const VrOwner *owner, const VrHistoryRetention *retention,
                          guint *forgotten, GError **error)
{
    VrDb *db = vr_journal_db(journal);
    g_autoptr(GArray) rows = NULL;
    guint count = 0;

    if (!vr_owner_begin(journal, owner, error))
        return FALSE;
    rows = read_rows(db, owner->set_name, error);
    if (!rows || !vr_tallies_keep(journal, owner->set_name, error) || !prune(journal, rows, retention, &count, error) ||
        !end_prune(journal, owner, count, error)) {
        vr_db_rollback(db);
        return FALSE;
    }
    if (forgotten)
        *forgotten = count;
    return vr_db_commit(db, error);
}
