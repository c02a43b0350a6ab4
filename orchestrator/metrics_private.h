/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is read of each set before anything is written: a family holds the samples of all sets. */
#pragma once

#include "orchestrator/metrics_text.h"
#include "orchestrator/registry.h"

/* What an instance is in, by its last swap. */
typedef enum {
    VR_METRICS_SETTLED,  /* it came good, was called off, or there was none */
    VR_METRICS_MOVING,   /* it is open */
    VR_METRICS_RESTORED, /* it failed, and the old disk runs again */
    VR_METRICS_FAILED,   /* it failed, and the instance was not touched, or is left on the new disk */
    VR_METRICS_UNKNOWN   /* a person must look */
} VrMetricsState;

typedef struct {
    char *image, *version; /* NULL: not known */
    VrMetricsState state;
    guint count;
} VrMetricsShare;

/* Instances of a run, as J3 counts them. */
typedef enum {
    VR_PROGRESS_SUCCESSFUL,
    VR_PROGRESS_FAILED,
    VR_PROGRESS_IN_PROGRESS,
    VR_PROGRESS_PENDING,
    VR_PROGRESS_SKIPPED,
    VR_PROGRESS_LAST_
} VrMetricsProgress;

typedef struct {
    VrSet *set;
    GArray *shares; /* VrMetricsShare */
    guint is_protected, behind;
    guint generations[VR_GENERATION_RELEASED + 1];
    guint open_swaps, unknown, releases;
    gboolean owned; /* some process works on it */

    gboolean has_run; /* of the last run: */
    VrRunStatus status;
    gboolean open;
    gint64 started_us;
    VrHold hold;
    guint progress[VR_PROGRESS_LAST_];

    gint64 success_us[VR_RUN_KINDS]; /* 0: none */
    GPtrArray *blocked;              /* char *: image, version, image, version... */
    VrTallies tallies;
} VrMetricsSet;

/* Each reads its part; within a transaction that reads. */
gboolean vr_metrics_read_instances(VrMetricsSet *one, VrJournal *journal, GError **error);
gboolean vr_metrics_read_runs(VrMetricsSet *one, VrJournal *journal, GError **error);

/* Each writes its families. sets: VrMetricsSet. */
void vr_metrics_write_instances(VrMetricText *out, const GArray *sets);
void vr_metrics_write_runs(VrMetricText *out, const GArray *sets);
void vr_metrics_write_times(VrMetricText *out, const GArray *sets);
gboolean vr_metrics_write_store(VrMetricText *out, VrStore *store, GError **error);

/* Labels that begin with the set's name. */
#define VR_SET_LABELS(one, ...) VR_LABELS("set", (one)->set->name, __VA_ARGS__)
#define VR_SET_LABEL(one) VR_LABELS("set", (one)->set->name)
#define VR_EACH_SET(one, sets)                                                                                         \
    for (const VrMetricsSet *one = (const VrMetricsSet *)(gpointer)(sets)->data, *one##_end = one + (sets)->len;       \
         one < one##_end; one++)
