/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Power of one domain. Every step asks, then looks: a request that was accepted may do nothing, one that
 * failed or whose outcome is unknown may have worked (SAFETY 16, 4.8). So no answer to a request decides
 * anything; the state that is read afterwards does. Waiting is on events, with a look at least every half
 * second in case one was lost.
 */
#include "hv/domain.h"

#include "base/clock.h"
#include "base/error.h"
#include <string.h>

#define RECHECK_MS 500
#define FORCE_OFF_MS (30 * 1000)
#define START_MS (60 * 1000)
#define REPEAT_REQUEST_MS (10 * 1000) /* a guest that boots ignores the first one */
#define AFTER_UNKNOWN_MS 1000

/* -- Waiting -------------------------------------------------------------------------------------- */

static gboolean is_error(const GError *error, VrErrorCode code)
{
    return g_error_matches(error, VR_ERROR, (int)code);
}

/* One look: 1 in the state, 0 not (or libvirt is away), -1 error. */
static int look(VrHv *hv, const char *uuid, VrDomainState state, VrDomainInfo *info, GError **error)
{
    g_autoptr(GError) local = NULL;
    VrDomainInfo now = {0};

    if (vr_hv_info(hv, uuid, &now, &local)) {
        vr_domain_info_clear(info);
        *info = now;
        return info->state == state;
    }
    if (is_error(local, VR_ERROR_DISCONNECTED)) {
        vr_clock_sleep_until(vr_clock_now_ms() + RECHECK_MS / 2);
        return 0;
    }
    g_propagate_error(error, g_steal_pointer(&local));
    return -1;
}

gboolean vr_domain_wait_state(VrHv *hv, const char *uuid, VrDomainState state, gint64 deadline_ms, VrDomainInfo *info,
                              GError **error)
{
    VrDomainInfo last = {.id = -1, .state = VR_DOMAIN_UNKNOWN};
    gint64 now;
    int found;

    while ((found = look(hv, uuid, state, &last, error)) == 0) {
        now = vr_clock_now_ms();
        if (now >= deadline_ms) {
            g_set_error(error, VR_ERROR, VR_ERROR_TIMEOUT, "domain %s is %s, and was awaited to be %s",
                        last.name != NULL ? last.name : uuid, vr_domain_state_words(&last),
                        vr_domain_state_name(state));
            break;
        }
        vr_hv_wait_change(hv, uuid, MIN(deadline_ms, now + RECHECK_MS));
    }
    if (info != NULL)
        *info = last;
    else
        vr_domain_info_clear(&last);
    return found == 1;
}

static gboolean may_ask(const VrDomainMay *may, GError **error)
{
    return may == NULL || may->ask(may->data, error);
}

/* Off is off for good, unless it moved to another host. */
static gboolean check_off(const VrDomainInfo *info, GError **error)
{
    if (info->reason != VR_REASON_MIGRATED)
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_PERSON,
                "domain %s is off because it was migrated: it runs on another host and must not be started here",
                info->name);
    return FALSE;
}

/* -- A start that somebody began ------------------------------------------------------------------ */

char *vr_domain_start_remedy(const VrDomainInfo *info)
{
    g_autofree char *pattern = g_strdup_printf("guest=%s,", info->name);
    g_autofree char *record = g_strdup_printf("/run/libvirt/qemu/%s.xml", info->name);
    g_autofree char *pattern_word = vr_shell_word(pattern);
    g_autofree char *record_word = vr_shell_word(record);

    return g_strdup_printf("wait until it runs; a libvirtd that was killed as it started the guest says so for ever: "
                           "where 'pgrep -f %s' finds no QEMU, stop libvirtd, 'rm %s', and start libvirtd (guests "
                           "run on)",
                           pattern_word, record_word);
}

gboolean vr_domain_is_starting(const VrDomainInfo *info)
{
    return info->state == VR_DOMAIN_PAUSED && info->reason == VR_REASON_STARTING;
}

static void set_start_hangs(const VrDomainInfo *info, GError **error)
{
    g_autofree char *remedy = vr_domain_start_remedy(info);

    g_set_error(error, VR_ERROR, VR_ERROR_PERSON, "domain %s is being started by libvirt, which comes to no end",
                info->name);
    vr_error_next(error, "%s", remedy);
}

gboolean vr_domain_await_start(VrHv *hv, const char *uuid, GError **error)
{
    gint64 deadline = vr_clock_now_ms() + START_MS;

    for (;;) {
        g_auto(VrDomainInfo) info = {0};

        if (!vr_hv_info(hv, uuid, &info, error))
            return FALSE;
        if (!vr_domain_is_starting(&info))
            return TRUE;
        if (vr_clock_now_ms() >= deadline) {
            set_start_hangs(&info, error);
            return FALSE;
        }
        vr_hv_wait_change(hv, uuid, MIN(deadline, vr_clock_now_ms() + RECHECK_MS));
    }
}

/* -- Stop ----------------------------------------------------------------------------------------- */

typedef struct {
    VrHv *hv;
    const char *uuid;
    const VrDomainMay *may;
    const VrStopPolicy *policy;
    VrShutdownMode mode;
    gint64 half_ms, deadline_ms, next_request_ms;
    GError *refusal; /* of the last request, for the message at the deadline */
} Stop;

static void use_acpi(Stop *stop)
{
    stop->mode = VR_SHUTDOWN_ACPI;
    stop->next_request_ms = vr_clock_now_ms();
}

/* FALSE: it may not be asked for any more. */
static gboolean request(Stop *stop, GError **error)
{
    gboolean accepted;

    if (!may_ask(stop->may, error))
        return FALSE;
    g_clear_error(&stop->refusal);
    accepted = vr_hv_shutdown(stop->hv, stop->uuid, stop->mode, &stop->refusal);
    gint64 now = vr_clock_now_ms();
    if (accepted && stop->mode == VR_SHUTDOWN_AGENT)
        stop->next_request_ms = stop->deadline_ms;
    else if (is_error(stop->refusal, VR_ERROR_DISCONNECTED))
        stop->next_request_ms = now + AFTER_UNKNOWN_MS;
    else if (is_error(stop->refusal, VR_ERROR_AGENT) && stop->policy->method == VR_STOP_AUTO)
        use_acpi(stop);
    else
        stop->next_request_ms = now + REPEAT_REQUEST_MS;
    return TRUE;
}

/* Requests and looks until it is off or the deadline. 1 off, 0 deadline, -1 error. */
static int ask_to_stop(Stop *stop, VrDomainInfo *info, GError **error)
{
    gboolean may_change = stop->policy->method == VR_STOP_AUTO;

    while (vr_clock_now_ms() < stop->deadline_ms) {
        g_autoptr(GError) local = NULL;

        if (may_change && stop->mode == VR_SHUTDOWN_AGENT && vr_clock_now_ms() >= stop->half_ms)
            use_acpi(stop);
        if (vr_clock_now_ms() >= stop->next_request_ms && !request(stop, error))
            return -1;
        gint64 until = MIN(stop->deadline_ms, stop->next_request_ms);
        if (may_change && stop->mode == VR_SHUTDOWN_AGENT)
            until = MIN(until, stop->half_ms);
        vr_domain_info_clear(info);
        if (vr_domain_wait_state(stop->hv, stop->uuid, VR_DOMAIN_OFF, until, info, &local))
            return 1;
        if (!is_error(local, VR_ERROR_TIMEOUT)) {
            g_propagate_error(error, g_steal_pointer(&local));
            return -1;
        }
    }
    return 0;
}

static void set_stop_timeout(const Stop *stop, GError **error)
{
    g_autofree char *time = vr_clock_format_duration(stop->policy->timeout_ms);

    g_set_error(error, VR_ERROR, VR_ERROR_TIMEOUT, "the guest did not stop within %s", time);
    if (stop->refusal != NULL)
        vr_error_cause(error, "the last request: %s", stop->refusal->message);
    vr_error_next(error, "give it a longer stop.timeout in the model, or stop.force: true");
}

static gboolean force(Stop *stop, VrDomainInfo *info, GError **error)
{
    vr_domain_info_clear(info);
    return vr_domain_force_off(stop->hv, stop->uuid, stop->may, error) && vr_hv_info(stop->hv, stop->uuid, info, error);
}

static gboolean stop_it(Stop *stop, VrDomainInfo *info, gboolean *forced, GError **error)
{
    int off = ask_to_stop(stop, info, error);

    if (off < 0)
        return FALSE;
    if (off == 0 && !stop->policy->force) {
        set_stop_timeout(stop, error);
        return FALSE;
    }
    if (off == 0 && !force(stop, info, error))
        return FALSE;
    /* It may have gone by itself in the last moment. */
    *forced = off == 0 && info->reason != VR_REASON_SHUTDOWN;
    return TRUE;
}

/* The state before anything is asked; libvirt that is away is waited for within the deadline. */
static gboolean first_look(const Stop *stop, VrDomainInfo *info, GError **error)
{
    g_autoptr(GError) local = NULL;

    if (vr_domain_wait_state(stop->hv, stop->uuid, VR_DOMAIN_OFF, vr_clock_now_ms(), info, &local) ||
        is_error(local, VR_ERROR_TIMEOUT))
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

gboolean vr_domain_stop(VrHv *hv, const char *uuid, const VrDomainMay *may, const VrStopPolicy *policy,
                        VrStopResult *result, GError **error)
{
    gint64 now = vr_clock_now_ms();
    Stop stop = {.hv = hv,
                 .uuid = uuid,
                 .may = may,
                 .policy = policy,
                 .mode = policy->method == VR_STOP_ACPI ? VR_SHUTDOWN_ACPI : VR_SHUTDOWN_AGENT,
                 .half_ms = now + policy->timeout_ms / 2,
                 .deadline_ms = now + policy->timeout_ms,
                 .next_request_ms = now};
    g_auto(VrDomainInfo) info = {0};
    gboolean forced = FALSE;

    if (!first_look(&stop, &info, error))
        return FALSE;
    gboolean ok = info.state == VR_DOMAIN_OFF || stop_it(&stop, &info, &forced, error);
    g_clear_error(&stop.refusal);
    if (!ok || !check_off(&info, error))
        return FALSE;
    if (result != NULL)
        *result = (VrStopResult){.forced = forced, .reason = info.reason};
    return TRUE;
}

/* A destroy that fails is tried again: QEMU in the kernel's hands (a slow disk) may take more than libvirt's
 * patience. */
gboolean vr_domain_force_off(VrHv *hv, const char *uuid, const VrDomainMay *may, GError **error)
{
    gint64 deadline = vr_clock_now_ms() + FORCE_OFF_MS;
    g_autoptr(GError) refusal = NULL;

    for (;;) {
        g_auto(VrDomainInfo) info = {0};
        g_autoptr(GError) local = NULL;

        if (!may_ask(may, error))
            return FALSE;
        g_clear_error(&refusal);
        vr_hv_destroy(hv, uuid, &refusal);
        gint64 until = refusal == NULL ? deadline : MIN(deadline, vr_clock_now_ms() + AFTER_UNKNOWN_MS);
        if (vr_domain_wait_state(hv, uuid, VR_DOMAIN_OFF, until, &info, &local))
            return check_off(&info, error);
        if (is_error(local, VR_ERROR_TIMEOUT) && vr_clock_now_ms() < deadline)
            continue;
        if (vr_domain_is_starting(&info))
            set_start_hangs(&info, error);
        else if (refusal != NULL)
            g_propagate_prefixed_error(error, g_steal_pointer(&refusal), "%s: ", local->message);
        else
            g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
}

/* -- Start ---------------------------------------------------------------------------------------- */

/* Asks once and looks. 1 it runs or ran, 0 ask again (outcome unknown, or libvirt is away), -1 error. libvirt has one
 * job a domain, so that asking twice never gives two QEMU processes (SAFETY 11). */
static int start_once(VrHv *hv, const char *uuid, VrDomainInfo *info, GError **error)
{
    g_autoptr(GError) refusal = NULL;
    g_autoptr(GError) local = NULL;

    if (!vr_domain_await_start(hv, uuid, &local) && is_error(local, VR_ERROR_PERSON)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return -1;
    }
    g_clear_error(&local);
    gboolean accepted = vr_hv_start(hv, uuid, &refusal);
    gint64 until = vr_clock_now_ms();

    if (is_error(refusal, VR_ERROR_DISCONNECTED))
        until += AFTER_UNKNOWN_MS;
    vr_domain_info_clear(info);
    if (vr_domain_wait_state(hv, uuid, VR_DOMAIN_RUNNING, until, info, &local))
        return 1;
    if (!is_error(local, VR_ERROR_TIMEOUT)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return -1;
    }
    if (accepted && (info->state == VR_DOMAIN_OFF || info->state == VR_DOMAIN_STOPPING))
        return 1; /* it ran, and has ended already or is about to */
    if (refusal != NULL && !is_error(refusal, VR_ERROR_DISCONNECTED)) {
        g_propagate_error(error, g_steal_pointer(&refusal));
        return -1;
    }
    return 0;
}

gboolean vr_domain_start(VrHv *hv, const char *uuid, const VrDomainMay *may, VrDomainInfo *info, GError **error)
{
    gint64 deadline = vr_clock_now_ms() + START_MS;
    g_auto(VrDomainInfo) last = {0};
    int started;

    while ((started = may_ask(may, error) ? start_once(hv, uuid, &last, error) : -1) == 0) {
        if (vr_clock_now_ms() >= deadline) {
            g_set_error(error, VR_ERROR, VR_ERROR_TIMEOUT, "domain %s did not start within %d s: it is %s",
                        last.name != NULL ? last.name : uuid, START_MS / 1000, vr_domain_state_name(last.state));
            break;
        }
        vr_hv_wait_change(hv, uuid, MIN(deadline, vr_clock_now_ms() + RECHECK_MS));
    }
    if (info != NULL) {
        *info = last;
        memset(&last, 0, sizeof last);
    }
    return started == 1;
}
