/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "tests/sim/check.h"

#define LONG_AGO (G_MININT64 / 2)
#define ROLES 8 /* their numbers are lower */
#define PAIRS 64

/* What is known of one instance. */
typedef enum {
    FATE_FRESH, /* nothing was done to it */
    FATE_SKIP,
    FATE_OUT,   /* a command is out */
    FATE_READY, /* prepared, not yet told or swapped */
    FATE_GOOD,
    FATE_BACK,
    FATE_BAD,
    FATE_LOST,
    FATE_COUNT
} Fate;

/* Of one that failed: what there is to say of it beside that. */
/* Before its batch (B7). */
typedef enum {
    AHEAD_NOT,
    AHEAD_OUT,     /* FRESH, and its PREPARE is out */
    AHEAD_READY,   /* FRESH, and prepared */
    AHEAD_UNWANTED /* OUT: it is being discarded, or will be when it is prepared */
} Ahead;

typedef enum { BAD_TRIED, BAD_UNTOUCHED, BAD_UNCOMMITTED, BAD_NOT_PUT_BACK } Bad;

typedef struct {
    Fate fate;
    Bad bad;
    gboolean left; /* on its new disk though it is not healthy, by the process that works on it now (F3) */
    VrCommandType out;
    guint domain;
    VrLabel role, pair;
    guint zone;         /* its number; 0: none */
    guint phase;        /* of the model; the largest number for none (D10) */
    gboolean down;      /* last survey, or left bad or lost by this run */
    gboolean off;       /* last survey */
    gboolean moved_off; /* the survey before its batch */
    gboolean canary;
    gboolean left_failed; /* by an earlier run, and no survey found it well (decision 6) */
    gboolean guarded;     /* protected (G7) */
    gboolean named;       /* by a person, or a canary */
    gboolean asked_out;   /* D14, and was left out */
    gboolean said_out;    /* D14, to this process */
    gboolean noticed;     /* READY: its guest has had its notice (H7) */
    Ahead ahead;
    guint64 number;  /* D14, of the last survey; the largest for none */
    char reason[16]; /* the first word of why it failed; "" if it did not */
} Shadow;

/* How the set stands, and how it would with those that go. */
typedef struct {
    guint down;           /* decision 2 */
    guint parts[ROLES];   /* of each role, those that are not off on purpose (D8, decision 14) */
    guint serving[ROLES]; /* ... and serve */
    guint served[ROLES];  /* ... before any went */
    guint64 ill, gone;    /* a bit for each pair of which one is down, or goes (D10) */
} Stand;

/* What the documents let a batch begin with. */
typedef struct {
    Stand stand;
    guint phase;        /* whose turn it is (D10) */
    guint64 number;     /* ... of those that guests gave (D14) */
    const Shadow *next; /* one of the upgrade domain and zone that go next; NULL: none may go */
} Choice;

struct Check {
    VrRunKind kind;
    VrUpgradePolicy policy; /* without what a rollback does not know (decision 6) */
    gint64 health_timeout_ms;
    gboolean same_reason_stops;
    gboolean walk;
    gboolean has_roles;
    gboolean notice; /* H7 */
    gboolean window; /* H4 */
    guint count;
    Shadow *shadows;
    guint fates[FATE_COUNT];
    guint most_down;  /* decision 1, of those that are not off (decision 14) */
    guint most_batch; /* D1, D24, D30 */
    guint canaries, canaries_left;

    const VrEvent *event;
    gint64 now_ms;
    const GArray *commands;
    guint cursor;
    const VrRolloutView *view;

    gboolean started;     /* by this process */
    gboolean began;       /* by any */
    gboolean recalled;    /* the notices of this batch are called off */
    gboolean confirm_out; /* in a batch: the survey before it goes down */
    gboolean in_batch, survey_out, gate_out, window_out, wake_out, over;
    gboolean amends;        /* what was left goes back (F3) */
    gboolean ended;         /* a rule has ended it before its process died */
    VrRunStatus end_status; /* of a run that is over, makes amends, or has ended */
    const char *end_code;
    gboolean cancel, cancel_now, withdrawn;
    gboolean same; /* 25: all of the batch, or of two, failed with one word */
    gint64 wake_at;
    gint64 deadline;    /* D23; G_MAXINT64: none */
    gint64 time_left;   /* until it, while it does not count; 0: it counts, or there is none */
    gint64 pause_until; /* D5 */
    gint64 waits_since, no_gate_since, no_place_since; /* -1: does not wait */

    VrHold hold; /* as it was told last */
    gboolean pause_asked, approved, promoted;
    gint64 walk_domain;        /* -1: none is named */
    gboolean checkpoint_waits; /* one was reached by the last batch, and nobody promoted it */
    gboolean checkpoint_told;
    gint64 checkpoint_until;
    gboolean gate_said_yes;            /* to `gated`, since the last batch and the last hold */
    GArray *gated;                     /* those that the gate was asked about last */
    gint64 batch_began_ms, longest_ms; /* H4 */
    char shut[64];                     /* why no batch may begin, by the last answer; "" else */
    gboolean shut_told;
    gint64 opens_at;
    gboolean baking, bake_promoted;
    gint64 bake_until;

    GArray *members;       /* of the batch in flight */
    guint ahead;           /* how many are prepared before their batch, or being so */
    gboolean looked_ahead; /* in this batch */
    gboolean clearing;     /* between batches, until nothing is OUT */
    guint batches;
    guint good_off;        /* GOOD that were off */
    gboolean off_too_long; /* J10 */
    gboolean fewer;        /* a guest was left out by this survey (D14) */
    guint checkpoints;     /* reached until now */
    char last_word[16];    /* the batch before failed as one with this; "" otherwise */
    gboolean word_doubt;   /* since then a batch died, or one that had failed with it came good in a recovery */
    char *violation;
};

void check_fail(Check *check, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* The next command if it is of that type, else a violation and NULL. */
const VrCommand *check_expect(Check *check, VrCommandType type);

/* The type of the next command, or -1. */
int check_next_type(const Check *check);
void check_become(Check *check, guint i, Fate fate);

/* That command must come, for that instance. */
void check_must_go_on(Check *check, guint i, VrCommandType type);

/* How many failed like that. */
guint check_bad(const Check *check, Bad bad);

/* The prepared of the batch go down when no preparation of it is out. */
void check_goes_down(Check *check);

/* check_ahead.c */
void check_set_ahead(Check *check, guint i, Ahead ahead);
gboolean check_is_ahead(const Shadow *shadow);

/* It must be discarded, now or when it is prepared; the second: all of them. */
void check_unwant(Check *check, guint i);
void check_clears(Check *check);

/* Between batches: what is OUT must come back before anything else. The second: all that is prepared ahead, too. */
void check_waits_for_clear(Check *check);
void check_clears_first(Check *check);
void check_cleared(Check *check);

/* FALSE: it is no answer about one that is prepared ahead. */
gboolean check_ahead_answered(Check *check, guint i);
void check_looks_ahead(Check *check);

/* check_limits.c */
guint check_checkpoints(const Check *check);
guint check_most(guint count, guint percent);
void check_completed(Check *check);
void check_finish(Check *check, VrRunStatus status, const char *code);

/* Does it end in this step, or make amends first? */
gboolean check_stops(const Check *check);
void check_batch_ended(Check *check);
void check_amends_made(Check *check);
void check_left_out(Check *check);
gboolean check_ends(Check *check);
gboolean check_fell_ill(const Check *check);

/* check_batch.c */
void check_surveyed(Check *check);

/* What a survey says of each instance. */
void check_take_answers(Check *check);

/* 19, D2-D4, E14: what the survey itself ends a run with; NULL: nothing. */
const char *check_survey_code(const Check *check, const Choice *choice);

/* check_notice.c */

/* Nothing of the batch is being prepared or told: its guests are told, or the set is looked at again. TRUE: it has no notice. */
gboolean check_has_no_notice(Check *check);
void check_confirmed(Check *check);
void check_recalls(Check *check);

/* check_group.c */
gboolean check_goes_first(const Check *check, const Shadow *shadow);
Choice check_choose(const Check *check);

/* Is it of the phase, and has it the number, whose turn it is? */
gboolean check_fits_order(const Check *check, const Choice *choice, const Shadow *shadow);

/* No batch crosses what is between them. */
gboolean check_same_group(const Check *check, const Shadow *a, const Shadow *b);

/* What keeps it from going now, in words, or NULL. The second: now it goes. */
const char *check_obstacle(const Check *check, const Stand *stand, const Shadow *shadow);
void check_takes(Stand *stand, const Shadow *shadow);

/* The next batch to the last member: guint, free with g_array_unref. The second: if all of this one comes good. */
GArray *check_foretell(const Check *check, const Choice *choice);
GArray *check_foresee(Check *check);

/* It has waited in vain, and says for what. */
void check_kept_back(Check *check, const Choice *choice);

/* check_border.c */
gint64 check_deadline(const Check *check);
gboolean check_is_idle(const Check *check);
gboolean check_has_turn(const Check *check, const Shadow *shadow);
gboolean check_control_fits(const Check *check, const VrEvent *event);
void check_took_control(Check *check);
void check_goes_on(Check *check);
void check_gate_answered(Check *check);
void check_waits(Check *check, gint64 *since, const char *code);

/* check_window.c */
void check_asks_window(Check *check);
void check_window_answered(Check *check);

/* The survey says that no batch may begin now: TRUE, and the run is held. The second: it says that the window is open. */
gboolean check_is_shut(Check *check);
gboolean check_window_is_open(const Check *check);
void check_clock_runs(Check *check, gboolean runs);

/* Is it what may be told of when the window opens? */
gboolean check_is_until(const Check *check, gint64 until_ms);

/* check_restart.c */
void check_starts_again(Check *check);

/* check_limits.c, where nothing is left to be moved */
void check_all_done(Check *check);
void check_look_for_checkpoint(Check *check);

/* check_bake.c */
void check_bake_begins(Check *check);
void check_bake_watches(Check *check);

/* check_view.c */
void check_view(Check *check);
