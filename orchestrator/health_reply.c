/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/health_reply.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define STATE_KEY "ApplicationHealthState"
#define PHASE_MAX 1000000

const char *vr_health_state_name(VrHealthState state)
{
    static const char *const names[] = {"Initializing", "Healthy", "Unhealthy", "Unknown"};

    return (guint)state < G_N_ELEMENTS(names) ? names[state] : "?";
}

void vr_health_reply_clear(VrHealthReply *reply)
{
    g_free(reply->metrics);
    *reply = (VrHealthReply){.state = VR_HEALTH_UNKNOWN};
}

/* The member of that name in any case; two spellings of it contradict each other, and count as none. */
static json_t *member(json_t *object, const char *name)
{
    const char *key;
    json_t *value, *found = NULL;

    json_object_foreach(object, key, value)
    {
        if (g_ascii_strcasecmp(key, name) != 0)
            continue;
        if (found)
            return NULL;
        found = value;
    }
    return found;
}

static gboolean names_state(const char *body, gsize length)
{
    gsize key = strlen(STATE_KEY);

    for (gsize i = 0; i + key <= length; i++)
        if (g_ascii_strncasecmp(body + i, STATE_KEY, key) == 0)
            return TRUE;
    return FALSE;
}

static void read_phase(const json_t *value, VrHealthReply *reply)
{
    const char *text = json_string_value(value);
    guint64 number = 0;

    if (json_is_integer(value) && json_integer_value(value) >= 0 && json_integer_value(value) <= PHASE_MAX)
        number = (guint64)json_integer_value(value);
    else if (!text || !g_ascii_string_to_unsigned(text, 10, 0, PHASE_MAX, &number, NULL))
        return;
    reply->wish.phase = (guint)number + 1;
}

static void read_metrics(json_t *value, VrHealthReply *reply)
{
    const char *text = json_string_value(value);
    json_auto_t *inside = text ? json_loads(text, JSON_REJECT_DUPLICATES, NULL) : NULL;
    json_t *metrics = inside ? inside : value;
    json_t *rolling = member(metrics, "rollingUpgrade"), *skip = member(rolling, "SkipUpgrade");
    char *dump = json_dumps(metrics, JSON_COMPACT | JSON_ENCODE_ANY);

    reply->metrics = g_strdup(dump);
    free(dump);
    read_phase(member(rolling, "PhaseOrderingNumber"), reply);
    reply->wish.skip =
        json_is_true(skip) || (json_is_string(skip) && g_ascii_strcasecmp(json_string_value(skip), "true") == 0);
}

gboolean vr_health_reply_parse(const char *body, gsize length, VrHealthReply *reply)
{
    json_auto_t *root = NULL;
    const char *said;
    json_t *metrics;

    vr_health_reply_clear(reply);
    if (!names_state(body, length))
        return FALSE;
    root = json_loadb(body, length, JSON_REJECT_DUPLICATES, NULL);
    said = json_string_value(member(root, STATE_KEY));
    reply->text = "says neither Healthy nor Unhealthy";
    if (!said)
        return TRUE;
    if (g_ascii_strcasecmp(said, "Healthy") == 0) {
        reply->state = VR_HEALTH_HEALTHY;
        reply->text = "says Healthy";
    } else if (g_ascii_strcasecmp(said, "Unhealthy") == 0) {
        reply->state = VR_HEALTH_UNHEALTHY;
        reply->text = "says Unhealthy";
    }
    metrics = member(root, "customMetrics");
    if (metrics)
        read_metrics(metrics, reply);
    return TRUE;
}
