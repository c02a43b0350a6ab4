/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Between the parts of a conversion; not for others, but for tests.
 *
 *   convert_map     where the bytes of a disk lie in the files of a chain
 *   convert_qcow2   the plan of a qcow2 file: its tables, and where each cluster of the disk goes
 *   convert         the job around them
 */
#pragma once

#include "disk/convert.h"

/* ---- the map ---- */

typedef enum {
    VR_EXTENT_ABSENT, /* this link says nothing: the next one is asked */
    VR_EXTENT_ZERO,
    VR_EXTENT_DATA
} VrExtentKind;

typedef struct {
    VrExtentKind kind;
    guint64 length;
    int fd;         /* of data: where it lies */
    guint64 offset; /* of the first byte; packed: of the packed cluster */
    VrPacking packing;
    guint32 packed, skip;
} VrExtent;

typedef struct VrMap VrMap;

/* Reads the headers. The descriptors stay the caller's and must live as long, and so must job, whose cancel is heard. */
VrMap *vr_map_new(const VrConvertLink *links, guint n_links, const VrCopyJob *job, GError **error);
void vr_map_free(VrMap *map);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrMap, vr_map_free)

guint64 vr_map_size(const VrMap *map); /* in whole sectors */

/* Zeros behind the top up to `size`: VR_ERROR_USAGE when that is less than it has, or not in whole sectors. */
gboolean vr_map_grow(VrMap *map, guint64 size, GError **error);

/* What the disk has at `at`: zeros or data, at least one byte of it. */
gboolean vr_map_find(VrMap *map, guint64 at, VrExtent *extent, GError **error);

/* Moves *at to the next data at or behind it; extent->length 0: there is none. */
gboolean vr_map_next_data(VrMap *map, guint64 *at, VrExtent *extent, GError **error);

/* ---- a qcow2 file ---- */

typedef struct VrQcow2Plan VrQcow2Plan;

/* Walks the map once. cluster_bits 0: 16, or more for a disk of many TiB. Borrows the map. */
VrQcow2Plan *vr_qcow2_plan_new(VrMap *map, guint cluster_bits, GError **error);
void vr_qcow2_plan_free(VrQcow2Plan *plan);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrQcow2Plan, vr_qcow2_plan_free)

guint64 vr_qcow2_plan_file_size(const VrQcow2Plan *plan);
guint64 vr_qcow2_plan_data(const VrQcow2Plan *plan);

/* VrCopyJob's `next`: the tables in the order of the file, then the data. */
gboolean vr_qcow2_plan_next(void *plan, VrCopySegment *segment, GError **error);
