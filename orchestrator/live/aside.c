/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/live/aside.h"

#include "base/error.h"
#include "base/fd.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct VrAside {
    int before; /* what standard error was */
    int pipe;
    GString *text; /* of which a line is not whole yet */
};

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
    return aside;
}

int vr_aside_fd(const VrAside *aside)
{
    return aside ? aside->pipe : -1;
}

static void read_pipe(VrAside *aside)
{
    char piece[4096];
    ssize_t n;

    while ((n = read(aside->pipe, piece, sizeof(piece))) > 0)
        g_string_append_len(aside->text, piece, n);
}

/* A library may have written anything; an escape sequence would move the frame. */
static char *shown(const char *text)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    g_autoptr(GString) all = g_string_new(NULL);

    for (char **line = lines; *line; line++) {
        g_autofree char *one = vr_printable(*line, -1);
        if (*one)
            g_string_append_printf(all, "%s\n", one);
    }
    return all->len ? g_string_free(g_steal_pointer(&all), FALSE) : NULL;
}

char *vr_aside_take(VrAside *aside)
{
    const char *end;
    g_autofree char *whole = NULL;

    if (!aside)
        return NULL;
    read_pipe(aside);
    end = strrchr(aside->text->str, '\n');
    if (!end)
        return NULL;
    whole = g_strndup(aside->text->str, (gsize)(end - aside->text->str));
    g_string_erase(aside->text, 0, end - aside->text->str + 1);
    return shown(whole);
}

void vr_aside_end(VrAside *aside)
{
    if (!aside)
        return;
    if (aside->before >= 0) {
        fflush(stderr);
        (void)dup2(aside->before, STDERR_FILENO);
        read_pipe(aside);
        fputs(aside->text->str, stderr);
    }
    vr_fd_clear(&aside->before);
    vr_fd_clear(&aside->pipe);
    g_string_free(aside->text, TRUE);
    g_free(aside);
}
