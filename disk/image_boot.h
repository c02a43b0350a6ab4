/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What an image says of how it boots. In its first sectors: boot code, partition table, types of partitions (UEFI specification
 * 2.10, section 5; type GUIDs of the Discoverable Partitions Specification). In its EFI system partition: the loaders that
 * firmware starts without a boot entry (the same, section 3.5.1.1). What it does not say stays unknown.
 */
#pragma once

#include "disk/image_check.h"
#include <jansson.h>

#define VR_IMAGE_MAX_LOADERS 6

/* \EFI\BOOT\BOOT*.EFI */
typedef struct {
    const char *path;
    const char *arch; /* by its PE header, as libvirt spells it; NULL: it is no loader that we know */
} VrImageLoader;

typedef struct {
    gboolean bios;    /* boot code with its signature, or a BIOS boot partition */
    gboolean uefi;    /* an EFI system partition */
    const char *arch; /* of the root partition, else of all loaders, as libvirt spells it; NULL: not said */
    guint sector;     /* that its GPT counts in; 0: it has none */

    gboolean loaders_known; /* the file system of the EFI system partition could be read */
    guint n_loaders;
    VrImageLoader loaders[VR_IMAGE_MAX_LOADERS];

    guint64 esp_at, esp_size; /* bytes: the first EFI system partition, as its table says; not recorded */
} VrImageBoot;

#define VR_IMAGE_BOOT_BYTES (64u << 10) /* so much of a disk is looked at, from its begin */

/* Pure. Any bytes are fine, fewer too. Says nothing of loaders. */
void vr_image_boot_decode(const guint8 *bytes, gsize length, VrImageBoot *boot);

/* Of an open disk that passed the image check; all but the loaders. */
gboolean vr_image_boot_look(int fd, VrImageFormat format, VrImageBoot *boot, GError **error);

typedef struct {
    int fd; /* the disk, checked */
    VrImageFormat format;
    int tmp_fd;            /* a directory that is thrown away: the partition is copied there, without its holes */
    guint64 max_bytes;     /* that may be copied */
    const gint *cancelled; /* NULL, or set by another thread */
} VrImageEsp;

/* Finds the loaders, and by them the architecture where the partition table does not say it. mtools reads the partition, as nobody when
 * we are root, with limits. FALSE with an error: the loaders stay unknown. */
gboolean vr_image_boot_loaders(const VrImageEsp *esp, VrImageBoot *boot, GError **error);

/* The name that the firmware of a guest of this architecture looks for, "\EFI\BOOT\BOOTX64.EFI"; NULL: not known. */
const char *vr_image_loader_path(const char *arch);

/* As in image.json and image-info. The reference is the caller's. */
json_t *vr_image_boot_to_json(const VrImageBoot *boot);

/* Names that are not known are left out. FALSE: it is not of this form. */
gboolean vr_image_boot_from_json(const json_t *json, VrImageBoot *boot);
