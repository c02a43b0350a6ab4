/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Opening, losing and reopening.
 *
 * A VrConnection is what our callers hold; a VrSession is one real connection of libvirt. A session is dropped
 * when a call on it ran over its deadline or when libvirt says that it is dead (closed by libvirtd or by
 * keepalive); the next call opens a new one. Dropping only lets go of our reference: a call that hangs keeps its
 * session until it returns, and the last one out closes it. Only one thread opens at a time; those that come
 * meanwhile share its outcome, so that two hundred waiting guests do not knock two hundred times.
 *
 * Lock order: none; no gate is taken while another is held.
 */
#include "hv/connection_private.h"

#include "base/clock.h"
#include "base/confine.h"
#include "base/error.h"
#include "base/log.h"
#include <libvirt/virterror.h>
#include <string.h>
#include <unistd.h>

#define DEFAULT_CALL_TIMEOUT_MS (60 * 1000)
#define OPEN_TIMEOUT_MS (20 * 1000)
#define CLOSE_TIMEOUT_MS (3 * 1000)
#define BACKOFF_FIRST_MS 100
#define BACKOFF_MAX_MS 2000
#define MAX_HANGING_ON_ONE 2   /* calls about one domain; then libvirt is not asked about it any more */
#define MAX_HANGING_SUBJECTS 5 /* domains, and calls about none; then libvirt is not asked any more */

VrConnection *vr_connection_of(VrHv *hv, GError **error)
{
    if (hv->ops == &vr_libvirt_ops)
        return (VrConnection *)hv;
    g_set_error_literal(error, VR_ERROR, VR_ERROR_USAGE, "this needs a connection of libvirt");
    return NULL;
}

/* -- Opening -------------------------------------------------------------------------------------- */

/* By a transport that leaves the host, or by the name of one: the disks that libvirt speaks of there are not those that we would open here. What cannot
 * be parsed is for libvirt to refuse. */
static gboolean is_of_this_host(const char *text, GError **error)
{
    g_autoptr(GUri) uri = g_uri_parse(text, G_URI_FLAGS_PARSE_RELAXED, NULL);
    const char *transport = uri != NULL ? strchr(g_uri_get_scheme(uri), '+') : NULL;
    const char *host = uri != NULL ? g_uri_get_host(uri) : NULL;
    gboolean names_one = host != NULL && host[0] != '\0';

    if (!names_one && (transport == NULL || strcmp(transport, "+unix") == 0))
        return TRUE;
    g_set_error(
        error, VR_ERROR, VR_ERROR_USAGE,
        "%s is a libvirt that is reached over the network, and virt-reimage works only on the host that it runs "
        "on",
        text);
    if (names_one)
        vr_error_next(error,
                      "give the command there: 'ssh %s virt-reimage …'; qemu:///system is the libvirt of this "
                      "host",
                      host);
    else
        vr_error_next(error, "name one of this host, such as qemu:///system");
    return FALSE;
}

/* Where libvirt starts by itself there is nothing to start, and who is not root has to be let in first. */
static void set_unreachable_error(const char *uri, GError **error)
{
    const char *typed = uri != NULL ? uri : geteuid() == 0 ? "qemu:///system" : "qemu:///session";

    g_set_error(error, VR_ERROR, VR_ERROR_DISCONNECTED, "libvirt cannot be reached at %s",
                uri != NULL ? uri : "its default URI");
    vr_error_cause(error, "%s", virGetLastErrorMessage());
    if (geteuid() == 0 || strstr(typed, "/system") == NULL)
        vr_error_next(
            error, "'systemctl start libvirtd' (or virtqemud) starts it; 'virsh -c %s list' shows whether it answers",
            typed);
    else
        vr_error_next(error,
                      "only root may, and members of libvirt's group: use sudo; 'sudo virsh -c %s list' shows "
                      "whether it answers",
                      typed);
}

static gboolean open_here(VrCall *call, GError **error)
{
    const char *asked = call->subject != NULL ? call->subject : g_getenv("LIBVIRT_DEFAULT_URI");

    if (asked != NULL && !is_of_this_host(asked, error))
        return FALSE;
    virConnectPtr conn = virConnectOpen(call->subject);
    if (conn == NULL) {
        set_unreachable_error(call->subject, error);
        return FALSE;
    }
    char *uri = virConnectGetURI(conn);
    call->string = g_strdup(uri);
    free(uri);
    if (call->string != NULL && !is_of_this_host(call->string, error)) { /* libvirt.conf has names for such ones */
        virConnectClose(conn);
        return FALSE;
    }
    call->opened = vr_session_new(conn, call->watch);
    return TRUE;
}

typedef struct {
    VrCall *call;
    GError **error;
    gboolean ok;
} Opening;

static void open_outside(void *data)
{
    Opening *opening = data;

    opening->ok = open_here(opening->call, opening->error);
}

/* libvirt's client starts the daemon of a user's session, and an ssh: what we may not write to, they may. */
static gboolean do_open(VrCall *call, GError **error)
{
    Opening opening = {.call = call, .error = error};

    vr_confine_outside(open_outside, &opening);
    return opening.ok;
}

/* Without the gate. The new session, or NULL with the error. */
static VrSession *open_session(VrConnection *self, gint64 not_before_ms, char **uri, GError **error)
{
    g_autoptr(VrCall) call = vr_call_new(do_open, self->uri);
    gint64 timeout = MIN(OPEN_TIMEOUT_MS, self->call_timeout_ms);

    vr_clock_sleep_until(not_before_ms);
    call->watch = vr_watch_ref(self->watch);
    if (!vr_call_run(call, timeout)) {
        vr_call_abandon(call, NULL);
        g_set_error(error, VR_ERROR, VR_ERROR_DISCONNECTED,
                    "libvirt did not answer at %s within %" G_GINT64_FORMAT " s",
                    self->uri != NULL ? self->uri : "its default URI", timeout / 1000);
        vr_error_next(error, "'systemctl restart libvirtd' mends one that hangs, and leaves guests running");
        return NULL;
    }
    if (!call->ok) {
        g_propagate_error(error, g_steal_pointer(&call->error));
        return NULL;
    }
    *uri = g_steal_pointer(&call->string);
    return g_steal_pointer(&call->opened);
}

/* With the gate held: takes over what an attempt gave. */
static void note_attempt(VrConnection *self, VrSession *session, char *uri, GError *error)
{
    self->opening = FALSE;
    self->attempts++;
    g_clear_error(&self->open_error);
    if (session != NULL) {
        self->session = session;
        self->failures = 0;
        self->not_before_ms = 0;
        /* libvirt chose it once; a later choice could be another hypervisor. */
        if (self->uri == NULL)
            self->uri = g_steal_pointer(&uri);
    } else {
        gint64 pause = (gint64)BACKOFF_FIRST_MS << MIN(self->failures, 10);
        self->open_error = error;
        self->failures++;
        self->not_before_ms = vr_clock_now_ms() + MIN(pause, BACKOFF_MAX_MS);
    }
    g_free(uri);
    vr_gate_wake(&self->gate);
}

/* With the gate held: waits for the attempt of another thread, and shares its outcome. */
static void await_attempt(VrConnection *self)
{
    guint attempt = self->attempts;
    gint64 deadline = vr_clock_now_ms() + OPEN_TIMEOUT_MS + BACKOFF_MAX_MS;

    while (self->opening && self->attempts == attempt && vr_gate_wait(&self->gate, deadline))
        ;
}

static void attempt(VrConnection *self)
{
    GError *error = NULL;
    char *uri = NULL;

    self->opening = TRUE;
    gint64 not_before = self->not_before_ms;
    vr_gate_unlock(&self->gate);
    VrSession *session = open_session(self, not_before, &uri, &error);
    vr_gate_lock(&self->gate);
    note_attempt(self, session, uri, error);
}

/* With the gate held: takes a session out that libvirt says is dead (a local question). */
static VrSession *take_dead(VrConnection *self)
{
    if (self->session == NULL || virConnectIsAlive(self->session->conn) == 1)
        return NULL;
    return g_steal_pointer(&self->session);
}

/* A reference on a session that is alive, as far as is known. */
static VrSession *acquire(VrConnection *self, GError **error)
{
    vr_gate_lock(&self->gate);
    VrSession *dead = take_dead(self);
    if (self->session == NULL) {
        if (self->opening)
            await_attempt(self);
        else
            attempt(self);
    }
    VrSession *session = self->session != NULL ? vr_session_ref(self->session) : NULL;
    if (session == NULL && self->open_error != NULL)
        g_propagate_error(error, g_error_copy(self->open_error));
    else if (session == NULL)
        g_set_error_literal(error, VR_ERROR, VR_ERROR_DISCONNECTED, "libvirt cannot be reached");
    vr_gate_unlock(&self->gate);
    g_clear_pointer(&dead, vr_session_unref);
    return session;
}

/* Lets go of the session if it is still this one. */
static void drop(VrConnection *self, VrSession *session)
{
    vr_gate_lock(&self->gate);
    gboolean ours = self->session == session;
    if (ours)
        self->session = NULL;
    vr_gate_unlock(&self->gate);
    if (ours)
        vr_session_unref(session);
}

/* -- Calls ---------------------------------------------------------------------------------------- */

static void set_overrun_error(const char *what, gint64 patience_ms, VrOverrun overrun, GError **error)
{
    double seconds = (double)patience_ms / 1000.0;

    if (overrun == VR_OVERRUN_DETACH)
        g_set_error(error, VR_ERROR, VR_ERROR_TIMEOUT, "%s: no answer within %.0f s", what, seconds);
    else {
        g_set_error(error, VR_ERROR, VR_ERROR_DISCONNECTED, "%s: libvirt did not answer within %.0f s", what, seconds);
        vr_error_now(error, "the outcome is unknown");
    }
}

static const char *subject_of(const VrCall *call, const char *what)
{
    return call->subject != NULL ? call->subject : what;
}

/* Each call that hangs holds a thread and a connection, here and in libvirtd. A domain whose lock is held for ever hangs whatever is asked about
 * it, and only that; when calls about several hang, libvirt is taken for gone: what goes on now is brought to an end by its own errors, and
 * a new process recovers (SAFETY 4.13). When they return after all, libvirt is asked again. */
static gboolean is_worth_asking(const VrCall *call, const char *what, GError **error)
{
    const char *subject = subject_of(call, what);
    guint subjects;
    guint calls = vr_call_hanging(subject, &subjects);

    if (subjects >= MAX_HANGING_SUBJECTS) {
        g_set_error(error, VR_ERROR, VR_ERROR_DISCONNECTED,
                    "%s: libvirt is not asked any more, as calls of this process about %u things hang in it", what,
                    subjects);
        vr_error_next(error, "look at libvirtd and at the guests that do not answer ('systemctl restart libvirtd' "
                             "leaves guests running), then run 'virt-reimage recover'");
    } else if (calls >= MAX_HANGING_ON_ONE) {
        g_set_error(error, VR_ERROR, VR_ERROR_DISCONNECTED,
                    "%s: libvirt is not asked about %s any more, as %u calls of this process hang on it", what, subject,
                    calls);
        vr_error_next(error,
                      "'systemctl restart libvirtd' frees it and leaves guests running ('virsh dominfo %s' hangs too "
                      "until then); then run 'virt-reimage recover'",
                      subject);
    } else {
        return TRUE;
    }
    return FALSE;
}

static gboolean try_call(VrConnection *self, VrCall *call, const char *what, gint64 patience_ms, VrOverrun overrun,
                         GError **error)
{
    VrSession *session = is_worth_asking(call, what, error) ? acquire(self, error) : NULL;

    if (session == NULL)
        return FALSE;
    g_clear_pointer(&call->session, vr_session_unref);
    call->session = session;
    call->conn = session->conn;
    if (!vr_call_run(call, patience_ms)) {
        /* The call's reference is the worker's now; the pointer is only compared. */
        if (overrun == VR_OVERRUN_DROP) {
            vr_call_abandon(call, subject_of(call, what));
            vr_warning(NULL, "%s: abandoned after %" G_GINT64_FORMAT " ms with its libvirt connection", what,
                       patience_ms);
            drop(self, session);
        }
        set_overrun_error(what, patience_ms, overrun, error);
        return FALSE;
    }
    if (call->ok)
        return TRUE;
    if (g_error_matches(call->error, VR_ERROR, VR_ERROR_DISCONNECTED))
        drop(self, session);
    g_propagate_prefixed_error(error, g_steal_pointer(&call->error), "%s: ", what);
    return FALSE;
}

/* An abandoned call is not ours any more: nothing of it is read after vr_call_run() said so. */
gboolean vr_connection_call(VrConnection *self, VrCall *call, const char *what, gint64 patience_ms, VrOverrun overrun,
                            GError **error)
{
    for (guint i = 1;; i++) {
        g_autoptr(GError) local = NULL;

        if (try_call(self, call, what, patience_ms, overrun, &local))
            return TRUE;
        gboolean refused = g_error_matches(local, VR_ERROR, VR_ERROR_HYPERVISOR);
        if (!refused || !call->retry || i == VR_MAX_TRIES) {
            g_propagate_error(error, g_steal_pointer(&local));
            return FALSE;
        }
        call->retry = FALSE;
    }
}

/* -- The connection ------------------------------------------------------------------------------- */

static void connection_free(VrConnection *self)
{
    g_clear_error(&self->open_error);
    g_free(self->uri);
    vr_watch_unref(self->watch);
    vr_gate_clear(&self->gate);
    g_free(self);
}

gboolean vr_connection_is_in_process(const char *uri)
{
    const char *meant = uri != NULL ? uri : g_getenv("LIBVIRT_DEFAULT_URI");
    g_autoptr(GUri) parsed = meant != NULL ? g_uri_parse(meant, G_URI_FLAGS_NONE, NULL) : NULL;

    return parsed != NULL && strcmp(g_uri_get_path(parsed), "/embed") == 0;
}

VrHv *vr_connection_open(const char *uri, const VrConnectionOptions *options, GError **error)
{
    if (!vr_session_start_library(error))
        return NULL;
    VrConnection *self = g_new0(VrConnection, 1);

    self->hv.ops = &vr_libvirt_ops;
    self->uri = g_strdup(uri);
    self->call_timeout_ms =
        options != NULL && options->call_timeout_ms > 0 ? options->call_timeout_ms : DEFAULT_CALL_TIMEOUT_MS;
    self->watch = vr_watch_new();
    vr_gate_init(&self->gate);
    VrSession *session = acquire(self, error);
    if (session == NULL) {
        connection_free(self);
        return NULL;
    }
    vr_session_unref(session);
    return &self->hv;
}

/* Closing asks libvirtd, which may hang: on a worker, and not for ever. */
static gboolean do_close(VrCall *call, GError **error)
{
    g_clear_pointer(&call->session, vr_session_unref);
    return TRUE;
}

void vr_connection_close(VrConnection *self)
{
    if (self->session != NULL) {
        g_autoptr(VrCall) call = vr_call_new(do_close, NULL);
        call->session = g_steal_pointer(&self->session);
        vr_call_run(call, CLOSE_TIMEOUT_MS);
    }
    connection_free(self);
}
