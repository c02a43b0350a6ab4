/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a killed process leaves, and what is done about it (SAFETY section 2).
 *
 *   undo had begun                         back, whatever the state
 *   PLANNED, PREPARED, STOPPED             back: nothing says new yet
 *   STOPPED with the intent journaled,     libvirt's XML decides: new -> forward, old -> back,
 *   SWITCHED, STARTED                      neither, or no such domain -> UNKNOWN
 *
 * What it needs of the XML files of the swap is read first: nothing before the stop was asked for, g<from>.xml before the intent, else both. A
 * swap of which one is lost stays as it is, until it is put back or a person ends the swap (vr_swap_forget).
 *
 * Forward ends in STARTED; when it does not get there, back. Each answer is a function of journal and world
 * alone, so a recovery that is killed is followed by one that decides the same. Then guests that went off after the end of their
 * swap are started (swap_late.c). At last, kept disks that a crash left unsealed are sealed, deletions that it cut are finished, and disks that an undo could not delete are deleted.
 */
#include "engine/recover.h"

#include "base/error.h"
#include "base/handover.h"
#include "base/log.h"
#include "engine/retire.h"
#include "engine/swap_private.h"

/* Of the swaps that stand open, after a crash of the host perhaps 200. */
#define MAX_AT_ONCE 16

typedef enum { GO_BACK, GO_FORWARD, GO_NOWHERE } Direction;

void vr_recovered_free(VrRecovered *recovered)
{
    if (!recovered)
        return;
    vr_swap_row_free(recovered->row);
    g_free(recovered->told);
    g_free(recovered);
}

/* What is to be done, and why: a function of journal and world alone. */
typedef struct {
    Direction direction;
    const char *why; /* static */
    GError *lost;    /* GO_NOWHERE: what keeps it from being decided */
} Decision;

static void decision_clear(Decision *decision)
{
    g_clear_error(&decision->lost);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Decision, decision_clear)

static void by_xml(VrSwap *swap, Decision *decision)
{
    g_autofree char *now = vr_hv_inactive_xml(swap->engine.hv, swap->row->uuid, &decision->lost);

    decision->direction = GO_NOWHERE;
    decision->why = "the switch was intended, and the domain cannot be read";
    if (!now)
        return;
    if (vr_domain_xml_same_os_disk(now, swap->intent_xml, swap->row->os_target)) {
        decision->direction = GO_FORWARD;
        decision->why = "the domain names the new disk";
    } else if (vr_domain_xml_same_os_disk(now, swap->before_xml, swap->row->os_target)) {
        decision->direction = GO_BACK;
        decision->why = "the domain names the old disk";
    } else {
        decision->why = "the domain names neither the old nor the new disk";
        g_set_error_literal(&decision->lost, VR_ERROR, VR_ERROR_PERSON, "somebody changed it");
    }
}

static void decide(VrSwap *swap, Decision *decision)
{
    gboolean intent = FALSE;

    *decision = (Decision){.direction = GO_BACK, .why = "its way back had begun"};
    if (swap->row->backward)
        return;
    decision->why = "the switch had not begun";
    if (swap->row->reached == VR_SWAP_STOPPED &&
        !vr_journal_has_mark(swap->engine.journal, swap->row->id, "intent", &intent, &decision->lost)) {
        decision->direction = GO_NOWHERE;
        decision->why = "the journal cannot be read";
    } else if (intent || swap->row->reached >= VR_SWAP_SWITCHED) {
        by_xml(swap, decision);
    }
}

/* The new disk is configured: run it, if the guest ran. A host that rebooted has it off again. */
static gboolean forward(VrSwap *swap, GError **error)
{
    gboolean was_started = swap->row->reached == VR_SWAP_STARTED;

    if (swap->row->reached == VR_SWAP_STOPPED && !vr_swap_switch_again(swap, error))
        return FALSE;
    return vr_swap_correct_state(swap, was_started ? VR_SWAP_STARTED : VR_SWAP_SWITCHED, error) &&
           (was_started ? vr_swap_step_start(swap, NULL, error) : vr_swap_advance(swap, VR_SWAP_STARTED, NULL, error));
}

static char *unknown(VrSwap *swap, const char *why, const GError *cause)
{
    g_autofree char *advice = vr_swap_advice(swap, cause);

    return g_strdup_printf("%s: it is UNKNOWN: %s; %s", why, cause->message, advice);
}

static char *act(VrSwap *swap, const Decision *decision)
{
    g_autoptr(GError) ahead = NULL;
    g_autoptr(GError) back = NULL;
    g_autofree char *reason = g_strdup_printf("recovered: %s%s%s", decision->why, decision->lost ? ": " : "",
                                              decision->lost ? decision->lost->message : "");

    if (decision->direction == GO_NOWHERE) {
        vr_swap_give_up(swap, reason, NULL);
        return unknown(swap, decision->why, decision->lost);
    }
    if (decision->direction == GO_FORWARD && forward(swap, &ahead))
        return g_strdup_printf("%s: brought to STARTED on generation %u", decision->why, swap->row->to);
    if (ahead && g_error_matches(ahead, VR_ERROR, VR_ERROR_DISCONNECTED)) {
        vr_swap_give_up(swap, ahead->message, NULL);
        return unknown(swap, decision->why, ahead);
    }
    if (vr_swap_undo(swap, ahead ? ahead->message : reason, &back))
        return g_strdup_printf("%s%s%s: put back on generation %u", decision->why, ahead ? ", but " : "",
                               ahead ? ahead->message : "", swap->row->from);
    return g_strdup_printf("%s: %s", decision->why, back->message);
}

static char *would_act(const VrSwap *swap, const Decision *decision)
{
    g_autofree char *advice = NULL;

    if (decision->direction == GO_BACK)
        return g_strdup_printf("%s: would be put back on generation %u", decision->why, swap->row->from);
    if (decision->direction == GO_FORWARD)
        return g_strdup_printf("%s: would be brought to STARTED on generation %u, and its health judged", decision->why,
                               swap->row->to);
    advice = vr_swap_advice(swap, decision->lost);
    return g_strdup_printf("%s: would be UNKNOWN: %s; %s", decision->why, decision->lost->message, advice);
}

/* The decision is in the audit before anything is done (invariant 28). A journal that takes no more does not keep a guest off. */
static void note_decision(const VrSwap *swap, const Decision *decision)
{
    static const char *const verbs[] = {"goes back to its old disk", "goes forward on its new disk",
                                        "is left as it is"};
    const VrSwapRow *row = swap->row;
    g_autofree char *text = g_strdup_printf("in %s: %s: it %s", vr_swap_state_name(row->reached), decision->why,
                                            verbs[decision->direction]);
    g_autoptr(GError) local = NULL;

    if (!vr_journal_event_once(swap->engine.journal, swap->engine.owner, row->run_id, row->uuid, "recovering", text,
                               &local))
        vr_warning(row->domain, "recovering, %s: not in the audit: %s", text, local->message);
}

static VrRecovered *recover_one(const VrEngine *engine, const VrSwapRow *row, gboolean dry_run)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(VrSwap) swap = vr_swap_resume(engine, row, &local);
    g_autoptr(VrRecovered) recovered = g_new0(VrRecovered, 1);
    g_auto(Decision) decision = {0};

    recovered->found = row->state;
    if (!swap) {
        recovered->row = vr_swap_row_copy(row);
        recovered->told = vr_swap_advice_unreadable(engine, row, local);
        return g_steal_pointer(&recovered);
    }
    decide(swap, &decision);
    if (!dry_run)
        note_decision(swap, &decision);
    recovered->told = dry_run ? would_act(swap, &decision) : act(swap, &decision);
    recovered->row = g_steal_pointer(&swap->row);
    return g_steal_pointer(&recovered);
}

/* A late define may yet name it, and QEMU's user must be able to open what is configured. No call outlives the boot of the host. */
static gboolean may_land_on(const VrEngine *engine, const GPtrArray *may_land, const VrGeneration *generation)
{
    gboolean may = FALSE;

    for (guint i = 0; !may && i < may_land->len; i++) {
        const VrSwapRow *row = g_ptr_array_index(may_land, i);
        gint64 at_ms = 0;
        if (row->to == generation->number && g_str_equal(row->uuid, generation->uuid))
            may = !vr_journal_mark_time(engine->journal, row->id, "may-land", &at_ms, NULL) || at_ms > 0;
    }
    return may;
}

/* A process that ended between COMMITTED and the seal, or a seal that failed. */
static gboolean seal_resting(const VrEngine *engine, GError **error)
{
    g_autoptr(GPtrArray) resting = vr_journal_resting(engine->journal, engine->owner->set_name, error);
    g_autoptr(GPtrArray) may_land =
        resting ? vr_journal_may_land(engine->journal, engine->owner->set_name, error) : NULL;

    for (guint i = 0; may_land && i < resting->len; i++)
        if (!may_land_on(engine, may_land, g_ptr_array_index(resting, i)))
            vr_swap_seal_again(engine->store, g_ptr_array_index(resting, i));
    return may_land != NULL;
}

/* A file system that failed in the undo let go of no file. */
static gboolean discard_again(const VrEngine *engine, GError **error)
{
    g_autoptr(GPtrArray) discarded = vr_journal_discarded(engine->journal, engine->owner->set_name, error);

    for (guint i = 0; discarded && i < discarded->len; i++)
        vr_swap_discard_again(engine->store, g_ptr_array_index(discarded, i));
    return discarded != NULL;
}

/* One swap of many. */
typedef struct {
    const VrSwapRow *row; /* not owned */
    VrRecovered *recovered;
} Task;

typedef struct {
    const VrEngine *engine;
    gboolean dry_run;
} Recovery;

static void recover_job(gpointer data, gpointer user_data)
{
    const Recovery *recovery = user_data;
    Task *task = data;

    vr_handover_take(task);
    task->recovered = recover_one(recovery->engine, task->row, recovery->dry_run);
    vr_handover_give(task);
}

/* Guests that are off wait for each other no longer than the bound makes them. In the order of the journal. */
static GPtrArray *recover_each(const VrEngine *engine, GPtrArray *open, gboolean dry_run)
{
    Recovery recovery = {engine, dry_run};
    g_autofree Task *tasks = g_new0(Task, open->len);
    GThreadPool *pool =
        open->len > 1 ? g_thread_pool_new(recover_job, &recovery, MIN((gint)open->len, MAX_AT_ONCE), TRUE, NULL) : NULL;
    GPtrArray *answer = g_ptr_array_new_with_free_func((GDestroyNotify)vr_recovered_free);

    for (guint i = 0; i < open->len; i++) {
        tasks[i].row = g_ptr_array_index(open, i);
        vr_handover_give(&tasks[i]);
        if (pool)
            g_thread_pool_push(pool, &tasks[i], NULL);
        else
            recover_job(&tasks[i], &recovery);
    }
    if (pool)
        g_thread_pool_free(pool, FALSE, TRUE);
    for (guint i = 0; i < open->len; i++) {
        vr_handover_take(&tasks[i]);
        g_ptr_array_add(answer, tasks[i].recovered);
    }
    return answer;
}

void vr_recover_put_away(const VrEngine *engine)
{
    g_autoptr(GError) local = NULL;

    if (!seal_resting(engine, &local) || !discard_again(engine, &local) || !vr_retire_finish(engine, &local))
        vr_warning(engine->owner->set_name, "not all of what earlier swaps left is put away: %s", local->message);
}

GPtrArray *vr_recover(const VrEngine *engine, gboolean dry_run, GError **error)
{
    g_autoptr(GPtrArray) open = vr_journal_open_swaps(engine->journal, engine->owner->set_name, error);
    g_autoptr(GPtrArray) answer = NULL;
    g_autoptr(GError) local = NULL;

    if (!open)
        return NULL;
    if (!dry_run)
        vr_store_sweep(engine->store);
    answer = recover_each(engine, open, dry_run);
    if (!vr_swap_late(engine, dry_run, answer, &local))
        vr_warning(engine->owner->set_name, "what took effect late is not looked for: %s", local->message);
    if (!dry_run)
        vr_recover_put_away(engine);
    return g_steal_pointer(&answer);
}

/* --- a person's word ---------------------------------------------------------------------------------- */

static gboolean names_old_disk(const char *xml, const VrSwapRow *row, const VrGeneration *from)
{
    g_autoptr(VrDomainDef) def = xml ? vr_domain_def_parse(xml, NULL) : NULL;
    const VrDomainDisk *disk = def ? vr_domain_def_os_disk(def, row->os_target, NULL) : NULL;
    g_autofree char *path = disk ? vr_swap_disk_path(disk) : NULL;

    return g_strcmp0(path, from->path) == 0;
}

/* Its XML names the old disk, and so does what it runs on, if it runs: nothing is left to do but to say so. */
static gboolean has_old_disk(const VrEngine *engine, const VrSwapRow *row, const VrDomainInfo *info)
{
    g_autoptr(VrGeneration) from = vr_journal_generation(engine->journal, row->uuid, row->from, NULL);
    g_autofree char *inactive = vr_hv_inactive_xml(engine->hv, row->uuid, NULL);
    g_autofree char *live =
        info->state == VR_DOMAIN_OFF ? g_strdup(inactive) : vr_hv_live_xml(engine->hv, row->uuid, NULL);

    return from && names_old_disk(inactive, row, from) && names_old_disk(live, row, from);
}

/* Of a domain that libvirt has, only where a recovery can do nothing. */
static gboolean is_beyond_recovery(const VrEngine *engine, const VrSwapRow *row, const VrDomainInfo *info,
                                   GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(VrSwap) swap = vr_swap_resume(engine, row, &local);

    if (!swap && has_old_disk(engine, row, info))
        return TRUE;
    g_set_error(
        error, VR_ERROR, VR_ERROR_REFUSED,
        "'%s': libvirt has the domain (%s), so its swap is not forgotten: 'virt-reimage recover %s' finishes it "
        "or says what to do%s%s%s",
        row->domain, vr_domain_state_name(info->state), row->set_name, local ? "; its record cannot be read (" : "",
        local ? local->message : "", local ? "), and it does not have its old disk" : "");
    return FALSE;
}

/* *why, static: what is true of the domain. */
static gboolean may_be_forgotten(const VrEngine *engine, const VrSwapRow *row, const char **why, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_auto(VrDomainInfo) info = {0};

    *why = "the domain has its old disk, and the record of the swap cannot be read";
    if (vr_hv_info(engine->hv, row->uuid, &info, &local))
        return is_beyond_recovery(engine, row, &info, error);
    *why = "libvirt has no domain of this UUID";
    if (g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND))
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

char *vr_swap_forget(const VrEngine *engine, const VrSwapRow *row, gboolean dry_run, GError **error)
{
    VrSwapRow next = *row;
    const char *why;
    g_autofree char *text = NULL;

    if (!may_be_forgotten(engine, row, &why, error))
        return NULL;
    if (dry_run)
        return g_strdup(why);
    text = g_strdup_printf("in %s: %s; forgotten by a person's word", vr_swap_state_name(row->reached), why);
    next.state = VR_SWAP_UNDONE;
    next.backward = TRUE;
    next.reason = text;
    if (!vr_journal_event_once(engine->journal, engine->owner, row->run_id, row->uuid, "forgotten", text, error) ||
        !vr_journal_swap_end(engine->journal, engine->owner, &next, VR_STEP_FORGOTTEN, VR_GENERATION_CURRENT,
                             row->rollback ? VR_GENERATION_KEPT : VR_GENERATION_FAILED, error))
        return NULL;
    return g_strdup(why);
}
