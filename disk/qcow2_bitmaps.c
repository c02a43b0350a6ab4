/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Persistent bitmaps. They say nothing to a guest, but QEMU loads them whenever it opens the image and does not open it when
 * they are wrong; so these are its own rules (block/qcow2-bitmap.c: check_dir_entry, check_table_entry). A bitmap that is
 * marked as in use is listed and not loaded. The tables of all bitmaps together are limited, since a directory could name
 * one table 65,535 times.
 */
#include "disk/qcow2_private.h"

#include <string.h>

#define MAX_BITMAPS 65535
#define MAX_DIRECTORY_BYTES 0x4000000
#define EXTENSION_BYTES 24
#define ENTRY_BYTES 24
#define MAX_NAME 1023
#define MIN_GRANULARITY 9
#define MAX_GRANULARITY 31
#define MAX_BITMAP_BYTES 0x20000000
#define MAX_TABLES_BYTES (32u << 20) /* ours: 128 TiB of disk at QEMU's default granularity need 64 KiB */
#define FLAG_IN_USE 1u
#define RESERVED_FLAGS 0xfffffffcu
#define TYPE_DIRTY 1
#define TABLE_RESERVED G_GUINT64_CONSTANT(0xff000000000001fe)

typedef struct {
    guint64 table;
    guint32 clusters, flags, extra_bytes;
    guint8 type, granularity;
    guint16 name_bytes;
} Entry;

VrLook vr_qcow2_check_bitmaps_extension(VrQcow2Walk *walk, const guint8 *data, guint32 length)
{
    if (length != EXTENSION_BYTES)
        return refuse(walk, VR_RULE_BITMAPS, "its bitmaps extension has %u bytes, not %d", length, EXTENSION_BYTES);
    if (!(walk->header.autoclear & VR_QCOW2_AUTOCLEAR_BITMAPS))
        return VR_LOOK_OK; /* written by a program that does not know them: QEMU passes over them */
    if (vr_be32(data + 4) != 0)
        return refuse(walk, VR_RULE_BITMAPS, "its bitmaps extension has reserved bits set");
    walk->bitmaps = vr_be32(data);
    walk->bitmap_directory_bytes = vr_be64(data + 8);
    walk->bitmap_directory = vr_be64(data + 16);
    if (walk->bitmaps == 0 || walk->bitmaps > MAX_BITMAPS)
        return refuse(walk, VR_RULE_BITMAPS, "its number of bitmaps, " F64 ", is not 1 to %d", walk->bitmaps,
                      MAX_BITMAPS);
    if (walk->bitmap_directory_bytes < ENTRY_BYTES || walk->bitmap_directory_bytes > MAX_DIRECTORY_BYTES)
        return refuse(walk, VR_RULE_BITMAPS, "its bitmap directory of " F64 " bytes is not %d to %d",
                      walk->bitmap_directory_bytes, ENTRY_BYTES, MAX_DIRECTORY_BYTES);
    return VR_LOOK_OK;
}

static VrLook check_table_piece(VrQcow2Walk *walk, const guint8 *bytes, gsize length, guint64 first, gpointer unused)
{
    for (gsize i = 0; i + 8 <= length; i += 8) {
        guint64 value = vr_be64(bytes + i), offset = value & VR_QCOW2_OFFSET_MASK;
        if ((value & TABLE_RESERVED) || (offset && (value & 1)))
            return refuse(walk, VR_RULE_BITMAPS, "a bitmap's table has reserved bits set");
        VrLook answer = offset ? vr_qcow2_check_block(walk, "bitmap data", offset, 1) : VR_LOOK_OK;
        if (answer != VR_LOOK_OK)
            return answer;
    }
    return VR_LOOK_OK;
}

static Entry decode(const guint8 *p)
{
    return (Entry){.table = vr_be64(p),
                   .clusters = vr_be32(p + 8),
                   .flags = vr_be32(p + 12),
                   .type = p[16],
                   .granularity = p[17],
                   .name_bytes = (guint16)(p[18] << 8 | p[19]),
                   .extra_bytes = vr_be32(p + 20)};
}

/* QEMU loads a bitmap only from as many clusters as it needs (load_bitmap_data), in words of 64 bits. */
static guint64 clusters_needed(const VrQcow2Walk *walk, const Entry *e)
{
    guint64 bits = (walk->header.size + (G_GUINT64_CONSTANT(1) << e->granularity) - 1) >> e->granularity;
    guint64 bytes = (bits + 63) / 64 * 8;
    return (bytes + walk->cluster - 1) / walk->cluster;
}

static VrLook check_entry(VrQcow2Walk *walk, const Entry *e)
{
    guint64 bytes = e->clusters * walk->cluster; /* of the bitmap itself */
    if (e->type != TYPE_DIRTY || (e->flags & RESERVED_FLAGS) || e->extra_bytes)
        return refuse(walk, VR_RULE_BITMAPS, "a bitmap has an unknown type %u, flags 0x%x or extra data", e->type,
                      e->flags);
    if (e->name_bytes == 0 || e->name_bytes > MAX_NAME)
        return refuse(walk, VR_RULE_BITMAPS, "a bitmap's name has %u bytes", e->name_bytes);
    if (e->granularity < MIN_GRANULARITY || e->granularity > MAX_GRANULARITY)
        return refuse(walk, VR_RULE_BITMAPS, "a bitmap's granularity of 2^%u is out of bounds", e->granularity);
    if (bytes == 0 || bytes > MAX_BITMAP_BYTES)
        return refuse(walk, VR_RULE_BITMAPS, "a bitmap of " F64 " bytes is not 1 to %d", bytes, MAX_BITMAP_BYTES);
    if (!(e->flags & FLAG_IN_USE) && e->clusters != clusters_needed(walk, e))
        return refuse(walk, VR_RULE_BITMAPS, "a bitmap has %u clusters where the disk needs " F64, e->clusters,
                      clusters_needed(walk, e));
    walk->bitmap_table_bytes += e->clusters * G_GUINT64_CONSTANT(8);
    if (walk->bitmap_table_bytes > MAX_TABLES_BYTES)
        return refuse(walk, VR_RULE_BITMAPS, "its bitmaps' tables are above %u bytes", MAX_TABLES_BYTES);
    VrLook answer = vr_qcow2_check_block(walk, "bitmap table", e->table, e->clusters * G_GUINT64_CONSTANT(8));
    if (answer == VR_LOOK_OK)
        answer = vr_qcow2_read_table(walk, e->table, e->clusters * G_GUINT64_CONSTANT(8), check_table_piece, NULL);
    return answer;
}

/* names: a set of those seen; QEMU does not open an image with two of one name. */
static VrLook next_entry(VrQcow2Walk *walk, guint64 *at, GHashTable *names)
{
    guint8 bytes[ENTRY_BYTES];
    char name[MAX_NAME + 1] = "";
    guint64 left = walk->bitmap_directory_bytes - *at;
    if (left < ENTRY_BYTES)
        return refuse(walk, VR_RULE_BITMAPS, "its bitmap directory is shorter than its entries");
    VrLook answer = vr_image_read(walk->look, bytes, ENTRY_BYTES, walk->bitmap_directory + *at);
    if (answer != VR_LOOK_OK)
        return answer;
    Entry entry = decode(bytes);
    guint64 length = (ENTRY_BYTES + (guint64)entry.name_bytes + entry.extra_bytes + 7) & ~G_GUINT64_CONSTANT(7);
    if (length > left)
        return refuse(walk, VR_RULE_BITMAPS, "its bitmap directory is shorter than its entries");
    answer = check_entry(walk, &entry);
    if (answer == VR_LOOK_OK)
        answer = vr_image_read(walk->look, name, entry.name_bytes, walk->bitmap_directory + *at + ENTRY_BYTES);
    if (answer != VR_LOOK_OK)
        return answer;
    *at += length;
    if (!g_hash_table_add(names, g_strdup(name)))
        return refuse(walk, VR_RULE_BITMAPS, "two of its bitmaps have one name");
    return VR_LOOK_OK;
}

VrLook vr_qcow2_walk_bitmaps(VrQcow2Walk *walk)
{
    guint64 at = 0;
    if (walk->bitmaps == 0)
        return VR_LOOK_OK;
    g_autoptr(GHashTable) names = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    VrLook answer =
        vr_qcow2_check_block(walk, "bitmap directory", walk->bitmap_directory, walk->bitmap_directory_bytes);
    for (guint64 i = 0; i < walk->bitmaps && answer == VR_LOOK_OK; i++)
        answer = next_entry(walk, &at, names);
    if (answer == VR_LOOK_OK && at != walk->bitmap_directory_bytes)
        answer = refuse(walk, VR_RULE_BITMAPS, "its bitmap directory is longer than its entries");
    return answer;
}
