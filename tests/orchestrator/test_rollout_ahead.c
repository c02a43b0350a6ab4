/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* B7: the next batch is prepared while this one boots, and a change of plan discards what was prepared. */
#include "orchestrator/rollout_runs.h"

static void set_up_ahead(Run *run, guint count)
{
    set_up(run, count);
    run->config.policy.prepare_ahead = TRUE;
}

/* The first of five is on trial; what was said last is the look ahead. */
static void to_first_trial(Run *run)
{
    assert_string_equal(launch(run), "begin prepare 0");
    assert_string_equal(ok(run, VR_EVENT_PREPARED, 0), "swap 0");
    assert_string_equal(ok(run, VR_EVENT_SWAPPED, 0), "probe 0 prepare 1");
}

static void test_goes_down_at_once(void **state)
{
    g_auto(Run) run = {0};

    set_up_ahead(&run, 5);
    to_first_trial(&run);
    assert_int_equal(view_of(&run).in_progress, 1);
    assert_int_equal(view_of(&run).pending, 4); /* prepared is not begun */
    assert_string_equal(ok(&run, VR_EVENT_PREPARED, 1), "");
    ok(&run, VR_EVENT_PROBED, 0);
    assert_string_equal(ok(&run, VR_EVENT_COMMITTED, 0), "end survey");
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "begin swap 1");
    assert_string_equal(ok(&run, VR_EVENT_SWAPPED, 1), "probe 1 prepare 2"); /* and so on */
}

/* Its batch has come before it was ready. */
static void test_waits_for_the_rest_of_it(void **state)
{
    g_auto(Run) run = {0};

    set_up_ahead(&run, 5);
    to_first_trial(&run);
    comes_good(&run, 0);
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "begin");
    assert_int_equal(view_of(&run).in_progress, 1);
    assert_string_equal(ok(&run, VR_EVENT_PREPARED, 1), "swap 1");
}

/* Another batch than was foreseen: an unhealthy instance goes first. */
static void test_another_batch_came(void **state)
{
    g_auto(Run) run = {0};

    set_up_ahead(&run, 5);
    to_first_trial(&run);
    ok(&run, VR_EVENT_PREPARED, 1);
    comes_good(&run, 0);
    run.answers[3] = VR_SURVEY_UNHEALTHY;
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "begin prepare 3 discard 1");
    assert_string_equal(ok(&run, VR_EVENT_DISCARDED, 1), "");
    assert_string_equal(ok(&run, VR_EVENT_PREPARED, 3), "swap 3");
    assert_string_equal(ok(&run, VR_EVENT_SWAPPED, 3), "probe 3 prepare 1"); /* a second time, and that is right */
}

/* ... while it was still being prepared: it is discarded when it is done, and the batch waits for that. */
static void test_unwanted_before_it_was_ready(void **state)
{
    g_auto(Run) run = {0};

    set_up_ahead(&run, 5);
    to_first_trial(&run);
    comes_good(&run, 0);
    run.answers[3] = VR_SURVEY_UNHEALTHY;
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "begin prepare 3");
    TO_PROBES(&run, 3);
    assert_string_equal(comes_good(&run, 3), "");
    assert_string_equal(ok(&run, VR_EVENT_PREPARED, 1), "discard 1");
    assert_string_equal(ok(&run, VR_EVENT_DISCARDED, 1), "end survey");
}

static void test_a_hold_discards_it_first(void **state)
{
    g_auto(Run) run = {0};

    set_up_ahead(&run, 5);
    to_first_trial(&run);
    ok(&run, VR_EVENT_PREPARED, 1);
    say(&run, VR_EVENT_PAUSE);
    ok(&run, VR_EVENT_PROBED, 0);
    assert_string_equal(ok(&run, VR_EVENT_COMMITTED, 0), "end discard 1");
    assert_string_equal(ok(&run, VR_EVENT_DISCARDED, 1), "hold");
    assert_int_equal(view_of(&run).point, VR_POINT_PAUSED);
    assert_string_equal(say(&run, VR_EVENT_RESUME), "survey");
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "begin prepare 1");
}

/* What is known to come first is not raced. */
static void test_nothing_is_prepared_for_a_wait(void **state)
{
    for (guint kind = 0; kind < 5; kind++) {
        g_auto(Run) run = {0};

        set_up_ahead(&run, 5);
        run.config.policy.checkpoints[0] = kind == 0 ? 20 : 0;
        run.config.policy.checkpoint_wait_ms = 1000;
        run.config.walk = kind == 1;
        run.instances[0].canary = kind == 2;
        run.rollout = vr_rollout_new(&run.config);
        say(&run, VR_EVENT_START);
        if (kind == 1)
            ok(&run, VR_EVENT_WALK, 0);
        say(&run, VR_EVENT_SURVEY);
        ok(&run, VR_EVENT_PREPARED, 0);
        if (kind == 3)
            say(&run, VR_EVENT_PAUSE);
        if (kind == 4)
            say(&run, VR_EVENT_CANCEL);
        assert_string_equal(ok(&run, VR_EVENT_SWAPPED, 0), "probe 0");
    }
}

static void test_the_end_discards_it_first(void **state)
{
    g_auto(Run) run = {0};

    set_up_ahead(&run, 5);
    to_first_trial(&run);
    ok(&run, VR_EVENT_PREPARED, 1);
    bad(&run, VR_EVENT_PROBED, 0, VR_OUTCOME_FAILED, "it never answered");
    assert_string_equal(ok(&run, VR_EVENT_RESTORED, 0), "end discard 1");
    assert_false(view_of(&run).finished);
    assert_string_equal(ok(&run, VR_EVENT_DISCARDED, 1), "finish");
    assert_string_equal(view_of(&run).error_code, VR_CODE_UPGRADED);
    assert_null(strstr(view_of(&run).error_text, "put back in all"));
    assert_int_equal(view_of(&run).pending, 4);
}

static void test_cancel_now(void **state)
{
    g_auto(Run) run = {0};

    set_up_ahead(&run, 5);
    to_first_trial(&run);
    assert_string_equal(say(&run, VR_EVENT_CANCEL_NOW), "restore 0");
    assert_string_equal(ok(&run, VR_EVENT_PREPARED, 1), "discard 1");
    assert_string_equal(ok(&run, VR_EVENT_RESTORED, 0), "");
    assert_string_equal(ok(&run, VR_EVENT_DISCARDED, 1), "end finish");
    assert_int_equal(view_of(&run).status, VR_RUN_CANCELLED);
    assert_int_equal(view_of(&run).pending, 4);
}

/* It says nothing about the version or the host yet: the batch itself will meet it. */
static void test_a_failure_ahead_is_none(void **state)
{
    g_auto(Run) run = {0};

    set_up_ahead(&run, 5);
    to_first_trial(&run);
    assert_string_equal(bad(&run, VR_EVENT_PREPARED, 1, VR_OUTCOME_UNTOUCHED, "no space"), "");
    assert_string_equal(comes_good(&run, 0), "end survey");
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "begin prepare 1");
    assert_string_equal(bad(&run, VR_EVENT_PREPARED, 1, VR_OUTCOME_UNTOUCHED, "no space"), "end finish");
    assert_int_equal(view_of(&run).status, VR_RUN_FAULTED);
}

/* D14: a guest that says skip after its disk was prepared is left out. */
static void test_a_guest_that_skips_late(void **state)
{
    g_auto(Run) run = {0};
    VrGuestWish wishes[5] = {[1] = {.skip = TRUE}};
    VrEvent survey = {.type = VR_EVENT_SURVEY, .answers = run.answers, .wishes = wishes};

    set_up_ahead(&run, 2);
    assert_string_equal(launch(&run), "begin prepare 0");
    TO_PROBES(&run, 0);
    ok(&run, VR_EVENT_PREPARED, 1);
    assert_string_equal(comes_good(&run, 0), "end survey");
    assert_string_equal(step_full(&run, &survey), "discard 1");
    assert_string_equal(ok(&run, VR_EVENT_DISCARDED, 1), "survey");
    assert_string_equal(step_full(&run, &survey), "finish");
    assert_int_equal(view_of(&run).status, VR_RUN_COMPLETED);
    assert_int_equal(view_of(&run).skipped, 1);
}

/* D14: once said is said, also while its disk was on its way. */
static void test_a_guest_that_changes_its_mind(void **state)
{
    g_auto(Run) run = {0};

    set_up_ahead(&run, 5);
    to_first_trial(&run);
    comes_good(&run, 0);
    run.wishes[1].skip = TRUE;
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "begin prepare 2");
    ok(&run, VR_EVENT_PREPARED, 1);
    ok(&run, VR_EVENT_DISCARDED, 1);
    TO_PROBES(&run, 2);
    comes_good(&run, 2);
    run.wishes[1].skip = FALSE;
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "survey");
    assert_int_equal(view_of(&run).skipped, 1);
}

/* D24: what is prepared ahead is on its way, too. */
static void test_host_limit(void **state)
{
    g_auto(Run) run = {0};

    set_up_ahead(&run, 6);
    for (guint i = 0; i < 6; i++)
        run.instances[i].upgrade_domain = i / 4;
    run.config.policy.max_batch_percent = run.config.policy.max_unhealthy_percent = 100;
    run.config.policy.max_in_flight = 3;
    assert_string_equal(launch(&run), "begin prepare 0 prepare 1 prepare 2");
    for (guint i = 0; i < 3; i++)
        ok(&run, VR_EVENT_PREPARED, i);
    ok(&run, VR_EVENT_SWAPPED, 0);
    ok(&run, VR_EVENT_PROBED, 0);
    ok(&run, VR_EVENT_COMMITTED, 0);
    ok(&run, VR_EVENT_SWAPPED, 1);
    assert_string_equal(ok(&run, VR_EVENT_SWAPPED, 2), "probe 2 prepare 3"); /* two on trial, one ahead */
    ok(&run, VR_EVENT_PREPARED, 3);
    ok(&run, VR_EVENT_PROBED, 1);
    ok(&run, VR_EVENT_COMMITTED, 1);
    assert_string_equal(comes_good(&run, 2), "end survey");
    run.answers[4] = run.answers[5] = VR_SURVEY_UNHEALTHY; /* another batch: two at most beside the one that is ahead */
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "begin prepare 4 prepare 5 discard 3");
}

/* D24: where there is no room for what was foreseen and for what comes, the one goes first. */
static void test_host_limit_is_crowded(void **state)
{
    g_auto(Run) run = {0};

    set_up_ahead(&run, 6);
    for (guint i = 0; i < 6; i++)
        run.instances[i].upgrade_domain = i / 2;
    run.config.policy.max_batch_percent = run.config.policy.max_unhealthy_percent = 100;
    run.config.policy.max_in_flight = 2;
    run.instances[1].chosen = FALSE;
    assert_string_equal(launch(&run), "begin prepare 0");
    ok(&run, VR_EVENT_PREPARED, 0);
    assert_string_equal(ok(&run, VR_EVENT_SWAPPED, 0), "probe 0 prepare 2");
    assert_string_equal(comes_good(&run, 0), "end survey");
    run.answers[4] = run.answers[5] = VR_SURVEY_UNHEALTHY;
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "");
    assert_string_equal(ok(&run, VR_EVENT_PREPARED, 2), "discard 2");
    assert_string_equal(ok(&run, VR_EVENT_DISCARDED, 2), "survey");
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "begin prepare 4 prepare 5");
}

/* The one that is left out is discarded, the other stays as it is, and the run does not wait for it. */
static void test_skips_beside_one_that_is_wanted(void **state)
{
    g_auto(Run) run = {0};

    set_up_ahead(&run, 10);
    assert_string_equal(launch(&run), "begin prepare 0 prepare 5");
    TO_PROBES(&run, 0, 5);
    ok(&run, VR_EVENT_PREPARED, 1);
    ok(&run, VR_EVENT_PREPARED, 6);
    comes_good(&run, 0);
    assert_string_equal(comes_good(&run, 5), "end survey");
    run.wishes[1].skip = run.wishes[2].skip = TRUE;
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "discard 1");
    assert_string_equal(ok(&run, VR_EVENT_DISCARDED, 1), "survey");
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "survey"); /* 1 is left out now */
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "begin swap 6");
}

/* Decision 9: that a prepared disk could not be removed is no failure of those that come good later. */
static void test_a_failed_discard_is_no_failure(void **state)
{
    g_auto(Run) run = {0};

    set_up_ahead(&run, 10);
    launch(&run);
    TO_PROBES(&run, 0, 5);
    ok(&run, VR_EVENT_PREPARED, 1);
    ok(&run, VR_EVENT_PREPARED, 6);
    comes_good(&run, 0);
    comes_good(&run, 5);
    run.answers[3] = VR_SURVEY_UNHEALTHY;
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "begin prepare 3 prepare 8 discard 1 discard 6");
    bad(&run, VR_EVENT_DISCARDED, 1, VR_OUTCOME_FAILED, "it is in use");
    bad(&run, VR_EVENT_DISCARDED, 6, VR_OUTCOME_FAILED, "it is in use");
    TO_PROBES(&run, 3, 8);
    ok(&run, VR_EVENT_PREPARED, 1);
    ok(&run, VR_EVENT_PREPARED, 6);
    comes_good(&run, 3);
    comes_good(&run, 8);
    run.answers[3] = VR_SURVEY_HEALTHY;
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "begin swap 1 swap 6");
    ok(&run, VR_EVENT_SWAPPED, 1);
    ok(&run, VR_EVENT_SWAPPED, 6);
    comes_good(&run, 1);
    assert_string_equal(comes_good(&run, 6), "end survey");
    assert_null(vr_rollout_reason(run.rollout, 1));
}

/* G7: this run has not moved it, so it holds no place while its prepared disk goes. */
static void test_a_protected_one_is_discarded(void **state)
{
    g_auto(Run) run = {0};

    set_up_ahead(&run, 5);
    run.instances[1].is_protected = TRUE;
    to_first_trial(&run);
    ok(&run, VR_EVENT_PREPARED, 1);
    assert_string_equal(comes_good(&run, 0), "end survey");
    run.answers[1] = run.answers[2] = VR_SURVEY_UNHEALTHY;
    run.wishes[1].skip = TRUE;
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "discard 1 begin prepare 2");
}

static void test_not_in_a_rollback(void **state)
{
    g_auto(Run) run = {0};

    set_up_ahead(&run, 5);
    run.config.kind = VR_RUN_ROLLBACK;
    launch(&run);
    ok(&run, VR_EVENT_PREPARED, 0);
    assert_string_equal(ok(&run, VR_EVENT_SWAPPED, 0), "probe 0");
}

/* SAFETY 16: a run of which one is not known ends with its batch, so nothing follows that one could prepare. */
static void test_nothing_is_prepared_beside_an_unknown_one(void **state)
{
    g_auto(Run) run = {0};

    set_up_ahead(&run, 10);
    assert_string_equal(launch(&run), "begin prepare 0 prepare 5");
    ok(&run, VR_EVENT_PREPARED, 0);
    ok(&run, VR_EVENT_PREPARED, 5);
    bad(&run, VR_EVENT_SWAPPED, 0, VR_OUTCOME_UNKNOWN, "libvirt is gone");
    assert_string_equal(ok(&run, VR_EVENT_SWAPPED, 5), "probe 5");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_goes_down_at_once),
        cmocka_unit_test(test_waits_for_the_rest_of_it),
        cmocka_unit_test(test_another_batch_came),
        cmocka_unit_test(test_unwanted_before_it_was_ready),
        cmocka_unit_test(test_a_hold_discards_it_first),
        cmocka_unit_test(test_nothing_is_prepared_for_a_wait),
        cmocka_unit_test(test_the_end_discards_it_first),
        cmocka_unit_test(test_cancel_now),
        cmocka_unit_test(test_a_failure_ahead_is_none),
        cmocka_unit_test(test_a_guest_that_skips_late),
        cmocka_unit_test(test_not_in_a_rollback),
        cmocka_unit_test(test_a_guest_that_changes_its_mind),
        cmocka_unit_test(test_host_limit),
        cmocka_unit_test(test_host_limit_is_crowded),
        cmocka_unit_test(test_skips_beside_one_that_is_wanted),
        cmocka_unit_test(test_a_failed_discard_is_no_failure),
        cmocka_unit_test(test_a_protected_one_is_discarded),
        cmocka_unit_test(test_nothing_is_prepared_beside_an_unknown_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
