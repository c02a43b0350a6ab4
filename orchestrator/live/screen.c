/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The cursor stands in the line below the frame between two frames. From there it goes up by as many rows as the frame takes, and down line by line. After a resize the
 * terminal has wrapped the lines of the frame anew, so the rows that it takes now are counted, and all of it is drawn again; of a terminal that is
 * lower now, those that went out at its top cannot be reached any more, and it is drawn from there. After a stop (Ctrl-Z), and after a time
 * in the background, the shell has written below the frame: another one begins there.
 */
#include "orchestrator/live/screen.h"

#include "base/fd.h"
#include "orchestrator/live/term.h"

#include <errno.h>
#include <fcntl.h>
#include <langinfo.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define END_MS 1000
#define PENDING_MAX (1024 * 1024)
#define PIECE 256 /* a terminal that says it takes something takes so much; for one whose writes may block */
#define USUAL_WIDTH 80
#define USUAL_HEIGHT 24
#define WIDTH_MAX 500
#define SYNC_BEGIN "\033[?2026h"
#define SYNC_END "\033[?2026l"

struct VrScreen {
    int fd;           /* writes of it do not block, where the terminal could be opened again */
    int own_fd;       /* that one; -1: it could not */
    gboolean gone;    /* nobody will read any more */
    GPtrArray *drawn; /* char *: what stands there */
    guint width;      /* when that was drawn */
    guint height;
    GString *pending; /* what the terminal has not taken yet */
    gboolean away;    /* another process group had the terminal */
    int continued;    /* what it was when the frame was drawn */
};

/* How often this process went on after a stop. */
static volatile sig_atomic_t continued;

static void on_continue(int number)
{
    (void)number;
    continued = continued + 1;
}

/* ---- what the terminal understands ---- */

static gboolean is_known(int fd)
{
    const char *term = g_getenv("TERM");

    return isatty(fd) && term && *term && !g_str_equal(term, "dumb") && vr_term_set_up(fd);
}

/* In the background nothing is written: it would go into what a shell shows, and may stop this process (SIGTTOU). A job of the daemon
 * has its client's terminal, and no say in this. */
static gboolean is_foreground(int fd)
{
    pid_t group = tcgetpgrp(fd);

    return group < 0 || group == getpgrp();
}

gboolean vr_screen_can(int fd)
{
    return is_known(fd) && is_foreground(fd) && vr_term_has("cuu1") && vr_term_has("el") && vr_term_has("cr");
}

/* no-color.org: any value but an empty one. */
static gboolean may_colour(void)
{
    const char *no_colour = g_getenv("NO_COLOR");

    return !no_colour || !*no_colour;
}

gboolean vr_screen_has_colours(int fd)
{
    return may_colour() && is_known(fd) && vr_term_has("setaf") && vr_term_has("sgr0");
}

static void add_mark(GString *text, VrMark mark)
{
    static const struct {
        const char *capability;
        int colour; /* -1: none */
    } looks[VR_MARK_END_] = {
        [VR_MARK_PLAIN] = {"sgr0", -1}, [VR_MARK_BOLD] = {"bold", -1}, [VR_MARK_FAINT] = {"dim", -1},
        [VR_MARK_GOOD] = {NULL, 2},     [VR_MARK_BUSY] = {NULL, 6},    [VR_MARK_WARN] = {NULL, 3},
        [VR_MARK_BAD] = {"bold", 1},
    };

    if (looks[mark].capability)
        vr_term_add(text, looks[mark].capability);
    if (looks[mark].colour >= 0)
        vr_term_add_number(text, "setaf", looks[mark].colour);
}

static void add_line(GString *text, const char *line)
{
    for (const char *p = line; *p; p++) {
        if ((guchar)*p < VR_MARK_END_)
            add_mark(text, (VrMark)*p);
        else
            g_string_append_c(text, *p);
    }
}

/* ---- the terminal ---- */

VrScreen *vr_screen_new(int fd)
{
    const struct sigaction action = {.sa_handler = on_continue, .sa_flags = SA_RESTART};
    VrScreen *screen = g_new0(VrScreen, 1);
    g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", fd);

    /* The flags of fd are also those of the shell that gave it to us, so they are left alone. */
    screen->own_fd = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    screen->fd = screen->own_fd >= 0 ? screen->own_fd : fd;
    screen->drawn = g_ptr_array_new_with_free_func(g_free);
    screen->pending = g_string_new(NULL);
    sigaction(SIGCONT, &action, NULL);
    return screen;
}

static guint number_of(const char *name)
{
    const char *value = g_getenv(name);
    guint64 number;

    return value && g_ascii_string_to_unsigned(value, 10, 1, 10000, &number, NULL) ? (guint)number : 0;
}

void vr_screen_look(const VrScreen *screen, VrFrameLook *look)
{
    struct winsize size = {0};

    if (ioctl(screen->fd, TIOCGWINSZ, &size) < 0)
        size = (struct winsize){0};
    look->width = size.ws_col ? size.ws_col : number_of("COLUMNS");
    look->height = size.ws_row ? size.ws_row : number_of("LINES");
    look->width = MIN(look->width ? look->width : USUAL_WIDTH, WIDTH_MAX);
    look->height = look->height ? look->height : USUAL_HEIGHT;
    look->colours = may_colour();
    look->utf8 = g_strcmp0(nl_langinfo(CODESET), "UTF-8") == 0;
}

static gboolean can_write(const VrScreen *screen, int timeout_ms)
{
    struct pollfd one = {screen->fd, POLLOUT, 0};

    return poll(&one, 1, timeout_ms) > 0 && (one.revents & (POLLOUT | POLLERR | POLLHUP));
}

/* As much as it takes now. */
static void flush(VrScreen *screen)
{
    while (screen->pending->len > 0 && !screen->gone && is_foreground(screen->fd) && can_write(screen, 0)) {
        gsize most = screen->own_fd >= 0 ? screen->pending->len : MIN(screen->pending->len, PIECE);
        ssize_t n = write(screen->fd, screen->pending->str, most);
        if (n > 0)
            g_string_erase(screen->pending, 0, n);
        else if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return;
        else if (n < 0 && errno != EINTR)
            screen->gone = TRUE;
    }
}

gboolean vr_screen_is_behind(const VrScreen *screen)
{
    return screen->pending->len > 0;
}

static gboolean wait_until_taken(VrScreen *screen)
{
    gint64 until_us = g_get_monotonic_time() + END_MS * 1000;

    flush(screen);
    while (screen->pending->len > 0 && !screen->gone && is_foreground(screen->fd) && g_get_monotonic_time() < until_us)
        if (can_write(screen, 50))
            flush(screen);
    return screen->pending->len == 0;
}

void vr_screen_free(VrScreen *screen)
{
    if (!screen)
        return;
    if (screen->drawn->len > 0) { /* what a Ctrl-C has left in the line of the cursor goes */
        vr_term_add(screen->pending, "cr");
        vr_term_add(screen->pending, "el");
    }
    (void)wait_until_taken(screen);
    vr_fd_clear(&screen->own_fd);
    g_ptr_array_unref(screen->drawn);
    g_string_free(screen->pending, TRUE);
    g_free(screen);
}

/* ---- drawing ---- */

static guint rows_of(const char *line, guint width)
{
    guint columns = vr_line_columns(line);

    return columns <= width ? 1 : (columns + width - 1) / width;
}

/* How many rows what was drawn takes on a terminal that is so wide now. */
static guint rows_drawn(const VrScreen *screen, guint width)
{
    guint rows = 0;

    for (guint i = 0; i < screen->drawn->len; i++)
        rows += rows_of(screen->drawn->pdata[i], width);
    return rows;
}

static void go_up(GString *text, guint rows)
{
    vr_term_add(text, "cr");
    if (rows > 1 && vr_term_has("cuu"))
        vr_term_add_number(text, "cuu", (int)rows);
    else
        for (guint i = 0; i < rows; i++)
            vr_term_add(text, "cuu1");
}

/* From the first line of the frame on; what is not changed is passed over. */
static void write_lines(GString *text, const GPtrArray *lines, const GPtrArray *before, gboolean all)
{
    for (guint i = 0; i < lines->len; i++) {
        gboolean same = !all && i < before->len && g_str_equal(lines->pdata[i], before->pdata[i]);
        if (!same) {
            add_line(text, lines->pdata[i]);
            vr_term_add(text, "el");
        }
        g_string_append(text, "\r\n");
    }
}

static void clear_below(GString *text, const GPtrArray *lines, guint rows_before)
{
    if (vr_term_has("ed"))
        vr_term_add(text, "ed");
    else if (rows_before > lines->len)
        vr_term_add(text, "el");
}

static gboolean is_resized(const VrScreen *screen, const VrFrameLook *look)
{
    return screen->width != look->width || screen->height != look->height;
}

static gboolean is_same(const VrScreen *screen, const GPtrArray *lines, const VrFrameLook *look)
{
    gboolean same = !is_resized(screen, look) && screen->drawn->len == lines->len;

    for (guint i = 0; same && i < lines->len; i++)
        same = g_str_equal(screen->drawn->pdata[i], lines->pdata[i]);
    return same;
}

static void remember(VrScreen *screen, const GPtrArray *lines, const VrFrameLook *look)
{
    g_ptr_array_set_size(screen->drawn, 0);
    for (guint i = 0; i < lines->len; i++)
        g_ptr_array_add(screen->drawn, g_strdup(lines->pdata[i]));
    screen->width = look->width;
    screen->height = look->height;
}

/* Each of its lines ends where it ends: what stood there is cleared. */
static void write_above(GString *text, const char *above)
{
    for (const char *p = above; *p;) {
        gsize length = strcspn(p, "\n");
        g_string_append_len(text, p, (gssize)length);
        vr_term_add(text, "el");
        g_string_append(text, "\r\n");
        p += length + (p[length] == '\n');
    }
}

/* Lines above push the frame down, so all of it is drawn again. */
static void draw(VrScreen *screen, const GPtrArray *lines, const char *above, const VrFrameLook *look)
{
    gboolean resized = is_resized(screen, look);
    gboolean all = resized || (above && *above);
    guint rows = rows_drawn(screen, look->width);
    gboolean in_sync = vr_term_has_private_modes();
    GString *text = screen->pending;

    if (in_sync)
        g_string_append(text, SYNC_BEGIN);
    vr_term_add(text, "civis");
    go_up(text, rows);
    if (resized && rows > 0)
        vr_term_add(text, "ed");
    if (above)
        write_above(text, above);
    write_lines(text, lines, screen->drawn, all);
    clear_below(text, lines, rows);
    vr_term_add(text, "cnorm"); /* whatever ends or stops this process, the shell has its cursor */
    if (in_sync)
        g_string_append(text, SYNC_END);
    remember(screen, lines, look);
}

/* FALSE: the terminal is another's now. */
static gboolean see_whose_it_is(VrScreen *screen)
{
    gboolean ours = is_foreground(screen->fd);

    if (ours && (screen->away || screen->continued != continued))
        g_ptr_array_set_size(screen->drawn, 0);
    screen->away = !ours;
    screen->continued = continued;
    return ours;
}

gboolean vr_screen_draw(VrScreen *screen, const GPtrArray *lines, const char *above)
{
    VrFrameLook look;

    if (!see_whose_it_is(screen)) {
        if (above && screen->pending->len <= PENDING_MAX)
            write_above(screen->pending, above);
        return TRUE;
    }
    flush(screen);
    if (screen->gone)
        return FALSE;
    vr_screen_look(screen, &look);
    if (screen->pending->len > (above ? PENDING_MAX : 0))
        return TRUE;
    if (!is_same(screen, lines, &look) || (above && *above))
        draw(screen, lines, above, &look);
    flush(screen);
    return !screen->gone;
}
