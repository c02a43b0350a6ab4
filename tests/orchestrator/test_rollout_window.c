/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* H4: a run that begins its batches in a maintenance window only. D23: what the window takes is no time of the run's. */
#include "orchestrator/rollout_runs.h"

#include <jansson.h>

#define MINUTE 60000
#define DAY (24 * 60 * MINUTE)
#define LOOK 10000

/* Of the window: 0 is shut, or never. */
static const char *step(Run *run, VrEventType type, gint64 open_for_ms, gint64 next_in_ms, const char *words)
{
    VrEvent event = {.type = type,
                     .answers = run->answers,
                     .wishes = run->wishes,
                     .window = {.is_known = TRUE,
                                .until_ms = open_for_ms > 0 ? run->now_ms + open_for_ms : 0,
                                .next_ms = next_in_ms > 0 ? run->now_ms + next_in_ms : 0,
                                .words = words}};

    return step_full(run, &event);
}

static const char *is_open(Run *run, gint64 for_ms)
{
    return step(run, VR_EVENT_WINDOW, for_ms, 7 * DAY, "opens again on Sunday");
}

static const char *is_shut(Run *run, gint64 for_ms)
{
    return step(run, VR_EVENT_WINDOW, 0, for_ms, "opens on Saturday");
}

static const char *survey(Run *run, gint64 open_for_ms)
{
    return step(run, VR_EVENT_SURVEY, open_for_ms, 7 * DAY,
                open_for_ms > 0 ? "opens again on Sunday" : "opens on Sunday");
}

static const char *wake(Run *run, gint64 after_ms)
{
    run->now_ms += after_ms;
    return say(run, VR_EVENT_WAKE);
}

static void begin(Run *run, guint count)
{
    set_up(run, count);
    run->config.window = TRUE;
}

static void start(Run *run)
{
    run->rollout = vr_rollout_new(&run->config);
    assert_string_equal(say(run, VR_EVENT_START), "window");
}

/* From the answer that lets it look at the set, to the begin of a batch. */
static const char *goes(Run *run, gint64 open_for_ms)
{
    assert_string_equal(is_open(run, open_for_ms), "survey");
    return survey(run, open_for_ms);
}

static void test_nothing_begins_while_it_is_shut(void **state) /* H4 */
{
    g_auto(Run) run = {0};

    begin(&run, 2);
    start(&run);
    assert_string_equal(is_shut(&run, 2 * DAY), "hold wake");
    assert_int_equal(run.last_at_ms, run.now_ms + LOOK);
    assert_string_equal(run.last_text, "the maintenance window is shut: it opens on Saturday");
    assert_int_equal(view_of(&run).hold, VR_HOLD_WINDOW);
    assert_int_equal(view_of(&run).point, VR_POINT_WINDOW);
    assert_int_equal(view_of(&run).hold_until_ms, run.now_ms + 2 * DAY);
    assert_string_equal(view_of(&run).hold_text, run.last_text);
    assert_string_equal(vr_hold_name(VR_HOLD_WINDOW), "window");

    /* it is asked about again and again, and what is the same is said once */
    assert_string_equal(wake(&run, LOOK), "window");
    assert_int_equal(view_of(&run).point, VR_POINT_WINDOW);
    assert_string_equal(is_shut(&run, 2 * DAY - LOOK + 3), "wake");
    assert_int_equal(view_of(&run).hold_until_ms, run.now_ms - LOOK + 2 * DAY); /* steady */
    wake(&run, LOOK);
    assert_string_equal(is_shut(&run, 4000), "wake"); /* a clock that jumped */
    assert_int_equal(run.last_at_ms, run.now_ms + 4000);
    assert_int_equal(view_of(&run).hold_until_ms, run.now_ms + 4000);
    wake(&run, 4000);
    assert_string_equal(step(&run, VR_EVENT_WINDOW, 0, 7 * DAY, "opens on Sunday"), "hold wake");

    wake(&run, LOOK);
    assert_string_equal(goes(&run, 60 * MINUTE), "begin prepare 0");
    assert_int_equal(view_of(&run).hold, VR_HOLD_NONE);
    assert_null(view_of(&run).hold_text);
    TO_PROBES(&run, 0);
    assert_string_equal(comes_good(&run, 0), "end window");
    assert_string_equal(goes(&run, 60 * MINUTE), "begin prepare 1");
    TO_PROBES(&run, 1);
    assert_string_equal(comes_good(&run, 1), "end finish");
    expect_end(&run, VR_RUN_COMPLETED, NULL);
}

/* A survey takes its time: what is true at its end counts. */
static void test_it_shuts_during_the_survey(void **state)
{
    g_auto(Run) run = {0};

    begin(&run, 2);
    start(&run);
    assert_string_equal(is_open(&run, MINUTE), "survey");
    run.now_ms += 2 * MINUTE;
    assert_string_equal(survey(&run, 0), "hold wake");
    assert_string_equal(run.last_text, "the maintenance window is shut: it opens on Sunday");
    assert_int_equal(view_of(&run).in_progress, 0);
    assert_int_equal(view_of(&run).batch_number, 0);
    wake(&run, LOOK);
    assert_string_equal(is_open(&run, MINUTE), "survey");
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "hold wake"); /* nobody could say */
    wake(&run, LOOK);
    assert_string_equal(goes(&run, MINUTE), "begin prepare 0");

    /* an answer that came late: it was open then */
    g_auto(Run) late = {0};
    VrEvent event = {.type = VR_EVENT_WINDOW, .window = {.is_known = TRUE, .words = "opens on Sunday"}};
    begin(&late, 2);
    start(&late);
    event.window.until_ms = late.now_ms + 5;
    late.now_ms += 5;
    assert_string_equal(step_full(&late, &event), "hold wake");
}

/* One after the first begins only where the longest so far would fit. */
static void test_what_is_left_is_too_short(void **state)
{
    g_auto(Run) run = {0};

    begin(&run, 5);
    start(&run);
    assert_string_equal(goes(&run, 1), "begin prepare 0"); /* nobody knows how long one takes */
    run.now_ms += 4 * MINUTE;
    TO_PROBES(&run, 0);
    run.now_ms += 8 * MINUTE;
    assert_string_equal(comes_good(&run, 0), "end window");
    assert_string_equal(is_open(&run, 12 * MINUTE - 1), "hold wake");
    assert_string_equal(run.last_text, "what is left of the maintenance window is too short for another batch (the "
                                       "longest so far took 12 min 00 s): it opens again on Sunday");
    assert_int_equal(view_of(&run).hold, VR_HOLD_WINDOW);
    wake(&run, LOOK);
    assert_string_equal(is_shut(&run, 3 * DAY), "hold wake"); /* another reason */
    wake(&run, LOOK);
    assert_string_equal(is_open(&run, 12 * MINUTE), "survey");
    assert_string_equal(survey(&run, 12 * MINUTE - 1), "hold wake");
    wake(&run, LOOK);
    assert_string_equal(goes(&run, 12 * MINUTE), "begin prepare 1");
    run.now_ms += MINUTE; /* a short one does not make the longest shorter */
    TO_PROBES(&run, 1);
    comes_good(&run, 1);
    assert_string_equal(is_open(&run, 11 * MINUTE), "hold wake");
}

/* It could wait for ever, and says so. */
static void test_a_batch_is_longer_than_an_opening(void **state)
{
    static const char warning[] = "; the longest batch took 20 min 00 s, which is more than the 15 min 00 s of an "
                                  "opening: 'cancel' ends the run, "
                                  "and then 'upgrade' moves what is left at once, or a longer "
                                  "maintenanceWindow.duration ('set-edit') lets it begin "
                                  "by itself again";

    for (guint minutes = 20; minutes >= 15; minutes -= 5) {
        g_auto(Run) run = {0};

        begin(&run, 5);
        run.config.window_ms = 15 * MINUTE;
        start(&run);
        goes(&run, 15 * MINUTE);
        run.now_ms += minutes * MINUTE;
        TO_PROBES(&run, 0);
        comes_good(&run, 0);
        is_shut(&run, DAY);
        assert_int_equal(g_str_has_suffix(run.last_text, warning), minutes == 20);
        wake(&run, LOOK);
        if (minutes == 15)
            continue;
        assert_string_equal(is_open(&run, 15 * MINUTE), "hold wake");
        assert_true(g_str_has_suffix(view_of(&run).hold_text, warning));
        wake(&run, LOOK);
        assert_string_equal(goes(&run, 20 * MINUTE), "begin prepare 1"); /* two openings that touch */
    }
}

static void test_nobody_can_say(void **state)
{
    g_auto(Run) run = {0};

    begin(&run, 2);
    start(&run);
    VrEvent nobody = {.type = VR_EVENT_WINDOW, .window = {.words = "systemd-analyze is not installed"}};
    assert_string_equal(step_full(&run, &nobody), "hold wake");
    assert_string_equal(run.last_text, "nobody can say whether the maintenance window is open, so it counts as shut, "
                                       "and is asked about again: systemd-analyze is not installed");
    assert_int_equal(view_of(&run).hold_until_ms, 0);
    wake(&run, LOOK);
    assert_string_equal(step(&run, VR_EVENT_WINDOW, 0, 0, "never opens again"), "hold wake");
    assert_string_equal(run.last_text, "the maintenance window is shut: it never opens again");
    wake(&run, LOOK);
    assert_string_equal(goes(&run, MINUTE), "begin prepare 0");
}

/* G11: no person's word opens it; the ways out stay open. */
static void test_persons(void **state)
{
    g_auto(Run) run = {0};

    begin(&run, 2);
    start(&run);
    is_shut(&run, DAY);
    assert_string_equal(say(&run, VR_EVENT_RESUME), "");
    assert_string_equal(say(&run, VR_EVENT_PROMOTE), "");
    assert_string_equal(say(&run, VR_EVENT_APPROVE), "");
    assert_string_equal(say(&run, VR_EVENT_WALK), "");
    assert_string_equal(say(&run, VR_EVENT_PAUSE), "hold");
    assert_int_equal(view_of(&run).point, VR_POINT_PAUSED);
    assert_string_equal(say(&run, VR_EVENT_RESUME), "window");
    /* a pause that comes while it is asked about */
    assert_string_equal(say(&run, VR_EVENT_PAUSE), "");
    assert_string_equal(is_open(&run, DAY), "hold");
    assert_int_equal(view_of(&run).point, VR_POINT_PAUSED);
    assert_string_equal(say(&run, VR_EVENT_RESUME), "window");
    is_shut(&run, DAY);
    assert_string_equal(say(&run, VR_EVENT_CANCEL), "finish");
    expect_end(&run, VR_RUN_CANCELLED, NULL);

    g_auto(Run) asked = {0};
    begin(&asked, 2);
    start(&asked);
    assert_string_equal(say(&asked, VR_EVENT_CANCEL_NOW), "finish");
    assert_string_equal(is_open(&asked, DAY), "");

    /* an answer that nobody waits for */
    g_auto(Run) stale = {0};
    begin(&stale, 2);
    start(&stale);
    is_shut(&stale, DAY);
    assert_string_equal(is_open(&stale, DAY), "");
    wake(&stale, LOOK);
    is_open(&stale, DAY);
    assert_string_equal(is_open(&stale, DAY), "");
}

/* Other holds come first, and are not what the window ends. */
static void test_other_holds(void **state)
{
    g_auto(Run) run = {0};

    begin(&run, 3);
    run.config.policy.approval = TRUE;
    run.config.policy.pause_ms = MINUTE;
    run.rollout = vr_rollout_new(&run.config);
    assert_string_equal(say(&run, VR_EVENT_START), "hold");
    assert_string_equal(say(&run, VR_EVENT_APPROVE), "window");
    is_shut(&run, DAY);
    wake(&run, LOOK);
    goes(&run, DAY);
    TO_PROBES(&run, 0);
    assert_string_equal(comes_good(&run, 0), "end wake"); /* D5 */
    assert_int_equal(view_of(&run).point, VR_POINT_BETWEEN);
    assert_string_equal(wake(&run, MINUTE), "window");

    /* the last batch is done, and the bake has no window */
    g_auto(Run) bake = {0};
    begin(&bake, 1);
    bake.config.policy.bake_ms = MINUTE;
    start(&bake);
    goes(&bake, DAY);
    TO_PROBES(&bake, 0);
    assert_string_equal(comes_good(&bake, 0), "end hold wake");
    assert_string_equal(wake(&bake, MINUTE), "survey");
    assert_string_equal(survey(&bake, 0), "finish");

    /* decision 6 */
    g_auto(Run) back = {0};
    begin(&back, 2);
    back.config.kind = VR_RUN_ROLLBACK;
    assert_string_equal(launch(&back), "begin prepare 0");

    /* a run of a person's */
    g_auto(Run) hand = {0};
    begin(&hand, 2);
    hand.config.window = FALSE;
    assert_string_equal(launch(&hand), "begin prepare 0");
}

/* E11: its yes was for now. */
static void test_the_gate(void **state)
{
    static char *gate[] = {(char *)"/bin/ask", NULL};
    g_auto(Run) run = {0};

    begin(&run, 2);
    run.config.policy.gate = gate;
    start(&run);
    assert_string_equal(goes(&run, DAY), "gate");
    assert_string_equal(ok(&run, VR_EVENT_GATE, 0), "window");
    assert_string_equal(is_open(&run, DAY), "survey");
    assert_string_equal(survey(&run, 0), "hold wake");
    wake(&run, LOOK);
    assert_string_equal(goes(&run, DAY), "gate"); /* again */
    ok(&run, VR_EVENT_GATE, 0);
    assert_string_equal(goes(&run, DAY), "begin prepare 0");

    /* it says no, and meanwhile the window shuts: another wait, which no health timeout ends */
    g_auto(Run) no = {0};
    begin(&no, 2);
    no.config.policy.gate = gate;
    start(&no);
    goes(&no, DAY);
    assert_string_equal(bad(&no, VR_EVENT_GATE, 0, VR_OUTCOME_FAILED, "busy"), "wake");
    assert_string_equal(wake(&no, 5000), "window");
    assert_string_equal(is_shut(&no, DAY), "hold wake");
    assert_null(view_of(&no).gate_text);
    for (guint i = 0; i < 40; i++) {
        assert_string_equal(wake(&no, LOOK), "window");
        assert_string_equal(is_shut(&no, DAY), "wake");
    }
    assert_false(view_of(&no).finished);
}

/* B7: what was made ahead does not lie about until the next window. */
static void test_what_was_prepared_ahead_goes(void **state)
{
    g_auto(Run) run = {0};

    begin(&run, 3);
    run.config.policy.prepare_ahead = TRUE;
    start(&run);
    goes(&run, DAY);
    ok(&run, VR_EVENT_PREPARED, 0);
    assert_string_equal(ok(&run, VR_EVENT_SWAPPED, 0), "probe 0 prepare 1");
    ok(&run, VR_EVENT_PREPARED, 1);
    assert_string_equal(comes_good(&run, 0), "end window");
    assert_string_equal(is_shut(&run, DAY), "discard 1");
    assert_string_equal(ok(&run, VR_EVENT_DISCARDED, 1), "window");
    assert_string_equal(is_shut(&run, DAY), "hold wake");
    assert_int_equal(view_of(&run).pending, 2);
}

/* H7: who has notice for longer than the window is open does not go down when it is shut. */
static void test_it_shuts_during_a_notice(void **state)
{
    g_auto(Run) run = {0};

    begin(&run, 2);
    run.config.notice = TRUE;
    start(&run);
    goes(&run, DAY);
    assert_string_equal(ok(&run, VR_EVENT_PREPARED, 0), "notice 0");
    run.now_ms += 15 * MINUTE;
    assert_string_equal(ok(&run, VR_EVENT_NOTICED, 0), "survey");
    assert_string_equal(survey(&run, 0), "discard 0");
    assert_string_equal(run.last_text, "the notice was called off: the maintenance window has shut meanwhile");
    assert_string_equal(ok(&run, VR_EVENT_DISCARDED, 0), "end window");
    assert_string_equal(is_shut(&run, DAY), "hold wake");
    wake(&run, LOOK);
    assert_string_equal(goes(&run, 15 * MINUTE), "begin prepare 0");
    ok(&run, VR_EVENT_PREPARED, 0);
    ok(&run, VR_EVENT_NOTICED, 0);
    assert_string_equal(survey(&run, 1), "swap 0"); /* it has begun */
}

/* D23 */
static void test_the_deadline_waits(void **state)
{
    g_auto(Run) run = {0};

    begin(&run, 5);
    run.config.policy.timeout_ms = 60 * MINUTE;
    start(&run);
    run.now_ms += 10 * MINUTE;
    is_shut(&run, 3 * DAY);
    run.now_ms += 2 * DAY;
    assert_string_equal(say(&run, VR_EVENT_WAKE), "window");
    assert_string_equal(is_shut(&run, DAY), "wake");
    run.now_ms += DAY;
    assert_string_equal(say(&run, VR_EVENT_WAKE), "window");
    assert_string_equal(goes(&run, 3 * DAY), "begin prepare 0");
    run.now_ms += 20 * MINUTE;
    TO_PROBES(&run, 0);
    comes_good(&run, 0);
    goes(&run, 3 * DAY);
    TO_PROBES(&run, 1);
    run.now_ms += 30 * MINUTE - 1; /* one hour of its own, but for a moment */
    assert_string_equal(comes_good(&run, 1), "end window");
    is_shut(&run, DAY);
    run.now_ms += DAY;
    say(&run, VR_EVENT_WAKE);
    assert_string_equal(is_open(&run, DAY), "survey");
    run.now_ms++;
    assert_string_equal(survey(&run, DAY), "finish");
    expect_end(&run, VR_RUN_FAULTED, VR_CODE_TIMEOUT);

    /* a person's pause is the run's own time, as ever */
    g_auto(Run) paused = {0};
    begin(&paused, 5);
    paused.config.policy.timeout_ms = 60 * MINUTE;
    start(&paused);
    is_shut(&paused, 3 * DAY);
    paused.now_ms += DAY;
    assert_string_equal(say(&paused, VR_EVENT_PAUSE), "hold wake");
    assert_int_equal(paused.last_at_ms, paused.now_ms + 60 * MINUTE);
    assert_string_equal(wake(&paused, 60 * MINUTE), "finish");
    expect_end(&paused, VR_RUN_FAULTED, VR_CODE_TIMEOUT);
}

static VrRollout *load(const Run *run, const char *saved, gint64 now_ms, const char *boot)
{
    VrRolloutPast past[MAX_INSTANCES];
    g_autoptr(VrRollout) rollout = vr_rollout_new(&run->config);
    g_autoptr(GError) error = NULL;

    for (guint i = 0; i < run->config.count; i++)
        past[i] = (VrRolloutPast){vr_rollout_phase(run->rollout, i), NULL};
    if (!vr_rollout_load(rollout, saved, past, now_ms, boot, &error))
        fail_msg("%s", error->message);
    return g_steal_pointer(&rollout);
}

/* How long batches take, and how much of the deadline is left, are kept over the death of a process and a reboot. */
static void test_kept(void **state)
{
    g_auto(Run) run = {0};
    g_autofree char *saved = NULL;

    begin(&run, 5);
    run.config.policy.timeout_ms = 60 * MINUTE;
    start(&run);
    goes(&run, DAY);
    run.now_ms += 12 * MINUTE;
    TO_PROBES(&run, 0);
    comes_good(&run, 0);
    is_shut(&run, DAY);
    saved = vr_rollout_save(run.rollout, run.now_ms, "a boot");
    g_autoptr(VrRollout) next = load(&run, saved, 77, "another boot");
    vr_rollout_free(run.rollout);
    run.rollout = g_steal_pointer(&next);
    run.now_ms = 77;
    assert_string_equal(say(&run, VR_EVENT_START), "window");
    assert_string_equal(is_open(&run, 12 * MINUTE - 1), "hold wake");
    run.now_ms += 2 * DAY;
    say(&run, VR_EVENT_WAKE);
    goes(&run, DAY);
    TO_PROBES(&run, 1);
    run.now_ms += 48 * MINUTE - 1;
    assert_string_equal(comes_good(&run, 1), "end window");
    assert_false(view_of(&run).finished);
    run.now_ms++;
    assert_string_equal(is_open(&run, DAY), "finish");
    expect_end(&run, VR_RUN_FAULTED, VR_CODE_TIMEOUT);
}

/* A run that an older program left open knows nothing of windows. */
static void test_an_older_document(void **state)
{
    g_auto(Run) run = {0};
    g_autofree char *saved = NULL;
    json_t *document;
    char *text;

    set_up(&run, 5);
    run.config.policy.timeout_ms = 60 * MINUTE;
    launch(&run);
    run.now_ms += 12 * MINUTE;
    TO_PROBES(&run, 0);
    comes_good(&run, 0);
    saved = vr_rollout_save(run.rollout, run.now_ms, "a boot");
    document = json_loads(saved, 0, NULL);
    assert_int_equal(json_object_del(document, "deadlineLeft"), 0);
    assert_int_equal(json_object_del(document, "longestBatchMs"), 0);
    text = json_dumps(document, JSON_COMPACT);
    g_autoptr(VrRollout) next = load(&run, text, run.now_ms, "a boot");
    free(text);
    json_decref(document);
    vr_rollout_free(run.rollout);
    run.rollout = g_steal_pointer(&next);
    assert_string_equal(say(&run, VR_EVENT_START), "survey");
    assert_string_equal(say(&run, VR_EVENT_SURVEY), "begin prepare 1");
    TO_PROBES(&run, 1);
    run.now_ms += 48 * MINUTE;
    assert_string_equal(comes_good(&run, 1), "end finish");
    expect_end(&run, VR_RUN_FAULTED, VR_CODE_TIMEOUT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_begins_while_it_is_shut),
        cmocka_unit_test(test_it_shuts_during_the_survey),
        cmocka_unit_test(test_what_is_left_is_too_short),
        cmocka_unit_test(test_a_batch_is_longer_than_an_opening),
        cmocka_unit_test(test_nobody_can_say),
        cmocka_unit_test(test_persons),
        cmocka_unit_test(test_other_holds),
        cmocka_unit_test(test_the_gate),
        cmocka_unit_test(test_what_was_prepared_ahead_goes),
        cmocka_unit_test(test_it_shuts_during_a_notice),
        cmocka_unit_test(test_the_deadline_waits),
        cmocka_unit_test(test_kept),
        cmocka_unit_test(test_an_older_document),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
