/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The kill sweep, first part (rows B14, B17): a process is ended before and after each hypervisor call, and before each journal
 * write, of a forward swap, a swap with its undo, and a rollback. Then a new process recovers, and every invariant is
 * checked; then a third, which finds nothing to do. A second sweep ends the recovery as well, a third the copy of a full clone (B6).
 */
#include "fault/cuts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static void recover(World *world)
{
    world_recover_once(world);
}

/* --- what is killed ---------------------------------------------------------------------------------- */

static void scenario_forward(World *world)
{
    world_swap(world, -1);
}

static void scenario_undo(World *world)
{
    g_autoptr(VrSwap) swap = world_begin(world, -1, NULL);

    vr_swap_advance(swap, VR_SWAP_STARTED, &world_stop, NULL);
    vr_swap_undo(swap, "not healthy", NULL);
}

static void scenario_rollback(World *world)
{
    world_swap(world, 1);
}

static void scenario_full_clone(World *world)
{
    world->full = TRUE;
    world_swap(world, -1);
}

static void prepare_two(World *world)
{
    world_swap(world, -1);
    world_swap(world, -1);
}

static const struct {
    const char *name;
    gboolean running;
    void (*before)(World *world);
    void (*act)(World *world);
    const char *uefi; /* what its <os> has; NULL: a BIOS guest */
} scenarios[] = {
    {"forward", TRUE, NULL, scenario_forward},
    {"forward, off", FALSE, NULL, scenario_forward},
    {"undo", TRUE, NULL, scenario_undo},
    {"rollback", TRUE, prepare_two, scenario_rollback},
    {"UEFI", TRUE, NULL, scenario_forward, WORLD_NVRAM},
    {"UEFI, undo", TRUE, NULL, scenario_undo, WORLD_NVRAM},
    {"UEFI, rollback", TRUE, prepare_two, scenario_rollback, WORLD_NVRAM},
    {"UEFI, off, libvirt chooses the file", FALSE, NULL, scenario_forward, WORLD_LOADER},
    {"full clone", TRUE, NULL, scenario_full_clone},
};

static World *world_for(guint scenario)
{
    const char *uefi = scenarios[scenario].uefi;
    World *world =
        uefi ? world_new_uefi(scenarios[scenario].running, uefi, FALSE) : world_new(scenarios[scenario].running);

    if (scenarios[scenario].before)
        scenarios[scenario].before(world);
    return world;
}

static gboolean is_swept(World *world)
{
    g_autoptr(GPtrArray) names = vr_store_children(world->store, "disks/" FAKE_UUID, NULL);
    gboolean swept = names != NULL;

    for (guint i = 0; swept && i < names->len; i++)
        swept = !g_str_has_prefix(names->pdata[i], ".tmp-");
    return swept;
}

static void check_after(World *world, guint scenario)
{
    g_autoptr(GPtrArray) open = NULL;

    assert_true(is_swept(world));

    world_check(world, TRUE);
    assert_int_equal(fake_hv_state(world->fake), scenarios[scenario].running ? VR_DOMAIN_RUNNING : VR_DOMAIN_OFF);
    open = vr_recover(&world->engine, FALSE, NULL); /* converged: a second run finds nothing */
    assert_int_equal(open->len, 0);
}

/* VR_FULL=1: each cut; else every third, beginning with the one that VR_SEED names. Returns how many fired. */
static guint sweep(guint scenario, CutKind kind, guint stride)
{
    const char *seed = g_getenv("VR_SEED");
    gboolean all = g_strcmp0(g_getenv("VR_FULL"), "1") == 0;
    guint fired = 0;

    for (guint at = 1 + (all || !seed ? 0 : (guint)atoi(seed) % stride);; at += all ? 1 : stride) {
        g_autoptr(World) world = world_for(scenario);
        if (!cut_in(world, scenarios[scenario].act, kind, at))
            return fired;
        fired++;
        world_check(world, FALSE);
        recover(world);
        check_after(world, scenario);
    }
}

static void test_kill_once(void **state)
{
    guint cuts = 0;

    for (guint scenario = 0; scenario < G_N_ELEMENTS(scenarios); scenario++) {
        for (CutKind kind = 0; kind < CUT_KINDS; kind++) {
            guint fired = sweep(scenario, kind, 3);
            print_message("%s, kind %d: %u cuts\n", scenarios[scenario].name, kind, fired);
            assert_true(fired >= 2);
            cuts += fired;
        }
    }
    print_message("%u cuts, no violation\n", cuts);
}

/* Every third first cut, then every second cut of its recovery. */
static void test_kill_twice(void **state)
{
    guint cuts = 0;

    for (guint at = 2;; at += 3) {
        for (guint again = 1;; again += 2) {
            g_autoptr(World) world = world_for(0);
            if (!cut_in(world, scenario_forward, CUT_AFTER_CALL, at)) {
                print_message("%u double cuts, no violation\n", cuts);
                assert_true(cuts > 5);
                return;
            }
            if (!cut_in(world, recover, CUT_AFTER_CALL, again))
                break;
            cuts++;
            recover(world);
            check_after(world, 0);
        }
    }
}

/* Nothing of what was copied is left, and the guest is on its old disk. */
static void test_kill_in_copy(void **state)
{
    guint fired = sweep(G_N_ELEMENTS(scenarios) - 1, CUT_IN_COPY, 1);

    print_message("full clone, in the copy: %u cuts\n", fired);
    assert_true(fired >= 3);
}

/* The process ends in the copy, and somebody takes the name before the recovery: the file stays (invariant 7). */
static void test_kill_in_copy_name_taken(void **state)
{
    g_autoptr(World) world = world_for(G_N_ELEMENTS(scenarios) - 1);
    g_autofree char *path = g_build_filename(world->root, "disks", FAKE_UUID, "g1.qcow2", NULL);
    g_autofree char *text = NULL;

    assert_true(cut_in(world, scenario_full_clone, CUT_IN_COPY, 1));
    assert_true(g_file_set_contents(path, "precious", -1, NULL));
    recover(world);
    assert_true(is_swept(world));
    assert_true(g_file_get_contents(path, &text, NULL, NULL));
    assert_string_equal(text, "precious");
    assert_int_equal(world_current(world), 0);
    assert_int_equal(fake_hv_state(world->fake), VR_DOMAIN_RUNNING);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kill_once),
        cmocka_unit_test(test_kill_twice),
        cmocka_unit_test(test_kill_in_copy),
        cmocka_unit_test(test_kill_in_copy_name_taken),
    };

    cut_install_clock();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
