/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Private to the rollout. rollout.c is the state machine, rollout_rules.c what ends a run and with which words.
 */
#pragma once

#include "orchestrator/rollout.h"
#include "orchestrator/rollout_text.h"

#define VR_PHASE_COUNT (VR_PHASE_UNKNOWN + 1)

/* Where the run stands between two events. */
typedef enum {
    VR_STAGE_NEW,
    VR_STAGE_SURVEY, /* a survey is out */
    VR_STAGE_BATCH,  /* commands for the members of a batch are out */
    VR_STAGE_PAUSE,  /* until wake_at: between batches, or for a place or an answer */
    VR_STAGE_FINISHED
} VrRolloutStage;

typedef struct {
    VrInstancePhase phase;
    gboolean off;      /* the survey before its batch found it off: outside the health counts (decision 14) */
    char *reason;      /* why it failed or went back, for the view */
    const char *cause; /* the key of the first failure's reason, from reasons; NULL: did not fail */
} VrRolloutEntry;

struct VrRollout {
    /* What was asked for; constant. */
    VrRunKind kind;
    VrUpgradePolicy policy;
    gint64 health_timeout_ms;
    gboolean same_reason_stops;
    guint count;

    VrRolloutEntry *entries;      /* count */
    VrCandidate *candidates;      /* count; what the planner sees: status follows the phase, down the last survey */
    guint phases[VR_PHASE_COUNT]; /* how many instances are in each phase */
    VrRolloutStage stage;
    gint64 wake_at; /* in VR_STAGE_PAUSE */
    gboolean waits; /* for a place or an answer, until wait_deadline */
    gint64 wait_deadline;
    VrBatch *batch; /* the last one begun */
    guint batch_number;
    guint down; /* in the last survey */

    /* What the rules judge. */
    gboolean cancel, cancel_now, withdrawn;
    guint off_committed; /* COMMITTED without having been booted */
    guint untouched;     /* failed before anything was changed */
    guint commit_failed;
    guint restore_failed;
    VrReasons reasons;
    const char *same_reason; /* the reason key that all of the last batch failed with, or NULL */
    guint same_members;      /* how many failed with it, in how many batches one after the other */
    guint same_batches;

    VrRunStatus status;
    const char *error_code;
    char *error_text;
};

/* How many instances are between PREPARING and their end. */
guint vr_rollout_in_flight(const VrRollout *rollout);

/* Looks at the batch that has just ended: did it fail as one, for one reason (decision 9)? */
void vr_rollout_compare_reasons(VrRollout *rollout);

/* What ends the run now, if anything does. */
typedef struct {
    VrRunStatus status;
    const char *code;
    char *text; /* owned; NULL: nothing ends it */
} VrRolloutVerdict;

/* At a batch border or between batches. */
VrRolloutVerdict vr_rollout_judge(const VrRollout *rollout);

/* After a survey, before the next batch. */
VrRolloutVerdict vr_rollout_judge_survey(const VrRollout *rollout);

/* When nothing is pending any more. Its text is NULL when all went well. */
VrRolloutVerdict vr_rollout_judge_end(const VrRollout *rollout);

/* Why no place is free; free with g_free. */
char *vr_rollout_no_place_text(const VrRollout *rollout);
