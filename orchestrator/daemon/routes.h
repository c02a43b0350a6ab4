/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is answered to a request: from the table of routes to a job, and from the job's exit status and output to HTTP. */
#pragma once

#include "orchestrator/daemon/server.h"

typedef struct VrRoutes VrRoutes;

typedef struct {
    const char *uri, *root; /* for GET /; may be NULL */
} VrRoutesConfig;

/* Copies what config says. */
VrRoutes *vr_routes_new(const VrRoutesConfig *config);
void vr_routes_free(VrRoutes *routes);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrRoutes, vr_routes_free)

/* A VrServerHandler; data is the VrRoutes. */
enum MHD_Result vr_routes_answer(void *data, VrRequest *request);
