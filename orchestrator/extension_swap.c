/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/extension_swap.h"

#include "base/clock.h"

#define AGENT_LEAST_MS 30000 /* after a process that ended the guest may have run for long */

typedef struct {
    const VrEngine *engine;
    const VrSwapRow *row;
} Keeper;

static gboolean keep(guint position, const VrExtensionResult *result, void *data, GError **error)
{
    const Keeper *keeper = data;

    return vr_extension_result_write(keeper->engine->journal, keeper->engine->owner, keeper->row->uuid, keeper->row->to,
                                     position, result, error);
}

/* The agent has the time that the first sign of health may take. */
static gint64 agent_until(const VrHealthProfile *health, gint64 started_ms)
{
    gint64 limit_ms = health->start_timeout_ms > 0 ? health->start_timeout_ms : health->timeout_ms;

    return MAX(started_ms + limit_ms, vr_clock_now_ms() + MIN(limit_ms, AGENT_LEAST_MS));
}

gboolean vr_extensions_of_swap(const VrEngine *engine, const VrExtensions *extensions, const VrHealthProfile *health,
                               const VrSwapRow *row, const gint *aborted, gint64 *started_ms, char **reason)
{
    g_autoptr(GPtrArray) known = NULL;
    g_autoptr(GError) local = NULL;
    Keeper keeper = {.engine = engine, .row = row};
    VrExtensionsRun run = {.hv = engine->hv,
                           .uuid = row->uuid,
                           .generation = row->to,
                           .extensions = extensions,
                           .old_boot_id = row->old_boot_id,
                           .aborted = aborted,
                           .record = keep,
                           .data = &keeper};
    gint64 spent_ms, before_ms = 0;
    gboolean good;

    *reason = NULL;
    if (!extensions || extensions->count == 0 || row->rollback)
        return TRUE;
    known = vr_extension_results_read(engine->journal, row->uuid, row->to, &local);
    if (!known) {
        *reason = g_strdup_printf("what its extensions have done is not known: %s", local->message);
        return FALSE;
    }
    for (guint i = 0; i < known->len; i++)
        before_ms += MAX(0, ((const VrExtensionResult *)known->pdata[i])->duration_ms);
    *started_ms += before_ms;
    run.known = known;
    run.agent_until_ms = agent_until(health, *started_ms);
    good = vr_extensions_run(&run, &spent_ms, reason);
    *started_ms += spent_ms;
    return good;
}

void vr_extensions_judge(VrJournal *journal, const VrHealthProfile *health, const char *uuid, VrHealthAnswer *answer)
{
    g_autoptr(VrGeneration) current = NULL;
    g_autoptr(GPtrArray) results = NULL;
    char *fault;

    if (health->source != VR_HEALTH_SOURCE_POWER || answer->state != VR_HEALTH_HEALTHY)
        return;
    current = vr_journal_current(journal, uuid, NULL);
    results = current ? vr_extension_results_read(journal, uuid, current->number, NULL) : NULL;
    fault = results ? vr_extension_results_fault(results) : NULL;
    if (!fault)
        return;
    g_free(answer->text);
    answer->text = fault;
    answer->state = VR_HEALTH_UNHEALTHY;
}
