/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/run_state.h"

#include "base/clock.h"
#include "base/error.h"

#include <jansson.h>

/* What is of the rollout, and not as it was asked for. */
static void clear_rollout(VrRunState *state)
{
    g_clear_pointer(&state->hold_text, g_free);
    g_clear_pointer(&state->rollout, g_free);
}

void vr_run_state_clear(VrRunState *state)
{
    clear_rollout(state);
    g_clear_pointer(&state->ignored, g_strfreev);
    g_clear_pointer(&state->seen, g_free);
    g_clear_pointer(&state->seen_boot, g_free);
}

void vr_run_state_take(VrRunState *state, const VrRollout *rollout, gint64 now_ms, gint64 wall_us, gint64 saved_at_ms)
{
    VrRolloutView view;

    vr_rollout_view(rollout, &view);
    clear_rollout(state);
    state->point = view.point;
    state->hold = view.gate_text ? VR_HOLD_GATE : view.hold;
    state->hold_text = g_strdup(view.gate_text ? view.gate_text : view.hold_text);
    state->hold_until_us = view.hold_until_ms == 0 ? 0 : wall_us + (view.hold_until_ms - now_ms) * 1000;
    state->pause_requested = view.pause_requested;
    state->locked = view.locked;
    state->rollback_allowed = view.rollback_allowed;
    state->rollout = vr_rollout_save(rollout, saved_at_ms, vr_clock_boot_id());
}

static json_t *ignored_json(char **ignored)
{
    json_t *list = json_array();

    for (; ignored && *ignored; ignored++)
        json_array_append_new(list, json_string(*ignored));
    return list;
}

static char **read_ignored(const json_t *list)
{
    g_autoptr(GStrvBuilder) builder = g_strv_builder_new();
    json_t *id;
    size_t index;

    json_array_foreach(list, index, id) if (json_string_value(id)) g_strv_builder_add(builder, json_string_value(id));
    return g_strv_builder_end(builder);
}

char *vr_run_state_write(const VrRunState *state)
{
    json_t *document = json_pack(
        "{s:b, s:b, s:b, s:b, s:o, s:s*, s:s*, s:s, s:s*, s:s*, s:I, s:b, s:b, s:b, s:s*}", "automaticRollback",
        state->automatic_rollback, "walk", state->walk, "tempDisks", state->temp_disks, "windowed", state->windowed,
        "ignored", ignored_json(state->ignored), "seen", state->seen, "seenBoot", state->seen_boot, "point",
        vr_run_point_name(state->point), "hold", vr_hold_name(state->hold), "holdText", state->hold_text, "holdUntil",
        (json_int_t)state->hold_until_us, "pauseRequested", state->pause_requested, "locked", state->locked,
        "rollbackAllowed", state->rollback_allowed, "rollout", state->rollout);
    char *text = json_dumps(document, JSON_COMPACT);

    json_decref(document);
    return text;
}

static gboolean find_point(VrRunPoint *point, const char *name)
{
    for (guint i = 0; i <= VR_POINT_INTERRUPTED; i++) {
        if (g_strcmp0(vr_run_point_name(i), name) != 0)
            continue;
        *point = i;
        return TRUE;
    }
    return FALSE;
}

static void find_hold(VrHold *hold, const char *name)
{
    *hold = VR_HOLD_NONE;
    for (guint i = VR_HOLD_NONE + 1; i <= VR_HOLD_REBOOT; i++)
        if (g_strcmp0(vr_hold_name(i), name) == 0)
            *hold = i;
}

gboolean vr_run_state_read(VrRunState *state, const char *text, GError **error)
{
    json_t *document = text ? json_loads(text, 0, NULL) : NULL;
    const char *point = NULL, *hold = NULL, *hold_text = NULL, *rollout = NULL, *seen = NULL, *seen_boot = NULL;
    json_t *ignored = NULL;
    json_int_t until = 0;
    gboolean ok =
        document && json_unpack(document, "{s:b, s:b, s?b, s?b, s?o, s?s, s?s, s:s, s?s, s?s, s:I, s:b, s:b, s:b, s?s}",
                                "automaticRollback", &state->automatic_rollback, "walk", &state->walk, "tempDisks",
                                &state->temp_disks, "windowed", &state->windowed, "ignored", &ignored, "seen", &seen,
                                "seenBoot", &seen_boot, "point", &point, "hold", &hold, "holdText", &hold_text,
                                "holdUntil", &until, "pauseRequested", &state->pause_requested, "locked",
                                &state->locked, "rollbackAllowed", &state->rollback_allowed, "rollout", &rollout) == 0;

    vr_run_state_clear(state);
    ok = ok && find_point(&state->point, point);
    if (ok) {
        find_hold(&state->hold, hold);
        state->ignored = read_ignored(ignored);
        state->seen = g_strdup(seen);
        state->seen_boot = g_strdup(seen_boot);
        state->hold_text = g_strdup(hold_text);
        state->hold_until_us = until;
        state->rollout = g_strdup(rollout);
    } else {
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "what is kept of the run is not readable");
    }
    json_decref(document);
    return ok;
}
