/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* J8: what a terminal shows of a run. The text of some frames is kept in tests/live/golden; VR_REGENERATE=1 writes it anew. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "live/simulated.h"
#include "orchestrator/live/changes.h"
#include "orchestrator/live/frame.h"

#include <string.h>

/* ---- snapshots ---- */

static VrSnapshot *five(void)
{
    return simulated_run(5, 2, 4, 57000);
}

static VrSnapshot *copying(void)
{
    return simulated_run(5, 2, 0, 4000);
}

static VrSnapshot *five_failed(void)
{
    return simulated_run(5, 2, 4, 110000);
}

static VrSnapshot *two_hundred(void)
{
    return simulated_run(200, 10, 50, 500000);
}

static VrSnapshot *forty_at_once(void)
{
    return simulated_run(200, 40, 50, 61000);
}

static VrSnapshot *all_at_once(void)
{
    return simulated_run(200, 200, 50, 20000);
}

static VrSnapshot *ended(void)
{
    return simulated_run(200, 10, 50, 900000);
}

static VrSnapshot *paused(void)
{
    VrSnapshot *snapshot = simulated_run(5, 2, 0, 75000);

    snapshot->point = VR_POINT_PAUSED;
    snapshot->hold = VR_HOLD_PAUSED;
    snapshot->hold_text = g_strdup("paused: 'resume' goes on");
    snapshot->left_ms = -1;
    return snapshot;
}

static VrSnapshot *in_window(void)
{
    VrSnapshot *snapshot = simulated_run(5, 2, 0, 75000);

    snapshot->point = VR_POINT_WINDOW;
    snapshot->hold = VR_HOLD_WINDOW;
    snapshot->hold_text = g_strdup("the maintenance window opens at 2026-11-28 02:00:00");
    snapshot->hold_left_ms = 4 * 86400000LL + 3723000;
    snapshot->left_ms = snapshot->hold_left_ms + 40000;
    return snapshot;
}

static VrSnapshot *interrupted(void)
{
    VrSnapshot *snapshot = five();

    snapshot->has_process = snapshot->answers = FALSE;
    snapshot->detached = TRUE;
    snapshot->point = VR_POINT_INTERRUPTED;
    return snapshot;
}

static VrSnapshot *unknown(void)
{
    VrSnapshot *snapshot = simulated_run(5, 2, 0, 900000);
    VrLiveGuest *guest = snapshot->guests->pdata[3];

    guest->stage = VR_LIVE_UNKNOWN;
    guest->reason = g_strdup("cannot define the domain: the connection was lost");
    snapshot->status = VR_RUN_FAULTED;
    snapshot->error_text = g_strdup("the state of 1 instance(s) is UNKNOWN");
    return snapshot;
}

/* Its health was asked for, and is not what it should be yet. */
static VrSnapshot *asked(void)
{
    VrSnapshot *snapshot = five();

    for (guint i = 2; i < 4; i++) {
        VrLiveGuest *guest = snapshot->guests->pdata[i];
        guest->answer = g_strdup(i == 2 ? "/run/health.json says Unhealthy" : "its agent does not answer");
        guest->answer_left_ms = 18000 + i * 500;
    }
    return snapshot;
}

static VrSnapshot *going_back(void)
{
    VrSnapshot *snapshot = five();
    VrLiveGuest *guest = snapshot->guests->pdata[2];

    guest->stage = VR_LIVE_GOES_BACK;
    guest->stage_ms = 3000;
    guest->reason = g_strdup("not healthy within 1 min 00 s: /run/health.json says Unhealthy");
    return snapshot;
}

/* A bad image: the run was stopped by its policy. */
static VrSnapshot *stopped(void)
{
    VrSnapshot *snapshot = simulated_run(5, 1, 0, 900000);

    for (guint i = 0; i < 5; i++) {
        VrLiveGuest *guest = snapshot->guests->pdata[i];
        guest->stage = i == 0 ? VR_LIVE_BACK : VR_LIVE_WAITS;
        guest->batch = i == 0 ? 1 : 0;
        if (i == 0)
            guest->reason = g_strdup("not healthy within 1 min 00 s: /run/health.json says Unhealthy");
    }
    snapshot->status = VR_RUN_FAULTED;
    snapshot->error_text = g_strdup("1 of 1 upgraded (100%) failed, at most 20% may; the most common reason (1 of 1): "
                                    "not healthy within 1 min 00 s: /run/health.json says Unhealthy");
    return snapshot;
}

static VrSnapshot *rollback(void)
{
    VrSnapshot *snapshot = simulated_run(5, 2, 0, 57000);

    snapshot->kind = VR_RUN_ROLLBACK;
    g_clear_pointer(&snapshot->image, g_free);
    g_clear_pointer(&snapshot->version, g_free);
    return snapshot;
}

/* ---- text that is kept ---- */

typedef struct {
    const char *name;
    VrSnapshot *(*make)(void);
    guint width, height;
    gboolean ascii, attached;
} Kept;

static char *text_of(const VrSnapshot *snapshot, const VrFrameFor *frame)
{
    g_autoptr(GPtrArray) lines = vr_frame_lines(snapshot, frame);
    GString *text = g_string_new(NULL);

    for (guint i = 0; i < lines->len; i++)
        g_string_append_printf(text, "%s\n", (const char *)lines->pdata[i]);
    return g_string_free(text, FALSE);
}

static void check_kept(const Kept *kept)
{
    g_autoptr(VrSnapshot) snapshot = kept->make();
    const VrFrameFor frame = {.look = {kept->width, kept->height, FALSE, !kept->ascii}, .attached = kept->attached};
    g_autofree char *file = g_strdup_printf("%s.txt", kept->name);
    g_autofree char *path = g_build_filename(g_getenv("VR_SOURCE_DIR"), "tests/live/golden", file, NULL);
    g_autofree char *text = text_of(snapshot, &frame), *golden = NULL;

    if (g_getenv("VR_REGENERATE"))
        assert_true(g_file_set_contents(path, text, -1, NULL));
    assert_true(g_file_get_contents(path, &golden, NULL, NULL));
    assert_string_equal(text, golden);
}

/* J8 */
static void frames_are_as_they_were(void **state)
{
    static const Kept kept[] = {
        {"five-80x24", five, 80, 24},
        {"five-160x50", five, 160, 50},
        {"five-ascii-80x24", five, 80, 24, .ascii = TRUE},
        {"five-copying-80x24", copying, 80, 24},
        {"five-copying-ascii-80x24", copying, 80, 24, .ascii = TRUE},
        {"five-failed-80x24", five_failed, 80, 24},
        {"five-attached-80x24", five, 80, 24, .attached = TRUE},
        {"five-unknown-80x24", unknown, 80, 24},
        {"five-paused-80x24", paused, 80, 24, .attached = TRUE},
        {"five-window-80x24", in_window, 80, 24},
        {"five-interrupted-80x24", interrupted, 80, 24, .attached = TRUE},
        {"five-asked-80x24", asked, 80, 24},
        {"five-going-back-80x24", going_back, 80, 24},
        {"five-stopped-80x24", stopped, 80, 24},
        {"five-stopped-160x50", stopped, 160, 50},
        {"five-stopped-40x12", stopped, 40, 12},
        {"five-rollback-80x24", rollback, 80, 24},
        {"two-hundred-80x24", two_hundred, 80, 24},
        {"two-hundred-160x50", two_hundred, 160, 50},
        {"two-hundred-40x10", two_hundred, 40, 10},
        {"two-hundred-ended-80x24", ended, 80, 24},
        {"forty-at-once-80x24", forty_at_once, 80, 24},
        {"all-at-once-80x24", all_at_once, 80, 24},
        {"all-at-once-160x50", all_at_once, 160, 50},
    };

    for (guint i = 0; i < G_N_ELEMENTS(kept); i++)
        check_kept(&kept[i]);
}

/* ---- every size ---- */

static gboolean some_failed(const VrSnapshot *snapshot)
{
    for (guint i = 0; i < snapshot->guests->len; i++)
        if (vr_live_stage_failed(((const VrLiveGuest *)snapshot->guests->pdata[i])->stage))
            return TRUE;
    return FALSE;
}

static void check_frame(const VrSnapshot *snapshot, const VrFrameFor *frame)
{
    g_autoptr(GPtrArray) lines = vr_frame_lines(snapshot, frame);
    gboolean now = FALSE, type = FALSE, failed = FALSE;

    assert_true(lines->len >= 4 && lines->len < frame->look.height);
    for (guint i = 0; i < lines->len; i++) {
        const char *line = lines->pdata[i];
        assert_true(g_utf8_validate(line, -1, NULL));
        assert_true(vr_line_columns(line) <= frame->look.width);
        for (const char *p = line; *p; p++)
            assert_true((guchar)*p >= (frame->look.colours ? 1 : ' ') && *p != '\033' && *p != '\n');
        now |= strstr(line, "Now") || strstr(line, "Ended");
        type |= strstr(line, "Type") != NULL;
        failed |= strstr(line, "Failed") != NULL;
    }
    assert_true(g_str_has_prefix(lines->pdata[0], frame->look.colours ? "\002upgrade of web" : "upgrade of web"));
    assert_true(now);
    assert_true(type);
    assert_int_equal(failed, some_failed(snapshot));
}

/* J8: it fits, and what it does, what failed and what to type is always there. */
static void every_size_fits(void **state)
{
    static const guint batches[] = {1, 7, 40, 200};

    for (guint i = 0; i < G_N_ELEMENTS(batches); i++) {
        for (gint64 ms = 0; ms <= 600000; ms += 30000) {
            g_autoptr(VrSnapshot) snapshot = simulated_run(200, batches[i], 50, ms);
            for (guint width = 40; width <= 200; width += 20)
                for (guint height = 10; height <= 60; height += 5) {
                    const VrFrameFor frame = {.look = {width, height, ms % 20000 == 0, width % 40 == 0},
                                              .attached = height % 10 == 0};
                    check_frame(snapshot, &frame);
                }
        }
    }
}

/* Names and reasons come from guests and libvirt. */
static void nothing_from_outside_reaches_the_terminal(void **state)
{
    const VrFrameFor frame = {.look = {80, 24, TRUE, TRUE}};
    g_autoptr(VrSnapshot) snapshot = simulated_run(5, 2, 4, 57000);
    VrLiveGuest *guest = vr_snapshot_add(snapshot, "evil\033[2J\a\001\nname\xff");

    guest->stage = VR_LIVE_UNKNOWN;
    guest->batch = 3;
    guest->reason =
        g_strdup("\033]0;title\a\r\n\002wide 漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字");
    check_frame(snapshot, &frame);
}

/* Where ASCII alone is shown each character takes a column, those too that take none, or two, elsewhere. */
static void ascii_is_as_wide_as_it_is_long(void **state)
{
    const VrFrameLook look = {.width = 10, .height = 24};
    static const struct {
        const char *text, *shown;
    } lines[] = {{"ab", "ab"},
                 {"a\xcc\x81", "a?"},
                 {"a\xcc\x81"
                  "a\xcc\x81"
                  "a\xcc\x81"
                  "a\xcc\x81"
                  "a\xcc\x81"
                  "a\xcc\x81",
                  "a?a?a?a..."},
                 {"漢字", "??"}};

    for (guint i = 0; i < G_N_ELEMENTS(lines); i++) {
        VrLine line = vr_line_begin(&look);
        vr_line_add(&line, VR_MARK_PLAIN, lines[i].text);
        g_autofree char *text = vr_line_end(&line);
        assert_string_equal(text, lines[i].shown);
    }
}

/* NO_COLOR leaves no mark; else what failed is told from what is done. */
static void colours_say_what_failed(void **state)
{
    VrFrameFor frame = {.look = {80, 24, TRUE, TRUE}};
    g_autoptr(VrSnapshot) snapshot = five_failed();
    g_autofree char *coloured = text_of(snapshot, &frame);

    assert_non_null(strstr(coloured, "\007<\001"));
    assert_non_null(strstr(coloured, "\004✓\001"));
    frame.look.colours = FALSE;
    g_autofree char *plain = text_of(snapshot, &frame);
    for (VrMark mark = VR_MARK_PLAIN; mark < VR_MARK_END_; mark++)
        assert_null(strchr(plain, (char)mark));
}

/* ---- lines where there is no terminal ---- */

static void changes_are_lines_with_their_time(void **state)
{
    g_autoptr(VrSnapshot) first = simulated_run(3, 1, 0, 1000), second = simulated_run(3, 1, 0, 17000);
    g_autoptr(VrSnapshot) last = simulated_run(3, 1, 0, 400000);
    gint64 at_us = 1795400000LL * G_USEC_PER_SEC;
    g_autofree char *begin = vr_live_changes(NULL, first, at_us), *none = vr_live_changes(first, first, at_us);
    g_autofree char *moved = vr_live_changes(first, second, at_us), *end = vr_live_changes(second, last, at_us);

    assert_non_null(strstr(begin, "run 20261123-021355-7c1e: upgrade of web to debian-12 2.0.0: 2 wait, 1 prepares\n"));
    assert_string_equal(none, "");
    assert_true(g_regex_match_simple("^\\d{4}-\\d\\d-\\d\\d \\d\\d:\\d\\d:\\d\\d   web-0 +probed\n$", moved, 0, 0));
    assert_non_null(strstr(end, "  web-2            done\n"));
    assert_true(g_str_has_suffix(end, "3 done\n") || strstr(end, "run 20261123-021355-7c1e: Completed\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_are_as_they_were),
        cmocka_unit_test(every_size_fits),
        cmocka_unit_test(nothing_from_outside_reaches_the_terminal),
        cmocka_unit_test(ascii_is_as_wide_as_it_is_long),
        cmocka_unit_test(colours_say_what_failed),
        cmocka_unit_test(changes_are_lines_with_their_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
