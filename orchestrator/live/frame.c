/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/live/frame.h"

#include "base/error.h"
#include "orchestrator/live/frame_private.h"

#include <string.h>

#define LOW 16    /* terminals that are no higher have no blank lines */
#define NARROW 50 /* there is room for one time only */
#define FAILURES 3
#define MOST_TYPED 3
#define REASON_ROWS 2
#define BAR_MAX 50
#define LEGEND_COLUMNS 78

static const VrStageLook looks[VR_LIVE_STAGES_] = {
    [VR_LIVE_WAITS] = {".", "·", "waits", "waits", VR_MARK_FAINT},
    [VR_LIVE_PREPARES] = {"p", "p", "prepares", "prepares", VR_MARK_BUSY},
    [VR_LIVE_READY] = {"P", "P", "prepared", "ready", VR_MARK_BUSY},
    [VR_LIVE_NOTICE] = {"n", "n", "has notice", "notice", VR_MARK_WARN},
    [VR_LIVE_STOPS] = {"s", "s", "stops", "stops", VR_MARK_WARN},
    [VR_LIVE_SWITCHES] = {"o", "o", "is off", "off", VR_MARK_WARN},
    [VR_LIVE_BOOTS] = {"b", "b", "boots", "boots", VR_MARK_WARN},
    [VR_LIVE_PROBED] = {"?", "?", "probed", "probed", VR_MARK_WARN},
    [VR_LIVE_GOES_BACK] = {"<", "<", "goes back", "back", VR_MARK_BAD},
    [VR_LIVE_DONE] = {"#", "✓", "done", "done", VR_MARK_GOOD},
    [VR_LIVE_BACK] = {"<", "<", "put back", "back", VR_MARK_BAD},
    [VR_LIVE_FAILED] = {"!", "!", "failed", "failed", VR_MARK_BAD},
    [VR_LIVE_UNKNOWN] = {"X", "X", "UNKNOWN", "unknown", VR_MARK_BAD},
};

const VrStageLook *vr_stage_look(VrLiveStage stage)
{
    return &looks[stage];
}

const char *vr_live_stage_name(VrLiveStage stage)
{
    return looks[stage].name;
}

void vr_frame_count(const VrSnapshot *snapshot, guint batch, guint counts[VR_LIVE_STAGES_])
{
    memset(counts, 0, sizeof(*counts) * VR_LIVE_STAGES_);
    for (guint i = 0; i < snapshot->guests->len; i++) {
        const VrLiveGuest *guest = snapshot->guests->pdata[i];
        if (batch == 0 || guest->batch == batch)
            counts[guest->stage]++;
    }
}

/* Of one and of many. */
static const char *const of_many[VR_LIVE_STAGES_][2] = {
    [VR_LIVE_WAITS] = {"waits", "wait"},
    [VR_LIVE_PREPARES] = {"prepares", "prepare"},
    [VR_LIVE_READY] = {"is ready", "are ready"},
    [VR_LIVE_NOTICE] = {"has notice", "have notice"},
    [VR_LIVE_STOPS] = {"stops", "stop"},
    [VR_LIVE_SWITCHES] = {"is off", "are off"},
    [VR_LIVE_BOOTS] = {"boots", "boot"},
    [VR_LIVE_PROBED] = {"is probed", "are probed"},
    [VR_LIVE_GOES_BACK] = {"goes back", "go back"},
    [VR_LIVE_DONE] = {"done", "done"},
    [VR_LIVE_BACK] = {"put back", "put back"},
    [VR_LIVE_FAILED] = {"failed", "failed"},
    [VR_LIVE_UNKNOWN] = {"UNKNOWN", "UNKNOWN"},
};

VrCountsOf vr_frame_counts_of(const VrSnapshot *snapshot)
{
    return snapshot->ended ? VR_COUNTS_AT_END : VR_COUNTS_ALL;
}

char *vr_frame_counts_text(const guint counts[VR_LIVE_STAGES_], VrCountsOf of)
{
    g_autoptr(GString) text = g_string_new(NULL);

    for (guint i = VR_LIVE_WAITS; i < VR_LIVE_STAGES_; i++) {
        const char *what = i == VR_LIVE_WAITS && of == VR_COUNTS_AT_END ? "not touched" : of_many[i][counts[i] != 1];
        if (counts[i] > 0 && (of != VR_COUNTS_IN_FLIGHT || vr_live_stage_in_flight(i)))
            g_string_append_printf(text, "%s%u %s", text->len ? ", " : "", counts[i], what);
    }
    return text->len ? g_string_free(g_steal_pointer(&text), FALSE) : NULL;
}

char *vr_frame_clock(gint64 ms)
{
    gint64 s = MAX(ms, 0) / 1000;
    int days = (int)(s / 86400), hours = (int)(s / 3600 % 24), minutes = (int)(s / 60 % 60), seconds = (int)(s % 60);

    if (days > 0)
        return g_strdup_printf("%d d %02d:%02d:%02d", days, hours, minutes, seconds);
    if (hours > 0)
        return g_strdup_printf("%d:%02d:%02d", hours, minutes, seconds);
    return g_strdup_printf("%02d:%02d", minutes, seconds);
}

/* ---- lines ---- */

gboolean vr_frame_is_low(const VrFrameFor *frame)
{
    return frame->look.height <= LOW;
}

/* How many bytes of the text go into so many columns: whole words, but of one that is longer by itself as much as fits. */
static gsize fitting(const char *text, guint columns)
{
    gsize space = 0;
    guint taken = 0;

    for (const char *p = text; *p; p = g_utf8_next_char(p)) {
        g_autofree char *one = g_strndup(p, (gsize)(g_utf8_next_char(p) - p));
        if (*p == ' ')
            space = (gsize)(p - text);
        taken += vr_line_columns(one);
        if (taken > columns)
            return space > 0 ? space : (gsize)(p - text);
    }
    return strlen(text);
}

void vr_frame_wrap(VrFrame *frame, const char *label, VrMark label_mark, const char *text, gsize bold, VrMark mark,
                   guint rows)
{
    g_autofree char *shown = vr_printable(text, -1);

    for (const char *at = shown; rows > 0 && *at; rows--) {
        VrLine line = vr_line_begin(&frame->frame->look);
        gsize length, dark;
        g_autofree char *first = NULL, *rest = NULL;

        vr_line_add(&line, label_mark, at == shown ? label : "");
        vr_line_pad(&line, VR_FRAME_LABEL);
        length = rows == 1 ? strlen(at) : fitting(at, vr_line_left(&line));
        dark = at == shown ? MIN(bold, length) : 0;
        first = g_strndup(at, dark);
        rest = g_strndup(at + dark, length - dark);
        vr_line_add(&line, VR_MARK_BOLD, first);
        vr_line_add(&line, mark, rest);
        g_ptr_array_add(frame->lines, vr_line_end(&line));
        at = length > 0 ? at + length : g_utf8_next_char(at);
        while (*at == ' ')
            at++;
    }
}

/* ---- the head ---- */

static void end_line(VrFrame *frame, VrLine *line)
{
    g_ptr_array_add(frame->lines, vr_line_end(line));
}

static void blank(VrFrame *frame)
{
    g_ptr_array_add(frame->lines, g_strdup(""));
}

static void add_title(VrFrame *frame)
{
    const VrSnapshot *snapshot = frame->snapshot;
    const VrFrameLook *look = &frame->frame->look;
    VrLine line = vr_line_begin(look);
    g_autofree char *run = g_strdup_printf("run %s", snapshot->run_id);
    guint columns = vr_line_columns(run);

    vr_line_format(&line, VR_MARK_BOLD, "%s of %s", vr_run_kind_name(snapshot->kind), snapshot->set);
    if (snapshot->version)
        vr_line_format(&line, VR_MARK_BOLD, " to %s %s", snapshot->image, snapshot->version);
    if (vr_line_left(&line) > columns + 1) {
        vr_line_pad(&line, look->width - columns);
        vr_line_add(&line, VR_MARK_FAINT, run);
    }
    end_line(frame, &line);
}

/* Durations that a person takes for a guess. */
static char *rough(gint64 ms)
{
    gint64 s = (ms + 999) / 1000;

    if (s < 10)
        return g_strdup("some seconds left");
    if (s < 90)
        return g_strdup_printf("about %d s left", (int)((s + 4) / 5 * 5));
    if (s < 5400)
        return g_strdup_printf("about %d min left", (int)((s + 30) / 60));
    return g_strdup_printf("about %d h %02d min left", (int)(s / 3600), (int)(s / 60 % 60));
}

static void add_times(VrFrame *frame, VrLine *line)
{
    const VrSnapshot *snapshot = frame->snapshot;
    gboolean stands = snapshot->hold != VR_HOLD_NONE && snapshot->hold_left_ms < 0;
    gboolean has_end = !snapshot->ended && snapshot->has_process && !stands;
    g_autofree char *elapsed = vr_frame_clock(snapshot->elapsed_ms);
    g_autofree char *left = snapshot->left_ms >= 0 ? rough(snapshot->left_ms) : g_strdup("its end is not known yet");

    if (frame->frame->look.width >= NARROW || !has_end)
        vr_line_format(line, VR_MARK_PLAIN, "%s elapsed%s", elapsed, has_end ? ", " : "");
    if (has_end)
        vr_line_add(line, VR_MARK_PLAIN, left);
}

/* "132 of 200 done, 2 failed". */
static void add_sums(VrFrame *frame, VrLine *line, const guint counts[VR_LIVE_STAGES_])
{
    guint failed = counts[VR_LIVE_BACK] + counts[VR_LIVE_FAILED] + counts[VR_LIVE_UNKNOWN];

    vr_line_format(line, VR_MARK_PLAIN, "%u of %u done", counts[VR_LIVE_DONE], frame->snapshot->guests->len);
    if (failed > 0) {
        vr_line_add(line, VR_MARK_PLAIN, ", ");
        vr_line_format(line, VR_MARK_BAD, "%u failed", failed);
    }
}

static void add_run(GString *text, const char *cell, guint count)
{
    for (guint i = 0; i < count; i++)
        g_string_append(text, cell);
}

static void add_bar_part(VrLine *line, VrMark mark, const char *cell, guint count)
{
    g_autoptr(GString) text = g_string_new(NULL);

    add_run(text, cell, count);
    vr_line_add(line, mark, text->str);
}

static guint share(guint count, guint all, guint columns)
{
    return all > 0 ? (guint)((guint64)count * columns / all) : 0;
}

/* Whatever has failed or is in flight is to be seen, if by one column. */
static void add_bar(VrFrame *frame, VrLine *line, const guint counts[VR_LIVE_STAGES_], guint columns)
{
    gboolean utf8 = frame->frame->look.utf8;
    guint all = frame->snapshot->guests->len, waits = counts[VR_LIVE_WAITS];
    guint failed = counts[VR_LIVE_BACK] + counts[VR_LIVE_FAILED] + counts[VR_LIVE_UNKNOWN];
    guint flight = all - waits - failed - counts[VR_LIVE_DONE];
    guint bad = failed > 0 ? MAX(1, share(failed, all, columns)) : 0;
    guint busy = flight > 0 ? MAX(1, share(flight, all, columns)) : 0;
    guint good = MIN(share(counts[VR_LIVE_DONE], all, columns), columns - MIN(columns, bad + busy));

    if (waits + flight + failed == 0)
        good = columns;
    if (!utf8)
        vr_line_add(line, VR_MARK_PLAIN, "[");
    add_bar_part(line, VR_MARK_GOOD, utf8 ? "█" : "#", good);
    add_bar_part(line, VR_MARK_BAD, utf8 ? "█" : "!", bad);
    add_bar_part(line, VR_MARK_WARN, utf8 ? "▒" : "=", busy);
    add_bar_part(line, VR_MARK_FAINT, utf8 ? "░" : ".", columns - MIN(columns, good + bad + busy));
    if (!utf8)
        vr_line_add(line, VR_MARK_PLAIN, "]");
    vr_line_add(line, VR_MARK_PLAIN, "  ");
}

/* One line where it is wide enough. */
static void add_progress(VrFrame *frame, gboolean low)
{
    const VrFrameLook *look = &frame->frame->look;
    VrLine line = vr_line_begin(look);
    guint counts[VR_LIVE_STAGES_];

    vr_frame_count(frame->snapshot, 0, counts);
    if (look->width >= 70)
        add_bar(frame, &line, counts, MIN(look->width - 60, BAR_MAX));
    else if (!low)
        add_bar(frame, &line, counts, look->width / 3);
    add_sums(frame, &line, counts);
    if (look->width < 70 && !low) {
        end_line(frame, &line);
        line = vr_line_begin(look);
    } else {
        vr_line_add(&line, VR_MARK_PLAIN, ", ");
    }
    add_times(frame, &line);
    end_line(frame, &line);
}

/* ---- what failed ---- */

static gboolean comes_after(const VrLiveGuest *a, const VrLiveGuest *b)
{
    return a->batch >= b->batch;
}

/* Of one that goes back it is known why. */
static gboolean has_failed(const VrLiveGuest *guest)
{
    return vr_live_stage_failed(guest->stage) || (guest->stage == VR_LIVE_GOES_BACK && guest->reason);
}

/* The last ones, of the last batch first. Element: const VrLiveGuest *, as are its arrays. */
static GPtrArray *last_failures(const VrSnapshot *snapshot, guint most)
{
    GPtrArray *last = g_ptr_array_new();

    for (guint i = 0; i < snapshot->guests->len; i++) {
        VrLiveGuest *guest = snapshot->guests->pdata[i];
        guint at = 0;

        if (!has_failed(guest))
            continue;
        while (at < last->len && !comes_after(guest, last->pdata[at]))
            at++;
        g_ptr_array_insert(last, (gint)at, guest);
        if (last->len > most)
            g_ptr_array_set_size(last, (gint)most);
    }
    return last;
}

/* The reason of the newest is to be read to its end, and where nothing moves any more those of the others too. */
static void add_failures(VrFrame *frame)
{
    gboolean low = vr_frame_is_low(frame->frame);
    g_autoptr(GPtrArray) last = last_failures(frame->snapshot, low ? 1 : FAILURES);

    for (guint i = 0; i < last->len; i++) {
        const VrLiveGuest *guest = last->pdata[i];
        g_autofree char *domain = vr_printable(guest->domain, -1);
        g_autofree char *text = g_strdup_printf("%s (%s): %s", domain, vr_live_stage_name(guest->stage),
                                                guest->reason ? guest->reason : "no reason is known");

        vr_frame_wrap(frame, i == 0 ? "Failed" : "", VR_MARK_BAD, text, strlen(domain), VR_MARK_PLAIN,
                      !low && (i == 0 || frame->snapshot->ended) ? REASON_ROWS : 1);
    }
}

/* ---- legend ---- */

static void add_legend(VrFrame *frame)
{
    static const VrLiveStage shown[] = {VR_LIVE_WAITS,    VR_LIVE_PREPARES, VR_LIVE_READY,  VR_LIVE_STOPS,
                                        VR_LIVE_SWITCHES, VR_LIVE_BOOTS,    VR_LIVE_PROBED, VR_LIVE_DONE,
                                        VR_LIVE_FAILED,   VR_LIVE_BACK};
    VrLine line = vr_line_begin(&frame->frame->look);

    for (guint i = 0; i < G_N_ELEMENTS(shown); i++) {
        const VrStageLook *look = vr_stage_look(shown[i]);
        vr_line_format(&line, VR_MARK_FAINT, "%s%s %s", i ? " " : "",
                       frame->frame->look.utf8 ? look->utf8 : look->ascii, look->legend);
    }
    end_line(frame, &line);
}

/* ---- all of it ---- */

static void move_lines(VrFrame *frame, const GPtrArray *lines)
{
    for (guint i = 0; i < lines->len; i++)
        g_ptr_array_add(frame->lines, g_strdup(lines->pdata[i]));
}

GPtrArray *vr_frame_lines(const VrSnapshot *snapshot, const VrFrameFor *what)
{
    VrFrame frame = {snapshot, what, g_ptr_array_new_with_free_func(g_free)};
    g_autoptr(GPtrArray) foot = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) failed = g_ptr_array_new_with_free_func(g_free);
    VrFrame below = {snapshot, what, foot}, failures = {snapshot, what, failed};
    gboolean low = vr_frame_is_low(what);
    guint rows = MAX(what->look.height, 2) - 1, taken;

    vr_frame_type(&below, low ? 1 : MOST_TYPED);
    add_failures(&failures);
    add_title(&frame);
    add_progress(&frame, low);
    vr_frame_now(&frame);
    taken = frame.lines->len + foot->len + failed->len + (low ? 0 : 2 + (failed->len > 0)); /* with the blank lines */
    if (!low)
        blank(&frame);
    vr_frame_batches(&frame, rows > taken ? rows - taken : 0);
    if (!low && failed->len > 0)
        blank(&frame);
    move_lines(&frame, failed);
    if (!low)
        blank(&frame);
    move_lines(&frame, foot);
    if (!low && !snapshot->ended && frame.lines->len < rows && what->look.width >= LEGEND_COLUMNS)
        add_legend(&frame);
    if (frame.lines->len > rows)
        g_ptr_array_set_size(frame.lines, (gint)rows);
    return frame.lines;
}
