/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What each transition of the table in swap.c does. Nothing slow happens between STOPPED and STARTED, but where a model has files carried over from the
 * disk; the NVRAM is small. */
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
#define MIGRATED "migrated to another host"

gboolean vr_swap_mark(VrSwap *swap, const char *step, const char *detail, GError **error)
{
    return vr_journal_mark(swap->engine.journal, swap->engine.owner, swap->row->id, step, detail, error);
}

gboolean vr_swap_still_owner(VrSwap *swap, GError **error)
{
    return vr_owner_check(swap->engine.journal, swap->engine.owner, error);
}

static gboolean ask_owner(void *data, GError **error)
{
    return vr_swap_still_owner(data, error);
}

VrDomainMay vr_swap_may(VrSwap *swap)
{
    return (VrDomainMay){.ask = ask_owner, .data = swap};
}

gboolean vr_swap_read_info(VrSwap *swap, VrDomainInfo *info, GError **error)
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
    g_autofree char *file = vr_generation_file(swap->engine.hv, swap->from, error);

    return file && vr_disk_file_virtual_size(file, swap->from->format, bytes, error);
}

/* What has the name already is somebody's: said before the work. The rename into place says it again. */
static gboolean is_free(const char *path, GError **error)
{
    struct stat st;

    if (!path || (lstat(path, &st) < 0 && errno == ENOENT))
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "%s exists already, and state.db does not know it", path);
    vr_error_now(error, "nothing was changed");
    vr_error_next(error, "if state.db was lost or is an old copy, put the right one back");
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

    if (swap->flatten)
        return vr_swap_flatten(swap, record_disk, error);
    if (swap->seat)
        return vr_clone_make(swap->seat, swap->engine.store, swap->row->uuid, name, swap->image, size, record_disk,
                             swap, error);
    return vr_overlay_create(swap->engine.store, swap->row->uuid, name, swap->image, size, record_disk, swap, error);
}

gboolean vr_swap_step_prepare(VrSwap *swap, const VrStopPolicy *stop, GError **error)
{
    guint64 size;

    return size_of_old_disk(swap, &size, error) && is_free(swap->to->path, error) && is_free(swap->to->nvram, error) &&
           is_free(swap->to->seed, error) && make_disk(swap, size, error) && vr_swap_seed_make(swap, error) &&
           vr_swap_carry_prepare(swap, error) && vr_swap_mark(swap, "made", NULL, error) &&
           vr_swap_write_xml(swap, error);
}

/* --- PREPARED -> STOPPED ----------------------------------------------------------------------------- */

static gboolean is_a_stop(VrDomainReason reason)
{
    return reason != VR_REASON_MIGRATED && reason != VR_REASON_SAVED;
}

/* How it moved away by what libvirt says now; NULL: it did not. Static. */
static const char *moved_now(const VrDomainInfo *info)
{
    if (info->state != VR_DOMAIN_OFF || (is_a_stop(info->reason) && !info->managed_save))
        return NULL;
    return info->reason == VR_REASON_MIGRATED ? MIGRATED : "saved";
}

/* A journal that takes nothing does not make a guest that moved start. */
static void note_moved(VrSwap *swap, const char *how)
{
    g_autoptr(GError) local = NULL;

    if (!vr_swap_mark(swap, "moved", how, &local))
        vr_warning(swap->row->domain, "the journal does not take 'moved': %s", local->message);
}

gboolean vr_swap_check_moved(VrSwap *swap, const VrDomainInfo *info, GError **error)
{
    const char *now = moved_now(info);
    g_autofree char *before = NULL;

    if (!vr_journal_mark_detail(swap->engine.journal, swap->row->id, "moved", &before, error))
        return FALSE;
    if (g_strcmp0(now, before) != 0 && (now || info->state == VR_DOMAIN_RUNNING))
        note_moved(swap, now);
    if (info->state != VR_DOMAIN_OFF || (!now && !before))
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_PERSON, "the domain is off because it was %s", now ? now : before);
    vr_error_now(error, "it is not started here");
    vr_error_next(error,
                  "start it yourself ('virsh start %s') if it is to run here, or, if it lives on elsewhere, undefine "
                  "it here and end this swap with 'virt-reimage recover %s --forget %s'",
                  swap->row->domain, swap->row->set_name, swap->row->domain);
    return FALSE;
}

/* A file that is gone is held by nobody: a rollback may be the way out for a guest that lost its disk. */
static gboolean is_held(const char *path, VrHolders holders, gboolean *held, GError **error)
{
    g_autoptr(GError) local = NULL;

    if (holders == VR_HOLDERS_ALL ? vr_disk_file_is_open_by_qemu(path, held, &local)
                                  : vr_disk_file_keeps_qemu_out(path, held, &local))
        return TRUE;
    *held = FALSE;
    if (g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND))
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

static gboolean wait_released(const char *domain, const char *path, VrHolders holders, gint64 deadline_ms,
                              GError **error)
{
    gboolean held;

    for (;;) {
        if (!is_held(path, holders, &held, error))
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
static gboolean disk_released(VrSwap *swap, const VrDomainDisk *disk, VrHolders holders, gint64 deadline_ms,
                              GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autofree char *path = NULL;

    if (vr_disk_local_path(swap->engine.hv, disk, &path, &local))
        return !path || wait_released(swap->row->domain, path, holders, deadline_ms, error);
    if (g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND) || g_error_matches(local, VR_ERROR, VR_ERROR_REFUSED))
        return TRUE;
    g_propagate_prefixed_error(error, g_steal_pointer(&local), "disk %s: ", disk->target);
    return FALSE;
}

gboolean vr_swap_confirm_off(VrSwap *swap, const char *xml, VrHolders holders, GError **error)
{
    gint64 deadline_ms = vr_clock_now_ms() + DISK_RELEASE_WAIT_MS;
    g_autoptr(VrDomainDef) def = vr_domain_def_parse(xml, error);
    g_auto(VrDomainInfo) info = {0};

    if (!def || !vr_swap_read_info(swap, &info, error))
        return FALSE;
    if (!vr_swap_check_moved(swap, &info, error))
        return FALSE;
    if (info.state != VR_DOMAIN_OFF) {
        g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "'%s' should be off but is %s", swap->row->domain,
                    vr_domain_state_name(info.state));
        return FALSE;
    }
    for (guint i = 0; i < def->disks->len; i++) {
        const VrDomainDisk *disk = g_ptr_array_index(def->disks, i);
        if (!disk->readonly && !disk->shareable && !disk_released(swap, disk, holders, deadline_ms, error))
            return FALSE;
    }
    return !swap->from->nvram || wait_released(swap->row->domain, swap->from->nvram, holders, deadline_ms, error);
}

/* What hv/domain.h leaves to a person is a migration, or a start that libvirt hangs in: then it is still here. */
static gboolean moved_by(VrSwap *swap, GError *why, GError **error)
{
    g_auto(VrDomainInfo) info = {0};

    if (g_error_matches(why, VR_ERROR, VR_ERROR_PERSON) &&
        !(vr_hv_info(swap->engine.hv, swap->row->uuid, &info, NULL) && vr_domain_is_starting(&info)))
        note_moved(swap, MIGRATED);
    g_propagate_error(error, why);
    return FALSE;
}

gboolean vr_swap_force_off(VrSwap *swap, GError **error)
{
    const VrDomainMay may = vr_swap_may(swap);
    GError *local = NULL;

    return vr_domain_force_off(swap->engine.hv, swap->row->uuid, &may, &local) || moved_by(swap, local, error);
}

static gboolean ask_or_force(VrSwap *swap, const VrStopPolicy *stop, gboolean *forced, GError **error)
{
    const VrDomainMay may = vr_swap_may(swap);
    VrStopPolicy asking = *stop;
    g_autoptr(GError) local = NULL;

    *forced = asking.force = FALSE;
    if (vr_domain_stop(swap->engine.hv, swap->row->uuid, &may, &asking, NULL, &local))
        return TRUE;
    if (!stop->force || !g_error_matches(local, VR_ERROR, VR_ERROR_TIMEOUT))
        return moved_by(swap, g_steal_pointer(&local), error);
    *forced = TRUE;
    return vr_swap_mark(swap, "force-asked", NULL, error) && vr_swap_force_off(swap, error);
}

/* A guest that was asked to stop, or whose destroy failed, may go off once nobody looks any more: a person is told, and a recovery looks
 * (swap_late.c). */
static gboolean stop_guest(VrSwap *swap, const VrStopPolicy *stop, gboolean *forced, GError **error)
{
    g_autoptr(GError) why = NULL;

    if (ask_or_force(swap, stop, forced, &why))
        return TRUE;
    if (g_error_matches(why, VR_ERROR, VR_ERROR_FENCED) || g_error_matches(why, VR_ERROR, VR_ERROR_PERSON)) {
        g_propagate_error(error, g_steal_pointer(&why));
        return FALSE;
    }
    vr_swap_mark(swap, "stop-given-up", NULL, NULL);
    vr_error_now(&why, "it was asked to stop and may still go off: 'virsh start %s' starts it again",
                 swap->row->domain);
    g_propagate_error(error, g_steal_pointer(&why));
    return FALSE;
}

static gboolean unchanged_since_prepared(VrSwap *swap, const char *inactive, GError **error)
{
    if (vr_domain_xml_same(inactive, swap->before_xml))
        return TRUE;
    g_set_error_literal(error, VR_ERROR, VR_ERROR_CONFLICT,
                        "the domain was edited by somebody since the swap was prepared");
    vr_error_now(error, "nothing was overwritten");
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

    if (!vr_swap_read_info(swap, &info, error))
        return FALSE;
    inactive = vr_hv_inactive_xml(swap->engine.hv, swap->row->uuid, error);
    def = inactive ? vr_domain_def_parse(inactive, error) : NULL;
    return def && vr_swap_preflight_require(swap, &info, def, swap->row->os_target, NULL, error) &&
           unchanged_since_prepared(swap, inactive, error) &&
           vr_swap_disks_readable(swap, swap->row->os_target, error) && vr_swap_temp_check(swap, def, error) &&
           power_unchanged(swap, &info, error);
}

gboolean vr_swap_step_stop(VrSwap *swap, const VrStopPolicy *stop, GError **error)
{
    gboolean forced = FALSE;

    if (!vr_swap_carry_again(swap, error) || !still_fit(swap, error))
        return FALSE;
    if (swap->row->rollback && (!vr_swap_mark(swap, "unseal", NULL, error) || !vr_swap_unseal(swap, swap->to, error)))
        return FALSE;
    if (!swap->row->was_running)
        return vr_swap_confirm_off(swap, swap->before_xml, VR_HOLDERS_ALL, error) &&
               vr_swap_disks_read(swap, VR_PHASE_FORWARD, swap->before_xml, error);
    if (!vr_swap_mark(swap, "stop-asked", NULL, error) || !stop_guest(swap, stop, &forced, error) ||
        !vr_swap_confirm_off(swap, swap->before_xml, VR_HOLDERS_ALL, error))
        return FALSE;
    return vr_swap_mark(swap, "off", forced ? "forced" : NULL, error) &&
           vr_swap_disks_read(swap, VR_PHASE_FORWARD, swap->before_xml, error);
}

/* --- STOPPED -> SWITCHED ----------------------------------------------------------------------------- */

gboolean vr_swap_define(VrSwap *swap, const char *xml, char **now, GError **error)
{
    g_autoptr(GError) local = NULL;

    if (!vr_swap_still_owner(swap, error))
        return FALSE;
    if (!vr_hv_define(swap->engine.hv, swap->row->uuid, xml, &local))
        vr_warning(swap->row->domain, "define: %s; reading back what is true", local->message);
    *now = vr_hv_inactive_xml(swap->engine.hv, swap->row->uuid, error);
    if (!*now)
        return FALSE;
    /* libvirt's file is flushed after the define: an answer that was lost, or a flush that failed, is asked for again. */
    if (vr_domain_xml_same_os_disk(*now, xml, swap->row->os_target) && vr_domain_xml_same_nvram(*now, xml) &&
        vr_domain_xml_same_seed(*now, xml))
        return !local ||
               (vr_swap_still_owner(swap, error) && vr_hv_define(swap->engine.hv, swap->row->uuid, xml, error));
    if (local)
        g_propagate_error(error, g_steal_pointer(&local));
    else
        g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT,
                    "libvirt took the new XML, but its answer names another OS disk, NVRAM or seed");
    return FALSE;
}

/* The XML is read once more after all that takes time: an edit that is made until then is found, and not overwritten. */
gboolean vr_swap_step_switch(VrSwap *swap, const VrStopPolicy *stop, GError **error)
{
    g_autofree char *before = vr_hv_inactive_xml(swap->engine.hv, swap->row->uuid, error);
    g_autofree char *sign = NULL;
    g_autofree char *inactive = NULL;
    g_autofree char *after = NULL;

    if (!before || !unchanged_since_prepared(swap, before, error) || !vr_swap_flatten_holds(swap, error) ||
        !vr_swap_carry_disk(swap, error) || !vr_swap_nvram_copy(swap, error) || !vr_swap_temp_wipe(swap, error))
        return FALSE;
    sign = vr_swap_disk_sign(swap);
    if (!vr_swap_mark(swap, "intent", sign, error))
        return FALSE;
    inactive = vr_hv_inactive_xml(swap->engine.hv, swap->row->uuid, error);
    return inactive && unchanged_since_prepared(swap, inactive, error) &&
           vr_swap_define(swap, swap->intent_xml, &after, error) &&
           vr_domain_xml_prove(inactive, after, swap->row->os_target, error);
}

gboolean vr_swap_switch_again(VrSwap *swap, GError **error)
{
    g_autofree char *inactive = vr_hv_inactive_xml(swap->engine.hv, swap->row->uuid, error);
    g_autofree char *after = NULL;

    return inactive && vr_swap_define(swap, inactive, &after, error) &&
           vr_domain_xml_prove(swap->before_xml, after, swap->row->os_target, error);
}

/* --- SWITCHED -> STARTED ----------------------------------------------------------------------------- */

/* It was started and has ended before one could look: nothing runs that could be the wrong disk, and what that says of the version is for
 * its health to judge. */
static gboolean is_off_again(VrSwap *swap)
{
    g_auto(VrDomainInfo) info = {0};

    if (!vr_swap_read_info(swap, &info, NULL) || info.state != VR_DOMAIN_OFF || !is_a_stop(info.reason))
        return FALSE;
    vr_warning(swap->row->domain, "it was started, and is off again already");
    return TRUE;
}

gboolean vr_swap_start(VrSwap *swap, const char *intent, GError **error)
{
    const VrDomainMay may = vr_swap_may(swap);
    g_autoptr(GError) local = NULL;
    g_autofree char *live = NULL;

    if (!vr_domain_start(swap->engine.hv, swap->row->uuid, &may, NULL, error))
        return FALSE;
    vr_swap_console_begin(swap);
    live = vr_hv_live_xml(swap->engine.hv, swap->row->uuid, &local);
    if ((live && vr_domain_xml_live_matches(live, intent, swap->row->os_target, &local)) || is_off_again(swap))
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

/* Just before the start. Once it was asked for, or libvirt did it by itself when the host came up, a guest that is off may have run, and have
 * written what it likes. */
static gboolean disks_untouched(VrSwap *swap, GError **error)
{
    g_autofree char *configured = NULL;
    gboolean may_have_run;

    if (!vr_journal_has_mark(swap->engine.journal, swap->row->id, "start-asked", &may_have_run, error) ||
        (!may_have_run && swap->resumed && !vr_swap_disk_was_used(swap, &may_have_run, error)))
        return FALSE;
    if (may_have_run)
        return TRUE;
    configured = vr_hv_inactive_xml(swap->engine.hv, swap->row->uuid, error);
    return configured && vr_swap_disks_prove(swap, VR_PHASE_FORWARD, configured, error);
}

/* A guest that was off stays off; one that somebody has started meanwhile must run on the new disk (S11). One that ends between the two
 * looks has run: what that says is for its health to judge. */
static gboolean is_off_or_on_new(VrSwap *swap, gboolean *runs, GError **error)
{
    g_auto(VrDomainInfo) info = {0};
    g_autoptr(GError) local = NULL;
    g_autofree char *live = NULL;

    if (!vr_swap_read_info(swap, &info, error))
        return FALSE;
    *runs = info.state != VR_DOMAIN_OFF;
    if ((*runs || swap->row->was_running) && !vr_swap_check_moved(swap, &info, error))
        return FALSE;
    if (!*runs)
        return TRUE;
    live = vr_hv_live_xml(swap->engine.hv, swap->row->uuid, &local);
    if (live)
        return vr_domain_xml_live_matches(live, swap->intent_xml, swap->row->os_target, error);
    if (is_off_again(swap))
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

gboolean vr_swap_step_start(VrSwap *swap, const VrStopPolicy *stop, GError **error)
{
    gint64 running_ms = 0;
    gboolean runs;

    if (!is_off_or_on_new(swap, &runs, error) || (!runs && !disks_untouched(swap, error)))
        return FALSE;
    if (!swap->row->was_running)
        return TRUE;
    /* Of a swap that is recovered: its health counts from when it began to run. */
    if (runs && !vr_journal_mark_time(swap->engine.journal, swap->row->id, "running", &running_ms, error))
        return FALSE;
    if (!swap->resumed)
        vr_swap_console_ready(swap);
    if (running_ms > 0)
        return TRUE;
    if (!runs && !vr_swap_confirm_off(swap, swap->intent_xml, VR_HOLDERS_ALL, error))
        return FALSE;
    return vr_swap_mark(swap, "start-asked", NULL, error) && vr_swap_start(swap, swap->intent_xml, error) &&
           vr_swap_mark(swap, "running", NULL, error);
}
