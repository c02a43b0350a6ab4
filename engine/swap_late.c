/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What takes effect after a swap has ended.
 *
 * A guest that was asked to stop, was left running, and goes off minutes later: a shutdown of its own is slow, or the destroy of a QEMU that
 * hung on its disk was reported as failed. libvirt does not say who asked. It is ours to start again, once, when it is off
 *
 *   within LATE_START_MS of our giving up, on the same boot of the host, and
 *   because the guest shut down, or for a reason that a libvirtd which was restarted does not know any more; or where we had tried to destroy
 *   it, because QEMU was destroyed or died.
 *
 * An admin who destroys a guest means it to be off, and so does one who saves or migrates it: those are left. One who shuts his guest down
 * himself in these few minutes, and then runs a command that recovers, finds it running: that is seen and told, while a guest that was running,
 * and stays off because of us, may not be noticed. Later than that it is his, whatever the reason is.
 */
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "engine/recover.h"
#include "engine/swap_private.h"

#define LATE_START_MS (5 * 60 * 1000)

static gboolean is_our_stop(const VrDomainInfo *info, gboolean forced)
{
    if (info->state != VR_DOMAIN_OFF || info->managed_save)
        return FALSE;
    switch (info->reason) {
    case VR_REASON_SHUTDOWN:
    case VR_REASON_OTHER:
        return TRUE;
    case VR_REASON_DESTROYED:
    case VR_REASON_CRASHED:
        return forced;
    default:
        return FALSE;
    }
}

/* *due: it is to be started; *configured (free with g_free) is what it starts on. */
static gboolean is_due(VrSwap *swap, gboolean *due, char **configured, GError **error)
{
    g_auto(VrDomainInfo) info = {0};
    gboolean forced;
    gint64 at_ms;

    *due = FALSE;
    if (!vr_journal_mark_time(swap->engine.journal, swap->row->id, "stop-given-up", &at_ms, error) ||
        !vr_journal_has_mark(swap->engine.journal, swap->row->id, "force-asked", &forced, error))
        return FALSE;
    if (at_ms == 0 || vr_clock_now_ms() > at_ms + LATE_START_MS)
        return TRUE;
    if (!vr_hv_info(swap->engine.hv, swap->row->uuid, &info, error))
        return FALSE;
    if (!is_our_stop(&info, forced))
        return TRUE;
    *configured = vr_hv_inactive_xml(swap->engine.hv, swap->row->uuid, error);
    return *configured && vr_swap_names_disk(swap, *configured, swap->from, due, error);
}

static gboolean start(VrSwap *swap, const char *configured, GError **error)
{
    return vr_swap_confirm_off(swap, configured, error) && vr_swap_start(swap, configured, error) &&
           vr_swap_mark(swap, "started-late", NULL, error);
}

static char *start_and_tell(VrSwap *swap, const char *configured, gboolean dry_run)
{
    static const char why[] = "it was asked to stop, was left running, and went off later";
    g_autoptr(GError) local = NULL;

    if (dry_run)
        return g_strdup_printf("%s: would be started again on generation %u", why, swap->row->from);
    if (start(swap, configured, &local))
        return g_strdup_printf("%s: started again on generation %u", why, swap->row->from);
    return g_strdup_printf("%s, and could not be started again: %s; 'virsh start %s' does that", why, local->message,
                           swap->row->domain);
}

/* What it finds is said; what it cannot find out is in the log, since the swap has ended. */
static VrRecovered *look_at(const VrEngine *engine, const VrSwapRow *row, gboolean dry_run)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(VrSwap) swap = vr_swap_resume(engine, row, &local);
    g_autofree char *configured = NULL;
    gboolean due = FALSE;
    VrRecovered *recovered;

    if (!swap || !is_due(swap, &due, &configured, &local))
        vr_warning(row->domain, "it was asked to stop, and whether it is off since cannot be told: %s", local->message);
    if (!due)
        return NULL;
    recovered = g_new0(VrRecovered, 1);
    recovered->found = row->state;
    recovered->told = start_and_tell(swap, configured, dry_run);
    recovered->row = g_steal_pointer(&swap->row);
    return recovered;
}

gboolean vr_swap_late_stops(const VrEngine *engine, gboolean dry_run, GPtrArray *answer, GError **error)
{
    g_autoptr(GPtrArray) rows = vr_journal_given_up(engine->journal, engine->owner->set_name, error);

    for (guint i = 0; rows && i < rows->len; i++) {
        VrRecovered *recovered = look_at(engine, g_ptr_array_index(rows, i), dry_run);
        if (recovered)
            g_ptr_array_add(answer, recovered);
    }
    return rows != NULL;
}
