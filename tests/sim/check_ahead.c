/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is prepared before its batch (B7). It is still to be moved, for all counts and rules, and nothing of it is down; so its fate is FRESH
 * until its batch takes it or it is unwanted. Whether something is prepared ahead at all is open here, when and what is not.
 */
#include "tests/sim/check_private.h"

void check_set_ahead(Check *check, guint i, Ahead ahead)
{
    Shadow *shadow = &check->shadows[i];

    check->ahead -= check_is_ahead(shadow) ? 1 : 0;
    shadow->ahead = ahead;
    check->ahead += check_is_ahead(shadow) ? 1 : 0;
}

gboolean check_is_ahead(const Shadow *shadow)
{
    return shadow->ahead == AHEAD_OUT || shadow->ahead == AHEAD_READY;
}

void check_unwant(Check *check, guint i)
{
    Shadow *shadow = &check->shadows[i];
    gboolean ready = shadow->ahead == AHEAD_READY;

    check_set_ahead(check, i, AHEAD_UNWANTED);
    if (ready) {
        check_must_go_on(check, i, VR_COMMAND_DISCARD);
    } else {
        check_become(check, i, FATE_OUT); /* its answer comes first */
        shadow->out = VR_COMMAND_PREPARE;
    }
}

void check_clears(Check *check)
{
    for (guint i = 0; i < check->count && check->ahead > 0; i++)
        if (check_is_ahead(&check->shadows[i]))
            check_unwant(check, i);
}

void check_waits_for_clear(Check *check)
{
    check->hold = VR_HOLD_NONE;
    check->wake_out = FALSE;
    check->clearing = TRUE;
}

void check_clears_first(Check *check)
{
    check_clears(check);
    check_waits_for_clear(check);
}

void check_cleared(Check *check)
{
    check->clearing = FALSE;
    if (!check_ends(check))
        check_left_out(check);
}

/* A failure says nothing; that nobody knows what became of it says enough. */
gboolean check_ahead_answered(Check *check, guint i)
{
    const VrEvent *event = check->event;
    Shadow *shadow = &check->shadows[i];

    if (event->type != VR_EVENT_PREPARED || shadow->ahead == AHEAD_NOT)
        return FALSE;
    if (event->outcome == VR_OUTCOME_OK && shadow->ahead == AHEAD_OUT && !check->cancel_now) {
        check_set_ahead(check, i, AHEAD_READY);
    } else if (event->outcome == VR_OUTCOME_OK) {
        check_set_ahead(check, i, AHEAD_UNWANTED);
        check_must_go_on(check, i, VR_COMMAND_DISCARD);
    } else {
        check_set_ahead(check, i, AHEAD_NOT);
        check_become(check, i, event->outcome == VR_OUTCOME_UNKNOWN ? FATE_LOST : FATE_FRESH);
    }
    return TRUE;
}

/* Nothing is known to come before the next batch, and all of this one are past their swaps. */
static gboolean may_look_ahead(const Check *check)
{
    if (!check->policy.prepare_ahead || check->kind == VR_RUN_ROLLBACK || check->walk || check->looked_ahead ||
        check->cancel || check->withdrawn || check->fates[FATE_LOST] > 0 || check->pause_asked ||
        check->now_ms >= check_deadline(check) || check_checkpoints(check) > check->checkpoints)
        return FALSE;
    for (guint k = 0; k < check->members->len; k++) {
        const Shadow *shadow = &check->shadows[g_array_index(check->members, guint, k)];

        if (shadow->fate == FATE_READY ||
            (shadow->fate == FATE_OUT &&
             (shadow->out == VR_COMMAND_PREPARE || shadow->out == VR_COMMAND_NOTICE || shadow->out == VR_COMMAND_SWAP)))
            return FALSE;
    }
    return TRUE;
}

static gboolean holds_number(const GArray *numbers, guint number)
{
    for (guint k = 0; k < numbers->len; k++) {
        if (g_array_index(numbers, guint, k) == number)
            return TRUE;
    }
    return FALSE;
}

void check_looks_ahead(Check *check)
{
    g_autoptr(GArray) next = NULL;

    if (check_next_type(check) != VR_COMMAND_PREPARE)
        return;
    if (!may_look_ahead(check))
        check_fail(check, "something is prepared ahead though it may not be");
    next = check_foresee(check);
    while (check_next_type(check) == VR_COMMAND_PREPARE) {
        const VrCommand *prepare = check_expect(check, VR_COMMAND_PREPARE);

        if (prepare == NULL)
            return;
        if (!holds_number(next, prepare->instance) || check->shadows[prepare->instance].ahead != AHEAD_NOT)
            check_fail(check, "instance %u is prepared ahead, and it is not its turn", prepare->instance);
        if (prepare->batch_number != check->batches + 1)
            check_fail(check, "instance %u is prepared ahead for no batch", prepare->instance);
        check_set_ahead(check, prepare->instance, AHEAD_OUT);
        check->looked_ahead = TRUE;
    }
}
