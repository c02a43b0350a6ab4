/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What can be read of a run, and the names of things. */
#include "orchestrator/rollout_private.h"

static const char *const phase_names[] = {
    [VR_PHASE_PENDING] = "pending",       [VR_PHASE_SKIPPED] = "skipped",     [VR_PHASE_PREPARING] = "preparing",
    [VR_PHASE_PREPARED] = "prepared",     [VR_PHASE_SWAPPING] = "swapping",   [VR_PHASE_PROBING] = "probing",
    [VR_PHASE_COMMITTING] = "committing", [VR_PHASE_RESTORING] = "restoring", [VR_PHASE_DISCARDING] = "discarding",
    [VR_PHASE_COMMITTED] = "committed",   [VR_PHASE_RESTORED] = "restored",   [VR_PHASE_FAILED] = "failed",
    [VR_PHASE_UNKNOWN] = "unknown",
};

const char *vr_run_kind_name(VrRunKind kind)
{
    static const char *const names[] = {
        [VR_RUN_UPGRADE] = "upgrade", [VR_RUN_REIMAGE] = "reimage", [VR_RUN_ROLLBACK] = "rollback"};

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

guint vr_rollout_in_flight(const VrRollout *rollout)
{
    const guint *phases = rollout->phases;

    return phases[VR_PHASE_PREPARING] + phases[VR_PHASE_PREPARED] + phases[VR_PHASE_SWAPPING] +
           phases[VR_PHASE_PROBING] + phases[VR_PHASE_COMMITTING] + phases[VR_PHASE_RESTORING] +
           phases[VR_PHASE_DISCARDING];
}

void vr_rollout_view(const VrRollout *rollout, VrRolloutView *view)
{
    const guint *phases = rollout->phases;

    *view = (VrRolloutView){
        .finished = rollout->stage == VR_STAGE_FINISHED,
        .status = rollout->status,
        .error_code = rollout->error_code,
        .error_text = rollout->error_text,
        .batch_number = rollout->batch_number,
        .successful = phases[VR_PHASE_COMMITTED],
        .failed = phases[VR_PHASE_RESTORED] + phases[VR_PHASE_FAILED] + phases[VR_PHASE_UNKNOWN],
        .in_progress = vr_rollout_in_flight(rollout),
        .pending = phases[VR_PHASE_PENDING],
        .skipped = phases[VR_PHASE_SKIPPED],
        .restored = phases[VR_PHASE_RESTORED],
        .restore_failed = rollout->restore_failed,
        .unknown = phases[VR_PHASE_UNKNOWN],
        .hold = rollout->stage == VR_STAGE_FINISHED ? VR_HOLD_NONE : rollout->hold,
        .hold_text = rollout->hold_text,
        .hold_until_ms = rollout->hold_until,
        .pause_requested = rollout->paused,
        .locked = rollout->stage == VR_STAGE_BATCH,
    };
    /* Of the chosen ones: those that were skipped are on their target, or are none of this run's. */
    view->rollback_allowed =
        !view->finished && rollout->stage != VR_STAGE_NEW && view->successful + view->skipped < rollout->count;
}

VrInstancePhase vr_rollout_phase(const VrRollout *rollout, guint instance)
{
    return rollout->entries[instance].phase;
}

const char *vr_rollout_reason(const VrRollout *rollout, guint instance)
{
    return rollout->entries[instance].reason;
}
