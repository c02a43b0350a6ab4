/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A run that began by itself, and the maintenance window of its model: the real engine, journal and systemd-analyze over the scripted hypervisor, by a wall clock that
 * the test sets. Rows H4, G11.
 */
#include "engine/support.h"

#include "base/clock.h"
#include "base/error.h"
#include "orchestrator/executor.h"
#include "orchestrator/run_state.h"
#include "orchestrator/shop.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#ifdef __SANITIZE_THREAD__
/* GLib is not instrumented: its slices go from thread to thread where the sanitizer does not see it. */
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
    return "called_from_lib:libglib-2.0.so\n";
}
#endif

static const char model_text[] = "schemaVersion: 1\nname: shop\nimageReference: {name: os}\n"
                                 "osDisk: {target: vda}\nstop: {method: acpi, timeout: PT1S, force: true}\n"
                                 "maintenanceWindow: {schedule: \"*-*-* 02:00 UTC\", duration: PT1H}\n"
                                 "instances:\n- {domain: fake}\n";

#define HELD "the maintenance window is shut: it opens at 2026-11-23T02:00:00.000Z"

/* ---- the clocks ---- */

static gint64 skipped_ms, wall_ahead_us; /* atomic */

static gint64 boot_now(void *data)
{
    struct timespec now;

    clock_gettime(CLOCK_BOOTTIME, &now);
    return (gint64)now.tv_sec * 1000 + now.tv_nsec / 1000000 + __atomic_load_n(&skipped_ms, __ATOMIC_SEQ_CST);
}

static gint64 wall_now(void *data)
{
    return boot_now(NULL) * 1000 + __atomic_load_n(&wall_ahead_us, __ATOMIC_SEQ_CST);
}

static void sleep_until(gint64 deadline_ms, void *data)
{
    while (boot_now(NULL) < deadline_ms)
        g_usleep(1000);
}

/* It is so late now by the wall. */
static void set_wall(const char *text)
{
    g_autoptr(GDateTime) moment = g_date_time_new_from_iso8601(text, NULL);

    __atomic_store_n(&wall_ahead_us, g_date_time_to_unix(moment) * G_USEC_PER_SEC - boot_now(NULL) * 1000,
                     __ATOMIC_SEQ_CST);
}

static int set_clocks(void **state)
{
    static const VrClockSource source = {boot_now, wall_now, sleep_until, NULL};

    vr_clock_set_source(&source);
    return 0;
}

/* ---- the stage ---- */

typedef struct {
    World *world;
    VrSet *set;
    VrRunTarget target;
    VrExecutor *executor;
    VrRun *run;
    gint holds; /* atomic: how often it has told what it waits for */
    gint64 begun_us;
    GError *error;
    gboolean ok;
} Stage;

static void told(const VrProgress *progress, void *data)
{
    Stage *stage = data;

    if (progress->kind == VR_PROGRESS_WAIT && progress->text != NULL)
        g_atomic_int_inc(&stage->holds);
    if (progress->kind == VR_PROGRESS_BATCH)
        stage->begun_us = progress->wall_us;
}

static Stage *stage_new(void)
{
    Stage *stage = g_new0(Stage, 1);

    stage->world = world_new(TRUE);
    stage->set = shop_define(stage->world, model_text);
    stage->set->model->health.timeout_ms = 300;
    return stage;
}

static void stage_free(Stage *stage)
{
    vr_run_free(stage->run);
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
                          .windowed = TRUE,
                          .progress = told,
                          .progress_data = stage};
}

static gpointer run_it(gpointer data)
{
    Stage *stage = data;

    stage->ok = vr_executor_run(stage->executor, &stage->run, &stage->error);
    return NULL;
}

static GThread *begin(Stage *stage, const VrRunRequest *request)
{
    g_atomic_int_set(&stage->holds, 0);
    g_clear_pointer(&stage->run, vr_run_free);
    stage->executor = vr_executor_new(&stage->world->engine, request);
    return g_thread_new("run", run_it, stage);
}

static void end(Stage *stage, GThread *thread)
{
    g_thread_join(thread);
    vr_executor_free(g_steal_pointer(&stage->executor));
}

static void wait_for_holds(Stage *stage, gint count)
{
    while (g_atomic_int_get(&stage->holds) < count)
        g_usleep(1000);
}

/* It wakes within ten seconds by itself. */
static void let_it_look(Stage *stage)
{
    __atomic_add_fetch(&skipped_ms, 10000, __ATOMIC_SEQ_CST);
    vr_executor_say(stage->executor, VR_EVENT_RESUME, 0); /* nothing but a message */
}

static void expect_untouched(Stage *stage)
{
    assert_int_equal(stage->world->fake->shutdowns, 0);
    assert_int_equal(fake_hv_state(stage->world->fake), VR_DOMAIN_RUNNING);
}

static guint audited(Stage *stage, const char *kind, const char *text)
{
    VrDb *db = vr_journal_db(stage->world->journal);
    guint count;

    assert_true(vr_db_begin_read(db, NULL));
    {
        g_autoptr(sqlite3_stmt) rows =
            vr_db_prepare(db, NULL, "SELECT count(*) FROM events WHERE kind = ? AND text = ?", "ss", kind, text);
        assert_int_equal(vr_db_step(db, rows, NULL), 1);
        count = (guint)sqlite3_column_int(rows, 0);
    }
    vr_db_rollback(db);
    return count;
}

static void read_state(Stage *stage, VrRunState *state)
{
    g_autofree char *text = vr_executor_state(stage->executor);

    assert_true(vr_run_state_read(state, text, NULL));
}

/* ---- the tests ---- */

/* It says what it waits for, and goes when the window opens, by itself. */
static void test_opens(void **state) /* H4 */
{
    g_autoptr(Stage) stage = stage_new();
    VrRunRequest request = request_of(stage);
    g_auto(VrRunState) where = {0};
    GThread *thread;

    set_wall("2026-11-23T01:59:57Z");
    thread = begin(stage, &request);
    wait_for_holds(stage, 1);
    expect_untouched(stage);
    read_state(stage, &where);
    assert_int_equal(where.point, VR_POINT_WINDOW);
    assert_int_equal(where.hold, VR_HOLD_WINDOW);
    assert_string_equal(where.hold_text, HELD);
    assert_true(ABS(where.hold_until_us - G_GINT64_CONSTANT(1795399200000000)) < 1000000);
    assert_true(where.windowed);
    assert_false(where.locked);
    end(stage, thread);
    assert_true(stage->ok);
    assert_true(stage->begun_us >= G_GINT64_CONSTANT(1795399200000000)); /* 02:00 */
    assert_int_equal(stage->run->status, VR_RUN_COMPLETED);
    assert_int_equal(audited(stage, "hold", HELD), 1); /* J6 */
    assert_int_equal(world_current(stage->world), 1);
    world_check(stage->world, TRUE);
}

/* A wall clock that jumps into the window opens it, and one that jumps out again shuts it. */
static void test_jumps(void **state)
{
    g_autoptr(Stage) stage = stage_new();
    VrRunRequest request = request_of(stage);
    GThread *thread;

    set_wall("2026-11-23T00:30:00Z");
    thread = begin(stage, &request);
    wait_for_holds(stage, 1);
    set_wall("2026-11-23T03:30:00Z"); /* over it */
    let_it_look(stage);
    wait_for_holds(stage, 2);
    expect_untouched(stage);
    set_wall("2026-11-23T01:30:00Z");
    let_it_look(stage);
    wait_for_holds(stage, 3);
    expect_untouched(stage);
    set_wall("2026-11-23T02:30:00Z");
    let_it_look(stage);
    end(stage, thread);
    assert_true(stage->ok);
    assert_int_equal(g_atomic_int_get(&stage->holds), 3);
    assert_int_equal(audited(stage, "hold", "the maintenance window is shut: it opens at 2026-11-24T02:00:00.000Z"), 1);
    assert_int_equal(world_current(stage->world), 1);
}

static void refused(Stage *stage, VrEventType event)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL;
    VrAnswer answer;

    assert_false(vr_executor_control(stage->executor, event, 0, "a test", &answer, &text, &error));
    assert_true(g_error_matches(error, VR_ERROR, VR_ERROR_CONFLICT));
    assert_non_null(strstr(error->message, "the run waits for its maintenance window, which no command opens: wait, or "
                                           "end it with 'cancel'"));
}

static void said(Stage *stage, VrEventType event, const char *expected)
{
    g_autofree char *text = NULL;
    VrAnswer answer;

    assert_true(vr_executor_control(stage->executor, event, 0, "a test", &answer, &text, NULL));
    if (strstr(text, expected) == NULL)
        fail_msg("\"%s\" is not in \"%s\"", expected, text);
}

/* What a person may say to it. */
static void test_persons(void **state) /* G11 */
{
    g_autoptr(Stage) stage = stage_new();
    VrRunRequest request = request_of(stage);
    GThread *thread;

    set_wall("2026-11-23T00:30:00Z");
    thread = begin(stage, &request);
    wait_for_holds(stage, 1);
    refused(stage, VR_EVENT_RESUME);
    refused(stage, VR_EVENT_PROMOTE);
    refused(stage, VR_EVENT_WALK);
    said(stage, VR_EVENT_PAUSE, "paused: 'resume' goes on");
    said(stage, VR_EVENT_RESUME, HELD);
    said(stage, VR_EVENT_CANCEL, "has ended: Cancelled");
    end(stage, thread);
    assert_true(g_error_matches(stage->error, VR_ERROR, VR_ERROR_CANCELLED));
    expect_untouched(stage);
}

/* A person's run has no window, and neither has one by itself where the model has none; a way back never has. */
static void test_without(void **state)
{
    for (guint i = 0; i < 3; i++) {
        g_autoptr(Stage) stage = stage_new();
        VrRunRequest request = request_of(stage);

        set_wall("2026-11-23T00:30:00Z");
        request.windowed = i > 0;
        if (i == 1)
            g_clear_pointer(&stage->set->model->window.schedule, g_free);
        if (i == 2) {
            VrRunRequest back = request;
            request.windowed = FALSE;
            end(stage, begin(stage, &request));
            assert_true(stage->ok);
            back.kind = VR_RUN_ROLLBACK;
            back.image = NULL;
            request = back;
        }
        end(stage, begin(stage, &request));
        assert_true(stage->ok);
        assert_int_equal(g_atomic_int_get(&stage->holds), 0);
        assert_int_equal(world_current(stage->world), i == 2 ? 0 : 1);
    }
}

/* Nobody can say: it is shut, and says so, until somebody can. */
static void test_nobody_says(void **state)
{
    g_autoptr(Stage) stage = stage_new();
    VrRunRequest request = request_of(stage);
    g_autofree char *path = g_strdup(g_getenv("PATH"));
    g_auto(VrRunState) where = {0};
    GThread *thread;

    set_wall("2026-11-23T02:30:00Z");
    g_free(stage->set->model->window.schedule);
    stage->set->model->window.schedule = g_strdup("*-*-* 02:00:00 UTC"); /* no test has asked for it */
    assert_true(g_setenv("PATH", "/nonexistent", TRUE));
    thread = begin(stage, &request);
    wait_for_holds(stage, 1);
    expect_untouched(stage);
    read_state(stage, &where);
    assert_non_null(strstr(where.hold_text, "nobody can say whether the maintenance window is open"));
    assert_non_null(strstr(where.hold_text, "cannot run systemd-analyze: it is not installed"));
    assert_int_equal(where.hold_until_us, 0);
    assert_true(g_setenv("PATH", path, TRUE));
    let_it_look(stage);
    end(stage, thread);
    assert_true(stage->ok);
    assert_int_equal(world_current(stage->world), 1);
}

/* B17: its process ends, and the next one waits for the same window. */
static void test_goes_on(void **state)
{
    g_autoptr(Stage) stage = stage_new();
    VrRunRequest request = request_of(stage), again = {0};
    VrDb *db = vr_journal_db(stage->world->journal);
    VrRun *open;
    GThread *thread;

    set_wall("2026-11-23T00:30:00Z");
    thread = begin(stage, &request);
    wait_for_holds(stage, 1);
    vr_executor_leave(stage->executor);
    end(stage, thread);
    assert_non_null(strstr(stage->error->message, "stays open"));
    g_clear_error(&stage->error);

    open = vr_history_open(db, "shop", NULL);
    stage->target = (VrRunTarget){0};
    assert_true(vr_executor_past(stage->set, open, &stage->target, &again, NULL));
    assert_true(again.windowed);
    request = request_of(stage);
    request.windowed = again.windowed;
    request.goes_on = open;
    thread = begin(stage, &request);
    wait_for_holds(stage, 1);
    expect_untouched(stage);
    set_wall("2026-11-23T02:00:01Z");
    let_it_look(stage);
    end(stage, thread);
    assert_true(stage->ok);
    assert_int_equal(world_current(stage->world), 1);
}

/* An older program knew no windows: what it left open is none of a window's. */
static void test_an_older_state(void **state)
{
    g_auto(VrRunState) old = {.windowed = FALSE};

    assert_true(vr_run_state_read(&old,
                                  "{\"automaticRollback\": true, \"walk\": false, \"point\": \"between\", "
                                  "\"holdUntil\": 0, \"pauseRequested\": false, \"locked\": false, "
                                  "\"rollbackAllowed\": true}",
                                  NULL));
    assert_false(old.windowed);
    assert_true(old.automatic_rollback);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_opens),          cmocka_unit_test(test_jumps),       cmocka_unit_test(test_persons),
        cmocka_unit_test(test_without),        cmocka_unit_test(test_nobody_says), cmocka_unit_test(test_goes_on),
        cmocka_unit_test(test_an_older_state),
    };
    return cmocka_run_group_tests(tests, set_clocks, NULL);
}
