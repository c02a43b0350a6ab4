/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What libvirt knows of a domain's state, and what its errors mean. */
#include "base/error.h"
#include "hv/domain_xml.h"
#include "hv/libvirt_private.h"
#include <libvirt/virterror.h>
#include <string.h>

/* -- Errors --------------------------------------------------------------------------------------- */

static VrErrorCode code_of(const VrCall *call, int code)
{
    switch (code) {
    case VIR_ERR_NO_DOMAIN:
    case VIR_ERR_NO_STORAGE_POOL:
    case VIR_ERR_NO_STORAGE_VOL:
        return VR_ERROR_NOT_FOUND;
    case VIR_ERR_AGENT_UNRESPONSIVE:
    case VIR_ERR_AGENT_UNSYNCED:
        return VR_ERROR_AGENT;
    case VIR_ERR_NO_CONNECT:
    case VIR_ERR_INVALID_CONN:
        return VR_ERROR_DISCONNECTED;
    default:
        return VR_ERROR_HYPERVISOR;
    }
}

/* A dead socket shows as many codes (SYSTEM_ERROR "End of file while reading data", INTERNAL_ERROR "client socket
 * is closed", RPC "connection closed due to keepalive timeout"); whether the connection lives is the better
 * question. It is a local one. */
gboolean vr_libvirt_error(VrCall *call, GError **error)
{
    g_autofree char *message = g_strdup(virGetLastErrorMessage());
    int last = virGetLastErrorCode();
    VrErrorCode code = code_of(call, last);

    if (call->conn != NULL && virConnectIsAlive(call->conn) != 1)
        code = VR_ERROR_DISCONNECTED;
    call->retry = code == VR_ERROR_HYPERVISOR && last == VIR_ERR_OPERATION_TIMEOUT;
    if (code == VR_ERROR_DISCONNECTED) {
        g_set_error_literal(error, VR_ERROR, code, "the connection to libvirt broke");
        vr_error_cause(error, "%s", message);
        vr_error_now(error, "the outcome is unknown");
    } else {
        g_set_error_literal(error, VR_ERROR, code, message);
        vr_error_is_cause(error);
    }
    return FALSE;
}

/* -- State ---------------------------------------------------------------------------------------- */

static VrDomainState state_of(int state)
{
    switch (state) {
    case VIR_DOMAIN_RUNNING:
    case VIR_DOMAIN_BLOCKED:
        return VR_DOMAIN_RUNNING;
    case VIR_DOMAIN_PAUSED:
        return VR_DOMAIN_PAUSED;
    case VIR_DOMAIN_SHUTDOWN:
        return VR_DOMAIN_STOPPING;
    case VIR_DOMAIN_SHUTOFF:
        return VR_DOMAIN_OFF;
    case VIR_DOMAIN_CRASHED:
        return VR_DOMAIN_CRASHED;
    case VIR_DOMAIN_PMSUSPENDED:
        return VR_DOMAIN_SUSPENDED;
    default:
        return VR_DOMAIN_UNKNOWN;
    }
}

static VrDomainReason off_reason(int reason)
{
    switch (reason) {
    case VIR_DOMAIN_SHUTOFF_SHUTDOWN:
        return VR_REASON_SHUTDOWN;
    case VIR_DOMAIN_SHUTOFF_DESTROYED:
        return VR_REASON_DESTROYED;
    case VIR_DOMAIN_SHUTOFF_CRASHED:
        return VR_REASON_CRASHED;
    case VIR_DOMAIN_SHUTOFF_FAILED:
        return VR_REASON_FAILED;
    case VIR_DOMAIN_SHUTOFF_MIGRATED:
        return VR_REASON_MIGRATED;
    case VIR_DOMAIN_SHUTOFF_SAVED:
        return VR_REASON_SAVED;
    default: /* an unknown one is what follows a restart of libvirtd: off, and no more is known */
        return VR_REASON_OTHER;
    }
}

static VrDomainReason reason_of(int state, int reason)
{
    if (state == VIR_DOMAIN_SHUTOFF)
        return off_reason(reason);
    if (state == VIR_DOMAIN_CRASHED)
        return VR_REASON_CRASHED;
    if (state == VIR_DOMAIN_PAUSED && reason == VIR_DOMAIN_PAUSED_IOERROR)
        return VR_REASON_IO_ERROR;
    if (state == VIR_DOMAIN_PAUSED && reason == VIR_DOMAIN_PAUSED_STARTING_UP)
        return VR_REASON_STARTING;
    return VR_REASON_OTHER;
}

/* -- Jobs ----------------------------------------------------------------------------------------- */

static const char *operation_name(int operation)
{
    static const char *const names[] = {
        [VIR_DOMAIN_JOB_OPERATION_UNKNOWN] = "a job",
        [VIR_DOMAIN_JOB_OPERATION_START] = "start",
        [VIR_DOMAIN_JOB_OPERATION_SAVE] = "save",
        [VIR_DOMAIN_JOB_OPERATION_RESTORE] = "restore",
        [VIR_DOMAIN_JOB_OPERATION_MIGRATION_IN] = "incoming migration",
        [VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT] = "migration",
        [VIR_DOMAIN_JOB_OPERATION_SNAPSHOT] = "snapshot",
        [VIR_DOMAIN_JOB_OPERATION_SNAPSHOT_REVERT] = "revert to a snapshot",
        [VIR_DOMAIN_JOB_OPERATION_DUMP] = "core dump",
        [VIR_DOMAIN_JOB_OPERATION_BACKUP] = "backup",
    };

    if (operation < 0 || (gsize)operation >= G_N_ELEMENTS(names) || names[operation] == NULL)
        return names[0];
    return names[operation];
}

/* libvirt gave up after its 30 s: each further question would take as long. */
static char *lock_job(void)
{
    return virGetLastErrorCode() == VIR_ERR_OPERATION_TIMEOUT
               ? g_strdup("another client's job that keeps the domain locked")
               : NULL;
}

static char *domain_job(virDomainPtr domain)
{
    virTypedParameterPtr params = NULL;
    int type = VIR_DOMAIN_JOB_NONE, n = 0, operation = 0;

    if (virDomainGetJobStats(domain, &type, &params, &n, 0) < 0)
        return lock_job();
    virTypedParamsGetInt(params, n, VIR_DOMAIN_JOB_OPERATION, &operation);
    virTypedParamsFree(params, n);
    return type != VIR_DOMAIN_JOB_NONE ? g_strdup(operation_name(operation)) : NULL;
}

static const char *block_job_name(int type)
{
    switch (type) {
    case VIR_DOMAIN_BLOCK_JOB_TYPE_PULL:
        return "block pull";
    case VIR_DOMAIN_BLOCK_JOB_TYPE_COPY:
        return "block copy";
    case VIR_DOMAIN_BLOCK_JOB_TYPE_COMMIT:
    case VIR_DOMAIN_BLOCK_JOB_TYPE_ACTIVE_COMMIT:
        return "block commit";
    case VIR_DOMAIN_BLOCK_JOB_TYPE_BACKUP:
        return "backup";
    default:
        return "block job";
    }
}

/* A disk without a job answers from libvirtd's memory; QEMU is asked only when there is one. */
static char *disk_job(virDomainPtr domain, const VrDomainDisk *disk)
{
    virDomainBlockJobInfo info = {0};
    int n = disk->target != NULL ? virDomainGetBlockJobInfo(domain, disk->target, &info, 0) : 0;

    if (n > 0)
        return g_strdup_printf("%s on %s", block_job_name(info.type), disk->target);
    return n < 0 ? lock_job() : NULL;
}

static char *block_job(virDomainPtr domain)
{
    char *xml = virDomainGetXMLDesc(domain, 0);
    g_autoptr(VrDomainDef) def = xml != NULL ? vr_domain_def_parse(xml, NULL) : NULL;
    char *job = NULL;

    free(xml);
    for (guint i = 0; def != NULL && job == NULL && i < def->disks->len; i++)
        job = disk_job(domain, g_ptr_array_index(def->disks, i));
    return job;
}

/* Another client's job is waited for, but not for ever (SAFETY 4.14): the last time that it is asked it is what there is to say. */
gboolean vr_libvirt_do_job(VrCall *call, GError **error)
{
    g_autoptr(virDomain) domain = vr_libvirt_domain(call, error);
    gboolean last = ++call->number >= VR_MAX_TRIES;

    if (domain == NULL)
        return FALSE;
    virResetLastError();
    call->string = domain_job(domain);
    if (call->string == NULL)
        call->string = block_job(domain);
    if (call->string == NULL || virGetLastErrorCode() != VIR_ERR_OPERATION_TIMEOUT || last)
        return TRUE;
    g_clear_pointer(&call->string, g_free);
    return vr_libvirt_error(call, error);
}

/* -- Info ----------------------------------------------------------------------------------------- */

/* A driver that has no snapshots or checkpoints (test:///) has none of them. */
static gboolean read_count(VrCall *call, int count, guint *n, GError **error)
{
    if (count < 0 && virGetLastErrorCode() != VIR_ERR_NO_SUPPORT)
        return vr_libvirt_error(call, error);
    *n = count > 0 ? (guint)count : 0;
    return TRUE;
}

static gboolean read_flag(VrCall *call, int value, gboolean *flag, GError **error)
{
    if (value < 0 && virGetLastErrorCode() != VIR_ERR_NO_SUPPORT)
        return vr_libvirt_error(call, error);
    *flag = value > 0;
    return TRUE;
}

static gboolean read_state(VrCall *call, virDomainPtr domain, GError **error)
{
    VrDomainInfo *info = &call->info;
    int state = 0, reason = 0;
    guint id;

    if (virDomainGetState(domain, &state, &reason, 0) < 0)
        return vr_libvirt_error(call, error);
    info->state = state_of(state);
    info->reason = reason_of(state, reason);
    if (state == VIR_DOMAIN_SHUTOFF) {
        info->id = -1;
        return TRUE;
    }
    id = virDomainGetID(domain);
    info->id = id != (guint)-1 ? (int)id : -1;
    return TRUE;
}

gboolean vr_libvirt_do_info(VrCall *call, GError **error)
{
    g_autoptr(virDomain) domain = vr_libvirt_domain(call, error);
    VrDomainInfo *info = &call->info;
    int autostart = 0;

    if (domain == NULL)
        return FALSE;
    vr_domain_info_clear(info);
    g_strlcpy(info->uuid, call->subject, sizeof info->uuid);
    info->name = g_strdup(virDomainGetName(domain));
    if (!read_state(call, domain, error) || !read_flag(call, virDomainIsPersistent(domain), &info->persistent, error) ||
        !read_flag(call, virDomainHasManagedSaveImage(domain, 0), &info->managed_save, error) ||
        !read_count(call, virDomainSnapshotNum(domain, 0), &info->snapshots, error) ||
        !read_count(call, virDomainListAllCheckpoints(domain, NULL, 0), &info->checkpoints, error))
        return FALSE;
    info->autostart = virDomainGetAutostart(domain, &autostart) == 0 && autostart != 0;
    return TRUE;
}
