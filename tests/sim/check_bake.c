/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The bake after the last batch: D16, E14. */
#include "tests/sim/check_private.h"

#define WATCH_MS 60000

static void watches_again(Check *check)
{
    const VrCommand *wake = check_expect(check, VR_COMMAND_WAKE);

    if (wake == NULL)
        return;
    check->wake_out = TRUE;
    check->wake_at = wake->at_ms;
    if ((wake->at_ms <= check->now_ms && check->now_ms < check->bake_until) || wake->at_ms > check->now_ms + WATCH_MS ||
        (check->now_ms < check->bake_until && wake->at_ms > check->bake_until))
        check_fail(check, "bakes until %" G_GINT64_FORMAT " and looks again at %" G_GINT64_FORMAT, check->bake_until,
                   wake->at_ms);
}

void check_bake_begins(Check *check)
{
    const VrCommand *hold = check_expect(check, VR_COMMAND_HOLD);

    if (hold != NULL && (hold->text == NULL || check->view->hold != VR_HOLD_BAKE))
        check_fail(check, "it bakes and does not say so");
    if (!check->baking)
        check->bake_until = check->now_ms + check->policy.bake_ms;
    else if (check->bake_until <= check->now_ms && check->view->hold_until_ms <= check->now_ms)
        check->bake_until =
            check->view->hold_until_ms; /* it was over while nobody watched: how long is nothing to tell */
    check->baking = TRUE;
    check->hold = VR_HOLD_BAKE;
    watches_again(check);
}

/* The bake is over with a survey after its end that is no worse than the limit. */
void check_bake_watches(Check *check)
{
    gboolean blind = check->event->answers == NULL;

    if (blind) {
        check_waits(check, &check->no_place_since, VR_CODE_INTERNAL);
        return;
    }
    check->waits_since = check->no_place_since = -1;
    if (check_fell_ill(check)) {
        check_finish(check, VR_RUN_FAULTED, VR_CODE_UPGRADED);
    } else if (check->bake_promoted || check->now_ms >= check->bake_until) {
        check_completed(check);
    } else {
        watches_again(check);
    }
}
