/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who is connected: what the kernel says of a peer (SO_PEERCRED, SO_PEERGROUPS), whom a socket lets in, and how many connections one user
 * and all of them may have. Counts only; no I/O but the two getsockopt() calls.
 */
#pragma once

#include <glib.h>
#include <sys/types.h>

#define VR_PEERS_PER_UID 32
#define VR_PEERS_PER_SOCKET 128
#define VR_PEERS_RESERVE 8 /* more for root and for the daemon's own user, on each socket */

typedef struct {
    int fd; /* of the connection; not owned */
    uid_t uid;
    gid_t gid;
    pid_t pid;
    gboolean read_only; /* came by the read-only socket */
} VrPeer;

typedef struct VrPeers VrPeers;

/* own: geteuid(), whose connections use the reserve as root's do. */
VrPeers *vr_peers_new(uid_t own);
void vr_peers_free(VrPeers *peers);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrPeers, vr_peers_free)

/* FALSE with errno: the kernel does not say. read_only is for the caller to set. */
gboolean vr_peer_read(int fd, VrPeer *peer);

/* A read-only socket lets in everybody; the other one root, our own user, and members of `group`, the group of the socket's file (0: of none). */
gboolean vr_peer_may(const VrPeers *peers, const VrPeer *peer, gid_t group);

/* Counts one connection more. FALSE: as many are open as may be, for this user or in all, and nothing was counted. */
gboolean vr_peers_add(VrPeers *peers, const VrPeer *peer);
void vr_peers_remove(VrPeers *peers, const VrPeer *peer);

/* Open connections on both sockets. */
guint vr_peers_count(const VrPeers *peers);
