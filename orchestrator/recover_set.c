/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Recovery of a set: the engine brings each open swap to an end or to STARTED; here those are judged, and the run is closed. */
#include "base/clock.h"
#include "base/error.h"
#include "base/handover.h"
#include "base/log.h"
#include "engine/recover.h"
#include "orchestrator/executor.h"
#include "orchestrator/extension_swap.h"
#include "orchestrator/health.h"
#include "orchestrator/outbox.h"
#include "orchestrator/run_state.h"

#define MAX_JUDGES 64

typedef struct {
    const VrEngine *engine;
    const VrSet *set;
    gboolean automatic_rollback;
    const VrExtensions *extensions; /* NULL: they cannot be read */
    const char *unreadable;         /* why */
} Judges;

/* As in a run (F1): an instance of a rollback is not moved to the disk again that one wanted to leave. */
static char *end_unhealthy(const Judges *judges, VrSwap *swap, const char *text, GError **error)
{
    const VrSwapRow *row = vr_swap_row(swap);

    if (row->rollback || !judges->automatic_rollback)
        return vr_swap_leave(swap, text, error) ? g_strdup_printf("%s: left on generation %u", text, row->to) : NULL;
    return vr_swap_undo(swap, text, error) ? g_strdup_printf("%s: put back on generation %u", text, row->from) : NULL;
}

/* An instance that left the set meanwhile has no address of its own any more. */
static VrHealthSubject subject_of(const VrSet *set, const char *uuid)
{
    int index = vr_set_find(set, uuid, NULL);

    return (VrHealthSubject){.uuid = uuid, .address = index >= 0 ? vr_set_address(set, (guint)index) : NULL};
}

/* The time of the model goes on from when the guest began to run. After a reboot of the host it begins again (invariant 24). */
static gint64 running_since(const Judges *judges, const VrSwapRow *row)
{
    gint64 at_ms = 0;

    vr_journal_mark_time(judges->engine->journal, row->id, "running", &at_ms, NULL);
    return at_ms > 0 ? at_ms : vr_clock_now_ms();
}

/* The guest goes on with its extensions where the process that ended left off. */
static gboolean is_healthy(const Judges *judges, const VrSwapRow *row, VrHealthAnswer *answer)
{
    VrHealthWait wait = {.subject = subject_of(judges->set, row->uuid),
                         .old_boot_id = row->old_boot_id,
                         .started_ms = running_since(judges, row)};
    const VrHealthProfile *health = &judges->set->model->health;
    g_autofree char *fault = NULL;

    if (vr_extensions_of_swap(judges->engine, judges->extensions, health, row, NULL, &wait.started_ms, &fault))
        return vr_health_wait(judges->engine->hv, health, &wait, answer);
    answer->text = g_steal_pointer(&fault);
    return FALSE;
}

/* What must run in it is not there: it runs on, and waits for that. */
static gboolean has_to_wait(const Judges *judges, VrRecovered *recovered)
{
    g_autofree char *before = NULL;

    if (judges->extensions || recovered->row->rollback || !recovered->row->was_running)
        return FALSE;
    before = g_steal_pointer(&recovered->told);
    recovered->told = g_strdup_printf("%s, but its extensions cannot be run: %s", before, judges->unreadable);
    return TRUE;
}

/* A guest that is healthy on its new disk stays there; another goes back, where the policy lets it. */
static void judge_started(const Judges *judges, VrRecovered *recovered)
{
    VrSwapRow *row = recovered->row;
    g_autoptr(GError) local = NULL;
    g_autoptr(VrSwap) swap = has_to_wait(judges, recovered) ? NULL : vr_swap_resume(judges->engine, row, &local);
    g_auto(VrHealthAnswer) answer = {0};
    g_autofree char *before = NULL;
    g_autofree char *end = NULL;

    if (!swap && !local)
        return;
    before = g_steal_pointer(&recovered->told);
    if (!swap) {
        recovered->told = g_strdup_printf("%s, but %s", before, local->message);
        return;
    }
    vr_swap_listen(swap);
    if (!row->was_running || is_healthy(judges, row, &answer)) {
        if (vr_swap_commit(swap, answer.boot_id, &local))
            end = g_strdup_printf("%s: committed", row->was_running ? "healthy" : "stays off");
    } else {
        end = end_unhealthy(judges, swap, answer.text, &local);
    }
    recovered->told =
        end ? g_strdup_printf("%s, %s", before, end) : g_strdup_printf("%s, but %s", before, local->message);
    row->state = vr_swap_row(swap)->state;
}

static void judge_job(gpointer data, gpointer user_data)
{
    vr_handover_take(data);
    judge_started(user_data, data);
    vr_handover_give(data);
}

/* As the run was told that is open; else as the model says. */
static gboolean rolls_back(const VrEngine *engine, const VrSet *set)
{
    g_autoptr(VrRun) run = vr_history_open(vr_journal_db(engine->journal), set->name, NULL);
    g_auto(VrRunState) state = {0};

    if (run && run->state && vr_run_state_read(&state, run->state, NULL))
        return state.automatic_rollback;
    return set->model->policy.automatic_rollback;
}

static gboolean any_started(const GPtrArray *found)
{
    for (guint i = 0; i < found->len; i++)
        if (((const VrRecovered *)g_ptr_array_index(found, i))->row->state == VR_SWAP_STARTED)
            return TRUE;
    return FALSE;
}

/* What an instance keeps is put away when none of its swaps is open any more. */
static void judge_all(const VrEngine *engine, const VrSet *set, GPtrArray *found)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(VrExtensions) extensions = any_started(found) ? vr_extensions_load(set->model, &local) : NULL;
    Judges judges = {.engine = engine,
                     .set = set,
                     .automatic_rollback = rolls_back(engine, set),
                     .extensions = extensions,
                     .unreadable = local ? local->message : NULL};
    GThreadPool *pool = g_thread_pool_new(judge_job, &judges, MAX_JUDGES, FALSE, NULL);
    gboolean judged = FALSE;

    for (guint i = 0; i < found->len; i++) {
        VrRecovered *recovered = g_ptr_array_index(found, i);
        if (recovered->row->state != VR_SWAP_STARTED)
            continue;
        judged = TRUE;
        vr_handover_give(recovered);
        g_thread_pool_push(pool, recovered, NULL);
    }
    g_thread_pool_free(pool, FALSE, TRUE);
    for (guint i = 0; i < found->len; i++)
        vr_handover_take(g_ptr_array_index(found, i));
    if (judged)
        vr_recover_put_away(engine);
}

/* Without a model nobody knows what healthy means: a started guest runs on, and waits for one. */
static void leave_unjudged(const VrSet *set, GPtrArray *found)
{
    for (guint i = 0; i < found->len; i++) {
        VrRecovered *recovered = g_ptr_array_index(found, i);
        g_autofree char *before = NULL;
        if (recovered->row->state != VR_SWAP_STARTED)
            continue;
        before = g_steal_pointer(&recovered->told);
        recovered->told = g_strdup_printf("%s, but its health is not judged: the model of the set cannot be read: %s; "
                                          "define the set anew with 'virt-reimage set-define FILE'",
                                          before, set->unreadable);
    }
}

/* The phase in which a swap that is over, or UNKNOWN, leaves its instance. What was put back before its new disk ever ran says nothing about
 * the version: a run that goes on tries it again. */
static gboolean phase_of(const VrEngine *engine, const VrRun *run, const VrSwapRow *row, VrInstancePhase *phase,
                         GError **error)
{
    gboolean left, ran, unseen, forgotten;

    if (!vr_journal_has_mark(engine->journal, row->id, "left", &left, error) ||
        !vr_journal_has_mark(engine->journal, row->id, VR_STEP_FORGOTTEN, &forgotten, error) ||
        !vr_journal_has_mark(engine->journal, row->id, vr_swap_state_name(VR_SWAP_STARTED), &ran, error) ||
        !vr_journal_has_mark(engine->journal, row->id, VR_STEP_BOOTED_UNSEEN, &unseen, error))
        return FALSE;
    switch (row->state) {
    case VR_SWAP_COMMITTED:
        *phase = left ? VR_PHASE_FAILED : VR_PHASE_COMMITTED;
        break;
    case VR_SWAP_UNDONE:
        *phase = run->detached && !ran && !unseen ? VR_PHASE_PENDING : VR_PHASE_RESTORED;
        if (forgotten)
            *phase = VR_PHASE_FAILED;
        break;
    case VR_SWAP_DISCARDED:
        *phase = VR_PHASE_PENDING;
        break;
    default:
        *phase = VR_PHASE_UNKNOWN;
    }
    return TRUE;
}

/* The history says of each instance what became of it. Of a swap that had ended before it has that already. */
static gboolean write_history(const VrEngine *engine, const VrRecovered *recovered, GError **error)
{
    const VrSwapRow *row = recovered->row;
    g_autoptr(GError) local = NULL;
    g_autoptr(VrRun) run = NULL;

    if (!row->run_id || vr_swap_state_is_final(recovered->found))
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
        if (!phase_of(engine, run, row, &instance->phase, error))
            return FALSE;
        g_free(instance->reason);
        instance->reason = g_strdup_printf("recovered: %s", recovered->told);
        g_free(instance->swap_id);
        instance->swap_id = g_strdup(row->id);
        return vr_history_instance(engine->journal, engine->owner, run->id, instance, error);
    }
    return TRUE;
}

static gboolean is_in_flight(const VrRunInstance *instance)
{
    return vr_instance_phase_in_flight(instance->phase);
}

/* The last swap of an instance among those of a run; NULL: none was begun. */
static const VrSwapRow *swap_of(const GPtrArray *swaps, const char *uuid)
{
    for (guint i = swaps->len; i > 0; i--) {
        const VrSwapRow *row = g_ptr_array_index(swaps, i - 1);
        if (g_str_equal(row->uuid, uuid))
            return row;
    }
    return NULL;
}

static gboolean settle_instance(const VrEngine *engine, const VrRun *run, VrRunInstance *instance,
                                const GPtrArray *swaps, GError **error)
{
    const VrSwapRow *row = swap_of(swaps, instance->uuid);

    instance->phase = VR_PHASE_PENDING;
    if (row) {
        if (!phase_of(engine, run, row, &instance->phase, error))
            return FALSE;
        g_free(instance->swap_id);
        instance->swap_id = g_strdup(row->id);
    }
    return vr_history_instance(engine->journal, engine->owner, run->id, instance, error);
}

/* A process that ends between the end of a swap and its line in the history, or before a swap was begun, leaves an instance
 * in flight for ever. Only the last run of a set can be without its end. */
static gboolean settle_history(const VrEngine *engine, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(VrRun) run = vr_history_last(vr_journal_db(engine->journal), engine->owner->set_name, &local);
    g_autoptr(GPtrArray) swaps = NULL;

    if (local) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    if (!run || run->completed_us != 0)
        return TRUE;
    swaps = vr_journal_run_swaps(engine->journal, run->id, error);
    for (guint i = 0; swaps && i < run->instances->len; i++) {
        VrRunInstance *instance = g_ptr_array_index(run->instances, i);
        if (is_in_flight(instance) && !settle_instance(engine, run, instance, swaps, error))
            return FALSE;
    }
    return swaps != NULL;
}

/* A request whose process is gone gets its answer (J7). */
static gboolean close_lost_requests(const VrEngine *engine, GError **error)
{
    VrDb *db = vr_journal_db(engine->journal);

    if (!vr_owner_begin(engine->journal, engine->owner, error))
        return FALSE;
    if (vr_outbox_close_lost(db, error))
        return vr_db_commit(db, error);
    vr_db_rollback(db);
    return FALSE;
}

static gboolean write_all(const VrEngine *engine, GPtrArray *found, GError **error)
{
    for (guint i = 0; i < found->len; i++) {
        const VrRecovered *recovered = g_ptr_array_index(found, i);
        if (!vr_journal_event_once(engine->journal, engine->owner, recovered->row->run_id, recovered->row->uuid,
                                   VR_EVENT_KIND_RECOVERED, recovered->told, error) ||
            !write_history(engine, recovered, error))
            return FALSE;
    }
    return settle_history(engine, error) &&
           vr_history_close_open(engine->journal, engine->owner, VR_CODE_INTERNAL,
                                 "the process of the run ended before the run did", NULL, error) &&
           close_lost_requests(engine, error);
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
    g_set_error(error, VR_ERROR, VR_ERROR_PERSON, "set '%s': a person must look at %s", set->name, names->str);
    vr_error_next(error, "mend what is said there, then run 'virt-reimage recover %s'", set->name);
    return FALSE;
}

gboolean vr_recover_set(const VrEngine *engine, const VrSet *set, gboolean dry_run, GPtrArray **told, GError **error)
{
    g_autoptr(GPtrArray) found = vr_recover(engine, dry_run, error);
    g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);

    if (!found)
        return FALSE;
    if (!dry_run) {
        if (set->model)
            judge_all(engine, set, found);
        else
            leave_unjudged(set, found);
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

/* --- a person's word ---------------------------------------------------------------------------------- */

static VrSwapRow *open_swap_of(const VrEngine *engine, const char *domain, GError **error)
{
    g_autoptr(GPtrArray) open = vr_journal_open_swaps(engine->journal, engine->owner->set_name, error);

    for (guint i = 0; open && i < open->len; i++) {
        const VrSwapRow *row = g_ptr_array_index(open, i);
        if (g_str_equal(row->domain, domain) || g_ascii_strcasecmp(row->uuid, domain) == 0)
            return g_ptr_array_steal_index(open, i);
    }
    if (open) {
        g_set_error(error, VR_ERROR, VR_ERROR_NOT_FOUND,
                    "set '%s': no swap of '%s' is open, so there is nothing to forget", engine->owner->set_name,
                    domain);
        vr_error_next(error, "'virt-reimage status %s' shows its instances", engine->owner->set_name);
    }
    return NULL;
}

char *vr_recover_forget(const VrEngine *engine, const char *domain, gboolean dry_run, GError **error)
{
    g_autoptr(VrSwapRow) row = open_swap_of(engine, domain, error);
    g_autofree char *why = row ? vr_swap_forget(engine, row, dry_run, error) : NULL;
    g_autofree char *told = NULL;

    if (!why)
        return NULL;
    told = g_strdup_printf("%s: its swap %s; generations %u and %u and their files in %s/disks/%s stay", why,
                           dry_run ? "would be forgotten" : "is forgotten", row->from, row->to,
                           vr_store_root(engine->store), row->uuid);
    if (!dry_run) {
        VrRecovered forgotten = {.row = row, .found = row->state, .told = told};
        row->state = VR_SWAP_UNDONE;
        if (!write_history(engine, &forgotten, error))
            return NULL;
    }
    return g_steal_pointer(&told);
}
