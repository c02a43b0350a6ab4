/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/daemon/wakes.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"

#include <errno.h>
#include <glib-unix.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define SOON_MS 100
#define EVERY_S 600
#define FAR_US                                                                                                         \
    ((gint64)365 * 86400 * G_USEC_PER_SEC) /* where nothing is asked for the timer is there for jumps alone */
#define IMAGES_EVENTS (IN_CREATE | IN_MOVED_TO | IN_ATTRIB | IN_ONLYDIR)
#define IMAGE_EVENTS (IN_MOVED_TO | IN_ONLYDIR)
#define LOCKS_EVENTS (IN_CLOSE_WRITE | IN_ONLYDIR)
#define ROOT_EVENTS (IN_CREATE | IN_MOVED_TO | IN_ONLYDIR)

struct VrWakes {
    VrWakeFunc wake;
    void *data;
    char *root;
    char *test_clock; /* the name of the file of base/clock.h, as tests have it; NULL: none */
    int inotify, timer;
    int clock_watch, root_watch, above_watch; /* of inotify; -1: none */
    guint inotify_source, timer_source, every, soon;
    const char *why;
    gint64 at_us;
};

/* ---- the file system ---- */

static int watch(const VrWakes *wakes, const char *path, guint32 events)
{
    int number = inotify_add_watch(wakes->inotify, path, events); /* the same again: the same number */

    if (number < 0 && errno != ENOENT)
        vr_warning(NULL, "cannot watch %s: %s; it is looked at every %d minutes", path, g_strerror(errno),
                   EVERY_S / 60);
    return number;
}

static gboolean watch_child(const VrWakes *wakes, const char *name, guint32 events)
{
    g_autofree char *path = g_build_filename(wakes->root, name, NULL);

    return watch(wakes, path, events) >= 0;
}

static void watch_images(const VrWakes *wakes)
{
    g_autofree char *images = g_build_filename(wakes->root, "images", NULL);
    g_autoptr(GDir) dir = NULL;

    if (!watch_child(wakes, "images", IMAGES_EVENTS))
        return;
    dir = g_dir_open(images, 0, NULL);
    for (const char *name = dir ? g_dir_read_name(dir) : NULL; name; name = g_dir_read_name(dir)) {
        g_autofree char *path = g_build_filename(images, name, NULL);
        if (name[0] != '.' && g_file_test(path, G_FILE_TEST_IS_DIR) && !g_file_test(path, G_FILE_TEST_IS_SYMLINK))
            (void)watch(wakes, path, IMAGE_EVENTS);
    }
}

/* All that is there by now. Of a store that is not, the directory in which it will be made. */
static void watch_all(VrWakes *wakes)
{
    g_autofree char *above = g_path_get_dirname(wakes->root);

    wakes->root_watch = watch(wakes, wakes->root, ROOT_EVENTS);
    if (wakes->root_watch < 0) {
        wakes->above_watch = watch(wakes, above, ROOT_EVENTS);
        return;
    }
    if (wakes->above_watch >= 0)
        (void)inotify_rm_watch(wakes->inotify, wakes->above_watch);
    wakes->above_watch = -1;
    (void)watch_child(wakes, "locks", LOCKS_EVENTS);
    watch_images(wakes);
}

static gboolean on_soon(gpointer data)
{
    VrWakes *wakes = data;

    wakes->soon = 0;
    watch_all(wakes); /* before the look, so that nothing comes between the two */
    wakes->wake(wakes->why, wakes->data);
    return G_SOURCE_REMOVE;
}

void vr_wakes_now(VrWakes *wakes, const char *why)
{
    if (wakes->soon && wakes->why == why)
        return;
    vr_debug("to be looked at: %s", why);
    wakes->why = why;
    if (wakes->soon)
        return;
    wakes->soon = g_timeout_add(SOON_MS, on_soon, wakes);
}

/* What is being made begins with a dot until it is whole. In the root each look itself makes files of the database. */
static gboolean matters(const VrWakes *wakes, const struct inotify_event *event)
{
    const char *name = event->len > 0 ? event->name : "";
    g_autofree char *root = g_path_get_basename(wakes->root);

    if (event->mask & IN_Q_OVERFLOW) /* of no watch (-1): more has changed than the kernel could tell */
        return TRUE;
    if (event->wd == wakes->clock_watch)
        return g_str_equal(name, wakes->test_clock);
    if (event->wd == wakes->root_watch)
        return g_str_equal(name, "images") || g_str_equal(name, "locks");
    if (event->wd == wakes->above_watch)
        return g_str_equal(name, root);
    return !(event->mask & IN_IGNORED) && name[0] != '.';
}

static void rearm(VrWakes *wakes);

static gboolean on_inotify(int fd, GIOCondition condition, gpointer data)
{
    VrWakes *wakes = data;
    char buffer[8192] __attribute__((aligned(__alignof__(struct inotify_event))));
    ssize_t got = read(fd, buffer, sizeof(buffer));

    for (ssize_t at = 0; at < got;) {
        const struct inotify_event *event = (const struct inotify_event *)(const void *)(buffer + at);
        gboolean of_clock = event->wd >= 0 && event->wd == wakes->clock_watch;
        if (matters(wakes, event))
            vr_wakes_now(wakes, of_clock ? "the clock was set" : "the store has changed");
        if (of_clock)
            rearm(wakes);
        at += (ssize_t)(sizeof(*event) + event->len);
    }
    return G_SOURCE_CONTINUE;
}

/* ---- the clock ---- */

/* vr_clock_wall_us() may be moved by a test; the kernel's clock is not. */
static void rearm(VrWakes *wakes)
{
    gint64 moved_us = vr_clock_wall_us() - g_get_real_time();
    gint64 at_us = wakes->at_us != 0 ? wakes->at_us - moved_us : g_get_real_time() + FAR_US;
    struct itimerspec when = {
        .it_value = {.tv_sec = MAX(at_us, 1) / G_USEC_PER_SEC, .tv_nsec = MAX(at_us, 1) % G_USEC_PER_SEC * 1000}};

    if (timerfd_settime(wakes->timer, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &when, NULL) < 0)
        vr_warning(NULL, "cannot set a timer: %s", g_strerror(errno));
}

void vr_wakes_at(VrWakes *wakes, gint64 wall_us)
{
    wakes->at_us = wall_us;
    rearm(wakes);
}

static gboolean on_timer(int fd, GIOCondition condition, gpointer data)
{
    VrWakes *wakes = data;
    guint64 times;
    gboolean jumped = read(fd, &times, sizeof(times)) < 0 && errno == ECANCELED;

    if (!jumped)
        wakes->at_us = 0;
    rearm(wakes);
    vr_wakes_now(wakes, jumped ? "the clock was set" : "the time has come");
    return G_SOURCE_CONTINUE;
}

static gboolean on_every(gpointer data)
{
    vr_wakes_now(data, "it is looked at from time to time");
    return G_SOURCE_CONTINUE;
}

/* ---- its life ---- */

static void watch_test_clock(VrWakes *wakes)
{
    const char *file = g_getenv("VIRT_REIMAGE_TEST_CLOCK");
    g_autofree char *dir = file ? g_path_get_dirname(file) : NULL;

    if (!file)
        return;
    wakes->test_clock = g_path_get_basename(file);
    wakes->clock_watch = watch(wakes, dir, IN_MOVED_TO | IN_CLOSE_WRITE | IN_ONLYDIR);
}

VrWakes *vr_wakes_new(const char *root, VrWakeFunc wake, void *data)
{
    VrWakes *wakes = g_new0(VrWakes, 1);

    wakes->root = g_strdup(root);
    wakes->wake = wake;
    wakes->data = data;
    wakes->clock_watch = wakes->root_watch = wakes->above_watch = -1;
    wakes->inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    wakes->timer = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK | TFD_CLOEXEC);
    if (wakes->inotify < 0 || wakes->timer < 0)
        vr_warning(NULL, "cannot watch the store or the clock: %s", g_strerror(errno));
    if (wakes->inotify >= 0)
        wakes->inotify_source = g_unix_fd_add(wakes->inotify, G_IO_IN, on_inotify, wakes);
    if (wakes->timer >= 0)
        wakes->timer_source = g_unix_fd_add(wakes->timer, G_IO_IN, on_timer, wakes);
    wakes->every = g_timeout_add_seconds(EVERY_S, on_every, wakes);
    watch_test_clock(wakes);
    rearm(wakes);
    vr_wakes_now(wakes, "it has begun");
    return wakes;
}

void vr_wakes_free(VrWakes *wakes)
{
    if (!wakes)
        return;
    g_clear_handle_id(&wakes->inotify_source, g_source_remove);
    g_clear_handle_id(&wakes->timer_source, g_source_remove);
    g_clear_handle_id(&wakes->every, g_source_remove);
    g_clear_handle_id(&wakes->soon, g_source_remove);
    vr_fd_clear(&wakes->inotify);
    vr_fd_clear(&wakes->timer);
    g_free(wakes->root);
    g_free(wakes->test_clock);
    g_free(wakes);
}
