/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/live/watch.h"

#include "base/fd.h"
#include "orchestrator/live/aside.h"
#include "orchestrator/live/screen.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define MOVES_MS 250
#define RESTS_MS 1000

struct VrWatch {
    VrWatchOptions options;
    GThread *thread;
    int stop; /* eventfd */
};

typedef struct {
    const VrWatchOptions *options;
    VrScreen *screen;
    VrAside *aside;
    GPtrArray *lines; /* of the last frame */
    gboolean over, moves, gone;
} View;

static gboolean something_moves(const VrSnapshot *snapshot)
{
    for (guint i = 0; i < snapshot->guests->len; i++)
        if (vr_live_stage_in_flight(((const VrLiveGuest *)snapshot->guests->pdata[i])->stage))
            return TRUE;
    return FALSE;
}

/* Of a terminal that is gone nothing is read but what would fill the pipe. */
static void show(View *view)
{
    g_autoptr(VrSnapshot) snapshot = view->gone ? NULL : view->options->read(view->options->data);
    g_autofree char *above = vr_aside_take(view->aside);
    VrFrameFor frame = {.attached = view->options->attached};

    if (view->gone || vr_aside_is_crashing())
        return;
    vr_screen_look(view->screen, &frame.look);
    if (snapshot) {
        g_ptr_array_unref(view->lines);
        view->lines = vr_frame_lines(snapshot, &frame);
        view->over = snapshot->ended || !snapshot->has_process;
        view->moves = something_moves(snapshot);
    }
    view->gone = !vr_screen_draw(view->screen, view->lines, above);
}

/* FALSE: it was told to stop. */
static gboolean rest(const View *view, int stop)
{
    struct pollfd polls[] = {{stop, POLLIN, 0}, {vr_aside_fd(view->aside), POLLIN, 0}};
    int wait_ms = view->moves || vr_screen_is_behind(view->screen) ? MOVES_MS : RESTS_MS;

    (void)poll(polls, G_N_ELEMENTS(polls), view->gone ? -1 : wait_ms);
    return !(polls[0].revents & POLLIN) &&
           !(view->options->cancelled && g_atomic_int_get(view->options->cancelled) != 0);
}

static void begin(View *view, const VrWatchOptions *options)
{
    *view = (View){.options = options, .lines = g_ptr_array_new_with_free_func(g_free)};
    view->aside = vr_aside_begin(options->fd);
    view->screen = vr_screen_new(options->fd);
}

static void end(View *view)
{
    vr_screen_free(view->screen);
    vr_aside_end(view->aside);
    g_ptr_array_unref(view->lines);
}

void vr_watch(const VrWatchOptions *options)
{
    View view;

    begin(&view, options);
    do
        show(&view);
    while (!view.over && !view.gone && rest(&view, -1));
    end(&view);
}

/* Whether the run is over is known by who ends the thread. */
static gpointer watch_thread(gpointer data)
{
    VrWatch *watch = data;
    View view;

    begin(&view, &watch->options);
    do
        show(&view);
    while (rest(&view, watch->stop));
    show(&view);
    end(&view);
    return NULL;
}

VrWatch *vr_watch_begin(const VrWatchOptions *options)
{
    VrWatch *watch = g_new0(VrWatch, 1);

    watch->options = *options;
    watch->stop = eventfd(0, EFD_CLOEXEC);
    if (watch->stop >= 0)
        watch->thread = g_thread_try_new("live", watch_thread, watch, NULL);
    if (watch->thread)
        return watch;
    vr_fd_clear(&watch->stop);
    g_free(watch);
    return NULL;
}

void vr_watch_end(VrWatch *watch)
{
    const uint64_t one = 1;

    if (!watch)
        return;
    while (write(watch->stop, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
    g_thread_join(watch->thread);
    vr_fd_clear(&watch->stop);
    g_free(watch);
}
