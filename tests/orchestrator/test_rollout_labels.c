/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A run keeps to roles, zones, phases and pairs as its surveys find the set: D8, D9, D10, D30. */
#include "orchestrator/rollout_runs.h"

static const VrLabel web = {"web", 1}, worker = {"worker", 2}, zone_a = {"a", 1}, zone_b = {"b", 2}, pair = {"p", 1};

/* All in one domain, and nothing but labels limits a batch. */
static void set_up_labels(Run *run, guint count)
{
    set_up(run, count);
    run->config.policy.max_batch_percent = run->config.policy.max_unhealthy_percent = 100;
    run->config.policy.max_unhealthy_upgraded_percent = 100;
    for (guint i = 0; i < count; i++)
        run->instances[i].upgrade_domain = 0;
}

/* D9, D10, D27: phase by phase, zone by zone, the next when the last are back. */
static void test_zones_and_phases(void **state)
{
    g_auto(Run) run = {0};

    set_up_labels(&run, 4);
    run.instances[0].zone = run.instances[1].zone = run.instances[3].zone = zone_a;
    run.instances[2].zone = zone_b;
    run.instances[2].phase = 1;
    run.instances[3].phase = 2;
    assert_string_equal(launch(&run), "begin prepare 2");
    assert_string_equal(run.last_text, "phase 1, UD 0, zone b: 1 of 4 (25%)");
    TO_PROBES(&run, 2);
    assert_string_equal(comes_good(&run, 2), "end survey");
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "begin prepare 3");
    TO_PROBES(&run, 3);
    assert_string_equal(comes_good(&run, 3), "end survey");
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "begin prepare 0 prepare 1");
}

/* D8: the last of a role waits until another is healthy again, and then the run stops and says so. */
static void test_last_of_a_role(void **state)
{
    g_auto(Run) run = {0};

    set_up_labels(&run, 3);
    run.instances[0].role = run.instances[1].role = web;
    run.instances[1].chosen = FALSE;
    run.answers[1] = VR_SURVEY_UNHEALTHY;
    assert_string_equal(launch(&run), "begin prepare 2");
    TO_PROBES(&run, 2);
    comes_good(&run, 2);
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "wake");
    run.now_ms = run.last_at_ms;
    say(&run, VR_EVENT_WAKE);
    run.answers[1] = VR_SURVEY_HEALTHY;
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "begin prepare 0");
    assert_string_equal(run.last_text, "UD 0, role web: 1 of 3 (33%)");
}

static void test_last_of_a_role_stops(void **state)
{
    g_auto(Run) run = {0};

    set_up_labels(&run, 2);
    run.instances[0].role = run.instances[1].role = web;
    run.instances[1].chosen = FALSE;
    run.answers[1] = VR_SURVEY_UNHEALTHY;
    assert_string_equal(launch(&run), "wake");
    run.now_ms += 300000;
    say(&run, VR_EVENT_WAKE);
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "finish");
    expect_end(&run, VR_RUN_FAULTED, VR_CODE_IN_ROLLING);
    expect_text(&run, "the last instance of role web that serves");
}

/* Decision 14: one that is off on purpose serves nobody, and is no part of its role. */
static void test_off_serves_nobody(void **state)
{
    g_auto(Run) run = {0};

    set_up_labels(&run, 3);
    run.instances[0].role = run.instances[1].role = run.instances[2].role = web;
    run.answers[2] = VR_SURVEY_OFF;
    assert_string_equal(launch(&run), "begin prepare 0 prepare 2");
}

/* D8: one that this run has left on neither disk is off, but not on purpose: the other of its role stays. */
static void test_failed_and_off_is_of_its_role(void **state)
{
    g_auto(Run) run = {0};

    set_up_labels(&run, 3);
    run.instances[1].role = run.instances[2].role = web;
    run.instances[0].phase = 1; /* comes good, so that the run goes on */
    run.instances[1].phase = 2;
    launch(&run);
    TO_PROBES(&run, 0);
    comes_good(&run, 0);
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "begin prepare 1");
    TO_PROBES(&run, 1);
    bad(&run, VR_EVENT_PROBED, 1, VR_OUTCOME_FAILED, "it never answered");
    assert_string_equal(bad(&run, VR_EVENT_RESTORED, 1, VR_OUTCOME_FAILED, "it does not start"), "end survey");
    run.answers[1] = VR_SURVEY_OFF;
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "wake");
    run.now_ms += 300000;
    say(&run, VR_EVENT_WAKE);
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "finish");
    expect_text(&run, "the last instance of role web that serves");
}

/* D10 */
static void test_pair_stops(void **state)
{
    g_auto(Run) run = {0};

    set_up_labels(&run, 2);
    run.instances[0].pair = run.instances[1].pair = pair;
    run.instances[1].chosen = FALSE;
    run.answers[1] = VR_SURVEY_UNHEALTHY;
    assert_string_equal(launch(&run), "wake");
    run.now_ms += 300000;
    say(&run, VR_EVENT_WAKE);
    say(&run, VR_EVENT_SURVEY);
    expect_end(&run, VR_RUN_FAULTED, VR_CODE_IN_ROLLING);
    expect_text(&run, "another instance of pair p is down");
}

/* D30, D17: a whole domain; and a canary of a later phase is not held up by the phases of the others. */
static void test_by_domain(void **state)
{
    g_auto(Run) run = {0};

    set_up(&run, 10);
    run.config.policy.by_domain = TRUE;
    run.config.policy.max_batch_percent = 5;
    assert_string_equal(launch(&run), "begin prepare 0 prepare 5");
}

static void test_canary_before_phases(void **state)
{
    g_auto(Run) run = {0};

    set_up_labels(&run, 3);
    run.instances[0].phase = run.instances[1].phase = 1;
    run.instances[2].canary = TRUE;
    assert_string_equal(launch(&run), "begin prepare 2");
    TO_PROBES(&run, 2);
    assert_string_equal(comes_good(&run, 2), "end hold");
    assert_string_equal(say(&run, VR_EVENT_PROMOTE), "survey");
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "begin prepare 0 prepare 1");
}

/* D14: what guests say is heard at each survey; the number of the newest counts, none is the last phase. */
static void test_guests_order(void **state)
{
    g_auto(Run) run = {0};

    set_up_labels(&run, 4);
    run.wishes[0].phase = 3;
    run.wishes[1].phase = run.wishes[3].phase = 2; /* PhaseOrderingNumber 1 */
    assert_string_equal(launch(&run), "begin prepare 1 prepare 3");
    assert_string_equal(run.last_text, "phase 1 of the guests, UD 0: 2 of 4 (50%)");
    TO_PROBES(&run, 1, 3);
    comes_good(&run, 1);
    assert_string_equal(comes_good(&run, 3), "end survey");
    run.wishes[0].phase = 0; /* changed their minds */
    run.wishes[2].phase = 9;
    run.wishes[3].skip = TRUE; /* too late */
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "begin prepare 2");
    TO_PROBES(&run, 2);
    assert_string_equal(comes_good(&run, 2), "end survey");
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "begin prepare 0");
    assert_int_equal(view_of(&run).skipped, 0);
}

/* D14: who asks once to be left out is, until the run ends, with a reason, and counts in the set. */
static void test_guest_skips(void **state)
{
    g_auto(Run) run = {0};

    set_up(&run, 10); /* a batch is 2, in one of five upgrade domains */
    run.wishes[0].skip = TRUE;
    assert_string_equal(launch(&run), "survey"); /* what holds a run is asked again for those that are left */
    assert_int_equal(vr_rollout_phase(run.rollout, 0), VR_PHASE_SKIPPED);
    assert_string_equal(vr_rollout_reason(run.rollout, 0), VR_GUEST_SKIPS);
    run.wishes[0].skip = FALSE;
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "begin prepare 5");
    assert_string_equal(run.last_text, "UD 0: 1 of 10 (10%)");
    assert_int_equal(view_of(&run).skipped, 1);
    TO_PROBES(&run, 5);
    comes_good(&run, 5);
    run.answers[0] = run.answers[1] = run.answers[2] = VR_SURVEY_UNHEALTHY; /* 3 of 10, at most 2 */
    say(&run, VR_EVENT_SURVEY);
    expect_end(&run, VR_RUN_FAULTED, VR_CODE_IN_ROLLING);
}

/* D14: all of them, or all that are left: the run is done. */
static void test_all_guests_skip(void **state)
{
    g_auto(Run) all = {0}, rest = {0};

    set_up_labels(&all, 3);
    for (guint i = 0; i < 3; i++)
        all.wishes[i].skip = TRUE;
    assert_string_equal(launch(&all), "finish");
    expect_end(&all, VR_RUN_COMPLETED, NULL);
    assert_false(view_of(&all).rollback_allowed);

    set_up_labels(&rest, 3);
    rest.instances[1].upgrade_domain = 1;
    rest.config.walk = TRUE;
    rest.rollout = vr_rollout_new(&rest.config);
    say(&rest, VR_EVENT_START);
    assert_string_equal(step_full(&rest, &(VrEvent){.type = VR_EVENT_WALK, .instance = 1}), "survey");
    rest.wishes[1].skip = TRUE;
    assert_string_equal(say(&rest, VR_EVENT_SURVEY), "hold"); /* nothing is left where one walked to */
    assert_string_equal(step_full(&rest, &(VrEvent){.type = VR_EVENT_WALK, .instance = 1}), "");
    rest.wishes[0].skip = rest.wishes[2].skip = TRUE;
    step_full(&rest, &(VrEvent){.type = VR_EVENT_WALK, .instance = 0});
    assert_string_equal(say(&rest, VR_EVENT_SURVEY), "finish");
    expect_end(&rest, VR_RUN_COMPLETED, NULL);
}

/* D14, G7: a person who names an instance means it; decision 6: a rollback asks nobody. */
static void test_word_of_a_person(void **state)
{
    g_auto(Run) named = {0}, back = {0};

    set_up_labels(&named, 3);
    named.instances[0].named = TRUE;
    named.instances[1].canary = TRUE;
    for (guint i = 0; i < 3; i++)
        named.wishes[i].skip = TRUE;
    assert_string_equal(launch(&named), "survey");
    assert_string_equal(say(&named, VR_EVENT_SURVEY), "begin prepare 1");
    TO_PROBES(&named, 1);
    comes_good(&named, 1);
    say(&named, VR_EVENT_PROMOTE);
    assert_string_equal(say(&named, VR_EVENT_SURVEY), "begin prepare 0");

    set_up_labels(&back, 3);
    back.config.kind = VR_RUN_ROLLBACK;
    back.wishes[0].skip = TRUE;
    back.wishes[2].phase = 1;
    assert_string_equal(launch(&back), "begin prepare 0 prepare 1 prepare 2");
}

/* D8, E14: one in ten is within the limit of the set, and half of its role is not within that of the role. */
static void test_limit_within_a_role(void **state)
{
    g_auto(Run) run = {0};

    set_up(&run, 10);
    run.config.same_reason_stops = FALSE;
    for (guint i = 0; i < 10; i++) {
        run.instances[i].role = i < 8 ? web : worker;
        run.instances[i].upgrade_domain = i < 8 ? 0 : 1;
    }
    launch(&run);
    for (guint i = 0; i < 8; i += 2) {
        TO_PROBES(&run, i, i + 1);
        comes_good(&run, i);
        comes_good(&run, i + 1);
        say(&run, VR_EVENT_SURVEY);
    }
    TO_PROBES(&run, 8); /* never both of a role */
    goes_back(&run, 8, "it never answered");
    expect_end(&run, VR_RUN_FAULTED, VR_CODE_UPGRADED);
    expect_text(&run, "1 of 1 upgraded (100%) of role worker failed, at most 20% may");
}

/* E14: who came good and fell ill later counts in his role, too: one in ten is within the limit of the set. */
static void test_falls_ill_within_a_role(void **state)
{
    g_auto(Run) run = {0};

    set_up(&run, 10);
    for (guint i = 0; i < 10; i++)
        run.instances[i].role = i < 8 ? web : worker;
    run.config.policy.bake_ms = 600000;
    launch(&run);
    for (guint i = 0; i < 5; i++) {
        TO_PROBES(&run, i, i + 5);
        comes_good(&run, i);
        comes_good(&run, i + 5);
        say(&run, VR_EVENT_SURVEY);
    }
    assert_int_equal(view_of(&run).point, VR_POINT_BAKE);
    run.answers[0] = VR_SURVEY_UNHEALTHY; /* one of eight of its role */
    run.now_ms += 60000;
    say(&run, VR_EVENT_WAKE);
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "wake");
    run.answers[0] = VR_SURVEY_HEALTHY;
    run.answers[8] = VR_SURVEY_UNHEALTHY;
    run.now_ms += 60000;
    say(&run, VR_EVENT_WAKE);
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "finish");
    expect_end(&run, VR_RUN_FAULTED, VR_CODE_UPGRADED);
    expect_text(&run,
                "1 of 2 upgraded (50%) of role worker are not healthy, 1 of them came good at first; at most 20%");
}

/* What was never touched is no fault of the version, in a role as in the set. */
static void test_untouched_within_a_role(void **state)
{
    g_auto(Run) run = {0};

    set_up(&run, 10);
    for (guint i = 0; i < 10; i++)
        run.instances[i].role = i % 2 ? web : worker;
    launch(&run);
    ok(&run, VR_EVENT_PREPARED, 0);
    bad(&run, VR_EVENT_PREPARED, 5, VR_OUTCOME_UNTOUCHED, "no space");
    ok(&run, VR_EVENT_SWAPPED, 0);
    comes_good(&run, 0);
    expect_end(&run, VR_RUN_FAULTED, VR_CODE_INTERNAL);
}

/* D30, G4: who walks names a whole upgrade domain. */
static void test_walk_takes_the_domain(void **state)
{
    g_auto(Run) run = {0};

    set_up(&run, 15);
    run.config.walk = TRUE;
    run.config.policy.max_batch_percent = 5;
    run.rollout = vr_rollout_new(&run.config);
    say(&run, VR_EVENT_START);
    ok(&run, VR_EVENT_WALK, 2);
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "begin prepare 2 prepare 7 prepare 12");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_zones_and_phases),
        cmocka_unit_test(test_last_of_a_role),
        cmocka_unit_test(test_last_of_a_role_stops),
        cmocka_unit_test(test_off_serves_nobody),
        cmocka_unit_test(test_failed_and_off_is_of_its_role),
        cmocka_unit_test(test_pair_stops),
        cmocka_unit_test(test_by_domain),
        cmocka_unit_test(test_canary_before_phases),
        cmocka_unit_test(test_guests_order),
        cmocka_unit_test(test_guest_skips),
        cmocka_unit_test(test_all_guests_skip),
        cmocka_unit_test(test_word_of_a_person),
        cmocka_unit_test(test_limit_within_a_role),
        cmocka_unit_test(test_falls_ill_within_a_role),
        cmocka_unit_test(test_untouched_within_a_role),
        cmocka_unit_test(test_walk_takes_the_domain),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
