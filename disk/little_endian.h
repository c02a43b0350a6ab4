/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Numbers as disks have them, low byte first, at any address. */
#pragma once

#include <glib.h>
#include <string.h>

static inline guint16 vr_le16(const void *p)
{
    guint16 value;
    memcpy(&value, p, sizeof value);
    return GUINT16_FROM_LE(value);
}

static inline guint32 vr_le32(const void *p)
{
    guint32 value;
    memcpy(&value, p, sizeof value);
    return GUINT32_FROM_LE(value);
}

static inline guint64 vr_le64(const void *p)
{
    guint64 value;
    memcpy(&value, p, sizeof value);
    return GUINT64_FROM_LE(value);
}
