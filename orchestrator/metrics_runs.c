/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Metrics of runs: the last one, what holds it, sums over all of them. */
#include "orchestrator/metrics_private.h"
#include "orchestrator/run_state.h"

static const char *const progress_names[VR_PROGRESS_LAST_] = {[VR_PROGRESS_SUCCESSFUL] = "successful",
                                                              [VR_PROGRESS_FAILED] = "failed",
                                                              [VR_PROGRESS_IN_PROGRESS] = "in_progress",
                                                              [VR_PROGRESS_PENDING] = "pending",
                                                              [VR_PROGRESS_SKIPPED] = "skipped"};

/* --- the last run ------------------------------------------------------------------------------------ */

static VrMetricsProgress progress_of(gint64 phase)
{
    switch (phase) {
    case VR_PHASE_PENDING:
        return VR_PROGRESS_PENDING;
    case VR_PHASE_SKIPPED:
        return VR_PROGRESS_SKIPPED;
    case VR_PHASE_COMMITTED:
        return VR_PROGRESS_SUCCESSFUL;
    case VR_PHASE_RESTORED:
    case VR_PHASE_FAILED:
    case VR_PHASE_UNKNOWN:
        return VR_PROGRESS_FAILED;
    default:
        return VR_PROGRESS_IN_PROGRESS;
    }
}

static gboolean read_progress(VrMetricsSet *one, VrDb *db, const char *run_id, GError **error)
{
    g_autoptr(sqlite3_stmt) stmt = vr_db_prepare(
        db, error, "SELECT phase, COUNT(*) FROM run_instances WHERE run_id = ? GROUP BY phase", "s", run_id);
    int row = -1;

    while (stmt && (row = vr_db_step(db, stmt, error)) == 1)
        one->progress[progress_of(sqlite3_column_int64(stmt, 0))] += (guint)sqlite3_column_int64(stmt, 1);
    return row == 0;
}

/* A run that was killed before its first step has written none: nothing holds it then. */
static VrHold hold_of(const char *text)
{
    g_auto(VrRunState) state = {0};

    return vr_run_state_read(&state, text, NULL) ? state.hold : VR_HOLD_NONE;
}

static gboolean read_last(VrMetricsSet *one, VrDb *db, GError **error)
{
    g_autoptr(sqlite3_stmt) stmt =
        vr_db_prepare(db, error,
                      "SELECT id, status, started_us, completed_us, state FROM runs WHERE set_name = ? "
                      "ORDER BY seq DESC LIMIT 1",
                      "s", one->set->name);
    int row = stmt ? vr_db_step(db, stmt, error) : -1;
    g_autofree char *id = row == 1 ? vr_db_text(stmt, 0) : NULL;

    if (row <= 0)
        return row == 0;
    one->has_run = TRUE;
    one->status = (VrRunStatus)sqlite3_column_int(stmt, 1);
    one->started_us = sqlite3_column_int64(stmt, 2);
    one->open = sqlite3_column_int64(stmt, 3) == 0;
    one->hold = one->open ? hold_of((const char *)sqlite3_column_text(stmt, 4)) : VR_HOLD_NONE;
    return read_progress(one, db, id, error);
}

static gboolean read_success(VrMetricsSet *one, VrDb *db, GError **error)
{
    g_autoptr(sqlite3_stmt) stmt = vr_db_prepare(
        db, error, "SELECT kind, MAX(completed_us) FROM runs WHERE set_name = ? AND status = ? GROUP BY kind", "si",
        one->set->name, (gint64)VR_RUN_COMPLETED);
    int row = -1;

    while (stmt && (row = vr_db_step(db, stmt, error)) == 1) {
        gint64 kind = sqlite3_column_int64(stmt, 0);
        if (kind >= 0 && kind < VR_RUN_KINDS)
            one->success_us[kind] = sqlite3_column_int64(stmt, 1);
    }
    return row == 0;
}

/* --- versions that failed ---------------------------------------------------------------------------- */

/* Newest first, so the first word on a version counts: that a run to it came good, or that a guest ran on it and did not become healthy
 * (invariant 21, as upgrade asks it before it begins). */
static gboolean read_blocked(VrMetricsSet *one, VrDb *db, GError **error)
{
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autoptr(sqlite3_stmt) stmt =
        vr_db_prepare(db, error,
                      "SELECT image, version, status FROM runs r WHERE set_name = ?1 AND kind IN (?2, ?3) AND version "
                      "IS NOT NULL AND "
                      "(status = ?4 OR (status = ?5 AND error_code IS NOT '" VR_CODE_INTERNAL "' AND EXISTS "
                      "(SELECT 1 FROM run_instances i JOIN steps s ON s.swap_id = i.swap_id AND s.name = 'STARTED' "
                      "WHERE i.run_id = r.id AND i.phase <> ?6))) ORDER BY seq DESC",
                      "siiiii", one->set->name, (gint64)VR_RUN_UPGRADE, (gint64)VR_RUN_REIMAGE,
                      (gint64)VR_RUN_COMPLETED, (gint64)VR_RUN_FAULTED, (gint64)VR_PHASE_COMMITTED);
    int row = -1;

    while (stmt && (row = vr_db_step(db, stmt, error)) == 1) {
        g_autofree char *image = vr_db_text(stmt, 0), *version = vr_db_text(stmt, 1);
        if (!g_hash_table_add(seen, g_strconcat(image, " ", version, NULL)) ||
            sqlite3_column_int(stmt, 2) == VR_RUN_COMPLETED)
            continue;
        g_ptr_array_add(one->blocked, g_steal_pointer(&image));
        g_ptr_array_add(one->blocked, g_steal_pointer(&version));
    }
    return row == 0;
}

gboolean vr_metrics_read_runs(VrMetricsSet *one, VrJournal *journal, GError **error)
{
    VrDb *db = vr_journal_db(journal);

    return read_last(one, db, error) && read_success(one, db, error) && read_blocked(one, db, error);
}

/* --- writing ----------------------------------------------------------------------------------------- */

static void write_last(VrMetricText *out, const GArray *sets)
{
    vr_metric_family(out, VR_METRIC_GAUGE, "virt_reimage_last_run_status", NULL,
                     "1 for the status that the last run of the set has");
    VR_EACH_SET(one, sets)
    for (guint i = 0; i < VR_RUN_STATUSES; i++)
        vr_metric_number(out, VR_SET_LABELS(one, "status", vr_run_status_name(i)),
                         one->has_run && one->status == i ? 1 : 0);
    vr_metric_family(out, VR_METRIC_GAUGE, "virt_reimage_last_run_instances", NULL,
                     "Instances of the last run by what became of them; those that were restored count as failed");
    VR_EACH_SET(one, sets)
    for (guint i = 0; i < VR_PROGRESS_LAST_; i++)
        vr_metric_number(out, VR_SET_LABELS(one, "outcome", progress_names[i]), one->progress[i]);
    vr_metric_family(out, VR_METRIC_GAUGE, "virt_reimage_last_success_timestamp_seconds", "seconds",
                     "When a run of this kind completed last");
    VR_EACH_SET(one, sets)
    for (guint i = 0; i < VR_RUN_KINDS; i++)
        if (one->success_us[i] > 0)
            vr_metric_time(out, VR_SET_LABELS(one, "kind", vr_run_kind_name(i)), one->success_us[i]);
}

static void write_open(VrMetricText *out, const GArray *sets)
{
    vr_metric_family(out, VR_METRIC_GAUGE, "virt_reimage_run_open", NULL, "1 while a run of the set is open");
    VR_EACH_SET(one, sets)
    vr_metric_number(out, VR_SET_LABEL(one), one->open ? 1 : 0);
    vr_metric_family(out, VR_METRIC_GAUGE, "virt_reimage_run_started_timestamp_seconds", "seconds",
                     "When the run that is open began");
    VR_EACH_SET(one, sets)
    if (one->open)
        vr_metric_time(out, VR_SET_LABEL(one), one->started_us);
    vr_metric_family(out, VR_METRIC_GAUGE, "virt_reimage_run_held", NULL,
                     "1 for what keeps the run that is open from its next batch");
    VR_EACH_SET(one, sets)
    for (guint i = VR_HOLD_NONE + 1; vr_hold_name(i); i++)
        vr_metric_number(out, VR_SET_LABELS(one, "hold", vr_hold_name(i)), one->hold == i ? 1 : 0);
}

static void write_blocked(VrMetricText *out, const GArray *sets)
{
    vr_metric_family(out, VR_METRIC_GAUGE, "virt_reimage_version_blocked", NULL,
                     "1 for each version that failed on the set and is not tried again without a person's word");
    VR_EACH_SET(one, sets)
    for (guint i = 0; i + 1 < one->blocked->len; i += 2)
        vr_metric_number(out,
                         VR_SET_LABELS(one, "image", one->blocked->pdata[i], "version", one->blocked->pdata[i + 1]), 1);
}

void vr_metrics_write_runs(VrMetricText *out, const GArray *sets)
{
    vr_metric_family(out, VR_METRIC_COUNTER, "virt_reimage_runs", NULL, "Runs that ended, by kind and status");
    VR_EACH_SET(one, sets)
    for (guint kind = 0; kind < VR_RUN_KINDS; kind++)
        for (guint status = VR_RUN_ROLLING_FORWARD + 1; status < VR_RUN_STATUSES; status++) {
            char *labels = VR_SET_LABELS(one, "kind", vr_run_kind_name(kind), "status", vr_run_status_name(status));
            vr_metric_count(out, labels, one->tallies.runs[kind][status]);
        }
    write_last(out, sets);
    write_open(out, sets);
    write_blocked(out, sets);
}

/* --- how long swaps took ----------------------------------------------------------------------------- */

static void write_spans(VrMetricText *out, const GArray *sets, const char *label, VrSpan first, VrSpan last)
{
    static const char *const names[VR_SPAN_LAST_] = {
        [VR_SPAN_PREPARE] = "prepare", [VR_SPAN_STOP] = "stop",
        [VR_SPAN_SWITCH] = "switch",   [VR_SPAN_START] = "start",
        [VR_SPAN_HEALTHY] = "healthy", [VR_SPAN_OFF] = "off",
        [VR_SPAN_OS_DOWN] = "os_down", [VR_SPAN_OFF_RESTORED] = "off_restored"};

    VR_EACH_SET(one, sets)
    for (guint i = first; i <= last; i++)
        vr_metric_tally(out, VR_SET_LABELS(one, label, names[i]), &one->tallies.spans[i]);
}

void vr_metrics_write_times(VrMetricText *out, const GArray *sets)
{
    vr_metric_family(out, VR_METRIC_HISTOGRAM, "virt_reimage_swap_phase_seconds", "seconds",
                     "How long each phase took, of swaps that were committed");
    write_spans(out, sets, "phase", VR_SPAN_PREPARE, VR_SPAN_HEALTHY);
    vr_metric_family(
        out, VR_METRIC_HISTOGRAM, "virt_reimage_swap_downtime_seconds", "seconds",
        "Downtime of guests: off, OS down (stop asked to healthy), and off where the old disk was restored");
    write_spans(out, sets, "measure", VR_SPAN_OFF, VR_SPAN_OFF_RESTORED);
}
