/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Conversions against qemu-img: it must find no error and no leak in what we made, and the same bytes. */
#include "disk/sources.h"

#include "disk/convert_private.h"
#include "disk/qcow2.h"

/* ---- images ---- */

static const char *const name_of[] = {"raw", "qcow2"};

/* Text that packs, noise, zeros and holes in random places. */
static void fill_image(const TestDir *dir, const char *name, const char *format, guint64 size, GRand *random)
{
    g_autofree char *path = in_dir(dir, name);
    g_autoptr(GPtrArray) argv = g_ptr_array_new_with_free_func(g_free);
    g_ptr_array_add(argv, g_strdup("qemu-io"));
    g_ptr_array_add(argv, g_strdup("-f"));
    g_ptr_array_add(argv, g_strdup(format));
    for (int i = 0; i < 12; i++) {
        const char *const verbs[] = {"write -q -P 9", "write -q -P 77", "write -q -z", "discard -q"};
        guint64 at = (guint64)g_rand_int(random) % size / 512 * 512;
        guint64 wanted = (guint64)g_rand_int_range(random, 1, 1500) * 512, length = MIN(wanted, size - at);
        g_ptr_array_add(argv, g_strdup("-c"));
        g_ptr_array_add(argv, g_strdup_printf("%s %" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT,
                                              verbs[g_rand_int_range(random, 0, 10) % 4], at, length));
    }
    g_ptr_array_add(argv, g_strdup(path));
    g_ptr_array_add(argv, NULL);
    run_tool((const char *const *)argv->pdata);
}

static void create(const TestDir *dir, const char *name, const char *format, const char *options, guint64 size)
{
    g_autofree char *path = in_dir(dir, name);
    g_autofree char *bytes = g_strdup_printf("%" G_GUINT64_FORMAT, size);
    if (options)
        tool("qemu-img", "create", "-q", "-f", format, "-o", options, path, bytes);
    else
        tool("qemu-img", "create", "-q", "-f", format, path, bytes);
}

/* ---- one conversion ---- */

typedef struct {
    const char *links[4]; /* names, top first */
    VrImageFormat formats[4];
    VrImageFormat format;
    guint cluster_bits;
    gboolean plain;
    guint64 virtual_size;
} Case;

static void convert(const TestDir *dir, const Case *c, const char *target_name, VrConvertPlan *plan, char *digest)
{
    g_autoptr(GError) error = NULL;
    int fds[4] = {-1, -1, -1, -1};
    VrConvertLink links[4];
    guint n = 0;
    for (; n < 4 && c->links[n]; n++) {
        fds[n] = vr_open_beneath(dir->fd, c->links[n], O_RDONLY, 0, NULL);
        links[n] = (VrConvertLink){fds[n], c->formats[n]};
    }
    vr_autofd target = vr_open_beneath(dir->fd, target_name, O_RDWR | O_CREAT | O_TRUNC, 0600, NULL);
    const VrConvertJob job = {.links = links,
                              .n_links = n,
                              .format = c->format,
                              .cluster_bits = c->cluster_bits,
                              .virtual_size = c->virtual_size,
                              .copy = {.target_fd = target, .plain = c->plain}};
    VrConvertPlan before;
    assert_true(vr_convert_plan(&job, &before, NULL));
    (void)vr_convert(&job, plan, digest, &error);
    expect_no_error(error);
    assert_memory_equal(&before, plan, sizeof before);
    for (guint i = 0; i < n; i++)
        vr_fd_clear(&fds[i]);
}

static void expect_digest(const TestDir *dir, const char *name, const VrConvertPlan *plan, const char *digest)
{
    char again[VR_DIGEST_HEX_LENGTH + 1];
    struct stat st;
    vr_autofd fd = vr_open_beneath(dir->fd, name, O_RDONLY, 0, NULL);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_size, plan->file_size);
    assert_true(vr_digest_fd(fd, plan->file_size, again, NULL));
    assert_string_equal(digest, again);
}

static void check_image(const TestDir *dir, const char *path)
{
    const VrImagePolicy policy = {.format_given = TRUE, .format = VR_FORMAT_QCOW2};
    VrImageVerdict verdict;
    tool("qemu-img", "check", "-q", "-f", "qcow2", path);
    vr_autofd fd = vr_open_beneath(dir->fd, "out", O_RDONLY, 0, NULL);
    assert_true(vr_image_check(fd, &policy, &verdict, NULL));
    assert_true(vr_image_verdict_require(&verdict, "out", NULL));
}

/* qemu-img reads the same and finds no error and no leak; our own check accepts what we made. */
static void check_all_ways(const TestDir *dir, const char *name, VrImageFormat format)
{
    for (int run = 0; run < 4; run++) {
        VrConvertPlan plan;
        char digest[VR_DIGEST_HEX_LENGTH + 1];
        const Case c = {{name}, {format}, run & 1 ? VR_FORMAT_QCOW2 : VR_FORMAT_RAW, 0, run & 2};
        g_autofree char *source = in_dir(dir, name), *target = in_dir(dir, "out");
        convert(dir, &c, "out", &plan, digest);
        expect_digest(dir, "out", &plan, digest);
        tool("qemu-img", "compare", "-f", name_of[format], "-F", name_of[c.format], source, target);
        if (c.format == VR_FORMAT_QCOW2)
            check_image(dir, target);
    }
}

/* ---- tests ---- */

static const char *const options[] = {
    "compat=1.1",
    "compat=0.10",
    "compat=1.1,cluster_size=512",
    "compat=1.1,cluster_size=4k",
    "compat=1.1,cluster_size=2M",
    "compat=1.1,extended_l2=on,cluster_size=128k",
    "compat=1.1,preallocation=metadata",
    "compat=1.1,preallocation=falloc,cluster_size=16k",
    "compat=1.1,refcount_bits=1",
    "compat=1.1,lazy_refcounts=on",
};

static void every_qcow2_is_read(void **state)
{
    g_autoptr(GRand) random = g_rand_new_with_seed(3);
    for (gsize i = 0; i < G_N_ELEMENTS(options); i++) {
        create(*state, "in", "qcow2", options[i], 12 * MIB + 512);
        check_all_ways(*state, "in", VR_FORMAT_QCOW2);
        fill_image(*state, "in", "qcow2", 12 * MIB + 512, random);
        check_all_ways(*state, "in", VR_FORMAT_QCOW2);
    }
}

static void raw_of_any_size_is_read(void **state)
{
    TestDir *dir = *state;
    const Shape kinds[] = {
        {512, {{0, 512}}},        {513, {{0, 513}}},
        {70001, {{65535, 4466}}}, {9 * MIB + 777, {{0, 5}, {MIB, 70000}, {3 * MIB + 17, 1}, {9 * MIB, 777}}},
        {5 * MIB, {{0}}},         {8 * MIB, {{0, 8 * MIB}}}};
    for (gsize i = 0; i < G_N_ELEMENTS(kinds); i++) {
        g_autofree guint8 *bytes = NULL;
        vr_autofd fd = make_source(dir, "in", &kinds[i], &bytes);
        check_all_ways(dir, "in", VR_FORMAT_RAW);
    }
}

static void packed_clusters_are_unpacked(void **state)
{
    TestDir *dir = *state;
    g_autoptr(GRand) random = g_rand_new_with_seed(5);
    const char *const kinds[] = {"compression_type=zlib", "compression_type=zstd",
                                 "compression_type=zlib,cluster_size=4k", "compression_type=zstd,cluster_size=2M",
                                 "compression_type=zlib,cluster_size=512"};
    g_autofree char *raw = in_dir(dir, "plain"), *packed = in_dir(dir, "packed");
    g_autofree char *text = g_malloc(10 * MIB);
    for (gsize i = 0; i < 10 * MIB; i++)
        text[i] = (char)(i % 70000 < 20000 ? g_rand_int_range(random, 0, 256) : 'a' + (int)(i / 50 % 20));
    put_file(dir, "plain", text, 10 * MIB);
    for (gsize i = 0; i < G_N_ELEMENTS(kinds); i++) {
        tool("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", "-o", kinds[i], raw, packed);
        check_all_ways(dir, "packed", VR_FORMAT_QCOW2);
        fill_image(dir, "packed", "qcow2", 10 * MIB, random);
        check_all_ways(dir, "packed", VR_FORMAT_QCOW2);
    }
}

static void clusters_of_any_size_are_written(void **state)
{
    g_autoptr(GRand) random = g_rand_new_with_seed(9);
    create(*state, "in", "qcow2", "cluster_size=8k", 40 * MIB);
    for (guint bits = 12; bits <= 21; bits++) {
        fill_image(*state, "in", "qcow2", 40 * MIB, random);
        const Case c = {{"in"}, {VR_FORMAT_QCOW2}, VR_FORMAT_QCOW2, bits, bits % 2};
        VrConvertPlan plan;
        char digest[VR_DIGEST_HEX_LENGTH + 1];
        g_autofree char *source = in_dir(*state, "in"), *target = in_dir(*state, "out");
        convert(*state, &c, "out", &plan, digest);
        tool("qemu-img", "compare", "-f", "qcow2", "-F", "qcow2", source, target);
        tool("qemu-img", "check", "-q", "-f", "qcow2", target);
    }
}

static void link_on(const TestDir *dir, const char *name, const char *base, const char *format, const char *opts,
                    guint64 size)
{
    g_autofree char *path = in_dir(dir, name), *base_path = in_dir(dir, base);
    g_autofree char *bytes = g_strdup_printf("%" G_GUINT64_FORMAT, size);
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-o", opts, "-F", format, "-b", base_path, path, bytes);
}

static void chains_are_flattened(void **state)
{
    TestDir *dir = *state;
    g_autoptr(GRand) random = g_rand_new_with_seed(13);
    g_autofree char *top = in_dir(dir, "top"), *target = in_dir(dir, "out");
    for (int round = 0; round < 12; round++) {
        gboolean raw = round % 2;
        const char *base = raw ? "raw" : "qcow2";
        guint64 sizes[3];
        for (int i = 0; i < 3; i++)
            sizes[i] = (guint64)g_rand_int_range(random, 2000, 24000) * 512;
        create(dir, "base", base, NULL, sizes[2]);
        fill_image(dir, "base", base, sizes[2], random);
        link_on(dir, "middle", "base", base, round % 3 ? "cluster_size=4k" : "extended_l2=on,cluster_size=64k",
                sizes[1]);
        fill_image(dir, "middle", "qcow2", sizes[1], random);
        link_on(dir, "top", "middle", "qcow2", round % 4 ? "cluster_size=64k" : "cluster_size=512", sizes[0]);
        fill_image(dir, "top", "qcow2", sizes[0], random);
        Case c = {{"top", "middle", "base"},
                  {VR_FORMAT_QCOW2, VR_FORMAT_QCOW2, raw ? VR_FORMAT_RAW : VR_FORMAT_QCOW2},
                  VR_FORMAT_RAW,
                  0,
                  round % 3 == 0};
        for (int format = 0; format < 2; format++) {
            VrConvertPlan plan;
            char digest[VR_DIGEST_HEX_LENGTH + 1];
            c.format = format ? VR_FORMAT_QCOW2 : VR_FORMAT_RAW;
            convert(dir, &c, "out", &plan, digest);
            tool("qemu-img", "compare", "-f", "qcow2", "-F", name_of[c.format], top, target);
            if (format)
                tool("qemu-img", "check", "-q", "-f", "qcow2", target);
        }
    }
}

/* B13: zeros up to the size that was asked for; what a longer base has behind the end of its overlay stays hidden. */
static void a_disk_may_grow(void **state)
{
    TestDir *dir = *state;
    g_autoptr(GRand) random = g_rand_new_with_seed(17);
    const guint64 sizes[] = {6 * MIB, 6 * MIB + 512, 6 * MIB + 65536, 600 * MIB, G_GUINT64_CONSTANT(3) << 40};
    g_autofree char *base = in_dir(dir, "base"), *top = in_dir(dir, "top"), *target = in_dir(dir, "out");
    create(dir, "base", "qcow2", NULL, 12 * MIB);
    fill_image(dir, "base", "qcow2", 12 * MIB, random);
    tool("qemu-io", "-f", "qcow2", "-c", "write -q -P 8 6M 2M", base);
    link_on(dir, "top", "base", "qcow2", "cluster_size=4k", 6 * MIB);
    for (gsize i = 0; i < 2 * G_N_ELEMENTS(sizes); i++) {
        guint64 size = sizes[i / 2];
        VrConvertPlan plan;
        char digest[VR_DIGEST_HEX_LENGTH + 1];
        g_autofree char *read = g_strdup_printf("read -q -P 0 6M %" G_GUINT64_FORMAT, MIN(size - 6 * MIB, 64 * MIB));
        Case c = {{"top", "base"},
                  {VR_FORMAT_QCOW2, VR_FORMAT_QCOW2},
                  i % 2 ? VR_FORMAT_QCOW2 : VR_FORMAT_RAW,
                  0,
                  i / 2 % 2,
                  size};
        if (c.format == VR_FORMAT_RAW && size > 1000 * MIB)
            continue; /* its digest alone would take an hour */
        convert(dir, &c, "out", &plan, digest);
        assert_int_equal(plan.virtual_size, size);
        tool("qemu-img", "compare", "-f", "qcow2", "-F", name_of[c.format], top, target);
        if (size > 6 * MIB)
            tool("qemu-io", "-r", "-f", name_of[c.format], "-c", read, target);
        if (c.format == VR_FORMAT_QCOW2)
            check_image(dir, target);
    }
}

/* Nothing of what a plan is made of grows with the disk. */
static void a_huge_disk_is_planned(void **state)
{
    TestDir *dir = *state;
    VrConvertPlan plan;
    char digest[VR_DIGEST_HEX_LENGTH + 1];
    g_autofree char *source = in_dir(dir, "huge"), *target = in_dir(dir, "out");
    create(dir, "huge", "qcow2", "cluster_size=2M", G_GUINT64_CONSTANT(63) << 40);
    tool("qemu-io", "-f", "qcow2", "-c", "write -q -P 3 20T 1M", "-c", "write -q -P 4 50T 1M", source);
    const Case c = {{"huge"}, {VR_FORMAT_QCOW2}, VR_FORMAT_QCOW2, 0, FALSE};
    convert(dir, &c, "out", &plan, digest);
    tool("qemu-img", "check", "-q", "-f", "qcow2", target);
    tool("qemu-io", "-r", "-f", "qcow2", "-c", "read -q -P 3 20T 1M", "-c", "read -q -P 4 50T 1M", target);
}

/* ---- what is refused ---- */

static void refuse(const TestDir *dir, const Case *c, VrErrorCode code, const char *text)
{
    for (int plain = 0; plain < 2; plain++) {
        GError *error = NULL;
        vr_autofd top = vr_open_beneath(dir->fd, c->links[0], O_RDONLY, 0, NULL);
        vr_autofd target = make_target(dir, "refused", 0);
        const VrConvertLink links[] = {{top, c->formats[0]}, {top, c->formats[1]}};
        const VrConvertJob job = {.links = links,
                                  .n_links = c->links[1] ? 2 : 1,
                                  .format = c->format,
                                  .cluster_bits = c->cluster_bits,
                                  .virtual_size = c->virtual_size,
                                  .copy = {.target_fd = target, .plain = plain}};
        assert_false(vr_convert(&job, NULL, NULL, &error));
        expect_error(&error, code, text);
    }
}

static void poke(const TestDir *dir, const char *name, guint64 offset, const void *bytes, gsize length)
{
    vr_autofd fd = vr_open_beneath(dir->fd, name, O_WRONLY, 0, NULL);
    assert_int_equal(pwrite(fd, bytes, length, (off_t)offset), (gssize)length);
}

/* Where the first L2 table lies. */
static guint64 first_table(const TestDir *dir, const char *name)
{
    VrQcow2Header header;
    guint8 entry[8];
    gsize got;
    vr_autofd fd = vr_open_beneath(dir->fd, name, O_RDONLY, 0, NULL);
    assert_true(vr_qcow2_header_read(fd, &header, NULL));
    assert_true(vr_pread_all(fd, entry, sizeof entry, header.l1_offset, &got, NULL));
    return vr_be64(entry) & VR_QCOW2_OFFSET_MASK;
}

static void damaged_sources_are_told(void **state)
{
    TestDir *dir = *state;
    const Case c = {{"in"}, {VR_FORMAT_QCOW2}, VR_FORMAT_RAW, 0, FALSE};
    const struct {
        guint8 entry[8];
        const char *text;
    } rows[] = {{{0x80, 0, 0, 0, 0, 5, 2, 0}, "a cluster that is not aligned"},
                {{0x80, 0, 0, 0x70, 0, 5, 0, 0}, "the source ends at byte"},
                {{0x40, 0, 0, 0, 0, 5, 0, 0}, "is damaged"},
                {{0x40, 0, 0, 0x70, 0, 5, 0, 0}, "is damaged"},
                {{0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, ""}};
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        make_qcow2(dir, "in", NULL, 8 * MIB);
        poke(dir, "in", first_table(dir, "in"), rows[i].entry, 8);
        refuse(dir, &c, VR_ERROR_INVALID, rows[i].text);
    }
    make_qcow2(dir, "in", NULL, 8 * MIB);
    guint64 l1 = first_table(dir, "in") - 65536; /* QEMU puts the first L2 table behind the L1 table */
    poke(dir, "in", l1, "\x80\0\0\x70\0\0\0\0", 8);
    refuse(dir, &c, VR_ERROR_INVALID, "a table ends outside the file");
    poke(dir, "in", l1, "\x80\0\0\0\0\1\2\0", 8);
    refuse(dir, &c, VR_ERROR_INVALID, "an L2 table that is not aligned");
    poke(dir, "in", 0, "nonsense", 8);
    refuse(dir, &c, VR_ERROR_INVALID, "it has no qcow2 header");
}

static void wrong_questions_are_refused(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    make_qcow2(dir, "in", NULL, 8 * MIB);
    make_raw(dir, "raw", 4096, 1);
    refuse(dir, &(Case){{"in"}, {VR_FORMAT_QCOW2}, VR_FORMAT_QCOW2, 9, FALSE}, VR_ERROR_USAGE, "clusters of 2^9");
    refuse(dir, &(Case){{"in"}, {VR_FORMAT_QCOW2}, VR_FORMAT_QCOW2, 22, FALSE}, VR_ERROR_USAGE, "clusters of 2^22");
    refuse(dir, &(Case){{"raw", "in"}, {VR_FORMAT_RAW, VR_FORMAT_QCOW2}, VR_FORMAT_RAW, 0, FALSE}, VR_ERROR_USAGE,
           "only the last one can be");
    for (int format = 0; format < 2; format++) {
        VrImageFormat to = format ? VR_FORMAT_QCOW2 : VR_FORMAT_RAW;
        refuse(dir, &(Case){{"in"}, {VR_FORMAT_QCOW2}, to, 0, FALSE, 8 * MIB - 512}, VR_ERROR_USAGE, "only larger");
        refuse(dir, &(Case){{"in"}, {VR_FORMAT_QCOW2}, to, 0, FALSE, 8 * MIB + 1}, VR_ERROR_USAGE, "whole sectors");
        refuse(dir, &(Case){{"in"}, {VR_FORMAT_QCOW2}, to, 0, FALSE, G_MAXUINT64 - 511}, VR_ERROR_USAGE,
               "cannot become");
    }
    const VrConvertJob none = {.format = VR_FORMAT_RAW};
    assert_false(vr_convert(&none, NULL, NULL, &error));
    expect_error(&error, VR_ERROR_USAGE, "1 to 32 links, not 0");
}

static void a_cancel_ends_a_plan(void **state)
{
    GError *error = NULL;
    gint cancelled = 1;
    make_qcow2(*state, "in", NULL, 8 * MIB);
    vr_autofd fd = vr_open_beneath(((TestDir *)*state)->fd, "in", O_RDONLY, 0, NULL);
    const VrConvertLink link = {fd, VR_FORMAT_QCOW2};
    for (int format = 0; format < 2; format++) {
        VrConvertPlan plan;
        const VrConvertJob job = {.links = &link,
                                  .n_links = 1,
                                  .format = format ? VR_FORMAT_QCOW2 : VR_FORMAT_RAW,
                                  .copy = {.cancelled = &cancelled}};
        assert_false(vr_convert_plan(&job, &plan, &error));
        expect_error(&error, VR_ERROR_CANCELLED, "cancelled");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        dir_test(every_qcow2_is_read),          dir_test(raw_of_any_size_is_read),
        dir_test(packed_clusters_are_unpacked), dir_test(clusters_of_any_size_are_written),
        dir_test(chains_are_flattened),         dir_test(a_huge_disk_is_planned),
        dir_test(damaged_sources_are_told),     dir_test(wrong_questions_are_refused),
        dir_test(a_cancel_ends_a_plan),         dir_test(a_disk_may_grow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
