/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Instances without the journal that made them: what is restored, and what is said instead. Row B17. */
#include "engine/rebuild.h"
#include "engine/support.h"

#include "base/error.h"

#include <glib/gstdio.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* Generation 2 is current; the journal is empty, as a new one. */
static World *lost_world(void)
{
    World *world = world_new(TRUE);

    world_swap(world, -1);
    world->full = TRUE;
    world_swap(world, -1);
    world_run_sql(world, "DELETE FROM steps");
    world_run_sql(world, "DELETE FROM swaps");
    world_run_sql(world, "DELETE FROM generations");
    return world;
}

static char *file_of(World *world, const char *name)
{
    return g_build_filename(world->root, "disks", FAKE_UUID, name, NULL);
}

static GPtrArray *look(World *world)
{
    g_autoptr(GError) error = NULL;
    GPtrArray *all = vr_rebuild_look(world->store, &world->fake->hv, world->journal, &error);

    assert_null(error);
    assert_int_equal(all->len, 1);
    return all;
}

static const VrFoundInstance *first(GPtrArray *all)
{
    return g_ptr_array_index(all, 0);
}

static const VrGeneration *generation_of(GPtrArray *all, guint number)
{
    return g_ptr_array_index(first(all)->generations, number);
}

static void assert_said(GPtrArray *all, const char *text)
{
    const GPtrArray *said = first(all)->said;

    for (guint i = 0; i < said->len; i++)
        if (strstr(g_ptr_array_index(said, i), text))
            return;
    fail_msg("it does not say: %s", text);
}

/* What the swaps left is as it was: disks, versions, identity of files; and a rollback goes on from there. */
static void test_restored(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(World) world = lost_world();
    g_autoptr(GPtrArray) all = look(world);
    g_autoptr(GPtrArray) again = NULL;

    assert_true(first(all)->restorable);
    assert_string_equal(first(all)->set_name, "shop");
    assert_int_equal(generation_of(all, 0)->state, VR_GENERATION_KEPT);
    assert_string_equal(generation_of(all, 0)->path, world->old_path);
    assert_false(generation_of(all, 0)->ours);
    assert_int_equal(generation_of(all, 1)->state, VR_GENERATION_KEPT);
    assert_string_equal(generation_of(all, 1)->version, "2.0.0"); /* by its backing file */
    assert_int_equal(generation_of(all, 2)->state, VR_GENERATION_CURRENT);
    assert_string_equal(generation_of(all, 2)->version, "2.0.0"); /* of a full clone: by its XML */
    world_run_sql(world, "INSERT INTO generations (uuid, number, path, format, disk_type, ours, state, made_us) VALUES "
                         "('" FAKE_UUID "', 99, '/x', 'raw', 'file', 0, 2, 0)");
    assert_false(vr_rebuild_restore(world->journal, world->owner, first(all), &error)); /* it is known by now */
    assert_true(g_error_matches(error, VR_ERROR, VR_ERROR_CONFLICT));
    g_clear_error(&error);
    world_run_sql(world, "DELETE FROM generations");
    assert_true(vr_rebuild_restore(world->journal, world->owner, first(all), &error));
    assert_false(vr_rebuild_restore(world->journal, world->owner, first(all), &error));
    assert_true(g_error_matches(error, VR_ERROR, VR_ERROR_CONFLICT));
    again = look(world);
    assert_true(first(again)->known);
    world_swap(world, 1);
    world_swap(world, 0);
    world->full = FALSE;
    world_swap(world, -1);
    assert_int_equal(world_current(world), 3);
    world_check(world, TRUE);
}

/* A number of our making is never used again, whatever became of its files. */
static void test_numbers(void **state)
{
    g_autoptr(World) world = lost_world();
    g_autofree char *disk = file_of(world, "g7.qcow2");
    g_autofree char *xml = file_of(world, "g9.xml");
    g_autoptr(GPtrArray) all = NULL;

    assert_true(g_file_set_contents(disk, "no disk", -1, NULL));
    assert_true(g_file_set_contents(xml, "no XML", -1, NULL));
    all = look(world);
    assert_int_equal(first(all)->generations->len, 5);
    assert_int_equal(generation_of(all, 3)->state, VR_GENERATION_FAILED);
    assert_int_equal(generation_of(all, 3)->file.device, 0); /* so it is not deleted by us */
    assert_int_equal(generation_of(all, 4)->state, VR_GENERATION_DISCARDED);
    assert_true(vr_rebuild_restore(world->journal, world->owner, first(all), NULL));
    world_swap(world, -1);
    assert_int_equal(world_current(world), 10);
}

static void check_not_kept(World *world, const char *said)
{
    g_autoptr(GPtrArray) all = look(world);

    assert_true(first(all)->restorable);
    assert_int_equal(generation_of(all, 1)->state, VR_GENERATION_FAILED);
    assert_said(all, said);
}

static void test_not_as_we_leave_it(void **state)
{
    g_autoptr(World) world = lost_world();
    g_autofree char *disk = file_of(world, "g1.qcow2");
    g_autofree char *second = file_of(world, "second");
    g_autofree char *xml = file_of(world, "g1.xml");
    g_autofree char *text = NULL;
    g_autoptr(GString) other = NULL;

    assert_int_equal(chmod(disk, 0644), 0);
    check_not_kept(world, "mode 0644");
    assert_int_equal(chmod(disk, 0400), 0);
    assert_int_equal(link(disk, second), 0);
    check_not_kept(world, "not a regular file with one name");
    assert_int_equal(unlink(second), 0);
    assert_true(g_file_get_contents(xml, &text, NULL, NULL));
    other = g_string_new(text);
    g_string_replace(other, "version=\"2.0.0\"", "version=\"3.0.0\"", 0);
    assert_true(g_file_set_contents(xml, other->str, -1, NULL));
    check_not_kept(world, "says that it is os 3.0.0, but its backing file is that of os 2.0.0");
    assert_int_equal(unlink(xml), 0);
    check_not_kept(world, "g1.xml cannot be read");
    assert_true(g_file_set_contents(xml, text, -1, NULL));
    assert_int_equal(unlink(world->image->path), 0);
    check_not_kept(world, "is gone");
}

static void test_generation_0_is_gone(void **state)
{
    g_autoptr(World) world = lost_world();
    g_autofree char *aside = g_strconcat(world->old_path, ".aside", NULL);
    g_autoptr(GPtrArray) all = NULL;

    assert_int_equal(g_rename(world->old_path, aside), 0);
    all = look(world);
    assert_true(first(all)->restorable);
    assert_int_equal(generation_of(all, 0)->number, 1);
    assert_said(all, "which it was, is not there");
}

static void check_for_a_person(World *world, const char *said)
{
    g_autoptr(GPtrArray) all = look(world);

    assert_false(first(all)->restorable);
    assert_said(all, said);
}

static void test_what_does_not_agree(void **state)
{
    g_autoptr(World) world = lost_world();

    fake_hv_edit(world->fake, "/g2.qcow2", "/g1.qcow2");
    check_for_a_person(world, "its metadata says generation 2");
    fake_hv_edit(world->fake, "generation=\"2\"", "generation=\"1\"");
    check_for_a_person(world, "but its XML names");
    fake_hv_edit(world->fake, "/g1.qcow2", "/elsewhere.qcow2");
    check_for_a_person(world, "is no generation that could be restored");
    fake_hv_edit(world->fake, "/elsewhere.qcow2", "/g2.qcow2");
    fake_hv_edit(world->fake, "generation=\"1\"", "generation=\"2\"");
    g_autoptr(GPtrArray) all = look(world);
    assert_true(first(all)->restorable);
}

/* The set becomes the name of a lock file: what is no name is not taken. */
static void test_hostile_set_name(void **state)
{
    g_autoptr(World) world = lost_world();
    g_autoptr(GPtrArray) all = NULL;

    fake_hv_edit(world->fake, "set=\"shop\"", "set=\"../../shop\"");
    all = look(world);
    assert_string_equal(first(all)->set_name, "shop"); /* by its files */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_restored),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_not_as_we_leave_it),
        cmocka_unit_test(test_generation_0_is_gone),
        cmocka_unit_test(test_what_does_not_agree),
        cmocka_unit_test(test_hostile_set_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
