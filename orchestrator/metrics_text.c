/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The two formats differ in a counter's head, which OpenMetrics names without "_total", in its lines on units, and in the line that ends it: so a
 * reader of OpenMetrics knows that nothing was cut off.
 */
#include "orchestrator/metrics_text.h"

#include "base/error.h"

void vr_metric_family(VrMetricText *out, VrMetricType type, const char *name, const char *unit, const char *help)
{
    static const char *const types[] = {
        [VR_METRIC_GAUGE] = "gauge", [VR_METRIC_COUNTER] = "counter", [VR_METRIC_HISTOGRAM] = "histogram"};
    gboolean open = out->format == VR_METRICS_OPENMETRICS;
    const char *tail = type == VR_METRIC_COUNTER && !open ? "_total" : "";

    g_string_append_printf(out->text, "# HELP %s%s %s\n", name, tail, help);
    g_string_append_printf(out->text, "# TYPE %s%s %s\n", name, tail, types[type]);
    if (unit && open)
        g_string_append_printf(out->text, "# UNIT %s %s\n", name, unit);
    out->name = name;
}

/* What comes from outside has no control characters then, and is UTF-8. */
static void append_value(GString *text, const char *value)
{
    g_autofree char *shown = vr_printable(value, -1);

    for (const char *at = shown; *at; at++) {
        if (*at == '\\' || *at == '"')
            g_string_append_c(text, '\\');
        g_string_append_c(text, *at);
    }
}

char *vr_metric_labels(const char *const *pairs)
{
    GString *text = g_string_new(NULL);

    for (; pairs[0]; pairs += 2) {
        g_string_append_printf(text, "%s%s=\"", text->len > 0 ? "," : "", pairs[0]);
        append_value(text, pairs[1] ? pairs[1] : "unknown");
        g_string_append_c(text, '"');
    }
    return g_string_free(text, FALSE);
}

static void sample(VrMetricText *out, const char *tail, const char *labels, const char *value)
{
    g_string_append(out->text, out->name);
    g_string_append(out->text, tail);
    if (labels)
        g_string_append_printf(out->text, "{%s}", labels);
    g_string_append_printf(out->text, " %s\n", value);
}

void vr_metric_number(VrMetricText *out, char *labels, guint64 value)
{
    g_autofree char *taken = labels;
    g_autofree char *text = g_strdup_printf("%" G_GUINT64_FORMAT, value);

    sample(out, "", taken, text);
}

void vr_metric_count(VrMetricText *out, char *labels, guint64 value)
{
    g_autofree char *taken = labels;
    g_autofree char *text = g_strdup_printf("%" G_GUINT64_FORMAT, value);

    sample(out, "_total", taken, text);
}

void vr_metric_time(VrMetricText *out, char *labels, gint64 wall_us)
{
    g_autofree char *taken = labels;
    g_autofree char *text =
        g_strdup_printf("%" G_GINT64_FORMAT ".%06d", wall_us / G_USEC_PER_SEC, (int)(wall_us % G_USEC_PER_SEC));

    sample(out, "", taken, text);
}

/* "0.25", "1.0": each bound is one name for good, so it is written in one way. */
static char *bound_text(guint i)
{
    gint64 ms = i < VR_TALLY_BOUNDS ? vr_tally_bounds_ms[i] : -1;

    if (ms < 0)
        return g_strdup("+Inf");
    if (ms % 1000 == 0)
        return g_strdup_printf("%" G_GINT64_FORMAT ".0", ms / 1000);
    return g_strdup_printf(ms % 100 == 0 ? "%" G_GINT64_FORMAT ".%d" : "%" G_GINT64_FORMAT ".%02d", ms / 1000,
                           (int)(ms % 1000 / (ms % 100 == 0 ? 100 : 10)));
}

void vr_metric_tally(VrMetricText *out, char *labels, const VrTally *tally)
{
    g_autofree char *taken = labels;
    g_autofree char *sum =
        g_strdup_printf("%" G_GUINT64_FORMAT ".%03d", tally->sum_ms / 1000, (int)(tally->sum_ms % 1000));
    g_autofree char *count = NULL;
    guint64 so_far = 0;

    for (guint i = 0; i <= VR_TALLY_BOUNDS; i++) {
        g_autofree char *bound = bound_text(i);
        g_autofree char *all = g_strdup_printf("%s,le=\"%s\"", taken, bound);
        so_far += tally->counts[i];
        g_free(count);
        count = g_strdup_printf("%" G_GUINT64_FORMAT, so_far);
        sample(out, "_bucket", all, count);
    }
    sample(out, "_count", taken, count);
    sample(out, "_sum", taken, sum);
}
