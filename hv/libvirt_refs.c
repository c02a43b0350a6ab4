/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* All that libvirt keeps that may refer to a disk: which domains there are, and the XML of what is kept of each. */
#include "base/error.h"
#include "hv/connection_private.h"
#include "hv/libvirt_private.h"
#include <libvirt/virterror.h>

static gboolean run(VrHv *hv, VrCall *call, const char *what, GError **error)
{
    VrConnection *self = (VrConnection *)hv;

    return vr_connection_call(self, call, what, self->call_timeout_ms, VR_OVERRUN_DROP, error);
}

/* Takes xml. */
static void add_xml(VrCall *call, char *xml)
{
    if (xml != NULL)
        g_ptr_array_add(call->strings, g_strdup(xml));
    free(xml);
}

static gboolean not_supported(void)
{
    return virGetLastErrorCode() == VIR_ERR_NO_SUPPORT;
}

/* -- Domains -------------------------------------------------------------------------------------- */

static gboolean do_list(VrCall *call, GError **error)
{
    virDomainPtr *domains = NULL;
    int n = virConnectListAllDomains(call->conn, &domains, 0);

    if (n < 0)
        return vr_libvirt_error(call, error);
    g_clear_pointer(&call->strings, g_ptr_array_unref);
    call->strings = g_ptr_array_new_with_free_func(g_free);
    for (int i = 0; i < n; i++) {
        char uuid[VIR_UUID_STRING_BUFLEN];
        if (virDomainGetUUIDString(domains[i], uuid) == 0)
            g_ptr_array_add(call->strings, g_strdup(uuid));
        virDomainFree(domains[i]);
    }
    free(domains);
    return TRUE;
}

GPtrArray *vr_libvirt_op_list(VrHv *hv, GError **error)
{
    g_autoptr(VrCall) call = vr_call_new(do_list, NULL);

    return run(hv, call, "list of domains", error) ? g_steal_pointer(&call->strings) : NULL;
}

/* -- What is kept of a domain --------------------------------------------------------------------- */

static gboolean read_snapshots(VrCall *call, virDomainPtr domain, GError **error)
{
    virDomainSnapshotPtr *snapshots = NULL;
    int n = virDomainListAllSnapshots(domain, &snapshots, 0);
    gboolean ok = TRUE;

    if (n < 0)
        return not_supported() || vr_libvirt_error(call, error);
    for (int i = 0; i < n; i++) {
        char *xml = virDomainSnapshotGetXMLDesc(snapshots[i], 0);
        if (xml == NULL && ok)
            ok = vr_libvirt_error(call, error);
        add_xml(call, xml);
        virDomainSnapshotFree(snapshots[i]);
    }
    free(snapshots);
    return ok;
}

static gboolean read_checkpoints(VrCall *call, virDomainPtr domain, GError **error)
{
    virDomainCheckpointPtr *checkpoints = NULL;
    int n = virDomainListAllCheckpoints(domain, &checkpoints, 0);
    gboolean ok = TRUE;

    if (n < 0)
        return not_supported() || vr_libvirt_error(call, error);
    for (int i = 0; i < n; i++) {
        char *xml = virDomainCheckpointGetXMLDesc(checkpoints[i], 0);
        if (xml == NULL && ok)
            ok = vr_libvirt_error(call, error);
        add_xml(call, xml);
        virDomainCheckpointFree(checkpoints[i]);
    }
    free(checkpoints);
    return ok;
}

static gboolean read_managed_save(VrCall *call, virDomainPtr domain, GError **error)
{
    int saved = virDomainHasManagedSaveImage(domain, 0);

    if (saved < 0)
        return not_supported() || vr_libvirt_error(call, error);
    if (saved == 0)
        return TRUE;
    char *xml = virDomainManagedSaveGetXMLDesc(domain, 0);
    if (xml == NULL)
        return vr_libvirt_error(call, error);
    add_xml(call, xml);
    return TRUE;
}

static gboolean do_kept_xml(VrCall *call, GError **error)
{
    g_autoptr(virDomain) domain = vr_libvirt_domain(call, error);

    if (domain == NULL)
        return FALSE;
    g_clear_pointer(&call->strings, g_ptr_array_unref);
    call->strings = g_ptr_array_new_with_free_func(g_free);
    return read_snapshots(call, domain, error) && read_checkpoints(call, domain, error) &&
           read_managed_save(call, domain, error);
}

GPtrArray *vr_libvirt_op_kept_xml(VrHv *hv, const char *uuid, GError **error)
{
    g_autoptr(VrCall) call = vr_call_new(do_kept_xml, uuid);

    return run(hv, call, "snapshots", error) ? g_steal_pointer(&call->strings) : NULL;
}
