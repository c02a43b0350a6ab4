/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Private to plan: cmd_plan.c makes and prints it, plan_warnings.c says what a person should know of it. */
#pragma once

#include "orchestrator/cli/look.h"
#include "orchestrator/cli/plan.h"
#include "orchestrator/cli/run_view.h"

typedef struct {
    VrSession *session;
    VrTargets *targets;
    GPtrArray *looks;     /* VrLook *, one for each instance */
    GPtrArray *batches;   /* VrBatch * */
    VrPlannerBlock block; /* why no more batches follow, when some that were chosen are in none */
    guint64 free_bytes;
    guint64 disk_bytes; /* that a new OS disk takes at once */
    VrSpread off;       /* of the last run that completed: what to expect */
} VrPlan;

/* What is true of the plan as a whole and a person should know. Element: char *, freed with the array. */
GPtrArray *vr_plan_warnings(const VrPlan *plan);
