/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The process of a run is spoken to over a Unix socket in ROOT/run/SET, of mode 0700: HTTP/1.1 and JSON, with Azure's routes where there are
 * such, and ours in their manner where there are none. docs/control.md describes it.
 *
 *   GET  /virtualMachineScaleSets/SET/rollingUpgrades/latest                 the state document (run_state.h), with runId
 *   POST /virtualMachineScaleSets/SET/rollingUpgrades/cancel[?now=true]
 *   POST /virtualMachineScaleSets/SET/rollingUpgrades/pause, resume, promote, approve
 *   POST /virtualMachineScaleSets/SET/rollingUpgrades/walk?upgradeDomain=N
 *
 * An answer to a POST is {"answer": "now", "message": "..."}; an error is {"error": {"code": "Conflict", "message": "..."}}. The socket is bound and connected
 * to by way of /proc/self/fd, so that the depth of ROOT does not matter. Root, and the user whom the process is of, are let in.
 */
#pragma once

#include "orchestrator/executor.h"

#define VR_CONTROL_SOCKET "control"

typedef struct VrControlServer VrControlServer;

/* Listens for the run of an executor, which outlives the server. dir_fd: ROOT/run/SET. A socket that is there already is of a process that is gone: the caller owns
 * the set. */
VrControlServer *vr_control_server_new(int dir_fd, const VrRun *run, VrExecutor *executor, GError **error);

/* Requests that are under way are answered first. */
void vr_control_server_free(VrControlServer *server);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrControlServer, vr_control_server_free)

/* Says `type` (as vr_executor_control()) to the process that listens in dir_fd. *text: its words, free with g_free. VR_ERROR_CONFLICT: it does not fit;
 * VR_ERROR_DISCONNECTED: nobody listens; VR_ERROR_TIMEOUT: no answer in 10 s. */
gboolean vr_control_say(int dir_fd, const char *set_name, VrEventType type, guint domain, char **text, GError **error);

/* The state document of the process that listens; waits 2 s at most. Free with g_free. Errors as above. */
char *vr_control_look(int dir_fd, const char *set_name, GError **error);
