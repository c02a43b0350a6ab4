/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Sums over all runs that a set ever ended: how many of which kind ended how, and how long their swaps took. They only grow, also when the
 * history forgets runs, and to read them costs the same however long the history is (J9).
 *
 * A run is added with its end, in the transaction that writes it, and marked (runs.tallied); one that was ended otherwise, or by an older program, is
 * counted on the fly until the next end, or until it is forgotten. What is settled of a swap after its run has ended is in no sum.
 */
#pragma once

#include "orchestrator/history.h"

#define VR_RUN_KINDS (VR_RUN_APPLY + 1)
#define VR_RUN_STATUSES (VR_RUN_FAULTED + 1)

/* Of swaps that were committed, but for the last one. Numbers are kept. */
typedef enum {
    VR_SPAN_PREPARE,
    VR_SPAN_STOP,
    VR_SPAN_SWITCH,
    VR_SPAN_START,
    VR_SPAN_HEALTHY,
    VR_SPAN_OFF,
    VR_SPAN_OS_DOWN,
    VR_SPAN_OFF_RESTORED, /* off -> the old disk runs again, of swaps that were undone */
    VR_SPAN_LAST_
} VrSpan;

/* Upper bounds, in milliseconds; what is longer is counted after the last one. */
#define VR_TALLY_BOUNDS 14
extern const gint64 vr_tally_bounds_ms[VR_TALLY_BOUNDS];

typedef struct {
    guint64 counts[VR_TALLY_BOUNDS + 1]; /* each in one of them only */
    guint64 sum_ms;
} VrTally;

typedef struct {
    guint64 runs[VR_RUN_KINDS][VR_RUN_STATUSES];
    VrTally spans[VR_SPAN_LAST_];
} VrTallies;

/* Within a transaction. */
gboolean vr_tallies_read(VrJournal *journal, const char *set_name, VrTallies *tallies, GError **error);

/* Adds the runs of a set that have ended and are not in its sums yet; within a transaction of the set's owner. */
gboolean vr_tallies_keep(VrJournal *journal, const char *set_name, GError **error);
