/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the sweeps share: options, workers, and the report. */
#pragma once

#include "fault/sweep_check.h"

#define RECOVERIES_MAX 3
#define STATES_MAX 200000

typedef enum { SWEEP_KILL, SWEEP_TWICE, SWEEP_LIBVIRT, SWEEP_FENCE, SWEEP_KINDS } SweepKind;

typedef struct {
    guint planned, fired, violations;
} Tally;

/* One worker's part of the report, in memory that all share. */
typedef struct {
    Tally tallies[SWEEP_KINDS];
    gint64 took_us[SWEEP_KINDS];
    guint states[SWEEP_KINDS], cuts[SWEEP_KINDS];
    guint64 state[SWEEP_KINDS][STATES_MAX]; /* durable worlds that were left */
    guint64 cut[SWEEP_KINDS][STATES_MAX];   /* what was done before the kill, from which world on */
} Report;

typedef struct {
    guint worker, workers;
    guint seed, seconds;  /* seconds 0: to the end */
    const char *scenario; /* NULL: all */
    guint cut, cut2;      /* 0: all */
    gboolean stop;        /* at the first violation */
    gboolean verbose;
    SweepKind kind;
    gint64 began_us; /* this kind */
    World **worlds;  /* made when first needed */
    guint *points;   /* of each scenario, when nothing cuts it */
    Report *report;
} Runner;

/* One place in one scenario. */
typedef struct {
    guint scenario, at;
} Place;

World *runner_world(Runner *runner, guint scenario);
gboolean runner_wants(const Runner *runner, guint scenario);
gboolean runner_is_over(const Runner *runner);
/* The places of this worker, 1..count of each wanted scenario. When time is limited: in a random order, and of as many scenarios as can
 * be made in a third of it. Element: Place. */
GArray *runner_places(Runner *runner, guint (*count)(Runner *runner, guint scenario));
void runner_state(Runner *runner, Tree *now);
void runner_cut(Runner *runner, guint64 cut);
/* text is freed; NULL: nothing is wrong. how: what finds it again. */
void runner_judge(Runner *runner, const World *world, const char *how, char *text);

/* Recovers until nothing is open, in at most `most` runs, and once more; checks. NULL: all holds. Free with g_free. */
char *settle(Runner *runner, World *world, guint most);

void sweep_kill(Runner *runner);
void sweep_twice(Runner *runner);
void sweep_libvirt(Runner *runner);
void sweep_fence(Runner *runner);
