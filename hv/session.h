/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Private to hv/: one real connection of libvirt, and what its events tell. */
#pragma once

#include "hv/call.h"

/* Starts libvirt's library and its event loop thread, once for the process. */
gboolean vr_session_start_library(GError **error);

/* What has changed, by domain. Shared by a connection, its sessions' callbacks and calls: counted. */
VrWatch *vr_watch_new(void);
VrWatch *vr_watch_ref(VrWatch *watch);
void vr_watch_unref(VrWatch *watch);

/* Before a state is read: what happens from now on ends a vr_watch_wait(). */
void vr_watch_mark_seen(VrWatch *watch, const char *uuid);

/* Waits until something happened to the domain since it was marked seen, or until deadline_ms (boot time). */
void vr_watch_wait(VrWatch *watch, const char *uuid, gint64 deadline_ms);

struct VrSession {
    VrGate gate; /* guards refs; the rest does not change */
    guint refs;
    virConnectPtr conn;
    VrWatch *watch;   /* a reference, for the close callback */
    int callbacks[2]; /* ids, -1: not registered */
    gboolean close_callback;
};

/* Registers for events and turns keepalive on. Takes conn. */
VrSession *vr_session_new(virConnectPtr conn, VrWatch *watch);
VrSession *vr_session_ref(VrSession *session);

/* The last reference closes the connection, which asks libvirtd: on a worker, or on a connection that answers. */
void vr_session_unref(VrSession *session);
