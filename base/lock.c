/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/lock.h"

#include "base/durable.h"
#include "base/error.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HOLDER_MAX 512

/* The file is never unlinked: two processes could otherwise hold locks on two files of one name. */
struct VrLock {
    int fd;     /* owned: the lock goes with it */
    char *left; /* vr_lock_left() */
};

static char *read_holder(int fd)
{
    char line[HOLDER_MAX];
    gsize got = 0;
    if (!vr_pread_all(fd, line, sizeof line, 0, &got, NULL))
        got = 0;
    char *shown = g_strchomp(vr_printable(line, (gssize)strnlen(line, got)));
    if (*shown)
        return shown;
    g_free(shown);
    return g_strdup("a process that has not yet said who it is");
}

/* The line is for people and good for nothing after a power cut, so it is not flushed. */
static gboolean write_holder(int fd, const char *holder, GError **error)
{
    g_autofree char *line = vr_printable(holder, -1);
    if (ftruncate(fd, 0) < 0) {
        vr_set_error_errno(error, errno, "cannot write the holder of a lock");
        return FALSE;
    }
    return vr_write_all(fd, line, MIN(strlen(line), HOLDER_MAX), "the holder of a lock", error);
}

VrLock *vr_lock_acquire(int dirfd, const char *name, const char *holder, GError **error)
{
    vr_autofd fd = vr_open_beneath(dirfd, name, O_RDWR | O_CREAT, 0600, error);
    if (fd < 0)
        return NULL;
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(fd, F_OFD_SETLK, &lock) < 0) {
        if (errno == EAGAIN || errno == EACCES) {
            g_autofree char *other = read_holder(fd);
            g_set_error(error, VR_ERROR, VR_ERROR_BUSY, "%s is held by %s", name, other);
        } else {
            vr_set_error_errno(error, errno, "cannot lock %s", name);
        }
        return NULL;
    }
    struct stat st;
    g_autofree char *left = fstat(fd, &st) == 0 && st.st_size > 0 ? read_holder(fd) : NULL;
    if (!write_holder(fd, holder, error))
        return NULL;
    VrLock *taken = g_new0(VrLock, 1);
    taken->left = g_steal_pointer(&left);
    taken->fd = vr_fd_steal(&fd);
    return taken;
}

const char *vr_lock_left(const VrLock *lock)
{
    return lock->left;
}

/* 'T' or 't' of /proc/PID/stat: stopped by a signal, or by a debugger. */
gboolean vr_process_is_stopped(int pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/stat", pid);
    g_autofree char *text = NULL;
    const char *after;

    if (!g_file_get_contents(path, &text, NULL, NULL))
        return FALSE;
    after = strrchr(text, ')'); /* the name of the program may hold anything */
    return after && after[1] == ' ' && (after[2] == 'T' || after[2] == 't');
}

gboolean vr_lock_is_held(int dirfd, const char *name, char **holder)
{
    vr_autofd fd = vr_open_beneath(dirfd, name, O_RDONLY, 0, NULL);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (holder)
        *holder = NULL;
    if (fd < 0 || fcntl(fd, F_OFD_GETLK, &lock) < 0 || lock.l_type == F_UNLCK)
        return FALSE;
    if (holder)
        *holder = read_holder(fd);
    return TRUE;
}

void vr_lock_release(VrLock *lock)
{
    if (!lock)
        return;
    /* Best effort: a line that stays behind misleads nobody, the lock itself is asked first. */
    (void)!ftruncate(lock->fd, 0);
    vr_fd_clear(&lock->fd);
    g_free(lock->left);
    g_free(lock);
}
