/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * NVRAM belongs to a generation, like its disk: boot entries and secure boot keys are of one system, and a rollback brings back those
 * that it had (F7, SAFETY 4.24).
 *
 * What a new generation gets: a copy of the old one's, not a fresh one of the firmware's template. Keys that were enrolled, the
 * boot order and what the firmware was set to are the admin's, and only there. The price is small: the boot entry of the old system names
 * a partition that the new disk does not have, and the firmware goes on to \EFI\BOOT\BOOTX64.EFI of the disk, which every cloud image
 * has, and whose loader writes an entry of its own.
 *
 * When: between STOPPED and SWITCHED. A running guest writes its NVRAM in place, so only one that is off can be copied; half a megabyte
 * is the one thing that is copied while a guest is down. Its mark, "nvram", is journaled before the intent, so a domain that names
 * g<N>.nvram names a whole file; and which file that is, is journaled before it takes its name. A crash before the intent goes back, and
 * discards the copy with the disk that never booted.
 *
 * Whose: generation 0 keeps the file that it has, where it is; it is read and never changed, and nothing runs on it once the domain names
 * g1.nvram. A kept copy of ours is sealed and unsealed together with its disk (QEMU's user cannot open a 0400 file; libvirt gives
 * the owner back at the stop, and not the mode).
 *
 * A guest that was never started has none: libvirt makes the file at its first start, under the name that the domain has then. So it is
 * told g<N>.nvram all the same, nothing is copied, and what libvirt made is recorded by the next swap. A domain whose XML leaves
 * the choice to libvirt (<os firmware='efi'/>) names its file from its first swap on, but for an undo, which leaves no trace.
 */
#include "base/error.h"
#include "base/log.h"
#include "disk/nvram.h"
#include "engine/swap_private.h"

/* ---- what the domain has ---------------------------------------------------------------------------- */

gboolean vr_swap_nvram_path(VrHv *hv, const VrDomainInfo *info, const VrDomainDef *def, char **path, GError **error)
{
    g_autoptr(VrDomainDef) live = NULL;
    g_autofree char *xml = NULL;

    *path = g_strdup(def->nvram);
    if (!def->nvram_unnamed)
        return TRUE;
    if (info->state == VR_DOMAIN_OFF) {
        *path = vr_hv_nvram(hv, info->uuid, NULL, error);
        if (!*path)
            g_prefix_error(error,
                           "'%s' boots by UEFI, its XML names no <nvram>, and which file libvirt would take cannot be "
                           "told; name it with 'virsh edit': ",
                           info->name);
        return *path != NULL;
    }
    xml = vr_hv_live_xml(hv, info->uuid, error);
    live = xml ? vr_domain_def_parse(xml, error) : NULL;
    if (live)
        *path = g_strdup(live->nvram);
    return live != NULL;
}

static gboolean is_beneath(const VrEngine *engine, const char *path)
{
    g_autofree char *disks = g_strdup_printf("%s/disks/", vr_store_root(engine->store));

    return path && g_str_has_prefix(path, disks);
}

/* A file of ours stays with its generation. What the admin has elsewhere is his to change. */
static gboolean may_be_taken(const VrSwap *swap, const char *domain, const char *path, GError **error)
{
    const VrGeneration *from = swap->from;

    if (g_strcmp0(from->nvram, path) == 0)
        return TRUE;
    if (!is_beneath(&swap->engine, from->nvram) && !is_beneath(&swap->engine, path))
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "the NVRAM of '%s' is %s, but its generation %u has %s", domain,
                path ? path : "not named", from->number, from->nvram ? from->nvram : "none");
    vr_error_now(error, "somebody changed the domain");
    vr_error_next(error, "put it back with 'virsh edit %s', then try again", domain);
    return FALSE;
}

/* Those of our making get an identity, by which they may be deleted; and generation 0's, by which it is missed. */
static gboolean has_identity(const VrEngine *engine, const VrGeneration *generation)
{
    return generation->nvram && (!generation->ours || is_beneath(engine, generation->nvram));
}

static gboolean record(VrSwap *swap, VrGeneration *generation, const char *path, const VrFileId *file, GError **error)
{
    if (!vr_journal_generation_nvram(swap->engine.journal, swap->engine.owner, generation->uuid, generation->number,
                                     path, file, error))
        return FALSE;
    if (path != generation->nvram) {
        g_free(generation->nvram);
        generation->nvram = g_strdup(path);
    }
    generation->nvram_file = *file;
    return TRUE;
}

/* Missing is TRUE, too: *there says so. */
static gboolean look(const char *path, VrFileId *file, gboolean *there, GError **error)
{
    GError *local = NULL;

    *there = vr_nvram_look(path, file, &local);
    if (*there || g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND)) {
        g_clear_error(&local);
        return TRUE;
    }
    g_propagate_error(error, local);
    return FALSE;
}

/* A guest that runs has one, and one that had one has it still. */
static gboolean must_be_there(const VrSwap *swap, const VrDomainInfo *info)
{
    return info->state != VR_DOMAIN_OFF || swap->from->nvram_file.device != 0;
}

gboolean vr_swap_nvram_begin(VrSwap *swap, const VrDomainInfo *info, const VrDomainDef *def, GError **error)
{
    static const VrFileId none;
    g_autofree char *path = NULL;
    gboolean there;
    VrFileId file;

    if (!vr_swap_nvram_path(swap->engine.hv, info, def, &path, error) || !may_be_taken(swap, info->name, path, error) ||
        (g_strcmp0(swap->from->nvram, path) != 0 && !record(swap, swap->from, path, &none, error)))
        return FALSE;
    if (!path)
        return TRUE;
    if (!look(path, &file, &there, error)) {
        g_prefix_error(error, "'%s': ", info->name);
        return FALSE;
    }
    if (there)
        return !has_identity(&swap->engine, swap->from) || vr_disk_file_same(&file, &swap->from->nvram_file) ||
               record(swap, swap->from, swap->from->nvram, &file, error);
    if (swap->row->rollback || !must_be_there(swap, info))
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_REFUSED,
                "'%s': its NVRAM, %s, is not there, so a new generation would have none of its boot entries and keys",
                info->name, path);
    vr_error_next(error, "put the file back");
    return FALSE;
}

gboolean vr_swap_nvram_check_kept(const VrSwap *swap, const char *domain, GError **error)
{
    const VrGeneration *to = swap->to;
    VrFileId file;

    if ((to->nvram == NULL) != (swap->from->nvram == NULL)) {
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED,
                    "'%s': generation %u was made with%s NVRAM, and the domain has %s now", domain, to->number,
                    to->nvram ? "" : "out", swap->from->nvram ? "one" : "none");
        vr_error_now(error, "its firmware was changed");
        vr_error_next(error, "change it back with 'virsh edit %s'", domain);
        return FALSE;
    }
    if (!to->nvram || to->nvram_file.device == 0)
        return TRUE;
    if (to->ours ? vr_swap_has_own_nvram(swap->engine.store, to, error) : vr_nvram_look(to->nvram, &file, error))
        return TRUE;
    g_prefix_error(error, "'%s': the NVRAM of generation %u: ", domain, to->number);
    return FALSE;
}

/* ---- the copy --------------------------------------------------------------------------------------- */

static gboolean record_copy(const VrFileId *id, void *data, GError **error)
{
    VrSwap *swap = data;

    return record(swap, swap->to, swap->to->nvram, id, error);
}

static gboolean copy(VrSwap *swap, GError **error)
{
    g_autoptr(VrDomainDef) def = vr_domain_def_parse(swap->before_xml, error);
    g_autofree char *name = g_path_get_basename(swap->to->nvram);

    return def && vr_nvram_copy(swap->engine.store, swap->row->uuid, name, swap->from->nvram,
                                def->nvram_format ? def->nvram_format : "raw", record_copy, swap, error);
}

gboolean vr_swap_nvram_copy(VrSwap *swap, GError **error)
{
    g_autofree char *told = NULL;
    gboolean there;
    VrFileId file;

    if (swap->row->rollback || !swap->to->nvram)
        return TRUE;
    vr_swap_discard_nvram(swap); /* of a try before this one */
    if (!look(swap->from->nvram, &file, &there, error))
        return FALSE;
    if ((there || swap->from->nvram_file.device != 0) && !copy(swap, error))
        return FALSE;
    told = there ? g_strdup_printf("%" G_GUINT64_FORMAT " bytes of %s", file.size, swap->from->nvram)
                 : g_strdup("never started: libvirt makes it");
    return vr_journal_mark(swap->engine.journal, swap->engine.owner, swap->row->id, "nvram", told, error);
}

void vr_swap_nvram_see(VrSwap *swap)
{
    g_autoptr(GError) local = NULL;
    VrFileId file;

    if (!swap->to->ours || !swap->to->nvram || swap->to->nvram_file.device != 0)
        return;
    if (vr_nvram_look(swap->to->nvram, &file, &local) && record(swap, swap->to, swap->to->nvram, &file, &local))
        return;
    if (!g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND))
        vr_warning(swap->row->domain, "the NVRAM that libvirt made is not recorded: %s", local->message);
}
