/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The planner, pure and deterministic: which instances go next, together, and why (FEATURES D1, D6-D12, D14, D18, D30,
 * decisions 1, 2 and 11). plan prints its whole answer; rollout_step asks it again before each batch.
 *
 * Of the instances that are still to be moved, only those of the lowest phase may go: what the model says comes before what
 * the guest says, and no number is the last phase. What is held (by a canary or a walk: a person's word) holds up no phase.
 * An instance that is down and goes first by prioritize_unhealthy is not kept back by the order that guests ask for: it
 * serves nobody, and what it says, if anything, is the word of a system that is not well.
 * Among them, the lowest upgrade domain goes first, and in it the lowest zone; with prioritize_unhealthy, the lowest that
 * has a down instance to move. A batch stays in its phase, its upgrade domain and (unless cross_zone) its zone, and never
 *   - has more members than max(1, floor(N * maxBatch/100)), with by_domain those of the whole domain; never more than
 *     max_in_flight, in a rollback either (D24)
 *   - has more than allowed(max_unhealthy) down at once, where a down instance outside the batch holds a place (decision 2) and one
 *     that is off on purpose takes none and is not counted in N (decision 14),
 *     but for one that an earlier run left failed and that this run is still to move: it holds none, and goes first (decision 6);
 *     and but for one that is protected and that this run has not moved (G7): a person has taken it out
 *   - takes the last one that serves of a role of two or more (those that are off on purpose are no part of this)
 *   - has two of one pair, or one that is not down itself and whose pair has another that is
 * ignore_limits (a rollback, decision 6): what is down elsewhere does not shrink the batch and keeps nothing back.
 *
 * Each call looks at each candidate a fixed number of times.
 */
#pragma once

#include "orchestrator/model.h"

/* allowed = max(1, floor(total * percent / 100)); 0 for total 0 (decision 1). */
guint vr_planner_allowed(guint total, guint percent);

/* The upgrade domain of the index-th instance of its role (decision 11). */
guint vr_planner_upgrade_domain(guint index, guint upgrade_domain_count);

/* The upgrade domain of each instance, from their roles in order of definition: roles[count] -> domains[count]. */
void vr_planner_spread(const VrLabel *roles, guint count, guint upgrade_domain_count, guint *domains);

typedef enum {
    VR_CANDIDATE_PENDING, /* shall be moved and was not yet */
    VR_CANDIDATE_SKIPPED, /* shall not: on the target, not chosen, protected, ... */
    VR_CANDIDATE_DONE     /* was attempted in this run, whatever came of it */
} VrCandidateStatus;

typedef struct {
    guint upgrade_domain;
    VrLabel role, zone, pair; /* the names are the model's */
    guint phase;              /* as in VrModelInstance */
    guint guest_phase;        /* PhaseOrderingNumber + 1 as the guest says now; 0: it says none (D14) */
    VrCandidateStatus status;
    gboolean down;         /* unhealthy or unreachable now, for any cause: it holds a place of decision 2 */
    gboolean off;          /* on purpose: it serves nobody */
    gboolean held;         /* pending, but not its turn: a canary or a walk goes first */
    gboolean left_failed;  /* by an earlier run, and not well since (decision 6) */
    gboolean is_protected; /* G7 */
} VrCandidate;

/* Is it one of the N of decisions 1 and 2: not off on purpose (decision 14)? */
gboolean vr_planner_is_counted(const VrCandidate *candidate);

/* Does it count among those that are down (decisions 1, 2 and 6, G7)? */
gboolean vr_planner_holds_place(const VrCandidate *candidate);

typedef struct {
    GArray *members; /* guint index into the candidates, ascending order of action */
    guint upgrade_domain;
    const char *zone; /* of all members, not owned; NULL: none, or several */
    guint phase;      /* 0: none */
    guint places;     /* how many more could have been taken down at once */
    char *reason;     /* for a person: "UD 0, role web: 1 of 5 (20%), unhealthy first" */
} VrBatch;
void vr_batch_free(VrBatch *batch);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrBatch, vr_batch_free)

/* Why there is no next batch. */
typedef enum {
    VR_BLOCK_NONE,  /* nothing is left to be moved */
    VR_BLOCK_PLACE, /* those that are down hold all places (decision 2) */
    VR_BLOCK_ROLE,  /* those that are left are the last of their roles that serve (D8) */
    VR_BLOCK_PAIR   /* the others of their pairs are down (D10) */
} VrPlannerBlockKind;

typedef struct {
    VrPlannerBlockKind kind;
    guint instance; /* of ROLE and PAIR: the first that it keeps back */
} VrPlannerBlock;

/* The next batch, or NULL and why in *block (may be NULL). */
VrBatch *vr_planner_next_batch(const VrUpgradePolicy *policy, const VrCandidate *candidates, guint count,
                               gboolean ignore_limits, VrPlannerBlock *block);

/* All batches in order if everything goes well, and in *block (may be NULL) why no more follow. Element: VrBatch *, freed
 * with the array. */
GPtrArray *vr_planner_plan(const VrUpgradePolicy *policy, const VrCandidate *candidates, guint count,
                           gboolean ignore_limits, VrPlannerBlock *block);
