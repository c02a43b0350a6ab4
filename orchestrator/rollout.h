/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The heart of a run, sans-IO: vr_rollout_step(state, event, now) gives commands. It never blocks, never
 * calls libvirt, never reads a clock. The executor and the simulator in tests/sim drive this same code.
 *
 * A run moves instances batch by batch:
 *
 *   SURVEY -> check of the whole set -> batch: PREPARE all -> SWAP all that were prepared -> PROBE each ->
 *   COMMIT or RESTORE each -> batch ends -> checks -> pause -> SURVEY -> next
 *
 * Where guests have notice: PREPARE all -> NOTICE all that were prepared -> SURVEY -> SWAP all that are ready
 *
 * Each command is answered by exactly one event about the same instance. Between an answer and the next
 * command nothing is decided elsewhere. The rules are those of FEATURES D1-D5, D18, F1, decisions 1-4, 6 and 9:
 *   - before the first batch: more than allowed(max_unhealthy) of the whole set unhealthy: nothing is touched
 *   - before every further batch: the same check stops the run
 *   - after a batch: failed (restored ones too) / attempted > max_unhealthy_upgraded: stop
 *   - no place free (decision 2), or only the last of a role or a pair that serve are left (D8, D10): the run surveys again
 *     until health timeout, then stops
 *   - a failed preparation: the guest was not touched; the run stops at the end of the batch
 *   - an instance whose outcome is unknown keeps its slot as down and stops the run at the end of the batch
 *   - cancel: no new batch, and what is not prepared yet may answer that it was cancelled; cancel now: restore what is in flight
 *     and uncommitted
 *   - between batches a run may be held (VrHold): by a person, a checkpoint, a canary, a walk; when a batch is chosen a gate is asked about it, and
 *     it begins when the survey after the yes still gives the same one
 *   - what guests say (D14) is heard at each survey: their order holds until the next one; who asks to be left out is, for the
 *     rest of the run, unless a person named it
 *   - a notice (H7, H8) may wait for long: when all of the batch are ready the set is surveyed once more, and where not all of them may go
 *     down together any more, none does. They are then still to be moved, and so they are when a pause, a cancel or RECALL calls their
 *     notices off; nothing of theirs was touched
 *   - upgraded ones that fall ill later count against the same limit as those that failed; after the last batch too, while it
 *     bakes (D16)
 *   - a run with a maintenance window (H4) asks about it before it surveys the set for a batch, and the survey brings the answer along once more: a batch begins
 *     in an open window only, and only where the longest one so far would fit into what is left of it; nor do guests go down for which it shut while they had
 *     notice. Else the run is held, asks again every few seconds, since the wall clock may jump, and its deadline (D23) does not count for as
 *     long. A batch whose guests go down is done, also beyond the end of the window
 *   - the whole has a deadline (D23), and no instance may be off for longer than the model says (J10)
 *   - an instance that an earlier run left failed holds no place and does not count before the start, nor before a later batch as long
 *     as this run has not moved it; once it was found healthy it is like any other (decision 6)
 *   - an instance that is protected holds no place and does not count before the start, nor before a later batch, unless this run has
 *     moved it: a person has taken it out of the set's actions (G7, decision 2)
 * A rollback knows only pause, walk, cancel and the deadline, and does not listen to guests: the ways out stay open (decision 6).
 * An instance that times out has failed; a timeout is never a permission to go on.
 */
#pragma once

#include "orchestrator/health_reply.h"
#include "orchestrator/planner.h"

typedef enum { VR_RUN_UPGRADE, VR_RUN_REIMAGE, VR_RUN_ROLLBACK, VR_RUN_APPLY } VrRunKind; /* numbers are kept */
const char *vr_run_kind_name(VrRunKind kind);                                             /* "upgrade", ... */

/* Azure's runningStatus.code (J2). */
typedef enum { VR_RUN_ROLLING_FORWARD, VR_RUN_CANCELLED, VR_RUN_COMPLETED, VR_RUN_FAULTED } VrRunStatus;
const char *vr_run_status_name(VrRunStatus status); /* "RollingForward", "Cancelled", "Completed", "Faulted" */

typedef enum {
    VR_PHASE_PENDING,
    VR_PHASE_SKIPPED,
    VR_PHASE_PREPARING,
    VR_PHASE_PREPARED,
    VR_PHASE_SWAPPING, /* stop, switch, start */
    VR_PHASE_PROBING,
    VR_PHASE_COMMITTING,
    VR_PHASE_RESTORING,
    VR_PHASE_DISCARDING, /* prepared, but must not go on */
    VR_PHASE_COMMITTED,
    VR_PHASE_RESTORED, /* failed and back on its old disk */
    VR_PHASE_FAILED,   /* failed, and either never touched, or left on the new disk (no automatic rollback) */
    VR_PHASE_UNKNOWN,  /* a person must look */
    VR_PHASE_NOTICE    /* prepared, and its guest has notice; the numbers are kept, so it stands here */
} VrInstancePhase;

/* Is it between PREPARING and its end? */
gboolean vr_instance_phase_in_flight(VrInstancePhase phase);

const char *vr_instance_phase_name(VrInstancePhase phase);

/* What a survey found of an instance. */
typedef enum {
    VR_SURVEY_HEALTHY,
    VR_SURVEY_UNHEALTHY,
    VR_SURVEY_OFF /* off on purpose: outside the counts */
} VrSurveyAnswer;

typedef enum {
    VR_EVENT_START,
    VR_EVENT_SURVEY,   /* answers[count], wishes[count] */
    VR_EVENT_PREPARED, /* of `instance`: outcome */
    VR_EVENT_NOTICED,  /* OK = its guest may go down now */
    VR_EVENT_SWAPPED,  /* stop, switch and start are done, or one failed */
    VR_EVENT_PROBED,   /* OK = healthy in time */
    VR_EVENT_COMMITTED,
    VR_EVENT_RESTORED, /* OK = old disk runs again and is healthy or at least up */
    VR_EVENT_DISCARDED,
    VR_EVENT_WAKE,       /* the time of the last WAKE command has come */
    VR_EVENT_CANCEL,     /* end at the batch border */
    VR_EVENT_CANCEL_NOW, /* restore what is in flight, then end */
    VR_EVENT_WITHDRAWN, /* the version was excluded meanwhile (decision 8), or something outside is not there any more or
                            ends too early (C5), as the reason says: end at the batch border as Faulted */
    VR_EVENT_GATE,      /* answers GATE: OK = go on; FAILED = not now; UNKNOWN = it could not be asked */
    VR_EVENT_WINDOW,    /* answers WINDOW: window */
    VR_EVENT_PAUSE,     /* hold at the batch border */
    VR_EVENT_RESUME,
    VR_EVENT_APPROVE, /* of VR_HOLD_APPROVAL; may come before it */
    VR_EVENT_PROMOTE, /* ends VR_HOLD_CANARY, _CHECKPOINT or _BAKE, whichever holds now */
    VR_EVENT_WALK, /* `instance` is the upgrade domain that goes next; fits VR_HOLD_WALK, where something in it may go now */
    VR_EVENT_RECALL /* the process of the run shall end: the notices of the batch are called off */
} VrEventType;

typedef enum {
    VR_OUTCOME_OK,
    VR_OUTCOME_FAILED, /* SWAPPED: the guest may be anywhere on the way: RESTORE is needed */
    VR_OUTCOME_UNTOUCHED, /* SWAPPED, PREPARED, NOTICED: failed before anything was changed or it was already put back; runs on old */
    VR_OUTCOME_UNKNOWN,
    VR_OUTCOME_CANCELLED /* PREPARED: it heard the cancel first, and nothing was changed; answered after CANCEL only. NOTICED: after RECALL only; what was prepared is there */
} VrOutcome;

/* How the maintenance window stands, on the clock of the steps. */
typedef struct {
    gboolean is_known; /* FALSE: nobody can say */
    gint64 until_ms;   /* it is open until then; 0: it is shut */
    gint64 next_ms;    /* it opens next; 0: not known, or never */
    const char *words; /* "opens at ...", or why nobody can say */
} VrWindowAnswer;

typedef struct {
    VrEventType type;
    guint instance;
    VrOutcome outcome;
    const char *reason;            /* for failures: one line, compared for "the same reason" without digits */
    const VrSurveyAnswer *answers; /* SURVEY */
    const VrGuestWish *wishes;     /* SURVEY; NULL: no guest says anything */
    gint64 off_ms;                 /* SWAPPED: how long the guest was off; 0: not known, or it was off before */
    VrWindowAnswer window;         /* WINDOW; and SURVEY, of a run that has one */
} VrEvent;

/* What keeps a run from its next batch. */
typedef enum {
    VR_HOLD_NONE,
    VR_HOLD_PAUSED,     /* until 'resume' (G3) */
    VR_HOLD_APPROVAL,   /* before the first batch, until 'approve' (D20) */
    VR_HOLD_WALK,       /* until 'walk' names the next upgrade domain (G4) */
    VR_HOLD_CANARY,     /* the canary came good: until 'promote' (D17) */
    VR_HOLD_CHECKPOINT, /* until its wait is over, or 'promote' (D15) */
    VR_HOLD_BAKE,       /* after the last batch, until the bake time is over, or 'promote' (D16) */
    VR_HOLD_WINDOW,     /* until the maintenance window opens; no person's word opens it (H4) */
    VR_HOLD_GATE, /* the gate is asked, or says no and is asked again; of a VrRunState alone, a rollout's view has gate_text */
    VR_HOLD_REBOOT /* a survey waits for guests after a reboot of the host; of a VrRunState alone (executor_survey.c) */
} VrHold;
const char *vr_hold_name(VrHold hold); /* "paused", "approval", ...; NULL for VR_HOLD_NONE */

/* Where a run stands, as far as it counts for what a person may do now (G11, run_answers.h). */
typedef enum {
    VR_POINT_NONE,  /* no run is open */
    VR_POINT_BATCH, /* instances are on their way */
    VR_POINT_BETWEEN, /* between two batches, and nothing holds it: a pause of the model, a survey, a gate, a wait for a place */
    VR_POINT_PAUSED, /* held: */
    VR_POINT_APPROVAL,
    VR_POINT_WALK,
    VR_POINT_CANARY,
    VR_POINT_CHECKPOINT,
    VR_POINT_BAKE,
    VR_POINT_WINDOW,
    VR_POINT_ENDING,     /* it was cancelled, or a rule has ended it: the last instances come to their ends */
    VR_POINT_INTERRUPTED /* open, and its process is gone. Never of a rollout; for those who look at the history */
} VrRunPoint;
const char *vr_run_point_name(VrRunPoint point); /* "none", "batch", "between", ... */

typedef enum {
    VR_COMMAND_SURVEY,
    VR_COMMAND_BATCH_BEGIN, /* batch_number, text = reason; for journal and view, no answer */
    VR_COMMAND_BATCH_END,   /* no answer */
    VR_COMMAND_PREPARE,
    VR_COMMAND_NOTICE, /* tell its guest, and wait until it may go down */
    VR_COMMAND_SWAP,
    VR_COMMAND_PROBE,
    VR_COMMAND_COMMIT,
    VR_COMMAND_RESTORE, /* text = why */
    VR_COMMAND_DISCARD, /* text = why */
    VR_COMMAND_WAKE,    /* at_ms; a later WAKE replaces an earlier one */
    VR_COMMAND_GATE, /* ask the gate whether vr_rollout_gate_batch() may go next; its yes is for that, and does not outlive a hold */
    VR_COMMAND_WINDOW, /* is the maintenance window open now? */
    VR_COMMAND_RECALL, /* the answer to NOTICE shall come now; no answer of its own */
    VR_COMMAND_HOLD, /* text = what for and how it ends; for journal and view, no answer. A WAKE follows where time ends it */
    VR_COMMAND_FINISH /* the run is over: status, code, text are in the state; no answer */
} VrCommandType;

typedef struct {
    VrCommandType type;
    guint instance;
    guint batch_number; /* from 1 */
    gint64 at_ms;
    char *text; /* owned; may be NULL */
} VrCommand;
void vr_command_clear(VrCommand *command);

typedef struct {
    guint upgrade_domain;
    gboolean chosen;          /* FALSE: is skipped (on the target, not named, ...) but counts in the set */
    gboolean canary;          /* goes first; the others follow after 'promote' */
    gboolean named;           /* by a person, as a canary is: goes although its guest asks to be left out (D14) */
    gboolean left_failed;     /* by an earlier run of an older version (decision 6) */
    gboolean is_protected;    /* G7: may be down without a place, as long as this run has not moved it */
    VrLabel role, zone, pair; /* the names must outlive the rollout */
    guint phase;              /* as in VrModelInstance */
} VrRolloutInstance;

typedef struct {
    VrRunKind kind;
    VrUpgradePolicy policy;
    gint64 health_timeout_ms;
    gboolean same_reason_stops; /* decision 9, default TRUE */
    gboolean walk;              /* one upgrade domain at a time, by a person's word */
    gboolean notice;            /* guests have notice before they go down; a rollback gives none */
    gboolean window;            /* it has a maintenance window (H4); a rollback has none */
    gint64 window_ms;           /* ... which opens for so long; 0: not known */
    guint count;
    const VrRolloutInstance *instances; /* copied */
} VrRolloutConfig;

typedef struct VrRollout VrRollout;

VrRollout *vr_rollout_new(const VrRolloutConfig *config);
void vr_rollout_free(VrRollout *rollout);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrRollout, vr_rollout_free)

/* Takes one event at now_ms and appends what is to be done, in order, to commands (GArray of VrCommand with vr_command_clear as its
 * clear function). An event that does not fit the state (a late or double answer) changes nothing. */
void vr_rollout_step(VrRollout *rollout, const VrEvent *event, gint64 now_ms, GArray *commands);

/* What a run must not forget when its process ends, beside the phases and reasons of its instances: JSON, one line. boot_id: of the host, whose
 * boot-time clock now_ms is. Free with g_free. */
char *vr_rollout_save(const VrRollout *rollout, gint64 now_ms, const char *boot_id);

/* What became of an instance before. */
typedef struct {
    VrInstancePhase phase; /* PENDING, SKIPPED, COMMITTED, RESTORED, FAILED, UNKNOWN: recovery has settled the others */
    const char *reason;    /* of the last three; may be NULL */
} VrRolloutPast;

/* For a rollout that is new: it goes on, at its next START, where the saved one was between two batches. past[count]. VR_ERROR_REFUSED: not what
 * vr_rollout_save() wrote, or of another set of instances. */
gboolean vr_rollout_load(VrRollout *rollout, const char *saved, const VrRolloutPast *past, gint64 now_ms,
                         const char *boot_id, GError **error);

/* What can be read at any time. Strings belong to the rollout. */
typedef struct {
    gboolean finished;
    VrRunStatus status;
    const char *error_code; /* J5: one of the six, or NULL */
    const char *error_text; /* current and allowed %, who, and the most common reason; NULL when none */
    guint batch_number;     /* of the last batch begun, 0 before */
    guint successful, failed, in_progress, pending, skipped; /* J3 */
    guint restored, restore_failed;                          /* F12 */
    guint unknown;
    VrRunPoint point;
    VrHold hold;               /* what it waits for now */
    const char *hold_text;     /* and how that ends; NULL: nothing holds it */
    gint64 hold_until_ms;      /* 0: until a person acts */
    const char *gate_text;     /* the gate is asked about the next batch, or has said no; NULL: neither */
    gboolean pause_requested;  /* it will hold at the batch border, or does */
    gboolean locked;           /* F5: instances are on their way */
    gboolean rollback_allowed; /* F5: a run is active and an instance is not on its target */
} VrRolloutView;
void vr_rollout_view(const VrRollout *rollout, VrRolloutView *view);
VrInstancePhase vr_rollout_phase(const VrRollout *rollout, guint instance);
/* Has the upgrade domain an instance that is still to be moved, and that no canary elsewhere goes before? */
gboolean vr_rollout_domain_pending(const VrRollout *rollout, guint domain);
/* Is it down, as far as the last survey and this run know, and does it count as that (decisions 2 and 6, G7)? */
gboolean vr_rollout_holds_place(const VrRollout *rollout, guint instance);
/* Of the GATE that was given last: which instances (guint) would go together. Owned by the rollout; NULL: none was given. */
const GArray *vr_rollout_gate_batch(const VrRollout *rollout);
/* Why it failed, or was left out by its guest's word; or NULL. */
const char *vr_rollout_reason(const VrRollout *rollout, guint instance);

/* That reason of an instance that its guest leaves out; for plan, too. */
#define VR_GUEST_SKIPS "its guest says SkipUpgrade"

/* The six error codes of J5. */
#define VR_CODE_BEFORE_ROLLING "MaxUnhealthyInstancePercentExceededBeforeRollingUpgrade"
#define VR_CODE_IN_ROLLING "MaxUnhealthyInstancePercentExceededInRollingUpgrade"
#define VR_CODE_UPGRADED "MaxUnhealthyUpgradedInstancePercentExceededInRollingUpgrade"
#define VR_CODE_FAILED_VMS "RollingUpgradeInProgressWithFailedUpgradedVMs"
#define VR_CODE_INTERNAL "InternalExecutionError"
#define VR_CODE_TIMEOUT "RollingUpgradeTimeoutError"
