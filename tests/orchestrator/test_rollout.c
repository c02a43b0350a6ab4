/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The rules of a run, one story each. tests/sim drives the same code through random worlds. */
#include "orchestrator/rollout_runs.h"

/* D1, D27, J2, J3: five go one by one, each on its way through all steps. */
static void test_five(void **state)
{
    g_auto(Run) run = {0};

    set_up(&run, 5);
    assert_string_equal(launch(&run), "begin prepare 0");
    for (guint i = 0; i < 5; i++) {
        g_autofree char *swap = g_strdup_printf("swap %u", i), *probe = g_strdup_printf("probe %u", i);
        g_autofree char *commit = g_strdup_printf("commit %u", i), *next = g_strdup_printf("begin prepare %u", i + 1);

        assert_int_equal(view_of(&run).batch_number, i + 1);
        assert_int_equal(view_of(&run).in_progress, 1);
        assert_int_equal(view_of(&run).status, VR_RUN_ROLLING_FORWARD);
        assert_string_equal(ok(&run, VR_EVENT_PREPARED, i), swap);
        assert_string_equal(ok(&run, VR_EVENT_SWAPPED, i), probe);
        assert_string_equal(ok(&run, VR_EVENT_PROBED, i), commit);
        assert_string_equal(ok(&run, VR_EVENT_COMMITTED, i), i < 4 ? "end survey" : "end finish");
        assert_int_equal(vr_rollout_phase(run.rollout, i), VR_PHASE_COMMITTED);
        if (i < 4)
            assert_string_equal(say(&run, VR_EVENT_SURVEY), next);
    }
    expect_end(&run, VR_RUN_COMPLETED, NULL);
    assert_null(view_of(&run).error_text);
    assert_int_equal(view_of(&run).successful, 5);
}

/* All of a batch are prepared before the first goes down. */
static void test_prepare_then_swap(void **state)
{
    g_auto(Run) run = {0};

    set_up(&run, 10);
    assert_string_equal(launch(&run), "begin prepare 0 prepare 5");
    assert_string_equal(ok(&run, VR_EVENT_PREPARED, 5), "");
    assert_string_equal(ok(&run, VR_EVENT_PREPARED, 0), "swap 0 swap 5");
    assert_string_equal(ok(&run, VR_EVENT_SWAPPED, 5), "probe 5");
    assert_string_equal(ok(&run, VR_EVENT_PROBED, 5), "commit 5");
    assert_string_equal(ok(&run, VR_EVENT_COMMITTED, 5), "");
    assert_string_equal(ok(&run, VR_EVENT_SWAPPED, 0), "probe 0");
    assert_string_equal(comes_good(&run, 0), "end survey");
}

/* D18: those that are not chosen are not touched; when that is all, the run is over at once. */
static void test_skipped(void **state)
{
    g_auto(Run) run = {0}, none = {0};

    set_up(&run, 5);
    run.instances[0].chosen = run.instances[1].chosen = FALSE;
    assert_string_equal(launch(&run), "begin prepare 2");
    assert_int_equal(view_of(&run).skipped, 2);
    set_up(&none, 3);
    for (guint i = 0; i < 3; i++)
        none.instances[i].chosen = FALSE;
    none.rollout = vr_rollout_new(&none.config);
    assert_string_equal(say(&none, VR_EVENT_START), "finish");
    expect_end(&none, VR_RUN_COMPLETED, NULL);
}

/* D2, decision 1: exactly at the limit passes, one more stops before anything is touched. */
static void test_before(void **state)
{
    g_auto(Run) at = {0}, above = {0};

    set_up(&at, 10);
    at.answers[3] = at.answers[8] = VR_SURVEY_UNHEALTHY; /* of 10, 2 may be; the two are in UD 3 */
    assert_string_equal(launch(&at), "begin prepare 3 prepare 8");
    set_up(&above, 10);
    above.answers[3] = above.answers[8] = above.answers[0] = VR_SURVEY_UNHEALTHY;
    assert_string_equal(launch(&above), "finish");
    expect_end(&above, VR_RUN_FAULTED, VR_CODE_BEFORE_ROLLING);
    expect_text(&above, "3 of 10 instances (30%) are unhealthy, at most 2 (20%) may be");
    assert_int_equal(view_of(&above).pending, 10);
}

/* F8, decision 6: "for a newer version on top, instances that the earlier run left failed hold no place and do not count before
 * the start". They go first, a batch at a time, and count again from then on. */
static void test_on_top_of_a_stuck_run(void **state)
{
    g_auto(Run) run = {0};

    set_up(&run, 10); /* 2 a batch, 2 may be down */
    for (guint i = 0; i < 10; i += i == 0 ? 2 : 5) {
        run.instances[i].left_failed = TRUE; /* 0, 2, 7 */
        run.answers[i] = VR_SURVEY_UNHEALTHY;
    }
    run.config.policy.prioritize_unhealthy = FALSE;        /* whatever the policy says of others */
    run.answers[4] = run.answers[9] = VR_SURVEY_UNHEALTHY; /* as many others as may be down */
    assert_string_equal(launch(&run), "begin prepare 0");  /* and no healthy one with it */
    assert_string_equal(run.last_text,
                        "UD 0: 1 of 10 (10%), unhealthy first, 1 that an earlier run left failed, not 2: 2 "
                        "down elsewhere");
    TO_PROBES(&run, 0);
    comes_good(&run, 0);
    run.answers[0] = VR_SURVEY_HEALTHY;
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "begin prepare 2 prepare 7");
    TO_PROBES(&run, 2, 7);
    comes_good(&run, 2);
    assert_string_equal(comes_good(&run, 7), "end survey");
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "finish"); /* still unhealthy: now they count, 4 of 10 */
    expect_end(&run, VR_RUN_FAULTED, VR_CODE_IN_ROLLING);
}

/* Decision 6: only those, and only as long as they are not well. */
static void test_on_top_counts_others(void **state)
{
    g_auto(Run) others = {0}, well = {0}, stays = {0};

    set_up(&others, 10);
    others.instances[0].left_failed = TRUE;
    others.answers[0] = others.answers[1] = others.answers[2] = others.answers[3] = VR_SURVEY_UNHEALTHY;
    launch(&others);
    expect_end(&others, VR_RUN_FAULTED, VR_CODE_BEFORE_ROLLING);
    expect_text(&others, "3 of 10 instances (30%) are unhealthy");

    set_up(&well, 10);
    well.instances[7].left_failed = TRUE;
    launch(&well);
    TO_PROBES(&well, 0, 5);
    comes_good(&well, 0);
    comes_good(&well, 5);
    well.answers[7] = well.answers[8] = well.answers[9] = VR_SURVEY_UNHEALTHY; /* 7 was well, and fell ill again */
    say(&well, VR_EVENT_SURVEY);
    expect_end(&well, VR_RUN_FAULTED, VR_CODE_IN_ROLLING);

    set_up(&stays, 10);
    for (guint i = 0; i < 3; i++) {
        stays.instances[i].left_failed = TRUE;
        stays.instances[i].chosen = FALSE; /* this run does not mend them */
        stays.answers[i] = VR_SURVEY_UNHEALTHY;
    }
    launch(&stays);
    expect_end(&stays, VR_RUN_FAULTED, VR_CODE_BEFORE_ROLLING);
}

/* D24: no more than that are on their way, and when a rule puts back what failed (F3) neither. */
static void test_in_flight(void **state)
{
    g_auto(Run) run = {0};

    set_up(&run, 6);
    for (guint i = 0; i < 6; i++)
        run.instances[i].upgrade_domain = 0;
    run.config.policy.max_batch_percent = run.config.policy.max_unhealthy_percent = 100;
    run.config.policy.max_unhealthy_upgraded_percent = 75;
    run.config.policy.automatic_rollback = FALSE;
    run.config.policy.restore_on_breach = TRUE;
    run.config.policy.max_in_flight = 2;
    assert_string_equal(launch(&run), "begin prepare 0 prepare 1");
    TO_PROBES(&run, 0, 1);
    comes_good(&run, 0);
    assert_string_equal(bad(&run, VR_EVENT_PROBED, 1, VR_OUTCOME_FAILED, "a"), "end survey");
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "begin prepare 2 prepare 3");
    TO_PROBES(&run, 2, 3);
    bad(&run, VR_EVENT_PROBED, 2, VR_OUTCOME_FAILED, "b");
    assert_string_equal(bad(&run, VR_EVENT_PROBED, 3, VR_OUTCOME_FAILED, "c"), "end survey"); /* 3 of 4 may */
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "begin prepare 4 prepare 5");
    TO_PROBES(&run, 4, 5);
    bad(&run, VR_EVENT_PROBED, 4, VR_OUTCOME_FAILED, "d");
    assert_string_equal(bad(&run, VR_EVENT_PROBED, 5, VR_OUTCOME_FAILED, "e"), "end restore 1 restore 2");
    ok(&run, VR_EVENT_RESTORED, 2);
    assert_string_equal(bad(&run, VR_EVENT_RESTORED, 1, VR_OUTCOME_FAILED, "f"), "restore 3 restore 4");
    ok(&run, VR_EVENT_RESTORED, 3);
    assert_string_equal(ok(&run, VR_EVENT_RESTORED, 4), "restore 5");
    assert_string_equal(ok(&run, VR_EVENT_RESTORED, 5), "finish");
    expect_end(&run, VR_RUN_FAULTED, VR_CODE_UPGRADED);
    assert_int_equal(view_of(&run).restored, 4);
}

/* D3: the same check before every further batch. */
static void test_in_rolling(void **state)
{
    g_auto(Run) run = {0};

    set_up(&run, 10);
    launch(&run);
    TO_PROBES(&run, 0, 5);
    comes_good(&run, 0);
    assert_string_equal(comes_good(&run, 5), "end survey");
    run.answers[0] = run.answers[7] = run.answers[9] = VR_SURVEY_UNHEALTHY;
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "finish");
    expect_end(&run, VR_RUN_FAULTED, VR_CODE_IN_ROLLING);
    expect_text(&run, "3 of 10 instances (30%)");
    expect_text(&run, "2 upgraded, 0 restored, 8 not touched");
}

/* F1, D4, decision 3: a bad version reaches one instance of five, which is put back. */
static void test_bad_version(void **state)
{
    g_auto(Run) run = {0};

    set_up(&run, 5);
    launch(&run);
    TO_PROBES(&run, 0);
    assert_string_equal(bad(&run, VR_EVENT_PROBED, 0, VR_OUTCOME_FAILED, "no answer in 300 s"), "restore 0");
    assert_string_equal(run.last_text, "no answer in 300 s");
    assert_int_equal(vr_rollout_phase(run.rollout, 0), VR_PHASE_RESTORING);
    assert_string_equal(ok(&run, VR_EVENT_RESTORED, 0), "end finish");
    expect_end(&run, VR_RUN_FAULTED, VR_CODE_UPGRADED);
    expect_text(&run, "1 of 1 upgraded (100%) failed, at most 20% may");
    expect_text(&run, "the most common reason (1 of 1): no answer in 300 s");
    assert_int_equal(view_of(&run).restored, 1);
    assert_int_equal(view_of(&run).pending, 4);
    assert_string_equal(vr_rollout_reason(run.rollout, 0), "no answer in 300 s");
    assert_null(vr_rollout_reason(run.rollout, 1));
}

/* D4: exactly at the limit goes on; F12; at the end it is Completed, with what failed. */
static void test_upgraded_limit(void **state)
{
    g_auto(Run) run = {0};

    set_up(&run, 10);
    run.config.policy.max_unhealthy_upgraded_percent = 50;
    for (guint i = 0; i < 10; i++)
        run.instances[i].chosen = i % 5 < 2;
    launch(&run);
    TO_PROBES(&run, 0, 5);
    goes_back(&run, 0, "a");
    assert_string_equal(comes_good(&run, 5), "end survey"); /* 1 of 2 = 50 % */
    say(&run, VR_EVENT_SURVEY);
    TO_PROBES(&run, 1, 6);
    goes_back(&run, 1, "b");
    assert_string_equal(comes_good(&run, 6), "end finish");
    expect_end(&run, VR_RUN_COMPLETED, VR_CODE_FAILED_VMS); /* J5 */
    expect_text(&run, "2 of 4 instances (50%) failed; the most common reason (1 of 2): a");
    assert_int_equal(view_of(&run).failed, 2);
}

/* D4: one more than the limit stops. */
static void test_above_upgraded_limit(void **state)
{
    g_auto(Run) run = {0};

    set_up(&run, 15);
    run.config.policy.max_unhealthy_upgraded_percent = 33;
    launch(&run); /* 0 5 10 */
    TO_PROBES(&run, 0, 5, 10);
    goes_back(&run, 0, "a");
    comes_good(&run, 5);
    assert_string_equal(comes_good(&run, 10), "end finish");
    expect_end(&run, VR_RUN_FAULTED, VR_CODE_UPGRADED);
    expect_text(&run, "1 of 3 upgraded (33.4%) failed, at most 33% may");
}

/* SAFETY 18: even a limit of 100 % lets a version on which everything fails reach one batch. */
static void test_nothing_good(void **state)
{
    g_auto(Run) run = {0};

    set_up(&run, 5);
    run.config.policy.max_unhealthy_upgraded_percent = 100;
    run.config.same_reason_stops = FALSE;
    launch(&run);
    TO_PROBES(&run, 0);
    assert_string_equal(goes_back(&run, 0, "a"), "end finish");
    expect_end(&run, VR_RUN_FAULTED, VR_CODE_UPGRADED);
    expect_text(&run, "none came good");
}

/* F2: without automatic rollback the instance is left on the new disk, and holds a place until the end. */
static void test_no_rollback(void **state)
{
    g_auto(Run) run = {0};

    set_up(&run, 10);
    run.config.policy.automatic_rollback = FALSE;
    run.config.policy.max_unhealthy_upgraded_percent = 50;
    launch(&run);
    TO_PROBES(&run, 0, 5);
    comes_good(&run, 5);
    assert_string_equal(bad(&run, VR_EVENT_PROBED, 0, VR_OUTCOME_FAILED, "a"), "end survey");
    assert_int_equal(vr_rollout_phase(run.rollout, 0), VR_PHASE_FAILED);
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "begin prepare 1"); /* not 6: one is down elsewhere */
    ok(&run, VR_EVENT_PREPARED, 1);
    assert_string_equal(bad(&run, VR_EVENT_SWAPPED, 1, VR_OUTCOME_FAILED, "b"), "restore 1"); /* a swap is undone */
}

/* A failed preparation: the guest was not touched, the others of the batch go on, then the run stops. */
static void test_unprepared(void **state)
{
    g_auto(Run) run = {0}, alone = {0};

    set_up(&run, 10);
    run.config.policy.max_unhealthy_upgraded_percent = 50;
    launch(&run);
    assert_string_equal(bad(&run, VR_EVENT_PREPARED, 0, VR_OUTCOME_FAILED, "no space"), "");
    assert_string_equal(ok(&run, VR_EVENT_PREPARED, 5), "swap 5");
    ok(&run, VR_EVENT_SWAPPED, 5);
    assert_string_equal(comes_good(&run, 5), "end finish");
    expect_end(&run, VR_RUN_FAULTED, VR_CODE_INTERNAL);
    expect_text(&run, "no space");
    assert_int_equal(vr_rollout_phase(run.rollout, 0), VR_PHASE_FAILED);
    set_up(&alone, 5); /* 1 of 1 failed, but nothing was upgraded: no fault of the version */
    launch(&alone);
    assert_string_equal(bad(&alone, VR_EVENT_PREPARED, 0, VR_OUTCOME_UNTOUCHED, "no space"), "end finish");
    expect_end(&alone, VR_RUN_FAULTED, VR_CODE_INTERNAL);
}

/* A guest that would not stop runs on its old disk: like a failed preparation. */
static void test_untouched(void **state)
{
    g_auto(Run) run = {0};

    set_up(&run, 5);
    launch(&run);
    ok(&run, VR_EVENT_PREPARED, 0);
    assert_string_equal(bad(&run, VR_EVENT_SWAPPED, 0, VR_OUTCOME_UNTOUCHED, "did not stop"), "end finish");
    expect_end(&run, VR_RUN_FAULTED, VR_CODE_INTERNAL);
    expect_text(&run, "still run on their old disks");
}

/* SAFETY 16: what is not known stops the run, and a person must look. */
static void test_unknown(void **state)
{
    static const VrEventType at[] = {VR_EVENT_PREPARED, VR_EVENT_SWAPPED, VR_EVENT_PROBED, VR_EVENT_COMMITTED,
                                     VR_EVENT_RESTORED};

    for (guint k = 0; k < G_N_ELEMENTS(at); k++) {
        g_auto(Run) run = {0};

        set_up(&run, 5);
        launch(&run);
        for (guint before = 0; before < k && before < 2; before++)
            ok(&run, at[before], 0);
        if (at[k] == VR_EVENT_COMMITTED)
            ok(&run, VR_EVENT_PROBED, 0);
        if (at[k] == VR_EVENT_RESTORED)
            bad(&run, VR_EVENT_PROBED, 0, VR_OUTCOME_FAILED, "a");
        assert_string_equal(bad(&run, at[k], 0, VR_OUTCOME_UNKNOWN, NULL), "end finish");
        expect_end(&run, VR_RUN_FAULTED, VR_CODE_INTERNAL);
        assert_int_equal(view_of(&run).unknown, 1);
        expect_text(&run, "a person must look");
    }
}

/* F12: a restore that failed is counted, and both reasons are kept. */
static void test_restore_failed(void **state)
{
    g_auto(Run) run = {0};

    set_up(&run, 5);
    launch(&run);
    ok(&run, VR_EVENT_PREPARED, 0);
    assert_string_equal(bad(&run, VR_EVENT_SWAPPED, 0, VR_OUTCOME_FAILED, "refused"), "restore 0");
    bad(&run, VR_EVENT_RESTORED, 0, VR_OUTCOME_FAILED, "refused too");
    assert_int_equal(view_of(&run).restore_failed, 1);
    assert_int_equal(view_of(&run).restored, 0);
    assert_string_equal(vr_rollout_reason(run.rollout, 0), "refused; then: refused too");
    expect_end(&run, VR_RUN_FAULTED, VR_CODE_UPGRADED);
}

static void test_commit_failed(void **state)
{
    g_auto(Run) run = {0};

    set_up(&run, 10);
    run.config.policy.max_unhealthy_upgraded_percent = 50;
    launch(&run);
    TO_PROBES(&run, 0, 5);
    comes_good(&run, 5);
    ok(&run, VR_EVENT_PROBED, 0);
    assert_string_equal(bad(&run, VR_EVENT_COMMITTED, 0, VR_OUTCOME_FAILED, "disk full"), "end finish");
    expect_end(&run, VR_RUN_FAULTED, VR_CODE_INTERNAL);
    expect_text(&run, "could not be recorded");
}

/* Two batches of one that fail for the same reason, after enough good ones for the limit. */
static void fail_two_alone(Run *run, const char *first, const char *second)
{
    set_up(run, 5);
    run->config.policy.max_unhealthy_upgraded_percent = 50;
    launch(run);
    for (guint i = 0; i < 2; i++) {
        TO_PROBES(run, i);
        comes_good(run, i);
        say(run, VR_EVENT_SURVEY);
    }
    TO_PROBES(run, 2);
    assert_string_equal(goes_back(run, 2, first), "end survey");
    say(run, VR_EVENT_SURVEY);
    TO_PROBES(run, 3);
    goes_back(run, 3, second);
}

/* Decision 9, SAFETY 25: the same reason, digits apart, in two batches one after the other. */
static void test_same_reason_twice(void **state)
{
    g_auto(Run) same = {0}, other = {0};

    fail_two_alone(&same, "no address on 02:11", "no address on 02:12");
    expect_end(&same, VR_RUN_FAULTED, VR_CODE_FAILED_VMS);
    expect_text(&same,
                "the same failure on all 2 instances of 2 batches one after the other: the image's fault or ours");
    fail_two_alone(&other, "no address on 02:11", "no agent");
    assert_false(view_of(&other).finished);
}

/* Decision 9: ... or on a whole batch of two; it can be switched off. */
static void test_same_reason_batch(void **state)
{
    for (guint stops = 0; stops < 2; stops++) {
        g_auto(Run) run = {0};

        set_up(&run, 10);
        run.config.policy.max_unhealthy_upgraded_percent = 50;
        run.config.same_reason_stops = stops == 1;
        launch(&run);
        TO_PROBES(&run, 0, 5);
        comes_good(&run, 0);
        comes_good(&run, 5);
        say(&run, VR_EVENT_SURVEY);
        TO_PROBES(&run, 1, 6);
        goes_back(&run, 1, "no agent in 60 s");
        assert_string_equal(goes_back(&run, 6, "no agent in 61 s"), stops ? "end finish" : "end survey");
        if (stops)
            expect_end(&run, VR_RUN_FAULTED, VR_CODE_FAILED_VMS);
    }
}

/* D5: the pause, then the survey; a wake that is too early is asked for again, a double one is nothing. */
static void test_pause(void **state)
{
    g_auto(Run) run = {0};

    set_up(&run, 5);
    run.config.policy.pause_ms = 120000;
    launch(&run);
    TO_PROBES(&run, 0);
    assert_string_equal(comes_good(&run, 0), "end wake");
    assert_int_equal(run.last_at_ms, 121000);
    run.now_ms = 120999;
    assert_string_equal(say(&run, VR_EVENT_WAKE), "wake");
    assert_int_equal(run.last_at_ms, 121000);
    run.now_ms = 121000;
    assert_string_equal(say(&run, VR_EVENT_WAKE), "survey");
    assert_string_equal(say(&run, VR_EVENT_WAKE), "");
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "begin prepare 1");
}

/* Decision 2: with no place free the run looks again until the health timeout. */
static void test_waits_for_a_place(void **state)
{
    g_auto(Run) run = {0};

    set_up(&run, 5);
    run.config.health_timeout_ms = 12000;
    run.instances[4].chosen = FALSE;
    run.answers[4] = VR_SURVEY_UNHEALTHY;
    assert_string_equal(launch(&run), "wake");
    assert_int_equal(run.last_at_ms, 6000);
    run.now_ms = 6000;
    say(&run, VR_EVENT_WAKE);
    run.answers[4] = VR_SURVEY_HEALTHY;
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "begin prepare 0"); /* it came back */
    TO_PROBES(&run, 0);
    comes_good(&run, 0);
    run.answers[4] = VR_SURVEY_UNHEALTHY;
    for (guint k = 0; k < 3; k++) { /* 5 s, 10 s, 12 s: a wait of its own */
        assert_string_equal(say(&run, VR_EVENT_SURVEY), "wake");
        run.now_ms = run.last_at_ms;
        assert_string_equal(say(&run, VR_EVENT_WAKE), "survey");
    }
    assert_int_equal(run.now_ms, 18000);
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "finish");
    expect_end(&run, VR_RUN_FAULTED, VR_CODE_IN_ROLLING);
    expect_text(&run, "1 of 5 instances (20%) are down and hold the places, at most 1 (20%)");
    expect_text(&run, "repair them, take them out with 'virt-reimage protect', or raise maxUnhealthyInstancePercent");
    for (guint i = 0; i < 5; i++)
        assert_int_equal(vr_rollout_holds_place(run.rollout, i), i == 4);
}

/* G7, decision 2: what a person has taken out stops nothing, before the start or later, as long as this run has not moved it. */
static void test_protected(void **state)
{
    g_auto(Run) run = {0}, named = {0};

    set_up(&run, 5);
    for (guint i = 2; i < 5; i++) {
        run.instances[i].is_protected = TRUE;
        run.instances[i].chosen = FALSE;
    }
    run.answers[3] = run.answers[4] = VR_SURVEY_UNHEALTHY; /* of 5, 1 may be down */
    assert_string_equal(launch(&run), "begin prepare 0");
    TO_PROBES(&run, 0);
    comes_good(&run, 0);
    run.answers[2] = VR_SURVEY_UNHEALTHY;
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "begin prepare 1");
    TO_PROBES(&run, 1);
    assert_string_equal(comes_good(&run, 1), "end finish");
    expect_end(&run, VR_RUN_COMPLETED, NULL);

    set_up(&named, 10);
    named.instances[0].is_protected = named.instances[0].named = TRUE;
    named.answers[0] = named.answers[8] = named.answers[9] = VR_SURVEY_UNHEALTHY; /* of 10, 2 may be */
    assert_string_equal(launch(&named), "begin prepare 0");
    TO_PROBES(&named, 0);
    comes_good(&named, 0);
    say(&named, VR_EVENT_SURVEY); /* still unhealthy, and now it counts */
    expect_end(&named, VR_RUN_FAULTED, VR_CODE_IN_ROLLING);
    expect_text(&named, "3 of 10 instances (30%) are unhealthy, at most 2 (20%) may be");
}

/* A survey that could not be made is no answer: nothing begins on it, and the wait for it ends. */
static void test_blind(void **state)
{
    g_auto(Run) run = {0};
    VrEvent blind = {.type = VR_EVENT_SURVEY, .outcome = VR_OUTCOME_FAILED, .reason = "libvirt is gone"};

    set_up(&run, 5);
    run.config.health_timeout_ms = 5000;
    run.rollout = vr_rollout_new(&run.config);
    say(&run, VR_EVENT_START);
    assert_string_equal(step_full(&run, &blind), "wake");
    run.now_ms = 6000;
    say(&run, VR_EVENT_WAKE);
    assert_string_equal(step_full(&run, &blind), "finish");
    expect_end(&run, VR_RUN_FAULTED, VR_CODE_INTERNAL);
    expect_text(&run, "libvirt is gone");
}

static void test_names(void **state)
{
    assert_string_equal(vr_run_status_name(VR_RUN_ROLLING_FORWARD), "RollingForward"); /* J2 */
    assert_string_equal(vr_run_status_name(VR_RUN_CANCELLED), "Cancelled");
    assert_string_equal(vr_run_status_name(VR_RUN_COMPLETED), "Completed");
    assert_string_equal(vr_run_status_name(VR_RUN_FAULTED), "Faulted");
    assert_string_equal(vr_run_kind_name(VR_RUN_REIMAGE), "reimage");
    for (guint phase = VR_PHASE_PENDING; phase <= VR_PHASE_UNKNOWN; phase++)
        assert_non_null(vr_instance_phase_name(phase));
}

/* L2: 10,000 instances; the cost of a step does not grow with them. */
static void test_large(void **state)
{
    const guint count = 10000;
    g_autofree VrRolloutInstance *instances = g_new0(VrRolloutInstance, count);
    g_autofree VrSurveyAnswer *answers = g_new0(VrSurveyAnswer, count);
    g_autoptr(GArray) commands = g_array_new(FALSE, FALSE, sizeof(VrCommand));
    g_autoptr(VrRollout) rollout = NULL;
    VrRolloutConfig config = {
        .policy = {.max_batch_percent = 5, .max_unhealthy_percent = 20}, .count = count, .instances = instances};
    VrEvent event = {.type = VR_EVENT_START, .answers = answers};
    gint64 began = g_get_monotonic_time();
    static const VrEventType reply[] = {[VR_COMMAND_SURVEY] = VR_EVENT_SURVEY,
                                        [VR_COMMAND_PREPARE] = VR_EVENT_PREPARED,
                                        [VR_COMMAND_SWAP] = VR_EVENT_SWAPPED,
                                        [VR_COMMAND_PROBE] = VR_EVENT_PROBED,
                                        [VR_COMMAND_COMMIT] = VR_EVENT_COMMITTED};
    VrRolloutView view;

    for (guint i = 0; i < count; i++)
        instances[i] = (VrRolloutInstance){i % 20, TRUE};
    rollout = vr_rollout_new(&config);
    vr_rollout_step(rollout, &event, 0, commands);
    for (guint k = 0; k < commands->len; k++) { /* texts are kept: they are few */
        VrCommand command = g_array_index(commands, VrCommand, k);

        g_free(command.text);
        if (command.type == VR_COMMAND_BATCH_BEGIN || command.type == VR_COMMAND_BATCH_END ||
            command.type == VR_COMMAND_FINISH)
            continue;
        event.type = reply[command.type];
        event.instance = command.instance;
        vr_rollout_step(rollout, &event, k, commands);
    }
    vr_rollout_view(rollout, &view);
    assert_int_equal(view.status, VR_RUN_COMPLETED);
    assert_int_equal(view.successful, count);
    assert_int_equal(view.batch_number, 20);
    assert_true(g_get_monotonic_time() - began < 2000000); /* 40,000 steps, with sanitizers */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_five),
        cmocka_unit_test(test_prepare_then_swap),
        cmocka_unit_test(test_skipped),
        cmocka_unit_test(test_in_flight),
        cmocka_unit_test(test_on_top_of_a_stuck_run),
        cmocka_unit_test(test_on_top_counts_others),
        cmocka_unit_test(test_before),
        cmocka_unit_test(test_in_rolling),
        cmocka_unit_test(test_bad_version),
        cmocka_unit_test(test_upgraded_limit),
        cmocka_unit_test(test_above_upgraded_limit),
        cmocka_unit_test(test_nothing_good),
        cmocka_unit_test(test_no_rollback),
        cmocka_unit_test(test_unprepared),
        cmocka_unit_test(test_untouched),
        cmocka_unit_test(test_unknown),
        cmocka_unit_test(test_restore_failed),
        cmocka_unit_test(test_commit_failed),
        cmocka_unit_test(test_same_reason_twice),
        cmocka_unit_test(test_same_reason_batch),
        cmocka_unit_test(test_pause),
        cmocka_unit_test(test_waits_for_a_place),
        cmocka_unit_test(test_protected),
        cmocka_unit_test(test_blind),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_large),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
