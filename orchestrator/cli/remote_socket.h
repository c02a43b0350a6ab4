/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The way to the daemon: which socket, whose, and the HTTP request that turns a connection into that of a command. */
#pragma once

#include "orchestrator/cli/cli.h"

typedef enum {
    VR_REMOTE_SOCKET_READY,   /* the connection is a command's */
    VR_REMOTE_SOCKET_NONE,    /* there is no daemon, or it does not serve us */
    VR_REMOTE_SOCKET_OTHER,   /* it serves another libvirt, or another store */
    VR_REMOTE_SOCKET_SILENT,  /* there is one that does not answer */
    VR_REMOTE_SOCKET_REFUSED, /* it says why it does not */
} VrRemoteSocket;

/* READY: *fd is the caller's, and *read_only says that it came by the socket for everybody. REFUSED: *message is printable; free with g_free. Returns by until_ms of the boot-time clock. */
VrRemoteSocket vr_remote_socket_open(const VrCli *cli, gint64 until_ms, int *fd, gboolean *read_only, char **message);

/* Whether there is one that serves the libvirt and the store of cli, as the socket for everybody has it; nothing is asked of it. READY also where it is busy. */
VrRemoteSocket vr_remote_socket_look(const VrCli *cli, gint64 until_ms);
