/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* B21: how an instance leaves, on real files and a real journal with a scripted hypervisor; SAFETY invariants 6, 7, 8, 16. */
#include "engine/rebuild.h"
#include "engine/release.h"
#include "engine/retention.h"
#include "engine/retire.h"
#include "engine/support.h"

#include "base/child.h"
#include "base/clock.h"
#include "base/error.h"
#include "hv/domain_xml.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static const VrReleaseRequest asked = {.uuid = FAKE_UUID, .os_target = "vda"};

static gboolean count_leave(VrDb *db, void *data, GError **error)
{
    ++*(guint *)data;
    return TRUE;
}

static gboolean refuse_leave(VrDb *db, void *data, GError **error)
{
    g_set_error_literal(error, VR_ERROR, VR_ERROR_CONFLICT, "the set is another by now");
    return FALSE;
}

static gboolean release_by(World *world, VrReleaseLeave leave, void *data, VrGeneration **disk, GError **error)
{
    g_auto(VrReleasePlan) plan = {0};

    return vr_release_look(&world->engine, &asked, &plan, error) &&
           vr_release_alone(&world->engine, &asked, &plan, error) &&
           vr_release_end(&world->engine, &asked, leave, data, disk, error);
}

/* It leaves; the path of its disk, free with g_free. */
static char *release(World *world)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(VrGeneration) disk = NULL;
    guint left = 0;

    if (!release_by(world, count_leave, &left, &disk, &error))
        fail_msg("%s", error->message);
    assert_int_equal(left, 1);
    return g_strdup(disk->path);
}

static VrGenerationState state_of(World *world, guint number, gboolean *ours)
{
    g_autoptr(VrGeneration) generation = vr_journal_generation(world->journal, FAKE_UUID, number, NULL);

    assert_non_null(generation);
    if (ours)
        *ours = generation->ours;
    return generation->state;
}

/* What the guest reads on it is what the version has. */
static void assert_content(World *world, const char *path)
{
    g_autofree char *file = world_image_file(world, 'N');
    const char *const argv[] = {"qemu-img", "compare", "-U", "-f", "raw", "-F", "qcow2", file, path, NULL};
    g_autoptr(GError) error = NULL;

    if (!vr_child_run(argv, NULL, NULL, &error))
        fail_msg("%s: %s", path, error->message);
}

static void assert_xml_let_go(World *world, gboolean live, const char *path)
{
    g_autofree char *xml = live ? vr_hv_live_xml(&world->fake->hv, FAKE_UUID, NULL)
                                : vr_hv_inactive_xml(&world->fake->hv, FAKE_UUID, NULL);
    g_autofree char *source = fake_hv_os_path(world->fake, live);
    g_auto(VrDomainRecordRead) record = {0};

    assert_string_equal(source, path);
    assert_true(vr_domain_xml_is_alone(xml, "vda"));
    assert_false(vr_domain_xml_record(xml, &record));
    assert_null(strstr(xml, "/images/"));
}

static void assert_own(World *world, const char *path)
{
    g_auto(VrDiskLook) look = {0};
    VrDb *db = vr_journal_db(world->journal);
    g_autoptr(VrGeneration) current = vr_journal_current(world->journal, FAKE_UUID, NULL);

    assert_true(vr_disk_file_look(path, "qcow2", &look, NULL));
    assert_null(look.backing);
    assert_content(world, path);
    assert_xml_let_go(world, FALSE, path);
    if (fake_hv_state(world->fake) != VR_DOMAIN_OFF)
        assert_xml_let_go(world, TRUE, path);
    assert_null(current);
    assert_true(vr_db_begin(db, NULL));
    vr_db_rollback(db);
}

static gboolean is_version_free(World *world)
{
    VrDb *db = vr_journal_db(world->journal);
    gboolean free;

    assert_true(vr_db_begin(db, NULL));
    free = vr_in_use_journaled(db, "os", "2.0.0", NULL);
    vr_db_rollback(db);
    return free;
}

/* --- the two ways ------------------------------------------------------------------------------------ */

static void test_running(void **state) /* B21: by a pull, under the same name, and QEMU is not started again */
{
    g_autoptr(World) world = world_new(TRUE);
    g_autofree char *path = NULL;
    gboolean ours = TRUE;

    world_swap(world, -1);
    world->fake->starts = world->fake->shutdowns = 0;
    path = release(world);
    assert_true(g_str_has_suffix(path, "/g1.qcow2"));
    assert_own(world, path);
    assert_int_equal(world->fake->starts + world->fake->shutdowns, 0);
    assert_int_equal(fake_hv_state(world->fake), VR_DOMAIN_RUNNING);
    assert_int_equal(state_of(world, 1, &ours), VR_GENERATION_RELEASED);
    assert_false(ours);
    assert_true(is_version_free(world)); /* invariant 6 holds for others only */
}

static void test_off(void **state) /* B21: by a new file; the overlay is kept like any older disk */
{
    g_autoptr(World) world = world_new(FALSE);
    g_autofree char *path = NULL;
    g_autofree char *old = NULL;
    gboolean ours = TRUE;

    world_swap(world, -1);
    old = fake_hv_os_path(world->fake, FALSE);
    path = release(world);
    assert_true(g_str_has_suffix(path, "/g2.qcow2"));
    assert_own(world, path);
    assert_int_equal(world->fake->starts, 0);
    assert_int_equal(fake_hv_state(world->fake), VR_DOMAIN_OFF);
    assert_int_equal(state_of(world, 2, &ours), VR_GENERATION_RELEASED);
    assert_false(ours);
    assert_int_equal(state_of(world, 1, &ours), VR_GENERATION_KEPT);
    assert_true(ours);
    assert_content(world, old);
    assert_int_equal(world_mode(old), 0400);
    assert_int_equal(world_mode(path), 0600);
    assert_false(is_version_free(world)); /* the overlay that is kept needs it */
}

static void test_nothing_to_do(void **state) /* one that was never swapped, or whose disk stands alone */
{
    g_autoptr(World) world = world_new(TRUE);
    g_autofree char *path = release(world);

    assert_string_equal(path, world->old_path);
    assert_int_equal(world->fake->defines, 0);
    world->full = TRUE;
    world_swap(world, -1);
    g_free(path);
    path = release(world);
    assert_own(world, path);
    assert_null(strchr(world->fake->log->str, 'p'));
}

/* --- what stops it ----------------------------------------------------------------------------------- */

/* Refused with that word, and all is as it was. */
static void assert_refused(World *world, int code, const char *word)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(VrGeneration) disk = NULL;
    gboolean open = TRUE;

    assert_false(release_by(world, refuse_leave, NULL, &disk, &error));
    assert_gerror(error, code);
    if (!strstr(error->message, word))
        fail_msg("\"%s\" does not say \"%s\"", error->message, word);
    assert_true(vr_release_is_open(world->journal, FAKE_UUID, &open, NULL));
    assert_int_equal(open, g_str_equal(word, "another by now"));
    world_check(world, TRUE);
}

static void test_preflight(void **state) /* the named findings, and a job that is not ours */
{
    g_autoptr(World) world = world_new(TRUE);

    world_swap(world, -1);
    world->fake->snapshots = 1;
    assert_refused(world, VR_ERROR_REFUSED, "[snapshots]");
    world->fake->snapshots = 0;
    world->fake->job = "block pull on vda"; /* somebody else's, who may end it before its end */
    assert_true(vr_hv_block_pull(&world->fake->hv, FAKE_UUID, "vda", NULL));
    assert_refused(world, VR_ERROR_REFUSED, "[job]");
    world->fake->job = NULL;
    fake_hv_edit(world->fake, "/g1.qcow2", "/g9.qcow2");
    {
        g_autoptr(GError) error = NULL;
        g_auto(VrReleasePlan) plan = {0};
        assert_false(vr_release_look(&world->engine, &asked, &plan, &error));
        assert_gerror(error, VR_ERROR_CONFLICT);
    }
}

static void test_pull_fails(void **state)
{
    g_autoptr(World) world = world_new(TRUE);
    g_autofree char *path = NULL;

    world_skip_waiting(NULL);
    world_swap(world, -1);
    world->fake->pull_fails = TRUE;
    assert_refused(world, VR_ERROR_HYPERVISOR, "ended before its end");
    world->fake->pull_fails = FALSE;
    path = release(world);
    assert_own(world, path);
}

static gint64 real_now_ms(void *data)
{
    return g_get_monotonic_time() / 1000;
}

static gint64 real_wall_us(void *data)
{
    return g_get_real_time();
}

static void stop_the_guest(gint64 deadline_ms, void *data)
{
    fake_hv_set_state(data, VR_DOMAIN_OFF);
}

static void test_stopped_in_the_middle(void **state) /* the overlay is one still; the next one goes the other way */
{
    g_autoptr(World) world = world_new(TRUE);
    const VrClockSource source = {real_now_ms, real_wall_us, stop_the_guest, world->fake};
    g_autofree char *path = NULL;

    world_swap(world, -1);
    vr_clock_set_source(&source);
    assert_refused(world, VR_ERROR_CONFLICT, "was stopped while");
    vr_clock_set_source(NULL);
    path = release(world);
    assert_own(world, path);
    assert_true(g_str_has_suffix(path, "/g2.qcow2"));
}

static void write_to(const char *path)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    char byte;

    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, 65536), 1);
    assert_int_equal(pwrite(fd, &byte, 1, 65536), 1);
    close(fd);
}

static void test_written_to_while_copied(void **state) /* somebody started it: what it wrote is not lost */
{
    g_autoptr(World) world = world_new(FALSE);
    const VrSwapRequest flatten = {.uuid = FAKE_UUID, .os_target = "vda", .flatten = TRUE};
    g_autoptr(VrSwap) swap = NULL;
    g_autoptr(GError) error = NULL;
    g_autofree char *path = NULL;

    world_swap(world, -1);
    path = fake_hv_os_path(world->fake, FALSE);
    swap = vr_swap_begin(&world->engine, &flatten, &error);
    assert_null(error);
    assert_true(vr_swap_advance(swap, VR_SWAP_PREPARED, NULL, &error));
    write_to(path);
    assert_false(vr_swap_advance(swap, VR_SWAP_STARTED, NULL, &error));
    assert_gerror(error, VR_ERROR_CONFLICT);
    assert_non_null(strstr(error->message, "was written to while it was copied"));
    assert_true(vr_swap_undo(swap, "test", NULL));
    assert_int_equal(world_current(world), 1);
    assert_int_equal(state_of(world, 2, NULL), VR_GENERATION_DISCARDED);
    world_check(world, TRUE);
}

static void test_a_guest_that_runs_is_not_copied(void **state)
{
    g_autoptr(World) world = world_new(TRUE);
    const VrSwapRequest flatten = {.uuid = FAKE_UUID, .os_target = "vda", .flatten = TRUE};
    g_autoptr(VrSwap) swap = NULL;
    g_autoptr(GError) error = NULL;

    world_swap(world, -1);
    swap = vr_swap_begin(&world->engine, &flatten, NULL);
    assert_non_null(swap);
    assert_false(vr_swap_advance(swap, VR_SWAP_PREPARED, NULL, &error));
    assert_gerror(error, VR_ERROR_REFUSED);
    assert_true(vr_swap_undo(swap, "test", NULL));
    world_check(world, TRUE);
}

/* --- again ------------------------------------------------------------------------------------------- */

static void
test_the_journal_refuses(void **state) /* the set does not let it go: still in it, on a disk that stands alone */
{
    g_autoptr(World) world = world_new(TRUE);
    g_autofree char *path = NULL;

    world_swap(world, -1);
    assert_refused(world, VR_ERROR_CONFLICT, "another by now");
    assert_int_equal(state_of(world, 1, NULL), VR_GENERATION_CURRENT);
    path = release(world);
    assert_own(world, path);
    assert_int_equal(world->fake->defines, 2); /* of the swap, and one; not again */
}

static void test_own_pull_goes_on(void **state) /* the process that began it has ended */
{
    g_autoptr(World) world = world_new(TRUE);
    g_auto(VrReleasePlan) plan = {0};
    g_autofree char *path = NULL;

    world_swap(world, -1);
    assert_true(vr_journal_event(world->journal, world->owner, NULL, FAKE_UUID, "releasing", "", NULL));
    assert_true(vr_hv_block_pull(&world->fake->hv, FAKE_UUID, "vda", NULL));
    world->fake->job = "block pull on vda";
    assert_true(vr_release_look(&world->engine, &asked, &plan, NULL));
    assert_true(plan.begun);
    path = release(world);
    assert_own(world, path);
    assert_string_equal(strchr(world->fake->log->str, 'p'), "pdm"); /* one pull */
}

static void test_lost_answers(void **state) /* invariant 16: of each call that changes something */
{
    for (guint fault = FAKE_LOST_BEFORE; fault <= FAKE_LOST_AFTER; fault++) {
        for (guint at = 1; at < 40; at++) {
            g_autoptr(World) world = world_new(at % 2);
            g_autoptr(VrGeneration) disk = NULL;
            g_autofree char *path = NULL;
            guint left = 0;

            world_skip_waiting(NULL);
            world_swap(world, -1);
            world->fake->point = 0;
            world->fake->fault = (FakeFault)fault;
            world->fake->fault_at = at;
            if (!release_by(world, count_leave, &left, &disk, NULL)) {
                world->fake->fault_at = 0;
                g_ptr_array_unref(vr_recover(&world->engine, FALSE, NULL));
                world_check(world, TRUE);
                path = release(world);
            } else {
                path = g_strdup(disk->path);
            }
            world->fake->fault_at = 0;
            assert_own(world, path);
        }
    }
}

/* --- afterwards -------------------------------------------------------------------------------------- */

static void test_gc_leaves_it(void **state) /* invariant 7: whatever is asked */
{
    g_autoptr(World) world = world_new(TRUE);
    g_autofree char *path = NULL;
    g_autoptr(GPtrArray) all = NULL, verdicts = NULL;
    g_autoptr(VrGeneration) generation = NULL;
    g_autoptr(GError) error = NULL;
    g_autoptr(VrInUse) in_use = NULL;
    VrRetentionFacts facts;

    world_swap(world, -1);
    path = release(world);
    fake_hv_set_state(world->fake, VR_DOMAIN_OFF);
    fake_hv_edit(world->fake, path, world->old_path); /* no domain names it any more */
    all = vr_journal_generations(world->journal, FAKE_UUID, NULL);
    assert_true(vr_retention_facts(world->journal, NULL, FAKE_UUID, all, &facts, NULL));
    verdicts = vr_retention_judge(all, NULL, &facts); /* all that is ours goes */
    for (guint i = 0; i < verdicts->len; i++)
        assert_false(((const VrVerdict *)verdicts->pdata[i])->goes);
    generation = vr_journal_generation(world->journal, FAKE_UUID, 1, NULL);
    in_use = vr_in_use_read(world->store, NULL, world->journal, NULL);
    const VrRetireCheck check = {.in_use = in_use};
    assert_false(vr_retire(&world->engine, generation, &check, "test", &error));
    assert_gerror(error, VR_ERROR_REFUSED);
    assert_true(g_file_test(path, G_FILE_TEST_EXISTS));
}

static void test_it_comes_back(void **state) /* as a foreign guest, whose disk is never touched by us */
{
    g_autoptr(World) world = world_new(TRUE);
    g_autofree char *path = NULL;
    g_autofree char *now = NULL;
    g_autoptr(VrGeneration) found = NULL;

    world_swap(world, -1);
    path = release(world);
    assert_int_equal(chmod(path, 0640), 0); /* the admin's own */
    world_swap(world, -1);
    found = vr_journal_generation(world->journal, FAKE_UUID, 1, NULL);
    assert_int_equal(found->state, VR_GENERATION_KEPT);
    assert_false(found->ours);
    assert_null(found->version); /* what it ran by then nobody knows */
    assert_int_equal(world_current(world), 2);
    assert_int_equal(world_mode(path), 0640);
    world_swap(world, 1);
    now = fake_hv_os_path(world->fake, TRUE);
    assert_string_equal(now, path);
    assert_int_equal(world_mode(path), 0640);
}

static void test_it_comes_back_elsewhere(void **state) /* on another disk: a generation with a number of its own */
{
    g_autoptr(World) world = world_new(TRUE);
    g_autofree char *path = NULL;

    world_swap(world, -1);
    path = release(world);
    fake_hv_set_state(world->fake, VR_DOMAIN_OFF);
    fake_hv_edit(world->fake, path, world->old_path);
    fake_hv_edit(world->fake, "type=\"qcow2\"", "type=\"raw\"");
    world_swap(world, -1);
    assert_int_equal(state_of(world, 0, NULL), VR_GENERATION_KEPT);
    assert_int_equal(state_of(world, 1, NULL), VR_GENERATION_RELEASED);
    assert_int_equal(state_of(world, 2, NULL), VR_GENERATION_KEPT);
    assert_int_equal(world_current(world), 3);
}

static void
test_a_lost_journal_does_not_make_it_ours(void **state) /* recover --rebuild finds a disk that was released */
{
    g_autoptr(World) world = world_new(TRUE);
    g_autofree char *path = NULL;
    g_autoptr(GPtrArray) found = NULL;
    const VrFoundInstance *one;
    gboolean ours = TRUE;

    world_swap(world, -1);
    path = release(world);
    world_run_sql(world, "DELETE FROM data_disks");
    world_run_sql(world, "DELETE FROM steps");
    world_run_sql(world, "DELETE FROM swaps");
    world_run_sql(world, "DELETE FROM generations");
    found = vr_rebuild_look(world->store, &world->fake->hv, world->journal, NULL);
    assert_int_equal(found->len, 1);
    one = g_ptr_array_index(found, 0);
    assert_true(one->restorable);
    assert_true(vr_rebuild_restore(world->journal, world->owner, one, NULL));
    assert_int_equal(state_of(world, 1, &ours), VR_GENERATION_RELEASED);
    assert_false(ours);
    assert_true(is_version_free(world));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_running),
        cmocka_unit_test(test_off),
        cmocka_unit_test(test_nothing_to_do),
        cmocka_unit_test(test_preflight),
        cmocka_unit_test(test_stopped_in_the_middle),
        cmocka_unit_test(test_written_to_while_copied),
        cmocka_unit_test(test_a_guest_that_runs_is_not_copied),
        cmocka_unit_test(test_the_journal_refuses),
        cmocka_unit_test(test_own_pull_goes_on),
        cmocka_unit_test(test_gc_leaves_it),
        cmocka_unit_test(test_it_comes_back),
        cmocka_unit_test(test_it_comes_back_elsewhere),
        cmocka_unit_test(test_a_lost_journal_does_not_make_it_ours),
        cmocka_unit_test(test_pull_fails),
        cmocka_unit_test(test_lost_answers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
