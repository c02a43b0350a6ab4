/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libguestfs would build its appliance by itself, in the process that opens the disks. That takes the right to give files away (supermin unpacks with
 * their owners), which that process shall not have. So it is built here, before and apart, from files of this host alone, by the same
 * supermin call; libguestfs takes a directory with these four files as it is (guestfs(3), "FIXED APPLIANCE").
 */
#include "base/clock.h"
#include "base/durable.h"
#include "base/error.h"
#include "base/fd.h"
#include "disk/personalize_private.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUILD_MS (10 * 60 * 1000)
#define POLL_MS 100
#define MARK "README.fixed"
#define PROGRAM "virt-reimage-personalize"

/* ---- what it takes ---- */

char *vr_personal_helper(void)
{
    g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
    g_autofree char *dir = self ? g_path_get_dirname(self) : g_strdup("/");
    g_autofree char *beside = g_build_filename(dir, PROGRAM, NULL);
    if (access(beside, X_OK) == 0)
        return g_steal_pointer(&beside);
    return g_build_filename(VR_LIBEXEC_DIR, PROGRAM, NULL);
}

/* Where supermin looks. */
static gboolean has_kernel(void)
{
    static const char *const patterns[] = {"/lib/modules/*/vmlinuz", "/boot/vmlinuz-*"};
    for (gsize i = 0; i < G_N_ELEMENTS(patterns); i++) {
        glob_t found = {0};
        gboolean any = glob(patterns[i], GLOB_NOSORT, NULL, &found) == 0 && access(found.gl_pathv[0], R_OK) == 0;
        globfree(&found);
        if (any)
            return TRUE;
    }
    return FALSE;
}

gboolean vr_personalize_is_possible(GError **error)
{
    static const char *const programs[] = {"supermin", "unshare"};
    g_autofree char *helper = vr_personal_helper();

    if (access(helper, X_OK) < 0) {
        vr_set_error_errno(error, errno, PROGRAM " is neither beside this program nor %s", helper);
        return FALSE;
    }
    for (gsize i = 0; i < G_N_ELEMENTS(programs); i++) {
        g_autofree char *path = g_find_program_in_path(programs[i]);
        if (!path) {
            g_set_error(error, VR_ERROR, VR_ERROR_NOT_FOUND, "%s is not installed", programs[i]);
            return FALSE;
        }
    }
    if (!has_kernel())
        g_set_error_literal(error, VR_ERROR, VR_ERROR_NOT_FOUND, "there is no kernel in /boot that can be read");
    return has_kernel();
}

/* ---- building it ---- */

/* Another process may build it; it is locked until the descriptor is closed. */
static int take_lock(const char *work_dir, const gint *aborted, GError **error)
{
    g_autofree char *path = g_build_filename(work_dir, "appliance.lock", NULL);
    gint64 deadline_ms = vr_clock_now_ms() + BUILD_MS;
    vr_autofd fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

    while (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0) {
        if (aborted && g_atomic_int_get(aborted)) {
            g_set_error_literal(error, VR_ERROR, VR_ERROR_CANCELLED, "it was called off");
            return -1;
        }
        if (errno != EWOULDBLOCK || vr_clock_now_ms() > deadline_ms)
            vr_fd_clear(&fd);
        else
            vr_clock_sleep_until(vr_clock_now_ms() + POLL_MS);
    }
    if (fd < 0)
        vr_set_error_errno(error, errno, "cannot lock %s", path);
    return vr_fd_steal(&fd);
}

static gboolean build(const char *work_dir, const char *dir, const gint *aborted, GError **error)
{
    const VrChildLimits limits = {.timeout_ms = BUILD_MS, .aborted = aborted};
    g_autofree char *tmpdir = g_strconcat("TMPDIR=", work_dir, NULL);
    const char *const argv[] = {"env",
                                tmpdir,
                                "supermin",
                                "--build",
                                "--if-newer",
                                "--copy-kernel",
                                "-f",
                                "ext2",
                                "--host-cpu",
                                VR_GUESTFS_CPU,
                                VR_GUESTFS_DIR "/supermin.d",
                                "-o",
                                dir,
                                NULL};
    if (vr_personal_run(argv, &limits, error))
        return TRUE;
    g_prefix_error(error, "cannot build libguestfs's appliance (it takes supermin and a kernel in /boot; Debian: "
                          "linux-image-cloud-amd64): ");
    return FALSE;
}

/* supermin's copy of the kernel is as old as the kernel: it would take the appliance for older than the packages, and build it again each
 * time, also while another appliance is just starting from it. */
static gboolean make_it_new(int fd, GError **error)
{
    if (utimensat(fd, "kernel", NULL, AT_SYMLINK_NOFOLLOW) == 0)
        return TRUE;
    vr_set_error_errno(error, errno, "the appliance's kernel");
    return FALSE;
}

gboolean vr_personal_appliance(const char *work_dir, const gint *aborted, GError **error)
{
    static const char text[] = "Made by virt-reimage with supermin.\n";
    g_autofree char *dir = g_build_filename(work_dir, VR_PERSONAL_APPLIANCE, NULL);
    vr_autofd lock = take_lock(work_dir, aborted, error);
    if (lock < 0 || !build(work_dir, dir, aborted, error))
        return FALSE;
    vr_autofd fd = vr_dir_open(dir, error);
    return fd >= 0 && make_it_new(fd, error) && vr_durable_write(fd, MARK, text, sizeof text - 1, 0644, TRUE, error);
}
