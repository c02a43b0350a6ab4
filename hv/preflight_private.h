/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the files of the preflight share: preflight.c (the list), and one file for each thing that is looked at. */
#pragma once

#include "hv/preflight.h"

typedef struct {
    const VrDomainInfo *info;
    const VrDomainDef *def;
    const VrPreflightNeeds *needs;
    const VrPreflightFacts *facts; /* never NULL */
    const char *name;
    char *typed; /* the name as one types it in a shell */
    GPtrArray *findings;
} VrPreflightCheck;

/* Takes text and remedy. */
void vr_preflight_add(VrPreflightCheck *check, const char *id, char *text, char *remedy);

/* ---- preflight_domain.c ---- */
void vr_preflight_state(VrPreflightCheck *check);
void vr_preflight_persistent(VrPreflightCheck *check);
void vr_preflight_managed_save(VrPreflightCheck *check);
void vr_preflight_snapshots(VrPreflightCheck *check);
void vr_preflight_job(VrPreflightCheck *check);
void vr_preflight_actions(VrPreflightCheck *check);
void vr_preflight_agent(VrPreflightCheck *check);
void vr_preflight_notice(VrPreflightCheck *check);
void vr_preflight_autostart(VrPreflightCheck *check);
void vr_preflight_host(VrPreflightCheck *check);

/* ---- preflight_disk.c ---- */
void vr_preflight_os_disk(VrPreflightCheck *check);
void vr_preflight_protected(VrPreflightCheck *check);
void vr_preflight_kernel(VrPreflightCheck *check);
void vr_preflight_data_disks(VrPreflightCheck *check);
void vr_preflight_fstab(VrPreflightCheck *check);
void vr_preflight_labels(VrPreflightCheck *check);

/* ---- preflight_image.c ---- */
void vr_preflight_firmware(VrPreflightCheck *check);
void vr_preflight_image(VrPreflightCheck *check);
