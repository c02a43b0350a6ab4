/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One lock for all seats of a gathering. An ask lies on the stack of the thread that asks; while it waits it is in `waiting`, and who leads
 * takes it out of there. It may go when `done` is set, or when its own thread took it out of `waiting`.
 */
#include "base/gather.h"

#include "base/clock.h"
#include "base/error.h"

#include <pthread.h>
#include <time.h>

#define POLL_NS 100000000 /* how soon a cancel is heard by one who waits */

struct VrGather {
    VrGatherRules rules;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    guint seats;        /* that are not freed; the last one frees this */
    guint expected;     /* seats that neither asked nor left */
    GPtrArray *waiting; /* VrGatherAsk * */
    gboolean leading;   /* some thread does it for those that are not in `waiting` any more */
};

struct VrGatherSeat {
    VrGather *gather;
    gboolean spent; /* it asked or left; used by its own thread only */
};

struct VrGatherAsk {
    void *what;
    gint64 deadline_ms;
    gboolean done;
    GError *error; /* valid when done */
};

/* ---- seats ---- */

static VrGather *gather_new(guint seats, const VrGatherRules *rules)
{
    VrGather *gather = g_new0(VrGather, 1);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&gather->lock, NULL);
    pthread_cond_init(&gather->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    gather->rules = *rules;
    gather->seats = gather->expected = seats;
    gather->waiting = g_ptr_array_new();
    return gather;
}

static void gather_free(VrGather *gather)
{
    if (gather->rules.free_data)
        gather->rules.free_data(gather->rules.data);
    pthread_cond_destroy(&gather->changed);
    pthread_mutex_destroy(&gather->lock);
    g_ptr_array_unref(gather->waiting);
    g_free(gather);
}

void vr_gather_new(VrGatherSeat **seats, guint n, const VrGatherRules *rules)
{
    VrGather *gather = gather_new(n, rules);
    for (guint i = 0; i < n; i++) {
        seats[i] = g_new0(VrGatherSeat, 1);
        seats[i]->gather = gather;
    }
    if (n == 0)
        gather_free(gather);
}

/* With the lock. */
static void spend(VrGatherSeat *seat)
{
    if (seat->spent)
        return;
    seat->spent = TRUE;
    seat->gather->expected--;
    pthread_cond_broadcast(&seat->gather->changed);
}

void vr_gather_leave(VrGatherSeat *seat)
{
    pthread_mutex_lock(&seat->gather->lock);
    spend(seat);
    pthread_mutex_unlock(&seat->gather->lock);
}

void vr_gather_free(VrGatherSeat *seat)
{
    if (!seat)
        return;
    VrGather *gather = seat->gather;
    pthread_mutex_lock(&gather->lock);
    spend(seat);
    gboolean last = --gather->seats == 0;
    pthread_mutex_unlock(&gather->lock);
    if (last)
        gather_free(gather);
    g_free(seat);
}

/* ---- who leads ---- */

void *vr_gather_what(const VrGatherAsk *ask)
{
    return ask->what;
}

void vr_gather_settle(VrGather *gather, VrGatherAsk *ask, GError *error)
{
    pthread_mutex_lock(&gather->lock);
    ask->error = error;
    ask->done = TRUE;
    pthread_cond_broadcast(&gather->changed);
    pthread_mutex_unlock(&gather->lock);
}

/* For all that wait now. With the lock, which is given up meanwhile. */
static void lead(VrGather *gather)
{
    g_autoptr(GPtrArray) round = gather->waiting;
    gather->waiting = g_ptr_array_new();
    gather->leading = TRUE;
    pthread_mutex_unlock(&gather->lock);
    gather->rules.lead(gather, round, gather->rules.data);
    pthread_mutex_lock(&gather->lock);
    gather->leading = FALSE;
    pthread_cond_broadcast(&gather->changed);
}

/* ---- who asks ---- */

static void wait_a_moment(VrGather *gather)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += POLL_NS;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    (void)pthread_cond_timedwait(&gather->changed, &gather->lock, &until);
}

/* It waits and nobody has begun for it. */
static gboolean gives_up(VrGather *gather, VrGatherAsk *ask)
{
    const gint *cancelled = gather->rules.cancelled;
    if (!cancelled || !g_atomic_int_get(cancelled) || !g_ptr_array_remove(gather->waiting, ask))
        return FALSE;
    ask->error = g_error_new(VR_ERROR, VR_ERROR_CANCELLED, "%s was cancelled", gather->rules.name);
    return TRUE;
}

gboolean vr_gather_ask(VrGatherSeat *seat, void *what, GError **error)
{
    VrGather *gather = seat->gather;
    VrGatherAsk ask = {.what = what, .deadline_ms = vr_clock_now_ms() + VR_GATHER_MS};

    pthread_mutex_lock(&gather->lock);
    g_ptr_array_add(gather->waiting, &ask);
    spend(seat);
    while (!ask.done && !gives_up(gather, &ask)) {
        gboolean others_may_come = gather->expected > 0 && vr_clock_now_ms() < ask.deadline_ms;
        if (gather->leading || others_may_come)
            wait_a_moment(gather);
        else
            lead(gather);
    }
    pthread_mutex_unlock(&gather->lock);
    if (!ask.error)
        return TRUE;
    g_propagate_error(error, ask.error);
    return FALSE;
}
