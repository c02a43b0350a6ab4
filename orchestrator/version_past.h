/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What became of an image version in a set, as its runs say. */
#pragma once

#include "orchestrator/history.h"
#include "orchestrator/registry.h"

typedef struct {
    char *failed_run, *failed_code; /* it failed on the set (invariant 21), and nothing came good since; NULL */
    /* Of the runs since a person's last word (VrSet.word_run): the newest upgrade to the version, when it has ended and another one
     * shall not follow by itself: one that began by itself, or a person's that did not complete. NULL: none */
    char *ended_run;
    gboolean ended_automatic;
    VrRunStatus ended_status;
    char *
        taken_back_run; /* a rollback since then, or a person's run to a lower version, that moved an instance away from it; NULL: none */
} VrVersionPast;
void vr_version_past_clear(VrVersionPast *past);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(VrVersionPast, vr_version_past_clear)

gboolean vr_version_past_read(VrJournal *journal, const VrSet *set, const char *image, const char *version,
                              VrVersionPast *past, GError **error);
