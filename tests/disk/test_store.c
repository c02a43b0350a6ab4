/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "disk/stores.h"

#include <unistd.h>

#define MIB (1024 * 1024)
#define UUID "0C1E8F6A-1111-4222-8333-123456789ABC"

/* ---- opening ---- */

static void roots_follow_the_uri(void **state)
{
    const struct {
        const char *uri;
        gboolean session;
    } rows[] = {{"qemu:///system", FALSE},
                {"qemu:///session", TRUE},
                {"qemu+unix:///session?socket=/x", TRUE},
                {"qemu+unix:///system?socket=/session", FALSE},
                {"test:///default", FALSE}};
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *root = vr_store_default_root(rows[i].uri);
        g_autofree char *session = g_build_filename(g_get_user_data_dir(), "virt-reimage", NULL);
        assert_string_equal(root, rows[i].session ? session : "/var/lib/virt-reimage");
    }
}

static void a_store_is_made_and_found(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    g_autofree char *root = in_dir(dir, "deep/root");
    g_autofree char *link = in_dir(dir, "link");
    assert_null(vr_store_open(root, TRUE, &error));
    expect_error(&error, VR_ERROR_NOT_FOUND, "nothing was published");
    assert_false(is_there(dir, "deep"));
    VrStore *store = vr_store_open(root, FALSE, &error);
    expect_no_error(error);
    assert_int_equal(mode_of(dir, "deep/root"), 0711);
    assert_int_equal(mode_of(dir, "deep/root/state.db"), 0600);
    vr_store_close(store);
    assert_int_equal(symlink(root, link), 0);
    store = vr_store_open(link, TRUE, &error);
    expect_no_error(error);
    assert_string_equal(vr_store_root(store), root);
    assert_true(vr_db_is_read_only(vr_store_db(store)));
    assert_true(vr_store_root_fd(store) >= 0);
    vr_store_close(store);
}

static void a_root_that_others_can_write_is_refused(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    g_autofree char *root = in_dir(dir, "root");
    assert_int_equal(mkdir(root, 0700), 0);
    assert_int_equal(chmod(root, 0777), 0);
    assert_null(vr_store_open(root, FALSE, &error));
    expect_error(&error, VR_ERROR_REFUSED, "chmod go-w");
    assert_int_equal(chmod(root, 0755), 0);
    assert_int_equal(chown(root, 1, 1), 0);
    assert_null(vr_store_open(root, FALSE, &error));
    expect_error(&error, VR_ERROR_REFUSED, "belongs to user 1");
    assert_int_equal(chown(root, 0, 0), 0);
    assert_null(vr_store_open(root, TRUE, &error)); /* there, but no store yet */
    expect_error(&error, VR_ERROR_NOT_FOUND, "nothing was published");
    assert_int_equal(count_entries(root), 0);
    put_file(dir, "root/state.db", "garbage garbage garbage garbage", 30);
    assert_null(vr_store_open(root, FALSE, &error));
    expect_error(&error, VR_ERROR_DATABASE, "not a database");
}

/* ---- reading ---- */

static void lists_are_newest_first(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    const char *versions[] = {"1.2", "1.10", "2", "1.9.9"};
    make_raw(dir, "a.raw", MIB, 1);
    g_autoptr(VrStore) store = open_store(dir);
    g_autoptr(GPtrArray) none = vr_store_list(store, NULL, &error);
    assert_int_equal(none->len, 0);
    for (gsize i = 0; i < G_N_ELEMENTS(versions); i++)
        must_publish(dir, store, "b", versions[i], "a.raw");
    must_publish(dir, store, "a", "7", "a.raw");
    g_autoptr(GPtrArray) all = vr_store_list(store, NULL, &error);
    const char *expected[] = {"a 7", "b 2", "b 1.10", "b 1.9.9", "b 1.2"};
    assert_int_equal(all->len, G_N_ELEMENTS(expected));
    for (guint i = 0; i < all->len; i++) {
        const VrImage *image = all->pdata[i];
        g_autofree char *text = g_strjoin(" ", image->name, image->version, NULL);
        assert_string_equal(text, expected[i]);
    }
    g_autoptr(GPtrArray) one = vr_store_list(store, "a", &error);
    assert_int_equal(one->len, 1);
    assert_null(vr_store_list(store, "c", &error));
    expect_error(&error, VR_ERROR_NOT_FOUND, "there is no image c");
}

static void expect_latest(VrStore *store, const char *version)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(VrImage) image = vr_store_get(store, "a", "latest", &error);
    expect_no_error(error);
    assert_string_equal(image->version, version);
}

static void latest_is_the_highest_that_is_not_excluded(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    make_raw(dir, "a.raw", MIB, 1);
    g_autoptr(VrStore) store = open_store(dir);
    must_publish(dir, store, "a", "1.10", "a.raw");
    must_publish(dir, store, "a", "1.9", "a.raw");
    expect_latest(store, "1.10");
    assert_true(vr_store_set_excluded(store, "a", "1.10.0", TRUE, "does not boot; DROP TABLE", &error));
    expect_latest(store, "1.9");
    g_autoptr(VrImage) excluded = vr_store_get(store, "a", "1.10", &error);
    assert_true(excluded->excluded);
    assert_string_equal(excluded->excluded_reason, "does not boot; DROP TABLE");
    assert_true(vr_store_set_excluded(store, "a", "1.9", TRUE, NULL, &error));
    assert_null(vr_store_get(store, "a", NULL, &error));
    expect_error(&error, VR_ERROR_NOT_FOUND, "it has: 1.10 (excluded), 1.9 (excluded)");
    assert_true(vr_store_set_excluded(store, "a", "1.10", FALSE, NULL, &error));
    assert_true(vr_store_set_excluded(store, "a", "1.10", FALSE, NULL, &error));
    expect_latest(store, "1.10");
    assert_null(vr_store_get(store, "a", "3", &error));
    expect_error(&error, VR_ERROR_NOT_FOUND, "image a has no version 3; it has: 1.10, 1.9 (excluded)");
    assert_false(vr_store_set_excluded(store, "a", "3", TRUE, NULL, &error));
    expect_error(&error, VR_ERROR_NOT_FOUND, "has no version 3");
    assert_false(vr_store_set_excluded(store, "b", "3", TRUE, NULL, &error));
    expect_error(&error, VR_ERROR_NOT_FOUND, "there is no image b");
}

static void replace_record(const TestDir *dir, const char *text)
{
    g_autofree char *path = in_dir(dir, "root/images/a/2/image.json");
    (void)unlink(path);
    if (text)
        put_file(dir, "root/images/a/2/image.json", text, strlen(text));
}

/* image.json of a 2 with one piece of text replaced. */
static char *record_with(const char *record, const char *old, const char *new)
{
    g_auto(GStrv) parts = g_strsplit(record, old, 2);
    if (!parts[1])
        fail_msg("no %s in the record", old);
    return g_strjoinv(new, parts);
}

static void a_damaged_version_hides_no_other(void **state)
{
    TestDir *dir = *state;
    make_raw(dir, "a.raw", MIB, 1);
    g_autoptr(VrStore) store = open_store(dir);
    must_publish(dir, store, "a", "1", "a.raw");
    must_publish(dir, store, "a", "2", "a.raw");
    g_autofree char *record = content_of(dir, "root/images/a/2/image.json");
    g_autofree char *truncated = g_strndup(record, strlen(record) / 2);
    g_autofree char *huge = g_strnfill(100000, ' ');
    g_autofree char *size = record_with(record, "\"fileSize\": 1048576", "\"fileSize\": 1048577");
    g_autofree char *negative = record_with(record, "\"fileSize\": 1048576", "\"fileSize\": -1");
    g_autofree char *digest = record_with(record, "\"storedDigest\": \"sha256:", "\"storedDigest\": \"sha256:0");
    g_autofree char *version = record_with(record, "\"version\": \"2\"", "\"version\": \"3\"");
    g_autofree char *schema = record_with(record, "\"schemaVersion\": 1", "\"schemaVersion\": 2");
    g_autofree char *format = record_with(record, "\"format\": \"raw\"", "\"format\": \"../../x\"");
    g_autofree char *twice = record_with(record, "\"version\": \"2\"", "\"version\": \"1\", \"version\": \"2\"");
    const char *rows[] = {NULL, "",       "{}",   "[]",    "null", truncated, huge,
                          size, negative, digest, version, schema, format,    twice};
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        GError *error = NULL;
        replace_record(dir, rows[i]);
        g_autoptr(GPtrArray) list = vr_store_list(store, "a", &error);
        expect_no_error(error);
        assert_int_equal(list->len, 1);
        assert_null(vr_store_get(store, "a", "2", &error));
        expect_error(&error, rows[i] ? VR_ERROR_INVALID : VR_ERROR_NOT_FOUND, "image a 2: ");
        assert_null(vr_store_get(store, "a", "latest", &error)); /* no silent step back to 1 */
        expect_error(&error, rows[i] ? VR_ERROR_INVALID : VR_ERROR_NOT_FOUND, "image a 2: ");
    }
    assert_true(vr_store_set_excluded(store, "a", "2", TRUE, "damaged", NULL));
    expect_latest(store, "1");
    assert_true(vr_store_set_excluded(store, "a", "2", FALSE, NULL, NULL));
    replace_record(dir, record);
    expect_latest(store, "2");
}

static void a_reader_changes_nothing(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    make_raw(dir, "a.raw", MIB, 1);
    VrStore *writer = open_store(dir);
    must_publish(dir, writer, "a", "1", "a.raw");
    vr_store_close(writer);
    g_autofree char *before = listing(dir);
    g_autofree char *root = in_dir(dir, "root");
    g_autoptr(VrStore) store = vr_store_open(root, TRUE, &error);
    g_autoptr(GPtrArray) list = vr_store_list(store, NULL, &error);
    assert_int_equal(list->len, 1);
    assert_true(vr_store_verify(store, list->pdata[0], FALSE, &error));
    assert_int_equal(vr_store_instance_dir(store, UUID, NULL, &error), -1);
    expect_error(&error, VR_ERROR_NOT_FOUND, "disks");
    assert_false(publish(dir, store, "a", "2", "a.raw", NULL, NULL, &error));
    expect_error(&error, VR_ERROR_USAGE, "reading only");
    assert_false(vr_store_set_excluded(store, "a", "1", TRUE, NULL, &error));
    expect_error(&error, VR_ERROR_DATABASE, "readonly");
    g_autofree char *after = listing(dir);
    assert_string_equal(before, after);
}

/* ---- verification ---- */

/* Changes one byte of the stored disk and gives the file its times back as far as that can be done. */
static void damage_disk(const TestDir *dir)
{
    struct stat st;
    assert_int_equal(fstatat(dir->fd, "root/images/a/1/disk.raw", &st, 0), 0);
    vr_autofd fd = vr_open_beneath(dir->fd, "root/images/a/1/disk.raw", O_RDWR, 0, NULL);
    assert_int_equal(pwrite(fd, "!", 1, 4711), 1);
    assert_int_equal(futimens(fd, (const struct timespec[]){st.st_atim, st.st_mtim}), 0);
}

static void other_bytes_are_found(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    make_raw(dir, "a.raw", MIB, 1);
    g_autoptr(VrStore) store = open_store(dir);
    must_publish(dir, store, "a", "1", "a.raw");
    g_autoptr(VrImage) image = vr_store_get(store, "a", "1", &error);
    assert_true(vr_store_verify(store, image, FALSE, &error));
    assert_true(vr_store_verify(store, image, FALSE, &error));
    damage_disk(dir);
    assert_false(vr_store_verify(store, image, FALSE, &error));
    expect_error(&error, VR_ERROR_REFUSED, "does not hold the bytes that were published");
    assert_false(vr_store_verify(store, image, FALSE, &error));
    g_clear_error(&error);
}

static void what_was_verified_is_not_read_again(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    make_raw(dir, "a.raw", MIB, 1);
    g_autoptr(VrStore) store = open_store(dir);
    must_publish(dir, store, "a", "1", "a.raw");
    g_autoptr(VrImage) image = vr_store_get(store, "a", "1", &error);
    damage_disk(dir);
    /* As if it had been verified in this very state. */
    struct stat st;
    assert_int_equal(fstatat(dir->fd, "root/images/a/1/disk.raw", &st, 0), 0);
    assert_true(vr_db_begin(vr_store_db(store), NULL));
    assert_true(vr_db_run(vr_store_db(store), NULL, &error, "INSERT INTO image_verified VALUES (?, ?, ?, ?, ?)",
                          "siiis", image->path, (gint64)st.st_ino, (gint64)st.st_size,
                          (gint64)st.st_ctim.tv_sec * 1000000000 + st.st_ctim.tv_nsec, image->stored_digest));
    assert_true(vr_db_commit(vr_store_db(store), NULL));
    assert_true(vr_store_verify(store, image, FALSE, &error));
    assert_false(vr_store_verify(store, image, TRUE, &error)); /* force reads */
    expect_error(&error, VR_ERROR_REFUSED, "does not hold");
}

static void a_disk_that_was_touched_is_not_used(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    make_raw(dir, "a.raw", MIB, 1);
    g_autoptr(VrStore) store = open_store(dir);
    must_publish(dir, store, "a", "1", "a.raw");
    g_autofree char *path = in_dir(dir, "root/images/a/1/disk.raw");
    g_autofree char *second = in_dir(dir, "second");
    assert_int_equal(chmod(path, 0644), 0);
    assert_null(vr_store_get(store, "a", "1", &error));
    expect_error(&error, VR_ERROR_INVALID, "it is writable");
    assert_int_equal(chmod(path, 0444), 0);
    assert_int_equal(link(path, second), 0);
    assert_null(vr_store_get(store, "a", "1", &error));
    expect_error(&error, VR_ERROR_INVALID, "hard link");
    assert_int_equal(unlink(second), 0);
    assert_int_equal(truncate(path, MIB - 512), 0);
    assert_null(vr_store_get(store, "a", "1", &error));
    expect_error(&error, VR_ERROR_INVALID, "size");
    assert_int_equal(unlink(path), 0);
    assert_null(vr_store_get(store, "a", "1", &error));
    expect_error(&error, VR_ERROR_NOT_FOUND, "disk.raw");
    assert_int_equal(symlink("/etc/passwd", path), 0);
    assert_null(vr_store_get(store, "a", "1", &error));
    expect_error(&error, VR_ERROR_IO, "symbolic link");
}

static void verdicts_of_older_rules_are_checked_again(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    make_raw(dir, "a.raw", MIB, 1);
    g_autoptr(VrStore) store = open_store(dir);
    must_publish(dir, store, "a", "1", "a.raw");
    g_autoptr(VrImage) image = vr_store_get(store, "a", "1", &error);
    image->rules_version = 0;
    assert_true(vr_store_verify(store, image, FALSE, &error));
    vr_autofd fd = vr_open_beneath(dir->fd, "root/images/a/1/disk.raw", O_RDWR, 0, NULL);
    assert_int_equal(pwrite(fd, "KDMV", 4, 0), 4);
    assert_false(vr_store_verify(store, image, FALSE, &error));
    expect_error(&error, VR_ERROR_REFUSED, "(rule format)");
}

/* ---- places and recovery ---- */

static void instances_have_a_directory(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    g_autoptr(VrStore) store = open_store(dir);
    g_autofree char *path = NULL;
    vr_autofd fd = vr_store_instance_dir(store, UUID, &path, &error);
    assert_true(fd >= 0);
    assert_true(g_str_has_suffix(path, "/root/disks/0c1e8f6a-1111-4222-8333-123456789abc"));
    assert_int_equal(mode_of(dir, "root/disks"), 0711);
    assert_int_equal(mode_of(dir, "root/disks/0c1e8f6a-1111-4222-8333-123456789abc"), 0711);
    vr_autofd again = vr_store_instance_dir(store, UUID, NULL, &error);
    assert_true(again >= 0);
    assert_int_equal(vr_store_instance_dir(store, "..", NULL, &error), -1);
    expect_error(&error, VR_ERROR_USAGE, "not a UUID");
}

static void a_sweep_takes_what_nobody_holds(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    make_raw(dir, "a.raw", MIB, 1);
    g_autoptr(VrStore) store = open_store(dir);
    must_publish(dir, store, "a", "1", "a.raw");
    vr_autofd instance = vr_store_instance_dir(store, UUID, NULL, &error);
    vr_autofd name = vr_open_beneath(dir->fd, "root/images/a", O_RDONLY | O_DIRECTORY, 0, NULL);
    g_autoptr(VrTmpdir) live = vr_tmpdir_new(instance, "live", &error);
    vr_autofd dead_a = vr_mkdir_beneath(name, ".tmp-dead/v", 0711, NULL);
    vr_autofd dead_b = vr_mkdir_beneath(instance, ".tmp-dead", 0711, NULL);
    put_file(dir, "root/images/a/.tmp-dead/v/disk.raw", "half", 4);
    put_file(dir, "root/images/a/.tmp-dead/.lock", "", 0);
    put_file(dir, "root/images/stray", "x", 1);
    vr_autofd deep =
        vr_mkdir_beneath(name, ".tmp-deep/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17/18", 0711, NULL); /* not of ours */
    assert_int_equal(vr_store_sweep(store), 2);
    assert_false(is_there(dir, "root/images/a/.tmp-dead"));
    assert_true(is_there(dir, "root/images/a/1/disk.raw"));
    assert_true(is_there(dir, "root/disks/0c1e8f6a-1111-4222-8333-123456789abc/.tmp-live/.lock"));
}

static void a_killed_publisher_leaves_nothing_visible(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    make_raw(dir, "a.raw", MIB, 1);
    g_autoptr(VrStore) store = open_store(dir);
    vr_autofd name = vr_mkdir_beneath(vr_store_root_fd(store), "images/a", 0711, &error);
    /* What is there at the instant before the rename, its owner gone. */
    vr_autofd version = vr_mkdir_beneath(name, ".tmp-0815/v", 0711, &error);
    put_file(dir, "root/images/a/.tmp-0815/.lock", "", 0);
    put_file(dir, "root/images/a/.tmp-0815/v/disk.raw", "x", 1);
    put_file(dir, "root/images/a/.tmp-0815/v/image.json", "{}", 2);
    g_autoptr(GPtrArray) list = vr_store_list(store, NULL, &error);
    assert_int_equal(list->len, 0);
    assert_null(vr_store_get(store, "a", NULL, &error));
    expect_error(&error, VR_ERROR_NOT_FOUND, "it has: none");
    must_publish(dir, store, "a", "1", "a.raw");
    assert_int_equal(vr_store_sweep(store), 1);
}

/* A lost state.db is not replaced by an empty one while there are images or disks: it would forget whose they are. */
static void a_lost_database_is_not_made_anew(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    make_raw(dir, "a.raw", MIB, 1);
    VrStore *store = open_store(dir);
    must_publish(dir, store, "a", "1", "a.raw");
    g_autofree char *root = g_strdup(vr_store_root(store));
    g_autofree char *database = g_build_filename(root, "state.db", NULL);
    vr_store_close(store);
    assert_int_equal(unlink(database), 0);
    for (gsize read_only = 0; read_only < 2; read_only++) {
        assert_null(vr_store_open(root, read_only == 1, &error));
        expect_error(&error, VR_ERROR_DATABASE, "put the right state.db back");
        assert_int_not_equal(access(database, F_OK), 0);
    }
}

/* Freed twice, or read after the other was freed, it would be a finding of ASan. */
static void a_copy_of_an_image_shares_nothing(void **state)
{
    const gsize texts[] = {G_STRUCT_OFFSET(VrImage, name),          G_STRUCT_OFFSET(VrImage, version),
                           G_STRUCT_OFFSET(VrImage, publisher),     G_STRUCT_OFFSET(VrImage, offer),
                           G_STRUCT_OFFSET(VrImage, sku),           G_STRUCT_OFFSET(VrImage, path),
                           G_STRUCT_OFFSET(VrImage, published_at),  G_STRUCT_OFFSET(VrImage, excluded_reason),
                           G_STRUCT_OFFSET(VrImage, signature_key), G_STRUCT_OFFSET(VrImage, signed_comment)};
    for (int given = 0; given < 2; given++) {
        VrImage *image = g_new0(VrImage, 1);
        for (gsize i = 0; given && i < G_N_ELEMENTS(texts); i++)
            G_STRUCT_MEMBER(char *, image, texts[i]) = g_strdup_printf("text %zu", i);
        image->virtual_size = 7;
        g_autoptr(VrImage) copy = vr_image_copy(image);
        for (gsize i = 0; i < G_N_ELEMENTS(texts); i++) {
            const char *from = G_STRUCT_MEMBER(char *, image, texts[i]), *to = G_STRUCT_MEMBER(char *, copy, texts[i]);
            assert_true(given ? from != to : from == NULL && to == NULL);
        }
        vr_image_free(image);
        for (gsize i = 0; given && i < G_N_ELEMENTS(texts); i++) {
            g_autofree char *expected = g_strdup_printf("text %zu", i);
            assert_string_equal(G_STRUCT_MEMBER(char *, copy, texts[i]), expected);
        }
        assert_int_equal(copy->virtual_size, 7);
    }
    assert_null(vr_image_copy(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(roots_follow_the_uri),
        cmocka_unit_test(a_copy_of_an_image_shares_nothing),
        dir_test(a_store_is_made_and_found),
        dir_test(a_root_that_others_can_write_is_refused),
        dir_test(a_lost_database_is_not_made_anew),
        dir_test(lists_are_newest_first),
        dir_test(latest_is_the_highest_that_is_not_excluded),
        dir_test(a_damaged_version_hides_no_other),
        dir_test(a_reader_changes_nothing),
        dir_test(other_bytes_are_found),
        dir_test(what_was_verified_is_not_read_again),
        dir_test(a_disk_that_was_touched_is_not_used),
        dir_test(verdicts_of_older_rules_are_checked_again),
        dir_test(instances_have_a_directory),
        dir_test(a_sweep_takes_what_nobody_holds),
        dir_test(a_killed_publisher_leaves_nothing_visible),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
