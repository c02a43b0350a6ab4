/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Private to the model: healthProfile, its keys, its defaults, and what must hold between them. */
#pragma once

#include "orchestrator/model_keys.h"

extern const VrModelKey vr_model_health_keys[]; /* offsets are those of VrModel */

void vr_model_health_defaults(VrHealthProfile *health);
void vr_model_health_clear(VrHealthProfile *health);

/* One source a set (E5), and the keys that go with it. Fills in what depends on other keys. */
gboolean vr_model_check_health(VrModelParser *parser, VrModel *model, GError **error);
