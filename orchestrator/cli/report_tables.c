/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The tables of a report, but for those of the disks. */
#include "orchestrator/cli/report_private.h"

static const struct {
    const char *key, *heading, *spread;
} times[] = {
    {"offMs", ">Off", "Off: power off to running"},
    {"osDownMs", ">OS down", "OS down: asked to stop to healthy"},
    {"prepareMs", ">Prepare", "Prepare: the new disk is made"},
    {"stopMs", ">Stop", "Stop: asked to stop to off"},
    {"switchMs", ">Switch", "Switch: off, until the domain has the new disk"},
    {"nvramMs", ">Of that NVRAM", NULL}, /* a run has no spread of it */
    {"startMs", ">Start", "Start: the domain is started"},
    {"healthyMs", ">Healthy after", "Healthy: from the start to healthy"},
};

void vr_report_spread(GString *page, const json_t *document)
{
    static const char *const columns[] = {
        "Downtime, and what it is made of", ">p50", ">p95", ">Longest", ">Instances", NULL};

    vr_report_begin_table(page, "Of the instances that came good", columns);
    for (guint i = 0; i < G_N_ELEMENTS(times); i++) {
        const json_t *spread = json_object_get(json_object_get(document, "times"), times[i].key);

        if (!times[i].spread)
            continue;
        vr_report_begin_row(page, times[i].spread);
        vr_report_add_ms(page, spread, "p50");
        vr_report_add_ms(page, spread, "p95");
        vr_report_add_ms(page, spread, "max");
        vr_report_add_number(page, spread, "count");
        vr_report_end_row(page);
    }
    vr_report_end_table(page);
}

/* ---- instances ---- */

/* "0 (1.0.0)" */
static void add_generation(GString *page, const json_t *instance, const char *number, const char *version)
{
    gint64 generation = vr_report_number(instance, number);

    if (generation < 0)
        g_string_append(page, "<td>-</td>");
    else
        vr_report_add(page, "<td>%" G_GINT64_FORMAT "%s%s%s</td>", generation,
                      *vr_report_text(instance, version) ? " (" : "", vr_report_text(instance, version),
                      *vr_report_text(instance, version) ? ")" : "");
}

static void add_instance(GString *page, const json_t *instance)
{
    const char *phase = vr_report_text(instance, "phase");

    vr_report_begin_row(page, vr_report_text(instance, "domain"));
    vr_report_add_number(page, instance, "batch");
    vr_report_add(page, "<td class=\"%s\">%s</td>",
                  vr_report_has_failed(instance)    ? "bad"
                  : g_str_equal(phase, "committed") ? "good"
                                                    : "other",
                  phase);
    add_generation(page, instance, "fromGeneration", "fromVersion");
    add_generation(page, instance, "toGeneration", "toVersion");
    vr_report_add_cell(page, vr_report_text(instance, "targetVersion"));
    vr_report_add_cell(page, vr_report_text(instance, "swapState"));
    vr_report_add_words(page, vr_report_text(instance, "reason"));
    vr_report_add(page, "<td><code>%s</code></td>", vr_report_text(instance, "uuid"));
    vr_report_end_row(page);
}

void vr_report_instances(GString *page, const json_t *document)
{
    static const char *const columns[] = {
        "Instance", ">Batch", "Phase", "From generation", "To generation", "Version due", "Swap", "Why", "UUID", NULL};
    size_t i;
    json_t *instance;

    vr_report_begin_table(page, "What each instance was, and what became of it", columns);
    json_array_foreach(json_object_get(document, "instances"), i, instance) add_instance(page, instance);
    vr_report_end_table(page);
}

void vr_report_times(GString *page, const json_t *document)
{
    const char *columns[G_N_ELEMENTS(times) + 2] = {"Instance"};
    size_t i;
    json_t *instance;

    for (guint k = 0; k < G_N_ELEMENTS(times); k++)
        columns[k + 1] = times[k].heading;
    vr_report_begin_table(page, "How long each instance was down, and each of its phases", columns);
    json_array_foreach(json_object_get(document, "instances"), i, instance)
    {
        vr_report_begin_row(page, vr_report_text(instance, "domain"));
        for (guint k = 0; k < G_N_ELEMENTS(times); k++)
            vr_report_add_ms(page, json_object_get(instance, "times"), times[k].key);
        vr_report_end_row(page);
    }
    vr_report_end_table(page);
}

static void add_span(GString *page, const json_t *instance, const json_t *span)
{
    vr_report_begin_row(page, vr_report_text(instance, "domain"));
    vr_report_add_cell(page, vr_report_text(span, "phase"));
    vr_report_add_time(page, span, "startTime");
    vr_report_add_ms(page, span, "offsetMs");
    vr_report_add_ms(page, span, "durationMs");
    vr_report_end_row(page);
}

void vr_report_spans(GString *page, const json_t *document)
{
    static const char *const columns[] = {"Instance", "Phase", "Began", ">After the run's start", ">Took", NULL};
    gboolean any = FALSE;
    size_t i, j;
    json_t *instance, *span;

    json_array_foreach(json_object_get(document, "instances"), i, instance)
    {
        json_array_foreach(json_object_get(instance, "timeline"), j, span)
        {
            if (!any) {
                g_string_append(page, "<details><summary>The same as a table</summary>\n");
                vr_report_begin_table(page, "What each instance went through", columns);
            }
            any = TRUE;
            add_span(page, instance, span);
        }
    }
    if (!any)
        return;
    vr_report_end_table(page);
    g_string_append(page, "</details>\n");
}

/* ---- extensions ---- */

/* In Azure's words: "ProvisioningState/succeeded (Info): Provisioning succeeded, at ..., and what it said". */
static void add_statuses(GString *page, const json_t *statuses)
{
    size_t i;
    json_t *status;

    g_string_append(page, "<td class=\"w\">");
    json_array_foreach(statuses, i, status)
    {
        g_autofree char *time = vr_report_time(status, "time");
        const char *message = vr_report_text(status, "message");

        vr_report_add(page, "%s%s (%s): %s, ", i > 0 ? "; " : "", vr_report_text(status, "code"),
                      vr_report_text(status, "level"), vr_report_text(status, "displayStatus"));
        g_string_append(page, time);
        vr_report_add(page, "%s%s", *message ? ": " : "", message);
    }
    g_string_append(page, "</td>");
}

static const char *class_of(const char *status)
{
    if (g_str_equal(status, "Succeeded"))
        return "good";
    return g_str_equal(status, "Failed") || g_str_equal(status, "TimedOut") ? "bad" : "other";
}

static void add_extension(GString *page, const json_t *instance, const json_t *extension)
{
    const char *status = vr_report_text(extension, "status"), *output = vr_report_text(extension, "output");

    vr_report_begin_row(page, vr_report_text(instance, "domain"));
    vr_report_add_cell(page, vr_report_text(extension, "name"));
    vr_report_add(page, "<td class=\"%s\">%s</td>", class_of(status), status);
    vr_report_add_flag(page, extension, "suppressFailures");
    vr_report_add_time(page, extension, "startTime");
    vr_report_add_ms(page, extension, "durationMs");
    vr_report_add_number(page, extension, "exitCode");
    add_statuses(page, json_object_get(extension, "statuses"));
    if (*output)
        vr_report_add(page, "<td class=\"w\"><pre>%s</pre></td>", output);
    else
        g_string_append(page, "<td>-</td>");
    vr_report_end_row(page);
}

void vr_report_extensions(GString *page, const json_t *document)
{
    static const char *const columns[] = {"Instance", "Extension",  "Status",           "May fail", "Began",
                                          ">Took",    ">Exit code", "In Azure's words", "Output",   NULL};
    gboolean any = FALSE;
    size_t i, j;
    json_t *instance, *extension;

    json_array_foreach(json_object_get(document, "instances"), i, instance)
    {
        json_array_foreach(json_object_get(instance, "extensions"), j, extension)
        {
            if (!any)
                vr_report_begin_table(page, "What each instance's extensions did on its new disk", columns);
            any = TRUE;
            add_extension(page, instance, extension);
        }
    }
    if (any)
        vr_report_end_table(page);
    else
        g_string_append(page, "<p>None.</p>\n");
}

/* ---- events ---- */

void vr_report_events(GString *page, const json_t *document)
{
    static const char *const columns[] = {"Time", "What", "Instance", "Text", NULL};
    size_t i;
    json_t *event;

    vr_report_begin_table(page, "What was decided, as it was written down", columns);
    json_array_foreach(json_object_get(document, "events"), i, event)
    {
        g_string_append(page, "<tr>");
        vr_report_add_time(page, event, "time");
        vr_report_add_cell(page, vr_report_text(event, "kind"));
        vr_report_add_cell(page, vr_report_text(event, "domain"));
        vr_report_add_words(page, vr_report_text(event, "text"));
        vr_report_end_row(page);
    }
    vr_report_end_table(page);
}
