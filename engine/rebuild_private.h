/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Between rebuild.c (instances), rebuild_disk.c (one generation from its files), rebuild_nvram.c (its NVRAM) and rebuild_seed.c (its
 * seed). */
#pragma once

#include "engine/rebuild.h"
#include "hv/domain_xml.h"

#include <sys/stat.h>

/* What is looked at of one instance. */
typedef struct {
    VrStore *store;
    VrHv *hv;
    VrFoundInstance *found;
    int dir_fd;        /* of its disks; -1: it has none here */
    char *xml, *live;  /* of the domain; live NULL: it is off */
    char *target;      /* of the OS disk; NULL: not known */
    char *path;        /* of the disk that the domain names there */
    GArray *numbers;   /* guint, of the files gN.*, sorted */
    GHashTable *disks; /* numbers that have a disk */
} VrRebuildLook;

/* gN.xml of the instance whose directory is open; NULL when it cannot be read. Free with g_free. */
char *vr_rebuild_read_xml(int dir_fd, guint number);

/* Generation `number` >= 1 from its files: CURRENT or KEPT, else FAILED or DISCARDED with a line in found->said that says why. */
VrGeneration *vr_rebuild_made(const VrRebuildLook *look, guint number);

/* Of a file that rests: owner and mode. QEMU's user has that which runs. VR_ERROR_CONFLICT. */
gboolean vr_rebuild_check_rest(const struct stat *st, GError **error);

/* Its NVRAM: path and identity, as a swap records them (engine/swap_nvram.c). kept_xml: its gN.xml; of the current one the domain says it.
 * VR_ERROR_CONFLICT: it is that of another generation, or not as we leave it; VR_ERROR_NOT_FOUND, VR_ERROR_REFUSED: there is none to
 * go back to. The current one may have none yet, or one
 * that cannot be told: the next swap asks again. */
gboolean vr_rebuild_nvram(const VrRebuildLook *look, VrGeneration *generation, const char *kept_xml, GError **error);

/* Its seed likewise, of a generation of our making (engine/swap_seed.c). VR_ERROR_CONFLICT: the domain's, or that of the kept XML, is another
 * generation's or not as we leave it; VR_ERROR_NOT_FOUND: it is gone. */
gboolean vr_rebuild_seed(const VrRebuildLook *look, VrGeneration *generation, const char *kept_xml, GError **error);
