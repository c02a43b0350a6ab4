/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* With 64-bit offsets as the default, open() would be open64() here, and only one of the two would be replaced. */
#undef _FILE_OFFSET_BITS
#include "fault/io_fault.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct {
    const char *dir, *except;
    IoKind kind;
    guint nth;
    int how;
    gboolean stays, armed;
    gint count; /* atomic */
    char hit[512];
} fault;

const char *io_kind_name(IoKind kind)
{
    static const char *const names[] = {"open",   "read",  "write", "fsync",  "rename",
                                        "unlink", "mkdir", "chmod", "length", "completion"};

    return names[kind];
}

void io_fault_watch(const char *dir, const char *except)
{
    fault.dir = dir;
    fault.except = except;
}

void io_fault_arm(IoKind kind, guint nth, int how, gboolean stays)
{
    fault.kind = kind;
    fault.nth = nth;
    fault.how = how;
    fault.stays = stays;
    fault.hit[0] = '\0';
    g_atomic_int_set(&fault.count, 0);
    fault.armed = TRUE;
}

void io_fault_disarm(void)
{
    fault.armed = FALSE;
}

guint io_fault_count(void)
{
    return (guint)g_atomic_int_get(&fault.count);
}

const char *io_fault_hit(void)
{
    return fault.hit[0] ? fault.hit : NULL;
}

/* ---- what is counted ---- */

static __thread gboolean aside;

void io_fault_aside(gboolean on)
{
    aside = on;
}

static gboolean is_beneath(const char *path, const char *dir)
{
    size_t length = strlen(dir);

    return strncmp(path, dir, length) == 0 && (path[length] == '/' || path[length] == '\0');
}

static gboolean is_watched(const char *path)
{
    return fault.dir && is_beneath(path, fault.dir) && !(fault.except && is_beneath(path, fault.except));
}

static void path_of_fd(int fd, char *path, size_t size)
{
    char link[40];
    ssize_t length;

    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, size - 1);
    path[length < 0 ? 0 : length] = '\0';
}

/* 0: go on; else what happens. */
static int next(IoKind kind, const char *path)
{
    guint number;

    if (!fault.armed || aside || kind != fault.kind || !is_watched(path))
        return 0;
    number = (guint)g_atomic_int_add(&fault.count, 1) + 1;
    if (fault.nth == 0 || number < fault.nth || (number > fault.nth && !fault.stays))
        return 0;
    if (number == fault.nth)
        g_strlcpy(fault.hit, path, sizeof fault.hit);
    return fault.how;
}

static int next_fd(IoKind kind, int fd)
{
    char path[512];

    if (!fault.armed || aside || kind != fault.kind)
        return 0;
    path_of_fd(fd, path, sizeof path);
    return next(kind, path);
}

static int next_at(IoKind kind, int dirfd, const char *name)
{
    char path[1024];
    size_t length;

    if (!fault.armed || aside || kind != fault.kind)
        return 0;
    if (name[0] == '/' || dirfd == AT_FDCWD)
        return next(kind, name);
    path_of_fd(dirfd, path, sizeof path / 2);
    length = strlen(path);
    snprintf(path + length, sizeof path - length, "/%s", name);
    return next(kind, path);
}

int io_fault_completion(int result)
{
    int how = fault.armed && fault.kind == IO_COMPLETION ? next(IO_COMPLETION, fault.dir) : 0;

    if (how == 0 || result <= 0)
        return result;
    return how == IO_SHORT ? MAX(result / 2, 1) : -how;
}

/* ---- the C library's functions ---- */

/* The one behind this one, asked for once. */
#define REAL(name)                                                                                                     \
    ({                                                                                                                 \
        static __typeof__(&name) real_##name;                                                                          \
        if (!real_##name)                                                                                              \
            real_##name = (__typeof__(&name))dlsym(RTLD_NEXT, #name);                                                  \
        real_##name;                                                                                                   \
    })

/* errno for what fails; a short transfer is half of it. */
#define FAIL_IF(how)                                                                                                   \
    do {                                                                                                               \
        int failed = (how);                                                                                            \
        if (failed > 0) {                                                                                              \
            errno = failed;                                                                                            \
            return -1;                                                                                                 \
        }                                                                                                              \
    } while (0)

#define OPEN_FUNCTION(name)                                                                                            \
    int name(const char *path, int flags, ...)                                                                         \
    {                                                                                                                  \
        va_list args;                                                                                                  \
        va_start(args, flags);                                                                                         \
        mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(args, mode_t) : 0;                                      \
        va_end(args);                                                                                                  \
        FAIL_IF(next_at(IO_OPEN, AT_FDCWD, path));                                                                     \
        return REAL(name)(path, flags, mode);                                                                          \
    }
OPEN_FUNCTION(open)
OPEN_FUNCTION(open64)

#define OPENAT_FUNCTION(name)                                                                                          \
    int name(int dirfd, const char *path, int flags, ...)                                                              \
    {                                                                                                                  \
        va_list args;                                                                                                  \
        va_start(args, flags);                                                                                         \
        mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(args, mode_t) : 0;                                      \
        va_end(args);                                                                                                  \
        FAIL_IF(next_at(IO_OPEN, dirfd, path));                                                                        \
        return REAL(name)(dirfd, path, flags, mode);                                                                   \
    }
OPENAT_FUNCTION(openat)
OPENAT_FUNCTION(openat64)

/* openat2(2) comes this way; so do others that are none of ours. */
long syscall(long number, ...)
{
    va_list args;
    long a[6];

    va_start(args, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(args, long);
    va_end(args);
    if (number == SYS_openat2)
        FAIL_IF(next_at(IO_OPEN, (int)a[0], (const char *)a[1])); // NOLINT
    return REAL(syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

static size_t length_of(int how, size_t length)
{
    return how == IO_SHORT && length > 1 ? length / 2 : length;
}

#define TRANSFER_FUNCTION(name, kind, parameters, ...)                                                                 \
    ssize_t name parameters                                                                                            \
    {                                                                                                                  \
        int how = next_fd(kind, fd);                                                                                   \
        FAIL_IF(how);                                                                                                  \
        return REAL(name)(__VA_ARGS__);                                                                                \
    }
TRANSFER_FUNCTION(read, IO_READ, (int fd, void *data, size_t length), fd, data, length_of(how, length))
TRANSFER_FUNCTION(pread, IO_READ, (int fd, void *data, size_t length, off_t at), fd, data, length_of(how, length), at)
TRANSFER_FUNCTION(pread64, IO_READ, (int fd, void *data, size_t length, off64_t at), fd, data, length_of(how, length),
                  at)
TRANSFER_FUNCTION(write, IO_WRITE, (int fd, const void *data, size_t length), fd, data, length_of(how, length))
TRANSFER_FUNCTION(pwrite, IO_WRITE, (int fd, const void *data, size_t length, off_t at), fd, data,
                  length_of(how, length), at)
TRANSFER_FUNCTION(pwrite64, IO_WRITE, (int fd, const void *data, size_t length, off64_t at), fd, data,
                  length_of(how, length), at)

#define FD_FUNCTION(name, kind, parameters, ...)                                                                       \
    int name parameters                                                                                                \
    {                                                                                                                  \
        FAIL_IF(next_fd(kind, fd));                                                                                    \
        return REAL(name)(__VA_ARGS__);                                                                                \
    }
FD_FUNCTION(fsync, IO_FLUSH, (int fd), fd)
FD_FUNCTION(fdatasync, IO_FLUSH, (int fd), fd)
FD_FUNCTION(fchmod, IO_MODE, (int fd, mode_t mode), fd, mode)
FD_FUNCTION(fchown, IO_MODE, (int fd, uid_t owner, gid_t group), fd, owner, group)
FD_FUNCTION(ftruncate, IO_LENGTH, (int fd, off_t length), fd, length)
FD_FUNCTION(ftruncate64, IO_LENGTH, (int fd, off64_t length), fd, length)
FD_FUNCTION(fallocate, IO_LENGTH, (int fd, int mode, off_t at, off_t length), fd, mode, at, length)
FD_FUNCTION(fallocate64, IO_LENGTH, (int fd, int mode, off64_t at, off64_t length), fd, mode, at, length)

#define NAME_FUNCTION(name, kind, dirfd, path, parameters, ...)                                                        \
    int name parameters                                                                                                \
    {                                                                                                                  \
        FAIL_IF(next_at(kind, dirfd, path));                                                                           \
        return REAL(name)(__VA_ARGS__);                                                                                \
    }
NAME_FUNCTION(renameat, IO_RENAME, to_fd, to, (int from_fd, const char *from, int to_fd, const char *to), from_fd, from,
              to_fd, to)
NAME_FUNCTION(renameat2, IO_RENAME, to_fd, to,
              (int from_fd, const char *from, int to_fd, const char *to, unsigned flags), from_fd, from, to_fd, to,
              flags)
NAME_FUNCTION(unlinkat, IO_UNLINK, fd, path, (int fd, const char *path, int flags), fd, path, flags)
NAME_FUNCTION(unlink, IO_UNLINK, AT_FDCWD, path, (const char *path), path)
NAME_FUNCTION(mkdirat, IO_MKDIR, fd, path, (int fd, const char *path, mode_t mode), fd, path, mode)
NAME_FUNCTION(mkdir, IO_MKDIR, AT_FDCWD, path, (const char *path, mode_t mode), path, mode)
