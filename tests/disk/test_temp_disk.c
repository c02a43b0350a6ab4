/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* B8: a temp disk made anew: the same file system, label and UUID, empty; and what is refused. */
#include "disk/stores.h"

#include "disk/temp_disk.h"

#include <sys/wait.h>

#define UUID "5b2a8a08-26a5-4fd8-9a6e-0d7a8f0c1b11"
#define MIB (1024 * 1024)
#define BESIDE ".virt-reimage-test"

static char *make_file(const TestDir *dir, gsize size)
{
    char *path = in_dir(dir, "temp.raw");
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(ftruncate(fileno(file), (off_t)size), 0);
    fclose(file);
    assert_int_equal(chmod(path, 0640), 0);
    return path;
}

static gboolean has_bytes(const char *path, const char *bytes)
{
    g_autofree char *content = NULL;
    gsize length;
    assert_true(g_file_get_contents(path, &content, &length, NULL));
    return memmem(content, length, bytes, strlen(bytes)) != NULL;
}

/* What a guest left there, where nothing of the file system lies. */
static void scribble(const char *path, gsize at)
{
    FILE *file = fopen(path, "r+");
    assert_int_equal(fseek(file, (long)at, SEEK_SET), 0);
    assert_true(fputs("the guest was here", file) >= 0);
    fclose(file);
}

static gboolean note(const VrFileId *id, void *data, GError **error)
{
    *(VrFileId *)data = *id;
    return TRUE;
}

static void is_made_anew(const TestDir *dir, gsize size, const char *type, const char *label, const char *uuid,
                         const char *const *argv)
{
    g_autofree char *path = make_file(dir, size);
    g_auto(VrTempDisk) disk = {0}, now = {0};
    g_autoptr(GError) error = NULL;
    VrFileId told = {0};
    g_autoptr(GPtrArray) words = g_ptr_array_new();
    struct stat before, after;

    for (; argv && *argv; argv++)
        g_ptr_array_add(words, (char *)*argv);
    if (words->len > 0) {
        g_ptr_array_add(words, path);
        g_ptr_array_add(words, NULL);
        vr_child_run((const char *const *)words->pdata, NULL, NULL, &error);
        expect_no_error(error);
    }
    scribble(path, size - 300000);
    assert_int_equal(stat(path, &before), 0);
    vr_temp_disk_look(path, &disk, &error);
    expect_no_error(error);
    assert_int_equal(g_strcmp0(disk.type, type), 0);
    assert_int_equal(g_strcmp0(disk.label, label), 0);
    vr_temp_disk_make(&disk, BESIDE, note, &told, &error);
    expect_no_error(error);
    assert_false(has_bytes(path, "the guest was here"));
    assert_true(vr_temp_disk_look(path, &now, NULL));
    assert_int_equal(g_strcmp0(now.type, type), 0);
    assert_int_equal(g_strcmp0(now.label, label), 0);
    assert_int_equal(g_strcmp0(now.uuid, uuid), 0);
    assert_int_equal(g_strcmp0(now.version, disk.version), 0);
    assert_int_equal(stat(path, &after), 0);
    assert_int_equal(after.st_size, before.st_size);
    assert_int_equal(after.st_mode, before.st_mode);
    assert_true(after.st_ino != before.st_ino && after.st_ino == told.inode);
    assert_int_equal(count_entries(dir->path), 1);
    assert_int_equal(unlink(path), 0);
}

static void each_kind(void **state)
{
    const TestDir *dir = *state;
    is_made_anew(dir, 8 * MIB, "ext4", "scratch", UUID,
                 (const char *const[]){"mkfs.ext4", "-q", "-F", "-L", "scratch", "-U", UUID, NULL});
    is_made_anew(dir, 8 * MIB, "ext3", NULL, UUID, (const char *const[]){"mkfs.ext3", "-q", "-F", "-U", UUID, NULL});
    is_made_anew(dir, 8 * MIB, "ext2", "a b", UUID,
                 (const char *const[]){"mkfs.ext2", "-q", "-F", "-L", "a b", "-U", UUID, NULL});
    is_made_anew(dir, 320 * MIB, "xfs", "scratch", UUID,
                 (const char *const[]){"mkfs.xfs", "-q", "-L", "scratch", "-m", "uuid=" UUID, NULL});
    is_made_anew(dir, 130 * MIB, "btrfs", "scratch", UUID,
                 (const char *const[]){"mkfs.btrfs", "-q", "-L", "scratch", "-U", UUID, NULL});
    is_made_anew(dir, 8 * MIB, "vfat", "SCRATCH", "1234-ABCD",
                 (const char *const[]){"mkfs.vfat", "-n", "SCRATCH", "-i", "1234ABCD", NULL});
    is_made_anew(dir, 64 * MIB, "vfat", "SCRATCH", "1234-ABCD",
                 (const char *const[]){"mkfs.vfat", "-F", "32", "-n", "SCRATCH", "-i", "1234ABCD", NULL});
    is_made_anew(dir, 8 * MIB, "swap", "sw", UUID, (const char *const[]){"mkswap", "-L", "sw", "-U", UUID, NULL});
    is_made_anew(dir, 8 * MIB, NULL, NULL, NULL, NULL); /* nothing that is known becomes nothing */
}

static void expect_refused(const char *path, const char *text)
{
    g_auto(VrTempDisk) disk = {0};
    g_autoptr(GError) error = NULL;

    assert_false(vr_temp_disk_look(path, &disk, &error));
    if (!g_error_matches(error, VR_ERROR, VR_ERROR_REFUSED) || !strstr(error->message, text))
        fail_msg("%s", error->message);
}

static void what_is_refused(void **state)
{
    const TestDir *dir = *state;
    g_autofree char *path = make_file(dir, 8 * MIB), *other = in_dir(dir, "other"), *script = in_dir(dir, "script");

    assert_int_equal(link(path, other), 0);
    expect_refused(path, "more than one name");
    assert_int_equal(unlink(other), 0);
    expect_refused(dir->path, "no regular file");
    put_file(dir, "script", "label: dos\n,1M\n", strlen("label: dos\n,1M\n"));
    g_autofree char *command = g_strdup_printf("sfdisk -q %s < %s", path, script);
    tool("sh", "-c", command);
    expect_refused(path, "has a partition table");
    assert_int_equal(unlink(path), 0);
    g_free(path);
    path = make_file(dir, 8 * MIB);
    FILE *file = fopen(path, "r+");
    assert_true(fwrite("LUKS\xba\xbe\0\1", 1, 8, file) == 8); /* a LUKS header of version 1 */
    fclose(file);
    expect_refused(path, "crypto_LUKS, which is not made anew");
}

/* Between the look and the rename somebody puts another file there: it stays. */
static gboolean replace_it(const VrFileId *id, void *data, GError **error)
{
    assert_int_equal(unlink(data), 0);
    assert_true(g_file_set_contents(data, "another", -1, NULL));
    return TRUE;
}

static gboolean refuse(const VrFileId *id, void *data, GError **error)
{
    g_set_error_literal(error, VR_ERROR, VR_ERROR_FENCED, "not ours");
    return FALSE;
}

static void the_old_one_stays(void **state)
{
    const TestDir *dir = *state;
    g_autofree char *path = make_file(dir, 8 * MIB), *beside = in_dir(dir, BESIDE);
    g_auto(VrTempDisk) disk = {0};
    g_autoptr(GError) error = NULL;

    scribble(path, 4 * MIB);
    assert_true(vr_temp_disk_look(path, &disk, NULL));
    assert_false(vr_temp_disk_make(&disk, BESIDE, refuse, NULL, &error));
    assert_true(g_error_matches(error, VR_ERROR, VR_ERROR_FENCED));
    g_clear_error(&error);
    assert_true(g_file_set_contents(beside, "", 0, NULL));
    assert_false(vr_temp_disk_make(&disk, BESIDE, NULL, NULL, &error));
    assert_true(g_error_matches(error, VR_ERROR, VR_ERROR_CONFLICT));
    g_clear_error(&error);
    assert_true(vr_temp_disk_tidy(path, BESIDE, &disk.file, NULL)); /* it is not that file */
    assert_true(g_file_test(beside, G_FILE_TEST_EXISTS));
    assert_int_equal(unlink(beside), 0);
    assert_true(has_bytes(path, "the guest was here"));
    assert_false(vr_temp_disk_make(&disk, BESIDE, replace_it, path, &error));
    assert_true(g_error_matches(error, VR_ERROR, VR_ERROR_CONFLICT));
    assert_true(has_bytes(path, "another"));
    assert_int_equal(count_entries(dir->path), 1);
}

static void a_name_that_was_left_goes(void **state)
{
    const TestDir *dir = *state;
    g_autofree char *path = make_file(dir, 8 * MIB), *beside = in_dir(dir, BESIDE);
    VrFileId id;

    assert_true(vr_temp_disk_tidy(path, BESIDE, &(VrFileId){0}, NULL));
    assert_true(g_file_set_contents(beside, "new", -1, NULL));
    assert_true(vr_disk_file_id(beside, &id, NULL));
    assert_true(vr_temp_disk_tidy(path, BESIDE, &id, NULL));
    assert_false(g_file_test(beside, G_FILE_TEST_EXISTS));
    assert_true(g_file_test(path, G_FILE_TEST_EXISTS));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        dir_test(each_kind),
        dir_test(what_is_refused),
        dir_test(the_old_one_stays),
        dir_test(a_name_that_was_left_goes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
