/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Is an instance healthy? From one source (E5): a file or a command through the guest agent, or the power state. */
#pragma once

#include "orchestrator/model.h"

typedef enum {
    VR_HEALTH_INITIALIZING, /* within the grace period, or not answering yet */
    VR_HEALTH_HEALTHY,
    VR_HEALTH_UNHEALTHY,
    VR_HEALTH_UNKNOWN /* counts as unhealthy (E8) */
} VrHealthState;
const char *vr_health_state_name(VrHealthState state);

typedef struct {
    VrHealthState state;
    char *text;    /* what was seen, for a person; owned */
    char *boot_id; /* of the guest, from its agent; NULL when the source has none; owned */
    gboolean off;  /* the domain is off */
} VrHealthAnswer;
void vr_health_answer_clear(VrHealthAnswer *answer);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(VrHealthAnswer, vr_health_answer_clear)

/* One look, at most until deadline_ms. Never fails: what cannot be asked is UNKNOWN or UNHEALTHY with its text. */
void vr_health_probe(VrHv *hv, const VrHealthProfile *profile, const char *uuid, gint64 deadline_ms,
                     VrHealthAnswer *answer);

typedef struct {
    const char *uuid;
    const char *old_boot_id; /* an answer with this boot id comes from the old disk (invariant 26); NULL: not known */
    gint64 started_ms;       /* when it began to run; health_timeout counts from here (E1) */
    const gint *aborted;     /* NULL, or set to non-zero by another thread: ends the wait as UNKNOWN */
} VrHealthWait;

/* Waits until it is healthy for numberOfProbes looks in a row (TRUE), or the time is over or QEMU has gone (FALSE): *answer is the last
 * one, its text says why. */
gboolean vr_health_wait(VrHv *hv, const VrHealthProfile *profile, const VrHealthWait *wait, VrHealthAnswer *answer);
