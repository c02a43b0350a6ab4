/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "tests/sim/check.h"

/* What is known of one instance. */
typedef enum {
    FATE_FRESH, /* nothing was done to it */
    FATE_SKIP,
    FATE_OUT,   /* a command is out */
    FATE_READY, /* prepared, not yet swapped */
    FATE_GOOD,
    FATE_BACK,
    FATE_BAD,
    FATE_LOST,
    FATE_COUNT
} Fate;

typedef struct {
    Fate fate;
    VrCommandType out;
    guint domain;
    gboolean down;      /* last survey, or left bad or lost by this run */
    gboolean off;       /* last survey */
    gboolean moved_off; /* the survey before its batch */
    gboolean member;    /* of the batch in flight */
    char reason[16];    /* the first word of why it failed; "" if it did not */
} Shadow;

struct Check {
    VrRunKind kind;
    VrUpgradePolicy policy;
    gint64 health_timeout_ms;
    gboolean same_reason_stops;
    guint count;
    Shadow *shadows;
    guint fates[FATE_COUNT];
    guint most_down;  /* decision 1 */
    guint most_batch; /* D1 */

    const VrEvent *event;
    gint64 now_ms;
    const GArray *commands;
    guint cursor;
    const VrRolloutView *view;

    gboolean started, in_batch, survey_out, wake_out, over;
    gboolean cancel, cancel_now, withdrawn;
    gint64 wake_at;
    gint64 waits_since; /* -1: does not wait */
    GArray *members;    /* of the batch in flight */
    guint batches;
    guint good_off; /* GOOD that were off */
    guint untouched, uncommitted, not_put_back;
    char last_word[16]; /* the batch before failed as one with this; "" otherwise */
    char *violation;
};

void check_fail(Check *check, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* The next command if it is of that type, else a violation and NULL. */
const VrCommand *check_expect(Check *check, VrCommandType type);

/* check_limits.c */
guint check_most(guint count, guint percent);
void check_surveyed(Check *check);
void check_batch_ended(Check *check);
void check_at_border(Check *check);
void check_finish(Check *check, VrRunStatus status, const char *code);
gboolean check_must_end(const Check *check, VrRunStatus *status, const char **code);
