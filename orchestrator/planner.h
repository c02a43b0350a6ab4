/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The planner, pure and deterministic: which instances go next, together, and why (FEATURES D1, D6, D7, D12,
 * D18, decisions 1, 2 and 11). plan prints its whole answer; rollout_step asks it again before each batch.
 */
#pragma once

#include "orchestrator/model.h"

/* allowed = max(1, floor(total * percent / 100)); 0 for total 0 (decision 1). */
guint vr_planner_allowed(guint total, guint percent);

/* The upgrade domain of the index-th instance (decision 11). */
guint vr_planner_upgrade_domain(guint index, guint upgrade_domain_count);

typedef enum {
    VR_CANDIDATE_PENDING, /* shall be moved and was not yet */
    VR_CANDIDATE_SKIPPED, /* shall not: on the target, not chosen, ... */
    VR_CANDIDATE_DONE     /* was attempted in this run, whatever came of it */
} VrCandidateStatus;

typedef struct {
    guint upgrade_domain;
    VrCandidateStatus status;
    gboolean down; /* unhealthy or unreachable now, for any cause: it holds a place of decision 2 */
    gboolean held; /* pending, but not its turn: a canary or a walk goes first */
} VrCandidate;

typedef struct {
    GArray *members; /* guint index into the candidates, ascending order of action */
    guint upgrade_domain;
    guint places; /* how many more could have been taken down at once */
    char *reason; /* for a person: "UD 0: 1 of 5 (20%), unhealthy first" */
} VrBatch;
void vr_batch_free(VrBatch *batch);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrBatch, vr_batch_free)

/* The next batch: at most max(1, floor(N * maxBatch/100)) pending instances of one upgrade domain, lowest domain first,
 * or with prioritize_unhealthy the down ones first (their domain first); never so many that more than
 * allowed(max_unhealthy) are down at once, where a down instance outside the batch holds a place. ignore_limits (a
 * rollback, decision 6): a held place does not shrink the batch.
 * NULL: nothing is pending, or *no_place TRUE: something is pending but no place is free. */
VrBatch *vr_planner_next_batch(const VrUpgradePolicy *policy, const VrCandidate *candidates, guint count,
                               gboolean ignore_limits, gboolean *no_place);

/* All batches in order if everything goes well. Element: VrBatch *, freed with the array. */
GPtrArray *vr_planner_plan(const VrUpgradePolicy *policy, const VrCandidate *candidates, guint count,
                           gboolean ignore_limits);
