/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One run of a set, for history --run. */
#pragma once

#include "orchestrator/cli/session.h"

/* Shows the run that --run names, of the set that the session has read; with --html its page goes to that file, and nothing to stdout. */
gboolean vr_history_run(const VrCli *cli, const VrSession *session, GError **error);
