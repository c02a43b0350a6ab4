/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "disk/image_boot_private.h"

#include <string.h>

json_t *vr_image_boot_to_json(const VrImageBoot *boot)
{
    json_t *loaders = boot->loaders_known ? json_array() : json_null();

    for (guint i = 0; i < boot->n_loaders; i++)
        json_array_append_new(
            loaders, json_pack("{s:s, s:s?}", "path", boot->loaders[i].path, "architecture", boot->loaders[i].arch));
    return json_pack("{s:b, s:b, s:s?, s:o, s:o}", "bios", boot->bios, "uefi", boot->uefi, "architecture", boot->arch,
                     "sectorSize", boot->sector ? json_integer((json_int_t)boot->sector) : json_null(),
                     "fallbackLoaders", loaders);
}

static gboolean is_text_or_null(const json_t *json)
{
    return json_is_string(json) || json_is_null(json);
}

static gboolean get_loader(const json_t *json, VrImageBoot *boot)
{
    const char *path = json_string_value(json_object_get(json, "path"));
    const json_t *arch = json_object_get(json, "architecture");

    if (!path || !is_text_or_null(arch))
        return FALSE;
    vr_image_boot_add_loader(boot, path, vr_image_arch(json_string_value(arch)));
    return TRUE;
}

static gboolean get_loaders(const json_t *json, VrImageBoot *boot)
{
    boot->loaders_known = json_is_array(json);
    for (gsize i = 0; i < json_array_size(json); i++)
        if (!get_loader(json_array_get(json, i), boot))
            return FALSE;
    return boot->loaders_known || json_is_null(json);
}

gboolean vr_image_boot_from_json(const json_t *json, VrImageBoot *boot)
{
    const json_t *bios = json_object_get(json, "bios"), *uefi = json_object_get(json, "uefi");
    const json_t *arch = json_object_get(json, "architecture"), *sector = json_object_get(json, "sectorSize");

    *boot = (VrImageBoot){0};
    if (!json_is_boolean(bios) || !json_is_boolean(uefi) || !is_text_or_null(arch) ||
        !(json_is_null(sector) || json_is_integer(sector)))
        return FALSE;
    json_int_t bytes = json_integer_value(sector);
    if (bytes < 0 || bytes > G_MAXUINT16)
        return FALSE;
    boot->bios = json_is_true(bios);
    boot->uefi = json_is_true(uefi);
    boot->arch = vr_image_arch(json_string_value(arch));
    boot->sector = (guint)bytes;
    return get_loaders(json_object_get(json, "fallbackLoaders"), boot);
}
