/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "tests/sim/check.h"
#include "tests/sim/world.h"

#define WORDS 5 /* kinds of reasons for a failure */

/* Chances in thousandths. */
typedef struct {
    guint sick_first, drift, recover, unprepared, unswapped, unhealthy, unrecorded, unrestored, unknown, blind, lies,
        stale, operator, relapse, power, gate_no, late, jump, numbers, skips, fickle, stuck;
    guint words;    /* how many kinds of reasons there are */
    gboolean quiet; /* no drift while a batch is in flight: then the real count of what is down is checked too */
} Chances;

typedef struct {
    gboolean sick, off;
    gboolean ran; /* when this run stopped it */
    gboolean upgraded;
    gboolean fell;  /* off by itself, after its upgrade */
    gboolean left;  /* failed by an earlier run, and no survey or probe found it well since (decision 6) */
    gboolean taken; /* by a swap, until it is proven healthy or restored */
    VrGuestWish wish;
} Guest;

typedef struct {
    VrCommandType type;
    guint instance;
    gint64 due_ms;
} Errand;

typedef struct {
    guint64 random;
    Chances chances;
    VrRolloutConfig config;
    VrRolloutInstance *instances;
    Guest *guests;
    VrSurveyAnswer *answers;
    VrGuestWish *wishes; /* of the answers */
    GArray *errands;     /* Errand: commands that are not answered yet */
    GArray *past;        /* VrEvent: what was answered, for doubles; without answers and reasons of their own */
    GArray *commands;    /* VrCommand, of the last step */
    VrRollout *rollout;
    Check *check;
    GString *story;
    gint64 now_ms;
    gboolean in_batch;
    guint domains;
    char *gate[2];
    guint taken, sick; /* counts over guests that were not left failed: taken, and sick but not taken */
    guint steps;
    char *violation;
} World;

/* world_draw.c */
void world_init(World *world, guint64 seed, GString *story);
guint world_below(World *world, guint limit);
gboolean world_chance(World *world, guint thousandths);
VrGuestWish world_draw_wish(World *world);

/* world.c */
void world_tell(World *world, const char *format, ...) G_GNUC_PRINTF(2, 3);
void world_deliver(World *world, const VrEvent *event);

/* world_person.c */
void world_operate(World *world);
void world_person_acts(World *world);
void world_say_stale(World *world);
