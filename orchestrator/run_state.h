/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Where a run stands, as one JSON document: it lies in the history for those who only read, it is what the run's process answers on its
 * socket, and a new process goes on from it.
 */
#pragma once

#include "orchestrator/rollout.h"

typedef struct {
    gboolean automatic_rollback, walk, temp_disks, windowed; /* as it was asked for */
    char **ignored; /* likewise: findings that a person lets pass; NULL: none */
    char *seen,
        *seen_boot; /* what the last survey found, and on which boot of the host (executor_survey.c); NULL: there was none */
    VrRunPoint point;
    VrHold hold;
    char *hold_text;                                    /* NULL: nothing holds it */
    gint64 hold_until_us;                               /* wall clock; 0: until a person acts */
    gboolean pause_requested, locked, rollback_allowed; /* F5 */
    char *rollout;                                      /* of vr_rollout_save() */
} VrRunState;
void vr_run_state_clear(VrRunState *state);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(VrRunState, vr_run_state_clear)

/* From a rollout; the fields before point are the caller's. wall_us is now, too; saved_at_ms: of vr_rollout_save(), so that a caller can
 * see whether anything but the time has changed. */
void vr_run_state_take(VrRunState *state, const VrRollout *rollout, gint64 now_ms, gint64 wall_us, gint64 saved_at_ms);

/* One line. Free with g_free. */
char *vr_run_state_write(const VrRunState *state);

/* VR_ERROR_REFUSED: not such a document. */
gboolean vr_run_state_read(VrRunState *state, const char *text, GError **error);
