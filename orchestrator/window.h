/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * When a maintenance window is open (H4). What a schedule means is systemd's to say: `systemd-analyze calendar` lists the
 * moments at which it opens, and this adds for how long. The wall clock alone counts, so after a jump of it the answer is another one.
 *
 * What follows from systemd's calendar: a schedule without a zone is in the local time of this host (/etc/localtime, never TZ of whoever asks). On the day on which the clocks are
 * put forward, a time that they skip has no opening; on the day on which they are put back, a time that comes twice opens the
 * window once, at the first. A duration is of hours that pass: a window of four hours is never three hours or five.
 *
 * Windows that touch or overlap are one.
 */
#pragma once

#include "orchestrator/model.h"

typedef struct {
    gboolean open;
    gint64 until_us; /* where it is open: at least until then. Wall clock */
    gint64 next_us;  /* when it opens next, after until_us where it is open; 0: never again, as far as is known */
} VrWindowView;

/* Looks at now_us of the wall clock. A window without schedule is always open (until_us is G_MAXINT64). Runs a child now and then (some 10 ms, at most 10 s) and
 * keeps what it said for ten minutes; from any thread. VR_ERROR_INVALID: systemd takes the schedule for none, or it comes more often than
 * once a minute; VR_ERROR_CHILD: nobody could say. */
gboolean vr_window_look(const VrMaintenanceWindow *window, gint64 now_us, VrWindowView *view, GError **error);

/* For a model that is about to be defined: VR_ERROR_USAGE, as of the parser, where its schedule is none, comes more often than once a
 * minute, or never comes again. Else as vr_window_look(). */
gboolean vr_window_check(const VrMaintenanceWindow *window, const char *file_name, gint64 now_us, GError **error);

/* "open until 2026-11-28T05:00:00.000Z", "opens at 2026-11-28T01:00:00.000Z", "never opens again". Free with g_free. */
char *vr_window_text(const VrWindowView *view);
