/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A run as it goes: a line an event with its time, or with --json a JSON line. */
#pragma once

#include "orchestrator/cli/targets.h"

typedef struct {
    const VrCli *cli;
    const VrSession *session;
    const VrTargets *targets;
    gboolean drawn;   /* below the live view, which has shown it all but its end */
    gboolean goes_on; /* with a run that has begun before: in JSON its begin is not told again */
} VrProgressView;

/* A VrProgressFunc; data: VrProgressView. */
void vr_progress_show(const VrProgress *progress, void *data);
