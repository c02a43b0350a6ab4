/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Notices that were written, as rows, and what they say. */
#include "base/error.h"
#include "orchestrator/outbox.h"

#include <jansson.h>

G_DEFINE_AUTOPTR_CLEANUP_FUNC(json_t, json_decref)

const char *vr_delivery_state_name(VrDeliveryState state)
{
    static const char *const names[] = {"Waiting", "Delivered", "GivenUp"};

    return (guint)state < G_N_ELEMENTS(names) ? names[state] : "?";
}

static void delivery_free(gpointer data)
{
    VrDelivery *delivery = data;

    g_free(delivery->channel);
    g_free(delivery->error);
    g_free(delivery);
}

void vr_outbox_notice_free(VrOutboxNotice *notice)
{
    if (!notice)
        return;
    g_free(notice->id);
    g_free(notice->set_name);
    g_free(notice->run_id);
    g_free(notice->body);
    g_clear_pointer(&notice->deliveries, g_ptr_array_unref);
    g_free(notice);
}

/* --- rows -------------------------------------------------------------------------------------------- */

#define COLUMNS "seq, kind, at_us, id, set_name, run_id, body"

static VrOutboxNotice *read_row(sqlite3_stmt *stmt)
{
    VrOutboxNotice *notice = g_new0(VrOutboxNotice, 1);

    notice->seq = sqlite3_column_int64(stmt, 0);
    notice->kind = (VrOutboxKind)sqlite3_column_int(stmt, 1);
    notice->at_us = sqlite3_column_int64(stmt, 2);
    notice->id = vr_db_text(stmt, 3);
    notice->set_name = vr_db_text(stmt, 4);
    notice->run_id = vr_db_text(stmt, 5);
    notice->body = vr_db_text(stmt, 6);
    notice->deliveries = g_ptr_array_new_with_free_func(delivery_free);
    return notice;
}

VrOutboxNotice *vr_outbox_read(VrDb *db, gint64 seq, GError **error)
{
    g_autoptr(sqlite3_stmt) stmt = vr_db_prepare(db, error, "SELECT " COLUMNS " FROM notices WHERE seq = ?", "i", seq);
    int row = stmt ? vr_db_step(db, stmt, error) : -1;

    if (row == 0)
        g_set_error(error, VR_ERROR, VR_ERROR_NOT_FOUND, "the notice was forgotten meanwhile");
    return row == 1 ? read_row(stmt) : NULL;
}

static gboolean read_deliveries(VrDb *db, GHashTable *by_seq, GError **error)
{
    g_autoptr(sqlite3_stmt) stmt = vr_db_prepare(
        db, error, "SELECT seq, channel, state, at_us, attempts, error FROM notice_deliveries ORDER BY seq, channel",
        "");
    int row = -1;

    while (stmt && (row = vr_db_step(db, stmt, error)) == 1) {
        gint64 seq = sqlite3_column_int64(stmt, 0);
        VrOutboxNotice *notice = g_hash_table_lookup(by_seq, &seq);
        VrDelivery *delivery;
        if (!notice)
            continue;
        delivery = g_new0(VrDelivery, 1);
        delivery->channel = vr_db_text(stmt, 1);
        delivery->state = (VrDeliveryState)sqlite3_column_int(stmt, 2);
        delivery->at_us = sqlite3_column_int64(stmt, 3);
        delivery->attempts = (guint)sqlite3_column_int64(stmt, 4);
        delivery->error = vr_db_text(stmt, 5);
        g_ptr_array_add(notice->deliveries, delivery);
    }
    return row == 0;
}

static gboolean read_all(VrDb *db, const char *set_name, GPtrArray *notices, GError **error)
{
    g_autoptr(GHashTable) by_seq = g_hash_table_new(g_int64_hash, g_int64_equal);
    g_autoptr(sqlite3_stmt) stmt =
        vr_db_prepare(db, error, "SELECT " COLUMNS " FROM notices WHERE ?1 IS NULL OR set_name = ?1 ORDER BY seq DESC",
                      "s", set_name);
    int row = -1;

    while (stmt && (row = vr_db_step(db, stmt, error)) == 1) {
        VrOutboxNotice *notice = read_row(stmt);
        g_ptr_array_add(notices, notice);
        g_hash_table_insert(by_seq, &notice->seq, notice);
    }
    return row == 0 && read_deliveries(db, by_seq, error);
}

GPtrArray *vr_outbox_list(VrDb *db, const char *set_name, GError **error)
{
    g_autoptr(GPtrArray) notices = g_ptr_array_new_with_free_func((GDestroyNotify)vr_outbox_notice_free);
    gboolean ok;

    if (!vr_db_begin_read(db, error))
        return NULL;
    ok = read_all(db, set_name, notices, error);
    vr_db_rollback(db);
    return ok ? g_steal_pointer(&notices) : NULL;
}

/* --- words ------------------------------------------------------------------------------------------- */

static const char *text_of(const json_t *body, const char *key)
{
    const char *text = json_string_value(json_object_get(body, key));

    return text ? text : "?";
}

static int count_of(const json_t *body, const char *key)
{
    return (int)json_integer_value(json_object_get(json_object_get(body, "progress"), key));
}

static char *result_text(const json_t *body)
{
    const char *operation = text_of(body, "operation"), *result = text_of(body, "result");

    if (g_str_equal(result, "Accepted"))
        return g_strdup_printf("%s has begun as run %s", operation, text_of(body, "runId"));
    if (g_str_equal(result, "NothingToDo"))
        return g_strdup_printf("%s: nothing is to be done", operation);
    return g_strdup_printf("%s was refused: %s", operation, text_of(json_object_get(body, "error"), "message"));
}

static char *completion_text(const json_t *body)
{
    const json_t *failure = json_object_get(body, "error");
    g_autofree char *why = json_is_object(failure)
                               ? g_strdup_printf(": %s: %s", text_of(failure, "code"), text_of(failure, "message"))
                               : g_strdup("");

    return g_strdup_printf("%s (run %s) has ended: %s, %d successful, %d failed, %d pending%s",
                           text_of(body, "operation"), text_of(body, "runId"), text_of(body, "status"),
                           count_of(body, "successfulInstanceCount"), count_of(body, "failedInstanceCount"),
                           count_of(body, "pendingInstanceCount"), why);
}

char *vr_outbox_text(const VrOutboxNotice *notice)
{
    g_autoptr(json_t) body = json_loads(notice->body, 0, NULL);
    g_autofree char *what = NULL, *line = NULL;

    if (notice->kind == VR_OUTBOX_SUBMITTED)
        what = g_strdup_printf("%s asks for %s", text_of(body, "userName"), text_of(body, "operation"));
    else
        what = notice->kind == VR_OUTBOX_RESULT ? result_text(body) : completion_text(body);
    line = g_strdup_printf("set %s: %s", notice->set_name, what);
    return vr_printable(line, -1);
}

char *vr_outbox_outcome(const VrOutboxNotice *notice)
{
    g_autoptr(json_t) body = json_loads(notice->body, 0, NULL);
    const char *key = notice->kind == VR_OUTBOX_RESULT ? "result" : "status";

    return g_strdup(json_string_value(json_object_get(body, key)));
}
