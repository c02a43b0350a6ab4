/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* J9: sums over all runs of a set. */
#include "engine/support.h"

#include "base/clock.h"
#include "orchestrator/registry.h"
#include "orchestrator/tallies.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static World *new_world(void)
{
    World *world = world_new(TRUE);

    assert_true(vr_registry_init(vr_journal_db(world->journal), NULL));
    return world;
}

static void end_run(World *world, VrRun *run, VrRunStatus status)
{
    run->status = status;
    run->completed_us = vr_clock_wall_us();
    assert_true(vr_history_end(world->journal, world->owner, run, NULL));
}

static VrRun *begin_run(World *world, VrRunKind kind)
{
    VrRun *run = g_new0(VrRun, 1);

    run->set_name = g_strdup(world->owner->set_name);
    run->kind = kind;
    run->started_by = g_strdup("ada");
    run->instances = vr_run_instances_new();
    assert_true(vr_history_begin(world->journal, world->owner, run, NULL));
    return run;
}

static void change(World *world, const char *sql)
{
    VrDb *db = vr_journal_db(world->journal);

    assert_true(vr_db_begin(db, NULL));
    assert_true(vr_db_run(db, NULL, NULL, sql, ""));
    assert_true(vr_db_commit(db, NULL));
}

static VrTallies read_tallies(World *world)
{
    VrDb *db = vr_journal_db(world->journal);
    g_autoptr(GError) error = NULL;
    VrTallies tallies;

    assert_true(vr_db_begin_read(db, NULL));
    vr_tallies_read(world->journal, world->owner->set_name, &tallies, &error);
    g_assert_no_error(error);
    vr_db_rollback(db);
    return tallies;
}

static guint64 count_of(const VrTally *tally)
{
    guint64 count = 0;

    for (guint i = 0; i <= VR_TALLY_BOUNDS; i++)
        count += tally->counts[i];
    return count;
}

/* A swap with steps at these times; the last one ends it in `state`. */
static void add_swap(World *world, const char *run_id, int number, VrSwapState state, const char *const *names,
                     const gint64 *times)
{
    VrDb *db = vr_journal_db(world->journal);
    g_autofree char *id = g_strdup_printf("swap-%d", number);

    assert_true(vr_db_begin(db, NULL));
    assert_true(vr_db_run(db, NULL, NULL,
                          "INSERT INTO swaps (id, run_id, set_name, domain, uuid, os_target, rollback, from_number, "
                          "to_number, state, reached, backward, was_running) VALUES (?1, ?2, ?3, 'd', ?1, 'vda', 0, 0, "
                          "1, ?4, ?4, 0, 1)",
                          "sssi", id, run_id, world->owner->set_name, (gint64)state));
    for (guint i = 0; names[i]; i++)
        assert_true(vr_db_run(db, NULL, NULL,
                              "INSERT INTO steps (swap_id, name, at_us, at_ms, boot_id) VALUES (?, ?, 0, ?, 'b')",
                              "ssi", id, names[i], times[i]));
    assert_true(vr_db_commit(db, NULL));
}

static const char *const whole[] = {"begin",       "PREPARED", "stop-asked", "off",     "STOPPED",   "SWITCHED",
                                    "start-asked", "running",  "STARTED",    "healthy", "COMMITTED", NULL};

/* Each span lies under the smallest bound that it does not exceed, and one that is over all of them is counted too. */
static void test_bounds(void **state)
{
    static const gint64 fast[] = {0, 100, 1000, 1101, 1101, 1101, 1101, 2101, 2101, 2102, 2103};
    static const gint64 slow[] = {0,       1800001, 1800001, 1800002, 1800002, 1800002,
                                  1800002, 1800003, 1800003, 1800004, 1800005};
    g_autoptr(World) world = new_world();
    g_autoptr(VrRun) run = begin_run(world, VR_RUN_UPGRADE);
    VrTallies tallies;

    add_swap(world, run->id, 1, VR_SWAP_COMMITTED, whole, fast);
    add_swap(world, run->id, 2, VR_SWAP_COMMITTED, whole, slow);
    tallies = read_tallies(world);
    assert_int_equal(count_of(&tallies.spans[VR_SPAN_PREPARE]), 0); /* not before its run has ended */
    end_run(world, run, VR_RUN_COMPLETED);
    tallies = read_tallies(world);
    assert_int_equal(tallies.runs[VR_RUN_UPGRADE][VR_RUN_COMPLETED], 1);
    assert_int_equal(tallies.spans[VR_SPAN_PREPARE].counts[0], 1);
    assert_int_equal(tallies.spans[VR_SPAN_PREPARE].counts[VR_TALLY_BOUNDS], 1);
    assert_int_equal(tallies.spans[VR_SPAN_PREPARE].sum_ms, 1800101);
    assert_int_equal(tallies.spans[VR_SPAN_STOP].counts[1], 1); /* 101 ms */
    assert_int_equal(tallies.spans[VR_SPAN_OFF].counts[3], 1);  /* 1000 ms */
    assert_int_equal(tallies.spans[VR_SPAN_OFF].counts[0], 1);
    assert_int_equal(tallies.spans[VR_SPAN_OS_DOWN].sum_ms, 1102 + 3);
    assert_int_equal(count_of(&tallies.spans[VR_SPAN_OFF_RESTORED]), 0);
}

static void test_restored(void **state)
{
    static const char *const back[] = {"begin",     "PREPARED", "stop-asked", "off", "STOPPED",
                                       "start-old", "running",  "UNDONE",     NULL};
    static const gint64 times[] = {0, 10, 10, 20, 20, 30, 5020, 5030};
    g_autoptr(World) world = new_world();
    g_autoptr(VrRun) run = begin_run(world, VR_RUN_UPGRADE);
    VrTallies tallies;

    add_swap(world, run->id, 1, VR_SWAP_UNDONE, back, times);
    add_swap(world, run->id, 2, VR_SWAP_DISCARDED, back, times);
    end_run(world, run, VR_RUN_FAULTED);
    tallies = read_tallies(world);
    assert_int_equal(tallies.runs[VR_RUN_UPGRADE][VR_RUN_FAULTED], 1);
    assert_int_equal(tallies.spans[VR_SPAN_OFF_RESTORED].counts[5], 1);
    assert_int_equal(tallies.spans[VR_SPAN_OFF_RESTORED].sum_ms, 5000);
    for (guint i = 0; i < VR_SPAN_OFF_RESTORED; i++)
        assert_int_equal(count_of(&tallies.spans[i]), 0);
}

/* The same, whether they are read from the history or from the sums, and whether the history is there or not. */
static void test_kept(void **state)
{
    static const VrHistoryRetention none = {.runs = 0, .max_age_ms = 0};
    g_autoptr(World) world = new_world();
    g_autoptr(VrRun) first = begin_run(world, VR_RUN_REIMAGE);
    VrTallies sums, fresh, after;
    guint forgotten = 0;

    world_swap_in_run(world, -1, first->id);
    end_run(world, first, VR_RUN_COMPLETED);
    for (guint i = 0; i < 3; i++) {
        g_autoptr(VrRun) run = begin_run(world, i == 2 ? VR_RUN_ROLLBACK : VR_RUN_REIMAGE);
        world_swap_in_run(world, i == 2 ? 1 : -1, run->id);
        end_run(world, run, i == 1 ? VR_RUN_CANCELLED : VR_RUN_COMPLETED);
    }
    sums = read_tallies(world);
    assert_int_equal(sums.runs[VR_RUN_REIMAGE][VR_RUN_COMPLETED], 2);
    assert_int_equal(sums.runs[VR_RUN_REIMAGE][VR_RUN_CANCELLED], 1);
    assert_int_equal(sums.runs[VR_RUN_ROLLBACK][VR_RUN_COMPLETED], 1);
    assert_int_equal(count_of(&sums.spans[VR_SPAN_OFF]), 4);
    change(world, "DELETE FROM run_tallies");
    change(world, "DELETE FROM span_tallies");
    change(world, "UPDATE runs SET tallied = 0");
    fresh = read_tallies(world);
    assert_memory_equal(&fresh, &sums, sizeof(sums));
    /* To forget them is to add them first. */
    assert_true(vr_history_prune(world->journal, world->owner, &none, &forgotten, NULL));
    assert_true(forgotten > 0);
    after = read_tallies(world);
    assert_memory_equal(&after, &sums, sizeof(sums));
}

/* A process that was killed left its run open; recovery closes it without its sums. */
static void test_closed_by_recovery(void **state)
{
    g_autoptr(World) world = new_world();
    g_autoptr(VrRun) killed = begin_run(world, VR_RUN_UPGRADE), next = NULL;
    VrTallies tallies;

    assert_true(vr_history_close_open(world->journal, world->owner, VR_CODE_INTERNAL, "killed", NULL, NULL));
    tallies = read_tallies(world);
    assert_int_equal(tallies.runs[VR_RUN_UPGRADE][VR_RUN_FAULTED], 1);
    next = begin_run(world, VR_RUN_UPGRADE);
    end_run(world, next, VR_RUN_COMPLETED);
    for (guint i = 0; i < 2; i++) { /* read twice: to read adds nothing */
        tallies = read_tallies(world);
        assert_int_equal(tallies.runs[VR_RUN_UPGRADE][VR_RUN_FAULTED], 1);
        assert_int_equal(tallies.runs[VR_RUN_UPGRADE][VR_RUN_COMPLETED], 1);
    }
}

/* Of a set with another name nothing is added. */
static void test_other_set(void **state)
{
    g_autoptr(World) world = new_world();
    g_autoptr(VrRun) run = begin_run(world, VR_RUN_UPGRADE);
    VrTallies tallies;

    end_run(world, run, VR_RUN_COMPLETED);
    change(world, "UPDATE runs SET set_name = 'other', tallied = 0");
    change(world, "UPDATE run_tallies SET set_name = 'other'");
    tallies = read_tallies(world);
    assert_int_equal(tallies.runs[VR_RUN_UPGRADE][VR_RUN_COMPLETED], 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_bounds), cmocka_unit_test(test_restored),
                                       cmocka_unit_test(test_kept), cmocka_unit_test(test_closed_by_recovery),
                                       cmocka_unit_test(test_other_set)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
