/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What domains refer to: every path in their XML, and the chains below. */
#include "base/error.h"
#include "engine/in_use_private.h"
#include "hv/connection.h"
#include "hv/domain_refs.h"

#define LIVE_TRIES 5 /* a domain that is stopped and started that often while it is looked at */

/* A volume that is not there refers to nothing; one of a pool that cannot be asked may be any file (invariant 6). */
static gboolean note_volumes(VrInUse *in_use, VrHv *hv, const VrDomainRefs *refs, const char *uuid, const char *how,
                             GError **error)
{
    for (guint i = 0; i < refs->pools->len; i++) {
        const char *pool = refs->pools->pdata[i], *volume = refs->volumes->pdata[i];
        g_autoptr(GError) local = NULL;
        g_autofree char *path = vr_connection_volume_path(hv, pool, volume, &local);
        if (path) {
            vr_in_use_note_chain(in_use, path, uuid, how);
            continue;
        }
        if (g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND))
            continue;
        if (g_error_matches(local, VR_ERROR, VR_ERROR_HYPERVISOR))
            local->code = VR_ERROR_REFUSED;
        g_propagate_error(error, g_steal_pointer(&local));
        g_prefix_error(error,
                       "domain '%s' has volume %s of pool %s, and nobody can tell which file that is ('virsh "
                       "pool-start %s', or take the disk out of the domain): ",
                       refs->name ? refs->name : uuid, volume, pool, pool);
        return FALSE;
    }
    return TRUE;
}

static gboolean note_xml(VrInUse *in_use, VrHv *hv, const char *uuid, const char *xml, const char *how, GError **error)
{
    g_autoptr(VrDomainRefs) refs = vr_domain_refs_parse(xml, error);

    if (!refs)
        return FALSE;
    for (guint i = 0; i < refs->paths->len; i++)
        vr_in_use_note_chain(in_use, refs->paths->pdata[i], uuid, how);
    if (refs->name && !g_hash_table_contains(in_use->names, uuid))
        g_hash_table_insert(in_use->names, g_strdup(uuid), g_strdup(refs->name));
    return note_volumes(in_use, hv, refs, uuid, how, error);
}

static gboolean is_off(VrHv *hv, const char *uuid, const GError *error)
{
    g_auto(VrDomainInfo) info = {0};

    return g_error_matches(error, VR_ERROR, VR_ERROR_NOT_FOUND) ||
           (g_error_matches(error, VR_ERROR, VR_ERROR_HYPERVISOR) && vr_hv_info(hv, uuid, &info, NULL) &&
            info.state == VR_DOMAIN_OFF);
}

/* NULL without error when the domain is off, or is no more. One that was off when it was asked and runs again when that is looked at, as in
 * a swap, is asked once more. */
static char *live_xml(VrHv *hv, const char *uuid, GError **error)
{
    for (guint tries = 1;; tries++) {
        g_autoptr(GError) local = NULL;
        char *live = vr_hv_live_xml(hv, uuid, &local);

        if (live || is_off(hv, uuid, local))
            return live;
        if (tries < LIVE_TRIES && g_error_matches(local, VR_ERROR, VR_ERROR_HYPERVISOR))
            continue;
        g_propagate_error(error, g_steal_pointer(&local));
        return NULL;
    }
}

static gboolean note_domain(VrInUse *in_use, VrHv *hv, const char *uuid, GError **error)
{
    GError *local = NULL;
    g_autofree char *inactive = vr_hv_inactive_xml(hv, uuid, &local);

    if (!inactive) {
        if (!g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND)) {
            g_propagate_error(error, local);
            return FALSE;
        }
        g_error_free(local);
        return TRUE; /* undefined meanwhile */
    }
    if (!note_xml(in_use, hv, uuid, inactive, "its domain", error))
        return FALSE;
    g_autofree char *live = live_xml(hv, uuid, &local);
    if (live)
        return note_xml(in_use, hv, uuid, live, "running", error);
    if (local)
        g_propagate_error(error, local);
    return local == NULL;
}

static gboolean note_kept(VrInUse *in_use, VrHv *hv, const char *uuid, GError **error)
{
    GError *local = NULL;
    g_autoptr(GPtrArray) kept = vr_hv_kept_xml(hv, uuid, &local);

    if (!kept && g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND)) {
        g_error_free(local);
        return TRUE;
    }
    if (!kept)
        g_propagate_error(error, local);
    for (guint i = 0; kept && i < kept->len; i++)
        if (!note_xml(in_use, hv, uuid, kept->pdata[i], "a snapshot, checkpoint or saved state", error))
            return FALSE;
    return kept != NULL;
}

/* What was undefined while it was looked at, and its storage pool after it, uses nothing. */
static gboolean is_gone(VrHv *hv, const char *uuid)
{
    g_autoptr(GError) local = NULL;
    g_autofree char *xml = vr_hv_inactive_xml(hv, uuid, &local);

    return !xml && g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND);
}

gboolean vr_in_use_read_hv(VrInUse *in_use, VrHv *hv, GError **error)
{
    g_autoptr(GPtrArray) uuids = vr_hv_list(hv, error);

    for (guint i = 0; uuids && i < uuids->len; i++) {
        const char *uuid = uuids->pdata[i];
        g_autoptr(GError) local = NULL;
        if ((note_domain(in_use, hv, uuid, &local) && note_kept(in_use, hv, uuid, &local)) || is_gone(hv, uuid))
            continue;
        g_propagate_prefixed_error(error, g_steal_pointer(&local), "what domain %s uses cannot be told: ", uuid);
        return FALSE;
    }
    return uuids != NULL;
}
