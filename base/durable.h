/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The one place that makes files durable (SAFETY section 5 and invariant 31).
 *
 * Everything is opened beneath a directory descriptor with openat2(RESOLVE_BENEATH | NO_SYMLINKS), so a
 * link in the store can lead nowhere. The order of every publication is:
 *
 *   locked temp directory beside the target -> O_EXCL create -> write -> fsync -> checks on that
 *   descriptor -> rename without replace -> fsync of the directory
 *
 * A power cut before the rename leaves a .tmp-* directory whose lock nobody holds; vr_tmpdir_sweep()
 * removes it. After the rename the thing is whole. A failed fsync means that the file is lost: its
 * temp directory is thrown away; nothing is ever fsynced twice.
 */
#pragma once

#include <glib.h>
#include <sys/types.h>

/* Opens a directory by absolute path, following links (the admin's own choice of root). */
int vr_dir_open(const char *path, GError **error);

/* Opens beneath dirfd; flags as open(2) (O_CLOEXEC|O_NOFOLLOW are added), mode for O_CREAT. relpath "." is dirfd itself. */
int vr_open_beneath(int dirfd, const char *relpath, int flags, mode_t mode, GError **error);

/* Makes the directories of relpath beneath dirfd that are missing, each with mode (umask does not
 * matter), each parent fsynced; returns a descriptor of the last one. */
int vr_mkdir_beneath(int dirfd, const char *relpath, mode_t mode, GError **error);

gboolean vr_fsync(int fd, const char *what, GError **error);

/* Writes all of it, going on after short writes and EINTR. */
gboolean vr_write_all(int fd, const void *data, gsize length, const char *what, GError **error);

/* Reads up to length bytes at offset, going on after short reads; *got < length only at end of file. */
gboolean vr_pread_all(int fd, void *data, gsize length, guint64 offset, gsize *got, GError **error);

/* A regular file beneath dirfd, whole and durable or absent: temp file beside it, fsync, rename, fsync of the directory.
 * replace FALSE: an existing name is VR_ERROR_CONFLICT. */
gboolean vr_durable_write(int dirfd, const char *name, const void *data, gsize length, mode_t mode, gboolean replace,
                          GError **error);

/* As vr_durable_write() with replace, in a directory of others, which is not swept: the temp file has one name for all (".NAME.virt-reimage"), so what a
 * killed process left is what the next one writes to. VR_ERROR_BUSY: another process writes it for 5 s already; VR_ERROR_REFUSED: a file of that name is
 * not ours. */
gboolean vr_durable_replace(int dirfd, const char *name, const void *data, gsize length, mode_t mode, GError **error);

/* Renames within or between directories of one file system without replacing, then fsyncs both
 * directories. An existing target is VR_ERROR_CONFLICT. */
gboolean vr_durable_rename(int from_dirfd, const char *from, int to_dirfd, const char *to, GError **error);

/* Unlinks a file if it is there (absent is success) and fsyncs the directory. */
gboolean vr_durable_unlink(int dirfd, const char *name, GError **error);

/* A temp directory ".tmp-OPID" in parent_fd, locked (OFD write lock on its file ".lock") until it is closed. */
typedef struct {
    int parent_fd; /* owned */
    int dir_fd;    /* owned */
    int lock_fd;   /* owned: the lock goes with it */
    char *name;    /* owned */
} VrTmpdir;

VrTmpdir *vr_tmpdir_new(int parent_fd, const char *opid, GError **error);

/* Removes what is left in it and the directory itself; best effort, errors are logged. Frees. */
void vr_tmpdir_free(VrTmpdir *tmp);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrTmpdir, vr_tmpdir_free)

/* Removes every ".tmp-*" directory in parent_fd whose lock can be had; counts them in *removed (may be NULL). One that cannot
 * be removed does not keep the others; the first error is told. */
gboolean vr_tmpdir_sweep(int parent_fd, guint *removed, GError **error);
