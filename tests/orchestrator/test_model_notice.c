/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* scheduledEventsProfile of a set file (H7, H8). */
#include "orchestrator/model_text.h"

#define PROFILE(keys) "scheduledEventsProfile: {osImageNotificationProfile: {" keys "}}"
#define PATH "3: scheduledEventsProfile.osImageNotificationProfile."

static void test_defaults(void **state)
{
    g_autoptr(VrModel) without = parse_with("");
    g_autoptr(VrModel) azure =
        parse_with(PROFILE("notBeforeTimeout: PT15M, enable: true")); /* as Azure's documents have it */

    assert_false(without->notice.enable);
    assert_true(azure->notice.enable);
    assert_int_equal(azure->notice.not_before_ms, 900000);
    assert_string_equal(azure->notice.file, "/run/virt-reimage-notice.json");
    assert_null(azure->notice.command);
    assert_null(azure->notice.approval_file);
    assert_null(azure->notice.busy_command);
    assert_int_equal(azure->notice.busy_limit_ms, 3600000);
    assert_false(azure->notice.goes_though_busy);
    assert_false(azure->notice.goes_without_agent);
}

static void test_all_keys(void **state)
{
    g_autoptr(VrModel) model =
        parse_with(PROFILE("enable: TRUE, notBeforeTimeout: 30s, file: /n.json, command: [/bin/wall, \"\"], "
                           "approvalFile: /a.json, busyCommand: [/bin/is-busy], busyLimit: PT2H, onBusyLimit: Proceed, "
                           "withoutAgent: proceed"));
    const VrNoticeProfile *notice = &model->notice;

    assert_int_equal(notice->not_before_ms, 30000);
    assert_string_equal(notice->file, "/n.json");
    assert_string_equal(notice->command[0], "/bin/wall");
    assert_string_equal(notice->approval_file, "/a.json");
    assert_string_equal(notice->busy_command[0], "/bin/is-busy");
    assert_int_equal(notice->busy_limit_ms, 7200000);
    assert_true(notice->goes_though_busy);
    assert_true(notice->goes_without_agent);
}

static void test_refused(void **state)
{
    static const Refusal rows[] = {
        {PROFILE("enable: 1"), PATH "enable: 1 is neither true nor false"},
        {PROFILE("notBeforeTimeout: PT0S"), PATH "notBeforeTimeout: PT0S is out of range (PT1S to P1D)"},
        {PROFILE("notBeforeTimeout: P2D"), PATH "notBeforeTimeout: P2D is out of range"},
        {PROFILE("busyLimit: P8D"), PATH "busyLimit: P8D is out of range (PT1S to P7D)"},
        {PROFILE("file: notice.json"), PATH "file: \"notice.json\" must be an absolute path"},
        {PROFILE("approvalFile: \"/a\\nb\""), PATH "approvalFile: \"/a?b\" must not have control characters"},
        {PROFILE("command: []"), PATH "command: must be a list of at least one text"},
        {PROFILE("command: [wall]"), PATH "command: the first text must be the absolute path of a program"},
        {PROFILE("busyCommand: [is-busy]"), PATH "busyCommand: the first text must be"},
        {PROFILE("approvalCommand: [./x]"), PATH "approvalCommand: the first text must be"},
        {PROFILE("approvalFile: /a, approvalCommand: [/b]"), PATH "approvalCommand: goes without approvalFile"},
        {PROFILE("busyFile: /a, busyCommand: [/b]"), PATH "busyCommand: goes without busyFile"},
        {PROFILE("onBusyLimit: maybe"), PATH "onBusyLimit: \"maybe\" is not refuse or proceed"},
        {PROFILE("withoutAgent: true"), PATH "withoutAgent: \"true\" is not refuse or proceed"},
        {PROFILE("notBefore: PT15M"), PATH "notBefore: unknown key; did you mean"},
        {"scheduledEventsProfile: {terminateNotificationProfile: {enable: true}}",
         "3: scheduledEventsProfile.terminateNotificationProfile: unknown key"},
    };

    refused_each(rows, G_N_ELEMENTS(rows));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_all_keys),
        cmocka_unit_test(test_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
