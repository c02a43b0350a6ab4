/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/daemon/wakes.h"

#include "base/fd.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define WAIT_MS 20000
#define QUIET_MS 500 /* more than the moment for which several reasons are gathered */

typedef struct {
    char *root, *images;
    VrWakes *wakes;
    guint woken;
} World;

static void on_wake(const char *why, void *data)
{
    World *world = data;

    world->woken++;
}

static gboolean on_late(gpointer data)
{
    *(gboolean *)data = TRUE;
    return G_SOURCE_REMOVE;
}

/* Runs the main loop until it was woken so often. FALSE: it was not, for as long. */
static gboolean runs_until(const World *world, guint times, guint ms)
{
    gboolean late = FALSE;
    guint timer = g_timeout_add(ms, on_late, &late);

    while (!late && world->woken < times)
        g_main_context_iteration(NULL, TRUE);
    if (!late)
        g_source_remove(timer);
    return world->woken >= times;
}

static int set_up(void **state)
{
    World *world = g_new0(World, 1);

    world->root = g_dir_make_tmp("wakes-XXXXXX", NULL);
    world->images = g_build_filename(world->root, "images", NULL);
    assert_int_equal(g_mkdir(world->images, 0700), 0);
    world->wakes = vr_wakes_new(world->root, on_wake, world);
    assert_true(runs_until(world, 1, WAIT_MS)); /* that it has begun */
    *state = world;
    return 0;
}

static int tear_down(void **state)
{
    World *world = *state;

    vr_wakes_free(world->wakes);
    (void)g_rmdir(world->images);
    (void)g_rmdir(world->root);
    g_free(world->images);
    g_free(world->root);
    g_free(world);
    return 0;
}

static void make(const World *world, const char *name)
{
    g_autofree char *path = g_build_filename(world->images, name, NULL);
    vr_autofd fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(unlink(path), 0);
}

/* H1: what appears among the images wakes; what is being made does not. */
static void test_names(void **state)
{
    World *world = *state;

    make(world, ".hidden");
    assert_false(runs_until(world, 2, QUIET_MS));
    make(world, "shown");
    assert_true(runs_until(world, 2, WAIT_MS));
}

static guint queue_length(void)
{
    g_autofree char *text = NULL;

    assert_true(g_file_get_contents("/proc/sys/fs/inotify/max_queued_events", &text, NULL, NULL));
    return (guint)strtoul(text, NULL, 10);
}

/* H1: more has happened than the kernel keeps, so that it tells of no watch at all: all is looked at. */
static void test_overflow(void **state)
{
    World *world = *state;

    for (guint i = 0; i <= queue_length(); i++) /* two names, as the same twice is one event */
        make(world, i % 2 ? ".one" : ".two");
    assert_true(runs_until(world, 2, WAIT_MS));
    make(world, "shown");
    assert_true(runs_until(world, 3, WAIT_MS)); /* and it goes on */
}

/* H1: a time that was asked for, and one that is over by then. */
static void test_times(void **state)
{
    World *world = *state;

    vr_wakes_at(world->wakes, g_get_real_time() + 200000);
    assert_true(runs_until(world, 2, WAIT_MS));
    vr_wakes_at(world->wakes, g_get_real_time() - G_USEC_PER_SEC);
    assert_true(runs_until(world, 3, WAIT_MS));
    assert_false(runs_until(world, 4, QUIET_MS)); /* once each */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_names, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_overflow, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_times, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
