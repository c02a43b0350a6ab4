/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/cli/report.h"

#include "base/clock.h"
#include "base/durable.h"
#include "base/error.h"
#include "base/fd.h"

#include <stdio.h>
#include <string.h>

static const char style[] =
    ":root{color-scheme:light dark;--ink:#1b1f24;--faint:#57606a;--paper:#fff;--line:#d0d7de;--band:#eef1f4}"
    "@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--faint:#9aa7b4;--paper:#14181d;--line:#3a434d;--band:#"
    "222931}}"
    "body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:68rem;margin:0 "
    "auto;padding:1rem}"
    "h1{font-size:1.5rem;margin:.5rem 0}h2{font-size:1.15rem;margin:2rem 0 .5rem;border-bottom:1px solid var(--line)}"
    "a{color:inherit}nav a{margin-right:1rem}"
    "dl{display:grid;grid-template-columns:max-content 1fr;gap:.15rem "
    "1rem}dt{color:var(--faint)}dd{margin:0;overflow-wrap:anywhere}"
    "table{border-collapse:collapse;width:100%}caption{text-align:left;color:var(--faint)}"
    "th,td{text-align:left;padding:.2rem .6rem .2rem 0;border-bottom:1px solid "
    "var(--line);vertical-align:top}"
    "td.w{min-width:14rem;overflow-wrap:anywhere}"
    "td.n,th.n{text-align:right;white-space:nowrap}code,pre{font:13px/1.4 ui-monospace,monospace}"
    "pre{background:var(--band);padding:.5rem;overflow-x:auto;white-space:pre-wrap}"
    ".scroll{overflow-x:auto}.chart{display:block}.chart text{fill:var(--ink);font-size:12px}.chart "
    ".axis{fill:var(--faint);font-size:11px}"
    ".tick{stroke:var(--line)}.batch{fill:var(--band)}"
    ".prepare{fill:#7c93ab}.wait{fill:#b9c3cd}.stop{fill:#d99a2b}.switch{fill:#a8612a}.start{fill:#2f6fb3}.health{fill:"
    "#5aa0d8}"
    ".back{fill:#c23b3b}"
    ".legend{display:flex;flex-wrap:wrap;gap:.2rem 1.2rem;list-style:none;padding:0;font-size:.9rem}"
    ".legend "
    "svg{vertical-align:-2px}.bad{font-weight:600}.bad::before{content:\"\\2717\\00a0\"}.good::before{content:"
    "\"\\2713\\00a0\"}"
    "@media(max-width:40rem){dl{grid-template-columns:1fr}dt{margin-top:.4rem}}"
    "@media print{nav{display:none}body{max-width:none;padding:0;font-size:11px}.scroll{overflow:visible}"
    ".chart{width:100%;height:auto}h2{break-after:avoid}tr,svg{break-inside:avoid}"
    ".chart *,.legend *{print-color-adjust:exact;-webkit-print-color-adjust:exact}}";

/* ---- reading the document ---- */

const char *vr_report_text(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    return text ? text : "";
}

gint64 vr_report_number(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);

    return json_is_integer(value) ? json_integer_value(value) : -1;
}

/* The local time zone is of no use in a difference. */
static gint64 wall_us(const char *time)
{
    g_autoptr(GDateTime) at = *time ? g_date_time_new_from_iso8601(time, NULL) : NULL;

    return at ? g_date_time_to_unix(at) * G_USEC_PER_SEC + g_date_time_get_microsecond(at) : -1;
}

gint64 vr_report_offset(const json_t *document, const char *time)
{
    gint64 start = wall_us(vr_report_text(json_object_get(document, "runningStatus"), "startTime"));
    gint64 at = wall_us(time);

    return at < 0 || start < 0 ? -1 : MAX((at - start) / 1000, 0);
}

char *vr_report_duration(gint64 ms)
{
    return vr_clock_format_duration(ms);
}

/* ---- pieces of the page ---- */

static void add(GString *page, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* Every argument is escaped. */
static void add(GString *page, const char *format, ...)
{
    va_list args;
    g_autofree char *text = NULL;

    va_start(args, format);
    text = g_markup_vprintf_escaped(format, args);
    va_end(args);
    g_string_append(page, text);
}

static void add_item(GString *page, const char *name, const char *text)
{
    if (*text)
        add(page, "<dt>%s</dt><dd>%s</dd>\n", name, text);
}

/* In a region that scrolls by itself and can be scrolled by the keyboard; columns: NULL-terminated, '>' for numbers. */
static void begin_table(GString *page, const char *caption, const char *const *columns)
{
    add(page,
        "<div class=\"scroll\" role=\"region\" aria-label=\"%s\" "
        "tabindex=\"0\">\n<table><caption>%s</caption>\n<thead><tr>",
        caption, caption);
    for (guint i = 0; columns[i]; i++)
        add(page, *columns[i] == '>' ? "<th scope=\"col\" class=\"n\">%s</th>" : "<th scope=\"col\">%s</th>",
            columns[i] + (*columns[i] == '>'));
    g_string_append(page, "</tr></thead>\n<tbody>\n");
}

static void end_table(GString *page)
{
    g_string_append(page, "</tbody></table>\n</div>\n");
}

static void add_cell(GString *page, const char *text)
{
    add(page, "<td class=\"w\">%s</td>", *text ? text : "-");
}

static void add_ms(GString *page, const json_t *object, const char *key)
{
    g_autofree char *text = vr_report_duration(vr_report_number(object, key));

    add(page, "<td class=\"n\">%s</td>", text);
}

static void add_number(GString *page, gint64 number)
{
    if (number < 0)
        g_string_append(page, "<td class=\"n\">-</td>");
    else
        g_string_append_printf(page, "<td class=\"n\">%" G_GINT64_FORMAT "</td>", number);
}

/* A time as it stands in the document, but for the T and its zone. */
static char *shown_time(const char *time)
{
    g_autoptr(GDateTime) at = *time ? g_date_time_new_from_iso8601(time, NULL) : NULL;
    g_autoptr(GDateTime) local = at ? g_date_time_to_local(at) : NULL;

    return local ? g_date_time_format(local, "%Y-%m-%d %H:%M:%S") : g_strdup("");
}

/* ---- sections ---- */

static void add_summary(GString *page, const json_t *document)
{
    const json_t *status = json_object_get(document, "runningStatus"),
                 *progress = json_object_get(document, "progress");
    const json_t *image = json_object_get(document, "targetImageReference"), *why = json_object_get(document, "error");
    const json_t *rollback = json_object_get(document, "rollbackInfo");
    g_autofree char *started = shown_time(vr_report_text(status, "startTime"));
    g_autofree char *ended = shown_time(vr_report_text(status, "completedTime"));
    g_autofree char *took = vr_report_duration(vr_report_offset(document, vr_report_text(status, "completedTime")));
    g_autofree char *target = g_strdup_printf("%s %s", vr_report_text(image, "name"), vr_report_text(image, "version"));
    g_autofree char *counts = g_strdup_printf(
        "%" G_GINT64_FORMAT " successful, %" G_GINT64_FORMAT " failed (%" G_GINT64_FORMAT
        " of them restored), %" G_GINT64_FORMAT " in progress, %" G_GINT64_FORMAT " pending, %" G_GINT64_FORMAT
        " skipped",
        vr_report_number(progress, "successfulInstanceCount"), vr_report_number(progress, "failedInstanceCount"),
        vr_report_number(rollback, "successfullyRolledbackInstanceCount"),
        vr_report_number(progress, "inProgressInstanceCount"), vr_report_number(progress, "pendingInstanceCount"),
        vr_report_number(progress, "skippedInstanceCount"));

    const char *user = vr_report_text(document, "userName");

    g_string_append(page, "<dl>\n");
    add_item(page, "Status", vr_report_text(status, "code"));
    add_item(page, "Target", g_strstrip(target));
    add_item(page, "Instances", counts);
    add_item(page, "Started", started);
    add_item(page, "Ended", *ended ? ended : "not yet");
    add_item(page, "Took", *ended ? took : "");
    add_item(page, "By", *user ? user : vr_report_text(document, "startedBy"));
    add_item(page, "Reason", vr_report_text(document, "reason"));
    add_item(page, "Error", vr_report_text(why, "code"));
    add_item(page, "What happened", vr_report_text(why, "message"));
    g_string_append(page, "</dl>\n");
}

static gboolean has_failed(const json_t *instance)
{
    const char *phase = vr_report_text(instance, "phase");

    return g_str_equal(phase, "restored") || g_str_equal(phase, "failed") || g_str_equal(phase, "unknown");
}

static void add_failures(GString *page, const json_t *document)
{
    gboolean any = FALSE;
    size_t i, j;
    json_t *instance, *line;

    json_array_foreach(json_object_get(document, "instances"), i, instance)
    {
        if (!has_failed(instance))
            continue;
        add(page, "<h3>%s</h3>\n<p>%s: %s</p>\n", vr_report_text(instance, "domain"), vr_report_text(instance, "phase"),
            *vr_report_text(instance, "reason") ? vr_report_text(instance, "reason") : "no reason was written down");
        if (json_array_size(json_object_get(instance, "console")) > 0) {
            g_string_append(page, "<p>The last lines of its serial console:</p>\n<pre tabindex=\"0\">");
            json_array_foreach(json_object_get(instance, "console"), j, line)
                add(page, "%s\n", json_string_value(line) ? json_string_value(line) : "");
            g_string_append(page, "</pre>\n");
        }
        any = TRUE;
    }
    if (!any)
        g_string_append(page, "<p>None.</p>\n");
}

/* "0 (1.0.0)" */
static void add_generation(GString *page, const json_t *instance, const char *number, const char *version)
{
    gint64 generation = vr_report_number(instance, number);

    if (generation < 0)
        g_string_append(page, "<td>-</td>");
    else
        add(page, "<td>%" G_GINT64_FORMAT "%s%s%s</td>", generation, *vr_report_text(instance, version) ? " (" : "",
            vr_report_text(instance, version), *vr_report_text(instance, version) ? ")" : "");
}

static void add_instances(GString *page, const json_t *document)
{
    static const char *const columns[] = {"Instance", ">Batch",   "Phase",   "From generation", "To generation",
                                          ">Prepare", ">Stop",    ">Switch", ">Start",          ">Healthy after",
                                          ">Off",     ">OS down", NULL};
    size_t i;
    json_t *instance;

    begin_table(page, "Each instance and how long each of its phases took", columns);
    json_array_foreach(json_object_get(document, "instances"), i, instance)
    {
        const json_t *times = json_object_get(instance, "times");
        add(page, "<tr><th scope=\"row\">%s</th>", vr_report_text(instance, "domain"));
        add_number(page, vr_report_number(instance, "batch"));
        add(page, "<td class=\"%s\">%s</td>",
            has_failed(instance)                                          ? "bad"
            : g_str_equal(vr_report_text(instance, "phase"), "committed") ? "good"
                                                                          : "other",
            vr_report_text(instance, "phase"));
        add_generation(page, instance, "fromGeneration", "fromVersion");
        add_generation(page, instance, "toGeneration", "toVersion");
        add_ms(page, times, "prepareMs");
        add_ms(page, times, "stopMs");
        add_ms(page, times, "switchMs");
        add_ms(page, times, "startMs");
        add_ms(page, times, "healthyMs");
        add_ms(page, times, "offMs");
        add_ms(page, times, "osDownMs");
        g_string_append(page, "</tr>\n");
    }
    end_table(page);
}

static void add_spread(GString *page, const json_t *document)
{
    static const char *const columns[] = {"Downtime", ">p50", ">p95", ">Longest", ">Instances", NULL};
    static const struct {
        const char *key, *text;
    } rows[] = {{"offMs", "Off: power off to running"}, {"osDownMs", "OS down: asked to stop to healthy"}};

    begin_table(page, "Of the instances that were moved", columns);
    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        const json_t *spread = json_object_get(json_object_get(document, "times"), rows[i].key);
        add(page, "<tr><th scope=\"row\">%s</th>", rows[i].text);
        add_ms(page, spread, "p50");
        add_ms(page, spread, "p95");
        add_ms(page, spread, "max");
        add_number(page, vr_report_number(spread, "count"));
        g_string_append(page, "</tr>\n");
    }
    end_table(page);
}

static void add_disk(GString *page, const json_t *instance, const json_t *proof, const json_t *disk)
{
    const char *digest = vr_report_text(disk, "contentSha256");
    g_autofree char *proven = shown_time(vr_report_text(proof, "provenTime"));

    add(page, "<tr><th scope=\"row\">%s</th><td>%s</td><td class=\"w\">%s</td>", vr_report_text(instance, "domain"),
        vr_report_text(disk, "target"), vr_report_text(disk, "path"));
    add_number(page, vr_report_number(disk, "sizeBytes"));
    add(page, "<td class=\"%s\">%s</td><td><code>%.16s</code></td></tr>\n",
        json_is_true(json_object_get(proof, "untouched")) ? "good" : "bad",
        json_is_true(json_object_get(disk, "madeAnew"))     ? "made anew, as it was asked"
        : json_is_true(json_object_get(proof, "untouched")) ? (*proven ? proven : "yes")
                                                            : "not proven",
        *digest ? digest : vr_report_text(disk, "headSha256"));
}

static void add_disks(GString *page, const json_t *document)
{
    static const char *const columns[] = {"Instance", "Disk", "File", ">Bytes", "Proven untouched", "SHA-256", NULL};
    size_t i, j;
    json_t *instance, *disk;

    begin_table(page, "Every other disk of each instance, as it was read before the switch and again after it",
                columns);
    json_array_foreach(json_object_get(document, "instances"), i, instance)
    {
        const json_t *proof = json_object_get(instance, "dataDisks");
        json_array_foreach(json_object_get(proof, "disks"), j, disk) add_disk(page, instance, proof, disk);
    }
    end_table(page);
}

static void add_events(GString *page, const json_t *document)
{
    static const char *const columns[] = {"Time", "What", "Instance", "Text", NULL};
    size_t i;
    json_t *event;

    begin_table(page, "What was decided, as it was written down", columns);
    json_array_foreach(json_object_get(document, "events"), i, event)
    {
        g_autofree char *time = shown_time(vr_report_text(event, "time"));
        add(page, "<tr><td>%s</td>", time);
        add(page, "<td>%s</td><td>%s</td>", vr_report_text(event, "kind"),
            *vr_report_text(event, "domain") ? vr_report_text(event, "domain") : "-");
        add_cell(page, vr_report_text(event, "text"));
        g_string_append(page, "</tr>\n");
    }
    end_table(page);
}

/* ---- the page ---- */

static const struct {
    const char *id, *heading;
    void (*parts[3])(GString *page, const json_t *document);
} sections[] = {
    {"summary", "Summary", {add_summary}},
    {"failures", "Failures", {add_failures}},
    {"timeline", "Timeline", {vr_report_timeline}},
    {"downtime", "Downtime", {add_spread, vr_report_downtime}},
    {"instances", "Instances", {add_instances}},
    {"disks", "Data disks", {add_disks}},
    {"events", "Events", {add_events}},
};

static void add_head(GString *page, const json_t *document)
{
    const char *operation = vr_report_text(document, "operation"), *set = vr_report_text(document, "set");

    add(page,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
        "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        "<title>%s of %s, run %s</title>\n",
        operation, set, vr_report_text(document, "runId"));
    g_string_append_printf(page, "<style>%s</style>\n</head>\n<body>\n<header>\n", style);
    add(page, "<h1>%s of %s</h1>\n<p>Run <code>%s</code></p>\n<nav aria-label=\"Sections\">", operation, set,
        vr_report_text(document, "runId"));
    for (guint i = 0; i < G_N_ELEMENTS(sections); i++)
        add(page, "<a href=\"#%s\">%s</a> ", sections[i].id, sections[i].heading);
    g_string_append(page, "</nav>\n</header>\n<main>\n");
}

char *vr_report_page(const json_t *document)
{
    GString *page = g_string_new(NULL);

    add_head(page, document);
    for (guint i = 0; i < G_N_ELEMENTS(sections); i++) {
        add(page, "<section id=\"%s\" aria-labelledby=\"h-%s\">\n<h2 id=\"h-%s\">%s</h2>\n", sections[i].id,
            sections[i].id, sections[i].id, sections[i].heading);
        for (guint j = 0; j < G_N_ELEMENTS(sections[i].parts) && sections[i].parts[j]; j++)
            sections[i].parts[j](page, document);
        g_string_append(page, "</section>\n");
    }
    add(page, "</main>\n<footer><p>Made by virt-reimage %s.</p></footer>\n</body>\n</html>\n", VR_VERSION);
    return g_string_free(page, FALSE);
}

gboolean vr_report_write(const json_t *document, const char *file, GError **error)
{
    g_autofree char *page = vr_report_page(document);
    g_autofree char *folder = g_path_get_dirname(file), *name = g_path_get_basename(file);
    vr_autofd dir = -1;

    if (g_str_equal(file, "-"))
        return fputs(page, stdout) >= 0; /* main() looks at stdout at the end */
    dir = vr_dir_open(folder, error);
    if (dir >= 0 && vr_durable_write(dir, name, page, strlen(page), 0644, TRUE, error))
        return TRUE;
    g_prefix_error(error, "cannot write %s: ", file);
    return FALSE;
}
