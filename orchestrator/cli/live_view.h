/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The live view (orchestrator/live) of a run of this process, or of any other one (status --watch). */
#pragma once

#include "orchestrator/cli/session.h"

/* Is there a terminal to draw on, and did nobody ask for something else? */
gboolean vr_live_view_can(const VrCli *cli);

typedef struct VrLiveView VrLiveView;

/* Draws the run, in a thread of its own, until vr_live_view_end(). It has a session of its own, that only reads; the session that is given outlives it, for its
 * set. NULL: there is none, and lines take its place. */
VrLiveView *vr_live_view_begin(const VrSession *session, const VrRun *run);
void vr_live_view_end(VrLiveView *view);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrLiveView, vr_live_view_end)

/* status --watch: the last run of the set until it has ended; where none is open, how it ended. On a terminal that view, else lines. */
gboolean vr_live_view_watch(const VrCli *cli, GError **error);
