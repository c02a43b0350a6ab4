/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Temp disks (B8): those that the model flags, when a reimage was asked to make them anew. Never in another swap, never another disk.
 *
 * It happens between the first reading of the disks and the intent, so the guest is off, nobody holds the disk, and the old system is still
 * the configured one. Which file is the new one is journaled, together with its place in the first reading, before it gets a name; so the second
 * reading covers it like any other disk: from then on nobody may touch it. A crash goes back, as always before the intent, with the old temp disk
 * or the new one; no way back brings the old content back, and none is asked for.
 */
#include "base/error.h"
#include "base/log.h"
#include "disk/temp_disk.h"
#include "engine/disk_users.h"
#include "engine/swap_private.h"

/* Of a flagged target; NULL: this domain has no such disk. */
static const VrDomainDisk *find(const VrDomainDef *def, const char *target)
{
    for (guint i = 0; i < def->disks->len; i++) {
        const VrDomainDisk *disk = g_ptr_array_index(def->disks, i);
        if (g_strcmp0(disk->target, target) == 0)
            return disk;
    }
    return NULL;
}

static const char *what_is_wrong(const VrSwap *swap, const VrDomainDisk *disk)
{
    if (g_strcmp0(disk->target, swap->row->os_target) == 0)
        return "is the OS disk";
    if (g_strcmp0(disk->device, "disk") != 0 || g_strcmp0(disk->type, "file") != 0 || !disk->source)
        return "is no file that is a hard disk";
    if (g_strcmp0(disk->driver, "raw") != 0)
        return "is not raw: qcow2 files are not made anew; convert it with qemu-img, or make it anew yourself";
    return disk->shareable || disk->readonly || disk->transient ? "is shareable, read-only or transient" : NULL;
}

static gboolean look(const VrSwap *swap, const VrDomainDisk *disk, VrTempDisk *found, GError **error)
{
    const char *wrong = what_is_wrong(swap, disk);

    if (!wrong && vr_temp_disk_look(disk->source, found, error))
        return TRUE;
    if (wrong)
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "it %s", wrong);
    g_prefix_error(error, "its temp disk %s: ", disk->target);
    return FALSE;
}

gboolean vr_swap_temp_check(const VrSwap *swap, const VrDomainDef *def, GError **error)
{
    for (char **target = swap->temp_targets; target && *target; target++) {
        const VrDomainDisk *disk = find(def, *target);
        g_auto(VrTempDisk) found = {0};
        if (disk && !look(swap, disk, &found, error))
            return FALSE;
    }
    return TRUE;
}

/* --- the deed ---------------------------------------------------------------------------------------- */

typedef struct {
    VrSwap *swap;
    const char *target;
    char *detail; /* what was there */
} Wipe;

static gboolean record(const VrFileId *id, void *data, GError **error)
{
    const Wipe *wipe = data;

    return vr_manifest_made_anew(wipe->swap->engine.journal, wipe->swap->engine.owner, wipe->swap->row->id,
                                 wipe->target, id, wipe->detail, error);
}

static char *beside_of(const VrSwap *swap, const char *target)
{
    return g_strdup_printf(".virt-reimage-%s-%s", swap->row->id, target);
}

/* What the second reading is to find. */
static gboolean read_again(VrSwap *swap, const VrDomainDisk *disk, GError **error)
{
    g_autoptr(GPtrArray) forward = vr_manifest_read(swap->engine.journal, swap->row->id, VR_PHASE_FORWARD, error);
    g_autoptr(GPtrArray) proofs =
        forward ? vr_file_proof_read(disk->source, disk->driver, vr_manifest_content(forward), error) : NULL;

    return proofs && vr_manifest_read_anew(swap->engine.journal, swap->engine.owner, swap->row->id, disk->target,
                                           g_ptr_array_index(proofs, 0), error);
}

static gboolean wipe_one(VrSwap *swap, const VrDomainDisk *disk, GError **error)
{
    g_auto(VrTempDisk) found = {0};
    g_autofree char *beside = beside_of(swap, disk->target);
    g_autofree char *text = NULL;
    g_autofree char *detail = NULL;

    if (!look(swap, disk, &found, error))
        return FALSE;
    text = vr_temp_disk_text(&found);
    detail = g_strdup_printf("%s %s: %s", disk->target, found.path, text);
    Wipe wipe = {swap, disk->target, detail};
    return vr_swap_still_owner(swap, error) && vr_temp_disk_make(&found, beside, record, &wipe, error) &&
           read_again(swap, disk, error);
}

gboolean vr_swap_temp_wipe(VrSwap *swap, GError **error)
{
    g_autoptr(VrDomainDef) def = swap->temp_targets ? vr_domain_def_parse(swap->before_xml, error) : NULL;

    if (!swap->temp_targets)
        return TRUE;
    for (char **target = swap->temp_targets; def && *target; target++) {
        const VrDomainDisk *disk = find(def, *target);
        if (disk && !wipe_one(swap, disk, error))
            return FALSE;
    }
    return def != NULL;
}

/* --- what a process that ended left ------------------------------------------------------------------ */

void vr_swap_temp_tidy(VrSwap *swap)
{
    g_autoptr(GPtrArray) forward = vr_manifest_read(swap->engine.journal, swap->row->id, VR_PHASE_FORWARD, NULL);

    for (guint i = 0; forward && i < forward->len; i++) {
        const VrManifestEntry *entry = g_ptr_array_index(forward, i);
        g_autofree char *beside = beside_of(swap, entry->target);
        g_autoptr(GError) local = NULL;
        if (entry->made_anew && entry->proof &&
            !vr_temp_disk_tidy(entry->proof->path, beside, &entry->proof->file, &local))
            vr_warning(swap->row->domain, "%s stays beside %s: %s", beside, entry->proof->path, local->message);
    }
}
