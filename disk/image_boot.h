/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What an image says of how it boots, in its first sectors: boot code, partition table, types of partitions (UEFI specification
 * 2.10, section 5; type GUIDs of the Discoverable Partitions Specification). What it does not say stays unknown.
 */
#pragma once

#include "disk/store.h"

typedef struct {
    gboolean bios;    /* boot code with its signature, or a BIOS boot partition */
    gboolean uefi;    /* an EFI system partition */
    const char *arch; /* of the root partition, as libvirt spells it; NULL: not said */
    guint sector;     /* that its GPT counts in; 0: it has none */
} VrImageBoot;

#define VR_IMAGE_BOOT_BYTES (64u << 10) /* so much of a disk is looked at, from its begin */

/* Pure. Any bytes are fine, fewer too. */
void vr_image_boot_decode(const guint8 *bytes, gsize length, VrImageBoot *boot);

/* Of a stored version. */
gboolean vr_image_boot_read(VrStore *store, const VrImage *image, VrImageBoot *boot, GError **error);
