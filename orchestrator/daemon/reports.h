/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the daemon sees to for those outside: the file of metrics, written each interval (job `metrics`), and notices that wait (job `notices --deliver
 * --wait`). A command leaves a process of its own that delivers what it wrote; the daemon's is there for what failed then, and for what a process that was killed
 * has left.
 */
#pragma once

#include "orchestrator/config.h"
#include "orchestrator/daemon/jobs.h"
#include "orchestrator/daemon/service.h"

typedef struct VrReports VrReports;

/* Service and jobs outlive it; of config it keeps nothing. */
VrReports *vr_reports_new(VrService *service, VrJobs *jobs, const VrConfig *config);
void vr_reports_free(VrReports *reports);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrReports, vr_reports_free)

/* Something has ended, so there may be something to tell. */
void vr_reports_wake(void *reports);
