/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "disk/personalize_guest.h"

#include "base/error.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define PIECE ((gsize)2 << 20) /* a message of libguestfs holds less than 4 MiB */
#define MAX_TABLE (1u << 20)   /* of /etc/passwd and /etc/group */
#define LABEL "security.selinux"

typedef struct guestfs_statns Stat;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Stat, guestfs_free_statns)

gboolean vr_guest_failed(guestfs_h *g, GError **error, const char *what)
{
    const char *said = guestfs_last_error(g);
    int failed = guestfs_last_errno(g);
    g_autofree char *shown = vr_printable(said ? said : "no reason given", said ? (gssize)strcspn(said, "\n") : -1);
    g_autofree char *shown_what = vr_printable(what, -1);
    g_set_error(error, VR_ERROR, failed == ENOSPC || failed == EDQUOT ? VR_ERROR_NO_SPACE : VR_ERROR_IO, "%s: %s",
                shown_what, shown);
    return FALSE;
}

static gboolean refuse(GError **error, const char *path, const char *why)
{
    g_autofree char *shown = vr_printable(path, -1);
    g_set_error(error, VR_ERROR, VR_ERROR_INVALID, "%s %s", shown, why);
    return FALSE;
}

/* ---- looking ---- */

static gboolean look(const VrGuest *guest, const char *path, VrGuestKind *kind, gint64 *size, GError **error)
{
    g_autoptr(Stat) st = guestfs_lstatns(guest->g, path);
    *kind = VR_GUEST_ABSENT;
    if (!st)
        return guestfs_last_errno(guest->g) == ENOENT || vr_guest_failed(guest->g, error, path);
    mode_t mode = (mode_t)st->st_mode;
    *kind = S_ISREG(mode)   ? VR_GUEST_FILE
            : S_ISDIR(mode) ? VR_GUEST_DIR
            : S_ISLNK(mode) ? VR_GUEST_LINK
                            : VR_GUEST_OTHER;
    *size = st->st_size;
    return TRUE;
}

gboolean vr_guest_kind(const VrGuest *guest, const char *path, VrGuestKind *kind, GError **error)
{
    gint64 size;
    return look(guest, path, kind, &size, error);
}

static gboolean refuse_kind(const VrGuest *guest, const char *path, VrGuestKind kind, const char *wanted,
                            GError **error)
{
    static const char *const names[] = {"is not there", "is a file", "is a directory", "is a symbolic link",
                                        "is a FIFO, a socket or a device"};
    g_autofree char *target = kind == VR_GUEST_LINK ? guestfs_readlink(guest->g, path) : NULL;
    g_autofree char *to = target ? g_strconcat(" to ", target, NULL) : g_strdup("");
    g_autofree char *why = g_strdup_printf("%s%.200s, and not %s", names[kind], to, wanted);
    g_autofree char *shown = vr_printable(path, -1), *shown_why = vr_printable(why, -1);
    g_set_error(error, VR_ERROR, kind == VR_GUEST_ABSENT ? VR_ERROR_NOT_FOUND : VR_ERROR_INVALID, "%s %s", shown,
                shown_why);
    return FALSE;
}

gboolean vr_guest_is_mount(const VrGuest *guest, const char *path)
{
    return guest->mounts && g_ptr_array_find_with_equal_func(guest->mounts, path, g_str_equal, NULL);
}

static gboolean is_hidden(const VrGuest *guest, const char *path, GError **error)
{
    for (guint i = 0; guest->mounts && i < guest->mounts->len; i++) {
        const char *mount = guest->mounts->pdata[i];
        gsize length = strlen(mount);
        if (strncmp(path, mount, length) == 0 && (path[length] == '/' || path[length] == '\0')) {
            g_autofree char *why = g_strdup_printf("lies on a file system of its own (%.200s in /etc/fstab), and "
                                                   "only the root file system is opened",
                                                   mount);
            return !refuse(error, path, why);
        }
    }
    return FALSE;
}

gboolean vr_guest_enter(const VrGuest *guest, const char *path, gboolean make, GError **error)
{
    if (is_hidden(guest, path, error))
        return FALSE;
    for (const char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        g_autofree char *dir = g_strndup(path, (gsize)(slash - path));
        VrGuestKind kind;
        if (!vr_guest_kind(guest, dir, &kind, error))
            return FALSE;
        if (kind == VR_GUEST_ABSENT && make && guestfs_mkdir_mode(guest->g, dir, 0755) == 0)
            continue;
        if (kind == VR_GUEST_ABSENT && make)
            return vr_guest_failed(guest->g, error, dir);
        if (kind != VR_GUEST_DIR)
            return refuse_kind(guest, dir, kind, "a directory", error);
    }
    return TRUE;
}

gboolean vr_guest_seek(const VrGuest *guest, const char *path, VrGuestKind *kind, GError **error)
{
    g_autoptr(GError) local = NULL;

    *kind = VR_GUEST_ABSENT;
    if (is_hidden(guest, path, NULL))
        return TRUE;
    if (vr_guest_enter(guest, path, FALSE, &local))
        return vr_guest_kind(guest, path, kind, error);
    if (g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND))
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

char *vr_guest_read(const VrGuest *guest, const char *path, gsize max, GError **error)
{
    VrGuestKind kind;
    gint64 size = 0;
    size_t length = 0;

    if (!vr_guest_enter(guest, path, FALSE, error) || !look(guest, path, &kind, &size, error) ||
        kind == VR_GUEST_ABSENT)
        return NULL;
    if (kind != VR_GUEST_FILE)
        return refuse_kind(guest, path, kind, "a file", error) ? NULL : NULL;
    if (size < 0 || (guint64)size > max)
        return refuse(error, path, "is larger than such a file is") ? NULL : NULL;
    g_autofree char *bytes = size ? guestfs_pread(guest->g, path, (int)size, 0, &length) : g_strdup("");
    if (!bytes)
        return vr_guest_failed(guest->g, error, path) ? NULL : NULL;
    if (memchr(bytes, '\0', length))
        return refuse(error, path, "is no text") ? NULL : NULL;
    return g_strndup(bytes, length);
}

/* ---- writing ---- */

static gboolean fill(const VrGuest *guest, const char *path, const char *data, gsize length)
{
    gsize first = MIN(length, PIECE);
    if (guestfs_write(guest->g, path, length ? data : "", first) < 0)
        return FALSE;
    for (gsize done = first; done < length; done += MIN(PIECE, length - done))
        if (guestfs_write_append(guest->g, path, data + done, MIN(PIECE, length - done)) < 0)
            return FALSE;
    return TRUE;
}

/* Where there is none, none is set: the guest relabels itself. libguestfs gives bytes and takes a string. */
static gboolean copy_label(const VrGuest *guest, const char *from, const char *to)
{
    size_t length = 0;
    g_autofree char *bytes = guestfs_lgetxattr(guest->g, from, LABEL, &length);
    g_autofree char *label = bytes ? g_strndup(bytes, length) : NULL;
    return !label || guestfs_lsetxattr(guest->g, LABEL, label, (int)length, to) == 0;
}

static gboolean replace(const VrGuest *guest, const char *temp, const char *path, gboolean is_there)
{
    return (!is_there || copy_label(guest, path, temp)) && guestfs_rename(guest->g, temp, path) == 0;
}

gboolean vr_guest_write(const VrGuest *guest, const char *path, const void *data, gsize length, guint mode, guint uid,
                        guint gid, gboolean make, GError **error)
{
    VrGuestKind kind;
    if (!vr_guest_enter(guest, path, make, error) || !vr_guest_kind(guest, path, &kind, error))
        return FALSE;
    if (kind != VR_GUEST_ABSENT && kind != VR_GUEST_FILE)
        return refuse_kind(guest, path, kind, "a file", error);
    g_autofree char *dir = g_path_get_dirname(path);
    g_autofree char *template = g_build_filename(dir, ".virt-reimage-XXXXXX", NULL);
    g_autofree char *temp = guestfs_mktemp(guest->g, template, -1);
    if (temp && fill(guest, temp, data, length) && guestfs_chown(guest->g, (int)uid, (int)gid, temp) == 0 &&
        guestfs_chmod(guest->g, (int)mode, temp) == 0 && replace(guest, temp, path, kind == VR_GUEST_FILE))
        return TRUE;
    vr_guest_failed(guest->g, error, path);
    if (temp)
        (void)guestfs_rm_f(guest->g, temp);
    return FALSE;
}

gboolean vr_guest_directory(const VrGuest *guest, const char *path, guint mode, guint uid, guint gid, GError **error)
{
    VrGuestKind kind;
    if (!vr_guest_enter(guest, path, TRUE, error) || !vr_guest_kind(guest, path, &kind, error))
        return FALSE;
    if (kind != VR_GUEST_ABSENT && kind != VR_GUEST_DIR)
        return refuse_kind(guest, path, kind, "a directory", error);
    return ((kind == VR_GUEST_DIR || guestfs_mkdir_mode(guest->g, path, 0700) == 0) &&
            guestfs_chown(guest->g, (int)uid, (int)gid, path) == 0 && guestfs_chmod(guest->g, (int)mode, path) == 0) ||
           vr_guest_failed(guest->g, error, path);
}

gboolean vr_guest_link(const VrGuest *guest, const char *path, const char *target, guint uid, guint gid, GError **error)
{
    VrGuestKind kind;
    if (!vr_guest_enter(guest, path, TRUE, error) || !vr_guest_kind(guest, path, &kind, error))
        return FALSE;
    if (kind == VR_GUEST_DIR || kind == VR_GUEST_OTHER)
        return refuse_kind(guest, path, kind, "a file or a symbolic link", error);
    if (kind != VR_GUEST_ABSENT && guestfs_rm(guest->g, path) < 0)
        return vr_guest_failed(guest->g, error, path);
    return (guestfs_ln_s(guest->g, target, path) == 0 && guestfs_lchown(guest->g, (int)uid, (int)gid, path) == 0) ||
           vr_guest_failed(guest->g, error, path);
}

/* ---- users ---- */

static const char *table(VrGuest *guest, const char *path, char **kept, GError **error)
{
    g_autoptr(GError) local = NULL;
    if (!*kept)
        *kept = vr_guest_read(guest, path, MAX_TABLE, &local);
    if (local)
        g_propagate_error(error, g_steal_pointer(&local));
    else if (!*kept)
        refuse(error, path, "is not there");
    return *kept;
}

/* The fields of the first line whose first one is `name`; at least `least` of them. */
static char **find_line(const char *text, const char *name, guint least)
{
    gsize length = strlen(name);
    for (const char *line = text; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        if (strncmp(line, name, length) != 0 || line[length] != ':')
            continue;
        g_autofree char *whole = g_strndup(line, strcspn(line, "\n"));
        g_auto(GStrv) fields = g_strsplit(whole, ":", -1);
        return g_strv_length(fields) >= least ? g_steal_pointer(&fields) : NULL;
    }
    return NULL;
}

static gboolean is_number(const char *text, guint *number)
{
    guint64 value;
    if (!g_ascii_string_to_unsigned(text, 10, 0, G_MAXINT32, &value, NULL))
        return FALSE;
    *number = (guint)value;
    return TRUE;
}

gboolean vr_guest_user(VrGuest *guest, const char *name, guint *uid, guint *gid, char **home, GError **error)
{
    const char *text = table(guest, "/etc/passwd", &guest->passwd, error);
    if (!text)
        return FALSE;
    g_auto(GStrv) fields = find_line(text, name, 6);
    if (!fields || !is_number(fields[2], uid) || !is_number(fields[3], gid)) {
        g_set_error(error, VR_ERROR, VR_ERROR_NOT_FOUND, "/etc/passwd of the guest has no good line for user '%s'",
                    name);
        return FALSE;
    }
    if (home)
        *home = g_strdup(fields[5]);
    return TRUE;
}

static gboolean group_of(VrGuest *guest, const char *name, guint *gid, GError **error)
{
    if (is_number(name, gid))
        return TRUE;
    const char *text = table(guest, "/etc/group", &guest->group, error);
    if (!text)
        return FALSE;
    g_auto(GStrv) fields = find_line(text, name, 3);
    if (fields && is_number(fields[2], gid))
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_NOT_FOUND, "/etc/group of the guest has no good line for group '%s'", name);
    return FALSE;
}

gboolean vr_guest_owner(VrGuest *guest, const char *owner, guint *uid, guint *gid, GError **error)
{
    *uid = *gid = 0;
    if (!owner)
        return TRUE;
    g_auto(GStrv) parts = g_strsplit(owner, ":", 2);
    if (!is_number(parts[0], uid) && !vr_guest_user(guest, parts[0], uid, gid, NULL, error))
        return FALSE;
    return !parts[1] || group_of(guest, parts[1], gid, error);
}
