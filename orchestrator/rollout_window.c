/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The maintenance window (H4) of a run that began by itself. It is asked about before the set is surveyed for a batch, so that nobody looks at guests for
 * nothing, and each survey, which takes its time, ends with a look at it: what begins a batch is found in one and the same step.
 *
 * Nobody here knows the wall clock. An answer is for now; while the window holds the run it is asked about again and again, so that a
 * clock that jumps is noticed wherever it went. What does not change is said once.
 */
#include "orchestrator/rollout_private.h"

#include "base/clock.h"

#define LOOK_MS 10000  /* how often the window is looked at while it holds the run */
#define STEADY_MS 1000 /* two clocks are never looked at at once: a time that comes out so near is the same */

void vr_step_ask_window(VrStep *step)
{
    step->rollout->stage = VR_STAGE_WINDOW;
    vr_step_emit(step, VR_COMMAND_WINDOW, 0, NULL);
}

/* Why no batch may begin now; NULL: one may. Free with g_free. */
static char *why_not(const VrStep *step)
{
    const VrWindowAnswer *window = &step->event->window;
    gint64 longest_ms = step->rollout->longest_batch_ms;
    const char *words = window->words != NULL ? window->words : "opens at another time";

    if (!window->is_known)
        return g_strdup_printf(
            "nobody can say whether the maintenance window is open, so it counts as shut, and is asked about again: %s",
            window->words != NULL ? window->words : "no reason was given");
    if (window->until_ms <= step->now_ms)
        return g_strdup_printf("the maintenance window is shut: it %s", words);
    if (longest_ms <= window->until_ms - step->now_ms)
        return NULL;
    g_autofree char *longest = vr_clock_format_duration(longest_ms);
    return g_strdup_printf(
        "what is left of the maintenance window is too short for another batch (the longest so far took %s): it %s",
        longest, words);
}

/* Takes the text. What may never come is not waited for in silence: windows that follow on one another may still be long enough, so it is not sure. */
static char *warn(const VrRollout *rollout, char *text)
{
    g_autofree char *said = text;

    if (text == NULL || rollout->window_ms == 0 || rollout->longest_batch_ms <= rollout->window_ms)
        return g_steal_pointer(&said);
    g_autofree char *longest = vr_clock_format_duration(rollout->longest_batch_ms);
    g_autofree char *opening = vr_clock_format_duration(rollout->window_ms);
    return g_strdup_printf(
        "%s; the longest batch took %s, which is more than the %s of an opening: 'cancel' ends the run, and then "
        "'upgrade' "
        "moves what is left at once, or a longer maintenanceWindow.duration ('set-edit') lets it begin by itself again",
        said, longest, opening);
}

/* D23: the run has so much time of its own, and the window is not its own. */
static void count_no_more(VrRollout *rollout, gint64 now_ms)
{
    if (rollout->deadline == 0)
        return;
    rollout->deadline_left = MAX(1, rollout->deadline - now_ms);
    rollout->deadline = 0;
}

void vr_rollout_count_on(VrRollout *rollout, gint64 now_ms)
{
    if (rollout->deadline_left == 0)
        return;
    rollout->deadline = now_ms + rollout->deadline_left;
    rollout->deadline_left = 0;
}

static void take_answer(VrStep *step)
{
    VrRollout *rollout = step->rollout;
    g_autofree char *before = rollout->shut_text;
    gint64 next_ms;

    rollout->shut_text = warn(rollout, why_not(step));
    next_ms = rollout->shut_text != NULL ? step->event->window.next_ms : 0;
    if (ABS(next_ms - rollout->opens_at) > STEADY_MS)
        rollout->opens_at = next_ms;
    rollout->shut_told = rollout->shut_told && g_strcmp0(before, rollout->shut_text) == 0;
    if (rollout->shut_text != NULL)
        count_no_more(rollout, step->now_ms);
    else
        vr_rollout_count_on(rollout, step->now_ms);
}

static void hold(VrStep *step)
{
    VrRollout *rollout = step->rollout;
    gint64 look_at = step->now_ms + LOOK_MS, next_ms = step->event->window.next_ms;

    if (vr_step_lets_go(step))
        return;
    if (!rollout->shut_told)
        vr_step_emit(step, VR_COMMAND_HOLD, 0, rollout->hold_text);
    rollout->shut_told = TRUE;
    vr_step_sleep_until(step, VR_STAGE_HOLD, next_ms > step->now_ms ? MIN(look_at, next_ms) : look_at);
}

gboolean vr_step_is_shut(VrStep *step)
{
    VrRollout *rollout = step->rollout;

    if (!rollout->window)
        return FALSE;
    take_answer(step);
    if (rollout->shut_text == NULL)
        return FALSE;
    vr_rollout_find_hold(rollout, step->now_ms);
    if (rollout->hold == VR_HOLD_WINDOW)
        hold(step);
    else
        vr_step_go_on(step);
    return TRUE;
}

gboolean vr_step_window_is_open(const VrStep *step)
{
    return !step->rollout->window || step->event->window.until_ms > step->now_ms;
}

void vr_step_window(VrStep *step)
{
    VrRollout *rollout = step->rollout;

    if (rollout->stage != VR_STAGE_WINDOW || vr_step_ends(step, vr_rollout_judge(rollout)))
        return;
    take_answer(step);
    vr_rollout_find_hold(rollout, step->now_ms);
    if (rollout->hold == VR_HOLD_WINDOW)
        hold(step);
    else if (rollout->hold != VR_HOLD_NONE)
        vr_step_go_on(step); /* a pause that came meanwhile */
    else
        vr_step_ask_survey(step);
}
