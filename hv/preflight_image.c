/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Findings about what the new image meets: firmware, architecture, the OS disk's blocks (B22). */
#include "hv/preflight_private.h"

#include <string.h>

#define DEFAULT_BLOCK 512

void vr_preflight_firmware(VrPreflightCheck *check)
{
    if (check->def->nvram_foreign != NULL)
        vr_preflight_add(
            check, "uefi-nvram",
            g_strdup_printf("%s boots by UEFI, and its NVRAM has what no generation can have a copy of: %s",
                            check->name, check->def->nvram_foreign),
            g_strdup_printf("virsh edit %s: give it <nvram> as a plain file, or leave the guest out of the set",
                            check->typed));
    if (check->facts->nvram != NULL)
        vr_preflight_add(
            check, "nvram-unreadable",
            g_strdup_printf("%s cannot give its boot entries and keys to a new generation: %s", check->name,
                            check->facts->nvram),
            g_strdup_printf("put the file back as a plain one, or name another in <nvram> with 'virsh edit %s'",
                            check->typed));
    if (check->def->tpm)
        vr_preflight_add(
            check, "tpm",
            g_strdup_printf("%s has a TPM: what the old system sealed in it the new one cannot open", check->name),
            g_strdup("make sure that the new image does not depend on it"));
    if (check->def->secure_boot)
        vr_preflight_add(
            check, "secure-boot",
            g_strdup_printf("%s has Secure Boot on: what is not signed by a key that its NVRAM trusts does not boot",
                            check->name),
            g_strdup("make sure that the new image is signed"));
}

/* Both run what the other one's BIOS starts. */
static gboolean is_pc(const char *arch)
{
    return strcmp(arch, "x86_64") == 0 || strcmp(arch, "i686") == 0;
}

static void check_architecture(VrPreflightCheck *check, const VrPreflightImage *image)
{
    const char *has = check->def->arch;

    if (image->arch == NULL || has == NULL || strcmp(image->arch, has) == 0 || (is_pc(image->arch) && is_pc(has)))
        return;
    vr_preflight_add(check, "image-architecture",
                     g_strdup_printf("%s is a guest of %s, and %s %s is made for %s", check->name, has, image->name,
                                     image->version, image->arch),
                     g_strdup("name a version that is made for it"));
}

/* Only x86 has a BIOS; elsewhere what boots is not known to us. */
static void check_boot(VrPreflightCheck *check, const VrPreflightImage *image)
{
    gboolean uefi = check->def->uefi;
    const char *needs = image->uefi ? "UEFI" : "a BIOS";

    if (check->def->kernel != NULL || check->def->arch == NULL || !is_pc(check->def->arch))
        return;
    if (!image->bios && !image->uefi)
        vr_preflight_add(check, "image-not-bootable",
                         g_strdup_printf("%s: %s %s has neither boot code nor an EFI system partition: it may be empty",
                                         check->name, image->name, image->version),
                         g_strdup("look at what was published: image-info, image-check"));
    else if (uefi ? !image->uefi : !image->bios)
        vr_preflight_add(check, "image-firmware",
                         g_strdup_printf("%s boots by %s, and %s %s boots only by %s", check->name,
                                         uefi ? "UEFI" : "BIOS", image->name, image->version, needs),
                         g_strdup("name a version that is made for it"));
}

/* A boot entry names a partition by its GUID, so one that the old system made starts a new image only when that has the same. */
static void check_fallback(VrPreflightCheck *check, const VrPreflightImage *image)
{
    if (!check->def->uefi || check->def->kernel != NULL || !image->uefi || !image->no_loader || image->loader == NULL)
        return;
    vr_preflight_add(
        check, "image-no-fallback-loader",
        g_strdup_printf(
            "%s boots by UEFI, and the EFI system partition of %s %s has no %s for %s: with a fresh NVRAM it does "
            "not boot; with the guest's own NVRAM only if a boot entry in it fits the new disk",
            check->name, image->name, image->version, image->loader, check->def->arch),
        g_strdup("name a version with a loader in that place (grub-install --removable, bootctl install)"));
}

static void check_block_size(VrPreflightCheck *check, const VrPreflightImage *image)
{
    const VrDomainDisk *os = vr_domain_def_os_disk(check->def, check->needs->os_target, NULL);
    guint block = os != NULL && os->logical_block_size > 0 ? os->logical_block_size : DEFAULT_BLOCK;

    if (os == NULL || image->sector == 0 || image->sector == block)
        return;
    vr_preflight_add(
        check, "image-block-size",
        g_strdup_printf("%s: its OS disk %s has blocks of %u bytes, and the partition table of %s %s counts in %u",
                        check->name, os->target, block, image->name, image->version, image->sector),
        g_strdup_printf("virsh edit %s: <blockio logical_block_size='%u'/>, or name another version", check->typed,
                        image->sector));
}

void vr_preflight_image(VrPreflightCheck *check)
{
    const VrPreflightImage *image = &check->facts->image;

    if (!image->known)
        return;
    check_architecture(check, image);
    check_boot(check, image);
    check_fallback(check, image);
    check_block_size(check, image);
}
