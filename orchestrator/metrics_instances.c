/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Metrics of instances: what they run, and what they are in. */
#include "orchestrator/metrics_private.h"

static const char *const states[] = {[VR_METRICS_SETTLED] = "settled",
                                     [VR_METRICS_MOVING] = "moving",
                                     [VR_METRICS_RESTORED] = "restored",
                                     [VR_METRICS_FAILED] = "failed",
                                     [VR_METRICS_UNKNOWN] = "unknown"};

/* --- reading ----------------------------------------------------------------------------------------- */

/* phase: what its run says of the instance; -1: that is forgotten, or there is none. */
static VrMetricsState state_of(gboolean has_swap, VrSwapState swap, int phase)
{
    if (!has_swap)
        return VR_METRICS_SETTLED;
    if (swap == VR_SWAP_UNKNOWN)
        return VR_METRICS_UNKNOWN;
    if (!vr_swap_state_is_final(swap))
        return VR_METRICS_MOVING;
    if (phase == VR_PHASE_FAILED)
        return VR_METRICS_FAILED;
    return swap == VR_SWAP_UNDONE ? VR_METRICS_RESTORED : VR_METRICS_SETTLED;
}

static void count_share(GArray *shares, const char *image, const char *version, VrMetricsState state)
{
    VrMetricsShare *share;

    for (guint i = 0; i < shares->len; i++) {
        share = &g_array_index(shares, VrMetricsShare, i);
        if (share->state != state || g_strcmp0(share->version, version) != 0 || g_strcmp0(share->image, image) != 0)
            continue;
        share->count++;
        return;
    }
    g_array_set_size(shares, shares->len + 1);
    share = &g_array_index(shares, VrMetricsShare, shares->len - 1);
    *share = (VrMetricsShare){g_strdup(image), g_strdup(version), state, 1};
}

#define LAST_SWAP "(SELECT MAX(seq) FROM swaps WHERE swaps.uuid = i.uuid)"

static gboolean read_shares(VrMetricsSet *one, VrDb *db, GError **error)
{
    g_autoptr(sqlite3_stmt) stmt = vr_db_prepare(
        db, error,
        "SELECT g.image, g.version, s.state, r.phase, "
        "CASE WHEN g.model_revision > 0 THEN g.model_revision ELSE i.joined_revision END FROM instances i "
        "LEFT JOIN generations g ON g.uuid = i.uuid AND g.state = ?2 LEFT JOIN swaps s ON s.seq = " LAST_SWAP
        " LEFT JOIN run_instances r ON r.run_id = s.run_id AND r.uuid = i.uuid WHERE i.set_name = ?1",
        "si", one->set->name, (gint64)VR_GENERATION_CURRENT);
    int row = -1;

    while (stmt && (row = vr_db_step(db, stmt, error)) == 1) {
        gboolean has_swap = sqlite3_column_type(stmt, 2) != SQLITE_NULL;
        int phase = sqlite3_column_type(stmt, 3) != SQLITE_NULL ? sqlite3_column_int(stmt, 3) : -1;
        count_share(one->shares, (const char *)sqlite3_column_text(stmt, 0), (const char *)sqlite3_column_text(stmt, 1),
                    state_of(has_swap, (VrSwapState)sqlite3_column_int(stmt, 2), phase));
        one->behind += sqlite3_column_int64(stmt, 4) < one->set->revision ? 1 : 0;
    }
    return row == 0;
}

static gboolean read_generations(VrMetricsSet *one, VrDb *db, GError **error)
{
    g_autoptr(sqlite3_stmt) stmt =
        vr_db_prepare(db, error,
                      "SELECT g.state, COUNT(*) FROM instances i JOIN generations g ON g.uuid = i.uuid "
                      "WHERE i.set_name = ? GROUP BY g.state",
                      "s", one->set->name);
    int row = -1;

    while (stmt && (row = vr_db_step(db, stmt, error)) == 1) {
        gint64 state = sqlite3_column_int64(stmt, 0);
        if (state >= 0 && state < (gint64)G_N_ELEMENTS(one->generations))
            one->generations[state] = (guint)sqlite3_column_int64(stmt, 1);
    }
    return row == 0;
}

static gboolean read_open(VrMetricsSet *one, VrDb *db, GError **error)
{
    /* As in the index swaps_open. */
    g_autoptr(sqlite3_stmt) stmt =
        vr_db_prepare(db, error,
                      "SELECT COUNT(*), COALESCE(SUM(state = ?2), 0) FROM swaps INDEXED BY swaps_open "
                      "WHERE state NOT IN (5, 6, 7) AND set_name = ?1",
                      "si", one->set->name, (gint64)VR_SWAP_UNKNOWN);

    if (!stmt || vr_db_step(db, stmt, error) != 1)
        return FALSE;
    one->open_swaps = (guint)sqlite3_column_int64(stmt, 0);
    one->unknown = (guint)sqlite3_column_int64(stmt, 1);
    return TRUE;
}

gboolean vr_metrics_read_instances(VrMetricsSet *one, VrJournal *journal, GError **error)
{
    VrDb *db = vr_journal_db(journal);

    for (guint i = 0; i < one->set->instances->len; i++)
        one->is_protected += ((const VrInstance *)one->set->instances->pdata[i])->is_protected ? 1 : 0;
    return read_shares(one, db, error) && read_generations(one, db, error) && read_open(one, db, error);
}

/* --- writing ----------------------------------------------------------------------------------------- */

static void write_shares(VrMetricText *out, const VrMetricsSet *one)
{
    for (guint i = 0; i < one->shares->len; i++) {
        const VrMetricsShare *share = &g_array_index(one->shares, VrMetricsShare, i);
        vr_metric_number(
            out, VR_SET_LABELS(one, "image", share->image, "version", share->version, "state", states[share->state]),
            share->count);
    }
}

void vr_metrics_write_instances(VrMetricText *out, const GArray *sets)
{
    vr_metric_family(out, VR_METRIC_GAUGE, "virt_reimage_instances", NULL,
                     "Instances by what they run, and by how their last swap stands");
    VR_EACH_SET(one, sets)
    write_shares(out, one);
    vr_metric_family(out, VR_METRIC_GAUGE, "virt_reimage_instances_protected", NULL,
                     "Instances that are kept out of what is done to their set");
    VR_EACH_SET(one, sets)
    vr_metric_number(out, VR_SET_LABEL(one), one->is_protected);
    vr_metric_family(out, VR_METRIC_GAUGE, "virt_reimage_instances_behind_model", NULL,
                     "Instances whose set has a model that was edited since they got their disk");
    VR_EACH_SET(one, sets)
    vr_metric_number(out, VR_SET_LABEL(one), one->behind);
    vr_metric_family(out, VR_METRIC_GAUGE, "virt_reimage_open_swaps", NULL, "Swaps that have not come to their end");
    VR_EACH_SET(one, sets)
    vr_metric_number(out, VR_SET_LABEL(one), one->open_swaps);
    vr_metric_family(out, VR_METRIC_GAUGE, "virt_reimage_generations", NULL,
                     "OS disks of instances that are recorded, by state");
    VR_EACH_SET(one, sets)
    for (guint i = 0; i < G_N_ELEMENTS(one->generations); i++)
        if (i != VR_GENERATION_DISCARDED && i != VR_GENERATION_DELETED && i != VR_GENERATION_RELEASED)
            vr_metric_number(out, VR_SET_LABELS(one, "state", vr_generation_state_name(i)), one->generations[i]);
}
