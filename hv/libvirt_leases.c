/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the DHCP servers of libvirt's networks gave to a domain. */
#include "hv/connection_private.h"
#include "hv/libvirt_private.h"

static void add_card(VrCall *call, const virDomainInterface *card)
{
    for (guint i = 0; i < card->naddrs; i++)
        g_ptr_array_add(call->strings, g_strdup(card->addrs[i].addr));
}

/* libvirt writes a new lease at the end of its list, and keeps its order here. */
static gboolean do_leases(VrCall *call, GError **error)
{
    g_autoptr(virDomain) domain = vr_libvirt_domain(call, error);
    virDomainInterfacePtr *cards = NULL;
    int n;

    if (domain == NULL)
        return FALSE;
    n = virDomainInterfaceAddresses(domain, &cards, VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE, 0);
    if (n < 0)
        return vr_libvirt_error(call, error);
    g_clear_pointer(&call->strings, g_ptr_array_unref);
    call->strings = g_ptr_array_new_with_free_func(g_free);
    for (int i = 0; i < n; i++) {
        add_card(call, cards[i]);
        virDomainInterfaceFree(cards[i]);
    }
    free(cards);
    return TRUE;
}

GPtrArray *vr_libvirt_op_leases(VrHv *hv, const char *uuid, GError **error)
{
    VrConnection *self = (VrConnection *)hv;
    g_autoptr(VrCall) call = vr_call_new(do_leases, uuid);

    if (!vr_connection_call(self, call, "DHCP leases", self->call_timeout_ms, VR_OVERRUN_DROP, error))
        return NULL;
    return g_steal_pointer(&call->strings);
}
