/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The body of a health reply (E10), as Azure's Application Health extension reads it:
 *
 *   {"ApplicationHealthState": "Healthy", "customMetrics": "{\"rollingUpgrade\": {\"PhaseOrderingNumber\": 0, \"SkipUpgrade\": false}}"}
 *
 * Azure's own samples write the keys in any case, customMetrics as a text or as an object, and the values as text or not:
 * all of them are read. What a guest says is hostile input: anything else is Unknown, never a guess.
 */
#pragma once

#include <glib.h>

typedef enum {
    VR_HEALTH_INITIALIZING, /* within the grace period, or not answering yet */
    VR_HEALTH_HEALTHY,
    VR_HEALTH_UNHEALTHY,
    VR_HEALTH_UNKNOWN /* counts as unhealthy (E8) */
} VrHealthState;
const char *vr_health_state_name(VrHealthState state);

/* What a guest asks of a run (D14). */
typedef struct {
    guint phase;   /* PhaseOrderingNumber + 1; 0: no number, the last phase */
    gboolean skip; /* SkipUpgrade */
} VrGuestWish;

typedef struct {
    VrHealthState state; /* Healthy, Unhealthy or Unknown */
    const char *text;    /* what it says, for a person; static */
    char *metrics;       /* customMetrics as JSON text; NULL: none; owned */
    VrGuestWish wish;
} VrHealthReply;
void vr_health_reply_clear(VrHealthReply *reply);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(VrHealthReply, vr_health_reply_clear)

/* Reads a body that the caller has bounded. FALSE: it does not speak of ApplicationHealthState at all. */
gboolean vr_health_reply_parse(const char *body, gsize length, VrHealthReply *reply);
