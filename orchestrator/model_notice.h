/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Private to the model: scheduledEventsProfile, its keys, its defaults, and what must hold between them (H7, H8). */
#pragma once

#include "orchestrator/model_keys.h"

extern const VrModelKey vr_model_events_keys[]; /* offsets are those of VrModel */

void vr_model_notice_defaults(VrNoticeProfile *notice);
void vr_model_notice_clear(VrNoticeProfile *notice);

gboolean vr_model_check_notice(VrModelParser *parser, const VrNoticeProfile *notice, GError **error);
