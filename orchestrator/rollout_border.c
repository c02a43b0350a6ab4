/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Between two batches:
 *
 *   does a rule end the run? -> is anything left? (else it bakes, or is done) -> does anything hold it? -> the pause ->
 *   is the window open? -> a survey -> does a rule end it now? -> is a place free? -> does the gate let this batch go, and a survey after
 *   that still give the same one? -> was the window open at its end? -> the next batch
 *
 * Each wait ends by a WAKE, by an event of a person, or by the deadline of the run, and then the whole row is asked again.
 */
#include "orchestrator/rollout_private.h"

#include <string.h>

#define RESURVEY_MS 5000     /* how often the set is looked at while the run waits for a place */
#define BAKE_SURVEY_MS 60000 /* ... while it bakes */

/* ---- ends and waits ---- */

/* F3: what was left on the new disk though it is unhealthy goes back now that a rule ends the run, as many at once as may be on
 * their way (D24). */
static gboolean makes_amends(VrStep *step)
{
    VrRollout *rollout = step->rollout;
    gboolean found = FALSE;

    if (rollout->status != VR_RUN_FAULTED || !rollout->policy.restore_on_breach || rollout->kind == VR_RUN_ROLLBACK)
        return FALSE;
    for (guint i = 0; i < rollout->count; i++) {
        if (rollout->entries[i].phase != VR_PHASE_FAILED || !rollout->entries[i].left)
            continue;
        found = TRUE;
        if (vr_rollout_free_to_start(rollout) == 0)
            break;
        rollout->entries[i].left = FALSE;
        vr_step_phase(rollout, i, VR_PHASE_RESTORING);
        vr_step_emit(step, VR_COMMAND_RESTORE, i, "the run was stopped, and its policy puts back what failed");
    }
    return found;
}

static void end(VrStep *step)
{
    step->rollout->stage = VR_STAGE_FINISHED;
    vr_step_emit(step, VR_COMMAND_FINISH, 0, step->rollout->error_text);
}

static void finish(VrStep *step, VrRolloutVerdict verdict)
{
    VrRollout *rollout = step->rollout;

    rollout->status = verdict.status;
    rollout->error_code = verdict.code;
    rollout->error_text = verdict.text;
    rollout->hold = VR_HOLD_NONE;
    g_clear_pointer(&rollout->hold_text, g_free);
    g_clear_pointer(&rollout->gate_text, g_free);
    rollout->amends = makes_amends(step);
    if (vr_step_clears(step))
        rollout->stage = VR_STAGE_AMENDS;
    else
        end(step);
}

static void end_amends(VrStep *step)
{
    VrRollout *rollout = step->rollout;
    g_autofree char *before = NULL;

    if (!rollout->amends) {
        end(step);
        return;
    }
    if (makes_amends(step))
        return;
    before = g_steal_pointer(&rollout->error_text);
    rollout->error_text = g_strdup_printf("%s; then %u put back in all, since the policy puts back what failed", before,
                                          rollout->phases[VR_PHASE_RESTORED]);
    end(step);
}

gboolean vr_step_ends(VrStep *step, VrRolloutVerdict verdict)
{
    if (verdict.text == NULL)
        return FALSE;
    finish(step, verdict);
    return TRUE;
}

void vr_step_ask_survey(VrStep *step)
{
    step->rollout->stage = VR_STAGE_SURVEY;
    vr_step_emit(step, VR_COMMAND_SURVEY, 0, NULL);
}

void vr_step_sleep_until(VrStep *step, VrRolloutStage stage, gint64 at_ms)
{
    VrRollout *rollout = step->rollout;

    rollout->stage = stage;
    rollout->wake_at = at_ms;
    if (rollout->deadline > 0 && (at_ms == 0 || at_ms > rollout->deadline))
        rollout->wake_at = rollout->deadline;
    if (rollout->wake_at > 0)
        vr_step_emit(step, VR_COMMAND_WAKE, 0, NULL);
}

/* ---- baking (D16) ---- */

static gboolean shall_bake(const VrRollout *rollout)
{
    return rollout->policy.bake_ms > 0 && rollout->phases[VR_PHASE_COMMITTED] > rollout->off_committed;
}

static void bake_on(VrStep *step)
{
    VrRollout *rollout = step->rollout;

    vr_step_sleep_until(step, VR_STAGE_HOLD, MIN(step->now_ms + BAKE_SURVEY_MS, rollout->bake_until));
}

static void begin_bake(VrStep *step)
{
    VrRollout *rollout = step->rollout;

    rollout->deadline = rollout->deadline_left = 0; /* it is for the moves; the bake time has its own end */
    rollout->hold = VR_HOLD_BAKE;
    if (rollout->bake_until == 0)
        rollout->bake_until = step->now_ms + rollout->policy.bake_ms;
    rollout->hold_until = rollout->bake_until;
    g_free(rollout->hold_text);
    rollout->hold_text = g_strdup("all are done, and watched until the bake time is over: 'promote' ends it now");
    vr_step_emit(step, VR_COMMAND_HOLD, 0, rollout->hold_text);
    bake_on(step);
}

/* ---- the row of questions ---- */

/* What was prepared ahead does not wait for days, the gate's yes was for now, and what comes after a hold is another wait. */
gboolean vr_step_lets_go(VrStep *step)
{
    VrRollout *rollout = step->rollout;

    if (!vr_step_clears(step)) {
        rollout->gate_open = FALSE;
        rollout->waits = FALSE;
        g_clear_pointer(&rollout->gate_text, g_free);
        return FALSE;
    }
    rollout->stage = VR_STAGE_CLEAR;
    rollout->hold = VR_HOLD_NONE; /* asked for again then */
    g_clear_pointer(&rollout->hold_text, g_free);
    return TRUE;
}

static void hold(VrStep *step)
{
    vr_rollout_count_on(step->rollout, step->now_ms);
    if (vr_step_lets_go(step))
        return;
    vr_step_emit(step, VR_COMMAND_HOLD, 0, step->rollout->hold_text);
    vr_step_sleep_until(step, VR_STAGE_HOLD, step->rollout->hold_until);
}

void vr_step_go_on(VrStep *step)
{
    VrRollout *rollout = step->rollout;

    if (vr_step_ends(step, vr_rollout_judge(rollout)))
        return;
    if (vr_rollout_in_flight(rollout) > rollout->ahead) {
        rollout->stage = VR_STAGE_CLEAR;
        return;
    }
    if (vr_rollout_left(rollout) == 0) {
        if (shall_bake(rollout))
            begin_bake(step);
        else
            finish(step, vr_rollout_judge_end(rollout));
        return;
    }
    vr_rollout_find_hold(rollout, step->now_ms);
    if (rollout->hold != VR_HOLD_NONE && rollout->hold != VR_HOLD_WINDOW) {
        hold(step);
    } else if (step->now_ms < rollout->next_batch_at) {
        vr_step_sleep_until(step, VR_STAGE_PAUSE, rollout->next_batch_at); /* D5 */
    } else if (rollout->window) {
        vr_step_ask_window(step);
    } else {
        vr_step_ask_survey(step);
    }
}

void vr_step_cleared(VrStep *step)
{
    if (step->rollout->stage == VR_STAGE_CLEAR)
        vr_step_go_on(step);
    else if (step->rollout->stage == VR_STAGE_AMENDS)
        end_amends(step);
}

void vr_step_start(VrStep *step)
{
    VrRollout *rollout = step->rollout;

    if (rollout->stage != VR_STAGE_NEW)
        return;
    /* Loaded, it has one, or it bakes; or it was gone before its first step, when a person had spoken already. */
    if (rollout->policy.timeout_ms > 0 && rollout->deadline == 0 && rollout->deadline_left == 0 &&
        rollout->bake_until == 0)
        rollout->deadline = step->now_ms + rollout->policy.timeout_ms;
    if (rollout->ended)
        end(step);
    else
        vr_step_go_on(step); /* D18: where nothing is to be done, it is done */
}

void vr_step_end_batch(VrStep *step)
{
    VrRollout *rollout = step->rollout;

    vr_step_emit(step, VR_COMMAND_BATCH_END, 0, NULL);
    vr_rollout_compare_reasons(rollout);
    rollout->next_batch_at = step->now_ms + rollout->policy.pause_ms;
    rollout->longest_batch_ms = MAX(rollout->longest_batch_ms, step->now_ms - rollout->batch_began_at);
    vr_step_go_on(step);
}

/* ---- surveys ---- */

static void begin_batch(VrStep *step, VrBatch *batch)
{
    VrRollout *rollout = step->rollout;

    vr_batch_free(rollout->batch);
    rollout->batch = batch;
    rollout->batch_number++;
    rollout->batch_began_at = step->now_ms;
    rollout->stage = VR_STAGE_BATCH;
    rollout->waits = rollout->gate_open = rollout->looked_ahead = FALSE;
    rollout->recalled = rollout->confirms = FALSE;
    vr_step_emit(step, VR_COMMAND_BATCH_BEGIN, 0, batch->reason);
    for (guint k = 0; k < batch->members->len; k++) {
        guint i = g_array_index(batch->members, guint, k);

        rollout->entries[i].off = step->event->answers[i] == VR_SURVEY_OFF;
        rollout->entries[i].ready = FALSE;
        if (rollout->entries[i].ahead == VR_AHEAD_WANTED) {
            vr_step_take_ahead(step, i);
            continue;
        }
        vr_step_phase(rollout, i, VR_PHASE_PREPARING);
        vr_step_emit(step, VR_COMMAND_PREPARE, i, NULL);
    }
    vr_step_clears(step); /* another batch than was foreseen: what is not in it goes */
    vr_step_swap_prepared(step);
}

/* The set, or the gate, is asked again until the deadline, and then the run stops: no wait is silent or for ever. */
static void wait_or_stop(VrStep *step, const char *code, char *text)
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
        vr_step_sleep_until(step, VR_STAGE_PAUSE, MIN(step->now_ms + RESURVEY_MS, rollout->wait_deadline));
}

void vr_rollout_note_survey(VrRollout *rollout, const VrSurveyAnswer *answers)
{
    rollout->down = rollout->counted = 0;
    rollout->fell_ill = 0;
    for (guint i = 0; i < rollout->count; i++) {
        VrInstancePhase phase = rollout->entries[i].phase;
        VrCandidate *candidate = &rollout->candidates[i];

        /* Off on purpose is one that was off before its batch; one that ran, and that this run has moved, fell. */
        gboolean fell = answers[i] == VR_SURVEY_OFF && !rollout->entries[i].off &&
                        (phase == VR_PHASE_COMMITTED || phase == VR_PHASE_RESTORED);

        candidate->off = answers[i] == VR_SURVEY_OFF && !fell;
        candidate->down =
            answers[i] == VR_SURVEY_UNHEALTHY || fell || phase == VR_PHASE_FAILED || phase == VR_PHASE_UNKNOWN;
        candidate->left_failed = candidate->left_failed && candidate->down;
        rollout->counted += vr_planner_is_counted(candidate) ? 1 : 0;
        rollout->down += vr_planner_holds_place(candidate) ? 1 : 0;
        rollout->fell_ill += vr_rollout_fell_ill(rollout, i) ? 1 : 0;
    }
}

/* D14. A number is what the guest says now; a skip is for the rest of the run, whatever the guest says later: a guest that
 * changes its mind holds up nobody. TRUE: one more is left out. */
static gboolean note_wishes(VrStep *step, const VrGuestWish *wishes)
{
    VrRollout *rollout = step->rollout;
    guint skipped = rollout->phases[VR_PHASE_SKIPPED];

    for (guint i = 0; i < rollout->count && wishes != NULL && rollout->kind != VR_RUN_ROLLBACK; i++) {
        VrRolloutEntry *entry = &rollout->entries[i];

        rollout->candidates[i].guest_phase = wishes[i].phase;
        entry->asked_out = entry->asked_out || wishes[i].skip;
        if (!entry->asked_out || entry->named || !vr_rollout_is_left(rollout, i))
            continue;
        if (entry->ahead == VR_AHEAD_WANTED) {
            vr_step_unwant(step, i); /* the next survey leaves it out */
            continue;
        }
        g_free(entry->reason);
        entry->reason = g_strdup(VR_GUEST_SKIPS);
        vr_step_phase(rollout, i, VR_PHASE_SKIPPED);
    }
    return rollout->phases[VR_PHASE_SKIPPED] > skipped;
}

/* D24: beside what is on its way there is no room for all of the batch. */
static gboolean is_crowded(const VrRollout *rollout, const VrBatch *batch)
{
    guint begun = 0;

    for (guint k = 0; k < batch->members->len; k++)
        begun += rollout->entries[g_array_index(batch->members, guint, k)].ahead == VR_AHEAD_WANTED ? 1 : 0;
    return batch->members->len - begun > vr_rollout_free_to_start(rollout);
}

/* E11, L5: its yes is for those that it was told of. */
static gboolean is_let_go(const VrRollout *rollout, const VrBatch *batch)
{
    const GArray *asked = rollout->asked != NULL ? rollout->asked->members : NULL;

    if (rollout->policy.gate == NULL)
        return TRUE;
    return rollout->gate_open && asked != NULL && asked->len == batch->members->len &&
           memcmp(asked->data, batch->members->data, asked->len * sizeof(guint)) == 0;
}

/* said: what it has said so far, taken; NULL: nothing. */
static void ask_gate(VrStep *step, VrBatch *batch, char *said)
{
    VrRollout *rollout = step->rollout;

    vr_batch_free(rollout->asked);
    rollout->asked = batch;
    rollout->gate_open = FALSE;
    rollout->gate_text =
        said != NULL ? said
                     : g_strdup_printf("the gate is asked whether batch %u may begin", rollout->batch_number + 1);
    rollout->stage = VR_STAGE_GATE;
    vr_step_emit(step, VR_COMMAND_GATE, 0, NULL);
}

static void choose_batch(VrStep *step)
{
    VrRollout *rollout = step->rollout;
    VrPlannerBlock block;
    g_autoptr(VrBatch) batch = NULL;
    g_autofree char *gate_text = g_steal_pointer(&rollout->gate_text);

    vr_rollout_mark_held(rollout);
    batch = vr_planner_next_batch(&rollout->policy, rollout->candidates, rollout->count,
                                  rollout->kind == VR_RUN_ROLLBACK, &block);
    if (batch != NULL && is_crowded(rollout, batch) && vr_step_clears(step))
        rollout->stage = VR_STAGE_CLEAR; /* another batch than was foreseen: first what is not in it goes */
    else if (batch != NULL && !is_let_go(rollout, batch))
        ask_gate(step, g_steal_pointer(&batch), g_steal_pointer(&gate_text));
    else if (batch != NULL && !vr_step_is_shut(step))
        begin_batch(step, g_steal_pointer(&batch));
    else if (batch != NULL)
        return; /* held */
    else if (block.kind != VR_BLOCK_NONE)
        wait_or_stop(step, VR_CODE_IN_ROLLING, vr_rollout_block_text(rollout, &block)); /* decision 2, D8, D10 */
    else if (vr_rollout_in_flight(rollout) > 0)
        rollout->stage = VR_STAGE_CLEAR; /* it comes back from being prepared ahead */
    else
        finish(step, vr_rollout_judge_end(rollout));
}

static void bake_surveyed(VrStep *step)
{
    VrRollout *rollout = step->rollout;

    rollout->waits = FALSE;
    if (step->now_ms >= rollout->bake_until)
        finish(step, vr_rollout_judge_end(rollout));
    else
        bake_on(step);
}

static void survey_failed(VrStep *step)
{
    VrRollout *rollout = step->rollout;

    g_clear_pointer(&rollout->gate_text, g_free);
    if (rollout->paused && rollout->bake_until == 0)
        vr_step_go_on(step);
    else
        wait_or_stop(step, VR_CODE_INTERNAL,
                     g_strdup_printf("the health of the set cannot be read: %s", vr_event_reason(step->event)));
}

void vr_step_survey(VrStep *step)
{
    VrRollout *rollout = step->rollout;
    gboolean fewer;

    if (rollout->stage == VR_STAGE_BATCH && rollout->confirms)
        vr_step_confirm(step);
    if (rollout->stage != VR_STAGE_SURVEY)
        return;
    if (vr_step_ends(step, vr_rollout_judge(rollout)))
        return;
    if (step->event->outcome != VR_OUTCOME_OK || step->event->answers == NULL) {
        survey_failed(step);
        return;
    }
    fewer = note_wishes(step, step->event->wishes);
    vr_rollout_note_survey(rollout, step->event->answers);
    if (vr_step_ends(step, vr_rollout_judge_survey(rollout)))
        return;
    if (rollout->bake_until > 0)
        bake_surveyed(step);
    else if (rollout->paused || fewer)
        vr_step_go_on(step); /* what is left may be nothing, or held now; a pause came while the survey was out */
    else
        choose_batch(step);
}

void vr_step_gate(VrStep *step)
{
    VrRollout *rollout = step->rollout;

    if (rollout->stage != VR_STAGE_GATE)
        return;
    rollout->gate_open = step->event->outcome == VR_OUTCOME_OK;
    rollout->waits = rollout->waits && !rollout->gate_open; /* what follows its yes is another wait */
    g_clear_pointer(&rollout->gate_text, g_free);
    if (rollout->gate_open || rollout->paused) {
        vr_step_go_on(step);
    } else if (!vr_step_ends(step, vr_rollout_judge(rollout))) {
        rollout->gate_text = g_strdup_printf("the gate does not let batch %u begin, and is asked again: %s",
                                             rollout->batch_number + 1, vr_event_reason(step->event));
        wait_or_stop(step, VR_CODE_INTERNAL,
                     g_strdup_printf("the gate does not let the next batch begin: %s", vr_event_reason(step->event)));
    }
}

/* ---- time, and persons ---- */

void vr_step_wake(VrStep *step)
{
    VrRollout *rollout = step->rollout;

    if ((rollout->stage != VR_STAGE_PAUSE && rollout->stage != VR_STAGE_HOLD) || rollout->wake_at == 0)
        return;
    if (step->now_ms < rollout->wake_at)
        vr_step_sleep_until(step, rollout->stage, rollout->wake_at); /* too early: it is never lost */
    else if (rollout->bake_until == 0)
        vr_step_go_on(step);
    else if (!vr_step_ends(step, vr_rollout_judge(rollout)))
        vr_step_ask_survey(step);
}

/* Where the run waits, what it waits for is asked anew. */
static void look_again(VrStep *step)
{
    VrRollout *rollout = step->rollout;

    rollout->waits = FALSE;
    if (rollout->bake_until == 0 && (rollout->stage == VR_STAGE_PAUSE || rollout->stage == VR_STAGE_HOLD))
        vr_step_go_on(step);
}

void vr_step_wish(VrStep *step)
{
    if (step->rollout->stage != VR_STAGE_BATCH && step->rollout->stage != VR_STAGE_AMENDS)
        vr_step_ends(step, vr_rollout_judge(step->rollout));
}

void vr_step_pause(VrStep *step)
{
    if (step->rollout->paused || step->rollout->bake_until > 0 || step->rollout->cancel)
        return;
    step->rollout->paused = TRUE;
    vr_step_recall(step);
    look_again(step);
}

void vr_step_resume(VrStep *step)
{
    if (!step->rollout->paused)
        return;
    step->rollout->paused = FALSE;
    look_again(step);
}

void vr_step_approve(VrStep *step)
{
    if (step->rollout->approved || step->rollout->cancel)
        return;
    step->rollout->approved = TRUE;
    if (step->rollout->hold == VR_HOLD_APPROVAL)
        look_again(step);
}

void vr_step_promote(VrStep *step)
{
    VrRollout *rollout = step->rollout;

    if (rollout->stage == VR_STAGE_NEW || rollout->stage == VR_STAGE_AMENDS)
        return;
    if (rollout->bake_until > 0) {
        if (rollout->stage == VR_STAGE_SURVEY)
            rollout->bake_until = step->now_ms; /* what is asked now comes first */
        else
            finish(step, vr_rollout_judge_end(rollout));
        return;
    }
    if (rollout->stage != VR_STAGE_HOLD)
        return;
    if (rollout->hold == VR_HOLD_CANARY)
        rollout->promoted = TRUE;
    else if (rollout->hold == VR_HOLD_CHECKPOINT)
        rollout->checkpoint_until = 0;
    else
        return;
    look_again(step);
}

void vr_step_walk(VrStep *step)
{
    VrRollout *rollout = step->rollout;

    if (rollout->stage != VR_STAGE_HOLD || rollout->hold != VR_HOLD_WALK ||
        !vr_rollout_domain_pending(rollout, step->event->instance))
        return;
    rollout->walked = step->event->instance;
    look_again(step);
}
