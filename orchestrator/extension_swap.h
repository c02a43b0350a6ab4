/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The extensions of the guest of a swap, with their results in the database; and what those say of its health later (E6). */
#pragma once

#include "engine/swap.h"
#include "orchestrator/extensions.h"
#include "orchestrator/health.h"

/* Runs what is not recorded as ended on the new generation of a guest that runs; nothing where there are no extensions (NULL), and on the way back.
 * *started_ms is since when healthTimeout counts: it moves on by the time for which they ran. FALSE: the guest is not healthy, *reason (g_free) says why. */
gboolean vr_extensions_of_swap(const VrEngine *engine, const VrExtensions *extensions, const VrHealthProfile *health,
                               const VrSwapRow *row, const gint *aborted, gint64 *started_ms, char **reason);

/* Without an application to ask, a guest on whose current disk an extension failed is not healthy, though it runs. */
void vr_extensions_judge(VrJournal *journal, const VrHealthProfile *health, const char *uuid, VrHealthAnswer *answer);
