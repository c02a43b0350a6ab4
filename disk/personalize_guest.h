/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Files of a guest whose root is mounted in the appliance; for the child alone, as it is the only one that has libguestfs. Nobody else writes to that file
 * system, so what was looked at stays so. Every part of a path is looked at first and must be a directory: no link is followed, not even
 * inside the guest. A file is written beside its place and renamed over the old one, so that a link, a second name or a FIFO there
 * is never opened. No directory is listed but what is carried over and, where names have no case, those above the answer file of Windows.
 */
#pragma once

#include "disk/personalize.h"

#include <guestfs.h>

typedef struct {
    guestfs_h *g;
    char *const *partitions; /* of all disks of the appliance; not owned */
    GPtrArray *mounts;       /* char *: where other file systems lie once the guest runs, by its /etc/fstab */
    char *passwd, *group;    /* read when first asked for */
    char *windows;           /* of a root with Windows: that directory, as it is spelt there; NULL: no Windows */
    gboolean readonly;       /* it is mounted so; the disk itself is a snapshot then, in which a journal is replayed */
    const char *
        listing; /* a file that does not grow beyond what a directory of VR_GUEST_FILES_MAX names takes; to read only */
} VrGuest;

typedef enum { VR_GUEST_ABSENT, VR_GUEST_FILE, VR_GUEST_DIR, VR_GUEST_LINK, VR_GUEST_OTHER } VrGuestKind;

/* What the last call of libguestfs said, about this path or device. Always FALSE. */
gboolean vr_guest_failed(guestfs_h *g, GError **error, const char *what);

/* Of the path itself; its parents are not looked at. */
gboolean vr_guest_kind(const VrGuest *guest, const char *path, VrGuestKind *kind, GError **error);

/* TRUE when every part above `path` is a directory on the root's own file system. make: those that are missing are made, 0755 root.
 * VR_ERROR_NOT_FOUND: one is missing. */
gboolean vr_guest_enter(const VrGuest *guest, const char *path, gboolean make, GError **error);

/* What there is at a path that nobody has asked for: nothing, too, where a part above it is missing, or where another file system will lie.
 * FALSE: a part above it is no directory. */
gboolean vr_guest_seek(const VrGuest *guest, const char *path, VrGuestKind *kind, GError **error);

/* Another file system will lie there. */
gboolean vr_guest_is_mount(const VrGuest *guest, const char *path);

/* A text file of at most `max` bytes. NULL without an error: it is not there. */
char *vr_guest_read(const VrGuest *guest, const char *path, gsize max, GError **error);

/* Makes or replaces a regular file. make: its directories too. A SELinux label stays. */
gboolean vr_guest_write(const VrGuest *guest, const char *path, const void *data, gsize length, guint mode, guint uid,
                        guint gid, gboolean make, GError **error);

/* Makes a directory, and those above it, or gives one that is there mode and owner. */
gboolean vr_guest_directory(const VrGuest *guest, const char *path, guint mode, guint uid, guint gid, GError **error);

/* Makes or replaces a symbolic link, and the directories above it. */
gboolean vr_guest_link(const VrGuest *guest, const char *path, const char *target, guint uid, guint gid,
                       GError **error);

/* VR_ERROR_NOT_FOUND: no such user. home may be NULL. */
gboolean vr_guest_user(VrGuest *guest, const char *name, guint *uid, guint *gid, char **home, GError **error);

/* "USER", "USER:GROUP", numbers too; NULL is root. */
gboolean vr_guest_owner(VrGuest *guest, const char *owner, guint *uid, guint *gid, GError **error);

/* ---- personalize_root ---- */

/* Finds the root on the device ("/dev/sda") and mounts it; alone: the appliance has no other disk, so LVM and md devices are its. */
gboolean vr_guest_mount(VrGuest *guest, const char *device, gboolean alone, GError **error);
void vr_guest_umount(VrGuest *guest);

/* ---- personalize_windows ---- */

#define VR_WINDOWS_USERS ".virt-reimage-users" /* a file at the root, which ntfs-3g reads as it mounts */

/* The directory of Windows on what is mounted, NULL: none. Free with g_free. */
char *vr_windows_find(const VrGuest *guest);

/* FALSE: its NTFS is not to be written to: Windows is hibernated, or was not shut down cleanly. It is not mounted. */
gboolean vr_windows_is_whole(const VrGuest *guest, const char *device, GError **error);

/* So that the next mount, with it, makes files that only administrators may read. */
gboolean vr_windows_map_users(const VrGuest *guest, GError **error);

gboolean vr_windows_apply(VrGuest *guest, const VrPersonal *personal, GError **error);
/* ---- personalize_collect ---- */

/* Reads paths by the rules of vr_personalize_read() into `files`. */
gboolean vr_guest_collect(const VrGuest *guest, const char *const *paths, GPtrArray *files, GError **error);

/* ---- personalize_apply ---- */

gboolean vr_guest_apply(VrGuest *guest, const VrPersonal *personal, GError **error);
