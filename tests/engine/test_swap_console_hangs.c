/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The log of a guest's console on a file system that does not answer (engine/swap_console.c): FUSE that nobody serves. Row F11.
 * Exit status 77 where it may not be mounted.
 */
#include "engine/support.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cmocka.h>

#define SOON_US (20 * G_USEC_PER_SEC)

static struct {
    int fuse;
    char *dir;
} hanging = {.fuse = -1};

/* 0 or an errno. */
static int hang(const char *top)
{
    g_autofree char *options = NULL;

    hanging.fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    if (hanging.fuse < 0)
        return errno;
    hanging.dir = g_build_filename(top, "nfs", NULL);
    options = g_strdup_printf("fd=%d,rootmode=40000,user_id=0,group_id=0", hanging.fuse);
    if (g_mkdir(hanging.dir, 0700) < 0)
        return errno;
    return mount("hangs", hanging.dir, "fuse", 0, options) < 0 ? errno : 0;
}

/* All that waits for it is answered with an error. After a test that failed, too: nothing could end a process with such a thread that a sanitizer stops. */
static int let_go(void **state)
{
    (void)state;
    vr_fd_clear(&hanging.fuse);
    if (hanging.dir)
        (void)umount2(hanging.dir, MNT_DETACH);
    g_clear_pointer(&hanging.dir, g_free);
    return 0;
}

/* A hung NFS server, before the start and after it: a swap does not wait for its log, and the log says why it is empty. */
static void holds_nothing_up(void **state)
{
    static const char *const devices[] = {"<serial type='pty'><log file='%s/nfs/log' append='on'/></serial>",
                                          "<serial type='pty'><log file='%s/nfs/log'/></serial>"};

    for (gsize i = 0; i < 2 * G_N_ELEMENTS(devices); i++) {
        g_autoptr(World) world = world_new(TRUE);
        g_auto(GStrv) parts = g_strsplit(devices[i / 2], "%s", 2);
        g_autofree char *device = g_strjoinv(world->top, parts);
        g_autofree char *devices_end = g_strconcat(device, "</devices>", NULL);
        gint64 begun = g_get_monotonic_time();

        assert_int_equal(hang(world->top), 0);
        fake_hv_edit(world->fake, "</devices>", devices_end);
        {
            g_autoptr(VrSwap) swap = world_reach(world, VR_SWAP_STARTED);
            (i % 2 ? world_undo : world_commit)(swap);
            world_expect_console(world, vr_swap_row(swap),
                                 "[virt-reimage: its log file is not read: its file system does not answer]\n");
        }
        assert_in_range(g_get_monotonic_time() - begun, 0, SOON_US);
        let_go(NULL);
    }
}

/* Of the directory itself nothing is asked: that would hang. */
static gboolean may_hang(void)
{
    g_autofree char *top = g_dir_make_tmp("vr-hangs-XXXXXX", NULL);
    g_autofree char *dir = g_build_filename(top, "nfs", NULL);
    int error = hang(top);

    let_go(NULL);
    g_rmdir(dir);
    g_rmdir(top);
    if (error != 0)
        print_message("skipped: no file system may be mounted here: %s\n", g_strerror(error));
    return error == 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(holds_nothing_up, let_go),
    };

    return may_hang() ? cmocka_run_group_tests(tests, NULL, NULL) : 77;
}
