/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who is let in, and how many of them (K3, SAFETY 32). */
#include "orchestrator/daemon/peers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <grp.h>
#include <sys/socket.h>
#include <unistd.h>

#define ME 1000u
#define OTHER 2000u
#define GROUP 77u

static VrPeer peer_of(uid_t uid, gboolean read_only)
{
    return (VrPeer){.fd = -1, .uid = uid, .gid = uid, .pid = 1, .read_only = read_only};
}

static guint fill(VrPeers *peers, uid_t uid, gboolean read_only)
{
    const VrPeer peer = peer_of(uid, read_only);
    guint n = 0;

    while (n < 10000 && vr_peers_add(peers, &peer))
        n++;
    return n;
}

static void one_user_has_his_share_of_each_socket(void **state)
{
    g_autoptr(VrPeers) peers = vr_peers_new(ME);

    assert_int_equal(fill(peers, OTHER, FALSE), VR_PEERS_PER_UID);
    assert_int_equal(fill(peers, OTHER, TRUE), VR_PEERS_PER_UID);
    assert_int_equal(fill(peers, OTHER + 1, TRUE), VR_PEERS_PER_UID);
    assert_int_equal(vr_peers_count(peers), 3 * VR_PEERS_PER_UID);
}

static void all_users_together_leave_room_for_root(void **state)
{
    g_autoptr(VrPeers) peers = vr_peers_new(ME);
    guint total = 0;

    for (uid_t uid = 5000; uid < 5020; uid++)
        total += fill(peers, uid, TRUE);
    assert_int_equal(total, VR_PEERS_PER_SOCKET);
    assert_int_equal(fill(peers, 0, TRUE), VR_PEERS_RESERVE);
    assert_int_equal(fill(peers, ME, TRUE), 0); /* root has it all */
    assert_int_equal(fill(peers, 0, FALSE), VR_PEERS_PER_UID + VR_PEERS_RESERVE);
}

static void the_daemons_own_user_has_the_reserve_too(void **state)
{
    g_autoptr(VrPeers) peers = vr_peers_new(ME);

    for (uid_t uid = 5000; uid < 5020; uid++)
        fill(peers, uid, TRUE);
    assert_int_equal(fill(peers, ME, TRUE), VR_PEERS_RESERVE);
}

static void who_goes_makes_room(void **state)
{
    g_autoptr(VrPeers) peers = vr_peers_new(ME);
    const VrPeer peer = peer_of(OTHER, TRUE);

    for (guint round = 0; round < 3; round++) {
        assert_int_equal(fill(peers, OTHER, TRUE), round ? 1 : VR_PEERS_PER_UID);
        vr_peers_remove(peers, &peer);
    }
    for (guint i = 1; i < VR_PEERS_PER_UID; i++)
        vr_peers_remove(peers, &peer);
    assert_int_equal(vr_peers_count(peers), 0);
    assert_int_equal(fill(peers, OTHER, TRUE), VR_PEERS_PER_UID);
}

static void a_socket_that_reads_is_for_everybody_and_the_other_is_not(void **state)
{
    g_autoptr(VrPeers) peers = vr_peers_new(ME);
    VrPeer stranger = peer_of(OTHER, TRUE), me = peer_of(ME, FALSE), root = peer_of(0, FALSE);

    assert_true(vr_peer_may(peers, &stranger, 0));
    stranger.read_only = FALSE;
    assert_false(vr_peer_may(peers, &stranger, 0));
    assert_false(vr_peer_may(peers, &stranger, GROUP));
    assert_true(vr_peer_may(peers, &me, 0));
    assert_true(vr_peer_may(peers, &root, 0));
    stranger.gid = GROUP;
    assert_true(vr_peer_may(peers, &stranger, GROUP));
    stranger.gid = 0; /* root's group is not root */
    assert_false(vr_peer_may(peers, &stranger, 0));
}

/* Against the kernel: this process is the peer of its own socket. */
static void supplementary_groups_are_the_kernels_word(void **state)
{
    g_autoptr(VrPeers) peers = vr_peers_new(ME);
    gid_t before[64], groups[40];
    int n_before = getgroups(64, before), ends[2];
    VrPeer peer;

    if (geteuid() != 0 || n_before < 0)
        skip();
    for (guint i = 0; i < G_N_ELEMENTS(groups); i++) /* more than are asked for at first */
        groups[i] = 9000 + i;
    assert_int_equal(setgroups(G_N_ELEMENTS(groups), groups), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    assert_int_equal(setgroups((size_t)n_before, before), 0);
    assert_true(vr_peer_read(ends[0], &peer));
    assert_int_equal(peer.uid, 0);
    assert_int_equal(peer.pid, getpid());
    peer.uid = OTHER; /* as if it were not root's */
    assert_true(vr_peer_may(peers, &peer, 9039));
    assert_false(vr_peer_may(peers, &peer, 9040));
    close(ends[0]);
    close(ends[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_user_has_his_share_of_each_socket),
        cmocka_unit_test(all_users_together_leave_room_for_root),
        cmocka_unit_test(the_daemons_own_user_has_the_reserve_too),
        cmocka_unit_test(who_goes_makes_room),
        cmocka_unit_test(a_socket_that_reads_is_for_everybody_and_the_other_is_not),
        cmocka_unit_test(supplementary_groups_are_the_kernels_word),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
