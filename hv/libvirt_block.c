/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a domain that leaves us needs while it runs: its OS disk on its own, and our record out of it. */
#include "base/error.h"
#include "hv/connection_private.h"
#include "hv/domain_xml.h"
#include "hv/libvirt_private.h"
#include <libvirt/virterror.h>

static gboolean run(VrHv *hv, VrCall *call, const char *what, GError **error)
{
    VrConnection *self = (VrConnection *)hv;

    return vr_connection_call(self, call, what, self->call_timeout_ms, VR_OVERRUN_DROP, error);
}

/* With as much of the disk's speed as QEMU takes. */
static gboolean do_block_pull(VrCall *call, GError **error)
{
    g_autoptr(virDomain) domain = vr_libvirt_domain(call, error);

    if (domain == NULL)
        return FALSE;
    return virDomainBlockPull(domain, call->text, 0, 0) == 0 || vr_libvirt_error(call, error);
}

gboolean vr_libvirt_op_block_pull(VrHv *hv, const char *uuid, const char *target, GError **error)
{
    g_autoptr(VrCall) call = vr_call_new(do_block_pull, uuid);

    call->text = g_strdup(target);
    return run(hv, call, "block pull", error);
}

static gboolean do_block_job(VrCall *call, GError **error)
{
    g_autoptr(virDomain) domain = vr_libvirt_domain(call, error);
    virDomainBlockJobInfo info = {0};
    int found = domain != NULL ? virDomainGetBlockJobInfo(domain, call->text, &info, 0) : -1;

    if (domain == NULL)
        return FALSE;
    if (found < 0)
        return vr_libvirt_error(call, error);
    call->block_job = (VrBlockJob){
        .active = found > 0, .pull = info.type == VIR_DOMAIN_BLOCK_JOB_TYPE_PULL, .done = info.cur, .total = info.end};
    return TRUE;
}

gboolean vr_libvirt_op_block_job(VrHv *hv, const char *uuid, const char *target, VrBlockJob *job, GError **error)
{
    g_autoptr(VrCall) call = vr_call_new(do_block_job, uuid);

    call->text = g_strdup(target);
    if (!run(hv, call, "block job", error))
        return FALSE;
    *job = call->block_job;
    return TRUE;
}

/* libvirt finds none where there is none. */
static gboolean do_drop_live_record(VrCall *call, GError **error)
{
    g_autoptr(virDomain) domain = vr_libvirt_domain(call, error);

    if (domain == NULL)
        return FALSE;
    return virDomainSetMetadata(domain, VIR_DOMAIN_METADATA_ELEMENT, NULL, NULL, VR_METADATA_NS,
                                VIR_DOMAIN_AFFECT_LIVE) == 0 ||
           virGetLastErrorCode() == VIR_ERR_NO_DOMAIN_METADATA || vr_libvirt_error(call, error);
}

gboolean vr_libvirt_op_drop_live_record(VrHv *hv, const char *uuid, GError **error)
{
    g_autoptr(VrCall) call = vr_call_new(do_drop_live_record, uuid);

    return run(hv, call, "metadata", error);
}
