/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The operations of VrHv on libvirt. Each is a pair: do_x() runs on a worker and speaks with libvirt; op_x() is the
 * table's entry, which hands it arguments and takes its results. See SAFETY section 4 for why things are as they are.
 */
#include "base/clock.h"
#include "base/error.h"
#include "hv/connection_private.h"
#include "hv/domain_xml.h"
#include "hv/libvirt_private.h"
#include <libvirt/libvirt-qemu.h>
#include <libvirt/virterror.h>
#include <string.h>

/* What a guest may make us hold in memory; libvirt's own limit is of this size. */
#define MAX_AGENT_REPLY (4 * 1024 * 1024)

/* How much longer than the agent libvirt may take: it first waits 5 s for the agent to synchronise. */
#define AGENT_GRACE_S 8

/* How long we wait to hear of a guest-shutdown that fails; libvirt waits up to 60 s for one that works. */
#define AGENT_SHUTDOWN_MS (8 * 1000)

static gboolean run(VrHv *hv, VrCall *call, const char *what, GError **error)
{
    VrConnection *self = (VrConnection *)hv;

    return vr_connection_call(self, call, what, self->call_timeout_ms, VR_OVERRUN_DROP, error);
}

/* -- Look-up and state ---------------------------------------------------------------------------- */

virDomainPtr vr_libvirt_domain(VrCall *call, GError **error)
{
    virDomainPtr domain = virDomainLookupByUUIDString(call->conn, call->subject);

    if (domain == NULL)
        vr_libvirt_error(call, error);
    return domain;
}

static virDomainPtr by_name_or_uuid(VrCall *call)
{
    virDomainPtr domain = virDomainLookupByName(call->conn, call->subject);

    if (domain != NULL || virGetLastErrorCode() != VIR_ERR_NO_DOMAIN || !g_uuid_string_is_valid(call->subject))
        return domain;
    return virDomainLookupByUUIDString(call->conn, call->subject);
}

static gboolean do_lookup(VrCall *call, GError **error)
{
    g_autoptr(virDomain) domain = by_name_or_uuid(call);

    if (domain == NULL || virDomainGetUUIDString(domain, call->info.uuid) < 0)
        return vr_libvirt_error(call, error);
    return TRUE;
}

/* why is taken. */
static void set_lookup_error(VrHv *hv, const char *name, GError *why, GError **error)
{
    const char *uri = ((VrConnection *)hv)->uri, *cause = vr_error_part(why, VR_ERROR_CAUSE);

    if (!g_error_matches(why, VR_ERROR, VR_ERROR_NOT_FOUND)) {
        g_propagate_prefixed_error(error, why, "domain '%s': ", name);
        return;
    }
    g_set_error(error, VR_ERROR, VR_ERROR_NOT_FOUND, "there is no domain '%s'", name);
    vr_error_cause(error, "%s", cause ? cause : "");
    vr_error_next(error, "'virsh%s%s list --all' shows the domains", uri ? " -c " : "", uri ? uri : "");
    g_error_free(why);
}

static gboolean op_lookup(VrHv *hv, const char *name_or_uuid, char uuid[VR_UUID_LENGTH + 1], GError **error)
{
    g_autoptr(VrCall) call = vr_call_new(do_lookup, name_or_uuid);
    g_autoptr(GError) local = NULL;

    if (name_or_uuid[0] == '\0') {
        g_set_error_literal(error, VR_ERROR, VR_ERROR_NOT_FOUND, "a domain without a name");
        return FALSE;
    }
    if (!run(hv, call, "look-up", &local)) {
        set_lookup_error(hv, name_or_uuid, g_steal_pointer(&local), error);
        return FALSE;
    }
    g_strlcpy(uuid, call->info.uuid, VR_UUID_LENGTH + 1);
    return TRUE;
}

static gboolean op_info(VrHv *hv, const char *uuid, VrDomainInfo *info, GError **error)
{
    g_autoptr(VrCall) call = vr_call_new(vr_libvirt_do_info, uuid);

    vr_watch_mark_seen(((VrConnection *)hv)->watch, uuid);
    if (!run(hv, call, "state", error))
        return FALSE;
    *info = call->info;
    memset(&call->info, 0, sizeof call->info);
    return TRUE;
}

/* Whoever wants to know only its state does not wait for somebody's lock. */
static gboolean op_job(VrHv *hv, const char *uuid, char **job, GError **error)
{
    g_autoptr(VrCall) call = vr_call_new(vr_libvirt_do_job, uuid);

    if (!run(hv, call, "its jobs", error))
        return FALSE;
    *job = g_steal_pointer(&call->string);
    return TRUE;
}

static void op_wait_change(VrHv *hv, const char *uuid, gint64 deadline_ms)
{
    vr_watch_wait(((VrConnection *)hv)->watch, uuid, deadline_ms);
}

/* -- XML ------------------------------------------------------------------------------------------ */

static gboolean do_xml(VrCall *call, GError **error)
{
    g_autoptr(virDomain) domain = vr_libvirt_domain(call, error);

    if (domain == NULL)
        return FALSE;
    if (!(call->number & VIR_DOMAIN_XML_INACTIVE) && virDomainIsActive(domain) == 0) {
        g_set_error(error, VR_ERROR, VR_ERROR_HYPERVISOR, "domain %s is not running", virDomainGetName(domain));
        return FALSE;
    }
    char *xml = virDomainGetXMLDesc(domain, (guint)call->number);
    if (xml == NULL)
        return vr_libvirt_error(call, error);
    call->string = g_strdup(xml);
    free(xml);
    return TRUE;
}

static char *get_xml(VrHv *hv, const char *uuid, int flags, GError **error)
{
    g_autoptr(VrCall) call = vr_call_new(do_xml, uuid);

    call->number = flags;
    return run(hv, call, "domain XML", error) ? g_steal_pointer(&call->string) : NULL;
}

static char *op_inactive_xml(VrHv *hv, const char *uuid, GError **error)
{
    return get_xml(hv, uuid, VIR_DOMAIN_XML_INACTIVE | VIR_DOMAIN_XML_SECURE, error);
}

static char *op_public_xml(VrHv *hv, const char *uuid, GError **error)
{
    return get_xml(hv, uuid, VIR_DOMAIN_XML_INACTIVE, error);
}

static char *op_live_xml(VrHv *hv, const char *uuid, GError **error)
{
    return get_xml(hv, uuid, VIR_DOMAIN_XML_SECURE, error);
}

/* libvirt would define a second domain under another UUID without a word. */
static gboolean xml_is_of(const char *xml, const char *uuid, GError **error)
{
    g_autoptr(VrDomainDef) def = vr_domain_def_parse(xml, error);

    if (def == NULL)
        return FALSE;
    if (def->uuid != NULL && g_ascii_strcasecmp(def->uuid, uuid) == 0)
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_INVALID, "the XML is of domain %s, not of %s",
                def->uuid != NULL ? def->uuid : "(no UUID)", uuid);
    return FALSE;
}

static gboolean do_define(VrCall *call, GError **error)
{
    char uuid[VIR_UUID_STRING_BUFLEN];
    g_autoptr(virDomain) domain = virDomainDefineXMLFlags(call->conn, call->text, VIR_DOMAIN_DEFINE_VALIDATE);

    if (domain == NULL || virDomainGetUUIDString(domain, uuid) < 0)
        return vr_libvirt_error(call, error);
    if (g_ascii_strcasecmp(uuid, call->subject) != 0) {
        g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "libvirt defined %s, not %s", uuid, call->subject);
        return FALSE;
    }
    return vr_libvirt_flush_config(call->conn, error);
}

static gboolean op_define(VrHv *hv, const char *uuid, const char *xml, GError **error)
{
    g_autoptr(VrCall) call = vr_call_new(do_define, uuid);

    if (!xml_is_of(xml, uuid, error))
        return FALSE;
    call->text = g_strdup(xml);
    return run(hv, call, "define", error);
}

/* -- Power ---------------------------------------------------------------------------------------- */

/* A managed save would resume on the old disk (SAFETY 4.1). It is asked right before the start; nothing can
 * close the gap between the two, so the caller compares the live disk afterwards. */
static gboolean do_start(VrCall *call, GError **error)
{
    g_autoptr(virDomain) domain = vr_libvirt_domain(call, error);

    if (domain == NULL)
        return FALSE;
    int saved = virDomainHasManagedSaveImage(domain, 0);
    if (saved < 0)
        return vr_libvirt_error(call, error);
    if (saved > 0) {
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "%s has a managed save and would resume on its old disk",
                    virDomainGetName(domain));
        vr_error_next(error, "'virsh managedsave-remove %s' drops it", call->subject);
        return FALSE;
    }
    return virDomainCreateWithFlags(domain, 0) == 0 || vr_libvirt_error(call, error);
}

static gboolean op_start(VrHv *hv, const char *uuid, GError **error)
{
    g_autoptr(VrCall) call = vr_call_new(do_start, uuid);

    return run(hv, call, "start", error);
}

static gboolean do_destroy(VrCall *call, GError **error)
{
    g_autoptr(virDomain) domain = vr_libvirt_domain(call, error);

    if (domain == NULL)
        return FALSE;
    return virDomainDestroyFlags(domain, 0) == 0 || vr_libvirt_error(call, error);
}

static gboolean op_destroy(VrHv *hv, const char *uuid, GError **error)
{
    g_autoptr(VrCall) call = vr_call_new(do_destroy, uuid);

    return run(hv, call, "destroy", error);
}

/* libvirt tells of the agent in many codes: ARGUMENT_UNSUPPORTED "not configured", AGENT_UNRESPONSIVE "not connected",
 * INTERNAL_ERROR for what the agent itself refused. Only a domain that is off is another matter. */
static gboolean agent_error(VrCall *call, GError **error)
{
    g_autoptr(GError) local = NULL;
    gboolean is_off = virGetLastErrorCode() == VIR_ERR_OPERATION_INVALID;

    vr_libvirt_error(call, &local);
    if (local->code == VR_ERROR_HYPERVISOR && !is_off)
        local->code = VR_ERROR_AGENT;
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

static gboolean do_shutdown(VrCall *call, GError **error)
{
    g_autoptr(virDomain) domain = vr_libvirt_domain(call, error);

    if (domain == NULL)
        return FALSE;
    if (virDomainShutdownFlags(domain, (guint)call->number) == 0)
        return TRUE;
    return call->number == VIR_DOMAIN_SHUTDOWN_GUEST_AGENT ? agent_error(call, error) : vr_libvirt_error(call, error);
}

/* With the agent, libvirt's call lasts until the guest is off, or 60 s. It is a request to our callers: an agent that
 * is not there says so within 5 s, and after that we leave libvirt waiting by itself. */
static gboolean op_shutdown(VrHv *hv, const char *uuid, VrShutdownMode mode, GError **error)
{
    g_autoptr(VrCall) call = vr_call_new(do_shutdown, uuid);
    g_autoptr(GError) local = NULL;

    if (mode == VR_SHUTDOWN_ACPI) {
        call->number = VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN;
        return run(hv, call, "ACPI shutdown", error);
    }
    call->number = VIR_DOMAIN_SHUTDOWN_GUEST_AGENT;
    if (vr_connection_call((VrConnection *)hv, call, "agent shutdown", AGENT_SHUTDOWN_MS, VR_OVERRUN_DETACH, &local) ||
        g_error_matches(local, VR_ERROR, VR_ERROR_TIMEOUT))
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

/* -- Agent ---------------------------------------------------------------------------------------- */

static gboolean do_agent(VrCall *call, GError **error)
{
    g_autoptr(virDomain) domain = vr_libvirt_domain(call, error);

    if (domain == NULL)
        return FALSE;
    char *reply = virDomainQemuAgentCommand(domain, call->text, call->number, 0);
    if (reply == NULL)
        return agent_error(call, error);
    if (strnlen(reply, MAX_AGENT_REPLY) < MAX_AGENT_REPLY)
        call->string = g_strdup(reply);
    else
        g_set_error_literal(error, VR_ERROR, VR_ERROR_AGENT, "the guest agent's answer is too large");
    free(reply);
    return call->string != NULL;
}

static char *op_agent(VrHv *hv, const char *uuid, const char *command, int timeout_s, GError **error)
{
    g_autoptr(VrCall) call = vr_call_new(do_agent, uuid);
    g_autoptr(GError) local = NULL;

    call->text = g_strdup(command);
    call->number = CLAMP(timeout_s, 1, 3600);
    gint64 patience_ms = (gint64)(call->number + AGENT_GRACE_S) * 1000;
    /* Commands to one agent queue up in libvirt: over time is no sign of a dead connection. */
    if (vr_connection_call((VrConnection *)hv, call, "guest agent", patience_ms, VR_OVERRUN_DETACH, &local))
        return g_steal_pointer(&call->string);
    if (g_error_matches(local, VR_ERROR, VR_ERROR_TIMEOUT))
        local->code = VR_ERROR_AGENT;
    g_propagate_error(error, g_steal_pointer(&local));
    return NULL;
}

static void op_close(VrHv *hv)
{
    vr_connection_close((VrConnection *)hv);
}

const VrHvOps vr_libvirt_ops = {
    .list = vr_libvirt_op_list,
    .lookup = op_lookup,
    .info = op_info,
    .job = op_job,
    .inactive_xml = op_inactive_xml,
    .live_xml = op_live_xml,
    .public_xml = op_public_xml,
    .kept_xml = vr_libvirt_op_kept_xml,
    .define = op_define,
    .start = op_start,
    .shutdown = op_shutdown,
    .destroy = op_destroy,
    .wait_change = op_wait_change,
    .agent = op_agent,
    .leases = vr_libvirt_op_leases,
    .nvram = vr_libvirt_op_nvram,
    .block_pull = vr_libvirt_op_block_pull,
    .block_job = vr_libvirt_op_block_job,
    .drop_live_record = vr_libvirt_op_drop_live_record,
    .console = vr_libvirt_op_console,
    .close = op_close,
};
