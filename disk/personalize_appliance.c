/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libguestfs would build its appliance by itself, in the process that opens the disks. That takes the right to give files away (supermin unpacks with
 * their owners), which that process shall not have. So it is built here, before and apart, from files of this host alone, by the same
 * supermin call; libguestfs takes a directory with these four files as it is (guestfs(3), "FIXED APPLIANCE").
 */
#include "base/child.h"
#include "base/durable.h"
#include "base/error.h"
#include "base/fd.h"
#include "disk/personalize_private.h"

#include <errno.h>
#include <glob.h>
#include <unistd.h>

#define BUILD_MS (10 * 60 * 1000)
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
        vr_set_error_errno(error, errno, "%s", helper);
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

gboolean vr_personal_appliance(const char *work_dir, const gint *aborted, GError **error)
{
    const VrChildLimits limits = {.timeout_ms = BUILD_MS, .aborted = aborted};
    g_autofree char *tmpdir = g_strconcat("TMPDIR=", work_dir, NULL);
    g_autofree char *lock = g_build_filename(work_dir, "appliance.lock", NULL);
    g_autofree char *dir = g_build_filename(work_dir, VR_PERSONAL_APPLIANCE, NULL);
    const char *const argv[] = {"env",
                                tmpdir,
                                "supermin",
                                "--build",
                                "--if-newer",
                                "--lock",
                                lock,
                                "--copy-kernel",
                                "-f",
                                "ext2",
                                "--host-cpu",
                                VR_GUESTFS_CPU,
                                VR_GUESTFS_DIR "/supermin.d",
                                "-o",
                                dir,
                                NULL};

    if (!vr_child_run(argv, &limits, NULL, error)) {
        g_prefix_error(error, "cannot build libguestfs's appliance (it takes supermin and a kernel in /boot; Debian: "
                              "linux-image-cloud-amd64): ");
        return FALSE;
    }
    vr_autofd fd = vr_dir_open(dir, error);
    static const char text[] = "Made by virt-reimage with supermin.\n";
    return fd >= 0 && vr_durable_write(fd, MARK, text, sizeof text - 1, 0644, TRUE, error);
}
