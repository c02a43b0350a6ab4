/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a run would do, from targets that were chosen: for plan and for every --dry-run of a run. */
#pragma once

#include "orchestrator/cli/targets.h"

/* Both leave out the instances whose guests ask for it now (D14). */

/* Prints batches, findings, space (or one JSON document). VR_ERROR_REFUSED, after printing, when a chosen instance has a
 * finding that forbids its swap. */
gboolean vr_plan_show(VrSession *session, VrTargets *targets, GError **error);

/* What would stop a run before its first batch or at a later one, found before any guest is touched: blockers of chosen
 * instances, what lies outside (C5), no room for the new disks of all (D25): VR_ERROR_REFUSED. */
gboolean vr_plan_check(VrSession *session, VrTargets *targets, GError **error);
