/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "disk/flatten.h"

#include "base/error.h"
#include "base/fd.h"
#include "disk/convert.h"
#include "disk/new_disk.h"
#include "disk/qcow2.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

/* What the guest's QEMU left is looked at as what an admin gives is, before its tables are walked. */
static gboolean check_overlay(int fd, const VrImage *base, VrImageVerdict *verdict, GError **error)
{
    const VrImagePolicy policy = {
        .format_given = TRUE, .format = VR_FORMAT_QCOW2, .allow_compressed = TRUE, .allow_backing = TRUE};

    if (!vr_image_check(fd, &policy, verdict, error) || !vr_image_verdict_require(verdict, "the OS disk", error))
        return FALSE;
    if (strcmp(verdict->backing_name, base->path) == 0 &&
        strcmp(verdict->backing_format, vr_image_format_name(base->format)) == 0)
        return TRUE;
    g_autofree char *name = vr_printable(verdict->backing_name, -1);
    g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "the OS disk lies on '%s', and not on %s %s (%s) as is recorded",
                name, base->name, base->version, base->path);
    return FALSE;
}

/* The job but for its targets. */
static gboolean prepare(VrStore *store, int overlay_fd, const VrImage *base, int *base_fd, VrConvertLink links[2],
                        VrConvertJob *job, GError **error)
{
    VrImageVerdict verdict;

    if (!check_overlay(overlay_fd, base, &verdict, error))
        return FALSE;
    *base_fd = open(base->path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (*base_fd < 0) {
        vr_set_error_errno(error, errno, "cannot open %s", base->path);
        return FALSE;
    }
    links[0] = (VrConvertLink){overlay_fd, VR_FORMAT_QCOW2};
    links[1] = (VrConvertLink){*base_fd, base->format};
    *job = (VrConvertJob){.links = links, .n_links = 2, .format = VR_FORMAT_QCOW2};
    return TRUE;
}

gboolean vr_flatten_bytes(VrStore *store, int overlay_fd, const VrImage *base, guint64 *bytes, GError **error)
{
    vr_autofd base_fd = -1;
    VrConvertLink links[2];
    VrConvertJob job;
    VrConvertPlan plan;

    if (!prepare(store, overlay_fd, base, &base_fd, links, &job, error) || !vr_convert_plan(&job, &plan, error))
        return FALSE;
    *bytes = plan.file_size;
    return TRUE;
}

gboolean vr_flatten_has_room(VrStore *store, guint64 bytes, GError **error)
{
    guint64 available;

    if (!vr_store_free_bytes(store, &available, error))
        return FALSE;
    if (available >= bytes + VR_STORE_KEPT_FREE)
        return TRUE;
    g_autofree char *have = g_format_size_full(available, G_FORMAT_SIZE_IEC_UNITS);
    g_autofree char *need = g_format_size_full(bytes + VR_STORE_KEPT_FREE, G_FORMAT_SIZE_IEC_UNITS);
    g_set_error(error, VR_ERROR, VR_ERROR_NO_SPACE, "%s has %s free and %s are needed for a disk that stands alone",
                vr_store_root(store), have, need);
    return FALSE;
}

static gboolean copy(VrStore *store, int overlay_fd, const VrImage *base, int fd, const gint *cancelled, GError **error)
{
    vr_autofd base_fd = -1;
    VrConvertLink links[2];
    VrConvertJob job;
    VrConvertPlan plan;

    if (!prepare(store, overlay_fd, base, &base_fd, links, &job, error) || !vr_convert_plan(&job, &plan, error) ||
        !vr_flatten_has_room(store, plan.file_size, error))
        return FALSE;
    job.copy = (VrCopyJob){.targets = &fd, .n_targets = 1, .cancelled = cancelled};
    return vr_convert(&job, &plan, NULL, error) && vr_new_disk_stands_alone(fd, plan.virtual_size, error);
}

gboolean vr_flatten_make(VrStore *store, const char *uuid, const char *name, int overlay_fd, const VrImage *base,
                         const gint *cancelled, VrDiskBefore before, void *data, GError **error)
{
    g_auto(VrNewDisk) disk = {0};
    vr_autofd fd = vr_new_disk_begin(&disk, store, uuid, name, error) ? vr_new_disk_create(&disk, error) : -1;

    if (fd < 0)
        return FALSE;
    if (copy(store, overlay_fd, base, fd, cancelled, error) && vr_new_disk_end(&disk, fd, before, data, error))
        return TRUE;
    g_prefix_error(error, "cannot make %s/%s: ", disk.dir_path, name);
    return FALSE;
}
