/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Private to plan: cmd_plan.c makes and prints it, plan_reserve.c, plan_outside.c, plan_drives.c, plan_expect.c, plan_seed.c, plan_offline.c, plan_findings.c, plan_diff.c and plan_command.c parts of it, plan_warnings.c says what a person should know of it. */
#pragma once

#include "orchestrator/cli/look.h"
#include "orchestrator/cli/plan.h"
#include "orchestrator/cli/run_view.h"

typedef struct {
    VrSession *session;
    VrTargets *targets;
    VrDiskUsers *users; /* NULL: of a rollback it could not be told */
    GPtrArray *looks;   /* VrLook *, one for each instance */
    GPtrArray *batches; /* VrBatch * */
    GPtrArray *
        outside; /* VrFinding *, of what lies outside; empty for a rollback, which needs none of it, and where nobody is moved */
    VrPlannerBlock block; /* why no more batches follow, when some that were chosen are in none */
    guint64 free_bytes;
    guint64 disk_bytes; /* that a new OS disk takes at once, at most; 0: a rollback, which makes none */
    guint64 most_bytes; /* that one can grow to, at most */
    guint64 sum_bytes;  /* that all can grow to */
    guint64 at_once;    /* that all take at once */
    guint64 others;     /* that the OS disks that stay can still grow by, those of other sets too */
    guint runs_before;  /* of this direction, that moved something: what follows is of their instances (J10) */
    VrSpread off, prepare, os_down, nvram;
    GPtrArray *diffs; /* of plan_diff.c; NULL: nobody has asked for them */
} VrPlan;

/* --- plan_reserve.c: room for the new disks of the run (D25) --- */

/* Are its new disks full clones? */
gboolean vr_plan_is_full(const VrPlan *plan);
/* Fills in what is free, and what a new disk takes at once. */
gboolean vr_plan_measure(VrPlan *plan, GError **error);
/* Once the guests were looked at: the NVRAM of those that have one needs room too. */
void vr_plan_measure_nvram(VrPlan *plan);
guint64 vr_plan_needed_bytes(const VrPlan *plan);
/* "when all OS disks are full, ...": there is not room for that; NULL: there is. Free with g_free. */
char *vr_plan_growth_text(const VrPlan *plan);
/* VR_ERROR_REFUSED, with what is missing. */
gboolean vr_plan_reserve(const VrPlan *plan, GError **error);

/* --- plan_outside.c: what the run needs that is neither the guests' nor the store's (C5) --- */

/* Looks at it, once the batches are known; fills in what was found. */
void vr_plan_look_outside(VrPlan *plan);
/* VR_ERROR_REFUSED when something is missing, refused, or ends too early. */
gboolean vr_plan_outside_is_good(const VrPlan *plan, GError **error);

/* --- plan_drives.c: what each scenario does to the disks of the set (B10, decision 12) --- */
void vr_plan_print_drives(const VrPlan *plan);
json_t *vr_plan_drives_json(const VrPlan *plan);

/* --- plan_expect.c --- */

/* Fills in what was before, from the history. */
gboolean vr_plan_look_back(VrPlan *plan, GError **error);
/* How long the whole run takes, if all goes well and nobody is waited for; -1: there was no run to tell from. */
gint64 vr_plan_expected_ms(const VrPlan *plan);
void vr_plan_print_expected(const VrPlan *plan);
/* By the limits of the model, of one batch, from its notice or stop to healthy or failed, and of the extensions in it; -1: a rollback, which has other ones. */
gint64 vr_plan_batch_most_ms(const VrPlan *plan);
gint64 vr_plan_extensions_most_ms(const VrPlan *plan);
/* What is copied while guests are off: the NVRAM of those that boot by UEFI. */
json_t *vr_plan_nvram_json(const VrPlan *plan);

/* What a proof of the content of data disks costs (dataDiskProof): prints nothing where none is asked for. */
void vr_plan_print_proof(const VrPlan *plan);
json_t *vr_plan_proof_json(const VrPlan *plan);

/* --- plan_findings.c --- */
void vr_plan_print_findings(const VrPlan *plan);
json_t *vr_plan_findings_json(const VrPlan *plan);

/* --- plan_diff.c: the change of each domain's XML (--print-diff) --- */
void vr_plan_make_diffs(VrPlan *plan);
void vr_plan_print_diffs(const VrPlan *plan);
json_t *vr_plan_diffs_json(const VrPlan *plan); /* null where nobody has asked for them */

/* --- plan_command.c: what to type. refusal: why that would not begin, or would not come to its end; NULL: it would --- */
void vr_plan_print_command(const VrPlan *plan, const GError *refusal);
/* The error says what to do about a finding, and where a plan was not shown, how to see all that are in the way. */
void vr_plan_next(const VrPlan *plan, const VrFinding *finding, GError **error);
json_t *vr_plan_command_json(const VrPlan *plan, const GError *refusal);

/* --- plan_seed.c: what the model's osProfile gives to each new disk --- */
gboolean vr_plan_has_seeds(const VrPlan *plan);
void vr_plan_print_seed(const VrPlan *plan);
json_t *vr_plan_seed_json(const VrPlan *plan);
void vr_plan_warn_of_seed(const VrPlan *plan, GPtrArray *warnings);
/* VR_ERROR_REFUSED: a file that is not as it must be, or an instance for which no seed, or nothing for its disk, can be made. */
gboolean vr_plan_check_content(const VrPlan *plan, GError **error);

/* --- plan_offline.c: what is written into each new disk offline, and what is carried over --- */
void vr_plan_print_offline(const VrPlan *plan);
json_t *vr_plan_offline_json(const VrPlan *plan);
json_t *vr_plan_carry_json(const VrPlan *plan);
void vr_plan_warn_of_offline(const VrPlan *plan, GPtrArray *warnings);

/* What is true of the plan as a whole and a person should know. Element: char *, freed with the array. */
GPtrArray *vr_plan_warnings(const VrPlan *plan);
