/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One libvirt connection with its events, and the process's event loop.
 *
 * Events say that something may have changed, never what is: the state is always read again (SAFETY 4.13).
 * Each domain has a count of its events and the count that was current when its state was last read, so an
 * event between reading and waiting is not lost. Losing a connection is an event of every domain.
 */
#include "hv/session.h"

#include "base/confine.h"
#include "base/error.h"
#include "base/log.h"
#include <libvirt/virterror.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/lsan_interface.h>
#endif
#include <signal.h>

#define KEEPALIVE_INTERVAL_S 5
#define KEEPALIVE_COUNT 3

/* -- What has changed ----------------------------------------------------------------------------- */

typedef struct {
    guint64 happened, seen;
} Changes;

/* One gate for all watches (a process has one connection, tests a few): so it is there before the event thread is,
 * which gets a watch through libvirt, out of the thread sanitizer's sight. Set up by start_libvirt(). */
static VrGate events;

struct VrWatch { /* all of it under `events` */
    guint refs;  /* the connection and each callback that is registered: they may outlive it */
    GHashTable *domains;
};

VrWatch *vr_watch_new(void)
{
    vr_gate_lock(&events);
    VrWatch *watch = g_new0(VrWatch, 1);
    watch->refs = 1;
    watch->domains = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    vr_gate_unlock(&events);
    return watch;
}

VrWatch *vr_watch_ref(VrWatch *watch)
{
    vr_gate_lock(&events);
    watch->refs++;
    vr_gate_unlock(&events);
    return watch;
}

void vr_watch_unref(VrWatch *watch)
{
    vr_gate_lock(&events);
    gboolean last = --watch->refs == 0;
    vr_gate_unlock(&events);
    if (!last)
        return;
    g_hash_table_unref(watch->domains);
    g_free(watch);
}

/* As libvirt's callbacks want it. */
static void watch_unref(void *data)
{
    vr_watch_unref(data);
}

/* With the gate held. Entries are made only for domains that we asked about: their number is bounded. */
static Changes *changes_of(VrWatch *watch, const char *uuid)
{
    Changes *changes = g_hash_table_lookup(watch->domains, uuid);

    if (changes == NULL) {
        changes = g_new0(Changes, 1);
        g_hash_table_insert(watch->domains, g_strdup(uuid), changes);
    }
    return changes;
}

/* uuid NULL: all of them. */
static void watch_tell(VrWatch *watch, const char *uuid)
{
    GHashTableIter iter;
    gpointer value;

    vr_gate_lock(&events);
    if (uuid != NULL) {
        Changes *changes = g_hash_table_lookup(watch->domains, uuid);
        if (changes != NULL)
            changes->happened++;
    } else {
        g_hash_table_iter_init(&iter, watch->domains);
        while (g_hash_table_iter_next(&iter, NULL, &value))
            ((Changes *)value)->happened++;
    }
    vr_gate_wake(&events);
    vr_gate_unlock(&events);
}

void vr_watch_mark_seen(VrWatch *watch, const char *uuid)
{
    vr_gate_lock(&events);
    Changes *changes = changes_of(watch, uuid);
    changes->seen = changes->happened;
    vr_gate_unlock(&events);
}

void vr_watch_wait(VrWatch *watch, const char *uuid, gint64 deadline_ms)
{
    vr_gate_lock(&events);
    Changes *changes = changes_of(watch, uuid);
    while (changes->happened == changes->seen && vr_gate_wait(&events, deadline_ms))
        ;
    changes->seen = changes->happened;
    vr_gate_unlock(&events);
}

/* -- The event loop ------------------------------------------------------------------------------- */

static gpointer run_event_loop(gpointer data)
{
    for (;;) {
        if (virEventRunDefaultImpl() < 0) {
            vr_warning(NULL, "libvirt's event loop failed: %s", virGetLastErrorMessage());
            g_usleep(100 * 1000);
        }
    }
    return NULL;
}

/* libvirt prints errors to stderr unless it is told not to: we report them, once. */
static void be_silent(void *data, virErrorPtr error)
{
}

/* Outside: what it logs to, by its environment, is the admin's choice. */
static void initialize(void *result)
{
    *(int *)result = virInitialize();
}

static gpointer start_libvirt(gpointer data)
{
    int result = -1;

    vr_confine_outside(initialize, &result);
    if (result < 0 || virEventRegisterDefaultImpl() < 0)
        return NULL;
    virSetErrorFunc(NULL, be_silent);
    signal(SIGPIPE, SIG_IGN); /* libvirt writes to the socket of a daemon that may have died a moment ago */
    vr_gate_init(&events);
    g_thread_unref(g_thread_new("libvirt-events", run_event_loop, NULL));
    return GINT_TO_POINTER(TRUE);
}

gboolean vr_session_start_library(GError **error)
{
    static GOnce once = G_ONCE_INIT;

    if (g_once(&once, start_libvirt, NULL) != NULL)
        return TRUE;
    g_set_error_literal(error, VR_ERROR, VR_ERROR_FAILED, "libvirt's library cannot be started");
    return FALSE;
}

/* -- Session -------------------------------------------------------------------------------------- */

static int on_lifecycle(virConnectPtr conn, virDomainPtr domain, int event, int detail, void *data)
{
    char uuid[VIR_UUID_STRING_BUFLEN];

    if (virDomainGetUUIDString(domain, uuid) == 0)
        watch_tell(data, uuid);
    return 0;
}

static void on_agent(virConnectPtr conn, virDomainPtr domain, int state, int reason, void *data)
{
    on_lifecycle(conn, domain, state, reason, data);
}

static void on_close(virConnectPtr conn, int reason, void *data)
{
    watch_tell(data, NULL);
}

static int register_event(virConnectPtr conn, int event, virConnectDomainEventGenericCallback callback, VrWatch *watch)
{
    int id = virConnectDomainEventRegisterAny(conn, NULL, event, callback, vr_watch_ref(watch), watch_unref);

    if (id < 0)
        vr_watch_unref(watch);
    return id;
}

/* A driver without events or keepalive (test:///) is no error: waiting re-checks by itself. Takes conn. */
VrSession *vr_session_new(virConnectPtr conn, VrWatch *watch)
{
    VrSession *session = g_new0(VrSession, 1);

    vr_gate_init(&session->gate);
    session->refs = 1;
    session->conn = conn;
    virConnectSetKeepAlive(conn, KEEPALIVE_INTERVAL_S, KEEPALIVE_COUNT);
    session->callbacks[0] =
        register_event(conn, VIR_DOMAIN_EVENT_ID_LIFECYCLE, VIR_DOMAIN_EVENT_CALLBACK(on_lifecycle), watch);
    session->callbacks[1] =
        register_event(conn, VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE, VIR_DOMAIN_EVENT_CALLBACK(on_agent), watch);
    /* No reference of its own: a driver that knows no close callbacks (test:///) accepts one and never frees it. */
    session->watch = vr_watch_ref(watch);
    session->close_callback = virConnectRegisterCloseCallback(conn, on_close, watch, NULL) == 0;
    return session;
}

VrSession *vr_session_ref(VrSession *session)
{
    vr_gate_lock(&session->gate);
    session->refs++;
    vr_gate_unlock(&session->gate);
    return session;
}

/* Where the daemon's end closes at the same moment, libvirt 9.0 loses the 80 bytes of an error in here: virNetClientCloseInternal looks whether its
 * socket is still there before it takes the lock. A process closes few connections, so only LeakSanitizer minds. */
static void connection_close(virConnectPtr conn)
{
#ifdef __SANITIZE_ADDRESS__
    __lsan_disable();
#endif
    virConnectClose(conn);
#ifdef __SANITIZE_ADDRESS__
    __lsan_enable();
#endif
}

/* A registered callback holds a reference on the connection: without this it would never be closed. */
static void session_close(VrSession *session)
{
    for (gsize i = 0; i < G_N_ELEMENTS(session->callbacks); i++) {
        if (session->callbacks[i] >= 0)
            virConnectDomainEventDeregisterAny(session->conn, session->callbacks[i]);
    }
    if (session->close_callback)
        virConnectUnregisterCloseCallback(session->conn, on_close);
    connection_close(session->conn);
    vr_watch_unref(session->watch);
    vr_gate_clear(&session->gate);
    g_free(session);
}

void vr_session_unref(VrSession *session)
{
    vr_gate_lock(&session->gate);
    gboolean last = --session->refs == 0;
    vr_gate_unlock(&session->gate);
    if (last)
        session_close(session);
}
