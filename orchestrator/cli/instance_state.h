/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is known of one instance, from journal, history and libvirt: for status and instance-view. */
#pragma once

#include "orchestrator/cli/look.h"
#include "orchestrator/cli/run_view.h"

typedef struct {
    const VrInstance *instance;
    const VrLook *look;          /* NULL: libvirt cannot be reached. Not owned */
    const VrRunInstance *in_run; /* in the last run; NULL: was not in it. Not owned */
    VrGeneration *current;       /* NULL: never swapped nor adopted */
    VrSwapRow *swap;             /* the last one; NULL */
    VrSwapTimes times;           /* of it */
    const VrFinding *changed;    /* its domain names another OS disk than that of its generation; NULL: no. Not owned */
    gboolean behind;             /* the model was edited since its generation was made */
    gboolean latest; /* latestModelApplied (J11): neither that, nor another version than the model asks for */
} VrInstanceState;

void vr_instance_state_clear(VrInstanceState *state);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(VrInstanceState, vr_instance_state_clear)

/* last: the set's last run; image: the version that the model asks for; looks: of vr_look_at_set(). Each may be NULL. */
gboolean vr_instance_state_read(VrInstanceState *state, const VrSession *session, guint index, const VrRun *last,
                                const VrImage *image, const GPtrArray *looks, GError **error);

/* Which version it runs; NULL: not known, as its domain was changed, too. */
const char *vr_instance_state_version(const VrInstanceState *state);
const char *vr_instance_state_power(const VrInstanceState *state);
const char *vr_instance_state_health(const VrInstanceState *state);
json_t *vr_instance_state_json(const VrInstanceState *state);

/* Connects and looks; NULL and a note when libvirt cannot be reached: reading goes on without it. */
GPtrArray *vr_look_if_reachable(VrSession *session, int only);
