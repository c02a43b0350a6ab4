/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What must hold of a run, written from FEATURES and SAFETY alone: no line and no header with arithmetic is shared with
 * planner.c or rollout*.c. It follows a run from outside, by the events that went in and the commands that came out.
 */
#pragma once

#include "orchestrator/rollout.h"

typedef struct Check Check;

Check *check_new(const VrRolloutConfig *config);
void check_free(Check *check);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Check, check_free)

/* Is this event the answer to a command that is out, or a control that means something now? */
gboolean check_awaits(const Check *check, const VrEvent *event, gint64 now_ms);

/* For an orchestrator that is stopped while another goes on: it is followed on its own from here. */
Check *check_copy(const Check *check);

/* The process of the run is gone, and a new one has loaded what it kept; START comes next. past: as recovery has settled the instances.
 * now_ms is of the clock of its boot, and what was a time of the old one is shift_ms later on it. view is that of the loaded one. */
void check_restarted(Check *check, const VrRolloutPast *past, gint64 now_ms, gint64 shift_ms,
                     const VrRolloutView *view);

/* One step: the event, and all commands that it gave. view is after the step. */
void check_step(Check *check, const VrEvent *event, gint64 now_ms, const GArray *commands, const VrRolloutView *view);

/* What the rollout says of one instance, at any time. */
void check_instance(Check *check, guint i, VrInstancePhase phase, const char *reason);

/* The first violation, or NULL. */
/* Those that the gate is asked about, as the run says it: guint; NULL: it has not asked. */
void check_gate_batch(Check *check, const GArray *members);
const char *check_violation(const Check *check);
