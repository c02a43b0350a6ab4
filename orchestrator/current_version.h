/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The set's current version (D29): what an instance gets of which nobody knows what it runs, such as one that was added since. It
 * moves on when an upgrade of the whole set completes, not with the first instance of it, and goes back when rollbacks have left
 * nobody on it.
 */
#pragma once

#include "orchestrator/history.h"
#include "orchestrator/registry.h"

/* All instances of the set run this one, but for those that the model keeps from it. Nothing is written when it is so already. */
gboolean vr_current_version_set(VrJournal *journal, const VrOwner *owner, const VrSet *set, const char *image,
                                const char *version, GError **error);

/* What the end of a run means for it. set is as it was when the run began. */
gboolean vr_current_version_settle(VrJournal *journal, const VrOwner *owner, const VrSet *set, const VrRun *run,
                                   GError **error);
