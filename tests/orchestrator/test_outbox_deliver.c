/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * J7: notices are handed to each channel in their order, at least once, and what fails waits and is given up in the end. The channels are real hooks; the
 * clock is ours. Journal and webhook have their tests in tests/cli/test_notices.py.
 */
#include "orchestrator/outbox_deliver.h"
#include "tests/orchestrator/outbox_world.h"

#include "base/durable.h"
#include "base/fd.h"
#include "base/lock.h"

#include <glib/gstdio.h>
#include <unistd.h>

#define TAKE                                                                                                           \
    "#!/bin/sh\ncat >> \"${0%/*}/../$(basename $0).log\" && echo \" $1 $2 $3\" >> \"${0%/*}/../$(basename $0).log\"\n"
#define FAIL "#!/bin/sh\necho x >> \"${0%/*}/../$(basename $0).log\"\necho 'disk of the pager is full' >&2\nexit 3\n"

typedef struct {
    World *world;
    VrConfig config;
} Stage;

static gint64 now_us; /* wall clock */

static gint64 wall_us(void *data)
{
    return now_us;
}

static gint64 real_ms(void *data)
{
    return g_get_monotonic_time() / 1000;
}

static int set_up(void **state)
{
    static const VrClockSource clock = {.now_ms = real_ms, .wall_us = wall_us};
    Stage *stage = g_new0(Stage, 1);

    now_us = g_get_real_time();
    stage->world = outbox_world();
    stage->config.hooks = g_build_filename(stage->world->top, "hooks.d", NULL);
    assert_int_equal(g_mkdir(stage->config.hooks, 0755), 0);
    vr_clock_set_source(&clock);
    *state = stage;
    return 0;
}

static int tear_down(void **state)
{
    Stage *stage = *state;

    vr_clock_set_source(NULL);
    g_autoptr(GDir) dir = g_dir_open(stage->config.hooks, 0, NULL);
    for (const char *name; dir && (name = g_dir_read_name(dir));) {
        g_autofree char *path = g_build_filename(stage->config.hooks, name, NULL);
        g_unlink(path);
    }
    g_rmdir(stage->config.hooks);
    world_free(stage->world);
    g_free(stage->config.hooks);
    g_free(stage);
    return 0;
}

static char *hook_path(Stage *stage, const char *name)
{
    return g_build_filename(stage->config.hooks, name, NULL);
}

static void add_hook(Stage *stage, const char *name, const char *script)
{
    g_autofree char *path = hook_path(stage, name);

    assert_true(g_file_set_contents(path, script, -1, NULL));
    assert_int_equal(g_chmod(path, 0755), 0);
}

/* What a hook got, or NULL. Free with g_free. */
static char *log_of(Stage *stage, const char *name)
{
    g_autofree char *file = g_strconcat(name, ".log", NULL);
    g_autofree char *path = g_build_filename(stage->world->top, file, NULL);
    char *text = NULL;

    return g_file_get_contents(path, &text, NULL, NULL) ? text : NULL;
}

static guint lines_of(Stage *stage, const char *name)
{
    g_autofree char *text = log_of(stage, name);
    guint lines = 0;

    for (const char *at = text; at && (at = strchr(at, '\n')); at++)
        lines++;
    return lines;
}

static void deliver(Stage *stage)
{
    g_autoptr(GError) error = NULL;
    gboolean ok = vr_outbox_deliver(db_of(stage->world), vr_store_root_fd(stage->world->store), &stage->config, &error);

    g_assert_no_error(error);
    assert_true(ok);
}

static gint64 next_of(Stage *stage)
{
    gint64 next_us = -1;

    assert_true(vr_outbox_next(db_of(stage->world), &stage->config, &next_us, NULL));
    return next_us;
}

static gint64 count(Stage *stage, VrDeliveryState state)
{
    g_autofree char *sql = g_strdup_printf("SELECT COUNT(*) FROM notice_deliveries WHERE state = %d", state);

    return number_of(stage->world, sql);
}

static char *error_of(Stage *stage, const char *channel)
{
    g_autoptr(GPtrArray) notices = list_notices(stage->world);

    for (guint i = notices->len; i > 0; i--) {
        const GPtrArray *deliveries = ((const VrOutboxNotice *)notices->pdata[i - 1])->deliveries;
        for (guint k = 0; k < deliveries->len; k++) {
            const VrDelivery *delivery = deliveries->pdata[k];
            if (g_str_equal(delivery->channel, channel) && delivery->error)
                return g_strdup(delivery->error);
        }
    }
    return NULL;
}

static void assert_error(Stage *stage, const char *channel, const char *words)
{
    g_autofree char *text = error_of(stage, channel);

    if (!text || !strstr(text, words))
        fail_msg("'%s' is not in: %s", words, text ? text : "(nothing)");
}

/* --- order and content ------------------------------------------------------------------------------- */

static void test_each_hook_gets_each_notice(void **state)
{
    Stage *stage = *state;

    add_hook(stage, "10-a", TAKE);
    add_hook(stage, "20-b", TAKE);
    whole_run(stage->world);
    assert_true(next_of(stage) == now_us);
    deliver(stage);
    g_autofree char *a = log_of(stage, "10-a"), *b = log_of(stage, "20-b");
    g_auto(GStrv) lines = g_strsplit(a, "\n", -1);
    g_autoptr(GPtrArray) notices = list_notices(stage->world);
    g_autoptr(json_t) first = NULL;

    assert_string_equal(a, b);
    assert_int_equal(g_strv_length(lines), 4);
    assert_true(g_str_has_suffix(lines[0], "} RequestSubmitted shop -"));
    assert_non_null(strstr(lines[1], "} RequestResult shop 2"));
    assert_non_null(strstr(lines[2], "} CompletionResult shop 2"));
    first = json_loads(lines[0], JSON_DISABLE_EOF_CHECK, NULL); /* as it stands in the outbox */
    assert_text(first, "id", ((const VrOutboxNotice *)notices->pdata[2])->id);
    assert_int_equal(count(stage, VR_DELIVERY_DONE), 6);
    assert_int_equal(next_of(stage), 0);
    deliver(stage);
    assert_int_equal(lines_of(stage, "10-a"), 3);
}

/* Each notice goes to all hooks before the next one goes to any. */
static void test_hooks_in_order(void **state)
{
    Stage *stage = *state;

    add_hook(stage, "20-b", "#!/bin/sh\nprintf b >> \"${0%/*}/../order.log\"\n");
    add_hook(stage, "10-a", "#!/bin/sh\nprintf a >> \"${0%/*}/../order.log\"\n");
    whole_run(stage->world);
    deliver(stage);
    g_autofree char *text = log_of(stage, "order");
    assert_string_equal(text, "ababab");
}

/* Nobody is there: nothing is lost, and who comes within a day hears of it. */
static void test_who_comes_later(void **state)
{
    Stage *stage = *state;

    whole_run(stage->world);
    assert_int_equal(next_of(stage), 0);
    deliver(stage);
    now_us += VR_DELIVERY_AGE_US - 3600 * (gint64)G_USEC_PER_SEC;
    add_hook(stage, "a", TAKE);
    deliver(stage);
    assert_int_equal(lines_of(stage, "a"), 3);
    add_hook(stage, "b", TAKE); /* what was planned before it came is not for it */
    whole_run(stage->world);
    deliver(stage);
    assert_int_equal(lines_of(stage, "b"), 3);
}

static void test_too_late(void **state)
{
    Stage *stage = *state;

    whole_run(stage->world);
    now_us += VR_DELIVERY_AGE_US + G_USEC_PER_SEC;
    add_hook(stage, "a", TAKE);
    deliver(stage);
    assert_int_equal(lines_of(stage, "a"), 0);
    assert_int_equal(next_of(stage), 0);
}

/* --- what fails -------------------------------------------------------------------------------------- */

/* It waits 5 s, 10, 20 ... 10 min, keeps its order, and keeps no other hook; after a day it is given up. */
static void test_retries(void **state)
{
    Stage *stage = *state;
    gint64 begin_us = now_us, expected_us = VR_DELIVERY_FIRST_US;
    guint attempts = 1;

    add_hook(stage, "10-fails", FAIL);
    add_hook(stage, "20-takes", TAKE);
    whole_run(stage->world);
    deliver(stage);
    assert_int_equal(lines_of(stage, "20-takes"), 3);
    assert_error(stage, "hook/10-fails", "status 3: disk of the pager is full");
    for (; now_us - begin_us < VR_DELIVERY_AGE_US - VR_DELIVERY_MOST_US; attempts++) {
        assert_int_equal(lines_of(stage, "10-fails"), attempts);
        assert_int_equal(next_of(stage) - now_us, expected_us);
        now_us += expected_us - 1;
        deliver(stage); /* too early */
        assert_int_equal(lines_of(stage, "10-fails"), attempts);
        now_us += 1;
        deliver(stage);
        expected_us = MIN(expected_us * 2, VR_DELIVERY_MOST_US);
    }
    assert_in_range(attempts, 140, 160);
    now_us = begin_us + VR_DELIVERY_AGE_US + VR_DELIVERY_MOST_US + 1; /* its turn has come */
    deliver(stage);
    assert_int_equal(lines_of(stage, "10-fails"), attempts); /* not once more */
    assert_int_equal(count(stage, VR_DELIVERY_GIVEN_UP), 3);
    assert_error(stage, "hook/10-fails", "not delivered within 24 h: ");
    assert_int_equal(next_of(stage), 0);
}

static void test_comes_good(void **state)
{
    Stage *stage = *state;

    add_hook(stage, "a", FAIL);
    whole_run(stage->world);
    deliver(stage);
    assert_int_equal(count(stage, VR_DELIVERY_WAITING), 3);
    add_hook(stage, "a", TAKE);
    now_us += VR_DELIVERY_FIRST_US;
    deliver(stage);
    assert_int_equal(count(stage, VR_DELIVERY_DONE), 3);
    g_autofree char *text = log_of(stage, "a");
    assert_non_null(strstr(text, "RequestSubmitted"));
    assert_int_equal(number_of(stage->world, "SELECT COUNT(*) FROM notice_channels"),
                     0); /* its next failure is its first */
}

/* Nobody waits for longer than ten minutes because a clock was set back. */
static void test_the_clock_goes_back(void **state)
{
    Stage *stage = *state;

    add_hook(stage, "a", FAIL);
    whole_run(stage->world);
    deliver(stage);
    now_us -= 7200 * (gint64)G_USEC_PER_SEC;
    assert_true(next_of(stage) == now_us);
    deliver(stage);
    assert_int_equal(lines_of(stage, "a"), 2);
    assert_true(next_of(stage) > now_us && next_of(stage) <= now_us + VR_DELIVERY_MOST_US);
}

static void test_at_most_a_thousand_wait(void **state)
{
    Stage *stage = *state;

    add_hook(stage, "a", FAIL);
    whole_run(stage->world);
    deliver(stage);
    run_sql(stage->world,
            "WITH RECURSIVE n(i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM n WHERE i < 1100) INSERT INTO notices "
            "(seq, id, kind, at_us, set_name, body) SELECT i, 'n' || i, 1, 9e15, 'shop', '{}' FROM n");
    deliver(stage);
    assert_int_equal(count(stage, VR_DELIVERY_WAITING), VR_OUTBOX_WAITING);
    assert_int_equal(count(stage, VR_DELIVERY_GIVEN_UP), 3 + 1091 - VR_OUTBOX_WAITING);
    assert_int_equal(number_of(stage->world, "SELECT MIN(seq) FROM notice_deliveries WHERE state = 0"),
                     1101 - VR_OUTBOX_WAITING);
}

/* --- hooks that do not fit --------------------------------------------------------------------------- */

static void test_hooks_of_others(void **state)
{
    Stage *stage = *state;
    g_autofree char *target = g_build_filename(stage->world->top, "elsewhere", NULL);
    g_autofree char *writable = hook_path(stage, "writable"), *foreign = hook_path(stage, "foreign");
    g_autofree char *link = hook_path(stage, "link"), *plain = hook_path(stage, "README");

    add_hook(stage, "writable", TAKE);
    assert_int_equal(g_chmod(writable, 0775), 0);
    add_hook(stage, "foreign", TAKE);
    if (geteuid() == 0)
        assert_int_equal(chown(foreign, 12345, 0), 0);
    assert_true(g_file_set_contents(target, TAKE, -1, NULL));
    assert_int_equal(g_chmod(target, 0755), 0);
    assert_int_equal(symlink(target, link), 0);
    add_hook(stage, "good", TAKE);
    add_hook(stage, "good~", TAKE);
    add_hook(stage, ".good", TAKE);
    add_hook(stage, "good.dpkg-old", TAKE);
    assert_true(g_file_set_contents(plain, "not a program\n", -1, NULL));
    whole_run(stage->world);
    deliver(stage);
    assert_int_equal(lines_of(stage, "good"), 3);
    assert_int_equal(lines_of(stage, "writable") + lines_of(stage, "link") + lines_of(stage, "elsewhere"), 0);
    assert_error(stage, "hook/writable", "can be written to by others and is not run; 'chmod go-w /");
    assert_error(stage, "hook/link", "is a link and is not followed");
    if (geteuid() == 0) {
        assert_int_equal(lines_of(stage, "foreign"), 0);
        assert_error(stage, "hook/foreign", "belongs to uid 12345");
    }
    assert_int_equal(number_of(stage->world, "SELECT COUNT(DISTINCT channel) FROM notice_deliveries"), 4);
}

static void test_directory_of_others(void **state)
{
    Stage *stage = *state;

    add_hook(stage, "a", TAKE);
    assert_int_equal(g_chmod(stage->config.hooks, 0777), 0);
    whole_run(stage->world);
    deliver(stage);
    assert_int_equal(lines_of(stage, "a"), 0);
    assert_error(stage, "hook/a", "hooks.d can be written to by others");
    assert_int_equal(g_chmod(stage->config.hooks, 0755), 0);
    now_us += VR_DELIVERY_FIRST_US;
    deliver(stage);
    assert_int_equal(lines_of(stage, "a"), 3);
}

/* --- one at a time ----------------------------------------------------------------------------------- */

static void test_one_at_a_time(void **state)
{
    Stage *stage = *state;
    vr_autofd locks = vr_mkdir_beneath(vr_store_root_fd(stage->world->store), "locks", 0700, NULL);
    g_autoptr(VrLock) lock = vr_lock_acquire(locks, ".notices", "another", NULL);

    add_hook(stage, "a", TAKE);
    whole_run(stage->world);
    deliver(stage);
    assert_int_equal(lines_of(stage, "a"), 0);
    g_clear_pointer(&lock, vr_lock_release);
    deliver(stage);
    assert_int_equal(lines_of(stage, "a"), 3);
}

/* It was taken, and who delivered it ended before that was written. */
static void test_at_least_once(void **state)
{
    Stage *stage = *state;

    add_hook(stage, "a", TAKE);
    whole_run(stage->world);
    deliver(stage);
    run_sql(stage->world, "UPDATE notice_deliveries SET state = 0 WHERE seq = 2");
    deliver(stage);
    g_autofree char *text = log_of(stage, "a");
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    assert_int_equal(lines_of(stage, "a"), 4);
    assert_string_equal(lines[3], lines[1]); /* with the same id */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_each_hook_gets_each_notice, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_hooks_in_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_who_comes_later, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_too_late, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_retries, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_comes_good, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_clock_goes_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_at_most_a_thousand_wait, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_hooks_of_others, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_directory_of_others, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_one_at_a_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_at_least_once, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
