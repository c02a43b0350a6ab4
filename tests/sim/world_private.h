/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "tests/sim/check.h"
#include "tests/sim/world.h"

#define WORDS 5 /* kinds of reasons for a failure */

/* Chances in thousandths. */
typedef struct {
    guint sick_first, drift, recover, unprepared, unswapped, unhealthy, unrecorded, unrestored, unknown, blind, lies,
        stale, operator, relapse, power, gate_no, late, jump, numbers, skips, fickle, stuck, vanish, crash, second,
        busy, wall, unsaid;
    guint words;    /* how many kinds of reasons there are */
    gboolean quiet; /* no drift while a batch is in flight: then the real count of what is down is checked too */
} Chances;

/* What a recovery can still do about an instance that failed. */
typedef enum { SWAP_OVER, SWAP_UNRECORDED, SWAP_NOT_BACK, SWAP_LEFT } OpenSwap;

typedef struct {
    gboolean sick, off;
    gboolean ran; /* when this run stopped it */
    gboolean upgraded;
    gboolean fell; /* off by itself, after its upgrade */
    gboolean left; /* failed by an earlier run, and no survey or probe found it well since (decision 6) */
    gboolean
        guarded; /* protected, and this run has neither taken it while it was well, nor found it well since it took it (G7) */
    gboolean taken; /* by a swap, until it is proven healthy or restored */
    gboolean dark;  /* ... and off by now: neither disk runs, or it has crashed */
    VrGuestWish wish;
    gboolean recalled; /* its notice was called off */
    gboolean swapping; /* its SWAP was begun */
    gboolean ran_new;  /* ... and its new disk has run */
    OpenSwap open;     /* of one that failed */
} Guest;

/* When the process dies in a step. */
typedef enum {
    CRASH_NONE,
    CRASH_LOST,    /* before what the step changed was in the journal */
    CRASH_BETWEEN, /* after the phase of an instance was, and before the state was */
    CRASH_KEPT     /* after that, and before a command was obeyed */
} Crash;

typedef struct {
    VrCommandType type;
    guint instance;
    gint64 due_ms;
    gboolean fenced; /* of the owner that was stopped: it was given after another had taken over */
} Errand;

/* An orchestrator that was stopped, and whose set has another owner by now. */
typedef struct {
    VrRollout *rollout;
    Check *check;
    GArray *errands;
    guint batches; /* that it has begun since */
} Stopped;

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
    guint boots;
    gint64 kept_ms;    /* when the state was kept last */
    gboolean kept;     /* ... by the process that works now */
    char *saved;       /* the state that the last process has left; NULL: nothing. As of saved_ms, in boot saved_boot */
    Check *kept_check; /* as it was then */
    gint64 saved_ms;
    guint saved_boot;
    Crash crash;
    guint crashes_left;
    Stopped *stopped;
    gint64 vanished_until;
    guint hosts, vanished_host; /* instance i lies on host i % hosts */
    guint restarts, takeovers, amends;
    gboolean in_batch;
    gint64 window_every_ms, window_ms; /* it opens at each multiple of the first on the wall clock, for the second */
    gint64 wall_ahead_ms;              /* wall clock less now_ms */
    gint64 batch_began_ms, longest_ms;
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

/* world_labels.c */
typedef struct {
    guint parts[4]; /* of each role, those that are not off on purpose */
    guint serving[4];
} RoleCounts;
RoleCounts world_count_roles(const World *world);

/* D8, in truth: after a batch has gone down. */
void world_look_at_roles(World *world, const RoleCounts *before);

void world_draw_labels(World *world);

/* ", role web, phase 1", or nothing. Free with g_free. */
char *world_label_words(const VrRolloutInstance *instance);

/* world.c */
void world_tell(World *world, const char *format, ...) G_GNUC_PRINTF(2, 3);
void world_deliver(World *world, const VrEvent *event);

/* Does the process die in this step? */
Crash world_draw_crash(World *world);
const char *world_event_name(VrEventType type);
gboolean world_stands_still(const World *world);
void world_add_errand(World *world, GArray *errands, const VrCommand *command, gboolean fenced);

/* Takes the errand that is answered next out of the list. */
Errand world_next_errand(World *world, GArray *errands);
void world_survey(World *world, VrEvent *event);
VrEventType world_answer_type(VrCommandType type);
VrOutcome world_outcome(World *world, VrCommandType type, guint instance);
char *world_reason(World *world, guint instance);

/* Keeps the two counts of what is down in truth. */
void world_guest_becomes(World *world, guint i, gboolean taken, gboolean sick);

/* From now on what becomes of it is this run's. */
void world_found_well(World *world, guint i);

/* world_restart.c */
void world_restart(World *world);

/* The state is not written any more from here on. */
void world_keep_last(World *world);
void world_take_over(World *world);

/* world_window.c */
void world_draw_window(World *world);
VrWindowAnswer world_look_at_window(World *world);

/* An answer may be heard later than it was found. */
void world_hears_late(World *world, const VrWindowAnswer *window);
void world_batch_begins(World *world);
void world_batch_ends(World *world);
void world_wall_jumps(World *world);

/* world_stopped.c */
void world_stop(World *world);
void world_stopped_acts(World *world);
void world_forget_stopped(World *world);

/* world_person.c */
void world_early_words(World *world);
void world_operate(World *world);
void world_person_acts(World *world);
void world_say_stale(World *world);
