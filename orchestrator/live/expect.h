/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * When a run is likely to end: out of what guests of the set took before, and of those that this run has moved already. A guess that jumps is of no use
 * to who looks at it, so the end that is shown moves slowly towards the one that is calculated.
 */
#pragma once

#include "orchestrator/live/snapshot.h"

typedef struct {
    gint64 prepare_ms; /* p50; less than 0: not known */
    gint64 down_ms;    /* p50, from the stop to healthy; less than 0: nothing was measured */
    gint64 pause_ms;   /* of the policy, between two batches */
    gint64 bake_ms;    /* of the policy, after the last */
    guint batch;       /* how many guests go at once, at most */
    gboolean ahead;    /* the next batch is prepared meanwhile */
} VrExpectBasis;

/* How long it takes from now on; -1: not known, as nothing was measured or it stands still until somebody acts. Never negative else. */
gint64 vr_expect_left(const VrSnapshot *snapshot, const VrExpectBasis *basis);

/* All zero at first. */
typedef struct {
    gint64 end_ms, at_ms;
    gboolean is_known;
} VrExpect;

/* What to show at now_ms for what vr_expect_left() said; -1: not known. */
gint64 vr_expect_smooth(VrExpect *expect, gint64 left_ms, gint64 now_ms);
