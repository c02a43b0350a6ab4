/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a killed process leaves, and what is done about it (SAFETY section 2).
 *
 *   undo had begun                         back, whatever the state
 *   PLANNED, PREPARED, STOPPED             back: nothing says new yet
 *   STOPPED with the intent journaled,     libvirt's XML decides: new -> forward, old -> back,
 *   SWITCHED, STARTED                      neither -> UNKNOWN
 *
 * Forward ends in STARTED; when it does not get there, back. Each answer is a function of journal and world
 * alone, so a recovery that is killed is followed by one that decides the same. At last, kept disks that a crash
 * left unsealed are sealed, deletions that it cut are finished, and disks that an undo could not delete are deleted.
 */
#include "engine/recover.h"

#include "base/error.h"
#include "engine/retire.h"
#include "engine/swap_private.h"

typedef enum { GO_BACK, GO_FORWARD, GO_NOWHERE } Direction;

void vr_recovered_free(VrRecovered *recovered)
{
    if (!recovered)
        return;
    vr_swap_row_free(recovered->row);
    g_free(recovered->told);
    g_free(recovered);
}

static gboolean by_xml(VrSwap *swap, Direction *direction, const char **why, GError **error)
{
    g_autofree char *now = vr_hv_inactive_xml(swap->engine.hv, swap->row->uuid, error);

    if (!now)
        return FALSE;
    if (vr_domain_xml_same_os_disk(now, swap->intent_xml, swap->row->os_target)) {
        *direction = GO_FORWARD;
        *why = "the domain names the new disk";
    } else if (vr_domain_xml_same_os_disk(now, swap->before_xml, swap->row->os_target)) {
        *direction = GO_BACK;
        *why = "the domain names the old disk";
    } else {
        *direction = GO_NOWHERE;
        *why = "the domain names neither the old nor the new disk";
    }
    return TRUE;
}

static gboolean decide(VrSwap *swap, Direction *direction, const char **why, GError **error)
{
    gboolean intent = FALSE;

    *direction = GO_BACK;
    if (swap->row->backward) {
        *why = "its way back had begun";
        return TRUE;
    }
    if (swap->row->reached == VR_SWAP_STOPPED &&
        !vr_journal_has_mark(swap->engine.journal, swap->row->id, "intent", &intent, error))
        return FALSE;
    if (intent || swap->row->reached >= VR_SWAP_SWITCHED)
        return by_xml(swap, direction, why, error);
    *why = "the switch had not begun";
    return TRUE;
}

/* The new disk is configured: run it, if the guest ran. A host that rebooted has it off again. */
static gboolean forward(VrSwap *swap, GError **error)
{
    gboolean was_started = swap->row->reached == VR_SWAP_STARTED;

    return vr_swap_correct_state(swap, was_started ? VR_SWAP_STARTED : VR_SWAP_SWITCHED, error) &&
           (was_started ? vr_swap_step_start(swap, NULL, error) : vr_swap_advance(swap, VR_SWAP_STARTED, NULL, error));
}

static char *act(VrSwap *swap, Direction direction, const char *why)
{
    g_autoptr(GError) ahead = NULL;
    g_autoptr(GError) back = NULL;
    g_autofree char *reason = g_strdup_printf("recovered: %s", why);

    if (direction == GO_NOWHERE) {
        vr_swap_give_up(swap, reason, NULL);
        return g_strdup_printf("%s: UNKNOWN; look at 'virsh dumpxml %s'", why, swap->row->domain);
    }
    if (direction == GO_FORWARD && forward(swap, &ahead))
        return g_strdup_printf("%s: brought to STARTED on generation %u", why, swap->row->to);
    if (ahead && g_error_matches(ahead, VR_ERROR, VR_ERROR_DISCONNECTED)) {
        vr_swap_give_up(swap, ahead->message, NULL);
        return g_strdup_printf("%s: UNKNOWN: %s", why, ahead->message);
    }
    if (vr_swap_undo(swap, ahead ? ahead->message : reason, &back))
        return g_strdup_printf("%s%s%s: put back on generation %u", why, ahead ? ", but " : "",
                               ahead ? ahead->message : "", swap->row->from);
    return g_strdup_printf("%s: %s", why, back->message);
}

static char *would_act(const VrSwap *swap, Direction direction, const char *why)
{
    static const char *const verbs[] = {"would be put back on its old disk", "would be brought to STARTED",
                                        "would be UNKNOWN"};

    return g_strdup_printf("%s: %s", why, verbs[direction]);
}

static VrRecovered *recover_one(const VrEngine *engine, const VrSwapRow *row, gboolean dry_run)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(VrSwap) swap = vr_swap_resume(engine, row, &local);
    g_autoptr(VrRecovered) recovered = g_new0(VrRecovered, 1);
    const char *why = NULL;
    Direction direction;

    recovered->found = row->state;
    if (!swap) {
        recovered->row = vr_swap_row_copy(row);
        recovered->told = g_strdup_printf("stays as it is, its record cannot be read: %s", local->message);
        return g_steal_pointer(&recovered);
    }
    if (!decide(swap, &direction, &why, &local)) {
        if (!dry_run)
            vr_swap_give_up(swap, local->message, NULL);
        recovered->told = g_strdup_printf("cannot be decided: %s", local->message);
    } else {
        recovered->told = dry_run ? would_act(swap, direction, why) : act(swap, direction, why);
    }
    recovered->row = g_steal_pointer(&swap->row);
    return g_steal_pointer(&recovered);
}

/* A process that ended between COMMITTED and the seal, or a seal that failed. */
static gboolean seal_resting(const VrEngine *engine, GError **error)
{
    g_autoptr(GPtrArray) resting = vr_journal_resting(engine->journal, engine->owner->set_name, error);

    for (guint i = 0; resting && i < resting->len; i++)
        vr_swap_seal_again(engine->store, g_ptr_array_index(resting, i));
    return resting != NULL;
}

/* A file system that failed in the undo let go of no file. */
static gboolean discard_again(const VrEngine *engine, GError **error)
{
    g_autoptr(GPtrArray) discarded = vr_journal_discarded(engine->journal, engine->owner->set_name, error);

    for (guint i = 0; discarded && i < discarded->len; i++)
        vr_swap_discard_again(engine->store, g_ptr_array_index(discarded, i));
    return discarded != NULL;
}

GPtrArray *vr_recover(const VrEngine *engine, gboolean dry_run, GError **error)
{
    g_autoptr(GPtrArray) open = vr_journal_open_swaps(engine->journal, engine->owner->set_name, error);
    g_autoptr(GPtrArray) answer = g_ptr_array_new_with_free_func((GDestroyNotify)vr_recovered_free);

    if (!open || (!dry_run && !vr_store_sweep(engine->store, NULL, error)))
        return NULL;
    for (guint i = 0; i < open->len; i++)
        g_ptr_array_add(answer, recover_one(engine, g_ptr_array_index(open, i), dry_run));
    if (!dry_run && (!seal_resting(engine, error) || !discard_again(engine, error) || !vr_retire_finish(engine, error)))
        return NULL;
    return g_steal_pointer(&answer);
}
