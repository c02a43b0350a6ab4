/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A look at many instances at once. */
#include "orchestrator/health_private.h"

#include "base/clock.h"
#include "base/handover.h"

#define ABORT_POLL_MS 200
#define THREADS 32 /* that ask libvirt and agents: an agent that hangs holds one for its deadline */

typedef struct {
    void (*function)(VrHealthLook *look);
    gint64 look_ms;
} Step;

static void do_step(gpointer data, gpointer user_data)
{
    const Step *step = user_data;
    VrHealthLook *look = data;

    vr_handover_take(look);
    look->deadline_ms =
        vr_clock_now_ms() + step->look_ms; /* from now on: what hangs takes no time of those behind it */
    if (!look->aborted || !g_atomic_int_get(look->aborted))
        step->function(look);
    vr_handover_give(look);
}

static void step_all(VrHealthLook *looks, guint count, const Step *step)
{
    GThreadPool *pool = g_thread_pool_new(do_step, (gpointer)step, (gint)MIN(count, THREADS), FALSE, NULL);

    for (guint i = 0; i < count; i++) {
        vr_handover_give(&looks[i]);
        g_thread_pool_push(pool, &looks[i], NULL);
    }
    g_thread_pool_free(pool, FALSE, TRUE);
    for (guint i = 0; i < count; i++)
        vr_handover_take(&looks[i]);
}

static void ask_network(VrHealthLook *looks, guint count, gint64 look_ms)
{
    g_autofree VrNetRequest *requests = g_new(VrNetRequest, count);
    g_autofree VrNetReply *replies = g_new0(VrNetReply, count);
    guint asking = 0;

    for (guint i = 0; i < count; i++) {
        looks[i].request.timeout_ms = look_ms;
        if (looks[i].asks)
            requests[asking++] = looks[i].request;
    }
    vr_net_ask(requests, asking, looks[0].aborted, replies);
    asking = 0;
    for (guint i = 0; i < count; i++)
        if (looks[i].asks)
            looks[i].reply = replies[asking++];
}

static void look_at_all(VrHealthLook *looks, guint count, gint64 look_ms)
{
    const Step begin = {vr_health_look_begin, look_ms}, end = {vr_health_look_end, look_ms};

    step_all(looks, count, &begin);
    ask_network(looks, count, look_ms);
    step_all(looks, count, &end);
    for (guint i = 0; i < count; i++) {
        vr_health_look_clear(&looks[i]);
        looks[i].asks = FALSE;
    }
}

/* Keeps those that are neither healthy nor off. */
static guint keep_unhealthy(VrHealthLook *looks, guint count)
{
    guint kept = 0;

    for (guint i = 0; i < count; i++)
        if (looks[i].answer->state != VR_HEALTH_HEALTHY && !looks[i].answer->off)
            looks[kept++] = looks[i];
    return kept;
}

static gboolean is_aborted(const gint *aborted)
{
    return aborted && g_atomic_int_get(aborted);
}

gboolean vr_health_survey(VrHv *hv, const VrHealthProfile *profile, const VrHealthSubject *subjects, guint count,
                          gint64 look_ms, guint looks, const gint *aborted, VrHealthAnswer *answers)
{
    g_autofree VrHealthLook *all = g_new0(VrHealthLook, count);
    gint64 begun_ms;

    for (guint i = 0; i < count; i++)
        all[i] = (VrHealthLook){
            .hv = hv, .profile = profile, .subject = subjects[i], .aborted = aborted, .answer = &answers[i]};
    for (guint round = 0; round < looks && count > 0 && !is_aborted(aborted); round++) {
        begun_ms = vr_clock_now_ms();
        look_at_all(all, count, look_ms);
        count = keep_unhealthy(all, count);
        while (count > 0 && round + 1 < looks && vr_clock_now_ms() < begun_ms + profile->interval_ms &&
               !is_aborted(aborted))
            vr_clock_sleep_until(MIN(begun_ms + profile->interval_ms, vr_clock_now_ms() + ABORT_POLL_MS));
    }
    return !is_aborted(aborted);
}
