/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What can be known of instances without the journal: from the record in each domain's <metadata> and from the files in
 * ROOT/disks/UUID. What cannot be known is said and not guessed: whether a kept disk was ever healthy, which swap was open, runs, sets.
 *
 *   current        the disk that the domain's XML names, if its record and its live XML agree with that
 *   released       the same where its domain has no record and nothing lies below the disk: it is not ours any more
 *   kept           another gN.qcow2 of ours whose owner, mode, XML, backing chain, NVRAM and seed are as we leave them
 *   failed         a gN.qcow2 of which one of these is not so: it keeps its number, and is neither booted nor deleted by us
 *   discarded      a gN.xml without its disk: it keeps its number
 *   generation 0   the disk that g0.xml names, if it and its NVRAM are still there
 */
#pragma once

#include "disk/store.h"
#include "engine/journal.h"

typedef struct {
    char uuid[VR_UUID_LENGTH + 1];
    char *domain;           /* its name; NULL: libvirt has no such domain */
    char *set_name;         /* by the record; NULL: not known */
    GPtrArray *generations; /* VrGeneration *, by number; one is CURRENT or RELEASED */
    GPtrArray *said;        /* char *: what is not known or not as it should be */
    gboolean restorable;
    gboolean known; /* the journal has it: nothing is to be done */
} VrFoundInstance;

/* Looks at every instance that has a directory in the store, or a record and a disk in the store in its domain. journal NULL: there is none. Element:
 * VrFoundInstance *, freed with the array. Changes nothing. */
GPtrArray *vr_rebuild_look(VrStore *store, VrHv *hv, VrJournal *journal, GError **error);

/* Writes what was found; the owner is that of found->set_name. VR_ERROR_CONFLICT: the journal knows the instance by now. */
gboolean vr_rebuild_restore(VrJournal *journal, const VrOwner *owner, const VrFoundInstance *found, GError **error);
