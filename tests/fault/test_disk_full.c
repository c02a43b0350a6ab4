/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A disk that is really full (row B17): the store lies on a small file system of its own, in a mount namespace of its own, that is
 * filled so that the room ends later and later in what is done: in the journal, a record, an overlay, a copy. The guest runs on, the
 * error says that there is no room and where, nothing is half made; and with room again a recovery ends with all
 * invariants. Exit status 77 where nothing may be mounted.
 */
#include "engine/support.h"

#include "base/child.h"
#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cmocka.h>

#define KIB 1024
#define MIB (1024 * KIB)

static char *scratch; /* the disk image and the mount point */

/* ---- a small file system ---- */

static void must_run(const char *const *argv)
{
    g_autoptr(GError) error = NULL;

    vr_child_run(argv, NULL, NULL, &error);
    g_assert_no_error(error);
}

/* 24 MiB: the 16 that copies leave free, and some. Gone with the process, whatever becomes of it. */
static char *mount_small(const char *type)
{
    char *point = g_build_filename(scratch, type, NULL);
    g_autofree char *image = g_strconcat(point, ".img", NULL);

    assert_int_equal(mkdir(point, 0755), 0);
    if (g_str_equal(type, "tmpfs")) {
        assert_int_equal(mount("none", point, type, 0, "size=24m,mode=0711"), 0);
        return point;
    }
    const char *make[] = {"truncate", "-s", "32M", image, NULL};
    const char *format[] = {"mkfs.ext4", "-q", "-F", "-m", "0", "-J", "size=1", image, NULL};
    const char *attach[] = {"mount", "-o", "loop", image, point, NULL};
    must_run(make);
    must_run(format);
    must_run(attach);
    assert_int_equal(chmod(point, 0711), 0);
    return point;
}

static guint64 room(const char *point)
{
    struct statvfs fs;

    assert_int_equal(statvfs(point, &fs), 0);
    return (guint64)fs.f_bavail * fs.f_frsize;
}

/* A file that leaves `left` bytes. */
static void fill(const char *point, guint64 left)
{
    g_autofree char *path = g_build_filename(point, "filler", NULL);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    guint64 have = room(point);

    if (have > left)
        (void)posix_fallocate(fd, 0, (off_t)(have - left));
    for (char page[4 * KIB] = {1}; left == 0 && write(fd, page, sizeof page) > 0;)
        ; /* the rest, for metadata was taken too */
    close(fd);
}

static void make_room(const char *point)
{
    g_autofree char *path = g_build_filename(point, "filler", NULL);

    assert_int_equal(unlink(path), 0);
}

/* ---- a world whose store is on it; guest and hypervisor are not ---- */

static World *world_on(const char *point)
{
    g_autofree char *top = g_build_filename(scratch, "world", NULL);
    g_autofree char *root = g_build_filename(top, "root", NULL);

    assert_int_equal(mkdir(top, 0755), 0);
    assert_int_equal(symlink(point, root), 0);
    return world_make(top, TRUE);
}

static void end_world(World *world, const char *point)
{
    g_autofree char *all = g_strdup_printf("rm -rf %s/*", point);
    const char *argv[] = {"sh", "-c", all, NULL};

    world_free(world);
    must_run(argv);
}

static void reopen(World *world)
{
    world_close(world);
    world_open(world);
}

static void recover_all(World *world)
{
    for (guint runs = 1;; runs++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(GPtrArray) recovered = vr_recover(&world->engine, FALSE, &error);
        g_assert_no_error(error);
        if (recovered->len == 0)
            return;
        assert_true(runs <= 3);
        for (guint i = 0; i < recovered->len; i++) {
            const VrRecovered *one = g_ptr_array_index(recovered, i);
            g_autoptr(VrSwap) swap = NULL;
            if (one->row->state != VR_SWAP_STARTED)
                continue;
            swap = vr_swap_resume(&world->engine, one->row, NULL);
            assert_true(vr_swap_commit(swap, NULL, NULL));
        }
    }
}

/* ---- what is done on it ---- */

static gboolean act_publish(World *world, GError **error)
{
    return world_publish(world, "3.0.0", 'P', error);
}

static gboolean act_forward(World *world, GError **error)
{
    g_autoptr(VrSwap) swap = world_begin(world, -1, error);

    if (!swap)
        return FALSE;
    if (vr_swap_advance(swap, VR_SWAP_STARTED, &world_stop, error))
        return vr_swap_commit(swap, NULL, error);
    vr_swap_undo(swap, "a step failed", NULL);
    return FALSE;
}

static gboolean act_full_clone(World *world, GError **error)
{
    world->full = TRUE;
    return act_forward(world, error);
}

static gboolean act_rollback(World *world, GError **error)
{
    g_autoptr(VrSwap) swap = world_begin(world, 0, error);

    if (!swap)
        return FALSE;
    if (vr_swap_advance(swap, VR_SWAP_STARTED, &world_stop, error))
        return vr_swap_commit(swap, NULL, error);
    vr_swap_undo(swap, "a step failed", NULL);
    return FALSE;
}

/* TRUE when there was room enough. */
static gboolean try_with(const char *point, guint64 left, gboolean (*act)(World *world, GError **error))
{
    World *world = world_on(point);
    g_autoptr(GError) error = NULL;
    gboolean ok;

    g_free(world_image_file(world, 'P'));
    fill(point, left);
    ok = act(world, &error);
    if (!ok) {
        if (!g_error_matches(error, VR_ERROR, VR_ERROR_NO_SPACE) || !strstr(error->message, point))
            fail_msg("%" G_GUINT64_FORMAT " bytes left: %s", left, error ? error->message : "no error");
        assert_int_equal(fake_hv_state(world->fake), VR_DOMAIN_RUNNING);
    }
    reopen(world); /* a new process, on a disk that is still full: it has the reserve */
    recover_all(world);
    assert_int_equal(fake_hv_state(world->fake), VR_DOMAIN_RUNNING);
    make_room(point);
    reopen(world);
    world->is_discard_late = TRUE;
    world_check(world, FALSE);
    recover_all(world);
    world_check(world, TRUE);
    assert_int_equal(fake_hv_state(world->fake), VR_DOMAIN_RUNNING);
    g_clear_error(&error);
    if (!ok && !act(world, &error)) /* and now it goes */
        fail_msg("%" G_GUINT64_FORMAT " bytes left, and then room: %s", left, error->message);
    end_world(world, point);
    return ok;
}

static void sweep(const char *type, gboolean (*act)(World *world, GError **error), const char *what)
{
    g_autofree char *point = mount_small(type);
    guint full = 0, enough = 0;
    guint64 least = 0;

    for (guint64 left = 0; enough < 2; left = left < 256 * KIB ? left + 16 * KIB : left * 3 / 2) {
        if (try_with(point, left, act))
            least = enough++ ? least : left;
        else
            full++;
        assert_true(left < 64 * MIB);
    }
    print_message("%s, %s: the disk was full at %u points; %" G_GUINT64_FORMAT " KiB are enough\n", type, what, full,
                  least / KIB);
    assert_true(full >= 3);
    assert_int_equal(umount(point), 0);
    g_assert_cmpint(g_rmdir(point), ==, 0);
}

static void test_full_in_publish(void **state)
{
    sweep("tmpfs", act_publish, "publish");
    sweep("ext4", act_publish, "publish");
}

static void test_full_in_prepare(void **state)
{
    sweep("tmpfs", act_forward, "swap");
    sweep("ext4", act_forward, "swap");
}

static void test_full_in_clone(void **state)
{
    sweep("ext4", act_full_clone, "full clone");
}

static gboolean has_reserve(const char *point)
{
    g_autofree char *path = g_build_filename(point, "reserve", NULL);
    struct stat st;

    return stat(path, &st) == 0 && st.st_blocks * 512 >= MIB;
}

/* Back goes without any room (invariant 15), for who has the store open and for who opens it then. */
static void rollback_with(const char *point, guint64 left, gboolean is_open)
{
    World *world = world_on(point);
    g_autoptr(GError) error = NULL;

    world_swap(world, -1);
    assert_true(has_reserve(point));
    fill(point, left);
    if (!is_open)
        reopen(world);
    if (!act_rollback(world, &error))
        fail_msg("%" G_GUINT64_FORMAT " bytes left: %s", left, error->message);
    assert_int_equal(world_current(world), 0);
    world_check(world, TRUE);
    make_room(point);
    reopen(world);
    assert_true(has_reserve(point));
    world_check(world, TRUE);
    end_world(world, point);
}

static void test_full_in_rollback(void **state)
{
    static const char *const types[] = {"tmpfs", "ext4"};

    for (guint i = 0; i < G_N_ELEMENTS(types); i++) {
        g_autofree char *point = mount_small(types[i]);
        for (guint64 left = 0; left < MIB; left += 64 * KIB) {
            rollback_with(point, left, TRUE);
            rollback_with(point, left, FALSE);
        }
        assert_int_equal(umount(point), 0);
        g_assert_cmpint(g_rmdir(point), ==, 0);
    }
}

/* ---- */

/* What a test that failed has left. */
static int clean(void **state)
{
    const char *argv[] = {"sh", "-c", "umount -l \"$1\"/* 2>/dev/null; rm -rf \"$1\"/*", "sh", scratch, NULL};

    vr_child_run(argv, NULL, NULL, NULL);
    return 0;
}

static gboolean own_namespace(void)
{
    return geteuid() == 0 && unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           access("/dev/loop-control", R_OK) == 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_full_in_publish, clean),
        cmocka_unit_test_teardown(test_full_in_prepare, clean),
        cmocka_unit_test_teardown(test_full_in_clone, clean),
        cmocka_unit_test_teardown(test_full_in_rollback, clean),
    };
    int failed;

    if (!own_namespace()) {
        print_message("skipped: no mount namespace or no loop device here\n");
        return 77;
    }
    world_skip_waiting(NULL);
    scratch = g_dir_make_tmp("vr-full-XXXXXX", NULL);
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    g_rmdir(scratch);
    g_free(scratch);
    return failed;
}
