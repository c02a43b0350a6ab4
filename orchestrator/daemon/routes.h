/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is answered to a request: from the table of routes to a job, and from the job's exit status and output to HTTP. */
#pragma once

#include "orchestrator/daemon/jobs.h"
#include "orchestrator/daemon/server.h"

typedef struct VrRoutes VrRoutes;

typedef struct {
    const char *uri, *root; /* for GET /; may be NULL */
    VrJobs *jobs;           /* borrowed */
    /* POST /commands, for a peer that may; NULL: there are none */
    enum MHD_Result (*commands)(void *data, struct MHD_Connection *connection);
    void *commands_data;
} VrRoutesConfig;

/* Copies what config says. Outlives the server. */
VrRoutes *vr_routes_new(const VrRoutesConfig *config);
void vr_routes_free(VrRoutes *routes);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrRoutes, vr_routes_free)

/* From now on everything but GET / is 503; what is under way is answered. */
void vr_routes_stop(VrRoutes *routes);

/* A VrServerHandler; data is the VrRoutes. */
enum MHD_Result vr_routes_answer(void *data, VrRequest *request);
