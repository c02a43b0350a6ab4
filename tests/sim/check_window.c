/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The maintenance window: H4, and D23 while it holds a run. */
#include "tests/sim/check_private.h"

#define LOOK_MS 60000
#define STEADY_MS 1000 /* what a time may be off that is told from two clocks */

void check_asks_window(Check *check)
{
    check->window_out = check_expect(check, VR_COMMAND_WINDOW) != NULL;
}

/* Why no batch may begin: the reason that must be told, once. "": one may. */
static char *obstacle(const Check *check)
{
    const VrWindowAnswer *window = &check->event->window;

    if (!window->is_known)
        return g_strdup_printf("unknown %s", window->words);
    if (check->now_ms >= window->until_ms)
        return g_strdup_printf("shut %s", window->words);
    if (check->now_ms + check->longest_ms > window->until_ms)
        return g_strdup_printf("short %s", window->words);
    return g_strdup("");
}

/* D23: what a window takes is no time of the run's. */
void check_clock_runs(Check *check, gboolean runs)
{
    if (runs && check->time_left > 0) {
        check->deadline = check->now_ms + check->time_left;
        check->time_left = 0;
    } else if (!runs && check->deadline != G_MAXINT64) {
        check->time_left = check->deadline - check->now_ms;
        check->deadline = G_MAXINT64;
    }
}

static void holds(Check *check)
{
    const VrCommand *command;

    check->hold = VR_HOLD_WINDOW;
    check->gate_said_yes = FALSE;
    check->waits_since = check->no_gate_since = check->no_place_since = -1;
    if (!check->shut_told) {
        command = check_expect(check, VR_COMMAND_HOLD);
        if (command != NULL && command->text == NULL)
            check_fail(check, "it waits for its window and does not say so");
        check->shut_told = TRUE;
    }
    command = check_expect(check, VR_COMMAND_WAKE);
    if (command == NULL)
        return;
    check->wake_out = TRUE;
    check->wake_at = command->at_ms;
    if (command->at_ms <= check->now_ms || command->at_ms > check->now_ms + LOOK_MS ||
        (check->opens_at > check->now_ms && command->at_ms > check->opens_at))
        check_fail(check, "the window is looked at again at %" G_GINT64_FORMAT, command->at_ms);
}

/* TRUE: it is shut, and what follows from that has come. */
static gboolean is_shut(Check *check)
{
    g_autofree char *why = obstacle(check);

    check->shut_told = check->shut_told && g_str_equal(why, check->shut);
    g_strlcpy(check->shut, why, sizeof(check->shut));
    check->opens_at = why[0] != '\0' ? check->event->window.next_ms : 0;
    check_clock_runs(check, why[0] == '\0');
    if (check->pause_asked)
        check_goes_on(check);
    else if (why[0] != '\0' && check->ahead > 0)
        check_clears_first(check);
    else if (why[0] != '\0')
        holds(check);
    return check->pause_asked || why[0] != '\0';
}

void check_window_answered(Check *check)
{
    if (check->fates[FATE_LOST] > 0 && check_ends(check)) /* of what was prepared ahead */
        return;
    if (check->now_ms >= check_deadline(check)) {
        check_finish(check, VR_RUN_FAULTED, VR_CODE_TIMEOUT);
        return;
    }
    if (is_shut(check))
        return;
    check->hold = VR_HOLD_NONE;
    check->survey_out = check_expect(check, VR_COMMAND_SURVEY) != NULL;
}

gboolean check_is_shut(Check *check)
{
    return check->window && is_shut(check);
}

gboolean check_window_is_open(const Check *check)
{
    return !check->window || check->now_ms < check->event->window.until_ms;
}

gboolean check_is_until(const Check *check, gint64 until_ms)
{
    return (until_ms == 0) == (check->opens_at == 0) && ABS(until_ms - check->opens_at) <= STEADY_MS;
}
