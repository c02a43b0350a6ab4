/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Private to hv/: what connection.c (sessions, waiting) and libvirt_ops.c (the operations) share. */
#pragma once

#include "hv/call.h"
#include "hv/connection.h"
#include "hv/session.h"

typedef struct {
    VrHv hv; /* first: a VrHv * of ours is a VrConnection * */
    char *uri;
    gint64 call_timeout_ms;
    VrWatch *watch; /* a reference; what has changed, told by libvirt's events */

    VrGate gate;          /* guards what follows; never held over a libvirt call */
    VrSession *session;   /* a reference; NULL: none is open */
    gboolean opening;     /* one thread opens, the others wait for its outcome */
    guint attempts;       /* ended attempts to open */
    guint failures;       /* of them, without a success since */
    gint64 not_before_ms; /* backoff */
    GError *open_error;   /* of the last attempt */
} VrConnection;

/* hv as ours; VR_ERROR_USAGE when it is another kind of hypervisor. */
VrConnection *vr_connection_of(VrHv *hv, GError **error);

typedef enum {
    VR_OVERRUN_DROP,   /* the connection goes with the call: VR_ERROR_DISCONNECTED */
    VR_OVERRUN_DETACH, /* libvirt ends it by itself sooner or later: only the caller goes on, VR_ERROR_TIMEOUT */
} VrOverrun;

/* Runs the call on the current session (a new one if need be). what: for messages, "start". TRUE: results are
 * the caller's. */
gboolean vr_connection_call(VrConnection *self, VrCall *call, const char *what, gint64 patience_ms, VrOverrun overrun,
                            GError **error);

/* Closes and frees. */
void vr_connection_close(VrConnection *self);

/* The operations, for vr_connection_open(). */
extern const VrHvOps vr_libvirt_ops;
