/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Everything about a domain that forbids a swap, as a list of named findings (SAFETY 4.1, 4.3, 4.9 to 4.11). Pure. */
#pragma once

#include "hv/domain_xml.h"
#include "hv/hv.h"

typedef enum { VR_SEVERITY_WARNING, VR_SEVERITY_BLOCKER } VrSeverity;

typedef struct {
    const char *id; /* "managed-save", "snapshots", ...: stable, static */
    VrSeverity severity;
    char *text;   /* what is true now, with the domain's name */
    char *remedy; /* what to do or type */
} VrFinding;

void vr_finding_free(VrFinding *finding);

/* What the model needs of the guest. */
typedef struct {
    const char *os_target; /* NULL: find it */
    gboolean needs_agent;
} VrPreflightNeeds;

/* Element: VrFinding *, freed with the array. Blockers first. Never NULL. */
GPtrArray *vr_preflight(const VrDomainInfo *info, const VrDomainDef *def, const VrPreflightNeeds *needs);

/* The finding that blocks, or NULL. */
const VrFinding *vr_preflight_blocker(const GPtrArray *findings);

/* VR_ERROR_REFUSED with all blockers of the domain when there is one. */
gboolean vr_preflight_require(const GPtrArray *findings, const char *domain, GError **error);
