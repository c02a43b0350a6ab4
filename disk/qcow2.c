/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "disk/qcow2.h"

#include "base/durable.h"
#include "base/error.h"

#include <string.h>

guint32 vr_be32(const guint8 *p)
{
    guint32 value;
    memcpy(&value, p, sizeof value);
    return GUINT32_FROM_BE(value);
}

guint64 vr_be64(const guint8 *p)
{
    guint64 value;
    memcpy(&value, p, sizeof value);
    return GUINT64_FROM_BE(value);
}

static void decode_v3(const guint8 *bytes, gsize length, VrQcow2Header *header)
{
    header->incompatible = vr_be64(bytes + 72);
    header->compatible = vr_be64(bytes + 80);
    header->autoclear = vr_be64(bytes + 88);
    header->refcount_order = vr_be32(bytes + 96);
    header->header_length = vr_be32(bytes + 100);
    /* The byte is there only when the header says that it is so long. */
    if (header->header_length > VR_QCOW2_V3_HEADER && length > VR_QCOW2_V3_HEADER)
        header->compression_type = bytes[104];
}

gboolean vr_qcow2_header_decode(const guint8 *bytes, gsize length, VrQcow2Header *header)
{
    if (length < VR_QCOW2_V2_HEADER || vr_be32(bytes) != VR_QCOW2_MAGIC)
        return FALSE;
    *header = (VrQcow2Header){
        .version = vr_be32(bytes + 4),
        .backing_offset = vr_be64(bytes + 8),
        .backing_length = vr_be32(bytes + 16),
        .cluster_bits = vr_be32(bytes + 20),
        .size = vr_be64(bytes + 24),
        .crypt_method = vr_be32(bytes + 32),
        .l1_entries = vr_be32(bytes + 36),
        .l1_offset = vr_be64(bytes + 40),
        .reftable_offset = vr_be64(bytes + 48),
        .reftable_clusters = vr_be32(bytes + 56),
        .snapshots = vr_be32(bytes + 60),
        .snapshots_offset = vr_be64(bytes + 64),
        .refcount_order = 4,
        .header_length = VR_QCOW2_V2_HEADER,
    };
    if (header->version < 3)
        return TRUE;
    if (length < VR_QCOW2_V3_HEADER)
        return FALSE;
    decode_v3(bytes, length, header);
    return TRUE;
}

gboolean vr_qcow2_header_read(int fd, VrQcow2Header *header, GError **error)
{
    guint8 bytes[VR_QCOW2_V3_HEADER + 8];
    gsize got;
    if (!vr_pread_all(fd, bytes, sizeof bytes, 0, &got, error))
        return FALSE;
    if (vr_qcow2_header_decode(bytes, got, header))
        return TRUE;
    g_set_error_literal(error, VR_ERROR, VR_ERROR_INVALID, "it has no qcow2 header");
    return FALSE;
}

const guint8 *vr_qcow2_extension(const guint8 *bytes, gsize length, const VrQcow2Header *header, guint32 type,
                                 guint32 *size)
{
    guint64 end = header->backing_offset ? MIN(header->backing_offset, length) : length;
    const guint8 *found = NULL;

    for (guint64 at = header->header_length; at + 8 <= end;) {
        guint32 kind = vr_be32(bytes + at), taken = vr_be32(bytes + at + 4);
        at += 8;
        if (kind == VR_QCOW2_EXT_END || taken > end - at)
            break;
        if (kind == type) {
            found = bytes + at;
            if (size)
                *size = taken;
        }
        at += ((guint64)taken + 7) / 8 * 8;
    }
    return found;
}
