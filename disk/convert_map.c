/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The map of a disk, asked from the top of its chain down: a link that has the bytes, or says that they are zeros, ends the
 * question; where it has nothing, the next link is asked about no more than that. Behind the end of a link there are zeros,
 * also where the disk goes on behind the end of the top.
 *
 * Each qcow2 link keeps one L2 table in memory, the one that was asked for last, and the run of equal entries that was found
 * last: the disk is walked in its own order, and so each entry is decoded once, however small the pieces are in which a link below
 * or above is asked. A raw link keeps the data extent that was found last. Nothing else grows with the image.
 */
#include "disk/convert_private.h"

#include "base/durable.h"
#include "base/error.h"
#include "disk/copy_private.h"
#include "disk/qcow2.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define SECTOR 512
#define MIN_CLUSTER_BITS 9
#define MAX_CLUSTER_BITS 21
#define SUBCLUSTERS 32
#define NO_TABLE G_MAXUINT64
#define MAX_TABLES (16u << 20) /* bytes */

typedef struct {
    int fd;
    VrImageFormat format;
    guint64 size;                /* bytes of its disk */
    guint64 hole_from, data_end; /* raw: at hole_from data begins at data_start, which ends there */
    guint64 data_start;
    VrQcow2Header header;
    guint64 cluster;
    guint entry_bytes;      /* of an L2 entry */
    guint64 table_bytes;    /* of the disk that one L2 table maps */
    guint8 *table;          /* an L2 table */
    guint64 table_index;    /* which; NO_TABLE: none */
    gboolean table_present; /* the L1 entry is not 0 */
    VrExtent run;           /* qcow2: what was found last; length 0: nothing yet */
    guint64 run_at;
    VrPacking packing;
} Link;

struct VrMap {
    const VrCopyJob *job; /* for its cancel */
    guint64 size;         /* of the disk */
    guint n_links;
    Link links[VR_CONVERT_LINKS];
};

/* ---- raw ---- */

static gboolean open_raw(Link *link, GError **error)
{
    off_t size = lseek(link->fd, 0, SEEK_END); /* of a block device too */
    if (size < 0) {
        vr_set_error_errno(error, errno, "cannot learn the size of the source");
        return FALSE;
    }
    link->size = (guint64)size;
    return TRUE;
}

static void find_raw(Link *link, guint64 at, guint64 max, VrExtent *extent)
{
    if (at < link->hole_from || at >= link->data_end) {
        off_t data = lseek(link->fd, (off_t)at, SEEK_DATA);
        guint64 unknown =
            errno == ENXIO ? link->size : at; /* a hole up to the end, or a file system that cannot tell */
        link->hole_from = at;
        link->data_start = data < 0 ? unknown : MIN((guint64)data, link->size);
        off_t hole = data < 0 ? -1 : lseek(link->fd, (off_t)link->data_start, SEEK_HOLE);
        link->data_end = hole > (off_t)link->data_start ? MIN((guint64)hole, link->size) : link->size;
    }
    if (at < link->data_start)
        *extent = (VrExtent){.kind = VR_EXTENT_ZERO, .length = MIN(link->data_start - at, max)};
    else
        *extent =
            (VrExtent){.kind = VR_EXTENT_DATA, .length = MIN(link->data_end - at, max), .fd = link->fd, .offset = at};
}

/* ---- qcow2 ---- */

static gboolean invalid(GError **error, const char *what, guint64 offset)
{
    g_set_error(error, VR_ERROR, VR_ERROR_INVALID, "the source is damaged: %s at byte %" G_GUINT64_FORMAT, what,
                offset);
    return FALSE;
}

/* What vr_image_check() has found already, but it may have been another descriptor's file. */
static gboolean check_header(const VrQcow2Header *h, GError **error)
{
    const guint64 refused = VR_QCOW2_DIRTY | VR_QCOW2_CORRUPT | VR_QCOW2_DATA_FILE | ~(guint64)VR_QCOW2_KNOWN_FEATURES;
    if ((h->version == 2 || h->version == 3) && h->cluster_bits >= MIN_CLUSTER_BITS &&
        h->cluster_bits <= MAX_CLUSTER_BITS && !h->crypt_method && !(h->incompatible & refused) &&
        h->compression_type <= 1 && h->size > 0 && h->size <= G_MAXINT64 - SECTOR)
        return TRUE;
    g_set_error_literal(error, VR_ERROR, VR_ERROR_INVALID, "the source is no qcow2 image that can be converted");
    return FALSE;
}

static gboolean open_qcow2(Link *link, GError **error)
{
    VrQcow2Header *h = &link->header;
    if (!vr_qcow2_header_read(link->fd, h, error) || !check_header(h, error))
        return FALSE;
    link->size = h->size;
    link->cluster = G_GUINT64_CONSTANT(1) << h->cluster_bits;
    link->entry_bytes = h->incompatible & VR_QCOW2_EXTENDED_L2 ? 16 : 8;
    link->table_bytes = link->cluster / link->entry_bytes * link->cluster;
    link->table = g_malloc(link->cluster);
    link->table_index = NO_TABLE;
    link->packing = h->compression_type == 1 ? VR_PACKED_ZSTD : VR_PACKED_DEFLATE;
    return TRUE;
}

static gboolean read_exactly(Link *link, void *data, gsize length, guint64 offset, GError **error)
{
    gsize got;
    if (!vr_pread_all(link->fd, data, length, offset, &got, error))
        return FALSE;
    return got == length || invalid(error, "a table ends outside the file", offset);
}

/* The table that maps `at`. */
static gboolean load_table(Link *link, guint64 at, GError **error)
{
    guint64 index = at / link->table_bytes;
    guint8 entry[8] = {0};
    if (index == link->table_index)
        return TRUE;
    link->table_index = NO_TABLE;
    if (index < link->header.l1_entries &&
        !read_exactly(link, entry, sizeof entry, link->header.l1_offset + index * sizeof entry, error))
        return FALSE;
    guint64 offset = vr_be64(entry) & VR_QCOW2_OFFSET_MASK;
    link->table_present = offset != 0;
    if (offset % link->cluster)
        return invalid(error, "an L2 table that is not aligned", offset);
    if (link->table_present && !read_exactly(link, link->table, link->cluster, offset, error))
        return FALSE;
    link->table_index = index;
    return TRUE;
}

static void decode_packed(const Link *link, guint64 value, guint64 at, VrExtent *extent)
{
    guint shift = 62 - (link->header.cluster_bits - 8);
    guint64 offset = value & ((G_GUINT64_CONSTANT(1) << shift) - 1);
    guint64 sectors = ((value & ~(G_GUINT64_CONSTANT(3) << 62)) >> shift) + 1;
    guint64 skip = at % link->cluster;
    *extent = (VrExtent){.kind = VR_EXTENT_DATA,
                         .length = link->cluster - skip,
                         .fd = link->fd,
                         .offset = offset,
                         .packing = link->packing,
                         .packed = (guint32)(sectors * SECTOR - offset % SECTOR),
                         .skip = (guint32)skip};
}

/* An extended entry: 32 subclusters, each with a bit for "allocated" and one for "reads as zeros". */
static VrExtentKind kind_of_subcluster(const Link *link, const guint8 *entry, guint64 at, guint64 *length)
{
    guint64 size = link->cluster / SUBCLUSTERS;
    guint index = (guint)(at % link->cluster / size);
    guint64 bitmap = vr_be64(entry + 8);
    *length = size - at % size;
    if (bitmap >> (index + SUBCLUSTERS) & 1)
        return VR_EXTENT_ZERO;
    return bitmap >> index & 1 ? VR_EXTENT_DATA : VR_EXTENT_ABSENT;
}

static gboolean decode_entry(const Link *link, guint64 at, VrExtent *extent, GError **error)
{
    const guint8 *entry = link->table + at % link->table_bytes / link->cluster * link->entry_bytes;
    guint64 value = vr_be64(entry), offset = value & VR_QCOW2_OFFSET_MASK;
    if (value & VR_QCOW2_ENTRY_COMPRESSED) {
        decode_packed(link, value, at, extent);
        return TRUE;
    }
    *extent = (VrExtent){.kind = offset ? VR_EXTENT_DATA : VR_EXTENT_ABSENT,
                         .length = link->cluster - at % link->cluster,
                         .fd = link->fd,
                         .offset = offset + at % link->cluster};
    if (link->entry_bytes == 16)
        extent->kind = kind_of_subcluster(link, entry, at, &extent->length);
    else if (link->header.version >= 3 && (value & VR_QCOW2_ENTRY_ZERO))
        extent->kind = VR_EXTENT_ZERO;
    if (extent->kind == VR_EXTENT_DATA && (offset == 0 || offset % link->cluster))
        return invalid(error, "a cluster that is not aligned", offset);
    return TRUE;
}

static gboolean continues(const VrExtent *extent, const VrExtent *next)
{
    return next->kind == extent->kind && !next->packing && !extent->packing &&
           (extent->kind != VR_EXTENT_DATA || next->offset == extent->offset + extent->length);
}

/* Clusters that follow each other in the file are one run; it ends with the table at the latest. */
static gboolean find_run(Link *link, guint64 at, GError **error)
{
    VrExtent *run = &link->run, next;
    guint64 in_table = link->table_bytes - at % link->table_bytes;
    run->length = 0;
    if (!load_table(link, at, error))
        return FALSE;
    link->run_at = at;
    if (!link->table_present) {
        *run = (VrExtent){.kind = VR_EXTENT_ABSENT, .length = in_table};
        return TRUE;
    }
    gboolean ok = decode_entry(link, at, run, error);
    while (ok && run->length < in_table && (ok = decode_entry(link, at + run->length, &next, error)) &&
           continues(run, &next))
        run->length += next.length;
    if (!ok)
        run->length = 0;
    return ok;
}

static gboolean find_qcow2(Link *link, guint64 at, guint64 max, VrExtent *extent, GError **error)
{
    if ((at < link->run_at || at - link->run_at >= link->run.length) && !find_run(link, at, error))
        return FALSE;
    guint64 passed = at - link->run_at;
    *extent = link->run;
    extent->length = MIN(extent->length - passed, max);
    if (extent->packing)
        extent->skip += (guint32)passed; /* a packed cluster is a run of its own */
    else if (extent->kind == VR_EXTENT_DATA)
        extent->offset += passed;
    return TRUE;
}

/* ---- the chain ---- */

/* One L2 table a link must fit into the memory of a copy. */
static gboolean check_memory(const VrMap *map, GError **error)
{
    guint64 bytes = 0;
    for (guint i = 0; i < map->n_links; i++)
        bytes += map->links[i].cluster;
    if (bytes <= MAX_TABLES)
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_REFUSED,
                "the tables of the chain need %" G_GUINT64_FORMAT
                " bytes at once, above %u: flatten a part of it first",
                bytes, MAX_TABLES);
    return FALSE;
}

VrMap *vr_map_new(const VrConvertLink *links, guint n_links, const VrCopyJob *job, GError **error)
{
    if (n_links == 0 || n_links > VR_CONVERT_LINKS) {
        g_set_error(error, VR_ERROR, VR_ERROR_USAGE, "a chain has 1 to %d links, not %u", VR_CONVERT_LINKS, n_links);
        return NULL;
    }
    g_autoptr(VrMap) map = g_new0(VrMap, 1);
    map->n_links = n_links;
    map->job = job;
    for (guint i = 0; i < n_links; i++) {
        Link *link = &map->links[i];
        *link = (Link){.fd = links[i].fd, .format = links[i].format};
        if (link->format == VR_FORMAT_RAW && i + 1 < n_links) {
            g_set_error(error, VR_ERROR, VR_ERROR_USAGE, "link %u of the chain is raw: only the last one can be",
                        i + 1);
            return NULL;
        }
        if (link->format == VR_FORMAT_RAW ? !open_raw(link, error) : !open_qcow2(link, error)) {
            g_prefix_error(error, "link %u of the chain: ", i + 1);
            return NULL;
        }
    }
    if (!check_memory(map, error))
        return NULL;
    map->size = (map->links[0].size + SECTOR - 1) / SECTOR * SECTOR;
    return g_steal_pointer(&map);
}

void vr_map_free(VrMap *map)
{
    for (guint i = 0; map && i < map->n_links; i++)
        g_free(map->links[i].table);
    g_free(map);
}

guint64 vr_map_size(const VrMap *map)
{
    return map->size;
}

gboolean vr_map_grow(VrMap *map, guint64 size, GError **error)
{
    if (size < map->size || size % SECTOR || size > G_MAXINT64) {
        g_set_error(error, VR_ERROR, VR_ERROR_USAGE,
                    "a disk of %" G_GUINT64_FORMAT " bytes cannot become one of %" G_GUINT64_FORMAT
                    ": only larger, in whole sectors of %d",
                    map->size, size, SECTOR);
        return FALSE;
    }
    map->size = size;
    return TRUE;
}

gboolean vr_map_find(VrMap *map, guint64 at, VrExtent *extent, GError **error)
{
    guint64 max = vr_map_size(map) - at;
    for (guint i = 0; i < map->n_links; i++) {
        Link *link = &map->links[i];
        if (at >= link->size)
            break;
        guint64 here = MIN(max, link->size - at);
        if (link->format == VR_FORMAT_RAW)
            find_raw(link, at, here, extent);
        else if (!find_qcow2(link, at, here, extent, error))
            return FALSE;
        if (extent->kind != VR_EXTENT_ABSENT)
            return TRUE;
        max = extent->length;
    }
    *extent = (VrExtent){.kind = VR_EXTENT_ZERO, .length = max};
    return TRUE;
}

gboolean vr_map_next_data(VrMap *map, guint64 *at, VrExtent *extent, GError **error)
{
    while (*at < vr_map_size(map)) {
        if (vr_copy_is_cancelled(map->job, error) || !vr_map_find(map, *at, extent, error))
            return FALSE;
        if (extent->kind == VR_EXTENT_DATA)
            return TRUE;
        *at += extent->length;
    }
    *extent = (VrExtent){.kind = VR_EXTENT_ZERO};
    return TRUE;
}
