/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/control_routes.h"

static const struct {
    const char *verb;
    VrEventType type;
} routes[] = {
    {"cancel", VR_EVENT_CANCEL}, {"cancel", VR_EVENT_CANCEL_NOW}, {"pause", VR_EVENT_PAUSE},
    {"resume", VR_EVENT_RESUME}, {"promote", VR_EVENT_PROMOTE},   {"approve", VR_EVENT_APPROVE},
    {"walk", VR_EVENT_WALK},
};

const char *vr_control_verb(VrEventType type)
{
    for (guint i = 0; i < G_N_ELEMENTS(routes); i++)
        if (routes[i].type == type)
            return routes[i].verb;
    return NULL;
}

gboolean vr_control_event(const char *verb, VrEventType *type)
{
    for (guint i = 0; i < G_N_ELEMENTS(routes); i++) {
        if (!g_str_equal(routes[i].verb, verb))
            continue;
        *type = routes[i].type;
        return TRUE;
    }
    return FALSE;
}
