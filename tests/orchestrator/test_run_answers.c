/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* F5, G11: what each command of a person meets at each point of a run; the table against the rollout itself. And F3. */
#include "orchestrator/rollout_runs.h"

#include "orchestrator/run_answers.h"

/* ---- to each point ---- */

static void to_batch(Run *run)
{
    launch(run);
}

static void one_done(Run *run)
{
    launch(run);
    TO_PROBES(run, 0);
    comes_good(run, 0);
}

static void to_between(Run *run)
{
    run->config.policy.pause_ms = 60000;
    one_done(run);
}

static void to_paused(Run *run)
{
    to_between(run);
    say(run, VR_EVENT_PAUSE);
}

static void to_approval(Run *run)
{
    run->config.policy.approval = TRUE;
    run->rollout = vr_rollout_new(&run->config);
    say(run, VR_EVENT_START);
}

static void to_walk(Run *run)
{
    run->config.walk = TRUE;
    run->rollout = vr_rollout_new(&run->config);
    say(run, VR_EVENT_START);
}

static void to_canary(Run *run)
{
    run->instances[0].canary = TRUE;
    one_done(run);
}

static void to_checkpoint(Run *run)
{
    run->config.policy.checkpoints[0] = 20;
    run->config.policy.checkpoint_wait_ms = 60000;
    one_done(run);
}

static void to_bake(Run *run)
{
    run->config.policy.bake_ms = 600000;
    run->config.count = 1;
    one_done(run);
}

static void to_window(Run *run)
{
    run->config.window = TRUE;
    run->rollout = vr_rollout_new(&run->config);
    say(run, VR_EVENT_START);
    ok(run, VR_EVENT_WINDOW, 0); /* it is shut */
}

static void to_ending(Run *run)
{
    launch(run);
    say(run, VR_EVENT_CANCEL);
}

static const struct {
    VrRunPoint point;
    void (*reach)(Run *run);
} points[] = {
    {VR_POINT_BATCH, to_batch},           {VR_POINT_BETWEEN, to_between}, {VR_POINT_PAUSED, to_paused},
    {VR_POINT_APPROVAL, to_approval},     {VR_POINT_WALK, to_walk},       {VR_POINT_CANARY, to_canary},
    {VR_POINT_CHECKPOINT, to_checkpoint}, {VR_POINT_BAKE, to_bake},       {VR_POINT_WINDOW, to_window},
    {VR_POINT_ENDING, to_ending},
};

static const VrEventType events[] = {VR_EVENT_PAUSE, VR_EVENT_RESUME,  VR_EVENT_CANCEL, VR_EVENT_CANCEL_NOW,
                                     VR_EVENT_WALK,  VR_EVENT_PROMOTE, VR_EVENT_APPROVE};

/* What the rollout remembers, with where it stands: equal before and after where an event did nothing. */
static char *picture(const Run *run)
{
    VrRolloutView view = view_of(run);
    g_autofree char *kept = vr_rollout_save(run->rollout, run->now_ms, "a boot");

    return g_strdup_printf("%d %d %d %u %s", view.point, view.finished, view.pause_requested, view.in_progress, kept);
}

/* "now" does something at once, "at the border" is remembered, "already" and "refused" change nothing. */
static void test_the_table_is_what_the_rollout_does(void **state)
{
    for (guint p = 0; p < G_N_ELEMENTS(points); p++) {
        for (guint e = 0; e < G_N_ELEMENTS(events); e++) {
            g_auto(Run) run = {0};
            VrAnswer answer = vr_run_answer(vr_operation_of_event(events[e]), points[p].point);
            g_autofree char *before = NULL, *after = NULL;

            set_up(&run, 5);
            points[p].reach(&run);
            assert_int_equal(view_of(&run).point, points[p].point);
            /* what may be undone or renewed is first there to be undone */
            if (events[e] == VR_EVENT_RESUME && points[p].point == VR_POINT_BATCH)
                say(&run, VR_EVENT_PAUSE);
            if (events[e] == VR_EVENT_RESUME && points[p].point == VR_POINT_BETWEEN) {
                run.now_ms += 60000;
                say(&run, VR_EVENT_WAKE);
                say(&run, VR_EVENT_PAUSE); /* with a survey out, it holds only when that is back */
            }
            if (events[e] == VR_EVENT_APPROVE && points[p].point == VR_POINT_PAUSED)
                continue; /* counts where the approval is still to come; test_rollout_holds.c */
            if (events[e] == VR_EVENT_APPROVE && answer == VR_ANSWER_ALREADY)
                continue; /* nobody needs it */
            before = picture(&run);
            ok(&run, events[e], 0);
            after = picture(&run);
            if (answer == VR_ANSWER_NOW && events[e] == VR_EVENT_CANCEL_NOW && points[p].point == VR_POINT_ENDING)
                continue; /* a batch that is being prepared hears it with its next answer */
            if (answer == VR_ANSWER_NOW || answer == VR_ANSWER_BORDER)
                assert_string_not_equal(before, after);
            else
                assert_string_equal(before, after);
        }
    }
}

static void test_there_is_always_an_answer(void **state)
{
    for (guint operation = 0; operation < VR_DO_LAST_; operation++) {
        for (guint point = 0; point <= VR_POINT_INTERRUPTED; point++) {
            VrAnswer answer = vr_run_answer(operation, point);

            assert_non_null(vr_answer_name(answer));
            if (answer == VR_ANSWER_REFUSED)
                assert_true(strlen(vr_run_refusal(operation, point)) > 10);
        }
    }
}

/* docs/control.md has the same table, row by row and column by column. */
static void test_the_document_says_the_same(void **state)
{
    g_autofree char *path = g_build_filename(g_getenv("VR_SOURCE_DIR"), "docs/control.md", NULL);
    g_autofree char *text = NULL;
    g_autoptr(GString) head = g_string_new("| |");

    assert_true(g_file_get_contents(path, &text, NULL, NULL));
    for (guint point = 0; point <= VR_POINT_INTERRUPTED; point++)
        g_string_append_printf(head, " %s |", vr_run_point_name(point));
    assert_non_null(strstr(text, head->str));
    for (guint operation = 0; operation < VR_DO_LAST_; operation++) {
        g_autoptr(GString) row = g_string_new(NULL);

        g_string_append_printf(row, "| `%s` |", vr_operation_name(operation));
        for (guint point = 0; point <= VR_POINT_INTERRUPTED; point++)
            g_string_append_printf(row, " %s |", vr_answer_name(vr_run_answer(operation, point)));
        assert_non_null(strstr(text, row->str));
    }
}

/* D21: while a run is open no other one begins, but for the ways out. */
static void test_one_run_at_a_time(void **state)
{
    for (guint point = VR_POINT_NONE + 1; point <= VR_POINT_INTERRUPTED; point++) {
        assert_int_equal(vr_run_answer(VR_DO_RUN, point), VR_ANSWER_REFUSED);
        assert_int_equal(vr_run_answer(VR_DO_CHANGE, point), VR_ANSWER_REFUSED);
        assert_int_equal(vr_run_answer(VR_DO_REPLACE, point), VR_ANSWER_ENDS_RUN);
        assert_int_equal(vr_run_answer(VR_DO_ROLLBACK_ALL, point), VR_ANSWER_ENDS_RUN);
    }
}

/* F3: without automatic rollback, what was left on the bad disk goes back once the policy has ended the run. */
static void test_amends(void **state)
{
    g_auto(Run) run = {0};

    set_up(&run, 5);
    run.config.policy.automatic_rollback = FALSE;
    run.config.policy.restore_on_breach = TRUE;
    launch(&run);
    TO_PROBES(&run, 0);
    assert_string_equal(bad(&run, VR_EVENT_PROBED, 0, VR_OUTCOME_FAILED, "it never answered"), "end restore 0");
    assert_false(view_of(&run).finished);
    assert_true(view_of(&run).locked);
    assert_int_equal(view_of(&run).point, VR_POINT_ENDING);
    assert_string_equal(say(&run, VR_EVENT_CANCEL_NOW), "");
    assert_string_equal(ok(&run, VR_EVENT_RESTORED, 0), "finish");
    assert_int_equal(view_of(&run).status, VR_RUN_FAULTED);
    assert_int_equal(view_of(&run).restored, 1);
    assert_string_equal(view_of(&run).error_code, VR_CODE_UPGRADED);
    assert_non_null(strstr(view_of(&run).error_text, "1 put back"));
}

/* Nobody can promote a bake that a rule has ended. */
static void test_promote_does_not_end_amends(void **state)
{
    g_auto(Run) run = {0};

    set_up(&run, 2);
    run.config.policy.automatic_rollback = FALSE;
    run.config.policy.restore_on_breach = TRUE;
    run.config.policy.max_unhealthy_upgraded_percent = 60;
    run.config.policy.bake_ms = 600000;
    launch(&run);
    TO_PROBES(&run, 0);
    comes_good(&run, 0);
    say(&run, VR_EVENT_SURVEY);
    TO_PROBES(&run, 1);
    bad(&run, VR_EVENT_PROBED, 1, VR_OUTCOME_FAILED, "it never answered");
    assert_int_equal(view_of(&run).point, VR_POINT_BAKE);
    run.now_ms += 60000;
    say(&run, VR_EVENT_WAKE);
    run.answers[0] = VR_SURVEY_UNHEALTHY; /* E14 */
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "restore 1");
    assert_string_equal(say(&run, VR_EVENT_PROMOTE), "");
    assert_string_equal(ok(&run, VR_EVENT_RESTORED, 1), "finish");
    assert_int_equal(view_of(&run).status, VR_RUN_FAULTED);
}

static void test_no_amends(void **state)
{
    g_auto(Run) run = {0};

    set_up(&run, 5); /* off by default */
    run.config.policy.automatic_rollback = FALSE;
    launch(&run);
    TO_PROBES(&run, 0);
    assert_string_equal(bad(&run, VR_EVENT_PROBED, 0, VR_OUTCOME_FAILED, "it never answered"), "end finish");
    assert_int_equal(view_of(&run).restored, 0);

    /* no rule was broken: what failed within the limit stays, as the person who started it wished */
    g_auto(Run) within = {0};
    set_up(&within, 2);
    within.config.policy.automatic_rollback = FALSE;
    within.config.policy.restore_on_breach = TRUE;
    within.config.policy.max_unhealthy_upgraded_percent = 60;
    launch(&within);
    TO_PROBES(&within, 0);
    comes_good(&within, 0);
    say(&within, VR_EVENT_SURVEY);
    TO_PROBES(&within, 1);
    assert_string_equal(bad(&within, VR_EVENT_PROBED, 1, VR_OUTCOME_FAILED, "it never answered"), "end finish");
    assert_int_equal(view_of(&within).status, VR_RUN_COMPLETED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_table_is_what_the_rollout_does),
        cmocka_unit_test(test_there_is_always_an_answer),
        cmocka_unit_test(test_the_document_says_the_same),
        cmocka_unit_test(test_one_run_at_a_time),
        cmocka_unit_test(test_amends),
        cmocka_unit_test(test_promote_does_not_end_amends),
        cmocka_unit_test(test_no_amends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
