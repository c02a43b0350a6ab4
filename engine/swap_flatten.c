/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The new disk of a guest that is off and leaves the product: what it reads on its overlay, in one file.
 *
 * The copy is true as long as the guest does not run. It is off before the first byte is read, and whoever starts it after that writes to the
 * old disk: so that is looked at again just before the intent, and another size or time of change ends the swap. The new disk has not booted then and is
 * discarded; nothing of what was written is lost.
 */
#include "base/error.h"
#include "base/fd.h"
#include "disk/flatten.h"
#include "engine/swap_private.h"

#include <errno.h>

static gboolean is_off(const VrSwap *swap, GError **error)
{
    if (!swap->row->was_running)
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "'%s' is running: its disk is not copied under it",
                swap->row->domain);
    return FALSE;
}

static gboolean look(const VrSwap *swap, int fd, VrFileId *id, GError **error)
{
    if (vr_disk_file_id_at(fd, "", id))
        return TRUE;
    vr_set_error_errno(error, errno, "%s", swap->from->path);
    return FALSE;
}

static VrImage *base_of(const VrSwap *swap, GError **error)
{
    if (swap->from->image && swap->from->version)
        return vr_store_get(swap->engine.store, swap->from->image, swap->from->version, error);
    g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "'%s': it is not recorded which version generation %u lies on",
                swap->row->domain, swap->from->number);
    return NULL;
}

gboolean vr_swap_flatten(VrSwap *swap, VrDiskBefore before, GError **error)
{
    g_autofree char *name = g_path_get_basename(swap->to->path);
    g_autoptr(VrImage) base = NULL;
    vr_autofd fd = -1;

    if (!is_off(swap, error) || !vr_swap_confirm_off(swap, swap->before_xml, VR_HOLDERS_ALL, error))
        return FALSE;
    base = base_of(swap, error);
    fd = base ? vr_swap_open_own_disk(swap->engine.store, swap->from, error) : -1;
    return fd >= 0 && look(swap, fd, &swap->flattened, error) &&
           vr_flatten_make(swap->engine.store, swap->row->uuid, name, fd, base, NULL, before, swap, error);
}

gboolean vr_swap_flatten_holds(VrSwap *swap, GError **error)
{
    vr_autofd fd = swap->flatten ? vr_swap_open_own_disk(swap->engine.store, swap->from, error) : -1;
    VrFileId now;

    if (!swap->flatten)
        return TRUE;
    if (fd < 0 || !look(swap, fd, &now, error))
        return FALSE;
    if (now.size == swap->flattened.size && now.mtime_ns == swap->flattened.mtime_ns)
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "%s was written to while it was copied: somebody started the guest",
                swap->from->path);
    return FALSE;
}
