/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Metrics of the store: what versions and OS disks take, and what is left of the file system. */
#include "base/error.h"
#include "orchestrator/metrics_private.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

/* --- versions ---------------------------------------------------------------------------------------- */

typedef enum { VR_ELIGIBLE, VR_EXCLUDED, VR_DAMAGED, VR_VERSION_STATES } VersionState;

static const char *const version_states[VR_VERSION_STATES] = {"eligible", "excluded", "damaged"};

typedef struct {
    const char *image; /* owned by the survey */
    guint counts[VR_VERSION_STATES];
} ImageCounts;

static VersionState state_of(const VrVersionState *version)
{
    return version->damage ? VR_DAMAGED : version->image->excluded ? VR_EXCLUDED : VR_ELIGIBLE;
}

/* The survey is sorted by name. */
static GArray *count_versions(const GPtrArray *survey)
{
    GArray *images = g_array_new(FALSE, TRUE, sizeof(ImageCounts));

    for (guint i = 0; i < survey->len; i++) {
        const VrVersionState *version = g_ptr_array_index(survey, i);
        ImageCounts fresh = {.image = version->image->name};
        if (images->len == 0 || g_strcmp0(g_array_index(images, ImageCounts, images->len - 1).image, fresh.image) != 0)
            g_array_append_val(images, fresh);
        g_array_index(images, ImageCounts, images->len - 1).counts[state_of(version)]++;
    }
    return images;
}

static void write_versions(VrMetricText *out, const GPtrArray *survey)
{
    g_autoptr(GArray) images = count_versions(survey);
    guint64 bytes = 0;

    vr_metric_family(out, VR_METRIC_GAUGE, "virt_reimage_image_versions", NULL, "Versions of images in the store");
    for (guint i = 0; i < images->len; i++)
        for (guint j = 0; j < VR_VERSION_STATES; j++) {
            const ImageCounts *image = &g_array_index(images, ImageCounts, i);
            vr_metric_number(out, VR_LABELS("image", image->image, "state", version_states[j]), image->counts[j]);
        }
    for (guint i = 0; i < survey->len; i++)
        bytes += ((const VrVersionState *)survey->pdata[i])->real_bytes;
    vr_metric_family(out, VR_METRIC_GAUGE, "virt_reimage_store_images_bytes", "bytes",
                     "What the disks of versions take on their file system");
    vr_metric_number(out, NULL, bytes);
}

/* --- OS disks ---------------------------------------------------------------------------------------- */

/* What is removed meanwhile takes nothing; what is no directory of an instance was not made here. */
static gboolean add_instance(VrStore *store, const char *uuid, guint64 *bytes, GError **error)
{
    g_autofree char *relpath = g_build_filename("disks", uuid, NULL);
    g_autoptr(GPtrArray) names = NULL;
    struct stat st;

    if (!g_uuid_string_is_valid(uuid) || fstatat(vr_store_root_fd(store), relpath, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
        !S_ISDIR(st.st_mode))
        return TRUE;
    names = vr_store_children(store, relpath, error);
    for (guint i = 0; names && i < names->len; i++) {
        g_autofree char *path = g_build_filename(relpath, names->pdata[i], NULL);
        if (fstatat(vr_store_root_fd(store), path, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode))
            *bytes += (guint64)st.st_blocks * 512;
    }
    return names != NULL;
}

static gboolean write_disks(VrMetricText *out, VrStore *store, GError **error)
{
    g_autoptr(GPtrArray) uuids = vr_store_children(store, "disks", error);
    guint64 bytes = 0;

    for (guint i = 0; uuids && i < uuids->len; i++)
        if (!add_instance(store, uuids->pdata[i], &bytes, error))
            return FALSE;
    if (!uuids)
        return FALSE;
    vr_metric_family(out, VR_METRIC_GAUGE, "virt_reimage_store_disks_bytes", "bytes",
                     "What OS disks, seeds and NVRAM of instances take on their file system");
    vr_metric_number(out, NULL, bytes);
    return TRUE;
}

/* --- the file system --------------------------------------------------------------------------------- */

static gboolean write_room(VrMetricText *out, VrStore *store, GError **error)
{
    struct statvfs fs;

    if (fstatvfs(vr_store_root_fd(store), &fs) < 0) {
        vr_set_error_errno(error, errno, "cannot ask for the free space of %s", vr_store_root(store));
        return FALSE;
    }
    vr_metric_family(out, VR_METRIC_GAUGE, "virt_reimage_store_free_bytes", "bytes",
                     "Free space on the file system of the store, without what is reserved for root");
    vr_metric_number(out, NULL, (guint64)fs.f_bavail * fs.f_frsize);
    vr_metric_family(out, VR_METRIC_GAUGE, "virt_reimage_store_size_bytes", "bytes",
                     "Size of the file system of the store");
    vr_metric_number(out, NULL, (guint64)fs.f_blocks * fs.f_frsize);
    return TRUE;
}

gboolean vr_metrics_write_store(VrMetricText *out, VrStore *store, GError **error)
{
    g_autoptr(GPtrArray) survey = vr_store_survey(store, NULL, error);

    if (!survey)
        return FALSE;
    write_versions(out, survey);
    return write_disks(out, store, error) && write_room(out, store, error);
}
