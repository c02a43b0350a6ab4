/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What can be asked of a guest's disk file from outside without opening it for writing. */
#pragma once

#include <glib.h>

/* Identity of a file for records and for data-disk proof. */
typedef struct {
    guint64 device, inode, size;
    gint64 mtime_ns;
    gint64 born_ns; /* tells a file from a later one that got its inode; 0: the file system does not say */
} VrFileId;

gboolean vr_disk_file_id(const char *path, VrFileId *id, GError **error);
/* The same of an open file or block device; path is for messages. */
gboolean vr_disk_file_id_of(int fd, const char *path, VrFileId *id, GError **error);

/* Of what has the name in the directory, or with name "" of the descriptor itself. FALSE with errno: no link is followed, and what is no
 * regular file is EINVAL. */
gboolean vr_disk_file_id_at(int fd, const char *name, VrFileId *id);

/* The same file: inode, and birth where both know it, else device. A device may have another number after a reboot. */
gboolean vr_disk_file_same(const VrFileId *a, const VrFileId *b);

/* Told of a new disk that is whole and flushed, before it takes its place: who writes the identity down then never has to guess
 * whose file is under the name. FALSE: it does not take its place, and is gone. */
typedef gboolean (*VrDiskBefore)(const VrFileId *id, void *data, GError **error);

/* TRUE in *held when some process holds a QEMU image lock (OFD locks on bytes 100..., 200... of the file; QEMU
 * block/file-posix.c). Opens read-only; asks with F_OFD_GETLK and takes no lock. A block device is also held while a QEMU runs that was started
 * on it: its locks are on a node of its own there. */
gboolean vr_disk_file_is_open_by_qemu(const char *path, gboolean *held, GError **error);

/* TRUE in *out when a QEMU that opens it to write, as a guest's does, would be refused, since another writes or does not let others write. A reader
 * that shares all (qemu-img convert -U) is none, nor is a tool that reads a block device. */
gboolean vr_disk_file_keeps_qemu_out(const char *path, gboolean *out, GError **error);

/* TRUE when a QEMU has the open file for writing, as that of a running guest has, so that what is read of it need not fit together. FALSE also where
 * its file system cannot be asked for locks. */
gboolean vr_disk_file_is_written_by_qemu(int fd);

/* The virtual size in bytes that a disk of this format has (raw: file or device size; qcow2: from its header). */
gboolean vr_disk_file_virtual_size(const char *path, const char *format, guint64 *bytes, GError **error);

/* How many bytes the file can still take on its file system until all of its disk is written; without metadata. */
gboolean vr_disk_file_growth(const char *path, const char *format, guint64 *bytes, GError **error);

/* What a disk's header says; raw says nothing. */
typedef struct {
    guint snapshots;                 /* internal ones */
    char *backing;                   /* the name of the file below, as it is written there; NULL: none */
    char *backing_format;            /* of that; NULL: it does not say */
    guint64 incompatible, autoclear; /* feature bits */
    guint64 size;                    /* virtual, in bytes */
    gboolean data_file;              /* it says, by a bit or by an extension, that its data is in another file */
} VrDiskLook;
void vr_disk_look_clear(VrDiskLook *look);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(VrDiskLook, vr_disk_look_clear)

/* Opens read-only and takes no lock; a guest may run on it. */
gboolean vr_disk_file_look(const char *path, const char *format, VrDiskLook *look, GError **error);
/* The same of an open file; path is for messages. */
gboolean vr_disk_file_look_of(int fd, const char *path, const char *format, VrDiskLook *look, GError **error);
