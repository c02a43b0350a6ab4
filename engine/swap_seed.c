/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The NoCloud seed belongs to a generation, like its disk (rows C1, C7): what cloud-init reads at the first boot of the new system, and at each later
 * one to see whether it is the same instance still.
 *
 * When: between PLANNED and PREPARED, while the guest runs. Which file it is, is journaled before it takes its name; a swap that goes back before its
 * new disk booted discards it with that. The CD-ROM is in the intent with the disk, so one define brings both or none.
 *
 * Its instance-id is UUID-gN-VERSION: numbers of generations are never used twice, so cloud-init takes each new disk for a new instance, and
 * one that is gone back to for what it was.
 *
 * libvirt gives a read-only disk to QEMU's user at the start, and does not take it back at the stop: it is sealed with the disk, and is
 * root's again then. A disk that is flattened is the same system, and gets a copy with the same instance-id.
 */
#include "base/error.h"
#include "base/fd.h"
#include "engine/swap_private.h"

#include <unistd.h>

static gboolean keeps_its_seed(const VrSwap *swap)
{
    g_autofree char *path = swap->flatten ? vr_domain_xml_seed(swap->before_xml) : NULL;

    return path && swap->from->seed_file.device != 0 && g_strcmp0(path, swap->from->seed) == 0;
}

char *vr_swap_content_digest(const VrSeed *seed, const VrPersonal *personal)
{
    g_autofree char *of_seed = seed ? vr_seed_digest(seed) : NULL;
    g_autofree char *of_disk = personal ? vr_personal_digest(personal) : NULL;
    g_autofree char *both = of_seed && of_disk ? g_strdup_printf("%s %s", of_seed, of_disk) : NULL;

    if (both)
        return g_compute_checksum_for_string(G_CHECKSUM_SHA256, both, -1);
    return of_seed ? g_steal_pointer(&of_seed) : g_steal_pointer(&of_disk);
}

/* A disk that is flattened has what it had. */
void vr_swap_seed_plan(const VrSwap *swap, VrGeneration *made)
{
    gboolean is_same = swap->flatten && (keeps_its_seed(swap) || !swap->from->seed);

    if (swap->seed || keeps_its_seed(swap))
        made->seed = g_strdup(made->path);
    made->seed_digest =
        is_same ? g_strdup(swap->from->seed_digest) : vr_swap_content_digest(swap->seed, swap->personal);
}

static gboolean record(const VrFileId *id, void *data, GError **error)
{
    VrSwap *swap = data;

    if (!vr_journal_generation_seed(swap->engine.journal, swap->engine.owner, swap->row->uuid, swap->to->number, id,
                                    error))
        return FALSE;
    swap->to->seed_file = *id;
    return TRUE;
}

static gboolean copy(VrSwap *swap, const char *name, GError **error)
{
    vr_autofd fd = vr_swap_open_own_seed(swap->engine.store, swap->from, error);

    return fd >= 0 && vr_seed_make_copy(swap->engine.store, swap->row->uuid, name, fd, record, swap, error);
}

gboolean vr_swap_seed_make(VrSwap *swap, GError **error)
{
    g_autofree char *name = swap->to->seed ? g_path_get_basename(swap->to->seed) : NULL;
    g_autofree char *id = NULL;

    if (!name)
        return TRUE;
    if (swap->flatten)
        return copy(swap, name, error);
    id = g_strdup_printf("%s-g%u-%s", swap->row->uuid, swap->to->number, swap->to->version);
    return vr_seed_make(swap->engine.store, swap->row->uuid, name, swap->seed, id, record, swap, error);
}

gboolean vr_swap_seed_check_kept(const VrSwap *swap, const char *domain, GError **error)
{
    const VrGeneration *to = swap->to;
    vr_autofd fd = to->ours && to->seed ? vr_swap_open_own_seed(swap->engine.store, to, error) : -1;

    if (!to->seed || fd >= 0 || (!to->ours && access(to->seed, F_OK) == 0))
        return TRUE;
    if (to->ours)
        g_prefix_error(error, "'%s': the seed of generation %u: ", domain, to->number);
    else
        g_set_error(error, VR_ERROR, VR_ERROR_NOT_FOUND, "'%s': the seed of generation %u, %s, is gone", domain,
                    to->number, to->seed);
    return FALSE;
}

/* A rollback has it from the kept XML. */
char *vr_swap_seed_intent(const VrSwap *swap, char *xml, GError **error)
{
    g_autofree char *without = xml;

    if (!xml || swap->row->rollback || (swap->flatten && !swap->to->seed))
        return g_steal_pointer(&without);
    return vr_domain_xml_with_seed(xml, swap->to->seed, error);
}
