/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Everything about a domain that forbids a swap, or that a person should know before one, as a list of named findings
 * (SAFETY 4.1, 4.3, 4.9 to 4.11). docs/preflight.md describes them. Pure: what must be looked up beside libvirt's words is given
 * as facts (engine/preflight.h finds them).
 */
#pragma once

#include "hv/domain_xml.h"
#include "hv/hv.h"

typedef enum { VR_SEVERITY_WARNING, VR_SEVERITY_BLOCKER } VrSeverity;

/* The table of all findings, ended by a row without an id. */
typedef struct {
    const char *id; /* "managed-save", "snapshots", ...: stable */
    VrSeverity severity;
    const char
        *ignorable; /* of a blocker: why a person may let it pass; NULL: nobody may, it protects data or cannot work */
} VrFindingKind;
extern const VrFindingKind vr_finding_kinds[];

typedef struct {
    const char *id; /* of the table */
    VrSeverity severity;
    gboolean ignored; /* a blocker that does not block: a person lets it pass */
    char *text;       /* what is true now, with the domain's name */
    char *remedy;     /* what to do or type */
} VrFinding;

void vr_finding_free(VrFinding *finding);

/* Of the version that a guest is to get, as far as it can be told from its disk; what is not known gives no finding. */
typedef struct {
    const char *name, *version;
    gboolean known;      /* its first sectors could be read */
    gboolean bios, uefi; /* it has what this firmware starts; neither: it is blank */
    const char *arch;    /* as libvirt spells it; NULL: not known */
    guint sector;        /* bytes of a sector that its partition table counts in; 0: not known */
    gboolean no_loader;  /* its EFI system partition has none that the guest's firmware starts without a boot entry */
    const char *loader;  /* the path that this firmware looks for; NULL: not known */
} VrPreflightImage;

/* What libvirt does not say. All zero: nothing was found. */
typedef struct {
    char *no_local_path;      /* why the volume that is the OS disk has none */
    guint internal_snapshots; /* in the OS disk's own header */
    char *backing;            /* the file below an OS disk that we did not make */
    char *job;                /* that it has now, or why nobody can tell */
    char *should_be;          /* the OS disk of its current generation, when the domain names another one */
    guint generation;         /* that one's number */
    gboolean ours;            /* that one was made here; else it is where it was found */
    char *shared_with;        /* other domains that name the OS disk */
    char *nvram;              /* why its NVRAM cannot be copied */
    char *fstab;              /* what its system mounts by device name: "/dev/vdb1 on /srv" */
    char *rollback_in_use;    /* the disk that a rollback goes to, and who uses it */
    char *host_stopping;      /* how one knows that the host is going down now */
    char *host_shutdown;      /* what is scheduled: "reboot at 2026-11-22 23:00" */
    gboolean agent_silent;    /* it has a channel for its agent, and nobody answers */
    VrPreflightImage image;
} VrPreflightFacts;
void vr_preflight_facts_clear(VrPreflightFacts *facts);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(VrPreflightFacts, vr_preflight_facts_clear)

/* Shall a guest that runs be told before it goes down (H7)? */
typedef enum {
    VR_NOTICE_NONE,
    VR_NOTICE_IF_POSSIBLE, /* one that cannot be told goes without */
    VR_NOTICE_REQUIRED
} VrNoticeNeed;

/* What the model needs of the guest. */
typedef struct {
    const char *os_target; /* NULL: find it */
    gboolean needs_agent;
    VrNoticeNeed notice;
    const char *const
        *protected_disks; /* serials, WWNs and targets of disks that are never swapped or made anew; NULL: none */
    const char *const *temp_targets; /* disks that are to be made anew; NULL: none */
    const VrPreflightFacts *facts;   /* NULL: none */
    const char *const *ignored;      /* ids that a person lets pass; NULL: none */
} VrPreflightNeeds;

/* Element: VrFinding *, freed with the array. What blocks comes first. Never NULL. */
GPtrArray *vr_preflight(const VrDomainInfo *info, const VrDomainDef *def, const VrPreflightNeeds *needs);

/* The first finding that blocks, or NULL. */
const VrFinding *vr_preflight_blocker(const GPtrArray *findings);

/* VR_ERROR_REFUSED with all blockers of the domain when there is one. */
gboolean vr_preflight_require(const GPtrArray *findings, const char *domain, GError **error);

/* May each of these be let pass? VR_ERROR_USAGE names one that is unknown or stops nothing, VR_ERROR_REFUSED one that never may. ids may
 * be NULL. */
gboolean vr_preflight_may_ignore(const char *const *ids, GError **error);

/* For callers that have a finding of their own to add. Takes text and remedy. */
VrFinding *vr_finding_new(const char *id, char *text, char *remedy);

/* Where its kind may be passed: says so in its remedy, and is passed where `ignored` (may be NULL) names it. */
void vr_finding_offer(VrFinding *finding, const char *const *ignored);
