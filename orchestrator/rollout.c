/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The state machine of a run. An event is an answer about one instance (the table `answers`) or it concerns the run
 * (the table `controls`); each instance moves along `may_follow` through set_phase() only. Between batches the run is
 * in one of the stages of rollout_private.h. What ends it is in rollout_rules.c.
 */
#include "orchestrator/rollout_private.h"

#define RESURVEY_MS 5000 /* how often the set is looked at while the run waits for a place */

/* One call of vr_rollout_step. */
typedef struct {
    VrRollout *rollout;
    const VrEvent *event;
    gint64 now_ms;
    GArray *commands;
} Step;

#define TO(phase) (1u << VR_PHASE_##phase)
static const guint may_follow[VR_PHASE_COUNT] = {
    [VR_PHASE_PENDING] = TO(PREPARING),
    [VR_PHASE_PREPARING] = TO(PREPARED) | TO(FAILED) | TO(UNKNOWN),
    [VR_PHASE_PREPARED] = TO(SWAPPING) | TO(DISCARDING),
    [VR_PHASE_SWAPPING] = TO(PROBING) | TO(RESTORING) | TO(FAILED) | TO(UNKNOWN),
    [VR_PHASE_PROBING] = TO(COMMITTING) | TO(RESTORING) | TO(FAILED) | TO(UNKNOWN),
    [VR_PHASE_COMMITTING] = TO(COMMITTED) | TO(FAILED) | TO(UNKNOWN),
    [VR_PHASE_RESTORING] = TO(RESTORED) | TO(FAILED) | TO(UNKNOWN),
    [VR_PHASE_DISCARDING] = TO(PENDING) | TO(UNKNOWN),
};

void vr_command_clear(VrCommand *command)
{
    g_clear_pointer(&command->text, g_free);
}

static void emit(Step *step, VrCommandType type, guint instance, const char *text)
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

/* The one way in which an instance changes its phase. */
static void set_phase(VrRollout *rollout, guint i, VrInstancePhase phase)
{
    VrRolloutEntry *entry = &rollout->entries[i];

    g_assert(may_follow[entry->phase] & (1u << phase));
    rollout->phases[entry->phase]--;
    rollout->phases[phase]++;
    entry->phase = phase;
    rollout->candidates[i].status = phase == VR_PHASE_PENDING ? VR_CANDIDATE_PENDING : VR_CANDIDATE_DONE;
}

static void finish(Step *step, VrRolloutVerdict verdict)
{
    VrRollout *rollout = step->rollout;

    rollout->stage = VR_STAGE_FINISHED;
    rollout->status = verdict.status;
    rollout->error_code = verdict.code;
    rollout->error_text = verdict.text;
    emit(step, VR_COMMAND_FINISH, 0, verdict.text);
}

static void survey(Step *step)
{
    step->rollout->stage = VR_STAGE_SURVEY;
    emit(step, VR_COMMAND_SURVEY, 0, NULL);
}

static void sleep_until(Step *step, gint64 at_ms)
{
    step->rollout->stage = VR_STAGE_PAUSE;
    step->rollout->wake_at = at_ms;
    emit(step, VR_COMMAND_WAKE, 0, NULL);
}

static const char *reason_of(const VrEvent *event)
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

static void fail(Step *step, guint i, VrInstancePhase phase)
{
    blame(step->rollout, i, reason_of(step->event));
    set_phase(step->rollout, i, phase);
}

static void restore(Step *step, guint i, const char *why)
{
    set_phase(step->rollout, i, VR_PHASE_RESTORING);
    emit(step, VR_COMMAND_RESTORE, i, why);
}

/* Cancel now is not a failure of the instance: nobody is blamed, but the view says why it went back. */
static void restore_for_cancel(Step *step, guint i)
{
    VrRolloutEntry *entry = &step->rollout->entries[i];

    if (entry->reason == NULL)
        entry->reason = g_strdup("the run was cancelled");
    restore(step, i, "the run was cancelled");
}

static void discard(Step *step, guint i)
{
    set_phase(step->rollout, i, VR_PHASE_DISCARDING);
    emit(step, VR_COMMAND_DISCARD, i, "the run was cancelled");
}

static void on_prepared(Step *step, guint i)
{
    VrRollout *rollout = step->rollout;

    switch (step->event->outcome) {
    case VR_OUTCOME_OK:
        set_phase(rollout, i, VR_PHASE_PREPARED);
        if (rollout->cancel_now)
            discard(step, i);
        break;
    case VR_OUTCOME_FAILED:
    case VR_OUTCOME_UNTOUCHED:
        rollout->untouched++;
        fail(step, i, VR_PHASE_FAILED);
        break;
    case VR_OUTCOME_UNKNOWN:
        fail(step, i, VR_PHASE_UNKNOWN);
        break;
    }
}

/* A swap that failed on its way is always undone, also where unhealthy instances are left: the guest is on neither disk
 * for good, and the undo is the engine's. */
static void on_swapped(Step *step, guint i)
{
    VrRollout *rollout = step->rollout;

    switch (step->event->outcome) {
    case VR_OUTCOME_OK:
        if (rollout->cancel_now) {
            restore_for_cancel(step, i);
            break;
        }
        set_phase(rollout, i, VR_PHASE_PROBING);
        emit(step, VR_COMMAND_PROBE, i, NULL);
        break;
    case VR_OUTCOME_FAILED:
        blame(rollout, i, reason_of(step->event));
        restore(step, i, reason_of(step->event));
        break;
    case VR_OUTCOME_UNTOUCHED:
        rollout->untouched++;
        fail(step, i, VR_PHASE_FAILED);
        break;
    case VR_OUTCOME_UNKNOWN:
        fail(step, i, VR_PHASE_UNKNOWN);
        break;
    }
}

/* F1. An instance of a rollback is not moved forward again, to the disk that one wanted to leave. */
static void on_probed(Step *step, guint i)
{
    VrRollout *rollout = step->rollout;

    switch (step->event->outcome) {
    case VR_OUTCOME_OK:
        set_phase(rollout, i, VR_PHASE_COMMITTING);
        emit(step, VR_COMMAND_COMMIT, i, NULL);
        break;
    case VR_OUTCOME_FAILED:
    case VR_OUTCOME_UNTOUCHED:
        if (!rollout->policy.automatic_rollback || rollout->kind == VR_RUN_ROLLBACK) {
            fail(step, i, VR_PHASE_FAILED);
            break;
        }
        blame(rollout, i, reason_of(step->event));
        restore(step, i, reason_of(step->event));
        break;
    case VR_OUTCOME_UNKNOWN:
        fail(step, i, VR_PHASE_UNKNOWN);
        break;
    }
}

static void on_committed(Step *step, guint i)
{
    VrRollout *rollout = step->rollout;

    switch (step->event->outcome) {
    case VR_OUTCOME_OK:
        set_phase(rollout, i, VR_PHASE_COMMITTED);
        rollout->off_committed += rollout->entries[i].off ? 1 : 0;
        break;
    case VR_OUTCOME_FAILED:
    case VR_OUTCOME_UNTOUCHED:
        rollout->commit_failed++;
        fail(step, i, VR_PHASE_FAILED);
        break;
    case VR_OUTCOME_UNKNOWN:
        fail(step, i, VR_PHASE_UNKNOWN);
        break;
    }
}

static void on_restored(Step *step, guint i)
{
    switch (step->event->outcome) {
    case VR_OUTCOME_OK:
        set_phase(step->rollout, i, VR_PHASE_RESTORED);
        break;
    case VR_OUTCOME_FAILED:
    case VR_OUTCOME_UNTOUCHED:
        step->rollout->restore_failed++; /* F12 */
        fail(step, i, VR_PHASE_FAILED);
        break;
    case VR_OUTCOME_UNKNOWN:
        fail(step, i, VR_PHASE_UNKNOWN);
        break;
    }
}

/* The guest was not touched, whether or not its prepared disk could be removed. */
static void on_discarded(Step *step, guint i)
{
    if (step->event->outcome == VR_OUTCOME_UNKNOWN) {
        fail(step, i, VR_PHASE_UNKNOWN);
        return;
    }
    if (step->event->outcome != VR_OUTCOME_OK)
        blame(step->rollout, i, reason_of(step->event));
    set_phase(step->rollout, i, VR_PHASE_PENDING);
}

/* All members are prepared or have failed at it: those that can go down go down now. */
static void swap_prepared(Step *step)
{
    const GArray *members = step->rollout->batch->members;

    for (guint k = 0; k < members->len; k++) {
        guint i = g_array_index(members, guint, k);

        if (step->rollout->entries[i].phase != VR_PHASE_PREPARED)
            continue;
        set_phase(step->rollout, i, VR_PHASE_SWAPPING);
        emit(step, VR_COMMAND_SWAP, i, NULL);
    }
}

static gboolean ends(Step *step, VrRolloutVerdict verdict)
{
    if (verdict.text == NULL)
        return FALSE;
    finish(step, verdict);
    return TRUE;
}

static void end_batch(Step *step)
{
    VrRollout *rollout = step->rollout;

    emit(step, VR_COMMAND_BATCH_END, 0, NULL);
    vr_rollout_compare_reasons(rollout);
    if (ends(step, vr_rollout_judge(rollout)))
        return;
    if (rollout->phases[VR_PHASE_PENDING] == 0)
        finish(step, vr_rollout_judge_end(rollout));
    else if (rollout->policy.pause_ms > 0)
        sleep_until(step, step->now_ms + rollout->policy.pause_ms); /* D5 */
    else
        survey(step);
}

/* After each answer. */
static void advance(Step *step)
{
    if (step->rollout->phases[VR_PHASE_PREPARING] == 0 && step->rollout->phases[VR_PHASE_PREPARED] > 0)
        swap_prepared(step);
    if (vr_rollout_in_flight(step->rollout) == 0)
        end_batch(step);
}

static void begin_batch(Step *step, VrBatch *batch)
{
    VrRollout *rollout = step->rollout;

    vr_batch_free(rollout->batch);
    rollout->batch = batch;
    rollout->batch_number++;
    rollout->stage = VR_STAGE_BATCH;
    rollout->waits = FALSE;
    emit(step, VR_COMMAND_BATCH_BEGIN, 0, batch->reason);
    for (guint k = 0; k < batch->members->len; k++) {
        guint i = g_array_index(batch->members, guint, k);

        rollout->entries[i].off = step->event->answers[i] == VR_SURVEY_OFF;
        set_phase(rollout, i, VR_PHASE_PREPARING);
        emit(step, VR_COMMAND_PREPARE, i, NULL);
    }
}

/* The set is looked at again until the deadline, and then the run stops: no wait is silent or for ever. */
static void wait_or_stop(Step *step, const char *code, char *text)
{
    VrRollout *rollout = step->rollout;
    g_autofree char *owned = text;

    if (!rollout->waits) {
        rollout->waits = TRUE;
        rollout->wait_deadline = step->now_ms + rollout->health_timeout_ms;
    }
    if (step->now_ms >= rollout->wait_deadline)
        finish(step, (VrRolloutVerdict){VR_RUN_FAULTED, code, g_steal_pointer(&owned)});
    else
        sleep_until(step, MIN(step->now_ms + RESURVEY_MS, rollout->wait_deadline));
}

/* Who is down now, for any cause: what the survey found, and what this run left without a good end. */
static void note_survey(VrRollout *rollout, const VrSurveyAnswer *answers)
{
    rollout->down = 0;
    for (guint i = 0; i < rollout->count; i++) {
        VrInstancePhase phase = rollout->entries[i].phase;

        /* Off on purpose is one that was off before its batch; one that ran, and that this run has moved, fell. */
        gboolean fell = answers[i] == VR_SURVEY_OFF && !rollout->entries[i].off &&
                        (phase == VR_PHASE_COMMITTED || phase == VR_PHASE_RESTORED);

        rollout->candidates[i].down =
            answers[i] == VR_SURVEY_UNHEALTHY || fell || phase == VR_PHASE_FAILED || phase == VR_PHASE_UNKNOWN;
        rollout->down += rollout->candidates[i].down ? 1 : 0;
    }
}

static void on_survey(Step *step)
{
    VrRollout *rollout = step->rollout;
    gboolean no_place = FALSE;
    VrBatch *batch;

    if (rollout->stage != VR_STAGE_SURVEY)
        return;
    if (step->event->outcome != VR_OUTCOME_OK || step->event->answers == NULL) {
        wait_or_stop(step, VR_CODE_INTERNAL,
                     g_strdup_printf("the health of the set cannot be read: %s", reason_of(step->event)));
        return;
    }
    note_survey(rollout, step->event->answers);
    if (ends(step, vr_rollout_judge_survey(rollout)))
        return;
    batch = vr_planner_next_batch(&rollout->policy, rollout->candidates, rollout->count,
                                  rollout->kind == VR_RUN_ROLLBACK, &no_place);
    if (batch != NULL)
        begin_batch(step, batch);
    else if (no_place)
        wait_or_stop(step, VR_CODE_IN_ROLLING, vr_rollout_no_place_text(rollout)); /* decision 2 */
    else
        finish(step, vr_rollout_judge_end(rollout));
}

static void on_start(Step *step)
{
    if (step->rollout->stage != VR_STAGE_NEW)
        return;
    if (step->rollout->phases[VR_PHASE_PENDING] == 0)
        finish(step, vr_rollout_judge_end(step->rollout)); /* D18: nothing to do */
    else
        survey(step);
}

static void on_wake(Step *step)
{
    if (step->rollout->stage != VR_STAGE_PAUSE)
        return;
    if (step->now_ms < step->rollout->wake_at)
        sleep_until(step, step->rollout->wake_at); /* too early: asked for again, so that it is never lost */
    else
        survey(step);
}

/* Between batches a wish to end is met at once, in a batch at its end. */
static void end_at_border(Step *step)
{
    if (step->rollout->stage != VR_STAGE_BATCH)
        ends(step, vr_rollout_judge(step->rollout));
}

static void on_cancel(Step *step)
{
    step->rollout->cancel = TRUE;
    end_at_border(step);
}

static void on_cancel_now(Step *step)
{
    VrRollout *rollout = step->rollout;

    rollout->cancel = TRUE;
    rollout->cancel_now = TRUE;
    if (rollout->stage != VR_STAGE_BATCH) {
        end_at_border(step);
        return;
    }
    for (guint k = 0; k < rollout->batch->members->len; k++) {
        guint i = g_array_index(rollout->batch->members, guint, k);

        if (rollout->entries[i].phase == VR_PHASE_PREPARED)
            discard(step, i);
        else if (rollout->entries[i].phase == VR_PHASE_PROBING)
            restore_for_cancel(step, i); /* its probe is over; a late answer does not fit any more */
    }
}

static void on_withdrawn(Step *step)
{
    step->rollout->withdrawn = TRUE;
    end_at_border(step);
}

/* Answers about one instance: each fits only the phase that waits for it. */
static const struct {
    VrInstancePhase awaited_in;
    void (*handle)(Step *step, guint i);
} answers[] = {
    [VR_EVENT_PREPARED] = {VR_PHASE_PREPARING, on_prepared},
    [VR_EVENT_SWAPPED] = {VR_PHASE_SWAPPING, on_swapped},
    [VR_EVENT_PROBED] = {VR_PHASE_PROBING, on_probed},
    [VR_EVENT_COMMITTED] = {VR_PHASE_COMMITTING, on_committed},
    [VR_EVENT_RESTORED] = {VR_PHASE_RESTORING, on_restored},
    [VR_EVENT_DISCARDED] = {VR_PHASE_DISCARDING, on_discarded},
    [VR_EVENT_WITHDRAWN] = {0},
};

static void (*const controls[])(Step *step) = {
    [VR_EVENT_START] = on_start,   [VR_EVENT_SURVEY] = on_survey,         [VR_EVENT_WAKE] = on_wake,
    [VR_EVENT_CANCEL] = on_cancel, [VR_EVENT_CANCEL_NOW] = on_cancel_now, [VR_EVENT_WITHDRAWN] = on_withdrawn,
};

void vr_rollout_step(VrRollout *rollout, const VrEvent *event, gint64 now_ms, GArray *commands)
{
    Step step = {.rollout = rollout, .event = event, .now_ms = now_ms, .commands = commands};

    if (rollout->stage == VR_STAGE_FINISHED)
        return;
    if (controls[event->type] != NULL) {
        controls[event->type](&step);
        return;
    }
    if (event->instance >= rollout->count || rollout->entries[event->instance].phase != answers[event->type].awaited_in)
        return; /* late or double */
    answers[event->type].handle(&step, event->instance);
    advance(&step);
}

VrRollout *vr_rollout_new(const VrRolloutConfig *config)
{
    VrRollout *rollout = g_new0(VrRollout, 1);

    rollout->kind = config->kind;
    rollout->policy = config->policy;
    rollout->health_timeout_ms = config->health_timeout_ms;
    rollout->same_reason_stops = config->same_reason_stops;
    rollout->count = config->count;
    rollout->entries = g_new0(VrRolloutEntry, config->count);
    rollout->candidates = g_new0(VrCandidate, config->count);
    vr_reasons_init(&rollout->reasons);
    for (guint i = 0; i < config->count; i++) {
        gboolean chosen = config->instances[i].chosen;

        rollout->entries[i].phase = chosen ? VR_PHASE_PENDING : VR_PHASE_SKIPPED;
        rollout->phases[rollout->entries[i].phase]++;
        rollout->candidates[i].upgrade_domain = config->instances[i].upgrade_domain;
        rollout->candidates[i].status = chosen ? VR_CANDIDATE_PENDING : VR_CANDIDATE_SKIPPED;
    }
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
    vr_reasons_clear(&rollout->reasons);
    g_free(rollout->error_text);
    g_free(rollout);
}
