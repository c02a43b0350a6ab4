/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The state machine of a run. An event is an answer about one instance (the table `answers`) or it concerns the run
 * (the table `controls`); each instance moves along `may_follow` through vr_step_phase() only. Here is what happens within a
 * batch; what happens between two is in rollout_border.c, and what ends a run in rollout_rules.c.
 */
#include "orchestrator/rollout_private.h"

#define TO(phase) (1u << VR_PHASE_##phase)
static const guint may_follow[VR_PHASE_COUNT] = {
    [VR_PHASE_PENDING] = TO(PREPARING) | TO(SKIPPED),
    [VR_PHASE_PREPARING] = TO(PREPARED) | TO(PENDING) | TO(FAILED) | TO(UNKNOWN),
    [VR_PHASE_PREPARED] = TO(SWAPPING) | TO(DISCARDING) | TO(NOTICE),
    [VR_PHASE_NOTICE] = TO(PREPARED) | TO(DISCARDING) | TO(FAILED) | TO(UNKNOWN),
    [VR_PHASE_SWAPPING] = TO(PROBING) | TO(RESTORING) | TO(FAILED) | TO(UNKNOWN),
    [VR_PHASE_PROBING] = TO(COMMITTING) | TO(RESTORING) | TO(FAILED) | TO(UNKNOWN),
    [VR_PHASE_COMMITTING] = TO(COMMITTED) | TO(FAILED) | TO(UNKNOWN),
    [VR_PHASE_RESTORING] = TO(RESTORED) | TO(FAILED) | TO(UNKNOWN),
    [VR_PHASE_DISCARDING] = TO(PENDING) | TO(UNKNOWN),
    [VR_PHASE_FAILED] = TO(RESTORING), /* F3 */
};

void vr_command_clear(VrCommand *command)
{
    g_clear_pointer(&command->text, g_free);
}

void vr_step_emit(VrStep *step, VrCommandType type, guint instance, const char *text)
{
    VrCommand command = {
        .type = type,
        .instance = instance,
        .batch_number = step->rollout->batch_number,
        .at_ms = type == VR_COMMAND_WAKE ? step->rollout->wake_at : 0,
        .text = g_strdup(text),
    };

    g_array_append_val(step->commands, command);
}

void vr_step_phase(VrRollout *rollout, guint i, VrInstancePhase phase)
{
    VrRolloutEntry *entry = &rollout->entries[i];

    g_assert(may_follow[entry->phase] & (1u << phase));
    rollout->phases[entry->phase]--;
    rollout->phases[phase]++;
    entry->phase = phase;
    rollout->candidates[i].status = vr_rollout_is_left(rollout, i) ? VR_CANDIDATE_PENDING
                                    : phase == VR_PHASE_SKIPPED    ? VR_CANDIDATE_SKIPPED
                                                                   : VR_CANDIDATE_DONE;
}

const char *vr_event_reason(const VrEvent *event)
{
    return event->reason != NULL && event->reason[0] != '\0' ? event->reason : "no reason was given";
}

/* Remembers why an instance failed; the first cause counts, a later one is added. */
static void blame(VrRollout *rollout, guint i, const char *reason)
{
    VrRolloutEntry *entry = &rollout->entries[i];
    char *both;

    if (entry->cause == NULL) {
        g_free(entry->reason);
        entry->reason = g_strdup(reason);
        entry->cause = vr_reasons_add(&rollout->reasons, reason);
        return;
    }
    both = g_strdup_printf("%s; then: %s", entry->reason, reason);
    g_free(entry->reason);
    entry->reason = both;
}

static void fail(VrStep *step, guint i, VrInstancePhase phase)
{
    blame(step->rollout, i, vr_event_reason(step->event));
    vr_step_phase(step->rollout, i, phase);
}

static void fail_as(VrStep *step, guint i, VrFailure failure)
{
    step->rollout->entries[i].failure = failure;
    step->rollout->failures[failure]++;
    fail(step, i, VR_PHASE_FAILED);
}

void vr_step_fail_untouched(VrStep *step, guint i)
{
    fail_as(step, i, VR_FAILURE_UNTOUCHED);
}

void vr_step_fail_unknown(VrStep *step, guint i)
{
    fail(step, i, VR_PHASE_UNKNOWN);
}

static void restore(VrStep *step, guint i, const char *why)
{
    vr_step_phase(step->rollout, i, VR_PHASE_RESTORING);
    vr_step_emit(step, VR_COMMAND_RESTORE, i, why);
}

/* Cancel now is not a failure of the instance: nobody is blamed, but the view says why it went back. */
static void restore_for_cancel(VrStep *step, guint i)
{
    VrRolloutEntry *entry = &step->rollout->entries[i];

    if (entry->reason == NULL)
        entry->reason = g_strdup("the run was cancelled");
    restore(step, i, "the run was cancelled");
}

void vr_step_discard(VrStep *step, guint i, const char *why)
{
    vr_rollout_not_ahead(step->rollout, i);
    vr_step_phase(step->rollout, i, VR_PHASE_DISCARDING);
    vr_step_emit(step, VR_COMMAND_DISCARD, i, why);
}

static void discard_for_cancel(VrStep *step, guint i)
{
    vr_step_discard(step, i, "the run was cancelled");
}

/* Ahead of its batch: whatever it is, the batch will see it again. */
static void on_prepared_ahead(VrStep *step, guint i)
{
    gboolean wanted = step->rollout->entries[i].ahead == VR_AHEAD_WANTED;

    if (step->event->outcome == VR_OUTCOME_OK) {
        vr_step_phase(step->rollout, i, VR_PHASE_PREPARED);
        if (!wanted || step->rollout->cancel_now)
            vr_step_unwant(step, i);
        return;
    }
    vr_rollout_not_ahead(step->rollout, i);
    if (step->event->outcome == VR_OUTCOME_UNKNOWN)
        fail(step, i, VR_PHASE_UNKNOWN);
    else
        vr_step_phase(step->rollout, i, VR_PHASE_PENDING);
}

static void on_prepared(VrStep *step, guint i)
{
    VrRollout *rollout = step->rollout;

    if (rollout->entries[i].ahead != VR_AHEAD_NO) {
        on_prepared_ahead(step, i);
        return;
    }
    switch (step->event->outcome) {
    case VR_OUTCOME_OK:
        vr_step_phase(rollout, i, VR_PHASE_PREPARED);
        if (rollout->cancel_now)
            discard_for_cancel(step, i);
        break;
    case VR_OUTCOME_CANCELLED:
        if (rollout->cancel) {
            vr_step_phase(rollout, i, VR_PHASE_PENDING);
            break;
        }
        G_GNUC_FALLTHROUGH; /* nobody asked: pending, it would be begun again and again */
    case VR_OUTCOME_FAILED:
    case VR_OUTCOME_UNTOUCHED:
        fail_as(step, i, VR_FAILURE_UNTOUCHED);
        break;
    case VR_OUTCOME_UNKNOWN:
        fail(step, i, VR_PHASE_UNKNOWN);
        break;
    }
}

/* J10. The first that was off for too long is named. */
static void note_off_time(VrRollout *rollout, guint i, gint64 off_ms)
{
    if (rollout->policy.max_off_ms == 0 || off_ms <= rollout->policy.max_off_ms)
        return;
    if (rollout->too_long++ == 0)
        rollout->too_long_instance = i;
    rollout->longest_off_ms = MAX(rollout->longest_off_ms, off_ms);
}

/* A swap that failed on its way is always undone, also where unhealthy instances are left: the guest is on neither disk
 * for good, and the undo is the engine's. */
static void on_swapped(VrStep *step, guint i)
{
    VrRollout *rollout = step->rollout;

    note_off_time(rollout, i, step->event->off_ms);
    switch (step->event->outcome) {
    case VR_OUTCOME_OK:
        if (rollout->cancel_now) {
            restore_for_cancel(step, i);
            break;
        }
        vr_step_phase(rollout, i, VR_PHASE_PROBING);
        vr_step_emit(step, VR_COMMAND_PROBE, i, NULL);
        break;
    case VR_OUTCOME_FAILED:
        blame(rollout, i, vr_event_reason(step->event));
        restore(step, i, vr_event_reason(step->event));
        break;
    case VR_OUTCOME_UNTOUCHED:
    case VR_OUTCOME_CANCELLED:
        fail_as(step, i, VR_FAILURE_UNTOUCHED);
        break;
    case VR_OUTCOME_UNKNOWN:
        fail(step, i, VR_PHASE_UNKNOWN);
        break;
    }
}

/* F1. An instance of a rollback is not moved forward again, to the disk that one wanted to leave. */
static void on_probed(VrStep *step, guint i)
{
    VrRollout *rollout = step->rollout;

    switch (step->event->outcome) {
    case VR_OUTCOME_OK:
        vr_step_phase(rollout, i, VR_PHASE_COMMITTING);
        vr_step_emit(step, VR_COMMAND_COMMIT, i, NULL);
        break;
    case VR_OUTCOME_FAILED:
    case VR_OUTCOME_UNTOUCHED:
    case VR_OUTCOME_CANCELLED:
        if (!rollout->policy.automatic_rollback || rollout->kind == VR_RUN_ROLLBACK) {
            rollout->entries[i].left = TRUE;
            fail(step, i, VR_PHASE_FAILED);
            break;
        }
        blame(rollout, i, vr_event_reason(step->event));
        restore(step, i, vr_event_reason(step->event));
        break;
    case VR_OUTCOME_UNKNOWN:
        fail(step, i, VR_PHASE_UNKNOWN);
        break;
    }
}

static void on_committed(VrStep *step, guint i)
{
    VrRollout *rollout = step->rollout;

    switch (step->event->outcome) {
    case VR_OUTCOME_OK:
        vr_step_phase(rollout, i, VR_PHASE_COMMITTED);
        rollout->off_committed += rollout->entries[i].off ? 1 : 0;
        break;
    case VR_OUTCOME_FAILED:
    case VR_OUTCOME_UNTOUCHED:
    case VR_OUTCOME_CANCELLED:
        fail_as(step, i, VR_FAILURE_NOT_RECORDED);
        break;
    case VR_OUTCOME_UNKNOWN:
        fail(step, i, VR_PHASE_UNKNOWN);
        break;
    }
}

static void on_restored(VrStep *step, guint i)
{
    switch (step->event->outcome) {
    case VR_OUTCOME_OK:
        vr_step_phase(step->rollout, i, VR_PHASE_RESTORED);
        break;
    case VR_OUTCOME_FAILED:
    case VR_OUTCOME_UNTOUCHED:
    case VR_OUTCOME_CANCELLED:
        fail_as(step, i, VR_FAILURE_NOT_PUT_BACK);
        break;
    case VR_OUTCOME_UNKNOWN:
        fail(step, i, VR_PHASE_UNKNOWN);
        break;
    }
}

/* The guest was not touched, whether or not its prepared disk could be removed. In a run that goes on it is still to be moved, and
 * nothing of it has failed. */
static void on_discarded(VrStep *step, guint i)
{
    if (step->event->outcome == VR_OUTCOME_UNKNOWN) {
        fail(step, i, VR_PHASE_UNKNOWN);
        return;
    }
    if (step->event->outcome != VR_OUTCOME_OK && step->rollout->cancel)
        blame(step->rollout, i, vr_event_reason(step->event));
    vr_step_phase(step->rollout, i, VR_PHASE_PENDING);
}

/* All members are prepared or have failed at it: those that can go down go down now. */
void vr_step_swap_prepared(VrStep *step)
{
    const GArray *members = step->rollout->batch->members;

    for (guint k = 0; k < members->len; k++)
        if (step->rollout->entries[g_array_index(members, guint, k)].phase == VR_PHASE_PREPARING)
            return;
    if (step->rollout->notice && !vr_step_notice_is_over(step))
        return;
    for (guint k = 0; k < members->len; k++) {
        guint i = g_array_index(members, guint, k);

        if (step->rollout->entries[i].phase != VR_PHASE_PREPARED)
            continue;
        vr_step_phase(step->rollout, i, VR_PHASE_SWAPPING);
        vr_step_emit(step, VR_COMMAND_SWAP, i, NULL);
    }
}

/* After each answer. */
static void advance(VrStep *step)
{
    VrRollout *rollout = step->rollout;

    if (rollout->stage == VR_STAGE_BATCH) {
        vr_step_swap_prepared(step);
        if (vr_rollout_in_flight(rollout) == rollout->ahead)
            vr_step_end_batch(step);
        else
            vr_step_look_ahead(step);
    } else if (vr_rollout_in_flight(rollout) == rollout->ahead) {
        vr_step_cleared(step);
    }
}

/* Between batches a wish is met at once, in a batch at its end. */
static void on_cancel(VrStep *step)
{
    step->rollout->cancel = TRUE;
    vr_step_recall(step);
    vr_step_wish(step);
}

static void on_cancel_now(VrStep *step)
{
    VrRollout *rollout = step->rollout;

    rollout->cancel = TRUE;
    rollout->cancel_now = TRUE;
    if (rollout->stage != VR_STAGE_BATCH) {
        vr_step_wish(step);
        return;
    }
    vr_step_recall(step);
    for (guint k = 0; k < rollout->batch->members->len; k++) {
        guint i = g_array_index(rollout->batch->members, guint, k);

        if (rollout->entries[i].phase == VR_PHASE_PREPARED)
            discard_for_cancel(step, i);
        else if (rollout->entries[i].phase == VR_PHASE_PROBING)
            restore_for_cancel(step, i); /* its probe is over; a late answer does not fit any more */
    }
}

static void on_withdrawn(VrStep *step)
{
    step->rollout->withdrawn = TRUE;
    if (step->rollout->withdrawn_text == NULL)
        step->rollout->withdrawn_text = g_strdup(step->event->reason);
    vr_step_recall(step);
    vr_step_wish(step);
}

/* Answers about one instance: each fits only the phase that waits for it. */
static const struct {
    VrInstancePhase awaited_in;
    void (*handle)(VrStep *step, guint i);
} answers[] = {
    [VR_EVENT_PREPARED] = {VR_PHASE_PREPARING, on_prepared},    [VR_EVENT_NOTICED] = {VR_PHASE_NOTICE, vr_step_noticed},
    [VR_EVENT_SWAPPED] = {VR_PHASE_SWAPPING, on_swapped},       [VR_EVENT_PROBED] = {VR_PHASE_PROBING, on_probed},
    [VR_EVENT_COMMITTED] = {VR_PHASE_COMMITTING, on_committed}, [VR_EVENT_RESTORED] = {VR_PHASE_RESTORING, on_restored},
    [VR_EVENT_DISCARDED] = {VR_PHASE_DISCARDING, on_discarded}, [VR_EVENT_RECALL] = {0},
};

static void (*const controls[])(VrStep *step) = {
    [VR_EVENT_START] = vr_step_start,     [VR_EVENT_SURVEY] = vr_step_survey,    [VR_EVENT_WAKE] = vr_step_wake,
    [VR_EVENT_GATE] = vr_step_gate,       [VR_EVENT_PAUSE] = vr_step_pause,      [VR_EVENT_RESUME] = vr_step_resume,
    [VR_EVENT_APPROVE] = vr_step_approve, [VR_EVENT_PROMOTE] = vr_step_promote,  [VR_EVENT_WALK] = vr_step_walk,
    [VR_EVENT_CANCEL] = on_cancel,        [VR_EVENT_CANCEL_NOW] = on_cancel_now, [VR_EVENT_WITHDRAWN] = on_withdrawn,
    [VR_EVENT_RECALL] = vr_step_recall,   [VR_EVENT_WINDOW] = vr_step_window,
};

void vr_rollout_step(VrRollout *rollout, const VrEvent *event, gint64 now_ms, GArray *commands)
{
    VrStep step = {.rollout = rollout, .event = event, .now_ms = now_ms, .commands = commands};

    if (rollout->stage == VR_STAGE_FINISHED)
        return;
    rollout->timed_out |= rollout->deadline > 0 && now_ms >= rollout->deadline;
    if (controls[event->type] != NULL) {
        controls[event->type](&step);
        return;
    }
    if (event->instance >= rollout->count || rollout->entries[event->instance].phase != answers[event->type].awaited_in)
        return; /* late or double */
    answers[event->type].handle(&step, event->instance);
    advance(&step);
}

/* Decision 6: what may hold or stop a run forward does not hold up a rollback. */
static void open_ways_out(VrUpgradePolicy *policy)
{
    policy->checkpoints[0] = 0;
    policy->bake_ms = policy->max_off_ms = 0;
    policy->approval = FALSE;
    policy->gate = NULL;
}

static VrCandidate candidate_of(const VrRolloutInstance *instance)
{
    return (VrCandidate){.upgrade_domain = instance->upgrade_domain,
                         .role = instance->role,
                         .zone = instance->zone,
                         .pair = instance->pair,
                         .phase = instance->phase,
                         .left_failed = instance->left_failed,
                         .is_protected = instance->is_protected,
                         .status = instance->chosen ? VR_CANDIDATE_PENDING : VR_CANDIDATE_SKIPPED};
}

VrRollout *vr_rollout_new(const VrRolloutConfig *config)
{
    VrRollout *rollout = g_new0(VrRollout, 1);

    rollout->kind = config->kind;
    rollout->policy = config->policy;
    rollout->health_timeout_ms = config->health_timeout_ms;
    rollout->same_reason_stops = config->same_reason_stops;
    rollout->walk = config->walk;
    rollout->walked = VR_NO_DOMAIN;
    rollout->count = config->count;
    rollout->entries = g_new0(VrRolloutEntry, config->count);
    rollout->candidates = g_new0(VrCandidate, config->count);
    vr_reasons_init(&rollout->reasons);
    for (guint i = 0; i < config->count; i++) {
        gboolean chosen = config->instances[i].chosen;

        rollout->entries[i].phase = chosen ? VR_PHASE_PENDING : VR_PHASE_SKIPPED;
        rollout->phases[rollout->entries[i].phase]++;
        rollout->candidates[i] = candidate_of(&config->instances[i]);
        rollout->roles = MAX(rollout->roles, config->instances[i].role.number);
        rollout->entries[i].canary = chosen && config->instances[i].canary && config->kind != VR_RUN_ROLLBACK;
        rollout->entries[i].named = config->instances[i].named || rollout->entries[i].canary;
        rollout->has_canary |= rollout->entries[i].canary;
    }
    if (rollout->walk)
        rollout->policy.by_domain = TRUE; /* D30: a person names a whole upgrade domain */
    rollout->notice = config->notice && config->kind != VR_RUN_ROLLBACK; /* decision 6: the way back waits for nobody */
    rollout->window_ms = config->window_ms;
    rollout->window = config->window && config->kind != VR_RUN_ROLLBACK;
    if (config->kind == VR_RUN_ROLLBACK)
        open_ways_out(&rollout->policy);
    return rollout;
}

void vr_rollout_free(VrRollout *rollout)
{
    if (rollout == NULL)
        return;
    for (guint i = 0; i < rollout->count; i++)
        g_free(rollout->entries[i].reason);
    g_free(rollout->entries);
    g_free(rollout->candidates);
    vr_batch_free(rollout->batch);
    vr_batch_free(rollout->asked);
    vr_reasons_clear(&rollout->reasons);
    g_free(rollout->withdrawn_text);
    g_free(rollout->hold_text);
    g_free(rollout->gate_text);
    g_free(rollout->shut_text);
    g_free(rollout->error_text);
    g_free(rollout);
}
