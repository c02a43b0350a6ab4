/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which disks stay and which go (B4, B5), and that what is new is never mixed with files that the journal does not know. */
#include "engine/retention.h"
#include "engine/support.h"

#include "base/clock.h"
#include "base/error.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define DAY_US ((gint64)86400 * G_USEC_PER_SEC)

/* --- the verdicts ------------------------------------------------------------------------------------ */

static gint64 wall_days, boot_days;

static gint64 moved_wall_us(void *data)
{
    return g_get_real_time() + wall_days * DAY_US;
}

static gint64 moved_now_ms(void *data)
{
    struct timespec now;

    clock_gettime(CLOCK_BOOTTIME, &now);
    return (gint64)now.tv_sec * 1000 + now.tv_nsec / 1000000 + boot_days * 86400000;
}

/* "0f 1k20 2k3 3c": number, state, and for how many days it is that; f: found, not ours. */
static GPtrArray *generations_of(const char *text)
{
    GPtrArray *all = g_ptr_array_new_with_free_func((GDestroyNotify)vr_generation_free);
    g_auto(GStrv) words = g_strsplit(text, " ", 0);

    for (char **word = words; *word; word++) {
        VrGeneration *generation = g_new0(VrGeneration, 1);
        char *end = NULL;
        generation->number = (guint)strtoul(*word, &end, 10);
        generation->state = (VrGenerationState)(strchr("nckfdgx", *end == 'o' ? 'k' : *end) - "nckfdgx");
        generation->ours = *end != 'o';
        if (end[1])
            generation->left_us = vr_clock_wall_us() - (gint64)(atof(end + 1) * (double)DAY_US);
        g_ptr_array_add(all, generation);
    }
    return all;
}

/* The numbers that go. */
static char *those_that_go(const GPtrArray *verdicts)
{
    GString *text = g_string_new(NULL);

    for (guint i = 0; i < verdicts->len; i++) {
        const VrVerdict *verdict = g_ptr_array_index(verdicts, i);
        assert_non_null(verdict->why);
        if (verdict->goes)
            g_string_append_printf(text, "%s%u", text->len ? " " : "", verdict->generation->number);
    }
    return g_string_free(text, FALSE);
}

static void test_verdicts(void **state)
{
    const struct {
        const char *generations;
        VrRetention retention; /* max_age_ms in days */
        VrRetentionFacts facts;
        const char *go;
    } rows[] = {
        {"0o 1c", {2, 14, 1}, {FALSE, 0, 0}, ""},
        /* the last rollback target never goes, nor what is not ours */
        {"0o400 1k300 2c", {2, 14, 1}, {FALSE, 1, -1}, ""},
        {"0o400 1k300 2k20 3c", {2, 14, 1}, {FALSE, 2, -1}, "1"},
        /* by count, the last replaced stay */
        {"0o 1k4 2k3 3k2 4k1 5c", {2, 14, 1}, {FALSE, 4, -1}, "1 2"},
        {"0o 1k4 2k3 3k2 4k1 5c", {1, 14, 1}, {FALSE, 4, -1}, "1 2 3"},
        {"1k4 2k3 3k2 4k1 5c", {1000, 14, 1}, {FALSE, 4, -1}, ""},
        /* a target that is old takes one of the places */
        {"0o 1k40 2k3 3k2 4c", {2, 14, 1}, {FALSE, 1, -1}, "2"},
        /* by age: since it was replaced */
        {"1k13.9 2k14.1 3k1 4c", {10, 14, 1}, {FALSE, 3, -1}, "2"},
        {"1k 2k1 3c", {2, 14, 1}, {FALSE, 2, -1}, ""},
        /* after a rollback the newer ones count as they were replaced */
        {"1c 2k3 3k1", {1, 14, 1}, {FALSE, 0, -1}, "2"},
        /* the last run's rollback, until its age is over */
        {"1k3 2k2 3k1 4c", {1, 14, 1}, {FALSE, 3, 1}, "2"},
        {"1k15 2k2 3k1 4c", {1, 14, 1}, {FALSE, 3, 1}, "1 2"},
        /* failed ones, whatever their age */
        {"1c 2f100 3f50 4f1", {2, 14, 1}, {FALSE, 0, -1}, "2 3"},
        {"1c 2f100 3f50", {2, 14, 0}, {FALSE, 0, -1}, "2 3"},
        {"1c 2f100 3f50", {2, 14, 2}, {FALSE, 0, -1}, ""},
        /* an open swap keeps all */
        {"1k50 2k40 3f9 4f8 5c 6n", {1, 14, 0}, {TRUE, 2, -1}, ""},
        /* what was begun goes on, what is gone is gone */
        {"1g 2x 3c", {2, 14, 1}, {FALSE, -1, -1}, "1"},
    };

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        VrRetention retention = rows[i].retention;
        g_autoptr(GPtrArray) all = generations_of(rows[i].generations);
        g_autoptr(GPtrArray) verdicts = NULL;
        g_autofree char *go = NULL;

        retention.max_age_ms *= 86400000;
        verdicts = vr_retention_judge(all, &retention, &rows[i].facts);
        go = those_that_go(verdicts);
        if (strcmp(go, rows[i].go) != 0)
            fail_msg("\"%s\": \"%s\" go, not \"%s\"", rows[i].generations, go, rows[i].go);
    }
}

/* What an instance left: all that is of our making, but nothing under an open swap. */
static void test_what_was_left(void **state)
{
    g_autoptr(GPtrArray) all = generations_of("0o 1k1 2c 3f1");
    const VrRetentionFacts closed = {FALSE, 1, -1}, open = {TRUE, 1, -1};
    g_autoptr(GPtrArray) verdicts = vr_retention_judge(all, NULL, &closed);
    g_autoptr(GPtrArray) none = vr_retention_judge(all, NULL, &open);
    g_autofree char *go = those_that_go(verdicts);
    g_autofree char *nothing = those_that_go(none);

    assert_string_equal(go, "1 2 3");
    assert_string_equal(nothing, "");
}

static void test_it_says_when(void **state)
{
    g_autoptr(GPtrArray) all = generations_of("1k4 2k1 3c");
    const VrRetentionFacts facts = {FALSE, 2, -1};
    g_autoptr(GPtrArray) verdicts = vr_retention_judge(all, &vr_retention_default, &facts);
    const VrVerdict *one = verdicts->pdata[0], *two = verdicts->pdata[1];

    assert_in_range(one->goes_us - vr_clock_wall_us(), 10 * DAY_US - DAY_US / 24, 10 * DAY_US);
    assert_string_equal(two->why, "'rollback' goes to it");
    assert_int_equal(two->goes_us, 0);
}

/* --- with the journal -------------------------------------------------------------------------------- */

static char *go_now(World *world, const VrRetention *retention)
{
    g_autoptr(GPtrArray) all = vr_journal_generations(world->journal, FAKE_UUID, NULL);
    g_autoptr(GPtrArray) verdicts = NULL;
    VrRetentionFacts facts;

    assert_true(vr_retention_facts(world->journal, "shop", FAKE_UUID, all, &facts, NULL));
    verdicts = vr_retention_judge(all, retention, &facts);
    return those_that_go(verdicts);
}

static void assert_go(World *world, const VrRetention *retention, const char *expected)
{
    g_autofree char *go = go_now(world, retention);

    assert_string_equal(go, expected);
}

/* Invariant 24: on one boot of the host a wall clock that jumps deletes nothing; time that passed does. */
static void test_a_jump_of_the_wall_clock(void **state)
{
    g_autoptr(World) world = world_new(TRUE);

    for (guint i = 0; i < 3; i++)
        world_swap(world, -1);
    assert_go(world, &vr_retention_default, "");
    wall_days = 1000;
    assert_go(world, &vr_retention_default, "");
    wall_days = -1000;
    assert_go(world, &vr_retention_default, "");
    wall_days = boot_days = 15;
    assert_go(world, &vr_retention_default, "1");
    wall_days = boot_days = 0;
}

/* Where 'rollback' goes follows the guest; the run that a rollback of all would undo counts too. */
static void test_targets(void **state)
{
    const VrRetention one = {.generations = 1, .max_age_ms = 86400000, .failed_disks = 0};
    g_autoptr(World) world = world_new(TRUE);

    world_swap_in_run(world, -1, "a"); /* 0 -> 1 */
    world_swap_in_run(world, -1, "b"); /* 1 -> 2 */
    world_swap_in_run(world, -1, "c"); /* 2 -> 3: back to 2 */
    assert_go(world, &one, "1");
    world_swap_in_run(world, 1, "d"); /* on 1, which replaced 0; undoing run c goes to 2 */
    assert_go(world, &one, "3");
    world_swap_in_run(world, 3, "e");
    assert_go(world, &one, "1");
}

static void test_an_open_swap_keeps_all(void **state)
{
    const VrRetention one = {.generations = 1, .max_age_ms = 86400000, .failed_disks = 0};
    g_autoptr(World) world = world_new(TRUE);
    g_autoptr(VrSwap) swap = NULL;

    for (guint i = 0; i < 3; i++)
        world_swap(world, -1);
    assert_go(world, &one, "1");
    swap = world_begin(world, -1, NULL);
    assert_go(world, &one, "");
    assert_true(vr_swap_give_up(swap, "test", NULL));
    assert_go(world, &one, "");
}

/* --- files that the journal does not know ------------------------------------------------------------ */

static char *beside(World *world, const char *name)
{
    return g_build_filename(world->root, "disks", FAKE_UUID, name, NULL);
}

static void put(World *world, const char *name, const char *text)
{
    g_autofree char *path = beside(world, name);

    close(vr_store_instance_dir(world->store, FAKE_UUID, NULL, NULL));
    assert_true(g_file_set_contents(path, text, -1, NULL));
}

static void assert_has(World *world, const char *name, const char *expected)
{
    g_autofree char *path = beside(world, name);
    g_autofree char *text = NULL;

    assert_true(g_file_get_contents(path, &text, NULL, NULL));
    assert_string_equal(text, expected);
}

/* A journal that was lost, or is an old copy, never makes us overwrite or mix. */
static void test_numbers_lie_above_all_files(void **state)
{
    g_autoptr(World) world = world_new(TRUE);

    put(world, "g7.nvram", "precious");
    put(world, "g11", "no generation's");
    put(world, "g99999999999999999999.xml", "no generation's");
    put(world, "gx.xml", "no generation's");
    world_swap(world, -1);
    assert_int_equal(world_current(world), 8);
    assert_has(world, "g7.nvram", "precious");
    world_swap(world, -1);
    assert_int_equal(world_current(world), 9);
    world_check(world, TRUE);
}

static void assert_refused(World *world, int to_generation, const char *word)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(VrSwap) swap = world_begin(world, to_generation, &error);

    if (swap)
        assert_false(vr_swap_advance(swap, VR_SWAP_STARTED, &world_stop, &error));
    assert_non_null(error);
    assert_true(g_error_matches(error, VR_ERROR, VR_ERROR_CONFLICT));
    if (!strstr(error->message, word))
        fail_msg("\"%s\" does not name %s", error->message, word);
    if (swap)
        assert_true(vr_swap_undo(swap, "test", NULL));
}

static void test_foreign_xml_is_not_overwritten(void **state)
{
    g_autoptr(World) world = world_new(TRUE);
    g_autofree char *first = beside(world, "g0.xml");
    g_autofree char *second = beside(world, "g1.xml");
    g_autofree char *kept = NULL;

    put(world, "g0.xml", "somebody's");
    assert_refused(world, -1, "g0.xml");
    assert_has(world, "g0.xml", "somebody's");
    assert_int_equal(unlink(first), 0);
    world_swap(world, -1);
    assert_int_equal(world_current(world), 2); /* 1 was discarded */

    /* one that was edited by hand: neither written over, nor taken for a rollback */
    world_swap(world, -1);
    g_free(second);
    second = beside(world, "g2.xml");
    assert_true(g_file_get_contents(second, &kept, NULL, NULL));
    put(world, "g2.xml", "edited");
    assert_refused(world, 2, "g2.xml");
    assert_has(world, "g2.xml", "edited");
    put(world, "g2.xml", kept);
    world_swap(world, 2);
    world_check(world, TRUE);
}

/* A state.db from before digests were: what is there is ours, and is known from the next swap on. */
static void test_xml_from_before_digests(void **state)
{
    g_autoptr(World) world = world_new(TRUE);
    VrDb *db = NULL;

    world_swap(world, -1);
    db = vr_journal_db(world->journal);
    assert_true(vr_db_begin(db, NULL));
    assert_true(vr_db_run(db, NULL, NULL, "UPDATE generations SET xml = '" VR_XML_NOT_KNOWN "', xml_next = ''", ""));
    assert_true(vr_db_commit(db, NULL));
    world_swap(world, -1);
    world_swap(world, 1);
    put(world, "g1.xml", "edited");
    assert_refused(world, -1, "g1.xml");
}

int main(void)
{
    static const VrClockSource source = {moved_now_ms, moved_wall_us, NULL, NULL};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_verdicts),
        cmocka_unit_test(test_what_was_left),
        cmocka_unit_test(test_it_says_when),
        cmocka_unit_test(test_a_jump_of_the_wall_clock),
        cmocka_unit_test(test_targets),
        cmocka_unit_test(test_an_open_swap_keeps_all),
        cmocka_unit_test(test_numbers_lie_above_all_files),
        cmocka_unit_test(test_foreign_xml_is_not_overwritten),
        cmocka_unit_test(test_xml_from_before_digests),
    };

    vr_clock_set_source(&source);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
