/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Instances without the journal that made them: what is restored, and what is said instead. Rows B14, B17. */
#include "engine/rebuild.h"
#include "engine/support.h"

#include "base/error.h"
#include "engine/retire.h"
#include "engine/swap_private.h"

#include <glib/gstdio.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* The journal is empty, as a new one. */
static void lose(World *world)
{
    world_run_sql(world, "DELETE FROM data_disks");
    world_run_sql(world, "DELETE FROM steps");
    world_run_sql(world, "DELETE FROM swaps");
    world_run_sql(world, "DELETE FROM generations");
}

/* Generation 2 is current. */
static World *lost_world(void)
{
    World *world = world_new(TRUE);

    world_swap(world, -1);
    world->full = TRUE;
    world_swap(world, -1);
    lose(world);
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

/* --- NVRAM ------------------------------------------------------------------------------------------- */

static GPtrArray *journaled(World *world)
{
    return vr_journal_generations(world->journal, FAKE_UUID, NULL);
}

static void restore(World *world)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) all = look(world);

    assert_true(first(all)->restorable);
    vr_rebuild_restore(world->journal, world->owner, first(all), &error);
    assert_null(error);
}

static World *uefi_world(const char *os)
{
    World *world = world_new_uefi(TRUE, os, FALSE);

    world_swap(world, -1);
    world_swap(world, -1);
    return world;
}

static void expect_same_nvram(const VrGeneration *is, const VrGeneration *was)
{
    assert_string_equal(is->nvram, was->nvram);
    assert_true(is->nvram_file.device != 0);
    assert_int_equal(is->nvram_file.device, was->nvram_file.device);
    assert_int_equal(is->nvram_file.inode, was->nvram_file.inode);
    assert_int_equal(is->nvram_file.born_ns, was->nvram_file.born_ns);
}

/* gN.xml is known by what it is. */
static void expect_known_xml(World *world, const VrGeneration *generation)
{
    g_autofree char *name = g_strdup_printf("g%u.xml", generation->number);
    g_autofree char *path = file_of(world, name);
    g_autofree char *text = NULL;
    g_autofree char *digest = NULL;

    assert_true(g_file_get_contents(path, &text, NULL, NULL));
    digest = vr_generation_xml_digest(text);
    assert_string_equal(generation->xml, digest);
    assert_string_equal(generation->xml_next, "");
}

static void expect_configured(World *world, const char *path)
{
    g_autofree char *xml = vr_hv_inactive_xml(&world->fake->hv, FAKE_UUID, NULL);
    g_autoptr(VrDomainDef) def = vr_domain_def_parse(xml, NULL);

    assert_string_equal(def->nvram, path);
}

/* B14: named by the domain, and chosen by libvirt; forward, to a kept one, and to the first. */
static void test_nvram_is_restored(void **state)
{
    static const char *const spellings[] = {WORLD_NVRAM, WORLD_LOADER};

    for (gsize s = 0; s < G_N_ELEMENTS(spellings); s++) {
        g_autoptr(World) world = uefi_world(spellings[s]);
        g_autoptr(GPtrArray) before = journaled(world);
        g_autoptr(GPtrArray) after = NULL;
        g_autofree char *one = file_of(world, "g1.nvram");
        g_autofree char *three = file_of(world, "g3.nvram");
        lose(world);
        restore(world);
        after = journaled(world);
        assert_int_equal(after->len, 3);
        for (guint i = 0; i < after->len; i++) {
            expect_same_nvram(after->pdata[i], before->pdata[i]);
            expect_known_xml(world, after->pdata[i]);
        }
        world_check(world, TRUE);
        world_swap(world, -1);
        expect_configured(world, three);
        world_swap(world, 1);
        expect_configured(world, one);
        world_swap(world, 0);
        expect_configured(world, ((const VrGeneration *)before->pdata[0])->nvram);
        world_check(world, TRUE);
    }
}

static gboolean is_there(World *world, const char *name)
{
    g_autofree char *path = file_of(world, name);

    return g_file_test(path, G_FILE_TEST_EXISTS);
}

static gboolean retire(World *world, guint number)
{
    g_autoptr(VrGeneration) generation = vr_journal_generation(world->journal, FAKE_UUID, number, NULL);
    g_autoptr(VrInUse) in_use = vr_in_use_read(world->store, &world->fake->hv, world->journal, NULL);
    const VrRetireCheck check = {.in_use = in_use};

    return vr_retire(&world->engine, generation, &check, "test", NULL);
}

/* SAFETY 7: what is known of a restored generation is enough to delete it, and no other file. */
static void test_it_goes(void **state)
{
    g_autoptr(World) world = uefi_world(WORLD_NVRAM);
    g_autofree char *xml = file_of(world, "g1.xml");
    g_autofree char *nvram = file_of(world, "g2.nvram");

    world_swap(world, -1);
    lose(world);
    restore(world);
    assert_true(g_file_set_contents(xml, "edited", -1, NULL));
    assert_true(retire(world, 1));
    assert_false(is_there(world, "g1.qcow2") || is_there(world, "g1.nvram"));
    assert_true(is_there(world, "g1.xml"));
    assert_int_equal(unlink(nvram), 0);
    assert_true(g_file_set_contents(nvram, "another", -1, NULL));
    assert_true(retire(world, 2));
    assert_false(is_there(world, "g2.qcow2") || is_there(world, "g2.xml"));
    assert_true(is_there(world, "g2.nvram"));
    assert_true(is_there(world, "g0.xml") && is_there(world, "g3.qcow2") && is_there(world, "g3.nvram"));
}

/* A swap that was cut before its NVRAM was copied, one that somebody else owns, another generation's: not one to go back to. */
static void test_nvram_not_as_we_leave_it(void **state)
{
    g_autoptr(World) world = uefi_world(WORLD_NVRAM);
    g_autofree char *nvram = file_of(world, "g1.nvram");
    g_autofree char *aside = file_of(world, "aside");
    g_autofree char *xml = file_of(world, "g1.xml");
    g_autofree char *text = NULL;
    g_autoptr(GString) other = NULL;

    lose(world);
    assert_int_equal(chmod(nvram, 0644), 0);
    check_not_kept(world, "g1.nvram: its owner is");
    assert_int_equal(chmod(nvram, 0400), 0);
    assert_int_equal(g_rename(nvram, aside), 0);
    check_not_kept(world, "g1.nvram: No such file");
    assert_int_equal(symlink(aside, nvram), 0);
    check_not_kept(world, "is a symbolic link");
    assert_int_equal(g_rename(aside, nvram), 0);
    assert_true(g_file_get_contents(xml, &text, NULL, NULL));
    other = g_string_new(text);
    assert_int_equal(g_string_replace(other, "/g1.nvram", "/g2.nvram", 0), 1);
    assert_true(g_file_set_contents(xml, other->str, -1, NULL));
    check_not_kept(world, "g2.nvram, which is that of another generation");
}

/* A rollback without what its NVRAM held would not be one. */
static void test_nvram_of_generation_0_is_gone(void **state)
{
    g_autoptr(World) world = uefi_world(WORLD_NVRAM);
    g_autofree char *old = g_build_filename(world->top, "old.nvram", NULL);
    g_autoptr(GPtrArray) all = NULL;

    lose(world);
    assert_int_equal(unlink(old), 0);
    all = look(world);
    assert_true(first(all)->restorable);
    assert_int_equal(generation_of(all, 0)->number, 1);
    assert_said(all, "generation 0 is not restored: cannot open the NVRAM");
}

static void test_nvram_of_another_generation(void **state)
{
    g_autoptr(World) world = uefi_world(WORLD_NVRAM);

    lose(world);
    fake_hv_edit(world->fake, "/g2.nvram", "/g1.nvram");
    check_for_a_person(world, "g1.nvram, which is that of another generation");
    fake_hv_edit(world->fake, "/g1.nvram", "/g2.nvram.mine");
    check_for_a_person(world, "which is that of another generation");
    g_autofree char *ours = g_build_filename(world->root, "disks", FAKE_UUID, "g2.nvram.mine", NULL);
    fake_hv_edit(world->fake, ours, "/elsewhere");
    check_for_a_person(world, "its NVRAM is /elsewhere, but g2.xml names");
}

static char *cannot_tell(VrHv *hv, const char *uuid, const char *xml, GError **error)
{
    g_set_error_literal(error, VR_ERROR, VR_ERROR_HYPERVISOR, "libvirt does not say which file it takes");
    return NULL;
}

/* What cannot be told now keeps no instance back; the next swap asks again. */
static void test_nvram_that_cannot_be_told(void **state)
{
    g_autoptr(World) world = world_new_uefi(TRUE, WORLD_LOADER, FALSE);
    g_autoptr(VrSwap) swap = world_begin(world, -1, NULL);
    const VrHvOps *real = world->fake->hv.ops;
    VrHvOps mute = *real;
    g_autoptr(VrGeneration) zero = NULL;

    assert_true(vr_swap_advance(swap, VR_SWAP_STARTED, &world_stop, NULL));
    assert_true(vr_swap_undo(swap, "not healthy", NULL));
    fake_hv_set_state(world->fake, VR_DOMAIN_OFF); /* of one that runs the live XML says it */
    lose(world);
    mute.nvram = cannot_tell;
    world->fake->hv.ops = &mute;
    restore(world);
    zero = vr_journal_generation(world->journal, FAKE_UUID, 0, NULL);
    assert_int_equal(zero->state, VR_GENERATION_CURRENT);
    assert_null(zero->nvram);
    world->fake->hv.ops = real;
    world_swap(world, -1);
    world_check(world, TRUE);
}

/* Of one that was never started there is no file yet. */
static void test_nvram_of_a_fresh_one(void **state)
{
    g_autoptr(World) world = world_new_uefi(FALSE, WORLD_NVRAM, TRUE);
    g_autoptr(VrGeneration) one = NULL;

    world_swap(world, -1);
    lose(world);
    g_autoptr(GPtrArray) all = look(world); /* what generation 0 had is not known to be nothing */
    assert_said(all, "generation 0 is not restored");
    restore(world);
    one = vr_journal_generation(world->journal, FAKE_UUID, 1, NULL);
    assert_non_null(one->nvram);
    assert_int_equal(one->nvram_file.device, 0);
    world_swap(world, -1);
    world_check(world, TRUE);
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
        cmocka_unit_test(test_nvram_is_restored),
        cmocka_unit_test(test_it_goes),
        cmocka_unit_test(test_nvram_not_as_we_leave_it),
        cmocka_unit_test(test_nvram_of_generation_0_is_gone),
        cmocka_unit_test(test_nvram_of_another_generation),
        cmocka_unit_test(test_nvram_that_cannot_be_told),
        cmocka_unit_test(test_nvram_of_a_fresh_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
