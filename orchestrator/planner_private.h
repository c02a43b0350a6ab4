/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Private to the planner: planner.c finds the next batch, planner_text.c says why it is as it is. */
#pragma once

#include "orchestrator/planner.h"

#define VR_PAIR_TAKEN 1 /* one of the pair is in the batch */
#define VR_PAIR_DOWN 2  /* one of the pair is down */

/* What one batch may take, found in two passes over the candidates and counted down as the batch fills. */
typedef struct {
    const VrUpgradePolicy *policy;
    const VrCandidate *candidates;
    guint count;
    gboolean ignore_limits;

    guint wish;               /* D1, D30: the batch at its largest */
    guint size;               /* ... as the host lets it be (D24) */
    guint counted;            /* vr_planner_is_counted() */
    guint allowed;            /* decision 1: down at once, for any cause */
    guint down;               /* hold a place now, in the whole set */
    guint pending;            /* still to be moved, now or later */
    guint64 phase;            /* whose turn it is */
    guint free;               /* places for instances that are up now; G_MAXUINT where limits only warn */
    gboolean takes_down;      /* an instance that is down already, or off, needs no new place */
    gboolean unhealthy_first; /* not only those that an earlier run left failed */
    guint roles, pair_count;  /* the largest numbers of labels, and one more */
    guint *spare;             /* [roles]: of each, how many that serve may still be taken */
    guint8 *pairs;            /* [pair_count]: VR_PAIR_... */
    guint8 *taken;            /* [count]: is in the batch */
} VrRoom;

typedef enum { VR_OBSTACLE_NONE, VR_OBSTACLE_PLACE, VR_OBSTACLE_ROLE, VR_OBSTACLE_PAIR } VrObstacle;

/* May it be moved now, as far as nobody holds it back? */
gboolean vr_room_waits(const VrCandidate *candidate);

/* Its phases as one number, the model's in the upper half: lower goes first. */
guint64 vr_room_phase(const VrCandidate *candidate);

/* Is it of the phase whose turn it is, or not kept back by the order that guests ask for? */
gboolean vr_room_has_turn(const VrRoom *room, const VrCandidate *candidate);

/* Is it down, and to be moved before those that are not? */
gboolean vr_room_goes_first(const VrRoom *room, const VrCandidate *candidate);

/* What a batch does not cross, as one number: its upgrade domain and its zone. Lower goes first. */
guint64 vr_room_group(const VrRoom *room, const VrCandidate *candidate);

/* What keeps one whose turn it is out of the batch. */
VrObstacle vr_room_obstacle(const VrRoom *room, const VrCandidate *candidate);

/* The reason of a batch that was filled. Free with g_free. */
char *vr_room_explain(const VrRoom *room, const VrBatch *batch, guint64 group);
