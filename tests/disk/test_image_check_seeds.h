/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Valid images in memory, made by qemu-img, for the tests that change them; and readers of memory that fail when told to. */
#pragma once

#include "disk/images.h"

#include "disk/image_private.h"
#include "disk/qcow2.h"

#define MIB (1024 * 1024)

/* ---- bytes in memory ---- */

typedef struct {
    const guint8 *bytes;
    gsize size;
    guint reads;      /* so far */
    guint fail_at;    /* the read with this number fails (from 1); 0: none */
    guint shorten_at; /* and this one is a byte short */
} Memory;

static inline gboolean memory_read(void *data, void *into, gsize length, guint64 offset, gsize *got, GError **error)
{
    Memory *memory = data;
    memory->reads++;
    if (memory->reads == memory->fail_at) {
        g_set_error_literal(error, VR_ERROR, VR_ERROR_IO, "a fault");
        return FALSE;
    }
    if (offset > memory->size || length > memory->size - offset)
        fail_msg("a read of %zu bytes at %" G_GUINT64_FORMAT " is outside the image of %zu", length, offset,
                 memory->size);
    *got = memory->reads == memory->shorten_at ? length - 1 : length;
    memcpy(into, memory->bytes + offset, *got);
    return TRUE;
}

static inline guint64 memory_next_data(void *data, guint64 offset)
{
    return offset;
}

static inline gboolean check_memory(Memory *memory, const VrImagePolicy *policy, VrImageVerdict *verdict,
                                    GError **error)
{
    const VrImageBytes bytes = {memory, memory->size, memory_read, memory_next_data};
    return vr_image_check_bytes(&bytes, policy, verdict, error);
}

/* ---- big-endian fields ---- */

static inline guint64 get_be(const guint8 *image, guint64 at, int width)
{
    guint64 value = 0;
    for (int i = 0; i < width; i++)
        value = value << 8 | image[at + (guint64)i];
    return value;
}

static inline void put_be(guint8 *image, guint64 at, int width, guint64 value)
{
    for (int i = width - 1; i >= 0; i--, value >>= 8)
        image[at + (guint64)i] = (guint8)value;
}

/* ---- seeds ---- */

#define SEED_SIZE (4 * MIB) /* of the disk */

typedef struct {
    const char *what; /* the options of qemu-img */
    guint8 *bytes;
    gsize size;
    VrQcow2Header header;
    guint64 cluster;
    guint64 l2, refblock;      /* the first of each */
    guint64 bitmaps_extension; /* its data; 0: none */
    guint entry;               /* bytes of an L2 entry */
} Seed;

static const char *const seed_options[] = {
    "compat=0.10",
    "compat=1.1",
    "compat=0.10,cluster_size=512",
    "cluster_size=512",
    "cluster_size=4k,refcount_bits=1",
    "cluster_size=8k,preallocation=metadata",
    "cluster_size=16k,extended_l2=on",
    "lazy_refcounts=on,cluster_size=32k,refcount_bits=64",
    "compression_type=zstd,cluster_size=2k",
    "extended_l2=on,refcount_bits=8",
    "cluster_size=4k,compression_type=zstd,bitmap", /* ours: with two bitmaps */
    "bitmap",
};
#define N_SEEDS G_N_ELEMENTS(seed_options)

static inline guint64 find_extension(const Seed *seed, guint32 wanted)
{
    for (guint64 at = seed->header.header_length; at + 8 <= seed->cluster;) {
        guint32 type = vr_be32(seed->bytes + at), length = vr_be32(seed->bytes + at + 4);
        if (type == wanted)
            return at + 8;
        if (type == VR_QCOW2_EXT_END)
            break;
        at += 8 + (length + 7) / 8 * 8;
    }
    return 0;
}

static inline void seed_decode(Seed *seed)
{
    assert_true(vr_qcow2_header_decode(seed->bytes, seed->size, &seed->header));
    seed->cluster = G_GUINT64_CONSTANT(1) << seed->header.cluster_bits;
    seed->l2 = vr_be64(seed->bytes + seed->header.l1_offset) & VR_QCOW2_OFFSET_MASK;
    seed->refblock = vr_be64(seed->bytes + seed->header.reftable_offset) & VR_QCOW2_REFTABLE_MASK;
    seed->entry = seed->header.incompatible & VR_QCOW2_EXTENDED_L2 ? 16 : 8;
    seed->bitmaps_extension = find_extension(seed, VR_QCOW2_EXT_BITMAPS);
}

static inline void seed_make(const TestDir *dir, const char *options, Seed *seed)
{
    g_autofree char *path = in_dir(dir, "seed.qcow2");
    const char *bitmap = strstr(options, "bitmap");
    g_autofree char *plain = bitmap > options ? g_strndup(options, (gsize)(bitmap - options) - 1) : NULL;
    make_qcow2(dir, "seed.qcow2", bitmap ? plain : options, SEED_SIZE);
    if (bitmap) {
        tool("qemu-img", "bitmap", "-f", "qcow2", "--add", path, "nightly");
        tool("qemu-img", "bitmap", "-f", "qcow2", "--add", "-g", "64k", path, "weekly");
        tool("qemu-io", "-f", "qcow2", "-c", "write -P 9 1M 64k", path);
    }
    *seed = (Seed){.what = options};
    assert_true(g_file_get_contents(path, (char **)&seed->bytes, &seed->size, NULL));
    seed_decode(seed);
}

static inline void seeds_make(Seed *seeds)
{
    void *state = NULL;
    assert_int_equal(test_dir_setup(&state), 0);
    for (gsize i = 0; i < N_SEEDS; i++)
        seed_make(state, seed_options[i], &seeds[i]);
    assert_int_equal(test_dir_teardown(&state), 0);
}

static inline void seeds_clear(Seed *seeds)
{
    for (gsize i = 0; i < N_SEEDS; i++)
        g_clear_pointer(&seeds[i].bytes, g_free);
}
