/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The swap on real files and a real journal with a scripted hypervisor. Rows B1, B2, B4, B5, B6, B16, B17, B19. */
#include "engine/support.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "disk/qcow2.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char *generation_path(World *world, guint number)
{
    g_autoptr(VrGeneration) generation = vr_journal_generation(world->journal, FAKE_UUID, number, NULL);

    return g_strdup(generation->path);
}

static void test_forward(void **state) /* B1 B2 B4 */
{
    g_autoptr(World) world = world_new(TRUE);
    g_autofree char *path = NULL;
    g_autofree char *live = NULL;

    world_swap(world, -1);
    path = generation_path(world, 1);
    live = fake_hv_os_path(world->fake, TRUE);
    assert_string_equal(live, path);
    assert_int_equal(world_current(world), 1);
    world_check(world, TRUE);
}

static void test_back_and_forth(void **state) /* B5 */
{
    g_autoptr(World) world = world_new(TRUE);
    g_autofree char *one = NULL;
    g_autofree char *now = NULL;

    world_swap(world, -1);
    world_swap(world, -1);
    assert_int_equal(world_current(world), 2);
    one = generation_path(world, 1);
    assert_int_equal(world_mode(one), 0400);
    world_swap(world, 1);
    assert_int_equal(world_mode(one), 0600);
    world_swap(world, 0);
    assert_int_equal(world_mode(one), 0400);
    world_swap(world, 2);
    now = fake_hv_os_path(world->fake, TRUE);
    assert_true(g_str_has_suffix(now, "/g2.qcow2"));
    world_check(world, TRUE);
}

static gboolean names_base(World *world, guint number)
{
    g_autofree char *path = generation_path(world, number);
    g_autofree char *inactive = g_build_filename(world->hv_dir, "inactive.xml", NULL);
    g_autofree char *xml = NULL;
    VrQcow2Header header;
    vr_autofd fd = open(path, O_RDONLY | O_CLOEXEC);

    assert_true(vr_qcow2_header_read(fd, &header, NULL));
    assert_true(g_file_get_contents(inactive, &xml, NULL, NULL));
    assert_true((strstr(xml, world->image->path) != NULL) == (header.backing_offset != 0));
    return header.backing_offset != 0;
}

/* A full clone, then an overlay, and back to each: every generation keeps the disk that it was made with. */
/* A reboot may give the file system's device another number: the same inode beside us is still ours. */
static void test_device_has_another_number(void **state) /* B5 B17 */
{
    g_autoptr(World) world = world_new(TRUE);
    g_autofree char *one = NULL;
    g_autofree char *two = NULL;
    g_autoptr(GPtrArray) recovered = NULL;

    world_swap(world, -1);
    world_swap(world, -1);
    one = generation_path(world, 1);
    two = generation_path(world, 2);
    assert_true(vr_db_begin(vr_store_db(world->store), NULL));
    assert_true(
        vr_db_run(vr_store_db(world->store), NULL, NULL, "UPDATE generations SET device = device + 1 WHERE ours", ""));
    assert_true(vr_db_commit(vr_store_db(world->store), NULL));
    assert_int_equal(chmod(one, 0600), 0);
    recovered = vr_recover(&world->engine, FALSE, NULL);
    assert_non_null(recovered);
    assert_int_equal(world_mode(one), 0400);
    world_swap(world, 1);
    assert_int_equal(world_mode(two), 0400);
    world_check(world, TRUE);
}

/* The same for the data disks of a swap that the power cut: they are the same files. */
static void test_device_of_data_disks(void **state) /* B17 */
{
    g_autoptr(World) world = world_new(TRUE);
    g_autoptr(VrSwap) swap = world_begin(world, -1, NULL);
    g_autoptr(GPtrArray) recovered = NULL;
    int changes = 0;

    assert_true(vr_swap_advance(swap, VR_SWAP_SWITCHED, &world_stop, NULL));
    assert_true(vr_db_begin(vr_store_db(world->store), NULL));
    assert_true(vr_db_run(vr_store_db(world->store), &changes, NULL, "UPDATE data_disks SET device = device + 1", ""));
    assert_true(vr_db_commit(vr_store_db(world->store), NULL));
    assert_true(changes > 0);
    recovered = vr_recover(&world->engine, FALSE, NULL);
    assert_int_equal(recovered->len, 1);
    assert_int_equal(((VrRecovered *)recovered->pdata[0])->row->state, VR_SWAP_STARTED);
    assert_int_equal(fake_hv_state(world->fake), VR_DOMAIN_RUNNING);
}

static void test_full_clone(void **state) /* B4 B5 B6 */
{
    g_autoptr(World) world = world_new(TRUE);

    world->full = TRUE;
    world_swap(world, -1);
    assert_false(names_base(world, 1));
    world_check(world, TRUE);
    world->full = FALSE;
    world_swap(world, -1);
    assert_true(names_base(world, 2));
    world_swap(world, 1);
    assert_false(names_base(world, 1));
    world_check(world, TRUE);
    world_swap(world, 0);
    world_swap(world, 2);
    assert_true(names_base(world, 2));
    world_check(world, TRUE);
}

/* B13: the disk that the guest has is larger than the image. */
static void test_full_clone_keeps_the_size(void **state)
{
    g_autoptr(World) world = world_new(TRUE);
    g_autoptr(VrSwap) swap = NULL;
    guint64 size;

    assert_int_equal(truncate(world->old_path, 5 * 1024 * 1024), 0);
    world->full = TRUE;
    swap = world_begin(world, -1, NULL);
    assert_true(vr_swap_advance(swap, VR_SWAP_PREPARED, NULL, NULL));
    g_autofree char *path = generation_path(world, 1);
    assert_true(vr_disk_file_virtual_size(path, "qcow2", &size, NULL));
    assert_int_equal(size, 5 * 1024 * 1024);
}

/* Numbers are never used again, not even those of discarded disks. */
static void test_numbers(void **state)
{
    g_autoptr(World) world = world_new(TRUE);
    g_autoptr(VrSwap) swap = world_begin(world, -1, NULL);

    assert_true(vr_swap_advance(swap, VR_SWAP_PREPARED, NULL, NULL));
    assert_true(vr_swap_undo(swap, "test", NULL));
    assert_int_equal(vr_swap_row(swap)->state, VR_SWAP_DISCARDED);
    world_check(world, TRUE);
    world_swap(world, -1);
    assert_int_equal(world_current(world), 2);
}

/* J11: a generation says by which revision of the model it was made; generation 0 does not know. */
static void test_model_revision(void **state)
{
    g_autoptr(World) world = world_new(TRUE);
    VrDb *db = vr_journal_db(world->journal);
    static const guint expected[] = {0, 3, 7};
    g_autoptr(GPtrArray) all = NULL;
    guint last;

    world->model_revision = 3;
    world_swap(world, -1);
    world->model_revision = 7;
    world_swap(world, -1);
    world_swap(world, 1); /* a rollback makes nothing */
    all = vr_journal_generations(world->journal, FAKE_UUID, NULL);
    assert_int_equal(all->len, G_N_ELEMENTS(expected));
    for (guint i = 0; i < all->len; i++)
        assert_int_equal(((const VrGeneration *)all->pdata[i])->model_revision, expected[i]);
    assert_true(vr_db_begin(db, NULL));
    assert_true(vr_journal_last_revision(world->journal, FAKE_UUID, &last, NULL));
    vr_db_rollback(db);
    assert_int_equal(last, 7);
}

static void undo_from(VrSwapState reached, VrSwapState ends, VrGenerationState generation_state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(World) world = world_new(TRUE);
    g_autoptr(VrSwap) swap = world_begin(world, -1, &error);
    g_autoptr(VrGeneration) made = NULL;
    g_autofree char *live = NULL;

    assert_null(error);
    assert_true(vr_swap_advance(swap, reached, &world_stop, &error));
    world_check(world, FALSE);
    assert_true(vr_swap_undo(swap, "test", &error));
    assert_int_equal(vr_swap_row(swap)->state, ends);
    live = fake_hv_os_path(world->fake, TRUE);
    assert_string_equal(live, world->old_path);
    assert_int_equal(fake_hv_state(world->fake), VR_DOMAIN_RUNNING);
    made = vr_journal_generation(world->journal, FAKE_UUID, 1, NULL);
    assert_int_equal(made->state, generation_state);
    world_check(world, TRUE);
    assert_true(vr_swap_undo(swap, "again", &error)); /* replayed: a no-op (invariant 13) */
}

static void test_undo_prepared(void **state)
{
    undo_from(VR_SWAP_PREPARED, VR_SWAP_DISCARDED, VR_GENERATION_DISCARDED);
}

static void test_undo_stopped(void **state)
{
    undo_from(VR_SWAP_STOPPED, VR_SWAP_UNDONE, VR_GENERATION_DISCARDED);
}

static void test_undo_switched(void **state)
{
    undo_from(VR_SWAP_SWITCHED, VR_SWAP_UNDONE, VR_GENERATION_DISCARDED);
}

static void test_undo_started(void **state) /* F1 F11 */
{
    undo_from(VR_SWAP_STARTED, VR_SWAP_UNDONE, VR_GENERATION_FAILED);
}

static void test_off_stays_off(void **state) /* B16 */
{
    g_autoptr(World) world = world_new(FALSE);

    world_swap(world, -1);
    assert_int_equal(fake_hv_state(world->fake), VR_DOMAIN_OFF);
    assert_int_equal(world->fake->starts, 0);
    world_check(world, TRUE);
}

static void test_edit_meanwhile(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(World) world = world_new(TRUE);
    g_autoptr(VrSwap) swap = world_begin(world, -1, NULL);
    g_autofree char *xml = NULL;

    assert_true(vr_swap_advance(swap, VR_SWAP_STOPPED, &world_stop, NULL));
    fake_hv_edit(world->fake, "16384", "32768");
    assert_false(vr_swap_advance(swap, VR_SWAP_STARTED, &world_stop, &error));
    assert_gerror(error, VR_ERROR_CONFLICT);
    assert_int_equal(vr_swap_row(swap)->state, VR_SWAP_STOPPED);
    assert_true(vr_swap_undo(swap, error->message, NULL));
    xml = vr_hv_inactive_xml(&world->fake->hv, FAKE_UUID, NULL);
    assert_non_null(strstr(xml, "32768"));
    world_check(world, TRUE);
}

/* An edit after the switch survives the way back: only the OS disk goes back (F7). */
static void test_edit_after_switch(void **state)
{
    g_autoptr(World) world = world_new(TRUE);
    g_autoptr(VrSwap) swap = world_begin(world, -1, NULL);
    g_autofree char *xml = NULL;

    assert_true(vr_swap_advance(swap, VR_SWAP_STARTED, &world_stop, NULL));
    fake_hv_edit(world->fake, "16384", "32768");
    assert_true(vr_swap_undo(swap, "not healthy", NULL));
    xml = vr_hv_inactive_xml(&world->fake->hv, FAKE_UUID, NULL);
    assert_non_null(strstr(xml, "32768"));
    assert_null(strstr(xml, "urn:virt-reimage"));
    world_check(world, TRUE);
}

static void test_new_disk_does_not_start(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(World) world = world_new(TRUE);
    g_autoptr(VrSwap) swap = world_begin(world, -1, NULL);

    world->fake->fail_new_disk = TRUE;
    assert_false(vr_swap_advance(swap, VR_SWAP_STARTED, &world_stop, &error));
    assert_gerror(error, VR_ERROR_HYPERVISOR);
    assert_true(vr_swap_undo(swap, error->message, NULL));
    assert_int_equal(fake_hv_state(world->fake), VR_DOMAIN_RUNNING);
    world_check(world, TRUE);
}

static void test_deaf_guest_is_left(void **state)
{
    const VrStopPolicy gentle = {.method = VR_STOP_ACPI, .timeout_ms = 100, .force = FALSE};
    g_autoptr(GError) error = NULL;
    g_autoptr(World) world = world_new(TRUE);
    g_autoptr(VrSwap) swap = world_begin(world, -1, NULL);

    world->fake->deaf = TRUE;
    assert_false(vr_swap_advance(swap, VR_SWAP_STARTED, &gentle, &error));
    assert_gerror(error, VR_ERROR_TIMEOUT);
    assert_true(vr_swap_undo(swap, error->message, NULL));
    assert_int_equal(vr_swap_row(swap)->state, VR_SWAP_DISCARDED);
    assert_int_equal(fake_hv_state(world->fake), VR_DOMAIN_RUNNING);
    world_check(world, TRUE);
}

static void test_disk_changed_behind_us(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(World) world = world_new(TRUE);
    g_autoptr(VrSwap) swap = NULL;

    world_swap(world, -1);
    fake_hv_edit(world->fake, "/g1.qcow2", "/other.qcow2");
    swap = world_begin(world, -1, &error);
    assert_null(swap);
    assert_gerror(error, VR_ERROR_CONFLICT);
}

static void test_one_open_swap(void **state) /* B19 */
{
    g_autoptr(GError) error = NULL;
    g_autoptr(World) world = world_new(TRUE);
    g_autoptr(VrSwap) first = world_begin(world, -1, NULL);
    g_autoptr(VrSwap) second = world_begin(world, -1, &error);

    assert_non_null(first);
    assert_null(second);
    assert_gerror(error, VR_ERROR_CONFLICT);
}

static void test_rollback_target(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(World) world = world_new(TRUE);

    world_swap(world, -1);
    assert_null(world_begin(world, 1, &error)); /* is current */
    assert_gerror(error, VR_ERROR_REFUSED);
    g_clear_error(&error);
    assert_null(world_begin(world, 7, &error));
    assert_gerror(error, VR_ERROR_NOT_FOUND);
}

static void test_fenced(void **state) /* invariant 22 */
{
    g_autoptr(GError) error = NULL;
    g_autoptr(World) world = world_new(TRUE);
    g_autoptr(VrSwap) swap = world_begin(world, -1, NULL);
    g_autofree char *before = NULL;
    g_autofree char *after = NULL;
    VrDb *db = vr_journal_db(world->journal);

    assert_true(vr_swap_advance(swap, VR_SWAP_STOPPED, &world_stop, NULL));
    assert_true(vr_db_begin(db, NULL));
    assert_true(vr_db_run(db, NULL, NULL, "UPDATE owners SET fence = fence + 1", ""));
    assert_true(vr_db_commit(db, NULL));
    before = fake_hv_os_path(world->fake, FALSE);
    assert_false(vr_swap_advance(swap, VR_SWAP_STARTED, &world_stop, &error));
    assert_gerror(error, VR_ERROR_FENCED);
    g_clear_error(&error);
    assert_false(vr_swap_undo(swap, "test", &error));
    assert_gerror(error, VR_ERROR_FENCED);
    after = fake_hv_os_path(world->fake, FALSE);
    assert_string_equal(before, after);
    assert_int_equal(fake_hv_state(world->fake), VR_DOMAIN_OFF);
}

/* Each libvirt call fails in each way once: the swap ends on old or new after an undo and a recovery (invariant 16). */
static void fault_sweep(FakeFault fault, gboolean stays)
{
    guint fired = 0;

    for (guint at = 1;; at++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(World) world = world_new(TRUE);
        g_autoptr(VrSwap) swap = NULL;
        g_autoptr(GPtrArray) recovered = NULL;
        gboolean ok;

        world->fake->fault = fault;
        world->fake->fault_at = at;
        world->fake->fault_stays = stays;
        swap = world_begin(world, -1, NULL);
        ok = swap && vr_swap_advance(swap, VR_SWAP_STARTED, &world_stop, NULL) && vr_swap_commit(swap, NULL, NULL);
        if (swap && !ok)
            vr_swap_undo(swap, "scripted", NULL);
        fired += world->fake->point >= at;
        if (world->fake->point < at)
            break;
        world->fake->fault_at = 0;
        recovered = vr_recover(&world->engine, FALSE, &error);
        assert_null(error);
        world_check(world, TRUE);
        assert_int_equal(fake_hv_state(world->fake), VR_DOMAIN_RUNNING);
    }
    assert_true(fired >= 10);
}

static void test_refused_once(void **state)
{
    fault_sweep(FAKE_REFUSE, FALSE);
}

static void test_lost_before_once(void **state)
{
    fault_sweep(FAKE_LOST_BEFORE, FALSE);
}

static void test_lost_after_once(void **state)
{
    fault_sweep(FAKE_LOST_AFTER, FALSE);
}

static void test_lost_for_good(void **state)
{
    fault_sweep(FAKE_LOST_BEFORE, TRUE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forward),
        cmocka_unit_test(test_back_and_forth),
        cmocka_unit_test(test_device_has_another_number),
        cmocka_unit_test(test_device_of_data_disks),
        cmocka_unit_test(test_full_clone),
        cmocka_unit_test(test_full_clone_keeps_the_size),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_model_revision),
        cmocka_unit_test(test_undo_prepared),
        cmocka_unit_test(test_undo_stopped),
        cmocka_unit_test(test_undo_switched),
        cmocka_unit_test(test_undo_started),
        cmocka_unit_test(test_off_stays_off),
        cmocka_unit_test(test_edit_meanwhile),
        cmocka_unit_test(test_edit_after_switch),
        cmocka_unit_test(test_new_disk_does_not_start),
        cmocka_unit_test(test_deaf_guest_is_left),
        cmocka_unit_test(test_disk_changed_behind_us),
        cmocka_unit_test(test_one_open_swap),
        cmocka_unit_test(test_rollback_target),
        cmocka_unit_test(test_fenced),
        cmocka_unit_test(test_refused_once),
        cmocka_unit_test(test_lost_before_once),
        cmocka_unit_test(test_lost_after_once),
        cmocka_unit_test(test_lost_for_good),
    };

    world_quick_clock();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
