/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The next batch is prepared while this one boots (B7): when the last of a batch runs on its new disk, the planner is asked what would
 * come next if all of it came good, and those are prepared. They are still to be moved, in all counts and for all rules: nothing of theirs is
 * down, and a preparation ahead that fails says nothing and is done again in its batch. At the border the next batch is chosen anew, from the
 * survey; what was prepared and is in it goes down at once, what is not is discarded. So is all of it before the run holds or ends.
 */
#include "orchestrator/rollout_private.h"

/* Is all of the batch past its swap, and some of it still on trial? */
static gboolean batch_boots(const VrRollout *rollout)
{
    const GArray *members = rollout->batch->members;
    gboolean probing = FALSE;

    for (guint k = 0; k < members->len; k++) {
        VrInstancePhase phase = rollout->entries[g_array_index(members, guint, k)].phase;

        if (phase == VR_PHASE_PREPARING || phase == VR_PHASE_PREPARED || phase == VR_PHASE_SWAPPING)
            return FALSE;
        probing = probing || phase == VR_PHASE_PROBING;
    }
    return probing;
}

/* What is known to come between this batch and the next one, or instead of it. */
static gboolean something_comes_first(VrRollout *rollout)
{
    const VrUpgradePolicy *policy = &rollout->policy;

    return rollout->cancel || rollout->withdrawn || rollout->timed_out || rollout->paused || rollout->walk ||
           rollout->phases[VR_PHASE_UNKNOWN] > 0 || /* ends it at the border */
           (rollout->checkpoint < VR_CHECKPOINTS && policy->checkpoints[rollout->checkpoint] > 0 &&
            policy->checkpoints[rollout->checkpoint] <= vr_rollout_percent_done(rollout));
}

/* As if the batch in flight came good: none of it is down while the planner looks. The others are not copied, there may be thousands. */
static VrBatch *foresee(VrRollout *rollout)
{
    const GArray *members = rollout->batch->members;
    g_autofree gboolean *down = g_new(gboolean, members->len);
    VrBatch *next;

    vr_rollout_mark_held(rollout); /* as it is anew at the border */
    for (guint i = 0; i < rollout->count; i++)
        rollout->candidates[i].held |= rollout->entries[i].asked_out && !rollout->entries[i].named; /* D14 */
    for (guint k = 0; k < members->len; k++) {
        VrCandidate *candidate = &rollout->candidates[g_array_index(members, guint, k)];
        down[k] = candidate->down;
        candidate->down = FALSE;
    }
    next = vr_planner_next_batch(&rollout->policy, rollout->candidates, rollout->count, FALSE, NULL);
    for (guint k = 0; k < members->len; k++)
        rollout->candidates[g_array_index(members, guint, k)].down = down[k];
    return next;
}

void vr_step_look_ahead(VrStep *step)
{
    VrRollout *rollout = step->rollout;
    g_autoptr(VrBatch) next = NULL;
    guint most;

    if (!rollout->policy.prepare_ahead || rollout->kind == VR_RUN_ROLLBACK || rollout->looked_ahead ||
        !batch_boots(rollout))
        return;
    rollout->looked_ahead = TRUE;
    if (!something_comes_first(rollout))
        next = foresee(rollout);
    most = next != NULL ? MIN(next->members->len, vr_rollout_free_to_start(rollout)) : 0; /* D24 */
    for (guint k = 0; k < most; k++) {
        guint i = g_array_index(next->members, guint, k);
        VrCommand command = {.type = VR_COMMAND_PREPARE, .instance = i, .batch_number = rollout->batch_number + 1};

        rollout->entries[i].ahead = VR_AHEAD_WANTED;
        rollout->ahead++;
        vr_step_phase(rollout, i, VR_PHASE_PREPARING);
        g_array_append_val(step->commands, command);
    }
}

void vr_rollout_not_ahead(VrRollout *rollout, guint i)
{
    rollout->ahead -= rollout->entries[i].ahead == VR_AHEAD_WANTED ? 1 : 0;
    rollout->entries[i].ahead = VR_AHEAD_NO;
}

void vr_step_unwant(VrStep *step, guint i)
{
    VrRollout *rollout = step->rollout;

    vr_rollout_not_ahead(rollout, i);
    if (rollout->entries[i].phase == VR_PHASE_PREPARED) {
        vr_step_phase(rollout, i, VR_PHASE_DISCARDING);
        vr_step_emit(step, VR_COMMAND_DISCARD, i, "it was prepared ahead, and another batch came");
    } else {
        rollout->entries[i].ahead = VR_AHEAD_UNWANTED; /* its answer comes first */
    }
    /* Until it is discarded; DONE would say that this run has moved it (G7). */
    rollout->candidates[i].status = VR_CANDIDATE_SKIPPED;
}

gboolean vr_step_clears(VrStep *step)
{
    VrRollout *rollout = step->rollout;

    for (guint i = 0; i < rollout->count && rollout->ahead > 0; i++)
        if (rollout->entries[i].ahead == VR_AHEAD_WANTED)
            vr_step_unwant(step, i);
    return vr_rollout_in_flight(rollout) > 0;
}

void vr_step_take_ahead(VrStep *step, guint i)
{
    vr_rollout_not_ahead(step->rollout, i);
    step->rollout->candidates[i].status = VR_CANDIDATE_DONE;
}
