/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Private to the rollout:
 *
 *   rollout         the state machine: events, and the instances of a batch
 *   rollout_border  between two batches: surveys, pauses, gates, the start of the next one
 *   rollout_holds   what a run waits for there, in which order
 *   rollout_window  the maintenance window
 *   rollout_notice  the notice that guests have before they go down
 *   rollout_ahead   what is prepared before its batch
 *   rollout_rules   what ends a run, and with which words
 *   rollout_saved   what a run remembers over the death of its process
 */
#pragma once

#include "orchestrator/rollout.h"
#include "orchestrator/rollout_text.h"

#define VR_PHASE_COUNT (VR_PHASE_NOTICE + 1)
#define VR_NO_DOMAIN G_MAXUINT

/* Where the run stands between two events. */
typedef enum {
    VR_STAGE_NEW,
    VR_STAGE_SURVEY, /* a survey is out */
    VR_STAGE_BATCH,  /* commands for the members of a batch are out */
    VR_STAGE_PAUSE,  /* until wake_at: between batches, or for a place or an answer */
    VR_STAGE_HOLD,   /* until wake_at, or an event, or only an event */
    VR_STAGE_GATE,   /* the gate was asked */
    VR_STAGE_WINDOW, /* the window was asked about */
    VR_STAGE_CLEAR,  /* between batches: what was prepared ahead is being discarded */
    VR_STAGE_AMENDS, /* a rule has ended the run, and those that it left on a bad disk go back (F3) */
    VR_STAGE_FINISHED
} VrRolloutStage;

typedef enum {
    VR_AHEAD_NO,
    VR_AHEAD_WANTED,  /* PREPARING or PREPARED before its batch; still to be moved for all that is counted */
    VR_AHEAD_UNWANTED /* PREPARING, and to be discarded when it is done */
} VrAhead;

/* Of an instance that is FAILED: what the rules must know beside that. */
typedef enum {
    VR_FAILURE_TRIED,        /* it ran its new disk, or may have */
    VR_FAILURE_UNTOUCHED,    /* failed before anything was changed */
    VR_FAILURE_NOT_RECORDED, /* healthy on its new disk, but that could not be committed */
    VR_FAILURE_NOT_PUT_BACK, /* F12 */
    VR_FAILURE_COUNT
} VrFailure;

typedef struct {
    VrInstancePhase phase;
    VrFailure failure;
    VrAhead ahead;
    gboolean canary;
    gboolean named;     /* or a canary */
    gboolean ready;     /* PREPARED: its notice is over */
    gboolean asked_out; /* by its guest, in this run (D14) */
    gboolean off;       /* the survey before its batch found it off: outside the health counts (decision 14) */
    gboolean left;      /* unhealthy, and still on its new disk: without automatic rollback */
    char *reason;       /* why it failed, went back or was left out, for the view */
    const char *cause;  /* the key of the first failure's reason, from reasons; NULL: did not fail */
} VrRolloutEntry;

struct VrRollout {
    /* What was asked for; constant. */
    VrRunKind kind;
    VrUpgradePolicy policy;
    gint64 health_timeout_ms;
    gboolean same_reason_stops;
    gboolean notice;
    gboolean window;
    gint64 window_ms;
    guint count;

    VrRolloutEntry *entries;      /* count */
    VrCandidate *candidates;      /* count; what the planner sees: status follows the phase, down the last survey */
    guint roles;                  /* how many there are */
    guint phases[VR_PHASE_COUNT]; /* how many instances are in each phase */
    guint ahead;                  /* of them, how many are WANTED ahead */
    gboolean looked_ahead;        /* in this batch */
    gboolean recalled;            /* the notices of this batch are called off */
    gboolean confirms;            /* all of this batch are ready, and a survey is out */
    VrRolloutStage stage;
    gint64 wake_at;       /* in VR_STAGE_PAUSE and VR_STAGE_HOLD; 0: no WAKE was asked for */
    gint64 next_batch_at; /* D5 */
    gint64 deadline;      /* D23; 0: none */
    gint64 deadline_left; /* of it, while the run is held for the window, and the deadline is 0; else 0 */
    VrBatch *asked;       /* what the gate was asked about last; NULL: nothing */
    gboolean gate_open;   /* for that */
    char *gate_text;      /* owned; NULL: it is not asked, nor has it said no */
    gboolean waits;       /* for a place or an answer, until wait_deadline */
    gint64 wait_deadline;
    VrBatch *batch; /* the last one begun */
    guint batch_number;
    gint64 batch_began_at, longest_batch_ms;
    guint counted;  /* in the last survey: vr_planner_is_counted() */
    guint down;     /* in the last survey, but for those that an earlier run left failed and that still wait */
    guint fell_ill; /* of them, upgraded by this run and healthy then */

    /* What holds it. */
    VrHold hold;
    char *hold_text; /* owned */
    gint64 hold_until;
    gboolean walk, has_canary;
    gboolean paused, approved, promoted;
    guint walked;            /* the upgrade domain that a person named; VR_NO_DOMAIN: none */
    guint checkpoint;        /* the next of policy.checkpoints */
    gint64 checkpoint_until; /* 0: it was not reached */
    gint64 bake_until;       /* 0: it does not bake */
    char *shut_text;         /* owned; why the window lets no batch begin, by its last answer. NULL: it does */
    gboolean shut_told;      /* that it holds the run, for this reason */
    gint64 opens_at;         /* then; 0: not known */

    /* What the rules judge. */
    gboolean cancel, cancel_now, withdrawn;
    char *withdrawn_text; /* why; NULL: the version was excluded, or nothing was withdrawn */
    guint off_committed;  /* COMMITTED without having been booted */
    guint failures[VR_FAILURE_COUNT];
    gboolean timed_out;
    guint too_long, too_long_instance; /* off for longer than policy.max_off_ms: how many, and the first */
    gint64 longest_off_ms;
    VrReasons reasons;
    const char *same_reason; /* the reason key that all of the last batch failed with, or NULL */
    guint same_members;      /* how many failed with it, in how many batches one after the other */
    guint same_batches;

    gboolean amends;    /* F3: some go back since a rule has ended the run */
    gboolean ended;     /* a rule has ended it before its process was gone: with the three below */
    VrRunStatus status; /* in VR_STAGE_AMENDS the three are what the run will end with */
    const char *error_code;
    char *error_text;
};

/* One call of vr_rollout_step(). */
typedef struct {
    VrRollout *rollout;
    const VrEvent *event;
    gint64 now_ms;
    GArray *commands;
} VrStep;

/* What ends the run now, if anything does. */
typedef struct {
    VrRunStatus status;
    const char *code;
    char *text; /* owned; NULL: nothing ends it */
} VrRolloutVerdict;

/* ---- rollout.c ---- */

void vr_step_emit(VrStep *step, VrCommandType type, guint instance, const char *text);

/* The one way in which an instance changes its phase. */
void vr_step_phase(VrRollout *rollout, guint i, VrInstancePhase phase);

/* Where all of the batch are prepared, they go down, or have notice first. */
void vr_step_swap_prepared(VrStep *step);

void vr_step_discard(VrStep *step, guint i, const char *why);
void vr_step_fail_untouched(VrStep *step, guint i);
void vr_step_fail_unknown(VrStep *step, guint i);

const char *vr_event_reason(const VrEvent *event);

/* ---- rollout_notice.c ---- */

/* All of the batch are prepared or have failed at it. TRUE: the prepared may go down now. */
gboolean vr_step_notice_is_over(VrStep *step);

/* The survey that was asked for when all were ready. */
void vr_step_confirm(VrStep *step);

/* NOTICED of an instance. */
void vr_step_noticed(VrStep *step, guint i);

/* Whoever has notice, or would get it, is not to go down in this batch. In a batch. */
void vr_step_recall(VrStep *step);

/* ---- rollout_window.c ---- */

void vr_step_ask_window(VrStep *step);

/* WINDOW. */
void vr_step_window(VrStep *step);

/* The step's survey has found the window shut, or too short for a batch: TRUE, and the run is held. */
gboolean vr_step_is_shut(VrStep *step);

/* ... and it was found open, or the run has none. */
gboolean vr_step_window_is_open(const VrStep *step);

/* The deadline of the run counts again. */
void vr_rollout_count_on(VrRollout *rollout, gint64 now_ms);

/* ---- rollout_border.c ---- */

/* The whole row of questions. */
void vr_step_go_on(VrStep *step);

/* TRUE: the verdict has ended the run. Takes its text. */
gboolean vr_step_ends(VrStep *step, VrRolloutVerdict verdict);

void vr_step_ask_survey(VrStep *step);

/* at_ms 0: for ever. The deadline of the run ends every wait. */
void vr_step_sleep_until(VrStep *step, VrRolloutStage stage, gint64 at_ms);

/* Something holds the run: what was asked before counts no more. TRUE: first what was prepared ahead is discarded, and then all is asked again. */
gboolean vr_step_lets_go(VrStep *step);

/* Who is down now, for any cause: what the survey found, and what this run left without a good end; and who of them counts. */
void vr_rollout_note_survey(VrRollout *rollout, const VrSurveyAnswer *answers);

/* The last of a batch is done. */
void vr_step_end_batch(VrStep *step);

/* What was prepared ahead is gone, and what waits for that goes on. */
void vr_step_cleared(VrStep *step);

/* A person's or our own wish that counts at the border: met now if that is where the run is. */
void vr_step_wish(VrStep *step);

/* The events that concern the run and not one instance. */
void vr_step_start(VrStep *step);
void vr_step_survey(VrStep *step);
void vr_step_wake(VrStep *step);
void vr_step_gate(VrStep *step);
void vr_step_pause(VrStep *step);
void vr_step_resume(VrStep *step);
void vr_step_approve(VrStep *step);
void vr_step_promote(VrStep *step);
void vr_step_walk(VrStep *step);

/* ---- rollout_holds.c ---- */

/* What keeps the run from its next batch now, in rollout->hold, hold_until and hold_text. */
void vr_rollout_find_hold(VrRollout *rollout, gint64 now_ms);

/* Marks the candidates whose turn it is not. */
void vr_rollout_mark_held(VrRollout *rollout);

/* Of those that are to be moved. */
guint vr_rollout_percent_done(const VrRollout *rollout);

/* ---- rollout_ahead.c ---- */

/* While a batch boots: prepares the next one. */
void vr_step_look_ahead(VrStep *step);

/* One that was prepared ahead is not, for the counts. */
void vr_rollout_not_ahead(VrRollout *rollout, guint i);

/* It is discarded, now or when it is prepared. */
void vr_step_unwant(VrStep *step, guint i);

/* All that is prepared ahead is unwanted. TRUE: something is still on its way. Between batches. */
gboolean vr_step_clears(VrStep *step);

/* Its batch has come. */
void vr_step_take_ahead(VrStep *step, guint i);

/* ---- rollout_view.c, rollout_rules.c ---- */

/* Still to be moved: not begun, or only prepared ahead. */
gboolean vr_rollout_is_left(const VrRollout *rollout, guint i);
guint vr_rollout_left(const VrRollout *rollout);

/* How many instances are between PREPARING and their end. */
guint vr_rollout_in_flight(const VrRollout *rollout);

/* How many more the host lets be there (D24). */
guint vr_rollout_free_to_start(const VrRollout *rollout);

/* Came good in this run, and the last survey found it down. */
gboolean vr_rollout_fell_ill(const VrRollout *rollout, guint i);

/* Looks at the batch that has just ended: did it fail as one, for one reason (decision 9)? */
void vr_rollout_compare_reasons(VrRollout *rollout);

/* At a batch border or between batches. */
VrRolloutVerdict vr_rollout_judge(const VrRollout *rollout);

/* After a survey, before the next batch or while the last one bakes. */
VrRolloutVerdict vr_rollout_judge_survey(const VrRollout *rollout);

/* When nothing is pending any more. Its text is NULL when all went well. */
VrRolloutVerdict vr_rollout_judge_end(const VrRollout *rollout);

/* Why the next batch cannot begin; free with g_free. */
char *vr_rollout_block_text(const VrRollout *rollout, const VrPlannerBlock *block);
