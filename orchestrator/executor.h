/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Runs what vr_rollout_step() commands: a bounded pool of workers does the blocking work of each instance
 * (engine, health) and posts its outcome as an event to the one thread that steps the rollout.
 *
 * After each step the run's state is in the history (run_state.h), before anybody hears of it. A run that is detached and whose process ends
 * before it does is gone on with in another one: recovery settles the swaps that were open, and the new executor begins between two
 * batches.
 */
#pragma once

#include "engine/swap.h"
#include "orchestrator/extension_files.h"
#include "orchestrator/history.h"
#include "orchestrator/os_content.h"
#include "orchestrator/outside.h"
#include "orchestrator/registry.h"
#include "orchestrator/run_answers.h"

typedef enum {
    VR_PROGRESS_RUN,
    VR_PROGRESS_BATCH,
    VR_PROGRESS_INSTANCE,
    VR_PROGRESS_WAIT,
    VR_PROGRESS_END
} VrProgressKind;

/* What a view shows; valid during the call only. Called from the executor's thread. */
typedef struct {
    VrProgressKind kind;
    const VrRun *run;
    const VrRolloutView *view;
    guint batch;
    const VrRunInstance *instance; /* of INSTANCE */
    const char *text;              /* one line for a person; may be NULL */
    gint64 wall_us;
} VrProgress;
typedef void (*VrProgressFunc)(const VrProgress *progress, void *data);

typedef struct {
    gboolean chosen;
    gboolean canary;      /* goes first (D17) */
    guint to_generation;  /* of a rollback */
    const char *skipped;  /* why not chosen, when not ("on 2.0.0 already") */
    gboolean left_failed; /* by an earlier run of an older version (decision 6) */
    gboolean named;       /* by a person: goes although its guest asks to be left out (D14) */
    const VrImage *image; /* the version of this one alone; NULL: that of the request */
} VrRunTarget;

typedef struct {
    VrRunKind kind;
    const VrSet *set;
    const VrImage *image;       /* that all move to; NULL: a rollback, or each target has its own */
    const VrRunTarget *targets; /* one for each instance of the set */
    gboolean automatic_rollback;
    gboolean walk;      /* a person names each upgrade domain (G4) */
    gboolean automatic; /* it began by itself: startedBy Platform (J4) */
    gboolean detached;  /* it outlives its process */
    gboolean
        windowed; /* it began by itself: its batches begin in the model's maintenance window only, where the model has one (H4). No rollback */
    VrRun *goes_on;      /* an open run of this set, to go on with, from vr_executor_past(); taken. NULL: a new one */
    gboolean temp_disks; /* a reimage also makes anew what the model flags as temporary (B8) */
    const VrExtensions *extensions; /* of the set's model, that run in each guest on its new disk; NULL: none */
    const VrOsContent *os_content;  /* likewise, that each new disk gets a seed of; NULL: none gets one */
    const char *const *ignored;     /* findings that a person lets pass; may be NULL */
    VrOutside *outside; /* what was looked at before the run; NULL: the executor looks by itself, at its first border */
    const char *reason; /* --reason; may be NULL */
    const char *role;   /* the run is for the instances of this role; NULL: for all */
    const char *request_id;  /* that was told of (outbox.h); NULL: none */
    VrProgressFunc progress; /* may be NULL */
    void *progress_data;
} VrRunRequest;

/* Who asks for runs in this process: the user, or who he was before sudo. */
const char *vr_executor_user(void);

typedef struct VrExecutor VrExecutor;
VrExecutor *vr_executor_new(const VrEngine *engine, const VrRunRequest *request);
void vr_executor_free(VrExecutor *executor);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrExecutor, vr_executor_free)

/* Runs to the end. The result is in the history; *run (owned by the caller) is its row. FALSE: the run did not end as it should, and the error's code
 * gives the exit status: POLICY (stopped), PARTIAL (done, some were restored), PERSON (UNKNOWN), CANCELLED, FAILED. */
gboolean vr_executor_run(VrExecutor *executor, VrRun **run, GError **error);

/* From any thread, also before run: first ends at the batch border, now also restores what is in flight. */
void vr_executor_cancel(VrExecutor *executor, gboolean now);

/* From any thread: the run ends its process at the next batch border, and stays open; one that was not detached is from here on. vr_executor_run() then
 * returns FALSE with VR_ERROR_CANCELLED. */
void vr_executor_leave(VrExecutor *executor);

/* What a person has said already when the run begins or goes on; events as below, but for the cancels. */
void vr_executor_say(VrExecutor *executor, VrEventType type, guint domain);

/* What a person says while it runs: VR_EVENT_PAUSE, RESUME, CANCEL, CANCEL_NOW, WALK (of upgrade domain `domain`), PROMOTE or
 * APPROVE. From any thread; waits for the answer, which comes at once. who: for the audit. TRUE: done or taken, *text says what follows (g_free).
 * FALSE: VR_ERROR_CONFLICT, it does not fit where the run stands. */
gboolean vr_executor_control(VrExecutor *executor, VrEventType type, guint domain, const char *who, VrAnswer *answer,
                             char **text, GError **error);

/* The state document of the run as it was last written. From any thread; free with g_free. */
char *vr_executor_state(VrExecutor *executor);

/* A copy that is under way, of the new disk of an instance. */
typedef struct {
    const char *uuid;          /* the set's */
    guint64 done, total, rate; /* bytes, bytes a second */
} VrExecutorCopy;
/* Those now. From any thread; element: VrExecutorCopy, freed with the array. */
GArray *vr_executor_copies(const VrExecutor *executor);

/* An instance whose health is waited for. */
typedef struct {
    const char *uuid; /* the set's */
    char *text;       /* what was seen last, for a person */
    gint64 until_us;  /* wall clock: it is waited for until then */
} VrExecutorProbe;
/* Those now, that have been looked at. From any thread; element: VrExecutorProbe, freed with the array. */
GArray *vr_executor_probes(VrExecutor *executor);

/* When the run looks again, where it waits for its next batch: wall clock; 0: it does not. From any thread. */
gint64 vr_executor_wakes_us(const VrExecutor *executor);

/* What was asked for when an open run began: targets[count] of the set and, into *request, kind, automatic_rollback and walk. VR_ERROR_REFUSED: the
 * set has other instances now, or what was kept cannot be read. The strings are the run's. */
gboolean vr_executor_past(const VrSet *set, VrRun *run, VrRunTarget *targets, VrRunRequest *request, GError **error);

/* Recovery of a set, health included: vr_recover(), then in the guest of each swap that stands in STARTED the extensions that have not ended run, it is probed, and committed or undone, and open runs are closed as
 * Faulted. *told: lines for a person, one a swap (char *, freed with the array). VR_ERROR_PERSON when one is UNKNOWN. */
gboolean vr_recover_set(const VrEngine *engine, const VrSet *set, gboolean dry_run, GPtrArray **told, GError **error);

/* Of the audit: what a recovery found about an instance and did. */
#define VR_EVENT_KIND_RECOVERED "recovered"

/* Ends the open swap of a domain (by its name in the journal, or UUID) that a recovery cannot end: vr_swap_forget(), and its line in the history. What was, or with dry_run would be, done, for a person; free with g_free. NULL: error. */
char *vr_recover_forget(const VrEngine *engine, const char *domain, gboolean dry_run, GError **error);
