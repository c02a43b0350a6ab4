/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Extensions in a guest (C3, C4): what they are given, their order, their time, their output; with real shells and processes. */
#include "orchestrator/extension_stage.h"

/* --- what they are given -------------------------------------------------------------------------------- */

static void test_what_it_gets(void **state) /* C3 */
{
    g_autoptr(Stage) stage = stage_new();
    g_autofree char *secret = write_file(stage, "secret", SECRET);
    g_autofree char *config = write_file(stage, "config", "a=1\n");
    g_autofree char *word = write_file(stage, "word", SECRET_WORD "\n");
    g_autofree char *argv = NULL, *got = NULL, *file = NULL, *left = NULL;
    struct stat st;

    add(stage, "all",
        "#!/bin/sh -e\ncat >@/got\n"
        "echo \"$VIRT_REIMAGE_EXTENSION $(cat $VIRT_REIMAGE_SETTINGS) $(pwd) $(umask)\" >>@/got\n"
        "d=$(dirname $VIRT_REIMAGE_SETTINGS); stat -c %a \"$d\" >>@/got\n"
        "grep -lf @/word /proc/*/cmdline /proc/*/environ 2>/dev/null >>@/got || true\n"
        "grep -rlf @/word \"$d\" >>@/got || true\n"
        "echo \"the secret is $(head -c 9 @/got)\"\n",
        ", settings: {port: 80}, protectedSettings: {file: @/secret}, files: [{source: @/config, path: "
        "@/etc/x/config}, "
        "{source: @/config, path: @/tool, mode: \"0755\"}]");
    load(stage);
    run_well(stage);
    expect(stage, "all", VR_EXTENSION_SUCCEEDED, "succeeded");
    got = read_file(stage, "got");
    assert_string_equal(got, SECRET "all {\"port\":80} / 0022\n700\n");
    assert_string_equal(result_of(stage, "all")->output, "the secret is ***");
    argv = host_agent_argv(stage->agent);
    assert_null(strstr(argv, SECRET_WORD));
    assert_null(strstr(argv, "umask)")); /* nor is the script in it */
    left = g_build_filename(stage->dir, "g3-all", NULL);
    assert_false(g_file_test(left, G_FILE_TEST_EXISTS));
    file = path_of(stage, "etc/x/config");
    assert_int_equal(stat(file, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    g_free(file);
    file = path_of(stage, "tool");
    assert_int_equal(stat(file, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0755);
    assert_true(result_of(stage, "all")->started_us > 0);
    assert_in_range(result_of(stage, "all")->duration_ms, 1, 60000);
    assert_int_equal(stage->spent_ms, result_of(stage, "all")->duration_ms);
}

/* The first line counts as the kernel takes it, and none is a shell's. */
static void test_interpreters(void **state)
{
    g_autoptr(Stage) stage = stage_new();
    g_autofree char *got = NULL;

    add(stage, "awk", "#!/usr/bin/env -S awk -f\nBEGIN { print \"awk\" >\"@/got\" }\n", "");
    add(stage, "none", "echo none >>@/got\n", "");
    g_string_append_printf(
        stage->items, "  - {name: command, command: [/bin/sh, -c, 'echo \"$0 $1\" >>%s/got', a b, c]}\n", stage->top);
    load(stage);
    run_well(stage);
    got = read_file(stage, "got");
    assert_string_equal(got, "awk\nnone\na b c\n");
}

static void test_large_input(void **state)
{
    g_autoptr(Stage) stage = stage_new();
    g_autofree char *big = g_strnfill(1024 * 1024, 'x');
    g_autofree char *source = write_file(stage, "big", big);
    g_autofree char *got = NULL;

    add(stage, "a", "wc -c <@/copy >@/got; cmp @/big @/copy\n", ", files: [{source: @/big, path: @/copy}]");
    load(stage);
    run_well(stage);
    got = read_file(stage, "got");
    assert_string_equal(got, "1048576\n");
}

/* --- order and failure ---------------------------------------------------------------------------------- */

static void test_order_and_skips(void **state) /* C4 */
{
    g_autoptr(Stage) stage = stage_new();
    g_autofree char *reason = NULL, *order = NULL;
    static const char *const recorded[] = {"base Transitioning",  "base Succeeded", "app Transitioning",
                                           "app Failed",          "after Skipped",  "last Skipped",
                                           "other Transitioning", "other Succeeded"};

    add(stage, "last", "echo last >>@/order\n", ", provisionAfterExtensions: [after]");
    add(stage, "after", "echo after >>@/order\n", ", provisionAfterExtensions: [app]");
    add(stage, "app", "echo app >>@/order; echo one; echo no such host >&2; exit 3\n",
        ", provisionAfterExtensions: [base]");
    add(stage, "base", "echo base >>@/order\n", "");
    add(stage, "other", "echo other >>@/order\n", "");
    load(stage);
    reason = run(stage);
    order = read_file(stage, "order");
    assert_string_equal(order, "base\napp\nother\n");
    assert_string_equal(reason, "extension app ended with status 3: no such host");
    assert_int_equal(result_of(stage, "app")->exit_status, 3);
    assert_string_equal(result_of(stage, "app")->output, "one\nno such host");
    expect(stage, "after", VR_EXTENSION_SKIPPED, "was skipped: it comes after app, which ended with status 3");
    expect(stage, "last", VR_EXTENSION_SKIPPED, "it comes after after, which was skipped");
    assert_int_equal(result_of(stage, "last")->exit_status, VR_NO_EXIT_STATUS);
    assert_int_equal(stage->recorded->len, G_N_ELEMENTS(recorded));
    for (guint i = 0; i < stage->recorded->len; i++)
        assert_string_equal(stage->recorded->pdata[i], recorded[i]);
}

static void test_suppressed(void **state)
{
    g_autoptr(Stage) stage = stage_new();
    g_autofree char *reason = NULL;

    add(stage, "may-fail", "exit 1\n", ", suppressFailures: true");
    load(stage);
    run_well(stage);
    expect(stage, "may-fail", VR_EXTENSION_FAILED, "ended with status 1");
    vr_extensions_free(stage->extensions);
    vr_model_free(stage->model);
    g_ptr_array_set_size(stage->results, 0);
    add(stage, "needs-it", "true\n", ", provisionAfterExtensions: [may-fail]");
    load(stage);
    reason = run(stage);
    assert_string_equal(reason, "extension needs-it was skipped: it comes after may-fail, which ended with status 1");
}

static void test_two_that_fail(void **state)
{
    g_autoptr(Stage) stage = stage_new();
    g_autofree char *reason = NULL;

    add(stage, "a", "exit 1\n", "");
    add(stage, "b", "kill -9 $$\n", "");
    load(stage);
    reason = run(stage);
    assert_string_equal(reason, "extension a ended with status 1; and 1 more failed");
    expect(stage, "b", VR_EXTENSION_FAILED, "ended with status 137");
}

static void test_what_cannot_be_begun(void **state)
{
    g_autoptr(Stage) stage = stage_new();
    g_autofree char *reason = NULL;
    g_autofree char *source = write_file(stage, "source", "x");
    g_autofree char *in_the_way = path_of(stage, "in-the-way");

    assert_int_equal(g_mkdir(in_the_way, 0700), 0);
    add(stage, "a", "true\n", ", files: [{source: @/source, path: @/in-the-way}]");
    add(stage, "b", "#!/no/such/interpreter\n", "");
    load(stage);
    reason = run(stage);
    expect(stage, "a", VR_EXTENSION_FAILED, "could not be begun: ");
    expect(stage, "a", VR_EXTENSION_FAILED, "in-the-way is a directory");
    expect(stage, "b", VR_EXTENSION_FAILED, "ended with status 127");
}

/* --- time ----------------------------------------------------------------------------------------------- */

/* All of its processes are ended, and what it said is kept. */
static void test_timeout(void **state) /* C4 */
{
    g_autoptr(Stage) stage = stage_new();
    g_autofree char *reason = NULL;

    add(stage, "slow", "echo working\nsleep 1000 & echo $! >@/pid\nwait\n", "");
    load(stage);
    set_timeout(stage, 0, 1500);
    reason = run(stage);
    assert_string_equal(reason, "extension slow did not end within 1.5 s; its last line: working");
    expect(stage, "slow", VR_EXTENSION_TIMED_OUT, "did not end");
    assert_int_equal(result_of(stage, "slow")->exit_status, VR_NO_EXIT_STATUS);
    assert_false(is_alive(stage, "pid"));
}

static void test_timeout_of_a_deaf_one(void **state) /* C4 */
{
    g_autoptr(Stage) stage = stage_new();
    g_autofree char *reason = NULL;

    add(stage, "deaf", "trap '' TERM\necho $$ >@/pid\nwhile :; do sleep 1; done\n", "");
    load(stage);
    set_timeout(stage, 0, 1000);
    reason = run(stage);
    expect(stage, "deaf", VR_EXTENSION_TIMED_OUT, "did not end within 1.0 s");
    assert_false(is_alive(stage, "pid"));
}

/* A process that it leaves running holds up nobody, and lives. */
static void test_a_process_left_running(void **state)
{
    g_autoptr(Stage) stage = stage_new();

    add(stage, "quiet", "sleep 1000 >/dev/null 2>&1 & echo $! >@/quiet.pid\necho done\n", "");
    add(stage, "loud", "sleep 1000 & echo $! >@/loud.pid\necho done\n", "");
    load(stage);
    run_well(stage);
    assert_string_equal(result_of(stage, "quiet")->output, "done");
    assert_string_equal(result_of(stage, "loud")->output,
                        "its output is not known: a process that it left running holds it");
    for (guint i = 0; i < 2; i++) {
        g_autofree char *pid = read_file(stage, i == 0 ? "quiet.pid" : "loud.pid");
        assert_int_equal(kill(atoi(pid), SIGKILL), 0);
    }
}

/* --- output --------------------------------------------------------------------------------------------- */

static void test_flood(void **state)
{
    g_autoptr(Stage) stage = stage_new();
    const char *output;

    add(stage, "a", "yes 'line with \033[31mcolour' | head -c 30000000; printf '\\n\\377last\\r\\n\\n'\n", "");
    load(stage);
    run_well(stage);
    output = result_of(stage, "a")->output;
    assert_non_null(strstr(output, "\nline with ?[31mcolour\nline with ?[31mcolour\n"));
    assert_true(g_str_has_suffix(output, "last"));
    assert_true(g_utf8_validate(output, -1, NULL));
    assert_null(strchr(output, '\033'));
    assert_true(strlen(output) < 4000);
}

static void check_output(const char *output, gboolean cut, const char *secret, const char *expected)
{
    VrPayload payload = {.data = (guint8 *)g_strdup(secret), .length = secret ? strlen(secret) : 0};
    g_autofree char *shown = vr_extension_output(output, cut, &payload);

    assert_string_equal(shown, expected);
    g_free(payload.data);
}

static void test_output(void **state) /* C3 */
{
    g_autofree char *lengthy = g_strnfill(1000, 'x');
    g_autofree char *begin = g_strnfill(300, 'x');
    g_autofree char *cut = g_strconcat(begin, "...", NULL);

    check_output("", FALSE, NULL, "");
    check_output("\n\n a \r\n\n", FALSE, NULL, " a");
    check_output("1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n", FALSE, NULL, "2\n3\n4\n5\n6\n7\n8\n9\n10\n11");
    check_output(lengthy, FALSE, NULL, cut);
    check_output("a\033[2J\tb\a", FALSE, NULL, "a?[2J?b?");
    /* words of six characters, lines, the whole; and what is left of one where the output was cut */
    check_output("x hunter22 y", FALSE, "hunter22\n", "x *** y");
    check_output("hunter22, hunter22, hunter22, hunter22", FALSE, "hunter22", "***, ***, ***, ***");
    check_output("one begins another: hunter22", FALSE, "hunter hunter22", "one begins another: ***");
    check_output("curl -u me:hunter22", FALSE, "{\"user\": \"me\", \"password\": \"hunter22\"}", "curl -u me:***");
    check_output("pin is abc", FALSE, "abc\n", "pin is ***");
    check_output("pin is ab", FALSE, "ab\n", "pin is ab");
    check_output("+ login 'correct horse'", FALSE, "correct horse\nbattery staple\n", "+ login '***'");
    check_output("er22 rest\nnext hunter22", TRUE, "hunter22", "next ***");
    check_output("unter22...", TRUE, "hunter22", "..");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_it_gets),
        cmocka_unit_test(test_interpreters),
        cmocka_unit_test(test_large_input),
        cmocka_unit_test(test_order_and_skips),
        cmocka_unit_test(test_suppressed),
        cmocka_unit_test(test_two_that_fail),
        cmocka_unit_test(test_what_cannot_be_begun),
        cmocka_unit_test(test_timeout),
        cmocka_unit_test(test_timeout_of_a_deaf_one),
        cmocka_unit_test(test_a_process_left_running),
        cmocka_unit_test(test_flood),
        cmocka_unit_test(test_output),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
