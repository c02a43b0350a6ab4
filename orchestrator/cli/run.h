/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A run of chosen targets, for the commands that begin one. */
#pragma once

#include "orchestrator/cli/targets.h"

/* Runs to the end, and shows it; says so when nothing is to be done; a dry run shows the plan. The session owns the set. The
 * error's code gives the exit status. */
gboolean vr_run_targets(VrSession *session, VrTargets *targets, GError **error);
