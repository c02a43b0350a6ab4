/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A root has /etc and one of /usr and /bin; what they are is looked at later, so that a bad /etc is told as such. libguestfs's own inspection is not used:
 * it mounts every file system of every disk of the appliance at once, and copies of one image cannot be told apart then. On NTFS a root has \Windows\System32 and
 * \Program Files.
 * Mounted without set-user-ID, devices, programs and links; an ext file system that says "panic on errors" does not get its way.
 */
#include "disk/personalize_guest.h"

#include "base/error.h"

#include <errno.h>
#include <string.h>

#define MAX_CANDIDATES 128
#define MAX_FSTAB (256u << 10)
#define SAFE "nosuid,nodev,noexec,nosymfollow"

typedef struct {
    char *device, *type;
    const char *subvolume; /* of btrfs; NULL: the default one */
} Candidate;

static void candidate_free(void *data)
{
    Candidate *candidate = data;
    g_free(candidate->device);
    g_free(candidate->type);
    g_free(candidate);
}

typedef struct {
    GPtrArray *candidates; /* Candidate */
    GPtrArray *roots;      /* Candidate, not owned */
    gboolean lvm, md, encrypted;
    GError *unmountable; /* the first one */
} Search;

static void search_clear(Search *search)
{
    g_clear_pointer(&search->candidates, g_ptr_array_unref);
    g_clear_pointer(&search->roots, g_ptr_array_unref);
    g_clear_error(&search->unmountable);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Search, search_clear)

/* ---- what there is ---- */

static void add(Search *search, const char *device, const char *type, const char *subvolume)
{
    if (search->candidates->len >= MAX_CANDIDATES)
        return;
    Candidate *candidate = g_new0(Candidate, 1);
    candidate->device = g_strdup(device);
    candidate->type = g_strdup(type);
    candidate->subvolume = subvolume;
    g_ptr_array_add(search->candidates, candidate);
}

static void add_btrfs(Search *search, const char *device)
{
    static const char *const names[] = {NULL, "@", "root", "@rootfs"};
    for (gsize i = 0; i < G_N_ELEMENTS(names); i++)
        add(search, device, "btrfs", names[i]);
}

static void add_device(const VrGuest *guest, Search *search, const char *device)
{
    g_autofree char *type = guestfs_vfs_type(guest->g, device);
    if (!type)
        return;
    search->lvm |= strcmp(type, "LVM2_member") == 0;
    search->md |= strcmp(type, "linux_raid_member") == 0;
    search->encrypted |= strcmp(type, "crypto_LUKS") == 0 || strcmp(type, "BitLocker") == 0;
    if (strcmp(type, "btrfs") == 0)
        add_btrfs(search, device);
    else if (g_str_has_prefix(type, "ext") || strcmp(type, "xfs") == 0 || strcmp(type, "ntfs") == 0)
        add(search, device, type, NULL);
}

static gboolean add_list(const VrGuest *guest, Search *search, char **list, const char *what, GError **error)
{
    if (!list)
        return vr_guest_failed(guest->g, error, what);
    for (char **one = list; *one && one - list < MAX_CANDIDATES; one++)
        add_device(guest, search, *one);
    return TRUE;
}

static void add_partitions(const VrGuest *guest, Search *search, const char *device)
{
    gsize length = strlen(device);
    guint n = 0;

    for (char *const *one = guest->partitions; *one; one++)
        if (strncmp(*one, device, length) == 0 && g_ascii_isdigit((*one)[length]) && n++ < MAX_CANDIDATES)
            add_device(guest, search, *one);
    if (n == 0)
        add_device(guest, search, device);
}

/* Two volume groups of one name cannot be told apart by the names of their volumes. */
static gboolean check_groups(const VrGuest *guest, GError **error)
{
    g_auto(GStrv) groups = guestfs_vgs(guest->g);
    if (!groups)
        return vr_guest_failed(guest->g, error, "its volume groups");
    for (char **one = groups; *one; one++)
        if (g_strv_contains((const char *const *)one + 1, *one)) {
            g_autofree char *shown = vr_printable(*one, -1);
            g_set_error(error, VR_ERROR, VR_ERROR_INVALID,
                        "it has two volume groups of the name '%s': rename one in the image", shown);
            return FALSE;
        }
    return TRUE;
}

static gboolean add_assembled(const VrGuest *guest, Search *search, GError **error)
{
    if (search->md) {
        g_auto(GStrv) list = guestfs_list_md_devices(guest->g);
        if (!add_list(guest, search, list, "its md devices", error))
            return FALSE;
    }
    if (search->lvm) {
        g_auto(GStrv) list = guestfs_lvs(guest->g);
        return check_groups(guest, error) && add_list(guest, search, list, "its logical volumes", error);
    }
    return TRUE;
}

/* ---- is it a root ---- */

static gboolean is_ntfs(const Candidate *candidate)
{
    return strcmp(candidate->type, "ntfs") == 0;
}

static gboolean can_mount(const VrGuest *guest, const Candidate *candidate, GError **error)
{
    char *group[] = {(char[]){"ntfs3g"}, NULL};
    if (!is_ntfs(candidate) || guestfs_feature_available(guest->g, group) != 0)
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_NOT_FOUND,
                "%s has NTFS, and libguestfs's appliance cannot write it: install ntfs-3g on this host",
                candidate->device);
    return FALSE;
}

static gboolean mount_by(const VrGuest *guest, const Candidate *candidate, const char *more, GError **error)
{
    const char *own = g_str_has_prefix(candidate->type, "ext") ? ",errors=remount-ro"
                      : strcmp(candidate->type, "xfs") == 0    ? ",nouuid"
                      : is_ntfs(candidate)                     ? ",norecover"
                                                               : "";
    g_autofree char *options =
        g_strconcat(SAFE, own, more, candidate->subvolume ? ",subvol=" : "", candidate->subvolume, NULL);
    if (!can_mount(guest, candidate, error))
        return FALSE;
    if (guestfs_mount_vfs(guest->g, options, is_ntfs(candidate) ? "ntfs-3g" : candidate->type, candidate->device,
                          "/") == 0)
        return TRUE;
    g_autofree char *what = g_strdup_printf("%s (%s) cannot be mounted", candidate->device, candidate->type);
    return vr_guest_failed(guest->g, error, what);
}

static gboolean mount_one(const VrGuest *guest, const Candidate *candidate, gboolean readonly, GError **error)
{
    return mount_by(guest, candidate, readonly ? ",ro" : ",rw", error);
}

/* ntfs-3g reads its mapping of users as it mounts. */
static gboolean mount_windows(const VrGuest *guest, const Candidate *candidate, GError **error)
{
    return vr_windows_is_whole(guest, candidate->device, error) && mount_one(guest, candidate, FALSE, error) &&
           vr_windows_map_users(guest, error) &&
           (guestfs_umount(guest->g, "/") == 0 || vr_guest_failed(guest->g, error, candidate->device)) &&
           mount_by(guest, candidate, ",rw,usermapping=" VR_WINDOWS_USERS, error) &&
           (guestfs_rm(guest->g, "/" VR_WINDOWS_USERS) == 0 || vr_guest_failed(guest->g, error, candidate->device));
}

static gboolean mount_root(const VrGuest *guest, const Candidate *root, GError **error)
{
    if (!guest->windows)
        return mount_one(guest, root, guest->readonly, error);
    if (!guest->readonly)
        return mount_windows(guest, root, error);
    g_set_error_literal(error, VR_ERROR, VR_ERROR_INVALID, "it has Windows, of which nothing is carried over");
    return FALSE;
}

static gboolean has(const VrGuest *guest, const char *path)
{
    VrGuestKind kind;
    return vr_guest_kind(guest, path, &kind, NULL) && kind != VR_GUEST_ABSENT;
}

static gboolean is_root(VrGuest *guest, const Candidate *candidate)
{
    if (!is_ntfs(candidate))
        return has(guest, "/etc") && (has(guest, "/usr") || has(guest, "/bin"));
    g_autofree char *windows = vr_windows_find(guest);
    if (!windows)
        return FALSE;
    g_free(guest->windows);
    guest->windows = g_steal_pointer(&windows);
    return TRUE;
}

/* only: there is no other, and it stays mounted. */
static void try_one(VrGuest *guest, Search *search, Candidate *candidate, gboolean only)
{
    g_autoptr(GError) error = NULL;
    const Candidate *last = search->roots->len ? search->roots->pdata[search->roots->len - 1] : NULL;
    if (last && strcmp(last->device, candidate->device) == 0)
        return; /* the default subvolume is one of the names */
    if (mount_one(guest, candidate, !only || guest->readonly, &error)) {
        if (is_root(guest, candidate))
            g_ptr_array_add(search->roots, candidate);
        if (!only)
            (void)guestfs_umount(guest->g, "/");
    } else if (!candidate->subvolume && !search->unmountable) {
        search->unmountable = g_steal_pointer(&error);
    }
}

static gboolean judge(const Search *search, GError **error)
{
    if (search->roots->len == 1)
        return TRUE;
    if (search->roots->len > 1) {
        const Candidate *one = search->roots->pdata[0], *other = search->roots->pdata[1];
        g_set_error(error, VR_ERROR, VR_ERROR_INVALID, "it has two roots, %s and %s: one system a disk is supported",
                    one->device, other->device);
    } else if (search->unmountable) {
        g_propagate_error(error, g_error_copy(search->unmountable));
        g_prefix_error(error, "it has no root that can be read: ");
    } else if (search->encrypted) {
        g_set_error_literal(
            error, VR_ERROR, VR_ERROR_INVALID,
            "its root is encrypted (LUKS, BitLocker), or it has none: it cannot be personalised offline");
    } else {
        g_set_error_literal(error, VR_ERROR, VR_ERROR_INVALID,
                            "there is no system on it: no file system of it has /etc and /usr, or Windows");
    }
    return FALSE;
}

/* ---- where other file systems will lie ---- */

/* fstab(5); the octal escapes are for blanks, which no mount point that we write beneath has. */
static gboolean read_fstab(VrGuest *guest, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autofree char *text = vr_guest_read(guest, "/etc/fstab", MAX_FSTAB, &local);
    if (local) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    g_auto(GStrv) lines = g_strsplit(text ? text : "", "\n", -1);
    for (char **line = lines; *line; line++) {
        g_autoptr(GPtrArray) words = g_ptr_array_new();
        g_auto(GStrv) split = g_strsplit_set(*line, " \t", -1);
        for (char **word = split; *word; word++)
            if (**word)
                g_ptr_array_add(words, *word);
        const char *mount = words->len >= 2 ? words->pdata[1] : "";
        if (mount[0] == '/' && mount[1] && ((const char *)words->pdata[0])[0] != '#') {
            gsize length = strlen(mount);
            while (length > 1 && mount[length - 1] == '/')
                length--;
            g_ptr_array_add(guest->mounts, g_strndup(mount, length));
        }
    }
    return TRUE;
}

/* ---- all of it ---- */

gboolean vr_guest_mount(VrGuest *guest, const char *device, gboolean alone, GError **error)
{
    g_auto(Search) search = {.candidates = g_ptr_array_new_with_free_func(candidate_free), .roots = g_ptr_array_new()};
    add_partitions(guest, &search, device);
    if (alone && !add_assembled(guest, &search, error))
        return FALSE;
    gboolean only = search.candidates->len == 1 && !is_ntfs(search.candidates->pdata[0]);
    for (guint i = 0; i < search.candidates->len; i++)
        try_one(guest, &search, search.candidates->pdata[i], only);
    if (!judge(&search, error) || (!only && !mount_root(guest, search.roots->pdata[0], error)))
        return FALSE;
    guest->mounts = g_ptr_array_new_with_free_func(g_free);
    return guest->windows || read_fstab(guest, error);
}

void vr_guest_umount(VrGuest *guest)
{
    g_clear_pointer(&guest->mounts, g_ptr_array_unref);
    g_clear_pointer(&guest->passwd, g_free);
    g_clear_pointer(&guest->group, g_free);
    g_clear_pointer(&guest->windows, g_free);
}
