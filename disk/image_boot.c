/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "disk/image_boot_private.h"

#include "base/durable.h"
#include "base/fd.h"
#include "disk/little_endian.h"
#include "disk/store_private.h"

#include <string.h>

#define MBR 512
#define MBR_CODE 440
#define MBR_TABLE 446
#define MBR_ENTRY 16
#define MBR_TYPE 4 /* in an entry */
#define MBR_START 8
#define MBR_COUNT 12
#define MBR_SECTOR 512
#define MBR_ESP 0xef
#define GPT_HEADER 92
#define GPT_MIN_ENTRY 128
#define GPT_MAX_ENTRIES 512

static const char esp[] = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";
static const char bios_boot[] = "21686148-6449-6e6f-744e-656564454649";

static const struct {
    const char *guid, *arch;
} roots[] = {
    {"4f68bce3-e8cd-4db1-96e7-fbcaf984b709", "x86_64"},  {"44479540-f297-41b2-9af7-d131d5f0458a", "i686"},
    {"b921b045-1df0-41c3-af44-4c6f280d3fae", "aarch64"}, {"69dad710-2ce4-4e3c-b16c-21a1d49abed3", "armv7l"},
    {"c31c45e6-3f39-412e-80fb-4809c4980599", "ppc64le"}, {"912ade1d-a839-4913-8964-a10eee08fbd2", "ppc64"},
    {"72ec70a6-cf74-40e6-bd49-4bda08e8f224", "riscv64"}, {"5eead9a9-fe09-4a1e-a1d7-520d00531306", "s390x"},
};

const char *vr_image_arch(const char *name)
{
    static const char *const others[] = {"loongarch64"};
    for (gsize i = 0; i < G_N_ELEMENTS(roots); i++)
        if (g_strcmp0(name, roots[i].arch) == 0)
            return roots[i].arch;
    for (gsize i = 0; i < G_N_ELEMENTS(others); i++)
        if (g_strcmp0(name, others[i]) == 0)
            return others[i];
    return NULL;
}

/* ---- the tables ---- */

/* The first three fields are little-endian, the rest is in its order. */
static char *guid_text(const guint8 *p)
{
    return g_strdup_printf("%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", p[3], p[2], p[1],
                           p[0], p[5], p[4], p[7], p[6], p[8], p[9], p[10], p[11], p[12], p[13], p[14], p[15]);
}

/* In sectors. The first one counts; numbers that no disk has are as good as none. */
static void found_esp(VrImageBoot *boot, guint64 start, guint64 count, guint sector)
{
    boot->uefi = TRUE;
    if (boot->esp_size > 0 || start > G_MAXINT64 / sector || count > G_MAXINT64 / sector)
        return;
    boot->esp_at = start * sector;
    boot->esp_size = count * sector;
}

static void look_at_entry(const guint8 *entry, guint sector, VrImageBoot *boot)
{
    g_autofree char *guid = guid_text(entry);
    guint64 first = vr_le64(entry + 32), last = vr_le64(entry + 40);
    if (strcmp(guid, esp) == 0)
        found_esp(boot, first, last >= first && last < G_MAXINT64 ? last - first + 1 : 0, sector);
    boot->bios |= strcmp(guid, bios_boot) == 0;
    for (gsize i = 0; i < G_N_ELEMENTS(roots); i++)
        if (strcmp(guid, roots[i].guid) == 0)
            boot->arch = roots[i].arch;
}

/* A header in the second sector of this size; FALSE: there is none. */
static gboolean decode_gpt(const guint8 *bytes, gsize length, guint sector, VrImageBoot *boot)
{
    const guint8 *header = bytes + sector;
    if (length < (gsize)sector + GPT_HEADER || memcmp(header, "EFI PART", 8) != 0)
        return FALSE;
    boot->sector = sector;
    guint64 at = vr_le64(header + 72);
    guint32 count = MIN(vr_le32(header + 80), GPT_MAX_ENTRIES);
    guint32 each = vr_le32(header + 84);
    if (at > length / sector || each < GPT_MIN_ENTRY || each > length)
        return TRUE;
    at *= sector;
    for (guint32 i = 0; i < count && at + each <= length; i++, at += each)
        look_at_entry(bytes + at, sector, boot);
    return TRUE;
}

static void decode_mbr(const guint8 *bytes, VrImageBoot *boot)
{
    if (bytes[MBR - 2] != 0x55 || bytes[MBR - 1] != 0xaa)
        return;
    for (gsize i = 0; i < MBR_CODE; i++)
        boot->bios |= bytes[i] != 0;
    for (const guint8 *entry = bytes + MBR_TABLE; entry < bytes + MBR - 2; entry += MBR_ENTRY)
        if (entry[MBR_TYPE] == MBR_ESP)
            found_esp(boot, vr_le32(entry + MBR_START), vr_le32(entry + MBR_COUNT), MBR_SECTOR);
}

void vr_image_boot_decode(const guint8 *bytes, gsize length, VrImageBoot *boot)
{
    static const guint sectors[] = {512, 4096};
    gboolean found = FALSE;

    *boot = (VrImageBoot){0};
    if (length >= MBR)
        decode_mbr(bytes, boot);
    for (gsize i = 0; i < G_N_ELEMENTS(sectors) && !found; i++)
        found = decode_gpt(bytes, length, sectors[i], boot);
}

/* ---- of a version ---- */

gboolean vr_image_map_read(VrMap *map, guint64 at, guint8 *bytes, gsize length, GError **error)
{
    VrExtent extent;
    for (gsize done = 0; done < length; done += MIN(extent.length, length - done)) {
        gsize got;
        if (!vr_map_find(map, at + done, &extent, error))
            return FALSE;
        if (extent.kind == VR_EXTENT_DATA && !extent.packing &&
            !vr_pread_all(extent.fd, bytes + done, MIN(extent.length, length - done), extent.offset, &got, error))
            return FALSE;
    }
    return TRUE;
}

gboolean vr_image_boot_look(int fd, VrImageFormat format, VrImageBoot *boot, GError **error)
{
    g_autofree guint8 *bytes = g_malloc0(VR_IMAGE_BOOT_BYTES);
    const VrConvertLink link = {fd, format};
    const VrCopyJob job = {0};
    g_autoptr(VrMap) map = vr_map_new(&link, 1, &job, error);

    if (!map)
        return FALSE;
    gsize length = (gsize)MIN(vr_map_size(map), VR_IMAGE_BOOT_BYTES);
    if (!vr_image_map_read(map, 0, bytes, length, error))
        return FALSE;
    vr_image_boot_decode(bytes, length, boot);
    return TRUE;
}

gboolean vr_image_boot_read(VrStore *store, const VrImage *image, VrImageBoot *boot, GError **error)
{
    if (image->boot_recorded) {
        *boot = image->boot;
        return TRUE;
    }
    vr_autofd fd = vr_image_open_disk(store, image, error);
    return fd >= 0 && vr_image_boot_look(fd, image->format, boot, error);
}
