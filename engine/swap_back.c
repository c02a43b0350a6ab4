/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The way back to the old disk: looks at the world, not at the state, and is repeatable. See swap.c. */
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "engine/swap_private.h"

/* How long a guest that was asked to stop, and then not to be swapped, is awaited to go off because of it: since the last request was
 * given up, and at the least from now on. */
#define LATE_STOP_MS 30000
#define LATE_STOP_LEAST_MS 5000
/* How long a call that was given up may still take effect once libvirt has answered a later one (swap.c). */
#define LATE_CALL_MS 2000
#define LATE_CALL_ROUNDS 3

/* A mark on the way back: a journal that is full, or locked by another process, does not keep a guest off. */
static gboolean note(VrSwap *swap, const char *step, const char *detail, GError **error)
{
    g_autoptr(GError) local = NULL;

    if (vr_swap_mark(swap, step, detail, &local))
        return TRUE;
    if (g_error_matches(local, VR_ERROR, VR_ERROR_FENCED)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    vr_warning(swap->row->domain, "the journal does not take '%s': %s", step, local->message);
    swap->journal_fails = TRUE;
    return TRUE;
}

/* While the guest is off: a journal that took something no more is not waited for again. */
static gboolean note_if_taken(VrSwap *swap, const char *step, const char *detail, GError **error)
{
    return swap->journal_fails || note(swap, step, detail, error);
}

gboolean vr_swap_names_disk(VrSwap *swap, const char *xml, const VrGeneration *generation, gboolean *is_it,
                            GError **error)
{
    g_autoptr(VrDomainDef) def = vr_domain_def_parse(xml, error);
    const VrDomainDisk *disk = def ? vr_domain_def_os_disk(def, swap->row->os_target, error) : NULL;
    g_autofree char *path = disk ? vr_swap_disk_path(disk) : NULL;

    *is_it = path && g_str_equal(path, generation->path);
    return disk != NULL;
}

/* Off with a guest that runs on the new disk, and on no other. */
static gboolean force_off_new(VrSwap *swap, const char *live, GError **error)
{
    gboolean runs_on_new;

    if (!vr_swap_names_disk(swap, live, swap->to, &runs_on_new, error))
        return FALSE;
    if (!runs_on_new) {
        g_set_error(error, VR_ERROR, VR_ERROR_PERSON, "it runs neither on the old disk %s nor on the new one %s",
                    swap->from->path, swap->to->path);
        vr_error_now(error, "somebody changed it");
        return FALSE;
    }
    return note(swap, "new-forced-off", NULL, error) && vr_swap_force_off(swap, error);
}

/* A guest that runs on the new disk goes off; one that somebody runs on the old disk is left alone. */
static gboolean new_disk_off(VrSwap *swap, gboolean *runs_on_old, GError **error)
{
    g_auto(VrDomainInfo) info = {0};
    g_autofree char *live = NULL;

    *runs_on_old = FALSE;
    if (!vr_swap_read_info(swap, &info, error))
        return FALSE;
    if (!vr_swap_check_moved(swap, &info, error))
        return FALSE;
    if (info.state == VR_DOMAIN_OFF)
        return TRUE;
    live = vr_hv_live_xml(swap->engine.hv, swap->row->uuid, error);
    return live && vr_swap_names_disk(swap, live, swap->from, runs_on_old, error) &&
           (*runs_on_old ? vr_domain_await_start(swap->engine.hv, swap->row->uuid, error)
                         : force_off_new(swap, live, error));
}

/* Requests are repeated up to the deadline of the stop. A process that was killed while it asked did not say when it ended: that is now. */
static gboolean stop_given_up(VrSwap *swap, gint64 *at_ms, GError **error)
{
    if (!vr_journal_mark_time(swap->engine.journal, swap->row->id, "stop-given-up", at_ms, error))
        return FALSE;
    if (*at_ms > 0)
        return TRUE;
    *at_ms = vr_clock_now_ms();
    return note(swap, "stop-given-up", NULL, error);
}

/* A guest that was asked to stop may do so late, after all was given up, and nobody would start it again. So it is given a
 * while: *runs becomes FALSE when it went off in it. One that takes longer is started by a recovery (swap_late.c). */
static gboolean await_late_stop(VrSwap *swap, gboolean *runs, GError **error)
{
    g_autoptr(GError) local = NULL;
    gint64 now, given_up_ms;

    if (!stop_given_up(swap, &given_up_ms, error))
        return FALSE;
    now = vr_clock_now_ms();
    *runs = !vr_domain_wait_state(swap->engine.hv, swap->row->uuid, VR_DOMAIN_OFF,
                                  CLAMP(given_up_ms + LATE_STOP_MS, now + LATE_STOP_LEAST_MS, now + LATE_STOP_MS), NULL,
                                  &local);
    if (!local || g_error_matches(local, VR_ERROR, VR_ERROR_TIMEOUT))
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

gboolean vr_swap_old_disk_configured(VrSwap *swap, gboolean again, char **configured, GError **error)
{
    g_autofree char *inactive = vr_hv_inactive_xml(swap->engine.hv, swap->row->uuid, error);
    g_autofree char *back = NULL;

    if (!inactive)
        return FALSE;
    if (vr_domain_xml_same_os_disk(inactive, swap->before_xml, swap->row->os_target)) {
        if (again)
            return vr_swap_define(swap, inactive, configured, error);
        *configured = g_steal_pointer(&inactive);
        return TRUE;
    }
    /* without an intent there is none, and nothing of ours can have changed it */
    if (!swap->intent_xml || !vr_domain_xml_same_os_disk(inactive, swap->intent_xml, swap->row->os_target)) {
        g_set_error(error, VR_ERROR, VR_ERROR_PERSON, "its XML names neither the old disk %s nor the new one %s",
                    swap->from->path, swap->to->path);
        vr_error_now(error, "somebody changed it");
        return FALSE;
    }
    back = vr_domain_xml_with_kept(inactive, swap->row->os_target, swap->before_xml, NULL, error);
    return back && vr_swap_define(swap, back, configured, error) &&
           vr_domain_xml_prove(inactive, *configured, swap->row->os_target, error);
}

/* Best effort: what cannot be read, or written down, does not keep the old system off (invariant 15). */
static void read_disks_back(VrSwap *swap)
{
    g_autoptr(GError) local = NULL;
    g_autofree char *configured = vr_hv_inactive_xml(swap->engine.hv, swap->row->uuid, &local);

    if (!configured || !vr_swap_confirm_off(swap, configured, VR_HOLDERS_WRITING, &local) ||
        !vr_swap_disks_read(swap, VR_PHASE_BACK, configured, &local))
        vr_warning(swap->row->domain, "its data disks are not compared on the way back: %s", local->message);
}

/* What differs keeps it off: somebody writes to a disk while nobody should. */
static gboolean disks_untouched_back(VrSwap *swap, const char *configured, GError **error)
{
    g_autoptr(GError) local = NULL;
    gboolean started = FALSE;

    if (!vr_journal_has_mark(swap->engine.journal, swap->row->id, "start-old", &started, &local) || started ||
        vr_swap_disks_prove(swap, VR_PHASE_BACK, configured, &local))
        return TRUE;
    if (!g_error_matches(local, VR_ERROR, VR_ERROR_CONFLICT)) {
        vr_warning(swap->row->domain, "its data disks were not compared on the way back: %s", local->message);
        return TRUE;
    }
    g_set_error_literal(error, VR_ERROR, VR_ERROR_PERSON, local->message);
    vr_error_adopt(error, local);
    vr_error_next(error, "when that is as it should be: 'virsh start %s'", swap->row->domain);
    return FALSE;
}

/* May a call be under way of which nobody heard the end? */
static gboolean is_unsettled(const VrSwap *swap)
{
    return swap->resumed || vr_hv_lost_calls(swap->engine.hv) != swap->lost_before;
}

gboolean vr_swap_new_may_land(VrSwap *swap, gboolean *may, GError **error)
{
    *may = FALSE;
    return swap->row->reached >= VR_SWAP_SWITCHED || !is_unsettled(swap) ||
           vr_journal_has_mark(swap->engine.journal, swap->row->id, "intent", may, error);
}

/* A define of ours may not be flushed, or may still land; and so may a shutdown or destroy. */
static gboolean call_may_land(VrSwap *swap, gboolean *may, GError **error)
{
    *may = FALSE;
    return !is_unsettled(swap) ||
           (vr_journal_has_mark(swap->engine.journal, swap->row->id, "stop-asked", may, error) &&
            (*may || vr_journal_has_mark(swap->engine.journal, swap->row->id, "intent", may, error)));
}

static gboolean put_back_once(VrSwap *swap, GError **error)
{
    g_autofree char *configured = NULL;
    gboolean runs_on_old, again;

    if (!call_may_land(swap, &again, error) || !new_disk_off(swap, &runs_on_old, error) ||
        (runs_on_old && swap->row->reached <= VR_SWAP_PREPARED && !await_late_stop(swap, &runs_on_old, error)))
        return FALSE;
    if (!runs_on_old && swap->row->was_running && !swap->journal_fails)
        read_disks_back(swap);
    if (!vr_swap_old_disk_configured(swap, again, &configured, error))
        return FALSE;
    if (runs_on_old || !swap->row->was_running)
        return TRUE;
    return vr_swap_confirm_off(swap, configured, VR_HOLDERS_WRITING, error) &&
           disks_untouched_back(swap, configured, error) && note_if_taken(swap, "start-old", NULL, error) &&
           vr_swap_start(swap, configured, error) && note_if_taken(swap, "running", "on the old disk", error);
}

/* Is it as the round left it? A guest that went off by itself may do that again: it is started again once. */
static gboolean is_back(VrSwap *swap, guint round, gboolean *back, GError **error)
{
    g_auto(VrDomainInfo) info = {0};
    g_autofree char *live = NULL;
    g_autofree char *inactive = vr_hv_inactive_xml(swap->engine.hv, swap->row->uuid, error);

    if (!inactive || !vr_swap_read_info(swap, &info, error))
        return FALSE;
    *back = vr_domain_xml_same_os_disk(inactive, swap->before_xml, swap->row->os_target);
    if (!*back)
        return TRUE;
    if (info.state == VR_DOMAIN_OFF) {
        *back = !swap->row->was_running || (round > 1 && info.reason != VR_REASON_DESTROYED);
        return TRUE;
    }
    live = vr_hv_live_xml(swap->engine.hv, swap->row->uuid, error);
    return live && vr_swap_names_disk(swap, live, swap->from, back, error);
}

static gboolean await_late_calls(VrSwap *swap, guint round, gboolean *back, GError **error)
{
    vr_clock_sleep_until(vr_clock_now_ms() + LATE_CALL_MS);
    if (!is_back(swap, round, back, error))
        return FALSE;
    if (!*back)
        vr_warning(swap->row->domain, "a call of libvirt that was given up took effect late; it is put back again");
    return TRUE;
}

/* What a late call may have brought about, rather than what no second round mends. */
static gboolean may_be_late_call(const GError *error)
{
    return g_error_matches(error, VR_ERROR, VR_ERROR_CONFLICT) ||
           g_error_matches(error, VR_ERROR, VR_ERROR_HYPERVISOR) || g_error_matches(error, VR_ERROR, VR_ERROR_TIMEOUT);
}

static gboolean put_back_for_good(VrSwap *swap, GError **error)
{
    for (guint round = 1; round <= LATE_CALL_ROUNDS; round++) {
        g_autoptr(GError) local = NULL;
        gboolean back = put_back_once(swap, &local);

        if (back && !is_unsettled(swap))
            return TRUE;
        if (back && !await_late_calls(swap, round, &back, &local))
            back = FALSE;
        if (back)
            return TRUE;
        if (local && (!is_unsettled(swap) || !may_be_late_call(local) || round == LATE_CALL_ROUNDS)) {
            g_propagate_error(error, g_steal_pointer(&local));
            return FALSE;
        }
    }
    g_set_error(error, VR_ERROR, VR_ERROR_PERSON,
                "calls of libvirt that were given up keep taking effect: it did not stay on its old disk %s",
                swap->from->path);
    return FALSE;
}

gboolean vr_swap_put_back(VrSwap *swap, GError **error)
{
    gboolean stop_asked;

    if (!vr_journal_has_mark(swap->engine.journal, swap->row->id, "stop-asked", &stop_asked, error))
        return FALSE;
    /* Before the stop was asked for there is nothing to put back, even when libvirt cannot be reached. */
    return (swap->row->reached <= VR_SWAP_PREPARED && !stop_asked) || put_back_for_good(swap, error);
}
