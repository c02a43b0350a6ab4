/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Each function under its own name: open and open64. */
#undef _FILE_OFFSET_BITS

#include "fault/points.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

struct sqlite3;
struct _virDomain;

static unsigned wanted;
static pid_t armed; /* a child that is about to become another program does not count */
static PointsReport *told;
static PointsReport own; /* of a process that LD_PRELOAD has brought us to */
static const char *only; /* NULL: every point counts */
static __thread int paused;

/* The next one in line; each is asked for once. */
#define REAL(name)                                                                                                     \
    ({                                                                                                                 \
        static __typeof__(&name) real_##name;                                                                          \
        if (!real_##name)                                                                                              \
            real_##name = (__typeof__(&name))dlsym(RTLD_NEXT, #name);                                                  \
        real_##name;                                                                                                   \
    })

/* --- counting ---------------------------------------------------------------------------------------- */

void points_arm(unsigned at, PointsReport *report)
{
    told = report;
    told->count = 0;
    told->past = 1469598103934665603ULL; /* where FNV-1a begins */
    told->label[0] = '\0';
    wanted = at;
    only = NULL;
    paused = 0;
    armed = getpid();
}

void points_stop_at(const char *label)
{
    only = label;
}

void points_pause(void)
{
    paused++;
}

void points_resume(void)
{
    paused--;
}

static void die(void)
{
    if (told == &own)
        dprintf(STDERR_FILENO, "killed at point %u: %s\n", wanted, told->label);
    kill(armed, SIGKILL);
    for (;;)
        pause();
}

/* How many characters here are random: after a world's place, and in the name of what is unfinished. */
static size_t random_after(const char *label, const char *at)
{
    static const struct {
        const char *name;
        size_t length;
    } random[] = {{"/vr-sweep-", 6}, {".tmp-w", 16}};

    for (size_t i = 0; i < sizeof(random) / sizeof(random[0]); i++) {
        size_t before = strlen(random[i].name);
        if ((size_t)(at - label) >= before && strncmp(at - before, random[i].name, before) == 0)
            return strnlen(at, random[i].length);
    }
    return 0;
}

static void add_to_past(const char *label)
{
    static char busy;
    const char *at = label;

    while (__atomic_test_and_set(&busy, __ATOMIC_ACQUIRE))
        ;
    do {
        at += random_after(label, at);
        told->past = (told->past ^ (unsigned char)*at) * 1099511628211ULL;
    } while (*at++);
    __atomic_clear(&busy, __ATOMIC_RELEASE);
}

void points_here(const char *what, const char *on)
{
    char label[POINTS_LABEL];

    if (!told || paused > 0 || getpid() != armed)
        return;
    snprintf(label, sizeof(label), "%s %s", what, on ? on : "");
    add_to_past(label);
    if ((only && strcmp(label, only) != 0) || __atomic_add_fetch(&told->count, 1, __ATOMIC_SEQ_CST) != wanted)
        return;
    memcpy(told->label, label, sizeof(label));
    if (only)
        raise(SIGSTOP);
    else
        die();
}

static void here_fd(const char *what, int fd)
{
    char link[64];
    char path[512] = "";

    if (!told || paused > 0)
        return;
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    if (readlink(link, path, sizeof(path) - 1) < 0)
        path[0] = '\0';
    points_here(what, strrchr(path, '/') ? strrchr(path, '/') + 1 : path);
}

/* Pipes, sockets and terminals are no part of the durable world. */
static void here_file(const char *what, int fd)
{
    struct stat st;

    if (told && paused == 0 && fstat(fd, &st) == 0 && (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode)))
        here_fd(what, fd);
}

static void __attribute__((constructor)) begin(void)
{
    const char *at = getenv("VR_POINTS_AT");

    if (at)
        points_arm((unsigned)strtoul(at, NULL, 10), &own);
}

static void __attribute__((destructor)) end(void)
{
    const char *path = getenv("VR_POINTS_COUNT");
    FILE *file = path && told == &own && getpid() == armed ? fopen(path, "w") : NULL;

    if (!file)
        return;
    fprintf(file, "%u\n", own.count);
    fclose(file);
}

/* --- files: opening and making ----------------------------------------------------------------------- */

static void here_open(int flags, const char *path)
{
    if (flags & (O_CREAT | O_TRUNC))
        points_here("create", path);
}

static mode_t mode_of(int flags, va_list args)
{
    return flags & (O_CREAT | __O_TMPFILE) ? va_arg(args, mode_t) : 0;
}

#define OPENER(name)                                                                                                   \
    int name(const char *path, int flags, ...)                                                                         \
    {                                                                                                                  \
        va_list args;                                                                                                  \
        va_start(args, flags);                                                                                         \
        mode_t mode = mode_of(flags, args);                                                                            \
        va_end(args);                                                                                                  \
        here_open(flags, path);                                                                                        \
        return REAL(name)(path, flags, mode);                                                                          \
    }
OPENER(open)
OPENER(open64)

#define OPENER_AT(name)                                                                                                \
    int name(int dirfd, const char *path, int flags, ...)                                                              \
    {                                                                                                                  \
        va_list args;                                                                                                  \
        va_start(args, flags);                                                                                         \
        mode_t mode = mode_of(flags, args);                                                                            \
        va_end(args);                                                                                                  \
        here_open(flags, path);                                                                                        \
        return REAL(name)(dirfd, path, flags, mode);                                                                   \
    }
OPENER_AT(openat)
OPENER_AT(openat64)

/* openat2(2), which has no wrapper: base/durable.c. */
long syscall(long number, ...)
{
    va_list args;
    long a[6];

    va_start(args, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(args, long);
    va_end(args);
    if (number == SYS_openat2)
        here_open((int)*(unsigned long long *)a[2], (const char *)a[1]);
    return REAL(syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* --- files: the rest --------------------------------------------------------------------------------- */

/* What changes a file that is given by its descriptor. */
#define BY_FD(result, name, parameters, arguments)                                                                     \
    result name parameters                                                                                             \
    {                                                                                                                  \
        here_file(#name, fd);                                                                                          \
        return REAL(name) arguments;                                                                                   \
    }
BY_FD(ssize_t, write, (int fd, const void *data, size_t n), (fd, data, n))
BY_FD(ssize_t, pwrite, (int fd, const void *data, size_t n, off_t at), (fd, data, n, at))
BY_FD(ssize_t, pwrite64, (int fd, const void *data, size_t n, off64_t at), (fd, data, n, at))
BY_FD(ssize_t, writev, (int fd, const struct iovec *parts, int n), (fd, parts, n))
BY_FD(ssize_t, pwritev2, (int fd, const struct iovec *parts, int n, off_t at, int flags), (fd, parts, n, at, flags))
BY_FD(ssize_t, pwritev64v2, (int fd, const struct iovec *parts, int n, off64_t at, int flags),
      (fd, parts, n, at, flags))
BY_FD(int, ftruncate, (int fd, off_t length), (fd, length))
BY_FD(int, ftruncate64, (int fd, off64_t length), (fd, length))
BY_FD(int, fallocate, (int fd, int mode, off_t at, off_t length), (fd, mode, at, length))
BY_FD(int, fallocate64, (int fd, int mode, off64_t at, off64_t length), (fd, mode, at, length))
BY_FD(int, fdatasync, (int fd), (fd))

/* Directories too. */
#define BY_ANY_FD(result, name, parameters, arguments)                                                                 \
    result name parameters                                                                                             \
    {                                                                                                                  \
        here_fd(#name, fd);                                                                                            \
        return REAL(name) arguments;                                                                                   \
    }
BY_ANY_FD(int, fsync, (int fd), (fd))
BY_ANY_FD(int, fchmod, (int fd, mode_t mode), (fd, mode))
BY_ANY_FD(int, fchown, (int fd, uid_t user, gid_t group), (fd, user, group))

#define BY_NAME(name, parameters, arguments, path)                                                                     \
    int name parameters                                                                                                \
    {                                                                                                                  \
        points_here(#name, path);                                                                                      \
        return REAL(name) arguments;                                                                                   \
    }
BY_NAME(rename, (const char *from, const char *to), (from, to), to)
BY_NAME(renameat, (int from_fd, const char *from, int to_fd, const char *to), (from_fd, from, to_fd, to), to)
BY_NAME(renameat2, (int from_fd, const char *from, int to_fd, const char *to, unsigned flags),
        (from_fd, from, to_fd, to, flags), to)
BY_NAME(link, (const char *from, const char *to), (from, to), to)
BY_NAME(linkat, (int from_fd, const char *from, int to_fd, const char *to, int flags),
        (from_fd, from, to_fd, to, flags), to)
BY_NAME(symlink, (const char *from, const char *to), (from, to), to)
BY_NAME(unlink, (const char *path), (path), path)
BY_NAME(unlinkat, (int dirfd, const char *path, int flags), (dirfd, path, flags), path)
BY_NAME(rmdir, (const char *path), (path), path)
BY_NAME(mkdir, (const char *path, mode_t mode), (path, mode), path)
BY_NAME(mkdirat, (int dirfd, const char *path, mode_t mode), (dirfd, path, mode), path)
BY_NAME(chmod, (const char *path, mode_t mode), (path, mode), path)
BY_NAME(fchmodat, (int dirfd, const char *path, mode_t mode, int flags), (dirfd, path, mode, flags), path)
BY_NAME(chown, (const char *path, uid_t user, gid_t group), (path, user, group), path)
BY_NAME(truncate, (const char *path, off_t length), (path, length), path)

ssize_t copy_file_range(int from, off64_t *from_at, int to, off64_t *to_at, size_t n, unsigned flags)
{
    here_file("copy_file_range", to);
    return REAL(copy_file_range)(from, from_at, to, to_at, n, flags);
}

#define FICLONE_RANGE_REQUEST 0x4020940du
#define FICLONE_REQUEST 0x40049409u

int ioctl(int fd, unsigned long request, ...)
{
    va_list args;
    void *argument;

    va_start(args, request);
    argument = va_arg(args, void *);
    va_end(args);
    if (request == FICLONE_REQUEST || request == FICLONE_RANGE_REQUEST)
        here_file("ficlone", fd);
    return REAL(ioctl)(fd, request, argument);
}

/* --- the journal ------------------------------------------------------------------------------------- */

int sqlite3_exec(struct sqlite3 *db, const char *sql, int (*row)(void *, int, char **, char **), void *data,
                 char **message);
int sqlite3_exec(struct sqlite3 *db, const char *sql, int (*row)(void *, int, char **, char **), void *data,
                 char **message)
{
    int result;

    if (strncmp(sql, "BEGIN", 5) == 0 || strcmp(sql, "COMMIT") == 0)
        points_here("before", sql);
    result = REAL(sqlite3_exec)(db, sql, row, data, message);
    if (strcmp(sql, "COMMIT") == 0)
        points_here("after", sql);
    return result;
}

/* --- libvirt ----------------------------------------------------------------------------------------- */

#define DOMAIN_CALL(result, name, parameters, arguments)                                                               \
    result name parameters;                                                                                            \
    result name parameters                                                                                             \
    {                                                                                                                  \
        result answer;                                                                                                 \
        points_here("before", #name);                                                                                  \
        answer = REAL(name) arguments;                                                                                 \
        points_here("after", #name);                                                                                   \
        return answer;                                                                                                 \
    }
DOMAIN_CALL(void *, virDomainDefineXMLFlags, (void *connection, const char *xml, unsigned flags),
            (connection, xml, flags))
DOMAIN_CALL(int, virDomainCreate, (struct _virDomain * domain), (domain))
DOMAIN_CALL(int, virDomainCreateWithFlags, (struct _virDomain * domain, unsigned flags), (domain, flags))
DOMAIN_CALL(int, virDomainShutdownFlags, (struct _virDomain * domain, unsigned flags), (domain, flags))
DOMAIN_CALL(int, virDomainDestroy, (struct _virDomain * domain), (domain))
DOMAIN_CALL(int, virDomainDestroyFlags, (struct _virDomain * domain, unsigned flags), (domain, flags))
