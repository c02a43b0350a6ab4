/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Sparse sources for the tests of the copy engine. */
#pragma once

#include "disk/images.h"

#define KIB 1024
#define MIB (1024 * 1024)

typedef struct {
    guint64 length;
    struct {
        guint64 at, length;
    } data[8];
} Shape;

/* A sparse file; bytes: its whole content. */
static inline int make_source(const TestDir *dir, const char *name, const Shape *shape, guint8 **bytes)
{
    g_autoptr(GRand) random = g_rand_new_with_seed((guint32)shape->length);
    vr_autofd fd = vr_open_beneath(dir->fd, name, O_RDWR | O_CREAT | O_TRUNC, 0600, NULL);
    assert_int_equal(ftruncate(fd, (off_t)shape->length), 0);
    *bytes = g_malloc0(shape->length + 1);
    for (gsize i = 0; i < G_N_ELEMENTS(shape->data); i++) {
        guint64 at = shape->data[i].at, length = shape->data[i].length;
        for (guint64 j = at; j < at + length; j++)
            (*bytes)[j] = (guint8)g_rand_int(random);
        assert_int_equal(pwrite(fd, *bytes + at, length, (off_t)at), (gssize)length);
    }
    return vr_fd_steal(&fd);
}

static inline int make_target(const TestDir *dir, const char *prefix, gsize number)
{
    g_autofree char *name = g_strdup_printf("%s-%" G_GSIZE_FORMAT, prefix, number);
    return vr_open_beneath(dir->fd, name, O_RDWR | O_CREAT | O_TRUNC, 0600, NULL);
}

static inline guint64 allocated(int fd)
{
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    return (guint64)st.st_blocks * 512;
}

static inline void expect_same(int fd, const guint8 *bytes, guint64 length, const char *digest)
{
    g_autofree guint8 *got = g_malloc0(length + 2);
    gsize n;
    assert_true(vr_pread_all(fd, got, length + 1, 0, &n, NULL));
    assert_int_equal(n, length);
    assert_memory_equal(got, bytes, length);
    g_autofree char *expected = sha256_of(bytes, length);
    assert_string_equal(digest, expected);
}
