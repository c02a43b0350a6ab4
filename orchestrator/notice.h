/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The notice that one guest has before it goes down (H7, H8), through its agent. It is Azure's document of scheduled events, so that what was made for that reads it:
 * one event of type Reimage, Scheduled and then Started; no event once it is called off. The wait ends at NotBefore or when the guest
 * approves, and after that when it is not busy, or at the limit of that. Who answers is root in a guest that we do not trust: it can make us wait up
 * to the limit of the model, and no longer.
 */
#pragma once

#include "hv/hv.h"
#include "orchestrator/model.h"

typedef struct VrNotice VrNotice;

/* tell: each change of what it waits for, one line; called from the thread that waits. */
typedef void (*VrNoticeTold)(const char *text, void *data);

typedef struct {
    VrHv *hv;
    const VrNoticeProfile *profile; /* outlives the notice, as uuid and domain do */
    const char *uuid, *domain;
    const char *what; /* "upgrade of 'shop' to debian-12 12.20261101.0"; copied */
} VrNoticeRequest;

VrNotice *vr_notice_new(const VrNoticeRequest *request);
void vr_notice_free(VrNotice *notice);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrNotice, vr_notice_free)

/* Gives it and waits. *aborted (atomic, may be NULL) ends the wait. TRUE: the guest may go down now, or is not there any more. VR_ERROR_CANCELLED: aborted. VR_ERROR_REFUSED: it is busy, or
 * it could not be told, and the model does not let it go then. */
gboolean vr_notice_wait(VrNotice *notice, const gint *aborted, VrNoticeTold told, void *data, GError **error);

/* The guest stays: what was written says so. One that was never told is not told now. For a few seconds at most. */
void vr_notice_take_back(VrNotice *notice);
