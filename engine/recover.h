/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Recovery: reads the journal and the world (libvirt's XML and power, files) and brings each open swap of a set
 * forward to STARTED or back to the old disk. What is STARTED is left open: health is judged by the caller.
 */
#pragma once

#include "engine/swap.h"

typedef struct {
    VrSwapRow *row; /* as it stands after recovery; owned */
    VrSwapState
        found;  /* the state in which it was found; a final one: something took effect after its end (swap_late.c) */
    char *told; /* what was found and done, for a person; owned */
} VrRecovered;
void vr_recovered_free(VrRecovered *recovered);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrRecovered, vr_recovered_free)

/* Recovers every open swap of the owner's set, and starts guests again that went off late. dry_run: only says what it would do. Element: VrRecovered *, freed with the array. A swap that
 * cannot be decided is UNKNOWN in the answer, not an error. */
GPtrArray *vr_recover(const VrEngine *engine, gboolean dry_run, GError **error);

/* What vr_recover() does at its end, for the caller whose judgement ended swaps since: kept disks that rest are sealed, deletions that were cut are
 * finished. What fails is a warning, and the next recovery tries again. */
void vr_recover_put_away(const VrEngine *engine);

/* A person's word that ends an open swap of a domain that libvirt does not have any more, or that has its old disk while the record of the swap
 * cannot be read. Files and generations stay: the old one is current, the new one failed (or kept, of a rollback). VR_ERROR_REFUSED of any other
 * domain. dry_run: only asks. What is true of the domain, for a person; free with g_free; NULL: error. */
char *vr_swap_forget(const VrEngine *engine, const VrSwapRow *row, gboolean dry_run, GError **error);
