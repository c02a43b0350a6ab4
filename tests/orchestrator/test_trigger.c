/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What begins by itself, by a table of facts. Rows H1, H2, A14, G6, decision 5. */
#include "orchestrator/trigger.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define OPENS_US G_GINT64_CONSTANT(1795482000000000)
#define MOVES [VR_TRIGGER_MOVES]
#define THERE [VR_TRIGGER_THERE]
#define NOT_KNOWN [VR_TRIGGER_NOT_KNOWN]
#define NEWER [VR_TRIGGER_NEWER]

/* A set that two instances of three are to be moved in, and nothing is in the way. */
#define DUE                                                                                                            \
    .set = "shop", .enabled = TRUE, .has_health = TRUE, .image = "os", .version = "2.0.0",                             \
    .places = {MOVES = 2, THERE = 1}

typedef struct {
    const char *name;
    VrTriggerFacts facts;
    VrTriggerState state;
    VrTriggerWhy why;
    const char *says; /* in the reason */
} Row;

static const Row rows[] = {
    {"due", {DUE}, VR_TRIGGER_DUE, VR_TRIGGER_WHY_NONE, "2 of its instances are moved to 2.0.0"},
    {"off by the model", {.set = "shop"}, VR_TRIGGER_OFF, VR_TRIGGER_WHY_NONE, "enableAutomaticOSUpgrade"},
    {"off by a command",
     {.set = "shop", .word = VR_SET_AUTO_OFF},
     VR_TRIGGER_OFF,
     VR_TRIGGER_WHY_NONE,
     "set-auto shop off"},
    {"a model of a newer program",
     {.set = "shop", .unreadable = "unknown key"},
     VR_TRIGGER_BLOCKED,
     VR_TRIGGER_WHY_MODEL,
     "unknown key"},
    {"nobody watches",
     {.set = "shop", .enabled = TRUE, .version = "2.0.0"},
     VR_TRIGGER_BLOCKED,
     VR_TRIGGER_WHY_HEALTH,
     "healthProfile"},
    {"an image that cannot be read",
     {.set = "shop", .enabled = TRUE, .has_health = TRUE, .image_error = "image.json is damaged"},
     VR_TRIGGER_BLOCKED,
     VR_TRIGGER_WHY_IMAGE,
     "image.json is damaged"},
    {"no version yet",
     {.set = "shop", .enabled = TRUE, .has_health = TRUE},
     VR_TRIGGER_NOTHING,
     VR_TRIGGER_WHY_NONE,
     "no version"},
    {"all on the newest",
     {.set = "shop", .enabled = TRUE, .has_health = TRUE, .version = "2.0.0", .places = {THERE = 3}},
     VR_TRIGGER_NOTHING,
     VR_TRIGGER_WHY_NONE,
     "3 of its instances run 2.0.0"},
    {"never lower: those that are left run a newer one",
     {.set = "shop", .enabled = TRUE, .has_health = TRUE, .version = "2.0.0", .places = {NEWER = 2}},
     VR_TRIGGER_NOTHING,
     VR_TRIGGER_WHY_NONE,
     "2 on a newer version"},
    {"A14: nobody knows what they run",
     {.set = "shop", .enabled = TRUE, .has_health = TRUE, .version = "2.0.0", .places = {NOT_KNOWN = 3}},
     VR_TRIGGER_BLOCKED,
     VR_TRIGGER_WHY_UNKNOWN,
     "virt-reimage adopt shop"},
    {"A14: of one nobody knows, the others are there",
     {.set = "shop", .enabled = TRUE, .has_health = TRUE, .version = "2.0.0", .places = {THERE = 2, NOT_KNOWN = 1}},
     VR_TRIGGER_NOTHING,
     VR_TRIGGER_WHY_NONE,
     "1 of unknown version"},
    {"A14: of one nobody knows, the others move",
     {.set = "shop", .enabled = TRUE, .has_health = TRUE, .version = "2.0.0", .places = {MOVES = 2, NOT_KNOWN = 1}},
     VR_TRIGGER_DUE,
     VR_TRIGGER_WHY_NONE,
     "1 of unknown version"},
    {"a pin that all have come to",
     {.set = "shop", .enabled = TRUE, .has_health = TRUE, .version = "2.0.0", .pin = "2.0.0", .places = {THERE = 2}},
     VR_TRIGGER_NOTHING,
     VR_TRIGGER_WHY_NONE,
     ""},
    {"a pin", {DUE, .pin = "2.0.0"}, VR_TRIGGER_BLOCKED, VR_TRIGGER_WHY_PINNED, "asks for version 2.0.0"},
    {"a person's run", {DUE, .open_run = "r1"}, VR_TRIGGER_BLOCKED, VR_TRIGGER_WHY_RUN, "run r1, which a person began"},
    {"a run that is held",
     {DUE, .open_run = "r1", .open_run_hold = "paused: 'resume' goes on"},
     VR_TRIGGER_BLOCKED,
     VR_TRIGGER_WHY_RUN,
     "is open: paused: 'resume' goes on"},
    {"its own run",
     {DUE, .open_run = "r1", .open_run_automatic = TRUE},
     VR_TRIGGER_BLOCKED,
     VR_TRIGGER_WHY_RUN,
     "began by itself"},
    {"UNKNOWN", {DUE, .unknown_domain = "web-1"}, VR_TRIGGER_BLOCKED, VR_TRIGGER_WHY_PERSON, "'web-1' is UNKNOWN"},
    {"a version that failed",
     {DUE, .failed_run = "r1", .failed_code = "RollingUpgradeTimeoutError"},
     VR_TRIGGER_BLOCKED,
     VR_TRIGGER_WHY_FAILED,
     "2.0.0 failed in run r1 (RollingUpgradeTimeoutError)"},
    {"a failure is said before that it was tried",
     {DUE, .failed_run = "r1", .failed_code = "X", .tried = TRUE, .ended_run = "r1", .ended_status = VR_RUN_FAULTED},
     VR_TRIGGER_BLOCKED,
     VR_TRIGGER_WHY_FAILED,
     "retry shop"},
    {"taken back",
     {DUE, .taken_back_run = "r2"},
     VR_TRIGGER_BLOCKED,
     VR_TRIGGER_WHY_TAKEN_BACK,
     "went back from 2.0.0 in run r2"},
    {"cancelled",
     {DUE, .ended_run = "r1", .ended_status = VR_RUN_CANCELLED},
     VR_TRIGGER_BLOCKED,
     VR_TRIGGER_WHY_ENDED,
     "which a person began, has ended as Cancelled"},
    {"done, and some went back since",
     {DUE, .tried = TRUE, .ended_run = "r1", .ended_automatic = TRUE, .ended_status = VR_RUN_COMPLETED},
     VR_TRIGGER_BLOCKED,
     VR_TRIGGER_WHY_ENDED,
     "which began by itself, has ended as Completed"},
    {"refused before there was a run",
     {DUE, .tried = TRUE, .tried_text = "no room on the disk"},
     VR_TRIGGER_BLOCKED,
     VR_TRIGGER_WHY_ENDED,
     "was refused: no room on the disk"},
    {"killed before there was a run",
     {DUE, .tried = TRUE},
     VR_TRIGGER_BLOCKED,
     VR_TRIGGER_WHY_ENDED,
     "there is no run of it"},
    {"the window is open", {DUE, .window_next_us = OPENS_US}, VR_TRIGGER_DUE, VR_TRIGGER_WHY_NONE, ""},
    {"at the window",
     {DUE, .window_closed = TRUE, .window_next_us = OPENS_US},
     VR_TRIGGER_WAIT,
     VR_TRIGGER_WHY_NONE,
     "window opens"},
    {"the host has just booted",
     {DUE, .settles_us = OPENS_US},
     VR_TRIGGER_WAIT,
     VR_TRIGGER_WHY_NONE,
     "has just booted"},
    {"and its window is closed",
     {DUE, .settles_us = OPENS_US - 1, .window_closed = TRUE, .window_next_us = OPENS_US},
     VR_TRIGGER_WAIT,
     VR_TRIGGER_WHY_NONE,
     "window opens"},
    {"never again", {DUE, .window_closed = TRUE}, VR_TRIGGER_BLOCKED, VR_TRIGGER_WHY_WINDOW, "does not open again"},
    {"no window that anybody knows",
     {DUE, .window_error = "no systemd-analyze"},
     VR_TRIGGER_BLOCKED,
     VR_TRIGGER_WHY_WINDOW,
     "no systemd-analyze"},
    {"what blocks is said before a closed window",
     {DUE, .failed_run = "r1", .failed_code = "X", .window_closed = TRUE, .window_next_us = OPENS_US},
     VR_TRIGGER_BLOCKED,
     VR_TRIGGER_WHY_FAILED,
     ""},
};

/* H1, H2, A14, G6 */
static void test_decisions(void **state)
{
    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        const Row *row = &rows[i];
        g_auto(VrTrigger) trigger = {0};

        vr_trigger_decide(&row->facts, &trigger);
        if (trigger.state != row->state || trigger.why != row->why || !strstr(trigger.reason, row->says))
            fail_msg("%s: %s, %s: %s", row->name, vr_trigger_state_name(trigger.state),
                     vr_trigger_why_name(trigger.why), trigger.reason);
        assert_int_equal(trigger.at_us, row->state == VR_TRIGGER_WAIT ? OPENS_US : 0);
        assert_int_equal(trigger.version != NULL,
                         row->facts.places[VR_TRIGGER_MOVES] > 0 && row->state != VR_TRIGGER_OFF);
        assert_int_equal(vr_trigger_why_name(trigger.why) != NULL, row->state == VR_TRIGGER_BLOCKED);
    }
}

/* A14, decision 5: never lower, never one of unknown version. */
static void test_places(void **state)
{
    static const struct {
        const char *image, *version, *pin;
        gboolean is_protected;
        VrTriggerPlace place;
    } places[] = {
        {"os", "1.0.0", NULL, FALSE, VR_TRIGGER_MOVES},        {"os", "2.0", NULL, FALSE, VR_TRIGGER_THERE},
        {"os", "2.0.1", NULL, FALSE, VR_TRIGGER_NEWER},        {"os", "10.0.0", NULL, FALSE, VR_TRIGGER_NEWER},
        {"other", "1.0.0", NULL, FALSE, VR_TRIGGER_ELSEWHERE}, {NULL, NULL, NULL, FALSE, VR_TRIGGER_NOT_KNOWN},
        {"os", "1.0.0", "1.0.0", FALSE, VR_TRIGGER_KEPT_OUT},  {"os", "1.0.0", "2.0.0", FALSE, VR_TRIGGER_MOVES},
        {"os", "1.0.0", NULL, TRUE, VR_TRIGGER_KEPT_OUT},      {"os", "2.0.0", NULL, TRUE, VR_TRIGGER_THERE},
        {NULL, NULL, NULL, TRUE, VR_TRIGGER_KEPT_OUT},
    };

    for (guint i = 0; i < G_N_ELEMENTS(places); i++) {
        VrInstance instance = {.pin = places[i].pin, .is_protected = places[i].is_protected};
        VrGeneration current = {.image = (char *)places[i].image, .version = (char *)places[i].version};

        assert_int_equal(vr_trigger_place(&instance, &current, "os", "2.0.0"), places[i].place);
    }
    assert_int_equal(vr_trigger_place(&(VrInstance){.pin = NULL}, NULL, "os", "2.0.0"), VR_TRIGGER_NOT_KNOWN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_decisions), cmocka_unit_test(test_places)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
