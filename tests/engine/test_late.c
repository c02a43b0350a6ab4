/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What takes effect after a swap has ended, or lasts while it goes back: a guest that shuts down slowly, a define that was given up, a reader.
 * Rows B16, B17, F7. */
#include "engine/support.h"

#include "base/clock.h"
#include "base/error.h"
#include "engine/swap_private.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* What a recovery says of the first guest; NULL: nothing. Free with g_free. */
static char *recover(World *world)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) recovered = vr_recover(&world->engine, FALSE, &error);

    assert_null(error);
    return recovered->len == 0 ? NULL : g_strdup(((VrRecovered *)recovered->pdata[0])->told);
}

/* --- a guest that shuts down slowly ------------------------------------------------------------------ */

#define MINUTE_MS 60000

static const VrStopPolicy patient = {.method = VR_STOP_ACPI, .timeout_ms = 2 * MINUTE_MS, .force = FALSE};
static const VrStopPolicy strict = {.method = VR_STOP_ACPI, .timeout_ms = 2 * MINUTE_MS, .force = TRUE};

/* A guest that does not stop in time; the swap, not undone yet. */
static VrSwap *ask_in_vain(World *world, const VrStopPolicy *policy)
{
    g_autoptr(GError) error = NULL;
    VrSwap *swap = world_reach(world, VR_SWAP_PREPARED);

    world->fake->deaf = TRUE;
    assert_false(vr_swap_advance(swap, VR_SWAP_STARTED, policy, &error));
    if (!strstr(error->message, "may still go off: 'virsh start fake' starts it again"))
        fail_msg("it says: %s", error->message);
    return swap;
}

static void go_off(World *world, VrDomainReason reason)
{
    fake_hv_end(world->fake, reason);
}

/* The last request is as old as the deadline, whatever the timeout was: it is awaited from then on. */
static void test_goes_off_after_the_deadline(void **state) /* B17 */
{
    g_autoptr(World) world = world_new(TRUE);
    g_autoptr(VrSwap) swap = ask_in_vain(world, &patient);

    world->fake->off_at_ms = vr_clock_now_ms() + 15000;
    assert_true(vr_swap_undo(swap, "it did not stop", NULL));
    assert_int_equal(world->fake->starts, 1);
    assert_int_equal(fake_hv_state(world->fake), VR_DOMAIN_RUNNING);
    assert_null(recover(world));
    world_check(world, TRUE);
}

/* The process is killed while it asks: when that was nobody knows. */
static void test_killed_while_asking(void **state)
{
    g_autoptr(World) world = world_new(TRUE);
    g_autoptr(VrSwap) swap = world_reach(world, VR_SWAP_PREPARED);
    g_autofree char *told = NULL;

    assert_true(vr_journal_mark(world->journal, world->owner, vr_swap_row(swap)->id, "stop-asked", NULL, NULL));
    world_quick_pass(MINUTE_MS);
    world_close(world);
    world_open(world);
    world->fake->off_at_ms = vr_clock_now_ms() + 15000;
    told = recover(world);
    assert_non_null(strstr(told, "put back on generation 0"));
    assert_int_equal(fake_hv_state(world->fake), VR_DOMAIN_RUNNING);
    world_check(world, TRUE);
}

/* It goes off when the swap has ended: a recovery starts it, and only once. */
static void test_goes_off_after_the_end(void **state) /* B17 */
{
    g_autoptr(World) world = world_new(TRUE);
    g_autoptr(VrSwap) swap = ask_in_vain(world, &patient);
    g_autoptr(GPtrArray) would = NULL;
    g_autofree char *told = NULL;

    assert_true(vr_swap_undo(swap, "it did not stop", NULL));
    assert_null(recover(world)); /* it runs */
    go_off(world, VR_REASON_SHUTDOWN);
    would = vr_recover(&world->engine, TRUE, NULL);
    assert_non_null(strstr(((VrRecovered *)would->pdata[0])->told, "would be started again on generation 0"));
    assert_int_equal(world->fake->starts, 0);
    told = recover(world);
    assert_string_equal(told,
                        "it was asked to stop, was left running, and went off later: started again on generation 0");
    assert_int_equal(fake_hv_state(world->fake), VR_DOMAIN_RUNNING);
    world_check(world, TRUE);
    go_off(world, VR_REASON_SHUTDOWN);
    assert_null(recover(world));
    assert_int_equal(world->fake->starts, 1);
}

/* What somebody else means, or what was long ago, is left. */
static void test_stays_off(void **state) /* B16 */
{
    const struct {
        VrDomainReason reason;
        gint64 after_ms;
        gboolean reboot, saved;
    } rows[] = {{.reason = VR_REASON_DESTROYED},
                {.reason = VR_REASON_CRASHED},
                {.reason = VR_REASON_MIGRATED},
                {.reason = VR_REASON_SAVED},
                {.reason = VR_REASON_OTHER}, /* libvirtd was restarted: it may have been migrated */
                {.reason = VR_REASON_SHUTDOWN, .after_ms = 6 * MINUTE_MS},
                {.reason = VR_REASON_SHUTDOWN, .reboot = TRUE},
                {.reason = VR_REASON_SHUTDOWN, .saved = TRUE}};

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(World) world = world_new(TRUE);
        g_autoptr(VrSwap) swap = ask_in_vain(world, &patient);

        assert_true(vr_swap_undo(swap, "it did not stop", NULL));
        go_off(world, rows[i].reason);
        world->fake->managed_save = rows[i].saved;
        world_quick_pass(rows[i].after_ms);
        if (rows[i].reboot)
            world_run_sql(world, "UPDATE steps SET boot_id = 'another boot of the host'");
        assert_null(recover(world));
        assert_int_equal(world->fake->starts, 0);
    }
}

/* libvirt says that it could not destroy it, and it dies afterwards. */
static gboolean no_destroy(VrHv *hv, const char *uuid, GError **error)
{
    g_set_error(error, VR_ERROR, VR_ERROR_HYPERVISOR, "Failed to terminate process 4711 with SIGKILL");
    return FALSE;
}

static void test_destroyed_after_all(void **state)
{
    const VrDomainReason reasons[] = {VR_REASON_DESTROYED, VR_REASON_CRASHED, VR_REASON_SHUTDOWN};

    for (guint i = 0; i < G_N_ELEMENTS(reasons); i++) {
        g_autoptr(World) world = world_new(TRUE);
        VrHvOps hung = *world->fake->hv.ops;
        g_autoptr(VrSwap) swap = NULL;
        g_autofree char *told = NULL;

        hung.destroy = no_destroy;
        world->fake->hv.ops = &hung;
        swap = ask_in_vain(world, &strict);
        assert_true(vr_swap_undo(swap, "it did not stop", NULL));
        go_off(world, reasons[i]);
        told = recover(world);
        assert_non_null(strstr(told, "started again on generation 0"));
        assert_int_equal(fake_hv_state(world->fake), VR_DOMAIN_RUNNING);
        world_check(world, TRUE);
    }
}

/* --- a reader that stays ------------------------------------------------------------------------------ */

/* A qemu-io that has the file open, and lets others write, until its input ends. */
static GPid open_to_read(const char *path, int *input)
{
    char *argv[] = {(char *)"qemu-io", (char *)"-rU", (char *)"-f", (char *)"raw", (char *)path, NULL};
    gboolean held = FALSE;
    GPid pid;

    assert_true(g_spawn_async_with_pipes(NULL, argv, NULL,
                                         G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_STDOUT_TO_DEV_NULL,
                                         NULL, NULL, &pid, input, NULL, NULL, NULL));
    for (guint i = 0; !held && i < 400; i++) {
        g_usleep(50 * 1000);
        assert_true(vr_disk_file_is_open_by_qemu(path, &held, NULL));
    }
    assert_true(held);
    return pid;
}

/* A backup that reads a data disk while the guest is off: the swap does not go on, and the old system comes back beside it. */
static void test_reader_of_a_data_disk(void **state) /* B17 */
{
    g_autoptr(GError) error = NULL;
    g_autoptr(World) world = world_new(TRUE);
    g_autoptr(VrSwap) swap = world_reach(world, VR_SWAP_PREPARED);
    int input;
    GPid reader = open_to_read(world->data_path, &input);

    assert_false(vr_swap_advance(swap, VR_SWAP_STARTED, &world_stop, &error));
    assert_gerror(error, VR_ERROR_CONFLICT);
    assert_int_equal(fake_hv_state(world->fake), VR_DOMAIN_OFF);
    assert_true(vr_swap_undo(swap, error->message, NULL));
    assert_int_equal(fake_hv_state(world->fake), VR_DOMAIN_RUNNING);
    close(input);
    assert_int_equal(waitpid(reader, NULL, 0), reader);
    world_check(world, TRUE);
}

/* --- a destroy that is lost while it is asked to stop --------------------------------------------------- */

/* It is at work at the latest when a later call that changes something is answered; so there is one, and what it did is seen. */
static void test_lost_destroy(void **state)
{
    for (guint kill = 0; kill < 2; kill++) {
        g_autoptr(World) world = world_new(TRUE);
        g_autoptr(VrSwap) swap = world_reach(world, VR_SWAP_PREPARED);
        const char *id = vr_swap_row(swap)->id;

        world->fake->deaf = TRUE;
        assert_true(vr_journal_mark(world->journal, world->owner, id, "stop-asked", NULL, NULL));
        if (kill) {
            world_close(world);
            world_open(world);
            fake_hv_late(world->fake, 'x', NULL, G_MAXUINT);
            g_free(recover(world));
        } else {
            world->fake->hv.lost++; /* as a call does that is given up */
            fake_hv_late(world->fake, 'x', NULL, G_MAXUINT);
            assert_true(vr_swap_undo(swap, "it did not stop", NULL));
        }
        assert_int_equal(world->fake->late.what, 0);
        assert_int_equal(fake_hv_state(world->fake), VR_DOMAIN_RUNNING);
        world_check(world, TRUE);
    }
}

/* --- a define that lands when the swap has ended ------------------------------------------------------ */

static void land(World *world, VrSwap *swap)
{
    assert_true(vr_hv_define(&world->fake->hv, FAKE_UUID, swap->intent_xml, NULL));
}

static gboolean lost_define(VrHv *hv, const char *uuid, const char *xml, GError **error)
{
    g_set_error(error, VR_ERROR, VR_ERROR_DISCONNECTED, "it does not answer");
    return FALSE;
}

/* Undone while a define of the new disk is under way of which nobody hears any more. */
static VrSwap *lose_define(World *world, int to_generation, gboolean kill)
{
    const VrHvOps *there = world->fake->hv.ops;
    VrHvOps lost;
    g_autoptr(GError) error = NULL;
    VrSwap *swap = world_begin(world, to_generation, &error);

    assert_true(vr_swap_advance(swap, VR_SWAP_STOPPED, &world_stop, &error));
    if (kill) {
        assert_true(vr_journal_mark(world->journal, world->owner, vr_swap_row(swap)->id, "intent", NULL, NULL));
        world_close(world);
        world_open(world);
        g_free(recover(world));
        return swap;
    }
    lost = *world->fake->hv.ops;
    lost.define = lost_define;
    world->fake->hv.ops = &lost;
    assert_false(vr_swap_advance(swap, VR_SWAP_SWITCHED, &world_stop, &error));
    assert_gerror(error, VR_ERROR_DISCONNECTED);
    world->fake->hv.ops = there;
    assert_true(vr_swap_undo(swap, error->message, NULL));
    return swap;
}

static void assert_configured(World *world, const char *path)
{
    g_autofree char *configured = fake_hv_os_path(world->fake, FALSE);

    assert_string_equal(configured, path);
}

static VrGenerationState state_of(World *world, guint number)
{
    g_autoptr(VrGeneration) generation = vr_journal_generation(world->journal, FAKE_UUID, number, NULL);

    return generation->state;
}

/* What it names is whole, and starts; a recovery knows it for our own and puts the old disk back. */
static void test_define_lands_after_the_end(void **state) /* B17 */
{
    for (guint kill = 0; kill < 2; kill++) {
        g_autoptr(World) world = world_new(TRUE);
        g_autofree char *disk = g_build_filename(world->root, "disks", FAKE_UUID, "g1.qcow2", NULL);
        g_autoptr(VrSwap) swap = lose_define(world, -1, kill);
        g_autofree char *told = NULL;

        assert_int_equal(state_of(world, 1), VR_GENERATION_FAILED);
        world_check(world, TRUE);
        assert_null(recover(world));
        assert_int_equal(world_mode(disk), 0600); /* QEMU's user opens it */
        land(world, swap);
        assert_configured(world, disk);
        world_check(world, FALSE);
        told = recover(world);
        assert_string_equal(
            told, "a define of generation 1 took effect after its swap had been undone: generation 0 is put back");
        assert_int_equal(world_current(world), 0);
        assert_int_equal(fake_hv_state(world->fake), VR_DOMAIN_RUNNING);
        world_check(world, TRUE);
        assert_null(recover(world));
        world_swap(world, -1); /* and the next one is not hindered */
        assert_int_equal(world_current(world), 2);
    }
}

/* The host was rebooted meanwhile: the guest runs on the new disk, and is not ended. */
static void test_define_lands_and_the_guest_runs_on_it(void **state)
{
    g_autoptr(World) world = world_new(TRUE);
    g_autoptr(VrSwap) swap = lose_define(world, -1, FALSE);
    g_autofree char *told = NULL;
    g_autofree char *then = NULL;

    land(world, swap);
    fake_hv_boot_host(world->fake, TRUE);
    told = recover(world);
    assert_non_null(strstr(told, "the guest runs on that: shut it down and run 'virt-reimage recover shop'"));
    assert_int_equal(fake_hv_state(world->fake), VR_DOMAIN_RUNNING);
    fake_hv_set_state(world->fake, VR_DOMAIN_OFF);
    then = recover(world);
    assert_non_null(strstr(then, "generation 0 is put back"));
    assert_configured(world, world->old_path);
    world_check(world, TRUE);
}

/* On the next boot of the host nothing is under way any more, and what is kept is sealed. */
static void test_nothing_lands_after_a_reboot(void **state)
{
    g_autoptr(World) world = world_new(TRUE);
    g_autofree char *disk = g_build_filename(world->root, "disks", FAKE_UUID, "g1.qcow2", NULL);
    g_autoptr(VrSwap) swap = lose_define(world, -1, FALSE);

    world_run_sql(world, "UPDATE steps SET boot_id = 'another boot of the host'");
    assert_null(recover(world));
    assert_int_equal(world_mode(disk), 0400);
}

/* Of a rollback: the generation to go back to stays kept. */
static void test_define_of_a_rollback_lands(void **state) /* F7 */
{
    g_autoptr(World) world = world_new(TRUE);
    g_autofree char *one = NULL;
    g_autoptr(VrSwap) swap = NULL;
    g_autofree char *told = NULL;

    world_swap(world, -1);
    one = fake_hv_os_path(world->fake, FALSE);
    world_swap(world, -1);
    assert_int_equal(world_mode(one), 0400);
    swap = lose_define(world, 1, FALSE);
    assert_int_equal(state_of(world, 1), VR_GENERATION_KEPT);
    assert_int_equal(world_mode(one), 0600);
    assert_null(recover(world)); /* the domain's record is of another swap */
    land(world, swap);
    told = recover(world);
    assert_non_null(strstr(told, "generation 2 is put back"));
    assert_int_equal(world_current(world), 2);
    assert_null(recover(world));
}

/* Somebody's edit is somebody's: nothing is put back, and that is not changed by an earlier swap that was undone. */
static void test_an_edit_is_no_late_define(void **state)
{
    g_autoptr(World) world = world_new(TRUE);
    g_autoptr(VrSwap) swap = lose_define(world, -1, FALSE);

    fake_hv_edit(world->fake, "old.raw", "third.raw");
    assert_null(recover(world));
    assert_null(world_begin(world, -1, NULL));
}

/* A later swap whose define was answered has settled it: what is kept is sealed again. */
static void test_a_later_switch_settles_it(void **state)
{
    g_autoptr(World) world = world_new(TRUE);

    world_swap(world, -1);
    world_swap(world, -1);
    vr_swap_free(lose_define(world, 1, FALSE));
    world_check(world, TRUE);
    world_swap(world, 1);
    world_swap(world, -1);
    world_check(world, TRUE);
    assert_null(recover(world));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_goes_off_after_the_deadline),
        cmocka_unit_test(test_killed_while_asking),
        cmocka_unit_test(test_goes_off_after_the_end),
        cmocka_unit_test(test_stays_off),
        cmocka_unit_test(test_destroyed_after_all),
        cmocka_unit_test(test_reader_of_a_data_disk),
        cmocka_unit_test(test_lost_destroy),
        cmocka_unit_test(test_define_lands_after_the_end),
        cmocka_unit_test(test_define_lands_and_the_guest_runs_on_it),
        cmocka_unit_test(test_nothing_lands_after_a_reboot),
        cmocka_unit_test(test_define_of_a_rollback_lands),
        cmocka_unit_test(test_an_edit_is_no_late_define),
        cmocka_unit_test(test_a_later_switch_settles_it),
    };

    world_quick_clock();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
