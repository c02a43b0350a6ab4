/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Health of one instance. An agent source proves that the answer is from the new system: QEMU is a new process,
 * the live disk was compared with the intent, and the boot id differs from the one before the swap. The power state
 * has no such identity (FEATURES decision 13): it counts from the new QEMU process and is called weak by plan.
 */
#include "orchestrator/health.h"

#include "base/clock.h"
#include "base/error.h"
#include "hv/guest_agent.h"

#include <jansson.h>

#define MAX_ANSWER_BYTES (64 * 1024)
#define AGENT_PING_S 3
#define BOOTING_POLL_MS 500
#define LAST_LOOK_MS 5000

const char *vr_health_state_name(VrHealthState state)
{
    static const char *const names[] = {"Initializing", "Healthy", "Unhealthy", "Unknown"};

    return (guint)state < G_N_ELEMENTS(names) ? names[state] : "?";
}

void vr_health_answer_clear(VrHealthAnswer *answer)
{
    g_clear_pointer(&answer->text, g_free);
    g_clear_pointer(&answer->boot_id, g_free);
    answer->state = VR_HEALTH_UNKNOWN;
    answer->off = FALSE;
}

static void say(VrHealthAnswer *answer, VrHealthState state, const char *format, ...) G_GNUC_PRINTF(3, 4);

static void say(VrHealthAnswer *answer, VrHealthState state, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    g_free(answer->text);
    answer->text = g_strdup_vprintf(format, arguments);
    va_end(arguments);
    answer->state = state;
}

/* --- the agent sources ------------------------------------------------------------------------------- */

/* The body of E10: {"ApplicationHealthState": "Healthy"}. Anything else is Unknown, never a guess. */
static void judge_body(const char *body, const char *where, VrHealthAnswer *answer)
{
    json_t *root = json_loads(body, JSON_REJECT_DUPLICATES, NULL);
    const char *said = json_string_value(json_object_get(root, "ApplicationHealthState"));

    if (!said)
        say(answer, VR_HEALTH_UNKNOWN, "%s has no ApplicationHealthState", where);
    else if (g_ascii_strcasecmp(said, "Healthy") == 0)
        say(answer, VR_HEALTH_HEALTHY, "%s says Healthy", where);
    else if (g_ascii_strcasecmp(said, "Unhealthy") == 0)
        say(answer, VR_HEALTH_UNHEALTHY, "%s says Unhealthy", where);
    else
        say(answer, VR_HEALTH_UNKNOWN, "%s says neither Healthy nor Unhealthy", where);
    json_decref(root);
}

static void look_at_file(VrHv *hv, const VrHealthProfile *profile, const char *uuid, gint64 deadline_ms,
                         VrHealthAnswer *answer)
{
    g_autoptr(GError) local = NULL;
    g_autofree char *body = vr_agent_read_file(hv, uuid, profile->file, MAX_ANSWER_BYTES, deadline_ms, NULL, &local);

    if (body)
        judge_body(body, profile->file, answer);
    else
        say(answer, VR_HEALTH_UNKNOWN, "%s cannot be read in the guest: %s", profile->file, local->message);
}

static void look_by_command(VrHv *hv, const VrHealthProfile *profile, const char *uuid, gint64 deadline_ms,
                            VrHealthAnswer *answer)
{
    g_autoptr(GError) local = NULL;
    g_auto(VrAgentResult) result = {0};

    if (!vr_agent_exec(hv, uuid, (const char *const *)profile->command, MAX_ANSWER_BYTES, deadline_ms, &result, &local))
        say(answer, VR_HEALTH_UNKNOWN, "%s did not run in the guest: %s", profile->command[0], local->message);
    else if (result.exit_status == 0)
        say(answer, VR_HEALTH_HEALTHY, "%s ended with 0", profile->command[0]);
    else
        say(answer, VR_HEALTH_UNHEALTHY, "%s ended with %d", profile->command[0], result.exit_status);
}

static void look_through_agent(VrHv *hv, const VrHealthProfile *profile, const char *uuid, gint64 deadline_ms,
                               VrHealthAnswer *answer)
{
    g_autoptr(GError) local = NULL;

    if (!vr_agent_ping(hv, uuid, AGENT_PING_S, &local)) {
        say(answer, VR_HEALTH_INITIALIZING, "the guest agent does not answer");
        return;
    }
    answer->boot_id = vr_agent_boot_id(hv, uuid, deadline_ms, &local);
    if (!answer->boot_id) {
        say(answer, VR_HEALTH_UNKNOWN, "no boot id from the guest agent: %s", local->message);
        return;
    }
    if (profile->source == VR_HEALTH_SOURCE_AGENT_FILE)
        look_at_file(hv, profile, uuid, deadline_ms, answer);
    else
        look_by_command(hv, profile, uuid, deadline_ms, answer);
}

/* --- one look ---------------------------------------------------------------------------------------- */

void vr_health_probe(VrHv *hv, const VrHealthProfile *profile, const char *uuid, gint64 deadline_ms,
                     VrHealthAnswer *answer)
{
    g_autoptr(GError) local = NULL;
    g_auto(VrDomainInfo) info = {0};

    vr_health_answer_clear(answer);
    if (!vr_hv_info(hv, uuid, &info, &local)) {
        say(answer, VR_HEALTH_UNKNOWN, "%s", local->message);
        return;
    }
    answer->off = info.state == VR_DOMAIN_OFF;
    if (info.state != VR_DOMAIN_RUNNING)
        say(answer, VR_HEALTH_UNHEALTHY, "the domain is %s%s", vr_domain_state_name(info.state),
            info.reason == VR_REASON_IO_ERROR ? " after an I/O error" : "");
    else if (profile->source == VR_HEALTH_SOURCE_POWER)
        say(answer, VR_HEALTH_HEALTHY, "the domain runs");
    else
        look_through_agent(hv, profile, uuid, deadline_ms, answer);
}

/* --- the wait ---------------------------------------------------------------------------------------- */

static gboolean is_aborted(const VrHealthWait *wait)
{
    return wait->aborted && g_atomic_int_get(wait->aborted) != 0;
}

static void sleep_unless_aborted(const VrHealthWait *wait, gint64 until_ms)
{
    while (vr_clock_now_ms() < until_ms && !is_aborted(wait))
        vr_clock_sleep_until(MIN(until_ms, vr_clock_now_ms() + 200));
}

/* An answer of the old system is none (invariant 26). */
static void check_identity(const VrHealthWait *wait, VrHealthAnswer *answer)
{
    if (answer->state == VR_HEALTH_HEALTHY && wait->old_boot_id && answer->boot_id &&
        g_str_equal(answer->boot_id, wait->old_boot_id))
        say(answer, VR_HEALTH_UNKNOWN, "the answer comes from the boot before the swap");
}

/* Until the guest says a clear word it is looked at more often than the application is to be asked, so that a downtime is
 * not rounded up to the interval. The power state says nothing before it has lasted one. */
static gint64 next_look(const VrHealthProfile *profile, const VrHealthAnswer *answer)
{
    gboolean clear = answer->state == VR_HEALTH_HEALTHY || answer->state == VR_HEALTH_UNHEALTHY;

    return vr_clock_now_ms() + (clear ? profile->interval_ms : MIN(BOOTING_POLL_MS, profile->interval_ms));
}

static void say_timeout(const VrHealthProfile *profile, VrHealthAnswer *answer)
{
    g_autofree char *limit = vr_clock_format_duration(profile->timeout_ms);
    g_autofree char *last = g_steal_pointer(&answer->text);

    say(answer, answer->state == VR_HEALTH_HEALTHY ? VR_HEALTH_UNKNOWN : answer->state, "not healthy within %s: %s",
        limit, last ? last : "no answer");
}

gboolean vr_health_wait(VrHv *hv, const VrHealthProfile *profile, const VrHealthWait *wait, VrHealthAnswer *answer)
{
    gint64 deadline_ms = wait->started_ms + profile->timeout_ms;
    guint healthy = 0;

    vr_health_answer_clear(answer);
    if (profile->source == VR_HEALTH_SOURCE_POWER)
        sleep_unless_aborted(wait, MIN(deadline_ms, vr_clock_now_ms() + profile->interval_ms));
    while (!is_aborted(wait)) {
        /* the last look, at the deadline itself, gets the time that a look needs */
        vr_health_probe(hv, profile, wait->uuid, MAX(deadline_ms, vr_clock_now_ms() + LAST_LOOK_MS), answer);
        check_identity(wait, answer);
        healthy = answer->state == VR_HEALTH_HEALTHY ? healthy + 1 : 0;
        if (healthy >= profile->number_of_probes)
            return TRUE;
        if (answer->off)
            return FALSE;
        if (vr_clock_now_ms() >= deadline_ms) {
            say_timeout(profile, answer);
            return FALSE;
        }
        sleep_unless_aborted(wait, MIN(deadline_ms, next_look(profile, answer)));
    }
    say(answer, VR_HEALTH_UNKNOWN, "the wait was ended");
    return FALSE;
}
