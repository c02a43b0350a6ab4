/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/health_signals.h"

#include "base/clock.h"
#include "base/error.h"
#include "hv/guest_agent.h"

#include <jansson.h>

#define AGENT_PING_S 3
#define MAX_STATUS_BYTES (64 * 1024)

static void signal_free(gpointer data)
{
    VrHealthSignal *signal = data;

    g_free(signal->state);
    g_free(signal);
}

/* Takes the state. */
static void add(GPtrArray *signals, const char *name, const char *label, char *state)
{
    VrHealthSignal *signal = g_new0(VrHealthSignal, 1);

    signal->name = name;
    signal->label = label;
    signal->state = state;
    signal->at_us = vr_clock_wall_us();
    g_ptr_array_add(signals, signal);
}

static json_t *read_status(VrHv *hv, const char *uuid, const char *path, gint64 deadline_ms)
{
    gsize length = 0;
    g_autofree char *text = vr_agent_read_file(hv, uuid, path, MAX_STATUS_BYTES, deadline_ms, &length, NULL);

    return text ? json_loadb(text, length, JSON_REJECT_DUPLICATES, NULL) : NULL;
}

/* cloud-init writes status.json while it works and result.json when it is through. */
static char *cloud_init_state(VrHv *hv, const char *uuid, gint64 deadline_ms)
{
    json_auto_t *result = read_status(hv, uuid, "/run/cloud-init/result.json", deadline_ms);
    json_auto_t *status = result ? NULL : read_status(hv, uuid, "/run/cloud-init/status.json", deadline_ms);
    const json_t *errors = json_object_get(json_object_get(result, "v1"), "errors");
    const char *stage = json_string_value(json_object_get(json_object_get(status, "v1"), "stage"));
    g_autofree char *shown = NULL;

    if (errors && json_array_size(errors) == 0)
        return g_strdup("done");
    if (errors) {
        shown = vr_printable(json_string_value(json_array_get(errors, 0)), -1);
        return g_strdup_printf("done with %zu error%s, the first: %s", json_array_size(errors),
                               json_array_size(errors) == 1 ? "" : "s", shown);
    }
    if (stage) {
        shown = vr_printable(stage, -1);
        return g_strdup_printf("running: %s", shown);
    }
    return g_strdup(status ? "running" : "not there");
}

GPtrArray *vr_health_signals(VrHv *hv, const char *uuid, gint64 deadline_ms)
{
    GPtrArray *signals = g_ptr_array_new_with_free_func(signal_free);
    g_autoptr(GError) local = NULL;
    char *boot_id;

    if (!vr_agent_ping(hv, uuid, AGENT_PING_S, &local)) {
        add(signals, "agent", "Agent", g_strdup_printf("does not answer: %s", local->message));
        return signals;
    }
    add(signals, "agent", "Agent", g_strdup("answers"));
    boot_id = vr_agent_boot_id(hv, uuid, deadline_ms, &local);
    add(signals, "bootId", "Boot id", boot_id ? boot_id : g_strdup_printf("not known: %s", local->message));
    add(signals, "cloudInit", "cloud-init", cloud_init_state(hv, uuid, deadline_ms));
    return signals;
}
