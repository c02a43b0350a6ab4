/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "live/simulated.h"

#define BATCH_MS 40000
#define SPREAD_MS 250 /* each guest of a batch is so much later than the one before */

/* From here on it is in the next stage, by the clock of its batch. */
static const struct {
    gint64 from_ms;
    VrLiveStage stage;
} plan[] = {{0, VR_LIVE_PREPARES},  {8000, VR_LIVE_READY},   {10000, VR_LIVE_STOPS}, {14000, VR_LIVE_SWITCHES},
            {14600, VR_LIVE_BOOTS}, {16000, VR_LIVE_PROBED}, {28000, VR_LIVE_DONE}};

static void place(VrLiveGuest *guest, gint64 ms, gboolean fails)
{
    guint at = 0;

    while (at + 1 < G_N_ELEMENTS(plan) && ms >= plan[at + 1].from_ms)
        at++;
    guest->stage = plan[at].stage;
    guest->stage_ms = ms - plan[at].from_ms;
    guest->down_ms = ms >= plan[2].from_ms ? ms - plan[2].from_ms : -1;
    if (guest->stage == VR_LIVE_PREPARES) {
        guest->copy_total = G_GUINT64_CONSTANT(4) << 30;
        guest->copy_done = guest->copy_total / 8000 * (guint64)ms;
        guest->copy_rate = G_GUINT64_CONSTANT(512) << 20;
    }
    if (guest->stage != VR_LIVE_DONE)
        return;
    guest->stage_ms = guest->down_ms = -1;
    if (fails) {
        guest->stage = VR_LIVE_BACK;
        guest->reason = g_strdup("not healthy within 20 s: HTTP 503 from http://10.0.0.17:8080/health");
    }
}

gint64 simulated_end_ms(guint count, guint batch)
{
    return (gint64)((count + batch - 1) / batch) * BATCH_MS;
}

VrSnapshot *simulated_run(guint count, guint batch, guint failing, gint64 ms)
{
    VrSnapshot *snapshot = vr_snapshot_new("web", "20261123-021355-7c1e");
    gint64 end_ms = simulated_end_ms(count, batch);

    snapshot->kind = VR_RUN_UPGRADE;
    snapshot->image = g_strdup("debian-12");
    snapshot->version = g_strdup("2.0.0");
    snapshot->ended = ms >= end_ms;
    snapshot->status = snapshot->ended ? VR_RUN_COMPLETED : VR_RUN_ROLLING_FORWARD;
    snapshot->has_process = snapshot->answers = !snapshot->ended;
    snapshot->elapsed_ms = MIN(ms, end_ms);
    snapshot->left_ms = end_ms - snapshot->elapsed_ms;
    snapshot->point = VR_POINT_BATCH;
    for (guint i = 0; i < count; i++) {
        g_autofree char *domain = g_strdup_printf("web-%u", i);
        VrLiveGuest *guest = vr_snapshot_add(snapshot, domain);
        gint64 own_ms = ms - (gint64)(i / batch) * BATCH_MS - (gint64)(i % batch) * SPREAD_MS;
        if (own_ms < 0)
            continue;
        guest->batch = i / batch + 1;
        place(guest, own_ms, failing > 0 && i % failing == 7 % failing);
    }
    return snapshot;
}
