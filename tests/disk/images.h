/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Images for the tests of disk. */
#pragma once

#include "base/support.h"

#include <stdio.h>

/* A raw image of random bytes that repeat with the seed. */
static inline void make_raw(const TestDir *dir, const char *name, gsize size, guint32 seed)
{
    g_autoptr(GRand) random = g_rand_new_with_seed(seed);
    g_autofree guint32 *data = g_malloc(size + 4);
    for (gsize i = 0; i < size / 4 + 1; i++)
        data[i] = g_rand_int(random);
    data[0] = 0xeb; /* no magic of another format by accident */
    put_file(dir, name, data, size);
}

/* A qcow2 image with data at its start, at 3 MiB and at its end. options: for -o, or NULL. */
static inline void make_qcow2(const TestDir *dir, const char *name, const char *options, guint64 size)
{
    g_autofree char *path = in_dir(dir, name);
    g_autofree char *bytes = g_strdup_printf("%" G_GUINT64_FORMAT, size);
    g_autofree char *tail = g_strdup_printf("write -P 7 %" G_GUINT64_FORMAT " 512", size - 512);
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-o", options ? options : "compat=1.1", path, bytes);
    tool("qemu-io", "-f", "qcow2", "-c", "write -P 5 0 70000", "-c", "write -P 6 3M 64k", "-c", tail, path);
}

static inline char *sha256_of(const void *data, gsize length)
{
    return g_compute_checksum_for_data(G_CHECKSUM_SHA256, data, length);
}
