/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* B8: a temp disk is made anew in the reimage that was asked to, and in no other swap; data disks and the proof of them as ever (SAFETY invariant
 * 10); killed anywhere it is the old one or the new one (B17). */
#include "fault/cuts.h"

#include "base/child.h"
#include "base/error.h"
#include "disk/temp_disk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define TEMP_UUID "5b2a8a08-26a5-4fd8-9a6e-0d7a8f0c1b11"
#define TEMP_BYTES (4 * 1024 * 1024)
#define SCRIBBLE "the guest was here"

static const char *const temp_targets[] = {"vdc", NULL};

static char *temp_path(World *world)
{
    return g_build_filename(world->top, "scratch", "temp.raw", NULL);
}

static void scribble(World *world)
{
    g_autofree char *path = temp_path(world);
    FILE *file = fopen(path, "r+");

    assert_int_equal(fseek(file, TEMP_BYTES - 100000, SEEK_SET), 0);
    assert_true(fputs(SCRIBBLE, file) >= 0);
    fclose(file);
}

/* The guest has an ext4 file system on vdc, in a directory of its own, and wrote to it. */
static World *world_with_temp(gboolean running, const char *format)
{
    World *world = world_new(FALSE);
    g_autofree char *path = temp_path(world);
    g_autofree char *directory = g_path_get_dirname(path);
    g_autofree char *size = g_strdup_printf("%dk", TEMP_BYTES / 1024);
    const char *const argv[] = {"mkfs.ext4", "-q", "-F", "-L", "scratch", "-U", TEMP_UUID, path, size, NULL};
    g_autofree char *disk = g_strdup_printf("<disk type='file' device='disk'><driver name='qemu' type='%s'/>"
                                            "<source file='%s'/><target dev='vdc' bus='virtio'/></disk><interface",
                                            format, path);

    assert_int_equal(g_mkdir_with_parents(directory, 0711), 0);
    assert_true(vr_child_run(argv, NULL, NULL, NULL));
    assert_int_equal(chmod(path, 0660), 0);
    scribble(world);
    fake_hv_edit(world->fake, "<interface", disk);
    if (running)
        assert_true(vr_hv_start(&world->fake->hv, FAKE_UUID, NULL));
    world->fake->starts = world->fake->point = 0;
    return world;
}

static VrSwap *begin(World *world, const char *const *targets, GError **error)
{
    VrSwapRequest request = {
        .run_id = "run", .uuid = FAKE_UUID, .os_target = "vda", .image = world->image, .temp_targets = targets};

    return vr_swap_begin(&world->engine, &request, error);
}

/* It is whole, an ext4 of that name; TRUE: empty. */
static gboolean is_anew(World *world)
{
    g_autofree char *path = temp_path(world);
    g_autofree char *bytes = NULL;
    g_auto(VrTempDisk) disk = {0};
    gsize length;

    assert_true(vr_temp_disk_look(path, &disk, NULL));
    assert_string_equal(disk.type, "ext4");
    assert_string_equal(disk.label, "scratch");
    assert_string_equal(disk.uuid, TEMP_UUID);
    assert_int_equal(world_mode(path), 0660);
    assert_true(g_file_get_contents(path, &bytes, &length, NULL));
    assert_int_equal(length, TEMP_BYTES);
    return memmem(bytes, length, SCRIBBLE, strlen(SCRIBBLE)) == NULL;
}

static guint files_beside(World *world)
{
    g_autofree char *path = temp_path(world);
    g_autofree char *directory = g_path_get_dirname(path);
    g_autoptr(GDir) dir = g_dir_open(directory, 0, NULL);
    guint count = 0;

    while (g_dir_read_name(dir))
        count++;
    return count;
}

static void test_made_anew(void **state) /* and what is shown of it */
{
    for (int running = 0; running <= 1; running++) {
        g_autoptr(World) world = world_with_temp(running, "raw");
        g_autoptr(GError) error = NULL;
        g_autoptr(VrSwap) swap = begin(world, temp_targets, &error);
        g_autoptr(VrDataProof) proof = NULL;
        g_autofree char *text = NULL;

        assert_non_null(swap);
        assert_true(vr_swap_advance(swap, VR_SWAP_STOPPED, &world_stop, &error));
        assert_false(is_anew(world)); /* not before it is off */
        if (!vr_swap_advance(swap, VR_SWAP_STARTED, &world_stop, &error))
            fail_msg("%s", error->message);
        assert_true(vr_swap_commit(swap, NULL, NULL));
        assert_true(is_anew(world));
        assert_int_equal(files_beside(world), 1);
        proof = vr_data_proof_of(world->journal, vr_swap_row(swap)->id, NULL);
        text = vr_data_proof_text(proof);
        assert_non_null(strstr(text, "1 untouched: vdb"));
        assert_non_null(strstr(text, "; made anew: vdc"));
        world_check(world, TRUE);
    }
}

static void test_never_otherwise(void **state)
{
    g_autoptr(World) world = world_with_temp(TRUE, "raw");
    static const char *const none_there[] = {"vdx", NULL};
    g_autoptr(VrSwap) swap = NULL;

    world_swap(world, -1); /* without the flag */
    assert_false(is_anew(world));
    swap = begin(world, none_there, NULL); /* a flag for a disk that this guest does not have */
    assert_true(vr_swap_advance(swap, VR_SWAP_STARTED, &world_stop, NULL));
    assert_true(vr_swap_commit(swap, NULL, NULL));
    assert_false(is_anew(world));
    world_swap(world, 1);
    assert_false(is_anew(world));
    world_check(world, TRUE);
}

static void test_no_way_back_brings_it_back(void **state)
{
    g_autoptr(World) world = world_with_temp(TRUE, "raw");
    g_autoptr(VrSwap) swap = begin(world, temp_targets, NULL);

    assert_true(vr_swap_advance(swap, VR_SWAP_STARTED, &world_stop, NULL));
    assert_true(vr_swap_undo(swap, "test", NULL));
    assert_int_equal(world_current(world), 0);
    assert_true(is_anew(world));
    scribble(world);
    world_swap(world, -1);
    world_swap(world, 0); /* nor does a rollback make it anew */
    assert_false(is_anew(world));
    world_check(world, TRUE);
}

static void test_refused_before_anything(void **state)
{
    static const char *const os[] = {"vda", NULL};
    g_autoptr(World) world = world_with_temp(FALSE, "qcow2");
    g_autoptr(GError) error = NULL;
    g_autofree char *path = temp_path(world);

    world->fake->shutdowns = 0;
    assert_null(begin(world, temp_targets, &error));
    assert_true(g_error_matches(error, VR_ERROR, VR_ERROR_REFUSED));
    g_clear_error(&error);
    fake_hv_edit(world->fake, "type='qcow2'", "type='raw'");
    assert_null(begin(world, os, &error));
    assert_true(g_error_matches(error, VR_ERROR, VR_ERROR_REFUSED));
    assert_non_null(strstr(error->message, "is the OS disk"));
    g_clear_error(&error);
    assert_int_equal(truncate(path, 0), 0);
    assert_null(begin(world, temp_targets, &error));
    assert_true(g_error_matches(error, VR_ERROR, VR_ERROR_REFUSED));
    assert_int_equal(world->fake->shutdowns, 0);
    world_check(world, TRUE);
}

static void test_the_proof_covers_the_new_one(void **state) /* invariant 10: whoever touches it after it was made */
{
    g_autoptr(World) world = world_with_temp(TRUE, "raw");
    g_autoptr(VrSwap) swap = begin(world, temp_targets, NULL);
    g_autoptr(GError) error = NULL;

    assert_true(vr_swap_advance(swap, VR_SWAP_SWITCHED, &world_stop, NULL));
    assert_true(is_anew(world));
    scribble(world);
    assert_false(vr_swap_advance(swap, VR_SWAP_STARTED, &world_stop, &error));
    assert_true(g_error_matches(error, VR_ERROR, VR_ERROR_CONFLICT));
    assert_non_null(strstr(error->message, "vdc"));
    assert_true(vr_swap_undo(swap, "test", NULL));
    world_check(world, TRUE);
}

/* --- kills ------------------------------------------------------------------------------------------- */

static void reimage(World *world)
{
    g_autoptr(VrSwap) swap = begin(world, temp_targets, NULL);

    if (swap && vr_swap_advance(swap, VR_SWAP_STARTED, &world_stop, NULL))
        vr_swap_commit(swap, NULL, NULL);
}

static void test_killed_anywhere(void **state)
{
    guint cuts = 0, old = 0;

    for (CutKind kind = 0; kind < CUT_KINDS; kind++) {
        for (guint at = 1;; at++) {
            g_autoptr(World) world = world_with_temp(TRUE, "raw");
            gboolean anew;

            if (!cut_in(world, reimage, kind, at)) {
                assert_true(is_anew(world));
                break;
            }
            anew = is_anew(world); /* whole, whichever it is */
            world_recover_once(world);
            assert_int_equal(is_anew(world), anew);
            assert_int_equal(files_beside(world), 1);
            world_check(world, TRUE);
            cuts++;
            old += anew ? 0 : 1;
        }
    }
    print_message("%u cuts, the old one after %u of them\n", cuts, old);
    assert_true(old > 10 && cuts - old > 10);
}

static void test_a_name_that_was_left_goes(void **state) /* killed between the two names of the new file */
{
    g_autoptr(World) world = world_with_temp(TRUE, "raw");
    g_autoptr(VrSwap) swap = begin(world, temp_targets, NULL);
    g_autofree char *path = temp_path(world);
    g_autofree char *name = g_strdup_printf("scratch/.virt-reimage-%s-vdc", vr_swap_row(swap)->id);
    g_autofree char *beside = g_build_filename(world->top, name, NULL);
    VrFileId id;

    assert_true(vr_swap_advance(swap, VR_SWAP_STOPPED, &world_stop, NULL));
    assert_true(g_file_set_contents(beside, "new", -1, NULL));
    assert_true(vr_disk_file_id(beside, &id, NULL));
    assert_true(vr_manifest_made_anew(world->journal, world->owner, vr_swap_row(swap)->id, "vdc", &id, "", NULL));
    g_clear_pointer(&swap, vr_swap_free);
    world_recover_once(world);
    assert_int_equal(files_beside(world), 1);
    assert_false(is_anew(world));
    world_check(world, TRUE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_made_anew),
        cmocka_unit_test(test_never_otherwise),
        cmocka_unit_test(test_no_way_back_brings_it_back),
        cmocka_unit_test(test_refused_before_anything),
        cmocka_unit_test(test_the_proof_covers_the_new_one),
        cmocka_unit_test(test_a_name_that_was_left_goes),
        cmocka_unit_test(test_killed_anywhere),
    };

    cut_install_clock();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
