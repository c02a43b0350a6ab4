/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The NVRAM as a file: what is taken for one, and its copy. Row B14. */
#include "disk/stores.h"

#include "disk/nvram.h"
#include "disk/qcow2.h"

#define UUID "0c1e8f6a-1111-4222-8333-123456789abc"
#define PLACE "root/disks/" UUID
#define BYTES (528 * 1024)

static char *make_nvram(const TestDir *dir, const char *name, gsize size)
{
    g_autofree char *bytes = g_malloc(size);

    for (gsize i = 0; i < size; i++)
        bytes[i] = (char)(i % 251);
    put_file(dir, name, bytes, size);
    return in_dir(dir, name);
}

static gboolean copy(VrStore *store, const char *from, const char *format, GError **error)
{
    return vr_nvram_copy(store, UUID, "g1.nvram", from, format, NULL, NULL, error);
}

static void the_copy_is_exact_and_0600(void **state)
{
    TestDir *dir = *state;
    g_autoptr(GError) error = NULL;
    g_autoptr(VrStore) store = open_store(dir);
    g_autofree char *from = make_nvram(dir, "x_VARS.fd", BYTES);
    g_autofree char *before = digest_of_file(dir, "x_VARS.fd");
    VrFileId id;

    (void)umask(0077);
    assert_int_equal(chmod(from, 0400), 0);
    assert_true(vr_nvram_look(from, &id, &error));
    assert_int_equal(id.size, BYTES);
    assert_true(copy(store, from, "raw", &error));
    g_autofree char *after = digest_of_file(dir, PLACE "/g1.nvram");
    g_autofree char *place = in_dir(dir, PLACE);
    assert_string_equal(after, before);
    assert_int_equal(mode_of(dir, PLACE "/g1.nvram"), 0600);
    assert_int_equal(mode_of(dir, "x_VARS.fd"), 0400);
    assert_int_equal(count_entries(place), 1);
}

/* Where it lies QEMU's user may write: nothing that he puts there is shown to his guest as its NVRAM. */
static void what_is_no_nvram_is_refused(void **state)
{
    TestDir *dir = *state;
    static const struct {
        const char *name, *text;
    } cases[] = {{"link", "is a symbolic link"},
                 {"linked", "has more than one name"},
                 {"fifo", "is no regular file"},
                 {"dir", "is no regular file"},
                 {"empty", "is empty"},
                 {"large", "is larger than 64 MiB"},
                 {"dangling", "is a symbolic link"}};
    g_autoptr(VrStore) store = open_store(dir);
    g_autofree char *good = make_nvram(dir, "linked", BYTES);
    g_autofree char *large = make_nvram(dir, "large", 1);
    g_autofree char *empty = make_nvram(dir, "empty", 0);

    assert_int_equal(linkat(dir->fd, "linked", dir->fd, "second", 0), 0);
    assert_int_equal(symlinkat("second", dir->fd, "link"), 0);
    assert_int_equal(symlinkat("nowhere", dir->fd, "dangling"), 0);
    assert_int_equal(mkfifoat(dir->fd, "fifo", 0600), 0);
    assert_int_equal(mkdirat(dir->fd, "dir", 0700), 0);
    assert_int_equal(truncate(large, (off_t)VR_NVRAM_MAX_BYTES + 1), 0);
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        GError *error = NULL;
        g_autofree char *path = in_dir(dir, cases[i].name);
        VrFileId id;
        assert_false(vr_nvram_look(path, &id, &error));
        expect_error(&error, VR_ERROR_REFUSED, cases[i].text);
        assert_false(copy(store, path, "raw", &error));
        expect_error(&error, VR_ERROR_REFUSED, cases[i].text);
    }
    assert_false(is_there(dir, PLACE));
    assert_int_equal(truncate(large, (off_t)VR_NVRAM_MAX_BYTES), 0);
    assert_true(copy(store, large, "raw", NULL));
}

static void a_missing_one_is_told_from_others(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    g_autoptr(VrStore) store = open_store(dir);
    g_autofree char *path = in_dir(dir, "none");
    VrFileId id;

    assert_false(vr_nvram_look(path, &id, &error));
    expect_error(&error, VR_ERROR_NOT_FOUND, "none");
    assert_false(copy(store, path, "raw", &error));
    expect_error(&error, VR_ERROR_NOT_FOUND, "none");
}

static void a_name_that_is_taken_stays(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    g_autoptr(VrStore) store = open_store(dir);
    g_autofree char *from = make_nvram(dir, "x_VARS.fd", BYTES);
    g_autofree char *text = NULL;

    assert_true(copy(store, from, "raw", &error));
    put_file(dir, PLACE "/g1.nvram", "precious", 8);
    assert_false(copy(store, from, "raw", &error));
    expect_error(&error, VR_ERROR_CONFLICT, "g1.nvram exists already");
    text = content_of(dir, PLACE "/g1.nvram");
    assert_string_equal(text, "precious");
}

static void a_qcow2_one_stands_alone(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    g_autoptr(VrStore) store = open_store(dir);
    g_autofree char *base = make_nvram(dir, "base.fd", BYTES);
    g_autofree char *alone = in_dir(dir, "alone.qcow2");
    g_autofree char *on_base = in_dir(dir, "on_base.qcow2");
    g_autofree char *with_data = in_dir(dir, "with_data.qcow2");
    g_autofree char *data = g_strdup_printf("data_file=%s/data.raw", dir->path);

    tool("qemu-img", "create", "-q", "-f", "qcow2", alone, "528K");
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", base, on_base);
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-o", data, with_data, "528K");
    assert_false(copy(store, on_base, "qcow2", &error));
    expect_error(&error, VR_ERROR_REFUSED, "stands alone");
    assert_false(copy(store, with_data, "qcow2", &error));
    expect_error(&error, VR_ERROR_REFUSED, "stands alone");
    assert_false(copy(store, base, "qcow2", &error));
    expect_error(&error, VR_ERROR_REFUSED, "stands alone");
    g_autofree char *copied = in_dir(dir, PLACE "/g1.nvram");
    assert_true(copy(store, alone, "qcow2", &error));
    tool("qemu-img", "compare", "-q", "-f", "qcow2", "-F", "qcow2", alone, copied);
}

/* Invariant 7: what is recorded before has the name after, and nothing else has. */
static void the_file_is_told_before_it_has_its_name(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    VrFileId id;
    g_autoptr(VrStore) store = open_store(dir);
    g_autofree char *from = make_nvram(dir, "x_VARS.fd", BYTES);
    g_autofree char *place = in_dir(dir, PLACE);
    g_autofree char *path = in_dir(dir, PLACE "/g1.nvram");
    Told told = {.path = path, .refuses = TRUE};

    assert_false(vr_nvram_copy(store, UUID, "g1.nvram", from, "raw", be_told, &told, &error));
    expect_error(&error, VR_ERROR_FENCED, "no more");
    assert_int_equal(count_entries(place), 0);
    told.refuses = FALSE;
    assert_true(vr_nvram_copy(store, UUID, "g1.nvram", from, "raw", be_told, &told, &error));
    assert_true(vr_nvram_look(path, &id, &error));
    assert_memory_equal(&id, &told.id, sizeof id);
}

/* A store that is full: an error, and nothing is left. */
static void no_space_leaves_nothing(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    g_autofree char *root = in_dir(dir, "root");
    g_autofree char *from = make_nvram(dir, "x_VARS.fd", 8 * 1024 * 1024);
    g_autofree char *place = in_dir(dir, PLACE);

    if (mkdir(root, 0711) < 0 || mount("tmpfs", root, "tmpfs", 0, "size=4m,mode=0711") < 0)
        skip();
    {
        g_autoptr(VrStore) store = open_store(dir);
        assert_false(copy(store, from, "raw", &error));
        expect_error(&error, VR_ERROR_NO_SPACE, "g1.nvram");
        assert_int_equal(count_entries(place), 0);
    }
    assert_int_equal(umount(root), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        dir_test(the_copy_is_exact_and_0600),        dir_test(what_is_no_nvram_is_refused),
        dir_test(a_missing_one_is_told_from_others), dir_test(a_name_that_is_taken_stays),
        dir_test(a_qcow2_one_stands_alone),          dir_test(the_file_is_told_before_it_has_its_name),
        dir_test(no_space_leaves_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
