/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What new OS disks of a run get (C1, C2, C5, C6, C7, C8): the files that the model's osProfile names are read once, before the run touches a guest, and
 * each disk gets its own out of them, as its seed and on itself. A file that has another content by the next run brings that. From the reading
 * on the process leaves no core.
 */
#pragma once

#include "disk/personalize.h"
#include "disk/seed.h"
#include "engine/swap.h"
#include "hv/hv.h"
#include "orchestrator/registry.h"

/* What to do where vr_personalize_is_possible() says no. */
#define VR_PERSONALIZE_REMEDY                                                                                          \
    "install what is missing (Debian: libguestfs0 libguestfs-xfs, and where /boot has no kernel "                      \
    "linux-image-cloud-amd64)"

typedef struct VrOsContent VrOsContent;

/* *content NULL: the model asks for nothing of it. The model must outlive it. VR_ERROR_REFUSED names the key and the file: it is not there, no regular file,
 * or too large; no text, or a template with a field that is none; no public key; or this host cannot write to disks offline. */
gboolean vr_os_content_load(const VrModel *model, VrOsContent **content, GError **error);
void vr_os_content_free(VrOsContent *content);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrOsContent, vr_os_content_free)

#define VR_APPLIANCE "appliance" /* a directory in the root of the store */

/* Does it ask for anything that is written into new disks offline, carried over or not? */
gboolean vr_model_writes_offline(const VrModel *model);

/* Before a run: where disks are written to offline, ROOT/appliance is made and KVM tried, once. */
gboolean vr_os_content_prepare(VrOsContent *content, VrStore *store, GError **error);

/* NULL: nothing is written offline, or it was not prepared. */
const VrPersonalizeOptions *vr_os_content_personalize(const VrOsContent *content);

/* The seed of one instance on that version; *seed NULL: none gets one. VR_ERROR_REFUSED: its computerName is no host name, or it has no such field. */
gboolean vr_os_content_seed(const VrOsContent *content, const VrSet *set, guint index, const VrImage *image, VrHv *hv,
                            VrSeed **seed, GError **error);

/* What is written into its disk, which the engine fills in; *personal NULL: nothing. Empty, but for selinuxRelabel, where only something is carried
 * over. Reads sshHostKeys of the instance. VR_ERROR_REFUSED names the key: a name or machine-id that is none, a field that it has not, no host key. */
gboolean vr_os_content_personal(const VrOsContent *content, const VrSet *set, guint index, const VrImage *image,
                                VrHv *hv, VrPersonal **personal, GError **error);

/* What each new disk gets of the old one; NULL: nothing. */
const VrCarryOver *vr_os_content_carry(const VrOsContent *content);

/* Files of an osProfile that every user of this host may read. Element: char *, a line for a person, freed with the array. */
GPtrArray *vr_os_content_open_files(const VrModel *model);
