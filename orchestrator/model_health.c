/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/model_health.h"

#include "base/clock.h"
#include "orchestrator/address.h"

#include <string.h>

#define HEALTH "healthProfile.applicationHealth"
#define AUTOMATIC "upgradePolicy.automaticOSUpgradePolicy.enableAutomaticOSUpgrade"
#define MODEL(field) G_STRUCT_OFFSET(VrModel, field)

/* It becomes part of a request line as it is. */
static const char *request_path(const char *text)
{
    if (text[0] != '/')
        return "must begin with a slash";
    for (const char *at = text; *at != '\0'; at++) {
        if (!g_ascii_isgraph(*at) || *at == '#')
            return "must be a path as a request has it: other characters are written %XX";
    }
    return NULL;
}

static const char *server_name(const char *text)
{
    return text[0] != '[' && strchr(text, ':') == NULL && vr_address_parse(text, NULL, NULL) == NULL
               ? NULL
               : "must be the name that the certificates have";
}

static const VrModelChoice protocols[] = {
    {"agent", VR_HEALTH_SOURCE_AGENT_FILE}, /* or the command: check_health() knows by then */
    {"http", VR_HEALTH_SOURCE_HTTP},        {"https", VR_HEALTH_SOURCE_HTTPS}, {"tcp", VR_HEALTH_SOURCE_TCP}, {0},
};

static const VrModelKey application_health_keys[] = {
    {.name = "protocol", .parse = vr_model_choice, .offset = MODEL(health.source), .data = protocols},
    {.name = "port", .parse = vr_model_number, .offset = MODEL(health.port), .min = 1, .max = 65535},
    {.name = "requestPath", .parse = vr_model_text, .offset = MODEL(health.request_path), .check = request_path},
    {.name = "caFile", .parse = vr_model_text, .offset = MODEL(health.ca_file), .check = vr_model_absolute_path},
    {.name = "serverName", .parse = vr_model_text, .offset = MODEL(health.server_name), .check = server_name},
    {.name = "command", .parse = vr_model_texts, .offset = MODEL(health.command)},
    {.name = "file", .parse = vr_model_text, .offset = MODEL(health.file), .check = vr_model_absolute_path},
    {.name = "intervalInSeconds", .parse = vr_model_seconds, .offset = MODEL(health.interval_ms), .min = 5, .max = 60},
    {.name = "numberOfProbes", .parse = vr_model_number, .offset = MODEL(health.number_of_probes), .min = 1, .max = 24},
    {.name = "gracePeriod",
     .parse = vr_model_duration,
     .offset = MODEL(health.grace_period_ms),
     .max = 14400000,
     .data = "0 to 14400 seconds"},
    {0},
};

const VrModelKey vr_model_health_keys[] = {
    {.name = "applicationHealth", .parse = vr_model_section, .offset = 0, .data = application_health_keys},
    {.name = "healthTimeout",
     .parse = vr_model_duration,
     .offset = MODEL(health.timeout_ms),
     .min = 1000,
     .max = 86400000,
     .data = "PT1S to P1D"},
    {.name = "startTimeout",
     .parse = vr_model_duration,
     .offset = MODEL(health.start_timeout_ms),
     .min = 1000,
     .max = 86400000,
     .data = "PT1S to P1D"},
    {0},
};

void vr_model_health_defaults(VrHealthProfile *health)
{
    health->interval_ms = 5000; /* E9 */
    health->number_of_probes = 1;
    health->grace_period_ms = -1; /* not given */
    health->timeout_ms = 300000;  /* E1 */
}

void vr_model_health_clear(VrHealthProfile *health)
{
    g_strfreev(health->command);
    g_free(health->file);
    g_free(health->request_path);
    g_free(health->ca_file);
    g_free(health->server_name);
}

static gboolean check_agent_health(VrModelParser *parser, VrHealthProfile *health, GError **error)
{
    if ((health->command != NULL) == (health->file != NULL))
        return vr_model_fail_at(parser, HEALTH, "must have one of command and file", error);
    if (health->command == NULL)
        return TRUE;
    if (health->command[0] == NULL)
        return vr_model_fail_at(parser, HEALTH ".command", "must be a list of at least one text", error);
    if (vr_model_absolute_path(health->command[0]) != NULL)
        return vr_model_fail_at(parser, HEALTH ".command", "the first text must be the absolute path of a program",
                                error);
    health->source = VR_HEALTH_SOURCE_AGENT_COMMAND;
    return TRUE;
}

/* The handshake of a forward says that the forward listens, whether the guest runs or not (invariant 26). */
static gboolean check_tcp_address(VrModelParser *parser, const VrModelInstance *instance, GError **error)
{
    g_autofree char *host = NULL;

    if (instance->address == NULL)
        return TRUE;
    vr_address_parse(instance->address, &host, NULL);
    if (!vr_address_is_loopback(host))
        return TRUE;
    return vr_model_fail(parser, instance->line, error,
                         "instances: %s is this host: tcp would hear the forward's handshake, not the guest's; use "
                         "http or agent",
                         instance->address);
}

/* Which keys go with which protocol, as Azure has it. */
static gboolean check_network_health(VrModelParser *parser, VrModel *model, GError **error)
{
    VrHealthProfile *health = &model->health;
    gboolean tcp = health->source == VR_HEALTH_SOURCE_TCP;

    if (tcp && health->request_path != NULL)
        return vr_model_fail_at(parser, HEALTH ".requestPath", "does not go with tcp", error);
    if (!tcp && health->request_path == NULL)
        return vr_model_fail_at(parser, HEALTH, "requestPath is missing", error);
    if (tcp && health->port == 0)
        return vr_model_fail_at(parser, HEALTH, "port is missing", error);
    for (guint i = 0; tcp && i < model->instances->len; i++) {
        if (!check_tcp_address(parser, g_ptr_array_index(model->instances, i), error))
            return FALSE;
    }
    if (health->port == 0)
        health->port = health->source == VR_HEALTH_SOURCE_HTTPS ? 443 : 80;
    return TRUE;
}

/* A key that another protocol needs is a mistake: one source a set (E5). */
static gboolean check_health_keys(VrModelParser *parser, VrHealthSource source, GError **error)
{
    static const struct {
        const char *path;
        gboolean agent, network, https;
    } keys[] = {
        {HEALTH ".command", TRUE, FALSE, FALSE}, {HEALTH ".file", TRUE, FALSE, FALSE},
        {HEALTH ".port", FALSE, TRUE, TRUE},     {HEALTH ".requestPath", FALSE, TRUE, TRUE},
        {HEALTH ".caFile", FALSE, FALSE, TRUE},  {HEALTH ".serverName", FALSE, FALSE, TRUE},
    };

    for (guint i = 0; i < G_N_ELEMENTS(keys); i++) {
        gboolean fits = source == VR_HEALTH_SOURCE_AGENT_FILE ? keys[i].agent
                        : source == VR_HEALTH_SOURCE_HTTPS    ? keys[i].https
                                                              : keys[i].network;
        if (!fits && vr_model_line(parser, keys[i].path) != 0)
            return vr_model_fail_at(parser, keys[i].path, "does not go with this protocol", error);
    }
    return TRUE;
}

/* The first look may be answered at power-on, the last one must be before the time is over. */
static gboolean check_probes(VrModelParser *parser, const VrHealthProfile *health, GError **error)
{
    g_autofree char *limit = vr_clock_format_duration(health->timeout_ms);
    g_autofree char *text = NULL;

    if ((health->number_of_probes - 1) * health->interval_ms < health->timeout_ms)
        return TRUE;
    text =
        g_strdup_printf("%u looks, %" G_GINT64_FORMAT " s apart, do not fit into healthTimeout (%s): no instance could "
                        "become healthy; raise healthTimeout, or lower numberOfProbes",
                        health->number_of_probes, health->interval_ms / 1000, limit);
    return vr_model_fail_at(parser, HEALTH ".numberOfProbes", text, error);
}

gboolean vr_model_check_health(VrModelParser *parser, VrModel *model, GError **error)
{
    VrHealthProfile *health = &model->health;

    if (model->automatic && health->source == VR_HEALTH_SOURCE_POWER) /* E7 */
        return vr_model_fail_at(
            parser, AUTOMATIC,
            "true needs a healthProfile with an applicationHealth: an upgrade that nobody watches must "
            "see for itself whether the new version works",
            error);
    if (health->grace_period_ms < 0)
        health->grace_period_ms = health->interval_ms * health->number_of_probes;
    if (vr_model_line(parser, HEALTH) == 0)
        return TRUE;
    if (health->source == VR_HEALTH_SOURCE_POWER)
        return vr_model_fail_at(parser, HEALTH, "protocol is missing", error);
    if (!check_health_keys(parser, health->source, error) || !check_probes(parser, health, error))
        return FALSE;
    if (health->source == VR_HEALTH_SOURCE_AGENT_FILE)
        return check_agent_health(parser, health, error);
    return check_network_health(parser, model, error);
}
