/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * When to look again at what begins by itself. Nobody tells the daemon of a version that was published or a set that was changed, since a command that
 * works alone does it as well as a job: so it watches the places where both leave a trace.
 *
 *   ROOT/images          a new image; a command that changed what is in the database alone touches it (vr_session_touch)
 *   ROOT/images/NAME     a version becomes visible by a rename to here, so it is whole then
 *   ROOT/locks           whoever owned a set closes its lock there: a command, and the process of a run when that has ended
 *
 * Beside that the wall clock: a timer at the time that was asked for, which also ends at once where somebody sets the clock (TFD_TIMER_CANCEL_ON_SET); and
 * every ten minutes, for what leaves no trace. Nothing of it needs the store to be there yet.
 */
#pragma once

#include <glib.h>

typedef struct VrWakes VrWakes;

/* why: for the log, static. Several causes within a tenth of a second are one call. */
typedef void (*VrWakeFunc)(const char *why, void *data);

VrWakes *vr_wakes_new(const char *root, VrWakeFunc wake, void *data);
void vr_wakes_free(VrWakes *wakes);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrWakes, vr_wakes_free)

/* Wakes at this time of the wall clock as well; 0: at none. In place of the last one. */
void vr_wakes_at(VrWakes *wakes, gint64 wall_us);

/* Wakes soon. */
void vr_wakes_now(VrWakes *wakes, const char *why);
