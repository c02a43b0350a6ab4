/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * J7: the three notices are written with what they tell of, none is lost and none is there twice, wherever the process is killed: at each system call that
 * changes a file and at each BEGIN and COMMIT of a whole run, and again in the recovery after it.
 */
#include "base/log.h"
#include "fault/points.h"
#include "tests/orchestrator/outbox_world.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* --- what they say ----------------------------------------------------------------------------------- */

static void test_a_whole_run(void **state)
{
    g_autoptr(World) world = outbox_world();

    (void)vr_outbox_has_news();
    whole_run(world);
    assert_true(vr_outbox_has_news());
    assert_false(vr_outbox_has_news());
    g_autoptr(GPtrArray) notices = list_notices(world);
    assert_int_equal(notices->len, 3);
    g_autoptr(json_t) ended = body_of(notices, 0), begun = body_of(notices, 1), asked = body_of(notices, 2);
    assert_text(asked, "kind", "RequestSubmitted");
    assert_text(asked, "operation", "upgrade");
    assert_text(asked, "set", "shop");
    assert_text(asked, "userName", "ada");
    assert_text(asked, "startedBy", "User");
    assert_text(asked, "reason", "CVE");
    assert_text(json_object_get(asked, "request"), "version", "2.0.0");
    assert_text(begun, "kind", "RequestResult");
    assert_text(begun, "result", "Accepted");
    assert_text(ended, "kind", "CompletionResult");
    assert_text(ended, "status", "Completed");
    assert_int_equal(json_integer_value(json_object_get(json_object_get(ended, "progress"), "successfulInstanceCount")),
                     1);
    assert_text(json_object_get(ended, "targetImageReference"), "version", "2.0.0");
    assert_text(ended, "runId", ((const VrOutboxNotice *)notices->pdata[1])->run_id);
    assert_text(ended, "requestId", json_string_value(json_object_get(asked, "requestId")));
    assert_text(begun, "requestId", json_string_value(json_object_get(asked, "requestId")));
    assert_string_not_equal(json_string_value(json_object_get(begun, "id")),
                            json_string_value(json_object_get(ended, "id")));
}

static void test_refused(void **state)
{
    g_autoptr(World) world = outbox_world();
    g_autofree char *request = submit_request(world);
    g_autoptr(GError) refused = g_error_new(VR_ERROR, VR_ERROR_BUSY, "set 'shop': another\nrun owns it");
    g_autofree char *text = NULL;

    assert_true(vr_outbox_settle(db_of(world), request, refused, NULL));
    assert_true(vr_outbox_settle(db_of(world), request, NULL, NULL)); /* it is settled */
    g_autoptr(GPtrArray) notices = list_notices(world);
    assert_int_equal(notices->len, 2);
    g_autoptr(json_t) body = body_of(notices, 0);
    assert_text(body, "result", "Refused");
    assert_text(body, "operation", "upgrade");
    assert_text(json_object_get(body, "error"), "code", vr_error_name(VR_ERROR_BUSY));
    assert_text(json_object_get(body, "error"), "message", "set 'shop': another?run owns it");
    assert_true(json_is_null(json_object_get(body, "runId")));
    text = vr_outbox_text(notices->pdata[0]);
    assert_non_null(strstr(text, "set shop: upgrade was refused: set 'shop': another?run"));
}

static void test_nothing_to_do(void **state)
{
    g_autoptr(World) world = outbox_world();
    g_autofree char *request = submit_request(world);

    assert_true(vr_outbox_settle(db_of(world), request, NULL, NULL));
    g_autoptr(GPtrArray) notices = list_notices(world);
    g_autofree char *outcome = vr_outbox_outcome(notices->pdata[0]);
    assert_string_equal(outcome, "NothingToDo");
}

/* A word that was mistyped fills nothing. */
static void test_no_such_set(void **state)
{
    g_autoptr(World) world = outbox_world();
    const VrOutboxRequest request = {.set_name = "shoop", .operation = "upgrade", .user = "ada"};
    char *id = NULL;

    assert_true(vr_outbox_submit(db_of(world), &request, &id, NULL));
    assert_null(id);
    assert_int_equal(number_of(world, "SELECT COUNT(*) FROM notices"), 0);
}

/* A run that none was told of, such as one from before, tells of its end. */
static void test_without_a_request(void **state)
{
    g_autoptr(World) world = outbox_world();
    g_autoptr(VrRun) run = run_of_request(NULL);
    guint closed = 0;

    assert_true(vr_history_begin(world->journal, world->owner, run, NULL));
    assert_int_equal(number_of(world, "SELECT COUNT(*) FROM notices"), 0);
    assert_true(vr_history_close_open(world->journal, world->owner, "InternalExecutionError", "killed", &closed, NULL));
    assert_int_equal(closed, 1);
    g_autoptr(GPtrArray) notices = list_notices(world);
    assert_int_equal(notices->len, 1);
    g_autoptr(json_t) body = body_of(notices, 0);
    assert_text(body, "status", "Faulted");
    assert_true(json_is_null(json_object_get(body, "requestId")));
    assert_text(json_object_get(body, "error"), "code", "InternalExecutionError");
}

/* --- both or neither --------------------------------------------------------------------------------- */

static void test_no_end_without_its_notice(void **state)
{
    g_autoptr(World) world = outbox_world();
    g_autofree char *request = submit_request(world);
    g_autoptr(VrRun) run = run_of_request(request), other = run_of_request("x");

    assert_true(vr_history_begin(world->journal, world->owner, run, NULL));
    run_sql(world, "ALTER TABLE notices RENAME TO gone");
    run->status = VR_RUN_COMPLETED;
    run->completed_us = 5;
    assert_false(vr_history_end(world->journal, world->owner, run, NULL));
    assert_false(vr_history_close_open(world->journal, world->owner, "x", "y", NULL, NULL));
    assert_int_equal(number_of(world, "SELECT COUNT(*) FROM runs WHERE completed_us = 0"), 1);
    assert_false(vr_history_begin(world->journal, world->owner, other, NULL));
    assert_int_equal(number_of(world, "SELECT COUNT(*) FROM runs"), 1);
    run_sql(world, "ALTER TABLE gone RENAME TO notices");
}

/* Who lost the set tells nothing of a run that another has ended. */
static void test_no_second_end(void **state)
{
    g_autoptr(World) world = outbox_world();
    g_autofree char *request = submit_request(world);
    g_autoptr(VrRun) run = run_of_request(request);

    assert_true(vr_history_begin(world->journal, world->owner, run, NULL));
    assert_true(vr_history_close_open(world->journal, world->owner, "x", "y", NULL, NULL));
    run->status = VR_RUN_COMPLETED;
    run->completed_us = vr_clock_wall_us();
    world->owner->fence--;
    assert_false(vr_history_end(world->journal, world->owner, run, NULL));
    world->owner->fence++;
    assert_true(vr_history_end(world->journal, world->owner, run, NULL)); /* which no program does */
    assert_int_equal(number_of(world, "SELECT COUNT(*) FROM notices WHERE kind = 2"), 1);
    g_autoptr(GPtrArray) notices = list_notices(world);
    g_autofree char *outcome = vr_outbox_outcome(notices->pdata[0]);
    assert_string_equal(outcome, "Faulted");
}

/* --- the process of a request ------------------------------------------------------------------------ */

static void close_lost(World *world)
{
    assert_true(vr_db_begin(db_of(world), NULL));
    assert_true(vr_outbox_close_lost(db_of(world), NULL));
    assert_true(vr_db_commit(db_of(world), NULL));
}

static void test_lost_requests(void **state)
{
    g_autoptr(World) world = outbox_world();
    g_autofree char *alive = submit_request(world);
    int status;
    pid_t pid;

    world_close(world);
    pid = fork();
    if (pid == 0) {
        g_random_set_seed((guint32)getpid()); /* a new program begins with other numbers than we go on with */
        world_open(world);
        g_free(submit_request(world));
        raise(SIGKILL);
    }
    waitpid(pid, &status, 0);
    world_open(world);
    close_lost(world);
    close_lost(world);
    assert_int_equal(number_of(world, "SELECT COUNT(*) FROM notices WHERE kind = 1"), 1);
    g_autoptr(GPtrArray) notices = list_notices(world);
    g_autoptr(json_t) body = body_of(notices, 0);
    assert_text(body, "result", "Refused");
    assert_non_null(strstr(json_string_value(json_object_get(json_object_get(body, "error"), "message")), "process"));
    /* our own id in another life of the host is somebody else */
    run_sql(world, "UPDATE notices SET holder = 'x' || holder WHERE kind = 0");
    close_lost(world);
    assert_int_equal(number_of(world, "SELECT COUNT(*) FROM notices WHERE kind = 1"), 2);
}

/* --- kills ------------------------------------------------------------------------------------------- */

static PointsReport *report;

/* In a process of its own; TRUE: it was killed at that point. */
static gboolean killed_at(World *world, void (*act)(World *world), guint at)
{
    int status = 0;
    pid_t pid;

    world_close(world);
    pid = fork();
    if (pid == 0) {
        g_random_set_seed((guint32)getpid());
        world_open(world);
        points_arm(at, report);
        act(world);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    world_open(world);
    if (!WIFSIGNALED(status))
        assert_int_equal(WEXITSTATUS(status), 0);
    return WIFSIGNALED(status);
}

static void recover(World *world)
{
    assert_true(vr_history_close_open(world->journal, world->owner, "InternalExecutionError", "killed", NULL, NULL));
    close_lost(world);
}

/* As far as it came: what is true was told, and once; nothing was told that is not true. */
static void check_now(World *world)
{
    assert_int_equal(number_of(world, "SELECT COUNT(*) FROM runs WHERE completed_us > 0"),
                     number_of(world, "SELECT COUNT(*) FROM notices WHERE kind = 2"));
    assert_int_equal(number_of(world, "SELECT COUNT(*) FROM runs"),
                     number_of(world, "SELECT COUNT(*) FROM notices WHERE kind = 1 AND run_id IS NOT NULL"));
    assert_int_equal(number_of(world,
                               "SELECT COUNT(*) FROM notices WHERE kind = 2 AND run_id NOT IN (SELECT id FROM runs "
                               "WHERE completed_us > 0)"),
                     0);
    assert_int_equal(number_of(world, "SELECT COUNT(DISTINCT request_id) FROM notices WHERE kind = 1"),
                     number_of(world, "SELECT COUNT(*) FROM notices WHERE kind = 1"));
}

static void check_settled(World *world)
{
    gint64 asked = number_of(world, "SELECT COUNT(*) FROM notices WHERE kind = 0");

    check_now(world);
    assert_int_equal(asked, number_of(world, "SELECT COUNT(*) FROM notices WHERE kind = 1"));
    assert_int_equal(number_of(world, "SELECT COUNT(*) FROM runs WHERE completed_us = 0"), 0);
}

static void forget_all(World *world)
{
    run_sql(world, "DELETE FROM notices");
    run_sql(world, "DELETE FROM run_instances");
    run_sql(world, "DELETE FROM runs");
}

/* Killed at that point of a run and, but for 0, at this one of the recovery from it. FALSE: there is no such point. */
static gboolean cut(World *world, guint at, guint second)
{
    gboolean killed = killed_at(world, whole_run, at);

    check_now(world);
    if (killed && second > 0)
        killed = killed_at(world, recover, second);
    check_now(world);
    recover(world);
    check_settled(world);
    recover(world);
    check_settled(world);
    forget_all(world);
    return killed;
}

static void test_kill_in_a_run(void **state)
{
    g_autoptr(World) world = outbox_world();
    guint points = 0, pairs = 0, step = g_getenv("VR_FULL") ? 1 : 5;

    vr_log_set_level(VR_LOG_WARNING + 1); /* that a set is taken over, hundreds of times */
    report = mmap(NULL, sizeof *report, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    while (cut(world, points + 1, 0))
        points++;
    for (guint at = 1; at <= points; at += step)
        for (guint second = 1 + at / step % step; cut(world, at, second); second += step)
            pairs++;
    vr_log_set_level(VR_LOG_WARNING);
    print_message("%u kills in a run, and %u more in the recovery from one\n", points, pairs);
    assert_true(points > 20 && pairs > 20);
}

/* --- retention --------------------------------------------------------------------------------------- */

static gint64 shift_us;

static gint64 shifted_us(void *data)
{
    return g_get_real_time() + shift_us;
}

static gint64 real_ms(void *data)
{
    return g_get_monotonic_time() / 1000;
}

static void test_retention(void **state)
{
    g_autoptr(World) world = outbox_world();
    const VrClockSource clock = {.now_ms = real_ms, .wall_us = shifted_us};

    vr_clock_set_source(&clock);
    for (guint i = 0; i < 240; i++)
        whole_run(world);
    run_sql(world, "UPDATE notices SET planned = 1");
    run_sql(world, "INSERT INTO notice_deliveries (seq, channel, state) SELECT seq, 'webhook', seq > 3 FROM notices");
    whole_run(world);
    /* the newest 500, and what waits */
    assert_int_equal(number_of(world, "SELECT COUNT(*) FROM notices"), 503);
    assert_int_equal(number_of(world, "SELECT COUNT(*) FROM notices WHERE seq <= 3"), 3);
    assert_int_equal(number_of(world, "SELECT COUNT(*) FROM notice_deliveries"), 500);
    shift_us = VR_OUTBOX_KEPT_US + G_USEC_PER_SEC;
    whole_run(world);
    assert_int_equal(number_of(world, "SELECT COUNT(*) FROM notices"), 6);
    vr_clock_set_source(NULL);
    shift_us = 0;
}

/* Where nobody ever delivers, it grows no further than so. */
static void test_retention_of_what_nobody_is_told(void **state)
{
    g_autoptr(World) world = outbox_world();

    whole_run(world);
    run_sql(world,
            "WITH RECURSIVE n(i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) INSERT INTO notices "
            "(seq, id, kind, at_us, set_name, body) SELECT i, 'n' || i, 1, 9e15, 'shop', '{}' FROM n");
    whole_run(world);
    assert_int_equal(number_of(world, "SELECT COUNT(*) FROM notices"), VR_OUTBOX_WAITING);
    assert_int_equal(number_of(world, "SELECT MAX(seq) FROM notices"), 3003);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_whole_run),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_nothing_to_do),
        cmocka_unit_test(test_no_such_set),
        cmocka_unit_test(test_without_a_request),
        cmocka_unit_test(test_no_end_without_its_notice),
        cmocka_unit_test(test_no_second_end),
        cmocka_unit_test(test_lost_requests),
        cmocka_unit_test(test_kill_in_a_run),
        cmocka_unit_test(test_retention),
        cmocka_unit_test(test_retention_of_what_nobody_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
