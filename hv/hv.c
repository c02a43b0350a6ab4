/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "hv/hv.h"

#include "base/error.h"

const char *vr_domain_state_name(VrDomainState state)
{
    static const char *const names[] = {
        [VR_DOMAIN_RUNNING] = "running", [VR_DOMAIN_PAUSED] = "paused",   [VR_DOMAIN_STOPPING] = "in shutdown",
        [VR_DOMAIN_OFF] = "shut off",    [VR_DOMAIN_CRASHED] = "crashed", [VR_DOMAIN_SUSPENDED] = "pmsuspended",
        [VR_DOMAIN_UNKNOWN] = "unknown",
    };

    return (guint)state < G_N_ELEMENTS(names) ? names[state] : "unknown";
}

const char *vr_domain_state_words(const VrDomainInfo *info)
{
    if (info->state == VR_DOMAIN_PAUSED && info->reason == VR_REASON_IO_ERROR)
        return "paused after an I/O error";
    if (info->state == VR_DOMAIN_PAUSED && info->reason == VR_REASON_STARTING)
        return "being started by libvirt";
    return vr_domain_state_name(info->state);
}

void vr_domain_info_clear(VrDomainInfo *info)
{
    g_clear_pointer(&info->name, g_free);
}

GPtrArray *vr_hv_list(VrHv *hv, GError **error)
{
    return hv->ops->list(hv, error);
}

gboolean vr_hv_lookup(VrHv *hv, const char *name_or_uuid, char uuid[VR_UUID_LENGTH + 1], GError **error)
{
    return hv->ops->lookup(hv, name_or_uuid, uuid, error);
}

gboolean vr_hv_info(VrHv *hv, const char *uuid, VrDomainInfo *info, GError **error)
{
    return hv->ops->info(hv, uuid, info, error);
}

gboolean vr_hv_job(VrHv *hv, const char *uuid, char **job, GError **error)
{
    *job = NULL;
    return hv->ops->job == NULL || hv->ops->job(hv, uuid, job, error);
}

char *vr_hv_inactive_xml(VrHv *hv, const char *uuid, GError **error)
{
    return hv->ops->inactive_xml(hv, uuid, error);
}

char *vr_hv_live_xml(VrHv *hv, const char *uuid, GError **error)
{
    return hv->ops->live_xml(hv, uuid, error);
}

char *vr_hv_public_xml(VrHv *hv, const char *uuid, GError **error)
{
    return hv->ops->public_xml(hv, uuid, error);
}

GPtrArray *vr_hv_kept_xml(VrHv *hv, const char *uuid, GError **error)
{
    return hv->ops->kept_xml(hv, uuid, error);
}

/* The end of a call that changes a domain: a lost outcome is counted. Takes local. */
static gboolean changed(VrHv *hv, gboolean ok, GError *local, GError **error)
{
    if (ok)
        return TRUE;
    if (g_error_matches(local, VR_ERROR, VR_ERROR_DISCONNECTED))
        g_atomic_int_inc(&hv->lost);
    g_propagate_error(error, local);
    return FALSE;
}

guint vr_hv_lost_calls(VrHv *hv)
{
    return (guint)g_atomic_int_get(&hv->lost);
}

gboolean vr_hv_define(VrHv *hv, const char *uuid, const char *xml, GError **error)
{
    GError *local = NULL;
    gboolean ok = hv->ops->define(hv, uuid, xml, &local);

    return changed(hv, ok, local, error);
}

gboolean vr_hv_start(VrHv *hv, const char *uuid, GError **error)
{
    GError *local = NULL;
    gboolean ok = hv->ops->start(hv, uuid, &local);

    return changed(hv, ok, local, error);
}

gboolean vr_hv_shutdown(VrHv *hv, const char *uuid, VrShutdownMode mode, GError **error)
{
    GError *local = NULL;
    gboolean ok = hv->ops->shutdown(hv, uuid, mode, &local);

    return changed(hv, ok, local, error);
}

gboolean vr_hv_destroy(VrHv *hv, const char *uuid, GError **error)
{
    GError *local = NULL;
    gboolean ok = hv->ops->destroy(hv, uuid, &local);

    return changed(hv, ok, local, error);
}

void vr_hv_wait_change(VrHv *hv, const char *uuid, gint64 deadline_ms)
{
    hv->ops->wait_change(hv, uuid, deadline_ms);
}

char *vr_hv_agent(VrHv *hv, const char *uuid, const char *command, int timeout_s, GError **error)
{
    return hv->ops->agent(hv, uuid, command, timeout_s, error);
}

GPtrArray *vr_hv_leases(VrHv *hv, const char *uuid, GError **error)
{
    return hv->ops->leases(hv, uuid, error);
}

char *vr_hv_nvram(VrHv *hv, const char *uuid, const char *xml, GError **error)
{
    return hv->ops->nvram(hv, uuid, xml, error);
}

gboolean vr_hv_block_pull(VrHv *hv, const char *uuid, const char *target, GError **error)
{
    GError *local = NULL;
    gboolean ok = hv->ops->block_pull(hv, uuid, target, &local);

    return changed(hv, ok, local, error);
}

gboolean vr_hv_block_job(VrHv *hv, const char *uuid, const char *target, VrBlockJob *job, GError **error)
{
    return hv->ops->block_job(hv, uuid, target, job, error);
}

gboolean vr_hv_drop_live_record(VrHv *hv, const char *uuid, GError **error)
{
    GError *local = NULL;
    gboolean ok = hv->ops->drop_live_record(hv, uuid, &local);

    return changed(hv, ok, local, error);
}

gboolean vr_hv_console(VrHv *hv, const char *uuid, VrConsole *console, GError **error)
{
    if (hv->ops->console != NULL)
        return hv->ops->console(hv, uuid, console, error);
    g_set_error_literal(error, VR_ERROR, VR_ERROR_HYPERVISOR, "this hypervisor has no consoles");
    return FALSE;
}

void vr_hv_close(VrHv *hv)
{
    if (hv != NULL)
        hv->ops->close(hv);
}
