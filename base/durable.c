/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How a temp name is told from a dead one. A temp directory is locked through a file ".lock" in it, a temp file
 * through itself; the lock (OFD) goes with the process. Between making the name and locking it, a sweep may come first. So
 * both sides follow one rule: whoever has the lock asks on the locked descriptor whether it is still linked, and only then
 * owns the name. The sweep removes ".lock" last; a maker that finds its lock taken or its file unlinked starts again.
 */
#include "base/durable.h"

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TMP_PREFIX ".tmp-"
#define LOCK_NAME ".lock"
#define ATTEMPTS 100
#define MAX_DEPTH 16 /* of a tree that we remove; ours are two deep */

/* ---- opening ---- */

int vr_dir_open(const char *path, GError **error)
{
    if (!path || path[0] != '/') {
        g_set_error(error, VR_ERROR, VR_ERROR_USAGE, "\"%s\" is not an absolute path", path ? path : "");
        return -1;
    }
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        vr_set_error_errno(error, errno, "cannot open directory %s", path);
    return fd;
}

/* openat2(2) has no wrapper in glibc. EAGAIN: a rename raced with a ".." in the path, try again. */
static int open_beneath(int dirfd, const char *relpath, int flags, mode_t mode)
{
    struct open_how how = {
        .flags = (guint64)(flags | O_CLOEXEC | O_NOFOLLOW),
        .mode = flags & O_CREAT ? mode : 0,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
    };
    long fd;
    int attempts = 0;
    do {
        fd = syscall(SYS_openat2, dirfd, relpath, &how, sizeof how);
    } while (fd < 0 && (errno == EINTR || (errno == EAGAIN && ++attempts < ATTEMPTS)));
    return (int)fd;
}

int vr_open_beneath(int dirfd, const char *relpath, int flags, mode_t mode, GError **error)
{
    int fd = open_beneath(dirfd, relpath, flags, mode);
    if (fd >= 0)
        return fd;
    /* A link where a directory was asked for is ENOTDIR; for the message it is a link. */
    struct stat st;
    int failed = errno;
    if (failed == ENOTDIR && fstatat(dirfd, relpath, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode))
        failed = ELOOP;
    errno = failed;
    if (errno == ELOOP)
        vr_set_error_errno(error, errno, "refused to follow a symbolic link at %s", relpath);
    else if (errno == EXDEV)
        vr_set_error_errno(error, errno, "%s leads out of its directory", relpath);
    else
        vr_set_error_errno(error, errno, "cannot open %s", relpath);
    return -1;
}

/* One step down: makes `name` if it is missing and opens it. */
static int make_directory(int parent, const char *name, mode_t mode, GError **error)
{
    gboolean made = mkdirat(parent, name, mode) == 0;
    if (!made && errno != EEXIST) {
        vr_set_error_errno(error, errno, "cannot make directory %s", name);
        return -1;
    }
    vr_autofd fd = vr_open_beneath(parent, name, O_RDONLY | O_DIRECTORY, 0, error);
    if (fd < 0 || !made)
        return vr_fd_steal(&fd);
    if (fchmod(fd, mode) < 0) {
        vr_set_error_errno(error, errno, "cannot set the mode of directory %s", name);
        return -1;
    }
    if (!vr_fsync(fd, name, error) || !vr_fsync(parent, name, error))
        return -1;
    return vr_fd_steal(&fd);
}

int vr_mkdir_beneath(int dirfd, const char *relpath, mode_t mode, GError **error)
{
    g_auto(GStrv) parts = g_strsplit(relpath, "/", -1);
    vr_autofd fd = vr_open_beneath(dirfd, ".", O_RDONLY | O_DIRECTORY, 0, error);
    if (fd < 0)
        g_prefix_error(error, "%s: ", relpath);
    for (gsize i = 0; fd >= 0 && parts[i]; i++) {
        if (strcmp(parts[i], ".") == 0 || (*parts[i] == '\0' && i > 0))
            continue;
        if (*parts[i] == '\0' || strcmp(parts[i], "..") == 0) {
            g_set_error(error, VR_ERROR, VR_ERROR_USAGE, "\"%s\" leads out of its directory", relpath);
            return -1;
        }
        int next = make_directory(fd, parts[i], mode, error);
        vr_fd_clear(&fd);
        fd = next;
    }
    return vr_fd_steal(&fd);
}

/* ---- reading and writing ---- */

gboolean vr_fsync(int fd, const char *what, GError **error)
{
    /* Never again after a failure: the kernel has forgotten the pages by then and would say yes. */
    if (fsync(fd) == 0)
        return TRUE;
    vr_set_error_errno(error, errno, "cannot flush %s", what);
    return FALSE;
}

gboolean vr_write_all(int fd, const void *data, gsize length, const char *what, GError **error)
{
    const char *p = data;
    while (length > 0) {
        ssize_t n = write(fd, p, length);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            vr_set_error_errno(error, n < 0 ? errno : EIO, "cannot write %s", what);
            return FALSE;
        }
        p += n;
        length -= (gsize)n;
    }
    return TRUE;
}

gboolean vr_pread_all(int fd, void *data, gsize length, guint64 offset, gsize *got, GError **error)
{
    *got = 0;
    if (offset > G_MAXINT64 || length > G_MAXINT64 - offset) {
        vr_set_error_errno(error, EOVERFLOW, "cannot read at offset %" G_GUINT64_FORMAT, offset);
        return FALSE;
    }
    while (*got < length) {
        ssize_t n = pread(fd, (char *)data + *got, length - *got, (off_t)(offset + *got));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            vr_set_error_errno(error, errno, "cannot read at offset %" G_GUINT64_FORMAT, offset + *got);
            return FALSE;
        }
        if (n == 0)
            break;
        *got += (gsize)n;
    }
    return TRUE;
}

/* ---- names that wait for their owner ---- */

static char *tmp_name(const char *opid)
{
    return g_strconcat(TMP_PREFIX, opid, NULL);
}

/* Takes the lock and asks whether the file still has its name. 0, or a positive errno: EAGAIN when somebody else holds it,
 * ESTALE when it was removed before we had it. */
static int lock_linked(int fd)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    struct stat st;
    if (fcntl(fd, F_OFD_SETLK, &lock) < 0)
        return errno == EACCES ? EAGAIN : errno;
    if (fstat(fd, &st) < 0)
        return errno;
    return st.st_nlink > 0 ? 0 : ESTALE;
}

/* A locked temp file beneath dirfd with a name of its own; *name is to be freed. */
static int create_tmp_file(int dirfd, mode_t mode, char **name, GError **error)
{
    for (int i = 0; i < ATTEMPTS; i++) {
        g_autofree char *opid = g_strdup_printf("w%08x%08x", g_random_int(), g_random_int());
        g_autofree char *candidate = tmp_name(opid);
        vr_autofd fd = open_beneath(dirfd, candidate, O_RDWR | O_CREAT | O_EXCL, mode);
        if (fd < 0 && errno == EEXIST)
            continue;
        if (fd < 0) {
            vr_set_error_errno(error, errno, "cannot make a temp file");
            return -1;
        }
        int failed = lock_linked(fd);
        if (failed == EAGAIN || failed == ESTALE)
            continue; /* a sweep was faster; it removes that name */
        if (failed) {
            (void)unlinkat(dirfd, candidate, 0);
            vr_set_error_errno(error, failed, "cannot lock a temp file");
            return -1;
        }
        *name = g_steal_pointer(&candidate);
        return vr_fd_steal(&fd);
    }
    g_set_error_literal(error, VR_ERROR, VR_ERROR_FAILED, "cannot make a temp file: every name was taken");
    return -1;
}

static gboolean rename_no_replace(int from_dirfd, const char *from, int to_dirfd, const char *to, GError **error)
{
    if (renameat2(from_dirfd, from, to_dirfd, to, RENAME_NOREPLACE) == 0)
        return TRUE;
    if (errno == EEXIST || errno == ENOTEMPTY)
        g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "%s exists already", to);
    else if (errno == EINVAL || errno == ENOSYS)
        vr_set_error_errno(error, errno, "cannot rename to %s: the file system cannot rename without replacing", to);
    else
        vr_set_error_errno(error, errno, "cannot rename to %s", to);
    return FALSE;
}

static gboolean write_and_flush(int fd, const void *data, gsize length, mode_t mode, const char *name, GError **error)
{
    if (fchmod(fd, mode) < 0) {
        vr_set_error_errno(error, errno, "cannot set the mode of %s", name);
        return FALSE;
    }
    return vr_write_all(fd, data, length, name, error) && vr_fsync(fd, name, error);
}

static gboolean give_name(int dirfd, const char *tmp, const char *name, gboolean replace, GError **error)
{
    if (!replace)
        return rename_no_replace(dirfd, tmp, dirfd, name, error);
    if (renameat(dirfd, tmp, dirfd, name) == 0)
        return TRUE;
    vr_set_error_errno(error, errno, "cannot rename to %s", name);
    return FALSE;
}

/* Names go straight to renameat2(2), which knows no RESOLVE_BENEATH: a name is one component. */
static gboolean check_component(const char *name, GError **error)
{
    if (*name && !strchr(name, '/') && strcmp(name, ".") != 0 && strcmp(name, "..") != 0)
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_USAGE, "\"%s\" is not a plain file name", name);
    return FALSE;
}

gboolean vr_durable_write(int dirfd, const char *name, const void *data, gsize length, mode_t mode, gboolean replace,
                          GError **error)
{
    g_autofree char *tmp = NULL;
    if (!check_component(name, error))
        return FALSE;
    vr_autofd fd = create_tmp_file(dirfd, 0600, &tmp, error);
    if (fd < 0)
        return FALSE;
    if (!write_and_flush(fd, data, length, mode, name, error) || !give_name(dirfd, tmp, name, replace, error)) {
        (void)unlinkat(dirfd, tmp, 0);
        return FALSE;
    }
    return vr_fsync(dirfd, name, error);
}

/* The descriptor and its name are still one. */
static gboolean has_name(int fd, int dirfd, const char *name)
{
    struct stat ours, there;
    return fstat(fd, &ours) == 0 && fstatat(dirfd, name, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
           ours.st_dev == there.st_dev && ours.st_ino == there.st_ino;
}

/* In a directory where others may write: a file that was put there beforehand would be theirs to change later. */
static gboolean check_own(int fd, const char *name, GError **error)
{
    struct stat st;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == geteuid() && st.st_nlink == 1)
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "%s is not a file of ours", name);
    vr_error_next(error, "remove it");
    return FALSE;
}

/* One attempt: a descriptor with its lock, -1 with *again to try again, or -1 with an error. */
static int take_tmp_file(int dirfd, const char *tmp, gboolean *again, GError **error)
{
    vr_autofd fd = open_beneath(dirfd, tmp, O_RDWR | O_CREAT | O_NONBLOCK, 0600);
    *again = FALSE;
    if (fd < 0) {
        vr_set_error_errno(error, errno, "cannot make %s", tmp);
        return -1;
    }
    int failed = lock_linked(fd);
    *again = failed == EAGAIN || failed == ESTALE || (failed == 0 && !has_name(fd, dirfd, tmp));
    if (failed && !*again)
        vr_set_error_errno(error, failed, "cannot lock %s", tmp);
    if (failed || *again || !check_own(fd, tmp, error))
        return -1;
    return vr_fd_steal(&fd);
}

static int wait_tmp_file(int dirfd, const char *tmp, GError **error)
{
    gboolean again = TRUE;
    for (int i = 0; i < 500 && again; i++) {
        int fd = take_tmp_file(dirfd, tmp, &again, error);
        if (fd >= 0)
            return fd;
        if (again)
            g_usleep(10000);
    }
    if (again)
        g_set_error(error, VR_ERROR, VR_ERROR_BUSY, "another process writes %s", tmp);
    return -1;
}

gboolean vr_durable_replace(int dirfd, const char *name, const void *data, gsize length, mode_t mode, GError **error)
{
    g_autofree char *tmp = g_strdup_printf(".%s.virt-reimage", name);
    if (!check_component(name, error))
        return FALSE;
    vr_autofd fd = wait_tmp_file(dirfd, tmp, error);
    if (fd < 0)
        return FALSE;
    if (ftruncate(fd, 0) < 0) {
        vr_set_error_errno(error, errno, "cannot empty %s", tmp);
        return FALSE;
    }
    if (!write_and_flush(fd, data, length, mode, name, error) || !give_name(dirfd, tmp, name, TRUE, error)) {
        (void)unlinkat(dirfd, tmp, 0);
        return FALSE;
    }
    return vr_fsync(dirfd, name, error);
}

gboolean vr_durable_rename(int from_dirfd, const char *from, int to_dirfd, const char *to, GError **error)
{
    if (!check_component(from, error) || !check_component(to, error) ||
        !rename_no_replace(from_dirfd, from, to_dirfd, to, error))
        return FALSE;
    return vr_fsync(to_dirfd, to, error) && (from_dirfd == to_dirfd || vr_fsync(from_dirfd, from, error));
}

gboolean vr_durable_unlink(int dirfd, const char *name, GError **error)
{
    if (!check_component(name, error))
        return FALSE;
    if (unlinkat(dirfd, name, 0) < 0 && errno != ENOENT) {
        vr_set_error_errno(error, errno, "cannot remove %s", name);
        return FALSE;
    }
    /* Flushed in any case: an earlier process may have died between its unlink and its flush. */
    return vr_fsync(dirfd, name, error);
}

/* ---- temp directories ---- */

static void close_dir(DIR *dir)
{
    if (dir)
        closedir(dir);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DIR, close_dir)

/* The names in a directory, without "." and ".."; NULL with errno. A list first, since removing while reading is undefined. */
static GPtrArray *list_names(int dirfd)
{
    vr_autofd fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    g_autoptr(DIR) dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir)
        return NULL;
    (void)vr_fd_steal(&fd); /* closedir closes it */
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    errno = 0;
    for (struct dirent *entry; (entry = readdir(dir)); errno = 0)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            g_ptr_array_add(names, g_strdup(entry->d_name));
    return errno ? NULL : g_steal_pointer(&names);
}

static gboolean remove_content(int dirfd, const char *keep, int depth);

/* FALSE with errno. */
static gboolean remove_entry(int dirfd, const char *name, int depth)
{
    if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
        return TRUE;
    if (errno != EISDIR && errno != EPERM)
        return FALSE;
    vr_autofd fd = open_beneath(dirfd, name, O_RDONLY | O_DIRECTORY, 0);
    return fd >= 0 && remove_content(fd, NULL, depth + 1) && unlinkat(dirfd, name, AT_REMOVEDIR) == 0;
}

static gboolean remove_content(int dirfd, const char *keep, int depth)
{
    if (depth > MAX_DEPTH) {
        errno = ELOOP;
        return FALSE;
    }
    g_autoptr(GPtrArray) names = list_names(dirfd);
    for (guint i = 0; names && i < names->len; i++)
        if (g_strcmp0(names->pdata[i], keep) != 0 && !remove_entry(dirfd, names->pdata[i], depth))
            return FALSE;
    return names != NULL;
}

/* The caller holds the directory's lock. The lock file goes last: until then nobody else can own the name. FALSE with errno. */
static gboolean remove_locked(int parent_fd, const char *name, int dir_fd)
{
    struct stat ours, named;
    if (fstat(dir_fd, &ours) < 0 || fstatat(parent_fd, name, &named, AT_SYMLINK_NOFOLLOW) < 0)
        return FALSE;
    if (ours.st_ino != named.st_ino || ours.st_dev != named.st_dev) {
        errno = ESTALE; /* the name is somebody else's by now */
        return FALSE;
    }
    if (!remove_content(dir_fd, LOCK_NAME, 0) || unlinkat(dir_fd, LOCK_NAME, 0) < 0)
        return FALSE;
    /* A sweep that saw the lock file go may have been faster. */
    return unlinkat(parent_fd, name, AT_REMOVEDIR) == 0 || errno == ENOENT;
}

/* Opens the lock of a temp directory that somebody else made. One without a lock file is either empty (its maker died, or is
 * just between the two) and goes by rmdir, or lost its lock file in a power cut and gets a new one. -1 with errno; ENOENT: gone. */
static int open_dead_lock(int parent_fd, const char *name, int dir_fd)
{
    int fd = open_beneath(dir_fd, LOCK_NAME, O_RDWR, 0);
    if (fd >= 0 || errno != ENOENT)
        return fd;
    if (unlinkat(parent_fd, name, AT_REMOVEDIR) == 0) {
        errno = 0;
        return -1;
    }
    return errno == ENOTEMPTY ? open_beneath(dir_fd, LOCK_NAME, O_RDWR | O_CREAT, 0600) : -1;
}

/* Removes a temp directory that nobody holds. 0, EAGAIN when somebody holds it, else a positive errno. */
static int sweep_directory(int parent_fd, const char *name)
{
    vr_autofd dir_fd = open_beneath(parent_fd, name, O_RDONLY | O_DIRECTORY, 0);
    if (dir_fd < 0)
        return errno;
    vr_autofd lock_fd = open_dead_lock(parent_fd, name, dir_fd);
    if (lock_fd < 0)
        return errno;
    int failed = lock_linked(lock_fd);
    if (failed)
        return failed == ESTALE ? EAGAIN : failed;
    return remove_locked(parent_fd, name, dir_fd) ? 0 : errno;
}

/* The same for a temp file of vr_durable_write. */
static int sweep_file(int parent_fd, const char *name)
{
    vr_autofd fd = open_beneath(parent_fd, name, O_RDWR | O_NONBLOCK, 0);
    if (fd < 0)
        return errno;
    struct stat st;
    if (fstat(fd, &st) < 0)
        return errno;
    if (!S_ISREG(st.st_mode))
        return EAGAIN; /* not of our making */
    int failed = lock_linked(fd);
    if (failed)
        return failed == ESTALE ? EAGAIN : failed;
    return unlinkat(parent_fd, name, 0) == 0 ? 0 : errno;
}

static int sweep_entry(int parent_fd, const char *name)
{
    struct stat st;
    if (fstatat(parent_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno;
    if (S_ISDIR(st.st_mode))
        return sweep_directory(parent_fd, name);
    return S_ISREG(st.st_mode) ? sweep_file(parent_fd, name) : EAGAIN;
}

/* One attempt at a directory that is ours: 0, EAGAIN to try again, or a positive errno. */
static int make_tmpdir(VrTmpdir *tmp)
{
    if (mkdirat(tmp->parent_fd, tmp->name, 0711) < 0) {
        if (errno != EEXIST)
            return errno;
        /* A dead one of the same operation goes; a live one is busy. */
        int failed = sweep_directory(tmp->parent_fd, tmp->name);
        return failed == 0 || failed == ENOENT ? EAGAIN : failed == EAGAIN ? EBUSY : failed;
    }
    vr_fd_clear(&tmp->dir_fd);
    vr_fd_clear(&tmp->lock_fd);
    tmp->dir_fd = open_beneath(tmp->parent_fd, tmp->name, O_RDONLY | O_DIRECTORY, 0);
    if (tmp->dir_fd < 0)
        return errno == ENOENT ? EAGAIN : errno;
    tmp->lock_fd = open_beneath(tmp->dir_fd, LOCK_NAME, O_RDWR | O_CREAT, 0600);
    if (tmp->lock_fd < 0)
        return errno == ENOENT ? EAGAIN : errno;
    int failed = lock_linked(tmp->lock_fd);
    if (failed)
        return failed == ESTALE ? EAGAIN : failed;
    return fchmod(tmp->dir_fd, 0711) < 0 ? errno : 0; /* the umask does not matter */
}

static void tmpdir_release(VrTmpdir *tmp)
{
    vr_fd_clear(&tmp->lock_fd);
    vr_fd_clear(&tmp->dir_fd);
    vr_fd_clear(&tmp->parent_fd);
    g_free(tmp->name);
    g_free(tmp);
}

VrTmpdir *vr_tmpdir_new(int parent_fd, const char *opid, GError **error)
{
    if (!check_component(opid, error))
        return NULL;
    VrTmpdir *tmp = g_new(VrTmpdir, 1);
    *tmp = (VrTmpdir){.parent_fd = fcntl(parent_fd, F_DUPFD_CLOEXEC, 3), .dir_fd = -1, .lock_fd = -1};
    tmp->name = tmp_name(opid);
    int failed = tmp->parent_fd < 0 ? errno : EAGAIN;
    /* EBUSY may also be a sweep that is at it just now, so it is asked again for a tenth of a second. */
    for (int i = 0; i < ATTEMPTS && (failed == EAGAIN || failed == EBUSY); i++) {
        failed = make_tmpdir(tmp);
        if (failed == EBUSY)
            g_usleep(1000);
    }
    if (failed == 0)
        return tmp;
    if (failed == EBUSY || failed == EAGAIN)
        g_set_error(error, VR_ERROR, VR_ERROR_BUSY, "another process is at work in %s", tmp->name);
    else
        vr_set_error_errno(error, failed, "cannot make temp directory %s", tmp->name);
    tmpdir_release(tmp);
    return NULL;
}

void vr_tmpdir_free(VrTmpdir *tmp)
{
    if (!tmp)
        return;
    if (!remove_locked(tmp->parent_fd, tmp->name, tmp->dir_fd))
        vr_warning(tmp->name, "cannot remove the temp directory: %s; the next recovery does", g_strerror(errno));
    tmpdir_release(tmp);
}

gboolean vr_tmpdir_sweep(int parent_fd, guint *removed, GError **error)
{
    gboolean ok = TRUE;
    if (removed)
        *removed = 0;
    g_autoptr(GPtrArray) names = list_names(parent_fd);
    if (!names) {
        vr_set_error_errno(error, errno, "cannot list a directory");
        return FALSE;
    }
    for (guint i = 0; i < names->len; i++) {
        const char *name = names->pdata[i];
        if (!g_str_has_prefix(name, TMP_PREFIX))
            continue;
        int failed = sweep_entry(parent_fd, name);
        if (failed == 0 && removed)
            (*removed)++;
        if (failed && failed != EAGAIN && failed != ENOENT && ok) {
            vr_set_error_errno(error, failed, "cannot remove %s", name);
            ok = FALSE;
        }
    }
    return ok;
}
