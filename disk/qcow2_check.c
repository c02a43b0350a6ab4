/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The rules of a qcow2 image. The header comes first and refuses what it can; only then are the tables walked:
 *
 *   header -> features -> extensions -> refcount table -> L1 table -> each L2 table once
 *
 * The walk is bounded by bytes that really are in the file. A hostile L1 table could name one L2 table four million times,
 * or four million tables in a hole; so the L1 entries are sorted in place, a table that is named twice is refused (without
 * internal snapshots there is no reason for it), and holes are not read, since an entry of zeros says nothing.
 *
 * Limits are those of QEMU's block/qcow2.c. Reserved bits of table entries are masked as QEMU does.
 */
#include "base/durable.h"
#include "disk/image_private.h"
#include "disk/qcow2.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define MIN_CLUSTER_BITS 9
#define MAX_CLUSTER_BITS 21
#define MIN_EXTENDED_CLUSTER_BITS 14 /* 32 subclusters of at least 512 bytes */
#define MAX_L1_BYTES (32u << 20)
#define MAX_REFTABLE_BYTES (8u << 20)
#define MAX_REFCOUNT_ORDER 6
#define CHUNK (64u << 10) /* of a table, read at once */
#define SUBCLUSTERS 32

typedef struct {
    VrImageLook *look;
    VrQcow2Header header;
    guint64 cluster; /* bytes */
    guint64 l1_bytes, reftable_bytes;
    guint entry_bytes;            /* of an L2 entry: 8, or 16 with extended L2 */
    guint64 l2_entries;           /* in a table */
    guint64 last_l1;              /* index of the L1 entry that maps the end of the disk */
    guint64 last_l1_offset;       /* and what it points to: the walk is not in the order of the disk */
    guint64 hole_start, hole_end; /* no data in here; empty: nothing known */
} Walk;

#define refuse(walk, rule, ...) vr_image_refuse((walk)->look, rule, __VA_ARGS__)
#define F64 "%" G_GUINT64_FORMAT

/* ---- the header ---- */

static VrLook check_geometry(Walk *walk)
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

static VrLook check_references(Walk *walk)
{
    const VrQcow2Header *h = &walk->header;
    if (h->backing_offset || h->backing_length)
        return refuse(walk, VR_RULE_BACKING_FILE,
                      "it needs a backing file (a name of %u bytes at " F64 "): an image must stand alone",
                      h->backing_length, h->backing_offset);
    if (h->incompatible & VR_QCOW2_DATA_FILE)
        return refuse(walk, VR_RULE_DATA_FILE, "it keeps its data in an external data file");
    if (h->crypt_method)
        return refuse(walk, VR_RULE_ENCRYPTION, "it is encrypted (method %u)", h->crypt_method);
    if (h->snapshots)
        return refuse(walk, VR_RULE_SNAPSHOTS, "it has %u internal snapshots", h->snapshots);
    return VR_LOOK_OK;
}

static VrLook check_features(Walk *walk)
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

static gboolean lies_in_file(const Walk *walk, guint64 offset, guint64 length)
{
    guint64 size = walk->look->file_size;
    return offset <= size && length <= size - offset;
}

static gboolean overlap(guint64 a, guint64 a_length, guint64 b, guint64 b_length)
{
    return a < b + b_length && b < a + a_length;
}

/* Aligned, behind the header, whole in the file. */
static VrLook check_table(Walk *walk, const char *what, guint64 offset, guint64 length)
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
static VrLook check_block(Walk *walk, const char *what, guint64 offset, guint64 length)
{
    VrLook answer = check_table(walk, what, offset, length);
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

static VrLook check_sizes(Walk *walk)
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

static VrLook check_top_tables(Walk *walk)
{
    const VrQcow2Header *h = &walk->header;
    VrLook answer = check_sizes(walk);
    if (answer == VR_LOOK_OK)
        answer = check_table(walk, "refcount table", h->reftable_offset, walk->reftable_bytes);
    if (answer == VR_LOOK_OK)
        answer = check_table(walk, "L1 table", h->l1_offset, walk->l1_bytes);
    if (answer == VR_LOOK_OK && overlap(h->l1_offset, walk->l1_bytes, h->reftable_offset, walk->reftable_bytes))
        answer = refuse(walk, VR_RULE_TABLES, "its L1 table lies over its refcount table");
    return answer;
}

/* ---- header extensions ---- */

/* 24 bytes: the directory's size at 8, its offset at 16. QEMU reads it only when the autoclear bit says that it is valid. */
static VrLook check_bitmaps(Walk *walk, const guint8 *data, guint32 length)
{
    if (!(walk->header.autoclear & VR_QCOW2_AUTOCLEAR_BITMAPS))
        return VR_LOOK_OK;
    if (length != 24)
        return refuse(walk, VR_RULE_HEADER, "its bitmaps extension has %u bytes, not 24", length);
    return check_table(walk, "bitmap directory", vr_be64(data + 16), vr_be64(data + 8));
}

static VrLook check_extension(Walk *walk, guint32 type, const guint8 *data, guint32 length)
{
    switch (type) {
    case VR_QCOW2_EXT_DATA_FILE:
        return refuse(walk, VR_RULE_DATA_FILE, "it names an external data file (%u bytes)", length);
    case VR_QCOW2_EXT_ENCRYPTION:
        return refuse(walk, VR_RULE_ENCRYPTION, "it has an encryption header");
    case VR_QCOW2_EXT_BITMAPS:
        return check_bitmaps(walk, data, length);
    default:
        return VR_LOOK_OK; /* a backing format without a backing file, feature names, unknown ones: they lead nowhere */
    }
}

/* They lie between the header and the end of the first cluster. */
static VrLook walk_extensions(Walk *walk, const guint8 *cluster)
{
    guint64 at = walk->header.header_length;
    while (walk->cluster - at >= 8) {
        guint32 type = vr_be32(cluster + at), length = vr_be32(cluster + at + 4);
        at += 8;
        if (type == VR_QCOW2_EXT_END)
            return VR_LOOK_OK;
        if (length > walk->cluster - at)
            return refuse(walk, VR_RULE_HEADER,
                          "its header extension 0x%08x of %u bytes ends outside the first cluster", type, length);
        VrLook answer = check_extension(walk, type, cluster + at, length);
        if (answer != VR_LOOK_OK)
            return answer;
        at += MIN(((guint64)length + 7) & ~G_GUINT64_CONSTANT(7), walk->cluster - at);
    }
    return VR_LOOK_OK;
}

static VrLook check_extensions(Walk *walk)
{
    g_autofree guint8 *cluster = g_malloc(walk->cluster);
    gsize got;
    if (!vr_pread_all(walk->look->fd, cluster, walk->cluster, 0, &got, walk->look->error))
        return VR_LOOK_FAILED;
    if (got < walk->cluster)
        return refuse(walk, VR_RULE_HEADER, "it became shorter while it was read");
    return walk_extensions(walk, cluster);
}

/* ---- tables, read in pieces ---- */

/* What is done with a piece: `first` is the offset of its first byte within the table. */
typedef VrLook (*PieceFunc)(Walk *walk, const guint8 *bytes, gsize length, guint64 first, gpointer data);

/* Moves *at to the next data at or after it: TRUE when there is some before `end`. The hole that was seen last is remembered:
 * four million tables in one hole cost one question. */
static gboolean skip_hole(Walk *walk, guint64 *at, guint64 end)
{
    if (*at < walk->hole_start || *at >= walk->hole_end) {
        off_t data = lseek(walk->look->fd, (off_t)*at, SEEK_DATA);
        if (data < 0 && errno != ENXIO)
            return TRUE; /* this file system cannot tell: read it */
        walk->hole_start = *at;
        walk->hole_end = data < 0 ? G_MAXUINT64 : (guint64)data; /* ENXIO: a hole up to the end */
    }
    /* Back to the grid of entries, of which the largest has 16 bytes. */
    *at = MAX(*at, walk->hole_end & ~G_GUINT64_CONSTANT(15));
    return *at < end;
}

static VrLook read_table(Walk *walk, guint64 offset, guint64 length, PieceFunc func, gpointer data)
{
    guint8 chunk[CHUNK];
    guint64 end = offset + length;
    for (guint64 at = offset; at < end && skip_hole(walk, &at, end);) {
        gsize want = (gsize)MIN(end - at, CHUNK), got;
        if (!vr_pread_all(walk->look->fd, chunk, want, at, &got, walk->look->error))
            return VR_LOOK_FAILED;
        if (got < want)
            return refuse(walk, VR_RULE_TABLES, "it became shorter while it was read");
        VrLook answer = func(walk, chunk, want, at - offset, data);
        if (answer != VR_LOOK_OK)
            return answer;
        at += want;
    }
    return VR_LOOK_OK;
}

/* ---- refcounts: only where they lie, not what they say ---- */

static VrLook check_reftable_piece(Walk *walk, const guint8 *bytes, gsize length, guint64 first, gpointer unused)
{
    for (gsize i = 0; i + 8 <= length; i += 8) {
        guint64 block = vr_be64(bytes + i) & VR_QCOW2_REFTABLE_MASK;
        VrLook answer = block ? check_block(walk, "refcount block", block, walk->cluster) : VR_LOOK_OK;
        if (answer != VR_LOOK_OK)
            return answer;
    }
    return VR_LOOK_OK;
}

/* ---- L1 and L2 ---- */

static VrLook collect_l1_piece(Walk *walk, const guint8 *bytes, gsize length, guint64 first, gpointer data)
{
    guint64 *tables = data;
    for (gsize i = 0; i + 8 <= length; i += 8)
        tables[(first + i) / 8] = vr_be64(bytes + i) & VR_QCOW2_OFFSET_MASK;
    return VR_LOOK_OK;
}

static void sift_down(guint64 *a, gsize root, gsize n)
{
    for (gsize child; (child = 2 * root + 1) < n; root = child) {
        if (child + 1 < n && a[child] < a[child + 1])
            child++;
        if (a[root] >= a[child])
            return;
        guint64 swap = a[root];
        a[root] = a[child];
        a[child] = swap;
    }
}

/* Heap sort: qsort(3) would take another 32 MiB for the largest table. */
static void sort_in_place(guint64 *a, gsize n)
{
    for (gsize i = n / 2; i-- > 0;)
        sift_down(a, i, n);
    for (gsize i = n; i-- > 1;) {
        guint64 largest = a[0];
        a[0] = a[i];
        a[i] = largest;
        sift_down(a, 0, i);
    }
}

/* Bytes of the disk that the cluster of this entry holds: fewer than a cluster only at the end of the disk. */
static guint64 visible_bytes(const Walk *walk, guint64 table, guint64 index)
{
    if (table != walk->last_l1_offset)
        return walk->cluster;
    guint64 start = (walk->last_l1 * walk->l2_entries + index) * walk->cluster;
    return start >= walk->header.size ? 0 : MIN(walk->cluster, walk->header.size - start);
}

/* How much of the cluster must be in the file: with extended L2 up to the last subcluster that is allocated. */
static guint64 needed_bytes(const Walk *walk, const guint8 *entry, guint64 table, guint64 index)
{
    guint64 visible = visible_bytes(walk, table, index);
    if (walk->entry_bytes == 8)
        return vr_be64(entry) & VR_QCOW2_ENTRY_ZERO ? 0 : visible;
    guint32 allocated = vr_be32(entry + 12);
    guint last = allocated ? 32 - (guint)__builtin_clz(allocated) : 0;
    return MIN(visible, last * (walk->cluster / SUBCLUSTERS));
}

static VrLook check_cluster(Walk *walk, const guint8 *entry, guint64 table, guint64 index)
{
    guint64 value = vr_be64(entry);
    if (value == 0)
        return VR_LOOK_OK;
    if (value & VR_QCOW2_ENTRY_COMPRESSED)
        return refuse(walk, VR_RULE_COMPRESSED,
                      "it has compressed clusters: convert it first with qemu-img convert -O qcow2, without -c");
    if ((value & VR_QCOW2_ENTRY_ZERO) && walk->header.version < 3)
        return refuse(walk, VR_RULE_TABLES, "it has a zero cluster, which version 2 does not know");
    guint64 offset = value & VR_QCOW2_OFFSET_MASK;
    if (offset == 0)
        return VR_LOOK_OK;
    /* QEMU reads zeros behind the end of the file. What the guest can see must be there: else the file was cut off. */
    guint64 needed = MAX(needed_bytes(walk, entry, table, index), 1);
    return check_block(walk, "data cluster", offset, needed);
}

static VrLook check_l2_piece(Walk *walk, const guint8 *bytes, gsize length, guint64 first, gpointer data)
{
    guint64 table = *(const guint64 *)data;
    for (gsize i = 0; i + walk->entry_bytes <= length; i += walk->entry_bytes) {
        VrLook answer = check_cluster(walk, bytes + i, table, (first + i) / walk->entry_bytes);
        if (answer != VR_LOOK_OK)
            return answer;
    }
    return VR_LOOK_OK;
}

/* tables is sorted. */
static VrLook walk_l2_tables(Walk *walk, guint64 *tables, gsize n)
{
    for (gsize i = 0; i < n; i++) {
        if (tables[i] == 0)
            continue;
        if (i > 0 && tables[i] == tables[i - 1])
            return refuse(walk, VR_RULE_TABLES, "two L1 entries share the L2 table at " F64, tables[i]);
        VrLook answer = check_block(walk, "L2 table", tables[i], walk->cluster);
        if (answer == VR_LOOK_OK)
            answer = read_table(walk, tables[i], walk->cluster, check_l2_piece, &tables[i]);
        if (answer != VR_LOOK_OK)
            return answer;
    }
    return VR_LOOK_OK;
}

static VrLook walk_map(Walk *walk)
{
    g_autofree guint64 *tables = g_new0(guint64, walk->header.l1_entries);
    VrLook answer = read_table(walk, walk->header.l1_offset, walk->l1_bytes, collect_l1_piece, tables);
    if (answer != VR_LOOK_OK)
        return answer;
    walk->last_l1_offset = tables[walk->last_l1];
    sort_in_place(tables, walk->header.l1_entries);
    return walk_l2_tables(walk, tables, walk->header.l1_entries);
}

/* ---- all of it ---- */

static VrLook read_header(Walk *walk)
{
    guint8 bytes[VR_QCOW2_V3_HEADER + 8];
    gsize got;
    VrImageVerdict *verdict = walk->look->verdict;
    if (!vr_pread_all(walk->look->fd, bytes, sizeof bytes, 0, &got, walk->look->error))
        return VR_LOOK_FAILED;
    if (!vr_qcow2_header_decode(bytes, got, &walk->header))
        return refuse(walk, VR_RULE_HEADER, "it is cut off inside its header, after %" G_GSIZE_FORMAT " bytes", got);
    verdict->qcow2_version = walk->header.version;
    verdict->virtual_size = walk->header.size;
    verdict->features = walk->header.incompatible;
    return VR_LOOK_OK;
}

VrLook vr_qcow2_check(VrImageLook *look)
{
    static VrLook (*const rules[])(Walk *) = {read_header,      check_geometry,   check_references, check_features,
                                              check_extensions, check_top_tables, walk_map};
    Walk walk = {.look = look};
    VrLook answer = VR_LOOK_OK;
    for (gsize i = 0; i < G_N_ELEMENTS(rules) && answer == VR_LOOK_OK; i++)
        answer = rules[i](&walk);
    if (answer == VR_LOOK_OK)
        answer = read_table(&walk, walk.header.reftable_offset, walk.reftable_bytes, check_reftable_piece, NULL);
    return answer;
}
