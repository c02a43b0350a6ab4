/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a sweep cuts: a store with images, a few scripted guests, and a scenario that does something to them. Everything that
 * is done to the world is done in processes of their own; the sweep itself only looks at the files that they leave.
 */
#pragma once

#include "engine/recover.h"
#include "fault/fake_personalize.h"
#include "fault/points.h"
#include "fault/sweep_hv.h"
#include "fault/sweep_tree.h"

typedef enum { SWEEP_FILE, SWEEP_BLOCK, SWEEP_VOLUME } SweepNaming;

/* From the guest: it changes a file of them after the first writing, to SWEEP_CHANGED. */
typedef enum { SWEEP_CARRY_NOTHING, SWEEP_CARRY_DISK, SWEEP_CARRY_GUEST } SweepCarry;
#define SWEEP_CHANGED "the file that the guest has changed meanwhile"

/* One process' view: as a command opens it. */
typedef struct {
    VrStore *store;
    VrJournal *journal;
    VrOwner *owner;
    SweepHv *hv;
    VrEngine engine;
    gboolean seeded; /* of the scenario, as the next one */
    SweepCarry carried;
    gboolean lenient; /* what fails is undone, and no reason to end */
    guint n;
    const char *top;
} Sweep;

typedef struct {
    const char *name;
    guint guests;
    gboolean off;                 /* the guests are off */
    SweepNaming naming;           /* of generation 0 */
    gboolean uefi;                /* the guests boot by UEFI, at first with the NVRAM disks/osN.nvram */
    gboolean seeded;              /* what goes forward gets a seed */
    SweepCarry carried;           /* what goes forward takes over files of the old system */
    gboolean unhealthy;           /* whatever runs on a new disk is found to be ill */
    const char *may_delete;       /* files of the beginning with this prefix may go; NULL: none may */
    gboolean no_swap;             /* no libvirt sweep: it has no swap */
    void (*before)(Sweep *sweep); /* may be NULL */
    void (*act)(Sweep *sweep);    /* aborts where it does not go well, unless it is lenient */
} SweepScenario;

extern const SweepScenario sweep_scenarios[];
extern const guint sweep_scenario_count;

#define SWEEP_SECRET "#cloud-config\npassword: pa55word-of-the-guest\n"

/* What a scenario is made of. to_generation < 0: forward. */
#define SWEEP_FORWARD (-1)
#define SWEEP_SET "shop"
typedef struct {
    const char *version; /* of a forward swap; NULL: the newest */
    int to_generation;
    gboolean full;
} SweepMove;
/* Begins; NULL with an error. seat is the caller's. */
VrSwap *sweep_begin(Sweep *sweep, guint guest, const SweepMove *move, VrCloneSeat *seat, GError **error);
/* As a run does with each: forward, and where that fails (and it is lenient) or was not healthy, back. FALSE: it did not end so. */
gboolean sweep_move(Sweep *sweep, guint guest, const SweepMove *move, gboolean healthy);
extern const VrStopPolicy sweep_stop;

Sweep *sweep_open(const char *top, guint guests);
void sweep_close(Sweep *sweep);

/* --- worlds, from outside ------------------------------------------------------------------------------ */

typedef struct World World;
struct World {
    const SweepScenario *scenario;
    char *now;            /* what is cut lies in it; the same for all, not owned */
    Tree *before;         /* where the scenario begins */
    Tree *after;          /* where it ends when nothing cuts it */
    PointsReport *report; /* of the last process; not owned */
    const char *watched;  /* of world_watch() */
    void (*watcher)(World *world);
};

/* It stands then; another world takes its place, and world_restore() puts it back. */
World *world_make(const SweepScenario *scenario);
void world_free(World *world); /* what stands, stays */
void world_remove_all(void);
/* Where the scenario begins, or where a tree was. */
void world_restore(World *world, const Tree *tree);

typedef enum { ENDED_WELL, ENDED_KILLED, ENDED_BADLY, ENDED_UNKNOWN } Ending;
typedef Ending (*WorldJob)(World *world, Sweep *sweep, void *data);
/* The next process counts points of this label only, and is stopped at the wanted one while `act` is done, instead of killed. */
void world_watch(World *world, const char *label, void (*act)(World *world));
/* Runs job in a process of its own, killed at point `at` (0: counted, not killed). ENDED_BADLY: it crashed, or said so. */
Ending world_run(World *world, guint at, WorldJob job, void *data);

Ending world_act(World *world, Sweep *sweep, void *data);
/* A recovery, with what is decided about those that run on their new disks. ENDED_UNKNOWN: some swap is still open. */
Ending world_recover(World *world, Sweep *sweep, void *data);
