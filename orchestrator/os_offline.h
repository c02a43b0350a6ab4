/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Private to os_content.c: what a run makes of an osProfile's offlineConfiguration (C6). */
#pragma once

#include "disk/personalize.h"
#include "orchestrator/model.h"

typedef struct VrOsOffline VrOsOffline;

/* Reads what it names, but for sshHostKeys, which may be others for each instance. The profile must outlive it. VR_ERROR_REFUSED names the key. */
VrOsOffline *vr_os_offline_load(const VrOfflineProfile *profile, GError **error);
void vr_os_offline_free(VrOsOffline *offline);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrOsOffline, vr_os_offline_free)

/* For one instance, with its fields; disk and format are the engine's to say. VR_ERROR_REFUSED names the key, and what its rule is. */
VrPersonal *vr_os_offline_personal(const VrOsOffline *offline, const char *const *values, GError **error);
