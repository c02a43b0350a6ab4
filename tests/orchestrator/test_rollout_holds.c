/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a run waits for between two batches, and what ends it there: D15-D17, D20, D23, E11, E14, F5, G3, G4, J10. */
#include "orchestrator/rollout_runs.h"

static VrHold hold_of(const Run *run)
{
    VrRolloutView view = view_of(run);

    assert_int_equal(view.hold == VR_HOLD_NONE, view.hold_text == NULL);
    return view.hold;
}

/* One instance of the batch in flight comes good, from PREPARED on; gives what follows. */
static const char *goes_through(Run *run, guint i)
{
    TO_PROBES(run, i);
    return comes_good(run, i);
}

static const char *walk_to(Run *run, guint domain)
{
    VrEvent event = {.type = VR_EVENT_WALK, .instance = domain};

    return step_full(run, &event);
}

static const char *gate_says(Run *run, VrOutcome outcome)
{
    VrEvent event = {.type = VR_EVENT_GATE, .outcome = outcome, .reason = "quorum would be lost"};

    return step_full(run, &event);
}

/* What status says of it; NULL: nothing. Nobody holds the run. */
static void expect_gate(const Run *run, const char *text)
{
    VrRolloutView view = view_of(run);

    assert_int_equal(g_strcmp0(view.gate_text, text), 0);
    assert_null(view.hold_text);
}

/* G3: at the batch border, not before; whatever else holds it, and as long as it takes. */
static void test_paused(void **state)
{
    g_auto(Run) run = {0};

    set_up(&run, 5);
    assert_string_equal(launch(&run), "begin prepare 0");
    assert_string_equal(say(&run, VR_EVENT_PAUSE), "");
    assert_true(view_of(&run).pause_requested);
    assert_true(view_of(&run).locked);
    assert_int_equal(hold_of(&run), VR_HOLD_NONE);
    assert_string_equal(goes_through(&run, 0), "end hold");
    assert_int_equal(hold_of(&run), VR_HOLD_PAUSED);
    assert_false(view_of(&run).locked);
    assert_true(view_of(&run).rollback_allowed);
    assert_int_equal(view_of(&run).hold_until_ms, 0);
    run.now_ms += 10 * 86400000LL;
    assert_string_equal(say(&run, VR_EVENT_WAKE), "");
    assert_string_equal(say(&run, VR_EVENT_PAUSE), "");
    assert_string_equal(say(&run, VR_EVENT_PROMOTE), "");
    assert_string_equal(say(&run, VR_EVENT_APPROVE), "");
    assert_string_equal(say(&run, VR_EVENT_RESUME), "survey");
    assert_string_equal(say(&run, VR_EVENT_RESUME), "");
    assert_string_equal(say(&run, VR_EVENT_PAUSE), ""); /* a survey is out */
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "hold");
    assert_string_equal(say(&run, VR_EVENT_CANCEL), "finish");
    expect_end(&run, VR_RUN_CANCELLED, NULL);
    assert_int_equal(hold_of(&run), VR_HOLD_NONE);
    assert_false(view_of(&run).rollback_allowed);
}

/* The pause between batches goes on while a person holds the run, and is not made longer by it. */
static void test_paused_in_a_pause(void **state)
{
    g_auto(Run) run = {0};

    set_up(&run, 5);
    run.config.policy.pause_ms = 60000;
    launch(&run);
    assert_string_equal(goes_through(&run, 0), "end wake");
    assert_string_equal(say(&run, VR_EVENT_PAUSE), "hold");
    run.now_ms += 20000;
    assert_string_equal(say(&run, VR_EVENT_RESUME), "wake");
    assert_int_equal(run.last_at_ms, 61000);
    assert_string_equal(say(&run, VR_EVENT_PAUSE), "hold");
    run.now_ms += 50000;
    assert_string_equal(say(&run, VR_EVENT_RESUME), "survey");
}

/* A wait for a place begins anew after a pause: it was not the set's fault. */
static void test_paused_without_a_place(void **state)
{
    g_auto(Run) run = {0};

    set_up(&run, 5);
    run.answers[4] = VR_SURVEY_UNHEALTHY;
    run.config.policy.prioritize_unhealthy = FALSE;
    run.instances[4].chosen = FALSE;
    assert_string_equal(launch(&run), "wake");
    assert_string_equal(say(&run, VR_EVENT_PAUSE), "hold");
    run.now_ms += 400000;
    assert_string_equal(say(&run, VR_EVENT_RESUME), "survey");
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "wake");
    run.now_ms += 300000;
    assert_string_equal(say(&run, VR_EVENT_WAKE), "survey");
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "finish");
    expect_end(&run, VR_RUN_FAULTED, VR_CODE_IN_ROLLING);
}

/* ... and at once, though the survey that was out could not be answered. */
static void test_paused_without_a_survey(void **state)
{
    VrEvent blind = {.type = VR_EVENT_SURVEY, .outcome = VR_OUTCOME_FAILED, .reason = "no connection"};
    g_auto(Run) run = {0};

    set_up(&run, 2);
    run.rollout = vr_rollout_new(&run.config);
    assert_string_equal(say(&run, VR_EVENT_START), "survey");
    assert_string_equal(say(&run, VR_EVENT_PAUSE), "");
    assert_string_equal(step_full(&run, &blind), "hold");
}

/* D20 */
static void test_approval(void **state)
{
    g_auto(Run) run = {0};

    set_up(&run, 5);
    run.config.policy.approval = TRUE;
    run.rollout = vr_rollout_new(&run.config);
    assert_string_equal(say(&run, VR_EVENT_START), "hold");
    assert_int_equal(hold_of(&run), VR_HOLD_APPROVAL);
    assert_string_equal(say(&run, VR_EVENT_RESUME), "");
    assert_string_equal(say(&run, VR_EVENT_PROMOTE), "");
    assert_string_equal(say(&run, VR_EVENT_PAUSE), "hold");
    assert_int_equal(hold_of(&run), VR_HOLD_PAUSED);
    assert_string_equal(say(&run, VR_EVENT_APPROVE), "");
    assert_string_equal(say(&run, VR_EVENT_RESUME), "survey"); /* approved already */
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "begin prepare 0");
    assert_string_equal(goes_through(&run, 0), "end survey");
}

/* G4: one upgrade domain at a time, by a person's word, in his order. */
static void test_walk(void **state)
{
    g_auto(Run) run = {0};

    set_up(&run, 10);
    run.config.walk = TRUE;
    run.rollout = vr_rollout_new(&run.config);
    assert_string_equal(say(&run, VR_EVENT_START), "hold");
    assert_int_equal(hold_of(&run), VR_HOLD_WALK);
    assert_string_equal(walk_to(&run, 5), ""); /* there are 0 to 4 */
    assert_string_equal(walk_to(&run, 3), "survey");
    assert_string_equal(walk_to(&run, 2), "");
    run.answers[2] = VR_SURVEY_UNHEALTHY; /* not its turn, though it is down */
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "begin prepare 3");
    run.answers[2] = VR_SURVEY_HEALTHY;
    assert_string_equal(goes_through(&run, 3), "end survey");
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "begin prepare 8");
    assert_string_equal(goes_through(&run, 8), "end hold");
    assert_string_equal(walk_to(&run, 3), ""); /* nothing is left there */
    assert_string_equal(walk_to(&run, 0), "survey");
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "begin prepare 0 prepare 5");
    TO_PROBES(&run, 0, 5);
    comes_good(&run, 0);
    assert_string_equal(comes_good(&run, 5), "end hold");
    assert_string_equal(say(&run, VR_EVENT_CANCEL), "finish");
    expect_end(&run, VR_RUN_CANCELLED, NULL);
}

/* D17, G4: a domain without a canary has nothing to move until 'promote', so that a walk into it would wait for nothing. */
static void test_walk_of_canaries(void **state)
{
    g_auto(Run) run = {0};

    set_up(&run, 10);
    run.config.walk = TRUE;
    run.instances[0].canary = run.instances[2].canary = TRUE;
    run.rollout = vr_rollout_new(&run.config);
    say(&run, VR_EVENT_START);
    assert_string_equal(walk_to(&run, 1), "");
    assert_string_equal(walk_to(&run, 0), "survey");
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "begin prepare 0");
    assert_string_equal(goes_through(&run, 0), "end hold"); /* instance 5 is in this domain, and it is not its turn */
    assert_int_equal(hold_of(&run), VR_HOLD_WALK);
    assert_string_equal(walk_to(&run, 0), "");
    assert_string_equal(walk_to(&run, 2), "survey");
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "begin prepare 2");
    assert_string_equal(goes_through(&run, 2), "end hold");
    assert_int_equal(hold_of(&run), VR_HOLD_CANARY);
    assert_string_equal(say(&run, VR_EVENT_PROMOTE), "survey");
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "begin prepare 7");
}

/* D17: the named ones first, then a person's word, once. */
static void test_canary(void **state)
{
    g_auto(Run) run = {0};

    set_up(&run, 5);
    run.instances[2].canary = run.instances[3].canary = TRUE;
    assert_string_equal(launch(&run), "begin prepare 2");
    assert_string_equal(say(&run, VR_EVENT_PROMOTE), "");
    assert_string_equal(goes_through(&run, 2), "end survey");
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "begin prepare 3");
    assert_string_equal(goes_through(&run, 3), "end hold");
    assert_int_equal(hold_of(&run), VR_HOLD_CANARY);
    assert_string_equal(say(&run, VR_EVENT_PROMOTE), "survey");
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "begin prepare 0");
    assert_string_equal(goes_through(&run, 0), "end survey");
}

/* A canary that fails stops by the rule that stops any version; promote does not help it. */
static void test_canary_fails(void **state)
{
    g_auto(Run) run = {0};

    set_up(&run, 5);
    run.instances[2].canary = TRUE;
    launch(&run);
    TO_PROBES(&run, 2);
    assert_string_equal(goes_back(&run, 2, "no network"), "end finish");
    expect_end(&run, VR_RUN_FAULTED, VR_CODE_UPGRADED);
}

/* D15: at 40 % and at 60 %, each for its time. */
static void test_checkpoints(void **state)
{
    g_auto(Run) run = {0};

    set_up(&run, 5);
    run.config.policy.checkpoints[0] = 40;
    run.config.policy.checkpoints[1] = 60;
    run.config.policy.checkpoint_wait_ms = 3600000;
    launch(&run);
    assert_string_equal(goes_through(&run, 0), "end survey");
    say(&run, VR_EVENT_SURVEY);
    assert_string_equal(goes_through(&run, 1), "end hold wake");
    assert_int_equal(hold_of(&run), VR_HOLD_CHECKPOINT);
    assert_int_equal(run.last_at_ms, 3601000);
    assert_int_equal(view_of(&run).hold_until_ms, 3601000);
    run.now_ms += 3599999;
    assert_string_equal(say(&run, VR_EVENT_WAKE), "wake");
    run.now_ms += 1;
    assert_string_equal(say(&run, VR_EVENT_WAKE), "survey");
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "begin prepare 2");
    assert_string_equal(goes_through(&run, 2), "end hold wake");
    assert_string_equal(say(&run, VR_EVENT_PROMOTE), "survey"); /* at once */
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "begin prepare 3");
    assert_string_equal(goes_through(&run, 3), "end survey");
}

/* A batch that crosses two checkpoints waits once. */
static void test_checkpoints_at_once(void **state)
{
    g_auto(Run) run = {0};

    set_up(&run, 10);
    run.config.policy.checkpoints[0] = 5;
    run.config.policy.checkpoints[1] = 20;
    run.config.policy.checkpoint_wait_ms = 1000;
    launch(&run);
    TO_PROBES(&run, 0, 5);
    comes_good(&run, 0);
    assert_string_equal(comes_good(&run, 5), "end hold wake");
    run.now_ms += 1000;
    assert_string_equal(say(&run, VR_EVENT_WAKE), "survey");
    say(&run, VR_EVENT_SURVEY);
    TO_PROBES(&run, 1, 6);
    comes_good(&run, 1);
    assert_string_equal(comes_good(&run, 6), "end survey");
}

/* D16, E14: watched once a minute, and done when the time is over. */
static void test_bake(void **state)
{
    g_auto(Run) run = {0};

    set_up(&run, 1);
    run.config.policy.bake_ms = 90000;
    launch(&run);
    assert_string_equal(goes_through(&run, 0), "end hold wake");
    assert_int_equal(hold_of(&run), VR_HOLD_BAKE);
    assert_int_equal(run.last_at_ms, 61000);
    assert_string_equal(say(&run, VR_EVENT_PAUSE), ""); /* nothing is left to hold */
    run.now_ms = 61000;
    assert_string_equal(say(&run, VR_EVENT_WAKE), "survey");
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "wake");
    assert_int_equal(run.last_at_ms, 91000);
    run.now_ms = 91000;
    assert_string_equal(say(&run, VR_EVENT_WAKE), "survey");
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "finish");
    expect_end(&run, VR_RUN_COMPLETED, NULL);
}

static void test_bake_ends_early(void **state)
{
    static const VrEventType orders[] = {VR_EVENT_PROMOTE, VR_EVENT_CANCEL};
    static const VrRunStatus ends[] = {VR_RUN_COMPLETED, VR_RUN_CANCELLED};

    for (guint k = 0; k < G_N_ELEMENTS(orders); k++) {
        for (guint in_survey = 0; in_survey < 2; in_survey++) {
            g_auto(Run) run = {0};

            set_up(&run, 1);
            run.config.policy.bake_ms = 90000;
            launch(&run);
            goes_through(&run, 0);
            run.now_ms = 61000;
            if (in_survey)
                assert_string_equal(say(&run, VR_EVENT_WAKE), "survey");
            say(&run, orders[k]);
            if (in_survey && orders[k] == VR_EVENT_PROMOTE)
                say(&run, VR_EVENT_SURVEY);
            expect_end(&run, ends[k], NULL);
        }
    }
}

/* ... at once, though the last survey could not be answered and is waited for. */
static void test_bake_ends_without_a_survey(void **state)
{
    VrEvent blind = {.type = VR_EVENT_SURVEY, .outcome = VR_OUTCOME_FAILED, .reason = "no connection"};
    g_auto(Run) run = {0};

    set_up(&run, 1);
    run.config.policy.bake_ms = 90000;
    launch(&run);
    goes_through(&run, 0);
    run.now_ms = 61000;
    assert_string_equal(say(&run, VR_EVENT_WAKE), "survey");
    assert_string_equal(step_full(&run, &blind), "wake");
    assert_string_equal(say(&run, VR_EVENT_PROMOTE), "finish");
    expect_end(&run, VR_RUN_COMPLETED, NULL);
    assert_string_equal(say(&run, VR_EVENT_PROMOTE), "");
}

/* D4, E14: an upgraded one that falls ill counts as one that failed: in the bake, and before each batch. */
static void test_fell_ill_in_the_bake(void **state)
{
    g_auto(Run) run = {0};

    set_up(&run, 4);
    run.config.policy.bake_ms = 600000;
    run.config.policy.max_unhealthy_upgraded_percent = 25;
    for (guint i = 0; i < 4; i++) {
        if (i == 0)
            launch(&run);
        else
            say(&run, VR_EVENT_SURVEY);
        goes_through(&run, i);
    }
    run.now_ms += 60000;
    assert_string_equal(say(&run, VR_EVENT_WAKE), "survey");
    run.answers[1] = VR_SURVEY_UNHEALTHY;
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "wake"); /* exactly at the limit */
    run.now_ms += 60000;
    assert_string_equal(say(&run, VR_EVENT_WAKE), "survey");
    run.answers[2] = VR_SURVEY_UNHEALTHY;
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "finish");
    expect_end(&run, VR_RUN_FAULTED, VR_CODE_UPGRADED);
    expect_text(&run, "2 of 4 upgraded (50%) are not healthy, 2 of them came good at first; at most 25% may");
}

static void test_fell_ill_between_batches(void **state)
{
    g_auto(Run) run = {0};

    set_up(&run, 10);
    run.config.policy.max_batch_percent = 10;
    launch(&run);
    goes_through(&run, 0);
    run.answers[0] = VR_SURVEY_UNHEALTHY; /* 1 of 10 is no more than two; 1 of 1 upgraded is too many */
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "finish");
    expect_end(&run, VR_RUN_FAULTED, VR_CODE_UPGRADED);
}

/* D23: what is in flight comes to its end, what is done in time is done. */
static void test_deadline(void **state)
{
    g_auto(Run) run = {0};

    set_up(&run, 2);
    run.config.policy.timeout_ms = 100000;
    launch(&run);
    run.now_ms += 100000;
    ok(&run, VR_EVENT_PREPARED, 0);
    ok(&run, VR_EVENT_SWAPPED, 0);
    assert_string_equal(comes_good(&run, 0), "end finish");
    expect_end(&run, VR_RUN_FAULTED, VR_CODE_TIMEOUT);
    expect_text(&run, "not done within 1 min 40 s");
    assert_int_equal(view_of(&run).successful, 1);
}

static void test_deadline_of_the_last_batch(void **state)
{
    g_auto(Run) run = {0};

    set_up(&run, 1);
    run.config.policy.timeout_ms = 100000;
    run.config.policy.bake_ms = 90000;
    launch(&run);
    run.now_ms += 200000;
    assert_string_equal(goes_through(&run, 0), "end hold wake");
    run.now_ms += 90000;
    say(&run, VR_EVENT_WAKE);
    say(&run, VR_EVENT_SURVEY);
    expect_end(&run, VR_RUN_COMPLETED, NULL);
}

/* It ends a wait for a person too, by a WAKE of its own. */
static void test_deadline_ends_a_hold(void **state)
{
    g_auto(Run) run = {0};

    set_up(&run, 2);
    run.config.policy.timeout_ms = 100000;
    run.config.policy.approval = TRUE;
    run.rollout = vr_rollout_new(&run.config);
    assert_string_equal(say(&run, VR_EVENT_START), "hold wake");
    assert_int_equal(run.last_at_ms, 101000);
    run.now_ms = 101000;
    assert_string_equal(say(&run, VR_EVENT_WAKE), "finish");
    expect_end(&run, VR_RUN_FAULTED, VR_CODE_TIMEOUT);
    expect_text(&run, "2 not touched");
}

#define ASKED "the gate is asked whether batch 1 may begin"
#define SAYS_NO "the gate does not let batch 1 begin, and is asked again: quorum would be lost"

/* E11, L5: asked before each batch, waited for, never for ever. */
static void test_gate(void **state)
{
    char program[] = "/bin/gate", *gate[] = {program, NULL};
    g_auto(Run) run = {0};

    set_up(&run, 2);
    run.config.policy.gate = gate;
    run.rollout = vr_rollout_new(&run.config);
    assert_string_equal(say(&run, VR_EVENT_START), "survey");
    assert_null(vr_rollout_gate_batch(run.rollout));
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "gate");
    assert_int_equal(vr_rollout_gate_batch(run.rollout)->len, 1);
    assert_int_equal(g_array_index(vr_rollout_gate_batch(run.rollout), guint, 0), 0);
    expect_gate(&run, ASKED);
    assert_string_equal(gate_says(&run, VR_OUTCOME_FAILED), "wake");
    expect_gate(&run, SAYS_NO);
    assert_string_equal(gate_says(&run, VR_OUTCOME_OK), ""); /* it was not asked */
    run.now_ms = run.last_at_ms;
    assert_string_equal(say(&run, VR_EVENT_WAKE), "survey");
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "gate");
    expect_gate(&run, SAYS_NO);
    assert_string_equal(gate_says(&run, VR_OUTCOME_OK), "survey");
    expect_gate(&run, NULL);
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "begin prepare 0");
    assert_string_equal(goes_through(&run, 0), "end survey");
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "gate");
    assert_string_equal(gate_says(&run, VR_OUTCOME_UNKNOWN), "wake");
    run.now_ms += 300000;
    assert_string_equal(say(&run, VR_EVENT_WAKE), "survey");
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "gate");
    assert_string_equal(gate_says(&run, VR_OUTCOME_FAILED), "finish");
    expect_gate(&run, NULL);
    expect_end(&run, VR_RUN_FAULTED, VR_CODE_INTERNAL);
    expect_text(&run, "quorum would be lost");
}

/* E11, G3: a pause that comes while the gate is asked holds at its answer, and what it said before does not count after. */
static void test_gate_and_pause(void **state)
{
    static const VrOutcome answers[] = {VR_OUTCOME_OK, VR_OUTCOME_FAILED};
    char program[] = "/bin/gate", *gate[] = {program, NULL};

    for (guint k = 0; k < G_N_ELEMENTS(answers); k++) {
        g_auto(Run) run = {0};

        set_up(&run, 2);
        run.config.policy.gate = gate;
        run.rollout = vr_rollout_new(&run.config);
        assert_string_equal(say(&run, VR_EVENT_START), "survey");
        assert_string_equal(say(&run, VR_EVENT_SURVEY), "gate");
        assert_string_equal(say(&run, VR_EVENT_PAUSE), "");
        assert_string_equal(gate_says(&run, answers[k]), "hold");
        assert_int_equal(hold_of(&run), VR_HOLD_PAUSED);
        run.now_ms += 86400000;
        assert_string_equal(say(&run, VR_EVENT_RESUME), "survey");
        assert_string_equal(say(&run, VR_EVENT_SURVEY), "gate");
    }
}

/* L5: one has drained what it said yes for; when another batch comes it is asked about that. */
static void test_gate_and_another_batch(void **state)
{
    char program[] = "/bin/gate", *gate[] = {program, NULL};
    g_auto(Run) run = {0};

    set_up(&run, 5);
    run.config.policy.gate = gate;
    assert_string_equal(launch(&run), "gate");
    assert_string_equal(gate_says(&run, VR_OUTCOME_OK), "survey");
    run.answers[3] = VR_SURVEY_UNHEALTHY;
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "gate");
    assert_int_equal(g_array_index(vr_rollout_gate_batch(run.rollout), guint, 0), 3);
    assert_string_equal(gate_says(&run, VR_OUTCOME_OK), "survey");
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "begin prepare 3");
}

/* J10: a swap that takes too long stops the run at the end of its batch. */
static void test_downtime(void **state)
{
    static const struct {
        gint64 off_ms;
        const char *follows;
    } rows[] = {{10000, "end survey"}, {10001, "end finish"}};

    for (guint k = 0; k < G_N_ELEMENTS(rows); k++) {
        g_auto(Run) run = {0};
        VrEvent event = {.type = VR_EVENT_SWAPPED, .off_ms = rows[k].off_ms};

        set_up(&run, 2);
        run.config.policy.max_off_ms = 10000;
        launch(&run);
        ok(&run, VR_EVENT_PREPARED, 0);
        step_full(&run, &event);
        assert_string_equal(comes_good(&run, 0), rows[k].follows);
        if (view_of(&run).finished)
            expect_text(&run, "off for longer than 10.0 s, the longest for 10.0 s");
    }
}

/* Decision 6: nothing of this holds up a rollback, but for a person and the deadline. */
static void test_rollback_is_not_held(void **state)
{
    char program[] = "/bin/gate", *gate[] = {program, NULL};
    g_auto(Run) run = {0};

    set_up(&run, 2);
    run.config.kind = VR_RUN_ROLLBACK;
    run.config.policy.approval = TRUE;
    run.config.policy.gate = gate;
    run.config.policy.bake_ms = run.config.policy.checkpoint_wait_ms = 1000;
    run.config.policy.checkpoints[0] = 1;
    run.config.policy.max_off_ms = 1;
    run.instances[1].canary = TRUE;
    assert_string_equal(launch(&run), "begin prepare 0");
    assert_string_equal(goes_through(&run, 0), "end survey");
    assert_string_equal(say(&run, VR_EVENT_PAUSE), "");
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "hold");
    assert_string_equal(say(&run, VR_EVENT_RESUME), "survey");
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "begin prepare 1");
    assert_string_equal(goes_through(&run, 1), "end finish");
    expect_end(&run, VR_RUN_COMPLETED, NULL);
}

static void test_hold_names(void **state)
{
    static const char *const names[] = {NULL, "paused", "approval", "walk", "canary", "checkpoint", "bake"};

    for (guint k = 0; k < G_N_ELEMENTS(names); k++)
        if (g_strcmp0(vr_hold_name(k), names[k]) != 0)
            fail_msg("%u is %s", k, vr_hold_name(k));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_paused),
        cmocka_unit_test(test_paused_in_a_pause),
        cmocka_unit_test(test_paused_without_a_place),
        cmocka_unit_test(test_paused_without_a_survey),
        cmocka_unit_test(test_approval),
        cmocka_unit_test(test_walk),
        cmocka_unit_test(test_walk_of_canaries),
        cmocka_unit_test(test_canary),
        cmocka_unit_test(test_canary_fails),
        cmocka_unit_test(test_checkpoints),
        cmocka_unit_test(test_checkpoints_at_once),
        cmocka_unit_test(test_bake),
        cmocka_unit_test(test_bake_ends_early),
        cmocka_unit_test(test_bake_ends_without_a_survey),
        cmocka_unit_test(test_fell_ill_in_the_bake),
        cmocka_unit_test(test_fell_ill_between_batches),
        cmocka_unit_test(test_deadline),
        cmocka_unit_test(test_deadline_of_the_last_batch),
        cmocka_unit_test(test_deadline_ends_a_hold),
        cmocka_unit_test(test_gate),
        cmocka_unit_test(test_gate_and_pause),
        cmocka_unit_test(test_gate_and_another_batch),
        cmocka_unit_test(test_downtime),
        cmocka_unit_test(test_rollback_is_not_held),
        cmocka_unit_test(test_hold_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
