/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What has changed from one look at a run to the next, as lines with their time: the view where there is no terminal. */
#pragma once

#include "orchestrator/live/snapshot.h"

/* before: NULL at the first look. "" where nothing has changed. Free with g_free. */
char *vr_live_changes(const VrSnapshot *before, const VrSnapshot *now, gint64 wall_us);
