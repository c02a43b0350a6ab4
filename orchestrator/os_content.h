/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the seeds of a run are made of (C1, C2, C5, C7): the files that the model's osProfile names are read once, before the run touches a guest, and each
 * new OS disk gets its own out of them. A file that has another content by the next run brings that. From the reading on the process leaves no core.
 */
#pragma once

#include "disk/seed.h"
#include "hv/hv.h"
#include "orchestrator/registry.h"

typedef struct VrOsContent VrOsContent;

/* *content NULL: the model has no osProfile. The model must outlive it. VR_ERROR_REFUSED names the key and the file: it is not there, no regular file, or
 * larger than 512 KiB; no text, or a template with a field that is none; no public key. */
gboolean vr_os_content_load(const VrModel *model, VrOsContent **content, GError **error);
void vr_os_content_free(VrOsContent *content);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrOsContent, vr_os_content_free)

/* The seed of one instance on that version. VR_ERROR_REFUSED: its computerName is no host name, or it has no such field. */
VrSeed *vr_os_content_seed(const VrOsContent *content, const VrSet *set, guint index, const VrImage *image, VrHv *hv,
                           GError **error);

/* Files of an osProfile that every user of this host may read. Element: char *, a line for a person, freed with the array. */
GPtrArray *vr_os_content_open_files(const VrModel *model);
