/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/health_where.h"

#include "base/error.h"
#include "hv/domain_xml.h"
#include "hv/guest_agent.h"
#include "orchestrator/address.h"
#include "orchestrator/neighbour.h"

#define AGENT_PING_S 3

static VrDomainDef *running_domain(VrHv *hv, const char *uuid)
{
    g_autofree char *xml = vr_hv_live_xml(hv, uuid, NULL);

    return xml ? vr_domain_def_parse(xml, NULL) : NULL;
}

static gboolean has_mac(const VrDomainDef *def, const char *mac)
{
    for (guint i = 0; i < def->macs->len; i++)
        if (g_ascii_strcasecmp(g_ptr_array_index(def->macs, i), mac) == 0)
            return TRUE;
    return FALSE;
}

static gboolean is_link_local(const char *ip)
{
    return g_str_has_prefix(ip, "169.254.") || g_ascii_strncasecmp(ip, "fe80:", 5) == 0;
}

/* On a network card that libvirt gave it: not its loopback, nor a bridge of containers inside. IPv4 first. */
static char *from_agent(VrHv *hv, const char *uuid, gint64 deadline_ms)
{
    g_autoptr(VrDomainDef) def = running_domain(hv, uuid);
    g_autoptr(GPtrArray) addresses = NULL;
    const VrGuestAddress *best = NULL;

    if (def && def->agent_channel && vr_agent_ping(hv, uuid, AGENT_PING_S, NULL))
        addresses = vr_agent_addresses(hv, uuid, deadline_ms, NULL);
    for (guint i = 0; addresses && i < addresses->len; i++) {
        const VrGuestAddress *address = g_ptr_array_index(addresses, i);
        if (!has_mac(def, address->mac) || is_link_local(address->ip))
            continue;
        if (!best || (best->v6 && !address->v6))
            best = address;
    }
    return best ? g_strdup(best->ip) : NULL;
}

static char *from_lease(VrHv *hv, const char *uuid)
{
    g_autoptr(GPtrArray) leases = vr_hv_leases(hv, uuid, NULL);

    return leases && leases->len > 0 ? g_strdup(g_ptr_array_index(leases, leases->len - 1)) : NULL;
}

gboolean vr_health_where(VrHv *hv, const char *uuid, const char *address, guint port, gint64 deadline_ms, char **host,
                         guint *found_port, GError **error)
{
    guint own_port = 0;

    *host = NULL;
    if (address)
        vr_address_parse(address, host, &own_port); /* the model has checked it */
    else
        *host = from_agent(hv, uuid, deadline_ms);
    if (!*host)
        *host = from_lease(hv, uuid);
    *found_port = own_port ? own_port : port;
    if (*host)
        return TRUE;
    g_set_error_literal(error, VR_ERROR, VR_ERROR_NOT_FOUND,
                        "its address is not known: neither its guest agent nor a DHCP lease of libvirt says one, and "
                        "the model gives the instance no 'address'");
    return FALSE;
}

gboolean vr_health_is_guest(VrHv *hv, const char *uuid, const char *peer, char other_mac[18])
{
    g_autoptr(VrDomainDef) def = NULL;

    if (!vr_neighbour_mac(peer, other_mac))
        return TRUE;
    def = running_domain(hv, uuid);
    return def && has_mac(def, other_mac);
}
