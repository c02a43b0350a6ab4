/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The notice that guests have before they go down (H7, H8). When all of a batch are prepared, each guest is told and they wait side by side: for a time, for
 * an early approval, for what it is busy with. That may take long, so the set is surveyed once more when the last of them is ready, and the batch goes down
 * only where the planner still lets all of it go together, and the window of the run is still open. Else, and when a person pauses or cancels, all that is prepared is discarded: the guests were not
 * touched, their notices are taken back, and they are still to be moved.
 */
#include "orchestrator/rollout_private.h"

static gboolean is_called_off(const VrRollout *rollout)
{
    return rollout->recalled || rollout->timed_out;
}

static void discard_all(VrStep *step, const char *why)
{
    const GArray *members = step->rollout->batch->members;

    for (guint k = 0; k < members->len; k++) {
        guint i = g_array_index(members, guint, k);

        if (step->rollout->entries[i].phase == VR_PHASE_PREPARED)
            vr_step_discard(step, i, why);
    }
}

static void give_notice(VrStep *step)
{
    const GArray *members = step->rollout->batch->members;

    for (guint k = 0; k < members->len; k++) {
        guint i = g_array_index(members, guint, k);

        if (step->rollout->entries[i].phase != VR_PHASE_PREPARED)
            continue;
        vr_step_phase(step->rollout, i, VR_PHASE_NOTICE);
        vr_step_emit(step, VR_COMMAND_NOTICE, i, NULL);
    }
}

typedef struct {
    guint told, ready, prepared;
} Members;

static Members count_members(const VrRollout *rollout)
{
    const GArray *members = rollout->batch->members;
    Members count = {0};

    for (guint k = 0; k < members->len; k++) {
        const VrRolloutEntry *entry = &rollout->entries[g_array_index(members, guint, k)];

        count.told += entry->phase == VR_PHASE_NOTICE ? 1 : 0;
        count.prepared += entry->phase == VR_PHASE_PREPARED ? 1 : 0;
        count.ready += entry->phase == VR_PHASE_PREPARED && entry->ready ? 1 : 0;
    }
    return count;
}

gboolean vr_step_notice_is_over(VrStep *step)
{
    VrRollout *rollout = step->rollout;
    Members count = count_members(rollout);

    if (rollout->confirms || count.told > 0 || count.prepared == 0)
        return FALSE;
    if (is_called_off(rollout)) {
        discard_all(step, "the notice was called off");
    } else if (count.ready < count.prepared) {
        give_notice(step);
    } else {
        rollout->confirms = TRUE;
        vr_step_emit(step, VR_COMMAND_SURVEY, 0, NULL);
    }
    return FALSE; /* vr_step_confirm() says yes */
}

/* For the planner: those that are ready are still to be moved, or have been taken. */
static void mark_ready(VrRollout *rollout, VrCandidateStatus status)
{
    const GArray *members = rollout->batch->members;

    for (guint k = 0; k < members->len; k++) {
        guint i = g_array_index(members, guint, k);

        if (rollout->entries[i].phase != VR_PHASE_PREPARED)
            continue;
        rollout->candidates[i].status = status;
        rollout->candidates[i].held = FALSE;
        rollout->candidates[i].guest_phase = 0; /* whoever asked to go first; the next survey says it anew */
    }
}

/* As if the batch were chosen now, of those that are ready and nobody else. */
static gboolean may_all_go(VrRollout *rollout, const VrSurveyAnswer *answers)
{
    g_autoptr(VrBatch) batch = NULL;
    VrRolloutVerdict verdict;

    for (guint i = 0; i < rollout->count; i++)
        rollout->candidates[i].held = TRUE;
    mark_ready(rollout, VR_CANDIDATE_PENDING);
    vr_rollout_note_survey(rollout, answers);
    verdict = vr_rollout_judge_survey(rollout);
    if (verdict.text == NULL)
        batch = vr_planner_next_batch(&rollout->policy, rollout->candidates, rollout->count, FALSE, NULL);
    g_free(verdict.text);
    mark_ready(rollout, VR_CANDIDATE_DONE);
    return batch != NULL && batch->members->len == count_members(rollout).ready;
}

void vr_step_confirm(VrStep *step)
{
    VrRollout *rollout = step->rollout;
    const GArray *members = rollout->batch->members;

    rollout->confirms = FALSE;
    if (!vr_step_window_is_open(step)) {
        rollout->recalled = TRUE;
        discard_all(step, "the notice was called off: the maintenance window has shut meanwhile");
        return;
    }
    if (step->event->outcome != VR_OUTCOME_OK || step->event->answers == NULL || is_called_off(rollout) ||
        !may_all_go(rollout, step->event->answers)) {
        rollout->recalled = TRUE;
        discard_all(step, "the notice was called off: the set has changed meanwhile");
        return;
    }
    for (guint k = 0; k < members->len; k++) {
        guint i = g_array_index(members, guint, k);

        if (rollout->entries[i].phase != VR_PHASE_PREPARED)
            continue;
        vr_step_phase(rollout, i, VR_PHASE_SWAPPING);
        vr_step_emit(step, VR_COMMAND_SWAP, i, NULL);
    }
}

void vr_step_noticed(VrStep *step, guint i)
{
    VrRollout *rollout = step->rollout;

    switch (step->event->outcome) {
    case VR_OUTCOME_OK:
        vr_step_phase(rollout, i, VR_PHASE_PREPARED);
        rollout->entries[i].ready = TRUE;
        break;
    case VR_OUTCOME_CANCELLED:
        if (rollout->recalled) {
            vr_step_discard(step, i, "the notice was called off");
            break;
        }
        G_GNUC_FALLTHROUGH; /* nobody asked: it would be told again and again */
    case VR_OUTCOME_FAILED:
    case VR_OUTCOME_UNTOUCHED:
        vr_step_fail_untouched(step, i);
        break;
    case VR_OUTCOME_UNKNOWN:
        vr_step_fail_unknown(step, i);
        break;
    }
}

void vr_step_recall(VrStep *step)
{
    VrRollout *rollout = step->rollout;

    if (rollout->stage != VR_STAGE_BATCH || rollout->recalled)
        return;
    rollout->recalled = TRUE;
    for (guint k = 0; k < rollout->batch->members->len; k++) {
        guint i = g_array_index(rollout->batch->members, guint, k);

        if (rollout->entries[i].phase == VR_PHASE_NOTICE)
            vr_step_emit(step, VR_COMMAND_RECALL, i, NULL);
    }
}
