/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* C3: what becomes of an extension when its agent, its guest, libvirt or our own process goes away in the middle. */
#include "orchestrator/extension_stage.h"

/* --- the agent, the guest, libvirt ------------------------------------------------------------------------ */

static Stage *moved;

static void once(void (*what)(Stage *stage), const char *command, const char *when)
{
    g_autofree char *begun = path_of(moved, "begun");

    if (!strstr(command, when) || !g_file_test(begun, G_FILE_TEST_EXISTS))
        return;
    moved->agent->before = NULL;
    what(moved);
}

static void fall_silent(Stage *stage)
{
    stage->agent->silent = 4;
}

static void silence_when_begun(const char *command, void *data)
{
    once(fall_silent, command, "guest-exec-status");
}

/* The agent is not asked about what it started any more, but found again in the guest. */
static void test_agent_falls_silent(void **state)
{
    g_autoptr(Stage) stage = moved = stage_new();
    g_autofree char *got = NULL;

    stage->agent->before = silence_when_begun;
    add(stage, "a", "echo x >>@/begun; sleep 2; echo done\n", "");
    load(stage);
    run_well(stage);
    got = read_file(stage, "begun");
    assert_string_equal(got, "x\n");
    assert_string_equal(result_of(stage, "a")->output, "done");
}

static void forget_all(Stage *stage)
{
    host_agent_forget(stage->agent);
}

static void forget_when_begun(const char *command, void *data)
{
    once(forget_all, command, "guest-exec-status");
}

static void test_agent_started_anew(void **state)
{
    g_autoptr(Stage) stage = moved = stage_new();
    g_autofree char *reason = NULL, *got = NULL;

    stage->agent->before = forget_when_begun;
    add(stage, "a", "echo x >>@/begun; sleep 1; echo done; exit 7\n", "");
    load(stage);
    reason = run(stage);
    got = read_file(stage, "begun");
    assert_string_equal(got, "x\n");
    expect(stage, "a", VR_EXTENSION_FAILED, "ended with status 7: done");
}

static void kill_with_agent(Stage *stage)
{
    GHashTableIter all;
    gpointer pid;

    g_hash_table_iter_init(&all, stage->agent->children);
    while (g_hash_table_iter_next(&all, &pid, NULL))
        kill(-GPOINTER_TO_INT(pid), SIGKILL);
    g_usleep(100000);
    host_agent_forget(stage->agent);
}

static void kill_when_begun(const char *command, void *data)
{
    once(kill_with_agent, command, "guest-exec-status");
}

static void test_killed_with_the_agent(void **state)
{
    g_autoptr(Stage) stage = moved = stage_new();
    g_autofree char *reason = NULL;

    stage->agent->before = kill_when_begun;
    add(stage, "a", "echo x >>@/begun; sleep 100\n", "");
    load(stage);
    reason = run(stage);
    expect(stage, "a", VR_EXTENSION_FAILED, "it was killed in the guest");
}

/* What lies in /run is gone, and so is what ran. */
static void restart_guest(Stage *stage)
{
    g_autofree char *command = g_strdup_printf("rm -rf '%s'", stage->dir);

    kill_with_agent(stage);
    g_assert_cmpint(g_spawn_command_line_sync(command, NULL, NULL, NULL, NULL), ==, TRUE);
    stage->agent->silent = 4;
}

static void restart_when_begun(const char *command, void *data)
{
    once(restart_guest, command, "guest-exec-status");
}

/* A reboot by an extension ends it; it is not begun a second time. */
static void test_guest_starts_anew(void **state)
{
    g_autoptr(Stage) stage = moved = stage_new();
    g_autofree char *reason = NULL, *got = NULL;

    stage->agent->before = restart_when_begun;
    add(stage, "a", "echo x >>@/begun; sleep 100\n", "");
    add(stage, "b", "true\n", "");
    load(stage);
    reason = run(stage);
    assert_string_equal(reason,
                        "extension a has no end: the guest started anew while it ran, which an extension must not do");
    got = read_file(stage, "begun");
    assert_string_equal(got, "x\n");
    expect(stage, "b", VR_EXTENSION_SUCCEEDED, "succeeded");
}

static void switch_off(Stage *stage)
{
    stage->agent->off = TRUE;
}

static void off_when_begun(const char *command, void *data)
{
    once(switch_off, command, "guest-exec-status");
}

static void test_guest_goes_off(void **state)
{
    g_autoptr(Stage) stage = moved = stage_new();
    g_autofree char *reason = NULL;
    gint64 begun_ms = vr_clock_now_ms();

    stage->agent->before = off_when_begun;
    add(stage, "a", "echo x >>@/begun; sleep 100\n", "");
    load(stage);
    reason = run(stage);
    expect(stage, "a", VR_EXTENSION_FAILED, "its guest went off");
    assert_true(vr_clock_now_ms() < begun_ms + 30000);
    stage->agent->off = FALSE;
}

/* The time of an extension goes on while the agent is silent, and ends it. */
static void test_agent_stays_silent(void **state)
{
    g_autoptr(Stage) stage = moved = stage_new();
    g_autofree char *reason = NULL;

    stage->agent->before = silence_when_begun;
    add(stage, "a", "echo x >>@/begun; sleep 100\n", "");
    load(stage);
    set_timeout(stage, 0, 3000);
    reason = run(stage);
    expect(stage, "a", VR_EXTENSION_TIMED_OUT, "did not end within 3.0 s");
}

static void lose_libvirt(Stage *stage)
{
    stage->agent->away_until = vr_clock_now_ms() + 3000;
}

static void lose_when_begun(const char *command, void *data)
{
    once(lose_libvirt, command, "guest-exec-status");
}

/* Loss of libvirt is not the guest's fault: 3 s of it do not end an extension that has 2. */
static void test_libvirt_is_away(void **state)
{
    g_autoptr(Stage) stage = moved = stage_new();

    stage->agent->before = lose_when_begun;
    add(stage, "a", "echo x >>@/begun; sleep 0.5; echo done\n", "");
    load(stage);
    set_timeout(stage, 0, 2000);
    run_well(stage);
    assert_string_equal(result_of(stage, "a")->output, "done");
}

static void lose_at_start(const char *command, void *data)
{
    Stage *stage = data;

    if (!strstr(command, "mkfifo"))
        return;
    stage->agent->before = NULL;
    stage->agent->silent = 1; /* the guest never hears of it */
}

/* A start that was not answered is not repeated before the guest has been looked at. */
static void test_a_start_that_is_lost(void **state)
{
    g_autoptr(Stage) stage = stage_new();
    g_autofree char *got = NULL;

    stage->agent->before = lose_at_start;
    stage->agent->data = stage;
    add(stage, "a", "echo x >>@/begun\n", "");
    load(stage);
    run_well(stage);
    got = read_file(stage, "begun");
    assert_string_equal(got, "x\n");
}

static void test_no_agent(void **state) /* E6 */
{
    g_autoptr(Stage) stage = stage_new();
    g_autofree char *reason = NULL;

    stage->agent->silent = 100000;
    stage->agent_wait_ms = 700;
    add(stage, "a", "true\n", "");
    add(stage, "b", "true\n", ", provisionAfterExtensions: [a]");
    load(stage);
    reason = run(stage);
    assert_non_null(strstr(reason, "extension a was not begun: the guest agent did not answer within "));
    expect(stage, "b", VR_EXTENSION_SKIPPED, "it comes after a");
    assert_int_equal(result_of(stage, "a")->started_us, 0);
    assert_int_equal(stage->spent_ms, 0);
}

/* Invariant 26: the system of the old disk is not given anything. */
static void test_old_boot(void **state)
{
    g_autoptr(Stage) stage = stage_new();
    g_autofree char *reason = NULL, *argv = NULL;

    stage->agent->boot_id = OLD_BOOT;
    stage->agent_wait_ms = 700;
    add(stage, "a", "true\n", "");
    load(stage);
    reason = run(stage);
    assert_non_null(strstr(reason, "it answers from the boot before the swap"));
    argv = host_agent_argv(stage->agent);
    assert_null(strstr(argv, "guest-exec"));
}

static void abort_when_begun(const char *command, void *data)
{
    g_autofree char *begun = path_of(moved, "begun");

    if (g_file_test(begun, G_FILE_TEST_EXISTS))
        g_atomic_int_set(&moved->aborted, 1);
}

static void test_aborted(void **state)
{
    g_autoptr(Stage) stage = moved = stage_new();
    g_autofree char *reason = NULL;

    stage->agent->before = abort_when_begun;
    add(stage, "a", "echo x >>@/begun; sleep 100\n", "");
    add(stage, "b", "true\n", "");
    load(stage);
    reason = run(stage);
    assert_string_equal(reason, "the wait was ended");
    assert_int_equal(stage->results->len, 1);
}

/* --- after a process that ended ---------------------------------------------------------------------------- */

/* What another process of ours had begun: as run_one() does it, and then nobody waits. */
static void begin_elsewhere(Stage *stage, const char *text)
{
    VrExtensionGuest guest = {.hv = &stage->agent->hv, .uuid = "u", .dir = VR_EXTENSION_DIR "/g3-a"};
    g_auto(GStrv) parts = g_strsplit(text, "@", -1);
    g_autofree char *here = g_strjoinv(stage->top, parts);
    const char *const argv[] = {"/bin/sh", "-c", here, NULL}, *const environment[] = {NULL};
    gint64 until_ms = vr_clock_now_ms() + 10000, pid;

    assert_true(vr_extension_guest_prepare(&guest, until_ms, NULL));
    assert_true(vr_extension_guest_start(&guest, argv, environment, NULL, 0, until_ms, &pid, NULL));
    wait_for_file(stage, "begun");
    host_agent_forget(stage->agent);
}

static GPtrArray *known_as(VrExtensionStatus status)
{
    GPtrArray *known = g_ptr_array_new_with_free_func((GDestroyNotify)vr_extension_result_free);
    VrExtensionResult *result = g_new0(VrExtensionResult, 1);

    result->name = g_strdup("a");
    result->text = g_strdup("ended with status 1");
    result->status = status;
    result->started_us = 12345;
    g_ptr_array_add(known, result);
    return known;
}

static void test_goes_on_with_what_runs(void **state) /* C3 */
{
    static const struct {
        const char *there;
        VrExtensionStatus known, expected;
        const char *begun, *text;
    } rows[] = {
        {"echo x >>@/begun; sleep 1; echo said", VR_EXTENSION_TRANSITIONING, VR_EXTENSION_SUCCEEDED, "x\n",
         "succeeded"},
        {"echo x >>@/begun; echo said; exit 4", VR_EXTENSION_TRANSITIONING, VR_EXTENSION_FAILED, "x\n",
         "ended with status 4: said"},
        {NULL, VR_EXTENSION_TRANSITIONING, VR_EXTENSION_SUCCEEDED, "again\n", "succeeded"},
    };

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(Stage) stage = stage_new();
        g_autoptr(GPtrArray) known = known_as(rows[i].known);
        g_autofree char *reason = NULL, *begun = NULL;

        add(stage, "a", "echo again >>@/begun\n", "");
        load(stage);
        if (rows[i].there)
            begin_elsewhere(stage, rows[i].there);
        stage->known = known;
        reason = run(stage);
        expect(stage, "a", rows[i].expected, rows[i].text);
        begun = read_file(stage, "begun");
        assert_string_equal(begun, rows[i].begun);
        assert_int_equal(result_of(stage, "a")->started_us, 12345);
    }
}

static void test_what_has_ended_is_not_run_again(void **state) /* C3 */
{
    static const VrExtensionStatus ends[] = {VR_EXTENSION_SUCCEEDED, VR_EXTENSION_FAILED, VR_EXTENSION_TIMED_OUT,
                                             VR_EXTENSION_SKIPPED};

    for (guint i = 0; i < G_N_ELEMENTS(ends); i++) {
        g_autoptr(Stage) stage = stage_new();
        g_autoptr(GPtrArray) known = known_as(ends[i]);
        g_autofree char *reason = NULL;

        add(stage, "a", "echo again >>@/begun\n", "");
        load(stage);
        stage->known = known;
        reason = run(stage);
        assert_int_equal(reason == NULL, ends[i] == VR_EXTENSION_SUCCEEDED);
        assert_int_equal(stage->agent->asked->len, 0); /* there is nothing to ask the guest */
    }
}

/* What another extension of the guest is in the middle of is ended before it is begun anew, so that it never runs twice at once. */
static void test_prepare_ends_what_runs(void **state)
{
    g_autoptr(Stage) stage = stage_new();
    VrExtensionGuest guest = {.hv = &stage->agent->hv, .uuid = "u", .dir = VR_EXTENSION_DIR "/g3-a"};
    g_auto(VrExtensionSight) sight = {0};
    gint64 until_ms = vr_clock_now_ms() + 10000;

    begin_elsewhere(stage, "echo $$ >@/begun; sleep 100");
    assert_true(vr_extension_guest_look(&guest, until_ms, &sight, NULL));
    assert_int_equal(sight.found, VR_FOUND_RUNNING);
    assert_true(is_alive(stage, "begun"));
    assert_true(vr_extension_guest_prepare(&guest, until_ms, NULL));
    assert_false(is_alive(stage, "begun"));
    assert_true(vr_extension_guest_look(&guest, until_ms, &sight, NULL));
    assert_int_equal(sight.found, VR_FOUND_NOTHING);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_agent_falls_silent),
        cmocka_unit_test(test_agent_started_anew),
        cmocka_unit_test(test_killed_with_the_agent),
        cmocka_unit_test(test_guest_starts_anew),
        cmocka_unit_test(test_guest_goes_off),
        cmocka_unit_test(test_agent_stays_silent),
        cmocka_unit_test(test_libvirt_is_away),
        cmocka_unit_test(test_a_start_that_is_lost),
        cmocka_unit_test(test_no_agent),
        cmocka_unit_test(test_old_boot),
        cmocka_unit_test(test_aborted),
        cmocka_unit_test(test_goes_on_with_what_runs),
        cmocka_unit_test(test_what_has_ended_is_not_run_again),
        cmocka_unit_test(test_prepare_ends_what_runs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
