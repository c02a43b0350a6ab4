/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A9: what qemu-img makes with every option that policy permits is accepted; every read fails and is short once; bitmap
 * directories that no tool writes; compressed clusters.
 */
#include "disk/test_image_check_seeds.h"

static Seed seeds[N_SEEDS];

static int group_setup(void **state)
{
    seeds_make(seeds);
    return 0;
}

static int group_teardown(void **state)
{
    seeds_clear(seeds);
    return 0;
}

static void the_seeds_themselves_are_accepted(void **state)
{
    for (gsize s = 0; s < N_SEEDS; s++) {
        VrImageVerdict verdict;
        Memory memory = {.bytes = seeds[s].bytes, .size = seeds[s].size};
        assert_true(check_memory(&memory, NULL, &verdict, NULL));
        if (!verdict.accepted)
            fail_msg("%s: %s", seeds[s].what, verdict.reason);
        assert_int_equal(verdict.cluster_size, seeds[s].cluster);
        assert_int_equal(verdict.refcount_bits, 1 << seeds[s].header.refcount_order);
    }
}

/* ---- bitmap directories by hand ---- */

typedef struct {
    const char *name;
    guint64 table; /* 0: one cluster behind the directory */
    guint32 clusters, flags;
} Bitmap;

/* The seed with a directory of these bitmaps behind its end, and `more` bytes of zeros behind that. */
static VrImageVerdict with_directory(const Seed *seed, const Bitmap *all, guint n, gsize more)
{
    VrImageVerdict verdict;
    gsize at = (seed->size + seed->cluster - 1) / seed->cluster * seed->cluster, size = at + 16384 + more;
    gsize end = at;
    g_autofree guint8 *bytes = g_malloc0(size);
    memcpy(bytes, seed->bytes, seed->size);
    for (guint i = 0; i < n; i++) {
        put_be(bytes, end, 8, all[i].table ? all[i].table : at + 16384);
        put_be(bytes, end + 8, 4, all[i].clusters);
        put_be(bytes, end + 12, 4, all[i].flags);
        put_be(bytes, end + 16, 2, 0x0110); /* a dirty bitmap, 64 KiB a bit */
        put_be(bytes, end + 18, 2, strlen(all[i].name));
        memcpy(bytes + end + 24, all[i].name, strlen(all[i].name));
        end += (24 + strlen(all[i].name) + 7) / 8 * 8;
    }
    put_be(bytes, seed->bitmaps_extension, 4, n);
    put_be(bytes, seed->bitmaps_extension + 8, 8, end - at);
    put_be(bytes, seed->bitmaps_extension + 16, 8, at);
    Memory memory = {.bytes = bytes, .size = size};
    assert_true(check_memory(&memory, NULL, &verdict, NULL));
    return verdict;
}

static void expect_directory(const Bitmap *all, guint n, gsize more, VrImageRule rule, const char *text)
{
    const Seed *seed = &seeds[N_SEEDS - 2]; /* clusters of 4 KiB */
    VrImageVerdict verdict = with_directory(seed, all, n, more);
    if (verdict.rule != rule || !strstr(verdict.reason, text))
        fail_msg("%s (%s) where \"%s\" was expected", vr_image_rule_name(verdict.rule), verdict.reason, text);
}

static void bitmap_directories(void **state)
{
    g_autofree char *longest = g_strnfill(1023, 'n');
    g_autofree char *too_long = g_strnfill(1024, 'n');
    const Bitmap two[] = {{"a", 0, 1, 0}, {"b", 0, 1, 0}}, same[] = {{"a", 0, 1, 0}, {"a", 0, 1, 0}};
    const guint32 largest = 0x20000000 / 4096;
    expect_directory(two, 2, 4096, VR_RULE_NONE, "");
    expect_directory(same, 2, 4096, VR_RULE_BITMAPS, "one name");
    expect_directory(&(Bitmap){longest, 0, 1, 0}, 1, 4096, VR_RULE_NONE, "");
    expect_directory(&(Bitmap){too_long, 0, 1, 0}, 1, 4096, VR_RULE_BITMAPS, "name has 1024 bytes");
    expect_directory(&(Bitmap){"in use", 0, 1, 1}, 1, 4096, VR_RULE_NONE, "");
    expect_directory(&(Bitmap){"in use", 0, largest, 1}, 1, (gsize)largest * 8, VR_RULE_NONE, "");
    expect_directory(&(Bitmap){"large", 0, largest, 0}, 1, (gsize)largest * 8, VR_RULE_BITMAPS, "the disk needs 1");
    expect_directory(&(Bitmap){"large", 0, largest + 1, 0}, 1, MIB * 4, VR_RULE_BITMAPS, "is not 1 to");
    expect_directory(&(Bitmap){"outside", 0, largest, 1}, 1, (gsize)largest * 8 - 8, VR_RULE_TABLES, "outside");
    g_autofree Bitmap *many = g_new0(Bitmap, 33);
    char names[33][8];
    for (guint i = 0; i < 33; i++) {
        g_snprintf(names[i], sizeof names[i], "b%u", i);
        many[i] = (Bitmap){names[i], 0, largest, 1};
    }
    expect_directory(many, 32, MIB, VR_RULE_NONE, "");
    expect_directory(many, 33, MIB, VR_RULE_BITMAPS, "tables are above");
}

/* One that is marked in use may be of any size: QEMU does not load it. Another has no cluster less or more than it needs. */
static void a_bitmap_must_cover_the_disk(void **state)
{
    const Seed *seed = &seeds[N_SEEDS - 2];
    Seed larger = *seed;
    larger.bytes = g_memdup2(seed->bytes, seed->size);
    for (guint32 in_use = 0; in_use < 2; in_use++) {
        guint64 entry = vr_be64(seed->bytes + seed->bitmaps_extension + 16);
        VrImageVerdict verdict;
        put_be(larger.bytes, entry + 17, 1, 9); /* 512 bytes a bit: 4 KiB hold 16 MiB */
        put_be(larger.bytes, 24, 8, 2 * MIB * 8 + 512);
        put_be(larger.bytes, 36, 4, 16);
        put_be(larger.bytes, entry + 12, 4, in_use);
        Memory memory = {.bytes = larger.bytes, .size = larger.size};
        assert_true(check_memory(&memory, NULL, &verdict, NULL));
        assert_int_equal(verdict.rule, in_use ? VR_RULE_NONE : VR_RULE_BITMAPS);
    }
    g_free(larger.bytes);
}

/* ---- every read fails once, and every read is short once ---- */

static void a_read_that_fails_is_an_error_and_a_short_one_a_refusal(void **state)
{
    for (gsize s = 0; s < N_SEEDS; s++) {
        guint n = 1;
        for (gboolean more = TRUE; more; n++) {
            GError *error = NULL;
            VrImageVerdict verdict;
            Memory failing = {.bytes = seeds[s].bytes, .size = seeds[s].size, .fail_at = n};
            more = !check_memory(&failing, NULL, &verdict, &error);
            assert_int_equal(more, error != NULL);
            assert_int_equal(more, !verdict.accepted);
            g_clear_error(&error);
            Memory shorter = {.bytes = seeds[s].bytes, .size = seeds[s].size, .shorten_at = n};
            assert_true(check_memory(&shorter, NULL, &verdict, &error));
            assert_int_equal(verdict.accepted, !more);
            assert_int_equal(verdict.rule, more ? VR_RULE_EMPTY : VR_RULE_NONE);
        }
        assert_true(n > 6);
    }
}

/* ---- compressed clusters, where the caller can inflate them ---- */

static void compressed_clusters_are_a_policy(void **state)
{
    TestDir *dir = *state;
    const char *options[] = {"cluster_size=512",      "compression_type=zlib",
                             "compression_type=zstd", "compression_type=zstd,cluster_size=2M",
                             "extended_l2=on",        "compat=0.10"};
    g_autofree char *from = in_dir(dir, "from.qcow2");
    g_autofree char *to = in_dir(dir, "to.qcow2");
    make_qcow2(dir, "from.qcow2", NULL, SEED_SIZE);
    for (gsize i = 0; i < G_N_ELEMENTS(options); i++) {
        VrImageVerdict verdict;
        tool("qemu-img", "convert", "-c", "-f", "qcow2", "-O", "qcow2", "-o", options[i], from, to);
        vr_autofd fd = vr_open_beneath(dir->fd, "to.qcow2", O_RDONLY, 0, NULL);
        assert_true(vr_image_check(fd, NULL, &verdict, NULL));
        assert_int_equal(verdict.rule, VR_RULE_COMPRESSED);
        assert_true(vr_image_check(fd, &(VrImagePolicy){.allow_compressed = TRUE}, &verdict, NULL));
        if (!verdict.accepted || !verdict.compressed)
            fail_msg("%s: %s", options[i], verdict.reason);
    }
}

/* ---- every option of qemu-img ---- */

static void expect_accepted(const TestDir *dir, const char *options, guint64 disk_size)
{
    VrImageVerdict verdict;
    make_qcow2(dir, "good.qcow2", options, disk_size);
    vr_autofd fd = vr_open_beneath(dir->fd, "good.qcow2", O_RDONLY, 0, NULL);
    assert_true(vr_image_check(fd, &(VrImagePolicy){.file_name = "good.qcow2"}, &verdict, NULL));
    if (!verdict.accepted || verdict.virtual_size != disk_size)
        fail_msg("%s: %s", options, verdict.reason);
    assert_int_equal(unlinkat(dir->fd, "good.qcow2", 0), 0);
}

static void every_creation_option_is_accepted(void **state)
{
    const char *more[] = {"lazy_refcounts=on",
                          "extended_l2=on,cluster_size=2M",
                          "extended_l2=on,preallocation=metadata",
                          "preallocation=off",
                          "preallocation=metadata",
                          "preallocation=falloc",
                          "preallocation=full",
                          "compat=0.10,preallocation=metadata",
                          "compat=v2",
                          "compat=v3",
                          "compression_type=zlib",
                          "compression_type=zstd,extended_l2=on,lazy_refcounts=on",
                          "nocow=on"};
    for (guint bits = 9; bits <= 21; bits++) {
        g_autofree char *v2 = g_strdup_printf("compat=0.10,cluster_size=%u", 1u << bits);
        g_autofree char *v3 = g_strdup_printf("compat=1.1,cluster_size=%u", 1u << bits);
        expect_accepted(*state, v2, SEED_SIZE);
        expect_accepted(*state, v3, SEED_SIZE + 512);
    }
    for (guint order = 0; order <= 6; order++) {
        g_autofree char *options = g_strdup_printf("refcount_bits=%u", 1u << order);
        expect_accepted(*state, options, SEED_SIZE);
    }
    for (gsize i = 0; i < G_N_ELEMENTS(more); i++)
        expect_accepted(*state, more[i], SEED_SIZE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_seeds_themselves_are_accepted),
        cmocka_unit_test(a_read_that_fails_is_an_error_and_a_short_one_a_refusal),
        cmocka_unit_test(bitmap_directories),
        cmocka_unit_test(a_bitmap_must_cover_the_disk),
        dir_test(compressed_clusters_are_a_policy),
        dir_test(every_creation_option_is_accepted),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
