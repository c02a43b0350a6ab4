/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is open when the daemon begins, and what it leaves open when it ends.
 *
 * A crash of the daemon stops no run: they are processes of their own. So at the start each set is looked at (set-list, status), and only what no process works
 * on is taken over: a run that outlives its process is gone on with (resume; one that was paused stays so: pause), any other open swap is finished
 * or undone (recover). Each once: what cannot be gone on with is reported and left to a person, as 'status SET' shows it. Only a libvirt that
 * cannot be reached yet is asked for again, a few times.
 *
 * A clean stop is the other way round: jobs and the detached runs of our store get SIGTERM, which means that they leave their run open at its batch border
 * (cli/job.h), and the stop waits until they are gone. What is no run ends by itself, or at a second SIGTERM some seconds later.
 */
#pragma once

#include "orchestrator/daemon/jobs.h"
#include "orchestrator/daemon/service.h"

typedef struct VrTakeover VrTakeover;

/* Takes over what is open, from the main loop on, and adds its stop to the service. All outlive it; root: the store, absolute. */
VrTakeover *vr_takeover_new(VrService *service, VrJobs *jobs, const char *root);
void vr_takeover_free(VrTakeover *takeover);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrTakeover, vr_takeover_free)
