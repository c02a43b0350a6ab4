/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A run as it is at one moment, for a view (row J8). It is read from outside, whoever owns the run: where it stands and what is copied is what its
 * process says on the control socket, what became of each guest and how far its swap is stands in the store. So a view that is attached to the run of
 * another process is the same one.
 */
#pragma once

#include "disk/store.h"
#include "orchestrator/history.h"
#include "orchestrator/registry.h"

/* What a guest does, in the order of a swap. */
typedef enum {
    VR_LIVE_WAITS,
    VR_LIVE_PREPARES,
    VR_LIVE_READY,  /* its new disk is prepared */
    VR_LIVE_NOTICE, /* ... and its guest has notice */
    VR_LIVE_STOPS,
    VR_LIVE_SWITCHES, /* it is off */
    VR_LIVE_BOOTS,
    VR_LIVE_PROBED,
    VR_LIVE_GOES_BACK,
    VR_LIVE_DONE,
    VR_LIVE_BACK, /* failed, and back on its old disk */
    VR_LIVE_FAILED,
    VR_LIVE_UNKNOWN,
    VR_LIVE_STAGES_
} VrLiveStage;

typedef struct {
    char *domain;
    guint batch; /* 0: in none yet */
    VrLiveStage stage;
    char *reason;                             /* why it failed, or what it waits for; NULL */
    gint64 stage_ms;                          /* in this stage; -1: not known, or it is over */
    gint64 down_ms;                           /* since its stop was asked for; -1: not known, or it is not */
    char *answer;                             /* what its health said last, while it is waited for; NULL */
    gint64 answer_left_ms;                    /* so long it is waited for; -1: not known */
    guint64 copy_done, copy_total, copy_rate; /* bytes, bytes a second; total 0: nothing is copied */
} VrLiveGuest;

typedef struct {
    char *set, *run_id;
    VrRunKind kind;
    VrRunStatus status;
    char *image, *version; /* NULL: a rollback, or each guest has its own */
    char *error_text;      /* of a run that has ended; NULL */
    gboolean ended, detached;
    gboolean has_process; /* some process owns the set */
    gboolean answers;     /* ... and says where the run stands */
    gint64 elapsed_ms;
    gint64 left_ms;    /* until its expected end; -1: not known */
    GPtrArray *guests; /* VrLiveGuest *, in the order of the set, without those that the run leaves alone */
    guint left_alone;
    VrRunPoint point;
    VrHold hold;
    char *hold_text;     /* NULL: nothing holds it */
    gint64 hold_left_ms; /* -1: until somebody acts */
    gint64 wake_left_ms; /* it looks again then, where it waits; -1: it does not wait, or this is not known */
    gboolean pause_requested;
} VrSnapshot;

void vr_snapshot_free(VrSnapshot *snapshot);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrSnapshot, vr_snapshot_free)

/* An empty one, and a guest of it, for those that fill one themselves. */
VrSnapshot *vr_snapshot_new(const char *set, const char *run_id);
VrLiveGuest *vr_snapshot_add(VrSnapshot *snapshot, const char *domain);

gboolean vr_live_stage_in_flight(VrLiveStage stage);
/* FAILED, BACK or UNKNOWN */
gboolean vr_live_stage_failed(VrLiveStage stage);

typedef struct VrLiveSource VrLiveSource;

/* For one run of a set whose model can be read. store (with a database), journal and set are not owned. Used by one thread at a time. */
VrLiveSource *vr_live_source_new(VrStore *store, VrJournal *journal, const VrSet *set, const char *run_id);
void vr_live_source_free(VrLiveSource *source);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrLiveSource, vr_live_source_free)

/* Waits 2 s at most for the run's process. Owned by the caller. */
VrSnapshot *vr_live_source_read(VrLiveSource *source, GError **error);
