/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/cli/instance_state.h"

#include "base/error.h"
#include "disk/version.h"
#include "orchestrator/cli/targets.h"

void vr_instance_state_clear(VrInstanceState *state)
{
    g_clear_pointer(&state->current, vr_generation_free);
    g_clear_pointer(&state->swap, vr_swap_row_free);
}

/* The order in a run is that of the set at its time, so the search begins, and mostly ends, at the same index. */
static const VrRunInstance *in_run(const VrRun *run, guint index, const char *uuid)
{
    guint count = run ? run->instances->len : 0;

    for (guint i = 0; i < count; i++) {
        const VrRunInstance *instance = g_ptr_array_index(run->instances, (index + i) % count);
        if (g_str_equal(instance->uuid, uuid))
            return instance;
    }
    return NULL;
}

/* Does it run the version that the model asks for of it: its own pin, else that of the set? */
static gboolean has_version(const VrInstanceState *state, const VrSet *set, const VrImage *image)
{
    const VrGeneration *current = state->current;
    const char *name = image ? image->name : set->model->image_name;
    const char *version = state->instance->pin ? state->instance->pin : image ? image->version : NULL;

    return name && version && vr_instance_state_version(state) && g_str_equal(current->image, name) &&
           vr_version_compare(current->version, version) == 0;
}

gboolean vr_instance_state_read(VrInstanceState *state, const VrSession *session, guint index, const VrRun *last,
                                const VrImage *image, const GPtrArray *looks, GError **error)
{
    g_autoptr(GError) local = NULL;
    const char *uuid;

    state->instance = vr_set_instance(session->set, index);
    uuid = state->instance->uuid;
    state->look = looks ? g_ptr_array_index(looks, index) : NULL;
    state->in_run = in_run(last, index, uuid);
    state->times = (VrSwapTimes){-1, -1, -1, -1, -1, -1, -1, -1};
    state->current = vr_journal_current(session->journal, uuid, &local);
    state->swap = local ? NULL : vr_journal_last_swap(session->journal, uuid, &local);
    if (local) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    state->changed = state->look ? state->look->changed : NULL;
    state->behind = vr_set_is_behind(session->set, index, state->current);
    state->latest = has_version(state, session->set, image) && !state->behind;
    return !state->swap || vr_journal_swap_times(session->journal, state->swap->id, &state->times, error);
}

const char *vr_instance_state_version(const VrInstanceState *state)
{
    return state->current && !state->changed ? state->current->version : NULL;
}

const char *vr_instance_state_power(const VrInstanceState *state)
{
    return state->look ? vr_look_power(state->look) : "unknown";
}

const char *vr_instance_state_health(const VrInstanceState *state)
{
    if (!state->look || !state->look->found)
        return vr_health_state_name(VR_HEALTH_UNKNOWN);
    return state->look->health.off ? "-" : vr_health_state_name(state->look->health.state);
}

/* Azure's customMetrics, as the application gave them (E10). */
static json_t *metrics_json(const VrHealthAnswer *health)
{
    json_t *metrics = health->metrics ? json_loads(health->metrics, JSON_DECODE_ANY, NULL) : NULL;

    return metrics ? metrics : json_null();
}

static json_t *health_json(const VrInstanceState *state)
{
    const VrHealthAnswer *health = state->look ? &state->look->health : NULL;

    if (!state->look || !state->look->found || state->look->health.off)
        return json_null();
    return json_pack("{s:s, s:o, s:o, s:o, s:o}", "state", vr_instance_state_health(state), "text",
                     vr_json_text(health->text), "time", vr_json_time(health->asked_us), "bootId",
                     vr_json_text(health->boot_id), "customMetrics", metrics_json(health));
}

static json_t *swap_json(const VrInstanceState *state)
{
    const VrSwapRow *swap = state->swap;
    json_t *document;

    if (!swap)
        return json_null();
    document = json_pack("{s:s, s:o, s:b, s:i, s:i, s:s}", "swapId", swap->id, "runId", vr_json_text(swap->run_id),
                         "rollback", swap->rollback, "fromGeneration", (int)swap->from, "toGeneration", (int)swap->to,
                         "state", vr_swap_state_name(swap->state));
    json_object_update_new(document,
                           json_pack("{s:b, s:o, s:o, s:o, s:o}", "wasRunning", swap->was_running, "oldBootId",
                                     vr_json_text(swap->old_boot_id), "newBootId", vr_json_text(swap->new_boot_id),
                                     "reason", vr_json_text(swap->reason), "times", vr_times_json(&state->times)));
    return document;
}

static json_t *in_run_json(const VrRunInstance *instance)
{
    if (!instance)
        return json_null();
    return json_pack("{s:s, s:o, s:o}", "phase", vr_instance_phase_name(instance->phase), "batch",
                     vr_batch_json(instance), "reason", vr_json_text(instance->reason));
}

json_t *vr_instance_state_json(const VrInstanceState *state)
{
    const VrGeneration *current = state->current;
    json_t *document =
        json_pack("{s:o, s:s, s:i, s:o, s:b, s:o, s:s, s:o}", "domain", vr_json_text(state->instance->domain), "uuid",
                  state->instance->uuid, "upgradeDomain", (int)state->instance->upgrade_domain, "pinnedVersion",
                  vr_json_text(state->instance->pin), "protected", state->instance->is_protected, "protection",
                  vr_protection_json(state->instance), "powerState", vr_instance_state_power(state), "health",
                  health_json(state));

    json_object_update_new(document,
                           json_pack("{s:o, s:o, s:o, s:o, s:b, s:b, s:b, s:o, s:o}", "generation",
                                     current ? json_integer(current->number) : json_null(), "image",
                                     vr_json_text(current ? current->image : NULL), "version",
                                     vr_json_text(vr_instance_state_version(state)), "modelRevision",
                                     vr_revision_json(current), "behindModel", state->behind, "latestModelApplied",
                                     state->latest, "osDiskChanged", state->changed != NULL, "lastRun",
                                     in_run_json(state->in_run), "lastSwap", swap_json(state)));
    return document;
}

GPtrArray *vr_look_if_reachable(VrSession *session, int only)
{
    g_autoptr(GError) local = NULL;

    if (vr_session_connect(session, &local))
        return vr_look_at_set(session, only, NULL);
    vr_note(session->cli, "power and health are unknown: %s", local->message);
    return NULL;
}
