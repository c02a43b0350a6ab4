/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "disk/stores.h"

#include "disk/disk_file.h"
#include "disk/overlay.h"

#include <jansson.h>

#define MIB (1024 * 1024)
#define UUID "0c1e8f6a-1111-4222-8333-123456789abc"

static char *qemu_img_info(const char *path)
{
    g_auto(VrChildResult) result = {0};
    assert_true(
        vr_child_run((const char *const[]){"qemu-img", "info", "--output=json", path, NULL}, NULL, &result, NULL));
    assert_int_equal(result.exit_status, 0);
    return g_steal_pointer(&result.out);
}

static void expect_member(const char *info, const char *key, const char *value)
{
    json_t *json = json_loads(info, 0, NULL);
    assert_string_equal(json_string_value(json_object_get(json, key)), value);
    json_decref(json);
}

static void an_overlay_names_its_base_and_format(void **state)
{
    TestDir *dir = *state;
    const struct {
        const char *file, *name, *format;
    } rows[] = {{"a.raw", "raw-one", "raw"}, {"a.qcow2", "qcow2-one", "qcow2"}};
    make_raw(dir, "a.raw", 5 * MIB, 1);
    make_qcow2(dir, "a.qcow2", NULL, 5 * MIB);
    g_autoptr(VrStore) store = open_store(dir);
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *name = g_strdup_printf("g%zu.qcow2", i);
        g_autofree char *path = g_build_filename(vr_store_root(store), "disks", UUID, name, NULL);
        must_publish(dir, store, rows[i].name, "1", rows[i].file);
        g_autoptr(VrImage) image = vr_store_get(store, rows[i].name, "latest", &error);
        vr_overlay_create(store, UUID, name, image, 0, NULL, NULL, &error);
        expect_no_error(error);
        g_autofree char *info = qemu_img_info(path);
        expect_member(info, "format", "qcow2");
        expect_member(info, "backing-filename", image->path);
        expect_member(info, "backing-filename-format", rows[i].format);
        struct stat st;
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0600);
        guint64 size;
        assert_true(vr_disk_file_virtual_size(path, "qcow2", &size, NULL));
        assert_int_equal(size, 5 * MIB);
        tool("qemu-img", "compare", "-f", "qcow2", "-F", rows[i].format, path, image->path);
    }
    g_autofree char *disks = g_build_filename(vr_store_root(store), "disks", UUID, NULL);
    assert_int_equal(count_entries(disks), 2);
}

/* B13 */
static void an_overlay_never_shrinks_and_may_grow(void **state)
{
    TestDir *dir = *state;
    const struct {
        guint64 asked, got;
    } rows[] = {{0, 5 * MIB}, {MIB, 5 * MIB}, {5 * MIB + 1, 5 * MIB + 512}, {20 * MIB, 20 * MIB}};
    make_raw(dir, "a.raw", 5 * MIB, 1);
    g_autoptr(VrStore) store = open_store(dir);
    must_publish(dir, store, "a", "1", "a.raw");
    g_autoptr(VrImage) image = vr_store_get(store, "a", NULL, NULL);
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        guint64 size;
        g_autofree char *name = g_strdup_printf("g%zu.qcow2", i);
        g_autofree char *path = g_build_filename(vr_store_root(store), "disks", UUID, name, NULL);
        assert_true(vr_overlay_create(store, UUID, name, image, rows[i].asked, NULL, NULL, NULL));
        assert_true(vr_disk_file_virtual_size(path, "qcow2", &size, NULL));
        assert_int_equal(size, rows[i].got);
    }
}

static void a_name_that_is_taken_is_never_overwritten(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    make_raw(dir, "a.raw", MIB, 1);
    g_autoptr(VrStore) store = open_store(dir);
    must_publish(dir, store, "a", "1", "a.raw");
    g_autoptr(VrImage) image = vr_store_get(store, "a", NULL, NULL);
    assert_true(vr_overlay_create(store, UUID, "g1.qcow2", image, 0, NULL, NULL, &error));
    put_file(dir, "root/disks/" UUID "/g1.qcow2", "precious", 8);
    assert_false(vr_overlay_create(store, UUID, "g1.qcow2", image, 0, NULL, NULL, &error));
    expect_error(&error, VR_ERROR_CONFLICT, "g1.qcow2 exists already");
    g_autofree char *text = content_of(dir, "root/disks/" UUID "/g1.qcow2");
    assert_string_equal(text, "precious");
    /* A dangling link is taken too; qemu-img alone would write through it. */
    g_autofree char *link = in_dir(dir, "root/disks/" UUID "/g2.qcow2");
    g_autofree char *victim = in_dir(dir, "victim");
    assert_int_equal(symlink(victim, link), 0);
    assert_false(vr_overlay_create(store, UUID, "g2.qcow2", image, 0, NULL, NULL, &error));
    expect_error(&error, VR_ERROR_CONFLICT, "g2.qcow2 exists already");
    assert_false(is_there(dir, "victim"));
}

/* Which file it is, is told before it takes its name; who does not like it keeps it from it. */
static void the_file_is_told_before_it_has_its_name(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    VrFileId id;
    g_autofree char *place = in_dir(dir, "root/disks/" UUID), *path = in_dir(dir, "root/disks/" UUID "/g1.qcow2");
    Told told = {.path = path, .refuses = TRUE};
    make_raw(dir, "a.raw", MIB, 1);
    g_autoptr(VrStore) store = open_store(dir);
    must_publish(dir, store, "a", "1", "a.raw");
    g_autoptr(VrImage) image = vr_store_get(store, "a", NULL, NULL);
    assert_false(vr_overlay_create(store, UUID, "g1.qcow2", image, 0, be_told, &told, &error));
    expect_error(&error, VR_ERROR_FENCED, "no more");
    assert_int_equal(count_entries(place), 0);
    told.refuses = FALSE;
    assert_true(vr_overlay_create(store, UUID, "g1.qcow2", image, 0, be_told, &told, &error));
    assert_true(vr_disk_file_id(path, &id, &error));
    assert_memory_equal(&id, &told.id, sizeof id);
}

static void bad_names_are_refused(void **state)
{
    TestDir *dir = *state;
    const char *names[] = {"-o", "../x.qcow2", "a/b", "", ".hidden", "json:{}"};
    make_raw(dir, "a.raw", MIB, 1);
    g_autoptr(VrStore) store = open_store(dir);
    must_publish(dir, store, "a", "1", "a.raw");
    g_autoptr(VrImage) image = vr_store_get(store, "a", NULL, NULL);
    for (gsize i = 0; i < G_N_ELEMENTS(names); i++) {
        GError *error = NULL;
        assert_false(vr_overlay_create(store, UUID, names[i], image, 0, NULL, NULL, &error));
        expect_error(&error, VR_ERROR_USAGE, "name");
    }
    GError *error = NULL;
    assert_false(vr_overlay_create(store, "../../etc", "g1.qcow2", image, 0, NULL, NULL, &error));
    expect_error(&error, VR_ERROR_USAGE, "not a UUID");
    assert_false(is_there(dir, "root/disks"));
}

/* Puts a qemu-img of this text first on PATH for one call. */
static void expect_fake(const TestDir *dir, VrStore *store, const VrImage *image, const char *script, VrErrorCode code,
                        const char *text)
{
    GError *error = NULL;
    g_autofree char *bin = in_dir(dir, "bin");
    g_autofree char *fake = in_dir(dir, "bin/qemu-img");
    g_autofree char *old_path = g_strdup(g_getenv("PATH"));
    g_autofree char *path = g_strconcat(bin, ":", old_path, NULL);
    (void)mkdir(bin, 0700);
    put_file(dir, "bin/qemu-img", script, strlen(script));
    assert_int_equal(chmod(fake, 0700), 0);
    g_setenv("PATH", path, TRUE);
    gboolean ok = vr_overlay_create(store, UUID, "g1.qcow2", image, 0, NULL, NULL, &error);
    g_setenv("PATH", old_path, TRUE);
    assert_false(ok);
    expect_error(&error, code, text);
    g_autofree char *disks = g_build_filename(vr_store_root(store), "disks", UUID, NULL);
    assert_int_equal(count_entries(disks), 0);
}

/* Arguments: create -q -f qcow2 -F FMT -b BASE FILE SIZE */
#define REAL "PATH=/usr/bin:/bin; "

static void a_tool_that_fails_or_lies_leaves_nothing(void **state)
{
    TestDir *dir = *state;
    make_raw(dir, "a.raw", MIB, 1);
    make_raw(dir, "b.raw", MIB, 2);
    g_autoptr(VrStore) store = open_store(dir);
    must_publish(dir, store, "a", "1", "a.raw");
    g_autoptr(VrImage) image = vr_store_get(store, "a", NULL, NULL);
    g_autofree char *other =
        g_strdup_printf("#!/bin/sh\n" REAL "qemu-img create -q -f qcow2 -F raw -b %s/b.raw $9 ${10}", dir->path);
    expect_fake(dir, store, image, "#!/bin/sh\necho disk on fire >&2; exit 1", VR_ERROR_CHILD, "disk on fire");
    expect_fake(dir, store, image, "#!/bin/sh\nkill -KILL $$", VR_ERROR_CHILD, "killed by signal 9");
    expect_fake(dir, store, image, "#!/bin/sh\nexit 0", VR_ERROR_NOT_FOUND, "g1.qcow2");
    expect_fake(dir, store, image, "#!/bin/sh\necho nonsense > $9", VR_ERROR_CHILD, "no qcow2 header");
    expect_fake(dir, store, image, "#!/bin/sh\nln -s /etc/passwd $9", VR_ERROR_IO, "symbolic link");
    expect_fake(dir, store, image, "#!/bin/sh\n: > $9; ln $9 $9.second", VR_ERROR_CHILD, "not a plain file");
    expect_fake(dir, store, image, other, VR_ERROR_CHILD, "names another base");
    expect_fake(dir, store, image, "#!/bin/sh\n" REAL "qemu-img create -q -f qcow2 $9 ${10}", VR_ERROR_CHILD,
                "names another base");
    expect_fake(dir, store, image, "#!/bin/sh\n" REAL "qemu-img create -q -f qcow2 -F raw -b $8 $9 7M", VR_ERROR_CHILD,
                "another size");
    expect_fake(dir, store, image, "#!/bin/sh\n" REAL "qemu-img create -q -f qcow2 -u -F qcow2 -b $8 $9 ${10}",
                VR_ERROR_CHILD, "base's format");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        dir_test(an_overlay_names_its_base_and_format),      dir_test(an_overlay_never_shrinks_and_may_grow),
        dir_test(a_name_that_is_taken_is_never_overwritten), dir_test(the_file_is_told_before_it_has_its_name),
        dir_test(a_name_that_is_taken_is_never_overwritten), dir_test(bad_names_are_refused),
        dir_test(a_tool_that_fails_or_lies_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
