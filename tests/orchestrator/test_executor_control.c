/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Persons who speak to a run from other threads and over its socket, and a run that goes on in a second executor: the real engine, journal
 * and server over the scripted hypervisor. Rows D20, F5, G2, G3, G11, B17.
 */
#include "engine/support.h"

#include "base/error.h"
#include "base/fd.h"
#include "orchestrator/control.h"
#include "orchestrator/run_state.h"
#include "orchestrator/shop.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#ifdef __SANITIZE_THREAD__
/* GLib is not instrumented: its slices go from thread to thread where the sanitizer does not see it. */
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
    return "called_from_lib:libglib-2.0.so\n";
}
#endif

static const char model_text[] =
    "schemaVersion: 1\nname: shop\nimageReference: {name: os}\nupgradePolicy: {approval: true}\n"
    "osDisk: {target: vda}\nstop: {method: acpi, timeout: PT1S, force: true}\ninstances:\n- {domain: fake}\n";

typedef struct {
    World *world;
    VrSet *set;
    VrRunTarget target;
    VrExecutor *executor;
    VrControlServer *server;
    int dir;
    gint holds; /* atomic: how often it has told that it waits */
    GError *error;
    gboolean ok;
} Stage;

/* It has a number and listens, and has not made its first step. */
static void not_ready(const Stage *stage)
{
    g_autoptr(GError) error = NULL;

    assert_null(vr_control_look(stage->dir, "shop", &error));
    assert_int_equal(error->code, VR_ERROR_DISCONNECTED);
    assert_non_null(strstr(error->message, "answers with status 503: NotReady: "));
}

static void told(const VrProgress *progress, void *data)
{
    Stage *stage = data;

    if (progress->kind == VR_PROGRESS_RUN) {
        stage->server = vr_control_server_new(stage->dir, progress->run, stage->executor, &stage->error);
        not_ready(stage);
    }
    if (progress->kind == VR_PROGRESS_WAIT)
        g_atomic_int_inc(&stage->holds);
}

static Stage *stage_new(void)
{
    Stage *stage = g_new0(Stage, 1);
    World *world = stage->world = world_new(TRUE);

    stage->set = shop_define(world, model_text);
    stage->set->model->health.timeout_ms = 300;
    stage->dir = open(world->hv_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(stage->dir >= 0);
    return stage;
}

static void stage_free(Stage *stage)
{
    vr_fd_clear(&stage->dir);
    vr_set_free(stage->set);
    world_free(stage->world);
    g_clear_error(&stage->error);
    g_free(stage);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Stage, stage_free)

static VrRunRequest request_of(Stage *stage)
{
    stage->target.chosen = TRUE;
    return (VrRunRequest){.kind = VR_RUN_UPGRADE,
                          .set = stage->set,
                          .image = stage->world->image,
                          .targets = &stage->target,
                          .automatic_rollback = TRUE,
                          .detached = TRUE,
                          .progress = told,
                          .progress_data = stage};
}

static gpointer run_it(gpointer data)
{
    Stage *stage = data;

    stage->ok = vr_executor_run(stage->executor, NULL, &stage->error);
    return NULL;
}

static GThread *begin(Stage *stage, const VrRunRequest *request)
{
    g_atomic_int_set(&stage->holds, 0);
    stage->executor = vr_executor_new(&stage->world->engine, request);
    return g_thread_new("run", run_it, stage);
}

static void end(Stage *stage, GThread *thread)
{
    g_thread_join(thread);
    vr_control_server_free(g_steal_pointer(&stage->server));
    vr_executor_free(g_steal_pointer(&stage->executor));
}

static void wait_for_hold(Stage *stage)
{
    while (g_atomic_int_get(&stage->holds) == 0)
        g_usleep(1000);
}

static void say(Stage *stage, VrEventType event, const char *expected)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL;

    assert_true(vr_control_say(stage->dir, "shop", event, 0, &text, &error));
    assert_non_null(strstr(text, expected));
}

static void refused(Stage *stage, VrEventType event, int code, const char *expected)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL;

    assert_false(vr_control_say(stage->dir, "shop", event, 0, &text, &error));
    assert_int_equal(error->code, code);
    assert_non_null(strstr(error->message, expected));
}

static void test_over_the_socket(void **state)
{
    g_autoptr(Stage) stage = stage_new();
    VrRunRequest request = request_of(stage);
    GThread *thread;
    g_auto(VrRunState) where = {0};
    g_autofree char *seen = NULL;

    refused(stage, VR_EVENT_PAUSE, VR_ERROR_DISCONNECTED, "no process listens");
    thread = begin(stage, &request);
    wait_for_hold(stage);
    seen = vr_control_look(stage->dir, "shop", NULL);
    assert_true(vr_run_state_read(&where, seen, NULL));
    assert_int_equal(where.point, VR_POINT_APPROVAL);
    assert_false(where.locked);
    assert_true(where.rollback_allowed);
    refused(stage, VR_EVENT_PROMOTE, VR_ERROR_CONFLICT, "does not wait for that");
    refused(stage, VR_EVENT_WALK, VR_ERROR_CONFLICT, "does not wait for 'walk'");
    say(stage, VR_EVENT_PAUSE, "paused: 'resume' goes on");
    say(stage, VR_EVENT_APPROVE, "paused");
    say(stage, VR_EVENT_RESUME, "of 1 left");
    end(stage, thread);
    assert_true(stage->ok);
    assert_int_equal(world_current(stage->world), 1);
    world_check(stage->world, TRUE);
    refused(stage, VR_EVENT_PAUSE, VR_ERROR_DISCONNECTED, "no process listens");
}

/* Many at once, and the run ends under them: each of them gets an answer. */
typedef struct {
    Stage *stage;
    gint *answered;
} Caller;

static gpointer call(gpointer data)
{
    const Caller *caller = data;
    static const VrEventType events[] = {VR_EVENT_PAUSE, VR_EVENT_RESUME, VR_EVENT_APPROVE, VR_EVENT_PROMOTE,
                                         VR_EVENT_CANCEL};

    for (guint i = 0; i < G_N_ELEMENTS(events); i++) {
        g_autofree char *text = NULL;
        g_autofree char *state = vr_executor_state(caller->stage->executor);
        VrAnswer answer;
        g_autoptr(GError) error = NULL;

        if (vr_executor_control(caller->stage->executor, events[i], 0, "a test", &answer, &text, &error)
                ? text != NULL
                : error != NULL)
            g_atomic_int_inc(caller->answered);
    }
    return NULL;
}

static void test_many_at_once(void **state)
{
    g_autoptr(Stage) stage = stage_new();
    VrRunRequest request = request_of(stage);
    GThread *thread = begin(stage, &request), *callers[8];
    gint answered = 0;
    Caller caller = {stage, &answered};

    wait_for_hold(stage);
    for (guint i = 0; i < G_N_ELEMENTS(callers); i++)
        callers[i] = g_thread_new("caller", call, &caller);
    for (guint i = 0; i < G_N_ELEMENTS(callers); i++)
        g_thread_join(callers[i]);
    end(stage, thread);
    assert_int_equal(answered, 40);
    assert_false(stage->ok);
    assert_true(g_error_matches(stage->error, VR_ERROR, VR_ERROR_CANCELLED));
    world_check(stage->world, TRUE);
}

/* G3, B17: its process leaves it, paused; a second one goes on, and it is still paused and approved. */
static void test_goes_on(void **state)
{
    g_autoptr(Stage) stage = stage_new();
    static const char *const passed[] = {"internal-snapshot", "image-firmware", NULL};
    VrRunRequest request = request_of(stage), again = {0};
    request.ignored = passed;
    GThread *thread = begin(stage, &request);
    VrDb *db = vr_journal_db(stage->world->journal);
    g_autoptr(VrRun) done = NULL;
    VrRun *open;

    wait_for_hold(stage);
    say(stage, VR_EVENT_PAUSE, "paused");
    say(stage, VR_EVENT_APPROVE, "paused");
    vr_executor_leave(stage->executor);
    end(stage, thread);
    assert_false(stage->ok);
    assert_non_null(strstr(stage->error->message, "stays open"));
    g_clear_error(&stage->error);
    assert_true(
        vr_history_close_open(stage->world->journal, stage->world->owner, VR_CODE_INTERNAL, "killed", NULL, NULL));
    open = vr_history_open(db, "shop", NULL);
    assert_non_null(open); /* it is not closed by those who recover */

    stage->target = (VrRunTarget){0};
    assert_true(vr_executor_past(stage->set, open, &stage->target, &again, NULL));
    assert_true(stage->target.chosen && again.detached && again.automatic_rollback);
    assert_true(g_strv_equal(again.ignored, passed));
    request = request_of(stage);
    request.goes_on = open;
    request.ignored = again.ignored;
    thread = begin(stage, &request);
    wait_for_hold(stage);
    say(stage, VR_EVENT_RESUME, "run ");
    end(stage, thread);
    assert_true(stage->ok);
    done = vr_history_last(db, "shop", NULL);
    assert_int_equal(done->status, VR_RUN_COMPLETED);
    assert_int_equal(world_current(stage->world), 1);
    world_check(stage->world, TRUE);
}

/* B17: one that nobody detached, and whose host goes down: it is open for the next process, and recovery does not close it. */
static void test_left_open(void **state)
{
    g_autoptr(Stage) stage = stage_new();
    VrRunRequest request = request_of(stage);
    VrDb *db = vr_journal_db(stage->world->journal);
    g_autoptr(VrRun) open = NULL;
    guint closed = 1;
    GThread *thread;

    request.detached = FALSE;
    thread = begin(stage, &request);
    wait_for_hold(stage);
    vr_executor_leave(stage->executor);
    end(stage, thread);
    assert_false(stage->ok);
    assert_non_null(strstr(stage->error->message, "stays open"));
    assert_true(
        vr_history_close_open(stage->world->journal, stage->world->owner, VR_CODE_INTERNAL, "killed", &closed, NULL));
    assert_int_equal(closed, 0);
    open = vr_history_open(db, "shop", NULL);
    assert_non_null(open);
    assert_true(open->detached);
}

static void run_sql(VrDb *db, const char *sql)
{
    assert_true(vr_db_begin(db, NULL));
    assert_true(vr_db_run(db, NULL, NULL, sql, ""));
    assert_true(vr_db_commit(db, NULL));
}

/* A state that could not be written is written with the next step, also where that changes nothing. */
static void test_state_is_written_again(void **state)
{
    g_autoptr(Stage) stage = stage_new();
    VrRunRequest request = request_of(stage);
    GThread *thread = begin(stage, &request);
    VrDb *db = vr_journal_db(stage->world->journal);
    g_autoptr(VrRun) open = NULL;
    g_auto(VrRunState) where = {0};

    wait_for_hold(stage);
    run_sql(db,
            "CREATE TEMP TRIGGER full BEFORE UPDATE OF state ON runs BEGIN SELECT RAISE(ABORT, 'no space left'); END");
    say(stage, VR_EVENT_PAUSE, "paused");
    run_sql(db, "DROP TRIGGER full");
    say(stage, VR_EVENT_PAUSE, "paused");
    open = vr_history_open(db, "shop", NULL);
    assert_true(vr_run_state_read(&where, open->state, NULL));
    assert_true(where.pause_requested);
    vr_executor_leave(stage->executor);
    end(stage, thread);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_over_the_socket),
        cmocka_unit_test(test_many_at_once),
        cmocka_unit_test(test_goes_on),
        cmocka_unit_test(test_left_open),
        cmocka_unit_test(test_state_is_written_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
