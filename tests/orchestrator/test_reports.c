/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The two reports of the daemon, with a program in the place of virt-reimage that notes its words and ends as the test wants it to. */
#include "orchestrator/daemon/reports.h"

#include <glib/gstdio.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#define WAIT_MS 20000
#define QUIET_MS 700
#define METRICS "metrics --prometheus --output /somewhere/metrics.prom"
#define NOTICES "notices --deliver --wait"

/* $0.hold: what runs waits for as long as it is there. $0.fail: what is said, and the exit status is 1. */
static const char program_text[] = "#!/bin/sh\n"
                                   "echo \"$*\" >>$0.words\n"
                                   "while [ -e $0.hold ]; do sleep 0.05; done\n"
                                   "[ -e $0.fail ] || exit 0\n"
                                   "cat $0.fail >&2\n"
                                   "exit 1\n";

typedef struct {
    char *dir, *program, *socket;
    VrService *service;
    VrJobs *jobs;
    VrReports *reports;
    FILE *said; /* what goes to standard error */
    int stderr_fd;
} World;

static char *beside(const World *world, const char *what)
{
    return g_strconcat(world->program, ".", what, NULL);
}

static void put(const World *world, const char *what, const char *text)
{
    g_autofree char *path = beside(world, what);

    assert_true(g_file_set_contents(path, text, -1, NULL));
}

static void drop(const World *world, const char *what)
{
    g_autofree char *path = beside(world, what);

    (void)g_unlink(path);
}

static int set_up(void **state)
{
    World *world = g_new0(World, 1);

    world->dir = g_dir_make_tmp("reports-XXXXXX", NULL);
    world->program = g_build_filename(world->dir, "program", NULL);
    world->socket = g_build_filename(world->dir, "job.sock", NULL);
    assert_true(g_file_set_contents(world->program, program_text, -1, NULL));
    assert_int_equal(g_chmod(world->program, 0755), 0);
    put(world, "words", "");
    world->said = tmpfile();
    world->stderr_fd = dup(STDERR_FILENO);
    assert_true(dup2(fileno(world->said), STDERR_FILENO) >= 0);
    world->service = vr_service_new();
    world->jobs =
        vr_jobs_new(&(VrJobsConfig){.program = world->program, .socket = world->socket, .root = "/", .max_jobs = 1});
    *state = world;
    return 0;
}

static int tear_down(void **state)
{
    static const char *const files[] = {"words", "hold", "fail"};
    World *world = *state;

    vr_reports_free(world->reports);
    vr_jobs_free(world->jobs);
    vr_service_free(world->service);
    (void)dup2(world->stderr_fd, STDERR_FILENO);
    close(world->stderr_fd);
    fclose(world->said);
    for (guint i = 0; i < G_N_ELEMENTS(files); i++)
        drop(world, files[i]);
    (void)g_unlink(world->socket);
    (void)g_unlink(world->program);
    (void)g_rmdir(world->dir);
    g_free(world->socket);
    g_free(world->program);
    g_free(world->dir);
    g_free(world);
    return 0;
}

static void begin(World *world, const char *textfile, gboolean journal)
{
    const VrConfig config = {.textfile = (char *)textfile, .interval_ms = 1000, .journal = journal};

    world->reports = vr_reports_new(world->service, world->jobs, &config);
}

static guint count(const char *text, const char *what)
{
    guint n = 0;

    for (const char *at = strstr(text, what); at; at = strstr(at + 1, what))
        n++;
    return n;
}

/* How often a job with these words has begun. */
static guint begun(const World *world, const char *words)
{
    g_autofree char *path = beside(world, "words");
    g_autofree char *text = NULL;

    assert_true(g_file_get_contents(path, &text, NULL, NULL));
    return count(text, words);
}

/* How often that was said on standard error. */
static guint said(const World *world, const char *what)
{
    char text[4096] = "";

    fflush(stderr);
    assert_true(pread(fileno(world->said), text, sizeof(text) - 1, 0) >= 0);
    return count(text, what);
}

static gboolean on_tick(gpointer data)
{
    (*(guint *)data)++;
    return G_SOURCE_CONTINUE;
}

#define TICK_MS 20

/* FALSE: they have not begun so often, for as long. */
static gboolean begins(const World *world, const char *words, guint times, guint ms)
{
    guint ticks = 0, timer = g_timeout_add(TICK_MS, on_tick, &ticks);

    while (ticks < ms / TICK_MS && begun(world, words) < times)
        g_main_context_iteration(NULL, TRUE);
    g_source_remove(timer);
    return begun(world, words) >= times;
}

static void settle(const World *world)
{
    guint ticks = 0, timer = g_timeout_add(TICK_MS, on_tick, &ticks);

    while (ticks < WAIT_MS / TICK_MS && vr_jobs_running(world->jobs) > 0)
        g_main_context_iteration(NULL, TRUE);
    g_source_remove(timer);
    assert_int_equal(vr_jobs_running(world->jobs), 0);
}

/* J6: the file of metrics is written at once and then each interval, with the words that the command has. */
static void test_metrics(void **state)
{
    World *world = *state;

    begin(world, "/somewhere/metrics.prom", FALSE);
    assert_true(begins(world, METRICS "\n", 3, WAIT_MS));
    assert_int_equal(begun(world, "notices"), 0);
    vr_reports_wake(world->reports); /* is about notices */
    settle(world);
    assert_int_equal(begun(world, "notices"), 0);
}

/* J7: notices are delivered at once and whenever there may be some, and never by two at once: what comes meanwhile is one more time. */
static void test_notices(void **state)
{
    World *world = *state;

    put(world, "hold", "");
    begin(world, NULL, TRUE);
    assert_true(begins(world, NOTICES "\n", 1, WAIT_MS));
    for (guint i = 0; i < 5; i++)
        vr_reports_wake(world->reports);
    assert_false(begins(world, NOTICES, 2, QUIET_MS));
    drop(world, "hold");
    assert_true(begins(world, NOTICES, 2, WAIT_MS));
    assert_false(begins(world, NOTICES, 3, QUIET_MS));
    vr_reports_wake(world->reports);
    assert_true(begins(world, NOTICES, 3, WAIT_MS));
    assert_int_equal(begun(world, "metrics"), 0);
    settle(world);
}

/* J6: one that fails is said once, until it has worked again; that there is no store yet is nothing to say. */
static void test_failures(void **state)
{
    World *world = *state;

    put(world, "fail", "{\"error\":{\"code\":\"NotFound\",\"message\":\"no store\"}}\n");
    begin(world, "/somewhere/metrics.prom", FALSE);
    assert_true(begins(world, METRICS, 2, WAIT_MS));
    settle(world);
    assert_int_equal(said(world, "warning"), 0);
    for (guint i = 1; i <= 2; i++) {
        put(world, "fail", "{\"error\":{\"code\":\"NoSpace\",\"message\":\"the disk is full\"}}\n");
        assert_true(begins(world, METRICS, begun(world, METRICS) + 3, WAIT_MS));
        settle(world);
        assert_int_equal(said(world, "the file of metrics is not written (exit status 1): the disk is full"), i);
        drop(world, "fail");
        assert_true(begins(world, METRICS, begun(world, METRICS) + 2, WAIT_MS));
        settle(world);
    }
}

/* J6: ... nor is it said each time that the job cannot begin: nobody listens where it would. */
static void test_jobs_that_cannot_begin(void **state)
{
    World *world = *state;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    g_strlcpy(address.sun_path, world->socket, sizeof(address.sun_path));
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    close(fd);
    begin(world, "/somewhere/metrics.prom", FALSE);
    assert_false(begins(world, METRICS, 1, 2500)); /* two more times */
    assert_int_equal(said(world, "nobody listens"), 1);
    assert_int_equal(g_unlink(world->socket), 0);
    assert_true(begins(world, METRICS, 1, WAIT_MS));
    settle(world);
}

/* B17: a daemon that stops begins none. */
static void test_the_stop(void **state)
{
    World *world = *state;

    begin(world, "/somewhere/metrics.prom", TRUE);
    assert_true(begins(world, METRICS, 1, WAIT_MS) && begins(world, NOTICES, 1, WAIT_MS));
    settle(world);
    (void)vr_service_hold(world->service, 0, "the test");
    vr_service_stop(world->service);
    vr_reports_wake(world->reports);
    assert_false(begins(world, METRICS, 2, 2500));
    assert_int_equal(begun(world, NOTICES), 1);
}

/* Nothing was configured, so nothing runs. */
static void test_none(void **state)
{
    World *world = *state;

    begin(world, NULL, FALSE);
    vr_reports_wake(world->reports);
    assert_int_equal(vr_jobs_running(world->jobs), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_metrics, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_notices, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_failures, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_jobs_that_cannot_begin, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_stop, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_none, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
