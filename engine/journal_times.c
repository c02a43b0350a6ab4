/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How long swaps took, out of the steps of the journal. */
#include "engine/run_log.h"

#include "base/clock.h"

#include <stddef.h>

/* A span from the first step of one name to the first later step of another. */
static const struct {
    const char *from, *to;
    gsize offset;
} spans[] = {
    {"begin", "PREPARED", offsetof(VrSwapTimes, prepare_ms)},
    {"stop-asked", "off", offsetof(VrSwapTimes, stop_ms)},
    {"off", "SWITCHED", offsetof(VrSwapTimes, switch_ms)},
    {"STOPPED", "nvram", offsetof(VrSwapTimes, nvram_ms)},
    {"start-asked", "running", offsetof(VrSwapTimes, start_ms)},
    {"running", "healthy", offsetof(VrSwapTimes, healthy_ms)},
    {"off", "running", offsetof(VrSwapTimes, off_ms)},
    {"stop-asked", "healthy", offsetof(VrSwapTimes, os_down_ms)},
};

static gint64 span_of(const GArray *steps, const char *from, const char *to)
{
    const VrLogStep *first = NULL;

    for (guint i = 0; i < steps->len; i++) {
        const VrLogStep *step = &g_array_index(steps, VrLogStep, i);
        if (!first && g_str_equal(step->name, from))
            first = step;
        else if (first && g_str_equal(step->name, to))
            return g_str_equal(step->boot_id, first->boot_id) ? step->at_ms - first->at_ms : -1;
    }
    return -1;
}

static void times_of(const GArray *steps, VrSwapTimes *times)
{
    for (guint i = 0; i < G_N_ELEMENTS(spans); i++)
        G_STRUCT_MEMBER(gint64, times, spans[i].offset) = span_of(steps, spans[i].from, spans[i].to);
}

gboolean vr_journal_swap_times(VrJournal *journal, const char *swap_id, VrSwapTimes *times, GError **error)
{
    g_autoptr(GArray) steps = vr_run_log_steps(journal, swap_id, error);

    if (steps)
        times_of(steps, times);
    return steps != NULL;
}

/* One pass over the steps of all swaps, those of one after those of another. */
GArray *vr_journal_run_times(VrJournal *journal, const char *run_id, GError **error)
{
    VrDb *db = vr_journal_db(journal);
    g_autoptr(GArray) all = g_array_new(FALSE, TRUE, sizeof(VrSwapSpans)), steps = vr_log_steps_new();
    g_autoptr(sqlite3_stmt) stmt = vr_db_prepare(
        db, error,
        "SELECT swaps.seq, state, name, NULL, boot_id, at_us, at_ms FROM swaps JOIN steps ON swap_id = swaps.id "
        "WHERE run_id = ? ORDER BY swaps.seq, steps.seq",
        "s", run_id);
    gint64 current = -1;
    int row = -1;

    while (stmt && (row = vr_db_step(db, stmt, error)) == 1) {
        gint64 swap = sqlite3_column_int64(stmt, 0);
        if (swap != current) {
            VrSwapSpans one = {.state = (VrSwapState)sqlite3_column_int(stmt, 1)};
            if (all->len > 0)
                times_of(steps, &g_array_index(all, VrSwapSpans, all->len - 1).times);
            g_array_set_size(steps, 0);
            g_array_append_val(all, one);
            current = swap;
        }
        vr_log_steps_add(steps, stmt, 2);
    }
    if (all->len > 0)
        times_of(steps, &g_array_index(all, VrSwapSpans, all->len - 1).times);
    return row == 0 ? g_steal_pointer(&all) : NULL;
}

/* ---- where open swaps stand ---- */

static void open_step_clear(gpointer data)
{
    g_free(((VrSwapStep *)data)->step);
}

static VrSwapStep read_open_step(sqlite3_stmt *stmt, gint64 now_ms)
{
    g_autofree char *boot_id = vr_db_text(stmt, 2);
    VrSwapStep step = {.step = vr_db_text(stmt, 1), .ago_ms = -1};

    g_strlcpy(step.uuid, (const char *)sqlite3_column_text(stmt, 0), sizeof(step.uuid));
    if (g_strcmp0(boot_id, vr_clock_boot_id()) == 0)
        step.ago_ms = MAX(0, now_ms - sqlite3_column_int64(stmt, 3));
    return step;
}

GArray *vr_journal_open_steps(VrJournal *journal, const char *run_id, GError **error)
{
    VrDb *db = vr_journal_db(journal);
    g_autoptr(GArray) all = g_array_new(FALSE, FALSE, sizeof(VrSwapStep));
    gint64 now_ms = vr_clock_now_ms();
    int row = -1;

    g_array_set_clear_func(all, open_step_clear);
    if (!vr_db_begin_read(db, error))
        return NULL;
    {
        /* 5, 6, 7 = COMMITTED, DISCARDED, UNDONE */
        g_autoptr(sqlite3_stmt) stmt = vr_db_prepare(
            db, error,
            "SELECT uuid, name, boot_id, at_ms FROM swaps JOIN steps ON swap_id = swaps.id WHERE run_id = ? "
            "AND state NOT IN (5, 6, 7) ORDER BY swaps.seq, steps.seq",
            "s", run_id);
        while (stmt && (row = vr_db_step(db, stmt, error)) == 1) {
            VrSwapStep step = read_open_step(stmt, now_ms);
            g_array_append_val(all, step);
        }
    }
    vr_db_rollback(db);
    return row == 0 ? g_steal_pointer(&all) : NULL;
}
