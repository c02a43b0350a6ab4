/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The pieces of a report (report.h) and its sections. Each key of the document is shown in one of them: tests/orchestrator/report.py changes
 * each, by its schema, and looks whether the page says so.
 */
#pragma once

#include <glib.h>
#include <jansson.h>

/* ---- reading the document ---- */

/* A member's text; "" where it is null or not there. */
const char *vr_report_text(const json_t *object, const char *key);

/* A member's number; -1 where it is null or not there. */
gint64 vr_report_number(const json_t *object, const char *key);

/* Milliseconds from the run's start to a time (RFC 3339); -1 where it is "". */
gint64 vr_report_offset(const json_t *document, const char *time);

/* How the page shows a duration; negative: "-". Free with g_free. */
char *vr_report_duration(gint64 ms);

/* A member that is a time as HTML: in local time, with what the document says beside it for programs; "-" where it is null. Free with g_free. */
char *vr_report_time(const json_t *object, const char *key);

gboolean vr_report_has_failed(const json_t *instance);

/* ---- pieces of the page ---- */

/* Every argument is escaped. */
void vr_report_add(GString *page, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* In a region that scrolls by itself and can be scrolled by the keyboard; columns: NULL-terminated, '>' for numbers. */
void vr_report_begin_table(GString *page, const char *caption, const char *const *columns);
void vr_report_end_table(GString *page);

/* Its first cell is what the row is about. */
void vr_report_begin_row(GString *page, const char *name);
void vr_report_end_row(GString *page);

/* Cells; "-" for what is not there. */
void vr_report_add_cell(GString *page, const char *text);
void vr_report_add_words(GString *page, const char *text); /* a text that may be long */
void vr_report_add_ms(GString *page, const json_t *object, const char *key);
void vr_report_add_number(GString *page, const json_t *object, const char *key);
void vr_report_add_flag(GString *page, const json_t *object, const char *key);
void vr_report_add_time(GString *page, const json_t *object, const char *key);

/* ---- sections: report_summary.c, report_chart.c, report_tables.c, report_disks.c ---- */

void vr_report_summary(GString *page, const json_t *document);

/* Those that failed, and those that came good with something to say, with the last lines of their consoles. */
void vr_report_failures(GString *page, const json_t *document);

/* A row for each guest with its phases, over the batches. */
void vr_report_timeline(GString *page, const json_t *document);

/* The same as a table, which is shut until it is asked for. */
void vr_report_spans(GString *page, const json_t *document);

/* How many guests were down for how long. Nothing where none was. */
void vr_report_downtime(GString *page, const json_t *document);

void vr_report_spread(GString *page, const json_t *document);
void vr_report_instances(GString *page, const json_t *document);
void vr_report_times(GString *page, const json_t *document);
void vr_report_readings(GString *page, const json_t *document);
void vr_report_disks(GString *page, const json_t *document);
void vr_report_extensions(GString *page, const json_t *document);
void vr_report_events(GString *page, const json_t *document);
