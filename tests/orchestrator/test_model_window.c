/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* H4: maintenanceWindow of a set file. */
#include "orchestrator/model_text.h"

#define WINDOW(keys) "maintenanceWindow: {" keys "}"
#define PATH "3: maintenanceWindow"
#define SATURDAY "schedule: \"Sat *-*-* 02:00 Europe/Berlin\""
#define NO_SCHEDULE "is no calendar expression of systemd, such as \"Sat *-*-* 02:00 Europe/Berlin\""

static void test_taken(void **state)
{
    g_autoptr(VrModel) without = parse_with("");
    g_autoptr(VrModel) with =
        parse_with("MaintenanceWindow:\n  Duration: PT4H\n  Schedule: 'Sat *-*-* 02:00 Europe/Berlin'");
    static const char *const schedules[] = {"daily", "*:00", "Mon..Fri *-*~01 01:00:00 Etc/GMT+3", "2026-12-24", "a"};

    assert_null(without->window.schedule);
    assert_string_equal(with->window.schedule, "Sat *-*-* 02:00 Europe/Berlin");
    assert_int_equal(with->window.duration_ms, 4 * 3600000);
    assert_int_equal(with->window.line, 5);
    for (guint i = 0; i < G_N_ELEMENTS(schedules); i++) {
        g_autofree char *section = g_strdup_printf(WINDOW("schedule: \"%s\", duration: P7D"), schedules[i]);
        g_autoptr(VrModel) model = parse_with(section);

        assert_string_equal(model->window.schedule, schedules[i]);
    }
}

static void test_refused(void **state)
{
    static const Refusal rows[] = {
        {WINDOW(""), PATH ": schedule is missing"},
        {"maintenanceWindow: daily", PATH ": must be a mapping"},
        {WINDOW("duration: PT4H"), PATH ": schedule is missing: when the window opens"},
        {WINDOW(SATURDAY), PATH ": duration is missing: for how long the window is open, PT15M to P7D"},
        {WINDOW(SATURDAY ", duration: 899s"), PATH ".duration: 899s is out of range (PT15M to P7D)"},
        {WINDOW(SATURDAY ", duration: P7DT1S"), PATH ".duration: P7DT1S is out of range (PT15M to P7D)"},
        {WINDOW(SATURDAY ", duration: long"), PATH ".duration: \"long\" is not a duration"},
        {WINDOW(SATURDAY ", duration: PT4H, zone: UTC"), PATH ".zone: unknown key"},
        {WINDOW("schedule: [daily], duration: PT4H"), PATH ".schedule: must be text, not a list"},
        {WINDOW("schedule: , duration: PT4H"), PATH ".schedule: has no value"},
        {WINDOW("schedule: \"\", duration: PT4H"), PATH ".schedule: \"\" must have 1 to 256 characters"},
        {WINDOW("schedule: -h, duration: PT4H"), PATH ".schedule: \"-h\" " NO_SCHEDULE},
        {WINDOW("schedule: \"--root=/x\", duration: PT4H"), PATH ".schedule: \"--root=/x\" " NO_SCHEDULE},
        {WINDOW("schedule: \"daily\\n-h\", duration: PT4H"), PATH ".schedule: \"daily?-h\" " NO_SCHEDULE},
        {WINDOW("schedule: \"daily \", duration: PT4H"), PATH ".schedule: \"daily \" " NO_SCHEDULE},
        {WINDOW("schedule: \" daily\", duration: PT4H"), PATH ".schedule: \" daily\" " NO_SCHEDULE},
        {WINDOW("schedule: \"daily $(id)\", duration: PT4H"), PATH ".schedule: \"daily $(id)\" " NO_SCHEDULE},
        {WINDOW("schedule: \"t\xc3\xa4glich\", duration: PT4H"), PATH ".schedule: \"t\xc3\xa4glich\" " NO_SCHEDULE},
    };
    g_autofree char *most = g_strnfill(256, 'a');
    g_autofree char *taken = g_strdup_printf(WINDOW("schedule: %s, duration: PT15M"), most);
    g_autofree char *too_long = g_strdup_printf(HEAD WINDOW("schedule: %sa, duration: PT15M") "\n" TAIL, most);

    refused_each(rows, G_N_ELEMENTS(rows));
    vr_model_free(parse_with(taken));
    refused(too_long, "lab.yaml:3: maintenanceWindow.schedule: \"aaaaaaaa");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_taken), cmocka_unit_test(test_refused)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
