/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What can be read of a run at any moment: F5, J2, J3, J6, SAFETY 27. */
#include "tests/sim/check_private.h"

/* J3: the counters add up, after every step. */
static void check_counters(Check *check)
{
    const VrRolloutView *view = check->view;
    const guint *fates = check->fates;
    guint bad = fates[FATE_BACK] + fates[FATE_BAD] + fates[FATE_LOST];

    if (view->successful + view->failed + view->in_progress + view->pending + view->skipped != check->count)
        check_fail(check, "the counters do not add up to %u", check->count);
    if (view->successful != fates[FATE_GOOD] || view->failed != bad || view->restored != fates[FATE_BACK] ||
        view->unknown != fates[FATE_LOST] || view->skipped != fates[FATE_SKIP] || view->pending != fates[FATE_FRESH] ||
        view->restore_failed != check_bad(check, BAD_NOT_PUT_BACK) || view->batch_number != check->batches)
        check_fail(check, "a counter is wrong");
    if (view->finished != check->over || (view->status == VR_RUN_ROLLING_FORWARD) != !check->over)
        check_fail(check, "the run is over or not, and the view says otherwise");
}

/* F5. What is on its way locks; as long as one that shall be moved is not on its target, the way back is open. */
static void check_flags(Check *check)
{
    const VrRolloutView *view = check->view;
    guint on_their_way = check->fates[FATE_OUT] + check->fates[FATE_READY];
    gboolean moves =
        check->in_batch || check->amends; /* B7: between batches only what was prepared may be on its way */
    guint there = check->fates[FATE_GOOD] + check->fates[FATE_SKIP];

    if (view->in_progress != on_their_way || view->locked != moves || (moves && on_their_way == 0))
        check_fail(check, "%u are on their way, the view says %u and locked %d", on_their_way, view->in_progress,
                   view->locked);
    if (check->policy.max_in_flight > 0 && on_their_way + check->ahead > check->policy.max_in_flight) /* D24 */
        check_fail(check, "%u are on their way, at most %u may be", on_their_way + check->ahead,
                   check->policy.max_in_flight);
    if (view->rollback_allowed != (check->started && !check->over && there < check->count))
        check_fail(check, "rollback allowed is %d", view->rollback_allowed);
}

/* 27: a run that goes on waits for an answer, for a time, or for a person, and says so. */
static void check_waits_for_something(Check *check)
{
    gboolean person = check->hold != VR_HOLD_NONE && check->view->hold_until_ms == 0;

    if (!check->started || check->in_batch || check->amends || check->clearing || check->survey_out ||
        check->gate_out || check->window_out || check->wake_out || check->over)
        return;
    if (!person || check_deadline(check) != G_MAXINT64)
        check_fail(check, "nothing will wake the run");
}

/* G3, J2: what holds it is told as it is. */
static void check_hold(Check *check)
{
    const VrRolloutView *view = check->view;
    gint64 until = 0;

    if (check->hold == VR_HOLD_CHECKPOINT)
        until = check->checkpoint_until;
    else if (check->hold == VR_HOLD_BAKE)
        until = check->bake_until;
    if (view->hold != check->hold || (view->hold_text != NULL) != (check->hold != VR_HOLD_NONE))
        check_fail(check, "held by %d, the view says %d: %s", check->hold, view->hold, view->hold_text);
    if (check->hold == VR_HOLD_WINDOW && !check_is_until(check, view->hold_until_ms))
        check_fail(check, "the window opens at %" G_GINT64_FORMAT ", the view says %" G_GINT64_FORMAT, check->opens_at,
                   view->hold_until_ms);
    if (check->hold != VR_HOLD_NONE && check->hold != VR_HOLD_WINDOW && view->hold_until_ms != until)
        check_fail(check, "held until %" G_GINT64_FORMAT ", the view says %" G_GINT64_FORMAT, until,
                   view->hold_until_ms);
    if (view->gate_text == NULL
            ? check->gate_out && check->hold == VR_HOLD_NONE
            : check->policy.gate == NULL || check->hold != VR_HOLD_NONE || check->in_batch || check->over)
        check_fail(check, "the gate is %sasked, the view says %s", check->gate_out ? "" : "not ", view->gate_text);
    if (!check->over && check->fates[FATE_FRESH] > 0 && view->pause_requested != check->pause_asked)
        check_fail(check, "the view says pause requested %d", view->pause_requested);
}

/* G11 */
static void check_point(Check *check)
{
    static const VrRunPoint held[] = {
        [VR_HOLD_NONE] = VR_POINT_BETWEEN,      [VR_HOLD_PAUSED] = VR_POINT_PAUSED,
        [VR_HOLD_APPROVAL] = VR_POINT_APPROVAL, [VR_HOLD_WALK] = VR_POINT_WALK,
        [VR_HOLD_CANARY] = VR_POINT_CANARY,     [VR_HOLD_CHECKPOINT] = VR_POINT_CHECKPOINT,
        [VR_HOLD_BAKE] = VR_POINT_BAKE,         [VR_HOLD_WINDOW] = VR_POINT_WINDOW,
    };
    VrRunPoint point = held[check->hold];

    if (check->over)
        point = VR_POINT_NONE;
    else if (check->amends || (check->in_batch && check->cancel))
        point = VR_POINT_ENDING;
    else if (check->in_batch)
        point = VR_POINT_BATCH;
    if (check->view->point != point)
        check_fail(check, "it stands at %s, the view says %s", vr_run_point_name(point),
                   vr_run_point_name(check->view->point));
}

void check_view(Check *check)
{
    check_point(check);
    check_counters(check);
    check_flags(check);
    check_hold(check);
    check_waits_for_something(check);
}

/* J6 */
void check_instance(Check *check, guint i, VrInstancePhase phase, const char *reason)
{
    static const VrInstancePhase phases[FATE_COUNT] = {
        [FATE_FRESH] = VR_PHASE_PENDING,  [FATE_SKIP] = VR_PHASE_SKIPPED,  [FATE_READY] = VR_PHASE_PREPARED,
        [FATE_GOOD] = VR_PHASE_COMMITTED, [FATE_BACK] = VR_PHASE_RESTORED, [FATE_BAD] = VR_PHASE_FAILED,
        [FATE_LOST] = VR_PHASE_UNKNOWN,
    };
    Fate fate = check->shadows[i].fate;

    if (fate != FATE_OUT && phase != phases[fate])
        check_fail(check, "instance %u is %s, for fate %d", i, vr_instance_phase_name(phase), fate);
    if ((fate == FATE_BACK || fate == FATE_BAD || fate == FATE_LOST || check->shadows[i].asked_out) && reason == NULL)
        check_fail(check, "instance %u is %s without a reason", i, vr_instance_phase_name(phase));
}
