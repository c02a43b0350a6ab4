/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/version_past.h"

#include "base/error.h"
#include "disk/version.h"

#include <string.h>

void vr_version_past_clear(VrVersionPast *past)
{
    g_clear_pointer(&past->failed_run, g_free);
    g_clear_pointer(&past->failed_code, g_free);
    g_clear_pointer(&past->ended_run, g_free);
    g_clear_pointer(&past->taken_back_run, g_free);
}

/* A run without its instances: a history may have a thousand of them, and few matter here. */
typedef struct {
    char *id, *image, *version, *error_code;
    gint64 seq, completed_us;
    VrRunKind kind;
    VrRunStatus status;
    gboolean automatic;
} Row;

static void row_free(gpointer data)
{
    Row *row = data;

    g_free(row->id);
    g_free(row->image);
    g_free(row->version);
    g_free(row->error_code);
    g_free(row);
}

static Row *read_row(sqlite3_stmt *stmt)
{
    Row *row = g_new0(Row, 1);

    row->id = vr_db_text(stmt, 0);
    row->image = vr_db_text(stmt, 1);
    row->version = vr_db_text(stmt, 2);
    row->error_code = vr_db_text(stmt, 3);
    row->seq = sqlite3_column_int64(stmt, 4);
    row->completed_us = sqlite3_column_int64(stmt, 5);
    row->kind = (VrRunKind)sqlite3_column_int(stmt, 6);
    row->status = (VrRunStatus)sqlite3_column_int(stmt, 7);
    row->automatic = sqlite3_column_int(stmt, 8) != 0;
    return row;
}

/* Newest first. */
static GPtrArray *read_rows(VrDb *db, const char *set_name, GError **error)
{
    g_autoptr(GPtrArray) rows = g_ptr_array_new_with_free_func(row_free);
    int more = -1;

    if (!vr_db_begin_read(db, error))
        return NULL;
    {
        g_autoptr(sqlite3_stmt) stmt =
            vr_db_prepare(db, error,
                          "SELECT id, image, version, error_code, seq, completed_us, kind, status, automatic FROM runs "
                          "WHERE set_name = ? ORDER BY seq DESC",
                          "s", set_name);
        while (stmt && (more = vr_db_step(db, stmt, error)) == 1)
            g_ptr_array_add(rows, read_row(stmt));
    }
    vr_db_rollback(db);
    return more == 0 ? g_steal_pointer(&rows) : NULL;
}

/* A run fails a version when a guest ran on it and did not become healthy. One whose process was killed, a guest that would not
 * stop, or a host that could not start it, says nothing about the version. */
static gboolean is_failure(VrJournal *journal, const VrSet *set, const Row *row, gboolean *is, GError **error)
{
    g_autoptr(VrRun) run = NULL;

    *is = FALSE;
    if (row->status != VR_RUN_FAULTED || g_strcmp0(row->error_code, VR_CODE_INTERNAL) == 0)
        return TRUE;
    run = vr_history_get(vr_journal_db(journal), set->name, row->id, error);
    for (guint i = 0; run && i < run->instances->len && !*is; i++) {
        const VrRunInstance *instance = g_ptr_array_index(run->instances, i);
        gboolean ran = FALSE;
        if (instance->phase == VR_PHASE_COMMITTED || !instance->swap_id)
            continue;
        *is = !vr_journal_has_mark(journal, instance->swap_id, vr_swap_state_name(VR_SWAP_STARTED), &ran, NULL) || ran;
    }
    return run != NULL;
}

static gboolean moved_away(VrJournal *journal, const Row *row, const char *image, const char *version, gboolean *did,
                           GError **error)
{
    VrDb *db = vr_journal_db(journal);
    int more = -1;

    if (!vr_db_begin_read(db, error))
        return FALSE;
    {
        g_autoptr(sqlite3_stmt) stmt = vr_db_prepare(
            db, error,
            "SELECT DISTINCT g.version FROM swaps s JOIN generations g ON g.uuid = s.uuid AND g.number = s.from_number "
            "WHERE s.run_id = ? AND s.state = ? AND g.image = ? AND g.version IS NOT NULL",
            "sis", row->id, (gint64)VR_SWAP_COMMITTED, image);
        while (stmt && (more = vr_db_step(db, stmt, error)) == 1)
            *did = *did || vr_version_compare((const char *)sqlite3_column_text(stmt, 0), version) == 0;
    }
    vr_db_rollback(db);
    return more == 0;
}

/* A rollback; or a person's upgrade or reimage to a lower version. */
static gboolean goes_back(const Row *row, const char *image, const char *version)
{
    if (row->kind == VR_RUN_ROLLBACK)
        return TRUE;
    return (row->kind == VR_RUN_UPGRADE || row->kind == VR_RUN_REIMAGE) && !row->automatic && row->version &&
           g_strcmp0(row->image, image) == 0 && vr_version_compare(row->version, version) < 0;
}

static gboolean goes_to(const Row *row, const char *image, const char *version)
{
    return (row->kind == VR_RUN_UPGRADE || row->kind == VR_RUN_REIMAGE) && row->version &&
           g_strcmp0(row->image, image) == 0 && vr_version_compare(row->version, version) == 0;
}

/* Newest first, until a run came good or failed. */
static gboolean read_failure(VrJournal *journal, const VrSet *set, const GPtrArray *rows, const char *image,
                             const char *version, VrVersionPast *past, GError **error)
{
    for (guint i = 0; i < rows->len; i++) {
        const Row *row = g_ptr_array_index(rows, i);
        gboolean failed;
        if (!goes_to(row, image, version))
            continue;
        if (row->status == VR_RUN_COMPLETED)
            return TRUE;
        if (!is_failure(journal, set, row, &failed, error))
            return FALSE;
        if (!failed)
            continue;
        past->failed_run = g_strdup(row->id);
        past->failed_code = g_strdup(row->error_code);
        return TRUE;
    }
    return TRUE;
}

static void note_end(const Row *row, VrVersionPast *past)
{
    if (row->completed_us == 0 || (row->status == VR_RUN_COMPLETED && !row->automatic))
        return;
    past->ended_run = g_strdup(row->id);
    past->ended_automatic = row->automatic;
    past->ended_status = row->status;
}

/* Those since a person's last word, newest first, until an upgrade to the version. */
static gboolean read_ends(VrJournal *journal, const VrSet *set, const GPtrArray *rows, const char *image,
                          const char *version, VrVersionPast *past, GError **error)
{
    for (guint i = 0; i < rows->len; i++) {
        const Row *row = g_ptr_array_index(rows, i);
        gboolean away = FALSE;
        if (row->seq <= set->word_run)
            return TRUE;
        if (row->kind == VR_RUN_UPGRADE && goes_to(row, image, version)) {
            note_end(row, past);
            return TRUE;
        }
        if (past->taken_back_run || !goes_back(row, image, version))
            continue;
        if (!moved_away(journal, row, image, version, &away, error))
            return FALSE;
        if (away)
            past->taken_back_run = g_strdup(row->id);
    }
    return TRUE;
}

gboolean vr_version_past_read(VrJournal *journal, const VrSet *set, const char *image, const char *version,
                              VrVersionPast *past, GError **error)
{
    g_autoptr(GPtrArray) rows = read_rows(vr_journal_db(journal), set->name, error);

    return rows && read_failure(journal, set, rows, image, version, past, error) &&
           read_ends(journal, set, rows, image, version, past, error);
}
