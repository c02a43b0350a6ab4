/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * We accept, and libmicrohttpd is given only connections that may be. Its epoll descriptor and its next deadline are one source of the main loop.
 *
 * The life of a connection: accepted -> counted -> `begin` of libmicrohttpd -> requests, one after the other -> `end`, where its count goes. A
 * deadline that passes shuts the socket down in both directions; libmicrohttpd sees the end of the stream and closes it.
 */
#include "orchestrator/daemon/server.h"

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "orchestrator/daemon/answers.h"

#include <errno.h>
#include <glib-unix.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define IDLE_S 10
#define REQUEST_S 30
#define MEMORY 16384 /* of a connection: request line, headers, answer's headers */
#define BODIES_MAX (8 * 1024 * 1024)
#define ACCEPT_AT_ONCE 64
#define ACCEPT_PAUSE_MS 200 /* when descriptors or memory have run out */
#define DROPPED_MAX (4 * 1024 * 1024)

typedef struct {
    VrPeer peer;
    VrServer *server;
    guint deadline; /* a source; 0: none */
} Connection;

typedef struct {
    VrServer *server;
    VrListen listen;
    guint source; /* watching, or pausing; 0: neither */
} Door;

struct VrServer {
    struct MHD_Daemon *daemon;
    GSource *source;
    VrServerHandler handler;
    void *data;
    VrPeers *peers;
    GHashTable *by_fd;   /* int -> Connection *, owned */
    GHashTable *waiting; /* VrRequest *, not owned */
    gsize bodies;        /* bytes of bodies that are held */
    gboolean resumed;    /* a connection was resumed, of which MHD_get_timeout() does not tell */
    Door doors[2];
};

/* ---- libmicrohttpd on the main loop ---- */

typedef struct {
    GSource source;
    VrServer *server;
    gpointer tag;
} HttpSource;

static gboolean http_prepare(GSource *source, int *timeout)
{
    const VrServer *server = ((HttpSource *)source)->server;
    MHD_UNSIGNED_LONG_LONG ms = 0;

    *timeout = server->resumed ? 0 : -1;
    if (!server->resumed && MHD_get_timeout(server->daemon, &ms) == MHD_YES)
        *timeout = (int)MIN(ms, (MHD_UNSIGNED_LONG_LONG)G_MAXINT);
    return *timeout == 0;
}

static gboolean http_check(GSource *source)
{
    HttpSource *http = (HttpSource *)source;
    MHD_UNSIGNED_LONG_LONG ms = 0;

    return g_source_query_unix_fd(source, http->tag) != 0 ||
           (MHD_get_timeout(http->server->daemon, &ms) == MHD_YES && ms == 0);
}

static gboolean http_dispatch(GSource *source, GSourceFunc unused, gpointer data)
{
    VrServer *server = ((HttpSource *)source)->server;

    server->resumed = FALSE;
    (void)MHD_run(server->daemon);
    return G_SOURCE_CONTINUE;
}

static void attach(VrServer *server)
{
    static GSourceFuncs functions = {.prepare = http_prepare, .check = http_check, .dispatch = http_dispatch};
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    HttpSource *http;

    server->source = g_source_new(&functions, sizeof(HttpSource));
    http = (HttpSource *)server->source;
    http->server = server;
    http->tag = g_source_add_unix_fd(server->source, info->epoll_fd, G_IO_IN);
    g_source_attach(server->source, NULL);
}

/* ---- connections ---- */

static void connection_free(Connection *connection)
{
    g_clear_handle_id(&connection->deadline, g_source_remove);
    g_free(connection);
}

static gboolean on_deadline(gpointer data)
{
    Connection *connection = data;

    connection->deadline = 0;
    (void)shutdown(connection->peer.fd, SHUT_RDWR);
    return G_SOURCE_REMOVE;
}

static void set_deadline(Connection *connection, gboolean on)
{
    g_clear_handle_id(&connection->deadline, g_source_remove);
    if (on)
        connection->deadline = g_timeout_add_seconds(REQUEST_S, on_deadline, connection);
}

static Connection *connection_of(const VrServer *server, struct MHD_Connection *of)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(of, MHD_CONNECTION_INFO_CONNECTION_FD);

    return info ? g_hash_table_lookup(server->by_fd, GINT_TO_POINTER(info->connect_fd)) : NULL;
}

static void on_connection(void *data, struct MHD_Connection *of, void **context,
                          enum MHD_ConnectionNotificationCode code)
{
    VrServer *server = data;
    Connection *connection = code == MHD_CONNECTION_NOTIFY_STARTED ? connection_of(server, of) : *context;

    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        *context = connection;
        set_deadline(connection, TRUE);
    } else if (connection) {
        vr_peers_remove(server->peers, &connection->peer);
        g_hash_table_remove(server->by_fd, GINT_TO_POINTER(connection->peer.fd));
    }
}

/* ---- accepting ---- */

/* In one piece or not at all: who is refused is not waited for. */
static void refuse(int fd, const char *status, const char *code, const char *message)
{
    g_autofree char *body = g_strdup_printf("{\"error\":{\"code\":\"%s\",\"message\":\"%s\"}}", code, message);
    g_autofree char *text = g_strdup_printf("HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n"
                                            "Connection: close\r\n\r\n%s",
                                            status, strlen(body), body);

    (void)!send(fd, text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void let_in(VrServer *server, const VrPeer *peer, int *fd)
{
    Connection *connection = g_new0(Connection, 1);
    struct sockaddr address = {.sa_family = AF_UNIX};

    connection->peer = *peer;
    connection->server = server;
    g_hash_table_insert(server->by_fd, GINT_TO_POINTER(*fd), connection);
    /* Closes it when it fails, and then has not always told on_connection(). */
    if (MHD_add_connection(server->daemon, vr_fd_steal(fd), &address, sizeof address.sa_family) != MHD_YES &&
        g_hash_table_lookup(server->by_fd, GINT_TO_POINTER(peer->fd)) == connection) {
        vr_peers_remove(server->peers, peer);
        g_hash_table_remove(server->by_fd, GINT_TO_POINTER(peer->fd));
    }
}

static void meet(Door *door, int *fd)
{
    VrServer *server = door->server;
    VrPeer peer;

    if (!vr_peer_read(*fd, &peer))
        return;
    peer.read_only = door->listen.read_only;
    if (!vr_peer_may(server->peers, &peer, door->listen.group))
        refuse(*fd, "403 Forbidden", vr_http_code_info(VR_HTTP_FORBIDDEN)->name,
               "this socket is for root and the group " VR_SOCKET_GROUP "; " VR_SOCKET_RO_NAME " is for everybody");
    else if (!vr_peers_add(server->peers, &peer))
        refuse(*fd, "503 Service Unavailable", vr_error_name(VR_ERROR_BUSY),
               "too many connections are open; close some, and try again");
    else
        let_in(server, &peer, fd);
}

static gboolean on_door(int fd, GIOCondition condition, gpointer data);

static gboolean end_pause(gpointer data)
{
    Door *door = data;

    door->source = g_unix_fd_add(door->listen.fd, G_IO_IN, on_door, door);
    return G_SOURCE_REMOVE;
}

static gboolean on_door(int fd, GIOCondition condition, gpointer data)
{
    Door *door = data;

    for (guint i = 0; i < ACCEPT_AT_ONCE; i++) {
        vr_autofd peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (peer >= 0) {
            meet(door, &peer);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            /* it stays readable, so the loop would spin */
            door->source = g_timeout_add(ACCEPT_PAUSE_MS, end_pause, door);
            return G_SOURCE_REMOVE;
        } else if (errno != EINTR && errno != ECONNABORTED) {
            break;
        }
    }
    return G_SOURCE_CONTINUE;
}

void vr_server_listen(VrServer *server, const VrListens *listens)
{
    for (guint i = 0; i < G_N_ELEMENTS(server->doors); i++) {
        Door *door = &server->doors[i];
        if (listens->sockets[i].fd < 0)
            continue;
        door->server = server;
        door->listen = listens->sockets[i];
        (void)end_pause(door);
    }
}

/* ---- requests ---- */

static VrRequest *request_new(VrServer *server, struct MHD_Connection *of, const char *url, const char *method)
{
    VrRequest *request = g_new0(VrRequest, 1);

    request->connection = of;
    request->peer = &connection_of(server, of)->peer;
    request->method = g_strdup(method);
    request->path = g_strdup(url);
    request->server = server;
    return request;
}

static void request_free(VrRequest *request)
{
    if (request->data && request->free_data)
        request->free_data(request->data);
    if (request->body) {
        request->server->bodies -= request->body->len;
        g_string_free(request->body, TRUE);
    }
    g_hash_table_remove(request->server->waiting, request);
    g_free(request->method);
    g_free(request->path);
    g_free(request);
}

/* So much that its end is not waited for: who is told while he still sends may not hear it. */
static gboolean says_too_much(struct MHD_Connection *of)
{
    const char *value = MHD_lookup_connection_value(of, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);
    guint64 length = 0;

    return value && !g_ascii_string_to_unsigned(value, 10, 0, DROPPED_MAX, &length, NULL);
}

/* FALSE: this is one to hang up on. */
static gboolean take_body(VrRequest *request, const char *bytes, gsize length)
{
    VrServer *server = request->server;

    if (!request->body)
        request->body = g_string_new(NULL);
    if (!request->too_large && request->body->len + length <= VR_SERVER_BODY_MAX &&
        server->bodies + length <= BODIES_MAX) {
        g_string_append_len(request->body, bytes, (gssize)length);
        server->bodies += length;
        return TRUE;
    }
    request->too_large = TRUE; /* answered when it has been read, if that is soon */
    request->dropped += length;
    return request->dropped <= DROPPED_MAX;
}

static enum MHD_Result too_large(struct MHD_Connection *of)
{
    return vr_answer_refusal(of, VR_HTTP_TOO_LARGE, "a body may have 1 MiB, and all bodies that are being read 8 MiB");
}

/* Called once with the headers, then for each piece of the body, then once more without a piece; and once more when it was
 * suspended and goes on. */
static enum MHD_Result handle(void *data, struct MHD_Connection *of, const char *url, const char *method,
                              const char *version, const char *upload, size_t *upload_size, void **context)
{
    VrServer *server = data;
    VrRequest *request = *context;

    if (!request) {
        *context = request_new(server, of, url, method);
        return says_too_much(of) ? too_large(of) : MHD_YES;
    }
    if (*upload_size > 0) {
        gsize length = *upload_size;
        *upload_size = 0;
        return take_body(request, upload, length) ? MHD_YES : MHD_NO; /* NO closes the connection */
    }
    if (request->too_large)
        return too_large(of);
    return server->handler(server->data, request);
}

static void on_completed(void *data, struct MHD_Connection *of, void **context, enum MHD_RequestTerminationCode code)
{
    Connection *connection = connection_of(data, of);

    if (*context)
        request_free(*context);
    *context = NULL;
    if (connection)
        set_deadline(connection, TRUE); /* the next request of this connection */
}

void vr_request_wait(VrRequest *request)
{
    set_deadline(connection_of(request->server, request->connection), FALSE);
    request->waiting = TRUE;
    g_hash_table_add(request->server->waiting, request);
    MHD_suspend_connection(request->connection);
}

void vr_request_go_on(VrRequest *request)
{
    if (!request->waiting)
        return;
    request->waiting = FALSE;
    g_hash_table_remove(request->server->waiting, request);
    set_deadline(connection_of(request->server, request->connection), TRUE);
    request->server->resumed = TRUE;
    MHD_resume_connection(request->connection);
}

void vr_request_keep(VrRequest *request)
{
    set_deadline(connection_of(request->server, request->connection), FALSE);
}

/* ---- its life ---- */

static void log_line(void *data, const char *format, va_list args)
{
    char line[512];

    vsnprintf(line, sizeof line, format, args);
    vr_debug("http: %s", g_strchomp(line));
}

/* A path is taken apart before it is unescaped, so that %2F in a name is not a border. */
static size_t leave_escaped(void *data, struct MHD_Connection *of, char *text)
{
    return strlen(text);
}

VrServer *vr_server_new(VrServerHandler handler, void *data, GError **error)
{
    g_autoptr(VrServer) server = g_new0(VrServer, 1);

    server->handler = handler;
    server->data = data;
    server->peers = vr_peers_new(geteuid());
    server->by_fd = g_hash_table_new_full(NULL, NULL, NULL, (GDestroyNotify)connection_free);
    server->waiting = g_hash_table_new(NULL, NULL);
    server->daemon = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME | MHD_ALLOW_UPGRADE | MHD_USE_ERROR_LOG, 0,
        NULL, NULL, handle, server, MHD_OPTION_EXTERNAL_LOGGER, log_line, NULL, MHD_OPTION_CONNECTION_LIMIT,
        2u * (VR_PEERS_PER_SOCKET + VR_PEERS_RESERVE), MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_S,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)MEMORY, MHD_OPTION_NOTIFY_COMPLETED, on_completed, server,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, server, MHD_OPTION_UNESCAPE_CALLBACK, leave_escaped, NULL,
        MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_END);
    if (!server->daemon) {
        g_set_error(error, VR_ERROR, VR_ERROR_FAILED, "cannot serve HTTP: libmicrohttpd does not start");
        return NULL;
    }
    attach(server);
    return g_steal_pointer(&server);
}

/* libmicrohttpd stops with no connection suspended. */
static void drop_waiting(VrServer *server)
{
    GHashTableIter iter;
    gpointer request;

    g_hash_table_iter_init(&iter, server->waiting);
    while (g_hash_table_iter_next(&iter, &request, NULL)) {
        VrRequest *one = request;
        one->waiting = FALSE;
        g_hash_table_iter_remove(&iter);
        MHD_resume_connection(one->connection);
    }
}

void vr_server_free(VrServer *server)
{
    if (!server)
        return;
    for (guint i = 0; i < G_N_ELEMENTS(server->doors); i++)
        g_clear_handle_id(&server->doors[i].source, g_source_remove);
    if (server->source) {
        g_source_destroy(server->source);
        g_source_unref(server->source);
    }
    if (server->daemon) {
        drop_waiting(server);
        MHD_stop_daemon(server->daemon);
    }
    g_clear_pointer(&server->by_fd, g_hash_table_unref);
    g_clear_pointer(&server->waiting, g_hash_table_unref);
    g_clear_pointer(&server->peers, vr_peers_free);
    g_free(server);
}

void vr_server_look(VrServer *server)
{
    server->resumed = TRUE;
}

guint vr_server_connections(const VrServer *server)
{
    return vr_peers_count(server->peers);
}
