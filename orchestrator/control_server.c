/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One thread of libmicrohttpd serves all connections, so requests are answered one after the other. What an answer waits for is the
 * executor's next look at its queue, which is never far: that thread does no blocking work.
 */
#include "base/error.h"
#include "base/fd.h"
#include "orchestrator/control.h"
#include "orchestrator/control_routes.h"
#include "orchestrator/http_codes.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <microhttpd.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define CONNECTIONS 16
#define IDLE_S 10
#define MEMORY 16384 /* of a connection: request line, headers, answer */
#define BODY_MAX 4096

struct VrControlServer {
    struct MHD_Daemon *daemon;
    VrExecutor *executor;
    char *set_name, *run_id;
    int dir_fd;
};

/* ---- answers ---- */

static enum MHD_Result send_json(struct MHD_Connection *connection, unsigned status, json_t *document)
{
    char *text = json_dumps(document, JSON_COMPACT);
    struct MHD_Response *response = MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_COPY);
    enum MHD_Result queued;

    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "application/json");
    queued = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    free(text);
    json_decref(document);
    return queued;
}

/* code: a VrErrorCode */
static enum MHD_Result send_error(struct MHD_Connection *connection, unsigned status, int code, const char *message)
{
    return send_json(connection, status,
                     json_pack("{s:{s:s, s:s}}", "error", "code", vr_error_name(code), "message", message));
}

/* An error of the request itself. */
static enum MHD_Result send_refusal(struct MHD_Connection *connection, VrHttpCode code, const char *message)
{
    const VrHttpCodeInfo *info = vr_http_code_info(code);

    return send_json(connection, (unsigned)info->status,
                     json_pack("{s:{s:s, s:s}}", "error", "code", info->name, "message", message));
}

/* ---- who ---- */

/* "root", "admin", "uid 1234"; NULL: one who may not. Free with g_free. */
static char *peer_of(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct ucred peer;
    socklen_t length = sizeof peer;
    char buffer[1024];
    struct passwd user, *found = NULL;

    if (!info || getsockopt(info->connect_fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0)
        return NULL;
    if (peer.uid != 0 && peer.uid != geteuid())
        return NULL;
    if (getpwuid_r(peer.uid, &user, buffer, sizeof buffer, &found) == 0 && found)
        return g_strdup_printf("%s (pid %d)", user.pw_name, (int)peer.pid);
    return g_strdup_printf("uid %u (pid %d)", (unsigned)peer.uid, (int)peer.pid);
}

/* ---- routes ---- */

static json_t *probes_json(const VrControlServer *server)
{
    g_autoptr(GArray) probes = vr_executor_probes(server->executor);
    json_t *list = json_array();

    for (guint i = 0; i < probes->len; i++) {
        const VrExecutorProbe *probe = &g_array_index(probes, VrExecutorProbe, i);
        g_autofree char *text = vr_printable(probe->text, -1);
        json_array_append_new(list, json_pack("{s:s, s:s, s:I}", "uuid", probe->uuid, "text", text, "until",
                                              (json_int_t)probe->until_us));
    }
    return list;
}

/* What is not worth writing down: it is another the next moment. */
static void add_moment(const VrControlServer *server, json_t *document)
{
    g_autoptr(GArray) copies = vr_executor_copies(server->executor);
    json_t *list = json_array();

    for (guint i = 0; i < copies->len; i++) {
        const VrExecutorCopy *copy = &g_array_index(copies, VrExecutorCopy, i);
        json_array_append_new(list,
                              json_pack("{s:s, s:I, s:I, s:I}", "uuid", copy->uuid, "done", (json_int_t)copy->done,
                                        "total", (json_int_t)copy->total, "bytesPerSecond", (json_int_t)copy->rate));
    }
    json_object_set_new(document, "copies", list);
    json_object_set_new(document, "probes", probes_json(server));
    json_object_set_new(document, "wakesAt", json_integer(vr_executor_wakes_us(server->executor)));
}

/* What a new process would go on from is in the history, and nobody else's business. */
static void leave_out_memory(json_t *document)
{
    static const char *const keys[] = {"rollout", "seen", "seenBoot"};

    for (guint i = 0; i < G_N_ELEMENTS(keys); i++)
        (void)json_object_del(document, keys[i]);
}

static enum MHD_Result get_latest(VrControlServer *server, struct MHD_Connection *connection)
{
    g_autofree char *state = vr_executor_state(server->executor);
    json_t *document = state ? json_loads(state, 0, NULL) : NULL;

    if (!document)
        return send_refusal(connection, VR_HTTP_NOT_READY, "the run has not begun");
    leave_out_memory(document);
    json_object_set_new(document, "runId", json_string(server->run_id));
    add_moment(server, document);
    return send_json(connection, MHD_HTTP_OK, document);
}

/* walk's ?upgradeDomain=N. */
static gboolean read_domain(struct MHD_Connection *connection, guint *domain)
{
    const char *value = MHD_lookup_connection_value(connection, MHD_GET_ARGUMENT_KIND, "upgradeDomain");
    guint64 number;

    if (!value || !g_ascii_string_to_unsigned(value, 10, 0, G_MAXUINT - 1, &number, NULL))
        return FALSE;
    *domain = (guint)number;
    return TRUE;
}

static enum MHD_Result post(VrControlServer *server, struct MHD_Connection *connection, VrEventType type,
                            const char *who)
{
    const char *now = MHD_lookup_connection_value(connection, MHD_GET_ARGUMENT_KIND, "now");
    g_autofree char *text = NULL;
    g_autoptr(GError) local = NULL;
    VrAnswer answer;
    guint domain = 0;

    if (type == VR_EVENT_WALK && !read_domain(connection, &domain))
        return send_error(connection, MHD_HTTP_BAD_REQUEST, VR_ERROR_USAGE, "upgradeDomain must be a number from 0");
    if (type == VR_EVENT_CANCEL && g_strcmp0(now, "true") == 0)
        type = VR_EVENT_CANCEL_NOW;
    if (!vr_executor_control(server->executor, type, domain, who, &answer, &text, &local))
        return send_error(connection, MHD_HTTP_CONFLICT, VR_ERROR_CONFLICT, local->message);
    return send_json(connection, answer == VR_ANSWER_BORDER ? MHD_HTTP_ACCEPTED : MHD_HTTP_OK,
                     json_pack("{s:s, s:s}", "answer", vr_answer_name(answer), "message", text));
}

/* What follows /virtualMachineScaleSets/SET/rollingUpgrades/ of our set; NULL: another path. */
static const char *verb_of(const VrControlServer *server, const char *url)
{
    gsize length = strlen(server->set_name);

    if (!g_str_has_prefix(url, VR_CONTROL_PREFIX))
        return NULL;
    url += strlen(VR_CONTROL_PREFIX);
    if (strncmp(url, server->set_name, length) != 0 || !g_str_has_prefix(url + length, VR_CONTROL_MIDDLE))
        return NULL;
    return url + length + strlen(VR_CONTROL_MIDDLE);
}

static enum MHD_Result route(VrControlServer *server, struct MHD_Connection *connection, const char *url,
                             const char *method)
{
    const char *verb = verb_of(server, url);
    g_autofree char *who = peer_of(connection);
    gboolean is_get = g_str_equal(method, MHD_HTTP_METHOD_GET);
    VrEventType type;

    if (!who)
        return send_refusal(connection, VR_HTTP_FORBIDDEN, "only root and the owner of the run are let in");
    if (verb && g_str_equal(verb, VR_CONTROL_LATEST) && is_get)
        return get_latest(server, connection);
    if (!verb || (!g_str_equal(verb, VR_CONTROL_LATEST) && !vr_control_event(verb, &type)))
        return send_error(connection, MHD_HTTP_NOT_FOUND, VR_ERROR_NOT_FOUND, "there is no such thing here");
    if (g_str_equal(verb, VR_CONTROL_LATEST) || !g_str_equal(method, MHD_HTTP_METHOD_POST))
        return send_refusal(connection, VR_HTTP_METHOD_NOT_ALLOWED, "GET latest, POST the others");
    return post(server, connection, type, who);
}

/* Called once with the headers, then for each piece of the body, then once more without a piece. Bodies say nothing here. */
static enum MHD_Result handle(void *data, struct MHD_Connection *connection, const char *url, const char *method,
                              const char *version, const char *upload, size_t *upload_size, void **request)
{
    gsize *taken = *request;

    if (!taken) {
        *request = g_new0(gsize, 1);
        return MHD_YES;
    }
    if (*upload_size > 0) {
        *taken += *upload_size;
        *upload_size = 0;
        return *taken > BODY_MAX ? MHD_NO : MHD_YES; /* NO closes the connection */
    }
    return route(data, connection, url, method);
}

static void completed(void *data, struct MHD_Connection *connection, void **request,
                      enum MHD_RequestTerminationCode code)
{
    g_clear_pointer(request, g_free);
}

/* ---- the socket ---- */

static int listen_in(int dir_fd, GError **error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    vr_autofd fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    g_snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/" VR_CONTROL_SOCKET, dir_fd);
    if (unlinkat(dir_fd, VR_CONTROL_SOCKET, 0) < 0 && errno != ENOENT) {
        vr_set_error_errno(error, errno, "cannot remove the control socket of a run that is gone");
        return -1;
    }
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, CONNECTIONS) < 0) {
        vr_set_error_errno(error, errno, "cannot listen on the control socket of the run");
        return -1;
    }
    return vr_fd_steal(&fd);
}

VrControlServer *vr_control_server_new(int dir_fd, const VrRun *run, VrExecutor *executor, GError **error)
{
    g_autoptr(VrControlServer) server = g_new0(VrControlServer, 1);
    vr_autofd fd = -1;

    server->executor = executor;
    server->set_name = g_strdup(run->set_name);
    server->run_id = g_strdup(run->id);
    server->dir_fd = fcntl(dir_fd, F_DUPFD_CLOEXEC, 3);
    fd = listen_in(server->dir_fd, error);
    if (fd < 0)
        return NULL;
    server->daemon =
        MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL | MHD_USE_ITC, 0, NULL, NULL, handle, server,
                         MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS,
                         MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                         (size_t)MEMORY, MHD_OPTION_NOTIFY_COMPLETED, completed, NULL, MHD_OPTION_END);
    if (!server->daemon) {
        g_set_error(error, VR_ERROR, VR_ERROR_FAILED, "cannot serve the control socket of the run");
        return NULL;
    }
    (void)vr_fd_steal(&fd); /* the daemon's */
    return g_steal_pointer(&server);
}

void vr_control_server_free(VrControlServer *server)
{
    if (!server)
        return;
    if (server->daemon) {
        MHD_stop_daemon(server->daemon);
        (void)unlinkat(server->dir_fd, VR_CONTROL_SOCKET, 0); /* what stays is removed by the next run */
    }
    vr_fd_clear(&server->dir_fd);
    g_free(server->set_name);
    g_free(server->run_id);
    g_free(server);
}
