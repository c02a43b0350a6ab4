/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How the files of a generation go (SAFETY invariants 6, 7 and S14). See retire.c for the order and what a crash in it means. Which
 * ones go is for retention.h to say.
 */
#pragma once

#include "engine/in_use.h"
#include "engine/swap.h"

/* May it go, beside what the journal says? Asked within the transaction that takes it out of use. FALSE with an error: no. */
typedef gboolean (*VrMayRetire)(VrDb *db, const char *uuid, void *data, GError **error);

typedef struct {
    const VrInUse *in_use; /* read with libvirt */
    VrMayRetire may;       /* NULL: nobody else is asked */
    void *data;
} VrRetireCheck;

/* Its disk is where it was made, and is the recorded file. */
gboolean vr_retire_is_there(VrStore *store, const VrGeneration *generation);

/* Why it would be refused now; NULL: it would go. Changes nothing. Free with g_free. */
char *vr_retire_obstacle(VrStore *store, const VrGeneration *generation, const VrRetireCheck *check);

/* Journal -> unlink -> journal. Of the files only those go that were recorded: the disk, the NVRAM and the seed by device, inode and birth, the XML by its
 * digest. Repeatable:
 * one that is GOING is finished. why: for the audit.
 * VR_ERROR_REFUSED, VR_ERROR_CONFLICT, VR_ERROR_IO: it stays, as it was, with the reason; other errors are those of the journal. */
gboolean vr_retire(const VrEngine *engine, const VrGeneration *generation, const VrRetireCheck *check, const char *why,
                   GError **error);

/* For recovery: what a process that ended left GOING of the owner's set. What stays is a warning in the log. */
gboolean vr_retire_finish(const VrEngine *engine, GError **error);
