/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Private to health*.c. */
#pragma once

#include "orchestrator/health.h"
#include "orchestrator/health_net.h"

#define VR_HEALTH_PING_S 3

/* Replaces the answer's state and text. */
void vr_health_say(VrHealthAnswer *answer, VrHealthState state, const char *format, ...) G_GNUC_PRINTF(3, 4);

/* One look in parts, so that many of them can share the network part: begin, then the request where `asks` says so, then end. */
typedef struct {
    VrHv *hv;
    const VrHealthProfile *profile;
    VrHealthSubject subject;
    gint64 deadline_ms;
    const gint *aborted; /* NULL, or set to non-zero by another thread: ends it */
    VrHealthAnswer *answer;
    gboolean asks; /* `request` is to be sent, and its reply put into `reply` */
    VrNetRequest request;
    char *host; /* of the request; owned */
    VrNetReply reply;
} VrHealthLook;
void vr_health_look_clear(VrHealthLook *look);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(VrHealthLook, vr_health_look_clear)

void vr_health_look_begin(VrHealthLook *look);
void vr_health_look_end(VrHealthLook *look);
