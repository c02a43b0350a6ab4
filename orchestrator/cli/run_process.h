/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A run in this process: its executor, its signals, its control socket, and what is shown of it. */
#pragma once

#include "orchestrator/cli/targets.h"
#include "orchestrator/run_state.h"

/* Runs to the end. asked: all but set, targets, image and what is for the view, which come from session and targets. say: what a person has said
 * already (of domain), VR_EVENT_START for nothing. */
gboolean vr_run_process(const VrSession *session, const VrTargets *targets, const VrRunRequest *asked, VrEventType say,
                        guint domain, GError **error);

/* ROOT/run/SET. Owned by the caller. -1 with VR_ERROR_NOT_FOUND: no run of the set was here yet. */
int vr_run_dir(const VrSession *session, GError **error);

/* vr_control_say() to the run in dir. Where no answer comes in time the error names the process and what to do with it. */
gboolean vr_run_say(const VrSession *session, int dir, const char *set_name, VrEventType type, guint domain,
                    char **text, GError **error);

/* Where an open run stands: what its process says, else what it wrote last. *answers (may be NULL): does a process answer? */
gboolean vr_run_where(const VrSession *session, const VrRun *run, VrRunState *state, gboolean *answers, GError **error);

/* Ends the run of the set that is open, if one is, and waits until its process is gone: how is VR_EVENT_CANCEL or VR_EVENT_CANCEL_NOW. *ended: that
 * run, NULL when none was open; without a process it is still open then, and the caller's session closes it. for_rollback: VR_ERROR_BUSY where the open
 * one is a rollback itself, or not the one that --run names. */
gboolean vr_run_end_open(const VrCli *cli, VrEventType how, gboolean for_rollback, VrRun **ended, GError **error);
