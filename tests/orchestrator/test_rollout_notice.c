/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* H7, H8: guests have notice before their batch goes down, and what calls it off. */
#include "orchestrator/rollout_runs.h"

/* Ten in five upgrade domains: batches of two. */
static void to_notice(Run *run)
{
    set_up(run, 10);
    run->config.notice = TRUE;
    assert_string_equal(launch(run), "begin prepare 0 prepare 5");
    assert_string_equal(ok(run, VR_EVENT_PREPARED, 5), "");
    assert_string_equal(ok(run, VR_EVENT_PREPARED, 0), "notice 0 notice 5"); /* side by side */
}

static void test_all_are_told_and_go_together(void **state)
{
    g_auto(Run) run = {0};

    to_notice(&run);
    assert_int_equal(vr_rollout_phase(run.rollout, 0), VR_PHASE_NOTICE);
    assert_int_equal(view_of(&run).in_progress, 2);
    assert_true(view_of(&run).locked);
    assert_string_equal(ok(&run, VR_EVENT_NOTICED, 0), ""); /* an early approval waits for the other */
    assert_string_equal(ok(&run, VR_EVENT_NOTICED, 5), "survey");
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "swap 0 swap 5");
    ok(&run, VR_EVENT_SWAPPED, 0);
    ok(&run, VR_EVENT_SWAPPED, 5);
    comes_good(&run, 0);
    assert_string_equal(comes_good(&run, 5), "end survey");
}

/* SAFETY 17: another one fell ill while they waited, and all three may not be down at once. */
static void test_the_set_has_changed(void **state)
{
    g_auto(Run) run = {0};

    to_notice(&run);
    ok(&run, VR_EVENT_NOTICED, 0);
    ok(&run, VR_EVENT_NOTICED, 5);
    run.answers[7] = VR_SURVEY_UNHEALTHY;
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "discard 0 discard 5");
    ok(&run, VR_EVENT_DISCARDED, 0);
    assert_string_equal(ok(&run, VR_EVENT_DISCARDED, 5), "end survey");
    assert_int_equal(view_of(&run).pending, 10);
    assert_int_equal(view_of(&run).failed, 0);
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "begin prepare 7 prepare 2"); /* the ill one goes first */
}

static void test_the_set_cannot_be_seen(void **state)
{
    g_auto(Run) run = {0};

    to_notice(&run);
    ok(&run, VR_EVENT_NOTICED, 0);
    ok(&run, VR_EVENT_NOTICED, 5);
    assert_string_equal(bad(&run, VR_EVENT_SURVEY, 0, VR_OUTCOME_UNKNOWN, "libvirt is gone"), "discard 0 discard 5");
}

/* H8: it stays as it is, and the run stops; the others of its batch go. */
static void test_busy_for_too_long(void **state)
{
    g_auto(Run) run = {0};

    to_notice(&run);
    assert_string_equal(bad(&run, VR_EVENT_NOTICED, 0, VR_OUTCOME_UNTOUCHED, "busy for 1 h"), "");
    assert_string_equal(ok(&run, VR_EVENT_NOTICED, 5), "survey");
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "swap 5");
    ok(&run, VR_EVENT_SWAPPED, 5);
    assert_string_equal(comes_good(&run, 5), "end finish");
    expect_end(&run, VR_RUN_FAULTED, VR_CODE_INTERNAL);
    assert_non_null(strstr(view_of(&run).error_text, "still run on their old disks"));
    assert_non_null(strstr(view_of(&run).error_text, "busy for 1 h"));
}

static void called_off(Run *run, VrEventType by, const char *then)
{
    to_notice(run);
    assert_string_equal(ok(run, VR_EVENT_NOTICED, 0), "");
    assert_string_equal(say(run, by), "recall 5");
    assert_string_equal(say(run, by), "");
    assert_string_equal(bad(run, VR_EVENT_NOTICED, 5, VR_OUTCOME_CANCELLED, "recalled"), "discard 5 discard 0");
    ok(run, VR_EVENT_DISCARDED, 0);
    assert_string_equal(ok(run, VR_EVENT_DISCARDED, 5), then);
    assert_int_equal(view_of(run).pending, 10);
    assert_int_equal(view_of(run).failed, 0);
}

static void test_a_cancel(void **state)
{
    g_auto(Run) run = {0};

    called_off(&run, VR_EVENT_CANCEL, "end finish");
    expect_end(&run, VR_RUN_CANCELLED, NULL);
}

static void test_a_withdrawn_version(void **state)
{
    g_auto(Run) run = {0};

    called_off(&run, VR_EVENT_WITHDRAWN, "end finish");
    expect_end(&run, VR_RUN_FAULTED, VR_CODE_INTERNAL);
}

/* The end of a process is no word of a person: the run would go on, and another process will. */
static void test_the_process_ends(void **state)
{
    g_auto(Run) run = {0};

    called_off(&run, VR_EVENT_RECALL, "end survey");
    assert_false(view_of(&run).locked);
}

static void test_a_pause_and_a_new_notice(void **state)
{
    g_auto(Run) run = {0};

    called_off(&run, VR_EVENT_PAUSE, "end hold");
    assert_int_equal(view_of(&run).point, VR_POINT_PAUSED);
    say(&run, VR_EVENT_RESUME);
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "begin prepare 0 prepare 5");
    ok(&run, VR_EVENT_PREPARED, 0);
    assert_string_equal(ok(&run, VR_EVENT_PREPARED, 5), "notice 0 notice 5");
}

/* It came too late for one that is ready: that one does not go either. */
static void test_a_pause_while_the_set_is_looked_at(void **state)
{
    g_auto(Run) run = {0};

    to_notice(&run);
    ok(&run, VR_EVENT_NOTICED, 0);
    assert_string_equal(ok(&run, VR_EVENT_NOTICED, 5), "survey");
    assert_string_equal(say(&run, VR_EVENT_PAUSE), "");
    assert_string_equal(say(&run, VR_EVENT_RESUME), "");
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "discard 0 discard 5");
}

static void test_cancel_now(void **state)
{
    g_auto(Run) run = {0};

    to_notice(&run);
    ok(&run, VR_EVENT_NOTICED, 0);
    assert_string_equal(say(&run, VR_EVENT_CANCEL_NOW), "recall 5 discard 0");
    ok(&run, VR_EVENT_DISCARDED, 0);
    assert_string_equal(ok(&run, VR_EVENT_NOTICED, 5), "discard 5"); /* it had not heard it yet */
    assert_string_equal(ok(&run, VR_EVENT_DISCARDED, 5), "end finish");
    expect_end(&run, VR_RUN_CANCELLED, NULL);
}

/* Decision 6: the way back is not kept waiting. */
static void test_a_rollback_gives_none(void **state)
{
    g_auto(Run) run = {0};

    set_up(&run, 5);
    run.config.notice = TRUE;
    run.config.kind = VR_RUN_ROLLBACK;
    assert_string_equal(launch(&run), "begin prepare 0");
    assert_string_equal(ok(&run, VR_EVENT_PREPARED, 0), "swap 0");
}

/* SAFETY 25: a batch that was called off says nothing about the version. */
static void test_the_same_reason_around_it(void **state)
{
    g_auto(Run) run = {0};

    set_up(&run, 5);
    run.config.notice = TRUE;
    run.config.policy.max_unhealthy_upgraded_percent = 100;
    run.instances[1].upgrade_domain = 0;
    launch(&run);
    ok(&run, VR_EVENT_PREPARED, 0);
    ok(&run, VR_EVENT_NOTICED, 0);
    say(&run, VR_EVENT_SURVEY);
    ok(&run, VR_EVENT_SWAPPED, 0);
    assert_string_equal(comes_good(&run, 0), "end survey");
    for (guint i = 1; i < 3; i++) {
        if (i == 2) {
            say(&run, VR_EVENT_SURVEY);
            say(&run, VR_EVENT_PAUSE);
            ok(&run, VR_EVENT_PREPARED, i);
            assert_string_equal(ok(&run, VR_EVENT_DISCARDED, i), "end hold");
            say(&run, VR_EVENT_RESUME);
        }
        say(&run, VR_EVENT_SURVEY);
        ok(&run, VR_EVENT_PREPARED, i);
        ok(&run, VR_EVENT_NOTICED, i);
        assert_string_equal(say(&run, VR_EVENT_SURVEY), i == 1 ? "swap 1" : "swap 2");
        ok(&run, VR_EVENT_SWAPPED, i);
        goes_back(&run, i, "no network");
    }
    expect_end(&run, VR_RUN_FAULTED, VR_CODE_FAILED_VMS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_are_told_and_go_together),
        cmocka_unit_test(test_the_set_has_changed),
        cmocka_unit_test(test_the_set_cannot_be_seen),
        cmocka_unit_test(test_busy_for_too_long),
        cmocka_unit_test(test_a_cancel),
        cmocka_unit_test(test_a_withdrawn_version),
        cmocka_unit_test(test_the_process_ends),
        cmocka_unit_test(test_a_pause_and_a_new_notice),
        cmocka_unit_test(test_a_pause_while_the_set_is_looked_at),
        cmocka_unit_test(test_cancel_now),
        cmocka_unit_test(test_a_rollback_gives_none),
        cmocka_unit_test(test_the_same_reason_around_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
