/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * From single answers to the health of an instance: a state machine without a clock or a network (E8, E9).
 *
 *   Initializing -> Healthy               numberOfProbes answers Healthy in a row
 *   Initializing -> Unhealthy, Unknown    as many of those in a row, but not before the grace period is over
 *   Initializing -> Unknown               the grace period is over and no answer came so often (Unhealthy for tcp)
 *   Healthy, Unhealthy, Unknown           numberOfProbes answers in a row move it to another of the three
 *
 * An answer from another boot of the guest begins anew: a guest in a crash loop never collects the answers it needs.
 */
#pragma once

#include "orchestrator/health_reply.h"

typedef struct {
    guint number_of_probes;
    gint64 grace_period_ms;
    gboolean no_unknown; /* a source that knows no Unknown: tcp */
} VrHealthRule;

typedef struct {
    VrHealthRule rule;
    gint64 started_ms;
    VrHealthState state; /* read by the caller, written here */
    VrHealthState last;
    guint in_a_row;
} VrHealthTrack;

/* started_ms: from when on the grace period counts. */
void vr_health_track_begin(VrHealthTrack *track, const VrHealthRule *rule, gint64 started_ms);

/* One answer. Initializing is what does not answer yet. other_boot: it comes from another boot than the answer before. */
VrHealthState vr_health_track_answer(VrHealthTrack *track, VrHealthState answer, gboolean other_boot, gint64 now_ms);
