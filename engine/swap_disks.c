/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The disks that a swap does not replace: read when the guest is off, and again just before one starts (engine/manifest).
 *
 * The first reading is in the journal before the state that follows it, so a recovery compares with that one, however much later it comes.
 * Without a hash of the content it is a stat, one cluster and a hash of that for each file: well below the time of one flush of the journal.
 */
#include "base/error.h"
#include "base/log.h"
#include "engine/swap_private.h"

/* How long a reading took, for the step: "2 disks in 0.31 ms". */
static char *cost_of(const GPtrArray *manifest, VrProofContent content, gint64 took_us)
{
    g_autofree char *bytes = content == VR_PROOF_NONE
                                 ? NULL
                                 : g_format_size_full(vr_manifest_bytes(manifest, content), G_FORMAT_SIZE_IEC_UNITS);
    guint disks = 0;

    for (guint i = 0; i < manifest->len; i++)
        disks += ((const VrManifestEntry *)g_ptr_array_index(manifest, i))->depth == 0 ? 1 : 0;
    return g_strdup_printf("%u disk%s in %.2f ms%s%s%s%s", disks, disks == 1 ? "" : "s", (double)took_us / 1000,
                           bytes ? ", content " : "", bytes ? vr_proof_content_name(content) : "", bytes ? ": " : "",
                           bytes ? bytes : "");
}

static GPtrArray *take(VrSwap *swap, const char *xml, VrProofContent content, char **cost, GError **error)
{
    gint64 began_us = g_get_monotonic_time();
    GPtrArray *manifest = vr_manifest_take(swap->engine.hv, xml, swap->row->os_target, content, error);

    if (manifest)
        *cost = cost_of(manifest, content, g_get_monotonic_time() - began_us);
    return manifest;
}

gboolean vr_swap_disks_readable(VrSwap *swap, const char *os_target, GError **error)
{
    g_autoptr(GPtrArray) manifest =
        vr_manifest_take(swap->engine.hv, swap->before_xml, os_target, VR_PROOF_NONE, error);

    if (!manifest)
        g_prefix_error(error, "'%s': ", swap->row->domain);
    return manifest != NULL;
}

/* NULL without error: there is none. */
static GPtrArray *stored(VrSwap *swap, VrManifestPhase phase, GError **error)
{
    return vr_manifest_read(swap->engine.journal, swap->row->id, phase, error);
}

/* The way back of a swap that was resumed reads what its way forward has read. */
static VrProofContent content_for(VrSwap *swap)
{
    g_autoptr(GPtrArray) forward = stored(swap, VR_PHASE_FORWARD, NULL);

    return forward ? vr_manifest_content(forward) : swap->data_proof;
}

/* No reason to leave a guest off: its own XML names the device, and what can be compared is equal. */
static gboolean tell(VrSwap *swap, VrManifestPhase phase, const char *untold, GError **error)
{
    vr_warning(
        swap->row->domain,
        "the host was booted while it was off, and nobody can tell whether these are the same devices: %s; their "
        "size and first bytes are as before",
        untold);
    return vr_journal_mark(swap->engine.journal, swap->engine.owner, swap->row->id, vr_manifest_untold_step(phase),
                           untold, error);
}

static gboolean compare(VrSwap *swap, VrManifestPhase phase, const GPtrArray *before, const char *xml, GError **error)
{
    g_autofree char *cost = NULL;
    g_autofree char *untold = NULL;
    g_autoptr(GPtrArray) now = take(swap, xml, vr_manifest_content(before), &cost, error);

    return now && vr_manifest_compare(before, now, &untold, error) && (!untold || tell(swap, phase, untold, error)) &&
           vr_journal_mark(swap->engine.journal, swap->engine.owner, swap->row->id, vr_manifest_proven_step(phase),
                           cost, error);
}

gboolean vr_swap_disks_read(VrSwap *swap, VrManifestPhase phase, const char *xml, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(GPtrArray) before = stored(swap, phase, &local);
    g_autoptr(GPtrArray) manifest = NULL;
    g_autofree char *cost = NULL;

    if (local) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    if (before)
        return TRUE;
    manifest = take(swap, xml, content_for(swap), &cost, error);
    return manifest &&
           vr_manifest_write(swap->engine.journal, swap->engine.owner, swap->row->id, phase, manifest, cost, error);
}

gboolean vr_swap_disks_prove(VrSwap *swap, VrManifestPhase phase, const char *xml, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(GPtrArray) before = stored(swap, phase, &local);

    if (local)
        g_propagate_error(error, g_steal_pointer(&local));
    else if (before)
        return compare(swap, phase, before, xml, error);
    return local == NULL;
}
