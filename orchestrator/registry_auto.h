/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the registry keeps of upgrades that begin by themselves; for registry.c. Both within a transaction. */
#pragma once

#include "orchestrator/registry.h"

/* Fills in what VrSet says of it. */
gboolean vr_registry_auto_read(VrDb *db, VrSet *set, GError **error);

/* The set is about to get this text: another one than it has is a person's word. */
gboolean vr_registry_auto_edited(VrDb *db, const char *name, const char *text, GError **error);
