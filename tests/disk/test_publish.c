/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How a version becomes visible, and what must not happen on the way. */
#include "disk/stores.h"

#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/un.h>

#define MIB (1024 * 1024)

static void a_version_is_whole_and_read_only(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    make_qcow2(dir, "a.qcow2", NULL, 6 * MIB);
    g_autofree char *digest = digest_of_file(dir, "a.qcow2");
    g_autofree char *file = in_dir(dir, "a.qcow2");
    mode_t before = umask(0077);
    g_autoptr(VrStore) store = open_store(dir);
    g_autoptr(VrImage) image = NULL;
    gboolean already = TRUE;
    const VrPublication publication = {.name = "debian-12",
                                       .version = "12.20261101.0",
                                       .file = file,
                                       .digest = digest,
                                       .publisher = "local",
                                       .offer = "debian",
                                       .sku = "12"};
    assert_true(vr_store_publish(store, &publication, &image, &already, &error));
    umask(before);
    assert_false(already);
    const char *directories[] = {"root", "root/images", "root/images/debian-12", "root/images/debian-12/12.20261101.0"};
    for (gsize i = 0; i < G_N_ELEMENTS(directories); i++)
        assert_int_equal(mode_of(dir, directories[i]), 0711);
    assert_int_equal(mode_of(dir, "root/images/debian-12/12.20261101.0/disk.qcow2"), 0444);
    assert_int_equal(mode_of(dir, "root/images/debian-12/12.20261101.0/image.json"), 0444);
    g_autofree char *names = in_dir(dir, "root/images/debian-12");
    assert_int_equal(count_entries(names), 1);

    g_autofree char *stored = digest_of_file(dir, "root/images/debian-12/12.20261101.0/disk.qcow2");
    assert_string_equal(stored, digest);
    assert_string_equal(image->source_digest, digest + strlen("sha256:"));
    assert_string_equal(image->stored_digest, image->source_digest);
    assert_string_equal(image->name, "debian-12");
    assert_string_equal(image->publisher, "local");
    assert_int_equal(image->virtual_size, 6 * MIB);
    assert_int_equal(image->format, VR_FORMAT_QCOW2);
    assert_int_equal(image->rules_version, VR_IMAGE_RULES_VERSION);
    assert_true(g_str_has_prefix(image->path, "/"));
    assert_true(g_str_has_suffix(image->path, "/images/debian-12/12.20261101.0/disk.qcow2"));
    assert_int_equal(access(image->path, R_OK), 0);
    assert_false(image->excluded);
    assert_true(vr_store_verify(store, image, TRUE, &error));
}

static void a_sparse_image_stays_sparse(void **state)
{
    TestDir *dir = *state;
    struct stat st;
    g_autofree char *path = in_dir(dir, "a.raw");
    make_raw(dir, "a.raw", MIB, 1);
    assert_int_equal(truncate(path, 200 * MIB), 0);
    g_autoptr(VrStore) store = open_store(dir);
    must_publish(dir, store, "a", "1", "a.raw");
    assert_int_equal(fstatat(dir->fd, "root/images/a/1/disk.raw", &st, 0), 0);
    assert_int_equal(st.st_size, 200 * MIB);
    assert_true(st.st_blocks * 512 < 2 * MIB);
}

static void the_same_version_twice(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    gboolean already = FALSE;
    make_raw(dir, "a.raw", MIB, 1);
    make_raw(dir, "b.raw", MIB, 2);
    g_autoptr(VrStore) store = open_store(dir);
    must_publish(dir, store, "a", "1.2", "a.raw");
    g_autofree char *digest = digest_of_file(dir, "a.raw");
    g_autofree char *upper = g_ascii_strup(digest + 7, -1);
    g_autofree char *shouted = g_strconcat("sha256:", upper, NULL);
    g_autofree char *before = listing(dir);
    assert_true(publish(dir, store, "a", "1.2", "a.raw", NULL, &already, &error));
    assert_true(already);
    assert_true(publish(dir, store, "a", "1.2", "b.raw", shouted, &already, &error)); /* it is not even read */
    assert_true(already);
    assert_true(publish(dir, store, "a", "1.2.0", "a.raw", NULL, &already, &error)); /* the same number */
    assert_true(already);
    assert_false(publish(dir, store, "a", "1.2", "b.raw", NULL, &already, &error));
    assert_false(already);
    expect_error(&error, VR_ERROR_CONFLICT, "a 1.2 is there already with other content");
    g_autofree char *other = digest_of_file(dir, "b.raw");
    assert_false(publish(dir, store, "a", "1.2.0.0", "b.raw", other, &already, &error));
    expect_error(&error, VR_ERROR_CONFLICT, other);
    g_autofree char *after = listing(dir);
    assert_string_equal(before, after);
}

static void a_wrong_digest_is_refused_and_leaves_nothing(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    make_raw(dir, "a.raw", MIB, 1);
    make_raw(dir, "b.raw", MIB, 2);
    g_autoptr(VrStore) store = open_store(dir);
    g_autofree char *wanted = digest_of_file(dir, "a.raw");
    g_autofree char *got = digest_of_file(dir, "b.raw");
    assert_false(publish(dir, store, "a", "1", "b.raw", wanted, NULL, &error));
    assert_non_null(strstr(error->message, got));
    expect_error(&error, VR_ERROR_REFUSED, wanted);
    g_autofree char *names = in_dir(dir, "root/images/a");
    assert_int_equal(count_entries(names), 0);
    const char *bad[] = {"",
                         "sha256:",
                         "sha256:12",
                         "md5:d41d8cd98f00b204e9800998ecf8427e",
                         got + 7,
                         "sha256:zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz",
                         "SHA256:0000000000000000000000000000000000000000000000000000000000000000",
                         "sha256:00000000000000000000000000000000000000000000000000000000000000000"};
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        assert_false(publish(dir, store, "a", "1", "a.raw", bad[i], NULL, &error));
        expect_error(&error, VR_ERROR_USAGE, "is not a digest");
    }
}

static void make_socket(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    vr_autofd fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_strlcpy(address.sun_path, path, sizeof address.sun_path);
    assert_int_equal(bind(fd, (struct sockaddr *)(void *)&address, sizeof address), 0);
}

static void a_source_must_be_a_regular_file(void **state)
{
    TestDir *dir = *state;
    g_autoptr(VrStore) store = open_store(dir);
    g_autofree char *fifo = in_dir(dir, "fifo");
    g_autofree char *sock = in_dir(dir, "socket");
    make_raw(dir, "a.raw", MIB, 1);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    make_socket(sock);
    assert_int_equal(symlinkat("a.raw", dir->fd, "link"), 0);
    assert_int_equal(symlinkat("/dev/zero", dir->fd, "device"), 0);
    const struct {
        const char *file;
        VrErrorCode code;
        const char *text;
    } rows[] = {{"absent.raw", VR_ERROR_NOT_FOUND, "absent.raw: No such file"},
                {"fifo", VR_ERROR_REFUSED, "a FIFO"},
                {"socket", VR_ERROR_REFUSED, "a socket"},
                {"link", VR_ERROR_REFUSED, "a symbolic link"},
                {"device", VR_ERROR_REFUSED, "a symbolic link"},
                {"root", VR_ERROR_REFUSED, "a directory"},
                {"../../dev/zero", VR_ERROR_REFUSED, "a device"}};
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        GError *error = NULL;
        assert_false(publish(dir, store, "a", "1", rows[i].file, NULL, NULL, &error));
        expect_error(&error, rows[i].code, rows[i].text);
    }
    assert_false(is_there(dir, "root/images"));
}

static void refused_images_do_not_enter(void **state)
{
    TestDir *dir = *state;
    g_autoptr(VrStore) store = open_store(dir);
    g_autofree char *base = in_dir(dir, "base.qcow2");
    g_autofree char *top = in_dir(dir, "top.qcow2");
    make_qcow2(dir, "base.qcow2", NULL, 4 * MIB);
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, top);
    make_raw(dir, "odd.raw", MIB + 1, 1);
    make_raw(dir, "fake.qcow2", MIB, 1);
    const char *files[] = {"top.qcow2", "odd.raw", "fake.qcow2"};
    const char *rules[] = {"(rule backing-file)", "(rule size)", "(rule format)"};
    for (gsize i = 0; i < G_N_ELEMENTS(files); i++) {
        GError *error = NULL;
        assert_false(publish(dir, store, "a", "1", files[i], NULL, NULL, &error));
        expect_error(&error, VR_ERROR_REFUSED, rules[i]);
    }
    assert_false(is_there(dir, "root/images"));
}

static void bad_names_and_versions_are_refused(void **state)
{
    TestDir *dir = *state;
    g_autoptr(VrStore) store = open_store(dir);
    const char *names[] = {"", "..", "a/b", "-x", ".tmp-x", "a\nb"};
    const char *versions[] = {"", "..", "1/2", "20241004-1890", "latest", "1.2.3.4.5"};
    make_raw(dir, "a.raw", MIB, 1);
    for (gsize i = 0; i < G_N_ELEMENTS(names); i++) {
        GError *error = NULL;
        assert_false(publish(dir, store, names[i], "1", "a.raw", NULL, NULL, &error));
        expect_error(&error, VR_ERROR_USAGE, "name of an image");
        assert_null(vr_store_get(store, names[i], NULL, &error));
        expect_error(&error, VR_ERROR_USAGE, "name of an image");
        assert_false(publish(dir, store, "a", versions[i], "a.raw", NULL, NULL, &error));
        expect_error(&error, VR_ERROR_USAGE, "is not a version");
    }
    assert_false(is_there(dir, "root/images"));
}

static gboolean publish_offer(const TestDir *dir, VrStore *store, const char *name, const char *version,
                              const char *publisher, const char *offer, const char *sku, GError **error)
{
    g_autofree char *file = in_dir(dir, "a.raw");
    const VrPublication publication = {
        .name = name, .version = version, .file = file, .publisher = publisher, .offer = offer, .sku = sku};
    return vr_store_publish(store, &publication, NULL, NULL, error);
}

static void an_image_has_one_publisher_offer_and_sku(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    make_raw(dir, "a.raw", MIB, 1);
    g_autoptr(VrStore) store = open_store(dir);
    assert_true(publish_offer(dir, store, "deb", "1", "local", "debian", "12", &error));
    assert_true(publish_offer(dir, store, "deb", "2", "local", "debian", "12", &error));
    assert_true(publish_offer(dir, store, "deb", "3", NULL, NULL, NULL, &error));
    assert_true(publish_offer(dir, store, "plain", "1", NULL, NULL, NULL, &error));
    g_autoptr(VrImage) third = vr_store_get(store, "deb", "3", &error);
    assert_string_equal(third->sku, "12");
    const struct {
        const char *name, *publisher, *offer, *sku;
        VrErrorCode code;
        const char *text;
    } rows[] = {{"deb", "local", "debian", "13", VR_ERROR_CONFLICT, "all its versions have the same"},
                {"plain", "local", "plain", "1", VR_ERROR_CONFLICT, "publisher (none)"},
                {"other", "local", "debian", "12", VR_ERROR_CONFLICT, "those of image deb"},
                {"other", "local", "debian", NULL, VR_ERROR_USAGE, "together or not at all"},
                {"other", "lo cal", "debian", "1", VR_ERROR_USAGE, "name of a publisher"}};
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        assert_false(
            publish_offer(dir, store, rows[i].name, "9", rows[i].publisher, rows[i].offer, rows[i].sku, &error));
        expect_error(&error, rows[i].code, rows[i].text);
    }
    g_autofree char *name = vr_store_find_name(store, "local", "debian", "12", &error);
    assert_string_equal(name, "deb");
    assert_null(vr_store_find_name(store, "local", "debian", "14", &error));
    expect_error(&error, VR_ERROR_NOT_FOUND, "there are: deb, plain");
}

static void a_dry_run_writes_nothing(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    make_raw(dir, "a.raw", MIB, 1);
    make_raw(dir, "b.raw", MIB, 2);
    g_autoptr(VrStore) store = open_store(dir);
    g_autofree char *file = in_dir(dir, "a.raw");
    g_autofree char *digest = digest_of_file(dir, "a.raw");
    g_autofree char *wrong = digest_of_file(dir, "b.raw");
    g_autoptr(VrImage) image = NULL;
    VrPublication publication = {.name = "a",
                                 .version = "1",
                                 .file = file,
                                 .digest = digest,
                                 .as_given = TRUE,
                                 .as = VR_FORMAT_RAW,
                                 .dry_run = TRUE};
    assert_true(vr_store_publish(store, &publication, &image, NULL, &error));
    assert_int_equal(image->virtual_size, MIB);
    assert_true(g_str_has_suffix(image->path, "/images/a/1/disk.raw"));
    publication.digest = wrong;
    assert_false(vr_store_publish(store, &publication, NULL, NULL, &error));
    expect_error(&error, VR_ERROR_REFUSED, "another digest");
    assert_false(is_there(dir, "root/images"));
}

static void change_source(const VrCopyProgress *progress, void *data)
{
    vr_autofd fd = open(data, O_WRONLY | O_CLOEXEC);
    assert_int_equal(pwrite(fd, "x", 1, 100), 1);
}

static void cancel(const VrCopyProgress *progress, void *data)
{
    g_atomic_int_set((gint *)data, 1);
}

static void a_source_that_changes_or_a_cancel_leaves_nothing(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    gint cancelled = 0;
    g_autofree char *file = in_dir(dir, "a.raw");
    g_autofree char *names = in_dir(dir, "root/images/a");
    make_raw(dir, "a.raw", 4 * MIB, 1);
    g_autoptr(VrStore) store = open_store(dir);
    VrPublication publication = {.name = "a",
                                 .version = "1",
                                 .file = file,
                                 .as_given = TRUE,
                                 .as = VR_FORMAT_RAW,
                                 .progress = change_source,
                                 .progress_data = file};
    assert_false(vr_store_publish(store, &publication, NULL, NULL, &error));
    expect_error(&error, VR_ERROR_CONFLICT, "changed while it was read");
    assert_int_equal(count_entries(names), 0);
    publication.progress = cancel;
    publication.progress_data = &cancelled;
    publication.cancelled = &cancelled;
    assert_false(vr_store_publish(store, &publication, NULL, NULL, &error));
    expect_error(&error, VR_ERROR_CANCELLED, "cancelled");
    assert_int_equal(count_entries(names), 0);
}

static void too_little_space_is_told_before_the_copy(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    g_autofree char *root = in_dir(dir, "root");
    make_raw(dir, "a.raw", 40 * MIB, 1);
    assert_int_equal(mkdir(root, 0711), 0);
    if (mount("tmpfs", root, "tmpfs", 0, "size=16m,mode=0711") != 0)
        skip();
    VrStore *store = open_store(dir);
    gboolean ok = publish(dir, store, "a", "1", "a.raw", NULL, NULL, &error);
    guint64 available = 0;
    assert_true(vr_store_free_bytes(store, &available, NULL));
    assert_false(is_there(dir, "root/images"));
    vr_store_close(store);
    assert_int_equal(umount(root), 0);
    assert_false(ok);
    assert_in_range(available, 10 * MIB, 16 * MIB);
    expect_error(&error, VR_ERROR_NO_SPACE, "free and 56.0");
}

static gpointer publish_again(gpointer data)
{
    TestDir *dir = data;
    GError *error = NULL;
    gboolean already = FALSE;
    VrStore *store = open_store(dir);
    gboolean ok = publish(dir, store, "a", "1", "a.raw", NULL, &already, &error);
    vr_store_close(store);
    return ok ? GINT_TO_POINTER(already ? 1 : 2) : NULL;
}

static void two_publishers_make_one_version(void **state)
{
    TestDir *dir = *state;
    int made = 0;
    GThread *threads[6];
    make_raw(dir, "a.raw", 3 * MIB, 1);
    vr_store_close(open_store(dir));
    for (gsize i = 0; i < G_N_ELEMENTS(threads); i++)
        threads[i] = g_thread_new("publish", publish_again, dir);
    for (gsize i = 0; i < G_N_ELEMENTS(threads); i++) {
        int answer = GPOINTER_TO_INT(g_thread_join(threads[i]));
        assert_int_not_equal(answer, 0);
        made += answer == 2;
    }
    assert_int_equal(made, 1);
    g_autofree char *names = in_dir(dir, "root/images/a");
    assert_int_equal(count_entries(names), 1);
}

static gpointer publish_with_offer(gpointer data)
{
    TestDir *dir = data;
    static gint number;
    g_autofree char *name = g_strdup_printf("image-%d", g_atomic_int_add(&number, 1));
    g_autoptr(GError) error = NULL;
    g_autoptr(VrStore) store = open_store(dir);
    if (publish_offer(dir, store, name, "1", "local", "debian", "12", &error))
        return GINT_TO_POINTER(1);
    return GINT_TO_POINTER(g_error_matches(error, VR_ERROR, VR_ERROR_CONFLICT) ? 2 : 3);
}

static void two_images_never_get_one_offer(void **state)
{
    TestDir *dir = *state;
    int made = 0;
    GThread *threads[4];
    make_raw(dir, "a.raw", 3 * MIB, 1);
    vr_store_close(open_store(dir));
    for (gsize i = 0; i < G_N_ELEMENTS(threads); i++)
        threads[i] = g_thread_new("publish", publish_with_offer, dir);
    for (gsize i = 0; i < G_N_ELEMENTS(threads); i++) {
        int answer = GPOINTER_TO_INT(g_thread_join(threads[i]));
        assert_in_range(answer, 1, 2);
        made += answer == 1;
    }
    assert_int_equal(made, 1);
}

static void links_in_the_store_lead_nowhere(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    make_raw(dir, "a.raw", MIB, 1);
    g_autoptr(VrStore) store = open_store(dir);
    vr_autofd outside = vr_mkdir_beneath(dir->fd, "outside", 0700, NULL);
    vr_autofd images = vr_mkdir_beneath(dir->fd, "root/images", 0711, NULL);
    assert_int_equal(symlinkat("../../outside", images, "a"), 0);
    assert_false(publish(dir, store, "a", "1", "a.raw", NULL, NULL, &error));
    expect_error(&error, VR_ERROR_IO, "symbolic link");
    g_autofree char *path = in_dir(dir, "outside");
    assert_int_equal(count_entries(path), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        dir_test(a_version_is_whole_and_read_only),
        dir_test(a_sparse_image_stays_sparse),
        dir_test(the_same_version_twice),
        dir_test(a_wrong_digest_is_refused_and_leaves_nothing),
        dir_test(a_source_must_be_a_regular_file),
        dir_test(refused_images_do_not_enter),
        dir_test(bad_names_and_versions_are_refused),
        dir_test(an_image_has_one_publisher_offer_and_sku),
        dir_test(a_dry_run_writes_nothing),
        dir_test(a_source_that_changes_or_a_cancel_leaves_nothing),
        dir_test(too_little_space_is_told_before_the_copy),
        dir_test(two_publishers_make_one_version),
        dir_test(two_images_never_get_one_offer),
        dir_test(links_in_the_store_lead_nowhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
