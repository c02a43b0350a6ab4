/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Waiting for the health of an instance that was just started. */
#include "orchestrator/health_private.h"

#include "base/clock.h"
#include "hv/guest_agent.h"
#include "orchestrator/health_track.h"

#define BOOTING_POLL_MS 500
#define LAST_LOOK_MS 5000
#define BOOT_ID_WAIT_MS 5000
#define AGENT_PATIENCE 2 /* intervals that an agent which was there before may come up later than the application */

typedef struct {
    VrHv *hv;
    const VrHealthProfile *profile;
    const VrHealthWait *wait;
    VrHealthAnswer *answer;
    VrHealthTrack track;
    gint64 answered_ms; /* of the first answer of the boot that runs; -1: none yet */
    gint64 healthy_ms;  /* of the first healthy one; -1: none yet */
    gint64 lost_ms;     /* since when libvirt is away; -1: it is not */
    gint64 away_ms;     /* for how long it was, before */
    gint64 least_ms;    /* it does not end as too late before this, if the first look found it healthy */
    gboolean looked;
    char *boot_id; /* the last one heard */
    int domain_id;
} Watch;

static gboolean is_aborted(const VrHealthWait *wait)
{
    return wait->aborted && g_atomic_int_get(wait->aborted) != 0;
}

static void sleep_unless_aborted(const VrHealthWait *wait, gint64 until_ms)
{
    while (vr_clock_now_ms() < until_ms && !is_aborted(wait))
        vr_clock_sleep_until(MIN(until_ms, vr_clock_now_ms() + 200));
}

static gboolean has_own_identity(const VrHealthProfile *profile)
{
    return vr_health_needs_agent(profile);
}

/* --- the times --------------------------------------------------------------------------------------- */

static gint64 limit_ms(const Watch *watch)
{
    return watch->profile->start_timeout_ms > 0 && watch->answered_ms < 0 ? watch->profile->start_timeout_ms
                                                                          : watch->profile->timeout_ms;
}

/* Loss of libvirt is not ill health: its time does not count, up to as much again. */
static gint64 forgiven_ms(const Watch *watch)
{
    gint64 lost_ms = watch->lost_ms < 0 ? 0 : vr_clock_now_ms() - watch->lost_ms;

    return MIN(watch->away_ms + lost_ms, limit_ms(watch));
}

static void note_libvirt(Watch *watch, gint64 begun_ms)
{
    if (watch->answer->libvirt_away && watch->lost_ms < 0) {
        watch->lost_ms = begun_ms;
    } else if (!watch->answer->libvirt_away && watch->lost_ms >= 0) {
        watch->away_ms += vr_clock_now_ms() - watch->lost_ms;
        watch->lost_ms = -1;
    }
}

static gint64 deadline_ms(const Watch *watch)
{
    gboolean from_answer = watch->profile->start_timeout_ms > 0 && watch->answered_ms >= 0;

    return MAX(watch->least_ms,
               (from_answer ? watch->answered_ms : watch->wait->started_ms) + limit_ms(watch) + forgiven_ms(watch));
}

/* A guest that runs for long already when the wait begins, because a process ended before it, and is healthy at the first look: the
 * looks that prove it are taken, however late they are. */
static gint64 least_of(const VrHealthProfile *profile)
{
    gint64 looks = MAX(1, (gint64)profile->number_of_probes) + AGENT_PATIENCE;

    return vr_clock_now_ms() + MIN(profile->timeout_ms, looks * profile->interval_ms + LAST_LOOK_MS);
}

/* The last look, at the deadline itself, gets the time that a look needs. A question over the network that hangs is asked anew
 * after an interval: a guest that boots may have lost it. */
static gint64 look_until(const Watch *watch)
{
    gint64 now_ms = vr_clock_now_ms(), until_ms = MAX(deadline_ms(watch), now_ms + LAST_LOOK_MS);

    return has_own_identity(watch->profile) ? until_ms : MIN(until_ms, now_ms + watch->profile->interval_ms);
}

/* Until the guest gives an answer it is looked at more often than the application is to be asked, so that a downtime is not rounded up to
 * the interval. The power state says nothing before it has lasted one. */
static gint64 next_look(const Watch *watch, gint64 begun_ms)
{
    if (watch->answer->answered)
        return begun_ms + watch->profile->interval_ms;
    return vr_clock_now_ms() + MIN(BOOTING_POLL_MS, watch->profile->interval_ms);
}

/* --- identity ---------------------------------------------------------------------------------------- */

/* A source without identity: where the guest has an agent, the agent says which boot it is. */
static void ask_boot_id(const Watch *watch)
{
    const char *uuid = watch->wait->subject.uuid;

    if (vr_agent_ping(watch->hv, uuid, VR_HEALTH_PING_S, NULL))
        watch->answer->boot_id = vr_agent_boot_id(watch->hv, uuid, vr_clock_now_ms() + BOOT_ID_WAIT_MS, NULL);
}

/* The old system had an agent, so the new one is given time to start its own. Without one the answer counts as it is; but when the agent
 * has answered and does not any more, it may be another boot, which gets the same time and proves itself anew. */
static gboolean may_still_prove(Watch *watch)
{
    gint64 now_ms = vr_clock_now_ms();

    if (watch->boot_id) {
        g_clear_pointer(&watch->boot_id, g_free);
        watch->healthy_ms = now_ms;
        return TRUE;
    }
    if (watch->healthy_ms < 0)
        watch->healthy_ms = now_ms;
    return now_ms < watch->healthy_ms + AGENT_PATIENCE * watch->profile->interval_ms && now_ms < deadline_ms(watch);
}

/* An answer of the old system is none (invariant 26). */
static void check_identity(Watch *watch)
{
    VrHealthAnswer *answer = watch->answer;

    if (answer->state != VR_HEALTH_HEALTHY || !watch->wait->old_boot_id)
        return;
    if (!has_own_identity(watch->profile))
        ask_boot_id(watch);
    if (!answer->boot_id && may_still_prove(watch)) {
        vr_health_say(answer, VR_HEALTH_INITIALIZING, "%s, but its agent does not say yet which boot that is",
                      answer->text);
        answer->answered = FALSE;
    }
    if (answer->boot_id && g_str_equal(answer->boot_id, watch->wait->old_boot_id))
        vr_health_say(answer, VR_HEALTH_UNKNOWN, "the answer comes from the boot before the swap");
}

/* TRUE when this answer is from another boot than the one before it. */
static gboolean note_boot(Watch *watch)
{
    const VrHealthAnswer *answer = watch->answer;
    gboolean other = watch->domain_id >= 0 && answer->domain_id >= 0 && answer->domain_id != watch->domain_id;

    if (watch->boot_id && answer->boot_id && !g_str_equal(watch->boot_id, answer->boot_id))
        other = TRUE;
    if (answer->domain_id >= 0)
        watch->domain_id = answer->domain_id;
    if (other)
        g_clear_pointer(&watch->boot_id, g_free);
    if (answer->boot_id) {
        g_free(watch->boot_id);
        watch->boot_id = g_strdup(answer->boot_id);
    }
    return other;
}

/* --- the wait ---------------------------------------------------------------------------------------- */

/* A system that is set up at its first boot may restart several times, and answer in between: until startTimeout is over, an answer
 * of a boot that has ended, or may have since nobody answers any more, is not the first one. */
static void note_answer(Watch *watch, gboolean answered, gboolean other_boot)
{
    gint64 now_ms = vr_clock_now_ms();
    gboolean gone = other_boot || (!answered && !watch->answer->libvirt_away);

    if (gone && now_ms < watch->wait->started_ms + watch->profile->start_timeout_ms)
        watch->answered_ms = -1;
    if (answered && watch->answered_ms < 0)
        watch->answered_ms = now_ms;
}

static void look(Watch *watch)
{
    VrHealthAnswer *answer = watch->answer;
    gboolean answered, other_boot;

    vr_health_probe(watch->hv, watch->profile, &watch->wait->subject, look_until(watch), watch->wait->aborted, answer);
    answered = answer->answered;
    if (!watch->looked && answer->state != VR_HEALTH_HEALTHY)
        watch->least_ms = 0;
    watch->looked = TRUE;
    check_identity(watch);
    other_boot = note_boot(watch);
    note_answer(watch, answered, other_boot);
    answer->state = vr_health_track_answer(&watch->track, answer->state, other_boot, vr_clock_now_ms());
}

static void say_timeout(const Watch *watch)
{
    VrHealthAnswer *answer = watch->answer;
    g_autofree char *limit = vr_clock_format_duration(limit_ms(watch));
    g_autofree char *away = forgiven_ms(watch) > 0 ? vr_clock_format_duration(forgiven_ms(watch)) : NULL;
    g_autofree char *last = g_steal_pointer(&answer->text);

    vr_health_say(answer, answer->state, "not healthy within %s%s%s%s: %s", limit, away ? ", and " : "",
                  away ? away : "", away ? " in which libvirt was away" : "", last ? last : "no answer");
}

static gboolean watch_until_healthy(Watch *watch)
{
    while (!is_aborted(watch->wait)) {
        gint64 begun_ms = vr_clock_now_ms();

        look(watch);
        note_libvirt(watch, begun_ms);
        if (watch->answer->state == VR_HEALTH_HEALTHY)
            return TRUE;
        if (watch->answer->off) {
            watch->answer->state = VR_HEALTH_UNHEALTHY;
            return FALSE;
        }
        if (vr_clock_now_ms() >= deadline_ms(watch)) {
            say_timeout(watch);
            return FALSE;
        }
        if (watch->wait->told)
            watch->wait->told(watch->answer, deadline_ms(watch), watch->wait->told_data);
        sleep_unless_aborted(watch->wait, MIN(deadline_ms(watch), next_look(watch, begun_ms)));
    }
    vr_health_say(watch->answer, VR_HEALTH_UNKNOWN, "the wait was ended");
    return FALSE;
}

gboolean vr_health_wait(VrHv *hv, const VrHealthProfile *profile, const VrHealthWait *wait, VrHealthAnswer *answer)
{
    VrHealthRule rule = {.number_of_probes = profile->number_of_probes,
                         .grace_period_ms = profile->grace_period_ms,
                         .no_unknown = profile->source == VR_HEALTH_SOURCE_TCP};
    Watch watch = {.hv = hv,
                   .profile = profile,
                   .wait = wait,
                   .answer = answer,
                   .answered_ms = -1,
                   .healthy_ms = -1,
                   .lost_ms = -1,
                   .least_ms = least_of(profile),
                   .domain_id = -1};
    gboolean healthy;

    vr_health_answer_clear(answer);
    vr_health_track_begin(&watch.track, &rule, wait->started_ms);
    if (profile->source == VR_HEALTH_SOURCE_POWER)
        sleep_unless_aborted(wait, MIN(deadline_ms(&watch), vr_clock_now_ms() + profile->interval_ms));
    healthy = watch_until_healthy(&watch);
    g_free(watch.boot_id);
    return healthy;
}
