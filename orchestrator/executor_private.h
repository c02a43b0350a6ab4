/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the two sides of the executor share: executor.c (the caller's thread) and executor_jobs.c (the workers). */
#pragma once

#include "orchestrator/executor.h"
#include "orchestrator/health.h"
#include "orchestrator/notice.h"
#include "orchestrator/run_state.h"
#include "orchestrator/window.h"

#include <pthread.h>

/* A person who waits for his answer. */
typedef struct {
    const char *who;
    gboolean answered;
    gboolean ok;
    VrAnswer answer;
    char *text; /* what follows, or why not */
} VrControlCall;

/* What a worker or a signal says. Owned by whoever holds it. */
typedef struct {
    VrEventType type;
    guint instance;
    VrOutcome outcome;
    char *reason;
    char *text; /* for the view */
    VrSurveyAnswer *answers;
    VrGuestWish *wishes;
    gint64 off_ms;
    gboolean window_is_known; /* of a WINDOW, and of a SURVEY where the run has a window */
    VrWindowView window;
    char *window_words;
    gboolean note;       /* no event: `text` is what the instance waits for */
    VrControlCall *call; /* of a person's event: who waits for the answer; not owned */
} VrMessage;

typedef struct {
    VrSwap *swap;         /* made by the PREPARE job, then used by one job at a time */
    gint64 started_ms;    /* written by the SWAP job */
    char *left_text;      /* why it was left on its new disk; NULL: it was not, or that is written already */
    gboolean awaited;     /* it ran before the host was rebooted, and is not on again; a survey's */
    char *survey_text;    /* why the last survey found it unhealthy; NULL: it did not */
    VrCloneProgress copy; /* of its new disk */
    gint probe_aborted;   /* atomic */
    gint recalled;        /* atomic; its notice is called off */
    VrNotice *notice;     /* used by one job at a time; NULL: it has had none */
    char *answer_text;    /* under control_lock, as the next: what its health said last; NULL: nobody waits for it */
    gint64 answer_until_ms;
} VrWork;

typedef struct {
    VrCommandType type;
    /* Of a GATE: the number of the batch that it is asked about; of a SURVEY: of the one that may follow, 0: none does. */
    guint instance;
    char *text;                    /* of a GATE: what it reads */
    gboolean after;                /* of a GATE: no question, but its counterpart */
    VrCloneSeat *seat;             /* of a PREPARE that makes a full clone; owned */
    VrPersonalSeat *personal_seat; /* of a PREPARE that writes into the new disk; owned */
} VrJob;

struct VrExecutor {
    VrEngine engine;
    VrRunRequest request;
    guint count;
    VrRollout *rollout;
    VrRun *run;
    VrWork *work;       /* [count] */
    VrOutside *outside; /* owned where the request has none */
    GAsyncQueue *queue; /* VrMessage * */
    GThreadPool *pool;
    guint workers;          /* of it, at most */
    GQueue *seats;          /* VrCloneSeat * for the PREPAREs of this step, in their order; empty between steps */
    GQueue *personal_seats; /* likewise: VrPersonalSeat * */
    VrPersonalizeOptions personalize; /* work_dir NULL: nothing is written into new disks */
    gint cancelled;                   /* atomic; ends copies that are under way */
    gint called_off; /* atomic; ends a survey and a gate that are under way: nobody waits for their answers */
    gint64 wake_ms;  /* 0: none */
    gint64 wakes_us; /* the same by the wall clock, atomic: for those who look */
    guint batch;
    gint leaving;  /* atomic */
    gboolean over; /* under control_lock, as the two below: nobody answers any more */
    char *state;   /* as it was last written */
    pthread_mutex_t control_lock;
    pthread_cond_t answered;
    char *seen;            /* what the last survey found (executor_survey.c); NULL: there was none */
    char *seen_boot;       /* on which boot of the host */
    gboolean rebooted;     /* since then, and some are to come back: the next survey waits for them */
    gint64 back_until_ms;  /* ... until then; 0: it does not */
    char *back_text;       /* ... and says so; NULL: it does not */
    gint64 saved_at_ms;    /* when the state was written */
    gboolean unsaved;      /* ... and could not be: it is tried again with the next step */
    gint64 wall_offset_us; /* wall clock less the clock of the steps */
    GArray *asked;         /* guint: those that the gate was asked about and that are not over; NULL: nobody */
    guint asked_batch;     /* ... as which batch */
    char *gate_said;       /* last */
    guint gates_after;     /* under gate_lock: how many gateAfter are to come to their ends */
    pthread_mutex_t gate_lock;
    pthread_cond_t gate_idle;
    int prepare_error; /* VrErrorCode of the first preparation that failed, -1: none. Atomic */
};

void vr_message_free(VrMessage *message);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrMessage, vr_message_free)
VrMessage *vr_message_new(VrEventType type, guint instance, VrOutcome outcome, const char *reason);

/* From any thread; takes the message. */
void vr_executor_post(VrExecutor *executor, VrMessage *message);

const VrInstance *vr_executor_instance(const VrExecutor *executor, guint index);

/* The version that an instance is moved to; NULL: a rollback. */
const VrImage *vr_executor_image(const VrExecutor *executor, guint index);

/* Whom to ask for the health of an instance. */
VrHealthSubject vr_executor_subject(const VrExecutor *executor, guint index);

/* One job for the workers. */
void vr_executor_push(VrExecutor *executor, VrCommandType type, guint instance, const char *text);

/* To whoever watches the run. On the caller's thread. */
void vr_executor_tell(VrExecutor *executor, VrProgressKind kind, const VrRunInstance *instance, const char *text);

/* A line in the audit; uuid and text may be NULL. */
void vr_executor_audit(VrExecutor *executor, const char *kind, const char *uuid, const char *text);

/* ---- executor_control.c ---- */

/* Writes the state of the run, where it has changed. */
void vr_executor_save(VrExecutor *executor);

/* May this message be taken? A person whose word does not fit gets his answer here; all other messages may. */
gboolean vr_executor_may(VrExecutor *executor, const VrMessage *message);

/* After the step: the person of the message, if there is one, learns what follows. */
void vr_executor_tell_person(VrExecutor *executor, const VrMessage *message);

/* Nobody is answered any more: who waits hears that the run has ended. */
void vr_executor_close(VrExecutor *executor);
/* The process of the run shall end: from here on the run outlives it. As soon as that is known, as who asked may not wait for the border. */
void vr_executor_keep_open(VrExecutor *executor);

/* What the health of an instance that is waited for said last, for those who look; NULL: nobody waits for it any more. From any thread. */
void vr_executor_note_answer(VrExecutor *executor, guint index, const char *text, gint64 until_ms);

/* wake_ms was changed. */
void vr_executor_note_wake(VrExecutor *executor);

/* Loads what the run had kept into the new rollout. */
gboolean vr_executor_go_on(VrExecutor *executor, GError **error);

/* ---- executor_survey.c ---- */

/* SURVEY. */
void vr_executor_begin_survey(VrExecutor *executor);

/* The worker's part of it. */
void vr_executor_do_survey(VrExecutor *executor, VrJob *job);

/* What it has found, for a process that goes on after this one. */
void vr_executor_note_survey(VrExecutor *executor, const VrMessage *message);

/* What the process before this one has found, once the rollout is loaded: whom to wait for after a reboot of the host. */
void vr_executor_take_seen(VrExecutor *executor, const VrRunState *state);

/* ---- executor_gate.c ---- */

/* GATE: asks it about the batch that the rollout has chosen. */
void vr_executor_ask_gate(VrExecutor *executor);

/* Those that it was asked about last are back, or do not go: gateAfter, once. */
void vr_executor_gate_over(VrExecutor *executor);

/* Until no gateAfter runs: it is the run's, which it names. */
void vr_executor_wait_for_gate(VrExecutor *executor);

/* What it has answered, for the audit. */
void vr_executor_note_gate(VrExecutor *executor, const VrMessage *message);

/* The worker's part of both. */
void vr_executor_do_gate(VrExecutor *executor, VrJob *job);

/* ---- executor_window.c ---- */

/* Where the run has a window, what is true of it now, into a message. On a worker. */
void vr_executor_look_at_window(const VrExecutor *executor, VrMessage *message);

/* The worker's part of WINDOW. */
void vr_executor_do_window(VrExecutor *executor, VrJob *job);

/* Then it wakes every few seconds, maybe for weeks, and what it waits for was said. */
gboolean vr_executor_is_held_by_window(const VrExecutor *executor);

/* That, by the clock of the steps; its words are the message's. */
VrWindowAnswer vr_executor_window_answer(const VrMessage *message, gint64 now_ms);

/* The function of the pool: does one VrJob (data), frees it, and posts its answer to the VrExecutor (user_data). */
void vr_executor_work(gpointer data, gpointer user_data);
