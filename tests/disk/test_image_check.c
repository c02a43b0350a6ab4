/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Good images come from qemu-img. Bad ones are one good image (v3, 64 KiB clusters, data at three places) with a few bytes
 * changed, each row of the tables below naming the rule that must refuse it.
 */
#include "disk/images.h"

#include "disk/image_check.h"

#include <sys/mman.h>

#define MIB (1024 * 1024)
#define DISK_SIZE (4 * MIB)
#define CLUSTER 65536

static guint8 *good; /* the bytes of the good image */
static gsize good_size;

/* Offsets that the rows use; learned from the good image. */
static guint64 l1_offset, l2_offset, reftable_offset;

static guint64 get64(const guint8 *image, guint64 at)
{
    guint64 value;
    memcpy(&value, image + at, 8);
    return GUINT64_FROM_BE(value);
}

static void put(guint8 *image, guint64 at, int width, guint64 value)
{
    for (int i = width - 1; i >= 0; i--, value >>= 8)
        image[at + (guint64)i] = (guint8)value;
}

static int group_setup(void **state)
{
    g_autoptr(GError) error = NULL;
    void *dir_state = NULL;
    if (test_dir_setup(&dir_state) != 0)
        return -1;
    TestDir *dir = dir_state;
    make_qcow2(dir, "good.qcow2", NULL, DISK_SIZE);
    g_autofree char *path = in_dir(dir, "good.qcow2");
    g_file_get_contents(path, (char **)&good, &good_size, &error);
    reftable_offset = get64(good, 48);
    l1_offset = get64(good, 40);
    l2_offset = get64(good, l1_offset) & 0x00fffffffffffe00;
    return test_dir_teardown(&dir_state);
}

static int group_teardown(void **state)
{
    g_free(good);
    return 0;
}

static int file_of(const void *bytes, gsize length)
{
    int fd = memfd_create("image", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_true(vr_write_all(fd, bytes, length, "a test image", NULL));
    return fd;
}

static void check_bytes(const void *bytes, gsize length, const VrImagePolicy *policy, VrImageVerdict *verdict)
{
    g_autoptr(GError) error = NULL;
    vr_autofd fd = file_of(bytes, length);
    assert_true(vr_image_check(fd, policy, verdict, &error));
}

static void expect_rule(const char *what, const VrImageVerdict *verdict, VrImageRule rule)
{
    if (verdict->rule != rule || verdict->accepted != (rule == VR_RULE_NONE))
        fail_msg("%s: %s (%s) where %s was expected", what, vr_image_rule_name(verdict->rule), verdict->reason,
                 vr_image_rule_name(rule));
    if (rule != VR_RULE_NONE)
        assert_true(strlen(verdict->reason) > 0);
}

/* ---- one change, one rule ---- */

typedef struct {
    const char *what;
    guint64 at;
    int width;
    guint64 value;
    VrImageRule rule;
    gboolean keep; /* this change stays for the next row */
} Change;

static void expect_changes(const Change *changes, gsize n)
{
    g_autofree guint8 *image = g_memdup2(good, good_size);
    for (gsize i = 0; i < n; i++) {
        VrImageVerdict verdict;
        put(image, changes[i].at, changes[i].width, changes[i].value);
        check_bytes(image, good_size, NULL, &verdict);
        if (changes[i].keep)
            continue;
        expect_rule(changes[i].what, &verdict, changes[i].rule);
        memcpy(image, good, good_size);
    }
}

static void header_rules(void **state)
{
    const Change rows[] = {
        {"nothing changed", 0, 4, 0x514649fb, VR_RULE_NONE},
        {"version 1", 4, 4, 1, VR_RULE_HEADER},
        {"version 4", 4, 4, 4, VR_RULE_HEADER},
        {"a backing file", 8, 8, 0x1000, VR_RULE_BACKING_FILE},
        {"a backing length alone", 16, 4, 5, VR_RULE_BACKING_FILE},
        {"a backing offset outside", 8, 8, G_MAXUINT64, VR_RULE_BACKING_FILE},
        {"cluster bits 8", 20, 4, 8, VR_RULE_HEADER},
        {"cluster bits 22", 20, 4, 22, VR_RULE_HEADER},
        {"cluster bits 64", 20, 4, 64, VR_RULE_HEADER},
        {"cluster bits 2^32-1", 20, 4, G_MAXUINT32, VR_RULE_HEADER},
        {"size 0", 24, 8, 0, VR_RULE_SIZE},
        {"an odd size", 24, 8, DISK_SIZE - 1, VR_RULE_SIZE},
        {"more than 64 TiB", 24, 8, (G_GUINT64_CONSTANT(64) << 40) + 512, VR_RULE_SIZE},
        {"the largest size", 24, 8, G_MAXUINT64 - 511, VR_RULE_SIZE},
        {"more than L1 maps", 24, 8, G_GUINT64_CONSTANT(513) * MIB, VR_RULE_SIZE},
        {"AES", 32, 4, 1, VR_RULE_ENCRYPTION},
        {"LUKS", 32, 4, 2, VR_RULE_ENCRYPTION},
        {"an unknown cipher", 32, 4, 77, VR_RULE_ENCRYPTION},
        {"no L1 entries", 36, 4, 0, VR_RULE_SIZE},
        {"an L1 table above 32 MiB", 36, 4, 32 * MIB / 8 + 1, VR_RULE_TABLES},
        {"an L1 table of 2^32-1", 36, 4, G_MAXUINT32, VR_RULE_TABLES},
        {"L1 at 0", 40, 8, 0, VR_RULE_TABLES},
        {"L1 misaligned", 40, 8, 3 * CLUSTER + 512, VR_RULE_TABLES},
        {"L1 behind the end", 40, 8, G_GUINT64_CONSTANT(1) << 40, VR_RULE_TABLES},
        {"L1 at the top", 40, 8, G_MAXUINT64 & ~(guint64)(CLUSTER - 1), VR_RULE_TABLES},
        {"L1 on the refcount table", 40, 8, CLUSTER, VR_RULE_TABLES},
        {"refcount table at 0", 48, 8, 0, VR_RULE_TABLES},
        {"refcount table misaligned", 48, 8, CLUSTER + 8, VR_RULE_TABLES},
        {"refcount table outside", 48, 8, G_GUINT64_CONSTANT(1) << 50, VR_RULE_TABLES},
        {"no refcount table", 56, 4, 0, VR_RULE_TABLES},
        {"a refcount table above 8 MiB", 56, 4, 129, VR_RULE_TABLES},
        {"a refcount table of 2^32-1", 56, 4, G_MAXUINT32, VR_RULE_TABLES},
        {"a snapshot", 60, 4, 1, VR_RULE_SNAPSHOTS},
        {"2^32-1 snapshots", 60, 4, G_MAXUINT32, VR_RULE_SNAPSHOTS},
        {"a snapshot offset alone", 64, 8, CLUSTER, VR_RULE_NONE},   /* nothing reads it */
        {"one that is no cluster", 64, 8, 12345, VR_RULE_SNAPSHOTS}, /* QEMU does not open that */
        {"refcount order 7", 96, 4, 7, VR_RULE_HEADER},
        {"refcount order 2^32-1", 96, 4, G_MAXUINT32, VR_RULE_HEADER},
        {"header length 0", 100, 4, 0, VR_RULE_HEADER},
        {"header length 96", 100, 4, 96, VR_RULE_HEADER},
        {"header length 105", 100, 4, 105, VR_RULE_HEADER},
        {"header length over the cluster", 100, 4, CLUSTER + 8, VR_RULE_HEADER},
        {"header length 2^32-8", 100, 4, G_MAXUINT32 - 7, VR_RULE_HEADER},
    };
    expect_changes(rows, G_N_ELEMENTS(rows));
}

static void feature_rules(void **state)
{
    const Change rows[] = {
        {"dirty", 72, 8, 1, VR_RULE_DIRTY},
        {"corrupt", 72, 8, 2, VR_RULE_CORRUPT},
        {"data file", 72, 8, 4, VR_RULE_DATA_FILE},
        {"zstd without its type", 72, 8, 8, VR_RULE_HEADER},
        {"bit 5", 72, 8, 32, VR_RULE_UNKNOWN_FEATURE},
        {"bit 63", 72, 8, G_GUINT64_CONSTANT(1) << 63, VR_RULE_UNKNOWN_FEATURE},
        {"unknown compatible bits", 80, 8, G_MAXUINT64, VR_RULE_NONE},
        {"unknown autoclear bits", 88, 8, 0xf0, VR_RULE_NONE},
        {"", 104, 1, 1, VR_RULE_NONE, TRUE},
        {"zstd", 72, 8, 8, VR_RULE_NONE},
        {"compression type without its bit", 104, 1, 1, VR_RULE_HEADER},
        {"", 104, 1, 2, VR_RULE_NONE, TRUE},
        {"an unknown compression", 72, 8, 8, VR_RULE_HEADER},
        {"data file wins over unknown bits", 72, 8, 0xfff4, VR_RULE_DATA_FILE},
    };
    expect_changes(rows, G_N_ELEMENTS(rows));
}

static void extension_rules(void **state)
{
    guint64 at = 112; /* the good image's header length */
    const Change rows[] = {
        {"", at, 4, 0x44415441, VR_RULE_NONE, TRUE},
        {"a data file's name without its bit", at + 4, 4, 4, VR_RULE_DATA_FILE},
        {"", at, 4, 0x0537be77, VR_RULE_NONE, TRUE},
        {"an encryption header", at + 4, 4, 16, VR_RULE_ENCRYPTION},
        {"", at, 4, 0xe2792aca, VR_RULE_NONE, TRUE},
        {"", at + 4, 4, 5, VR_RULE_NONE, TRUE},
        {"a backing format alone", at + 16, 4, 0, VR_RULE_NONE},
        {"", at, 4, 0x12345678, VR_RULE_NONE, TRUE},
        {"an extension that is too long", at + 4, 4, CLUSTER, VR_RULE_HEADER},
        {"", at, 4, 0x12345678, VR_RULE_NONE, TRUE},
        {"an extension of 2^32-1", at + 4, 4, G_MAXUINT32, VR_RULE_HEADER},
        {"", at, 4, 0x12345678, VR_RULE_NONE, TRUE},
        {"one that ends with the cluster", at + 4, 4, CLUSTER - 112 - 8, VR_RULE_NONE},
        {"", at, 4, 0x12345678, VR_RULE_NONE, TRUE},
        {"one that ends just over it", at + 4, 4, CLUSTER - 112 - 7, VR_RULE_HEADER},
        {"", at, 4, 0x12345678, VR_RULE_NONE, TRUE},
        {"", at + 4, 4, 3, VR_RULE_NONE, TRUE},
        {"", at + 16, 4, 0x44415441, VR_RULE_NONE, TRUE},
        {"a data file behind another extension", at + 20, 4, 0, VR_RULE_DATA_FILE},
        {"", at, 4, 0x23852875, VR_RULE_NONE, TRUE},
        {"bitmaps that nobody reads", at + 4, 4, 24, VR_RULE_NONE},
        {"", at, 4, 0x23852875, VR_RULE_NONE, TRUE},
        {"bitmaps of another length", at + 4, 4, 16, VR_RULE_BITMAPS},
        {"", at, 4, 0xe2792aca, VR_RULE_NONE, TRUE},
        {"a backing format of 16 bytes", at + 4, 4, 16, VR_RULE_HEADER},
    };
    expect_changes(rows, G_N_ELEMENTS(rows));
}

static void table_rules(void **state)
{
    guint64 copied = G_GUINT64_CONSTANT(1) << 63, data = get64(good, l2_offset);
    const Change rows[] = {
        {"L2 outside", l1_offset, 8, copied | G_GUINT64_CONSTANT(1) << 40, VR_RULE_TABLES},
        {"L2 misaligned", l1_offset, 8, copied | (l2_offset + 512), VR_RULE_TABLES},
        {"L2 on L1", l1_offset, 8, copied | l1_offset, VR_RULE_TABLES},
        {"L2 on the refcount table", l1_offset, 8, copied | reftable_offset, VR_RULE_TABLES},
        {"L2 cut by the end", l1_offset, 8, copied | (good_size / CLUSTER * CLUSTER), VR_RULE_TABLES},
        {"no L2", l1_offset, 8, 0, VR_RULE_NONE},
        {"compressed", l2_offset, 8, data | G_GUINT64_CONSTANT(1) << 62, VR_RULE_COMPRESSED},
        {"compressed nowhere", l2_offset + 8 * 40, 8, G_GUINT64_CONSTANT(1) << 62, VR_RULE_COMPRESSED},
        {"the last entry compressed", l2_offset + CLUSTER - 8, 8, G_GUINT64_CONSTANT(1) << 62, VR_RULE_COMPRESSED},
        {"data outside", l2_offset, 8, copied | G_GUINT64_CONSTANT(1) << 50, VR_RULE_TABLES},
        {"data just outside", l2_offset, 8, copied | ((good_size + CLUSTER - 1) / CLUSTER * CLUSTER), VR_RULE_TABLES},
        {"data misaligned", l2_offset, 8, data + 512, VR_RULE_TABLES},
        {"data on L1", l2_offset, 8, copied | l1_offset, VR_RULE_TABLES},
        {"a zero cluster", l2_offset, 8, 1, VR_RULE_NONE},
        {"a zero cluster with a place", l2_offset, 8, data | 1, VR_RULE_NONE},
        {"a zero cluster with a place outside", l2_offset, 8, G_GUINT64_CONSTANT(1) << 50 | 1, VR_RULE_TABLES},
        {"a refcount block outside", reftable_offset, 8, G_GUINT64_CONSTANT(1) << 50, VR_RULE_TABLES},
        {"a refcount block misaligned", reftable_offset, 8, 2 * CLUSTER + 512, VR_RULE_TABLES},
        {"a refcount block on L1", reftable_offset, 8, l1_offset, VR_RULE_TABLES},
        {"no refcount block", reftable_offset, 8, 0, VR_RULE_NONE}, /* QEMU reads it; only writing needs them */
        {"the last refcount entry outside", reftable_offset + CLUSTER - 8, 8, G_GUINT64_CONSTANT(1) << 50,
         VR_RULE_TABLES},
    };
    expect_changes(rows, G_N_ELEMENTS(rows));
}

static void two_entries_may_not_share_a_table(void **state)
{
    VrImageVerdict verdict;
    g_autofree guint8 *image = g_memdup2(good, good_size);
    put(image, 36, 4, 2);
    put(image, l1_offset + 8, 8, get64(good, l1_offset));
    check_bytes(image, good_size, NULL, &verdict);
    expect_rule("shared L2", &verdict, VR_RULE_TABLES);
    assert_non_null(strstr(verdict.reason, "share"));
}

static void version_two_has_no_zero_clusters(void **state)
{
    VrImageVerdict verdict;
    g_autofree guint8 *image = g_memdup2(good, good_size);
    put(image, 4, 4, 2);
    memset(image + 72, 0, 200); /* where its extensions begin */
    check_bytes(image, good_size, NULL, &verdict);
    expect_rule("v2", &verdict, VR_RULE_NONE);
    assert_int_equal(verdict.qcow2_version, 2);
    put(image, l2_offset, 8, 1);
    check_bytes(image, good_size, NULL, &verdict);
    expect_rule("v2 with a zero cluster", &verdict, VR_RULE_TABLES);
}

static void extended_l2_needs_large_clusters(void **state)
{
    g_autofree guint8 *image = g_malloc0(64 * 1024);
    VrImageVerdict verdict;
    memcpy(image, good, 512);
    put(image, 20, 4, 13);
    put(image, 72, 8, 16);
    check_bytes(image, 64 * 1024, NULL, &verdict);
    expect_rule("8 KiB clusters", &verdict, VR_RULE_HEADER);
}

static void every_truncation_is_seen(void **state)
{
    VrImageVerdict verdict;
    gsize cuts[] = {1, 4, 71, 72, 103, 104, 111, 112, 511, 512, 513, CLUSTER - 1, CLUSTER, CLUSTER + 1};
    for (gsize i = 0; i < G_N_ELEMENTS(cuts); i++) {
        check_bytes(good, cuts[i], &(VrImagePolicy){.format_given = TRUE, .format = VR_FORMAT_QCOW2}, &verdict);
        if (verdict.accepted)
            fail_msg("cut at %zu bytes", cuts[i]);
    }
    for (gsize cut = CLUSTER; cut < good_size; cut += 4096) {
        check_bytes(good, cut, NULL, &verdict);
        if (verdict.accepted)
            fail_msg("cut at %zu of %zu bytes", cut, good_size);
    }
    check_bytes(good, good_size - 512, NULL, &verdict);
    expect_rule("the last sector gone", &verdict, VR_RULE_TABLES);
    g_autofree guint8 *longer = g_malloc0(good_size + 777);
    memcpy(longer, good, good_size);
    check_bytes(longer, good_size + 777, NULL, &verdict);
    expect_rule("trailing bytes", &verdict, VR_RULE_NONE);
}

/* The last cluster of a disk may reach over its end; QEMU does not need that part, and some writers leave it out. */
static void only_what_the_guest_sees_must_be_there(void **state)
{
    TestDir *dir = *state;
    struct stat st;
    make_qcow2(dir, "a.qcow2", NULL, DISK_SIZE + 1024);
    g_autofree char *path = in_dir(dir, "a.qcow2");
    assert_int_equal(stat(path, &st), 0);
    vr_autofd fd = vr_open_beneath(dir->fd, "a.qcow2", O_RDWR, 0, NULL);
    for (int missing = 0; missing < 2; missing++) {
        VrImageVerdict verdict;
        assert_int_equal(ftruncate(fd, st.st_size - CLUSTER + 1024 - missing), 0);
        assert_true(vr_image_check(fd, NULL, &verdict, NULL));
        expect_rule("a partial last cluster", &verdict, missing ? VR_RULE_TABLES : VR_RULE_NONE);
    }
}

static void no_table_may_lie_over_the_header(void **state)
{
    const guint64 places[] = {40, 48};
    for (gsize i = 0; i < G_N_ELEMENTS(places); i++) {
        VrImageVerdict verdict;
        g_autofree guint8 *image = g_memdup2(good, good_size);
        put(image, places[i], 8, 0);
        check_bytes(image, good_size, NULL, &verdict);
        expect_rule("a table at 0", &verdict, VR_RULE_TABLES);
        assert_non_null(strstr(verdict.reason, "overlaps the header"));
    }
}

/* No set of bytes may crash it, hang it or make it say "cannot read". */
static void random_changes_give_a_verdict(void **state)
{
    g_autoptr(GRand) random = g_rand_new_with_seed(20261121);
    g_autofree guint8 *image = g_memdup2(good, good_size);
    vr_autofd fd = file_of(good, good_size);
    const guint64 places[] = {0, 0, 0, l1_offset, l2_offset, reftable_offset};
    guint refused = 0;
    for (int round = 0; round < 8000; round++) {
        guint64 at[4];
        VrImageVerdict verdict;
        int changes = g_rand_int_range(random, 1, 5);
        for (int i = 0; i < changes; i++) {
            at[i] =
                places[g_rand_int_range(random, 0, G_N_ELEMENTS(places))] + (guint64)g_rand_int_range(random, 0, 128);
            guint8 byte = (guint8)(g_rand_boolean(random) ? g_rand_int(random) : 1u << g_rand_int_range(random, 0, 8));
            assert_int_equal(pwrite(fd, &byte, 1, (off_t)at[i]), 1);
        }
        assert_true(vr_image_check(fd, NULL, &verdict, NULL));
        assert_true(memchr(verdict.reason, '\0', sizeof verdict.reason) != NULL);
        assert_int_equal(verdict.accepted, verdict.rule == VR_RULE_NONE);
        refused += !verdict.accepted;
        for (int i = 0; i < changes; i++)
            assert_int_equal(pwrite(fd, good + at[i], 1, (off_t)at[i]), 1);
    }
    assert_true(refused > 4000);
}

/* ---- hostile sizes ---- */

static int hostile_map(guint32 cluster_bits, guint32 entries, guint64 first, guint64 step)
{
    guint64 cluster = G_GUINT64_CONSTANT(1) << cluster_bits;
    g_autofree guint8 *head = g_malloc0(MAX(cluster, 512));
    memcpy(head, good, 104);
    put(head, 20, 4, cluster_bits);
    put(head, 24, 8, 512);
    put(head, 36, 4, entries);
    put(head, 40, 8, 16 * MIB);
    put(head, 48, 8, 2 * MIB);
    put(head, 56, 4, 1);
    put(head, 100, 4, 104);
    int fd = file_of(head, 104);
    assert_int_equal(ftruncate(fd, (off_t)1 << 45), 0);
    g_autofree guint8 *l1 = g_malloc((gsize)entries * 8);
    for (guint32 i = 0; i < entries; i++)
        put(l1, (guint64)i * 8, 8, first + step * i);
    assert_int_equal(pwrite(fd, l1, (gsize)entries * 8, 16 * MIB), (gssize)entries * 8);
    return fd;
}

static void a_hostile_map_costs_little(void **state)
{
    VrImageVerdict verdict;
    gint64 before = g_get_monotonic_time();
    vr_autofd same = hostile_map(21, 4 * MIB, 64 * MIB, 0);
    assert_true(vr_image_check(same, NULL, &verdict, NULL));
    expect_rule("one table four million times", &verdict, VR_RULE_TABLES);
    vr_autofd holes = hostile_map(21, 4 * MIB, 64 * MIB, 2 * MIB);
    assert_true(vr_image_check(holes, NULL, &verdict, NULL));
    expect_rule("four million tables in a hole", &verdict, VR_RULE_NONE);
    assert_true(g_get_monotonic_time() - before < 20 * G_USEC_PER_SEC); /* terabytes, were they read */
}

/* ---- good images ---- */

static void what_qemu_makes_is_accepted(void **state)
{
    TestDir *dir = *state;
    const char *rows[] = {"compat=0.10",           "compat=1.1",
                          "cluster_size=512",      "cluster_size=4k",
                          "cluster_size=2M",       "lazy_refcounts=on",
                          "refcount_bits=1",       "refcount_bits=64",
                          "extended_l2=on",        "extended_l2=on,cluster_size=16k",
                          "compression_type=zstd", "preallocation=metadata",
                          "preallocation=falloc",  "preallocation=full"};
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        const guint64 sizes[] = {4 * MIB, 4 * MIB + 512, 40 * MIB + 33 * 512};
        for (gsize j = 0; j < G_N_ELEMENTS(sizes); j++) {
            VrImageVerdict verdict;
            make_qcow2(dir, "good.qcow2", rows[i], sizes[j]);
            vr_autofd fd = vr_open_beneath(dir->fd, "good.qcow2", O_RDONLY, 0, NULL);
            assert_true(vr_image_check(fd, &(VrImagePolicy){.file_name = "good.qcow2"}, &verdict, NULL));
            expect_rule(rows[i], &verdict, VR_RULE_NONE);
            assert_int_equal(verdict.virtual_size, sizes[j]);
            assert_int_equal(verdict.format, VR_FORMAT_QCOW2);
        }
    }
}

static void expect_file(const TestDir *dir, const char *name, VrImageRule rule)
{
    VrImageVerdict verdict;
    vr_autofd fd = vr_open_beneath(dir->fd, name, O_RDONLY, 0, NULL);
    assert_true(vr_image_check(fd, NULL, &verdict, NULL));
    expect_rule(name, &verdict, rule);
}

static void what_tools_do_to_images(void **state)
{
    TestDir *dir = *state;
    g_autofree char *a = in_dir(dir, "a.qcow2");
    g_autofree char *b = in_dir(dir, "b.qcow2");
    g_autofree char *raw = in_dir(dir, "raw.img");
    make_qcow2(dir, "a.qcow2", NULL, 4 * MIB);
    make_raw(dir, "raw.img", 5 * MIB + 512, 1);
    tool("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, b);
    expect_file(dir, "b.qcow2", VR_RULE_NONE);
    tool("qemu-img", "resize", "-q", "-f", "qcow2", b, "200M");
    expect_file(dir, "b.qcow2", VR_RULE_NONE);
    tool("qemu-img", "resize", "-q", "-f", "qcow2", "--shrink", b, "3M");
    expect_file(dir, "b.qcow2", VR_RULE_NONE);
    tool("qemu-io", "-f", "qcow2", "-c", "discard 0 64k", "-c", "write -z 64k 64k", "-c", "write -z -u 128k 64k", a);
    expect_file(dir, "a.qcow2", VR_RULE_NONE);
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-o", "extended_l2=on", b, "8M");
    tool("qemu-io", "-f", "qcow2", "-c", "write 2M 4k", b); /* its file ends inside that cluster */
    expect_file(dir, "b.qcow2", VR_RULE_NONE);
    tool("qemu-img", "bitmap", "-f", "qcow2", "--add", a, "backup");
    expect_file(dir, "a.qcow2", VR_RULE_NONE);
    tool("qemu-img", "snapshot", "-q", "-c", "one", a);
    expect_file(dir, "a.qcow2", VR_RULE_SNAPSHOTS);
    tool("qemu-img", "snapshot", "-q", "-d", "one", a);
    expect_file(dir, "a.qcow2", VR_RULE_NONE);
    tool("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", raw, b);
    expect_file(dir, "b.qcow2", VR_RULE_COMPRESSED); /* only its last cluster: the rest is random */
    tool("qemu-img", "convert", "-c", "-f", "qcow2", "-O", "qcow2", a, b);
    expect_file(dir, "b.qcow2", VR_RULE_COMPRESSED);
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", a, b);
    expect_file(dir, "b.qcow2", VR_RULE_BACKING_FILE);
    g_autofree char *data_file = g_strconcat("data_file=", raw, NULL);
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-o", data_file, b, "4M");
    expect_file(dir, "b.qcow2", VR_RULE_DATA_FILE);
    tool("qemu-img", "create", "-q", "-f", "qcow2", "--object", "secret,id=s,data=x", "-o",
         "encrypt.format=aes,encrypt.key-secret=s", b, "4M");
    expect_file(dir, "b.qcow2", VR_RULE_ENCRYPTION);
}

/* ---- formats ---- */

static void foreign_formats_are_named(void **state)
{
    TestDir *dir = *state;
    const char *formats[] = {"vmdk", "vpc", "vhdx", "vdi", "qed", "parallels", "qcow"};
    for (gsize i = 0; i < G_N_ELEMENTS(formats); i++) {
        g_autofree char *path = in_dir(dir, "image");
        tool("qemu-img", "create", "-q", "-f", formats[i], path, "8M");
        expect_file(dir, "image", strcmp(formats[i], "qcow") == 0 ? VR_RULE_HEADER : VR_RULE_FORMAT);
        (void)unlinkat(dir->fd, "image", 0);
    }
    g_autofree char *fixed = in_dir(dir, "fixed");
    tool("qemu-img", "create", "-q", "-f", "vpc", "-o", "subformat=fixed,force_size=on", fixed, "8M");
    expect_file(dir, "fixed", VR_RULE_FORMAT);
    g_autofree char *flat = in_dir(dir, "flat.vmdk");
    tool("qemu-img", "create", "-q", "-f", "vmdk", "-o", "subformat=monolithicFlat", flat, "8M");
    expect_file(dir, "flat.vmdk", VR_RULE_FORMAT);
}

static void magics_are_found(void **state)
{
    const struct {
        const char *bytes;
        gsize at; /* from the start, or from the end when it is above 1 MiB - 512 */
        VrImageRule rule;
    } rows[] = {{"KDMV", 0, VR_RULE_FORMAT},
                {"# Disk DescriptorFile\n", 0, VR_RULE_FORMAT},
                {"conectix", 0, VR_RULE_FORMAT},
                {"conectix", MIB - 512, VR_RULE_FORMAT},
                {"conectix", MIB - 511, VR_RULE_FORMAT},
                {"koly", MIB - 512, VR_RULE_FORMAT},
                {"vhdxfile", 0, VR_RULE_FORMAT},
                {"WithoutFreeSpace", 0, VR_RULE_FORMAT},
                {"WithouFreSpacExt", 0, VR_RULE_FORMAT},
                {"#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=", 0, VR_RULE_FORMAT},
                {"\x7f\x10\xda\xbe", 0x40, VR_RULE_FORMAT},
                {"LUKS\xba\xbe", 0, VR_RULE_ENCRYPTION},
                {"\xfd"
                 "7zXZ",
                 0, VR_RULE_FORMAT},
                {"QFI\xfb", 0, VR_RULE_HEADER},
                {"KDMV", 512, VR_RULE_NONE},
                {"conectix", 5000, VR_RULE_NONE},
                {"QFI\xfb", 512, VR_RULE_NONE}};
    g_autofree guint8 *image = g_malloc(MIB);
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        VrImageVerdict verdict;
        memset(image, 0, MIB);
        memcpy(image + 510, "\x55\xaa", 2);
        memcpy(image + rows[i].at, rows[i].bytes, strlen(rows[i].bytes));
        check_bytes(image, MIB, NULL, &verdict);
        expect_rule(rows[i].bytes, &verdict, rows[i].rule);
    }
}

static void promises_are_kept(void **state)
{
    const struct {
        const char *name;
        int format; /* -1: not given */
        VrImageRule qcow2, raw;
    } rows[] = {{NULL, -1, VR_RULE_NONE, VR_RULE_NONE},
                {"a.img", -1, VR_RULE_NONE, VR_RULE_NONE},
                {"a.qcow2", -1, VR_RULE_NONE, VR_RULE_FORMAT},
                {"a.QCOW2", -1, VR_RULE_NONE, VR_RULE_FORMAT},
                {"a.raw", -1, VR_RULE_FORMAT, VR_RULE_NONE},
                {"/x.raw/a.qcow2", -1, VR_RULE_NONE, VR_RULE_FORMAT},
                {"a.img", VR_FORMAT_QCOW2, VR_RULE_NONE, VR_RULE_FORMAT},
                {"a.img", VR_FORMAT_RAW, VR_RULE_FORMAT, VR_RULE_NONE},
                {"a.qcow2", VR_FORMAT_RAW, VR_RULE_FORMAT, VR_RULE_FORMAT},
                {"a.raw", VR_FORMAT_QCOW2, VR_RULE_FORMAT, VR_RULE_FORMAT}};
    g_autofree guint8 *raw = g_malloc0(MIB);
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        VrImageVerdict verdict;
        const VrImagePolicy policy = {.format_given = rows[i].format >= 0,
                                      .format = rows[i].format == VR_FORMAT_QCOW2 ? VR_FORMAT_QCOW2 : VR_FORMAT_RAW,
                                      .file_name = rows[i].name};
        check_bytes(good, good_size, &policy, &verdict);
        expect_rule("qcow2 bytes", &verdict, rows[i].qcow2);
        check_bytes(raw, MIB, &policy, &verdict);
        expect_rule("raw bytes", &verdict, rows[i].raw);
    }
}

static void two_formats_at_once_are_refused(void **state)
{
    VrImageVerdict verdict;
    gsize length = (good_size + 511) / 512 * 512 + 512;
    g_autofree guint8 *image = g_malloc0(length);
    memcpy(image, good, good_size);
    memcpy(image + length - 512, "conectix", 8);
    check_bytes(image, length, NULL, &verdict);
    expect_rule("qcow2 with a VHD footer", &verdict, VR_RULE_FORMAT);
    assert_non_null(strstr(verdict.reason, "two formats"));
}

static void raw_sizes(void **state)
{
    const struct {
        guint64 size;
        VrImageRule rule;
    } rows[] = {{0, VR_RULE_EMPTY},  {1, VR_RULE_EMPTY},  {511, VR_RULE_EMPTY},    {512, VR_RULE_NONE},
                {513, VR_RULE_SIZE}, {MIB, VR_RULE_NONE}, {2 * MIB, VR_RULE_NONE}, {2 * MIB + 512, VR_RULE_SIZE}};
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        VrImageVerdict verdict;
        vr_autofd fd = file_of("", 0);
        assert_int_equal(ftruncate(fd, (off_t)rows[i].size), 0);
        assert_true(vr_image_check(fd, &(VrImagePolicy){.max_virtual_size = 2 * MIB}, &verdict, NULL));
        expect_rule("raw", &verdict, rows[i].rule);
        assert_int_equal(verdict.file_size, rows[i].size);
    }
}

/* ---- the interface ---- */

static void what_cannot_be_read_is_an_error(void **state)
{
    TestDir *dir = *state;
    VrImageVerdict verdict;
    GError *error = NULL;
    assert_false(vr_image_check(dir->fd, NULL, &verdict, &error));
    expect_error(&error, VR_ERROR_REFUSED, "regular file");
    assert_false(vr_image_check(-1, NULL, &verdict, &error));
    expect_error(&error, VR_ERROR_IO, "cannot look");
    put_file(dir, "a", "12345678901234567890", 20);
    vr_autofd write_only = vr_open_beneath(dir->fd, "a", O_WRONLY, 0, NULL);
    assert_false(vr_image_check(write_only, NULL, &verdict, &error));
    expect_error(&error, VR_ERROR_IO, "cannot read");
}

static void a_refusal_names_its_rule(void **state)
{
    GError *error = NULL;
    VrImageVerdict verdict = {.accepted = TRUE};
    assert_true(vr_image_verdict_require(&verdict, "a.qcow2", &error));
    verdict = (VrImageVerdict){.rule = VR_RULE_BACKING_FILE, .reason = "it needs another"};
    assert_false(vr_image_verdict_require(&verdict, "a.qcow2", &error));
    expect_error(&error, VR_ERROR_REFUSED, "a.qcow2 is refused (rule backing-file): it needs another");
    g_autoptr(GHashTable) names = g_hash_table_new(g_str_hash, g_str_equal);
    for (int rule = 0; rule < VR_RULE_LAST_; rule++)
        assert_true(g_hash_table_add(names, (gpointer)vr_image_rule_name((VrImageRule)rule)));
    assert_string_equal(vr_image_rule_name((VrImageRule)99), "unknown");
    VrImageFormat format;
    assert_true(vr_image_format_parse("qcow2", &format, NULL));
    assert_int_equal(format, VR_FORMAT_QCOW2);
    assert_true(vr_image_format_parse("raw", &format, NULL));
    assert_int_equal(format, VR_FORMAT_RAW);
    assert_false(vr_image_format_parse("vmdk", &format, &error));
    expect_error(&error, VR_ERROR_USAGE, "use raw or qcow2");
    assert_false(vr_image_format_parse(NULL, &format, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(header_rules),
        cmocka_unit_test(feature_rules),
        cmocka_unit_test(extension_rules),
        cmocka_unit_test(table_rules),
        cmocka_unit_test(two_entries_may_not_share_a_table),
        cmocka_unit_test(version_two_has_no_zero_clusters),
        cmocka_unit_test(extended_l2_needs_large_clusters),
        cmocka_unit_test(every_truncation_is_seen),
        dir_test(only_what_the_guest_sees_must_be_there),
        cmocka_unit_test(no_table_may_lie_over_the_header),
        cmocka_unit_test(random_changes_give_a_verdict),
        cmocka_unit_test(a_hostile_map_costs_little),
        dir_test(what_qemu_makes_is_accepted),
        dir_test(what_tools_do_to_images),
        dir_test(foreign_formats_are_named),
        cmocka_unit_test(magics_are_found),
        cmocka_unit_test(promises_are_kept),
        cmocka_unit_test(two_formats_at_once_are_refused),
        cmocka_unit_test(raw_sizes),
        dir_test(what_cannot_be_read_is_an_error),
        cmocka_unit_test(a_refusal_names_its_rule),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
