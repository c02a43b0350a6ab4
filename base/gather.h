/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Threads of which each has a seat, and one of them does for all what is dear to begin: the read of an image, an appliance.
 *
 * Who asks waits until every other seat has asked or left; the last one leads. So a seat that will not be used must be freed as soon as
 * that is known. Nobody is waited for longer than VR_GATHER_MS: then those who are there go ahead, and who comes later is done alone, or with
 * those who are late too. While one leads, others wait for the end of that.
 */
#pragma once

#include <glib.h>

#define VR_GATHER_MS 60000

typedef struct VrGather VrGather;
typedef struct VrGatherSeat VrGatherSeat;

/* One who asked. `what` is its own. */
typedef struct VrGatherAsk VrGatherAsk;
void *vr_gather_what(const VrGatherAsk *ask);

/* Its answer, an owned error or NULL; it may go on at once. Once for each, before `lead` returns. */
void vr_gather_settle(VrGather *gather, VrGatherAsk *ask, GError *error);

typedef struct {
    /* Called in the thread of one who asked, never by two at a time. round: at least one VrGatherAsk *, not owned; it may be emptied. */
    void (*lead)(VrGather *gather, GPtrArray *round, void *data);
    void *data;
    GDestroyNotify free_data; /* may be NULL; when the last seat goes */
    const gint *cancelled;    /* NULL, or set to non-zero by another thread at any time; it outlives the seats */
    const char *name;         /* of what is done, for an error: "the copy" */
} VrGatherRules;

/* Fills seats[0..n-1]. n 0: nothing, but for free_data. */
void vr_gather_new(VrGatherSeat **seats, guint n, const VrGatherRules *rules);

/* TRUE: settled without an error. Once a seat. VR_ERROR_CANCELLED while it waits; who is led for hears of a cancel by `lead`. */
gboolean vr_gather_ask(VrGatherSeat *seat, void *what, GError **error);

/* It will not ask. Does nothing when it did. */
void vr_gather_leave(VrGatherSeat *seat);

/* Leaves. */
void vr_gather_free(VrGatherSeat *seat);
