/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What was written down while a run went on, for those who look at it afterwards: the steps of a swap and the events of a run, in order. */
#pragma once

#include "engine/journal.h"

typedef struct {
    char *name, *detail, *boot_id; /* detail may be NULL */
    gint64 at_us;                  /* wall clock */
    gint64 at_ms;                  /* boot-time clock of that boot of the host */
} VrLogStep;

typedef struct {
    char *kind, *text, *uuid; /* the last two may be NULL */
    gint64 at_us;
} VrLogEvent;

/* An empty list of VrLogStep, and one more for it, from five columns on: name, detail, boot_id, at_us, at_ms. */
GArray *vr_log_steps_new(void);
void vr_log_steps_add(GArray *steps, sqlite3_stmt *stmt, int column);

/* Element: VrLogStep, freed with the array. */
GArray *vr_run_log_steps(VrJournal *journal, const char *swap_id, GError **error);

/* Element: VrLogEvent, freed with the array. */
GArray *vr_run_log_events(VrJournal *journal, const char *run_id, GError **error);

/* What a swap was doing for how long. */
typedef struct {
    const char *phase; /* "prepare", "wait", "stop", "switch", "start", "health", "back" */
    gint64 at_us;
    gint64 ms; /* -1: it is not over, or nobody saw its end */
} VrLogSpan;

/* Of the steps of one swap; what took no time is there too. Element: VrLogSpan. */
GArray *vr_run_log_spans(const GArray *steps);
