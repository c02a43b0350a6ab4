/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The console of a domain as a stream of libvirt's.
 *
 * It is opened as `virsh console --safe` does it, without --force: where another client of libvirt has it, that one keeps it, and where somebody
 * takes it by force from us it is his. (VIR_DOMAIN_CONSOLE_SAFE: a driver that could not keep two apart says no. libvirt keeps the list of who has
 * which pseudo terminal, and makes a lock file beside, which programs without libvirt know, too.)
 *
 * Bytes come on the thread of libvirt's event loop, which only copies them. A stream's end asks libvirtd, so it is for a worker, as every call; nobody
 * waits for it. Where the connection is lost, what came until then stays; libvirt 9.0 tells nobody of a stream's end then, so it is asked for at the close. The stream holds a reference of its session, so an
 * abandoned session lives until the stream is closed.
 *
 * Nobody may hold a console and not read it: the guest would stand still at its next byte once the terminal's buffer is full. That is why a guest that
 * floods is let go, rather than read slowly; and a process of ours that is stopped loses it once libvirtd's keepalive has given it up.
 */
#include "base/error.h"
#include "base/handover.h"
#include "base/log.h"
#include "hv/connection_private.h"
#include "hv/libvirt_private.h"
#include <libvirt/virterror.h>

#define OPEN_MS (5 * 1000)
#define READ_BYTES (32 * 1024)
#define READS_AT_ONCE 16 /* then other events have their turn */

/* What it says to libvirtd may take its time. */
static gboolean do_end(VrCall *call, GError **error)
{
    virStreamAbort(call->stream);
    virStreamFree(g_steal_pointer(&call->stream));
    return TRUE;
}

/* On the event loop's thread, so that no event of the stream is being told meanwhile, and none is afterwards: libvirt 9.0 forgets to free what was registered
 * with a callback of a remote stream, so that is ours to do, and it has to be known when. Takes the call. */
static void on_end(int timer, void *data)
{
    g_autoptr(VrCall) end = data;

    vr_handover_take(end);
    virEventRemoveTimeout(timer);
    virStreamEventRemoveCallback(end->stream);
    vr_call_run(end, 0);
}

#define LOST "the console was lost: libvirt ended it, or somebody took it"

/* Takes the call. */
static const char *end_stream(void *data)
{
    VrCall *end = data;
    gboolean alive = virConnectIsAlive(end->session->conn) == 1;

    vr_handover_give(end);
    if (virEventAddTimeout(0, on_end, end, NULL) < 0)
        vr_warning(NULL, "libvirt's event loop takes nothing: a console stays open until the end of the process");
    return alive ? NULL : LOST;
}

/* On the event loop's thread. Whatever the stream says beside bytes is its end; the guest's own is no news. */
static void on_stream(virStreamPtr stream, int events, void *data)
{
    VrConsole *console = data;
    char bytes[READ_BYTES];
    int got = 1;
    gboolean wanted = TRUE;

    vr_handover_take(console);
    for (guint i = 0; i < READS_AT_ONCE && got > 0 && wanted; i++) {
        got = virStreamRecv(stream, bytes, sizeof bytes);
        wanted = got <= 0 || vr_console_add(console, bytes, (gsize)got);
    }
    if (got == -2 && (events & (VIR_STREAM_EVENT_ERROR | VIR_STREAM_EVENT_HANGUP)) == 0)
        return;
    if (got > 0 && wanted)
        return;
    virStreamEventUpdateCallback(stream, 0);
    if (!wanted)
        vr_console_close(console);
    else if (got < 0)
        vr_console_say(console, LOST);
}

/* Takes the stream; it is open. */
static gboolean follow(VrCall *call, virStreamPtr stream, GError **error)
{
    VrCall *end = vr_call_new(do_end, call->subject);
    int events = VIR_STREAM_EVENT_READABLE | VIR_STREAM_EVENT_ERROR | VIR_STREAM_EVENT_HANGUP;

    end->session = vr_session_ref(call->session);
    end->stream = stream;
    end->console = vr_console_ref(call->console);
    vr_handover_give(end->console);
    if (virStreamEventAddCallback(stream, events, on_stream, end->console, NULL) < 0) {
        vr_libvirt_error(call, error);
        end_stream(end);
        return FALSE;
    }
    if (!vr_console_on_close(call->console, end_stream, end))
        end_stream(end);
    return TRUE;
}

static gboolean do_console(VrCall *call, GError **error)
{
    g_autoptr(virDomain) domain = vr_libvirt_domain(call, error);
    virStreamPtr stream = domain != NULL ? virStreamNew(call->conn, VIR_STREAM_NONBLOCK) : NULL;

    if (domain == NULL)
        return FALSE;
    if (stream == NULL)
        return vr_libvirt_error(call, error);
    if (virDomainOpenConsole(domain, NULL, stream, VIR_DOMAIN_CONSOLE_SAFE) < 0) {
        vr_libvirt_error(call, error);
        virStreamFree(stream);
        return FALSE;
    }
    return follow(call, stream, error);
}

/* One that comes late fills the console late, or finds it closed. */
gboolean vr_libvirt_op_console(VrHv *hv, const char *uuid, VrConsole *console, GError **error)
{
    g_autoptr(VrCall) call = vr_call_new(do_console, uuid);

    call->console = vr_console_ref(console);
    return vr_connection_call((VrConnection *)hv, call, "console", OPEN_MS, VR_OVERRUN_DETACH, error);
}
