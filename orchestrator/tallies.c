/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/tallies.h"

#include <stddef.h>

const gint64 vr_tally_bounds_ms[VR_TALLY_BOUNDS] = {100,   250,   500,   1000,   2500,   5000,   10000,
                                                    20000, 30000, 60000, 120000, 300000, 600000, 1800000};

#define ENDED "set_name = ? AND completed_us <> 0 AND tallied = 0"

static const struct {
    VrSwapState state;
    gsize offset; /* in VrSwapTimes */
} spans[VR_SPAN_LAST_] = {
    [VR_SPAN_PREPARE] = {VR_SWAP_COMMITTED, offsetof(VrSwapTimes, prepare_ms)},
    [VR_SPAN_STOP] = {VR_SWAP_COMMITTED, offsetof(VrSwapTimes, stop_ms)},
    [VR_SPAN_SWITCH] = {VR_SWAP_COMMITTED, offsetof(VrSwapTimes, switch_ms)},
    [VR_SPAN_START] = {VR_SWAP_COMMITTED, offsetof(VrSwapTimes, start_ms)},
    [VR_SPAN_HEALTHY] = {VR_SWAP_COMMITTED, offsetof(VrSwapTimes, healthy_ms)},
    [VR_SPAN_OFF] = {VR_SWAP_COMMITTED, offsetof(VrSwapTimes, off_ms)},
    [VR_SPAN_OS_DOWN] = {VR_SWAP_COMMITTED, offsetof(VrSwapTimes, os_down_ms)},
    [VR_SPAN_OFF_RESTORED] = {VR_SWAP_UNDONE, offsetof(VrSwapTimes, off_ms)},
};

/* --- runs that are in no sum yet --------------------------------------------------------------------- */

static guint place_of(gint64 ms)
{
    guint i = 0;

    while (i < VR_TALLY_BOUNDS && ms > vr_tally_bounds_ms[i])
        i++;
    return i;
}

static void add_swap(VrTallies *tallies, const VrSwapSpans *swap)
{
    for (guint i = 0; i < VR_SPAN_LAST_; i++) {
        gint64 ms = G_STRUCT_MEMBER(gint64, &swap->times, spans[i].offset);
        if (swap->state != spans[i].state || ms < 0)
            continue;
        tallies->spans[i].counts[place_of(ms)]++;
        tallies->spans[i].sum_ms += (guint64)ms;
    }
}

static gboolean add_swaps(VrJournal *journal, const char *run_id, VrTallies *tallies, GError **error)
{
    g_autoptr(GArray) swaps = vr_journal_run_times(journal, run_id, error);

    for (guint i = 0; swaps && i < swaps->len; i++)
        add_swap(tallies, &g_array_index(swaps, VrSwapSpans, i));
    return swaps != NULL;
}

/* A kind or status that a newer program wrote is in no sum of ours. */
static void add_runs(VrTallies *tallies, gint64 kind, gint64 status, gint64 count)
{
    if (kind >= 0 && kind < VR_RUN_KINDS && status >= 0 && status < VR_RUN_STATUSES && count > 0)
        tallies->runs[kind][status] += (guint64)count;
}

static gboolean add_ended(VrJournal *journal, const char *set_name, VrTallies *tallies, GError **error)
{
    VrDb *db = vr_journal_db(journal);
    g_autoptr(sqlite3_stmt) stmt =
        vr_db_prepare(db, error, "SELECT id, kind, status FROM runs WHERE " ENDED, "s", set_name);
    int row = -1;

    while (stmt && (row = vr_db_step(db, stmt, error)) == 1) {
        g_autofree char *id = vr_db_text(stmt, 0);
        add_runs(tallies, sqlite3_column_int64(stmt, 1), sqlite3_column_int64(stmt, 2), 1);
        if (!add_swaps(journal, id, tallies, error))
            return FALSE;
    }
    return row == 0;
}

/* --- the sums ---------------------------------------------------------------------------------------- */

static gboolean read_runs(VrDb *db, const char *set_name, VrTallies *tallies, GError **error)
{
    g_autoptr(sqlite3_stmt) stmt =
        vr_db_prepare(db, error, "SELECT kind, status, count FROM run_tallies WHERE set_name = ?", "s", set_name);
    int row = -1;

    while (stmt && (row = vr_db_step(db, stmt, error)) == 1)
        add_runs(tallies, sqlite3_column_int64(stmt, 0), sqlite3_column_int64(stmt, 1), sqlite3_column_int64(stmt, 2));
    return row == 0;
}

/* By the bound that was written, which need not be one of this program's. */
static gboolean read_spans(VrDb *db, const char *set_name, VrTallies *tallies, GError **error)
{
    g_autoptr(sqlite3_stmt) stmt = vr_db_prepare(
        db, error, "SELECT span, bound_ms, count, sum_ms FROM span_tallies WHERE set_name = ?", "s", set_name);
    int row = -1;

    while (stmt && (row = vr_db_step(db, stmt, error)) == 1) {
        gint64 span = sqlite3_column_int64(stmt, 0);
        if (span < 0 || span >= VR_SPAN_LAST_)
            continue;
        tallies->spans[span].counts[place_of(sqlite3_column_int64(stmt, 1))] += (guint64)sqlite3_column_int64(stmt, 2);
        tallies->spans[span].sum_ms += (guint64)sqlite3_column_int64(stmt, 3);
    }
    return row == 0;
}

gboolean vr_tallies_read(VrJournal *journal, const char *set_name, VrTallies *tallies, GError **error)
{
    VrDb *db = vr_journal_db(journal);

    *tallies = (VrTallies){0};
    return read_runs(db, set_name, tallies, error) && read_spans(db, set_name, tallies, error) &&
           add_ended(journal, set_name, tallies, error);
}

static gboolean write_runs(VrDb *db, const char *set_name, const VrTallies *more, GError **error)
{
    for (guint i = 0; i < VR_RUN_KINDS * VR_RUN_STATUSES; i++) {
        guint kind = i / VR_RUN_STATUSES, status = i % VR_RUN_STATUSES;
        if (more->runs[kind][status] > 0 &&
            !vr_db_run(db, NULL, error,
                       "INSERT INTO run_tallies (set_name, kind, status, count) VALUES (?, ?, ?, ?) "
                       "ON CONFLICT (set_name, kind, status) DO UPDATE SET count = count + excluded.count",
                       "siii", set_name, (gint64)kind, (gint64)status, (gint64)more->runs[kind][status]))
            return FALSE;
    }
    return TRUE;
}

/* The sum of all goes with the first bound that anything is counted under. */
static gboolean write_span(VrDb *db, const char *set_name, guint span, const VrTally *more, GError **error)
{
    guint64 sum_ms = more->sum_ms;

    for (guint i = 0; i <= VR_TALLY_BOUNDS; i++) {
        gint64 bound = i < VR_TALLY_BOUNDS ? vr_tally_bounds_ms[i] : G_MAXINT64;
        if (more->counts[i] == 0)
            continue;
        if (!vr_db_run(db, NULL, error,
                       "INSERT INTO span_tallies (set_name, span, bound_ms, count, sum_ms) VALUES (?, ?, ?, ?, ?) ON "
                       "CONFLICT (set_name, span, bound_ms) DO UPDATE SET count = count + excluded.count, "
                       "sum_ms = sum_ms + excluded.sum_ms",
                       "siiii", set_name, (gint64)span, bound, (gint64)more->counts[i], (gint64)sum_ms))
            return FALSE;
        sum_ms = 0;
    }
    return TRUE;
}

gboolean vr_tallies_keep(VrJournal *journal, const char *set_name, GError **error)
{
    VrDb *db = vr_journal_db(journal);
    VrTallies more = {0};

    if (!add_ended(journal, set_name, &more, error) || !write_runs(db, set_name, &more, error))
        return FALSE;
    for (guint i = 0; i < VR_SPAN_LAST_; i++)
        if (!write_span(db, set_name, i, &more.spans[i], error))
            return FALSE;
    return vr_db_run(db, NULL, error, "UPDATE runs SET tallied = 1 WHERE " ENDED, "s", set_name);
}
