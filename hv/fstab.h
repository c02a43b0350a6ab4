/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a guest's /etc/fstab names by device: such names follow the order in which a system finds its disks, and another system may
 * find them in another order (B11). */
#pragma once

#include "hv/hv.h"

/* Lines of fstab(5) whose source is /dev/sd*, hd*, vd*, xvd* or nvme*, as "/dev/vdb1 on /srv": a few, and how many more there are. NULL:
 * none. Pure; any bytes are fine. Free with g_free. */
char *vr_fstab_devices(const char *text, gsize length);

/* The same of a running guest, through its agent: at most 64 KiB, for about timeout_s. NULL without an error: there is none. */
char *vr_agent_fstab_devices(VrHv *hv, const char *uuid, int timeout_s, GError **error);
