/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Notices to those outside (orchestrator/outbox.h), as commands write and leave them. */
#pragma once

#include "orchestrator/cli/targets.h"

/* Runs a command that asks for a run: tells of the request before, and of its result where no run came of it. A dry run asks for nothing. */
gboolean vr_as_request(const VrCli *cli, gboolean (*command)(const VrCli *cli, GError **error), GError **error);

/* The same for the part of a command that applies the model of a set to all of it. The session's. */
gboolean vr_as_apply_request(VrSession *session, VrTargets *targets,
                             gboolean (*run)(VrSession *session, VrTargets *targets, GError **error), GError **error);

/* Where this process has written notices since it was asked last, and there is somebody to tell: leaves a process that delivers them, and waits for
 * nothing. What goes wrong is a warning. */
void vr_notices_leave(const VrCli *cli);
