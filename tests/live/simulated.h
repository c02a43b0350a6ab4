/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Runs that no guest takes part in, for the view: 5 or 200 instances, at a moment that is the same each time. */
#pragma once

#include "orchestrator/live/snapshot.h"

/* An upgrade of `count` guests in batches of `batch`, `ms` after its beginning: each guest is prepared, stops, is off, boots, is probed and is done by the clock; every
 * guest whose number gives 7 with `failing` as the divisor is put back (0: none). */
VrSnapshot *simulated_run(guint count, guint batch, guint failing, gint64 ms);

/* When the last guest of such a run is done. */
gint64 simulated_end_ms(guint count, guint batch);
