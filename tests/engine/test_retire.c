/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How kept disks go (B4, B17; SAFETY invariant 7 and S14): by the recorded file only, never one that is used, and one of gc and a rollback
 * wins. */
#include "engine/retire.h"
#include "engine/support.h"

#include "base/child.h"
#include "base/error.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* The guest runs on generation 3; 1 and 2 are kept. */
static World *world_with_kept(void)
{
    World *world = world_new(TRUE);

    for (guint i = 0; i < 3; i++)
        world_swap(world, -1);
    return world;
}

static char *beside(World *world, const char *name)
{
    return g_build_filename(world->root, "disks", FAKE_UUID, name, NULL);
}

static gboolean is_there(World *world, const char *name)
{
    g_autofree char *path = beside(world, name);
    struct stat st;

    return lstat(path, &st) == 0;
}

static VrGenerationState state_of(World *world, guint number)
{
    g_autoptr(VrGeneration) generation = vr_journal_generation(world->journal, FAKE_UUID, number, NULL);

    assert_non_null(generation);
    return generation->state;
}

static gboolean retire_by(World *world, guint number, VrMayRetire may, GError **error)
{
    g_autoptr(VrGeneration) generation = vr_journal_generation(world->journal, FAKE_UUID, number, NULL);
    g_autoptr(VrInUse) in_use = vr_in_use_read(world->store, &world->fake->hv, world->journal, NULL);
    const VrRetireCheck check = {.in_use = in_use, .may = may};

    assert_non_null(in_use);
    return vr_retire(&world->engine, generation, &check, "test", error);
}

static gboolean retire(World *world, guint number, GError **error)
{
    return retire_by(world, number, NULL, error);
}

/* It is refused, says why, and generation 1 is what it was: a rollback goes to it. */
static void assert_kept(World *world, int code, const char *word)
{
    g_autoptr(GError) error = NULL;

    assert_false(retire(world, 1, &error));
    assert_gerror(error, code);
    if (!strstr(error->message, word))
        fail_msg("\"%s\" does not say \"%s\"", error->message, word);
    assert_int_equal(state_of(world, 1), VR_GENERATION_KEPT);
    assert_true(is_there(world, "g1.qcow2"));
    assert_true(is_there(world, "g1.xml"));
}

/* --- it goes ----------------------------------------------------------------------------------------- */

static void test_disk_and_xml_go(void **state)
{
    g_autoptr(World) world = world_with_kept();
    g_autoptr(GError) error = NULL;
    g_autoptr(VrSwap) swap = NULL;

    assert_true(retire(world, 1, &error));
    assert_int_equal(state_of(world, 1), VR_GENERATION_DELETED);
    assert_false(is_there(world, "g1.qcow2"));
    assert_false(is_there(world, "g1.xml"));
    assert_true(is_there(world, "g2.qcow2") && is_there(world, "g3.qcow2") && is_there(world, "g0.xml"));
    swap = world_begin(world, 1, &error);
    assert_null(swap);
    assert_gerror(error, VR_ERROR_REFUSED);
    assert_non_null(strstr(error->message, "deleted"));
    world_check(world, TRUE);
    world_swap(world, 2);
    world_swap(world, 0);
    world_check(world, TRUE);
    world_swap(world, -1); /* its number is not used again */
    assert_int_equal(world_current(world), 4);
}

/* An overlay of which nobody can tell what it refers to keeps every disk but itself. */
static void test_in_doubt_it_stays(void **state)
{
    g_autoptr(World) world = world_with_kept();
    g_autoptr(GError) error = NULL;
    g_autofree char *dir = g_build_filename(world->root, "disks/22222222-2222-4222-8222-222222222222", NULL);
    g_autofree char *path = g_build_filename(dir, "g1.qcow2", NULL);
    g_autofree char *own = g_build_filename(world->root, "disks", FAKE_UUID, "g1.qcow2", NULL);

    assert_int_equal(g_mkdir_with_parents(dir, 0711), 0);
    assert_true(g_file_set_contents(path, "garbage", 7, NULL));
    assert_kept(world, VR_ERROR_REFUSED, "it cannot be told what ");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(chmod(own, 0600), 0);
    assert_int_equal(truncate(own, 5), 0); /* one that is damaged itself goes like any other */
    assert_true(retire(world, 1, &error));
}

/* What it was made from is free then. */
static void test_its_version_is_free(void **state)
{
    g_autoptr(World) world = world_new(TRUE);
    g_autoptr(GError) error = NULL;
    VrDb *db = NULL;

    world_swap(world, -1);
    world_swap(world, 0);
    db = vr_journal_db(world->journal);
    assert_true(vr_db_begin(db, NULL));
    assert_false(vr_in_use_journaled(db, "os", "2.0.0", NULL));
    vr_db_rollback(db);
    assert_true(retire(world, 1, &error));
    assert_true(vr_db_begin(db, NULL));
    assert_true(vr_in_use_journaled(db, "os", "2.0.0", NULL));
    vr_db_rollback(db);
}

static void test_a_disk_that_is_gone(void **state)
{
    g_autoptr(World) world = world_with_kept();
    g_autoptr(GError) error = NULL;
    g_autofree char *path = beside(world, "g1.qcow2");

    assert_int_equal(unlink(path), 0);
    assert_true(retire(world, 1, &error));
    assert_int_equal(state_of(world, 1), VR_GENERATION_DELETED);
    assert_false(is_there(world, "g1.xml"));
}

/* --- it is not the recorded file (invariant 7) -------------------------------------------------------- */

static void test_a_foreign_file_in_its_place(void **state)
{
    g_autoptr(World) world = world_with_kept();
    g_autofree char *path = beside(world, "g1.qcow2");
    g_autofree char *aside = beside(world, "aside.qcow2");
    const char *argv[] = {"cp", "--", aside, path, NULL};

    assert_int_equal(g_rename(path, aside), 0);
    assert_true(vr_child_run(argv, NULL, NULL, NULL));
    assert_kept(world, VR_ERROR_REFUSED, "is not the file that was made");
}

/* A later file may get the inode; it was born later. */
static void test_its_inode_is_used_again(void **state)
{
    g_autoptr(World) world = world_with_kept();
    g_autoptr(VrGeneration) one = vr_journal_generation(world->journal, FAKE_UUID, 1, NULL);
    g_autofree char *path = beside(world, "g1.qcow2");
    g_autofree char *two = beside(world, "g2.qcow2");
    g_autofree char *sql = NULL;
    struct stat st;
    const char *argv[] = {"cp", "--", two, path, NULL};

    assert_int_equal(unlink(path), 0);
    assert_true(vr_child_run(argv, NULL, NULL, NULL));
    assert_int_equal(stat(path, &st), 0);
    if (one->file.born_ns == 0)
        skip(); /* a file system without birth times */
    /* as if the file system had given it the same inode: whether it does is its own affair */
    sql = g_strdup_printf("UPDATE generations SET inode = %lu WHERE number = 1", (unsigned long)st.st_ino);
    world_run_sql(world, sql);
    assert_kept(world, VR_ERROR_REFUSED, "is not the file that was made");
}

static void test_an_xml_that_was_edited_stays(void **state)
{
    g_autoptr(World) world = world_with_kept();
    g_autoptr(GError) error = NULL;
    g_autofree char *path = beside(world, "g1.xml");

    assert_true(g_file_set_contents(path, "edited", -1, NULL));
    assert_true(retire(world, 1, &error));
    assert_false(is_there(world, "g1.qcow2"));
    assert_true(is_there(world, "g1.xml"));
}

/* --- its NVRAM --------------------------------------------------------------------------------------- */

static char *give_nvram(World *world, guint number)
{
    g_autofree char *name = g_strdup_printf("g%u.nvram", number);
    char *path = beside(world, name);
    VrFileId file;

    assert_true(g_file_set_contents(path, "boot entries", -1, NULL));
    assert_true(vr_disk_file_id(path, &file, NULL));
    assert_true(vr_journal_generation_nvram(world->journal, world->owner, FAKE_UUID, number, path, &file, NULL));
    return path;
}

static void test_nvram_goes_with_it(void **state)
{
    g_autoptr(World) world = world_with_kept();
    g_autofree char *one = give_nvram(world, 1);
    g_autofree char *two = give_nvram(world, 2);
    g_autofree char *named = g_strdup_printf("hvm</type><nvram>%s</nvram>", one);

    fake_hv_edit(world->fake, "hvm</type>", named);
    assert_kept(world, VR_ERROR_REFUSED, "g1.nvram is in use by fake (its domain)");
    fake_hv_edit(world->fake, named, "hvm</type>");
    assert_true(retire(world, 1, NULL));
    assert_false(is_there(world, "g1.nvram"));
    /* another file in its place stays */
    assert_int_equal(unlink(two), 0);
    assert_true(g_file_set_contents(two, "precious", -1, NULL));
    assert_true(retire(world, 2, NULL));
    assert_true(is_there(world, "g2.nvram"));
}

/* An admin's own file, elsewhere. */
static void test_nvram_elsewhere_stays(void **state)
{
    g_autoptr(World) world = world_with_kept();
    g_autofree char *path = g_build_filename(world->top, "g1.nvram", NULL);
    VrFileId file;

    assert_true(g_file_set_contents(path, "boot entries", -1, NULL));
    assert_true(vr_disk_file_id(path, &file, NULL));
    assert_true(vr_journal_generation_nvram(world->journal, world->owner, FAKE_UUID, 1, path, &file, NULL));
    assert_true(retire(world, 1, NULL));
    assert_true(g_file_test(path, G_FILE_TEST_EXISTS));
}

/* --- somebody uses it (invariant 6) -------------------------------------------------------------------- */

static void test_an_overlay_on_it(void **state)
{
    g_autoptr(World) world = world_with_kept();
    g_autofree char *path = beside(world, "g1.qcow2");
    g_autofree char *overlay = beside(world, "post-mortem.qcow2");
    const char *argv[] = {"qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", path, overlay, NULL};

    assert_true(vr_child_run(argv, NULL, NULL, NULL));
    assert_kept(world, VR_ERROR_REFUSED, "post-mortem.qcow2");
    assert_int_equal(unlink(overlay), 0);
    assert_true(retire(world, 1, NULL));
}

/* By its name, by a link to it, and as what lies below the disk that the domain names. */
static void test_a_domain_names_it(void **state)
{
    g_autoptr(World) world = world_with_kept();
    g_autofree char *path = beside(world, "g1.qcow2");
    g_autofree char *link = g_build_filename(world->top, "link.qcow2", NULL);
    g_autofree char *overlay = g_build_filename(world->top, "overlay.qcow2", NULL);
    const char *argv[] = {"qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", path, overlay, NULL};
    const char *const names[] = {path, link, overlay};

    assert_int_equal(symlink(path, link), 0);
    assert_true(vr_child_run(argv, NULL, NULL, NULL));
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        fake_hv_edit(world->fake, world->data_path, names[i]);
        assert_kept(world, VR_ERROR_REFUSED, "is in use by fake (its domain)");
        fake_hv_edit(world->fake, names[i], world->data_path);
    }
    assert_true(retire(world, 1, NULL));
}

static void test_a_process_holds_it(void **state)
{
    g_autoptr(World) world = world_with_kept();
    g_autofree char *path = beside(world, "g1.qcow2");
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 100, .l_len = 1}; /* as QEMU does */
    vr_autofd fd = open(path, O_RDONLY | O_CLOEXEC);

    assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
    assert_kept(world, VR_ERROR_REFUSED, "a process holds it");
    vr_fd_clear(&fd);
    assert_true(retire(world, 1, NULL));
}

/* --- it cannot be unlinked ----------------------------------------------------------------------------- */

/* In a process of its own, whose directory of disks is read-only. */
static void in_a_read_only_directory(World *world)
{
    g_autofree char *dir = g_build_filename(world->root, "disks", FAKE_UUID, NULL);

    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount(dir, dir, NULL, MS_BIND, NULL) < 0 || mount(NULL, dir, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL) < 0)
        _exit(77);
    world_open(world);
    assert_kept(world, VR_ERROR_IO, "Read-only file system");
    assert_kept(world, VR_ERROR_IO, "Read-only file system");
    _exit(0);
}

static void test_unlink_fails(void **state)
{
    g_autoptr(World) world = world_with_kept();
    g_autoptr(GError) error = NULL;
    int status = 0;
    pid_t pid;

    world_close(world);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        in_a_read_only_directory(world);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    world_open(world);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77) {
        print_message("skipped: no mount namespace can be made here\n");
        skip();
    }
    assert_int_equal(WEXITSTATUS(status), 0);
    world_swap(world, 1); /* kept, so it can be gone back to */
    world_swap(world, 3);
    assert_true(retire(world, 1, &error));
}

/* --- one of gc and a rollback wins --------------------------------------------------------------------- */

static void test_a_rollback_was_first(void **state)
{
    g_autoptr(World) world = world_with_kept();
    g_autoptr(VrGeneration) judged = vr_journal_generation(world->journal, FAKE_UUID, 1, NULL);
    g_autoptr(VrInUse) in_use = vr_in_use_read(world->store, &world->fake->hv, world->journal, NULL);
    const VrRetireCheck check = {.in_use = in_use};
    g_autoptr(GError) error = NULL;
    g_autoptr(VrSwap) swap = world_begin(world, 1, NULL);

    assert_non_null(swap);
    assert_false(vr_retire(&world->engine, judged, &check, "test", &error));
    assert_gerror(error, VR_ERROR_REFUSED);
    assert_true(vr_swap_advance(swap, VR_SWAP_STARTED, &world_stop, NULL));
    assert_true(vr_swap_commit(swap, NULL, NULL));
    g_clear_error(&error);
    assert_false(vr_retire(&world->engine, judged, &check, "test", &error)); /* it was kept when it was judged */
    assert_gerror(error, VR_ERROR_REFUSED);
    world_check(world, TRUE);
}

/* Another owner's gc takes the generation after the rollback has looked at it: here the row changes before the swap is written. */
static void test_gc_was_first(void **state)
{
    g_autoptr(World) world = world_with_kept();
    g_autoptr(GError) error = NULL;
    g_autoptr(VrSwap) swap = NULL;

    world_run_sql(world, "CREATE TRIGGER gc AFTER UPDATE OF xml ON generations WHEN NEW.number = 3 BEGIN "
                         "UPDATE generations SET was = state, state = 5 WHERE number = 1; END");
    swap = world_begin(world, 1, &error);
    assert_null(swap);
    assert_gerror(error, VR_ERROR_REFUSED);
    assert_non_null(strstr(error->message, "not kept any more"));
    world_check(world, TRUE);
}

static gboolean says_no(VrDb *db, const char *uuid, void *data, GError **error)
{
    g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "no");
    return FALSE;
}

static void test_others_are_asked(void **state)
{
    g_autoptr(World) world = world_with_kept();

    assert_false(retire_by(world, 1, says_no, NULL));
    assert_int_equal(state_of(world, 1), VR_GENERATION_KEPT);
}

/* Invariant 22: one who lost the set deletes nothing. */
static void test_another_owner(void **state)
{
    g_autoptr(World) world = world_with_kept();
    g_autoptr(GError) error = NULL;

    world_run_sql(world, "UPDATE owners SET fence = fence + 1");
    assert_false(retire(world, 1, &error));
    assert_gerror(error, VR_ERROR_FENCED);
    assert_int_equal(state_of(world, 1), VR_GENERATION_KEPT);
    assert_true(is_there(world, "g1.qcow2") && is_there(world, "g1.xml"));
}

static void test_never_found_or_current(void **state)
{
    g_autoptr(World) world = world_with_kept();

    assert_false(retire(world, 0, NULL));
    assert_int_equal(state_of(world, 0), VR_GENERATION_KEPT);
    assert_true(g_file_test(world->old_path, G_FILE_TEST_EXISTS));
    assert_false(retire(world, 3, NULL)); /* its domain names it */
    assert_int_equal(state_of(world, 3), VR_GENERATION_CURRENT);
}

/* --- one that was cut ---------------------------------------------------------------------------------- */

static void recover(World *world)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) recovered = vr_recover(&world->engine, FALSE, &error);

    assert_null(error);
}

static void test_recovery_finishes(void **state)
{
    g_autoptr(World) world = world_with_kept();

    world_run_sql(world, "CREATE TRIGGER cut BEFORE UPDATE ON generations WHEN NEW.state = 6 BEGIN SELECT RAISE(ABORT, "
                         "'cut'); END");
    assert_false(retire(world, 1, NULL)); /* unlinked, not journaled */
    assert_int_equal(state_of(world, 1), VR_GENERATION_GOING);
    assert_false(is_there(world, "g1.qcow2"));
    recover(world); /* cannot either, and says so */
    assert_int_equal(state_of(world, 1), VR_GENERATION_GOING);
    world_run_sql(world, "DROP TRIGGER cut");
    recover(world);
    assert_int_equal(state_of(world, 1), VR_GENERATION_DELETED);
    world_check(world, TRUE);
}

/* Killed before the unlink; by the time of the recovery somebody uses the disk, and it is kept again. */
static void test_recovery_keeps_what_is_used_by_now(void **state)
{
    g_autoptr(World) world = world_with_kept();
    g_autofree char *path = beside(world, "g1.qcow2");

    world_run_sql(world, "UPDATE generations SET was = state, state = 5 WHERE number = 1");
    fake_hv_edit(world->fake, world->data_path, path);
    recover(world);
    assert_int_equal(state_of(world, 1), VR_GENERATION_KEPT);
    fake_hv_edit(world->fake, path, world->data_path);
    world_swap(world, 1);
    world_check(world, TRUE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_disk_and_xml_go),
        cmocka_unit_test(test_in_doubt_it_stays),
        cmocka_unit_test(test_its_version_is_free),
        cmocka_unit_test(test_a_disk_that_is_gone),
        cmocka_unit_test(test_a_foreign_file_in_its_place),
        cmocka_unit_test(test_its_inode_is_used_again),
        cmocka_unit_test(test_an_xml_that_was_edited_stays),
        cmocka_unit_test(test_nvram_goes_with_it),
        cmocka_unit_test(test_nvram_elsewhere_stays),
        cmocka_unit_test(test_an_overlay_on_it),
        cmocka_unit_test(test_a_domain_names_it),
        cmocka_unit_test(test_a_process_holds_it),
        cmocka_unit_test(test_unlink_fails),
        cmocka_unit_test(test_a_rollback_was_first),
        cmocka_unit_test(test_gc_was_first),
        cmocka_unit_test(test_others_are_asked),
        cmocka_unit_test(test_another_owner),
        cmocka_unit_test(test_never_found_or_current),
        cmocka_unit_test(test_recovery_finishes),
        cmocka_unit_test(test_recovery_keeps_what_is_used_by_now),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
