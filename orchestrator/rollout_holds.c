/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a run waits for between two batches. The table `holds` is asked from top to bottom, and the first that says yes holds
 * the run; it is asked again after every event that could end it. So a pause covers all others, and what is passed is passed
 * for good.
 */
#include "orchestrator/rollout_private.h"

#include "base/clock.h"

/* ---- each of them: does it hold now? ---- */

static gboolean is_paused(VrRollout *rollout, gint64 now_ms)
{
    return rollout->paused;
}

static gboolean waits_for_approval(VrRollout *rollout, gint64 now_ms)
{
    return rollout->policy.approval && !rollout->approved;
}

static gboolean canary_pending(const VrRollout *rollout)
{
    for (guint i = 0; i < rollout->count; i++)
        if (rollout->entries[i].canary && vr_rollout_is_left(rollout, i))
            return TRUE;
    return FALSE;
}

gboolean vr_rollout_domain_pending(const VrRollout *rollout, guint domain)
{
    gboolean canary_first = rollout->has_canary && canary_pending(rollout);

    for (guint i = 0; i < rollout->count; i++)
        if (vr_rollout_is_left(rollout, i) && rollout->candidates[i].upgrade_domain == domain &&
            (rollout->entries[i].canary || !canary_first))
            return TRUE;
    return FALSE;
}

static gboolean waits_for_walk(VrRollout *rollout, gint64 now_ms)
{
    return rollout->walk && !vr_rollout_domain_pending(rollout, rollout->walked);
}

static gboolean waits_for_promotion(VrRollout *rollout, gint64 now_ms)
{
    return rollout->has_canary && !rollout->promoted && !canary_pending(rollout);
}

guint vr_rollout_percent_done(const VrRollout *rollout)
{
    guint chosen = rollout->count - rollout->phases[VR_PHASE_SKIPPED];

    return chosen == 0 ? 100 : (guint)((guint64)(chosen - vr_rollout_left(rollout)) * 100 / chosen);
}

/* A batch may cross several at once: they are one. */
static gboolean is_at_checkpoint(VrRollout *rollout, gint64 now_ms)
{
    const VrUpgradePolicy *policy = &rollout->policy;
    guint done = vr_rollout_percent_done(rollout);

    while (rollout->checkpoint < VR_CHECKPOINTS && policy->checkpoints[rollout->checkpoint] > 0 &&
           policy->checkpoints[rollout->checkpoint] <= done) {
        rollout->checkpoint++;
        rollout->checkpoint_until = now_ms + policy->checkpoint_wait_ms;
    }
    rollout->hold_until = rollout->checkpoint_until;
    return now_ms < rollout->checkpoint_until;
}

/* H4: by what was answered last. Who is held here asks again. */
static gboolean is_shut(VrRollout *rollout, gint64 now_ms)
{
    rollout->hold_until = rollout->opens_at;
    return rollout->shut_text != NULL;
}

/* ---- all of them ---- */

static const struct {
    VrHold hold;
    gboolean (*holds)(VrRollout *rollout, gint64 now_ms); /* sets hold_until where time ends it */
    const char *name, *text;                              /* NULL: shut_text, which has the time in it */
} holds[] = {
    {VR_HOLD_PAUSED, is_paused, "paused", "paused: 'resume' goes on"},
    {VR_HOLD_APPROVAL, waits_for_approval, "approval", "nothing was touched: 'approve' begins"},
    {VR_HOLD_WALK, waits_for_walk, "walk", "'walk' with an upgrade domain goes on with that one"},
    {VR_HOLD_CANARY, waits_for_promotion, "canary", "the canary is done: 'promote' goes on with the others"},
    {VR_HOLD_CHECKPOINT, is_at_checkpoint, "checkpoint", "checkpoint: 'promote' goes on at once"},
    {VR_HOLD_WINDOW, is_shut, "window", NULL},
};

const char *vr_hold_name(VrHold hold)
{
    for (guint i = 0; i < G_N_ELEMENTS(holds); i++)
        if (holds[i].hold == hold)
            return holds[i].name;
    switch (hold) {
    case VR_HOLD_BAKE:
        return "bake";
    case VR_HOLD_GATE:
        return "gate";
    case VR_HOLD_REBOOT:
        return "reboot";
    default:
        return NULL;
    }
}

void vr_rollout_find_hold(VrRollout *rollout, gint64 now_ms)
{
    rollout->hold = VR_HOLD_NONE;
    g_clear_pointer(&rollout->hold_text, g_free);
    for (guint i = 0; i < G_N_ELEMENTS(holds); i++) {
        rollout->hold_until = 0;
        if (!holds[i].holds(rollout, now_ms))
            continue;
        rollout->hold = holds[i].hold;
        if (holds[i].text == NULL) {
            rollout->hold_text = g_strdup(rollout->shut_text);
        } else if (rollout->hold_until > 0) {
            g_autofree char *left = vr_clock_format_duration(rollout->hold_until - now_ms);
            rollout->hold_text = g_strdup_printf("%s, else in %s", holds[i].text, left);
        } else {
            rollout->hold_text = g_strdup(holds[i].text);
        }
        return;
    }
    rollout->hold_until = 0;
}

void vr_rollout_mark_held(VrRollout *rollout)
{
    gboolean canary_first = rollout->has_canary && !rollout->promoted;

    for (guint i = 0; i < rollout->count; i++) {
        VrCandidate *candidate = &rollout->candidates[i];

        candidate->held = (canary_first && !rollout->entries[i].canary) ||
                          (rollout->walk && candidate->upgrade_domain != rollout->walked);
    }
}
