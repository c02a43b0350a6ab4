/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Private to the model: upgradePolicy, its keys, its defaults, and what must hold between them. */
#pragma once

#include "orchestrator/model_keys.h"

extern const VrModelKey vr_model_policy_keys[]; /* offsets are those of VrModel */

void vr_model_policy_defaults(VrUpgradePolicy *policy);
void vr_model_policy_clear(VrUpgradePolicy *policy);

/* D28, decision 2, D15, E11. */
gboolean vr_model_check_policy(VrModelParser *parser, VrUpgradePolicy *policy, GError **error);
