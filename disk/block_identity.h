/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which block device this is, in words that hold over a reboot of the host: its number and a name as /dev/sdb may then be another one's. */
#pragma once

#include <glib.h>
#include <sys/types.h>

#define VR_SYSFS "/sys"

/* "dm/uuid LVM-...", "wwid naa.5000c5...", "serial data-1", "loop /srv/a.img at 0"; of a partition that of its disk and its number. sysfs:
 * VR_SYSFS (tests have one of their own). NULL: the kernel knows nothing of the kind. Free with g_free. */
char *vr_block_identity(const char *sysfs, dev_t device);
