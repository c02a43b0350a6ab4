/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A command that the daemon does for us. Where virt-reimaged serves the libvirt and the store that a command means, the command is run as a job of it, with
 * our own descriptors, directory and words: so the same bytes come out at the same places, with the same exit status, and who may not open the store
 * can still ask. Where there is no daemon, or not of these, or it does not answer within 5 s, the command is run here as if there had never been one.
 *
 * Once the daemon has said that the job runs there is no way back, or it could be done twice: when the daemon is gone then, the command fails and says
 * so. Until that line has come the daemon begins nothing for a connection that is closed.
 */
#pragma once

#include "orchestrator/cli/cli.h"

#define VR_REMOTE_SOCKET_DIR "/run/virt-reimage" /* or $VIRT_REIMAGE_SOCKET_DIR; that empty: never */
#define VR_REMOTE_PATIENCE_MS 5000

typedef enum { VR_REMOTE_ALONE, VR_REMOTE_DONE, VR_REMOTE_FAILED } VrRemote;

/* It is done by its own process whatever daemon there is. */
gboolean vr_remote_is_local(const VrCliCommand *command);

/* ALONE: the command is to be run here. DONE: it was run, and *status is its exit status. FAILED: error. Does not return when the job died of a signal that
 * we had passed on: so do we. */
VrRemote vr_remote_run(const VrCli *cli, int *status, GError **error);
