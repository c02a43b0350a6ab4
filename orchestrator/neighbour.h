/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* This host's table of neighbours: which MAC it sends to for an IP address (ARP, NDP). */
#pragma once

#include <glib.h>

/* TRUE and the MAC ("52:54:00:12:34:56") when the kernel knows a neighbour with that address; FALSE: it is routed, local, or the
 * table cannot be read. */
gboolean vr_neighbour_mac(const char *ip, char mac[18]);
