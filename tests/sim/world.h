/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A scripted world: a random scale set, its guests, its operator and its faults, all from one seed. */
#pragma once

#include <glib.h>

typedef struct {
    guint steps, batches, instances;
    guint restarts, takeovers, amends;
    int status;       /* VrRunStatus at the end */
    const char *code; /* its error code or NULL; static */
} WorldResult;

/* Runs the rollout in the world of a seed to its end. NULL when all held, else the first violation (free with g_free).
 * story (may be NULL) gets a line for each event and command. */
char *world_run(guint64 seed, GString *story, WorldResult *result);
