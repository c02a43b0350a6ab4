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
