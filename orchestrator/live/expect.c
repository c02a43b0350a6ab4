/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/live/expect.h"

#define SLOW_MS 8000 /* a difference is made up for by half in so long */

/* Does it wait for a person, for as long as that takes? */
static gboolean stands_still(const VrSnapshot *snapshot)
{
    return snapshot->hold != VR_HOLD_NONE && snapshot->hold_left_ms < 0;
}

static gint64 positive(gint64 ms)
{
    return MAX(ms, 0);
}

static gint64 left_of(const VrLiveGuest *guest, const VrExpectBasis *basis)
{
    switch (guest->stage) {
    case VR_LIVE_PREPARES:
        return positive(positive(basis->prepare_ms) - positive(guest->stage_ms)) + basis->down_ms;
    case VR_LIVE_READY:
    case VR_LIVE_NOTICE:
        return basis->down_ms;
    case VR_LIVE_STOPS:
    case VR_LIVE_SWITCHES:
    case VR_LIVE_BOOTS:
    case VR_LIVE_PROBED:
        return positive(basis->down_ms - positive(guest->down_ms));
    case VR_LIVE_GOES_BACK:
        return basis->down_ms;
    default:
        return 0;
    }
}

/* The batch that goes first of those in flight; 0: none is. */
static guint first_batch(const VrSnapshot *snapshot)
{
    guint first = 0;

    for (guint i = 0; i < snapshot->guests->len; i++) {
        const VrLiveGuest *guest = snapshot->guests->pdata[i];
        if (vr_live_stage_in_flight(guest->stage) && (first == 0 || guest->batch < first))
            first = guest->batch;
    }
    return first;
}

gint64 vr_expect_left(const VrSnapshot *snapshot, const VrExpectBasis *basis)
{
    gint64 each = basis->down_ms + basis->pause_ms + (basis->ahead ? 0 : positive(basis->prepare_ms));
    guint first = first_batch(snapshot), waiting = 0, batches;
    gint64 left = 0;

    if (snapshot->ended || basis->down_ms < 0 || basis->batch == 0 || stands_still(snapshot))
        return -1;
    for (guint i = 0; i < snapshot->guests->len; i++) {
        const VrLiveGuest *guest = snapshot->guests->pdata[i];
        if (vr_live_stage_in_flight(guest->stage) && guest->batch == first)
            left = MAX(left, left_of(guest, basis));
        else if (guest->stage < VR_LIVE_STOPS) /* of the next batch, prepared ahead, or of none yet */
            waiting++;
    }
    if (snapshot->point == VR_POINT_ENDING)
        return left;
    batches = (waiting + basis->batch - 1) / basis->batch;
    left += each * batches;
    if (first == 0 && batches > 0) /* its pause is under way, or it is the first one, which has none */
        left += MAX(positive(snapshot->wake_left_ms), positive(snapshot->hold_left_ms)) - basis->pause_ms;
    return snapshot->hold == VR_HOLD_BAKE ? positive(snapshot->hold_left_ms) : positive(left) + basis->bake_ms;
}

gint64 vr_expect_smooth(VrExpect *expect, gint64 left_ms, gint64 now_ms)
{
    gint64 target = now_ms + left_ms, since = MAX(0, now_ms - expect->at_ms);

    if (left_ms < 0) {
        expect->is_known = FALSE;
        return -1;
    }
    if (expect->is_known)
        expect->end_ms += (target - expect->end_ms) * since / (since + SLOW_MS);
    else
        expect->end_ms = target;
    expect->is_known = TRUE;
    expect->at_ms = now_ms;
    return positive(expect->end_ms - now_ms);
}
