/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Runs the extensions of a model in a guest that came up on a new OS disk, one after the other (C3, C4). A guest is healthy only when all of
 * them succeeded (E6).
 *
 * One that did not succeed stops those that come after it, which are skipped; others go on. Each has its own time. A result is recorded when it is
 * begun and when it has ended: where a process ends in between, the next one finds in the guest what still runs or has ended, and waits for it, or
 * takes it; only where the guest knows nothing of it any more is it begun anew. What is recorded as ended is never run again on that generation.
 */
#pragma once

#include "hv/hv.h"
#include "orchestrator/extension_files.h"
#include "orchestrator/extension_results.h"

/* Keeps a result. Called in the thread of vr_extensions_run(). */
typedef gboolean (*VrExtensionRecord)(guint position, const VrExtensionResult *result, void *data, GError **error);

typedef struct {
    VrHv *hv;
    const char *uuid;
    guint generation;
    const VrExtensions *extensions;
    const char *old_boot_id; /* a guest with this boot id runs its old disk still; NULL: not known */
    gint64 agent_until_ms;   /* so long (boot time) the agent of the new boot may take */
    const gint *aborted;     /* NULL, or set to non-zero by another thread: ends it */
    const GPtrArray *known;  /* VrExtensionResult *: of an earlier process; NULL: none */
    VrExtensionRecord record;
    void *data; /* for record */
} VrExtensionsRun;

/* TRUE: all that count have succeeded. FALSE: *reason (g_free) names the one that did not, and why. *spent_ms: how long they ran, without the wait for
 * the agent. */
gboolean vr_extensions_run(const VrExtensionsRun *run, gint64 *spent_ms, char **reason);

#define VR_EXTENSION_LINES 10 /* of its output are kept */

/* The last lines of an output as they may be shown and kept: no control characters, no part of a line that was cut, at most 10 lines of at most 300
 * characters, and "***" for each word of six or more characters, each line and the whole of what is secret. Free with g_free. */
char *vr_extension_output(const char *output, gboolean cut, const VrPayload *secret);
