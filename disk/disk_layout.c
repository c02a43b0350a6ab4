/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Copies of one image have one identity, and an appliance assembles what it finds as it boots: of two members of one md array it would make one array
 * and write to both. So a disk is shared only when all of it is known to be plain, by its own first bytes and by those at its end where md has its
 * superblocks (md(4)); a guess would be a write to another disk. LVM's label lies in one of the first four sectors (pvck(8)), which ext4 leaves free.
 * Offsets of the file systems: kernel Documentation/filesystems/ext4/super.rst, fs/xfs/libxfs/xfs_format.h, mkswap(8), the FAT specification.
 */
#include "base/durable.h"
#include "base/fd.h"
#include "disk/backing.h"
#include "disk/convert_private.h"
#include "disk/little_endian.h"
#include "disk/personalize_private.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SECTOR 512
#define BEGIN (16u << 10) /* looked at, of each */
#define END (128u << 10)
#define MAX_PARTITIONS 128
#define MAX_LINKS 8
#define HEADER_BYTES 4096
#define MD_MAGIC 0xa92b4efcu

typedef struct {
    VrLayoutRead read;
    void *data;
    guint64 size;
} Disk;

static gboolean is_zero(const guint8 *bytes, gsize length)
{
    return bytes[0] == 0 && memcmp(bytes, bytes + 1, length - 1) == 0;
}

/* ---- a part of a disk ---- */

static gboolean has_lvm_label(const guint8 *begin)
{
    for (guint i = 0; i < 4; i++)
        if (memcmp(begin + i * SECTOR, "LABELONE", 8) == 0)
            return TRUE;
    return FALSE;
}

static gboolean is_known(const guint8 *begin)
{
    gboolean fat = begin[510] == 0x55 && begin[511] == 0xaa &&
                   (memcmp(begin + 54, "FAT1", 4) == 0 || memcmp(begin + 82, "FAT32", 5) == 0);
    gboolean ntfs = memcmp(begin + 3, "NTFS    ", 8) == 0;
    gboolean ext = begin[0x438] == 0x53 && begin[0x439] == 0xef;
    return ext || fat || ntfs || memcmp(begin, "XFSB", 4) == 0 || memcmp(begin + 4086, "SWAPSPACE2", 10) == 0;
}

/* md: version 1.1 at 0, 1.2 at 4096, 1.0 and 0.90 near the end, at a place that depends on the size. */
static gboolean has_md(const guint8 *begin, const guint8 *end, gsize length)
{
    if (vr_le32(begin) == MD_MAGIC || vr_le32(begin + 4096) == MD_MAGIC)
        return TRUE;
    for (gsize i = 0; i + 4 <= length; i += SECTOR)
        if (vr_le32(end + i) == MD_MAGIC)
            return TRUE;
    return FALSE;
}

static gboolean part_is_plain(const Disk *disk, guint64 at, guint64 size, gboolean boot_code)
{
    g_autofree guint8 *begin = g_malloc0(BEGIN), *end = g_malloc0(END);
    gsize length = (gsize)MIN(size, END);
    if (at > disk->size || size > disk->size - at || size < BEGIN)
        return boot_code && size < BEGIN && at <= disk->size && size <= disk->size - at;
    if (!disk->read(disk->data, at, begin, BEGIN) || !disk->read(disk->data, at + size - length, end, length))
        return FALSE;
    return !has_lvm_label(begin) && !has_md(begin, end, length) && (boot_code || is_known(begin));
}

/* ---- the tables ---- */

static gboolean gpt_is_plain(const Disk *disk, const guint8 *header)
{
    /* 21686148-6449-6e6f-744e-656564454649: code of GRUB, without a form of its own */
    static const guint8 bios_boot[] = {0x48, 0x61, 0x68, 0x21, 0x49, 0x64, 0x6f, 0x6e,
                                       0x74, 0x4e, 0x65, 0x65, 0x64, 0x45, 0x46, 0x49};
    /* e3c9e316-0b5c-4db8-817d-f92df00215ae: reserved by Windows, which has nothing in it but on dynamic disks; those have a partition of their own for that */
    static const guint8 reserved[] = {0x16, 0xe3, 0xc9, 0xe3, 0x5c, 0x0b, 0xb8, 0x4d,
                                      0x81, 0x7d, 0xf9, 0x2d, 0xf0, 0x02, 0x15, 0xae};
    guint64 at = vr_le64(header + 72);
    guint32 count = vr_le32(header + 80), each = vr_le32(header + 84);
    guint8 entry[128];

    if (count > MAX_PARTITIONS || each != sizeof entry || at > disk->size / SECTOR)
        return FALSE;
    for (guint32 i = 0; i < count; i++) {
        if (!disk->read(disk->data, at * SECTOR + (guint64)i * each, entry, sizeof entry))
            return FALSE;
        guint64 first = vr_le64(entry + 32), last = vr_le64(entry + 40);
        if (is_zero(entry, 16))
            continue;
        if (first > last || last >= disk->size / SECTOR ||
            !part_is_plain(disk, first * SECTOR, (last - first + 1) * SECTOR,
                           memcmp(entry, bios_boot, sizeof bios_boot) == 0 ||
                               memcmp(entry, reserved, sizeof reserved) == 0))
            return FALSE;
    }
    return TRUE;
}

static gboolean mbr_is_plain(const Disk *disk, const guint8 *sector)
{
    for (const guint8 *entry = sector + 446; entry < sector + 510; entry += 16) {
        guint64 first = vr_le32(entry + 8), count = vr_le32(entry + 12);
        if (entry[4] == 0)
            continue;
        if (entry[4] == 0x05 || entry[4] == 0x0f || entry[4] == 0x85 || entry[4] == 0xee ||
            entry[4] == 0x42 || /* a dynamic disk of Windows */
            !part_is_plain(disk, first * SECTOR, count * SECTOR, FALSE))
            return FALSE;
    }
    return TRUE;
}

static gboolean has_table(const guint8 *sector)
{
    if (sector[510] != 0x55 || sector[511] != 0xaa || memcmp(sector + 54, "FAT1", 4) == 0 ||
        memcmp(sector + 82, "FAT32", 5) == 0 || memcmp(sector + 3, "NTFS    ", 8) == 0)
        return FALSE;
    return !is_zero(sector + 446, 64);
}

gboolean vr_layout_is_plain(VrLayoutRead read, void *data, guint64 size)
{
    const Disk disk = {read, data, size};
    g_autofree guint8 *begin = g_malloc0(BEGIN), *end = g_malloc0(END);

    if (size < END || !read(data, 0, begin, BEGIN) || !read(data, size - END, end, END))
        return FALSE;
    if (memcmp(begin + SECTOR, "EFI PART", 8) != 0 && !has_table(begin))
        return part_is_plain(&disk, 0, size, FALSE);
    if (has_lvm_label(begin) || has_md(begin, end, END))
        return FALSE;
    return memcmp(begin + SECTOR, "EFI PART", 8) == 0 ? gpt_is_plain(&disk, begin + SECTOR)
                                                      : mbr_is_plain(&disk, begin);
}

/* ---- of a file ---- */

/* A few bytes of the disk, with packed clusters too: the copy engine brings them into a file without a name. */
static gboolean read_map(void *data, guint64 at, guint8 *bytes, gsize length)
{
    VrMap *map = data;
    g_autoptr(GArray) segments = g_array_new(FALSE, FALSE, sizeof(VrCopySegment));
    vr_autofd fd = memfd_create("disk-layout", MFD_CLOEXEC);
    VrExtent extent;
    gsize got = 0;

    for (gsize done = 0; done < length; done += MIN(extent.length, length - done)) {
        if (!vr_map_find(map, at + done, &extent, NULL))
            return FALSE;
        const VrCopySegment segment = {.fd = extent.fd,
                                       .offset = extent.offset,
                                       .target = done,
                                       .length = MIN(extent.length, length - done),
                                       .packing = extent.packing,
                                       .packed = extent.packed,
                                       .skip = extent.skip};
        if (extent.kind == VR_EXTENT_DATA)
            g_array_append_val(segments, segment);
    }
    memset(bytes, 0, length);
    if (segments->len == 0)
        return TRUE;
    const VrCopyJob job = {.source_fd = -1,
                           .target_fd = fd,
                           .length = length,
                           .plain = TRUE,
                           .no_clone = TRUE,
                           .segments = (const VrCopySegment *)(const void *)segments->data,
                           .n_segments = segments->len};
    return fd >= 0 && vr_copy(&job, NULL, NULL) && vr_pread_all(fd, bytes, length, 0, &got, NULL) && got == length;
}

typedef struct {
    VrConvertLink links[MAX_LINKS];
    guint n;
} Chain;

static void chain_clear(Chain *chain)
{
    for (guint i = 0; i < chain->n; i++)
        vr_fd_clear(&chain->links[i].fd);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Chain, chain_clear)

/* The file that its header names, and as what. FALSE: that cannot be told. *path NULL: none. */
static gboolean below(int fd, char **path, VrImageFormat *format)
{
    guint8 bytes[HEADER_BYTES];
    VrQcow2Header header;
    gsize got = 0;
    g_autofree char *name = NULL;

    if (!vr_backing_name(fd, &name, NULL) || !vr_pread_all(fd, bytes, sizeof bytes, 0, &got, NULL) ||
        !vr_qcow2_header_decode(bytes, got, &header))
        return FALSE;
    g_autofree char *said = vr_backing_format(bytes, got, &header);
    if (!name)
        return TRUE;
    *format = g_strcmp0(said, "raw") == 0 ? VR_FORMAT_RAW : VR_FORMAT_QCOW2;
    *path = g_steal_pointer(&name);
    return g_path_is_absolute(*path) && g_strcmp0(said, vr_image_format_name(*format)) == 0;
}

static gboolean open_chain(const char *path, VrImageFormat format, Chain *chain)
{
    g_autofree char *next = g_strdup(path);
    while (next) {
        if (chain->n == MAX_LINKS)
            return FALSE;
        int fd = open(next, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0)
            return FALSE;
        chain->links[chain->n++] = (VrConvertLink){fd, format};
        g_clear_pointer(&next, g_free);
        if (format == VR_FORMAT_QCOW2 && !below(fd, &next, &format))
            return FALSE;
    }
    return TRUE;
}

gboolean vr_disk_is_plain(const char *path, VrImageFormat format)
{
    g_auto(Chain) chain = {0};
    const VrCopyJob job = {0};
    if (!open_chain(path, format, &chain))
        return FALSE;
    g_autoptr(VrMap) map = vr_map_new(chain.links, chain.n, &job, NULL);
    return map && vr_layout_is_plain(read_map, map, vr_map_size(map));
}
