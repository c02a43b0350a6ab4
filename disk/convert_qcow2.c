/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A qcow2 file that is written in one go, in the order of its bytes:
 *
 *   header | refcount table | refcount blocks | L1 table | L2 tables | data clusters
 *
 * The first walk over the map notes, one bit a cluster, which clusters of the disk have data; from their number follow all
 * sizes and offsets, so every table can be given before the data is read, and each cluster of the file is used once: all refcounts
 * are 1, nothing leaks. The second walk gives the data. If the map says something else by then (the page cache makes data out of
 * preallocated holes that were read), the bits decide: what had no data has none, what has none any more is zeros.
 */
#include "disk/convert_private.h"

#include "base/error.h"
#include "disk/copy_private.h"
#include "disk/qcow2.h"

#include <string.h>

#define DEFAULT_BITS 16
#define MIN_BITS 12
#define MAX_BITS 21
#define MAX_BITMAP (8u << 20) /* bytes */
#define MAX_L1 (32u << 20)    /* bytes; QEMU block/qcow2.h */
#define HEADER_LENGTH 112
#define COPIED (G_GUINT64_CONSTANT(1) << 63)

typedef enum { AT_HEADER, AT_REFTABLE, AT_REFBLOCKS, AT_L1, AT_L2, AT_DATA } Phase;

struct VrQcow2Plan {
    VrMap *map;
    guint64 size; /* of the disk */
    guint64 cluster;
    guint bits;
    guint64 clusters; /* of the disk */
    guint8 *bitmap;   /* which of them have data */
    guint64 data;     /* how many */
    guint64 per_table, tables, l1_entries;
    guint64 l1_clusters, refblocks, reftable_clusters;
    guint64 reftable_at, refblocks_at, l1_at, l2_at, data_at, total; /* in clusters of the file */
    /* the walk that gives */
    Phase phase;
    guint64 index;          /* of the cluster within the phase */
    guint64 tables_before;  /* L2 tables that an L1 entry named already */
    guint64 table;          /* L1 index of the next L2 table */
    guint64 at;             /* of the disk */
    guint64 counted, ranks; /* of the clusters below `counted`, so many have data */
    guint8 *bytes;          /* one cluster */
};

static guint64 divide_up(guint64 a, guint64 b)
{
    return a / b + (a % b != 0);
}

static gboolean has_data(const VrQcow2Plan *plan, guint64 cluster)
{
    return plan->bitmap[cluster / 8] >> (cluster % 8) & 1;
}

/* ---- the plan ---- */

static gboolean choose_cluster(VrQcow2Plan *plan, guint bits, GError **error)
{
    plan->bits = bits ? bits : DEFAULT_BITS;
    while (!bits && plan->bits < MAX_BITS && (plan->size >> plan->bits) / 8 >= MAX_BITMAP)
        plan->bits++;
    plan->cluster = G_GUINT64_CONSTANT(1) << plan->bits;
    plan->clusters = divide_up(plan->size, plan->cluster);
    plan->per_table = plan->cluster / 8;
    plan->l1_entries = divide_up(plan->clusters, plan->per_table);
    if (plan->bits >= MIN_BITS && plan->bits <= MAX_BITS && plan->clusters / 8 <= MAX_BITMAP &&
        plan->l1_entries * 8 <= MAX_L1 && plan->size > 0)
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_USAGE,
                "a disk of %" G_GUINT64_FORMAT " bytes cannot be a qcow2 with clusters of 2^%u bytes", plan->size,
                plan->bits);
    return FALSE;
}

static void mark(VrQcow2Plan *plan, guint64 from, guint64 length)
{
    for (guint64 i = from / plan->cluster; i <= (from + length - 1) / plan->cluster; i++) {
        plan->data += !has_data(plan, i);
        plan->bitmap[i / 8] |= (guint8)(1u << (i % 8));
    }
}

static gboolean walk(VrQcow2Plan *plan, GError **error)
{
    VrExtent extent;
    for (guint64 at = 0;; at += extent.length) {
        if (!vr_map_next_data(plan->map, &at, &extent, error))
            return FALSE;
        if (extent.length == 0)
            return TRUE;
        mark(plan, at, extent.length);
    }
}

static gboolean table_has_data(const VrQcow2Plan *plan, guint64 table)
{
    guint64 end = MIN((table + 1) * plan->per_table, plan->clusters);
    for (guint64 i = table * plan->per_table; i < end; i++)
        if (has_data(plan, i))
            return TRUE;
    return FALSE;
}

/* The refcounts count themselves: again until it is enough. */
static void lay_out(VrQcow2Plan *plan)
{
    for (guint64 i = 0; i < plan->l1_entries; i++)
        plan->tables += table_has_data(plan, i);
    plan->l1_clusters = MAX(divide_up(plan->l1_entries * 8, plan->cluster), 1);
    guint64 rest = 1 + plan->l1_clusters + plan->tables + plan->data, before;
    do {
        before = plan->total;
        plan->total = rest + plan->refblocks + plan->reftable_clusters;
        plan->refblocks = divide_up(plan->total, plan->cluster / 2);
        plan->reftable_clusters = divide_up(plan->refblocks * 8, plan->cluster);
    } while (plan->total != before);
    plan->reftable_at = 1;
    plan->refblocks_at = plan->reftable_at + plan->reftable_clusters;
    plan->l1_at = plan->refblocks_at + plan->refblocks;
    plan->l2_at = plan->l1_at + plan->l1_clusters;
    plan->data_at = plan->l2_at + plan->tables;
}

VrQcow2Plan *vr_qcow2_plan_new(VrMap *map, guint cluster_bits, GError **error)
{
    g_autoptr(VrQcow2Plan) plan = g_new0(VrQcow2Plan, 1);
    plan->map = map;
    plan->size = vr_map_size(map);
    if (!choose_cluster(plan, cluster_bits, error))
        return NULL;
    plan->bitmap = g_malloc0(plan->clusters / 8 + 1);
    plan->bytes = g_malloc(plan->cluster);
    if (!walk(plan, error))
        return NULL;
    lay_out(plan);
    return g_steal_pointer(&plan);
}

void vr_qcow2_plan_free(VrQcow2Plan *plan)
{
    if (!plan)
        return;
    g_free(plan->bitmap);
    g_free(plan->bytes);
    g_free(plan);
}

guint64 vr_qcow2_plan_file_size(const VrQcow2Plan *plan)
{
    return plan->total * plan->cluster;
}

guint64 vr_qcow2_plan_data(const VrQcow2Plan *plan)
{
    return plan->data * plan->cluster;
}

/* ---- the tables, one cluster at a time ---- */

static void put_be16(guint8 *p, guint16 value)
{
    value = GUINT16_TO_BE(value);
    memcpy(p, &value, sizeof value);
}

static void put_be32(guint8 *p, guint32 value)
{
    value = GUINT32_TO_BE(value);
    memcpy(p, &value, sizeof value);
}

static void put_be64(guint8 *p, guint64 value)
{
    value = GUINT64_TO_BE(value);
    memcpy(p, &value, sizeof value);
}

/* Version 3, no features, 16-bit refcounts; an end of extensions follows, which is zeros. */
static void give_header(VrQcow2Plan *plan)
{
    guint8 *p = plan->bytes;
    put_be32(p, VR_QCOW2_MAGIC);
    put_be32(p + 4, 3);
    put_be32(p + 20, plan->bits);
    put_be64(p + 24, plan->size);
    put_be32(p + 36, (guint32)plan->l1_entries);
    put_be64(p + 40, plan->l1_at * plan->cluster);
    put_be64(p + 48, plan->reftable_at * plan->cluster);
    put_be32(p + 56, (guint32)plan->reftable_clusters);
    put_be32(p + 96, 4);
    put_be32(p + 100, HEADER_LENGTH);
}

static void give_reftable(VrQcow2Plan *plan)
{
    guint64 first = plan->index * plan->per_table;
    for (guint64 i = first; i < MIN(first + plan->per_table, plan->refblocks); i++)
        put_be64(plan->bytes + (i - first) * 8, (plan->refblocks_at + i) * plan->cluster);
}

static void give_refblock(VrQcow2Plan *plan)
{
    guint64 n = plan->cluster / 2, first = plan->index * n;
    for (guint64 i = first; i < MIN(first + n, plan->total); i++)
        put_be16(plan->bytes + (i - first) * 2, 1);
}

static void give_l1(VrQcow2Plan *plan)
{
    guint64 first = plan->index * plan->per_table;
    for (guint64 i = first; i < MIN(first + plan->per_table, plan->l1_entries); i++)
        if (table_has_data(plan, i))
            put_be64(plan->bytes + (i - first) * 8, (plan->l2_at + plan->tables_before++) * plan->cluster | COPIED);
}

/* How many clusters below this one have data: its place in the file. The questions ascend. */
static guint64 rank_of(VrQcow2Plan *plan, guint64 cluster)
{
    for (; plan->counted < cluster; plan->counted++)
        plan->ranks += has_data(plan, plan->counted);
    return plan->ranks;
}

static void give_l2(VrQcow2Plan *plan)
{
    while (!table_has_data(plan, plan->table))
        plan->table++;
    guint64 first = plan->table++ * plan->per_table;
    for (guint64 i = first; i < MIN(first + plan->per_table, plan->clusters); i++)
        if (has_data(plan, i))
            put_be64(plan->bytes + (i - first) * 8, (plan->data_at + rank_of(plan, i)) * plan->cluster | COPIED);
}

typedef struct {
    guint64 first, count; /* clusters of the file */
    void (*give)(VrQcow2Plan *plan);
} Part;

static Part part_of(const VrQcow2Plan *plan)
{
    switch (plan->phase) {
    case AT_HEADER:
        return (Part){0, 1, give_header};
    case AT_REFTABLE:
        return (Part){plan->reftable_at, plan->reftable_clusters, give_reftable};
    case AT_REFBLOCKS:
        return (Part){plan->refblocks_at, plan->refblocks, give_refblock};
    case AT_L1:
        return (Part){plan->l1_at, plan->l1_clusters, give_l1};
    case AT_L2:
        return (Part){plan->l2_at, plan->tables, give_l2};
    default:
        return (Part){0};
    }
}

static void give_table(VrQcow2Plan *plan, const Part *part, VrCopySegment *segment)
{
    memset(plan->bytes, 0, plan->cluster);
    part->give(plan);
    *segment = (VrCopySegment){.fd = -1,
                               .bytes = plan->bytes,
                               .target = (part->first + plan->index++) * plan->cluster,
                               .length = plan->cluster};
}

/* ---- the data ---- */

/* Bytes from `at` on whose clusters were planned, at most max. */
static guint64 planned(const VrQcow2Plan *plan, guint64 at, guint64 max)
{
    guint64 end = at;
    while (end < at + max && has_data(plan, end / plan->cluster))
        end = (end / plan->cluster + 1) * plan->cluster;
    return MIN(end, at + max) - at;
}

static gboolean give_data(VrQcow2Plan *plan, VrCopySegment *segment, GError **error)
{
    VrExtent extent;
    guint64 length = 0;
    while (length == 0) {
        if (!vr_map_next_data(plan->map, &plan->at, &extent, error))
            return FALSE;
        if (extent.length == 0)
            return TRUE;
        length = planned(plan, plan->at, extent.length);
        if (length == 0)
            plan->at = (plan->at / plan->cluster + 1) * plan->cluster;
    }
    guint64 cluster = plan->at / plan->cluster;
    *segment =
        (VrCopySegment){.fd = extent.fd,
                        .offset = extent.offset,
                        .target = (plan->data_at + rank_of(plan, cluster)) * plan->cluster + plan->at % plan->cluster,
                        .length = length,
                        .packing = extent.packing,
                        .packed = extent.packed,
                        .skip = extent.skip};
    plan->at += length;
    return TRUE;
}

gboolean vr_qcow2_plan_next(void *data, VrCopySegment *segment, GError **error)
{
    VrQcow2Plan *plan = data;
    segment->length = 0;
    for (; plan->phase < AT_DATA; plan->phase++, plan->index = 0) {
        Part part = part_of(plan);
        if (plan->index < part.count) {
            give_table(plan, &part, segment);
            return TRUE;
        }
        if (plan->phase == AT_L2)
            plan->counted = plan->ranks = 0; /* the data begins with the first again */
    }
    return give_data(plan, segment, error);
}
