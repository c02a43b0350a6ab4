/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which of an instance's disks stay and which go (B4), pure but for the clocks. What may be deleted, and how, is in retire.h. See
 * retention.c for what protects a generation.
 */
#pragma once

#include "engine/journal.h"

typedef struct {
    guint generations;  /* 1..1000: of our making that are kept beside the current one */
    gint64 max_age_ms;  /* since a generation was replaced */
    guint failed_disks; /* 0..1000: kept for a post-mortem (F11) */
} VrRetention;

/* What a model gets that says nothing: 2, P14D, 1. */
extern const VrRetention vr_retention_default;

/* What of the journal beside the generations bears on it. */
typedef struct {
    gboolean open_swap; /* also one that is UNKNOWN */
    gint64 back_to;     /* where 'rollback' of the instance goes; -1: nowhere */
    gint64 last_run;    /* where it goes when the last run is rolled back; -1: that run did not move it */
} VrRetentionFacts;

/* set_name NULL: the instance is in no set. generations: all of the instance. */
gboolean vr_retention_facts(VrJournal *journal, const char *set_name, const char *uuid, const GPtrArray *generations,
                            VrRetentionFacts *facts, GError **error);

typedef struct {
    const VrGeneration *generation; /* not owned */
    gboolean goes;
    gint64 goes_us; /* when it will go by its age, wall clock; 0: not by its age */
    char *why;      /* owned */
} VrVerdict;

/* One verdict a generation, in their order; they refer to the generations. retention NULL: all of our making go, but for what an open
 * swap needs. Free with g_ptr_array_unref. */
GPtrArray *vr_retention_judge(const GPtrArray *generations, const VrRetention *retention,
                              const VrRetentionFacts *facts);
