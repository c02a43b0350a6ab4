/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A run as one HTML page that needs nothing else: no script, no network, no font of its own. It is made of the document that 'history --run --json'
 * prints and of nothing beside it, so that the two cannot say different things. Every text in it is of a guest, a model or a person, and is escaped.
 */
#pragma once

#include <glib.h>
#include <jansson.h>

/* document: of a run. file: "-" is standard output; another one is written whole or not at all, and replaces what is there. */
gboolean vr_report_write(const json_t *document, const char *file, GError **error);

/* The page. Free with g_free. */
char *vr_report_page(const json_t *document);

/* ---- for report.c and report_chart.c ---- */

/* A member's text; "" where it is null or not there. */
const char *vr_report_text(const json_t *object, const char *key);

/* A member's number; -1 where it is null or not there. */
gint64 vr_report_number(const json_t *object, const char *key);

/* Milliseconds of a member that is a time (RFC 3339), from the run's start; -1 where it is null. */
gint64 vr_report_offset(const json_t *document, const char *time);

/* How the page shows a duration; negative: "-". Free with g_free. */
char *vr_report_duration(gint64 ms);

/* A row for each guest with its phases, over the batches. */
void vr_report_timeline(GString *page, const json_t *document);

/* How many guests were down for how long. Nothing where none was. */
void vr_report_downtime(GString *page, const json_t *document);
