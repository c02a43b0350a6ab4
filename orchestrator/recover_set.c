/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Recovery of a set: the engine brings each open swap to an end or to STARTED; here those are judged, and the run is closed. */
#include "base/clock.h"
#include "base/error.h"
#include "base/handover.h"
#include "base/log.h"
#include "engine/recover.h"
#include "orchestrator/executor.h"
#include "orchestrator/health.h"

#define MAX_JUDGES 64

typedef struct {
    const VrEngine *engine;
    const VrHealthProfile *health;
} Judges;

/* A guest that is healthy on its new disk stays there; another goes back. */
static void judge_started(const Judges *judges, VrRecovered *recovered)
{
    VrSwapRow *row = recovered->row;
    g_autoptr(GError) local = NULL;
    g_autoptr(VrSwap) swap = vr_swap_resume(judges->engine, row, &local);
    VrHealthWait wait = {.uuid = row->uuid, .old_boot_id = row->old_boot_id, .started_ms = vr_clock_now_ms()};
    g_auto(VrHealthAnswer) answer = {0};
    g_autofree char *before = g_steal_pointer(&recovered->told);

    if (!swap) {
        recovered->told = g_strdup_printf("%s, but %s", before, local->message);
        return;
    }
    if (!row->was_running || vr_health_wait(judges->engine->hv, judges->health, &wait, &answer)) {
        if (vr_swap_commit(swap, answer.boot_id, &local))
            recovered->told = g_strdup_printf("%s, %s: committed", before, row->was_running ? "healthy" : "stays off");
    } else if (vr_swap_undo(swap, answer.text, &local)) {
        recovered->told = g_strdup_printf("%s, %s: put back on generation %u", before, answer.text, row->from);
    }
    if (local)
        recovered->told = g_strdup_printf("%s, but %s", before, local->message);
    row->state = vr_swap_row(swap)->state;
}

static void judge_job(gpointer data, gpointer user_data)
{
    vr_handover_take(data);
    judge_started(user_data, data);
    vr_handover_give(data);
}

static void judge_all(const VrEngine *engine, const VrSet *set, GPtrArray *found)
{
    Judges judges = {.engine = engine, .health = &set->model->health};
    GThreadPool *pool = g_thread_pool_new(judge_job, &judges, MAX_JUDGES, FALSE, NULL);

    for (guint i = 0; i < found->len; i++) {
        VrRecovered *recovered = g_ptr_array_index(found, i);
        if (recovered->row->state != VR_SWAP_STARTED)
            continue;
        vr_handover_give(recovered);
        g_thread_pool_push(pool, recovered, NULL);
    }
    g_thread_pool_free(pool, FALSE, TRUE);
    for (guint i = 0; i < found->len; i++)
        vr_handover_take(g_ptr_array_index(found, i));
}

static VrInstancePhase phase_of(VrSwapState state)
{
    switch (state) {
    case VR_SWAP_COMMITTED:
        return VR_PHASE_COMMITTED;
    case VR_SWAP_UNDONE:
        return VR_PHASE_RESTORED;
    case VR_SWAP_DISCARDED:
        return VR_PHASE_PENDING;
    default:
        return VR_PHASE_UNKNOWN;
    }
}

/* The history says of each instance what became of it. */
static gboolean write_history(const VrEngine *engine, const VrRecovered *recovered, GError **error)
{
    const VrSwapRow *row = recovered->row;
    g_autoptr(GError) local = NULL;
    g_autoptr(VrRun) run = NULL;

    if (!row->run_id)
        return TRUE;
    run = vr_history_get(vr_journal_db(engine->journal), row->set_name, row->run_id, &local);
    if (!run && !g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    for (guint i = 0; run && i < run->instances->len; i++) {
        VrRunInstance *instance = g_ptr_array_index(run->instances, i);
        if (!g_str_equal(instance->uuid, row->uuid))
            continue;
        instance->phase = phase_of(row->state);
        g_free(instance->reason);
        instance->reason = g_strdup_printf("recovered: %s", recovered->told);
        g_free(instance->swap_id);
        instance->swap_id = g_strdup(row->id);
        return vr_history_instance(engine->journal, engine->owner, run->id, instance, error);
    }
    return TRUE;
}

static gboolean write_all(const VrEngine *engine, GPtrArray *found, GError **error)
{
    for (guint i = 0; i < found->len; i++) {
        const VrRecovered *recovered = g_ptr_array_index(found, i);
        if (!vr_journal_event(engine->journal, engine->owner, recovered->row->run_id, recovered->row->uuid, "recovered",
                              recovered->told, error) ||
            !write_history(engine, recovered, error))
            return FALSE;
    }
    return vr_history_close_open(engine->journal, engine->owner, VR_CODE_INTERNAL,
                                 "the process of the run ended before the run did", NULL, error);
}

static gboolean none_unknown(const VrSet *set, GPtrArray *found, GError **error)
{
    g_autoptr(GString) names = g_string_new(NULL);

    for (guint i = 0; i < found->len; i++) {
        const VrRecovered *recovered = g_ptr_array_index(found, i);
        if (!vr_swap_state_is_final(recovered->row->state))
            g_string_append_printf(names, "%s'%s' (%s)", names->len ? ", " : "", recovered->row->domain,
                                   recovered->told);
    }
    if (names->len == 0)
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_PERSON,
                "set '%s': a person must look at %s; mend what is said there, then run 'virt-reimage recover %s'",
                set->name, names->str, set->name);
    return FALSE;
}

gboolean vr_recover_set(const VrEngine *engine, const VrSet *set, gboolean dry_run, GPtrArray **told, GError **error)
{
    g_autoptr(GPtrArray) found = vr_recover(engine, dry_run, error);
    g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);

    if (!found)
        return FALSE;
    if (!dry_run) {
        judge_all(engine, set, found);
        if (!write_all(engine, found, error))
            return FALSE;
    }
    for (guint i = 0; i < found->len; i++) {
        const VrRecovered *recovered = g_ptr_array_index(found, i);
        g_ptr_array_add(lines, g_strdup_printf("'%s' was in %s: %s", recovered->row->domain,
                                               vr_swap_state_name(recovered->found), recovered->told));
    }
    if (told)
        *told = g_steal_pointer(&lines);
    return dry_run || none_unknown(set, found, error);
}
