/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What each transition of the table in swap.c does. Nothing slow happens between STOPPED and STARTED. */
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "disk/overlay.h"
#include "engine/swap_private.h"

#define DISK_RELEASE_WAIT_MS 15000
#define DISK_RELEASE_POLL_MS 50

static gboolean mark(VrSwap *swap, const char *step, const char *detail, GError **error)
{
    return vr_journal_mark(swap->engine.journal, swap->engine.owner, swap->row->id, step, detail, error);
}

static gboolean still_owner(VrSwap *swap, GError **error)
{
    return vr_owner_check(swap->engine.journal, swap->engine.owner, error);
}

/* --- PLANNED -> PREPARED ----------------------------------------------------------------------------- */

/* Never smaller than what the guest has now (B13). */
static gboolean size_of_old_disk(VrSwap *swap, guint64 *bytes, GError **error)
{
    *bytes = 0;
    if (g_str_equal(swap->from->disk_type, "volume"))
        return TRUE;
    return vr_disk_file_virtual_size(swap->from->path, swap->from->format, bytes, error);
}

gboolean vr_swap_step_prepare(VrSwap *swap, const VrStopPolicy *stop, GError **error)
{
    g_autofree char *name = g_path_get_basename(swap->to->path);
    guint64 size;

    if (!size_of_old_disk(swap, &size, error) ||
        !vr_overlay_create(swap->engine.store, swap->row->uuid, name, swap->image, size, error) ||
        !vr_disk_file_id(swap->to->path, &swap->to->file, error) ||
        !vr_journal_generation_made(swap->engine.journal, swap->engine.owner, swap->row->uuid, swap->to->number,
                                    &swap->to->file, error))
        return FALSE;
    return vr_swap_write_xml(swap, error);
}

/* --- PREPARED -> STOPPED ----------------------------------------------------------------------------- */

static gboolean is_a_stop(VrDomainReason reason)
{
    return reason != VR_REASON_MIGRATED && reason != VR_REASON_SAVED;
}

static gboolean wait_released(const char *domain, const char *path, gint64 deadline_ms, GError **error)
{
    gboolean held = TRUE;

    for (;;) {
        if (!vr_disk_file_is_open_by_qemu(path, &held, error))
            return FALSE;
        if (!held)
            return TRUE;
        if (vr_clock_now_ms() >= deadline_ms)
            break;
        vr_clock_sleep_until(vr_clock_now_ms() + DISK_RELEASE_POLL_MS);
    }
    g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "'%s' is off, but a process still holds its disk %s", domain, path);
    return FALSE;
}

/* Off for good: libvirt says so, for a reason that is a stop, and no QEMU holds any of its disks (invariant 11). */
static gboolean confirm_off(VrSwap *swap, const char *xml, GError **error)
{
    gint64 deadline_ms = vr_clock_now_ms() + DISK_RELEASE_WAIT_MS;
    g_autoptr(VrDomainDef) def = vr_domain_def_parse(xml, error);
    g_auto(VrDomainInfo) info = {0};

    if (!def || !vr_hv_info(swap->engine.hv, swap->row->uuid, &info, error))
        return FALSE;
    if (info.state != VR_DOMAIN_OFF || !is_a_stop(info.reason) || info.managed_save) {
        g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "'%s' should be off but is %s%s", swap->row->domain,
                    info.reason == VR_REASON_MIGRATED ? "migrated to another host" : vr_domain_state_name(info.state),
                    info.managed_save ? " with a managed save" : "");
        return FALSE;
    }
    for (guint i = 0; i < def->disks->len; i++) {
        const VrDomainDisk *disk = g_ptr_array_index(def->disks, i);
        if (disk->source && !disk->readonly && !disk->shareable &&
            !wait_released(swap->row->domain, disk->source, deadline_ms, error))
            return FALSE;
    }
    return TRUE;
}

gboolean vr_swap_step_stop(VrSwap *swap, const VrStopPolicy *stop, GError **error)
{
    VrStopResult result = {0};

    if (swap->row->rollback && (!mark(swap, "unseal", NULL, error) || !vr_swap_unseal(swap, swap->to, error)))
        return FALSE;
    if (!swap->row->was_running)
        return confirm_off(swap, swap->before_xml, error);
    if (!mark(swap, "stop-asked", NULL, error) || !still_owner(swap, error) ||
        !vr_domain_stop(swap->engine.hv, swap->row->uuid, stop, &result, error) ||
        !confirm_off(swap, swap->before_xml, error))
        return FALSE;
    return mark(swap, "off", result.forced ? "forced" : NULL, error);
}

/* --- STOPPED -> SWITCHED ----------------------------------------------------------------------------- */

static gboolean unchanged_since_prepared(VrSwap *swap, char **inactive, GError **error)
{
    *inactive = vr_hv_inactive_xml(swap->engine.hv, swap->row->uuid, error);
    if (!*inactive)
        return FALSE;
    if (vr_domain_xml_same(*inactive, swap->before_xml))
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT,
                "the domain was edited by somebody since the swap was prepared; nothing was overwritten");
    return FALSE;
}

/* Define, and whatever it answers, read back what is true (invariant 16). */
static gboolean define_and_read_back(VrSwap *swap, const char *xml, char **now, GError **error)
{
    g_autoptr(GError) local = NULL;

    if (!still_owner(swap, error))
        return FALSE;
    if (!vr_hv_define(swap->engine.hv, swap->row->uuid, xml, &local))
        vr_warning(swap->row->domain, "define: %s; reading back what is true", local->message);
    *now = vr_hv_inactive_xml(swap->engine.hv, swap->row->uuid, error);
    if (!*now)
        return FALSE;
    if (vr_domain_xml_same_os_disk(*now, xml, swap->row->os_target))
        return TRUE;
    if (local)
        g_propagate_error(error, g_steal_pointer(&local));
    else
        g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT,
                    "libvirt took the new XML, but its answer names another OS disk");
    return FALSE;
}

gboolean vr_swap_step_switch(VrSwap *swap, const VrStopPolicy *stop, GError **error)
{
    g_autofree char *inactive = NULL;
    g_autofree char *after = NULL;

    if (!unchanged_since_prepared(swap, &inactive, error) || !mark(swap, "intent", NULL, error) ||
        !define_and_read_back(swap, swap->intent_xml, &after, error))
        return FALSE;
    return vr_domain_xml_prove(inactive, after, swap->row->os_target, error);
}

/* --- SWITCHED -> STARTED ----------------------------------------------------------------------------- */

static gboolean start_and_compare(VrSwap *swap, const char *intent, GError **error)
{
    g_autofree char *live = NULL;

    if (!still_owner(swap, error) || !vr_domain_start(swap->engine.hv, swap->row->uuid, NULL, error))
        return FALSE;
    live = vr_hv_live_xml(swap->engine.hv, swap->row->uuid, error);
    return live && vr_domain_xml_live_matches(live, intent, swap->row->os_target, error);
}

gboolean vr_swap_step_start(VrSwap *swap, const VrStopPolicy *stop, GError **error)
{
    if (!swap->row->was_running)
        return TRUE;
    return mark(swap, "start-asked", NULL, error) && start_and_compare(swap, swap->intent_xml, error) &&
           mark(swap, "running", NULL, error);
}

/* --- the way back ------------------------------------------------------------------------------------ */

static gboolean names_old_disk(VrSwap *swap, const char *xml, gboolean *is_old, GError **error)
{
    g_autoptr(VrDomainDef) def = vr_domain_def_parse(xml, error);
    const VrDomainDisk *disk = def ? vr_domain_def_os_disk(def, swap->row->os_target, error) : NULL;
    g_autofree char *path = disk ? vr_swap_disk_path(disk) : NULL;

    *is_old = path && g_str_equal(path, swap->from->path);
    return disk != NULL;
}

/* A guest that runs on the new disk goes off; one that somebody runs on the old disk is left alone. */
static gboolean new_disk_off(VrSwap *swap, gboolean *runs_on_old, GError **error)
{
    g_auto(VrDomainInfo) info = {0};
    g_autofree char *live = NULL;

    *runs_on_old = FALSE;
    if (!vr_hv_info(swap->engine.hv, swap->row->uuid, &info, error))
        return FALSE;
    if (info.state == VR_DOMAIN_OFF) {
        if (is_a_stop(info.reason))
            return TRUE;
        g_set_error(error, VR_ERROR, VR_ERROR_PERSON, "the domain is off because it was %s; it is not started here",
                    info.reason == VR_REASON_MIGRATED ? "migrated to another host" : "saved");
        return FALSE;
    }
    live = vr_hv_live_xml(swap->engine.hv, swap->row->uuid, error);
    if (!live || !names_old_disk(swap, live, runs_on_old, error))
        return FALSE;
    if (*runs_on_old)
        return TRUE;
    return still_owner(swap, error) && vr_domain_force_off(swap->engine.hv, swap->row->uuid, error);
}

/* The XML names the old disk again; what somebody changed elsewhere in it meanwhile stays. */
static gboolean old_disk_configured(VrSwap *swap, GError **error)
{
    g_autofree char *inactive = vr_hv_inactive_xml(swap->engine.hv, swap->row->uuid, error);
    g_autofree char *back = NULL;
    g_autofree char *after = NULL;

    if (!inactive)
        return FALSE;
    if (vr_domain_xml_same_os_disk(inactive, swap->before_xml, swap->row->os_target))
        return TRUE;
    if (!vr_domain_xml_same_os_disk(inactive, swap->intent_xml, swap->row->os_target)) {
        g_set_error(error, VR_ERROR, VR_ERROR_PERSON,
                    "its XML names neither the old disk %s nor the new one %s; somebody changed it", swap->from->path,
                    swap->to->path);
        return FALSE;
    }
    back = vr_domain_xml_with_kept(inactive, swap->row->os_target, swap->before_xml, NULL, error);
    return back && define_and_read_back(swap, back, &after, error) &&
           vr_domain_xml_prove(inactive, after, swap->row->os_target, error);
}

gboolean vr_swap_put_back(VrSwap *swap, GError **error)
{
    gboolean stop_asked;
    gboolean runs_on_old;

    if (!vr_journal_has_mark(swap->engine.journal, swap->row->id, "stop-asked", &stop_asked, error))
        return FALSE;
    /* Before the stop was asked for there is nothing to put back, even when libvirt cannot be reached. */
    if (swap->row->reached <= VR_SWAP_PREPARED && !stop_asked)
        return TRUE;
    if (!new_disk_off(swap, &runs_on_old, error) || !old_disk_configured(swap, error))
        return FALSE;
    if (runs_on_old || !swap->row->was_running)
        return TRUE;
    return confirm_off(swap, swap->before_xml, error) && mark(swap, "start-old", NULL, error) &&
           start_and_compare(swap, swap->before_xml, error) && mark(swap, "running", "on the old disk", error);
}
