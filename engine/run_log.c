/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "engine/run_log.h"

static void step_clear(gpointer data)
{
    VrLogStep *step = data;

    g_free(step->name);
    g_free(step->detail);
    g_free(step->boot_id);
}

static void event_clear(gpointer data)
{
    VrLogEvent *event = data;

    g_free(event->kind);
    g_free(event->text);
    g_free(event->uuid);
}

GArray *vr_log_steps_new(void)
{
    GArray *steps = g_array_new(FALSE, FALSE, sizeof(VrLogStep));

    g_array_set_clear_func(steps, step_clear);
    return steps;
}

void vr_log_steps_add(GArray *steps, sqlite3_stmt *stmt, int column)
{
    VrLogStep step = {vr_db_text(stmt, column), vr_db_text(stmt, column + 1), vr_db_text(stmt, column + 2),
                      sqlite3_column_int64(stmt, column + 3), sqlite3_column_int64(stmt, column + 4)};

    g_array_append_val(steps, step);
}

GArray *vr_run_log_steps(VrJournal *journal, const char *swap_id, GError **error)
{
    g_autoptr(GArray) steps = vr_log_steps_new();
    int row = -1;

    if (!vr_db_begin_read(vr_journal_db(journal), error))
        return NULL;
    {
        g_autoptr(sqlite3_stmt) stmt = vr_db_prepare(
            vr_journal_db(journal), error,
            "SELECT name, detail, boot_id, at_us, at_ms FROM steps WHERE swap_id = ? ORDER BY seq", "s", swap_id);
        while (stmt && (row = vr_db_step(vr_journal_db(journal), stmt, error)) == 1)
            vr_log_steps_add(steps, stmt, 0);
    }
    vr_db_rollback(vr_journal_db(journal));
    return row == 0 ? g_steal_pointer(&steps) : NULL;
}

GArray *vr_run_log_events(VrJournal *journal, const char *run_id, GError **error)
{
    g_autoptr(GArray) events = g_array_new(FALSE, FALSE, sizeof(VrLogEvent));
    int row = -1;

    g_array_set_clear_func(events, event_clear);
    if (!vr_db_begin_read(vr_journal_db(journal), error))
        return NULL;
    {
        g_autoptr(sqlite3_stmt) stmt =
            vr_db_prepare(vr_journal_db(journal), error,
                          "SELECT kind, text, uuid, at_us FROM events WHERE run_id = ? ORDER BY seq", "s", run_id);
        while (stmt && (row = vr_db_step(vr_journal_db(journal), stmt, error)) == 1) {
            VrLogEvent event = {vr_db_text(stmt, 0), vr_db_text(stmt, 1), vr_db_text(stmt, 2),
                                sqlite3_column_int64(stmt, 3)};
            g_array_append_val(events, event);
        }
    }
    vr_db_rollback(vr_journal_db(journal));
    return row == 0 ? g_steal_pointer(&events) : NULL;
}

/* The step with which each begins; NULL: the swap is over. On the way back the steps of the way there come again. */
static const struct {
    const char *step, *phase;
} begins[] = {
    {"begin", "prepare"},     {"PREPARED", "wait"},  {"stop-asked", "stop"}, {"off", "switch"},
    {"start-asked", "start"}, {"running", "health"}, {"undo", "back"},       {"COMMITTED", NULL},
    {"DISCARDED", NULL},      {"UNDONE", NULL},      {"UNKNOWN", NULL},
};

/* TRUE: a phase begins, or with NULL the last one ends. */
static gboolean begins_with(const VrLogStep *step, const char **phase)
{
    for (guint i = 0; i < G_N_ELEMENTS(begins); i++)
        if (g_str_equal(begins[i].step, step->name)) {
            *phase = begins[i].phase;
            return TRUE;
        }
    return FALSE;
}

static gint64 between(const VrLogStep *from, const VrLogStep *to)
{
    gint64 ms = g_str_equal(from->boot_id, to->boot_id) ? to->at_ms - from->at_ms : (to->at_us - from->at_us) / 1000;

    return MAX(ms, 0);
}

GArray *vr_run_log_spans(const GArray *steps)
{
    GArray *spans = g_array_new(FALSE, FALSE, sizeof(VrLogSpan));
    const VrLogStep *since = NULL;

    for (guint i = 0; i < steps->len; i++) {
        const VrLogStep *step = &g_array_index(steps, VrLogStep, i);
        VrLogSpan *open = since ? &g_array_index(spans, VrLogSpan, spans->len - 1) : NULL;
        const char *phase;
        if (!begins_with(step, &phase) || (open && phase && g_str_equal(open->phase, "back")))
            continue;
        if (open)
            open->ms = between(since, step);
        since = phase ? step : NULL;
        if (phase) {
            VrLogSpan span = {phase, step->at_us, -1};
            g_array_append_val(spans, span);
        }
    }
    return spans;
}
