/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The kill sweep of gc (rows B4, B17; SAFETY S14): a process is ended before and after each call of the hypervisor and within each journal write
 * of a deletion. The next one recovers and collects again: the disk is then gone, or was kept whole all the time, and the guest and what it can
 * go back to are as they were.
 */
#include "engine/retention.h"
#include "engine/retire.h"
#include "fault/cuts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* Of what the default retention does not keep; ends with the first that cannot be asked. */
static void collect(World *world)
{
    const VrRetention one = {.generations = 1, .max_age_ms = 86400000, .failed_disks = 0};
    g_autoptr(GPtrArray) all = vr_journal_generations(world->journal, FAKE_UUID, NULL);
    g_autoptr(VrInUse) in_use = vr_in_use_read(world->store, &world->fake->hv, world->journal, NULL);
    const VrRetireCheck check = {.in_use = in_use};
    g_autoptr(GPtrArray) verdicts = NULL;
    VrRetentionFacts facts;

    assert_true(vr_retention_facts(world->journal, "shop", FAKE_UUID, all, &facts, NULL));
    verdicts = vr_retention_judge(all, &one, &facts);
    for (guint i = 0; i < verdicts->len; i++) {
        const VrVerdict *verdict = g_ptr_array_index(verdicts, i);
        if (verdict->goes)
            vr_retire(&world->engine, verdict->generation, &check, verdict->why, NULL);
    }
}

static gboolean is_there(World *world, guint number, const char *suffix)
{
    g_autofree char *name = g_strdup_printf("g%u.%s", number, suffix);
    g_autofree char *path = g_build_filename(world->root, "disks", FAKE_UUID, name, NULL);

    return g_file_test(path, G_FILE_TEST_EXISTS);
}

/* Whatever has a state that says so is there; nothing is half there but what is GOING. */
static void check_files(World *world)
{
    g_autoptr(GPtrArray) all = vr_journal_generations(world->journal, FAKE_UUID, NULL);

    for (guint i = 0; i < all->len; i++) {
        const VrGeneration *generation = g_ptr_array_index(all, i);
        if (!generation->ours || generation->state == VR_GENERATION_GOING)
            continue;
        assert_int_equal(is_there(world, generation->number, "qcow2"), generation->state != VR_GENERATION_DELETED);
        assert_int_equal(is_there(world, generation->number, "xml"), generation->state != VR_GENERATION_DELETED);
    }
    assert_true(g_file_test(world->old_path, G_FILE_TEST_EXISTS));
}

static void recover(World *world)
{
    g_autoptr(GPtrArray) recovered = vr_recover(&world->engine, FALSE, NULL);

    assert_non_null(recovered);
    assert_int_equal(recovered->len, 0);
}

static guint sweep(CutKind kind)
{
    for (guint at = 1;; at++) {
        g_autoptr(World) world = world_new(TRUE);

        for (guint i = 0; i < 4; i++)
            world_swap(world, -1);
        if (!cut_in(world, collect, kind, at))
            return at - 1;
        check_files(world);
        world_check(world, TRUE);
        recover(world);
        check_files(world);
        collect(world);
        check_files(world);
        assert_false(is_there(world, 1, "qcow2") || is_there(world, 2, "qcow2"));
        world_check(world, TRUE);
        world_swap(world, 3); /* what it goes back to is untouched */
        world_check(world, TRUE);
    }
}

static void test_kill_in_gc(void **state)
{
    guint cuts = 0;

    for (CutKind kind = 0; kind < CUT_KINDS; kind++) {
        guint fired = sweep(kind);
        print_message("gc, kind %d: %u cuts\n", kind, fired);
        assert_true(fired >= 3);
        cuts += fired;
    }
    print_message("%u cuts, no violation\n", cuts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_kill_in_gc)};

    cut_install_clock();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
