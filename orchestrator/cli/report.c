/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/cli/report.h"

#include "base/clock.h"
#include "base/durable.h"
#include "base/error.h"
#include "base/fd.h"
#include "orchestrator/cli/report_private.h"

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
    "td.n,th.n,time{white-space:nowrap}td.n,th.n{text-align:right}code,pre{font:13px/1.4 ui-monospace,monospace}"
    "td.h{min-width:18rem;overflow-wrap:anywhere}td pre{margin:0}summary{margin:.5rem 0;color:var(--faint)}"
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

void vr_report_add(GString *page, const char *format, ...)
{
    va_list args;
    g_autofree char *text = NULL;

    va_start(args, format);
    text = g_markup_vprintf_escaped(format, args);
    va_end(args);
    g_string_append(page, text);
}

void vr_report_begin_table(GString *page, const char *caption, const char *const *columns)
{
    vr_report_add(page,
                  "<div class=\"scroll\" role=\"region\" aria-label=\"%s\" "
                  "tabindex=\"0\">\n<table><caption>%s</caption>\n<thead><tr>",
                  caption, caption);
    for (guint i = 0; columns[i]; i++)
        vr_report_add(page, *columns[i] == '>' ? "<th scope=\"col\" class=\"n\">%s</th>" : "<th scope=\"col\">%s</th>",
                      columns[i] + (*columns[i] == '>'));
    g_string_append(page, "</tr></thead>\n<tbody>\n");
}

void vr_report_end_table(GString *page)
{
    g_string_append(page, "</tbody></table>\n</div>\n");
}

void vr_report_begin_row(GString *page, const char *name)
{
    vr_report_add(page, "<tr><th scope=\"row\">%s</th>", name);
}

void vr_report_end_row(GString *page)
{
    g_string_append(page, "</tr>\n");
}

void vr_report_add_cell(GString *page, const char *text)
{
    vr_report_add(page, "<td>%s</td>", *text ? text : "-");
}

void vr_report_add_words(GString *page, const char *text)
{
    vr_report_add(page, "<td class=\"w\">%s</td>", *text ? text : "-");
}

void vr_report_add_ms(GString *page, const json_t *object, const char *key)
{
    g_autofree char *text = vr_report_duration(vr_report_number(object, key));

    vr_report_add(page, "<td class=\"n\">%s</td>", text);
}

void vr_report_add_number(GString *page, const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);

    if (json_is_integer(value))
        vr_report_add(page, "<td class=\"n\">%" JSON_INTEGER_FORMAT "</td>", json_integer_value(value));
    else
        g_string_append(page, "<td class=\"n\">-</td>");
}

void vr_report_add_flag(GString *page, const json_t *object, const char *key)
{
    vr_report_add_cell(page, json_is_true(json_object_get(object, key)) ? "yes" : "no");
}

char *vr_report_time(const json_t *object, const char *key)
{
    const char *text = vr_report_text(object, key);
    g_autoptr(GDateTime) at = *text ? g_date_time_new_from_iso8601(text, NULL) : NULL;
    g_autoptr(GDateTime) local = at ? g_date_time_to_local(at) : NULL;
    g_autofree char *shown = local ? g_date_time_format(local, "%Y-%m-%d %H:%M:%S") : NULL;

    return shown ? g_markup_printf_escaped("<time datetime=\"%s\">%s</time>", text, shown) : g_strdup("-");
}

void vr_report_add_time(GString *page, const json_t *object, const char *key)
{
    g_autofree char *time = vr_report_time(object, key);

    g_string_append_printf(page, "<td>%s</td>", time);
}

gboolean vr_report_has_failed(const json_t *instance)
{
    const char *phase = vr_report_text(instance, "phase");

    return g_str_equal(phase, "restored") || g_str_equal(phase, "failed") || g_str_equal(phase, "unknown");
}

/* ---- the page ---- */

static const struct {
    const char *id, *heading;
    void (*parts[3])(GString *page, const json_t *document);
} sections[] = {
    {"summary", "Summary", {vr_report_summary}},
    {"failures", "Failures and warnings", {vr_report_failures}},
    {"timeline", "Timeline", {vr_report_timeline, vr_report_spans}},
    {"downtime", "Downtime", {vr_report_spread, vr_report_downtime}},
    {"instances", "Instances", {vr_report_instances}},
    {"times", "Times", {vr_report_times}},
    {"disks", "Data disks", {vr_report_readings, vr_report_disks}},
    {"extensions", "Extensions", {vr_report_extensions}},
    {"events", "Events", {vr_report_events}},
};

static void add_head(GString *page, const json_t *document)
{
    const char *operation = vr_report_text(document, "operation"), *set = vr_report_text(document, "set");

    vr_report_add(
        page,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
        "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        "<title>%s of %s, run %s</title>\n",
        operation, set, vr_report_text(document, "runId"));
    g_string_append_printf(page, "<style>%s</style>\n</head>\n<body>\n<header>\n", style);
    vr_report_add(page, "<h1>%s of %s</h1>\n<p>Run <code>%s</code></p>\n<nav aria-label=\"Sections\">", operation, set,
                  vr_report_text(document, "runId"));
    for (guint i = 0; i < G_N_ELEMENTS(sections); i++)
        vr_report_add(page, "<a href=\"#%s\">%s</a> ", sections[i].id, sections[i].heading);
    g_string_append(page, "</nav>\n</header>\n<main>\n");
}

char *vr_report_page(const json_t *document)
{
    GString *page = g_string_new(NULL);

    add_head(page, document);
    for (guint i = 0; i < G_N_ELEMENTS(sections); i++) {
        vr_report_add(page, "<section id=\"%s\" aria-labelledby=\"h-%s\">\n<h2 id=\"h-%s\">%s</h2>\n", sections[i].id,
                      sections[i].id, sections[i].id, sections[i].heading);
        for (guint j = 0; j < G_N_ELEMENTS(sections[i].parts) && sections[i].parts[j]; j++)
            sections[i].parts[j](page, document);
        g_string_append(page, "</section>\n");
    }
    vr_report_add(page, "</main>\n<footer><p>Made by virt-reimage %s.</p></footer>\n</body>\n</html>\n", VR_VERSION);
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
