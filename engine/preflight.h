/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The preflight of one instance with all that this host can be asked: hv/preflight.h judges, here is found out what it judges by. */
#pragma once

#include "disk/store.h"
#include "engine/disk_users.h"
#include "engine/host_state.h"
#include "hv/preflight.h"

typedef struct {
    const char *os_target; /* NULL: found in the XML */
    gboolean needs_agent;
    VrNoticeNeed notice;
    const char *const *protected_disks; /* as the model says; NULL: none */
    const char *const *temp_targets;    /* to be made anew; NULL: none */
    const VrImage *image;               /* that it is to get; NULL: a rollback, or not known */
    const char *const *ignored;         /* findings that a person lets pass; NULL: none */
    const VrDiskUsers *users;           /* NULL: it is not asked whether other domains name its OS disk */
    const VrGeneration
        *back_to; /* of a rollback: whose disk nobody else may use, and which brings its own NVRAM; NULL: it is none */
    const VrGeneration *current; /* whose disk its OS disk must be; NULL: none, or it is not asked */
    gboolean had_nvram; /* its current generation is known to have one: it is missed also of a guest that is off */
    gboolean ask_guest; /* its agent is asked for what its system mounts, which takes a few seconds when it is silent */
    const VrHostState *host; /* NULL: what is scheduled is read, and systemd is not asked */
} VrSwapNeeds;

/* Element: VrFinding *, freed with the array. What blocks comes first. Opens the OS disk read-only, for its header, and its NVRAM, and takes no lock: a guest may run
 * on them. Never NULL. */
GPtrArray *vr_swap_preflight(VrStore *store, VrHv *hv, const VrDomainInfo *info, const VrDomainDef *def,
                             const VrSwapNeeds *needs);

/* For a view, which judges nothing else: the finding that the domain names another OS disk than that of `current`; NULL: it does not. Asks neither libvirt nor the
 * host. Free with vr_finding_free(). */
VrFinding *vr_swap_changed_disk(const VrDomainInfo *info, const VrDomainDef *def, const char *os_target,
                                const VrGeneration *current);
