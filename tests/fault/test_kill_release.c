/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The kill sweep of release (rows B21, B17): a process is ended before and after each call of the hypervisor and within each journal write, of a guest
 * that runs and of one that is off. At every instant the guest is on a disk that is whole and has the content of its version. The next process recovers and
 * releases again: it is out then, on a disk that stands alone, and what it had is kept or was never made.
 */
#include "engine/release.h"
#include "fault/cuts.h"

#include "base/child.h"
#include "hv/domain_xml.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

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

/* In a process of its own, which does not draw the ids that the next one draws. */
static void release_once(World *world)
{
    g_random_set_seed((guint32)getpid());
    release(world, NULL);
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
        g_autoptr(GError) error = NULL;

        world_swap(world, -1);
        if (!cut_in(world, release_once, kind, at)) {
            check_out(world, running);
            return at - 1;
        }
        check_content(world);
        world_recover_once(world);
        check_content(world);
        if (!is_out(world)) {
            world_check(world, TRUE);
            if (!release(world, &error))
                fail_msg("kind %d, cut %u: %s", kind, at, error->message);
        }
        check_out(world, running);
    }
}

static const CutKind kinds[] = {CUT_BEFORE_CALL, CUT_AFTER_CALL, CUT_IN_JOURNAL, CUT_IN_COPY};

/* QEMU copies for a guest that runs, so no copy of ours is there to be cut. */
static void test_kill_in_release(void **state)
{
    guint cuts = 0;

    for (int running = 0; running <= 1; running++) {
        for (guint i = 0; i < G_N_ELEMENTS(kinds); i++) {
            guint fired = sweep(kinds[i], running);
            print_message("release of one that %s, kind %u: %u cuts\n", running ? "runs" : "is off", kinds[i], fired);
            assert_true(running && kinds[i] == CUT_IN_COPY ? fired == 0 : fired >= 2);
            cuts += fired;
        }
    }
    print_message("%u cuts, no violation\n", cuts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_kill_in_release)};

    cut_install_clock();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
