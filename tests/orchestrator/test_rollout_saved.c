/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A run that outlives its process: what is saved, loaded and gone on with. G3: a pause survives a restart. */
#include "orchestrator/rollout_runs.h"

#include "base/error.h"

#define BOOT "one boot"
#define OTHER_BOOT "another boot"

/* Forgets the rollout, and loads what it kept into a new one away_ms later or after the host has booted anew. Recovery has settled
 * the instances. */
static void die_and_settle(Run *run, const VrRolloutPast *past, gint64 away_ms, const char *boot)
{
    g_autofree char *saved = vr_rollout_save(run->rollout, run->now_ms, BOOT);
    g_autoptr(GError) error = NULL;

    vr_rollout_free(run->rollout);
    run->rollout = vr_rollout_new(&run->config);
    run->now_ms = strcmp(boot, BOOT) == 0 ? run->now_ms + away_ms : 77;
    assert_true(vr_rollout_load(run->rollout, saved, past, run->now_ms, boot, &error));
}

/* Nothing is in flight. */
static void die_and_load_on(Run *run, gint64 away_ms, const char *boot)
{
    g_autofree VrRolloutPast *past = g_new0(VrRolloutPast, run->config.count);
    g_autoptr(GPtrArray) reasons = g_ptr_array_new_with_free_func(g_free);

    for (guint i = 0; i < run->config.count; i++) {
        g_ptr_array_add(reasons, g_strdup(vr_rollout_reason(run->rollout, i)));
        past[i] = (VrRolloutPast){vr_rollout_phase(run->rollout, i), reasons->pdata[i]};
    }
    die_and_settle(run, past, away_ms, boot);
}

static void die_and_load(Run *run, gint64 away_ms)
{
    die_and_load_on(run, away_ms, BOOT);
}

/* One batch of one instance that comes good. */
static void one_good(Run *run, guint i)
{
    TO_PROBES(run, i);
    comes_good(run, i);
}

static void test_pause_survives(void **state)
{
    g_auto(Run) run = {0};

    set_up(&run, 5);
    launch(&run);
    say(&run, VR_EVENT_PAUSE);
    one_good(&run, 0);
    assert_int_equal(view_of(&run).point, VR_POINT_PAUSED);
    die_and_load(&run, 0);
    assert_string_equal(say(&run, VR_EVENT_START), "hold");
    assert_int_equal(view_of(&run).point, VR_POINT_PAUSED);
    assert_int_equal(view_of(&run).successful, 1);
    assert_string_equal(say(&run, VR_EVENT_RESUME), "survey");
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "begin prepare 1");
    assert_int_equal(view_of(&run).batch_number, 2);
}

/* D15, invariant 24: the wait of a checkpoint goes on while nobody works on the run; after a boot of the host its remainder starts again. */
static void test_checkpoint_wait_survives(void **state)
{
    g_auto(Run) run = {0};

    set_up(&run, 5);
    run.config.policy.checkpoints[0] = 20;
    run.config.policy.checkpoint_wait_ms = 3600000;
    launch(&run);
    one_good(&run, 0);
    assert_int_equal(view_of(&run).point, VR_POINT_CHECKPOINT);
    die_and_load(&run, 600000);
    assert_string_equal(say(&run, VR_EVENT_START), "hold wake");
    assert_int_equal(run.last_at_ms, run.now_ms + 3000000);
    die_and_load_on(&run, 4000000, OTHER_BOOT);
    assert_string_equal(say(&run, VR_EVENT_START), "hold wake");
    assert_int_equal(run.last_at_ms, run.now_ms + 3000000);
    die_and_load(&run, 3000000);
    assert_string_equal(say(&run, VR_EVENT_START), "survey"); /* over, and not begun again */
}

/* D16 */
static void test_bake_survives(void **state)
{
    g_auto(Run) run = {0};

    set_up(&run, 1);
    run.config.policy.bake_ms = 600000;
    launch(&run);
    one_good(&run, 0);
    assert_int_equal(view_of(&run).point, VR_POINT_BAKE);
    die_and_load(&run, 500000);
    assert_string_equal(say(&run, VR_EVENT_START), "hold wake");
    assert_int_equal(view_of(&run).hold_until_ms, run.now_ms + 100000);
}

/* D14, decision 6: who was left out stays out, who was named goes, and what an earlier run left failed still holds no place. */
static void test_marks_survive(void **state)
{
    g_auto(Run) run = {0};

    set_up(&run, 5);
    run.instances[3].named = run.instances[2].left_failed = run.instances[4].left_failed = TRUE;
    run.answers[2] = run.answers[4] = VR_SURVEY_UNHEALTHY;
    run.wishes[0].skip = TRUE;
    launch(&run);
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "begin prepare 2");
    one_good(&run, 2);
    run.answers[2] = VR_SURVEY_HEALTHY;
    run.wishes[0].skip = FALSE;
    run.wishes[3].skip = TRUE;
    memset(run.instances, 0, sizeof(run.instances));
    for (guint i = 0; i < 5; i++)
        run.instances[i] = (VrRolloutInstance){.upgrade_domain = i, .chosen = TRUE};
    die_and_load(&run, 0);
    say(&run, VR_EVENT_START);
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "begin prepare 4");
    one_good(&run, 4);
    run.answers[4] = VR_SURVEY_HEALTHY;
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "begin prepare 1");
    one_good(&run, 1);
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "begin prepare 3");
}

/* D20, D17, G4: what a person has said is not asked again. */
static void test_words_survive(void **state)
{
    g_auto(Run) run = {0};

    set_up(&run, 5);
    run.config.policy.approval = TRUE;
    run.config.walk = TRUE;
    run.instances[0].canary = TRUE;
    run.rollout = vr_rollout_new(&run.config);
    say(&run, VR_EVENT_APPROVE);
    say(&run, VR_EVENT_START);
    ok(&run, VR_EVENT_WALK, 0);
    say(&run, VR_EVENT_SURVEY);
    one_good(&run, 0);
    die_and_load(&run, 0);
    say(&run, VR_EVENT_START);
    assert_int_equal(view_of(&run).point, VR_POINT_WALK); /* not approval */
    ok(&run, VR_EVENT_WALK, 1);
    assert_int_equal(view_of(&run).point, VR_POINT_CANARY);
    say(&run, VR_EVENT_PROMOTE);
    say(&run, VR_EVENT_SURVEY);
    one_good(&run, 1);
    die_and_load(&run, 0);
    say(&run, VR_EVENT_START);
    assert_int_equal(view_of(&run).point, VR_POINT_WALK); /* not canary again */
}

/* Invariant 18: what failed before counts after; a cancel is not forgotten; D23: the deadline is the same. */
static void test_counts_survive(void **state)
{
    g_auto(Run) run = {0};

    set_up(&run, 10);
    run.config.policy.max_unhealthy_upgraded_percent = 50;
    run.config.policy.timeout_ms = 100000;
    launch(&run);
    TO_PROBES(&run, 0, 5);
    comes_good(&run, 0);
    goes_back(&run, 5, "no answer after 12 s");
    die_and_load(&run, 1000);
    assert_string_equal(say(&run, VR_EVENT_START), "survey");
    say(&run, VR_EVENT_SURVEY);
    TO_PROBES(&run, 1, 6);
    goes_back(&run, 1, "no answer after 31 s");
    goes_back(&run, 6, "another");
    assert_true(view_of(&run).finished);
    assert_string_equal(view_of(&run).error_code, VR_CODE_UPGRADED);
    assert_non_null(strstr(view_of(&run).error_text, "3 of 4 upgraded (75%) failed"));
    assert_non_null(strstr(view_of(&run).error_text, "(2 of 3): no answer after 12 s"));
}

/* D8, E14: one that failed when its process was gone counts in its role as it does in the set. */
static void test_role_counts_survive(void **state)
{
    static const VrRolloutPast past[10] = {
        [0] = {VR_PHASE_COMMITTED, NULL}, [5] = {VR_PHASE_FAILED, "recovered: not healthy in time"}};
    g_auto(Run) run = {0};

    set_up(&run, 10);
    run.config.policy.automatic_rollback = FALSE;
    run.config.policy.max_unhealthy_upgraded_percent = 50;
    run.instances[5].role = (VrLabel){"worker", 1};
    launch(&run);
    ok(&run, VR_EVENT_PREPARED, 0);
    ok(&run, VR_EVENT_PREPARED, 5);
    die_and_settle(&run, past, 0, BOOT);
    assert_string_equal(say(&run, VR_EVENT_START), "finish");
    expect_end(&run, VR_RUN_FAULTED, VR_CODE_UPGRADED);
    expect_text(&run, "1 of 1 upgraded (100%) of role worker failed, at most 50% may");
}

static void test_deadline_survives(void **state)
{
    g_auto(Run) run = {0};

    set_up(&run, 5);
    run.config.policy.timeout_ms = 100000;
    launch(&run);
    one_good(&run, 0);
    die_and_load(&run, 100001);
    assert_string_equal(say(&run, VR_EVENT_START), "finish");
    assert_string_equal(view_of(&run).error_code, VR_CODE_TIMEOUT);
}

static void test_cancel_survives(void **state)
{
    g_auto(Run) run = {0};

    set_up(&run, 5);
    launch(&run);
    say(&run, VR_EVENT_CANCEL);
    TO_PROBES(&run, 0);
    ok(&run, VR_EVENT_PROBED, 0);
    /* it dies while it commits; recovery finds that it had */
    g_autofree char *saved = vr_rollout_save(run.rollout, run.now_ms, BOOT);
    VrRolloutPast past[5] = {{VR_PHASE_COMMITTED, NULL}};
    vr_rollout_free(run.rollout);
    run.rollout = vr_rollout_new(&run.config);
    assert_true(vr_rollout_load(run.rollout, saved, past, run.now_ms, BOOT, NULL));
    assert_string_equal(say(&run, VR_EVENT_START), "finish");
    assert_int_equal(view_of(&run).status, VR_RUN_CANCELLED);
    assert_int_equal(view_of(&run).successful, 1);
}

/* D5: a run that died in a batch does not begin the next one at once. */
static void test_pause_after_a_batch_that_died(void **state)
{
    g_auto(Run) run = {0};
    VrRolloutPast past[5] = {{VR_PHASE_PENDING, NULL}};

    set_up(&run, 5);
    run.config.policy.pause_ms = 30000;
    launch(&run);
    g_autofree char *saved = vr_rollout_save(run.rollout, run.now_ms, BOOT);
    vr_rollout_free(run.rollout);
    run.rollout = vr_rollout_new(&run.config);
    assert_true(vr_rollout_load(run.rollout, saved, past, run.now_ms, BOOT, NULL));
    assert_string_equal(say(&run, VR_EVENT_START), "wake");
    assert_int_equal(run.last_at_ms, run.now_ms + 30000);
}

/* SAFETY 19: a run that a rule has ended is not begun again, though the next survey would find nothing. */
static void test_end_survives(void **state)
{
    g_auto(Run) run = {0};

    set_up(&run, 5);
    launch(&run);
    one_good(&run, 0);
    run.answers[1] = run.answers[2] = VR_SURVEY_UNHEALTHY;
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "finish");
    die_and_load(&run, 1000); /* before its end was in the history */
    assert_false(view_of(&run).finished);
    assert_string_equal(say(&run, VR_EVENT_START), "finish");
    assert_int_equal(view_of(&run).status, VR_RUN_FAULTED);
    assert_string_equal(view_of(&run).error_code, VR_CODE_IN_ROLLING);
    assert_non_null(strstr(view_of(&run).error_text, "2 of 5 instances (40%) are unhealthy"));
}

/* F3: the same while it puts back what failed; who was left is not put back by another process, since his swap is over. */
static void test_end_survives_amends(void **state)
{
    g_auto(Run) run = {0};
    VrRolloutPast past[5] = {{VR_PHASE_RESTORED, "recovered: put back"}};

    set_up(&run, 5);
    run.config.policy.automatic_rollback = FALSE;
    run.config.policy.restore_on_breach = TRUE;
    run.config.policy.max_unhealthy_upgraded_percent = 50;
    launch(&run);
    TO_PROBES(&run, 0);
    assert_string_equal(bad(&run, VR_EVENT_PROBED, 0, VR_OUTCOME_FAILED, "it never answered"), "end restore 0");
    die_and_settle(&run, past, 1000, BOOT);
    assert_string_equal(say(&run, VR_EVENT_START), "finish");
    assert_string_equal(view_of(&run).error_code, VR_CODE_UPGRADED);
    past[0].phase = VR_PHASE_FAILED;
    die_and_settle(&run, past, 1000, BOOT);
    assert_string_equal(say(&run, VR_EVENT_START), "finish");
    assert_int_equal(view_of(&run).failed, 1);
}

/* D23: a person's word before the start is kept, and is not the start. */
static void test_deadline_of_one_that_had_not_begun(void **state)
{
    g_auto(Run) run = {0};

    set_up(&run, 5);
    run.config.policy.timeout_ms = 100000;
    run.rollout = vr_rollout_new(&run.config);
    say(&run, VR_EVENT_PAUSE);
    die_and_load(&run, 0);
    assert_string_equal(say(&run, VR_EVENT_START), "hold wake");
    assert_int_equal(run.last_at_ms, run.now_ms + 100000);
}

/* What could not be committed and was by the recovery does not stop the run; what could not be prepared does. */
static void test_failures_are_as_recovery_has_left_them(void **state)
{
    g_auto(Run) run = {0};
    VrRolloutPast past[10] = {[0] = {VR_PHASE_COMMITTED, NULL}, [5] = {VR_PHASE_COMMITTED, NULL}};

    set_up(&run, 10);
    launch(&run);
    TO_PROBES(&run, 0, 5);
    ok(&run, VR_EVENT_PROBED, 0);
    bad(&run, VR_EVENT_COMMITTED, 0, VR_OUTCOME_FAILED, "the journal is full");
    die_and_settle(&run, past, 1000, BOOT);
    assert_string_equal(say(&run, VR_EVENT_START), "survey");
    say(&run, VR_EVENT_SURVEY);
    bad(&run, VR_EVENT_PREPARED, 1, VR_OUTCOME_UNTOUCHED, "no space");
    past[1] = (VrRolloutPast){VR_PHASE_FAILED, "no space"};
    die_and_settle(&run, past, 1000, BOOT);
    assert_string_equal(say(&run, VR_EVENT_START), "finish");
    assert_string_equal(view_of(&run).error_code, VR_CODE_INTERNAL);
    assert_non_null(strstr(view_of(&run).error_text, "could not be prepared"));
}

/* The last one was put back when its new disk had not run yet, and the run baked already: it is moved again, and not forgotten. */
static void test_bake_with_one_that_is_pending_again(void **state)
{
    g_auto(Run) run = {0};
    VrRolloutPast past[2] = {{VR_PHASE_COMMITTED, NULL}, {VR_PHASE_PENDING, NULL}};

    set_up(&run, 2);
    run.config.policy.bake_ms = 600000;
    run.config.policy.max_unhealthy_upgraded_percent = 50;
    launch(&run);
    one_good(&run, 0);
    say(&run, VR_EVENT_SURVEY);
    ok(&run, VR_EVENT_PREPARED, 1);
    bad(&run, VR_EVENT_SWAPPED, 1, VR_OUTCOME_FAILED, "it does not start");
    ok(&run, VR_EVENT_RESTORED, 1);
    assert_int_equal(view_of(&run).point, VR_POINT_BAKE);
    die_and_settle(&run, past, 700000, BOOT);
    assert_string_equal(say(&run, VR_EVENT_START), "survey");
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "begin prepare 1");
}

/* Decision 6: what an earlier run left failed, and a survey found well, is like any other, also for the next process. */
static void test_found_well_survives(void **state)
{
    g_auto(Run) run = {0};

    set_up(&run, 5);
    run.instances[4].left_failed = TRUE;
    launch(&run);
    one_good(&run, 0);
    die_and_load(&run, 0);
    say(&run, VR_EVENT_START);
    run.answers[4] = run.answers[3] = VR_SURVEY_UNHEALTHY;
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "finish");
    assert_string_equal(view_of(&run).error_code, VR_CODE_IN_ROLLING);
}

static void test_what_cannot_be_loaded(void **state)
{
    g_auto(Run) run = {0};
    VrRolloutPast past[MAX_INSTANCES] = {{0}};

    set_up(&run, 5);
    run.rollout = vr_rollout_new(&run.config);
    g_autofree char *good = vr_rollout_save(run.rollout, 0, BOOT);
    g_autofree char *short_one = g_strndup(good, strlen(good) / 2);
    g_auto(GStrv) shape = g_strsplit(good, "\"shape\":1", 2);
    g_autofree char *newer = g_strjoinv("\"shape\":2", shape);
    g_auto(GStrv) batch = g_strsplit(good, "\"batch\":0", 2);
    g_autofree char *negative = g_strjoinv("\"batch\":-1", batch);
    g_autofree char *text = g_strjoinv("\"batch\":\"x\"", batch);
    const char *bad[] = {"", "[]", "{}", short_one, newer, negative, text};

    for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(VrRollout) rollout = vr_rollout_new(&run.config);
        assert_false(vr_rollout_load(rollout, bad[i], past, 0, BOOT, &error));
        assert_true(g_error_matches(error, VR_ERROR, VR_ERROR_REFUSED));
    }
    run.config.count = 6; /* another set of instances */
    g_autoptr(VrRollout) other = vr_rollout_new(&run.config);
    assert_false(vr_rollout_load(other, good, past, 0, BOOT, NULL));
    run.config.count = 5; /* one that nobody has settled */
    past[2].phase = VR_PHASE_SWAPPING;
    g_autoptr(VrRollout) third = vr_rollout_new(&run.config);
    assert_false(vr_rollout_load(third, good, past, 0, BOOT, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pause_survives),
        cmocka_unit_test(test_checkpoint_wait_survives),
        cmocka_unit_test(test_bake_survives),
        cmocka_unit_test(test_words_survive),
        cmocka_unit_test(test_marks_survive),
        cmocka_unit_test(test_counts_survive),
        cmocka_unit_test(test_role_counts_survive),
        cmocka_unit_test(test_deadline_survives),
        cmocka_unit_test(test_cancel_survives),
        cmocka_unit_test(test_pause_after_a_batch_that_died),
        cmocka_unit_test(test_end_survives),
        cmocka_unit_test(test_end_survives_amends),
        cmocka_unit_test(test_deadline_of_one_that_had_not_begun),
        cmocka_unit_test(test_failures_are_as_recovery_has_left_them),
        cmocka_unit_test(test_bake_with_one_that_is_pending_again),
        cmocka_unit_test(test_found_well_survives),
        cmocka_unit_test(test_what_cannot_be_loaded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
