/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The rules of a qcow2 image. The header comes first and refuses what it can; only then are the tables walked:
 *
 *   header -> features -> extensions -> where the top tables lie -> the walk (qcow2_walk.c) -> bitmaps
 *
 * Limits are those of QEMU's block/qcow2.c: what it does not open is refused here, and more.
 */
#include "disk/qcow2_private.h"

#include <string.h>

#define MIN_CLUSTER_BITS 9
#define MAX_CLUSTER_BITS 21
#define MIN_EXTENDED_CLUSTER_BITS 14 /* 32 subclusters of at least 512 bytes */
#define MAX_L1_BYTES (32u << 20)
#define MAX_REFTABLE_BYTES (8u << 20)
#define MAX_REFCOUNT_ORDER 6
#define MAX_BACKING_FORMAT 15 /* bytes of its name */

/* ---- the header ---- */

static VrLook check_geometry(VrQcow2Walk *walk)
{
    const VrQcow2Header *h = &walk->header;
    if (h->version != 2 && h->version != 3)
        return refuse(walk, VR_RULE_HEADER, "qcow version %u is not 2 or 3", h->version);
    if (h->cluster_bits < MIN_CLUSTER_BITS || h->cluster_bits > MAX_CLUSTER_BITS)
        return refuse(walk, VR_RULE_HEADER, "its cluster bits of %u are not %d to %d", h->cluster_bits,
                      MIN_CLUSTER_BITS, MAX_CLUSTER_BITS);
    walk->cluster = G_GUINT64_CONSTANT(1) << h->cluster_bits;
    walk->look->verdict->cluster_size = (guint32)walk->cluster;
    if (h->version == 3 && h->header_length < VR_QCOW2_V3_HEADER)
        return refuse(walk, VR_RULE_HEADER, "its header length of %u is less than %d", h->header_length,
                      VR_QCOW2_V3_HEADER);
    if (h->header_length > walk->cluster || h->header_length % 8)
        return refuse(walk, VR_RULE_HEADER, "its header length of %u does not end inside the first cluster, or is odd",
                      h->header_length);
    if (h->refcount_order > MAX_REFCOUNT_ORDER)
        return refuse(walk, VR_RULE_HEADER, "its refcount order of %u is above %d", h->refcount_order,
                      MAX_REFCOUNT_ORDER);
    if (walk->cluster > walk->look->file_size)
        return refuse(walk, VR_RULE_HEADER, "it is cut off inside its first cluster, after " F64 " bytes",
                      walk->look->file_size);
    return VR_LOOK_OK;
}

static VrLook check_references(VrQcow2Walk *walk)
{
    const VrQcow2Header *h = &walk->header;
    if ((h->backing_offset || h->backing_length) && !walk->look->allow_backing)
        return refuse(walk, VR_RULE_BACKING_FILE,
                      "it needs a backing file (a name of %u bytes at " F64 "): an image must stand alone, or its "
                      "chain be named (--flatten)",
                      h->backing_length, h->backing_offset);
    if (h->incompatible & VR_QCOW2_DATA_FILE)
        return refuse(walk, VR_RULE_DATA_FILE, "it keeps its data in an external data file");
    if (h->autoclear & VR_QCOW2_AUTOCLEAR_DATA_FILE_RAW)
        return refuse(walk, VR_RULE_DATA_FILE, "it says that its external data file is raw, and has none");
    if (h->crypt_method)
        return refuse(walk, VR_RULE_ENCRYPTION, "it is encrypted (method %u)", h->crypt_method);
    if (h->snapshots)
        return refuse(walk, VR_RULE_SNAPSHOTS, "it has %u internal snapshots", h->snapshots);
    if (h->snapshots_offset % walk->cluster || h->snapshots_offset > G_MAXINT64)
        return refuse(walk, VR_RULE_SNAPSHOTS, "its table of no snapshots lies at " F64 ", which is no cluster",
                      h->snapshots_offset);
    return VR_LOOK_OK;
}

static VrLook check_features(VrQcow2Walk *walk)
{
    const VrQcow2Header *h = &walk->header;
    guint64 unknown = h->incompatible & ~(guint64)VR_QCOW2_KNOWN_FEATURES;
    if (unknown)
        return refuse(walk, VR_RULE_UNKNOWN_FEATURE,
                      "it has unknown incompatible features (bits 0x%" G_GINT64_MODIFIER "x)", unknown);
    if (h->incompatible & VR_QCOW2_CORRUPT)
        return refuse(walk, VR_RULE_CORRUPT, "QEMU has marked it as corrupt");
    if (h->incompatible & VR_QCOW2_DIRTY)
        return refuse(walk, VR_RULE_DIRTY,
                      "it was not closed cleanly (dirty bit): run qemu-img check -r all on it first");
    gboolean zstd = (h->incompatible & VR_QCOW2_COMPRESSION) != 0;
    if (h->compression_type > 1 || zstd != (h->compression_type == 1))
        return refuse(walk, VR_RULE_HEADER, "its compression type %u does not agree with its feature bits",
                      h->compression_type);
    if ((h->incompatible & VR_QCOW2_EXTENDED_L2) && h->cluster_bits < MIN_EXTENDED_CLUSTER_BITS)
        return refuse(walk, VR_RULE_HEADER, "extended L2 entries need clusters of 16 KiB, it has " F64 " bytes",
                      walk->cluster);
    return VR_LOOK_OK;
}

/* ---- where tables lie ---- */

static gboolean lies_in_file(const VrQcow2Walk *walk, guint64 offset, guint64 length)
{
    guint64 size = walk->look->file_size;
    return offset <= size && length <= size - offset;
}

static gboolean overlap(guint64 a, guint64 a_length, guint64 b, guint64 b_length)
{
    return a < b + b_length && b < a + a_length;
}

/* Aligned, behind the header, whole in the file. */
VrLook vr_qcow2_check_table(VrQcow2Walk *walk, const char *what, guint64 offset, guint64 length)
{
    if (offset % walk->cluster)
        return refuse(walk, VR_RULE_TABLES, "its %s at " F64 " is not aligned to clusters of " F64, what, offset,
                      walk->cluster);
    if (offset < walk->cluster)
        return refuse(walk, VR_RULE_TABLES, "its %s at " F64 " overlaps the header", what, offset);
    if (!lies_in_file(walk, offset, length))
        return refuse(walk, VR_RULE_TABLES, "its %s of " F64 " bytes at " F64 " ends outside the file of " F64 " bytes",
                      what, length, offset, walk->look->file_size);
    return VR_LOOK_OK;
}

/* The same for a block that a table points to: it may not lie over the tables that the header names either. */
VrLook vr_qcow2_check_block(VrQcow2Walk *walk, const char *what, guint64 offset, guint64 length)
{
    VrLook answer = vr_qcow2_check_table(walk, what, offset, length);
    if (answer != VR_LOOK_OK)
        return answer;
    if (overlap(offset, length, walk->header.l1_offset, walk->l1_bytes) ||
        overlap(offset, length, walk->header.reftable_offset, walk->reftable_bytes))
        return refuse(walk, VR_RULE_TABLES, "its %s at " F64 " lies over another table", what, offset);
    return VR_LOOK_OK;
}

static guint64 divide_up(guint64 a, guint64 b)
{
    return a / b + (a % b != 0);
}

static VrLook check_sizes(VrQcow2Walk *walk)
{
    const VrQcow2Header *h = &walk->header;
    VrLook answer = vr_image_check_virtual_size(walk->look, h->size);
    if (answer != VR_LOOK_OK)
        return answer;
    walk->entry_bytes = h->incompatible & VR_QCOW2_EXTENDED_L2 ? 16 : 8;
    walk->l2_entries = walk->cluster / walk->entry_bytes;
    guint64 needed = divide_up(h->size, walk->cluster * walk->l2_entries);
    walk->l1_bytes = (guint64)h->l1_entries * 8;
    walk->last_l1 = needed - 1;
    if (walk->l1_bytes > MAX_L1_BYTES)
        return refuse(walk, VR_RULE_TABLES, "its L1 table of " F64 " bytes is above %u", walk->l1_bytes, MAX_L1_BYTES);
    if (h->l1_entries < needed)
        return refuse(walk, VR_RULE_SIZE, "its L1 table of %u entries maps less than its virtual size of " F64 " bytes",
                      h->l1_entries, h->size);
    walk->reftable_bytes = (guint64)h->reftable_clusters * walk->cluster;
    if (walk->reftable_bytes == 0 || walk->reftable_bytes > MAX_REFTABLE_BYTES)
        return refuse(walk, VR_RULE_TABLES, "its refcount table of " F64 " bytes is not 1 to %u", walk->reftable_bytes,
                      MAX_REFTABLE_BYTES);
    return VR_LOOK_OK;
}

static VrLook check_top_tables(VrQcow2Walk *walk)
{
    const VrQcow2Header *h = &walk->header;
    VrLook answer = check_sizes(walk);
    if (answer == VR_LOOK_OK)
        answer = vr_qcow2_check_table(walk, "refcount table", h->reftable_offset, walk->reftable_bytes);
    if (answer == VR_LOOK_OK)
        answer = vr_qcow2_check_table(walk, "L1 table", h->l1_offset, walk->l1_bytes);
    if (answer == VR_LOOK_OK && overlap(h->l1_offset, walk->l1_bytes, h->reftable_offset, walk->reftable_bytes))
        answer = refuse(walk, VR_RULE_TABLES, "its L1 table lies over its refcount table");
    return answer;
}

/* ---- header extensions ---- */

/* QEMU reads it even when there is no backing file. */
static VrLook check_backing_format(VrQcow2Walk *walk, const guint8 *data, guint32 length)
{
    char *format = walk->look->verdict->backing_format;
    if (length > MAX_BACKING_FORMAT)
        return refuse(walk, VR_RULE_HEADER, "its backing format has a name of %u bytes, above %d", length,
                      MAX_BACKING_FORMAT);
    memcpy(format, data, length);
    format[length] = '\0';
    return VR_LOOK_OK;
}

/* In the first cluster, and a name: QEMU would read it up to the first NUL. */
static VrLook take_backing_name(VrQcow2Walk *walk, const guint8 *cluster)
{
    const VrQcow2Header *h = &walk->header;
    char *name = walk->look->verdict->backing_name;
    if (!h->backing_offset && !h->backing_length)
        return VR_LOOK_OK;
    if (h->backing_length == 0 || h->backing_length >= VR_BACKING_NAME_BYTES || h->backing_offset < h->header_length ||
        h->backing_offset > walk->cluster || h->backing_length > walk->cluster - h->backing_offset ||
        memchr(cluster + h->backing_offset, '\0', h->backing_length))
        return refuse(walk, VR_RULE_BACKING_FILE, "the name of its backing file, %u bytes at " F64 ", is none",
                      h->backing_length, h->backing_offset);
    memcpy(name, cluster + h->backing_offset, h->backing_length);
    name[h->backing_length] = '\0';
    return VR_LOOK_OK;
}

static VrLook check_extension(VrQcow2Walk *walk, guint32 type, const guint8 *data, guint32 length)
{
    switch (type) {
    case VR_QCOW2_EXT_DATA_FILE:
        return refuse(walk, VR_RULE_DATA_FILE, "it names an external data file (%u bytes)", length);
    case VR_QCOW2_EXT_ENCRYPTION:
        return refuse(walk, VR_RULE_ENCRYPTION, "it has an encryption header");
    case VR_QCOW2_EXT_BITMAPS:
        return vr_qcow2_check_bitmaps_extension(walk, data, length);
    case VR_QCOW2_EXT_BACKING_FORMAT:
        return check_backing_format(walk, data, length);
    default:
        return VR_LOOK_OK; /* feature names, unknown ones: they lead nowhere */
    }
}

/* They lie between the header and the name of the backing file, or the end of the first cluster. */
static VrLook walk_extensions(VrQcow2Walk *walk, const guint8 *cluster)
{
    guint64 at = walk->header.header_length, end = walk->cluster, name = walk->header.backing_offset;
    if (name >= at && name < end)
        end = name;
    while (end - at >= 8) {
        guint32 type = vr_be32(cluster + at), length = vr_be32(cluster + at + 4);
        at += 8;
        if (length > end - at) /* QEMU minds it in the end mark, too */
            return refuse(walk, VR_RULE_HEADER, "its header extension 0x%08x of %u bytes ends outside its place", type,
                          length);
        if (type == VR_QCOW2_EXT_END)
            return VR_LOOK_OK;
        VrLook answer = check_extension(walk, type, cluster + at, length);
        if (answer != VR_LOOK_OK)
            return answer;
        at += MIN(((guint64)length + 7) & ~G_GUINT64_CONSTANT(7), end - at);
    }
    return VR_LOOK_OK;
}

static VrLook check_extensions(VrQcow2Walk *walk)
{
    g_autofree guint8 *cluster = g_malloc(walk->cluster);
    VrLook answer = vr_image_read(walk->look, cluster, walk->cluster, 0);
    if (answer == VR_LOOK_OK)
        answer = walk_extensions(walk, cluster);
    return answer == VR_LOOK_OK ? take_backing_name(walk, cluster) : answer;
}

/* ---- all of it ---- */

static void describe(const VrQcow2Header *header, VrImageVerdict *verdict)
{
    verdict->qcow2_version = header->version;
    verdict->virtual_size = header->size;
    verdict->features = header->incompatible;
    verdict->compatible = header->compatible;
    verdict->autoclear = header->autoclear;
    verdict->refcount_bits = header->refcount_order <= MAX_REFCOUNT_ORDER ? 1u << header->refcount_order : 0;
}

static VrLook read_header(VrQcow2Walk *walk)
{
    guint8 bytes[VR_QCOW2_V3_HEADER + 8];
    gsize length = MIN(sizeof bytes, walk->look->file_size);
    VrLook answer = vr_image_read(walk->look, bytes, length, 0);
    if (answer != VR_LOOK_OK)
        return answer;
    if (!vr_qcow2_header_decode(bytes, length, &walk->header))
        return refuse(walk, VR_RULE_HEADER, "it is cut off inside its header, after %" G_GSIZE_FORMAT " bytes", length);
    describe(&walk->header, walk->look->verdict);
    return VR_LOOK_OK;
}

VrLook vr_qcow2_check(VrImageLook *look)
{
    static VrLook (*const rules[])(VrQcow2Walk *) = {read_header,    check_geometry,       check_references,
                                                     check_features, check_extensions,     check_top_tables,
                                                     vr_qcow2_walk,  vr_qcow2_walk_bitmaps};
    VrQcow2Walk walk = {.look = look};
    VrLook answer = VR_LOOK_OK;
    for (gsize i = 0; i < G_N_ELEMENTS(rules) && answer == VR_LOOK_OK; i++)
        answer = rules[i](&walk);
    vr_qcow2_walk_clear(&walk);
    return answer;
}
