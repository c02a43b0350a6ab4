/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How an instance leaves (B21): it goes on with an OS disk that refers to no file of ours, and that is not ours any more. See release.c for the
 * order and what a crash in it means.
 */
#pragma once

#include "engine/swap.h"

typedef enum {
    VR_RELEASE_AS_IS,  /* its disk stands alone, or was never ours */
    VR_RELEASE_PULL,   /* it runs: QEMU takes the version below into the disk that it has */
    VR_RELEASE_FLATTEN /* it is off: its disk becomes a new file, a swap of its own */
} VrReleaseWay;

typedef struct {
    const char *uuid;
    const char *os_target;                               /* NULL: found in the XML */
    const char *const *ignored;                          /* findings that a person lets pass; NULL: none */
    void (*progress)(const VrBlockJob *job, void *data); /* of a pull; NULL: nobody looks */
    void *data;
} VrReleaseRequest;

typedef struct {
    char *domain, *target; /* its name; of the OS disk */
    char *path;            /* of the OS disk that it has */
    char *below;           /* the file that the disk refers to; NULL: none of ours */
    VrReleaseWay way;
    gboolean running;
    gboolean begun; /* a pull of a release before this one is under way */
    guint64 bytes;  /* that it will take more than now, about */
} VrReleasePlan;
void vr_release_plan_clear(VrReleasePlan *plan);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(VrReleasePlan, vr_release_plan_clear)

/* Looks, and changes nothing; engine->owner is not needed. VR_ERROR_REFUSED: a finding of the preflight; VR_ERROR_CONFLICT: an open swap, or the
 * disk is not the recorded one; VR_ERROR_NO_SPACE. */
gboolean vr_release_look(const VrEngine *engine, const VrReleaseRequest *request, VrReleasePlan *plan, GError **error);

/* Makes its disk stand alone, as was planned; returns when that is so. On an error the guest is as it was, on a disk that is whole, and all this may
 * be done again. */
gboolean vr_release_alone(const VrEngine *engine, const VrReleaseRequest *request, const VrReleasePlan *plan,
                          GError **error);

/* Takes it out of the set, within the transaction that lets go of its disk. */
typedef gboolean (*VrReleaseLeave)(VrDb *db, void *data, GError **error);

/* Takes our record out of the domain, and lets go of the disk in the journal. *disk: what it goes on with; its number is 0 and its path that of
 * the domain when it was never swapped. Repeatable until it has come to its end. */
gboolean vr_release_end(const VrEngine *engine, const VrReleaseRequest *request, VrReleaseLeave leave, void *data,
                        VrGeneration **disk, GError **error);

/* Was it begun, and neither ended nor given up with an error? */
gboolean vr_release_is_open(VrJournal *journal, const char *uuid, gboolean *open, GError **error);

/* Those of a set of which that is so. Element: char *, UUIDs, freed with the array. */
GPtrArray *vr_release_open_ones(VrJournal *journal, const char *set_name, GError **error);
