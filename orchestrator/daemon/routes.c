/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/daemon/routes.h"

#include "base/error.h"
#include "orchestrator/daemon/answers.h"
#include "orchestrator/daemon/exchange.h"
#include "orchestrator/daemon/route_words.h"

#include <string.h>
#include <unistd.h>

#define PATH_SHOWN 200 /* bytes of a path that is not there */

struct VrRoutes {
    VrRoutesConfig config; /* its strings are owned */
    GHashTable *patching;  /* names of sets that a PATCH is at; owned */
    gboolean stopping;
};

VrRoutes *vr_routes_new(const VrRoutesConfig *config)
{
    VrRoutes *routes = g_new0(VrRoutes, 1);

    routes->config = *config;
    routes->config.uri = g_strdup(config->uri);
    routes->config.root = g_strdup(config->root);
    routes->patching = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    return routes;
}

void vr_routes_free(VrRoutes *routes)
{
    if (!routes)
        return;
    g_free((char *)routes->config.uri);
    g_free((char *)routes->config.root);
    g_hash_table_unref(routes->patching);
    g_free(routes);
}

void vr_routes_stop(VrRoutes *routes)
{
    routes->stopping = TRUE;
}

/* ---- what the daemon says of itself ---- */

static enum MHD_Result answer_about(const VrRoutes *routes, VrRequest *request)
{
    json_t *versions = json_array();

    for (const char *const *version = vr_route_api_versions; *version; version++)
        json_array_append_new(versions, json_string(*version));
    return vr_answer_json(request->connection, MHD_HTTP_OK, NULL,
                          json_pack("{s:s, s:s, s:o, s:s?, s:s?, s:I, s:i, s:b}", "program", "virt-reimaged", "version",
                                    VR_VERSION, "apiVersions", versions, "uri", routes->config.uri, "root",
                                    routes->config.root, "pid", (json_int_t)getpid(), "jobs",
                                    (int)vr_jobs_running(routes->config.jobs), "stopping", routes->stopping));
}

/* ---- the query ---- */

typedef struct {
    GHashTable *values;
    gboolean wrong;
} Query;

static enum MHD_Result take_argument(void *data, enum MHD_ValueKind kind, const char *key, const char *value)
{
    Query *query = data;
    g_autofree char *name = g_uri_unescape_string(key, NULL);
    g_autofree char *text = g_uri_unescape_string(value ? value : "", NULL);

    if (!name || !text || !g_utf8_validate(name, -1, NULL) || !g_utf8_validate(text, -1, NULL) ||
        g_hash_table_contains(query->values, name)) {
        query->wrong = TRUE;
        return MHD_NO;
    }
    g_hash_table_insert(query->values, g_steal_pointer(&name), g_steal_pointer(&text));
    return MHD_YES;
}

/* NULL: something comes twice, or is no text. */
static GHashTable *read_query(struct MHD_Connection *connection)
{
    Query query = {g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free), FALSE};

    MHD_get_connection_values(connection, MHD_GET_ARGUMENT_KIND, take_argument, &query);
    if (query.wrong)
        g_clear_pointer(&query.values, g_hash_table_unref);
    return query.values;
}

/* K7 */
static gboolean is_known_version(GHashTable *query)
{
    const char *version = g_hash_table_lookup(query, "api-version");

    return !version || g_strv_contains(vr_route_api_versions, version);
}

/* ---- routes that are jobs ---- */

static void fail_without_route(VrExchange *exchange)
{
    g_autofree char *path =
                        vr_printable(exchange->request->path, (gssize)MIN(strlen(exchange->request->path), PATH_SHOWN)),
                    *message = NULL;

    if (exchange->match.path_known) {
        g_autofree char *methods = vr_route_methods(exchange->request->path);
        message = g_strdup_printf("%s is there, and is for %s only", path, methods);
        vr_exchange_refuse(exchange, VR_HTTP_METHOD_NOT_ALLOWED, message);
        return;
    }
    message = g_strdup_printf("there is no path %s; docs/http.md lists those that are", path);
    vr_exchange_fail(exchange, MHD_HTTP_NOT_FOUND, VR_ERROR_NOT_FOUND, message);
}

static gboolean has_no_route(VrExchange *exchange)
{
    const VrRouteMatch *match = &exchange->match;
    const VrPeer *peer = exchange->request->peer;

    if (!match->route)
        fail_without_route(exchange);
    else if (peer->read_only && !match->route->read_only)
        vr_exchange_refuse(exchange, VR_HTTP_FORBIDDEN,
                           "this socket only reads; " VR_SOCKET_NAME " is for root and the group " VR_SOCKET_GROUP);
    else
        return FALSE;
    return TRUE;
}

static gboolean is_badly_put(VrExchange *exchange)
{
    const GString *body = exchange->request->body;
    g_autoptr(GError) error = NULL;

    if (!exchange->query) {
        vr_exchange_fail(exchange, MHD_HTTP_BAD_REQUEST, VR_ERROR_USAGE,
                         "the query is no text, or says something twice");
        return TRUE;
    }
    if (!is_known_version(exchange->query)) {
        vr_exchange_refuse(exchange, VR_HTTP_INVALID_API_VERSION,
                           "this api-version is not known; GET / lists those that are, and it may be left out");
        return TRUE;
    }
    exchange->body = vr_body_parse(body ? body->str : NULL, body ? body->len : 0, &error);
    if (!exchange->body)
        vr_exchange_fail_error(exchange, error);
    return exchange->body == NULL;
}

static void begin_job(VrExchange *exchange)
{
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) words = vr_route_words(&exchange->match, exchange->query, exchange->body, &error);

    if (words)
        vr_exchange_run(exchange, (const char *const *)words, NULL, vr_exchange_take_answer);
    else
        vr_exchange_fail_error(exchange, error);
}

static void begin(VrExchange *exchange)
{
    if (is_badly_put(exchange))
        return;
    if (exchange->match.route->kind == VR_ROUTE_PUT)
        vr_exchange_put(exchange);
    else if (exchange->match.route->kind == VR_ROUTE_PATCH)
        vr_exchange_patch(exchange);
    else
        begin_job(exchange);
}

static enum MHD_Result answer_new(VrRoutes *routes, VrRequest *request)
{
    VrExchange *exchange = vr_exchange_new(routes->config.jobs, request);
    VrRouteKind kind;

    request->data = exchange;
    request->free_data = (void (*)(void *))vr_exchange_free;
    exchange->patching = routes->patching;
    vr_route_match(request->method, request->path, &exchange->match);
    if (has_no_route(exchange))
        return vr_exchange_send(exchange);
    kind = exchange->match.route->kind;
    if (kind == VR_ROUTE_ABOUT)
        return answer_about(routes, request);
    if (routes->stopping) {
        vr_exchange_refuse(exchange, VR_HTTP_STOPPING, "virt-reimaged is being stopped");
        return vr_exchange_send(exchange);
    }
    if (kind == VR_ROUTE_COMMANDS) {
        vr_request_keep(request);
        return routes->config.commands(routes->config.commands_data, request->connection);
    }
    exchange->query = read_query(request->connection);
    begin(exchange);
    if (exchange->settled)
        return vr_exchange_send(exchange);
    vr_request_wait(request);
    return MHD_YES;
}

enum MHD_Result vr_routes_answer(void *data, VrRequest *request)
{
    VrExchange *exchange = request->data;

    if (!exchange)
        return answer_new(data, request);
    return exchange->settled ? vr_exchange_send(exchange) : MHD_NO; /* NO: the server goes down beneath it */
}
