/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which files a piece of libvirt's XML refers to, pure. Too many rather than too few: it is for the question what may go. */
#pragma once

#include <glib.h>

typedef struct {
    char *name;                 /* of the domain, snapshot or checkpoint; NULL when it has none */
    GPtrArray *paths;           /* char *: every attribute and text that is an absolute path */
    GPtrArray *pools, *volumes; /* char *: pairs, of disks of type volume */
} VrDomainRefs;

/* xml: a <domain>, <domainsnapshot> or <domaincheckpoint>. Else VR_ERROR_INVALID. */
VrDomainRefs *vr_domain_refs_parse(const char *xml, GError **error);
void vr_domain_refs_free(VrDomainRefs *refs);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrDomainRefs, vr_domain_refs_free)
