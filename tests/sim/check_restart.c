/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The process of a run dies, and another goes on: docs/control.md, G3, SAFETY 18, 21-25. What persons said, what was passed and what
 * failed still counts. What was waited for goes on by the clock of the boot, or after a reboot for the remainder. What the documents let one ask anew (the health of the set, the
 * gate, the wait for a place) is asked anew.
 */
#include "tests/sim/check_private.h"

#include <string.h>

Check *check_copy(const Check *check)
{
    Check *copy = g_new(Check, 1);

    *copy = *check;
    copy->shadows = g_memdup2(check->shadows, check->count * sizeof(Shadow));
    copy->members = g_array_copy(check->members);
    copy->gated = g_array_copy(check->gated);
    copy->violation = g_strdup(check->violation);
    return copy;
}

/* What became of an instance. What recovery has put back before its new disk ran is to be moved again. */
static void settled(Check *check, guint i, const VrRolloutPast *past)
{
    static const Fate fates[] = {
        [VR_PHASE_PENDING] = FATE_FRESH, [VR_PHASE_SKIPPED] = FATE_SKIP, [VR_PHASE_COMMITTED] = FATE_GOOD,
        [VR_PHASE_RESTORED] = FATE_BACK, [VR_PHASE_FAILED] = FATE_BAD,   [VR_PHASE_UNKNOWN] = FATE_LOST,
    };
    Shadow *shadow = &check->shadows[i];
    Fate fate = fates[past->phase];

    if ((shadow->fate == FATE_GOOD || shadow->fate == FATE_SKIP) && fate != shadow->fate)
        check_fail(check, "the world lost what had come good"); /* a fault of the simulator itself */
    if (shadow->fate != FATE_OUT && shadow->fate != FATE_READY && fate != shadow->fate)
        check->word_doubt = TRUE;
    if (shadow->fate == FATE_OUT || fate != FATE_BAD)
        shadow->bad = BAD_TRIED;
    if (fate == FATE_FRESH || fate == FATE_GOOD)
        shadow->reason[0] = '\0';
    check_set_ahead(check, i, AHEAD_NOT);
    shadow->said_out = FALSE;
    shadow->asked_out = FALSE; /* the history says why */
    shadow->left = FALSE;      /* its swap was ended there by the recovery */
    check_become(check, i, fate);
}

static void shift_times(Check *check, gint64 shift_ms)
{
    gint64 now_ms = check->now_ms;

    check->deadline += check->deadline == G_MAXINT64 ? 0 : shift_ms;
    check->checkpoint_until += shift_ms;
    check->bake_until += shift_ms;
    check->pause_until += shift_ms;
    if (check->bake_promoted)
        check->bake_until = now_ms; /* its last look is all that is left */
    if (check->in_batch)
        check->pause_until = now_ms + check->policy.pause_ms; /* D5 */
}

void check_restarted(Check *check, const VrRolloutPast *past, gint64 now_ms, gint64 shift_ms, const VrRolloutView *view)
{
    check->now_ms = now_ms;
    check->view = view;
    shift_times(check, shift_ms);
    for (guint i = 0; i < check->count; i++)
        settled(check, i, &past[i]);
    if (check->fates[FATE_FRESH] > 0 && check->baking)
        check->baking = check->bake_promoted = check->began =
            FALSE; /* one is to be moved again: that has a time of its own */
    check->good_off = 0;
    for (guint i = 0; i < check->count; i++)
        check->good_off += check->shadows[i].fate == FATE_GOOD && check->shadows[i].moved_off ? 1 : 0;
    check->word_doubt = check->word_doubt || check->in_batch;
    check->ended = check->ended || check->over || check->amends;
    check->started = check->in_batch = check->amends = check->over = FALSE;
    check->clearing = check->looked_ahead = FALSE;
    check->survey_out = check->confirm_out = check->gate_out = check->window_out = check->wake_out = FALSE;
    check->shut[0] = '\0';
    check->shut_told = FALSE;
    check->cancel_now = check->gate_said_yes = FALSE;
    check->hold = VR_HOLD_NONE;
    check->waits_since = check->no_gate_since = check->no_place_since = -1;
    g_array_set_size(check->members, 0);
    check_view(check);
}

void check_starts_again(Check *check)
{
    check->started = TRUE;
    if (!check->began && check->policy.timeout_ms > 0)
        check->deadline = check->now_ms + check->policy.timeout_ms;
    check->began = TRUE;
    if (check->ended) {
        check_finish(check, check->end_status, check->end_code);
        return;
    }
    if (check_ends(check))
        return;
    if (check->fates[FATE_FRESH] == 0) { /* D18 */
        check_all_done(check);
        return;
    }
    check_look_for_checkpoint(check); /* those of a batch that died count as any others (D15) */
    check_goes_on(check);
}
