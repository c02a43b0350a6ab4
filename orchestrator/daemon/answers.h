/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* HTTP answers: JSON documents, and errors in Azure's shape: {"error": {"code": "NotFound", "message": "..."}}; what a command says of an error has more keys
 * (orchestrator/error_json.h). */
#pragma once

#include "orchestrator/http_codes.h"

#include <glib.h>
#include <jansson.h>
#include <microhttpd.h>

/* Takes the document. location: for the header of that name, or NULL. */
enum MHD_Result vr_answer_json(struct MHD_Connection *connection, guint status, const char *location, json_t *document);

/* code: a VrErrorCode. message may hold anything: what does not print is shown as '?'. */
enum MHD_Result vr_answer_error(struct MHD_Connection *connection, guint status, int code, const char *message);

/* An error of the request itself. */
enum MHD_Result vr_answer_refusal(struct MHD_Connection *connection, VrHttpCode code, const char *message);

/* The content of a file in memory, from its begin; takes the descriptor. */
enum MHD_Result vr_answer_file(struct MHD_Connection *connection, guint status, const char *type, int fd, guint64 size);
