/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The seed of one generation, by its XML and its file. What it is to a generation: engine/swap_seed.c. */
#include "base/error.h"
#include "base/log.h"
#include "engine/rebuild_private.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

static char *own_path(const VrRebuildLook *look, guint number)
{
    return g_strdup_printf("%s/disks/%s/g%u.seed.iso", vr_store_root(look->store), look->found->uuid, number);
}

/* A medium of an admin's own in our drive is not of the generation. */
static gboolean is_of_store(const VrRebuildLook *look, const char *path)
{
    g_autofree char *disks = g_strdup_printf("%s/disks/", vr_store_root(look->store));

    return path && g_str_has_prefix(path, disks);
}

static gboolean look_at(const VrRebuildLook *look, VrGeneration *generation, gboolean rests, GError **error)
{
    g_autofree char *name = g_path_get_basename(generation->seed);
    struct stat st;

    if (fstatat(look->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
        vr_disk_file_id_at(look->dir_fd, name, &generation->seed_file) && (!rests || vr_rebuild_check_rest(&st, error)))
        return TRUE;
    if (error && !*error)
        vr_set_error_errno(error, errno, "cannot look at it");
    g_prefix_error(error, "%s: ", name);
    return FALSE;
}

gboolean vr_rebuild_seed(const VrRebuildLook *look, VrGeneration *generation, const char *kept_xml, GError **error)
{
    gboolean is_current = generation->state == VR_GENERATION_CURRENT;
    g_autofree char *path = vr_domain_xml_seed(is_current ? look->xml : kept_xml);
    g_autofree char *own = own_path(look, generation->number);
    g_autoptr(GError) local = NULL;

    if (!is_of_store(look, path))
        return TRUE;
    if (g_strcmp0(path, own) != 0) {
        g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "its seed is %s, which is that of another generation", path);
        return FALSE;
    }
    generation->seed = g_steal_pointer(&path);
    if (look_at(look, generation, !is_current, &local))
        return TRUE;
    if (is_current) { /* it runs, and the next start says it */
        vr_debug("%s: %s", generation->uuid, local->message);
        return TRUE;
    }
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}
