/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the extensions of a model are made of: scripts, files and protected settings of this host. They are read once a run, before it touches a
 * guest, so that all guests get the same and a file that is missing stops nothing in the middle. From then on the process leaves no core.
 */
#pragma once

#include "orchestrator/host_file.h"
#include "orchestrator/model.h"

typedef struct {
    const VrExtension *extension;             /* the model's */
    VrPayload script;                         /* of one with a script */
    char *interpreter, *interpreter_argument; /* of the script's first line; argument NULL: none */
    VrPayload *files;                         /* one for each of the extension's */
    VrPayload protected_settings;             /* empty when there are none */
} VrExtensionPayload;

typedef struct {
    guint count;
    VrExtensionPayload *all; /* in the order in which they run */
} VrExtensions;
void vr_extensions_free(VrExtensions *extensions);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrExtensions, vr_extensions_free)

/* The model must outlive it. VR_ERROR_REFUSED names the extension and the file: it is not there, no regular file, too large (a script 256 KiB, a file 1
 * MiB, protected settings 64 KiB), no script, or protected settings that others may read. */
VrExtensions *vr_extensions_load(const VrModel *model, GError **error);
