/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Private to the rollout: the reasons of failures, counted, and the shares that J5's error texts give.
 */
#pragma once

#include <glib.h>

/* Counts failures by their reason; a reason's key is the reason without its digits and without the hosts in it: what "the same
 * reason" compares (decision 9). */
typedef struct {
    GHashTable *counts; /* key -> VrReasonCount * */
    guint total;
} VrReasons;

void vr_reasons_init(VrReasons *reasons);
void vr_reasons_clear(VrReasons *reasons);

/* Returns the key, the same pointer for the same reason as long as reasons lives. */
const char *vr_reasons_add(VrReasons *reasons, const char *reason);

/* The first reason that was counted under a key, as it was given; NULL for NULL. */
const char *vr_reasons_text(const VrReasons *reasons, const char *key);

/* The key of a reason that was counted before, or NULL. */
const char *vr_reasons_key(const VrReasons *reasons, const char *reason);

/* Appends "; the most common reason (2 of 3): ..." when there is one. Of equal ones the first. */
void vr_reasons_append_most_common(const VrReasons *reasons, GString *text);

/* Appends "2 of 9 WHAT (22.3%)"; the share is rounded up, so that what is above a limit also reads so. */
void vr_text_append_share(GString *text, guint part, guint whole, const char *what);
