/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What becomes of compressed clusters, other formats and chains when they are published. Row A9's digests, B6's bases. */
#include "disk/stores.h"

#include <sys/mount.h>

#define MIB (1024 * 1024)

static gboolean import(const TestDir *dir, const VrPublication *asked, const char *source, VrImage **image,
                       GError **error)
{
    g_autofree char *file = in_dir(dir, source);
    g_autoptr(VrStore) store = open_store(dir);
    VrPublication publication = *asked;
    publication.name = asked->name ? asked->name : "a";
    publication.version = asked->version ? asked->version : "1";
    publication.file = file;
    return vr_store_publish(store, &publication, image, NULL, error);
}

static void convert(const TestDir *dir, const char *options, const char *from, const char *to)
{
    g_autofree char *source = in_dir(dir, from);
    g_autofree char *target = in_dir(dir, to);
    tool("qemu-img", "convert", "-c", "-O", "qcow2", "-o", options, source, target);
}

/* A qcow2 with a pattern of its own at 1 MiB and at 2 MiB + 64 KiB * depth, on a backing file. */
static void make_overlay(const TestDir *dir, const char *name, const char *base, const char *base_format, guint depth)
{
    g_autofree char *path = in_dir(dir, name);
    g_autofree char *same = g_strdup_printf("write -P %u 1M 64k", 0x40 + depth);
    g_autofree char *own = g_strdup_printf("write -P %u %u 64k", 0x80 + depth, 2 * MIB + depth * 65536);
    tool("qemu-img", "create", "-q", "-u", "-f", "qcow2", "-F", base_format, "-b", base, path, "6M");
    if (depth == 0) /* its base cannot be opened */
        return;
    tool("qemu-io", "-f", "qcow2", "-c", same, "-c", own, path);
}

/* What is stored stands alone, is whole for qemu-img and for us, and holds the disk of `source`. */
static void expect_stored(const TestDir *dir, const VrImage *image, const char *source, const char *format)
{
    g_autofree char *path = in_dir(dir, source);
    g_autoptr(VrStore) store = open_store(dir);
    g_autoptr(GError) error = NULL;
    tool("qemu-img", "compare", "-q", "-f", format, "-F", vr_image_format_name(image->format), path, image->path);
    if (image->format == VR_FORMAT_QCOW2)
        tool("qemu-img", "check", "-q", "-f", "qcow2", image->path);
    assert_int_equal(
        mode_of(dir, image->format == VR_FORMAT_RAW ? "root/images/a/1/disk.raw" : "root/images/a/1/disk.qcow2"), 0444);
    vr_store_verify(store, image, TRUE, &error);
    expect_no_error(error);
    vr_autofd fd = open(image->path, O_RDONLY | O_CLOEXEC);
    VrImageVerdict verdict;
    assert_true(vr_image_check(fd, NULL, &verdict, NULL));
    assert_true(verdict.accepted); /* so without compressed clusters and without a backing file */
    assert_int_equal(verdict.virtual_size, image->virtual_size);
    assert_int_equal(verdict.file_size, image->file_size);
}

static void every_format_becomes_qcow2_or_raw(void **state)
{
    TestDir *dir = *state;
    const struct {
        const char *options; /* NULL: as it is */
        const char *source, *format;
        VrImageFormat as;
        gboolean same; /* stored byte for byte */
    } rows[] = {
        {NULL, "a.raw", "raw", VR_FORMAT_QCOW2, FALSE},
        {NULL, "a.raw", "raw", VR_FORMAT_RAW, TRUE},
        {NULL, "a.qcow2", "qcow2", VR_FORMAT_QCOW2, TRUE},
        {NULL, "a.qcow2", "qcow2", VR_FORMAT_RAW, FALSE},
        {"compression_type=zlib", "zlib.qcow2", "qcow2", VR_FORMAT_QCOW2, FALSE},
        {"compression_type=zstd", "zstd.qcow2", "qcow2", VR_FORMAT_QCOW2, FALSE},
        {"compression_type=zstd,cluster_size=4k", "small.qcow2", "qcow2", VR_FORMAT_RAW, FALSE},
        {"compression_type=zlib,extended_l2=on", "sub.qcow2", "qcow2", VR_FORMAT_RAW, FALSE},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_auto(VrChildResult) result = {0};
        GError *error = NULL;
        g_autoptr(VrImage) image = NULL;
        make_raw(dir, "a.raw", 5 * MIB + 512, 3);
        make_qcow2(dir, "a.qcow2", NULL, 6 * MIB);
        if (rows[i].options)
            convert(dir, rows[i].options, "a.qcow2", rows[i].source);
        g_autofree char *digest = digest_of_file(dir, rows[i].source);
        const VrPublication asked = {.as_given = rows[i].as != VR_FORMAT_QCOW2, .as = rows[i].as, .digest = digest};
        import(dir, &asked, rows[i].source, &image, &error);
        expect_no_error(error);
        assert_int_equal(image->format, rows[i].as);
        assert_string_equal(image->source_digest, digest + strlen("sha256:"));
        assert_int_equal(strcmp(image->stored_digest, image->source_digest) == 0, rows[i].same);
        expect_stored(dir, image, rows[i].source, rows[i].format);
        g_autofree char *names = in_dir(dir, "root/images/a");
        assert_int_equal(count_entries(names), 1);
        g_autofree char *root = in_dir(dir, "root");
        assert_true(vr_child_run((const char *const[]){"rm", "-r", root, NULL}, NULL, &result, NULL));
    }
}

static void a_chain_that_is_named_is_flattened(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    g_autofree char *one = in_dir(dir, "one.qcow2");
    g_autofree char *base = in_dir(dir, "base.raw");
    const char *const links[] = {one, base, NULL};
    g_autoptr(VrImage) image = NULL, again = NULL;
    make_raw(dir, "base.raw", 4 * MIB, 1);
    make_overlay(dir, "one.qcow2", base, "raw", 1);
    make_overlay(dir, "top.qcow2", "one.qcow2", "qcow2", 2);
    VrPublication asked = {.flatten = links};
    import(dir, &asked, "top.qcow2", &image, &error);
    expect_no_error(error);
    assert_string_not_equal(image->source_digest, image->stored_digest);
    expect_stored(dir, image, "top.qcow2", "qcow2");

    import(dir, &asked, "top.qcow2", &again, &error); /* the same chain again */
    expect_no_error(error);
    make_raw(dir, "base.raw", 4 * MIB, 2);
    assert_false(import(dir, &asked, "top.qcow2", NULL, &error));
    expect_error(&error, VR_ERROR_CONFLICT, "with other content");

    g_autofree char *sum_top = digest_of_file(dir, "top.qcow2");
    g_autofree char *sum_one = digest_of_file(dir, "one.qcow2");
    g_autofree char *sum_base = digest_of_file(dir, "base.raw");
    g_autofree char *two = g_strdup_printf("%s  top.qcow2\n%s  one.qcow2\n", sum_top + 7, sum_one + 7);
    g_autofree char *three = g_strdup_printf("%s%s  base.raw\n", two, sum_base + 7);
    g_autofree char *list = in_dir(dir, "SUMS");
    g_autofree char *digest = g_strconcat("@", list, NULL);
    asked.version = "2";
    asked.digest = digest;
    put_file(dir, "SUMS", two, strlen(two));
    assert_false(import(dir, &asked, "top.qcow2", NULL, &error));
    expect_error(&error, VR_ERROR_REFUSED, "base.raw");
    put_file(dir, "SUMS", three, strlen(three));
    assert_true(import(dir, &asked, "top.qcow2", NULL, &error));
    asked.digest = sum_top;
    asked.version = "3";
    assert_false(import(dir, &asked, "top.qcow2", NULL, &error));
    expect_error(&error, VR_ERROR_USAGE, "which file of the chain");
}

static void a_chain_that_is_not_what_is_named_is_refused(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    make_qcow2(dir, "base.qcow2", NULL, 6 * MIB);
    make_qcow2(dir, "other.qcow2", NULL, 6 * MIB);
    make_raw(dir, "base.raw", MIB, 1);
    make_overlay(dir, "one.qcow2", "base.qcow2", "qcow2", 1);
    make_overlay(dir, "top.qcow2", "one.qcow2", "qcow2", 2);
    make_overlay(dir, "on-raw.qcow2", "base.qcow2", "raw", 0); /* it lies about the format */
    make_overlay(dir, "json.qcow2", "json:{\"driver\":\"qcow2\",\"file\":{\"filename\":\"/etc/shadow\"}}", "qcow2", 0);
    make_overlay(dir, "nbd.qcow2", "nbd://localhost/base.qcow2x", "qcow2", 0);
    make_overlay(dir, "self.qcow2", "self.qcow2", "qcow2", 0);
    const struct {
        const char *source, *links[4];
        const char *text;
    } rows[] = {
        {"top.qcow2", {"one.qcow2"}, "'base.qcow2', which --flatten does not name"},
        {"top.qcow2", {"base.qcow2", "one.qcow2"}, "'one.qcow2', and"},
        {"top.qcow2", {"other.qcow2"}, "'one.qcow2', and"},
        {"one.qcow2", {"base.qcow2", "other.qcow2"}, "stands alone"},
        {"base.qcow2", {"other.qcow2"}, "stands alone"},
        {"base.raw", {"other.qcow2"}, "stands alone"},
        {"on-raw.qcow2", {"base.qcow2"}, "says that its backing file is raw"},
        {"json.qcow2", {"base.qcow2"}, "json:{"},
        {"nbd.qcow2", {"base.qcow2"}, "nbd://"},
        {"self.qcow2", {"self.qcow2"}, "in the chain twice"},
        {"one.qcow2", {"absent.qcow2"}, "absent.qcow2"},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GPtrArray) links = g_ptr_array_new_with_free_func(g_free);
        for (const char *const *name = rows[i].links; *name; name++)
            g_ptr_array_add(links, in_dir(dir, *name));
        g_ptr_array_add(links, NULL);
        for (gint dry_run = 0; dry_run < 2; dry_run++) {
            const VrPublication asked = {.flatten = (const char *const *)links->pdata, .dry_run = dry_run};
            assert_false(import(dir, &asked, rows[i].source, NULL, &error));
            if (!strstr(error->message, rows[i].text))
                fail_msg("row %" G_GSIZE_FORMAT ": %s", i, error->message);
            g_clear_error(&error);
        }
        assert_false(is_there(dir, "root/images"));
    }
    assert_false(import(dir, &(VrPublication){0}, "one.qcow2", NULL, &error));
    expect_error(&error, VR_ERROR_REFUSED, "--flatten");
}

static void put_number(const TestDir *dir, const char *name, guint64 offset, guint64 value, gsize bytes)
{
    guint64 big = GUINT64_TO_BE(value);
    vr_autofd fd = openat(dir->fd, name, O_RDWR | O_CLOEXEC);
    assert_int_equal(pwrite(fd, (const guint8 *)&big + 8 - bytes, bytes, (off_t)offset), (gssize)bytes);
}

/* The name lies in the first cluster, behind the header, and is a name. */
static void a_backing_name_that_is_none_is_refused(void **state)
{
    TestDir *dir = *state;
    const struct {
        guint64 offset, length;
        const char *bytes; /* put there */
    } rows[] = {
        {0, 10, NULL},
        {8, 10, NULL},
        {103, 10, NULL},
        {65536, 1, NULL},
        {65530, 10, NULL},
        {G_MAXUINT64, 10, NULL},
        {1 << 30, 10, NULL},
        {4096, 0, NULL},
        {4096, 1024, NULL},
        {4096, 5000, NULL},
        {4096, G_MAXUINT32, NULL},
        {4096, 10, "base\0qcow2"},
        {4096, 10, "\0ase.qcow2"},
        {4096, 11, "base.qcow2"},
    };
    g_autofree char *base = in_dir(dir, "base.qcow2");
    const char *const links[] = {base, NULL};
    const VrPublication asked = {.flatten = links};
    make_qcow2(dir, "base.qcow2", NULL, 6 * MIB);
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        GError *error = NULL;
        make_overlay(dir, "top.qcow2", "base.qcow2", "qcow2", 1);
        vr_autofd fd = openat(dir->fd, "top.qcow2", O_RDWR | O_CLOEXEC);
        if (rows[i].bytes)
            assert_int_equal(pwrite(fd, rows[i].bytes, 10, 4096), 10);
        put_number(dir, "top.qcow2", 8, rows[i].offset, 8);
        put_number(dir, "top.qcow2", 16, rows[i].length, 4);
        assert_false(import(dir, &asked, "top.qcow2", NULL, &error));
        expect_error(&error, VR_ERROR_REFUSED, "backing-file): the name of its backing file");
        assert_false(is_there(dir, "root/images"));
    }
}

static void a_dry_run_says_what_would_be(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    g_autoptr(VrImage) rehearsed = NULL, image = NULL;
    make_qcow2(dir, "a.qcow2", NULL, 6 * MIB);
    convert(dir, "compression_type=zstd", "a.qcow2", "b.qcow2");
    VrPublication asked = {.dry_run = TRUE};
    import(dir, &asked, "b.qcow2", &rehearsed, &error);
    expect_no_error(error);
    assert_false(is_there(dir, "root/images"));
    asked.dry_run = FALSE;
    import(dir, &asked, "b.qcow2", &image, &error);
    expect_no_error(error);
    assert_int_equal(rehearsed->file_size, image->file_size);
    assert_int_equal(rehearsed->virtual_size, image->virtual_size);
    assert_string_equal(rehearsed->source_digest, image->source_digest);
}

/* A refcount of 0 under the header: our rules do not look at it, qemu-img does. */
static void a_dry_run_asks_qemu_img(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    make_qcow2(dir, "a.qcow2", NULL, 6 * MIB);
    vr_autofd fd = openat(dir->fd, "a.qcow2", O_RDWR | O_CLOEXEC);
    assert_int_equal(pwrite(fd, "\0\0", 2, 2 * 65536), 2);
    const VrPublication asked = {.dry_run = TRUE};
    assert_false(import(dir, &asked, "a.qcow2", NULL, &error));
    expect_error(&error, VR_ERROR_REFUSED, "tool-corrupt");
}

/* 3 MiB that unpack to 60: the plan knows it before a byte is written. */
static void unpacked_data_must_fit(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    g_autofree char *root = in_dir(dir, "root");
    g_autofree char *raw = in_dir(dir, "a.raw");
    g_autofree char *packed = in_dir(dir, "a.qcow2");
    g_autofree char *names = in_dir(dir, "root/images/a");
    tool("qemu-img", "create", "-q", "-f", "raw", raw, "60M");
    tool("qemu-io", "-f", "raw", "-c", "write -P 7 0 60M", raw);
    tool("qemu-img", "convert", "-c", "-O", "qcow2", raw, packed);
    assert_int_equal(mkdir(root, 0711), 0);
    if (mount("tmpfs", root, "tmpfs", 0, "size=30m,mode=0711") != 0)
        skip();
    gboolean ok = import(dir, &(VrPublication){0}, "a.qcow2", NULL, &error);
    gboolean left = is_there(dir, "root/images/a");
    assert_int_equal(umount(root), 0);
    assert_false(ok);
    assert_false(left);
    expect_error(&error, VR_ERROR_NO_SPACE, "free and 76.");
}

typedef struct {
    const TestDir *dir;
    gint cancelled;
} LateCancel;

static gboolean is_being_converted(const TestDir *dir)
{
    g_auto(VrChildResult) found = {0};
    g_autofree char *images = in_dir(dir, "root/images");
    assert_true(
        vr_child_run((const char *const[]){"find", images, "-path", "*/v/disk.qcow2", NULL}, NULL, &found, NULL));
    return found.out_length > 0;
}

static void cancel_late(const VrCopyProgress *progress, void *data)
{
    LateCancel *late = data;
    if (is_being_converted(late->dir))
        g_atomic_int_set(&late->cancelled, 1);
}

static void a_cancel_while_it_is_converted_leaves_nothing(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    LateCancel late = {.dir = dir};
    make_raw(dir, "a.raw", 60 * MIB, 1);
    const VrPublication asked = {
        .cancelled = &late.cancelled, .progress = cancel_late, .progress_data = &late, .limit_rate = 400 * MIB};
    assert_false(import(dir, &asked, "a.raw", NULL, &error));
    assert_int_equal(late.cancelled, 1);
    expect_error(&error, VR_ERROR_CANCELLED, "cancelled");
    assert_false(is_there(dir, "root/images/a"));
}

/* The directory entry of the disk is the last that is made; a cancel that came while qemu-img was asked counts too. */
static void cancel_at_the_end(const VrCopyProgress *progress, void *data)
{
    if (progress->bytes_done == progress->bytes_total)
        g_atomic_int_set((gint *)data, 1);
}

static void a_cancel_in_the_last_moment_counts(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    gint cancelled = 0;
    make_raw(dir, "a.raw", 2 * MIB, 1);
    const VrPublication asked = {.as_given = TRUE,
                                 .as = VR_FORMAT_RAW,
                                 .cancelled = &cancelled,
                                 .progress = cancel_at_the_end,
                                 .progress_data = &cancelled};
    assert_false(import(dir, &asked, "a.raw", NULL, &error));
    expect_error(&error, VR_ERROR_CANCELLED, "cancelled");
    assert_false(is_there(dir, "root/images/a"));
}

static void a_damaged_cluster_is_refused(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    make_qcow2(dir, "a.qcow2", NULL, 6 * MIB);
    convert(dir, "compression_type=zlib", "a.qcow2", "b.qcow2");
    vr_autofd fd = openat(dir->fd, "b.qcow2", O_RDWR | O_CLOEXEC);
    for (off_t at = 5 * 65536; at < 6 * 65536; at += 16) /* behind the tables */
        assert_int_equal(pwrite(fd, "\xff\xff\xff\xff", 4, at), 4);
    assert_false(import(dir, &(VrPublication){0}, "b.qcow2", NULL, &error));
    expect_error(&error, VR_ERROR_REFUSED, "b.qcow2: ");
    assert_false(is_there(dir, "root/images/a"));
}

/* A raw disk that a program which probes would take for a qcow2 one. */
static void a_raw_result_must_not_look_like_qcow2(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    g_autofree char *path = in_dir(dir, "a.qcow2");
    g_autofree char *raw = in_dir(dir, "a.raw");
    make_raw(dir, "a.raw", MIB, 1);
    vr_autofd fd = openat(dir->fd, "a.raw", O_RDWR | O_CLOEXEC);
    assert_int_equal(pwrite(fd, "QFI\xfb", 4, 0), 4);
    tool("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, path);
    const VrPublication asked = {.as_given = TRUE, .as = VR_FORMAT_RAW};
    assert_false(import(dir, &asked, "a.qcow2", NULL, &error));
    assert_null(strstr(error->message, "--format")); /* nobody gave it */
    g_clear_error(&error);
    assert_false(is_there(dir, "root/images/a"));
    assert_true(import(dir, &(VrPublication){0}, "a.qcow2", NULL, &error));
}

static void the_format_of_a_version_never_changes(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    make_qcow2(dir, "a.qcow2", NULL, 6 * MIB);
    assert_true(import(dir, &(VrPublication){0}, "a.qcow2", NULL, &error));
    VrPublication asked = {.as_given = TRUE, .as = VR_FORMAT_RAW};
    assert_false(import(dir, &asked, "a.qcow2", NULL, &error));
    expect_error(&error, VR_ERROR_CONFLICT, "there already as qcow2");
    asked.as = VR_FORMAT_QCOW2;
    assert_true(import(dir, &asked, "a.qcow2", NULL, &error));
}

/* Its header extension becomes one that nobody knows. */
static void forget_backing_format(const TestDir *dir, const char *name)
{
    guint8 bytes[4096];
    vr_autofd fd = openat(dir->fd, name, O_RDWR | O_CLOEXEC);
    assert_int_equal(pread(fd, bytes, sizeof bytes, 0), sizeof bytes);
    const guint8 *found = memmem(bytes, sizeof bytes, "\xe2\x79\x2a\xca", 4);
    assert_non_null(found);
    assert_int_equal(pwrite(fd, "\x12\x34\x56\x78", 4, found - bytes), 4);
}

/* The header is silent and so is the name: the first bytes may be a guest's. */
static void the_format_of_a_link_is_not_guessed(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    g_autofree char *base = in_dir(dir, "base.img");
    const char *const links[] = {base, NULL};
    const VrPublication asked = {.flatten = links};
    make_raw(dir, "base.img", MIB, 1);
    make_overlay(dir, "top.qcow2", "base.img", "raw", 1);
    assert_true(import(dir, &asked, "top.qcow2", NULL, &error));
    forget_backing_format(dir, "top.qcow2");
    const VrPublication second = {.version = "2", .flatten = links};
    assert_false(import(dir, &second, "top.qcow2", NULL, &error));
    expect_error(&error, VR_ERROR_REFUSED, "suffix .raw or .qcow2");
}

static void the_rate_is_limited_on_every_way(void **state)
{
    TestDir *dir = *state;
    const struct {
        const char *source;
        VrImageFormat as;
        double reads; /* how often the bytes are read */
    } rows[] = {{"a.raw", VR_FORMAT_RAW, 1}, {"a.raw", VR_FORMAT_QCOW2, 2}};
    make_raw(dir, "a.raw", 16 * MIB, 1);
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        GError *error = NULL;
        g_autofree char *version = g_strdup_printf("%" G_GSIZE_FORMAT, i + 1);
        const VrPublication asked = {.version = version, .as_given = TRUE, .as = rows[i].as, .limit_rate = 16 * MIB};
        gint64 begin = g_get_monotonic_time();
        import(dir, &asked, "a.raw", NULL, &error);
        expect_no_error(error);
        assert_true((double)(g_get_monotonic_time() - begin) >= rows[i].reads * 0.7 * G_USEC_PER_SEC);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        dir_test(every_format_becomes_qcow2_or_raw),
        dir_test(a_chain_that_is_named_is_flattened),
        dir_test(a_chain_that_is_not_what_is_named_is_refused),
        dir_test(a_backing_name_that_is_none_is_refused),
        dir_test(a_dry_run_says_what_would_be),
        dir_test(a_dry_run_asks_qemu_img),
        dir_test(unpacked_data_must_fit),
        dir_test(a_cancel_while_it_is_converted_leaves_nothing),
        dir_test(the_rate_is_limited_on_every_way),
        dir_test(a_cancel_in_the_last_moment_counts),
        dir_test(a_damaged_cluster_is_refused),
        dir_test(a_raw_result_must_not_look_like_qcow2),
        dir_test(the_format_of_a_version_never_changes),
        dir_test(the_format_of_a_link_is_not_guessed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
