/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One instance's swap. See swap.c for the state table and the crash story.
 *
 * A VrSwap is driven by one thread at a time. Every function leaves the swap in a state of the table; when one
 * fails, the caller decides to undo. Nothing is undone behind the caller's back.
 */
#pragma once

#include "disk/clone.h"
#include "disk/personalize.h"
#include "disk/seed.h"
#include "disk/store.h"
#include "engine/manifest.h"
#include "hv/domain.h"

/* What a swap works with; owned by the caller, outlives the swap. */
typedef struct {
    VrStore *store;
    VrHv *hv;
    VrJournal *journal;
    const VrOwner *owner;
} VrEngine;

/* What a new disk takes over from the old system; see swap_carry.c. */
typedef struct {
    gboolean host_keys;  /* those of /etc/ssh, of which one at least must be there */
    gboolean machine_id; /* /etc/machine-id */
    char **paths;        /* absolute: a file, or a directory with all beneath it; each must be there. NULL: none */
    gboolean from_disk;  /* of the old disk, once the guest is off; FALSE: by the guest's agent */
} VrCarryOver;

typedef struct {
    const char *run_id;
    const char *uuid;
    const char *os_target; /* NULL: found in the XML */
    const VrImage *image;  /* a forward swap: the version to move to; NULL: a rollback, or flatten */
    gboolean
        flatten; /* a forward swap of a guest that is off: the new disk is the old one's content, and stands alone */
    VrCloneSeat *seat;  /* of a forward swap whose new disk is a full clone: lives until PREPARED; NULL: an overlay */
    const VrSeed *seed; /* of a forward swap: what the new generation finds on its CD-ROM; NULL: it has none */
    /* Of a forward swap: what is written into its new disk, whose name is ours to fill in, and what that takes over; NULL: nothing. */
    const VrPersonal *personal;
    const VrCarryOver *carry;
    const VrPersonalizeOptions *personalize; /* for these two; outlives the swap. Its cancel counts in PREPARE only */
    VrPersonalSeat *personal_seat; /* for what PREPARE writes: lives until PREPARED; NULL: an appliance of its own */
    guint to_generation;           /* of a rollback */
    guint model_revision;          /* of a forward swap: that the new generation is made by; 0: not known */
    gboolean needs_agent;          /* the model asks for it (preflight) */
    const char *const *protected_disks; /* serials, WWNs, targets that are never swapped or made anew; NULL: none */
    const char *const *ignored; /* findings that a person lets pass, which is written into the audit; NULL: none */
    const char *const *
        temp_targets; /* disks to be made anew, of those that the domain has; NULL: none, ever but in a reimage that was asked to */
    VrProofContent data_proof; /* of the content of data disks, beside what is always compared */
} VrSwapRequest;

/* Tells whether two disks would be made with the same seed and the same written into them, but for what is carried over; as the journal keeps it for a
 * generation. NULL: neither asks for anything. Free with g_free. */
char *vr_swap_content_digest(const VrSeed *seed, const VrPersonal *personal);

typedef struct VrSwap VrSwap;

/* Begins a swap: preflight, generation 0 recorded when this is the first, journal row. It is in PLANNED, a rollback in PREPARED.
 * VR_ERROR_REFUSED: preflight; VR_ERROR_CONFLICT: an open swap, or the OS disk is not the recorded one;
 * VR_ERROR_NOT_FOUND: the generation is not kept. Nothing about the guest was changed on an error. */
VrSwap *vr_swap_begin(const VrEngine *engine, const VrSwapRequest *request, GError **error);

/* A swap as the journal has it, for recovery; of one that has ended without its XML. */
VrSwap *vr_swap_resume(const VrEngine *engine, const VrSwapRow *row, GError **error);

void vr_swap_free(VrSwap *swap);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrSwap, vr_swap_free)

const VrSwapRow *vr_swap_row(const VrSwap *swap);

/* For who judges a swap that was resumed in STARTED: its guest's console is kept from now on, as that of any other swap is from the start on. */
void vr_swap_listen(VrSwap *swap);

/* Moves forward, step by step, until the state is `to` (PREPARED, STOPPED, SWITCHED, STARTED). stop is needed to pass PREPARED.
 * After an error it stands in the last state that it reached. */
gboolean vr_swap_advance(VrSwap *swap, VrSwapState to, const VrStopPolicy *stop, GError **error);

/* The guest is healthy (or was off before: NotBooted): STARTED -> COMMITTED; the old disk, if of our making, is sealed. new_boot_id
 * may be NULL. A seal that fails is a warning in the log, not an error: recovery seals again. */
gboolean vr_swap_commit(VrSwap *swap, const char *new_boot_id, GError **error);

/* The guest is not healthy, and the policy leaves it on the new disk (no automatic rollback; a rollback that did not help): the swap
 * ends as COMMITTED too, with the reason. */
gboolean vr_swap_leave(VrSwap *swap, const char *reason, GError **error);

/* Back to the old disk from wherever it stands; destroys a guest on the new disk. Ends in DISCARDED or UNDONE. On an error it is UNKNOWN
 * (VR_ERROR_PERSON says what to look at) or, when we were fenced, unchanged. */
gboolean vr_swap_undo(VrSwap *swap, const char *reason, GError **error);

/* Puts it in UNKNOWN with a reason. */
gboolean vr_swap_give_up(VrSwap *swap, const char *reason, GError **error);
