/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Runs what vr_rollout_step() commands: a bounded pool of workers does the blocking work of each instance
 * (engine, health) and posts its outcome as an event to the one thread that steps the rollout.
 */
#pragma once

#include "engine/swap.h"
#include "orchestrator/history.h"
#include "orchestrator/registry.h"

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
    guint to_generation; /* of a rollback */
    const char *skipped; /* why not chosen, when not ("on 2.0.0 already") */
} VrRunTarget;

typedef struct {
    VrRunKind kind;
    const VrSet *set;
    const VrImage *image;       /* NULL for a rollback */
    const VrRunTarget *targets; /* one for each instance of the set */
    gboolean automatic_rollback;
    const char *reason;      /* --reason; may be NULL */
    VrProgressFunc progress; /* may be NULL */
    void *progress_data;
} VrRunRequest;

typedef struct VrExecutor VrExecutor;
VrExecutor *vr_executor_new(const VrEngine *engine, const VrRunRequest *request);
void vr_executor_free(VrExecutor *executor);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrExecutor, vr_executor_free)

/* Runs to the end. The result is in the history; *run (owned by the caller) is its row. FALSE: the run did not end as it should, and the error's code
 * gives the exit status: POLICY (stopped), PARTIAL (done, some were restored), PERSON (UNKNOWN), CANCELLED, FAILED. */
gboolean vr_executor_run(VrExecutor *executor, VrRun **run, GError **error);

/* From any thread, also before run: first ends at the batch border, now also restores what is in flight. */
void vr_executor_cancel(VrExecutor *executor, gboolean now);

/* Recovery of a set, health included: vr_recover(), then each swap that stands in STARTED is probed and committed or undone, and open runs are closed as
 * Faulted. *told: lines for a person, one a swap (char *, freed with the array). VR_ERROR_PERSON when one is UNKNOWN. */
gboolean vr_recover_set(const VrEngine *engine, const VrSet *set, gboolean dry_run, GPtrArray **told, GError **error);
