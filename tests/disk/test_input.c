/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is given, compressed or not: whole or refused, within its limits, in one pass. */
#include "disk/stores.h"

#include "disk/input.h"

#define MIB (1024 * 1024)

/* The tools, their suffix, and a byte of the file that is inside the compressed data. */
static const struct {
    VrCompression compression;
    const char *tool, *suffix;
} tools[] = {
    {VR_COMPRESSION_XZ, "xz", ".xz"}, {VR_COMPRESSION_GZIP, "gzip", ".gz"}, {VR_COMPRESSION_ZSTD, "zstd", ".zst"}};

/* name -> name.xz beside it. */
static char *pack(const TestDir *dir, const char *name, gsize kind)
{
    g_autofree char *path = in_dir(dir, name);
    g_autofree char *command = g_strdup_printf("%s -c -1 \"$1\" >\"$1%s\"", tools[kind].tool, tools[kind].suffix);
    tool("sh", "-c", command, "sh", path);
    return g_strconcat(name, tools[kind].suffix, NULL);
}

static char *read_bytes(const TestDir *dir, const char *name, gsize *length)
{
    g_autofree char *path = in_dir(dir, name);
    char *bytes = NULL;
    assert_true(g_file_get_contents(path, &bytes, length, NULL));
    return bytes;
}

static gboolean take(const TestDir *dir, const char *name, VrCompression compression, guint64 max_size,
                     VrInputSums *sums, GError **error)
{
    vr_autofd in = vr_open_beneath(dir->fd, name, O_RDONLY, 0, NULL);
    vr_autofd out = vr_open_beneath(dir->fd, "out", O_RDWR | O_CREAT | O_TRUNC, 0600, NULL);
    const VrInput input = {.fd = in,
                           .name = name,
                           .compression = compression,
                           .target_fd = out,
                           .max_size = max_size,
                           .limit = "the test's",
                           .max_written = 64 * MIB};
    return vr_input_take(&input, sums, error);
}

static void expect_out(const TestDir *dir, const char *bytes, gsize length, const VrInputSums *sums)
{
    gsize got;
    g_autofree char *out = read_bytes(dir, "out", &got);
    g_autofree char *sum = sha256_of(bytes, length);
    assert_int_equal(got, length);
    assert_memory_equal(out, bytes, length);
    assert_string_equal(sums->image, sum);
    assert_int_equal(sums->size, length);
}

static void what_was_packed_comes_out(void **state)
{
    TestDir *dir = *state;
    const gsize sizes[] = {0, 1, 511, 4096, 262143, 262144, 262145, 3 * MIB + 17};
    for (gsize kind = 0; kind < G_N_ELEMENTS(tools); kind++) {
        for (gsize i = 0; i < G_N_ELEMENTS(sizes); i++) {
            g_autoptr(GError) error = NULL;
            VrInputSums sums;
            gsize length;
            make_raw(dir, "a", sizes[i], (guint32)i);
            g_autofree char *name = pack(dir, "a", kind);
            g_autofree char *given = digest_of_file(dir, name);
            g_autofree char *bytes = read_bytes(dir, "a", &length);
            take(dir, name, tools[kind].compression, length, &sums, &error); /* the limit is exact */
            expect_no_error(error);
            expect_out(dir, bytes, length, &sums);
            assert_string_equal(sums.given, given + 7);
        }
    }
}

static void members_follow_one_another(void **state)
{
    TestDir *dir = *state;
    for (gsize kind = 0; kind < G_N_ELEMENTS(tools); kind++) {
        g_autoptr(GError) error = NULL;
        VrInputSums sums;
        gsize one, two;
        make_raw(dir, "a", 300000, 1);
        make_raw(dir, "b", 12345, 2);
        g_autofree char *first = pack(dir, "a", kind);
        g_autofree char *second = pack(dir, "b", kind);
        tool("sh", "-c", "cd \"$1\" && cat \"$2\" \"$3\" >both && cat a b >plain", "sh", dir->path, first, second);
        g_autofree char *bytes = read_bytes(dir, "plain", &one);
        take(dir, "both", tools[kind].compression, one, &sums, &error);
        expect_no_error(error);
        expect_out(dir, bytes, one, &sums);
        /* cut exactly between the two, the rest of a member is missing */
        g_autofree char *packed = read_bytes(dir, "both", &two);
        put_file(dir, "cut", packed, two - 1);
        GError *cut = NULL;
        assert_false(take(dir, "cut", tools[kind].compression, one, &sums, &cut));
        expect_error(&cut, VR_ERROR_REFUSED, "cut: ");
    }
}

static void every_cut_is_seen(void **state)
{
    TestDir *dir = *state;
    for (gsize kind = 0; kind < G_N_ELEMENTS(tools); kind++) {
        gsize length;
        make_raw(dir, "a", 3000, 1);
        g_autofree char *name = pack(dir, "a", kind);
        g_autofree char *packed = read_bytes(dir, name, &length);
        for (gsize at = 0; at < length; at += at < 40 || length - at < 40 ? 1 : 37) {
            GError *error = NULL;
            VrInputSums sums;
            put_file(dir, "cut", packed, at);
            if (take(dir, "cut", tools[kind].compression, MIB, &sums, &error))
                fail_msg("%s cut after %zu of %zu bytes was accepted", tools[kind].tool, at, length);
            expect_error(&error, VR_ERROR_REFUSED, "cut: ");
        }
    }
}

static void what_follows_the_end_is_refused(void **state)
{
    TestDir *dir = *state;
    const struct {
        const char *bytes;
        gsize length;
    } tails[] = {{"x", 1},
                 {"\0\0\0", 3},
                 {"garbage garbage garbage", 23},
                 {"\x1f\x8b", 2},
                 {"\x28\xb5\x2f\xfd", 4},
                 {"\xfd"
                  "7zXZ",
                  5}};
    for (gsize kind = 0; kind < G_N_ELEMENTS(tools); kind++) {
        gsize length;
        make_raw(dir, "a", 3000, 1);
        g_autofree char *name = pack(dir, "a", kind);
        g_autofree char *packed = read_bytes(dir, name, &length);
        for (gsize i = 0; i < G_N_ELEMENTS(tails); i++) {
            GError *error = NULL;
            VrInputSums sums;
            g_autofree char *bytes = g_malloc(length + tails[i].length);
            memcpy(bytes, packed, length);
            memcpy(bytes + length, tails[i].bytes, tails[i].length);
            put_file(dir, "tail", bytes, length + tails[i].length);
            if (take(dir, "tail", tools[kind].compression, MIB, &sums, &error))
                fail_msg("%s with tail %zu was accepted", tools[kind].tool, i);
            expect_error(&error, VR_ERROR_REFUSED, "tail: ");
        }
    }
}

/* No crash and no hang; a changed byte of the data itself is seen by the check sum, which gzip and xz always have. */
static void damage_is_seen(void **state)
{
    TestDir *dir = *state;
    for (gsize kind = 0; kind < G_N_ELEMENTS(tools); kind++) {
        gsize length;
        make_raw(dir, "a", 3000, 1);
        g_autofree char *original = digest_of_file(dir, "a");
        g_autofree char *name = pack(dir, "a", kind);
        g_autofree char *packed = read_bytes(dir, name, &length);
        for (gsize at = 0; at < length; at += 7) {
            g_autoptr(GError) error = NULL;
            VrInputSums sums;
            packed[at] = (char)(packed[at] ^ 0x55);
            put_file(dir, "bad", packed, length);
            packed[at] = (char)(packed[at] ^ 0x55);
            if (take(dir, "bad", tools[kind].compression, MIB, &sums, &error))
                assert_string_equal(sums.image, original + 7); /* a byte that means nothing: a time, a name */
        }
    }
}

static void a_bomb_ends_at_the_limit(void **state)
{
    TestDir *dir = *state;
    g_autofree char *path = in_dir(dir, "zeros");
    put_file(dir, "zeros", "", 0);
    assert_int_equal(truncate(path, 100 * MIB), 0);
    for (gsize kind = 0; kind < G_N_ELEMENTS(tools); kind++) {
        GError *error = NULL;
        VrInputSums sums;
        struct stat st;
        g_autofree char *name = pack(dir, "zeros", kind);
        assert_false(take(dir, name, tools[kind].compression, 100 * MIB - 1, &sums, &error));
        expect_error(&error, VR_ERROR_REFUSED, "holds more than 100.0");
        assert_int_equal(fstatat(dir->fd, "out", &st, 0), 0);
        assert_true(st.st_size <= 100 * MIB);
        assert_true(take(dir, name, tools[kind].compression, 100 * MIB, &sums, &error));
        assert_int_equal(fstatat(dir->fd, "out", &st, 0), 0);
        assert_int_equal(st.st_size, 100 * MIB);
        assert_int_equal(st.st_blocks, 0); /* zeros are holes */
    }
}

static void what_does_not_fit_is_no_space(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    VrInputSums sums;
    make_raw(dir, "a", 2 * MIB, 1);
    vr_autofd in = vr_open_beneath(dir->fd, "a", O_RDONLY, 0, NULL);
    vr_autofd out = vr_open_beneath(dir->fd, "out", O_RDWR | O_CREAT, 0600, NULL);
    const VrInput input = {
        .fd = in, .name = "a", .target_fd = out, .max_size = 64 * MIB, .limit = "x", .max_written = MIB};
    assert_false(vr_input_take(&input, &sums, &error));
    expect_error(&error, VR_ERROR_NO_SPACE, "does not fit");
}

static void a_window_that_needs_too_much_memory_is_refused(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    VrInputSums sums;
    g_autofree char *path = in_dir(dir, "zeros");
    put_file(dir, "zeros", "", 0);
    assert_int_equal(truncate(path, MIB), 0);
    tool("sh", "-c",
         "zstd -q --long=31 --stream-size=4000000000 --no-check -c <\"$1\" >\"$1.zst\" || "
         "zstd -q --long=31 -c <\"$1\" >\"$1.zst\"",
         "sh", path);
    if (take(dir, "zeros.zst", VR_COMPRESSION_ZSTD, MIB, &sums, &error))
        return; /* this zstd made its window small */
    expect_error(&error, VR_ERROR_REFUSED, "128 MiB");
    tool("sh", "-c", "xz -c --lzma2=dict=1GiB <\"$1\" >\"$1.xz\"", "sh", path);
    assert_false(take(dir, "zeros.xz", VR_COMPRESSION_XZ, MIB, &sums, &error));
    expect_error(&error, VR_ERROR_REFUSED, "256 MiB");
}

/* ---- pipes ---- */

static gpointer write_slowly(gpointer data)
{
    int fd = GPOINTER_TO_INT(data);
    for (int i = 0; i < 50; i++) {
        assert_true(vr_write_all(fd, "0123456789", 10, "pipe", NULL));
        g_usleep(500);
    }
    close(fd);
    return NULL;
}

static void a_pipe_is_read_to_its_end(void **state)
{
    TestDir *dir = *state;
    g_autoptr(GError) error = NULL;
    VrInputSums sums;
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    vr_autofd out = vr_open_beneath(dir->fd, "out", O_RDWR | O_CREAT, 0600, NULL);
    GThread *writer = g_thread_new("writer", write_slowly, GINT_TO_POINTER(ends[1]));
    const VrInput input = {.fd = ends[0],
                           .name = "p",
                           .blake2b = TRUE,
                           .target_fd = out,
                           .max_size = MIB,
                           .limit = "",
                           .max_written = MIB};
    vr_input_take(&input, &sums, &error);
    g_thread_join(writer);
    close(ends[0]);
    expect_no_error(error);
    assert_int_equal(sums.size, 500);
    assert_string_equal(sums.given, sums.image);
}

static gpointer cancel_soon(gpointer data)
{
    g_usleep(50000);
    g_atomic_int_set((gint *)data, 1);
    return NULL;
}

static void a_silent_pipe_can_be_left(void **state)
{
    GError *error = NULL;
    VrInputSums sums;
    gint cancelled = 0;
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    GThread *thread = g_thread_new("cancel", cancel_soon, &cancelled);
    const VrInput input = {.fd = ends[0], .name = "p", .target_fd = -1, .cancelled = &cancelled};
    assert_false(vr_input_take(&input, &sums, &error));
    g_thread_join(thread);
    expect_error(&error, VR_ERROR_CANCELLED, "cancelled");
    close(ends[0]);
    close(ends[1]);
}

/* ---- published ---- */

static void a_compressed_image_is_published(void **state)
{
    TestDir *dir = *state;
    make_qcow2(dir, "a.qcow2", NULL, 6 * MIB);
    g_autofree char *plain = digest_of_file(dir, "a.qcow2");
    g_autoptr(VrStore) store = open_store(dir);
    for (gsize kind = 0; kind < G_N_ELEMENTS(tools); kind++) {
        GError *error = NULL;
        g_autofree char *version = g_strdup_printf("%zu", kind + 1);
        g_autofree char *name = pack(dir, "a.qcow2", kind);
        g_autofree char *given = digest_of_file(dir, name);
        assert_true(publish(dir, store, "a", version, name, given, NULL, &error));
        g_autoptr(VrImage) image = vr_store_get(store, "a", version, &error);
        assert_string_equal(image->source_digest, given + 7);
        assert_string_equal(image->stored_digest, plain + 7);
        assert_int_equal(image->format, VR_FORMAT_QCOW2);
        assert_true(vr_store_verify(store, image, TRUE, &error));
        g_autoptr(GPtrArray) findings = vr_store_inspect(store, "a", version, &error);
        assert_int_equal(findings->len, 0);
        assert_false(publish(dir, store, "a", "9", name, plain, NULL, &error)); /* that is of the inflated bytes */
        expect_error(&error, VR_ERROR_REFUSED, "another digest");
        gboolean already = FALSE;
        assert_true(publish(dir, store, "a", version, name, NULL, &already, &error));
        assert_true(already);
    }
    g_autofree char *names = in_dir(dir, "root/images/a");
    assert_int_equal(count_entries(names), 3);
}

static void a_name_that_does_not_say_it(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    make_raw(dir, "a.raw", MIB, 1);
    g_autoptr(VrStore) store = open_store(dir);
    for (gsize kind = 0; kind < G_N_ELEMENTS(tools); kind++) {
        g_autofree char *name = pack(dir, "a.raw", kind);
        g_autofree char *path = in_dir(dir, name);
        g_autofree char *other = in_dir(dir, "b.img");
        g_autofree char *wrong = g_strconcat("c.raw", tools[(kind + 1) % 3].suffix, NULL);
        g_autofree char *wrong_path = in_dir(dir, wrong);
        tool("cp", path, other);
        tool("cp", path, wrong_path);
        assert_false(publish(dir, store, "a", "1", "b.img", NULL, NULL, &error));
        expect_error(&error, VR_ERROR_REFUSED, tools[kind].suffix);
        assert_false(publish(dir, store, "a", "1", wrong, NULL, NULL, &error));
        expect_error(&error, VR_ERROR_REFUSED, tools[kind].suffix);
        g_autofree char *twice = pack(dir, name, kind);
        assert_false(publish(dir, store, "a", "1", twice, NULL, NULL, &error));
        expect_error(&error, VR_ERROR_REFUSED, "once more");
    }
    assert_false(is_there(dir, "root/images/a"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        dir_test(what_was_packed_comes_out),
        dir_test(members_follow_one_another),
        dir_test(every_cut_is_seen),
        dir_test(what_follows_the_end_is_refused),
        dir_test(damage_is_seen),
        dir_test(a_bomb_ends_at_the_limit),
        dir_test(what_does_not_fit_is_no_space),
        dir_test(a_window_that_needs_too_much_memory_is_refused),
        dir_test(a_pipe_is_read_to_its_end),
        cmocka_unit_test(a_silent_pipe_can_be_left),
        dir_test(a_compressed_image_is_published),
        dir_test(a_name_that_does_not_say_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
