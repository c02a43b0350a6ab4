/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where a guest is reached over a network, as a model writes it: "web-0.lan", "10.0.0.7:8080", "[fd00::7]:8080". */
#pragma once

#include <glib.h>

/* NULL when the text is HOST or HOST:PORT, else what it must be ("must be ..."). The outs may be NULL; *host is without brackets and
 * freed with g_free, *port is 0 where the text names none. */
const char *vr_address_parse(const char *text, char **host, guint *port);

/* TRUE for a host that is this machine itself by its spelling (127.0.0.0/8, ::1, localhost): who answers there is a forward. */
gboolean vr_address_is_loopback(const char *host);
