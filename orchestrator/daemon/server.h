/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * HTTP/1.1 over the daemon's sockets, by libmicrohttpd on the main loop. A peer may be anybody and may do anything, so what it can take is bounded
 * here: connections (peers.h), 16 KiB of request line and headers, 1 MiB of body and 8 MiB of all bodies that are held, 10 s of
 * silence, 30 s for a whole request and again for its answer to be read. Nothing of a peer is waited for.
 *
 * Who must wait for a job suspends its request: no timer runs then, and its connection costs nothing but its descriptor.
 */
#pragma once

#include "orchestrator/daemon/listen.h"
#include "orchestrator/daemon/peers.h"

#include <glib.h>
#include <microhttpd.h>

#define VR_SERVER_BODY_MAX (1024 * 1024)

typedef struct VrServer VrServer;

/* One request, from its headers until its answer is sent or its connection is gone. */
typedef struct VrRequest {
    struct MHD_Connection *connection;
    const VrPeer *peer;
    char *method, *path; /* the path is as it came: not unescaped */
    GString *body;       /* NULL: none */
    /* The handler's: */
    void *data;
    void (*free_data)(void *data); /* called when the request ends, if data is set */
    /* private to server.c */
    VrServer *server;
    gboolean too_large, waiting;
    gsize dropped; /* bytes of a body that is too large */
} VrRequest;

/* Answers a whole request with vr_answer_*(), or calls vr_request_wait() and returns MHD_YES: then it is called again after vr_request_go_on(). */
typedef enum MHD_Result (*VrServerHandler)(void *data, VrRequest *request);

VrServer *vr_server_new(VrServerHandler handler, void *data, GError **error);

/* Accepts connections from now on; the sockets stay the caller's, and must stay open. */
void vr_server_listen(VrServer *server, const VrListens *listens);

/* Closes all connections: requests that wait are dropped, and their data is freed. */
void vr_server_free(VrServer *server);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrServer, vr_server_free)

void vr_request_wait(VrRequest *request);
void vr_request_go_on(VrRequest *request);

/* The connection is to be upgraded: no deadline of ours is on it any more. */
void vr_request_keep(VrRequest *request);

/* A connection that was upgraded has been closed: libmicrohttpd is to look after it, of which its own descriptors do not tell. */
void vr_server_look(VrServer *server);

/* Open connections. */
guint vr_server_connections(const VrServer *server);
