/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the two sides of the executor share: executor.c (the caller's thread) and executor_jobs.c (the workers). */
#pragma once

#include "orchestrator/executor.h"

/* What a worker or a signal says. Owned by whoever holds it. */
typedef struct {
    VrEventType type;
    guint instance;
    VrOutcome outcome;
    char *reason;
    char *text; /* for the view */
    VrSurveyAnswer *answers;
    gint64 off_ms;
} VrMessage;

typedef struct {
    VrSwap *swap;       /* made by the PREPARE job, then used by one job at a time */
    gint64 started_ms;  /* written by the SWAP job */
    char *survey_text;  /* why the last survey found it unhealthy; NULL: it did not */
    gint probe_aborted; /* atomic */
} VrWork;

typedef struct {
    VrCommandType type;
    guint instance; /* of a GATE: the number of the batch that it is asked about */
    char *text;
    VrCloneSeat *seat; /* of a PREPARE that makes a full clone; owned */
} VrJob;

struct VrExecutor {
    VrEngine engine;
    VrRunRequest request;
    guint count;
    VrRollout *rollout;
    VrRun *run;
    VrWork *work;       /* [count] */
    GAsyncQueue *queue; /* VrMessage * */
    GThreadPool *pool;
    guint workers;  /* of it, at most */
    GQueue *seats;  /* VrCloneSeat * for the PREPAREs of this step, in their order; empty between steps */
    gint cancelled; /* atomic; ends copies that are under way */
    gint64 wake_ms; /* 0: none */
    guint batch;
    int prepare_error; /* VrErrorCode of the first preparation that failed, -1: none. Atomic */
};

void vr_message_free(VrMessage *message);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrMessage, vr_message_free)
VrMessage *vr_message_new(VrEventType type, guint instance, VrOutcome outcome, const char *reason);

/* From any thread; takes the message. */
void vr_executor_post(VrExecutor *executor, VrMessage *message);

const VrInstance *vr_executor_instance(const VrExecutor *executor, guint index);

/* The function of the pool: does one VrJob (data), frees it, and posts its answer to the VrExecutor (user_data). */
void vr_executor_work(gpointer data, gpointer user_data);
