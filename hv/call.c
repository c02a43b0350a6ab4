/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "hv/call.h"

#include "base/clock.h"
#include "base/error.h"
#include "hv/session.h"
#include <time.h>

/* -- Gate ----------------------------------------------------------------------------------------- */

void vr_gate_init(VrGate *gate)
{
    pthread_condattr_t attributes;

    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&gate->mutex, NULL);
    pthread_cond_init(&gate->cond, &attributes);
    pthread_condattr_destroy(&attributes);
}

void vr_gate_clear(VrGate *gate)
{
    pthread_cond_destroy(&gate->cond);
    pthread_mutex_destroy(&gate->mutex);
}

void vr_gate_lock(VrGate *gate)
{
    pthread_mutex_lock(&gate->mutex);
}

void vr_gate_unlock(VrGate *gate)
{
    pthread_mutex_unlock(&gate->mutex);
}

void vr_gate_wake(VrGate *gate)
{
    pthread_cond_broadcast(&gate->cond);
}

/* The boot-time clock says how long is left; the condition can only count on the monotonic one. They differ by
 * time in suspend, which at most makes one wait longer by what the host slept. */
gboolean vr_gate_wait(VrGate *gate, gint64 deadline_ms)
{
    gint64 left_ms = deadline_ms - vr_clock_now_ms();
    struct timespec until;

    if (left_ms <= 0)
        return FALSE;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += left_ms / 1000;
    until.tv_nsec += (left_ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    pthread_cond_timedwait(&gate->cond, &gate->mutex, &until);
    return TRUE;
}

/* -- What hangs ----------------------------------------------------------------------------------- */

static pthread_mutex_t hanging_lock = PTHREAD_MUTEX_INITIALIZER;
static GHashTable *hanging; /* subject -> how many calls; under the lock */

static guint count_hanging(const char *on, int change)
{
    guint calls;

    if (hanging == NULL)
        hanging = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    calls = GPOINTER_TO_UINT(g_hash_table_lookup(hanging, on)) + (guint)change;
    if (calls > 0)
        g_hash_table_insert(hanging, g_strdup(on), GUINT_TO_POINTER(calls));
    else
        g_hash_table_remove(hanging, on);
    return calls;
}

static void add_hanging(const char *on, int change)
{
    pthread_mutex_lock(&hanging_lock);
    count_hanging(on, change);
    pthread_mutex_unlock(&hanging_lock);
}

guint vr_call_hanging(const char *on, guint *subjects)
{
    pthread_mutex_lock(&hanging_lock);
    guint calls = count_hanging(on, 0);
    *subjects = g_hash_table_size(hanging);
    pthread_mutex_unlock(&hanging_lock);
    return calls;
}

/* -- Call ----------------------------------------------------------------------------------------- */

VrCall *vr_call_new(VrCallFunc func, const char *subject)
{
    VrCall *call = g_new0(VrCall, 1);

    call->func = func;
    call->subject = g_strdup(subject);
    call->refs = 1;
    vr_gate_init(&call->gate);
    return call;
}

static void call_free(VrCall *call)
{
    g_free(call->subject);
    g_free(call->text);
    g_free(call->hangs_on);
    g_free(call->string);
    g_clear_pointer(&call->strings, g_ptr_array_unref);
    vr_domain_info_clear(&call->info);
    g_clear_error(&call->error);
    g_clear_pointer(&call->console, vr_console_unref);
    /* Last, as closing a connection may take its time. */
    g_clear_pointer(&call->opened, vr_session_unref);
    g_clear_pointer(&call->session, vr_session_unref);
    g_clear_pointer(&call->watch, vr_watch_unref);
    vr_gate_clear(&call->gate);
    g_free(call);
}

void vr_call_unref(VrCall *call)
{
    if (call == NULL)
        return;
    vr_gate_lock(&call->gate);
    gboolean last = --call->refs == 0;
    vr_gate_unlock(&call->gate);
    if (last)
        call_free(call);
}

static void *work(void *data)
{
    VrCall *call = data;

    call->ok = call->func(call, &call->error);
    vr_gate_lock(&call->gate);
    call->done = TRUE;
    gboolean abandoned = call->abandoned;
    vr_gate_wake(&call->gate);
    vr_gate_unlock(&call->gate);
    if (abandoned)
        add_hanging(call->hangs_on, -1);
    vr_call_unref(call);
    return NULL;
}

/* A thread for each call: next to a call of libvirt it costs nothing, and one that hangs blocks no other. */
static gboolean start_worker(VrCall *call)
{
    pthread_attr_t attributes;
    pthread_t thread;

    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    int failed = pthread_create(&thread, &attributes, work, call);
    pthread_attr_destroy(&attributes);
    if (failed != 0)
        vr_set_error_errno(&call->error, failed, "no thread for a call of libvirt");
    return failed == 0;
}

gboolean vr_call_run(VrCall *call, gint64 patience_ms)
{
    gint64 deadline = vr_clock_now_ms() + patience_ms;

    /* The worker of an earlier try may be about to let its reference go. */
    vr_gate_lock(&call->gate);
    call->done = FALSE;
    call->refs++;
    vr_gate_unlock(&call->gate);
    if (!start_worker(call)) {
        vr_call_unref(call);
        call->ok = FALSE;
        return TRUE;
    }
    vr_gate_lock(&call->gate);
    while (!call->done && vr_gate_wait(&call->gate, deadline))
        ;
    gboolean ended = call->done;
    vr_gate_unlock(&call->gate);
    return ended;
}

/* It counts before its worker can see that it does. */
void vr_call_abandon(VrCall *call, const char *on)
{
    call->hangs_on = on != NULL ? g_strdup(on) : g_strdup_printf("%p", (void *)call);
    add_hanging(call->hangs_on, 1);
    vr_gate_lock(&call->gate);
    call->abandoned = !call->done;
    gboolean hangs = call->abandoned;
    vr_gate_unlock(&call->gate);
    if (!hangs)
        add_hanging(call->hangs_on, -1);
}
