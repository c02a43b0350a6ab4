/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/daemon/exchange.h"

#include "base/error.h"
#include "base/fd.h"
#include "orchestrator/error_json.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define READING_MS 60000 /* of a command that reads; those that change are never killed */
#define LINES_MAX (1024 * 1024)
#define TYPE_JSON "application/json"
#define TYPE_OPENMETRICS "application/openmetrics-text; version=1.0.0; charset=utf-8"

VrExchange *vr_exchange_new(VrJobs *jobs, VrRequest *request)
{
    VrExchange *exchange = g_new0(VrExchange, 1);

    exchange->jobs = jobs;
    exchange->request = request;
    exchange->out = -1;
    return exchange;
}

void vr_exchange_free(VrExchange *exchange)
{
    if (exchange->capture)
        vr_job_capture_forget(exchange->capture);
    if (exchange->patched)
        g_hash_table_remove(exchange->patching, exchange->patched);
    vr_route_match_clear(&exchange->match);
    g_clear_pointer(&exchange->query, g_hash_table_unref);
    json_decref(exchange->body);
    json_decref(exchange->document);
    vr_fd_clear(&exchange->out);
    g_free(exchange->patched);
    g_free(exchange->message);
    g_clear_error(&exchange->error);
    g_free(exchange->location);
    g_free(exchange);
}

/* ---- the answer ---- */

void vr_exchange_settle(VrExchange *exchange, guint status)
{
    exchange->settled = TRUE;
    exchange->status = status;
    vr_request_go_on(exchange->request);
}

void vr_exchange_fail(VrExchange *exchange, guint status, int code, const char *message)
{
    exchange->code = code;
    exchange->message = g_strdup(message);
    vr_exchange_settle(exchange, status);
}

void vr_exchange_refuse(VrExchange *exchange, VrHttpCode code, const char *message)
{
    exchange->refused = TRUE;
    exchange->http_code = code;
    exchange->message = g_strdup(message);
    vr_exchange_settle(exchange, (guint)vr_http_code_info(code)->status);
}

/* By the code of an error, and where a job has not said one by its exit status. */
static guint status_of(int code, int exit_status)
{
    static const struct {
        int code;
        guint status;
    } by_code[] = {{VR_ERROR_NOT_FOUND, MHD_HTTP_NOT_FOUND},
                   {VR_ERROR_NO_SPACE, MHD_HTTP_INSUFFICIENT_STORAGE},
                   {VR_ERROR_TIMEOUT, MHD_HTTP_GATEWAY_TIMEOUT},
                   {VR_ERROR_DISCONNECTED, MHD_HTTP_SERVICE_UNAVAILABLE}};
    static const guint by_status[] = {[2] = MHD_HTTP_BAD_REQUEST,
                                      [3] = MHD_HTTP_CONFLICT,
                                      [4] = MHD_HTTP_CONFLICT,
                                      [5] = MHD_HTTP_CONFLICT,
                                      [6] = MHD_HTTP_CONFLICT};

    for (guint i = 0; i < G_N_ELEMENTS(by_code); i++)
        if (code == by_code[i].code)
            return by_code[i].status;
    if (exit_status >= 0 && exit_status < (int)G_N_ELEMENTS(by_status) && by_status[exit_status])
        return by_status[exit_status];
    return MHD_HTTP_INTERNAL_SERVER_ERROR;
}

void vr_exchange_fail_error(VrExchange *exchange, const GError *error)
{
    int code = vr_error_code(error);
    guint status = status_of(code, vr_error_exit_status(error));

    /* it is we who are busy, not the set */
    if (g_error_matches(error, VR_ERROR, VR_ERROR_BUSY))
        status = MHD_HTTP_SERVICE_UNAVAILABLE;
    exchange->error = g_error_copy(error);
    vr_exchange_fail(exchange, status, code, error->message);
}

enum MHD_Result vr_exchange_send(VrExchange *exchange)
{
    struct MHD_Connection *connection = exchange->request->connection;
    gboolean text = exchange->match.route && exchange->match.route->kind == VR_ROUTE_TEXT;

    if (exchange->error)
        return vr_answer_json(connection, exchange->status, NULL, vr_error_json(exchange->error));
    if (exchange->refused)
        return vr_answer_refusal(connection, exchange->http_code, exchange->message);
    if (exchange->message)
        return vr_answer_error(connection, exchange->status, exchange->code, exchange->message);
    if (exchange->out >= 0)
        return vr_answer_file(connection, exchange->status, text ? TYPE_OPENMETRICS : TYPE_JSON,
                              vr_fd_steal(&exchange->out), exchange->out_size);
    return vr_answer_json(connection, exchange->status, exchange->location,
                          exchange->document ? json_incref(exchange->document) : json_object());
}

/* ---- jobs ---- */

static void on_captured(VrJobOutput *output, void *data)
{
    VrExchange *exchange = data;

    exchange->capture = NULL;
    exchange->step(exchange, output);
}

static int make_input(const char *text, GError **error)
{
    vr_autofd fd = memfd_create("input", MFD_CLOEXEC);
    gsize length = strlen(text);

    if (fd >= 0 && write(fd, text, length) == (ssize_t)length && lseek(fd, 0, SEEK_SET) == 0)
        return vr_fd_steal(&fd);
    vr_set_error_errno(error, errno, "cannot make a file in memory for a model");
    return -1;
}

void vr_exchange_run(VrExchange *exchange, const char *const *words, const char *input, VrExchangeStep step)
{
    const VrRoute *route = exchange->match.route;
    const VrPeer *peer = exchange->request->peer;
    VrJobRequest request = {.argv = words,
                            .fds = {-1, -1, -1},
                            .cwd = -1,
                            .timeout_ms = g_str_equal(route->method, MHD_HTTP_METHOD_GET) ? READING_MS : 0,
                            .uid = peer->uid,
                            .read_only = peer->read_only};
    g_autoptr(GError) error = NULL;
    vr_autofd in = input ? make_input(input, &error) : -1;

    request.fds[0] = in;
    exchange->step = step;
    if (!error)
        exchange->capture = vr_jobs_capture(exchange->jobs, &request, on_captured, exchange, &error);
    if (error)
        vr_exchange_fail_error(exchange, error);
}

gboolean vr_exchange_check(VrExchange *exchange, const VrJobOutput *output, const char *before)
{
    int code = vr_error_code_named(output->code);
    g_autofree char *message = NULL;

    if (output->exit_status == 0)
        return TRUE;
    if (output->error) {
        exchange->error = g_error_copy(output->error);
        g_prefix_error(&exchange->error, "%s", before ? before : "");
        message = g_strdup(exchange->error->message);
    } else if (output->exit_status == VR_JOB_UNKNOWN) {
        message = g_strdup("what became of the command is not known; 'virt-reimage status' shows the set");
    } else {
        message = g_strdup_printf("%sthe command ended with status %d", before ? before : "", output->exit_status);
    }
    vr_exchange_fail(exchange, status_of(code, output->exit_status), code, message);
    return FALSE;
}

char *vr_exchange_read(const VrJobOutput *output, gsize max)
{
    g_autofree char *text = output->out_size <= max ? g_malloc0(output->out_size + 1) : NULL;

    if (!text || pread(output->out, text, output->out_size, 0) != (ssize_t)output->out_size)
        return NULL;
    return g_steal_pointer(&text);
}

/* ---- its answer by the route's kind ---- */

static json_t *lines_of(const VrJobOutput *output)
{
    g_autofree char *text = vr_exchange_read(output, LINES_MAX);
    g_auto(GStrv) lines = g_strsplit(text ? text : "", "\n", -1);
    json_t *messages = json_array();

    for (char **line = lines; *line; line++) {
        g_autofree char *shown = vr_printable(*line, -1);
        if (*shown)
            json_array_append_new(messages, json_string(shown));
    }
    return json_pack("{s:o}", "messages", messages);
}

static void settle_accepted(VrExchange *exchange, const VrJobOutput *output)
{
    g_autofree char *set = g_uri_escape_string(vr_route_value(&exchange->match, "set"), NULL, FALSE);

    exchange->location = g_strdup_printf("/virtualMachineScaleSets/%s/rollingUpgrades/latest", set);
    exchange->document = NULL;
    vr_exchange_settle(exchange, MHD_HTTP_ACCEPTED);
}

/* A plan that would stop is a plan. */
static gboolean is_answer(const VrExchange *exchange, const VrJobOutput *output)
{
    return exchange->match.route->kind == VR_ROUTE_DOCUMENT && output->out_size > 0 &&
           g_str_has_prefix(exchange->match.route->words, "plan ") &&
           (output->exit_status == 3 || output->exit_status == 4);
}

void vr_exchange_take_answer(VrExchange *exchange, VrJobOutput *output)
{
    if (!is_answer(exchange, output) && !vr_exchange_check(exchange, output, NULL))
        return;
    switch (exchange->match.route->kind) {
    case VR_ROUTE_LONG:
        settle_accepted(exchange, output);
        return;
    case VR_ROUTE_LINES:
        exchange->document = lines_of(output);
        break;
    default:
        exchange->out_size = output->out_size;
        exchange->out = vr_fd_steal(&output->out);
    }
    vr_exchange_settle(exchange, MHD_HTTP_OK);
}
