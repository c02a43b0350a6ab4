/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A swap while others act: somebody starts, edits or migrates the domain, puts a file in the way, or takes the set over; the journal
 * is full; a process ends between two writes that no call of the hypervisor separates. Rows B16, B17, B19. */
#include "engine/support.h"

#include "base/clock.h"
#include "base/error.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static void start_by_somebody(World *world)
{
    assert_true(vr_hv_start(&world->fake->hv, FAKE_UUID, NULL));
}

static void assert_live(World *world, const char *path)
{
    g_autofree char *live = fake_hv_os_path(world->fake, TRUE);

    assert_non_null(live);
    assert_string_equal(live, path);
}

/* --- a file in the way (SAFETY S2-S4: name taken: never overwritten; invariant 7: nor deleted) --------- */

static void test_name_taken(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(World) world = world_new(TRUE);
    g_autofree char *dir = NULL;
    g_autofree char *path = NULL;
    g_autofree char *now = NULL;
    g_autoptr(VrSwap) swap = NULL;

    close(vr_store_instance_dir(world->store, FAKE_UUID, &dir, NULL));
    path = g_build_filename(dir, "g1.qcow2", NULL);
    swap = world_begin(world, -1, NULL);
    assert_true(g_file_set_contents(path, "somebody's disk", -1, NULL));
    assert_false(vr_swap_advance(swap, VR_SWAP_PREPARED, NULL, &error));
    assert_gerror(error, VR_ERROR_CONFLICT);
    assert_true(vr_swap_undo(swap, error->message, NULL));
    assert_true(g_file_get_contents(path, &now, NULL, NULL));
    assert_string_equal(now, "somebody's disk");
}

/* The journal refuses one write of the preparation: before it, nothing has the name; after it, the disk is known by its inode. */
static void test_prepare_cut(void **state)
{
    const struct {
        const char *cut;
        gboolean named;
    } rows[] = {{"BEFORE UPDATE OF device ON generations", FALSE},
                {"BEFORE INSERT ON steps WHEN NEW.name = 'made'", TRUE},
                {"BEFORE INSERT ON steps WHEN NEW.name = 'PREPARED'", TRUE}};

    for (guint i = 0; i < 2 * G_N_ELEMENTS(rows); i++) {
        g_autoptr(World) world = world_new(TRUE);
        g_autofree char *disk = g_build_filename(world->root, "disks", FAKE_UUID, "g1.qcow2", NULL);
        g_autofree char *xml = g_build_filename(world->root, "disks", FAKE_UUID, "g1.xml", NULL);
        g_autofree char *sql =
            g_strdup_printf("CREATE TRIGGER cut %s BEGIN SELECT RAISE(ABORT, 'cut'); END", rows[i / 2].cut);
        g_autoptr(VrSwap) swap = NULL;

        world->full = i % 2;
        swap = world_begin(world, -1, NULL);
        world_run_sql(world, sql);
        assert_false(vr_swap_advance(swap, VR_SWAP_PREPARED, NULL, NULL));
        assert_int_equal(g_file_test(disk, G_FILE_TEST_EXISTS), rows[i / 2].named);
        world_run_sql(world, "DROP TRIGGER cut");
        assert_true(vr_swap_undo(swap, "test", NULL));
        assert_false(g_file_test(disk, G_FILE_TEST_EXISTS));
        assert_false(g_file_test(xml, G_FILE_TEST_EXISTS));
        world_check(world, TRUE);
    }
}

/* Somebody's file under the name of a disk that was journaled and is gone: known by its inode, it stays. */
static void test_name_taken_after(void **state)
{
    g_autoptr(World) world = world_new(TRUE);
    g_autofree char *path = g_build_filename(world->root, "disks", FAKE_UUID, "g1.qcow2", NULL);
    g_autofree char *aside = g_build_filename(world->root, "disks", FAKE_UUID, "aside", NULL);
    g_autoptr(VrSwap) swap = world_reach(world, VR_SWAP_PREPARED);
    g_autofree char *now = NULL;

    assert_int_equal(g_rename(path, aside), 0); /* its inode is not given to the other */
    assert_true(g_file_set_contents(path, "somebody's disk", -1, NULL));
    assert_true(vr_swap_undo(swap, "test", NULL));
    assert_true(g_file_get_contents(path, &now, NULL, NULL));
    assert_string_equal(now, "somebody's disk");
}

/* --- ends between two writes ------------------------------------------------------------------------- */

static void recover_all(World *world)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) recovered = vr_recover(&world->engine, FALSE, &error);

    assert_null(error);
    for (guint i = 0; i < recovered->len; i++)
        if (!vr_swap_state_is_final(((VrRecovered *)recovered->pdata[i])->row->state))
            fail_msg("not recovered: %s", ((VrRecovered *)recovered->pdata[i])->told);
}

/* The process ends after the files of a discarded generation were removed, before the swap's end was journaled: here the
 * journal refuses that one write. */
static void test_discard_cut(void **state)
{
    const VrSwapState from[] = {VR_SWAP_PREPARED, VR_SWAP_STOPPED, VR_SWAP_SWITCHED};

    for (guint i = 0; i < G_N_ELEMENTS(from); i++) {
        g_autoptr(World) world = world_new(TRUE);
        g_autoptr(VrSwap) swap = world_reach(world, from[i]);

        world_run_sql(world, "CREATE TRIGGER cut BEFORE UPDATE ON generations BEGIN SELECT RAISE(ABORT, 'cut'); END");
        assert_false(vr_swap_undo(swap, "test", NULL));
        world_run_sql(world, "DROP TRIGGER cut");
        recover_all(world);
        world_check(world, TRUE);
    }
}

/* The process ends after COMMITTED was journaled, before the old disk was sealed. */
static void test_seal_cut(void **state)
{
    g_autoptr(World) world = world_new(TRUE);
    g_autofree char *one = NULL;

    world_swap(world, -1);
    one = fake_hv_os_path(world->fake, FALSE);
    world_swap(world, -1);
    assert_int_equal(chmod(one, 0600), 0);
    recover_all(world);
    assert_int_equal(world_mode(one), 0400);
    world_check(world, TRUE);
}

/* But one that may run is not sealed: the target of a rollback that is under way, or a disk that a process holds. */
static void test_no_seal_under_rollback(void **state)
{
    g_autoptr(World) world = world_new(TRUE);
    g_autofree char *one = NULL;
    g_autoptr(VrSwap) swap = NULL;
    g_autoptr(GPtrArray) recovered = NULL;

    world_swap(world, -1);
    one = fake_hv_os_path(world->fake, FALSE);
    world_swap(world, -1);
    swap = world_begin(world, 1, NULL);
    assert_true(vr_swap_advance(swap, VR_SWAP_STARTED, &world_stop, NULL));
    recovered = vr_recover(&world->engine, FALSE, NULL);
    assert_int_equal(recovered->len, 1);
    assert_int_equal(world_mode(one), 0600);
}

/* A second rollback is refused before it writes the files that the open one would recover from. */
static void test_second_rollback(void **state) /* B19 */
{
    g_autoptr(GError) error = NULL;
    g_autoptr(World) world = world_new(TRUE);
    g_autoptr(VrSwap) first = NULL;
    g_autofree char *dir = NULL;
    g_autofree char *path = NULL;
    g_autofree char *before = NULL;
    g_autofree char *after = NULL;

    world_swap(world, -1);
    first = world_begin(world, 0, NULL);
    assert_non_null(first);
    close(vr_store_instance_dir(world->store, FAKE_UUID, &dir, NULL));
    path = g_build_filename(dir, "g1.xml", NULL);
    assert_true(g_file_get_contents(path, &before, NULL, NULL));
    fake_hv_edit(world->fake, "16384", "32768");
    assert_null(world_begin(world, 0, &error));
    assert_gerror(error, VR_ERROR_CONFLICT);
    assert_true(g_file_get_contents(path, &after, NULL, NULL));
    assert_string_equal(before, after);
}

/* --- power, by somebody else ------------------------------------------------------------------------- */

/* A guest that was off is started on its old disk in the middle: the swap is not done, and the guest is left (S6-S7). */
static void test_off_guest_started(void **state) /* B16 */
{
    g_autoptr(GError) error = NULL;
    g_autoptr(World) world = world_new(FALSE);
    g_autoptr(VrSwap) swap = world_reach(world, VR_SWAP_STOPPED);

    start_by_somebody(world);
    assert_false(vr_swap_advance(swap, VR_SWAP_STARTED, &world_stop, &error));
    assert_gerror(error, VR_ERROR_CONFLICT);
    assert_true(vr_swap_undo(swap, error->message, NULL));
    assert_live(world, world->old_path);
    assert_int_equal(world_current(world), 0);
    world_check(world, TRUE);
}

/* Somebody starts it when its XML names the new disk already: that is what was wanted (S11). */
static void test_switched_guest_started(void **state)
{
    g_autoptr(World) world = world_new(TRUE);
    g_autoptr(VrSwap) swap = world_reach(world, VR_SWAP_SWITCHED);
    guint starts;

    start_by_somebody(world);
    starts = world->fake->starts;
    assert_true(vr_swap_advance(swap, VR_SWAP_STARTED, &world_stop, NULL));
    assert_int_equal(world->fake->starts, starts);
    assert_true(vr_swap_commit(swap, NULL, NULL));
    assert_int_equal(world_current(world), 1);
    world_check(world, TRUE);
}

/* A guest that takes its time to stop is started again when it goes off after we have given up on it (S6-S7). */
static void test_late_stop(void **state)
{
    const VrStopPolicy gentle = {.method = VR_STOP_ACPI, .timeout_ms = 100, .force = FALSE};
    g_autoptr(GError) error = NULL;
    g_autoptr(World) world = world_new(TRUE);
    g_autoptr(VrSwap) swap = world_reach(world, VR_SWAP_PREPARED);

    world->fake->stops_after = 60;
    assert_false(vr_swap_advance(swap, VR_SWAP_STARTED, &gentle, &error));
    assert_gerror(error, VR_ERROR_TIMEOUT);
    assert_true(vr_swap_undo(swap, error->message, NULL));
    world->fake->stopping = MIN(world->fake->stopping, 1);
    g_autofree char *live = NULL;
    g_auto(VrDomainInfo) info = {0};
    assert_true(vr_hv_info(&world->fake->hv, FAKE_UUID, &info, NULL));
    assert_int_equal(info.state, VR_DOMAIN_RUNNING);
    assert_live(world, world->old_path);
    world_check(world, TRUE);
}

/* A guest that ends as soon as it is started was started all the same: its health decides what becomes of the version, and a guest that
 * may stay on it (F2) does. */
static void test_ends_at_once(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(World) world = world_new(TRUE);
    g_autoptr(VrSwap) swap = world_reach(world, VR_SWAP_SWITCHED);

    world->fake->ends_at_once = TRUE;
    assert_true(vr_swap_advance(swap, VR_SWAP_STARTED, &world_stop, &error));
    assert_true(vr_swap_leave(swap, "it is off", &error));
    assert_int_equal(world_current(world), 1);
    world_check(world, FALSE);
}

/* It writes a byte, as a system does that boots. */
static void write_to(const char *path)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    g_usleep(20 * 1000); /* the clock of file times is coarse */
    assert_true(fd >= 0 && pwrite(fd, "!", 1, 512 * 1024) == 1);
    close(fd);
}

/* The host goes down right after the switch; libvirt's autostart boots the new system, which writes to its disks and ends before anybody looks. */
static VrSwap *boot_unseen(World *world, int to_generation)
{
    VrSwap *swap = world_begin(world, to_generation, NULL);
    g_autofree char *path = NULL;

    assert_true(vr_swap_advance(swap, VR_SWAP_SWITCHED, &world_stop, NULL));
    fake_hv_boot_host(world->fake, TRUE);
    path = fake_hv_os_path(world->fake, TRUE);
    write_to(path);
    write_to(world->data_path);
    fake_hv_set_state(world->fake, VR_DOMAIN_OFF);
    return swap;
}

/* It was booted: its disk is kept as a failed one (invariant 12). */
static void test_booted_unseen(void **state)
{
    g_autoptr(World) world = world_new(TRUE);
    g_autoptr(VrSwap) swap = boot_unseen(world, -1);
    g_autoptr(VrGeneration) made = NULL;
    gboolean marked;

    assert_true(vr_swap_undo(swap, "it did not come up", NULL));
    assert_true(vr_journal_has_mark(world->journal, vr_swap_row(swap)->id, VR_STEP_BOOTED_UNSEEN, &marked, NULL));
    assert_true(marked); /* a run that goes on does not try it again */
    made = vr_journal_generation(world->journal, FAKE_UUID, 1, NULL);
    assert_int_equal(made->state, VR_GENERATION_FAILED);
    assert_true(g_file_test(made->path, G_FILE_TEST_EXISTS));
    assert_live(world, world->old_path);
}

/* What it wrote to its data disks is its own affair: it is started, and its health decides; on the way there and in a rollback. */
static void test_booted_unseen_and_recovered(void **state)
{
    for (int to_generation = -1; to_generation < 1; to_generation++) {
        g_autoptr(World) world = world_new(TRUE);
        g_autoptr(VrSwap) swap = NULL;
        g_autofree char *live = NULL;

        if (to_generation == 0)
            world_swap(world, -1);
        swap = boot_unseen(world, to_generation);
        assert_int_equal(world_recover_once(world), 1);
        live = fake_hv_os_path(world->fake, TRUE);
        assert_non_null(strstr(live, to_generation == 0 ? "old.raw" : "g1.qcow2"));
        assert_int_equal(world_current(world), to_generation == 0 ? 0 : 1);
    }
}

/* When libvirt only gave the file to QEMU, which ended before it wrote: it was started all the same. Nothing of the kind: never booted. */
static void test_booted_unseen_without_a_trace(void **state)
{
    for (int touched = 0; touched < 2; touched++) {
        g_autoptr(World) world = world_new(TRUE);
        g_autoptr(VrSwap) swap = world_reach(world, VR_SWAP_SWITCHED);
        g_autofree char *path = fake_hv_os_path(world->fake, FALSE);
        g_autoptr(VrGeneration) made = NULL;

        g_usleep(20 * 1000);
        if (touched)
            assert_int_equal(chown(path, getuid(), getgid()), 0);
        assert_true(vr_swap_undo(swap, "test", NULL));
        made = vr_journal_generation(world->journal, FAKE_UUID, 1, NULL);
        assert_int_equal(made->state, touched ? VR_GENERATION_FAILED : VR_GENERATION_DISCARDED);
        world_check(world, TRUE);
    }
}

/* The same on the way back: it is on its old disk, and was running. */
static void test_old_ends_at_once(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(World) world = world_new(TRUE);
    g_autoptr(VrSwap) swap = world_reach(world, VR_SWAP_STARTED);

    world->fake->ends_at_once = TRUE;
    assert_true(vr_swap_undo(swap, "not healthy", &error));
    assert_int_equal(world_current(world), 0);
    world_check(world, FALSE);
}

/* A guest that runs on a disk of which we know nothing is nobody's to destroy. */
static void test_third_disk(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(World) world = world_new(TRUE);
    g_autoptr(VrSwap) swap = world_reach(world, VR_SWAP_SWITCHED);

    g_autofree char *new = fake_hv_os_path(world->fake, FALSE);
    g_autoptr(GString) third = g_string_new(new);

    g_string_replace(third, "/g1.qcow2", "/third.qcow2", 1);
    assert_int_equal(link(new, third->str), 0);
    fake_hv_edit(world->fake, new, third->str);
    start_by_somebody(world);
    assert_false(vr_swap_undo(swap, "test", &error));
    assert_gerror(error, VR_ERROR_PERSON);
    assert_int_equal(fake_hv_state(world->fake), VR_DOMAIN_RUNNING);
    assert_int_equal(vr_swap_row(swap)->state, VR_SWAP_UNKNOWN);
}

static void expect_left_alone(World *world)
{
    g_autoptr(GPtrArray) recovered = vr_recover(&world->engine, FALSE, NULL);
    const VrRecovered *one = recovered->pdata[0];

    assert_int_equal(world->fake->starts, 0);
    assert_int_equal(one->row->state, VR_SWAP_UNKNOWN);
    assert_non_null(strstr(one->told, "virsh start"));
    assert_non_null(strstr(one->told, "--forget"));
}

/* Off because it was migrated or saved: never started here (S6-S7), not by a recovery either, and not when libvirtd was restarted since and has
 * forgotten why. When somebody starts it here, it is here. */
static void migrated(VrDomainReason reason, VrSwapState reached)
{
    g_autoptr(World) world = world_new(TRUE);
    g_autoptr(VrSwap) swap = world_reach(world, reached);

    fake_hv_end(world->fake, reason);
    world->fake->starts = 0;
    expect_left_alone(world);
    fake_hv_restart(world->fake);
    expect_left_alone(world);
    expect_left_alone(world);
    start_by_somebody(world);
    recover_all(world);
    assert_live(world, world->old_path);
    world_check(world, TRUE);
}

static void test_migrated(void **state)
{
    migrated(VR_REASON_MIGRATED, VR_SWAP_STARTED);
    migrated(VR_REASON_SAVED, VR_SWAP_STARTED);
    migrated(VR_REASON_MIGRATED, VR_SWAP_STOPPED);
}

/* It moves while it is asked to stop. */
static void test_migrated_at_the_stop(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(World) world = world_new(TRUE);
    g_autoptr(VrSwap) swap = world_reach(world, VR_SWAP_PREPARED);

    world->fake->stop_reason = VR_REASON_MIGRATED;
    assert_false(vr_swap_advance(swap, VR_SWAP_STARTED, &world_stop, &error));
    assert_gerror(error, VR_ERROR_PERSON);
    fake_hv_restart(world->fake);
    world->fake->starts = 0;
    expect_left_alone(world);
}

/* --- the journal and the owner ----------------------------------------------------------------------- */

/* A journal that takes nothing more does not keep a guest off: the old disk is started (S8-S10; invariant 15). */
static void test_full_journal(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(World) world = world_new(TRUE);
    g_autoptr(VrSwap) swap = world_reach(world, VR_SWAP_SWITCHED);

    world_run_sql(world, "CREATE TRIGGER full BEFORE INSERT ON steps BEGIN SELECT RAISE(ABORT, 'full'); END");
    assert_false(vr_swap_advance(swap, VR_SWAP_STARTED, &world_stop, NULL));
    assert_false(vr_swap_undo(swap, "test", &error));
    assert_non_null(error);
    assert_int_equal(fake_hv_state(world->fake), VR_DOMAIN_RUNNING);
    assert_live(world, world->old_path);
    world_run_sql(world, "DROP TRIGGER full");
    recover_all(world);
    assert_live(world, world->old_path);
    world_check(world, TRUE);
}

/* Nor does one that another process has locked: what is only read is read (invariant 15). Two writes wait their ten seconds. */
static void test_locked_journal(void **state)
{
    g_autoptr(World) world = world_new(TRUE);
    g_autofree char *path = g_build_filename(world->root, "state.db", NULL);
    g_autoptr(VrDb) other = vr_db_open(path, FALSE, NULL);
    g_autoptr(VrSwap) swap = world_reach(world, VR_SWAP_SWITCHED);
    gint64 began = g_get_monotonic_time();

    assert_true(vr_db_begin(other, NULL));
    assert_false(vr_swap_undo(swap, "test", NULL));
    assert_int_equal(fake_hv_state(world->fake), VR_DOMAIN_RUNNING);
    assert_live(world, world->old_path);
    assert_true(g_get_monotonic_time() - began < 28 * G_USEC_PER_SEC);
    vr_db_rollback(other);
    recover_all(world);
    assert_live(world, world->old_path);
    world_check(world, TRUE);
}

/* Time passes only by sleeping; in the first sleep somebody takes the set over. */
static gint64 slow_ms = 1000000;
static World *taken;

static gint64 slow_now(void *data)
{
    return ++slow_ms;
}

static gint64 slow_wall(void *data)
{
    return slow_ms * 1000;
}

static void slow_sleep(gint64 deadline_ms, void *data)
{
    slow_ms = MAX(slow_ms, deadline_ms + 200);
    if (taken)
        world_run_sql(taken, "UPDATE owners SET fence = fence + 1");
    taken = NULL;
}

/* One who lost the set while he waited for a guest to stop neither asks it again nor destroys it (invariant 22). */
static void test_fenced_while_waiting(void **state)
{
    static const VrClockSource slow = {slow_now, slow_wall, slow_sleep, NULL};
    const VrStopPolicy patient = {.method = VR_STOP_ACPI, .timeout_ms = 60000, .force = TRUE};
    g_autoptr(GError) error = NULL;
    g_autoptr(World) world = world_new(TRUE);
    g_autoptr(VrSwap) swap = world_reach(world, VR_SWAP_PREPARED);

    world->fake->deaf = TRUE;
    taken = world;
    vr_clock_set_source(&slow);
    assert_false(vr_swap_advance(swap, VR_SWAP_STARTED, &patient, &error));
    vr_clock_set_source(NULL);
    assert_int_equal(world->fake->shutdowns, 1);
    assert_gerror(error, VR_ERROR_FENCED);
    assert_int_equal(fake_hv_state(world->fake), VR_DOMAIN_RUNNING);
}

/* --- libvirt ----------------------------------------------------------------------------------------- */

/* The flush of libvirt's file comes after the define: when its answer was lost, both are asked for again (SAFETY 4.6). */
static void test_define_repeated(void **state)
{
    g_autoptr(World) world = world_new(TRUE);
    g_autoptr(VrSwap) swap = world_reach(world, VR_SWAP_STOPPED);

    world->fake->fault = FAKE_LOST_AFTER;
    world->fake->fault_at = world->fake->point + 3; /* the XML is read twice first */
    assert_true(vr_swap_advance(swap, VR_SWAP_SWITCHED, &world_stop, NULL));
    assert_int_equal(world->fake->defines, 2);
}

/* Somebody edits the domain while its NVRAM is copied, which is when the journal is told of it. */
static World *edited;

static gint64 edit_at_nvram(void *data)
{
    g_autofree char *copy =
        edited ? g_build_filename(edited->root, "disks", FAKE_UUID, "g1.nvram", NULL) : g_strdup("");

    if (g_file_test(copy, G_FILE_TEST_EXISTS)) {
        fake_hv_edit(edited->fake, "16384", "32768");
        edited = NULL;
    }
    return g_get_real_time();
}

static void test_edit_before_the_define(void **state) /* B16 */
{
    g_autoptr(GError) error = NULL;
    g_autoptr(World) world = world_new_uefi(TRUE, WORLD_NVRAM, FALSE);
    g_autoptr(VrSwap) swap = world_reach(world, VR_SWAP_STOPPED);
    g_autofree char *xml = NULL;

    edited = world;
    world_skip_waiting(edit_at_nvram);
    assert_false(vr_swap_advance(swap, VR_SWAP_SWITCHED, &world_stop, &error));
    assert_gerror(error, VR_ERROR_CONFLICT);
    assert_null(edited);
    assert_true(vr_swap_undo(swap, error->message, NULL));
    vr_clock_set_source(NULL);
    xml = vr_hv_inactive_xml(&world->fake->hv, FAKE_UUID, NULL);
    assert_non_null(strstr(xml, "32768"));
    assert_live(world, world->old_path);
    world_check(world, TRUE);
}

/* libvirtd is restarted while a guest is off: that is waited for, on the way there and on the way back. */
static void test_libvirt_restarted(void **state)
{
    g_autoptr(World) world = world_new(TRUE);
    g_autoptr(VrSwap) swap = world_reach(world, VR_SWAP_SWITCHED);

    world->fake->fault = FAKE_LOST_BEFORE;
    world->fake->fault_at = world->fake->point + 1;
    assert_true(vr_swap_advance(swap, VR_SWAP_STARTED, &world_stop, NULL));
    world->fake->fault_at = world->fake->point + 1;
    assert_true(vr_swap_undo(swap, "not healthy", NULL));
    world_check(world, TRUE);
}

/* What somebody changed elsewhere meanwhile does not make the way back UNKNOWN (F7). */
static void test_new_mac_after_switch(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(World) world = world_new(TRUE);
    g_autoptr(VrSwap) swap = world_reach(world, VR_SWAP_STARTED);

    fake_hv_edit(world->fake, "52:54:00:00:00:01", "52:54:00:00:00:02");
    vr_swap_undo(swap, "not healthy", &error);
    assert_null(error);
    assert_live(world, world->old_path);
    world_check(world, TRUE);
}

/* The journal was lost, and the guest runs on a disk that we made: nothing may touch that disk. */
static void test_lost_journal(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(World) world = world_new(TRUE);
    VrDb *db = vr_journal_db(world->journal);
    g_autofree char *path = NULL;

    world_swap(world, -1);
    path = fake_hv_os_path(world->fake, TRUE);
    assert_true(vr_db_begin(db, NULL));
    assert_true(vr_db_run(db, NULL, NULL, "DELETE FROM steps", ""));
    assert_true(vr_db_run(db, NULL, NULL, "DELETE FROM swaps", ""));
    assert_true(vr_db_run(db, NULL, NULL, "DELETE FROM generations", ""));
    assert_true(vr_db_commit(db, NULL));
    assert_null(world_begin(world, -1, &error));
    assert_true(g_error_matches(error, VR_ERROR, VR_ERROR_CONFLICT));
    assert_non_null(strstr(error->message, "state.db"));
    assert_true(g_file_test(path, G_FILE_TEST_EXISTS));
}

/* The current disk is gone: a forward swap is refused with the guest running, a rollback is the way out. */
static void test_lost_disk(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(World) world = world_new(TRUE);
    g_autofree char *path = NULL;

    world_swap(world, -1);
    path = fake_hv_os_path(world->fake, TRUE);
    assert_int_equal(unlink(path), 0);
    assert_null(world_begin(world, -1, &error));
    assert_true(g_error_matches(error, VR_ERROR, VR_ERROR_REFUSED));
    assert_int_equal(fake_hv_state(world->fake), VR_DOMAIN_RUNNING);
    world_swap(world, 0);
    assert_int_equal(world_current(world), 0);
    assert_int_equal(fake_hv_state(world->fake), VR_DOMAIN_RUNNING);
}

/* A data disk that is gone: the guest would not come up again, so it is not stopped. */
static void test_lost_data_disk(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(World) world = world_new(TRUE);

    assert_int_equal(unlink(world->data_path), 0);
    assert_null(world_begin(world, -1, &error));
    assert_true(g_error_matches(error, VR_ERROR, VR_ERROR_REFUSED));
    assert_int_equal(fake_hv_state(world->fake), VR_DOMAIN_RUNNING);
}

/* A CD-ROM that may be gone (startupPolicy) is an empty drive when it is; any other policy, and a disk, is missed. */
static void test_lost_medium(void **state)
{
    static const struct {
        const char *device, *policy;
        gboolean passes;
    } rows[] = {{"cdrom", "optional", TRUE},
                {"floppy", "optional", TRUE},
                {"cdrom", "requisite", FALSE},
                {"cdrom", "mandatory", FALSE},
                {"disk", "optional", FALSE}};

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(World) world = world_new(FALSE);
        g_autofree char *drive = g_strdup_printf("<disk type='file' device='%s'><driver name='qemu' type='raw'/>"
                                                 "<source file='%s/gone.iso' startupPolicy='%s'/>"
                                                 "<target dev='sda' bus='sata'/></disk><interface",
                                                 rows[i].device, world->top, rows[i].policy);
        g_autoptr(VrSwap) swap = NULL;

        fake_hv_edit(world->fake, "<interface", drive);
        if (rows[i].passes) {
            world_swap(world, -1);
            world_swap(world, 0);
        } else {
            assert_null(world_begin(world, -1, &error));
            assert_gerror(error, VR_ERROR_REFUSED);
        }
        world_check(world, TRUE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_name_taken),
        cmocka_unit_test(test_prepare_cut),
        cmocka_unit_test(test_name_taken_after),
        cmocka_unit_test(test_discard_cut),
        cmocka_unit_test(test_seal_cut),
        cmocka_unit_test(test_no_seal_under_rollback),
        cmocka_unit_test(test_second_rollback),
        cmocka_unit_test(test_off_guest_started),
        cmocka_unit_test(test_switched_guest_started),
        cmocka_unit_test(test_late_stop),
        cmocka_unit_test(test_ends_at_once),
        cmocka_unit_test(test_old_ends_at_once),
        cmocka_unit_test(test_third_disk),
        cmocka_unit_test(test_booted_unseen),
        cmocka_unit_test(test_booted_unseen_and_recovered),
        cmocka_unit_test(test_booted_unseen_without_a_trace),
        cmocka_unit_test(test_migrated),
        cmocka_unit_test(test_migrated_at_the_stop),
        cmocka_unit_test(test_full_journal),
        cmocka_unit_test(test_locked_journal),
        cmocka_unit_test(test_fenced_while_waiting),
        cmocka_unit_test(test_define_repeated),
        cmocka_unit_test(test_edit_before_the_define),
        cmocka_unit_test(test_libvirt_restarted),
        cmocka_unit_test(test_new_mac_after_switch),
        cmocka_unit_test(test_lost_journal),
        cmocka_unit_test(test_lost_disk),
        cmocka_unit_test(test_lost_data_disk),
        cmocka_unit_test(test_lost_medium),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
