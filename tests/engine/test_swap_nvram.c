/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* NVRAM belongs to a generation (engine/swap_nvram.c), on real files with a scripted hypervisor. Rows B14, F7. */
#include "engine/support.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "hv/domain_xml.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define SOURCE WORLD_LOADER "<nvram type='file'><source file='%s'/></nvram>"

static const char *const spellings[] = {WORLD_NVRAM, SOURCE};

static void expect_error(GError **error, int code, const char *text)
{
    assert_non_null(*error);
    if (!g_error_matches(*error, VR_ERROR, code) || !strstr((*error)->message, text))
        fail_msg("wrong error: %s", (*error)->message);
    g_clear_error(error);
}

static char *path_in(World *world, const char *name)
{
    return g_build_filename(world->top, name, NULL);
}

static char *nvram_path(World *world, guint number)
{
    g_autofree char *name = g_strdup_printf("root/disks/" FAKE_UUID "/g%u.nvram", number);

    return path_in(world, name);
}

static char *content(const char *path)
{
    char *bytes = NULL;
    gsize length;

    assert_true(g_file_get_contents(path, &bytes, &length, NULL));
    assert_int_equal(length, FAKE_NVRAM_BYTES);
    return bytes;
}

/* NULL: it names none. */
static char *configured(World *world)
{
    g_autofree char *xml = vr_hv_inactive_xml(&world->fake->hv, FAKE_UUID, NULL);
    g_autoptr(VrDomainDef) def = vr_domain_def_parse(xml, NULL);

    return g_strdup(def->nvram);
}

static void expect_configured(World *world, const char *path)
{
    g_autofree char *is = configured(world);

    assert_string_equal(is, path);
}

static gboolean has_mark(World *world, const char *swap_id, const char *name)
{
    gboolean has = FALSE;

    assert_true(vr_journal_has_mark(world->journal, swap_id, name, &has, NULL));
    return has;
}

static void test_forward_and_back(void **state) /* F7 */
{
    for (gsize i = 0; i < G_N_ELEMENTS(spellings); i++) {
        g_autoptr(World) world = world_new_uefi(TRUE, spellings[i], FALSE);
        g_autofree char *old = path_in(world, "old.nvram");
        g_autofree char *one = nvram_path(world, 1);
        g_autofree char *two = nvram_path(world, 2);
        g_autofree char *before = content(old);

        world_swap(world, -1);
        expect_configured(world, one);
        world_check(world, TRUE);
        g_autofree char *copied = content(one);
        assert_string_equal(copied, one); /* the new system wrote its own */
        assert_memory_equal(copied + FAKE_NVRAM_MARK, before + FAKE_NVRAM_MARK, FAKE_NVRAM_BYTES - FAKE_NVRAM_MARK);
        world_swap(world, -1);
        assert_int_equal(world_mode(one), 0400);
        assert_int_equal(world_mode(two), 0600);
        world_swap(world, 1);
        assert_int_equal(world_mode(one), 0600);
        expect_configured(world, one);
        world_check(world, TRUE);
        world_swap(world, 0);
        expect_configured(world, old);
        assert_int_equal(world_mode(one), 0400);
        g_autofree char *after = content(old);
        assert_memory_equal(after, before, FAKE_NVRAM_BYTES);
        assert_int_equal(world_mode(old), 0600);
        world_check(world, TRUE);
    }
}

/* Generation 0 keeps its file as it is while others run, with its owner, mode and times. */
static void test_the_old_file_is_not_touched(void **state)
{
    g_autoptr(World) world = world_new_uefi(TRUE, WORLD_NVRAM, FALSE);
    g_autofree char *old = path_in(world, "old.nvram");
    struct stat before, after;

    assert_int_equal(chmod(old, 0640), 0);
    assert_int_equal(stat(old, &before), 0);
    world_swap(world, -1);
    world_swap(world, -1);
    assert_int_equal(stat(old, &after), 0);
    assert_int_equal(after.st_mode, before.st_mode);
    assert_int_equal(after.st_ino, before.st_ino);
    assert_int_equal(after.st_mtim.tv_nsec, before.st_mtim.tv_nsec);
    assert_int_equal(after.st_ctim.tv_nsec, before.st_ctim.tv_nsec);
}

static void test_it_is_journaled(void **state)
{
    g_autoptr(World) world = world_new_uefi(TRUE, WORLD_NVRAM, FALSE);
    g_autoptr(VrSwap) swap = world_begin(world, -1, NULL);
    g_autoptr(VrGeneration) to = NULL;
    g_autofree char *one = nvram_path(world, 1);
    g_autofree char *old = path_in(world, "old.nvram");
    VrSwapTimes times;
    struct stat st;

    assert_true(vr_swap_advance(swap, VR_SWAP_STOPPED, &world_stop, NULL));
    assert_false(
        g_file_test(one, G_FILE_TEST_EXISTS)); /* a running guest writes its own: it is copied when it is off */
    assert_false(has_mark(world, vr_swap_row(swap)->id, "nvram"));
    assert_true(vr_swap_advance(swap, VR_SWAP_SWITCHED, NULL, NULL));
    assert_true(has_mark(world, vr_swap_row(swap)->id, "nvram"));
    assert_int_equal(stat(one, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    to = vr_journal_generation(world->journal, FAKE_UUID, 1, NULL);
    assert_string_equal(to->nvram, one);
    assert_int_equal(to->nvram_file.inode, st.st_ino);
    g_autoptr(VrGeneration) from = vr_journal_generation(world->journal, FAKE_UUID, 0, NULL);
    assert_string_equal(from->nvram, old);
    assert_true(vr_swap_advance(swap, VR_SWAP_STARTED, NULL, NULL));
    assert_true(vr_journal_swap_times(world->journal, vr_swap_row(swap)->id, &times, NULL));
    assert_true(times.nvram_ms >= 0 && times.nvram_ms <= times.switch_ms);
}

/* Whatever is undone, the domain is as it was, and what never booted is gone. */
static void test_undo(void **state)
{
    static const struct {
        VrSwapState reached;
        gboolean stays;
    } cases[] = {
        {VR_SWAP_PREPARED, FALSE}, {VR_SWAP_STOPPED, FALSE}, {VR_SWAP_SWITCHED, FALSE}, {VR_SWAP_STARTED, TRUE}};

    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        for (gboolean unnamed = FALSE; unnamed <= TRUE; unnamed++) {
            g_autoptr(World) world = world_new_uefi(TRUE, unnamed ? WORLD_LOADER : WORLD_NVRAM, FALSE);
            g_autofree char *before = vr_hv_inactive_xml(&world->fake->hv, FAKE_UUID, NULL);
            g_autoptr(VrSwap) swap = world_begin(world, -1, NULL);
            g_autofree char *one = nvram_path(world, 1);
            assert_true(vr_swap_advance(swap, cases[i].reached, &world_stop, NULL));
            assert_true(vr_swap_undo(swap, "not healthy", NULL));
            g_autofree char *after = vr_hv_inactive_xml(&world->fake->hv, FAKE_UUID, NULL);
            assert_true(vr_domain_xml_same(before, after));
            assert_int_equal(g_file_test(one, G_FILE_TEST_EXISTS), cases[i].stays);
            if (cases[i].stays)
                assert_int_equal(world_mode(one), 0400); /* for a post-mortem, with its disk */
            assert_int_equal(fake_hv_state(world->fake), VR_DOMAIN_RUNNING);
            world_check(world, TRUE);
        }
    }
}

/* libvirt chooses the file: of a running guest its live XML says which, of one that is off libvirt is asked. */
static void test_libvirt_chooses(void **state)
{
    for (gboolean running = FALSE; running <= TRUE; running++) {
        g_autoptr(World) world = world_new_uefi(running, WORLD_LOADER, FALSE);
        g_autofree char *chosen = g_build_filename(world->hv_dir, FAKE_NVRAM, NULL);
        g_autofree char *one = nvram_path(world, 1);
        world_swap(world, -1);
        expect_configured(world, one);
        g_autofree char *copied = content(one);
        assert_int_equal(copied[FAKE_NVRAM_MARK], 'V');
        g_autoptr(VrGeneration) zero = vr_journal_generation(world->journal, FAKE_UUID, 0, NULL);
        assert_string_equal(zero->nvram, chosen);
        world_swap(world, 0);
        expect_configured(world, chosen); /* by name now: a domain that is renamed has another default */
        world_check(world, TRUE);
    }
}

static void test_never_started(void **state)
{
    for (gboolean unnamed = FALSE; unnamed <= TRUE; unnamed++) {
        g_autoptr(World) world = world_new_uefi(FALSE, unnamed ? WORLD_LOADER : WORLD_NVRAM, TRUE);
        g_autofree char *one = nvram_path(world, 1);
        g_autofree char *two = nvram_path(world, 2);
        world_swap(world, -1);
        expect_configured(world, one);
        assert_false(g_file_test(one, G_FILE_TEST_EXISTS));
        world_check(world, TRUE);
        world_swap(world, 0); /* nothing is missed that never was */
        world_swap(world, 1);
        assert_true(vr_hv_start(&world->fake->hv, FAKE_UUID, NULL)); /* libvirt makes it */
        world_swap(world, -1);
        g_autofree char *copied = content(two);
        assert_int_equal(copied[FAKE_NVRAM_MARK], 'T');
        assert_int_equal(world_mode(one), 0400);
        world_check(world, TRUE);
    }
}

/* What libvirt made for a system that then failed is ours too: it has an identity, and is sealed. */
static void test_failed_one_of_libvirts(void **state)
{
    g_autoptr(World) world = world_new_uefi(FALSE, WORLD_NVRAM, TRUE);
    g_autoptr(VrSwap) swap = NULL;
    g_autofree char *one = nvram_path(world, 1);
    g_autoptr(VrGeneration) failed = NULL;

    swap = world_begin(world, -1, NULL);
    assert_true(vr_swap_advance(swap, VR_SWAP_STARTED, &world_stop, NULL));
    assert_true(vr_hv_start(&world->fake->hv, FAKE_UUID, NULL)); /* somebody starts it before it is committed */
    assert_true(vr_swap_undo(swap, "not healthy", NULL));
    failed = vr_journal_generation(world->journal, FAKE_UUID, 1, NULL);
    assert_int_equal(failed->state, VR_GENERATION_FAILED);
    assert_true(failed->nvram_file.device != 0);
    assert_int_equal(world_mode(one), 0400);
}

static void test_missing(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(World) world = world_new_uefi(TRUE, WORLD_NVRAM, FALSE);
    g_autofree char *old = path_in(world, "old.nvram");
    g_autofree char *aside = path_in(world, "aside");
    g_autofree char *one = nvram_path(world, 1);
    g_autofree char *before = vr_hv_inactive_xml(&world->fake->hv, FAKE_UUID, NULL);

    assert_int_equal(rename(old, aside), 0);
    assert_null(world_begin(world, -1, &error));
    expect_error(&error, VR_ERROR_REFUSED, "old.nvram: No such file or directory [nvram-unreadable]");
    assert_int_equal(rename(aside, old), 0);
    world_swap(world, -1);
    g_autofree char *on_one = vr_hv_inactive_xml(&world->fake->hv, FAKE_UUID, NULL);
    assert_int_equal(rename(old, aside), 0);
    assert_null(world_begin(world, 0, &error));
    expect_error(&error, VR_ERROR_NOT_FOUND, "the NVRAM of generation 0");
    assert_int_equal(rename(aside, old), 0);
    world_swap(world, 0);
    assert_int_equal(rename(one, aside), 0);
    assert_true(g_file_set_contents(one, "another", -1, NULL));
    assert_null(world_begin(world, 1, &error));
    expect_error(&error, VR_ERROR_CONFLICT, "not the file that was made for generation 1");
    g_autofree char *after = vr_hv_inactive_xml(&world->fake->hv, FAKE_UUID, NULL);
    assert_int_equal(fake_hv_state(world->fake), VR_DOMAIN_RUNNING);
    assert_true(vr_domain_xml_same_nvram(after, before));
}

/* What goes while the new disk is prepared is seen while the guest runs still. */
static void test_missing_meanwhile(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(World) world = world_new_uefi(TRUE, WORLD_NVRAM, FALSE);
    g_autoptr(VrSwap) swap = world_begin(world, -1, NULL);
    g_autofree char *old = path_in(world, "old.nvram");

    assert_true(vr_swap_advance(swap, VR_SWAP_PREPARED, NULL, NULL));
    assert_int_equal(unlink(old), 0);
    assert_false(vr_swap_advance(swap, VR_SWAP_STARTED, &world_stop, &error));
    expect_error(&error, VR_ERROR_REFUSED, "[nvram-unreadable]");
    assert_int_equal(world->fake->shutdowns, 0);
}

static void test_taken_name(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(World) world = world_new_uefi(TRUE, WORLD_NVRAM, FALSE);
    g_autoptr(VrSwap) swap = world_begin(world, -1, NULL);
    g_autofree char *one = nvram_path(world, 1);
    g_autofree char *text = NULL;

    assert_true(g_file_set_contents(one, "precious", -1, NULL));
    assert_false(vr_swap_advance(swap, VR_SWAP_PREPARED, NULL, &error));
    expect_error(&error, VR_ERROR_CONFLICT, "g1.nvram exists already");
    assert_true(vr_swap_undo(swap, "no", NULL));
    assert_true(g_file_get_contents(one, &text, NULL, NULL));
    assert_string_equal(text, "precious");
}

/* Somebody takes the name while the guest stops: back to the old system, and his file stays. */
static void test_name_taken_late(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(World) world = world_new_uefi(TRUE, WORLD_NVRAM, FALSE);
    g_autoptr(VrSwap) swap = world_begin(world, -1, NULL);
    g_autofree char *one = nvram_path(world, 1);
    g_autofree char *old = path_in(world, "old.nvram");

    assert_true(vr_swap_advance(swap, VR_SWAP_STOPPED, &world_stop, NULL));
    assert_true(g_file_set_contents(one, "precious", -1, NULL));
    assert_false(vr_swap_advance(swap, VR_SWAP_STARTED, NULL, &error));
    expect_error(&error, VR_ERROR_CONFLICT, "g1.nvram exists already");
    assert_false(has_mark(world, vr_swap_row(swap)->id, "intent"));
    assert_true(vr_swap_undo(swap, "no", NULL));
    expect_configured(world, old);
    assert_int_equal(fake_hv_state(world->fake), VR_DOMAIN_RUNNING);
    assert_true(g_file_test(one, G_FILE_TEST_EXISTS));
}

static void test_no_plain_file(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(World) world = world_new_uefi(TRUE, WORLD_NVRAM, FALSE);
    g_autofree char *old = path_in(world, "old.nvram");
    g_autofree char *aside = path_in(world, "aside");

    assert_int_equal(rename(old, aside), 0);
    assert_int_equal(symlink(aside, old), 0);
    assert_null(world_begin(world, -1, &error));
    expect_error(&error, VR_ERROR_REFUSED, "symbolic link");
    assert_int_equal(fake_hv_state(world->fake), VR_DOMAIN_RUNNING);
}

/* Ours stays with its generation; what the admin has elsewhere he may change between swaps. */
static void test_edits(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(World) world = world_new_uefi(TRUE, WORLD_NVRAM, FALSE);
    g_autofree char *bytes = g_strnfill(FAKE_NVRAM_BYTES, 'V');
    g_autofree char *other = path_in(world, "other.nvram");
    g_autoptr(VrGeneration) zero = NULL;

    world_swap(world, -1);
    world_swap(world, 0);
    assert_true(g_file_set_contents(other, bytes, FAKE_NVRAM_BYTES, NULL));
    fake_hv_edit(world->fake, "/old.nvram", "/other.nvram");
    world_swap(world, -1);
    zero = vr_journal_generation(world->journal, FAKE_UUID, 0, NULL);
    assert_string_equal(zero->nvram, other);
    fake_hv_edit(world->fake, "/g2.nvram", "/g1.nvram");
    assert_null(world_begin(world, -1, &error));
    expect_error(&error, VR_ERROR_CONFLICT, "g1.nvram, but its generation 2 has");
    fake_hv_edit(world->fake, "/g1.nvram", "/g2.nvram");
    world_swap(world, 0);
    expect_configured(world, other);
}

/* BIOS and UEFI are not mixed: a generation that was made without NVRAM does not run with another's. */
static void test_firmware_changed(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(World) world = world_new(TRUE);
    g_autofree char *nvram = path_in(world, "my.nvram");
    g_autofree char *bytes = g_strnfill(FAKE_NVRAM_BYTES, 'V');
    g_autofree char *os = g_strdup_printf("hvm</type><loader type='pflash'>/c</loader><nvram>%s</nvram>", nvram);

    world_swap(world, -1);
    assert_true(g_file_set_contents(nvram, bytes, FAKE_NVRAM_BYTES, NULL));
    fake_hv_edit(world->fake, "hvm</type>", os);
    assert_null(world_begin(world, 0, &error));
    expect_error(&error, VR_ERROR_REFUSED, "made without NVRAM, and the domain has one now");
    world_swap(world, -1);
    g_autofree char *two = nvram_path(world, 2);
    expect_configured(world, two);
    g_autoptr(VrGeneration) one = vr_journal_generation(world->journal, FAKE_UUID, 1, NULL);
    assert_string_equal(one->nvram, nvram);
    assert_true(one->nvram_file.device == 0); /* not ours to delete */
}

/* Invariant 11: what a QEMU that lingers holds is not copied. The lock is one that QEMU takes. */
static void test_held(void **state)
{
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 100, .l_len = 1};
    g_autoptr(GError) error = NULL;
    g_autoptr(World) world = world_new_uefi(TRUE, WORLD_NVRAM, FALSE);
    g_autoptr(VrSwap) swap = world_begin(world, -1, NULL);
    g_autofree char *old = path_in(world, "old.nvram");
    vr_autofd fd = open(old, O_RDWR | O_CLOEXEC);

    assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
    assert_false(vr_swap_advance(swap, VR_SWAP_STARTED, &world_stop, &error));
    expect_error(&error, VR_ERROR_CONFLICT, "a process still holds its file");
    assert_int_equal(vr_swap_row(swap)->state, VR_SWAP_PREPARED);
}

/* A step that is done again, as after an error, copies again. */
static void test_copied_again(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(World) world = world_new_uefi(TRUE, WORLD_NVRAM, FALSE);
    g_autoptr(VrSwap) swap = world_begin(world, -1, NULL);
    g_autofree char *one = nvram_path(world, 1);

    assert_true(vr_swap_advance(swap, VR_SWAP_STOPPED, &world_stop, NULL));
    world->fake->fault = FAKE_REFUSE;
    world->fake->fault_at = world->fake->point + 3; /* the define */
    assert_false(vr_swap_advance(swap, VR_SWAP_SWITCHED, NULL, &error));
    expect_error(&error, VR_ERROR_HYPERVISOR, "scripted");
    assert_true(g_file_test(one, G_FILE_TEST_EXISTS));
    assert_true(vr_swap_advance(swap, VR_SWAP_STARTED, NULL, NULL));
    assert_true(vr_swap_commit(swap, NULL, NULL));
    world_check(world, TRUE);
}

/* A define that takes the disk and not the NVRAM is no switch. */
static gboolean half_define(VrHv *hv, const char *uuid, const char *xml, GError **error)
{
    g_autofree char *path = g_build_filename(((FakeHv *)hv)->dir, "inactive.xml", NULL);
    g_auto(GStrv) parts = g_strsplit(xml, "/g1.nvram", 2);
    g_autofree char *half = g_strjoinv("/g9.nvram", parts);

    return g_file_set_contents(path, half, -1, NULL);
}

static void test_read_back(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(World) world = world_new_uefi(TRUE, WORLD_NVRAM, FALSE);
    g_autoptr(VrSwap) swap = world_begin(world, -1, NULL);
    g_autofree char *old = path_in(world, "old.nvram");
    const VrHvOps *real = world->fake->hv.ops;
    VrHvOps half = *real;

    half.define = half_define;
    assert_true(vr_swap_advance(swap, VR_SWAP_STOPPED, &world_stop, NULL));
    world->fake->hv.ops = &half;
    assert_false(vr_swap_advance(swap, VR_SWAP_SWITCHED, NULL, &error));
    expect_error(&error, VR_ERROR_CONFLICT, "NVRAM");
    world->fake->hv.ops = real;
    assert_true(vr_swap_undo(swap, "no", NULL));
    expect_configured(world, old);
    world_check(world, TRUE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forward_and_back),
        cmocka_unit_test(test_the_old_file_is_not_touched),
        cmocka_unit_test(test_it_is_journaled),
        cmocka_unit_test(test_undo),
        cmocka_unit_test(test_libvirt_chooses),
        cmocka_unit_test(test_never_started),
        cmocka_unit_test(test_failed_one_of_libvirts),
        cmocka_unit_test(test_missing),
        cmocka_unit_test(test_missing_meanwhile),
        cmocka_unit_test(test_taken_name),
        cmocka_unit_test(test_name_taken_late),
        cmocka_unit_test(test_no_plain_file),
        cmocka_unit_test(test_edits),
        cmocka_unit_test(test_firmware_changed),
        cmocka_unit_test(test_held),
        cmocka_unit_test(test_copied_again),
        cmocka_unit_test(test_read_back),
    };

    world_quick_clock();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
