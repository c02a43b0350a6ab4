/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The drop folder: who has no shell on this host publishes by putting an image and its digest into a directory (drop_files.h). When both are there, have not
 * changed for a while and nobody has them open for writing, they are taken and published by the job image-publish, one at a time; then they lie in
 * published/ or, with the reason, in refused/. What is the host's fault and not the image's (no space, a job that was killed) leaves them where
 * they were, with the reason beside them, to be tried again after ten minutes, at SIGHUP, or when they change. A daemon that is killed in
 * between puts them back at its next start: the same bytes under the same version are published already, which is no error.
 */
#pragma once

#include "orchestrator/daemon/jobs.h"
#include "orchestrator/daemon/service.h"

typedef struct VrDrop VrDrop;

/* Service and jobs outlive it. The directory need not be there yet. */
VrDrop *vr_drop_new(VrService *service, VrJobs *jobs, const char *directory);
void vr_drop_free(VrDrop *drop);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrDrop, vr_drop_free)
