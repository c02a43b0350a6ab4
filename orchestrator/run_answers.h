/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The answer to each command that changes something, at each point of a run (FEATURES F5, G11): one table. docs/control.md shows
 * the same one, and a test compares them; another drives a rollout to each point and compares what it does with what the
 * table says.
 */
#pragma once

#include "orchestrator/rollout.h"

typedef enum {
    VR_DO_PAUSE,
    VR_DO_RESUME,
    VR_DO_CANCEL,
    VR_DO_CANCEL_NOW,
    VR_DO_WALK,
    VR_DO_PROMOTE,
    VR_DO_APPROVE,
    VR_DO_ROLLBACK_ALL, /* rollback SET --all: in flight (F4), or after completion */
    VR_DO_REPLACE,      /* upgrade --replace (D21) */
    VR_DO_RUN,          /* upgrade, reimage, apply, retry, rollback of named instances: begins a run */
    VR_DO_CHANGE, /* set-define, set-edit, set-undefine, adopt, protect, unprotect, release: changes what a run works on */
    VR_DO_LAST_
} VrOperation;
const char *vr_operation_name(VrOperation operation); /* "pause", ..., as in docs/control.md */

typedef enum {
    VR_ANSWER_NOW,      /* done at once */
    VR_ANSWER_BORDER,   /* taken; counts when the batch in flight is done */
    VR_ANSWER_ALREADY,  /* it is so: nothing changes, and that is success */
    VR_ANSWER_ENDS_RUN, /* ends the run in flight, waits for that, and then begins */
    VR_ANSWER_RESTARTS, /* first the run gets a new process; that one answers */
    VR_ANSWER_REFUSED   /* exit status 5 where a run is in the way, else 4 */
} VrAnswer;
const char *vr_answer_name(VrAnswer answer); /* "now", "at the border", ..., as in docs/control.md */

VrAnswer vr_run_answer(VrOperation operation, VrRunPoint point);

/* For REFUSED: what is true now and what to do; no name in it. Static. */
const char *vr_run_refusal(VrOperation operation, VrRunPoint point);

/* The operation that an event of a person is. */
VrOperation vr_operation_of_event(VrEventType event);
