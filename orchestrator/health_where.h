/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where the application of a guest is asked over a network, and whether it was this guest that answered. */
#pragma once

#include "hv/hv.h"

/* From the instance's address in the model (HOST or HOST:PORT), else from the guest agent, else from libvirt's DHCP leases. port:
 * where the address names none. VR_ERROR_NOT_FOUND when nobody knows it. *host is freed with g_free. */
gboolean vr_health_where(VrHv *hv, const char *uuid, const char *address, guint port, gint64 deadline_ms, char **host,
                         guint *found_port, GError **error);

/* FALSE when the address that answered is a neighbour with a MAC that no network card of the guest has: another machine took the
 * address (invariant 26, FEATURES decision 13). *other_mac is then that MAC. Behind a router or a forward nothing is known: TRUE. */
gboolean vr_health_is_guest(VrHv *hv, const char *uuid, const char *peer, char other_mac[18]);
