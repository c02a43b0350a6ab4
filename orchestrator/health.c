/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One look at one instance, from the source that the model names. */
#include "orchestrator/health_private.h"

#include "base/clock.h"
#include "base/error.h"
#include "hv/guest_agent.h"
#include "orchestrator/health_where.h"

#include <string.h>

#define MAX_ANSWER_BYTES (64 * 1024)

void vr_health_answer_clear(VrHealthAnswer *answer)
{
    g_free(answer->text);
    g_free(answer->boot_id);
    g_free(answer->metrics);
    *answer = (VrHealthAnswer){.state = VR_HEALTH_UNKNOWN, .domain_id = -1};
}

void vr_health_say(VrHealthAnswer *answer, VrHealthState state, const char *format, ...)
{
    va_list arguments;
    char *text;

    va_start(arguments, format);
    text = g_strdup_vprintf(format, arguments);
    va_end(arguments);
    g_free(answer->text);
    answer->text = text;
    answer->state = state;
}

/* --- the sources ------------------------------------------------------------------------------------- */

/* FALSE when the body is no health reply (E10). */
static gboolean take_reply(VrHealthAnswer *answer, const char *body, gsize length, const char *who)
{
    g_auto(VrHealthReply) reply = {0};

    if (!vr_health_reply_parse(body, length, &reply))
        return FALSE;
    vr_health_say(answer, reply.state, "%s %s", who, reply.text);
    answer->metrics = g_steal_pointer(&reply.metrics);
    if (reply.state != VR_HEALTH_UNKNOWN)
        answer->wish = reply.wish;
    return TRUE;
}

static void look_at_power(VrHealthLook *look)
{
    look->answer->answered = TRUE;
    vr_health_say(look->answer, VR_HEALTH_HEALTHY, "the domain runs");
}

/* The boot id comes first: an agent that answers without one proves nothing. */
static gboolean reach_agent(VrHealthLook *look)
{
    g_autoptr(GError) local = NULL;

    if (!vr_agent_ping(look->hv, look->subject.uuid, VR_HEALTH_PING_S, &local)) {
        vr_health_say(look->answer, VR_HEALTH_INITIALIZING, "the guest agent does not answer");
        return FALSE;
    }
    look->answer->boot_id = vr_agent_boot_id(look->hv, look->subject.uuid, look->deadline_ms, &local);
    if (!look->answer->boot_id)
        vr_health_say(look->answer, VR_HEALTH_UNKNOWN, "no boot id from the guest agent: %s", local->message);
    return look->answer->boot_id != NULL;
}

static void look_at_file(VrHealthLook *look)
{
    const char *file = look->profile->file;
    g_autoptr(GError) local = NULL;
    g_autofree char *body = NULL;
    gsize length = 0;

    if (!reach_agent(look))
        return;
    body = vr_agent_read_file(look->hv, look->subject.uuid, file, MAX_ANSWER_BYTES, look->deadline_ms, &length, &local);
    if (!body)
        vr_health_say(look->answer, VR_HEALTH_UNKNOWN, "%s cannot be read in the guest: %s", file, local->message);
    else if (!take_reply(look->answer, body, length, file))
        vr_health_say(look->answer, VR_HEALTH_UNKNOWN, "%s has no ApplicationHealthState", file);
    look->answer->answered = look->answer->state != VR_HEALTH_UNKNOWN;
}

static void look_by_command(VrHealthLook *look)
{
    char **command = look->profile->command;
    g_autoptr(GError) local = NULL;
    g_auto(VrAgentResult) result = {0};

    if (!reach_agent(look))
        return;
    look->answer->answered = vr_agent_exec(look->hv, look->subject.uuid, (const char *const *)command, MAX_ANSWER_BYTES,
                                           look->deadline_ms, look->aborted, &result, &local);
    if (!look->answer->answered)
        vr_health_say(look->answer, VR_HEALTH_UNKNOWN, "%s did not run in the guest: %s", command[0], local->message);
    else if (result.exit_status == 0)
        vr_health_say(look->answer, VR_HEALTH_HEALTHY, "%s ended with 0", command[0]);
    else
        vr_health_say(look->answer, VR_HEALTH_UNHEALTHY, "%s ended with %d", command[0], result.exit_status);
}

static void prepare_request(VrHealthLook *look)
{
    const VrHealthProfile *profile = look->profile;
    g_autoptr(GError) local = NULL;
    static const VrNetProtocol protocols[] = {[VR_HEALTH_SOURCE_HTTP] = VR_NET_HTTP,
                                              [VR_HEALTH_SOURCE_HTTPS] = VR_NET_HTTPS,
                                              [VR_HEALTH_SOURCE_TCP] = VR_NET_TCP};
    guint port;

    look->asks = vr_health_where(look->hv, look->subject.uuid, look->subject.address, profile->port, look->deadline_ms,
                                 &look->host, &port, &local);
    if (look->asks)
        look->request = (VrNetRequest){.protocol = protocols[profile->source],
                                       .host = look->host,
                                       .port = port,
                                       .path = profile->request_path,
                                       .ca_file = profile->ca_file,
                                       .server_name = profile->server_name};
    else
        vr_health_say(look->answer, VR_HEALTH_UNKNOWN, "%s", local->message);
}

#define WEAK_NETWORK                                                                                                   \
    "which has no proof of the new boot but the new QEMU process: a guest without an agent is taken at its word"

static const struct {
    const char *text;
    void (*look)(VrHealthLook *look);
    gboolean agent;
    const char *weakness;
} sources[] = {
    [VR_HEALTH_SOURCE_POWER] = {"power state", look_at_power, FALSE,
                                "health is judged by the power state only, which is weak: a system that hangs at boot "
                                "counts as healthy"},
    [VR_HEALTH_SOURCE_AGENT_FILE] = {"a file, through the guest agent", look_at_file, TRUE, NULL},
    [VR_HEALTH_SOURCE_AGENT_COMMAND] = {"a command, through the guest agent", look_by_command, TRUE, NULL},
    [VR_HEALTH_SOURCE_HTTP] = {"an http request", prepare_request, FALSE, "health is judged by http, " WEAK_NETWORK},
    [VR_HEALTH_SOURCE_HTTPS] = {"an https request", prepare_request, FALSE, "health is judged by https, " WEAK_NETWORK},
    [VR_HEALTH_SOURCE_TCP] = {"a tcp connection", prepare_request, FALSE,
                              "health is judged by tcp, which is weak: a port that accepts connections counts as "
                              "healthy, whatever the application does"},
};

const char *vr_health_source_text(const VrHealthProfile *profile)
{
    return sources[profile->source].text;
}

gboolean vr_health_needs_agent(const VrHealthProfile *profile)
{
    return sources[profile->source].agent;
}

gboolean vr_model_needs_agent(const VrModel *model)
{
    const VrCarryProfile *carry = &model->os_profile.carry;

    return vr_health_needs_agent(&model->health) || model->stop.method == VR_STOP_AGENT || model->extensions->len > 0 ||
           (carry->what[0] && !carry->from_disk);
}

const char *vr_health_weakness(const VrHealthProfile *profile)
{
    return sources[profile->source].weakness;
}

/* --- what came over the network ---------------------------------------------------------------------- */

static void judge_reply(const VrHealthLook *look)
{
    VrHealthAnswer *answer = look->answer;
    const VrNetReply *reply = &look->reply;
    gboolean tcp = look->request.protocol == VR_NET_TCP;

    answer->answered = reply->answered;
    if (reply->body && reply->status >= 200 && reply->status < 300) {
        /* without the JSON of E10 the status is the answer, as for Azure's binary health states */
        if (!take_reply(answer, (const char *)reply->body->data, reply->body->len, reply->asked))
            vr_health_say(answer, VR_HEALTH_HEALTHY, "%s %s", reply->asked, reply->text);
        return;
    }
    if (tcp && reply->answered)
        vr_health_say(answer, VR_HEALTH_HEALTHY, "%s %s", reply->asked, reply->text);
    else
        vr_health_say(answer, tcp ? VR_HEALTH_UNHEALTHY : VR_HEALTH_UNKNOWN, "%s%s %s",
                      reply->asked ? reply->asked : "nobody was asked", reply->body || !reply->asked ? "" : ":",
                      reply->text);
}

/* Whoever spoke, it was not this guest as it runs now. */
static void doubt(const VrHealthLook *look, const char *format, ...) G_GNUC_PRINTF(2, 3);

static void doubt(const VrHealthLook *look, const char *format, ...)
{
    gboolean tcp = look->request.protocol == VR_NET_TCP;
    g_autofree char *why = NULL;
    va_list arguments;

    va_start(arguments, format);
    why = g_strdup_vprintf(format, arguments);
    va_end(arguments);
    vr_health_say(look->answer, tcp ? VR_HEALTH_UNHEALTHY : VR_HEALTH_UNKNOWN, "%s %s", look->reply.asked, why);
    look->answer->answered = FALSE;
}

/* The answer came from this guest, and from the QEMU process that ran when it was asked for. Behind a forward on this host only an
 * answer of the application does, at an address that the model gives: the handshake is the forward's. */
static void check_source(const VrHealthLook *look)
{
    const VrNetReply *reply = &look->reply;
    gboolean may_be_forward = look->subject.address && look->request.protocol != VR_NET_TCP;
    g_auto(VrDomainInfo) info = {0};
    g_autoptr(GError) local = NULL;
    char mac[18];

    if (reply->from_host && !may_be_forward)
        doubt(look,
              "was answered by this host itself, not by the guest: give the instance an 'address' of its own, or use "
              "http or agent");
    else if (!vr_hv_info(look->hv, look->subject.uuid, &info, &local))
        doubt(look, "answered, but the domain cannot be looked at: %s", local->message);
    else if (info.state != VR_DOMAIN_RUNNING || info.id != look->answer->domain_id)
        doubt(look, "was answered while the domain stopped or started anew");
    else if (reply->peer && !vr_health_is_guest(look->hv, look->subject.uuid, reply->peer, mac))
        doubt(look, "is answered by %s, which is no network card of this guest", mac);
}

/* --- one look ---------------------------------------------------------------------------------------- */

void vr_health_look_clear(VrHealthLook *look)
{
    g_clear_pointer(&look->host, g_free);
    vr_net_reply_clear(&look->reply);
}

void vr_health_look_begin(VrHealthLook *look)
{
    VrHealthAnswer *answer = look->answer;
    g_autoptr(GError) local = NULL;
    g_auto(VrDomainInfo) info = {0};

    vr_health_answer_clear(answer);
    answer->asked_us = vr_clock_wall_us();
    if (!vr_hv_info(look->hv, look->subject.uuid, &info, &local)) {
        answer->libvirt_away = g_error_matches(local, VR_ERROR, VR_ERROR_DISCONNECTED);
        vr_health_say(answer, VR_HEALTH_UNKNOWN, "%s", local->message);
        return;
    }
    answer->off = info.state == VR_DOMAIN_OFF;
    answer->domain_id = info.id;
    if (info.state == VR_DOMAIN_RUNNING)
        sources[look->profile->source].look(look);
    else
        vr_health_say(answer, VR_HEALTH_UNHEALTHY, "the domain is %s", vr_domain_state_words(&info));
}

void vr_health_look_end(VrHealthLook *look)
{
    if (!look->asks)
        return;
    judge_reply(look);
    if (look->answer->answered)
        check_source(look);
    if (look->answer->state == VR_HEALTH_UNKNOWN)
        look->answer->wish = (VrGuestWish){0}; /* of whoever answered there */
}

void vr_health_probe(VrHv *hv, const VrHealthProfile *profile, const VrHealthSubject *subject, gint64 deadline_ms,
                     const gint *aborted, VrHealthAnswer *answer)
{
    g_auto(VrHealthLook) look = {.hv = hv,
                                 .profile = profile,
                                 .subject = *subject,
                                 .deadline_ms = deadline_ms,
                                 .aborted = aborted,
                                 .answer = answer};

    vr_health_look_begin(&look);
    if (look.asks) {
        look.request.timeout_ms = deadline_ms - vr_clock_now_ms();
        vr_net_ask(&look.request, 1, aborted, &look.reply);
    }
    vr_health_look_end(&look);
}
