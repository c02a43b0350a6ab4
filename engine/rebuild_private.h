/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Between rebuild.c (instances) and rebuild_disk.c (one generation from its files). */
#pragma once

#include "engine/rebuild.h"
#include "hv/domain_xml.h"

/* gN.xml of the instance whose directory is open; NULL when it cannot be read. Free with g_free. */
char *vr_rebuild_read_xml(int dir_fd, guint number);

/* Generation `number` >= 1 from its files: CURRENT or KEPT, else FAILED or DISCARDED with a line in found->said that says why. */
VrGeneration *vr_rebuild_made(VrStore *store, VrFoundInstance *found, int dir_fd, guint number, gboolean has_disk,
                              gboolean is_current);
