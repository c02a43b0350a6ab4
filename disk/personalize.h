/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Offline personalisation (row C6): a fresh OS disk gets its name, keys and files before any guest has it, by libguestfs, in a child of its own.
 *
 *   personalize_request  what is asked for, its rules, and how it goes to the child; no libguestfs
 *   disk_layout          which disks may share an appliance (SAFETY 4.18)
 *   personalize          one child an appliance, and what each disk came to
 *   personalize_seats    one appliance for many threads
 *   personalize_read     what comes of an old disk
 *   personalize_launch   starting it
 *   personalize_child    the child: it shuts itself in, then launches the appliance (the program virt-reimage-personalize)
 *   personalize_root     which file system of a disk is the root
 *   personalize_guest    paths in a guest: never through a link
 *   personalize_apply    what is written
 *   personalize_windows  the same where there is Windows
 *   personalize_collect  what is read
 *
 * The child lives in namespaces of its own (processes, network, mounts, IPC), without capabilities, and by Landlock it writes to its disks, its
 * cache and a /tmp of its own only. So QEMU ends with it, it ends with us, and nothing of it stays. Secrets go to it in a file without a name.
 */
#pragma once

#include "base/guest_file.h"
#include "disk/image_check.h"

#define VR_PERSONAL_MAX_DISKS 64u
#define VR_PERSONAL_MAX_FILES (256u + VR_GUEST_FILES_MAX) /* of its own, and carried over */
#define VR_PERSONAL_MAX_BYTES (16u << 20)                 /* of one file, and of a first-boot script */

typedef struct {
    char *user;
    GPtrArray *keys; /* char *, one line each, without options; those that are missing are added */
} VrPersonalKeys;

/* What one disk gets. NULL or empty: it stays as it is. Fields are owned. */
typedef struct {
    char *disk; /* absolute path of the disk's file, which no guest has yet */
    VrImageFormat format;
    char *hostname;
    char *machine_id;     /* 32 hexadecimal digits; "": systemd makes one at the first boot */
    char *timezone;       /* "Europe/Berlin": must be one that the guest knows */
    GPtrArray *host_keys; /* VrGuestFile; its path is a name in /etc/ssh; modes are those of host keys */
    GPtrArray *files;   /* VrGuestFile of all kinds, in this order: a directory that is there gets mode and owner too */
    GPtrArray *network; /* VrGuestFile, with modes of network files */
    GPtrArray *authorized; /* VrPersonalKeys */
    GBytes *first_boot;    /* a script, run once as root; "#!" first */
    GBytes *unattend;      /* Windows: the answer file of its setup, XML in UTF-8; nothing else can be written there */
    gboolean no_relabel;   /* a guest with SELinux relabels itself at its first boot, and restarts; TRUE: it does not */
} VrPersonal;

VrPersonal *vr_personal_new(const char *disk, VrImageFormat format);
void vr_personal_free(VrPersonal *personal);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrPersonal, vr_personal_free)

/* Copy their arguments. list: one of the arrays of a VrPersonal, for a regular file. */
void vr_personal_add_file(GPtrArray *list, const char *path, guint mode, const char *owner, const void *data,
                          gsize length);
void vr_personal_add_key(VrPersonal *personal, const char *user, const char *key);

/* The same for another disk; shares bytes. */
VrPersonal *vr_personal_copy(const VrPersonal *personal, const char *disk, VrImageFormat format);

/* SHA-256 over all of it but the disk, in hex: tells whether two ask for the same. NULL: it asks for nothing. Free with g_free. */
char *vr_personal_digest(const VrPersonal *personal);

/* The rules for what is asked, without a look at the guest: VR_ERROR_INVALID names the disk, where there is one yet, and what is wrong. */
gboolean vr_personal_check(const VrPersonal *personal, GError **error);

typedef struct {
    const char *helper; /* path of virt-reimage-personalize; NULL: beside our own program, else where it is installed */
    const char *work_dir; /* absolute, exists, writable by us alone: the appliance is kept there, some 400 MB */
    gboolean kvm;         /* proven to work, not only there (SAFETY 4.20); FALSE: TCG */
    gint64 timeout_ms;    /* of one appliance; 0: 2 minutes and 20 seconds a disk, five times that without KVM */
    const gint *aborted;  /* as in VrChildLimits */
} VrPersonalizeOptions;

/* Personalises the disks: those that may share an appliance in one, each of the others in one of its own. errors: n entries, each NULL (done, and flushed to
 * its medium) or an owned error that names disk, path and what is wrong; that disk is to be thrown away. A disk that an appliance died or
 * hung on fails, and the others are done again without it. TRUE: all were done. FALSE with an error of its own: none was begun. */
gboolean vr_personalize(const VrPersonal *const *disks, guint n, const VrPersonalizeOptions *options, GError **errors,
                        GError **error);

/* One appliance for the disks of a batch, of which each is another thread's (base/gather.h). A seat that will not be used must be freed as soon as that
 * is known. */
typedef struct VrPersonalSeat VrPersonalSeat;

/* Fills seats[0..n-1]. options are copied with their texts; aborted outlives the seats. */
void vr_personal_seats_new(VrPersonalSeat **seats, guint n, const VrPersonalizeOptions *options);

/* Leaves, if it has not asked. */
void vr_personal_seat_free(VrPersonalSeat *seat);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrPersonalSeat, vr_personal_seat_free)

/* Personalises one disk, with those of the others who ask now. Once a seat. An error is that of this disk, as of vr_personalize(), or of what all
 * share. */
gboolean vr_personal_seat_apply(VrPersonalSeat *seat, const VrPersonal *personal, GError **error);

/* Reads files of an old disk that nobody writes to, in an appliance of its own. Nothing is written to the disk: what its file system has still in its journal goes to
 * a snapshot in memory that is thrown away. paths: absolute, ended by NULL; of each the file, symbolic link or directory with all beneath it, a directory
 * before what is in it, owners as numbers. No link is followed, also not on the way. Left out: a path that is not there, and where another file
 * system is mounted by the guest's /etc/fstab beneath a path.
 * VR_ERROR_INVALID names the path: a FIFO, a socket, a device, a name that is no UTF-8, one on another file system, more than VR_GUEST_FILES_MAX or
 * VR_GUEST_FILES_MAX_BYTES. *files: VrGuestFile, to be unreferenced. */
gboolean vr_personalize_read(const char *disk, VrImageFormat format, const char *const *paths,
                             const VrPersonalizeOptions *options, GPtrArray **files, GError **error);

/* FALSE with VR_ERROR_NOT_FOUND: something that it takes is not on this host. Nothing is launched. */
gboolean vr_personalize_is_possible(GError **error);
