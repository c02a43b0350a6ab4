/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Private to the model: osProfile.windowsConfiguration, and its one rule (C9). */
#pragma once

#include "orchestrator/model_keys.h"

extern const VrModelKey vr_model_windows_keys[]; /* offsets are those of VrOsProfile */

/* C9, as Azure has it: with automatic OS upgrades a guest must not update itself, so enableAutomaticUpdates must be false, and is where the
 * section does not say it. */
gboolean vr_model_check_windows(VrModelParser *parser, VrModel *model, GError **error);
