/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The documents' own numbers, for whole runs: 20 % of everything, exactly at each limit and one more, and each error code out of the
 * situation that the document gives for it. D1, D2, D3, D4, D11, J5, decisions 1-3. Other numbers of theirs: spreads over upgrade domains in
 * test_planner.c, the five minutes in test_health.c, the history in tests/cli/test_history.py.
 */
#include "tests/orchestrator/rollout_runs.h"

#define MOST 25

/* A set of any size by the documented policy. */
typedef struct {
    Run run;
    VrRolloutInstance instances[MOST];
    VrSurveyAnswer answers[MOST];
} Set;

static void set_clear(Set *set)
{
    run_clear(&set->run);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Set, set_clear)

static void make(Set *set, guint count)
{
    set_up(&set->run, 0);
    set->run.config.count = count;
    set->run.config.instances = set->instances;
    for (guint i = 0; i < count; i++) {
        set->instances[i] = (VrRolloutInstance){.upgrade_domain = vr_planner_upgrade_domain(i, 5), .chosen = TRUE};
        set->answers[i] = VR_SURVEY_HEALTHY;
    }
}

static const char *survey(Set *set)
{
    VrEvent event = {.type = VR_EVENT_SURVEY, .answers = set->answers};

    return step_full(&set->run, &event);
}

static void begin(Set *set)
{
    set->run.rollout = vr_rollout_new(&set->run.config);
    assert_string_equal(say(&set->run, VR_EVENT_START), "survey");
    survey(set);
}

static void make_sick(Set *set, guint from, guint count)
{
    for (guint i = 0; i < count; i++)
        set->answers[from + i] = VR_SURVEY_UNHEALTHY;
}

/* The batch in flight comes to its end, its first `failing` members on their old disks. Gives its size. */
static guint finish_batch(Set *set, guint failing)
{
    guint members[MOST], count = 0;

    for (guint i = 0; i < set->run.config.count; i++)
        if (vr_rollout_phase(set->run.rollout, i) == VR_PHASE_PREPARING)
            members[count++] = i;
    to_probes(&set->run, count, members);
    for (guint k = 0; k < count; k++) {
        if (k < failing)
            goes_back(&set->run, members[k], k % 2 ? "no answer in 300 s" : "it says Unhealthy");
        else
            comes_good(&set->run, members[k]);
    }
    return count;
}

static const struct {
    guint count, allowed; /* 20 %, and at least one */
} sizes[] = {{1, 1}, {2, 1}, {5, 1}, {9, 1}, {10, 2}, {14, 2}, {15, 3}, {20, 4}, {25, 5}};

/* D1, D11: a batch is 20 % of the set and at least one; five or fewer go one by one; never all of a set together. */
static void test_batches(void **state)
{
    for (guint k = 0; k < G_N_ELEMENTS(sizes); k++) {
        g_auto(Set) set = {0};
        guint largest = 0;

        make(&set, sizes[k].count);
        begin(&set);
        while (!view_of(&set.run).finished) {
            guint size = finish_batch(&set, 0);

            largest = MAX(largest, size);
            if (!view_of(&set.run).finished)
                survey(&set);
        }
        expect_end(&set.run, VR_RUN_COMPLETED, NULL);
        assert_int_equal(view_of(&set.run).successful, sizes[k].count);
        assert_int_equal(largest, MIN(sizes[k].allowed, (sizes[k].count + 4) / 5)); /* no more than its domain has */
        assert_true(largest < sizes[k].count || sizes[k].count == 1);
        assert_true(sizes[k].count > 5 || view_of(&set.run).batch_number == sizes[k].count);
    }
}

/* D2, decision 1 */
static void test_before_the_start(void **state)
{
    for (guint k = 1; k < G_N_ELEMENTS(sizes); k++) {
        g_auto(Set) at = {0}, above = {0};

        make(&at, sizes[k].count);
        make_sick(&at, 0, sizes[k].allowed);
        begin(&at);
        assert_int_equal(view_of(&at.run).batch_number, 1);
        make(&above, sizes[k].count);
        make_sick(&above, 0, sizes[k].allowed + 1);
        begin(&above);
        expect_end(&above.run, VR_RUN_FAULTED, "MaxUnhealthyInstancePercentExceededBeforeRollingUpgrade");
        assert_int_equal(view_of(&above.run).pending, sizes[k].count);
    }
}

/* D3, decision 1: at the limit the run waits or goes on, but is not stopped by the check. */
static void test_before_each_batch(void **state)
{
    for (guint k = 1; k < G_N_ELEMENTS(sizes); k++) {
        for (guint more = 0; more < 2; more++) {
            g_auto(Set) set = {0};

            make(&set, sizes[k].count);
            begin(&set);
            finish_batch(&set, 0);
            make_sick(&set, sizes[k].count - sizes[k].allowed - more, sizes[k].allowed + more);
            survey(&set);
            if (more == 0)
                assert_false(view_of(&set.run).finished);
            else
                expect_end(&set.run, VR_RUN_FAULTED, "MaxUnhealthyInstancePercentExceededInRollingUpgrade");
        }
    }
}

/* D4, decision 3: 1 of 5 is 20 %. */
static void test_upgraded(void **state)
{
    for (guint failing = 1; failing <= 2; failing++) {
        g_auto(Set) set = {0};

        make(&set, 25);
        begin(&set);
        assert_int_equal(finish_batch(&set, failing), 5);
        if (failing == 1)
            assert_false(view_of(&set.run).finished);
        else
            expect_end(&set.run, VR_RUN_FAULTED, "MaxUnhealthyUpgradedInstancePercentExceededInRollingUpgrade");
    }
}

/* Decision 2: as many places as are allowed, and none more. */
static void test_places(void **state)
{
    for (guint down = 0; down <= 2; down++) {
        g_auto(Set) set = {0};

        make(&set, 10);
        make_sick(&set, 8, down);
        set.instances[8].chosen = set.instances[9].chosen = FALSE;
        begin(&set);
        assert_int_equal(view_of(&set.run).in_progress, 2 - down);
        assert_false(view_of(&set.run).finished);
    }
}

/* ---- J5: each code, with the details that it asks for ---- */

static void too_many_before(Set *set)
{
    make(set, 10);
    make_sick(set, 0, 3);
    begin(set);
}

static void too_many_later(Set *set)
{
    make(set, 10);
    begin(set);
    finish_batch(set, 0);
    make_sick(set, 7, 3);
    survey(set);
}

static void too_many_upgraded(Set *set)
{
    make(set, 25);
    begin(set);
    finish_batch(set, 3);
}

static void some_failed(Set *set)
{
    make(set, 25);
    begin(set);
    finish_batch(set, 1);
    while (!view_of(&set->run).finished) {
        survey(set);
        finish_batch(set, 0);
    }
}

static void host_fails(Set *set)
{
    make(set, 5);
    begin(set);
    bad(&set->run, VR_EVENT_PREPARED, 0, VR_OUTCOME_UNTOUCHED, "no space");
}

static void too_slow(Set *set)
{
    make(set, 5);
    set->run.config.policy.timeout_ms = 100000;
    begin(set);
    set->run.now_ms += 100000;
    finish_batch(set, 0);
}

static void test_codes(void **state)
{
    static const struct {
        void (*happens)(Set *set);
        VrRunStatus status;
        const char *code, *text;
    } rows[] = {
        {too_many_before, VR_RUN_FAULTED, "MaxUnhealthyInstancePercentExceededBeforeRollingUpgrade",
         "3 of 10 instances (30%) are unhealthy, at most 2 (20%) may be; nothing was touched"},
        {too_many_later, VR_RUN_FAULTED, "MaxUnhealthyInstancePercentExceededInRollingUpgrade",
         "3 of 10 instances (30%) are unhealthy, at most 2 (20%) may be; 2 upgraded, 0 restored, 8 not touched"},
        {too_many_upgraded, VR_RUN_FAULTED, "MaxUnhealthyUpgradedInstancePercentExceededInRollingUpgrade",
         "3 of 5 upgraded (60%) failed, at most 20% may; the most common reason (2 of 3): it says Unhealthy"},
        {some_failed, VR_RUN_COMPLETED, "RollingUpgradeInProgressWithFailedUpgradedVMs",
         "1 of 25 instances (4%) failed; the most common reason (1 of 1): it says Unhealthy"},
        {host_fails, VR_RUN_FAULTED, "InternalExecutionError", "could not be prepared or stopped"},
        {too_slow, VR_RUN_FAULTED, "RollingUpgradeTimeoutError", "not done within 1 min 40 s"},
    };

    for (guint k = 0; k < G_N_ELEMENTS(rows); k++) {
        g_auto(Set) set = {0};

        rows[k].happens(&set);
        expect_end(&set.run, rows[k].status, rows[k].code);
        expect_text(&set.run, rows[k].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batches),
        cmocka_unit_test(test_before_the_start),
        cmocka_unit_test(test_before_each_batch),
        cmocka_unit_test(test_upgraded),
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_codes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
