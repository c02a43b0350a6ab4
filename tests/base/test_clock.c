/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/support.h"

#include "base/clock.h"

#include <glib/gstdio.h>
#include <unistd.h>

static void durations_are_read(void **state)
{
    const struct {
        const char *text;
        gint64 ms;
    } rows[] = {
        {"PT2M", 120000},
        {"PT0S", 0},
        {"P14D", 14 * 86400000LL},
        {"PT1H30M", 5400000},
        {"P1DT1S", 86401000},
        {"P2W", 14 * 86400000LL},
        {"PT0.5S", 500},
        {"PT1.25S", 1250},
        {"5min", 300000},
        {"2h 30s", 7230000},
        {"2h30s", 7230000},
        {"90", 90000},
        {"1.5h", 5400000},
        {"0", 0},
        {" 3 s ", 3000},
        {"250ms", 250},
        {"2 weeks 1 day", 15 * 86400000LL},
        {"1us", 1},
        {"10m", 600000},
        {"1 2", 3000},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        gint64 ms = -1;
        if (!vr_clock_parse_duration(rows[i].text, &ms, &error) || ms != rows[i].ms)
            fail_msg("\"%s\" gave %lld, %s", rows[i].text, (long long)ms, error ? error->message : "no error");
    }
}

static void bad_durations_are_refused(void **state)
{
    const char *rows[] = {"",
                          "P",
                          "PT",
                          "PT5",
                          "P1M",
                          "P1Y",
                          "PT1M1H",
                          "PT1S1S",
                          "-5s",
                          "P-1D",
                          "-PT1S",
                          "5 parsecs",
                          "abc",
                          "1 month",
                          "2y",
                          "1M",
                          "PT1.5M",
                          "P1DT",
                          "PTT1S",
                          "1..5s",
                          "1.s",
                          ".5s",
                          "5s-",
                          "nan",
                          "inf",
                          "1e3",
                          "+5",
                          "99999999999999999999",
                          "P99999999999D",
                          "9223372036854775807us 9223372036854775807us",
                          "1.1234567s",
                          "PT1S ",
                          "pt1s",
                          "P1DT1",
                          "36526d",
                          "P36526D",
                          "5\n",
                          "20%"};
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        GError *error = NULL;
        gint64 ms = -7;
        if (vr_clock_parse_duration(rows[i], &ms, &error))
            fail_msg("\"%s\" was taken for %lld ms", rows[i], (long long)ms);
        assert_int_equal(ms, -7);
        expect_error(&error, VR_ERROR_INVALID, "duration");
    }
    assert_false(vr_clock_parse_duration(NULL, &(gint64){0}, NULL));
}

static void a_message_has_no_raw_bytes(void **state)
{
    GError *error = NULL;
    assert_false(vr_clock_parse_duration("\033[1m", &(gint64){0}, &error));
    expect_error(&error, VR_ERROR_INVALID, "\"?[1m\"");
}

static void durations_are_shown(void **state)
{
    const struct {
        gint64 ms;
        const char *text;
    } rows[] = {{0, "0 ms"},
                {312, "312 ms"},
                {999, "999 ms"},
                {1000, "1.0 s"},
                {4200, "4.2 s"},
                {59949, "59.9 s"},
                {59950, "1 min 00 s"},
                {185000, "3 min 05 s"},
                {3599499, "59 min 59 s"},
                {3600000, "1 h 00 min"},
                {90000000, "1 d 01 h"},
                {-1, "-"}};
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *got = vr_clock_format_duration(rows[i].ms);
        assert_string_equal(got, rows[i].text);
    }
    g_free(vr_clock_format_duration(G_MAXINT64));
}

static void wall_time_is_rfc3339(void **state)
{
    g_autofree char *epoch = vr_clock_format(0);
    assert_string_equal(epoch, "1970-01-01T00:00:00.000Z");
    g_autofree char *later = vr_clock_format(G_GINT64_CONSTANT(1795302152123456));
    assert_string_equal(later, "2026-11-21T23:02:32.123Z");
    g_autofree char *never = vr_clock_format(G_MAXINT64);
    assert_string_equal(never, "-");
}

static void clocks_go_on(void **state)
{
    gint64 before = vr_clock_now_ms();
    vr_clock_sleep_until(before + 30);
    assert_true(vr_clock_now_ms() >= before + 30);
    vr_clock_sleep_until(before - 5);
    vr_clock_sleep_until(-5);
    assert_true(vr_clock_wall_us() > G_GINT64_CONSTANT(1600000000000000));
    assert_int_equal(strlen(vr_clock_boot_id()), 36);
    assert_ptr_equal(vr_clock_boot_id(), vr_clock_boot_id());
}

static gint64 fixed_now(void *data)
{
    return *(gint64 *)data;
}

static void jump(gint64 deadline_ms, void *data)
{
    *(gint64 *)data = deadline_ms;
}

static void tests_can_replace_the_clocks(void **state)
{
    gint64 now = 5;
    vr_clock_set_source(&(VrClockSource){fixed_now, fixed_now, jump, &now});
    assert_int_equal(vr_clock_now_ms(), 5);
    vr_clock_sleep_until(3600000);
    assert_int_equal(vr_clock_now_ms(), 3600000);
    assert_int_equal(vr_clock_wall_us(), 3600000);
    vr_clock_set_source(NULL);
    assert_int_not_equal(vr_clock_now_ms(), 3600000);
}

/* What the file of VIRT_REIMAGE_TEST_CLOCK adds now, to the second. */
static gint64 added_s(void)
{
    gint64 us = vr_clock_wall_us() - g_get_real_time();
    return (us + (us < 0 ? -500000 : 500000)) / 1000000;
}

static void a_file_moves_the_wall_clock(void **state)
{
    const char *file = *state;
    gint64 boot = vr_clock_now_ms();
    const struct {
        const char *text;
        gint64 s;
    } rows[] = {{"86400\n", 86400}, {"3000000000", 3000000000}, {"", 3000000000}, {"1 day", 3000000000},
                {"0", 0},           {"-7200", -7200},           {"1.5", -7200},   {"99999999999999999999", -7200},
                {" 60 ", 60},       {"-3155760001", 60},        {"+10\n\n", 10}};
    assert_int_equal(added_s(), 0); /* there is no such file yet */
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        assert_true(g_file_set_contents(file, rows[i].text, -1, NULL));
        assert_int_equal(added_s(), rows[i].s);
    }
    assert_int_equal(g_remove(file), 0);
    assert_int_equal(added_s(), 10);
    assert_true(vr_clock_now_ms() - boot < 60000);
}

static int name_test_clock(void **state)
{
    g_autofree char *name = g_strdup_printf("virt-reimage-clock-%d", (int)getpid());
    *state = g_build_filename(g_get_tmp_dir(), name, NULL);
    return g_setenv("VIRT_REIMAGE_TEST_CLOCK", *state, TRUE) ? 0 : -1; /* before anybody reads the wall clock */
}

static int forget_test_clock(void **state)
{
    (void)g_remove(*state);
    g_free(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(durations_are_read),           cmocka_unit_test(bad_durations_are_refused),
        cmocka_unit_test(a_message_has_no_raw_bytes),   cmocka_unit_test(durations_are_shown),
        cmocka_unit_test(wall_time_is_rfc3339),         cmocka_unit_test(clocks_go_on),
        cmocka_unit_test(tests_can_replace_the_clocks), cmocka_unit_test(a_file_moves_the_wall_clock),
    };
    return cmocka_run_group_tests(tests, name_test_clock, forget_test_clock);
}
