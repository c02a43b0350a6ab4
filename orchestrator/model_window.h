/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Private to the model: maintenanceWindow (H4). Its schedule is only looked at as a text here: what it means is for window.h. */
#pragma once

#include "orchestrator/model_keys.h"

extern const VrModelKey vr_model_window_keys[]; /* offsets are those of VrModel */

void vr_model_window_clear(VrMaintenanceWindow *window);

/* Both keys, or none. */
gboolean vr_model_check_window(VrModelParser *parser, VrMaintenanceWindow *window, GError **error);
