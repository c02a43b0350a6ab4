/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Between the parts that read how an image boots; not for others. */
#pragma once

#include "disk/convert_private.h"
#include "disk/image_boot.h"

/* ---- image_boot.c ---- */

/* Our own copy of the name of an architecture; NULL: it is NULL, or not known. */
const char *vr_image_arch(const char *name);

/* Copies what the map has in [at, at + length) into the same place of `bytes`, which are zeros; what is packed is not unpacked for
 * this, and a stored disk has none of it. */
gboolean vr_image_map_read(VrMap *map, guint64 at, guint8 *bytes, gsize length, GError **error);

/* ---- image_esp.c ---- */

/* A file of that path, in any case of letters, when firmware looks for it; what is there already is not added again. arch: of its PE
 * header. */
void vr_image_boot_add_loader(VrImageBoot *boot, const char *path, const char *arch);
