/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What can be read of a run, and the names of things. */
#include "orchestrator/rollout_private.h"

static const char *const phase_names[] = {
    [VR_PHASE_PENDING] = "pending",       [VR_PHASE_SKIPPED] = "skipped",     [VR_PHASE_PREPARING] = "preparing",
    [VR_PHASE_PREPARED] = "prepared",     [VR_PHASE_SWAPPING] = "swapping",   [VR_PHASE_PROBING] = "probing",
    [VR_PHASE_COMMITTING] = "committing", [VR_PHASE_RESTORING] = "restoring", [VR_PHASE_DISCARDING] = "discarding",
    [VR_PHASE_COMMITTED] = "committed",   [VR_PHASE_RESTORED] = "restored",   [VR_PHASE_FAILED] = "failed",
    [VR_PHASE_UNKNOWN] = "unknown",       [VR_PHASE_NOTICE] = "notice",
};

const char *vr_run_kind_name(VrRunKind kind)
{
    static const char *const names[] = {[VR_RUN_UPGRADE] = "upgrade",
                                        [VR_RUN_REIMAGE] = "reimage",
                                        [VR_RUN_ROLLBACK] = "rollback",
                                        [VR_RUN_APPLY] = "apply"};

    return names[kind];
}

const char *vr_run_status_name(VrRunStatus status)
{
    static const char *const names[] = {[VR_RUN_ROLLING_FORWARD] = "RollingForward",
                                        [VR_RUN_CANCELLED] = "Cancelled",
                                        [VR_RUN_COMPLETED] = "Completed",
                                        [VR_RUN_FAULTED] = "Faulted"};

    return names[status];
}

const char *vr_instance_phase_name(VrInstancePhase phase)
{
    return phase_names[phase];
}

gboolean vr_instance_phase_in_flight(VrInstancePhase phase)
{
    return (phase > VR_PHASE_SKIPPED && phase < VR_PHASE_COMMITTED) || phase == VR_PHASE_NOTICE;
}

const char *vr_run_point_name(VrRunPoint point)
{
    static const char *const names[] = {
        [VR_POINT_NONE] = "none",     [VR_POINT_BATCH] = "batch",           [VR_POINT_BETWEEN] = "between",
        [VR_POINT_PAUSED] = "paused", [VR_POINT_APPROVAL] = "approval",     [VR_POINT_WALK] = "walk",
        [VR_POINT_CANARY] = "canary", [VR_POINT_CHECKPOINT] = "checkpoint", [VR_POINT_BAKE] = "bake",
        [VR_POINT_WINDOW] = "window", [VR_POINT_ENDING] = "ending",         [VR_POINT_INTERRUPTED] = "interrupted"};

    return names[point];
}

static VrRunPoint point_of(const VrRollout *rollout)
{
    static const VrRunPoint held[] = {
        [VR_HOLD_NONE] = VR_POINT_BETWEEN,      [VR_HOLD_PAUSED] = VR_POINT_PAUSED,
        [VR_HOLD_APPROVAL] = VR_POINT_APPROVAL, [VR_HOLD_WALK] = VR_POINT_WALK,
        [VR_HOLD_CANARY] = VR_POINT_CANARY,     [VR_HOLD_CHECKPOINT] = VR_POINT_CHECKPOINT,
        [VR_HOLD_BAKE] = VR_POINT_BAKE,         [VR_HOLD_WINDOW] = VR_POINT_WINDOW};

    switch (rollout->stage) {
    case VR_STAGE_FINISHED:
        return VR_POINT_NONE;
    case VR_STAGE_BATCH:
        return rollout->cancel ? VR_POINT_ENDING : VR_POINT_BATCH;
    case VR_STAGE_AMENDS:
        return VR_POINT_ENDING;
    default:
        return held[rollout->hold];
    }
}

guint vr_rollout_in_flight(const VrRollout *rollout)
{
    guint count = 0;

    for (VrInstancePhase phase = 0; phase < VR_PHASE_COUNT; phase++)
        count += vr_instance_phase_in_flight(phase) ? rollout->phases[phase] : 0;
    return count;
}

guint vr_rollout_free_to_start(const VrRollout *rollout)
{
    guint most = rollout->policy.max_in_flight, now = vr_rollout_in_flight(rollout);

    if (most == 0)
        return G_MAXUINT;
    return most > now ? most - now : 0;
}

gboolean vr_rollout_is_left(const VrRollout *rollout, guint i)
{
    return rollout->entries[i].phase == VR_PHASE_PENDING || rollout->entries[i].ahead == VR_AHEAD_WANTED;
}

guint vr_rollout_left(const VrRollout *rollout)
{
    return rollout->phases[VR_PHASE_PENDING] + rollout->ahead;
}

void vr_rollout_view(const VrRollout *rollout, VrRolloutView *view)
{
    const guint *phases = rollout->phases;

    *view = (VrRolloutView){
        .finished = rollout->stage == VR_STAGE_FINISHED,
        .status = rollout->stage == VR_STAGE_FINISHED ? rollout->status : VR_RUN_ROLLING_FORWARD,
        .error_code = rollout->error_code,
        .error_text = rollout->error_text,
        .batch_number = rollout->batch_number,
        .successful = phases[VR_PHASE_COMMITTED],
        .failed = phases[VR_PHASE_RESTORED] + phases[VR_PHASE_FAILED] + phases[VR_PHASE_UNKNOWN],
        .in_progress = vr_rollout_in_flight(rollout) - rollout->ahead,
        .pending = vr_rollout_left(rollout),
        .skipped = phases[VR_PHASE_SKIPPED],
        .restored = phases[VR_PHASE_RESTORED],
        .restore_failed = rollout->failures[VR_FAILURE_NOT_PUT_BACK],
        .unknown = phases[VR_PHASE_UNKNOWN],
        .point = point_of(rollout),
        .hold = rollout->stage == VR_STAGE_FINISHED ? VR_HOLD_NONE : rollout->hold,
        .hold_text = rollout->hold_text,
        .hold_until_ms = rollout->hold_until,
        .gate_text = rollout->hold == VR_HOLD_NONE ? rollout->gate_text : NULL,
        .pause_requested = rollout->paused,
        .locked = rollout->stage == VR_STAGE_BATCH || rollout->stage == VR_STAGE_AMENDS,
    };
    /* Of the chosen ones: those that were skipped are on their target, or are none of this run's. */
    view->rollback_allowed =
        !view->finished && rollout->stage != VR_STAGE_NEW && view->successful + view->skipped < rollout->count;
}

VrInstancePhase vr_rollout_phase(const VrRollout *rollout, guint instance)
{
    return rollout->entries[instance].phase;
}

gboolean vr_rollout_holds_place(const VrRollout *rollout, guint instance)
{
    return vr_planner_holds_place(&rollout->candidates[instance]);
}

const GArray *vr_rollout_gate_batch(const VrRollout *rollout)
{
    return rollout->asked != NULL ? rollout->asked->members : NULL;
}

const char *vr_rollout_reason(const VrRollout *rollout, guint instance)
{
    return rollout->entries[instance].reason;
}
