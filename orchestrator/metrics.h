/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The metrics of a host (J9): what the store and its database say, as OpenMetrics text. Nothing is asked of libvirt, so they are there while it
 * hangs; nothing is written.
 */
#pragma once

#include "disk/store.h"
#include "engine/journal.h"

typedef enum {
    VR_METRICS_OPENMETRICS, /* https://prometheus.io/docs/specs/om/open_metrics_spec/, 1.0 */
    VR_METRICS_PROMETHEUS   /* text format 0.0.4: what node_exporter's textfile collector and promtool read */
} VrMetricsFormat;

/* Free with g_free. */
char *vr_metrics(VrStore *store, VrJournal *journal, VrMetricsFormat format, GError **error);
