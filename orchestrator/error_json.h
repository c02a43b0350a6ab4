/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * An error as JSON: what `--json` says of it on standard error, and the body of an HTTP answer.
 *
 *   {"error": {"code": "Busy", "message": "WHAT: CAUSE; NOW; NEXT", "what": ..., "cause": ..., "now": ..., "next": ...}}
 *
 * message is the whole story, for who knows no more than Azure's two keys; of the last three only those are there that the error has. All texts
 * are printable (vr_printable()).
 */
#pragma once

#include <glib.h>
#include <jansson.h>

/* The document. */
json_t *vr_error_json(const GError *error);

/* The error that such a document was made of; NULL: it is none. Free with g_error_free. */
GError *vr_error_of_json(const json_t *document);
