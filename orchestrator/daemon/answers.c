/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/daemon/answers.h"

#include "base/error.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TYPE_JSON "application/json"

/* Takes the response. NULL: there is no memory for it, and the connection is closed. */
static enum MHD_Result send_response(struct MHD_Connection *connection, guint status, const char *type,
                                     struct MHD_Response *response)
{
    enum MHD_Result queued;

    if (!response)
        return MHD_NO;
    if (type)
        (void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    queued = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return queued;
}

enum MHD_Result vr_answer_json(struct MHD_Connection *connection, guint status, const char *location, json_t *document)
{
    char *text = document ? json_dumps(document, JSON_COMPACT) : NULL;
    struct MHD_Response *response;

    json_decref(document);
    if (!text)
        return MHD_NO;
    response = MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_FREE);
    if (response && location)
        (void)MHD_add_response_header(response, MHD_HTTP_HEADER_LOCATION, location);
    return send_response(connection, status, TYPE_JSON, response);
}

static enum MHD_Result answer(struct MHD_Connection *connection, guint status, const char *code, const char *message)
{
    g_autofree char *shown = vr_printable(message, -1);

    return vr_answer_json(connection, status, NULL,
                          json_pack("{s:{s:s, s:s}}", "error", "code", code, "message", shown));
}

enum MHD_Result vr_answer_error(struct MHD_Connection *connection, guint status, int code, const char *message)
{
    return answer(connection, status, vr_error_name(code), message);
}

enum MHD_Result vr_answer_refusal(struct MHD_Connection *connection, VrHttpCode code, const char *message)
{
    const VrHttpCodeInfo *info = vr_http_code_info(code);

    return answer(connection, (guint)info->status, info->name, message);
}

enum MHD_Result vr_answer_file(struct MHD_Connection *connection, guint status, const char *type, int fd, guint64 size)
{
    struct MHD_Response *response = MHD_create_response_from_fd64(size, fd);

    if (!response)
        close(fd);
    return send_response(connection, status, type, response);
}
