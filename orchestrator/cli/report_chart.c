/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The two charts of a report, as SVG within the page. What they show stands in its tables too, which is where a screen reader finds it. */
#include "orchestrator/cli/report_private.h"

#include <string.h>

#define NAME_WIDTH 170
#define NAME_CHARS 24
#define PLOT_WIDTH 810
#define ROW 22
#define BAR 14
#define HEAD 34 /* the axis and the batches' names */
#define MAX_TICKS 8

static const struct {
    const char *phase, *text;
} phases[] = {
    {"prepare", "prepared while it runs"},
    {"wait", "waits for its turn"},
    {"stop", "stops"},
    {"switch", "off: disk is switched"},
    {"start", "starts"},
    {"health", "boots, until it is healthy"},
    {"back", "goes back to its old disk"},
};

/* Milliseconds that the chart spans: to the end of the run, or of what is known of one that is open. */
static gint64 length_of(const json_t *document)
{
    gint64 length =
        vr_report_offset(document, vr_report_text(json_object_get(document, "runningStatus"), "completedTime"));
    size_t i, j;
    json_t *instance, *span;

    json_array_foreach(json_object_get(document, "instances"), i, instance)
        json_array_foreach(json_object_get(instance, "timeline"), j, span) length =
            MAX(length, vr_report_number(span, "offsetMs") + MAX(vr_report_number(span, "durationMs"), 0));
    return MAX(length, 1);
}

static double at(gint64 ms, gint64 length)
{
    return NAME_WIDTH + (double)CLAMP(ms, 0, length) * PLOT_WIDTH / (double)length;
}

static gint64 tick_of(gint64 length)
{
    static const gint64 nice[] = {1,      2,      5,       10,      20,      50,       100,      200,     500,
                                  1000,   2000,   5000,    10000,   15000,   30000,    60000,    120000,  300000,
                                  600000, 900000, 1800000, 3600000, 7200000, 21600000, 43200000, 86400000};

    for (guint i = 0; i < G_N_ELEMENTS(nice); i++)
        if (length / nice[i] <= MAX_TICKS)
            return nice[i];
    return length / MAX_TICKS + 1;
}

static void draw_axis(GString *page, gint64 length, guint height)
{
    gint64 step = tick_of(length);

    for (gint64 ms = 0; ms <= length; ms += step) {
        g_autofree char *text = vr_report_duration(ms);
        double x = at(ms, length);
        g_string_append_printf(page,
                               "<line class=\"tick\" x1=\"%.1f\" x2=\"%.1f\" y1=\"16\" y2=\"%u\"/>"
                               "<text class=\"axis\" x=\"%.1f\" y=\"11\" text-anchor=\"middle\">%s</text>\n",
                               x, x, height, x, text);
    }
}

/* Each from its begin to its end, as they were written down. What begins is the next of them, from 1. */
static void draw_batches(GString *page, const json_t *document, gint64 length, guint height)
{
    gint64 since = -1;
    guint number = 0;
    size_t i;
    json_t *event;

    json_array_foreach(json_object_get(document, "events"), i, event)
    {
        const char *kind = vr_report_text(event, "kind");
        gint64 now = vr_report_offset(document, vr_report_text(event, "time"));
        if (g_str_equal(kind, "batch-begin")) {
            since = now;
            number++;
        } else if (g_str_equal(kind, "batch-end") && since >= 0) {
            g_string_append_printf(page,
                                   "<rect class=\"batch\" x=\"%.1f\" y=\"16\" width=\"%.1f\" height=\"%u\"/>"
                                   "<text class=\"axis\" x=\"%.1f\" y=\"29\">batch %u</text>\n",
                                   at(since, length), at(now, length) - at(since, length), height - 16,
                                   at(since, length) + 3, number);
            since = -1;
        }
    }
}

static void draw_span(GString *page, const json_t *span, gint64 length, guint y)
{
    const char *phase = vr_report_text(span, "phase");
    gint64 from = vr_report_number(span, "offsetMs"), ms = vr_report_number(span, "durationMs");
    double left = at(from, length), right = at(ms < 0 ? length : from + ms, length);
    g_autofree char *took = vr_report_duration(ms);
    g_autofree char *text = g_markup_printf_escaped("<title>%s: %s</title>", phase, ms < 0 ? "not over" : took);

    g_string_append_printf(page, "<rect class=\"%s\" x=\"%.1f\" y=\"%u\" width=\"%.1f\" height=\"%d\">%s</rect>", phase,
                           left, y, MAX(right - left, 0.6), BAR, text);
}

/* As much of a name as there is room for; all of it stands in the table. Free with g_free. */
static char *short_name(const char *name)
{
    g_autofree char *begin = NULL;

    if (g_utf8_strlen(name, -1) <= NAME_CHARS)
        return g_strdup(name);
    begin = g_utf8_substring(name, 0, NAME_CHARS - 1);
    return g_strconcat(begin, "…", NULL);
}

static void draw_row(GString *page, const json_t *instance, gint64 length, guint y)
{
    g_autofree char *shown = short_name(vr_report_text(instance, "domain"));
    g_autofree char *name = g_markup_printf_escaped(
        "<text class=\"name\" x=\"%d\" y=\"%u\" text-anchor=\"end\">%s</text>", NAME_WIDTH - 8, y + BAR - 3, shown);
    size_t i;
    json_t *span;

    g_string_append(page, name);
    json_array_foreach(json_object_get(instance, "timeline"), i, span) draw_span(page, span, length, y);
    g_string_append_c(page, '\n');
}

static void add_legend(GString *page)
{
    g_string_append(page, "<ul class=\"legend\">\n");
    for (guint i = 0; i < G_N_ELEMENTS(phases); i++)
        g_string_append_printf(
            page,
            "<li><svg width=\"14\" height=\"14\" aria-hidden=\"true\"><rect class=\"%s\" width=\"14\" "
            "height=\"14\"/></svg> %s</li>\n",
            phases[i].phase, phases[i].text);
    g_string_append(page, "</ul>\n");
}

/* In the order of their batches: those that were in none are in no chart. */
static GPtrArray *rows_of(const json_t *document)
{
    GPtrArray *rows = g_ptr_array_new();
    gint64 last = 0;
    size_t i;
    json_t *instance;

    json_array_foreach(json_object_get(document, "instances"), i, instance) last =
        MAX(last, vr_report_number(instance, "batch"));
    for (gint64 batch = 1; batch <= last; batch++)
        json_array_foreach(json_object_get(document, "instances"), i,
                           instance) if (vr_report_number(instance, "batch") == batch &&
                                         json_array_size(json_object_get(instance, "timeline")))
            g_ptr_array_add(rows, instance);
    return rows;
}

void vr_report_timeline(GString *page, const json_t *document)
{
    g_autoptr(GPtrArray) rows = rows_of(document);
    gint64 length = length_of(document);
    guint height = HEAD + rows->len * ROW + 6;

    if (rows->len == 0) {
        g_string_append(page, "<p>No instance was swapped.</p>\n");
        return;
    }
    g_string_append_printf(
        page,
        "<div class=\"scroll\" role=\"region\" aria-label=\"Timeline chart\" tabindex=\"0\">\n"
        "<svg class=\"chart\" role=\"img\" aria-label=\"A row for each instance with its phases; the table below "
        "has the same figures\" viewBox=\"0 0 %d %u\" width=\"%d\" height=\"%u\">\n",
        NAME_WIDTH + PLOT_WIDTH + 20, height, NAME_WIDTH + PLOT_WIDTH + 20, height);
    draw_batches(page, document, length, height);
    draw_axis(page, length, height);
    for (guint i = 0; i < rows->len; i++)
        draw_row(page, rows->pdata[i], length, HEAD + i * ROW + 4);
    g_string_append(page, "</svg>\n</div>\n");
    add_legend(page);
}

/* ---- the distribution ---- */

#define BUCKETS 12
#define BUCKET_WIDTH 60
#define COLUMN 100

typedef struct {
    guint counts[BUCKETS], most;
    gint64 width; /* milliseconds of a bucket */
} Histogram;

static GArray *downtimes(const json_t *document)
{
    GArray *values = g_array_new(FALSE, FALSE, sizeof(gint64));
    size_t i;
    json_t *instance;

    json_array_foreach(json_object_get(document, "instances"), i, instance)
    {
        gint64 ms = vr_report_number(json_object_get(instance, "times"), "osDownMs");
        if (ms >= 0)
            g_array_append_val(values, ms);
    }
    return values;
}

static Histogram histogram_of(const GArray *values)
{
    Histogram histogram = {.width = 1};
    gint64 longest = 0;

    for (guint i = 0; i < values->len; i++)
        longest = MAX(longest, g_array_index(values, gint64, i));
    histogram.width = MAX(tick_of(longest * MAX_TICKS / BUCKETS), longest / BUCKETS + 1);
    for (guint i = 0; i < values->len; i++) {
        guint bucket = (guint)(g_array_index(values, gint64, i) / histogram.width);
        histogram.counts[MIN(bucket, BUCKETS - 1)]++;
        histogram.most = MAX(histogram.most, histogram.counts[MIN(bucket, BUCKETS - 1)]);
    }
    return histogram;
}

static void draw_bucket(GString *page, const Histogram *histogram, guint i)
{
    guint height = histogram->counts[i] * COLUMN / histogram->most, x = 10 + i * BUCKET_WIDTH;
    g_autofree char *from = vr_report_duration((gint64)i * histogram->width);

    g_string_append_printf(page, "<rect class=\"health\" x=\"%u\" y=\"%u\" width=\"%d\" height=\"%u\"/>", x,
                           20 + COLUMN - height, BUCKET_WIDTH - 6, height);
    if (histogram->counts[i] > 0)
        g_string_append_printf(page, "<text class=\"axis\" x=\"%u\" y=\"%u\">%u</text>", x + 2, 15 + COLUMN - height,
                               histogram->counts[i]);
    g_string_append_printf(page, "<text class=\"axis\" x=\"%u\" y=\"%d\">%s</text>\n", x, COLUMN + 36, from);
}

void vr_report_downtime(GString *page, const json_t *document)
{
    g_autoptr(GArray) values = downtimes(document);
    Histogram histogram;

    if (values->len == 0)
        return;
    histogram = histogram_of(values);
    g_string_append_printf(
        page,
        "<div class=\"scroll\" role=\"region\" aria-label=\"Downtime chart\" tabindex=\"0\">\n"
        "<svg class=\"chart\" role=\"img\" aria-label=\"How many instances were down for how long; the table "
        "of times has each of them\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\">\n",
        20 + BUCKETS * BUCKET_WIDTH, COLUMN + 45, 20 + BUCKETS * BUCKET_WIDTH, COLUMN + 45);
    for (guint i = 0; i < BUCKETS; i++)
        draw_bucket(page, &histogram, i);
    g_string_append(page, "</svg>\n</div>\n");
}
