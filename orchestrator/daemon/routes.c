/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/daemon/routes.h"

#include "orchestrator/daemon/answers.h"

#include <unistd.h>

struct VrRoutes {
    char *uri, *root;
};

VrRoutes *vr_routes_new(const VrRoutesConfig *config)
{
    VrRoutes *routes = g_new0(VrRoutes, 1);

    routes->uri = g_strdup(config->uri);
    routes->root = g_strdup(config->root);
    return routes;
}

void vr_routes_free(VrRoutes *routes)
{
    if (!routes)
        return;
    g_free(routes->uri);
    g_free(routes->root);
    g_free(routes);
}

static enum MHD_Result answer_about(const VrRoutes *routes, VrRequest *request)
{
    return vr_answer_json(request->connection, MHD_HTTP_OK,
                          json_pack("{s:s, s:s, s:s?, s:s?, s:I}", "program", "virt-reimaged", "version", VR_VERSION,
                                    "uri", routes->uri, "root", routes->root, "pid", (json_int_t)getpid()));
}

enum MHD_Result vr_routes_answer(void *data, VrRequest *request)
{
    if (g_str_equal(request->path, "/") && g_str_equal(request->method, MHD_HTTP_METHOD_GET))
        return answer_about(data, request);
    return vr_answer_error(request->connection, MHD_HTTP_NOT_FOUND, "NotFound", "there is no such thing here");
}
