/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Upgrades that begin by themselves, as commands see them: what is shown of them, and `upgrade --automatic`. */
#pragma once

#include "orchestrator/cli/session.h"
#include "orchestrator/trigger.h"

#include <jansson.h>

/* What is true of a set with automatic upgrades where no virt-reimaged serves the store and the libvirt of cli, so that nothing begins; static. NULL: one does,
 * and this command is a job of it or it answers. */
const char *vr_daemon_missing(const VrCli *cli);

/* "on, by 'set-auto' since ...: why", "off, as the model says". Free with g_free. */
char *vr_automatic_text(const VrSet *set);
/* "due: 2 of its instances are moved to 2.0.0", "wait until 2026-...: ...". Free with g_free. */
char *vr_trigger_text(const VrTrigger *trigger);
/* {set, state, version, at, reason, blockedBy} */
json_t *vr_trigger_json(const char *set, const VrTrigger *trigger);

/* What set-define says of a set that is upgraded by itself: what begins and when; nothing of others. */
void vr_say_automatic(const VrSession *session);

/* upgrade --automatic: its exit status is 4 (VR_ERROR_REFUSED) with the trigger's reason unless it is due. */
gboolean vr_automatic_is_due(const VrCli *cli, GError **error);
gboolean vr_automatic_run(const VrCli *cli, GError **error);
