/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Between two batches: D5, D15, D17, D20, D23, E11, G3, G4. */
#include "tests/sim/check_private.h"

/* D23. What bakes is done. */
gint64 check_deadline(const Check *check)
{
    return check->baking ? G_MAXINT64 : check->deadline;
}

/* At a border, and no answer is out. */
gboolean check_is_idle(const Check *check)
{
    return check->started && !check->over && !check->in_batch && !check->amends && !check->survey_out &&
           !check->gate_out && !check->window_out && !check->clearing;
}

/* D17, G4: it is to be moved, and no word of a person puts others before it. Whose guest asks to be left out goes at the next border (D14). */
gboolean check_has_turn(const Check *check, const Shadow *shadow)
{
    if (check->in_batch && shadow->said_out && !shadow->named)
        return FALSE;
    return shadow->fate == FATE_FRESH && (!check->walk || shadow->domain == check->walk_domain) &&
           ((check->canaries_left == 0 && (check->canaries == 0 || check->promoted)) || shadow->canary);
}

/* Is something left in that upgrade domain that may go now? */
static gboolean domain_has_turn(const Check *check, gint64 domain)
{
    for (guint i = 0; i < check->count; i++) {
        const Shadow *shadow = &check->shadows[i];

        if (shadow->domain == domain && shadow->fate == FATE_FRESH && (check->canaries_left == 0 || shadow->canary))
            return TRUE;
    }
    return FALSE;
}

static gboolean must_hold(const Check *check, VrHold hold)
{
    switch (hold) {
    case VR_HOLD_PAUSED:
        return check->pause_asked;
    case VR_HOLD_APPROVAL:
        return check->policy.approval && !check->approved;
    case VR_HOLD_WALK:
        return check->walk && !domain_has_turn(check, check->walk_domain);
    case VR_HOLD_CANARY:
        return check->canaries > 0 && check->canaries_left == 0 && !check->promoted;
    case VR_HOLD_CHECKPOINT:
        return check->checkpoint_waits && check->now_ms < check->checkpoint_until;
    default:
        return FALSE;
    }
}

static gboolean must_hold_for_any(const Check *check)
{
    for (VrHold hold = VR_HOLD_PAUSED; hold <= VR_HOLD_CHECKPOINT; hold++) {
        if (must_hold(check, hold))
            return TRUE;
    }
    return FALSE;
}

static void expect_wake(Check *check, gint64 at_ms)
{
    const VrCommand *wake = check_expect(check, VR_COMMAND_WAKE);

    check->wake_out = TRUE;
    check->wake_at = at_ms;
    if (wake != NULL && wake->at_ms != at_ms)
        check_fail(check, "a wake at %" G_GINT64_FORMAT " instead of %" G_GINT64_FORMAT, wake->at_ms, at_ms);
}

/* The wait of a checkpoint begins when it is reached, or when other holds before it are over. Once told it stays. */
static void tells_checkpoint(Check *check)
{
    if (check->checkpoint_told)
        return;
    check->checkpoint_told = TRUE;
    if (check->view->hold_until_ms == check->now_ms + check->policy.checkpoint_wait_ms)
        check->checkpoint_until = check->view->hold_until_ms;
}

/* It may hold, or it may have waited enough behind other holds. */
static gboolean may_hold(const Check *check, VrHold hold)
{
    return must_hold(check, hold) || (hold == VR_HOLD_CHECKPOINT && check->checkpoint_waits &&
                                      !check->checkpoint_told && check->policy.checkpoint_wait_ms > 0);
}

/* Several may hold it at once: any of them may be told, but a person's pause is always seen. */
static void holds(Check *check)
{
    VrHold hold = check->view->hold;
    gint64 until = G_MAXINT64;

    if (!may_hold(check, hold) || (check->pause_asked && hold != VR_HOLD_PAUSED)) {
        check_fail(check, "it is held by %d", hold);
        return;
    }
    check_clock_runs(check, TRUE);
    if (hold == VR_HOLD_CHECKPOINT) {
        tells_checkpoint(check);
        until = check->checkpoint_until;
    }
    if (hold != check->hold) {
        const VrCommand *told = check_expect(check, VR_COMMAND_HOLD);

        if (told != NULL && told->text == NULL)
            check_fail(check, "it is held and does not say why");
        check->wake_out = FALSE;
    }
    check->hold = hold;
    check->gate_said_yes = FALSE;
    check->waits_since = check->no_gate_since = check->no_place_since = -1;
    until = MIN(until, check_deadline(check));
    if (until != G_MAXINT64 && !(check->wake_out && check->wake_at == until && check_next_type(check) == -1))
        expect_wake(check, until);
}

/* B7: before a hold. Whether a checkpoint holds may be open. */
static gboolean must_clear(const Check *check)
{
    gboolean waits = check_next_type(check) == VR_COMMAND_DISCARD || check_next_type(check) == -1;

    return must_hold_for_any(check) || (may_hold(check, VR_HOLD_CHECKPOINT) && waits);
}

/* Nothing is in flight and no answer is out: what comes next. */
void check_goes_on(Check *check)
{
    if (check->baking) {
        check->survey_out = check_expect(check, VR_COMMAND_SURVEY) != NULL;
        return;
    }
    if (check->fates[FATE_LOST] > 0 && check_ends(check)) /* of what was prepared ahead */
        return;
    if (check->now_ms >= check_deadline(check) && check->fates[FATE_FRESH] > 0) { /* D23 */
        check_finish(check, VR_RUN_FAULTED, VR_CODE_TIMEOUT);
        return;
    }
    if (check->fates[FATE_OUT] > 0) {
        check_waits_for_clear(check);
        return;
    }
    if (check->ahead > 0 && must_clear(check)) {
        check_clears_first(check);
        return;
    }
    if (must_hold_for_any(check) || (check->view->hold == VR_HOLD_CHECKPOINT && may_hold(check, VR_HOLD_CHECKPOINT))) {
        holds(check);
        return;
    }
    check->hold = check->shut[0] != '\0' ? VR_HOLD_WINDOW : VR_HOLD_NONE;
    check->wake_out = check->checkpoint_waits = FALSE;
    if (check->now_ms < check->pause_until) /* D5 */
        expect_wake(check, MIN(check->pause_until, check_deadline(check)));
    else if (check->window)
        check_asks_window(check);
    else
        check->survey_out = check_expect(check, VR_COMMAND_SURVEY) != NULL;
}

void check_gate_answered(Check *check)
{
    check->gate_said_yes = check->event->outcome == VR_OUTCOME_OK;
    if (check->gate_said_yes)
        check->waits_since = check->no_gate_since = check->no_place_since = -1; /* what follows is another wait */
    if (check->fates[FATE_LOST] > 0 && check_ends(check))
        return;
    if (check->gate_said_yes || check->pause_asked || check->now_ms >= check_deadline(check))
        check_goes_on(check);
    else
        check_waits(check, &check->no_gate_since, VR_CODE_INTERNAL);
}

/* Waits for a place, a survey or the gate, but never longer than the health timeout (27, decision 2). The wait for another
 * cause just before may be counted with it. */
void check_waits(Check *check, gint64 *since, const char *code)
{
    const VrCommand *wake;

    if (*since < 0)
        *since = check->now_ms;
    if (check->waits_since < 0)
        check->waits_since = check->now_ms;
    if (check->now_ms - *since >= check->health_timeout_ms ||
        (check->now_ms - check->waits_since >= check->health_timeout_ms && check_stops(check))) {
        check_finish(check, VR_RUN_FAULTED, code);
        return;
    }
    wake = check_expect(check, VR_COMMAND_WAKE);
    if (wake == NULL)
        return;
    check->wake_out = TRUE;
    check->wake_at = wake->at_ms;
    if (wake->at_ms <= check->now_ms || wake->at_ms > *since + check->health_timeout_ms ||
        wake->at_ms > check_deadline(check))
        check_fail(check, "waits until %" G_GINT64_FORMAT, wake->at_ms);
}

gboolean check_control_fits(const Check *check, const VrEvent *event)
{
    switch (event->type) {
    case VR_EVENT_PAUSE:
        return !check->pause_asked && !check->baking && !check->cancel; /* one that ends is not held any more */
    case VR_EVENT_RESUME:
        return check->pause_asked;
    case VR_EVENT_APPROVE:
        return check->policy.approval && !check->approved && !check->cancel;
    case VR_EVENT_PROMOTE:
        return check->hold >= VR_HOLD_CANARY && check->hold <= VR_HOLD_BAKE;
    default:
        return check->hold == VR_HOLD_WALK && domain_has_turn(check, event->instance);
    }
}

static void promoted(Check *check)
{
    if (check->hold == VR_HOLD_BAKE) {
        check->bake_promoted = TRUE;
        if (!check->survey_out)
            check_completed(check);
        return;
    }
    if (check->hold == VR_HOLD_CANARY)
        check->promoted = TRUE;
    else
        check->checkpoint_waits = FALSE;
    check_goes_on(check);
}

void check_took_control(Check *check)
{
    VrHold held = check->hold;

    if (check->event->type == VR_EVENT_PAUSE || check->event->type == VR_EVENT_RESUME)
        check->no_gate_since = check->no_place_since = -1; /* a person may make a wait longer */
    switch (check->event->type) {
    case VR_EVENT_PAUSE:
        check->pause_asked = TRUE;
        check_recalls(check);
        if (check_is_idle(check))
            check_goes_on(check);
        break;
    case VR_EVENT_RESUME:
        check->pause_asked = FALSE;
        if (held == VR_HOLD_PAUSED)
            check_goes_on(check);
        break;
    case VR_EVENT_APPROVE:
        check->approved = TRUE;
        if (held == VR_HOLD_APPROVAL)
            check_goes_on(check);
        break;
    case VR_EVENT_PROMOTE:
        promoted(check);
        break;
    default:
        check->walk_domain = check->event->instance;
        check_goes_on(check);
    }
}
