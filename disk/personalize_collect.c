/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is read is bounded before it is: the listing of a directory goes to a file that cannot grow, the size of a file is looked at before its content, and
 * the number of entries bounds the depth, also where a directory of a corrupt file system holds itself.
 */
#include "base/error.h"
#include "disk/personalize_guest.h"
#include "disk/personalize_private.h"

#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIECE ((gsize)2 << 20) /* a message of libguestfs holds less than 4 MiB */

typedef struct guestfs_statns Stat;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Stat, guestfs_free_statns)

typedef struct {
    const VrGuest *guest;
    GPtrArray *files;
    gsize bytes;
    gint64 device; /* of the path that was asked for */
} Collect;

static gboolean refuse(GError **error, const char *path, const char *why)
{
    g_autofree char *shown = vr_printable(path, -1);
    g_set_error(error, VR_ERROR, VR_ERROR_INVALID, "%s %s", shown, why);
    return FALSE;
}

static gboolean too_many(GError **error, const char *path)
{
    g_autofree char *why =
        g_strdup_printf("is one too many: at most %u files, directories and links are read", VR_GUEST_FILES_MAX);
    return refuse(error, path, why);
}

/* ---- content ---- */

static GBytes *content(const Collect *collect, const char *path, gsize size, GError **error)
{
    g_autoptr(GByteArray) all = g_byte_array_sized_new((guint)size);
    while (all->len < size) {
        size_t got = 0;
        int wanted = (int)MIN(PIECE, size - all->len);
        g_autofree char *piece = guestfs_pread(collect->guest->g, path, wanted, all->len, &got);
        if (!piece || got == 0)
            return piece ? (refuse(error, path, "is shorter than its size"), NULL)
                         : (vr_guest_failed(collect->guest->g, error, path), NULL);
        g_byte_array_append(all, (const guint8 *)piece, (guint)got);
    }
    return g_byte_array_free_to_bytes(g_steal_pointer(&all));
}

static GBytes *content_of(Collect *collect, const char *path, const Stat *st, GError **error)
{
    if (st->st_size < 0 || (guint64)st->st_size > VR_GUEST_FILES_MAX_BYTES - collect->bytes) {
        refuse(error, path, "is too large: at most 16 MiB are read of all files together");
        return NULL;
    }
    GBytes *bytes = content(collect, path, (gsize)st->st_size, error);
    collect->bytes += bytes ? g_bytes_get_size(bytes) : 0;
    return bytes;
}

static GBytes *target_of(const Collect *collect, const char *path, GError **error)
{
    char *target = guestfs_readlink(collect->guest->g, path);
    if (target)
        return g_bytes_new_take(target, strlen(target));
    vr_guest_failed(collect->guest->g, error, path);
    return NULL;
}

/* ---- entries ---- */

static gboolean collect_path(Collect *collect, const char *path, GError **error);

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* libguestfs tells either of the full file or of the end that it then made to the listing. */
static gboolean is_full(const char *listing)
{
    struct stat st;
    return stat(listing, &st) == 0 && st.st_size > (off_t)VR_GUEST_FILES_MAX * (NAME_MAX + 1);
}

/* Names, sorted; NULL: it cannot be read, or has more than can be taken. */
static GPtrArray *list(const Collect *collect, const char *dir, GError **error)
{
    const VrGuest *guest = collect->guest;
    g_autofree char *names = NULL;
    gsize length = 0;
    (void)unlink(guest->listing);
    gboolean listed = guestfs_ls0(guest->g, dir, guest->listing) == 0;
    if (!listed && !is_full(guest->listing))
        return vr_guest_failed(guest->g, error, dir) ? NULL : NULL;
    if (listed && !g_file_get_contents(guest->listing, &names, &length, NULL))
        return refuse(error, dir, "cannot be listed") ? NULL : NULL;
    g_autoptr(GPtrArray) all = g_ptr_array_new_with_free_func(g_free);
    for (gsize at = 0; at < length && all->len <= VR_GUEST_FILES_MAX; at += strlen(names + at) + 1)
        g_ptr_array_add(all, g_strdup(names + at));
    if (!listed || all->len > VR_GUEST_FILES_MAX - collect->files->len)
        return refuse(error, dir, "has more than can be read: at most 256 files, directories and links") ? NULL : NULL;
    g_ptr_array_sort(all, by_name);
    return g_steal_pointer(&all);
}

static gboolean collect_beneath(Collect *collect, const char *dir, GError **error)
{
    g_autoptr(GPtrArray) names = list(collect, dir, error);
    for (guint i = 0; names && i < names->len; i++) {
        g_autofree char *path = g_strconcat(dir, "/", names->pdata[i], NULL);
        if (!collect_path(collect, path, error))
            return FALSE;
    }
    return names != NULL;
}

static void add(Collect *collect, VrGuestFileKind kind, const char *path, const Stat *st, GBytes *bytes)
{
    g_autofree char *owner =
        g_strdup_printf("%" G_GUINT64_FORMAT ":%" G_GUINT64_FORMAT, (guint64)st->st_uid, (guint64)st->st_gid);
    guint mode = kind == VR_GUEST_FILE_LINK ? 0 : (guint)st->st_mode & 07777;
    VrGuestFile *file = vr_guest_file_new(kind, path, mode, owner, NULL, 0);
    g_bytes_unref(file->data);
    file->data = g_bytes_ref(bytes);
    g_ptr_array_add(collect->files, file);
}

static gboolean collect_entry(Collect *collect, const char *path, const Stat *st, GError **error)
{
    mode_t mode = (mode_t)st->st_mode;
    g_autoptr(GBytes) bytes = NULL;
    if (collect->files->len >= VR_GUEST_FILES_MAX)
        return too_many(error, path);
    if (!S_ISREG(mode) && !S_ISDIR(mode) && !S_ISLNK(mode))
        return refuse(error, path, "is a FIFO, a socket or a device: only files, directories and links are read");
    bytes = S_ISREG(mode)   ? content_of(collect, path, st, error)
            : S_ISLNK(mode) ? target_of(collect, path, error)
                            : g_bytes_new_static("", 0);
    if (!bytes)
        return FALSE;
    add(collect,
        S_ISREG(mode)   ? VR_GUEST_FILE_REGULAR
        : S_ISLNK(mode) ? VR_GUEST_FILE_LINK
                        : VR_GUEST_FILE_DIRECTORY,
        path, st, bytes);
    return !S_ISDIR(mode) || collect_beneath(collect, path, error);
}

/* Something beneath what was asked for. */
static gboolean collect_path(Collect *collect, const char *path, GError **error)
{
    if (!vr_personal_path_check(path, error))
        return FALSE;
    if (vr_guest_is_mount(collect->guest, path))
        return TRUE;
    g_autoptr(Stat) st = guestfs_lstatns(collect->guest->g, path);
    if (!st)
        return vr_guest_failed(collect->guest->g, error, path);
    return st->st_dev != collect->device || collect_entry(collect, path, st, error);
}

static gboolean collect_asked(Collect *collect, const char *path, GError **error)
{
    g_autoptr(GError) local = NULL;
    VrGuestKind kind = VR_GUEST_ABSENT;
    if (!vr_guest_enter(collect->guest, path, FALSE, &local) || !vr_guest_kind(collect->guest, path, &kind, &local)) {
        if (local->code == VR_ERROR_NOT_FOUND)
            return TRUE;
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    if (kind == VR_GUEST_ABSENT)
        return TRUE;
    g_autoptr(Stat) st = guestfs_lstatns(collect->guest->g, path);
    if (!st)
        return vr_guest_failed(collect->guest->g, error, path);
    collect->device = st->st_dev;
    return collect_entry(collect, path, st, error);
}

gboolean vr_guest_collect(const VrGuest *guest, const char *const *paths, GPtrArray *files, GError **error)
{
    Collect collect = {.guest = guest, .files = files};
    for (; *paths; paths++)
        if (!collect_asked(&collect, *paths, error))
            return FALSE;
    return TRUE;
}
