/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The NoCloud seed as a file: read back by another program than the one that makes it. Rows C1, C2, C7. */
#include "disk/stores.h"

#include "base/fd.h"
#include "disk/seed.h"

#include <fcntl.h>

#define UUID "0c1e8f6a-1111-4222-8333-123456789abc"
#define PLACE "root/disks/" UUID
#define ISO PLACE "/g1.seed.iso"
#define SECRET "pa55word-of-the-guest"

static GBytes *bytes_of(const char *text)
{
    return g_bytes_new(text, strlen(text));
}

static VrSeed *full_seed(void)
{
    const VrSeed seed = {bytes_of("#cloud-config\npassword: " SECRET "\n"), bytes_of("local-hostname: web-0\n"),
                         bytes_of("version: 2\n"), bytes_of("#!/bin/sh\n")};
    return g_memdup2(&seed, sizeof seed);
}

static gboolean make(VrStore *store, const char *name, const VrSeed *seed, GError **error)
{
    return vr_seed_make(store, UUID, name, seed, UUID "-g1-1.0.0", NULL, NULL, error);
}

static char *said_by(const char *const *argv)
{
    g_auto(VrChildResult) result = {0};

    assert_true(vr_child_run(argv, NULL, &result, NULL));
    assert_int_equal(result.exit_status, 0);
    return g_steal_pointer(&result.out);
}

/* The file as a system with Rock Ridge (-R), or Joliet (-J), reads it. */
static char *read_back(const TestDir *dir, const char *extension, const char *file)
{
    g_autofree char *path = in_dir(dir, ISO);

    return said_by((const char *const[]){"isoinfo", extension, "-i", path, "-x", file, NULL});
}

static void expect_content(const TestDir *dir, const char *file, const char *text)
{
    static const char *const extensions[] = {"-R", "-J"};

    for (gsize i = 0; i < G_N_ELEMENTS(extensions); i++) {
        g_autofree char *is = read_back(dir, extensions[i], file);
        assert_string_equal(is, text);
    }
}

static void cloud_init_finds_what_was_given(void **state) /* C1, C7 */
{
    TestDir *dir = *state;
    g_autoptr(GError) error = NULL;
    g_autoptr(VrStore) store = open_store(dir);
    g_autoptr(VrSeed) seed = full_seed();
    g_autofree char *path = in_dir(dir, ISO);
    g_autofree char *place = in_dir(dir, PLACE);

    (void)umask(0);
    make(store, "g1.seed.iso", seed, &error);
    expect_no_error(error);
    expect_content(dir, "/user-data", "#cloud-config\npassword: " SECRET "\n");
    expect_content(dir, "/meta-data", "instance-id: " UUID "-g1-1.0.0\nlocal-hostname: web-0\n");
    expect_content(dir, "/network-config", "version: 2\n");
    expect_content(dir, "/vendor-data", "#!/bin/sh\n");
    g_autofree char *label = said_by((const char *const[]){"blkid", "-p", "-o", "value", "-s", "LABEL", path, NULL});
    assert_string_equal(g_strstrip(label), "cidata");
    assert_int_equal(mode_of(dir, ISO), 0600);
    assert_int_equal(count_entries(place), 1); /* no part of it is left */
}

static void what_is_not_given_is_not_there(void **state)
{
    TestDir *dir = *state;
    g_autoptr(GError) error = NULL;
    g_autoptr(VrStore) store = open_store(dir);
    const VrSeed seed = {0};
    g_autofree char *path = in_dir(dir, ISO);

    make(store, "g1.seed.iso", &seed, &error);
    expect_no_error(error);
    expect_content(dir, "/user-data", "");
    expect_content(dir, "/meta-data", "instance-id: " UUID "-g1-1.0.0\n");
    g_autofree char *files = said_by((const char *const[]){"isoinfo", "-R", "-f", "-i", path, NULL});
    assert_null(strstr(files, "network-config"));
    assert_null(strstr(files, "vendor-data"));
}

static void the_same_content_is_the_same_image(void **state)
{
    TestDir *dir = *state;
    g_autoptr(VrStore) store = open_store(dir);
    g_autoptr(VrSeed) seed = full_seed();
    g_autoptr(VrSeed) copy = vr_seed_copy(seed);

    assert_true(make(store, "g1.seed.iso", seed, NULL));
    g_usleep(1100 * 1000); /* the second that ISO 9660 counts in */
    assert_true(make(store, "g2.seed.iso", copy, NULL));
    g_autofree char *one = digest_of_file(dir, ISO);
    g_autofree char *two = digest_of_file(dir, PLACE "/g2.seed.iso");
    assert_string_equal(one, two);
}

static void the_digest_tells_contents_apart(void **state) /* C11 */
{
    g_autoptr(VrSeed) seed = full_seed();
    g_autoptr(VrSeed) moved = NULL;
    g_autofree char *before = NULL;
    g_autofree char *after = NULL;

    g_clear_pointer(&seed->vendor_data, g_bytes_unref);
    before = vr_seed_digest(seed);
    moved = vr_seed_copy(seed); /* what was in one file is in the next */
    moved->vendor_data = g_steal_pointer(&moved->network_config);
    after = vr_seed_digest(moved);
    assert_string_not_equal(before, after);
    moved->network_config = g_steal_pointer(&moved->vendor_data);
    g_autofree char *again = vr_seed_digest(moved);
    assert_string_equal(before, again);
}

static void large_and_binary_content_is_exact(void **state)
{
    TestDir *dir = *state;
    g_autoptr(VrStore) store = open_store(dir);
    g_autoptr(GError) error = NULL;
    g_autofree char *path = in_dir(dir, ISO);
    g_autofree guint8 *bytes = g_malloc(VR_SEED_PART_MAX_BYTES);
    VrSeed seed = {0};
    g_auto(VrChildResult) result = {0};
    const VrChildLimits limits = {.max_output = 2 * VR_SEED_PART_MAX_BYTES};

    for (gsize i = 0; i < VR_SEED_PART_MAX_BYTES; i++)
        bytes[i] = (guint8)(i * 2654435761u >> 11);
    seed.user_data = seed.meta_data = seed.network_config = seed.vendor_data =
        g_bytes_new_static(bytes, VR_SEED_PART_MAX_BYTES);
    make(store, "g1.seed.iso", &seed, &error);
    expect_no_error(error);
    assert_true(vr_child_run((const char *const[]){"isoinfo", "-R", "-i", path, "-x", "/user-data", NULL}, &limits,
                             &result, NULL));
    assert_int_equal(result.out_length, VR_SEED_PART_MAX_BYTES);
    assert_memory_equal(result.out, bytes, VR_SEED_PART_MAX_BYTES);
    g_bytes_unref(seed.user_data);
}

static void a_copy_is_exact(void **state)
{
    TestDir *dir = *state;
    g_autoptr(VrStore) store = open_store(dir);
    g_autoptr(VrSeed) seed = full_seed();
    g_autofree char *path = in_dir(dir, ISO);
    g_autofree char *other = in_dir(dir, "other");
    GError *error = NULL;

    assert_true(make(store, "g1.seed.iso", seed, NULL));
    vr_autofd fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(vr_seed_make_copy(store, UUID, "g2.seed.iso", fd, NULL, NULL, NULL));
    g_autofree char *one = digest_of_file(dir, ISO);
    g_autofree char *two = digest_of_file(dir, PLACE "/g2.seed.iso");
    assert_string_equal(one, two);
    assert_int_equal(mode_of(dir, PLACE "/g2.seed.iso"), 0600);
    put_file(dir, "other", "no image", 8);
    vr_autofd none = open(other, O_RDONLY | O_CLOEXEC);
    assert_false(vr_seed_make_copy(store, UUID, "g3.seed.iso", none, NULL, NULL, &error));
    expect_error(&error, VR_ERROR_INVALID, "none of ours");
}

static void a_name_that_is_taken_stays(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    g_autoptr(VrStore) store = open_store(dir);
    g_autoptr(VrSeed) seed = full_seed();
    g_autofree char *text = NULL;

    assert_true(make(store, "g2.seed.iso", seed, NULL));
    put_file(dir, ISO, "precious", 8);
    assert_false(make(store, "g1.seed.iso", seed, &error));
    expect_error(&error, VR_ERROR_CONFLICT, "g1.seed.iso exists already");
    text = content_of(dir, ISO);
    assert_string_equal(text, "precious");
}

static void it_is_told_before_it_has_its_name(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    g_autoptr(VrStore) store = open_store(dir);
    g_autoptr(VrSeed) seed = full_seed();
    g_autofree char *path = in_dir(dir, ISO);
    g_autofree char *place = in_dir(dir, PLACE);
    Told told = {.path = path, .refuses = TRUE};
    VrFileId id;

    assert_false(vr_seed_make(store, UUID, "g1.seed.iso", seed, "x", be_told, &told, &error));
    expect_error(&error, VR_ERROR_FENCED, "no more");
    assert_int_equal(count_entries(place), 0); /* nothing of the secret stays */
    told.refuses = FALSE;
    assert_true(vr_seed_make(store, UUID, "g1.seed.iso", seed, "x", be_told, &told, NULL));
    assert_true(vr_disk_file_id(path, &id, NULL));
    assert_true(vr_disk_file_same(&id, &told.id));
}

static void put_tool(const TestDir *dir, const char *script)
{
    g_autofree char *tool = in_dir(dir, "bin/xorrisofs");

    put_file(dir, "bin/xorrisofs", script, strlen(script));
    assert_int_equal(chmod(tool, 0755), 0);
}

/* What is in it is in no argument, in no environment, and in no file that others may read. */
static void nobody_else_sees_it(void **state)
{
    TestDir *dir = *state;
    static const char spy[] =
        "#!/bin/sh\n"
        "{ tr '\\0' '\\n' < /proc/$$/cmdline; tr '\\0' '\\n' < /proc/$$/environ; for last; do :; done;\n"
        "find \"$last\" -printf '%%m %%f\\n'; find \"$last\" -perm /077 -printf 'open to others: %%f\\n'; }"
        " > '%s/spied'\nexec /usr/bin/xorrisofs \"$@\"\n";
    g_autoptr(VrStore) store = open_store(dir);
    g_autoptr(VrSeed) seed = full_seed();
    g_autofree char *script = g_strdup_printf(spy, dir->path);
    g_autofree char *bin = in_dir(dir, "bin");
    g_autofree char *path = g_strdup(g_getenv("PATH"));
    g_autofree char *with = g_strdup_printf("%s:%s", bin, path);

    assert_int_equal(mkdirat(dir->fd, "bin", 0755), 0);
    put_tool(dir, script);
    (void)umask(0);
    g_setenv("PATH", with, TRUE);
    assert_true(make(store, "g1.seed.iso", seed, NULL));
    g_setenv("PATH", path, TRUE);
    g_autofree char *spied = content_of(dir, "spied");
    assert_null(strstr(spied, SECRET));
    assert_non_null(strstr(spied, "700 parts\n"));
    assert_non_null(strstr(spied, "600 user-data\n"));
    assert_non_null(strstr(spied, "600 meta-data\n"));
    assert_null(strstr(spied, "open to others"));
}

static void a_tool_that_fails_leaves_nothing(void **state)
{
    TestDir *dir = *state;
    static const char *const scripts[] = {"#!/bin/sh\nexit 5\n", "#!/bin/sh\necho no image\n",
                                          "#!/bin/sh\nkill -9 $$\n", "#!/bin/sh\nexec cat /dev/zero\n"};
    g_autoptr(VrStore) store = open_store(dir);
    g_autoptr(VrSeed) seed = full_seed();
    g_autofree char *bin = in_dir(dir, "bin");
    g_autofree char *place = in_dir(dir, PLACE);
    g_autofree char *path = g_strdup(g_getenv("PATH"));
    g_autofree char *with = g_strdup_printf("%s:%s", bin, path);
    GError *error = NULL;

    assert_int_equal(mkdirat(dir->fd, "bin", 0755), 0);
    for (gsize i = 0; i < G_N_ELEMENTS(scripts); i++) {
        put_tool(dir, scripts[i]);
        g_setenv("PATH", with, TRUE);
        assert_false(make(store, "g1.seed.iso", seed, &error));
        g_setenv("PATH", path, TRUE);
        expect_error(&error, VR_ERROR_CHILD, "cannot make");
        assert_int_equal(count_entries(place), 0);
    }
    g_setenv("PATH", bin, TRUE);
    assert_int_equal(unlinkat(dir->fd, "bin/xorrisofs", 0), 0);
    assert_false(vr_seed_has_tool(&error));
    g_setenv("PATH", path, TRUE);
    expect_error(&error, VR_ERROR_NOT_FOUND, "install the package 'xorriso'");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        dir_test(cloud_init_finds_what_was_given),
        dir_test(what_is_not_given_is_not_there),
        dir_test(the_same_content_is_the_same_image),
        dir_test(the_digest_tells_contents_apart),
        dir_test(large_and_binary_content_is_exact),
        dir_test(a_copy_is_exact),
        dir_test(a_name_that_is_taken_stays),
        dir_test(it_is_told_before_it_has_its_name),
        dir_test(nobody_else_sees_it),
        dir_test(a_tool_that_fails_leaves_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
