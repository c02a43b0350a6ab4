/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The NVRAM of one generation, by its XML and its file. What it is to a generation: engine/swap_nvram.c. */
#include "base/error.h"
#include "base/log.h"
#include "disk/nvram.h"
#include "engine/rebuild_private.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

/* *path: NULL without error when it has none. */
static gboolean find(const VrRebuildLook *look, const char *xml, gboolean is_current, char **path, GError **error)
{
    g_autoptr(VrDomainDef) def = vr_domain_def_parse(xml, error);
    g_autoptr(VrDomainDef) live = NULL;

    *path = def ? g_strdup(def->nvram) : NULL;
    if (!def || !def->nvram_unnamed)
        return def != NULL;
    if (!is_current || !look->live) {
        *path = vr_hv_nvram(look->hv, look->found->uuid, xml, error);
        return *path != NULL;
    }
    live = vr_domain_def_parse(look->live, error);
    if (live)
        *path = g_strdup(live->nvram);
    return live != NULL;
}

static char *own_path(const VrRebuildLook *look, guint number)
{
    return g_strdup_printf("%s/disks/%s/g%u.nvram", vr_store_root(look->store), look->found->uuid, number);
}

static gboolean is_own(const VrRebuildLook *look, const VrGeneration *generation, const char *path)
{
    g_autofree char *own = generation->ours ? own_path(look, generation->number) : NULL;

    return own && g_strcmp0(path, own) == 0;
}

/* A file of ours is that of one generation, and a generation that has one has no other. */
static gboolean check_place(const VrRebuildLook *look, const VrGeneration *generation, const char *path,
                            const char *kept_xml, GError **error)
{
    g_autofree char *disks = g_strdup_printf("%s/disks/", vr_store_root(look->store));
    g_autoptr(VrDomainDef) kept = kept_xml ? vr_domain_def_parse(kept_xml, NULL) : NULL;

    if (is_own(look, generation, path))
        return TRUE;
    if (path && g_str_has_prefix(path, disks))
        g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "its NVRAM is %s, which is that of another generation", path);
    else if (kept && is_own(look, generation, kept->nvram))
        g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "its NVRAM is %s, but g%u.xml names %s",
                    path ? path : "not named", generation->number, kept->nvram);
    else
        return TRUE;
    return FALSE;
}

static gboolean rests(const VrRebuildLook *look, const VrGeneration *generation, GError **error)
{
    g_autofree char *name = g_strdup_printf("g%u.nvram", generation->number);
    struct stat st;

    if (fstatat(look->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        vr_set_error_errno(error, errno, "cannot look at %s", name);
        return FALSE;
    }
    if (vr_rebuild_check_rest(&st, error))
        return TRUE;
    g_prefix_error(error, "%s: ", name);
    return FALSE;
}

/* What an admin put elsewhere is his, and has no identity here. */
static gboolean identify(const VrRebuildLook *look, VrGeneration *generation, gboolean is_current, GError **error)
{
    g_autoptr(GError) local = NULL;
    gboolean own = is_own(look, generation, generation->nvram);
    VrFileId id;

    if (!own && generation->ours)
        return TRUE;
    if (!vr_nvram_look(generation->nvram, &id, &local)) {
        if (is_current) { /* libvirt makes it at the first start, and what else there is the next swap says */
            vr_debug("%s: %s", generation->uuid, local->message);
            return TRUE;
        }
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    if (own && !is_current && !rests(look, generation, error))
        return FALSE;
    generation->nvram_file = id;
    return TRUE;
}

gboolean vr_rebuild_nvram(const VrRebuildLook *look, VrGeneration *generation, const char *kept_xml, GError **error)
{
    gboolean is_current = generation->state == VR_GENERATION_CURRENT;
    g_autofree char *path = NULL;
    g_autoptr(GError) local = NULL;

    if (!find(look, is_current ? look->xml : kept_xml, is_current, &path, &local)) {
        vr_debug("%s: generation %u: %s", generation->uuid, generation->number, local->message);
        if (is_current) /* the next swap asks again, and says it */
            return TRUE;
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    if (!check_place(look, generation, path, is_current ? kept_xml : NULL, error))
        return FALSE;
    generation->nvram = g_steal_pointer(&path);
    return !generation->nvram || identify(look, generation, is_current, error);
}
