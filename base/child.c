/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Why fork and not posix_spawn: limits, the death signal and a session of its own must be set between fork and exec. We are
 * a program of many threads, so the child may call only async-signal-safe functions there: everything that
 * allocates (the path, the environment, the descriptors) is ready before, and all signals are blocked across the fork.
 *
 * The end of a child is its exit, not the end of its output: what it left running in its group is killed then, before it
 * is reaped, while its process id cannot be anybody else's. PR_SET_PDEATHSIG follows the thread that forked: it is the one
 * that waits in here, so it outlives the child unless the whole process dies.
 */
#include "base/child.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEFAULT_TIMEOUT_MS 60000
#define ABORT_POLL_MS 200
#define DEFAULT_OUTPUT (1024 * 1024)
#define NOBODY 65534
#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* The writing ends and what it reads (null, or a text) are the child's, the reading ends ours. */
typedef struct {
    int null, out_read, out_write, err_read, err_write, fail_read, fail_write;
} Pipes;

typedef struct {
    const char *name; /* argv[0], for messages */
    pid_t pid;
    int pidfd;
    gint64 deadline_ms;
    const gint *aborted;
    gsize max_output;
    gboolean begin_only;
    gboolean too_much;
    Pipes pipes;
    GString *out, *err;
} Child;

void vr_child_result_clear(VrChildResult *result)
{
    g_clear_pointer(&result->out, g_free);
    g_clear_pointer(&result->err, g_free);
    *result = (VrChildResult){0};
}

/* ---- before the fork ---- */

static void pipes_clear(Pipes *pipes)
{
    int *all[] = {&pipes->null,      &pipes->out_read,  &pipes->out_write, &pipes->err_read,
                  &pipes->err_write, &pipes->fail_read, &pipes->fail_write};
    for (gsize i = 0; i < G_N_ELEMENTS(all); i++)
        vr_fd_clear(all[i]);
}

/* Above 2, so that dup2() onto 0..2 in the child overwrites none of them even when we run without stdin. */
static gboolean lift(int *fd)
{
    if (*fd > STDERR_FILENO)
        return TRUE;
    int higher = fcntl(*fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    vr_fd_clear(fd);
    *fd = higher;
    return higher >= 0;
}

static gboolean open_pipe(int *read_end, int *write_end)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return FALSE;
    *read_end = ends[0];
    *write_end = ends[1];
    return lift(read_end) && lift(write_end) && fcntl(*read_end, F_SETFL, O_NONBLOCK) == 0;
}

static gboolean pipes_open(Pipes *pipes, const char *input, GError **error)
{
    *pipes = (Pipes){-1, -1, -1, -1, -1, -1, -1};
    /* A file, so that neither side waits for the other. */
    pipes->null = input ? vr_fd_of_text(input) : open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (pipes->null >= 0 && lift(&pipes->null) && open_pipe(&pipes->out_read, &pipes->out_write) &&
        open_pipe(&pipes->err_read, &pipes->err_write) && open_pipe(&pipes->fail_read, &pipes->fail_write))
        return TRUE;
    vr_set_error_errno(error, errno, "cannot make a pipe");
    pipes_clear(pipes);
    return FALSE;
}

static char *find_program(const char *name, GError **error)
{
    char *path = strchr(name, '/') ? g_strdup(name) : g_find_program_in_path(name);
    if (!path) {
        g_set_error(error, VR_ERROR, VR_ERROR_CHILD, "cannot run %s: it is not installed (not found in PATH)", name);
        vr_error_next(error, "install it; 'virt-reimage doctor' shows what this host lacks");
    }
    return path;
}

static char **clean_environment(void)
{
    const char *path = g_getenv("PATH");
    char **environment = g_new0(char *, 3);
    environment[0] = g_strconcat("PATH=", path && *path ? path : DEFAULT_PATH, NULL);
    environment[1] = g_strdup("LANG=C");
    return environment;
}

/* ---- between fork and exec: async-signal-safe calls only ---- */

static void reset_signals(void)
{
    struct sigaction action = {.sa_handler = SIG_DFL};
    for (int sig = 1; sig < NSIG; sig++)
        (void)sigaction(sig, &action, NULL); /* SIGKILL and SIGSTOP refuse */
    sigset_t none;
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

static gboolean set_limit(int resource, rlim_t soft, rlim_t hard)
{
    struct rlimit limit = {soft, hard};
    return setrlimit(resource, &limit) == 0;
}

static gboolean set_limits(const VrChildLimits *limits)
{
    /* A core could hold a secret. A kernel.core_pattern with a pipe takes 0 for no limit, and 1 alone for none at all (core(5), "Piping core dumps to a
     * program"; fs/coredump.c); a file below a page is not written either. Who has a hard limit of 0, and may not raise it, keeps that. */
    if (!set_limit(RLIMIT_CORE, 1, 1) && !set_limit(RLIMIT_CORE, 0, 0))
        return FALSE;
    if (limits && limits->max_cpu_s && !set_limit(RLIMIT_CPU, limits->max_cpu_s, limits->max_cpu_s + 1))
        return FALSE;
    return !limits || !limits->max_memory || set_limit(RLIMIT_AS, limits->max_memory, limits->max_memory);
}

/* The raw calls: glibc's would signal the threads of a process that we are only a copy of. */
static gboolean drop_privileges(void)
{
    return syscall(SYS_setgroups, 0, NULL) == 0 && syscall(SYS_setresgid, NOBODY, NOBODY, NOBODY) == 0 &&
           syscall(SYS_setresuid, NOBODY, NOBODY, NOBODY) == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;
}

static gboolean set_up(const Pipes *pipes, const VrChildLimits *limits, pid_t parent)
{
    if (setsid() < 0 || (limits && limits->nobody && geteuid() == 0 && !drop_privileges()))
        return FALSE;
    /* After the change of user, which clears it. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
        return FALSE;
    if (getppid() != parent)
        _exit(127); /* it died before the line above */
    if (dup2(pipes->null, STDIN_FILENO) < 0 || dup2(pipes->out_write, STDOUT_FILENO) < 0 ||
        dup2(pipes->err_write, STDERR_FILENO) < 0)
        return FALSE;
    /* All of ours have CLOEXEC; this is for what a library opened without it. */
    (void)syscall(SYS_close_range, 3u, ~0u, CLOSE_RANGE_CLOEXEC);
    if (limits && limits->keep_fd > STDERR_FILENO && fcntl(limits->keep_fd, F_SETFD, 0) < 0)
        return FALSE;
    reset_signals();
    return set_limits(limits);
}

static G_NORETURN void become(const char *path, char *const *argv, char *const *environment, const Pipes *pipes,
                              const VrChildLimits *limits, pid_t parent)
{
    if (set_up(pipes, limits, parent))
        (void)execve(path, argv, environment);
    int failed = errno;
    (void)!write(pipes->fail_write, &failed, sizeof failed);
    _exit(127);
}

/* ---- after it ---- */

static pid_t start(const char *const *argv, const Pipes *pipes, const VrChildLimits *limits, GError **error)
{
    g_autofree char *path = find_program(argv[0], error);
    if (!path)
        return -1;
    g_auto(GStrv) environment = clean_environment();
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0)
        become(path, (char *const *)argv, environment, pipes, limits, parent);
    int failed = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (pid < 0)
        vr_set_error_errno(error, failed, "cannot start %s", argv[0]);
    return pid;
}

/* Takes what a pipe holds now. FALSE when more than max came. *fd is closed at its end. */
static gboolean take(int *fd, GString *into, gsize max)
{
    char buffer[16 * 1024];
    while (*fd >= 0) {
        ssize_t n = read(*fd, buffer, sizeof buffer);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return TRUE;
        if (n <= 0) {
            vr_fd_clear(fd);
            return TRUE;
        }
        gsize fits = MIN((gsize)n, max - into->len);
        g_string_append_len(into, buffer, (gssize)fits);
        if (fits < (gsize)n)
            return FALSE;
    }
    return TRUE;
}

static gboolean take_both(Child *child, GError **error)
{
    if (take(&child->pipes.out_read, child->out, child->max_output) &&
        take(&child->pipes.err_read, child->err, child->max_output))
        return TRUE;
    child->too_much = TRUE;
    if (child->begin_only)
        return FALSE;
    g_set_error(error, VR_ERROR, VR_ERROR_CHILD, "%s said more than %" G_GSIZE_FORMAT " bytes and was killed",
                child->name, child->max_output);
    return FALSE;
}

/* How long it may be waited for at once; 0 with an error: no more. */
static gint64 patience(const Child *child, GError **error)
{
    gint64 left = child->deadline_ms - vr_clock_now_ms();
    if (child->aborted && g_atomic_int_get(child->aborted)) {
        g_set_error(error, VR_ERROR, VR_ERROR_CANCELLED, "%s was called off and killed", child->name);
        return 0;
    }
    if (left <= 0)
        g_set_error(error, VR_ERROR, VR_ERROR_TIMEOUT, "%s did not end in time and was killed", child->name);
    return CLAMP(left, 0, child->aborted ? ABORT_POLL_MS : G_MAXINT);
}

/* Until the child has exited (it is not reaped yet), said too much, was called off, or the deadline. */
static gboolean watch(Child *child, GError **error)
{
    for (;;) {
        gint64 left = patience(child, error);
        if (left == 0)
            return FALSE;
        struct pollfd polls[] = {{child->pidfd, POLLIN, 0},
                                 {child->pipes.out_read, POLLIN, 0}, /* -1 is passed over */
                                 {child->pipes.err_read, POLLIN, 0}};
        if (poll(polls, G_N_ELEMENTS(polls), (int)left) < 0 && errno != EINTR) {
            vr_set_error_errno(error, errno, "cannot wait for %s", child->name);
            return FALSE;
        }
        if (!take_both(child, error))
            return FALSE;
        if (polls[0].revents)
            return TRUE;
    }
}

/* Kills what is left of the group and reaps; FALSE when there is no status to be had (SIGCHLD is ignored). */
static gboolean reap(Child *child, int *status, GError **error)
{
    (void)kill(-child->pid, SIGKILL);
    (void)kill(child->pid, SIGKILL); /* it may not have come to its setsid() yet */
    pid_t got;
    do {
        got = waitpid(child->pid, status, 0);
    } while (got < 0 && errno == EINTR);
    if (got == child->pid)
        return TRUE;
    vr_set_error_errno(error, errno, "cannot learn how %s ended", child->name);
    return FALSE;
}

static char *last_line(const GString *text)
{
    g_autofree char *copy = g_strchomp(g_strdup(text->str));
    const char *newline = strrchr(copy, '\n');
    return vr_printable(newline ? newline + 1 : copy, -1);
}

static gboolean judge(const Child *child, int status, gboolean any_status, GError **error)
{
    int failed = 0;
    if (read(child->pipes.fail_read, &failed, sizeof failed) == (ssize_t)sizeof failed) {
        g_set_error(error, VR_ERROR, VR_ERROR_CHILD, "cannot run %s", child->name);
        vr_error_cause(error, "%s", g_strerror(failed));
        return FALSE;
    }
    if (WIFSIGNALED(status)) {
        g_set_error(error, VR_ERROR, VR_ERROR_CHILD, "%s was killed by signal %d (%s)", child->name, WTERMSIG(status),
                    g_strsignal(WTERMSIG(status)));
        return FALSE;
    }
    if (any_status || WEXITSTATUS(status) == 0)
        return TRUE;
    g_autofree char *said = last_line(child->err);
    g_set_error(error, VR_ERROR, VR_ERROR_CHILD, "%s failed with status %d%s%s", child->name, WEXITSTATUS(status),
                *said ? ": " : "", said);
    return FALSE;
}

static gboolean has_begin(const Child *child)
{
    return child->begin_only && child->too_much;
}

/* From the running child to its status. */
static gboolean see_it_out(Child *child, int *status, GError **error)
{
    gboolean ok = FALSE;
    child->pidfd = (int)syscall(SYS_pidfd_open, child->pid, 0);
    if (child->pidfd < 0)
        vr_set_error_errno(error, errno, "cannot watch %s", child->name);
    else
        ok = watch(child, error);
    if (!reap(child, status, ok || has_begin(child) ? error : NULL))
        return FALSE;
    ok = ok && take_both(child, error); /* what came between the last look and the end */
    if (!has_begin(child))
        return ok;
    *status = 0;
    return TRUE;
}

gboolean vr_child_run(const char *const *argv, const VrChildLimits *limits, VrChildResult *result, GError **error)
{
    Child child = {.name = argv[0], .pidfd = -1};
    child.deadline_ms = vr_clock_now_ms() + (limits && limits->timeout_ms ? limits->timeout_ms : DEFAULT_TIMEOUT_MS);
    child.aborted = limits ? limits->aborted : NULL;
    child.begin_only = limits && limits->begin_only;
    child.max_output = limits && limits->max_output ? limits->max_output : DEFAULT_OUTPUT;
    if (result)
        *result = (VrChildResult){0};
    if (!pipes_open(&child.pipes, limits ? limits->input : NULL, error))
        return FALSE;
    child.pid = start(argv, &child.pipes, limits, error);
    vr_fd_clear(&child.pipes.out_write);
    vr_fd_clear(&child.pipes.err_write);
    vr_fd_clear(&child.pipes.fail_write);

    int status = 0;
    child.out = g_string_new(NULL);
    child.err = g_string_new(NULL);
    gboolean seen = child.pid > 0 && see_it_out(&child, &status, error);
    gboolean ok = seen && judge(&child, status, result != NULL, error);
    vr_fd_clear(&child.pidfd);
    pipes_clear(&child.pipes);
    if (result && seen && WIFSIGNALED(status))
        result->term_signal = WTERMSIG(status);
    if (result)
        result->too_much = child.too_much;
    if (ok && result)
        *result = (VrChildResult){WEXITSTATUS(status), NULL, NULL, child.out->len, child.err->len, 0, FALSE};
    char *out = g_string_free(child.out, !(ok && result));
    char *err = g_string_free(child.err, !(ok && result));
    if (ok && result) {
        result->out = out;
        result->err = err;
    }
    return ok;
}

/* ---- one that outlives us ---- */

static G_NORETURN void go(const char *path, char *const *argv, int null, int keep_fd)
{
    if (setsid() >= 0 && dup2(null, STDIN_FILENO) >= 0 && fcntl(keep_fd, F_SETFD, 0) == 0) {
        reset_signals();
        (void)execv(path, argv);
    }
    _exit(VR_CHILD_NOT_BEGUN);
}

gboolean vr_child_leave(const char *path, const char *const *argv, int keep_fd, GPid *pid, GError **error)
{
    vr_autofd null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    sigset_t all, before;
    sigfillset(&all);
    if (null < 0 || !lift(&null)) {
        vr_set_error_errno(error, errno, "cannot open /dev/null");
        return FALSE;
    }
    pthread_sigmask(SIG_SETMASK, &all, &before);
    *pid = fork();
    if (*pid == 0)
        go(path, (char *const *)argv, null, keep_fd);
    int failed = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (*pid < 0)
        vr_set_error_errno(error, failed, "cannot start %s", argv[0]);
    return *pid > 0;
}

/* ---- one that nobody waits for ---- */

/* The first child's only work is to end, so that the second has no parent that would have to wait for it. */
static G_NORETURN void go_alone(const char *path, char *const *argv, int null)
{
    pid_t pid = setsid() < 0 ? -1 : fork();

    if (pid != 0)
        _exit(pid < 0 ? VR_CHILD_NOT_BEGUN : 0);
    if (dup2(null, STDIN_FILENO) >= 0 && dup2(null, STDOUT_FILENO) >= 0 && dup2(null, STDERR_FILENO) >= 0 &&
        chdir("/") == 0) {
        (void)syscall(SYS_close_range, 3u, ~0u, CLOSE_RANGE_CLOEXEC);
        reset_signals();
        (void)execv(path, argv);
    }
    _exit(VR_CHILD_NOT_BEGUN);
}

gboolean vr_child_let_go(const char *path, const char *const *argv, GError **error)
{
    vr_autofd null = open("/dev/null", O_RDWR | O_CLOEXEC);
    sigset_t all, before;
    int status = 0;
    pid_t got;
    sigfillset(&all);
    if (null < 0 || !lift(&null)) {
        vr_set_error_errno(error, errno, "cannot open /dev/null");
        return FALSE;
    }
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pid_t pid = fork();
    if (pid == 0)
        go_alone(path, (char *const *)argv, null);
    int failed = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    do {
        got = pid < 0 ? pid : waitpid(pid, &status, 0);
    } while (got < 0 && pid > 0 && errno == EINTR);
    if (pid < 0)
        vr_set_error_errno(error, failed, "cannot start %s", argv[0]);
    else if (got == pid && status != 0)
        g_set_error(error, VR_ERROR, VR_ERROR_CHILD, "cannot start %s", argv[0]);
    else
        return TRUE;
    return FALSE;
}

/* ---- one that is somebody else's ---- */

/* Copies above all that dup2() will overwrite. FALSE with errno. */
static gboolean lift_given(const VrChildGiven *given, int fds[4])
{
    for (gsize i = 0; i < 4; i++)
        fds[i] = -1;
    for (gsize i = 0; i < 3; i++) {
        fds[i] = fcntl(given->fds[i], F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
        if (fds[i] < 0)
            return FALSE;
    }
    fds[3] = given->cwd < 0 ? open("/", O_PATH | O_DIRECTORY | O_CLOEXEC)
                            : fcntl(given->cwd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    return fds[3] >= 0 && lift(&fds[3]);
}

static G_NORETURN void go_with(const VrChildGiven *given, const int fds[4])
{
    if (setsid() >= 0 && dup2(fds[0], STDIN_FILENO) >= 0 && dup2(fds[1], STDOUT_FILENO) >= 0 &&
        dup2(fds[2], STDERR_FILENO) >= 0 && fchdir(fds[3]) == 0) {
        (void)syscall(SYS_close_range, 3u, ~0u, CLOSE_RANGE_CLOEXEC);
        reset_signals();
        (void)execve(given->path, (char *const *)given->argv, (char *const *)given->environment);
    }
    _exit(VR_CHILD_NOT_BEGUN);
}

gboolean vr_child_hand_over(const VrChildGiven *given, GPid *pid, GError **error)
{
    int fds[4], failed = 0;
    sigset_t all, before;

    *pid = -1;
    if (lift_given(given, fds)) {
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        *pid = fork();
        if (*pid == 0)
            go_with(given, fds);
        failed = errno;
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    } else {
        failed = errno;
    }
    for (gsize i = 0; i < 4; i++)
        vr_fd_clear(&fds[i]);
    if (*pid < 0)
        vr_set_error_errno(error, failed, "cannot start %s", given->argv[0]);
    return *pid > 0;
}

/* ---- one that has our terminal ---- */

static gboolean ended_well(const char *name, pid_t pid, GError **error)
{
    int status = 0;
    pid_t got;

    do {
        got = waitpid(pid, &status, 0);
    } while (got < 0 && errno == EINTR);
    if (got == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return TRUE;
    if (got != pid)
        vr_set_error_errno(error, errno, "cannot learn how %s ended", name);
    else if (WIFSIGNALED(status))
        g_set_error(error, VR_ERROR, VR_ERROR_CHILD, "%s was killed by signal %d (%s)", name, WTERMSIG(status),
                    g_strsignal(WTERMSIG(status)));
    else
        g_set_error(error, VR_ERROR, VR_ERROR_CHILD, "%s failed with status %d", name, WEXITSTATUS(status));
    return FALSE;
}

gboolean vr_child_attend(const char *const *argv, GError **error)
{
    g_autofree char *path = find_program(argv[0], error);
    sigset_t all, before;
    if (!path)
        return FALSE;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pid_t pid = fork();
    if (pid == 0) {
        reset_signals();
        (void)execv(path, (char *const *)argv);
        _exit(127);
    }
    int failed = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (pid < 0)
        vr_set_error_errno(error, failed, "cannot start %s", argv[0]);
    return pid > 0 && ended_well(argv[0], pid, error);
}
