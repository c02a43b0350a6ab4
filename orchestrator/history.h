/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What ran: runs and what became of each instance in them, in the tables `runs` and `run_instances`. */
#pragma once

#include "engine/journal.h"
#include "orchestrator/rollout.h"

typedef struct {
    char uuid[VR_UUID_LENGTH + 1];
    char *domain;
    guint batch;           /* 0: was in none */
    VrInstancePhase phase; /* the last that was written */
    char *reason;          /* why it failed or was skipped; NULL */
    char *swap_id;         /* NULL: none was begun */
    guint to_generation;   /* of a rollback */
    gboolean canary;       /* D17 */
    char *image, *version; /* that it was to be moved to, where each instance goes to its own; NULL: as the run */
} VrRunInstance;

typedef struct {
    char *id; /* short: "20261121-230232-1a2b" */
    char *set_name;
    VrRunKind kind;
    VrRunStatus status;
    char *image, *version;           /* target; NULL for a rollback, and where each instance has its own */
    char *started_by;                /* user name (J4) */
    char *reason;                    /* --reason; NULL */
    char *role;                      /* that it was for (D8); NULL: for all */
    char *request_id;                /* of the request that it came of (outbox.h); NULL: none was told of */
    gint64 started_us, completed_us; /* completed 0: it runs, or was killed */
    char *error_code, *error_text;
    gboolean automatic;   /* it began by itself (J4: startedBy Platform) */
    gboolean detached;    /* it stays open when its process ends before it does, and goes on in another one */
    char *state;          /* what vr_run_state_write() gave, the last that was written; NULL: nothing yet */
    char **ignored;       /* of a run that is gone on with: from its state; NULL else */
    GPtrArray *instances; /* VrRunInstance * */
} VrRun;
void vr_run_free(VrRun *run);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrRun, vr_run_free)

/* An empty array of VrRunInstance * that frees its elements. */
GPtrArray *vr_run_instances_new(void);

/* Writes a new run (status RollingForward) and its instances; run->id is filled in. */
gboolean vr_history_begin(VrJournal *journal, const VrOwner *owner, VrRun *run, GError **error);
gboolean vr_history_instance(VrJournal *journal, const VrOwner *owner, const char *run_id,
                             const VrRunInstance *instance, GError **error);
/* Where it stands, for those who read, and what it must not forget. */
gboolean vr_history_state(VrJournal *journal, const VrOwner *owner, const char *run_id, const char *state,
                          GError **error);
gboolean vr_history_end(VrJournal *journal, const VrOwner *owner, const VrRun *run, GError **error);

/* From now on the run stays open when its process ends before it does (VrRun.detached). */
gboolean vr_history_detach(VrJournal *journal, const VrOwner *owner, VrRun *run, GError **error);

/* Runs of a set that have no end, and are not detached: closed as Faulted with code and text. *closed counts them (may be NULL). For
 * recovery. */
gboolean vr_history_close_open(VrJournal *journal, const VrOwner *owner, const char *code, const char *text,
                               guint *closed, GError **error);

/* Forgets what the set's model does not keep, in one transaction; what is never forgotten is said in history_prune.c. *forgotten (may be NULL) counts
 * runs. */
gboolean vr_history_prune(VrJournal *journal, const VrOwner *owner, const VrHistoryRetention *retention,
                          guint *forgotten, GError **error);

/* Newest first; limit 0 = all. Element: VrRun *, freed with the array. Instances are read too. */
GPtrArray *vr_history_list(VrDb *db, const char *set_name, guint limit, GError **error);
VrRun *vr_history_get(VrDb *db, const char *set_name, const char *run_id, GError **error);
/* The newest of a set; NULL without error when there is none. */
VrRun *vr_history_last(VrDb *db, const char *set_name, GError **error);
/* The one of a set that has no end; NULL without error when there is none. */
VrRun *vr_history_open(VrDb *db, const char *set_name, GError **error);

/* Counts of J3 and F12, from the phases in the history. */
typedef struct {
    guint successful, failed, in_progress, pending, skipped, restored, unknown;
} VrRunCounts;
VrRunCounts vr_run_counts(const VrRun *run);

/* p50, p95 (nearest rank) and max of the values that are not negative; all -1 when there is none. */
typedef struct {
    gint64 p50, p95, max;
    guint count;
} VrSpread;
VrSpread vr_spread_of(const gint64 *values, guint count);
