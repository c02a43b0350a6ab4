/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The walk over the tables of a qcow2 image, after its header was found good:
 *
 *   L1 table -> refcount table -> they do not name one cluster twice -> each L2 table once
 *
 * It is bounded by bytes that really are in the file. A hostile L1 table could name one L2 table four million times,
 * or four million tables in a hole; so the entries are sorted in place, a block that is named twice is refused (without
 * internal snapshots there is no reason for it), and holes are not read, since an entry of zeros says nothing. Memory is
 * the two tables: at most 32 and 8 MiB.
 *
 * What refcounts say is not looked at: only writing needs them, and qemu-img check compares them afterwards. Reserved bits
 * of table entries are masked as QEMU does.
 */
#include "disk/qcow2_private.h"

#include <string.h>

#define CHUNK (64u << 10) /* of a table, read at once */
#define SUBCLUSTERS 32
#define SECTOR 512

/* ---- tables, read in pieces ---- */

/* Moves *at to the next data at or after it: TRUE when there is some before `end`. The hole that was seen last is remembered:
 * four million tables in one hole cost one question. */
static gboolean skip_hole(VrQcow2Walk *walk, guint64 *at, guint64 end)
{
    if (*at < walk->hole_start || *at >= walk->hole_end) {
        walk->hole_start = *at;
        walk->hole_end = walk->look->bytes->next_data(walk->look->bytes->data, *at);
    }
    /* Back to the grid of entries, of which the largest has 16 bytes. */
    *at = MAX(*at, walk->hole_end & ~G_GUINT64_CONSTANT(15));
    return *at < end;
}

VrLook vr_qcow2_read_table(VrQcow2Walk *walk, guint64 offset, guint64 length, VrQcow2PieceFunc func, gpointer data)
{
    guint8 chunk[CHUNK];
    guint64 end = offset + length;
    for (guint64 at = offset; at < end && skip_hole(walk, &at, end);) {
        gsize want = (gsize)MIN(end - at, CHUNK);
        VrLook answer = vr_image_read(walk->look, chunk, want, at);
        if (answer == VR_LOOK_OK)
            answer = func(walk, chunk, want, at - offset, data);
        if (answer != VR_LOOK_OK)
            return answer;
        at += want;
    }
    return VR_LOOK_OK;
}

/* ---- sorted blocks ---- */

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

static gboolean blocks_have(const VrQcow2Blocks *blocks, guint64 offset)
{
    gsize low = 0, high = blocks->count;
    while (low < high) {
        gsize middle = low + (high - low) / 2;
        if (blocks->offsets[middle] == offset)
            return TRUE;
        if (blocks->offsets[middle] < offset)
            low = middle + 1;
        else
            high = middle;
    }
    return FALSE;
}

typedef struct {
    VrQcow2Blocks *blocks;
    guint64 mask;
} Collect;

static VrLook collect_piece(VrQcow2Walk *walk, const guint8 *bytes, gsize length, guint64 first, gpointer data)
{
    const Collect *collect = data;
    VrQcow2Blocks *blocks = collect->blocks;
    for (gsize i = 0; i + 8 <= length; i += 8) {
        guint64 offset = vr_be64(bytes + i) & collect->mask;
        if (offset)
            blocks->offsets[blocks->count++] = offset;
        if (blocks == &walk->l2_tables && (first + i) / 8 == walk->last_l1)
            walk->last_l1_offset = offset;
    }
    return VR_LOOK_OK;
}

static VrLook check_blocks(VrQcow2Walk *walk, const VrQcow2Blocks *blocks, const char *what)
{
    for (gsize i = 0; i < blocks->count; i++) {
        if (i > 0 && blocks->offsets[i] == blocks->offsets[i - 1])
            return refuse(walk, VR_RULE_TABLES, "two entries share the %s at " F64, what, blocks->offsets[i]);
        VrLook answer = vr_qcow2_check_block(walk, what, blocks->offsets[i], walk->cluster);
        if (answer != VR_LOOK_OK)
            return answer;
    }
    return VR_LOOK_OK;
}

/* Every block that the table of `bytes` at `offset` points to, sorted. */
static VrLook collect(VrQcow2Walk *walk, guint64 offset, guint64 bytes, Collect into, const char *what)
{
    into.blocks->offsets = g_new(guint64, bytes / 8);
    VrLook answer = vr_qcow2_read_table(walk, offset, bytes, collect_piece, &into);
    if (answer != VR_LOOK_OK)
        return answer;
    sort_in_place(into.blocks->offsets, into.blocks->count);
    return check_blocks(walk, into.blocks, what);
}

/* ---- L2 entries ---- */

/* Bytes of the disk that the cluster of this entry holds: fewer than a cluster only at the end of the disk. */
static guint64 visible_bytes(const VrQcow2Walk *walk, guint64 table, guint64 index)
{
    if (table != walk->last_l1_offset)
        return walk->cluster;
    guint64 start = (walk->last_l1 * walk->l2_entries + index) * walk->cluster;
    return start >= walk->header.size ? 0 : MIN(walk->cluster, walk->header.size - start);
}

/* How much of the cluster must be in the file: with extended L2 up to the last subcluster that is allocated. */
static guint64 needed_bytes(const VrQcow2Walk *walk, const guint8 *entry, guint64 table, guint64 index)
{
    guint64 visible = visible_bytes(walk, table, index);
    if (walk->entry_bytes == 8)
        return vr_be64(entry) & VR_QCOW2_ENTRY_ZERO ? 0 : visible;
    guint32 allocated = vr_be32(entry + 12);
    guint last = allocated ? 32 - (guint)__builtin_clz(allocated) : 0;
    return MIN(visible, last * (walk->cluster / SUBCLUSTERS));
}

/* With extended L2 the second half says which subclusters are there and which read as zeros: never both, and none is there
 * when the cluster itself is not. QEMU gives an I/O error for these. */
static VrLook check_subclusters(VrQcow2Walk *walk, const guint8 *entry, guint64 value)
{
    guint32 zero = vr_be32(entry + 8), allocated = vr_be32(entry + 12);
    if (value & VR_QCOW2_ENTRY_COMPRESSED)
        return zero || allocated ? refuse(walk, VR_RULE_TABLES, "a compressed cluster has subclusters") : VR_LOOK_OK;
    if ((zero & allocated) || (allocated && !(value & VR_QCOW2_OFFSET_MASK)))
        return refuse(walk, VR_RULE_TABLES, "a subcluster is zero and allocated at once, or lies in no cluster");
    return VR_LOOK_OK;
}

/* The sectors that hold the compressed bytes; the file may end inside the last one. */
static VrLook check_compressed(VrQcow2Walk *walk, guint64 value)
{
    guint shift = 62 - (walk->header.cluster_bits - 8);
    guint64 offset = value & ((G_GUINT64_CONSTANT(1) << shift) - 1);
    guint64 sectors = ((value & (VR_QCOW2_ENTRY_COMPRESSED - 1)) >> shift) + 1;
    guint64 end = offset / SECTOR * SECTOR + sectors * SECTOR;
    guint64 file_end = walk->look->file_size + (SECTOR - walk->look->file_size % SECTOR) % SECTOR;
    if (!walk->look->allow_compressed)
        return refuse(walk, VR_RULE_COMPRESSED,
                      "it has compressed clusters: convert it first with qemu-img convert -O qcow2, without -c");
    walk->look->verdict->compressed = TRUE;
    if (offset < walk->cluster || end > file_end)
        return refuse(walk, VR_RULE_TABLES, "a compressed cluster of " F64 " sectors at " F64 " lies outside the file",
                      sectors, offset);
    return VR_LOOK_OK;
}

static VrLook check_data(VrQcow2Walk *walk, const guint8 *entry, guint64 offset, guint64 table, guint64 index)
{
    /* QEMU reads zeros behind the end of the file. What the guest can see must be there: else the file was cut off. */
    guint64 needed = MAX(needed_bytes(walk, entry, table, index), 1);
    VrLook answer = vr_qcow2_check_block(walk, "data cluster", offset, needed);
    if (answer != VR_LOOK_OK)
        return answer;
    if (blocks_have(&walk->l2_tables, offset) || blocks_have(&walk->refblocks, offset))
        return refuse(walk, VR_RULE_TABLES, "its data cluster at " F64 " lies over another table", offset);
    return VR_LOOK_OK;
}

static VrLook check_cluster(VrQcow2Walk *walk, const guint8 *entry, guint64 table, guint64 index)
{
    guint64 value = vr_be64(entry), offset = value & VR_QCOW2_OFFSET_MASK;
    VrLook answer = walk->entry_bytes == 16 ? check_subclusters(walk, entry, value) : VR_LOOK_OK;
    if (answer != VR_LOOK_OK)
        return answer;
    if (value & VR_QCOW2_ENTRY_COMPRESSED)
        return check_compressed(walk, value);
    if ((value & VR_QCOW2_ENTRY_ZERO) && walk->header.version < 3)
        return refuse(walk, VR_RULE_TABLES, "it has a zero cluster, which version 2 does not know");
    return offset ? check_data(walk, entry, offset, table, index) : VR_LOOK_OK;
}

static VrLook check_l2_piece(VrQcow2Walk *walk, const guint8 *bytes, gsize length, guint64 first, gpointer data)
{
    guint64 table = *(const guint64 *)data;
    VrLook answer = VR_LOOK_OK;
    for (gsize i = 0; i + walk->entry_bytes <= length && answer == VR_LOOK_OK; i += walk->entry_bytes)
        answer = check_cluster(walk, bytes + i, table, (first + i) / walk->entry_bytes);
    return answer;
}

/* ---- all of it ---- */

static VrLook check_disjoint(VrQcow2Walk *walk)
{
    for (gsize i = 0; i < walk->refblocks.count; i++)
        if (blocks_have(&walk->l2_tables, walk->refblocks.offsets[i]))
            return refuse(walk, VR_RULE_TABLES, "its refcount block at " F64 " lies over an L2 table",
                          walk->refblocks.offsets[i]);
    return VR_LOOK_OK;
}

VrLook vr_qcow2_walk(VrQcow2Walk *walk)
{
    VrLook answer = collect(walk, walk->header.l1_offset, walk->l1_bytes,
                            (Collect){&walk->l2_tables, VR_QCOW2_OFFSET_MASK}, "L2 table");
    if (answer == VR_LOOK_OK)
        answer = collect(walk, walk->header.reftable_offset, walk->reftable_bytes,
                         (Collect){&walk->refblocks, VR_QCOW2_REFTABLE_MASK}, "refcount block");
    if (answer == VR_LOOK_OK)
        answer = check_disjoint(walk);
    for (gsize i = 0; i < walk->l2_tables.count && answer == VR_LOOK_OK; i++) {
        guint64 table = walk->l2_tables.offsets[i];
        answer = vr_qcow2_read_table(walk, table, walk->cluster, check_l2_piece, &table);
    }
    return answer;
}

void vr_qcow2_walk_clear(VrQcow2Walk *walk)
{
    g_clear_pointer(&walk->l2_tables.offsets, g_free);
    g_clear_pointer(&walk->refblocks.offsets, g_free);
}
