/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a swap would change in a domain's configuration, before there is one: the XML as it is and as the swap would define it, by
 * the code that makes the intent of a real one (vr_swap_make_intent). Writes nothing, and asks libvirt for what any user of it may see: neither text
 * has a password, so neither may ever be defined.
 */
#pragma once

#include "engine/swap.h"

/* In the place of the identity of the swap, which it does not have yet. */
#define VR_PREVIEW_SWAP_ID "UUID-OF-THE-SWAP"

typedef struct {
    const char *set_name, *uuid;
    const char *os_target; /* NULL: found in the XML */
    const VrImage *image;  /* NULL: a rollback */
    guint to_generation;   /* of a rollback */
    gboolean full_clone;   /* of a forward swap: the new disk refers to no version */
    gboolean seed;         /* likewise: it gets one */
} VrPreviewRequest;

typedef struct {
    char *before, *after; /* in libvirt's own spelling */
    guint generation;     /* that it would be on; a new one may get a higher number if another swap comes first */
} VrPreview;

void vr_preview_clear(VrPreview *preview);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(VrPreview, vr_preview_clear)

/* *preview is empty on an error: those of vr_swap_begin(), but for the preflight, which is not asked. */
gboolean vr_swap_preview(VrStore *store, VrHv *hv, VrJournal *journal, const VrPreviewRequest *request,
                         VrPreview *preview, GError **error);
