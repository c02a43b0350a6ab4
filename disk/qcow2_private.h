/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Between the parts of the qcow2 check: the header (qcow2_check.c), the maps (qcow2_walk.c), bitmaps (qcow2_bitmaps.c). */
#pragma once

#include "disk/image_private.h"
#include "disk/qcow2.h"

/* Cluster offsets, sorted, each once. */
typedef struct {
    guint64 *offsets; /* owned */
    gsize count;
} VrQcow2Blocks;

typedef struct {
    VrImageLook *look;
    VrQcow2Header header;
    guint64 cluster; /* bytes */
    guint64 l1_bytes, reftable_bytes;
    guint entry_bytes;                                         /* of an L2 entry: 8, or 16 with extended L2 */
    guint64 l2_entries;                                        /* in a table */
    guint64 last_l1;                                           /* index of the L1 entry that maps the disk's end */
    guint64 last_l1_offset;                                    /* and what it points to: the walk is by offset */
    guint64 hole_start, hole_end;                              /* no data in here; empty: nothing known */
    VrQcow2Blocks l2_tables, refblocks;                        /* what the L1 and the refcount table point to */
    guint64 bitmaps, bitmap_directory, bitmap_directory_bytes; /* of the extension; 0 bitmaps: none in force */
    guint64 bitmap_table_bytes;                                /* of all tables that were read */
} VrQcow2Walk;

#define refuse(walk, rule, ...) vr_image_refuse((walk)->look, rule, __VA_ARGS__)
#define F64 "%" G_GUINT64_FORMAT

/* Aligned, behind the header, whole in the file. */
VrLook vr_qcow2_check_table(VrQcow2Walk *walk, const char *what, guint64 offset, guint64 length);

/* The same for a block that a table points to: it may not lie over the tables that the header names either. */
VrLook vr_qcow2_check_block(VrQcow2Walk *walk, const char *what, guint64 offset, guint64 length);

/* What is done with a piece: `first` is the offset of its first byte within the table. */
typedef VrLook (*VrQcow2PieceFunc)(VrQcow2Walk *walk, const guint8 *bytes, gsize length, guint64 first, gpointer data);

/* Reads a table in pieces that begin at a multiple of 16 bytes; holes are passed over. */
VrLook vr_qcow2_read_table(VrQcow2Walk *walk, guint64 offset, guint64 length, VrQcow2PieceFunc func, gpointer data);

/* The refcount table, the L1 table, and each L2 table once. */
VrLook vr_qcow2_walk(VrQcow2Walk *walk);
void vr_qcow2_walk_clear(VrQcow2Walk *walk);

/* The extension's 24 bytes: only what they say of themselves. */
VrLook vr_qcow2_check_bitmaps_extension(VrQcow2Walk *walk, const guint8 *data, guint32 length);
/* The directory and the tables of bitmaps in force. */
VrLook vr_qcow2_walk_bitmaps(VrQcow2Walk *walk);
