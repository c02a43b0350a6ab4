/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* J1, decision 10: history goes by count and age, but never what somebody still needs. */
#include "engine/support.h"

#include "base/clock.h"
#include "base/error.h"
#include "orchestrator/extension_results.h"
#include "orchestrator/history.h"
#include "orchestrator/registry.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define DAY_US (G_GINT64_CONSTANT(86400) * G_USEC_PER_SEC)

static const VrHistoryRetention five = {.runs = 5, .max_age_ms = DAY_US / 1000 * 100};

static World *new_world(void)
{
    World *world = world_new(TRUE);

    assert_true(vr_registry_init(vr_journal_db(world->journal), NULL));
    return world;
}

static gint64 count(World *world, const char *what, const char *argument)
{
    VrDb *db = vr_journal_db(world->journal);
    g_autofree char *sql = g_strdup_printf("SELECT COUNT(*) FROM %s", what);
    gint64 number;

    assert_true(vr_db_begin(db, NULL));
    {
        g_autoptr(sqlite3_stmt) stmt = vr_db_prepare(db, NULL, sql, "s", argument);
        assert_int_equal(vr_db_step(db, stmt, NULL), 1);
        number = sqlite3_column_int64(stmt, 0);
    }
    vr_db_rollback(db);
    return number;
}

static char *begin_run(World *world, VrRunKind kind, const char *version)
{
    g_autoptr(VrRun) run = g_new0(VrRun, 1);
    VrRunInstance *instance = g_new0(VrRunInstance, 1);

    run->set_name = g_strdup(world->owner->set_name);
    run->kind = kind;
    run->image = version ? g_strdup("os") : NULL;
    run->version = g_strdup(version);
    run->started_by = g_strdup("ada");
    run->instances = vr_run_instances_new();
    g_strlcpy(instance->uuid, FAKE_UUID, sizeof(instance->uuid));
    instance->domain = g_strdup("fake");
    g_ptr_array_add(run->instances, instance);
    assert_true(vr_history_begin(world->journal, world->owner, run, NULL));
    assert_true(vr_journal_event(world->journal, world->owner, run->id, NULL, "run-begin", NULL, NULL));
    return g_steal_pointer(&run->id);
}

static void end_run(World *world, const char *id, VrRunStatus status, const char *code, guint days_ago)
{
    VrRun run = {.id = (char *)id,
                 .status = status,
                 .completed_us = vr_clock_wall_us() - days_ago * DAY_US,
                 .error_code = (char *)code};

    assert_true(vr_history_end(world->journal, world->owner, &run, NULL));
}

/* A run that moved nobody; free with g_free. */
static char *run_of(World *world, VrRunKind kind, const char *version, VrRunStatus status, const char *code,
                    guint days_ago)
{
    char *id = begin_run(world, kind, version);

    end_run(world, id, status, code, days_ago);
    return id;
}

/* One that moved its instance, forward (-1) or to a kept generation. */
static char *moving_run(World *world, int to_generation, guint days_ago)
{
    char *id =
        begin_run(world, to_generation < 0 ? VR_RUN_UPGRADE : VR_RUN_ROLLBACK, to_generation < 0 ? "2.0.0" : NULL);

    world_swap_in_run(world, to_generation, id);
    end_run(world, id, VR_RUN_COMPLETED, NULL, days_ago);
    return id;
}

static void prune(World *world, guint expected)
{
    g_autoptr(GError) error = NULL;
    guint forgotten = 0;

    vr_history_prune(world->journal, world->owner, &five, &forgotten, &error);
    g_assert_no_error(error);
    assert_int_equal(forgotten, expected);
}

static gboolean is_there(World *world, const char *id)
{
    return count(world, "runs WHERE id = ?", id) == 1;
}

/* By the same digits within one second, as a host that begins many runs may draw them. */
static void test_ids(void **state)
{
    g_autoptr(World) world = new_world();
    g_autofree char *one = NULL, *other = NULL;

    g_random_set_seed(7);
    one = run_of(world, VR_RUN_REIMAGE, "2.0.0", VR_RUN_COMPLETED, NULL, 0);
    g_random_set_seed(7);
    other = run_of(world, VR_RUN_REIMAGE, "2.0.0", VR_RUN_COMPLETED, NULL, 0);
    assert_string_not_equal(one, other);
}

static void test_by_count(void **state)
{
    g_autoptr(World) world = new_world();
    g_auto(GStrv) ids = g_new0(char *, 9);

    for (guint i = 0; i < 5; i++)
        ids[i] = run_of(world, VR_RUN_REIMAGE, "2.0.0", VR_RUN_COMPLETED, NULL, 0);
    prune(world, 0);
    assert_int_equal(count(world, "events WHERE kind = ?", "history-pruned"), 0);
    for (guint i = 5; i < 8; i++)
        ids[i] = run_of(world, VR_RUN_REIMAGE, "2.0.0", VR_RUN_COMPLETED, NULL, 0);
    prune(world, 3);
    for (guint i = 0; i < 8; i++)
        assert_int_equal(is_there(world, ids[i]), i >= 3);
    assert_int_equal(count(world, "run_instances WHERE run_id = ?", ids[0]), 0);
    assert_int_equal(count(world, "run_instances WHERE run_id = ?", ids[7]), 1);
    assert_int_equal(count(world, "events WHERE run_id = ?", ids[0]), 0);
    assert_int_equal(count(world, "events WHERE kind = ? AND text = '3'", "history-pruned"), 1); /* invariant 28 */
}

static void test_by_age(void **state)
{
    g_autoptr(World) world = new_world();
    g_autofree char *old = run_of(world, VR_RUN_REIMAGE, "2.0.0", VR_RUN_COMPLETED, NULL, 101);
    g_autofree char *young = run_of(world, VR_RUN_REIMAGE, "2.0.0", VR_RUN_COMPLETED, NULL, 99);

    prune(world, 1);
    assert_false(is_there(world, old));
    assert_true(is_there(world, young));
}

/* What 'history --azure' shows: five upgrades, whatever else ran since; not when they are older than two months. */
static void test_azure(void **state)
{
    g_autoptr(World) world = new_world();
    g_auto(GStrv) upgrades = g_new0(char *, 8);

    for (guint i = 0; i < 7; i++)
        upgrades[i] = run_of(world, VR_RUN_UPGRADE, "2.0.0", VR_RUN_COMPLETED, NULL, i == 2 ? 70 : 30 - i);
    for (guint i = 0; i < 6; i++) {
        g_autofree char *other = run_of(world, VR_RUN_REIMAGE, "2.0.0", VR_RUN_COMPLETED, NULL, 0);
    }
    prune(world, 4);
    for (guint i = 0; i < 7; i++)
        assert_int_equal(is_there(world, upgrades[i]), i > 2);
}

/* Other sets are no business of this owner's. */
static void test_other_sets(void **state)
{
    g_autoptr(World) world = new_world();
    g_autofree char *other = run_of(world, VR_RUN_REIMAGE, "2.0.0", VR_RUN_COMPLETED, NULL, 500);
    VrDb *db = vr_journal_db(world->journal);

    assert_true(vr_db_begin(db, NULL));
    assert_true(vr_db_run(db, NULL, NULL, "UPDATE runs SET set_name = 'other'", ""));
    assert_true(vr_db_commit(db, NULL));
    prune(world, 0);
    assert_true(is_there(world, other));
}

/* 'rollback --all' undoes the newest run forward that moved anything; a rollback is none. */
static void test_what_rollback_needs(void **state)
{
    g_autoptr(World) world = new_world();
    g_autofree char *first = moving_run(world, -1, 400), *second = moving_run(world, -1, 300);
    g_autofree char *back = moving_run(world, 1, 200), *there = moving_run(world, 2, 150);
    g_autofree char *idle = run_of(world, VR_RUN_UPGRADE, "2.0.0", VR_RUN_CANCELLED, NULL, 120);
    g_autoptr(GPtrArray) forward = NULL;

    prune(world, 4);
    assert_true(is_there(world, second));
    assert_false(is_there(world, first) || is_there(world, back) || is_there(world, there) || is_there(world, idle));
    /* generations 1 and 2 are current and kept: what each replaced is still known, with its times */
    forward = vr_journal_forward_swaps(world->journal, world->owner->set_name, NULL);
    assert_int_equal(forward->len, 2);
    for (guint i = 0; i < forward->len; i++) {
        const VrSwapRow *row = forward->pdata[i];
        assert_int_equal(row->from, i);
        assert_int_equal(row->to, i + 1);
        assert_true(count(world, "steps WHERE swap_id = ?", row->id) > 0);
    }
    /* the rollback to 1 is gone, the last swap of the instance is not */
    assert_int_equal(count(world, "swaps WHERE run_id = ?", back), 0);
    assert_int_equal(count(world, "swaps WHERE run_id = ?", there), 1);
    assert_int_equal(count(world, "steps WHERE swap_id NOT IN (SELECT id FROM swaps) AND ? IS NULL", NULL), 0);
    assert_int_equal(world_current(world), 2);
    world_swap(world, 1);
    world_check(world, FALSE);
}

/* A disk that is gone needs nobody to know what it replaced. */
static void test_discarded_generations(void **state)
{
    g_autoptr(World) world = new_world();
    g_autofree char *first = moving_run(world, -1, 400), *second = moving_run(world, -1, 300);
    VrDb *db = vr_journal_db(world->journal);

    assert_true(vr_db_begin(db, NULL));
    assert_true(vr_db_run(db, NULL, NULL, "UPDATE generations SET state = ? WHERE number = 1", "i",
                          (gint64)VR_GENERATION_DISCARDED));
    assert_true(vr_db_commit(db, NULL));
    prune(world, 1);
    assert_int_equal(count(world, "swaps WHERE run_id = ?", first), 0);
    assert_true(is_there(world, second));
}

/* Invariant 21: what failed on this set stays known. */
static void test_failed_versions(void **state)
{
    g_autoptr(World) world = new_world();
    g_autofree char *older = run_of(world, VR_RUN_UPGRADE, "3.0.0", VR_RUN_FAULTED, VR_CODE_UPGRADED, 400);
    g_autofree char *newest = run_of(world, VR_RUN_REIMAGE, "3.0.0", VR_RUN_FAULTED, VR_CODE_UPGRADED, 399);
    g_autofree char *another = run_of(world, VR_RUN_UPGRADE, "4.0.0", VR_RUN_FAULTED, VR_CODE_UPGRADED, 398);
    g_autofree char *killed = run_of(world, VR_RUN_UPGRADE, "3.0.0", VR_RUN_FAULTED, VR_CODE_INTERNAL, 397);
    g_autofree char *applied = run_of(world, VR_RUN_APPLY, "4.0.0", VR_RUN_FAULTED, VR_CODE_UPGRADED, 396);

    prune(world, 3);
    assert_false(is_there(world, older) || is_there(world, killed) || is_there(world, applied));
    assert_true(is_there(world, newest) && is_there(world, another));
}

static void test_open_runs_and_swaps(void **state)
{
    g_autoptr(World) world = new_world();
    g_autofree char *waits = begin_run(world, VR_RUN_UPGRADE, "2.0.0");
    g_autofree char *killed = run_of(world, VR_RUN_UPGRADE, "2.0.0", VR_RUN_CANCELLED, NULL, 400);
    g_autoptr(VrSwap) swap = world_begin(world, -1, NULL);
    VrDb *db = vr_journal_db(world->journal);

    assert_true(vr_db_begin(db, NULL));
    assert_true(vr_db_run(db, NULL, NULL, "UPDATE swaps SET run_id = ?", "s", killed));
    assert_true(vr_db_run(db, NULL, NULL, "UPDATE runs SET started_us = 1 WHERE id = ?", "s", waits));
    assert_true(vr_db_commit(db, NULL));
    prune(world, 0);
    assert_true(is_there(world, waits) && is_there(world, killed));
    assert_true(vr_swap_undo(swap, "test", NULL));
    prune(world, 1);
    assert_false(is_there(world, killed));
}

static void add_result(World *world, guint generation)
{
    const VrExtensionResult result = {
        .name = (char *)"app", .text = (char *)"succeeded", .status = VR_EXTENSION_SUCCEEDED};

    assert_true(vr_extension_result_write(world->journal, world->owner, FAKE_UUID, generation, 0, &result, NULL));
}

/* C3: what extensions did is kept for as long as the swap that they followed. */
static void test_results_of_extensions(void **state)
{
    g_autoptr(World) world = new_world();
    g_autofree char *first = moving_run(world, -1, 400), *second = moving_run(world, -1, 300);

    for (guint i = 0; i < 6; i++) {
        g_autofree char *other = run_of(world, VR_RUN_REIMAGE, "2.0.0", VR_RUN_COMPLETED, NULL, 0);
    }
    add_result(world, 1);
    add_result(world, 2);
    add_result(world, 7); /* of a swap that was forgotten */
    prune(world, 2);
    assert_false(is_there(world, first));
    assert_true(is_there(world, second)); /* rollback --all undoes it */
    assert_int_equal(count(world, "extensions WHERE name = ? AND generation IN (1, 2)", "app"), 2);
    assert_int_equal(count(world, "extensions WHERE name = ?", "app"), 2);
}

/* Who lost the set forgets nothing any more. */
static void test_fenced(void **state)
{
    g_autoptr(World) world = new_world();
    g_autofree char *old = run_of(world, VR_RUN_REIMAGE, "2.0.0", VR_RUN_COMPLETED, NULL, 400);
    g_autoptr(GError) error = NULL;

    world->owner->fence--;
    assert_false(vr_history_prune(world->journal, world->owner, &five, NULL, &error));
    assert_true(g_error_matches(error, VR_ERROR, VR_ERROR_FENCED));
    world->owner->fence++;
    assert_true(is_there(world, old));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ids),
        cmocka_unit_test(test_by_count),
        cmocka_unit_test(test_by_age),
        cmocka_unit_test(test_azure),
        cmocka_unit_test(test_other_sets),
        cmocka_unit_test(test_what_rollback_needs),
        cmocka_unit_test(test_discarded_generations),
        cmocka_unit_test(test_failed_versions),
        cmocka_unit_test(test_open_runs_and_swaps),
        cmocka_unit_test(test_results_of_extensions),
        cmocka_unit_test(test_fenced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
