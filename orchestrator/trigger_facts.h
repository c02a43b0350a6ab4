/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reads what trigger.h decides by: the set, the gallery, the history. Writes nothing, asks no guest and no libvirt. */
#pragma once

#include "disk/store.h"
#include "orchestrator/trigger.h"

/* What begins by itself in a set that was read with vr_registry_get_any(), when, or why not. */
gboolean vr_trigger_look(VrStore *store, VrJournal *journal, const VrSet *set, VrTrigger *trigger, GError **error);
