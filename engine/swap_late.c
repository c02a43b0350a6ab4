/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What takes effect after a swap has ended.
 *
 * A guest that was asked to stop, was left running, and goes off minutes later: a shutdown of its own is slow, or the destroy of a QEMU that
 * hung on its disk was reported as failed. libvirt does not say who asked. It is ours to start again, once, when it is off
 *
 *   within LATE_START_MS of our giving up, on the same boot of the host, and
 *   because the guest shut down; or where we had tried to destroy it, because QEMU was destroyed or died.
 *
 * An admin who destroys a guest means it to be off, and so does one who saves or migrates it: those are left. So is one of which a libvirtd
 * that was restarted does not know why it is off, since it may run on another host. One who shuts his guest down
 * himself in these few minutes, and then runs a command that recovers, finds it running: that is seen and told, while a guest that was running,
 * and stays off because of us, may not be noticed. Later than that it is his, whatever the reason is.
 *
 * A define of the new disk that was given up, and landed after the swap was undone (swap.c). The domain's metadata has the id of that swap, so
 * it is nobody's edit: the old disk is configured again. A guest that runs on the new disk by then, because the host was rebooted or somebody
 * started it, is in use: that is told, and not ended by us.
 */
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "engine/recover.h"
#include "engine/swap_private.h"

#define LATE_START_MS (5 * 60 * 1000)

/* --- stops -------------------------------------------------------------------------------------------- */

static gboolean is_our_stop(const VrDomainInfo *info, gboolean forced)
{
    if (info->state != VR_DOMAIN_OFF || info->managed_save)
        return FALSE;
    switch (info->reason) {
    case VR_REASON_SHUTDOWN:
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
    return vr_swap_confirm_off(swap, configured, VR_HOLDERS_WRITING, error) && vr_swap_start(swap, configured, error) &&
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

/* Takes the swap's row and the text. */
static VrRecovered *told_of(VrSwap *swap, char *told)
{
    VrRecovered *recovered = g_new0(VrRecovered, 1);

    recovered->found = swap->row->state;
    recovered->told = told;
    recovered->row = g_steal_pointer(&swap->row);
    return recovered;
}

/* What it finds is said; what it cannot find out is in the log, since the swap has ended. */
static VrRecovered *look_at_stop(const VrEngine *engine, const VrSwapRow *row, gboolean dry_run)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(VrSwap) swap = vr_swap_resume(engine, row, &local);
    g_autofree char *configured = NULL;
    gboolean due = FALSE;

    if (!swap || !is_due(swap, &due, &configured, &local))
        vr_warning(row->domain, "it was asked to stop, and whether it is off since cannot be told: %s", local->message);
    return due ? told_of(swap, start_and_tell(swap, configured, dry_run)) : NULL;
}

/* --- defines ------------------------------------------------------------------------------------------ */

/* *landed: the domain is as the swap wanted it, by the id in its metadata too. */
static gboolean has_landed(VrSwap *swap, gboolean *landed, GError **error)
{
    g_autofree char *configured = vr_hv_inactive_xml(swap->engine.hv, swap->row->uuid, error);
    g_auto(VrDomainRecordRead) record = {0};

    *landed = configured && vr_domain_xml_record(configured, &record) && g_strcmp0(record.swap_id, swap->row->id) == 0;
    return configured && (!*landed || vr_swap_load_xml(swap, error));
}

static gboolean runs_on_new(VrSwap *swap, gboolean *runs, GError **error)
{
    g_auto(VrDomainInfo) info = {0};
    g_autofree char *live = NULL;

    *runs = FALSE;
    if (!vr_swap_read_info(swap, &info, error))
        return FALSE;
    if (info.state == VR_DOMAIN_OFF)
        return TRUE;
    live = vr_hv_live_xml(swap->engine.hv, swap->row->uuid, error);
    return live && vr_swap_names_disk(swap, live, swap->to, runs, error);
}

/* The generation that the swap left is still the one to run on. */
static gboolean is_still_current(VrSwap *swap, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(VrGeneration) current = vr_journal_current(swap->engine.journal, swap->row->uuid, &local);

    if (current && current->number == swap->from->number)
        return TRUE;
    if (local)
        g_propagate_error(error, g_steal_pointer(&local));
    else
        g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "generation %u is not current any more", swap->from->number);
    return FALSE;
}

static char *put_back_and_tell(VrSwap *swap, gboolean dry_run)
{
    const VrSwapRow *row = swap->row;
    g_autofree char *why =
        g_strdup_printf("a define of generation %u took effect after its swap had been undone", row->to);
    g_autofree char *configured = NULL;
    g_autoptr(GError) local = NULL;
    gboolean runs;

    if (!runs_on_new(swap, &runs, &local) || !is_still_current(swap, &local))
        return g_strdup_printf("%s, and is not put back: %s", why, local->message);
    if (runs)
        return g_strdup_printf(
            "%s, and the guest runs on that: shut it down and run 'virt-reimage recover %s', which puts "
            "generation %u back",
            why, row->set_name, row->from);
    if (dry_run)
        return g_strdup_printf("%s: generation %u would be put back", why, row->from);
    if (vr_swap_old_disk_configured(swap, FALSE, &configured, &local))
        return g_strdup_printf("%s: generation %u is put back", why, row->from);
    return g_strdup_printf("%s, and generation %u could not be put back: %s", why, row->from, local->message);
}

static VrRecovered *look_at_define(const VrEngine *engine, const VrSwapRow *row, gboolean dry_run)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(VrSwap) swap = vr_swap_resume(engine, row, &local);
    gboolean landed = FALSE;

    if ((!swap || !has_landed(swap, &landed, &local)) && !g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND))
        vr_warning(row->domain, "whether a late define changed it cannot be told: %s", local->message);
    return landed ? told_of(swap, put_back_and_tell(swap, dry_run)) : NULL;
}

typedef VrRecovered *(*Look)(const VrEngine *engine, const VrSwapRow *row, gboolean dry_run);

static gboolean look_at_each(const VrEngine *engine, GPtrArray *rows, Look look, gboolean dry_run, GPtrArray *answer)
{
    for (guint i = 0; rows && i < rows->len; i++) {
        VrRecovered *recovered = look(engine, g_ptr_array_index(rows, i), dry_run);
        if (recovered)
            g_ptr_array_add(answer, recovered);
    }
    return rows != NULL;
}

gboolean vr_swap_late(const VrEngine *engine, gboolean dry_run, GPtrArray *answer, GError **error)
{
    const char *set_name = engine->owner->set_name;
    g_autoptr(GPtrArray) stops = vr_journal_given_up(engine->journal, set_name, error);
    g_autoptr(GPtrArray) defines = stops ? vr_journal_may_land(engine->journal, set_name, error) : NULL;

    return look_at_each(engine, stops, look_at_stop, dry_run, answer) &&
           look_at_each(engine, defines, look_at_define, dry_run, answer);
}
