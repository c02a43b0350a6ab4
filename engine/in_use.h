/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who refers to which image version, and to which OS disk of ours (SAFETY invariant 6). Three witnesses, and what one of them says counts:
 *
 *   disk      the backing name of every overlay in disks/UUID, and of what is being made there, by our own look at its header
 *   hv        every path in the inactive, live, snapshot, checkpoint and managed-save XML of every domain, and the backing
 *             chain of each file that is named there, wherever it lies
 *   journal   every generation whose files are not gone; so a full clone too, which refers to no file: a reimage wants its version
 *
 * A path counts by its name, by what it resolves to, and by device and inode. An overlay of ours that cannot be read is no "no": it refers to
 * the version that the journal says it was made from, and where no generation says so to whatever there is, and a warning names
 * it. It is a moment's picture: a deletion asks vr_in_use_journaled() again under the write lock.
 */
#pragma once

#include "disk/store.h"
#include "engine/journal.h"

typedef struct VrInUse VrInUse;

/* One that uses a version: an instance, another domain, or what a caller added. */
typedef struct {
    char *who;      /* domain name, UUID where it has none, or as it was added ("set shop") */
    GPtrArray *how; /* char *, without repetition: "g1.qcow2", "running domain", "generation 1, current" */
} VrUser;

/* hv NULL: without libvirt, for a view that says so. */
VrInUse *vr_in_use_read(VrStore *store, VrHv *hv, VrJournal *journal, GError **error);
void vr_in_use_free(VrInUse *in_use);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrInUse, vr_in_use_free)

/* A use that the engine does not know of: a model's pin, a run. */
void vr_in_use_add(VrInUse *in_use, const char *name, const char *version, const char *who, const char *how);

/* Those that use a version, by name; empty when nobody does. An OS disk of ours has the name "disks/UUID" and the version "gN.qcow2"; its
 * own generation is no use of it. Element: const VrUser *, the array is to be freed. */
GPtrArray *vr_in_use_of(const VrInUse *in_use, const char *name, const char *version);

/* Why it cannot be told whether somebody uses it ("it cannot be told what PATH refers to: ..."); NULL: it can. What is in doubt is not
 * deleted. An overlay is no doubt about itself. Names as for vr_in_use_of(). Free with g_free. */
char *vr_in_use_doubt(const VrInUse *in_use, const char *name, const char *version);

/* "web-0 (g1.qcow2, generation 1, current), web-1 (...)". Free with g_free. */
char *vr_in_use_text(const GPtrArray *users);

/* Within a transaction of the journal's database: FALSE with VR_ERROR_REFUSED when a generation refers to the version. */
gboolean vr_in_use_journaled(VrDb *db, const char *name, const char *version, GError **error);
