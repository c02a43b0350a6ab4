/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* HTTP answers: JSON documents, and errors in Azure's shape: {"error": {"code": "NotFound", "message": "..."}}; what a command says of an error has more keys
 * (orchestrator/error_json.h). */
#pragma once

#include <glib.h>
#include <jansson.h>
#include <microhttpd.h>

/* Takes the document. location: for the header of that name, or NULL. */
enum MHD_Result vr_answer_json(struct MHD_Connection *connection, guint status, const char *location, json_t *document);

/* message may hold anything: what does not print is shown as '?'. */
enum MHD_Result vr_answer_error(struct MHD_Connection *connection, guint status, const char *code, const char *message);

/* The content of a file in memory, from its begin; takes the descriptor. */
enum MHD_Result vr_answer_file(struct MHD_Connection *connection, guint status, const char *type, int fd, guint64 size);
