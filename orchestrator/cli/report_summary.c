/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The first two sections of a report: what became of the run, and what did not become what it should. */
#include "orchestrator/cli/report_private.h"

static void add_item(GString *page, const char *name, const char *text)
{
    if (*text)
        vr_report_add(page, "<dt>%s</dt><dd>%s</dd>\n", name, text);
}

static void add_time_item(GString *page, const char *name, const json_t *object, const char *key, const char *before)
{
    g_autofree char *time = vr_report_time(object, key);

    vr_report_add(page, "<dt>%s</dt><dd>%s", name, before);
    g_string_append_printf(page, "%s</dd>\n", time);
}

static void add_ends(GString *page, const json_t *document)
{
    const json_t *status = json_object_get(document, "runningStatus");
    const char *completed = vr_report_text(status, "completedTime");
    g_autofree char *took = vr_report_duration(vr_report_offset(document, completed));
    g_autofree char *action = g_strconcat(vr_report_text(status, "lastAction"), ", ", NULL);

    add_time_item(page, "Started", status, "startTime", "");
    if (*completed)
        add_time_item(page, "Ended", status, "completedTime", "");
    else
        add_item(page, "Ended", "not yet");
    add_item(page, "Took", *completed ? took : "");
    add_time_item(page, "Last action", status, "lastActionTime", action);
}

static void add_counts(GString *page, const json_t *document)
{
    const json_t *progress = json_object_get(document, "progress"), *back = json_object_get(document, "rollbackInfo");
    g_autofree char *counts = g_strdup_printf(
        "%" G_GINT64_FORMAT " successful, %" G_GINT64_FORMAT " failed (%" G_GINT64_FORMAT
        " of them restored, %" G_GINT64_FORMAT " not known), %" G_GINT64_FORMAT " in progress, %" G_GINT64_FORMAT
        " pending, %" G_GINT64_FORMAT " skipped",
        vr_report_number(progress, "successfulInstanceCount"), vr_report_number(progress, "failedInstanceCount"),
        vr_report_number(back, "successfullyRolledbackInstanceCount"),
        vr_report_number(back, "failedRolledbackInstanceCount"), vr_report_number(progress, "inProgressInstanceCount"),
        vr_report_number(progress, "pendingInstanceCount"), vr_report_number(progress, "skippedInstanceCount"));

    add_item(page, "Instances", counts);
}

static void add_target(GString *page, const json_t *image)
{
    g_autofree char *target = g_strdup_printf("%s %s", vr_report_text(image, "name"), vr_report_text(image, "version"));

    add_item(page, "Target", g_strstrip(target));
    add_item(page, "Publisher", vr_report_text(image, "publisher"));
    add_item(page, "Offer", vr_report_text(image, "offer"));
    add_item(page, "SKU", vr_report_text(image, "sku"));
}

/* "root (User)"; "itself (Platform)" */
static void add_starter(GString *page, const json_t *document)
{
    const char *user = vr_report_text(document, "userName");

    vr_report_add(page, "<dt>By</dt><dd>%s (%s)</dd>\n", *user ? user : "itself",
                  vr_report_text(document, "startedBy"));
}

void vr_report_summary(GString *page, const json_t *document)
{
    const json_t *why = json_object_get(document, "error");

    g_string_append(page, "<dl>\n");
    add_item(page, "Status", vr_report_text(json_object_get(document, "runningStatus"), "code"));
    add_target(page, json_object_get(document, "targetImageReference"));
    add_item(page, "Role", vr_report_text(document, "role"));
    add_counts(page, document);
    add_ends(page, document);
    add_starter(page, document);
    add_item(page, "Reason", vr_report_text(document, "reason"));
    add_item(page, "Error", vr_report_text(why, "code"));
    add_item(page, "What happened", vr_report_text(why, "message"));
    g_string_append(page, "</dl>\n");
}

/* ---- failures and warnings ---- */

static void add_console(GString *page, const json_t *lines)
{
    size_t i;
    json_t *line;

    if (json_array_size(lines) == 0)
        return;
    g_string_append(page, "<p>The last lines of its serial console:</p>\n<pre tabindex=\"0\">");
    json_array_foreach(lines, i, line)
        vr_report_add(page, "%s\n", json_string_value(line) ? json_string_value(line) : "");
    g_string_append(page, "</pre>\n");
}

/* One that was skipped has its reason in the table of instances only: that is no fault. */
static gboolean is_worth_a_look(const json_t *instance)
{
    return vr_report_has_failed(instance) || json_array_size(json_object_get(instance, "console")) > 0 ||
           (g_str_equal(vr_report_text(instance, "phase"), "committed") && *vr_report_text(instance, "reason"));
}

void vr_report_failures(GString *page, const json_t *document)
{
    gboolean any = FALSE;
    size_t i;
    json_t *instance;

    json_array_foreach(json_object_get(document, "instances"), i, instance)
    {
        if (!is_worth_a_look(instance))
            continue;
        vr_report_add(
            page, "<h3>%s</h3>\n<p>%s: %s</p>\n", vr_report_text(instance, "domain"), vr_report_text(instance, "phase"),
            *vr_report_text(instance, "reason") ? vr_report_text(instance, "reason") : "no reason was written down");
        add_console(page, json_object_get(instance, "console"));
        any = TRUE;
    }
    if (!any)
        g_string_append(page, "<p>None.</p>\n");
}
