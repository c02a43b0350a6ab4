/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * POST /commands: a command of the command line, with the descriptors of its terminal, run as a job of the daemon. docs/daemon.md has the
 * protocol. The connection is upgraded, and from then on belongs to commands.c until it closes it.
 */
#pragma once

#include "orchestrator/daemon/jobs.h"
#include "orchestrator/daemon/peers.h"

#include <microhttpd.h>

typedef struct VrCommands VrCommands;

VrCommands *vr_commands_new(VrJobs *jobs);

/* Closes what is open; the jobs go on, as they do when the daemon is killed. Before vr_jobs_free(), and before the HTTP server goes. */
void vr_commands_free(VrCommands *commands);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrCommands, vr_commands_free)

/* Queues the answer to a whole request for /commands: 101 and the upgrade, or an error. The connection's context is its VrRequest, and the deadline for
 * that is off already. */
enum MHD_Result vr_commands_answer(VrCommands *commands, struct MHD_Connection *connection);

/* Called whenever a connection was closed, of which the HTTP server does not hear by itself (vr_server_look()). */
void vr_commands_on_closed(VrCommands *commands, void (*closed)(void *data), void *data);

/* From now on 503 (the daemon stops). Commands that run go on. */
void vr_commands_stop(VrCommands *commands);
