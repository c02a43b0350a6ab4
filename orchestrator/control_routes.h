/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Private to the two sides of the control socket: which event goes by which route. */
#pragma once

#include "orchestrator/rollout.h"

#define VR_CONTROL_PREFIX "/virtualMachineScaleSets/"
#define VR_CONTROL_MIDDLE "/rollingUpgrades/"
#define VR_CONTROL_LATEST "latest"

/* "pause", "cancel", ... CANCEL and CANCEL_NOW have one. NULL: not an event of a person. */
const char *vr_control_verb(VrEventType type);

/* TRUE and the event of a verb (CANCEL for "cancel"). */
gboolean vr_control_event(const char *verb, VrEventType *type);
