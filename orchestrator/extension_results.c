/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/extension_results.h"

const char *vr_extension_status_name(VrExtensionStatus status)
{
    static const char *const names[] = {"Transitioning", "Succeeded", "Failed", "TimedOut", "Skipped"};

    return (guint)status < G_N_ELEMENTS(names) ? names[status] : "?";
}

void vr_extension_result_clear(VrExtensionResult *result)
{
    g_clear_pointer(&result->name, g_free);
    g_clear_pointer(&result->text, g_free);
    g_clear_pointer(&result->output, g_free);
}

void vr_extension_result_free(VrExtensionResult *result)
{
    if (!result)
        return;
    vr_extension_result_clear(result);
    g_free(result);
}

gboolean vr_extension_result_is_good(const VrExtensionResult *result)
{
    return result->status == VR_EXTENSION_SUCCEEDED || result->suppressed;
}

gboolean vr_extension_result_write(VrJournal *journal, const VrOwner *owner, const char *uuid, guint generation,
                                   guint position, const VrExtensionResult *result, GError **error)
{
    VrDb *db = vr_journal_db(journal);

    if (!vr_owner_begin(journal, owner, error))
        return FALSE;
    if (vr_db_run(db, NULL, error,
                  "INSERT OR REPLACE INTO extensions (uuid, generation, position, name, status, exit_status, "
                  "suppressed, text, output, started_us, duration_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                  "siisiiissii", uuid, (gint64)generation, (gint64)position, result->name, (gint64)result->status,
                  (gint64)result->exit_status, (gint64)result->suppressed, result->text, result->output,
                  result->started_us, result->duration_ms))
        return vr_db_commit(db, error);
    vr_db_rollback(db);
    return FALSE;
}

static VrExtensionResult *read_row(sqlite3_stmt *stmt)
{
    VrExtensionResult *result = g_new0(VrExtensionResult, 1);

    result->name = vr_db_text(stmt, 0);
    result->status = (VrExtensionStatus)sqlite3_column_int(stmt, 1);
    result->exit_status = sqlite3_column_int(stmt, 2);
    result->suppressed = sqlite3_column_int(stmt, 3) != 0;
    result->text = vr_db_text(stmt, 4);
    result->output = vr_db_text(stmt, 5);
    result->started_us = sqlite3_column_int64(stmt, 6);
    result->duration_ms = sqlite3_column_int64(stmt, 7);
    return result;
}

GPtrArray *vr_extension_results_read(VrJournal *journal, const char *uuid, guint generation, GError **error)
{
    VrDb *db = vr_journal_db(journal);
    g_autoptr(GPtrArray) results = g_ptr_array_new_with_free_func((GDestroyNotify)vr_extension_result_free);
    int row = -1;

    if (!vr_db_begin_read(db, error))
        return NULL;
    {
        g_autoptr(sqlite3_stmt) stmt =
            vr_db_prepare(db, error,
                          "SELECT name, status, exit_status, suppressed, text, output, started_us, duration_ms FROM "
                          "extensions WHERE uuid = ? AND generation = ? ORDER BY position",
                          "si", uuid, (gint64)generation);
        while (stmt && (row = vr_db_step(db, stmt, error)) == 1)
            g_ptr_array_add(results, read_row(stmt));
    }
    vr_db_rollback(db);
    return row == 0 ? g_steal_pointer(&results) : NULL;
}

gboolean vr_extension_results_prune(VrJournal *journal, GError **error)
{
    return vr_db_run(vr_journal_db(journal), NULL, error,
                     "DELETE FROM extensions WHERE NOT EXISTS (SELECT 1 FROM swaps WHERE swaps.uuid = extensions.uuid "
                     "AND swaps.to_number = extensions.generation)",
                     "");
}

char *vr_extension_results_fault(const GPtrArray *results)
{
    const VrExtensionResult *first = NULL;
    guint more = 0;

    for (guint i = 0; i < results->len; i++) {
        const VrExtensionResult *result = g_ptr_array_index(results, i);
        gboolean own = result->status != VR_EXTENSION_SKIPPED; /* the others follow from one of these */

        if (vr_extension_result_is_good(result) || !own)
            continue;
        more += first ? 1 : 0;
        first = first ? first : result;
    }
    for (guint i = 0; i < results->len && !first; i++)
        first = vr_extension_result_is_good(g_ptr_array_index(results, i)) ? NULL : g_ptr_array_index(results, i);
    if (!first)
        return NULL;
    if (more > 0)
        return g_strdup_printf("extension %s %s; and %u more failed", first->name, first->text, more);
    return g_strdup_printf("extension %s %s", first->name, first->text);
}
