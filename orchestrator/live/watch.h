/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Shows a run on a terminal until it has ended: reads it, draws a frame, waits; four times a second while something moves, else once. In a thread of its own beside a run of
 * this process, which never waits for the view, or on the thread of who only watches.
 */
#pragma once

#include "orchestrator/live/frame.h"

/* Reads what is shown. Called by one thread at a time; NULL: it cannot be read now, and the last frame stays. */
typedef VrSnapshot *(*VrWatchRead)(void *data);

typedef struct {
    int fd; /* vr_screen_can() */
    VrWatchRead read;
    void *data;
    gboolean attached;     /* VrFrameFor.attached */
    const gint *cancelled; /* atomic; ends the view; may be NULL */
} VrWatchOptions;

/* Until the run has ended, has lost its process, or the terminal is gone. */
void vr_watch(const VrWatchOptions *options);

typedef struct VrWatch VrWatch;

/* In a thread of its own; what `options` points to outlives it. NULL: this process may have no more threads or descriptors, and goes on without a view. */
VrWatch *vr_watch_begin(const VrWatchOptions *options);

/* Draws the run as it is now, for the last time, and ends the thread. NULL is fine. */
void vr_watch_end(VrWatch *watch);
