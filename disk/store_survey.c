/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The gallery as it lies on disk: what each version takes, what can be seen to be wrong with it, and a full inspection. */
#include "base/durable.h"
#include "base/error.h"
#include "base/fd.h"
#include "disk/store_private.h"
#include "disk/version.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define EXTENTS 512 /* asked for at once */

void vr_version_state_free(VrVersionState *state)
{
    if (!state)
        return;
    vr_image_free(state->image);
    g_free(state->damage);
    g_free(state);
}

/* ---- space ---- */

/* Bytes that other files have too; 0 where the file system does not tell. */
static guint64 shared_bytes(int fd, guint64 length)
{
    g_autofree struct fiemap *map = g_malloc0(sizeof *map + EXTENTS * sizeof(struct fiemap_extent));
    guint64 start = 0, shared = 0;
    while (start < length) {
        *map = (struct fiemap){.fm_start = start, .fm_length = length - start, .fm_extent_count = EXTENTS};
        if (ioctl(fd, FS_IOC_FIEMAP, map) < 0 || map->fm_mapped_extents == 0)
            break;
        for (guint i = 0; i < map->fm_mapped_extents; i++) {
            const struct fiemap_extent *extent = &map->fm_extents[i];
            start = extent->fe_logical + extent->fe_length;
            if (extent->fe_flags & FIEMAP_EXTENT_SHARED)
                shared += extent->fe_length;
            if (extent->fe_flags & FIEMAP_EXTENT_LAST)
                return shared;
        }
    }
    return shared;
}

static void measure(VrStore *store, VrVersionState *state)
{
    struct stat st;
    vr_autofd fd = vr_image_open_disk(store, state->image, NULL);
    if (fd < 0 || fstat(fd, &st) < 0)
        return;
    state->real_bytes = (guint64)st.st_blocks * 512;
    state->shared_bytes = shared_bytes(fd, (guint64)st.st_size);
}

/* ---- the survey ---- */

static VrVersionState *look_at(VrStore *store, const char *name, const char *version)
{
    g_autoptr(GError) local = NULL;
    VrVersionState *state = g_new0(VrVersionState, 1);
    state->image = vr_image_load(store, name, version, &local);
    if (state->image) {
        measure(store, state);
        return state;
    }
    state->damage = g_strdup(local->message);
    state->image = g_new0(VrImage, 1);
    state->image->name = g_strdup(name);
    state->image->version = g_strdup(version);
    return state;
}

static gboolean survey_image(VrStore *store, const char *name, GPtrArray *states, GError **error)
{
    g_autofree char *relpath = g_build_filename("images", name, NULL);
    g_autoptr(GPtrArray) versions = vr_store_names(store, relpath, error);
    for (guint i = 0; versions && i < versions->len; i++)
        if (vr_version_check(versions->pdata[i], NULL))
            g_ptr_array_add(states, look_at(store, name, versions->pdata[i]));
    return versions != NULL;
}

static int newest_first(gconstpointer a, gconstpointer b)
{
    const VrVersionState *left = *(VrVersionState *const *)a, *right = *(VrVersionState *const *)b;
    int by_name = strcmp(left->image->name, right->image->name);
    return by_name ? by_name : vr_version_compare(right->image->version, left->image->version);
}

static gboolean survey_all(VrStore *store, GPtrArray *states, GError **error)
{
    g_autoptr(GPtrArray) names = vr_store_names(store, "images", error);
    for (guint i = 0; names && i < names->len; i++)
        if (vr_name_check(names->pdata[i], "image", NULL) && !survey_image(store, names->pdata[i], states, error))
            return FALSE;
    return names != NULL;
}

GPtrArray *vr_store_survey(VrStore *store, const char *name, GError **error)
{
    g_autoptr(GPtrArray) states = g_ptr_array_new_with_free_func((GDestroyNotify)vr_version_state_free);
    g_autoptr(GPtrArray) images = g_ptr_array_new(); /* borrowed */
    if (name ? !vr_store_known(store, name, error) || !survey_image(store, name, states, error)
             : !survey_all(store, states, error))
        return NULL;
    for (guint i = 0; i < states->len; i++)
        g_ptr_array_add(images, ((VrVersionState *)states->pdata[i])->image);
    if (!vr_store_apply_excludes(store, images, error))
        return NULL;
    g_ptr_array_sort(states, newest_first);
    return g_steal_pointer(&states);
}

char *vr_version_ineligible(const VrVersionState *state)
{
    const VrImage *image = state->image;
    if (state->damage)
        return g_strdup_printf("damaged: %s", state->damage);
    if (image->excluded)
        return g_strdup_printf("excluded%s%s", image->excluded_reason ? ": " : "",
                               image->excluded_reason ? image->excluded_reason : "");
    return NULL;
}

/* ---- inspection ---- */

typedef struct {
    GPtrArray *findings;
    const char *path; /* of the version */
} Inspection;

static void find(Inspection *inspection, const char *name, const char *format, ...) G_GNUC_PRINTF(3, 4);
static void find(Inspection *inspection, const char *name, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    g_autofree char *what = g_strdup_vprintf(format, arguments);
    va_end(arguments);
    g_autofree char *shown = vr_printable(name, -1);
    g_ptr_array_add(inspection->findings, g_strdup_printf("%s/%s: %s", inspection->path, shown, what));
}

/* Owner and mode as they were made: libvirt changes the owner of what it is not told to leave alone (SAFETY 4.2). */
static void check_place(Inspection *inspection, int dir_fd, const char *name, mode_t kind, mode_t mode)
{
    struct stat st;
    if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        find(inspection, name, "%s", g_strerror(errno));
        return;
    }
    if ((st.st_mode & S_IFMT) != kind)
        find(inspection, name, "it is no %s", kind == S_IFDIR ? "directory" : "regular file");
    else if ((st.st_mode & 07777) != mode)
        find(inspection, name, "its mode is %04o, it was published with %04o", st.st_mode & 07777, mode);
    if (st.st_uid != geteuid() && st.st_uid != 0)
        find(inspection, name, "it belongs to user %u", st.st_uid);
}

static void check_names(Inspection *inspection, int dir_fd, const GPtrArray *names)
{
    for (guint i = 0; i < names->len; i++) {
        const char *name = names->pdata[i];
        if (strcmp(name, "image.json") == 0 || strcmp(name, "disk.qcow2") == 0 || strcmp(name, "disk.raw") == 0)
            check_place(inspection, dir_fd, name, S_IFREG, 0444);
        else
            find(inspection, name, "it is not of the version");
    }
}

/* Takes the error. */
static void add_error(Inspection *inspection, GError *error)
{
    g_ptr_array_add(inspection->findings, g_strdup(error->message));
    g_error_free(error);
}

static gboolean check_bytes(Inspection *inspection, VrStore *store, const VrImage *image, GError **error)
{
    GError *local = NULL;
    vr_autofd fd = vr_image_open_disk(store, image, &local);
    if (fd >= 0 && !vr_image_recheck_fd(store, fd, image, &local) &&
        (local->code == VR_ERROR_REFUSED || local->code == VR_ERROR_INVALID))
        add_error(inspection, g_steal_pointer(&local));
    if (fd >= 0 && !local)
        (void)vr_image_compare_bytes(store, fd, image, &local);
    if (!local)
        return TRUE;
    if (local->code != VR_ERROR_REFUSED && local->code != VR_ERROR_INVALID && local->code != VR_ERROR_IO) {
        g_propagate_error(error, local);
        return FALSE;
    }
    add_error(inspection, local); /* bytes that cannot be read are damage too */
    return TRUE;
}

GPtrArray *vr_store_inspect(VrStore *store, const char *name, const char *version, GError **error)
{
    GError *local = NULL;
    g_autoptr(GPtrArray) findings = g_ptr_array_new_with_free_func(g_free);
    g_autofree char *relpath = g_build_filename("images", name, version, NULL);
    g_autofree char *path = g_build_filename(store->root, relpath, NULL);
    Inspection inspection = {findings, path};
    g_autoptr(GPtrArray) names = vr_store_names(store, relpath, error);
    vr_autofd fd = names ? vr_open_beneath(store->root_fd, relpath, O_RDONLY | O_DIRECTORY, 0, error) : -1;
    if (fd < 0)
        return NULL;
    check_place(&inspection, fd, ".", S_IFDIR, VR_DIR_MODE);
    check_names(&inspection, fd, names);
    g_autoptr(VrImage) image = vr_image_load(store, name, version, &local);
    if (!image)
        add_error(&inspection, local);
    else if (!check_bytes(&inspection, store, image, error))
        return NULL;
    return g_steal_pointer(&findings);
}
