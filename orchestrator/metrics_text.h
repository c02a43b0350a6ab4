/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Writes metrics, family by family. */
#pragma once

#include "orchestrator/metrics.h"
#include "orchestrator/tallies.h"

typedef enum { VR_METRIC_GAUGE, VR_METRIC_COUNTER, VR_METRIC_HISTOGRAM } VrMetricType;

typedef struct {
    VrMetricsFormat format;
    GString *text;    /* owned */
    const char *name; /* of the family, as its samples begin */
} VrMetricText;

/* Begins a family; all that is written until the next one are its samples. unit: the last word of the name, or NULL. A counter's name is
 * without its "_total". name is not copied. */
void vr_metric_family(VrMetricText *out, VrMetricType type, const char *name, const char *unit, const char *help);

/* pairs: name, value, name, value..., ended by a NULL for a name; values are escaped, and one that is NULL is "unknown". Free with g_free. */
char *vr_metric_labels(const char *const *pairs);
#define VR_LABELS(...) vr_metric_labels((const char *const[]){__VA_ARGS__, NULL})

/* labels: of vr_metric_labels(), taken; NULL: none. */
void vr_metric_number(VrMetricText *out, char *labels, guint64 value);
/* Of a counter. */
void vr_metric_count(VrMetricText *out, char *labels, guint64 value);
/* A point in time in microseconds since the epoch, as seconds. */
void vr_metric_time(VrMetricText *out, char *labels, gint64 wall_us);
/* The buckets, the count and the sum, in seconds. */
void vr_metric_tally(VrMetricText *out, char *labels, const VrTally *tally);
