/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The crash story. What was written and not yet drawn lies in the pipe, and goes with this process. So while there is an aside, the signals of a crash first give standard error
 * back and write what lies there to it: a failed assertion, a sanitizer, abort() and Ctrl-\ leave their last words on the terminal, and whoever handled the
 * signal before goes on from there. Two things are lost: what comes in the moment before a SIGKILL, or before an _exit(), is written nowhere, and a line that the
 * thread of the view has in hand when another one crashes may not be drawn any more.
 */
#include "orchestrator/live/aside.h"

#include "base/error.h"
#include "base/fd.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TEXT_MAX (64 * 1024) /* a line that is longer is cut there */

struct VrAside {
    int before; /* what standard error was */
    int pipe;
    GString *text; /* of which a line is not whole yet */
};

/* ---- a crash ---- */

static const int fatal[] = {SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGQUIT, SIGSEGV, SIGTRAP};

/* For the handler. Written where it is not in place. */
static struct {
    int before, pipe;
    struct sigaction actions[G_N_ELEMENTS(fatal)];
} crash = {.before = -1, .pipe = -1};

static gint crashing; /* atomic */

/* Whatever is no plain ASCII may move the cursor. */
static void write_plain(const char *bytes, gsize count)
{
    char plain[512];

    for (gsize i = 0; i < count; i++)
        plain[i] = (bytes[i] >= ' ' && bytes[i] <= '~') || bytes[i] == '\n' ? bytes[i] : '?';
    if (write(crash.before, plain, count) < 0)
        return; /* nobody is there to be told */
}

static void give_back(int number)
{
    for (gsize i = 0; i < G_N_ELEMENTS(fatal); i++)
        if (fatal[i] == number)
            (void)sigaction(number, &crash.actions[i], NULL);
}

/* Only what signal-safety(7) allows. What a wrong instruction raised is raised again by that instruction, with its address for a sanitizer; the rest by us. */
static void on_crash(int number, siginfo_t *info, void *context)
{
    char piece[512];
    ssize_t n;

    (void)context;
    g_atomic_int_set(&crashing, 1);
    (void)dup2(crash.before, STDERR_FILENO);
    while ((n = read(crash.pipe, piece, sizeof(piece))) > 0)
        write_plain(piece, (gsize)n);
    give_back(number);
    if (info->si_code <= 0 || number == SIGTRAP)
        (void)raise(number);
}

static void watch_crashes(const VrAside *aside)
{
    struct sigaction action = {.sa_sigaction = on_crash, .sa_flags = SA_SIGINFO | SA_ONSTACK};

    crash.before = aside->before;
    crash.pipe = aside->pipe;
    for (gsize i = 0; i < G_N_ELEMENTS(fatal); i++) {
        struct sigaction *old = &crash.actions[i];
        gboolean ignored =
            sigaction(fatal[i], NULL, old) == 0 && !(old->sa_flags & SA_SIGINFO) && old->sa_handler == SIG_IGN;
        if (!ignored)
            (void)sigaction(fatal[i], &action, NULL);
    }
}

static void leave_crashes(void)
{
    for (gsize i = 0; i < G_N_ELEMENTS(fatal); i++)
        (void)sigaction(fatal[i], &crash.actions[i], NULL);
}

gboolean vr_aside_is_crashing(void)
{
    return g_atomic_int_get(&crashing) != 0;
}

/* ---- begin and end ---- */

static gboolean is_same_terminal(int a, int b)
{
    struct stat x, y;

    return isatty(a) && isatty(b) && fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_rdev == y.st_rdev &&
           x.st_dev == y.st_dev;
}

VrAside *vr_aside_begin(int fd)
{
    int ends[2];
    VrAside *aside;

    if (!is_same_terminal(fd, STDERR_FILENO) || pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
        return NULL;
    aside = g_new0(VrAside, 1);
    aside->before = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    aside->pipe = ends[0];
    aside->text = g_string_new(NULL);
    fflush(stderr);
    if (aside->before < 0 || dup2(ends[1], STDERR_FILENO) < 0) {
        vr_fd_clear(&aside->before);
        vr_fd_clear(&ends[1]);
        vr_aside_end(aside);
        return NULL;
    }
    vr_fd_clear(&ends[1]);
    watch_crashes(aside);
    return aside;
}

int vr_aside_fd(const VrAside *aside)
{
    return aside ? aside->pipe : -1;
}

/* No more than fits: the rest stays in the pipe, and whoever writes does not wait for it. */
static void read_pipe(VrAside *aside)
{
    char piece[4096];
    ssize_t n;

    while (aside->text->len <= TEXT_MAX - sizeof(piece) && (n = read(aside->pipe, piece, sizeof(piece))) > 0)
        g_string_append_len(aside->text, piece, n);
}

/* A library may have written anything; an escape sequence would move the frame, and a NUL would end the text. */
static char *shown(const char *text, gsize length)
{
    g_autoptr(GString) all = g_string_new(NULL);

    for (const char *at = text, *end = text + length; at < end;) {
        const char *newline = memchr(at, '\n', (gsize)(end - at));
        gsize columns = (gsize)((newline ? newline : end) - at);
        g_autofree char *one = vr_printable(at, (gssize)columns);
        if (*one)
            g_string_append_printf(all, "%s\n", one);
        at += columns + (newline != NULL);
    }
    return all->len ? g_string_free(g_steal_pointer(&all), FALSE) : NULL;
}

/* How much of it are whole lines; all of it where nothing more would fit. */
static gsize whole_lines(const GString *text)
{
    const char *end = memrchr(text->str, '\n', text->len);

    if (end)
        return (gsize)(end - text->str) + 1;
    return text->len > TEXT_MAX - 4096 ? text->len : 0;
}

char *vr_aside_take(VrAside *aside)
{
    char *lines;
    gsize length;

    if (!aside)
        return NULL;
    read_pipe(aside);
    length = whole_lines(aside->text);
    lines = shown(aside->text->str, length);
    g_string_erase(aside->text, 0, (gssize)length);
    return lines;
}

static void say_the_rest(VrAside *aside)
{
    g_autofree char *rest = NULL;

    read_pipe(aside);
    rest = shown(aside->text->str, aside->text->len);
    if (rest)
        fputs(rest, stderr);
}

void vr_aside_end(VrAside *aside)
{
    if (!aside)
        return;
    if (aside->before >= 0) {
        fflush(stderr);
        leave_crashes();
        (void)dup2(aside->before, STDERR_FILENO);
        say_the_rest(aside);
    }
    vr_fd_clear(&aside->before);
    vr_fd_clear(&aside->pipe);
    g_string_free(aside->text, TRUE);
    g_free(aside);
}
