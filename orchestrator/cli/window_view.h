/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A set's maintenance window and how it stands now (H4), for plan and set-info. */
#pragma once

#include "orchestrator/cli/run_view.h"
#include "orchestrator/model.h"

/* {schedule, durationSeconds, open, openUntil, opensNext, error}; null: the model has no window. open is null where nobody can say, and error says why. */
json_t *vr_window_json(const VrMaintenanceWindow *window);

/* "Sat *-*-* 02:00 Europe/Berlin, for 4 h 00 min; shut, opens 2026-11-28 02:00:00". NULL: the model has none. Free with g_free. */
char *vr_window_line(const VrMaintenanceWindow *window);
