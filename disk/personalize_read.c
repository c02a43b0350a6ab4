/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The old disk may be a block device by any of its names, as a guest's disk may be; nothing is ever written to it. */
#include "base/error.h"
#include "disk/personalize_private.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

static gboolean check_disk(const char *disk, GError **error)
{
    struct stat st;
    if (!g_path_is_absolute(disk) || strpbrk(disk, ",\n")) {
        g_set_error(error, VR_ERROR, VR_ERROR_USAGE, "it has no absolute path without a comma");
        return FALSE;
    }
    if (stat(disk, &st) == 0 && (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode)))
        return TRUE;
    g_set_error_literal(error, VR_ERROR, VR_ERROR_NOT_FOUND, "it is no file or block device that is there");
    return FALSE;
}

static gboolean check_paths(const char *const *paths, GError **error)
{
    guint n = g_strv_length((char **)paths);
    if (n == 0 || n > VR_GUEST_FILES_MAX) {
        g_set_error(error, VR_ERROR, VR_ERROR_USAGE, "%u paths: 1 to %u are read at once", n, VR_GUEST_FILES_MAX);
        return FALSE;
    }
    for (; *paths; paths++)
        if (!vr_personal_path_check(*paths, error))
            return FALSE;
    return TRUE;
}

/* What was read stands although the appliance did not end well: nothing was to be flushed. */
static GPtrArray *judge(VrPersonalReport *report, const char *result, const char *const *paths, const GError *died,
                        GError **error)
{
    if (report->errors[0])
        g_propagate_error(error, g_steal_pointer(&report->errors[0]));
    else if (report->done[0] && result)
        return vr_personal_files_read(result, paths, error);
    else if (died)
        g_set_error(error, VR_ERROR, died->code, "its appliance ended: %s", died->message);
    else
        g_set_error_literal(error, VR_ERROR, VR_ERROR_CHILD, "its appliance ended without a word");
    return NULL;
}

static GPtrArray *read_files(const char *disk, VrImageFormat format, const char *const *paths,
                             const VrPersonalizeOptions *options, GError **error)
{
    g_autofree char *helper = options->helper ? g_strdup(options->helper) : vr_personal_helper();
    g_autoptr(VrPersonal) one = vr_personal_new(disk, format);
    g_autoptr(GPtrArray) disks = g_ptr_array_new();
    g_autoptr(GError) died = NULL;
    char *result = NULL;
    const VrPersonalRequest request = {.kvm = options->kvm,
                                       .seconds = vr_personal_seconds(options, 1),
                                       .work_dir = (char *)options->work_dir,
                                       .disks = disks,
                                       .read = (char **)paths};
    g_ptr_array_add(disks, one);
    g_autoptr(VrPersonalReport) report = vr_personal_launch(&request, helper, options->aborted, &result, &died, error);
    GPtrArray *files = report ? judge(report, result, paths, died, error) : NULL;
    vr_personal_text_free(result);
    return files;
}

gboolean vr_personalize_read(const char *disk, VrImageFormat format, const char *const *paths,
                             const VrPersonalizeOptions *options, GPtrArray **files, GError **error)
{
    gboolean ready = check_disk(disk, error) && check_paths(paths, error) &&
                     vr_personal_work_dir_check(options->work_dir, error) &&
                     vr_personal_appliance(options->work_dir, options->aborted, error);
    *files = ready ? read_files(disk, format, paths, options, error) : NULL;
    if (!*files)
        g_prefix_error(error, "cannot read from %s: ", disk);
    return *files != NULL;
}
