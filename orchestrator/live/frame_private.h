/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The parts of a frame. */
#pragma once

#include "orchestrator/live/frame.h"

#define VR_FRAME_LABEL 9 /* columns of "Failed   " and of "batch 3  " */

/* How a stage is shown. */
typedef struct {
    const char *ascii, *utf8; /* its cell */
    const char *name;         /* of one guest: "boots" */
    const char *legend;       /* the same, shorter */
    VrMark mark;
} VrStageLook;
const VrStageLook *vr_stage_look(VrLiveStage stage);

/* What the lines of the frame are added to. */
typedef struct {
    const VrSnapshot *snapshot;
    const VrFrameFor *frame;
    GPtrArray *lines;
} VrFrame;

/* How many guests are in each stage; batch 0: of all of them, else of that one. */
void vr_frame_count(const VrSnapshot *snapshot, guint batch, guint counts[VR_LIVE_STAGES_]);

typedef enum {
    VR_COUNTS_IN_FLIGHT,
    VR_COUNTS_ALL,
    VR_COUNTS_AT_END, /* all of a run that has ended: who waited is not touched */
} VrCountsOf;
VrCountsOf vr_frame_counts_of(const VrSnapshot *snapshot);

/* "2 boot, 1 is probed", of those stages in which some are; NULL: in none. Free with g_free. */
char *vr_frame_counts_text(const guint counts[VR_LIVE_STAGES_], VrCountsOf of);

/* Is the terminal so low that there is one line for each thing, and no blank one? */
gboolean vr_frame_is_low(const VrFrameFor *frame);

/* The label, and beside it the text, in as many lines as that takes but at most `rows`; the last one is cut. bold: how much of the beginning of the text is, in bytes. */
void vr_frame_wrap(VrFrame *frame, const char *label, VrMark label_mark, const char *text, gsize bold, VrMark mark,
                   guint rows);

/* "00:03", "1:02:03", "2 d 01:02:03". Free with g_free. */
char *vr_frame_clock(gint64 ms);

/* frame_batches.c: at most `rows` lines for batches and guests in flight. */
void vr_frame_batches(VrFrame *frame, guint rows);

/* frame_advice.c: what it does or waits for, and what to type; each one line or more. */
void vr_frame_now(VrFrame *frame);
void vr_frame_type(VrFrame *frame, guint rows);
