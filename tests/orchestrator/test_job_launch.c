/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A job in a unit, of which this test plays the service manager's part: what the daemon knows of it however it goes. */
#include "orchestrator/daemon/job_launch.h"

#include "base/error.h"
#include "base/fd.h"
#include "orchestrator/fd_lines.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#define NOT_YET (-99)
#define WAIT_MS 20000
#define BEGIN_MS 300

typedef struct {
    char *dir, *path;
    int listening, unit; /* unit: our end of the connection */
    VrJobLaunch *launch;
    int exit_status;
} World;

static int set_up(void **state)
{
    World *world = g_new0(World, 1);
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    world->dir = g_dir_make_tmp("launch-XXXXXX", NULL);
    world->path = g_build_filename(world->dir, "job.sock", NULL);
    world->unit = -1;
    world->exit_status = NOT_YET;
    world->listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_strlcpy(address.sun_path, world->path, sizeof(address.sun_path));
    assert_int_equal(bind(world->listening, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(world->listening, 0), 0);
    *state = world;
    return 0;
}

static int tear_down(void **state)
{
    World *world = *state;

    vr_job_launch_free(world->launch);
    vr_fd_clear(&world->listening);
    vr_fd_clear(&world->unit);
    (void)g_unlink(world->path);
    (void)g_rmdir(world->dir);
    g_free(world->path);
    g_free(world->dir);
    g_free(world);
    return 0;
}

static void on_ended(int exit_status, void *data)
{
    ((World *)data)->exit_status = exit_status;
}

static VrJobLaunch *launch(World *world, GError **error)
{
    static const char *const argv[] = {"set-list", NULL}, *const env[] = {NULL};
    const VrJobLaunchRequest request = {.program = "/bin/false",
                                        .socket = world->path,
                                        .argv = argv,
                                        .env = env,
                                        .fds = {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO},
                                        .cwd = -1,
                                        .begin_ms = BEGIN_MS};

    return vr_job_launch(&request, on_ended, world, error);
}

/* The unit has its connection, and has read nothing. */
static void begin(World *world)
{
    world->launch = launch(world, NULL);
    assert_non_null(world->launch);
    world->unit = accept(world->listening, NULL, NULL);
    assert_true(world->unit >= 0);
}

static void say(const World *world, const char *text)
{
    assert_int_equal(write(world->unit, text, strlen(text)), (ssize_t)strlen(text));
}

static gboolean on_late(gpointer data)
{
    *(gboolean *)data = TRUE;
    return G_SOURCE_REMOVE;
}

static int wait_end(const World *world, guint ms)
{
    gboolean late = FALSE;
    guint timer = g_timeout_add(ms, on_late, &late);

    while (!late && world->exit_status == NOT_YET)
        g_main_context_iteration(NULL, TRUE);
    if (!late)
        g_source_remove(timer);
    return world->exit_status;
}

/* K5: it says that it begins, and how its job ends: in one piece, too. */
static void test_a_job(void **state)
{
    World *world = *state;

    begin(world);
    say(world, "{\"started\":true}\n{\"exit\":3}\n");
    assert_int_equal(wait_end(world, WAIT_MS), 3);
}

/* K5: one that has begun is waited for, for as long as it takes; when its unit is gone nobody knows. */
static void test_a_unit_that_dies(void **state)
{
    World *world = *state;

    begin(world);
    say(world, "{\"started\":true}\n");
    assert_int_equal(wait_end(world, 2 * BEGIN_MS), NOT_YET);
    vr_fd_clear(&world->unit);
    assert_int_equal(wait_end(world, WAIT_MS), VR_JOB_UNKNOWN);
}

/* K5: one that dies before it says so has begun nothing; a service manager with too many connections does that. */
static void test_a_unit_that_does_not_begin(void **state)
{
    World *world = *state;

    begin(world);
    vr_fd_clear(&world->unit);
    assert_int_equal(wait_end(world, WAIT_MS), VR_JOB_NOT_BEGUN);
}

/* K5: ... and one that hangs cannot begin any more afterwards. */
static void test_a_unit_that_hangs(void **state)
{
    World *world = *state;

    begin(world);
    assert_int_equal(wait_end(world, WAIT_MS), VR_JOB_NOT_BEGUN);
    assert_int_equal(send(world->unit, "{}\n", 3, MSG_NOSIGNAL), -1);
    assert_int_equal(errno, EPIPE);
}

/* K5: that nobody listens is said, with what to type; and so is a queue that is full. */
static void test_nobody_listens(void **state)
{
    World *world = *state;
    g_autoptr(GError) busy = NULL, error = NULL;
    VrJobLaunch *one = NULL, *waiting[8] = {NULL};
    guint n = 0;

    while (n < G_N_ELEMENTS(waiting) && (one = launch(world, &busy)))
        waiting[n++] = one;
    assert_true(g_error_matches(busy, VR_ERROR, VR_ERROR_BUSY));
    for (guint i = 0; i < n; i++)
        vr_job_launch_free(waiting[i]);
    vr_fd_clear(&world->listening);
    assert_null(launch(world, &error));
    assert_true(g_error_matches(error, VR_ERROR, VR_ERROR_DISCONNECTED));
    assert_non_null(strstr(error->message, "systemctl restart virt-reimage-job.socket"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_job, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_unit_that_dies, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_unit_that_does_not_begin, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_unit_that_hangs, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nobody_listens, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
