/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "engine/swap_preview.h"

#include "base/fd.h"
#include "engine/swap_private.h"

void vr_preview_clear(VrPreview *preview)
{
    g_clear_pointer(&preview->before, g_free);
    g_clear_pointer(&preview->after, g_free);
}

/* As current_generation() of a swap, which records generation 0 where there is none. */
static VrGeneration *current_generation(const VrEngine *engine, const char *domain, const char *uuid,
                                        const VrDomainDisk *disk, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(VrGeneration) found = vr_swap_generation_as_found(uuid, disk);
    g_autoptr(VrGeneration) current = vr_journal_current(engine->journal, uuid, &local);

    if (local) {
        g_propagate_error(error, g_steal_pointer(&local));
        return NULL;
    }
    if (!current)
        return g_steal_pointer(&found);
    return vr_swap_is_as_recorded(current, found, domain, error) ? g_steal_pointer(&current) : NULL;
}

/* Whether it has NVRAM decides whether the next generation has. */
static gboolean see_nvram(VrSwap *swap, const VrDomainInfo *info, const VrDomainDef *def, GError **error)
{
    g_autofree char *path = NULL;

    if (!vr_swap_nvram_path(swap->engine.hv, info, def, &path, error))
        return FALSE;
    g_free(swap->from->nvram);
    swap->from->nvram = g_steal_pointer(&path);
    return TRUE;
}

static gboolean number(VrSwap *swap, const VrPreviewRequest *request, const VrSwapRequest *asked, GError **error)
{
    swap->to = vr_swap_new_generation(&swap->engine, asked, swap->from, error);
    if (!swap->to)
        return FALSE;
    swap->alone = request->full_clone;
    if (request->seed)
        swap->to->seed = g_strdup(swap->to->path);
    return vr_journal_number(swap->engine.journal, swap->row, swap->to, error);
}

static gboolean look(VrSwap *swap, const VrPreviewRequest *request, GError **error)
{
    const VrSwapRequest asked = {.uuid = request->uuid, .image = request->image};
    g_auto(VrDomainInfo) info = {0};
    g_autoptr(VrDomainDef) def = NULL;
    const VrDomainDisk *disk;

    if (!vr_hv_info(swap->engine.hv, request->uuid, &info, error))
        return FALSE;
    swap->before_xml = vr_hv_public_xml(swap->engine.hv, request->uuid, error);
    def = swap->before_xml ? vr_domain_def_parse(swap->before_xml, error) : NULL;
    disk = def ? vr_domain_def_os_disk(def, request->os_target, error) : NULL;
    if (!disk)
        return FALSE;
    swap->row = vr_swap_new_row(&swap->engine, &asked, &info, disk);
    g_strlcpy(swap->row->id, VR_PREVIEW_SWAP_ID, sizeof(swap->row->id));
    swap->from = current_generation(&swap->engine, info.name, info.uuid, disk, error);
    if (!swap->from)
        return FALSE;
    if (request->image)
        return see_nvram(swap, &info, def, error) && number(swap, request, &asked, error);
    swap->to = vr_swap_rollback_target(&swap->engine, info.name, request->uuid, request->to_generation, error);
    return swap->to != NULL;
}

gboolean vr_swap_preview(VrStore *store, VrHv *hv, VrJournal *journal, const VrPreviewRequest *request,
                         VrPreview *preview, GError **error)
{
    g_autofree char *set_name = g_strdup(request->set_name);
    const VrOwner nobody = {.set_name = set_name};
    g_autoptr(VrSwap) swap = g_new0(VrSwap, 1);
    vr_autofd dir_fd = -1;
    g_autofree char *after = NULL;

    *preview = (VrPreview){0};
    swap->engine = (VrEngine){.store = store, .hv = hv, .journal = journal, .owner = &nobody};
    swap->image = vr_image_copy(request->image);
    if (!look(swap, request, error))
        return FALSE;
    if (!request->image) {
        dir_fd = vr_store_instance_dir(store, request->uuid, NULL, error);
        if (dir_fd < 0)
            return FALSE;
    }
    after = vr_swap_make_intent(swap, dir_fd, error);
    if (!after)
        return FALSE;
    preview->generation = swap->to->number;
    preview->before = vr_domain_xml_as_libvirt(swap->before_xml, error);
    preview->after = preview->before ? vr_domain_xml_as_libvirt(after, error) : NULL;
    if (preview->after)
        return TRUE;
    vr_preview_clear(preview);
    return FALSE;
}
