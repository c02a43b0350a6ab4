/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "disk/store.h"

#include "base/durable.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "disk/store_private.h"
#include "disk/version.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* ---- opening ---- */

static gboolean nothing_yet(const char *root, GError **error)
{
    g_set_error(error, VR_ERROR, VR_ERROR_NOT_FOUND, "nothing was published in %s yet", root);
    vr_error_next(error, "'virt-reimage image-publish NAME VERSION FILE' publishes the first one");
    return FALSE;
}

/* What libvirt and qemu-img open by name must lie where only we can write (SAFETY invariant 31). */
static gboolean check_root(const char *root, int fd, GError **error)
{
    struct stat st;
    if (fstat(fd, &st) < 0) {
        vr_set_error_errno(error, errno, "cannot look at %s", root);
        return FALSE;
    }
    if (st.st_uid != geteuid() && st.st_uid != 0)
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "%s belongs to user %u, not to user %u that runs this", root,
                    st.st_uid, geteuid());
    else if (st.st_mode & 0022)
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED,
                    "%s can be written by others, who could exchange disks in it: chmod go-w %s", root, root);
    else
        return TRUE;
    return FALSE;
}

/* The canonical root, made when it is absent and we may write. */
static char *find_root(const char *root, gboolean read_only, GError **error)
{
    g_autofree char *absolute = g_canonicalize_filename(root, NULL);
    if (!read_only && access(absolute, F_OK) < 0) {
        if (g_mkdir_with_parents(absolute, VR_DIR_MODE) < 0 || chmod(absolute, VR_DIR_MODE) < 0) {
            vr_set_error_errno(error, errno, "cannot make %s", absolute);
            return NULL;
        }
    }
    char *resolved = realpath(absolute, NULL);
    if (!resolved) {
        if (errno == ENOENT && read_only)
            (void)nothing_yet(absolute, error);
        else
            vr_set_error_errno(error, errno, "cannot open %s", absolute);
        return NULL;
    }
    char *copy = g_strdup(resolved);
    free(resolved);
    return copy;
}

/* A new state.db beside disks that guests may run on would forget whose they are. */
static gboolean is_lost(VrStore *store, const char *path, GError **error)
{
    static const char *const places[] = {"images", "disks"};
    struct stat st;

    if (stat(path, &st) == 0 && st.st_size > 0)
        return FALSE;
    for (gsize i = 0; i < G_N_ELEMENTS(places); i++) {
        g_autoptr(GPtrArray) names = vr_store_names(store, places[i], NULL);
        if (!names || names->len == 0)
            continue;
        g_set_error(error, VR_ERROR, VR_ERROR_DATABASE, "%s is missing or empty, but %s/%s is not", path, store->root,
                    places[i]);
        vr_error_next(error, "put the right state.db back, or restore what can be known without it with 'virt-reimage "
                             "recover --rebuild'");
        vr_error_now(error, "nothing was changed");
        return TRUE;
    }
    return FALSE;
}

static gboolean open_db(VrStore *store, gboolean read_only, gboolean lost, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(GError) missing = NULL;
    g_autofree char *path = g_build_filename(store->root, "state.db", NULL);
    if (is_lost(store, path, &missing)) {
        if (lost && read_only)
            return TRUE;
        if (!lost) {
            g_propagate_error(error, g_steal_pointer(&missing));
            return FALSE;
        }
    }
    store->db = vr_db_open(path, read_only, &local);
    if (store->db)
        return vr_store_schema(store->db, error);
    if (read_only && g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND))
        return nothing_yet(store->root, error);
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

static VrStore *open_store(const char *root, gboolean read_only, gboolean lost, GError **error)
{
    g_autoptr(VrStore) store = g_new0(VrStore, 1);
    store->root_fd = -1;
    store->root = find_root(root, read_only, error);
    if (!store->root)
        return NULL;
    store->root_fd = vr_dir_open(store->root, error);
    if (store->root_fd < 0 || !check_root(store->root, store->root_fd, error))
        return NULL;
    if (!read_only)
        vr_store_reserve(store); /* before the database, which needs room to be opened */
    if (!open_db(store, read_only, lost, error))
        return NULL;
    return g_steal_pointer(&store);
}

VrStore *vr_store_open(const char *root, gboolean read_only, GError **error)
{
    return open_store(root, read_only, FALSE, error);
}

VrStore *vr_store_open_lost(const char *root, gboolean read_only, GError **error)
{
    return open_store(root, read_only, TRUE, error);
}

void vr_store_close(VrStore *store)
{
    if (!store)
        return;
    vr_db_close(store->db);
    vr_fd_clear(&store->root_fd);
    g_free(store->root);
    g_free(store);
}

const char *vr_store_root(VrStore *store)
{
    return store->root;
}

int vr_store_root_fd(VrStore *store)
{
    return store->root_fd;
}

VrDb *vr_store_db(VrStore *store)
{
    return store->db;
}

/* ---- places ---- */

GPtrArray *vr_store_names(VrStore *store, const char *relpath, GError **error)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GError) local = NULL;
    vr_autofd fd = vr_open_beneath(store->root_fd, relpath, O_RDONLY | O_DIRECTORY, 0, &local);
    if (fd < 0) {
        if (g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND))
            return g_steal_pointer(&names);
        g_propagate_prefixed_error(error, g_steal_pointer(&local), "%s: ", store->root);
        return NULL;
    }
    g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", fd); /* the directory that was checked, no other */
    g_autoptr(GDir) dir = g_dir_open(path, 0, &local);
    if (!dir) {
        g_set_error(error, VR_ERROR, VR_ERROR_IO, "cannot list %s/%s: %s", store->root, relpath, local->message);
        return NULL;
    }
    for (const char *name; (name = g_dir_read_name(dir));)
        g_ptr_array_add(names, g_strdup(name));
    return g_steal_pointer(&names);
}

GPtrArray *vr_store_children(VrStore *store, const char *relpath, GError **error)
{
    return vr_store_names(store, relpath, error);
}

static char *instance_relpath(const char *uuid)
{
    g_autofree char *lower = g_ascii_strdown(uuid, -1);

    return g_build_filename("disks", lower, NULL);
}

char *vr_store_instance_path(const VrStore *store, const char *uuid)
{
    g_autofree char *relpath = instance_relpath(uuid);

    return g_build_filename(store->root, relpath, NULL);
}

int vr_store_instance_dir(VrStore *store, const char *uuid, char **path, GError **error)
{
    if (!g_uuid_string_is_valid(uuid)) {
        g_autofree char *shown = vr_printable(uuid, -1);
        g_set_error(error, VR_ERROR, VR_ERROR_USAGE, "\"%s\" is not a UUID", shown);
        return -1;
    }
    g_autofree char *relpath = instance_relpath(uuid);
    vr_autofd fd = vr_db_is_read_only(store->db)
                       ? vr_open_beneath(store->root_fd, relpath, O_RDONLY | O_DIRECTORY, 0, error)
                       : vr_mkdir_beneath(store->root_fd, relpath, VR_DIR_MODE, error);
    if (fd < 0)
        g_prefix_error(error, "%s: ", store->root);
    else if (path)
        *path = g_build_filename(store->root, relpath, NULL);
    return vr_fd_steal(&fd);
}

gboolean vr_store_free_bytes(VrStore *store, guint64 *bytes, GError **error)
{
    struct statvfs fs;
    if (fstatvfs(store->root_fd, &fs) < 0) {
        vr_set_error_errno(error, errno, "cannot ask for the free space of %s", store->root);
        return FALSE;
    }
    /* root may use the reserve; it is there for emergencies, so we leave it */
    *bytes = (guint64)fs.f_bavail * fs.f_frsize;
    return TRUE;
}

void vr_store_drop_empty(VrStore *store, const char *relpath)
{
    g_autofree char *parent = g_path_get_dirname(relpath);
    g_autofree char *name = g_path_get_basename(relpath);
    vr_autofd fd = vr_open_beneath(store->root_fd, parent, O_RDONLY | O_DIRECTORY, 0, NULL);
    if (fd >= 0 && unlinkat(fd, name, AT_REMOVEDIR) == 0)
        (void)fsync(fd); /* an empty directory that comes back after a power cut harms nobody */
}

/* One directory of directories: each child is swept. What cannot be is left, with a word. */
static guint sweep_children(VrStore *store, const char *parent)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(GPtrArray) names = vr_store_names(store, parent, &local);
    guint removed = 0;

    if (!names)
        vr_warning(store->root, "what earlier processes left is not looked for: %s", local->message);
    for (guint i = 0; names && i < names->len; i++) {
        g_autoptr(GError) stays = NULL;
        g_autofree char *relpath = g_build_filename(parent, names->pdata[i], NULL);
        vr_autofd fd = vr_open_beneath(store->root_fd, relpath, O_RDONLY | O_DIRECTORY, 0, NULL);
        guint n = 0;
        if (fd < 0)
            continue; /* no directory: not of our making */
        if (!vr_tmpdir_sweep(fd, &n, &stays))
            vr_warning(store->root, "what an earlier process left in %s stays: %s", relpath, stays->message);
        removed += n;
    }
    return removed;
}

/* What a publication that was killed leaves of an image's first version. */
static void drop_empty_images(VrStore *store)
{
    g_autoptr(GPtrArray) names = vr_store_names(store, "images", NULL);
    for (guint i = 0; names && i < names->len; i++) {
        g_autofree char *relpath = g_build_filename("images", names->pdata[i], NULL);
        vr_store_drop_empty(store, relpath);
    }
}

guint vr_store_sweep(VrStore *store)
{
    g_autoptr(GError) local = NULL;
    guint removed = sweep_children(store, "images") + sweep_children(store, "disks");

    if (!vr_store_settle_deletions(store, &local))
        vr_warning(store->root, "deletions that were cut short are not settled: %s", local->message);
    drop_empty_images(store);
    return removed;
}

/* ---- versions ---- */

static int newest_first(gconstpointer a, gconstpointer b)
{
    const VrImage *left = *(VrImage *const *)a, *right = *(VrImage *const *)b;
    int by_name = strcmp(left->name, right->name);
    return by_name ? by_name : vr_version_compare(right->version, left->version);
}

/* Adds every readable version of one image. */
static gboolean scan_image(VrStore *store, const char *name, GPtrArray *images, GError **error)
{
    g_autofree char *relpath = g_build_filename("images", name, NULL);
    g_autoptr(GPtrArray) versions = vr_store_names(store, relpath, error);
    for (guint i = 0; versions && i < versions->len; i++) {
        g_autoptr(GError) local = NULL;
        if (!vr_version_check(versions->pdata[i], NULL))
            continue; /* a temp directory */
        VrImage *image = vr_image_load(store, name, versions->pdata[i], &local);
        if (image)
            g_ptr_array_add(images, image);
        else
            vr_warning(name, "%s", local->message);
    }
    return versions != NULL;
}

GPtrArray *vr_store_scan(VrStore *store, const char *name, GError **error)
{
    g_autoptr(GPtrArray) images = g_ptr_array_new_with_free_func((GDestroyNotify)vr_image_free);
    if (name)
        return scan_image(store, name, images, error) ? g_steal_pointer(&images) : NULL;
    g_autoptr(GPtrArray) names = vr_store_names(store, "images", error);
    if (!names)
        return NULL;
    for (guint i = 0; i < names->len; i++)
        if (vr_name_check(names->pdata[i], "image", NULL) && !scan_image(store, names->pdata[i], images, error))
            return NULL;
    return g_steal_pointer(&images);
}

char *vr_store_find_version(VrStore *store, const char *name, const char *version, GError **error)
{
    g_autofree char *relpath = g_build_filename("images", name, NULL);
    g_autoptr(GPtrArray) names = vr_store_names(store, relpath, error);
    for (guint i = 0; names && i < names->len; i++)
        if (vr_version_check(names->pdata[i], NULL) && vr_version_compare(names->pdata[i], version) == 0)
            return g_strdup(names->pdata[i]);
    return NULL;
}

static int by_text(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* "a, b, c" of what there is, for an error message; NULL: nothing. */
static char *known_names(VrStore *store)
{
    g_autoptr(GPtrArray) names = vr_store_names(store, "images", NULL);
    g_autoptr(GString) text = g_string_new(NULL);
    if (names)
        g_ptr_array_sort(names, by_text);
    for (guint i = 0; names && i < names->len; i++)
        g_string_append_printf(text, "%s%s", text->len ? ", " : "", (char *)names->pdata[i]);
    return text->len ? g_strdup(text->str) : NULL;
}

/* Images are there, or VR_ERROR_NOT_FOUND with those that are. */
static gboolean check_known(VrStore *store, const char *name, GError **error)
{
    struct stat st;
    g_autofree char *relpath = g_build_filename("images", name, NULL);
    if (fstatat(store->root_fd, relpath, &st, AT_SYMLINK_NOFOLLOW) == 0)
        return TRUE;
    g_autofree char *known = known_names(store);
    g_set_error(error, VR_ERROR, VR_ERROR_NOT_FOUND, "there is no image %s in %s", name, store->root);
    vr_error_now(error, "there %s%s", known ? "are: " : "is none yet", known ? known : "");
    if (known)
        vr_error_next(error, "'virt-reimage image-list' shows them with their versions");
    else
        vr_error_next(error, "'virt-reimage image-publish %s VERSION FILE' makes it", name);
    return FALSE;
}

gboolean vr_store_known(VrStore *store, const char *name, GError **error)
{
    return vr_name_check(name, "image", error) && check_known(store, name, error);
}

GPtrArray *vr_store_list(VrStore *store, const char *name, GError **error)
{
    if (name && !vr_store_known(store, name, error))
        return NULL;
    g_autoptr(GPtrArray) images = vr_store_scan(store, name, error);
    if (!images || !vr_store_apply_excludes(store, images, error))
        return NULL;
    g_ptr_array_sort(images, newest_first);
    return g_steal_pointer(&images);
}

static gboolean none_of(VrStore *store, const char *name, const char *wanted, GError **error)
{
    g_autoptr(GPtrArray) images = vr_store_list(store, name, error);
    if (!images)
        return FALSE;
    g_autoptr(GString) text = g_string_new(NULL);
    for (guint i = 0; i < images->len; i++) {
        const VrImage *image = images->pdata[i];
        g_string_append_printf(text, "%s%s%s", i ? ", " : "", image->version, image->excluded ? " (excluded)" : "");
    }
    g_set_error(error, VR_ERROR, VR_ERROR_NOT_FOUND, "image %s has no %s%s", name, wanted ? "version " : "",
                wanted ? wanted : "version that is not excluded");
    vr_error_now(error, "it has: %s", text->len ? text->str : "none");
    vr_error_next(error, "'virt-reimage image-list %s' shows them", name);
    return FALSE;
}

/* The highest that is not excluded, by the names of the directories: a damaged one is an error and not a step back. */
static char *find_latest(VrStore *store, const char *name, GError **error)
{
    g_autofree char *relpath = g_build_filename("images", name, NULL);
    g_autoptr(GPtrArray) names = vr_store_names(store, relpath, error);
    g_autoptr(GPtrArray) images = g_ptr_array_new_with_free_func((GDestroyNotify)vr_image_free);
    for (guint i = 0; names && i < names->len; i++) {
        if (!vr_version_check(names->pdata[i], NULL))
            continue;
        VrImage *image = g_new0(VrImage, 1);
        image->name = g_strdup(name);
        image->version = g_strdup(names->pdata[i]);
        g_ptr_array_add(images, image);
    }
    if (!names || !vr_store_apply_excludes(store, images, error))
        return NULL;
    g_ptr_array_sort(images, newest_first);
    for (guint i = 0; i < images->len; i++) {
        const VrImage *image = images->pdata[i];
        if (!image->excluded)
            return g_strdup(image->version);
    }
    (void)none_of(store, name, NULL, error);
    return NULL;
}

static char *find_asked(VrStore *store, const char *name, const char *version, GError **error)
{
    GError *local = NULL;
    if (!vr_version_check(version, error))
        return NULL;
    char *found = vr_store_find_version(store, name, version, &local);
    if (local)
        g_propagate_error(error, local);
    else if (!found)
        (void)none_of(store, name, version, error);
    return found;
}

VrImage *vr_store_get(VrStore *store, const char *name, const char *version, GError **error)
{
    if (!vr_name_check(name, "image", error) || !check_known(store, name, error))
        return NULL;
    gboolean latest = !version || strcmp(version, "latest") == 0;
    g_autofree char *found = latest ? find_latest(store, name, error) : find_asked(store, name, version, error);
    g_autoptr(VrImage) image = found ? vr_image_load(store, name, found, error) : NULL;
    if (!image)
        return NULL;
    g_autoptr(GPtrArray) one = g_ptr_array_new();
    g_ptr_array_add(one, image);
    return vr_store_apply_excludes(store, one, error) ? g_steal_pointer(&image) : NULL;
}

char *vr_store_find_name(VrStore *store, const char *publisher, const char *offer, const char *sku, GError **error)
{
    g_autoptr(GPtrArray) images = vr_store_scan(store, NULL, error);
    for (guint i = 0; images && i < images->len; i++) {
        const VrImage *image = images->pdata[i];
        if (g_strcmp0(image->publisher, publisher) == 0 && g_strcmp0(image->offer, offer) == 0 &&
            g_strcmp0(image->sku, sku) == 0)
            return g_strdup(image->name);
    }
    if (images) {
        g_autofree char *known = known_names(store);
        g_set_error(error, VR_ERROR, VR_ERROR_NOT_FOUND, "no image has publisher %s, offer %s and sku %s", publisher,
                    offer, sku);
        vr_error_now(error, "there %s%s", known ? "are: " : "is none yet", known ? known : "");
        vr_error_next(error, "'virt-reimage image-list' shows those of each");
    }
    return NULL;
}
