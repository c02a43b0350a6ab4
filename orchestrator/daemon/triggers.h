/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The daemon's part of what begins by itself (H1): it looks by the job `triggers`, and begins what is due by the job `upgrade SET --automatic --detach`,
 * which asks once more whether it is due. All that is decided and kept is theirs; a daemon that is killed forgets nothing. What is here on top is a
 * brake: where an upgrade could not be begun and is due still (the disk is so full that not even this could be written), it is tried again
 * after half a minute, a minute, two, and from then on every ten.
 */
#pragma once

#include "orchestrator/daemon/jobs.h"
#include "orchestrator/daemon/service.h"

typedef struct VrTriggers VrTriggers;

/* Looks from the main loop on. Service and jobs outlive it. root: the store, absolute. also: is called at each look, since others look at the same
 * causes; may be NULL. */
VrTriggers *vr_triggers_new(VrService *service, VrJobs *jobs, const char *root, void (*also)(void *data), void *data);
void vr_triggers_free(VrTriggers *triggers);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrTriggers, vr_triggers_free)

/* Looks soon: something has changed. why: static. */
void vr_triggers_look(VrTriggers *triggers, const char *why);
