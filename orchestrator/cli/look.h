/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A look at the instances of a set as they are now: power, health, what forbids a swap. Reads only. */
#pragma once

#include "engine/preflight.h"
#include "orchestrator/cli/targets.h"
#include "orchestrator/health.h"

typedef struct {
    VrDomainInfo info;
    gboolean found; /* FALSE: libvirt could not say; the findings have why, and info is empty */
    VrHealthAnswer health;
    VrDomainDef *def;    /* inactive; NULL: it could not be read, or a view has no use for it */
    GPtrArray *findings; /* VrFinding *, blockers first; NULL: of a view */
    VrFinding *changed;  /* of a view: its domain names another OS disk than that of its generation; NULL: no */
    guint64 proof_bytes; /* of data disks that are hashed while it is off (dataDiskProof), in each of two readings */
} VrLook;

/* What a look is for; NULL: a view, which needs no more than power and health. */
typedef struct {
    const VrTargets *targets;   /* the versions that are gone to */
    const VrDiskUsers *users;   /* may be NULL */
    const char *const *ignored; /* findings that a person lets pass; may be NULL */
} VrLookPurpose;

/* Looks at all instances, several at a time, or with only >= 0 at that one (the others stay empty). Element: VrLook *, one
 * for each instance, freed with the array. */
GPtrArray *vr_look_at_set(const VrSession *session, int only, const VrLookPurpose *purpose);

/* "running", "off", ..., "unknown". Static. */
const char *vr_look_power(const VrLook *look);

/* Unhealthy or unreachable now; one that is off on purpose is not. */
gboolean vr_look_is_down(const VrLook *look);
