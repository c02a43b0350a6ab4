/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/health_track.h"

void vr_health_track_begin(VrHealthTrack *track, const VrHealthRule *rule, gint64 started_ms)
{
    *track = (VrHealthTrack){
        .rule = *rule, .started_ms = started_ms, .state = VR_HEALTH_INITIALIZING, .last = VR_HEALTH_INITIALIZING};
}

static VrHealthState not_clear(const VrHealthTrack *track)
{
    return track->rule.no_unknown ? VR_HEALTH_UNHEALTHY : VR_HEALTH_UNKNOWN;
}

VrHealthState vr_health_track_answer(VrHealthTrack *track, VrHealthState answer, gboolean other_boot, gint64 now_ms)
{
    VrHealthState clear = answer == VR_HEALTH_INITIALIZING ? not_clear(track) : answer;
    gboolean in_grace =
        track->state == VR_HEALTH_INITIALIZING && now_ms - track->started_ms < track->rule.grace_period_ms;

    track->in_a_row = clear == track->last && !other_boot ? track->in_a_row + 1 : 1;
    track->last = clear;
    if (clear != VR_HEALTH_HEALTHY && in_grace)
        return track->state;
    if (track->in_a_row >= track->rule.number_of_probes)
        track->state = clear;
    else if (track->state == VR_HEALTH_INITIALIZING && !in_grace)
        track->state = not_clear(track);
    return track->state;
}
