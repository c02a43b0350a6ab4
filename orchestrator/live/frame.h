/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a terminal shows of a run. Pure: the same snapshot gives the same lines. From above: which run it is and how far it has come; what it does or waits for
 * now; its batches, a cell a guest, and a line for each guest in flight; what failed and why; what to type. Where there is not room for everything, batches that
 * are done become one line, then guests in flight a number; what failed and what to type stay.
 */
#pragma once

#include "orchestrator/live/line.h"
#include "orchestrator/live/snapshot.h"

/* For whom a frame is. */
typedef struct {
    VrFrameLook look;
    gboolean attached; /* who looks only watches: Ctrl-C ends the view, and not the run */
} VrFrameFor;

/* Element: char *, freed with the array: lines with marks (line.h), one less than the terminal is high at most, and as wide as it at most. */
GPtrArray *vr_frame_lines(const VrSnapshot *snapshot, const VrFrameFor *frame);

/* "boots", "done": one word. Static. */
const char *vr_live_stage_name(VrLiveStage stage);
