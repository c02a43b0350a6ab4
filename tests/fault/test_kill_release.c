/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The kill sweep of release (rows B21, B17): a process is ended before and after each call of the hypervisor and within each journal write, of a guest
 * that runs and of one that is off. At every instant the guest is on a disk that is whole and has the content of its version. The next process recovers and
 * releases again: it is out then, on a disk that stands alone, and what it had is kept or was never made.
 */
#include "engine/release.h"
#include "engine/support.h"

#include "base/child.h"
#include "base/clock.h"
#include "hv/domain_xml.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

typedef enum { CUT_BEFORE_CALL, CUT_AFTER_CALL, CUT_IN_JOURNAL, CUT_KINDS } CutKind;

static guint clock_at, clock_count;
static gint64 skipped_ms;

static gint64 counted_wall_us(void *data)
{
    if (++clock_count == clock_at)
        _exit(FAKE_KILLED);
    return g_get_real_time();
}

static gint64 jumping_now_ms(void *data)
{
    return g_get_monotonic_time() / 1000 + skipped_ms;
}

static void jump(gint64 deadline_ms, void *data)
{
    skipped_ms += MAX(0, deadline_ms - jumping_now_ms(NULL)) + 1;
}

static void arm(World *world, CutKind kind, guint at)
{
    clock_count = 0;
    clock_at = kind == CUT_IN_JOURNAL ? at : 0;
    world->fake->fault_at = kind == CUT_IN_JOURNAL ? 0 : at;
    world->fake->fault = kind == CUT_BEFORE_CALL ? FAKE_KILL_BEFORE : FAKE_KILL_AFTER;
}

static gboolean leave(VrDb *db, void *data, GError **error)
{
    return TRUE;
}

static gboolean release(World *world, GError **error)
{
    static const VrReleaseRequest asked = {.uuid = FAKE_UUID, .os_target = "vda"};
    g_auto(VrReleasePlan) plan = {0};
    g_autoptr(VrGeneration) disk = NULL;

    return vr_release_look(&world->engine, &asked, &plan, error) &&
           vr_release_alone(&world->engine, &asked, &plan, error) &&
           vr_release_end(&world->engine, &asked, leave, NULL, &disk, error);
}

static gboolean killed(World *world, CutKind kind, guint at)
{
    int status = 0;
    pid_t pid;

    world_close(world);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        g_random_set_seed((guint32)getpid()); /* ids of its own */
        world_open(world);
        arm(world, kind, at);
        _exit(release(world, NULL) ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    world_open(world);
    arm(world, CUT_IN_JOURNAL, 0);
    assert_true(WIFEXITED(status));
    assert_true(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == FAKE_KILLED);
    return WEXITSTATUS(status) == FAKE_KILLED;
}

static gboolean is_out(World *world)
{
    g_autoptr(VrGeneration) current = vr_journal_current(world->journal, FAKE_UUID, NULL);

    return current == NULL;
}

/* What the guest reads, on the disk that it would start on and on the one that it runs on. */
static void check_content(World *world)
{
    g_autofree char *file = world_image_file(world, 'N');

    for (int live = 0; live <= 1; live++) {
        g_autofree char *path = fake_hv_os_path(world->fake, live);
        const char *const argv[] = {"qemu-img", "compare", "-q", "-U", "-f", "raw", "-F", "qcow2", file, path, NULL};
        if (path)
            assert_true(vr_child_run(argv, NULL, NULL, NULL));
    }
}

static void check_out(World *world, gboolean running)
{
    g_autofree char *xml = vr_hv_inactive_xml(&world->fake->hv, FAKE_UUID, NULL);
    g_autofree char *path = fake_hv_os_path(world->fake, FALSE);
    g_auto(VrDomainRecordRead) record = {0};
    g_auto(VrDiskLook) look = {0};
    gboolean open = TRUE, is = FALSE;

    check_content(world);
    assert_true(is_out(world));
    assert_true(vr_journal_is_released(world->journal, FAKE_UUID, path, &is, NULL) && is);
    assert_true(vr_release_is_open(world->journal, FAKE_UUID, &open, NULL) && !open);
    assert_true(vr_disk_file_look(path, "qcow2", &look, NULL));
    assert_null(look.backing);
    assert_true(vr_domain_xml_is_alone(xml, "vda"));
    assert_false(vr_domain_xml_record(xml, &record));
    assert_int_equal(fake_hv_state(world->fake), running ? VR_DOMAIN_RUNNING : VR_DOMAIN_OFF);
    assert_int_equal(world->fake->starts + world->fake->shutdowns, 0);
}

static guint sweep(CutKind kind, gboolean running)
{
    for (guint at = 1;; at++) {
        g_autoptr(World) world = world_new(running);
        g_autoptr(GPtrArray) recovered = NULL;
        g_autoptr(GError) error = NULL;

        world_swap(world, -1);
        if (!killed(world, kind, at)) {
            check_out(world, running);
            return at - 1;
        }
        check_content(world);
        recovered = vr_recover(&world->engine, FALSE, NULL);
        assert_non_null(recovered);
        for (guint i = 0; i < recovered->len; i++)
            if (((const VrRecovered *)recovered->pdata[i])->row->state == VR_SWAP_STARTED) {
                g_autoptr(VrSwap) swap =
                    vr_swap_resume(&world->engine, ((const VrRecovered *)recovered->pdata[i])->row, NULL);
                assert_true(vr_swap_commit(swap, NULL, NULL));
            }
        check_content(world);
        if (!is_out(world)) {
            world_check(world, TRUE);
            if (!release(world, &error))
                fail_msg("kind %d, cut %u: %s", kind, at, error->message);
        }
        check_out(world, running);
    }
}

static void test_kill_in_release(void **state)
{
    guint cuts = 0;

    for (guint i = 0; i < 2 * CUT_KINDS; i++) {
        guint fired = sweep((CutKind)(i % CUT_KINDS), i < CUT_KINDS);
        print_message("release of one that %s, kind %u: %u cuts\n", i < CUT_KINDS ? "runs" : "is off", i % CUT_KINDS,
                      fired);
        assert_true(fired >= 2);
        cuts += fired;
    }
    print_message("%u cuts, no violation\n", cuts);
}

int main(void)
{
    static const VrClockSource source = {jumping_now_ms, counted_wall_us, jump, NULL};
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_kill_in_release)};

    vr_clock_set_source(&source);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
