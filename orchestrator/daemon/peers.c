/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/daemon/peers.h"

#include <errno.h>
#include <sys/socket.h>

#define GROUPS_AT_FIRST 32

struct VrPeers {
    uid_t own;
    guint total[2];        /* by read_only */
    GHashTable *by_uid[2]; /* uid -> count, both in pointers */
};

VrPeers *vr_peers_new(uid_t own)
{
    VrPeers *peers = g_new0(VrPeers, 1);

    peers->own = own;
    for (guint i = 0; i < G_N_ELEMENTS(peers->by_uid); i++)
        peers->by_uid[i] = g_hash_table_new(NULL, NULL);
    return peers;
}

void vr_peers_free(VrPeers *peers)
{
    if (!peers)
        return;
    for (guint i = 0; i < G_N_ELEMENTS(peers->by_uid); i++)
        g_hash_table_unref(peers->by_uid[i]);
    g_free(peers);
}

gboolean vr_peer_read(int fd, VrPeer *peer)
{
    struct ucred credentials;
    socklen_t length = sizeof credentials;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length) < 0)
        return FALSE;
    *peer = (VrPeer){.fd = fd, .uid = credentials.uid, .gid = credentials.gid, .pid = credentials.pid};
    return TRUE;
}

/* Supplementary groups as they were when the peer connected. */
static gboolean has_group(const VrPeer *peer, gid_t group)
{
    socklen_t length = GROUPS_AT_FIRST * sizeof(gid_t);
    g_autofree gid_t *groups = g_malloc(length);

    if (peer->gid == group)
        return TRUE;
    if (getsockopt(peer->fd, SOL_SOCKET, SO_PEERGROUPS, groups, &length) < 0) {
        if (errno != ERANGE)
            return FALSE;
        groups = g_realloc(groups, length); /* the kernel has said how much */
        if (getsockopt(peer->fd, SOL_SOCKET, SO_PEERGROUPS, groups, &length) < 0)
            return FALSE;
    }
    for (gsize i = 0; i < length / sizeof(gid_t); i++)
        if (groups[i] == group)
            return TRUE;
    return FALSE;
}

static gboolean is_privileged(const VrPeers *peers, const VrPeer *peer)
{
    return peer->uid == 0 || peer->uid == peers->own;
}

gboolean vr_peer_may(const VrPeers *peers, const VrPeer *peer, gid_t group)
{
    return peer->read_only || is_privileged(peers, peer) || (group != 0 && has_group(peer, group));
}

static guint count_of(const VrPeers *peers, const VrPeer *peer)
{
    return GPOINTER_TO_UINT(g_hash_table_lookup(peers->by_uid[!!peer->read_only], GUINT_TO_POINTER(peer->uid)));
}

gboolean vr_peers_add(VrPeers *peers, const VrPeer *peer)
{
    guint of_uid = count_of(peers, peer);
    guint *total = &peers->total[!!peer->read_only];
    gboolean privileged = is_privileged(peers, peer);

    if (*total >= VR_PEERS_PER_SOCKET + (privileged ? VR_PEERS_RESERVE : 0))
        return FALSE;
    if (of_uid >= VR_PEERS_PER_UID + (privileged ? VR_PEERS_RESERVE : 0))
        return FALSE;
    (*total)++;
    g_hash_table_insert(peers->by_uid[!!peer->read_only], GUINT_TO_POINTER(peer->uid), GUINT_TO_POINTER(of_uid + 1));
    return TRUE;
}

void vr_peers_remove(VrPeers *peers, const VrPeer *peer)
{
    guint of_uid = count_of(peers, peer);
    GHashTable *table = peers->by_uid[!!peer->read_only];

    g_return_if_fail(of_uid > 0);
    peers->total[!!peer->read_only]--;
    if (of_uid == 1)
        g_hash_table_remove(table, GUINT_TO_POINTER(peer->uid));
    else
        g_hash_table_insert(table, GUINT_TO_POINTER(peer->uid), GUINT_TO_POINTER(of_uid - 1));
}

guint vr_peers_count(const VrPeers *peers)
{
    return peers->total[0] + peers->total[1];
}
