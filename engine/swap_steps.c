/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What each transition of the table in swap.c does. Nothing slow happens between STOPPED and STARTED; the NVRAM is small. */
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "disk/overlay.h"
#include "engine/disk_users.h"
#include "engine/swap_private.h"

#include <errno.h>
#include <sys/stat.h>

#define DISK_RELEASE_WAIT_MS 15000
#define DISK_RELEASE_POLL_MS 50
#define LIBVIRT_AWAY_MS 15000
#define LIBVIRT_AWAY_POLL_MS 250
/* How long a guest that was asked to stop, and then not to be swapped, may still go off because of it: since it was
 * asked, and at the least from now on. */
#define LATE_STOP_MS 30000
#define LATE_STOP_LEAST_MS 5000

static gboolean mark(VrSwap *swap, const char *step, const char *detail, GError **error)
{
    return vr_journal_mark(swap->engine.journal, swap->engine.owner, swap->row->id, step, detail, error);
}

/* A mark on the way back: a journal that is full does not keep a guest off. */
static gboolean note(VrSwap *swap, const char *step, const char *detail, GError **error)
{
    g_autoptr(GError) local = NULL;

    if (mark(swap, step, detail, &local))
        return TRUE;
    if (g_error_matches(local, VR_ERROR, VR_ERROR_FENCED)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    vr_warning(swap->row->domain, "the journal does not take '%s': %s", step, local->message);
    return TRUE;
}

static gboolean still_owner(VrSwap *swap, GError **error)
{
    return vr_owner_check(swap->engine.journal, swap->engine.owner, error);
}

/* The first look of a step: a libvirtd that is being restarted is waited for. */
static gboolean read_info(VrSwap *swap, VrDomainInfo *info, GError **error)
{
    gint64 deadline_ms = vr_clock_now_ms() + LIBVIRT_AWAY_MS;

    for (;;) {
        g_autoptr(GError) local = NULL;

        if (vr_hv_info(swap->engine.hv, swap->row->uuid, info, &local))
            return TRUE;
        if (!g_error_matches(local, VR_ERROR, VR_ERROR_DISCONNECTED) || vr_clock_now_ms() >= deadline_ms) {
            g_propagate_error(error, g_steal_pointer(&local));
            return FALSE;
        }
        vr_clock_sleep_until(vr_clock_now_ms() + LIBVIRT_AWAY_POLL_MS);
    }
}

/* --- PLANNED -> PREPARED ----------------------------------------------------------------------------- */

/* Never smaller than what the guest has now (B13). */
static gboolean size_of_old_disk(VrSwap *swap, guint64 *bytes, GError **error)
{
    g_autofree char *file = vr_swap_file_of(swap->engine.hv, swap->from, error);

    return file && vr_disk_file_virtual_size(file, swap->from->format, bytes, error);
}

/* What has the name already is somebody's: said before the work. The rename into place says it again. */
static gboolean is_free(const char *path, GError **error)
{
    struct stat st;

    if (!path || (lstat(path, &st) < 0 && errno == ENOENT))
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT,
                "%s exists already, and state.db does not know it: nothing was changed; if state.db was lost or is an "
                "old copy, put the right one back",
                path);
    return FALSE;
}

/* Which file is ours is journaled before it takes its name: only that one is ever deleted (invariant 7). */
static gboolean record_disk(const VrFileId *id, void *data, GError **error)
{
    VrSwap *swap = data;

    if (!vr_journal_generation_made(swap->engine.journal, swap->engine.owner, swap->row->uuid, swap->to->number, id,
                                    error))
        return FALSE;
    swap->to->file = *id;
    return TRUE;
}

static gboolean make_disk(VrSwap *swap, guint64 size, GError **error)
{
    g_autofree char *name = g_path_get_basename(swap->to->path);

    if (swap->seat)
        return vr_clone_make(swap->seat, swap->engine.store, swap->row->uuid, name, swap->image, size, record_disk,
                             swap, error);
    return vr_overlay_create(swap->engine.store, swap->row->uuid, name, swap->image, size, record_disk, swap, error);
}

gboolean vr_swap_step_prepare(VrSwap *swap, const VrStopPolicy *stop, GError **error)
{
    guint64 size;

    return size_of_old_disk(swap, &size, error) && is_free(swap->to->path, error) && is_free(swap->to->nvram, error) &&
           make_disk(swap, size, error) && mark(swap, "made", NULL, error) && vr_swap_write_xml(swap, error);
}

/* --- PREPARED -> STOPPED ----------------------------------------------------------------------------- */

static gboolean is_a_stop(VrDomainReason reason)
{
    return reason != VR_REASON_MIGRATED && reason != VR_REASON_SAVED;
}

/* Off because of a migration or a save it runs, or will, elsewhere or with other disks: never started by us (S6-S7). */
static gboolean check_off(const VrDomainInfo *info, GError **error)
{
    if (is_a_stop(info->reason) && !info->managed_save)
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_PERSON, "the domain is off because it was %s; it is not started here",
                info->reason == VR_REASON_MIGRATED ? "migrated to another host" : "saved");
    return FALSE;
}

/* A file that is gone is held by nobody: a rollback may be the way out for a guest that lost its disk. */
static gboolean is_held(const char *path, gboolean *held, GError **error)
{
    g_autoptr(GError) local = NULL;

    if (vr_disk_file_is_open_by_qemu(path, held, &local))
        return TRUE;
    *held = FALSE;
    if (g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND))
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

static gboolean wait_released(const char *domain, const char *path, gint64 deadline_ms, GError **error)
{
    gboolean held;

    for (;;) {
        if (!is_held(path, &held, error))
            return FALSE;
        if (!held)
            return TRUE;
        if (vr_clock_now_ms() >= deadline_ms)
            break;
        vr_clock_sleep_until(vr_clock_now_ms() + DISK_RELEASE_POLL_MS);
    }
    g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "'%s' is off, but a process still holds its file %s", domain, path);
    return FALSE;
}

/* Of a volume that is gone, or is on no path of this host, nothing can be held here. */
static gboolean disk_released(VrSwap *swap, const VrDomainDisk *disk, gint64 deadline_ms, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autofree char *path = NULL;

    if (vr_disk_local_path(swap->engine.hv, disk, &path, &local))
        return !path || wait_released(swap->row->domain, path, deadline_ms, error);
    if (g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND) || g_error_matches(local, VR_ERROR, VR_ERROR_REFUSED))
        return TRUE;
    g_propagate_prefixed_error(error, g_steal_pointer(&local), "disk %s: ", disk->target);
    return FALSE;
}

/* Off for good: libvirt says so, for a reason that is a stop, and no QEMU holds any of its disks or its NVRAM (invariant 11). */
static gboolean confirm_off(VrSwap *swap, const char *xml, GError **error)
{
    gint64 deadline_ms = vr_clock_now_ms() + DISK_RELEASE_WAIT_MS;
    g_autoptr(VrDomainDef) def = vr_domain_def_parse(xml, error);
    g_auto(VrDomainInfo) info = {0};

    if (!def || !read_info(swap, &info, error))
        return FALSE;
    if (info.state != VR_DOMAIN_OFF || !is_a_stop(info.reason) || info.managed_save) {
        g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "'%s' should be off but is %s%s", swap->row->domain,
                    info.reason == VR_REASON_MIGRATED ? "migrated to another host" : vr_domain_state_name(info.state),
                    info.managed_save ? " with a managed save" : "");
        return FALSE;
    }
    for (guint i = 0; i < def->disks->len; i++) {
        const VrDomainDisk *disk = g_ptr_array_index(def->disks, i);
        if (!disk->readonly && !disk->shareable && !disk_released(swap, disk, deadline_ms, error))
            return FALSE;
    }
    return !swap->from->nvram || wait_released(swap->row->domain, swap->from->nvram, deadline_ms, error);
}

/* Minutes may pass before the deadline, so the owner is asked again before the destroy. */
static gboolean stop_guest(VrSwap *swap, const VrStopPolicy *stop, gboolean *forced, GError **error)
{
    VrStopPolicy asking = *stop;
    g_autoptr(GError) local = NULL;

    *forced = asking.force = FALSE;
    if (vr_domain_stop(swap->engine.hv, swap->row->uuid, &asking, NULL, &local))
        return TRUE;
    if (!stop->force || !g_error_matches(local, VR_ERROR, VR_ERROR_TIMEOUT)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    *forced = TRUE;
    return still_owner(swap, error) && vr_domain_force_off(swap->engine.hv, swap->row->uuid, error);
}

static gboolean unchanged_since_prepared(VrSwap *swap, const char *inactive, GError **error)
{
    if (vr_domain_xml_same(inactive, swap->before_xml))
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT,
                "the domain was edited by somebody since the swap was prepared; nothing was overwritten");
    return FALSE;
}

/* Who switched it on or off since then means it (B16). A rollback is for guests that may die by themselves. */
static gboolean power_unchanged(VrSwap *swap, const VrDomainInfo *info, GError **error)
{
    gboolean is_off = info->state == VR_DOMAIN_OFF;

    if (is_off != swap->row->was_running || (is_off && swap->row->rollback))
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "it was %s when the swap was prepared and is %s now: it is left so",
                is_off ? "running" : "off", is_off ? "off" : "running");
    return FALSE;
}

/* Preparing takes its time, and so does the turn of a guest: what came meanwhile is found while it still runs. */
static gboolean still_fit(VrSwap *swap, GError **error)
{
    g_auto(VrDomainInfo) info = {0};
    g_autofree char *inactive = NULL;
    g_autoptr(VrDomainDef) def = NULL;

    if (!read_info(swap, &info, error))
        return FALSE;
    inactive = vr_hv_inactive_xml(swap->engine.hv, swap->row->uuid, error);
    def = inactive ? vr_domain_def_parse(inactive, error) : NULL;
    return def && vr_swap_preflight_require(swap, &info, def, swap->row->os_target, NULL, error) &&
           unchanged_since_prepared(swap, inactive, error) &&
           vr_swap_disks_readable(swap, swap->row->os_target, error) && power_unchanged(swap, &info, error);
}

gboolean vr_swap_step_stop(VrSwap *swap, const VrStopPolicy *stop, GError **error)
{
    gboolean forced = FALSE;

    if (!still_fit(swap, error))
        return FALSE;
    if (swap->row->rollback && (!mark(swap, "unseal", NULL, error) || !vr_swap_unseal(swap, swap->to, error)))
        return FALSE;
    if (!swap->row->was_running)
        return confirm_off(swap, swap->before_xml, error) &&
               vr_swap_disks_read(swap, VR_PHASE_FORWARD, swap->before_xml, error);
    if (!mark(swap, "stop-asked", NULL, error) || !still_owner(swap, error) ||
        !stop_guest(swap, stop, &forced, error) || !confirm_off(swap, swap->before_xml, error))
        return FALSE;
    return mark(swap, "off", forced ? "forced" : NULL, error) &&
           vr_swap_disks_read(swap, VR_PHASE_FORWARD, swap->before_xml, error);
}

/* --- STOPPED -> SWITCHED ----------------------------------------------------------------------------- */

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
    /* libvirt's file is flushed after the define: an answer that was lost, or a flush that failed, is asked for again. */
    if (vr_domain_xml_same_os_disk(*now, xml, swap->row->os_target) && vr_domain_xml_same_nvram(*now, xml))
        return !local || (still_owner(swap, error) && vr_hv_define(swap->engine.hv, swap->row->uuid, xml, error));
    if (local)
        g_propagate_error(error, g_steal_pointer(&local));
    else
        g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT,
                    "libvirt took the new XML, but its answer names another OS disk or NVRAM");
    return FALSE;
}

gboolean vr_swap_step_switch(VrSwap *swap, const VrStopPolicy *stop, GError **error)
{
    g_autofree char *inactive = vr_hv_inactive_xml(swap->engine.hv, swap->row->uuid, error);
    g_autofree char *after = NULL;

    if (!inactive || !unchanged_since_prepared(swap, inactive, error) || !vr_swap_nvram_copy(swap, error) ||
        !mark(swap, "intent", NULL, error) || !define_and_read_back(swap, swap->intent_xml, &after, error))
        return FALSE;
    return vr_domain_xml_prove(inactive, after, swap->row->os_target, error);
}

/* --- SWITCHED -> STARTED ----------------------------------------------------------------------------- */

/* It was started and has ended before one could look: nothing runs that could be the wrong disk, and what that says of the version is for
 * its health to judge. */
static gboolean is_off_again(VrSwap *swap)
{
    g_auto(VrDomainInfo) info = {0};

    if (!read_info(swap, &info, NULL) || info.state != VR_DOMAIN_OFF || !is_a_stop(info.reason))
        return FALSE;
    vr_warning(swap->row->domain, "it was started, and is off again already");
    return TRUE;
}

static gboolean start_and_compare(VrSwap *swap, const char *intent, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autofree char *live = NULL;

    if (!still_owner(swap, error) || !vr_domain_start(swap->engine.hv, swap->row->uuid, NULL, error))
        return FALSE;
    live = vr_hv_live_xml(swap->engine.hv, swap->row->uuid, &local);
    if ((live && vr_domain_xml_live_matches(live, intent, swap->row->os_target, &local)) || is_off_again(swap))
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

/* Just before the start. Once it was asked for, a guest that is off may have run, and have written what it likes. */
static gboolean disks_untouched(VrSwap *swap, GError **error)
{
    g_autofree char *configured = NULL;
    gboolean start_asked;

    if (!vr_journal_has_mark(swap->engine.journal, swap->row->id, "start-asked", &start_asked, error))
        return FALSE;
    if (start_asked)
        return TRUE;
    configured = vr_hv_inactive_xml(swap->engine.hv, swap->row->uuid, error);
    return configured && vr_swap_disks_prove(swap, VR_PHASE_FORWARD, configured, error);
}

/* A guest that was off stays off; one that somebody has started meanwhile must run on the new disk (S11). */
static gboolean is_off_or_on_new(VrSwap *swap, gboolean *off, GError **error)
{
    g_auto(VrDomainInfo) info = {0};
    g_autofree char *live = NULL;

    if (!read_info(swap, &info, error))
        return FALSE;
    *off = info.state == VR_DOMAIN_OFF;
    if (*off)
        return !swap->row->was_running || check_off(&info, error);
    live = vr_hv_live_xml(swap->engine.hv, swap->row->uuid, error);
    return live && vr_domain_xml_live_matches(live, swap->intent_xml, swap->row->os_target, error);
}

gboolean vr_swap_step_start(VrSwap *swap, const VrStopPolicy *stop, GError **error)
{
    gboolean off;

    if (!is_off_or_on_new(swap, &off, error) || (off && !disks_untouched(swap, error)))
        return FALSE;
    if (!swap->row->was_running)
        return TRUE;
    return mark(swap, "start-asked", NULL, error) && start_and_compare(swap, swap->intent_xml, error) &&
           mark(swap, "running", NULL, error);
}

/* --- the way back ------------------------------------------------------------------------------------ */

static gboolean names_disk(VrSwap *swap, const char *xml, const VrGeneration *generation, gboolean *is_it,
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

    if (!names_disk(swap, live, swap->to, &runs_on_new, error))
        return FALSE;
    if (!runs_on_new) {
        g_set_error(error, VR_ERROR, VR_ERROR_PERSON,
                    "it runs neither on the old disk %s nor on the new one %s; somebody changed it", swap->from->path,
                    swap->to->path);
        return FALSE;
    }
    return note(swap, "new-forced-off", NULL, error) && still_owner(swap, error) &&
           vr_domain_force_off(swap->engine.hv, swap->row->uuid, error);
}

/* A guest that runs on the new disk goes off; one that somebody runs on the old disk is left alone. */
static gboolean new_disk_off(VrSwap *swap, gboolean *runs_on_old, GError **error)
{
    g_auto(VrDomainInfo) info = {0};
    g_autofree char *live = NULL;

    *runs_on_old = FALSE;
    if (!read_info(swap, &info, error))
        return FALSE;
    if (info.state == VR_DOMAIN_OFF)
        return check_off(&info, error);
    live = vr_hv_live_xml(swap->engine.hv, swap->row->uuid, error);
    return live && names_disk(swap, live, swap->from, runs_on_old, error) &&
           (*runs_on_old || force_off_new(swap, live, error));
}

/* A guest that was asked to stop may do so late, after all was given up, and nobody would start it again. So it is given a
 * while: *runs becomes FALSE when it went off in it. */
static gboolean await_late_stop(VrSwap *swap, gboolean *runs, GError **error)
{
    g_autoptr(GError) local = NULL;
    gint64 now = vr_clock_now_ms();
    gint64 asked_ms;

    if (!vr_journal_mark_time(swap->engine.journal, swap->row->id, "stop-asked", &asked_ms, error))
        return FALSE;
    *runs = !vr_domain_wait_state(swap->engine.hv, swap->row->uuid, VR_DOMAIN_OFF,
                                  CLAMP(asked_ms + LATE_STOP_MS, now + LATE_STOP_LEAST_MS, now + LATE_STOP_MS), NULL,
                                  &local);
    if (!local || g_error_matches(local, VR_ERROR, VR_ERROR_TIMEOUT))
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

/* The XML names the old disk again; what somebody changed elsewhere in it meanwhile stays. *configured is how it is then. */
static gboolean old_disk_configured(VrSwap *swap, char **configured, GError **error)
{
    g_autofree char *inactive = vr_hv_inactive_xml(swap->engine.hv, swap->row->uuid, error);
    g_autofree char *back = NULL;

    if (!inactive)
        return FALSE;
    if (vr_domain_xml_same_os_disk(inactive, swap->before_xml, swap->row->os_target)) {
        *configured = g_steal_pointer(&inactive);
        return TRUE;
    }
    if (!vr_domain_xml_same_os_disk(inactive, swap->intent_xml, swap->row->os_target)) {
        g_set_error(error, VR_ERROR, VR_ERROR_PERSON,
                    "its XML names neither the old disk %s nor the new one %s; somebody changed it", swap->from->path,
                    swap->to->path);
        return FALSE;
    }
    back = vr_domain_xml_with_kept(inactive, swap->row->os_target, swap->before_xml, NULL, error);
    return back && define_and_read_back(swap, back, configured, error) &&
           vr_domain_xml_prove(inactive, *configured, swap->row->os_target, error);
}

/* Best effort: what cannot be read, or written down, does not keep the old system off (invariant 15). */
static void read_disks_back(VrSwap *swap)
{
    g_autoptr(GError) local = NULL;
    g_autofree char *configured = vr_hv_inactive_xml(swap->engine.hv, swap->row->uuid, &local);

    if (!configured || !confirm_off(swap, configured, &local) ||
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
    g_set_error(error, VR_ERROR, VR_ERROR_PERSON, "%s; when that is as it should be, start it yourself",
                local->message);
    return FALSE;
}

gboolean vr_swap_put_back(VrSwap *swap, GError **error)
{
    g_autofree char *configured = NULL;
    gboolean stop_asked;
    gboolean runs_on_old;

    if (!vr_journal_has_mark(swap->engine.journal, swap->row->id, "stop-asked", &stop_asked, error))
        return FALSE;
    /* Before the stop was asked for there is nothing to put back, even when libvirt cannot be reached. */
    if (swap->row->reached <= VR_SWAP_PREPARED && !stop_asked)
        return TRUE;
    if (!new_disk_off(swap, &runs_on_old, error) ||
        (runs_on_old && swap->row->reached <= VR_SWAP_PREPARED && !await_late_stop(swap, &runs_on_old, error)))
        return FALSE;
    if (!runs_on_old && swap->row->was_running)
        read_disks_back(swap);
    if (!old_disk_configured(swap, &configured, error))
        return FALSE;
    if (runs_on_old || !swap->row->was_running)
        return TRUE;
    return confirm_off(swap, configured, error) && disks_untouched_back(swap, configured, error) &&
           note(swap, "start-old", NULL, error) && start_and_compare(swap, configured, error) &&
           note(swap, "running", "on the old disk", error);
}
