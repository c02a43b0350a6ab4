/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What disks refer to: backing names, by our own look at headers. */
#include "base/durable.h"
#include "base/error.h"
#include "base/fd.h"
#include "disk/backing.h"
#include "engine/in_use_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define MAX_LINKS 64 /* of a chain */

/* --- a path ------------------------------------------------------------------------------------------ */

/* ROOT/images/NAME/VERSION/...: notes the version; ROOT/disks/UUID/NAME: notes the disk. */
static void note_by_name(VrInUse *in_use, const char *path, const char *key, const char *how)
{
    gsize prefix = strlen(in_use->images);
    const char *name = path + prefix;
    const char *slash = strncmp(path, in_use->images, prefix) == 0 ? strchr(name, '/') : NULL;

    if (g_str_has_prefix(path, in_use->disks))
        vr_in_use_note(in_use, path + strlen(in_use->disks) - strlen("disks/"), key, how);

    if (!slash)
        return;
    g_autofree char *version = g_strndup(name, (gsize)(slash - name) + 1 + strcspn(slash + 1, "/"));
    vr_in_use_note(in_use, version, key, how);
}

static char *file_key(const struct stat *st)
{
    return g_strdup_printf("%" G_GUINT64_FORMAT ":%" G_GUINT64_FORMAT, (guint64)st->st_dev, (guint64)st->st_ino);
}

static void note_path(VrInUse *in_use, const char *path, const char *key, const char *how)
{
    struct stat st;
    g_autofree char *canonical = g_canonicalize_filename(path, "/");
    char *resolved = realpath(path, NULL);

    note_by_name(in_use, canonical, key, how);
    if (resolved && strcmp(resolved, canonical) != 0)
        note_by_name(in_use, resolved, key, how);
    free(resolved);
    if (stat(path, &st) < 0)
        return;
    g_autofree char *file = file_key(&st);
    const char *version = g_hash_table_lookup(in_use->files, file);
    if (version)
        vr_in_use_note(in_use, version, key, how);
}

/* --- backing names ----------------------------------------------------------------------------------- */

static void note_links(VrInUse *in_use, const char *path, const char *backing, const char *key, const char *how,
                       guint depth);

/* Without effect on devices: they are looked at before they are opened. */
static int open_disk(const char *path)
{
    struct stat st;
    vr_autofd look = open(path, O_PATH | O_CLOEXEC);

    if (look < 0 || fstat(look, &st) < 0 || (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)))
        return -1;
    g_autofree char *same = g_strdup_printf("/proc/self/fd/%d", look);
    return open(same, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
}

static void note_chain(VrInUse *in_use, const char *path, const char *key, const char *how, guint depth)
{
    g_autofree char *backing = NULL;

    note_path(in_use, path, key, how);
    vr_autofd fd = depth < MAX_LINKS ? open_disk(path) : -1;
    if (fd >= 0 && vr_backing_name(fd, &backing, NULL) && backing)
        note_links(in_use, path, backing, key, how, depth + 1);
}

static void note_links(VrInUse *in_use, const char *path, const char *backing, const char *key, const char *how,
                       guint depth)
{
    g_autoptr(GPtrArray) paths = vr_backing_paths(backing, path);

    for (guint i = 0; i < paths->len; i++)
        note_chain(in_use, paths->pdata[i], key, how, depth);
}

void vr_in_use_note_chain(VrInUse *in_use, const char *path, const char *key, const char *how)
{
    note_chain(in_use, path, key, how, 0);
}

/* --- our own overlays -------------------------------------------------------------------------------- */

static void note_untold(VrInUse *in_use, char *path, const char *why)
{
    VrUntold *untold = g_new0(VrUntold, 1);

    untold->name = g_strdup(path + strlen(in_use->disks) - strlen("disks/"));
    untold->why = g_strdup(why);
    g_hash_table_insert(in_use->untold, path, untold);
}

/* unfinished: one that is being made may have no header yet; its generation is journaled before. */
static void read_overlay(VrInUse *in_use, int dir_fd, const char *dir_path, const char *name, const char *uuid,
                         gboolean unfinished)
{
    g_autoptr(GError) local = NULL;
    g_autofree char *backing = NULL;
    g_autofree char *path = g_build_filename(dir_path, name, NULL);
    vr_autofd fd = vr_open_beneath(dir_fd, name, O_RDONLY | O_NONBLOCK, 0, &local);

    if (fd >= 0 && vr_backing_name(fd, &backing, &local)) {
        if (backing)
            note_links(in_use, path, backing, uuid, name, 0);
    } else if (!unfinished && !g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND)) { /* it went while we looked */
        note_untold(in_use, g_steal_pointer(&path), local->message);
    }
}

static gboolean read_directory(VrInUse *in_use, const char *relpath, const char *uuid, gboolean unfinished,
                               GError **error)
{
    g_autofree char *path = g_build_filename(vr_store_root(in_use->store), relpath, NULL);
    g_autoptr(GPtrArray) names = vr_store_children(in_use->store, relpath, error);
    vr_autofd fd = vr_open_beneath(vr_store_root_fd(in_use->store), relpath, O_RDONLY | O_DIRECTORY, 0, NULL);

    for (guint i = 0; names && fd >= 0 && i < names->len; i++) {
        const char *name = names->pdata[i];
        g_autofree char *below = g_build_filename(relpath, name, NULL);
        if (g_str_has_suffix(name, ".qcow2"))
            read_overlay(in_use, fd, path, name, uuid, unfinished);
        if (!unfinished && g_str_has_prefix(name, ".tmp-") && !read_directory(in_use, below, uuid, TRUE, error))
            return FALSE;
    }
    return names != NULL;
}

gboolean vr_in_use_read_disks(VrInUse *in_use, GError **error)
{
    g_autoptr(GPtrArray) uuids = vr_store_children(in_use->store, "disks", error);

    for (guint i = 0; uuids && i < uuids->len; i++) {
        g_autofree char *relpath = g_build_filename("disks", uuids->pdata[i], NULL);
        if (g_uuid_string_is_valid(uuids->pdata[i]) && !read_directory(in_use, relpath, uuids->pdata[i], FALSE, error))
            return FALSE;
    }
    return uuids != NULL;
}

/* Of one directory. What goes while it is looked at needs no name. */
static gboolean know_directory(VrInUse *in_use, const char *relpath, GError **error)
{
    g_autoptr(GPtrArray) names = vr_store_children(in_use->store, relpath, error);

    for (guint i = 0; names && i < names->len; i++) {
        char *path = g_build_filename(relpath, names->pdata[i], NULL);
        struct stat st;
        if (fstatat(vr_store_root_fd(in_use->store), path, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode))
            g_hash_table_insert(in_use->files, file_key(&st), g_steal_pointer(&path));
        g_free(path);
    }
    return names != NULL;
}

gboolean vr_in_use_know_disks(VrInUse *in_use, GError **error)
{
    g_autoptr(GPtrArray) uuids = vr_store_children(in_use->store, "disks", error);

    for (guint i = 0; uuids && i < uuids->len; i++) {
        g_autofree char *relpath = g_build_filename("disks", uuids->pdata[i], NULL);
        if (g_uuid_string_is_valid(uuids->pdata[i]) && !know_directory(in_use, relpath, error))
            return FALSE;
    }
    return uuids != NULL;
}
