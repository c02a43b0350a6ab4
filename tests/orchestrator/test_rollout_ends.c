/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How a run ends before its time, how a rollback goes, and what comes too late. The rules of a run that goes well are in test_rollout.c. */
#include "orchestrator/rollout_runs.h"

/* G2: a cancel between batches ends at once, in a batch at its end. */
static void test_cancel(void **state)
{
    g_auto(Run) batch = {0}, pause = {0}, survey = {0}, fresh = {0}, back = {0};

    set_up(&batch, 5);
    launch(&batch);
    assert_string_equal(say(&batch, VR_EVENT_CANCEL), "");
    assert_string_equal(ok(&batch, VR_EVENT_PREPARED, 0), "swap 0");
    ok(&batch, VR_EVENT_SWAPPED, 0);
    assert_string_equal(comes_good(&batch, 0), "end finish");
    expect_end(&batch, VR_RUN_CANCELLED, NULL);
    expect_text(&batch, "cancelled at the batch border; 1 upgraded, 0 restored, 4 not touched");
    set_up(&pause, 5);
    pause.config.policy.pause_ms = 1000;
    launch(&pause);
    TO_PROBES(&pause, 0);
    comes_good(&pause, 0);
    assert_string_equal(say(&pause, VR_EVENT_CANCEL), "finish");
    expect_end(&pause, VR_RUN_CANCELLED, NULL);
    set_up(&survey, 5);
    survey.rollout = vr_rollout_new(&survey.config);
    say(&survey, VR_EVENT_START);
    assert_string_equal(say(&survey, VR_EVENT_CANCEL_NOW), "finish");
    assert_string_equal(say(&survey, VR_EVENT_SURVEY), ""); /* its answer comes too late */
    set_up(&fresh, 5);
    fresh.rollout = vr_rollout_new(&fresh.config);
    assert_string_equal(say(&fresh, VR_EVENT_CANCEL), "finish");
    set_up(&back, 5);
    back.config.kind = VR_RUN_ROLLBACK; /* may be cancelled like any other */
    launch(&back);
    TO_PROBES(&back, 0);
    assert_string_equal(say(&back, VR_EVENT_CANCEL_NOW), "restore 0");
    assert_string_equal(ok(&back, VR_EVENT_RESTORED, 0), "end finish");
    expect_end(&back, VR_RUN_CANCELLED, NULL);
}

/* G2, B6: a preparation that the cancel has ended is not a failure, and those that were ready before finish. */
static void test_cancel_of_preparations(void **state)
{
    g_auto(Run) run = {0}, unasked = {0};

    set_up(&run, 15);
    launch(&run); /* 0 5 10 */
    ok(&run, VR_EVENT_PREPARED, 0);
    assert_string_equal(say(&run, VR_EVENT_CANCEL), "");
    assert_string_equal(bad(&run, VR_EVENT_PREPARED, 5, VR_OUTCOME_CANCELLED, "the copy was cancelled"), "");
    assert_int_equal(vr_rollout_phase(run.rollout, 5), VR_PHASE_PENDING);
    assert_null(vr_rollout_reason(run.rollout, 5));
    assert_string_equal(bad(&run, VR_EVENT_PREPARED, 10, VR_OUTCOME_CANCELLED, "the copy was cancelled"), "swap 0");
    ok(&run, VR_EVENT_SWAPPED, 0);
    assert_string_equal(comes_good(&run, 0), "end finish");
    expect_end(&run, VR_RUN_CANCELLED, NULL);
    assert_int_equal(view_of(&run).pending, 14);
    assert_int_equal(view_of(&run).failed, 0);
    set_up(&unasked, 5);
    launch(&unasked); /* that nobody asked for it: a failure, so that the run does not begin it for ever */
    assert_string_equal(bad(&unasked, VR_EVENT_PREPARED, 0, VR_OUTCOME_CANCELLED, "a"), "end finish");
    expect_end(&unasked, VR_RUN_FAULTED, VR_CODE_INTERNAL);
}

/* G2 --now: each instance in flight is put back in the way of its phase. */
static void test_cancel_now(void **state)
{
    g_auto(Run) run = {0};

    set_up(&run, 15);
    for (guint i = 0; i < 15; i++)
        run.instances[i].upgrade_domain = 0;
    run.config.policy.max_batch_percent = run.config.policy.max_unhealthy_percent = 27; /* 4 */
    assert_string_equal(launch(&run), "begin prepare 0 prepare 1 prepare 2 prepare 3");
    TO_PROBES(&run, 0, 1, 2, 3);
    ok(&run, VR_EVENT_PROBED, 0);
    bad(&run, VR_EVENT_PROBED, 1, VR_OUTCOME_FAILED, "a");
    assert_string_equal(say(&run, VR_EVENT_CANCEL_NOW), "restore 2 restore 3");
    assert_string_equal(say(&run, VR_EVENT_CANCEL_NOW), "");
    assert_string_equal(ok(&run, VR_EVENT_PROBED, 2), ""); /* late */
    assert_string_equal(ok(&run, VR_EVENT_COMMITTED, 0), "");
    ok(&run, VR_EVENT_RESTORED, 1);
    ok(&run, VR_EVENT_RESTORED, 2);
    assert_string_equal(ok(&run, VR_EVENT_RESTORED, 3), "end finish");
    expect_end(&run, VR_RUN_CANCELLED, NULL);
    assert_int_equal(view_of(&run).restored, 3);
    assert_int_equal(view_of(&run).successful, 1);
    assert_string_equal(vr_rollout_reason(run.rollout, 2), "the run was cancelled");
}

static void test_cancel_now_early(void **state)
{
    g_auto(Run) run = {0}, swapping = {0};

    set_up(&run, 15);
    launch(&run); /* 0 5 10 */
    ok(&run, VR_EVENT_PREPARED, 0);
    assert_string_equal(say(&run, VR_EVENT_CANCEL_NOW), "discard 0");
    assert_string_equal(ok(&run, VR_EVENT_PREPARED, 5), "discard 5");
    assert_string_equal(bad(&run, VR_EVENT_PREPARED, 10, VR_OUTCOME_FAILED, "a"), "");
    assert_string_equal(ok(&run, VR_EVENT_DISCARDED, 0), "");
    assert_string_equal(bad(&run, VR_EVENT_DISCARDED, 5, VR_OUTCOME_FAILED, "b"), "end finish");
    assert_int_equal(vr_rollout_phase(run.rollout, 0), VR_PHASE_PENDING);
    assert_int_equal(view_of(&run).pending, 14);
    expect_end(&run, VR_RUN_CANCELLED, NULL);
    set_up(&swapping, 5);
    launch(&swapping);
    ok(&swapping, VR_EVENT_PREPARED, 0);
    assert_string_equal(say(&swapping, VR_EVENT_CANCEL_NOW), "");
    assert_string_equal(ok(&swapping, VR_EVENT_SWAPPED, 0), "restore 0");
    assert_string_equal(ok(&swapping, VR_EVENT_RESTORED, 0), "end finish");
}

/* Decision 8, C5: a version that is excluded meanwhile, or something outside that ends; a rollback does not use it. */
static void test_withdrawn(void **state)
{
    g_auto(Run) run = {0}, back = {0}, outside = {0};

    set_up(&run, 5);
    launch(&run);
    assert_string_equal(say(&run, VR_EVENT_WITHDRAWN), "");
    TO_PROBES(&run, 0);
    assert_string_equal(comes_good(&run, 0), "end finish");
    expect_end(&run, VR_RUN_FAULTED, VR_CODE_INTERNAL);
    expect_text(&run, "excluded");
    set_up(&outside, 5);
    launch(&outside);
    TO_PROBES(&outside, 0);
    assert_string_equal(comes_good(&outside, 0), "end survey");
    assert_string_equal(bad(&outside, VR_EVENT_WITHDRAWN, 0, VR_OUTCOME_OK, "the token has expired"), "finish");
    expect_end(&outside, VR_RUN_FAULTED, VR_CODE_INTERNAL);
    expect_text(&outside, "the token has expired; 1 upgraded, 0 restored, 4 not touched");
    set_up(&back, 5);
    back.config.kind = VR_RUN_ROLLBACK;
    launch(&back);
    say(&back, VR_EVENT_WITHDRAWN);
    TO_PROBES(&back, 0);
    assert_string_equal(comes_good(&back, 0), "end survey");
}

/* F4, decision 6: limits only warn for a rollback, the unhealthy go first, and it goes on to its end. */
static void test_rollback(void **state)
{
    g_auto(Run) run = {0};

    set_up(&run, 5);
    run.config.kind = VR_RUN_ROLLBACK;
    for (guint i = 1; i < 5; i++)
        run.answers[i] = VR_SURVEY_UNHEALTHY;
    assert_string_equal(launch(&run), "begin prepare 1");
    TO_PROBES(&run, 1);
    assert_string_equal(bad(&run, VR_EVENT_PROBED, 1, VR_OUTCOME_FAILED, "a"), "end survey"); /* not forward again */
    assert_int_equal(vr_rollout_phase(run.rollout, 1), VR_PHASE_FAILED);
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "begin prepare 2");
    ok(&run, VR_EVENT_PREPARED, 2);
    assert_string_equal(bad(&run, VR_EVENT_SWAPPED, 2, VR_OUTCOME_FAILED, "a"), "restore 2"); /* an undo */
    assert_string_equal(ok(&run, VR_EVENT_RESTORED, 2), "end survey");
    say(&run, VR_EVENT_SURVEY);
    assert_string_equal(bad(&run, VR_EVENT_PREPARED, 3, VR_OUTCOME_FAILED, "a"), "end survey");
    say(&run, VR_EVENT_SURVEY);
    TO_PROBES(&run, 4);
    comes_good(&run, 4);
    say(&run, VR_EVENT_SURVEY);
    TO_PROBES(&run, 0);
    assert_string_equal(comes_good(&run, 0), "end finish");
    expect_end(&run, VR_RUN_COMPLETED, VR_CODE_FAILED_VMS);
    expect_text(&run, "3 of 5 instances (60%) failed");
    expect_text(&run, "2 rolled back, 1 restored, 0 not touched");
}

/* J5: a rollback of which nothing came good. */
static void test_rollback_fails(void **state)
{
    g_auto(Run) run = {0};

    set_up(&run, 2);
    run.config.kind = VR_RUN_ROLLBACK;
    launch(&run);
    for (guint i = 0; i < 2; i++) {
        TO_PROBES(&run, i);
        bad(&run, VR_EVENT_PROBED, i, VR_OUTCOME_FAILED, "a");
        say(&run, VR_EVENT_SURVEY);
    }
    expect_end(&run, VR_RUN_FAULTED, VR_CODE_FAILED_VMS);
}

/* Late and double answers, and those about nobody, change nothing. */
static void test_late(void **state)
{
    g_auto(Run) run = {0};

    set_up(&run, 5);
    launch(&run);
    assert_string_equal(say(&run, VR_EVENT_START), "");
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "");
    assert_string_equal(say(&run, VR_EVENT_WAKE), "");
    assert_string_equal(ok(&run, VR_EVENT_SWAPPED, 0), "");
    assert_string_equal(ok(&run, VR_EVENT_PREPARED, 1), "");
    assert_string_equal(ok(&run, VR_EVENT_PREPARED, 5), "");
    assert_string_equal(ok(&run, VR_EVENT_PREPARED, G_MAXUINT), "");
    ok(&run, VR_EVENT_PREPARED, 0);
    assert_string_equal(bad(&run, VR_EVENT_PREPARED, 0, VR_OUTCOME_FAILED, "late"), "");
    ok(&run, VR_EVENT_SWAPPED, 0);
    goes_back(&run, 0, "a");
    for (guint type = 0; type <= VR_EVENT_WITHDRAWN; type++)
        assert_string_equal(bad(&run, type, 0, VR_OUTCOME_UNKNOWN, "late"), "");
    expect_end(&run, VR_RUN_FAULTED, VR_CODE_UPGRADED);
    assert_string_equal(vr_rollout_reason(run.rollout, 0), "a");
}

/* B16, decision 14: guests that are off are not unhealthy, and are no proof of health either. */
static void test_off(void **state)
{
    g_auto(Run) run = {0};

    set_up(&run, 10);
    run.config.policy.max_unhealthy_upgraded_percent = 50;
    for (guint i = 0; i < 9; i++)
        run.answers[i] = VR_SURVEY_OFF;
    assert_string_equal(launch(&run), "begin prepare 0 prepare 5");
    for (guint ud = 0; ud < 4; ud++) {
        TO_PROBES(&run, ud, ud + 5);
        comes_good(&run, ud);
        assert_string_equal(comes_good(&run, ud + 5), "end survey");
        say(&run, VR_EVENT_SURVEY);
    }
    TO_PROBES(&run, 4, 9);
    comes_good(&run, 4);
    assert_string_equal(goes_back(&run, 9, "a"), "end finish"); /* 1 of 1 that could prove anything */
    expect_end(&run, VR_RUN_FAULTED, VR_CODE_UPGRADED);
    expect_text(&run, "1 of 1 upgraded (100%)");
}

/* One that ran before its batch and is off after it is down, and was not switched off on purpose (SAFETY invariant 17). */
static void test_fell_after_commit(void **state)
{
    g_auto(Run) run = {0};

    set_up(&run, 5);
    run.config.policy.max_unhealthy_upgraded_percent = 100;
    assert_string_equal(launch(&run), "begin prepare 0");
    TO_PROBES(&run, 0);
    assert_string_equal(comes_good(&run, 0), "end survey");
    run.answers[0] = VR_SURVEY_OFF;
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "wake"); /* it holds the only place */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_cancel_of_preparations),
        cmocka_unit_test(test_cancel_now),
        cmocka_unit_test(test_cancel_now_early),
        cmocka_unit_test(test_withdrawn),
        cmocka_unit_test(test_rollback),
        cmocka_unit_test(test_rollback_fails),
        cmocka_unit_test(test_late),
        cmocka_unit_test(test_off),
        cmocka_unit_test(test_fell_after_commit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
