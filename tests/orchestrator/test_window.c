/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* H3, H4: when a maintenance window is open. */
#include "orchestrator/model_text.h"

#include "base/clock.h"
#include "orchestrator/window.h"

#include <glib/gstdio.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#define MINUTE_US (60 * G_GINT64_CONSTANT(1000000))
#define HOUR_MS G_GINT64_CONSTANT(3600000)
#define DAY_MS (24 * HOUR_MS)

static gint64 at(const char *text)
{
    g_autoptr(GTimeZone) utc = g_time_zone_new_utc();
    g_autoptr(GDateTime) moment = g_date_time_new_from_iso8601(text, utc);

    if (moment == NULL)
        fail_msg("no moment: %s", text);
    return g_date_time_to_unix(moment) * G_USEC_PER_SEC + g_date_time_get_microsecond(moment);
}

static char *short_of(gint64 us)
{
    g_autofree char *text = vr_clock_format(us);

    return us == 0 ? g_strdup("never") : g_strndup(text, strlen("2026-11-28T01:00"));
}

/* "open until UNTIL, then NEXT" or "shut until NEXT" */
static char *look(const char *schedule, gint64 duration_ms, gint64 now_us)
{
    const VrMaintenanceWindow window = {.schedule = (char *)schedule, .duration_ms = duration_ms};
    g_autoptr(GError) error = NULL;
    g_autofree char *until = NULL, *next = NULL;
    VrWindowView view;

    if (!vr_window_look(&window, now_us, &view, &error))
        fail_msg("%s: %s", schedule, error->message);
    assert_true(view.open ? view.until_us > now_us : view.until_us == 0);
    assert_true(view.next_us == 0 || view.next_us > MAX(now_us, view.until_us));
    until = short_of(view.until_us);
    next = short_of(view.next_us);
    return view.open ? g_strdup_printf("open until %s, then %s", until, next) : g_strdup_printf("shut until %s", next);
}

typedef struct {
    const char *schedule;
    gint64 duration_ms;
    const char *now, *expected;
} Row;

static gint64 later(void *data)
{
    return *(gint64 *)data;
}

/* between_ms: how much boot-time passes from row to row. */
static void check_after(const Row *rows, gsize count, gint64 between_ms)
{
    static gint64 now_ms = 1000000;
    const VrClockSource source = {.now_ms = later, .data = &now_ms};

    vr_clock_set_source(&source);
    for (gsize i = 0; i < count; i++, now_ms += between_ms) {
        g_autofree char *found = look(rows[i].schedule, rows[i].duration_ms, at(rows[i].now));

        if (!g_str_equal(found, rows[i].expected))
            fail_msg("\"%s\" at %s: \"%s\" instead of \"%s\"", rows[i].schedule, rows[i].now, found, rows[i].expected);
    }
    vr_clock_set_source(NULL);
}

/* Each by an answer of its own. */
static void check(const Row *rows, gsize count)
{
    check_after(rows, count, HOUR_MS);
}

#define SATURDAY "Sat *-*-* 02:00 Europe/Berlin"

static void test_a_night_a_week(void **state) /* H3, H4 */
{
    static const Row rows[] = {
        {SATURDAY, 4 * HOUR_MS, "2026-11-23T02:00:00Z", "shut until 2026-11-28T01:00"},
        {SATURDAY, 4 * HOUR_MS, "2026-11-28T00:59:59.999999Z", "shut until 2026-11-28T01:00"},
        {SATURDAY, 4 * HOUR_MS, "2026-11-28T01:00:00Z", "open until 2026-11-28T05:00, then 2026-12-05T01:00"},
        {SATURDAY, 4 * HOUR_MS, "2026-11-28T04:59:59.999999Z", "open until 2026-11-28T05:00, then 2026-12-05T01:00"},
        {SATURDAY, 4 * HOUR_MS, "2026-11-28T05:00:00Z", "shut until 2026-12-05T01:00"},
        /* over midnight, and over the end of a year, in the zone of the schedule and in UTC */
        {"*-*-* 22:30 Europe/Berlin", 3 * HOUR_MS, "2026-12-31T21:00:00Z", "shut until 2026-12-31T21:30"},
        {"*-*-* 22:30 Europe/Berlin", 3 * HOUR_MS, "2027-01-01T00:00:00Z",
         "open until 2027-01-01T00:30, then 2027-01-01T21:30"},
        {"*-*-* 22:30 Europe/Berlin", 3 * HOUR_MS, "2027-01-01T00:30:00Z", "shut until 2027-01-01T21:30"},
        {"monthly UTC", 15 * 60000, "2026-11-30T23:59:59Z", "shut until 2026-12-01T00:00"},
        {"monthly UTC", 15 * 60000, "2026-12-01T00:14:59Z", "open until 2026-12-01T00:15, then 2027-01-01T00:00"},
        {"Fri *-*-13 01:00 UTC", 7 * DAY_MS, "2026-11-23T00:00:00Z", "shut until 2027-08-13T01:00"},
        {"*-02-29 00:00 UTC", 7 * DAY_MS, "2028-03-06T23:59:00Z", "open until 2028-03-07T00:00, then 2032-02-29T00:00"},
    };

    check(rows, G_N_ELEMENTS(rows));
}

/* The clocks of Berlin go from 02:00 to 03:00 at 01:00 UTC on 29 March 2026, and back at 01:00 UTC on 25 October; those of
 * New York at 07:00 UTC on 8 March, and back at 06:00 UTC on 1 November. */
static void test_clocks_change(void **state)
{
    static const Row rows[] = {
        /* four hours are four hours, of a window that opens before */
        {"*-*-* 00:30 Europe/Berlin", 4 * HOUR_MS, "2026-03-29T03:29:59Z",
         "open until 2026-03-29T03:30, then 2026-03-29T22:30"},
        {"*-*-* 00:30 Europe/Berlin", 4 * HOUR_MS, "2026-03-29T03:30:00Z", "shut until 2026-03-29T22:30"},
        {"*-*-* 00:30 Europe/Berlin", 4 * HOUR_MS, "2026-10-25T02:29:59Z",
         "open until 2026-10-25T02:30, then 2026-10-25T23:30"},
        {"*-*-* 00:30 America/New_York", 4 * HOUR_MS, "2026-03-08T09:29:59Z",
         "open until 2026-03-08T09:30, then 2026-03-09T04:30"},
        {"*-*-* 00:30 America/New_York", 4 * HOUR_MS, "2026-11-01T08:29:59Z",
         "open until 2026-11-01T08:30, then 2026-11-02T05:30"},
        /* the gap: a time that is skipped has no opening on that day */
        {"*-*-* 02:30 Europe/Berlin", HOUR_MS, "2026-03-28T02:30:00Z", "shut until 2026-03-30T00:30"},
        {"*-*-* 02:30 Europe/Berlin", HOUR_MS, "2026-03-29T00:59:59Z", "shut until 2026-03-30T00:30"},
        {"*-*-* 02:30 Europe/Berlin", HOUR_MS, "2026-03-29T01:31:00Z", "shut until 2026-03-30T00:30"},
        {"*-*-* 02:30 America/New_York", HOUR_MS, "2026-03-08T07:31:00Z", "shut until 2026-03-09T06:30"},
        {"*-*-* 03:00 Europe/Berlin", HOUR_MS, "2026-03-29T01:00:00Z",
         "open until 2026-03-29T02:00, then 2026-03-30T01:00"},
        {"*-*-* 03:00 America/New_York", HOUR_MS, "2026-03-08T07:00:00Z",
         "open until 2026-03-08T08:00, then 2026-03-09T07:00"},
        /* the overlap: a time that comes twice opens the window once, whenever one asks */
        {"*-*-* 02:30 Europe/Berlin", 15 * 60000, "2026-10-25T00:29:59Z", "shut until 2026-10-25T00:30"},
        {"*-*-* 02:30 Europe/Berlin", 15 * 60000, "2026-10-25T00:30:00Z",
         "open until 2026-10-25T00:45, then 2026-10-26T01:30"},
        {"*-*-* 02:30 Europe/Berlin", 15 * 60000, "2026-10-25T01:15:00Z", "shut until 2026-10-26T01:30"},
        {"*-*-* 02:30 Europe/Berlin", 15 * 60000, "2026-10-25T01:30:00Z", "shut until 2026-10-26T01:30"},
        {"*-*-* 02:30 Europe/Berlin", 15 * 60000, "2026-10-25T01:44:00Z", "shut until 2026-10-26T01:30"},
        {"*-*-* 01:30 America/New_York", 15 * 60000, "2026-11-01T05:30:00Z",
         "open until 2026-11-01T05:45, then 2026-11-02T06:30"},
        {"*-*-* 01:30 America/New_York", 15 * 60000, "2026-11-01T06:15:00Z", "shut until 2026-11-02T06:30"},
        {"*-*-* 01:30 America/New_York", 15 * 60000, "2026-11-01T06:30:00Z", "shut until 2026-11-02T06:30"},
        {"*-*-* 01:30 America/New_York", 2 * HOUR_MS, "2026-11-01T07:29:00Z",
         "open until 2026-11-01T07:30, then 2026-11-02T06:30"},
    };

    check(rows, G_N_ELEMENTS(rows));
}

static void test_windows_that_overlap(void **state)
{
    static const Row rows[] = {
        {"Sat,Sun *-*-* 02:00 UTC", DAY_MS, "2026-11-28T03:00:00Z",
         "open until 2026-11-30T02:00, then 2026-12-05T02:00"},
        {"Sat *-*-* 00,02,04:00 UTC", 3 * HOUR_MS, "2026-11-28T00:00:00Z",
         "open until 2026-11-28T07:00, then 2026-12-05T00:00"},
        {"Sat *-*-* 00,02,06:00 UTC", 3 * HOUR_MS, "2026-11-28T01:00:00Z",
         "open until 2026-11-28T05:00, then 2026-11-28T06:00"},
    };
    /* always open: no end is near, and what is said is further off than a day */
    static const struct {
        const char *schedule;
        gint64 duration_ms;
    } always[] = {{"hourly UTC", HOUR_MS}, {"*:* UTC", 15 * 60000}, {"*:* UTC", 7 * DAY_MS}, {"daily UTC", 7 * DAY_MS}};

    check(rows, G_N_ELEMENTS(rows));
    for (guint i = 0; i < G_N_ELEMENTS(always); i++) {
        const VrMaintenanceWindow window = {.schedule = (char *)always[i].schedule,
                                            .duration_ms = always[i].duration_ms};
        gint64 now_us = at("2026-11-28T03:00:30Z");
        VrWindowView view;

        assert_true(vr_window_look(&window, now_us, &view, NULL));
        assert_true(view.open);
        assert_true(view.until_us >= now_us + always[i].duration_ms * 1000);
        assert_true(view.next_us == 0);
    }
}

static void test_what_never_comes(void **state)
{
    static const Row rows[] = {
        {"*-02-30 03:00 UTC", HOUR_MS, "2026-11-23T00:00:00Z", "shut until never"},
        {"2026-11-20 03:00 UTC", HOUR_MS, "2026-11-20T03:59:00Z", "open until 2026-11-20T04:00, then never"},
        {"2026-11-20 03:00 UTC", HOUR_MS, "2026-11-20T04:00:00Z", "shut until never"},
        {"2026-11-20 03:00 UTC", 7 * DAY_MS, "2026-11-23T00:00:00Z", "open until 2026-11-27T03:00, then never"},
        {"2026-11-20 03:00 UTC", HOUR_MS, "2026-11-19T00:00:00Z", "shut until 2026-11-20T03:00"},
    };
    static const VrMaintenanceWindow none = {0};
    VrWindowView view;

    check(rows, G_N_ELEMENTS(rows));
    assert_true(vr_window_look(&none, at("2026-11-23T00:00:00Z"), &view, NULL));
    assert_true(view.open && view.until_us == G_MAXINT64);
}

/* What was said before counts for nothing when the clock was wrong: two hours forth, and back. */
static void test_the_clock_jumps(void **state)
{
    static const Row rows[] = {
        {SATURDAY, 4 * HOUR_MS, "2026-11-28T00:00:00Z", "shut until 2026-11-28T01:00"},
        {SATURDAY, 4 * HOUR_MS, "2026-11-28T02:00:00Z", "open until 2026-11-28T05:00, then 2026-12-05T01:00"},
        {SATURDAY, 4 * HOUR_MS, "2026-11-28T00:00:00Z", "shut until 2026-11-28T01:00"},
        {SATURDAY, 4 * HOUR_MS, "2026-11-28T04:00:00Z", "open until 2026-11-28T05:00, then 2026-12-05T01:00"},
        {SATURDAY, 4 * HOUR_MS, "2026-11-28T06:00:00Z", "shut until 2026-12-05T01:00"},
        {SATURDAY, 4 * HOUR_MS, "2026-11-28T04:00:00Z", "open until 2026-11-28T05:00, then 2026-12-05T01:00"},
        {SATURDAY, 4 * HOUR_MS, "2031-05-01T00:00:00Z", "shut until 2031-05-03T00:00"},
        {SATURDAY, 4 * HOUR_MS, "2021-05-01T03:00:00Z", "open until 2021-05-01T04:00, then 2021-05-08T00:00"},
    };

    check_after(rows, G_N_ELEMENTS(rows), 1000);
}

/* A year, a quarter of an hour at a time, against the rule itself: open is what an opening lies not farther back than the duration. */
static void test_a_year(void **state)
{
    const char *schedule = "*-*-* 02:30 Europe/Berlin";
    g_autoptr(GTimeZone) zone = g_time_zone_new_identifier("Europe/Berlin");
    const VrMaintenanceWindow window = {.schedule = (char *)schedule, .duration_ms = 90 * 60000};
    gint64 opened_us = 0;
    guint nights = 0;

    assert_non_null(zone);
    for (gint64 now = at("2026-01-01T00:00:00Z"); now < at("2027-01-01T00:00:00Z"); now += 15 * MINUTE_US) {
        g_autoptr(GDateTime) utc = g_date_time_new_from_unix_utc(now / G_USEC_PER_SEC);
        g_autoptr(GDateTime) local = g_date_time_to_timezone(utc, zone);
        VrWindowView view;

        if (g_date_time_get_hour(local) == 2 && g_date_time_get_minute(local) == 30 &&
            now - opened_us > 120 * MINUTE_US) {
            opened_us = now;
            nights++;
        }
        assert_true(vr_window_look(&window, now, &view, NULL));
        if (view.open != (now - opened_us < 90 * MINUTE_US))
            fail_msg("wrong at %s", g_date_time_format_iso8601(local));
    }
    assert_int_equal(nights, 364); /* all but the night without half past two */
}

/* A schedule without a zone is in the time of this host, and no TZ of whoever asks changes that. */
static void test_local_time(void **state)
{
    static const struct {
        const char *zone, *expected;
    } rows[] = {{"America/New_York", "shut until 2026-11-28T07:00"},
                {"Europe/Berlin", "shut until 2026-11-28T01:00"},
                {"Asia/Kolkata", "shut until 2026-11-27T20:30"},
                {"Africa/Abidjan", "shut until 2026-11-28T02:00"},
                {"Etc/UTC", "shut until 2026-11-28T02:00"}};

    if (geteuid() != 0)
        skip();
    assert_int_equal(unshare(CLONE_NEWNS), 0);
    assert_int_equal(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
    assert_true(g_setenv("TZ", "Pacific/Auckland", TRUE));
    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *file = g_build_filename("/usr/share/zoneinfo", rows[i].zone, NULL);
        /* calendars are kept for a while, so each zone has a spelling of its own */
        g_autofree char *schedule = g_strdup_printf("Sat *-*-* 02:00:%.*s", (int)i + 1, "00000");
        g_autofree char *found = NULL;

        assert_int_equal(mount(file, "/etc/localtime", NULL, MS_BIND, NULL), 0);
        found = look(schedule, HOUR_MS, at("2026-11-23T00:00:00Z"));
        assert_int_equal(umount2("/etc/localtime", MNT_DETACH), 0);
        assert_string_equal(found, rows[i].expected);
    }
    g_unsetenv("TZ");
}

/* --- what is refused ----------------------------------------------------------------------------------- */

static void refused_by(gboolean (*ask)(const VrMaintenanceWindow *window, GError **error), const char *schedule,
                       VrErrorCode code, const char *message)
{
    const VrMaintenanceWindow window = {.schedule = (char *)schedule, .duration_ms = HOUR_MS, .line = 7};
    g_autoptr(GError) error = NULL;

    if (ask(&window, &error))
        fail_msg("taken: %s", schedule);
    if (!g_error_matches(error, VR_ERROR, code) || strstr(error->message, message) == NULL)
        fail_msg("%d \"%s\" instead of \"%s\"", error->code, error->message, message);
    for (const char *c = error->message; *c != '\0'; c++)
        assert_false(g_ascii_iscntrl(*c));
}

static gboolean ask_look(const VrMaintenanceWindow *window, GError **error)
{
    VrWindowView view;

    return vr_window_look(window, at("2026-11-23T00:00:00Z"), &view, error);
}

static gboolean ask_check(const VrMaintenanceWindow *window, GError **error)
{
    return vr_window_check(window, "lab.yaml", at("2026-11-23T00:00:00Z"), error);
}

static void test_refused(void **state)
{
    static const char *const hostile[] = {"-h",
                                          "--help",
                                          "--version",
                                          "",
                                          "x",
                                          "Sat *-*-* 02:00\nroot",
                                          "--root=/x",
                                          "daily\n-h",
                                          "$(reboot)",
                                          "*-*-* 25:00",
                                          "Sat *-*-* 02:00 Nowhere/None",
                                          "Sat *-*-* 02:00 ../../etc/passwd",
                                          "\033[1m"};
    g_autofree char *long_one = g_strnfill(100000, 'a');
    const VrMaintenanceWindow good = {.schedule = (char *)SATURDAY, .duration_ms = HOUR_MS};

    for (guint i = 0; i < G_N_ELEMENTS(hostile); i++)
        refused_by(ask_look, hostile[i], VR_ERROR_INVALID, "is no calendar expression of systemd");
    refused_by(ask_check, hostile[0], VR_ERROR_USAGE, "lab.yaml:7: maintenanceWindow.schedule: \"-h\" is no");
    refused_by(ask_look, long_one, VR_ERROR_INVALID, "is no calendar expression of systemd");
    refused_by(ask_check, "*-02-30 03:00 UTC", VR_ERROR_USAGE, "\"*-02-30 03:00 UTC\" never comes again");
    refused_by(ask_check, "2026-11-20 03:00 UTC", VR_ERROR_USAGE, "never comes again");
    refused_by(ask_check, "*:*:0/30 UTC", VR_ERROR_USAGE, "comes more often than once a minute");
    refused_by(ask_check, "Sat *-*-* 02:00:00,15 UTC", VR_ERROR_USAGE, "comes more often than once a minute");
    refused_by(ask_look, "*:*:0/30 UTC", VR_ERROR_INVALID, "comes more often than once a minute");
    assert_true(ask_check(&good, NULL));
    assert_true(vr_window_check(&(VrMaintenanceWindow){0}, "lab.yaml", 0, NULL));
    assert_true(
        vr_window_check(&(VrMaintenanceWindow){.schedule = (char *)"2026-11-20 03:00 UTC", .duration_ms = 7 * DAY_MS},
                        "lab.yaml", at("2026-11-23T00:00:00Z"), NULL)); /* it is open */
}

/* Where nobody can say, that is an error, and never an open window. */
static void test_nobody_says(void **state)
{
    static const struct {
        const char *script, *message;
    } rows[] = {{"exit 3", "what is not understood"},
                {"echo lost; exit 0", "what is not understood"},
                {"echo '   Next elapse: soon'", "what is not understood"},
                {"echo '    Next elapse: Sat 2026-13-07 02:30:00 UTC'", "what is not understood"},
                {"echo '    (in UTC): Sat 2026-03-07 02:30:00 UTC'", "what is not understood"},
                {"kill -9 $$", "nobody can say when"},
                {"yes", "nobody can say when"}};
    g_autofree char *directory = g_dir_make_tmp("virt-reimage-window-XXXXXX", NULL);
    g_autofree char *program = g_build_filename(directory, "systemd-analyze", NULL);
    g_autofree char *path = g_strdup(g_getenv("PATH"));
    g_autofree char *mine = g_strdup_printf("%s:%s", directory, path);

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *text = g_strdup_printf("#!/bin/sh\n%s\n", rows[i].script);

        assert_true(g_file_set_contents_full(program, text, -1, G_FILE_SET_CONTENTS_NONE, 0700, NULL));
        assert_true(g_setenv("PATH", mine, TRUE));
        refused_by(ask_look, "*-*-* 03:33 UTC", VR_ERROR_CHILD, rows[i].message);
        assert_true(g_setenv("PATH", path, TRUE));
    }
    assert_int_equal(g_remove(program), 0);
    assert_true(g_setenv("PATH", directory, TRUE));
    refused_by(ask_look, "*-*-* 03:33 UTC", VR_ERROR_CHILD, "(the package systemd has systemd-analyze): cannot run");
    refused_by(ask_check, "*-*-* 03:33 UTC", VR_ERROR_CHILD, "cannot run systemd-analyze: it is not installed");
    assert_true(g_setenv("PATH", path, TRUE));
    assert_int_equal(g_rmdir(directory), 0);
}

/* One answer serves for ten minutes, and not for longer. */
static void test_answers_are_kept(void **state)
{
    gint64 now_ms = 1000000;
    const VrClockSource source = {.now_ms = later, .data = &now_ms};
    g_autofree char *path = g_strdup(g_getenv("PATH")), *first = NULL, *second = NULL;

    vr_clock_set_source(&source);
    first = look("*-*-* 04:44 UTC", HOUR_MS, at("2026-11-23T00:00:00Z"));
    assert_true(g_setenv("PATH", "/nonexistent", TRUE));
    now_ms += 599999;
    second = look("*-*-* 04:44 UTC", HOUR_MS, at("2026-11-25T05:00:00Z"));
    refused_by(ask_look, "*-*-* 04:45 UTC", VR_ERROR_CHILD, "is not installed");
    now_ms++;
    refused_by(ask_look, "*-*-* 04:44 UTC", VR_ERROR_CHILD, "is not installed");
    assert_true(g_setenv("PATH", path, TRUE));
    vr_clock_set_source(NULL);
    assert_string_equal(first, "shut until 2026-11-23T04:44");
    assert_string_equal(second, "open until 2026-11-25T05:44, then 2026-11-26T04:44");
}

static void test_text(void **state)
{
    const struct {
        VrWindowView view;
        const char *text;
    } rows[] = {{{.open = TRUE, .until_us = 1000000, .next_us = 5000000}, "open until 1970-01-01T00:00:01.000Z"},
                {{.open = TRUE, .until_us = G_MAXINT64}, "always open"},
                {{.next_us = 5000000}, "opens at 1970-01-01T00:00:05.000Z"},
                {{0}, "never opens again"}};

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *text = vr_window_text(&rows[i].view);
        assert_string_equal(text, rows[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_night_a_week),
        cmocka_unit_test(test_clocks_change),
        cmocka_unit_test(test_windows_that_overlap),
        cmocka_unit_test(test_what_never_comes),
        cmocka_unit_test(test_the_clock_jumps),
        cmocka_unit_test(test_a_year),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_nobody_says),
        cmocka_unit_test(test_answers_are_kept),
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_local_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
