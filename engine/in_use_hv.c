/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What domains refer to: every path in their XML, and the chains below. */
#include "base/error.h"
#include "engine/in_use_private.h"
#include "hv/connection.h"
#include "hv/domain_refs.h"

static void note_volumes(VrInUse *in_use, VrHv *hv, const VrDomainRefs *refs, const char *uuid, const char *how)
{
    for (guint i = 0; i < refs->pools->len; i++) {
        /* A volume that is not there, or a hypervisor without pools, refers to nothing. */
        g_autofree char *path = vr_connection_volume_path(hv, refs->pools->pdata[i], refs->volumes->pdata[i], NULL);
        if (path)
            vr_in_use_note_chain(in_use, path, uuid, how);
    }
}

static gboolean note_xml(VrInUse *in_use, VrHv *hv, const char *uuid, const char *xml, const char *how, GError **error)
{
    g_autoptr(VrDomainRefs) refs = vr_domain_refs_parse(xml, error);

    if (!refs)
        return FALSE;
    for (guint i = 0; i < refs->paths->len; i++)
        vr_in_use_note_chain(in_use, refs->paths->pdata[i], uuid, how);
    note_volumes(in_use, hv, refs, uuid, how);
    if (refs->name && !g_hash_table_contains(in_use->names, uuid))
        g_hash_table_insert(in_use->names, g_strdup(uuid), g_strdup(refs->name));
    return TRUE;
}

/* Takes error: TRUE when there is no live XML because the domain is off, or is no more. */
static gboolean is_absent(VrHv *hv, const char *uuid, GError *error, GError **result)
{
    g_auto(VrDomainInfo) info = {0};
    gboolean absent = g_error_matches(error, VR_ERROR, VR_ERROR_NOT_FOUND) ||
                      (g_error_matches(error, VR_ERROR, VR_ERROR_HYPERVISOR) && vr_hv_info(hv, uuid, &info, NULL) &&
                       info.state == VR_DOMAIN_OFF);

    if (absent)
        g_error_free(error);
    else
        g_propagate_error(result, error);
    return absent;
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
    g_autofree char *live = vr_hv_live_xml(hv, uuid, &local);
    return live ? note_xml(in_use, hv, uuid, live, "running", error) : is_absent(hv, uuid, local, error);
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

gboolean vr_in_use_read_hv(VrInUse *in_use, VrHv *hv, GError **error)
{
    g_autoptr(GPtrArray) uuids = vr_hv_list(hv, error);

    for (guint i = 0; uuids && i < uuids->len; i++) {
        const char *uuid = uuids->pdata[i];
        if (!note_domain(in_use, hv, uuid, error) || !note_kept(in_use, hv, uuid, error)) {
            g_prefix_error(error, "what domain %s uses cannot be told: ", uuid);
            return FALSE;
        }
    }
    return uuids != NULL;
}
