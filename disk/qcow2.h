/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The qcow2 format as its specification has it (QEMU docs/interop/qcow2.txt): header and table entries. */
#pragma once

#include <glib.h>

#define VR_QCOW2_MAGIC 0x514649fbu
#define VR_QCOW2_V2_HEADER 72 /* bytes; v3 has at least VR_QCOW2_V3_HEADER */
#define VR_QCOW2_V3_HEADER 104
#define VR_QCOW2_MAX_CLUSTER_BITS 21u

/* Incompatible feature bits. */
#define VR_QCOW2_DIRTY (1u << 0)
#define VR_QCOW2_CORRUPT (1u << 1)
#define VR_QCOW2_DATA_FILE (1u << 2)
#define VR_QCOW2_COMPRESSION (1u << 3)
#define VR_QCOW2_EXTENDED_L2 (1u << 4)
#define VR_QCOW2_KNOWN_FEATURES 0x1fu

#define VR_QCOW2_COMPATIBLE_LAZY_REFCOUNTS (1u << 0)

#define VR_QCOW2_AUTOCLEAR_BITMAPS (1u << 0)
#define VR_QCOW2_AUTOCLEAR_DATA_FILE_RAW (1u << 1)

/* Header extensions. */
#define VR_QCOW2_EXT_END 0u
#define VR_QCOW2_EXT_BACKING_FORMAT 0xe2792acau
#define VR_QCOW2_EXT_DATA_FILE 0x44415441u
#define VR_QCOW2_EXT_ENCRYPTION 0x0537be77u
#define VR_QCOW2_EXT_BITMAPS 0x23852875u

/* Table entries. */
#define VR_QCOW2_OFFSET_MASK G_GUINT64_CONSTANT(0x00fffffffffffe00)
#define VR_QCOW2_REFTABLE_MASK G_GUINT64_CONSTANT(0xfffffffffffffe00)
#define VR_QCOW2_ENTRY_COMPRESSED (G_GUINT64_CONSTANT(1) << 62)
#define VR_QCOW2_ENTRY_ZERO G_GUINT64_CONSTANT(1)

typedef struct {
    guint32 version;
    guint64 backing_offset;
    guint32 backing_length;
    guint32 cluster_bits;
    guint64 size;
    guint32 crypt_method;
    guint32 l1_entries;
    guint64 l1_offset;
    guint64 reftable_offset;
    guint32 reftable_clusters;
    guint32 snapshots;
    guint64 snapshots_offset;
    /* v3; a v2 header gives what it implies */
    guint64 incompatible, compatible, autoclear;
    guint32 refcount_order;
    guint32 header_length;
    guint8 compression_type;
} VrQcow2Header;

/* Big-endian numbers at p. */
guint32 vr_be32(const guint8 *p);
guint64 vr_be64(const guint8 *p);

/* Decodes what `length` bytes from the file's start hold; no rule but the magic is checked. FALSE: no magic, or the bytes end
 * inside the header of its version. */
gboolean vr_qcow2_header_decode(const guint8 *bytes, gsize length, VrQcow2Header *header);

/* Reads and decodes the header of fd; VR_ERROR_INVALID when it has none. */
gboolean vr_qcow2_header_read(int fd, VrQcow2Header *header, GError **error);

/* The data of the header extension of this type, in what `length` bytes from the file's start hold; NULL: there is none. As QEMU
 * (block/qcow2.c) takes them: up to the backing name, and of two the last. size may be NULL. */
const guint8 *vr_qcow2_extension(const guint8 *bytes, gsize length, const VrQcow2Header *header, guint32 type,
                                 guint32 *size);
