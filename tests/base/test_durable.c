/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/support.h"

#include <signal.h>
#include <sys/resource.h>

static mode_t mode_of(const TestDir *dir, const char *name)
{
    struct stat st;
    assert_int_equal(fstatat(dir->fd, name, &st, AT_SYMLINK_NOFOLLOW), 0);
    return st.st_mode & 07777;
}

/* ---- opening beneath ---- */

static void paths_that_lead_out_are_refused(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    const char *rows[] = {"/etc/passwd", "../x", "a/../../x", "..", "a/../.."};
    vr_autofd a = vr_mkdir_beneath(dir->fd, "a", 0700, NULL);
    assert_true(a >= 0);
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        assert_int_equal(vr_open_beneath(dir->fd, rows[i], O_RDONLY, 0, &error), -1);
        assert_non_null(error);
        g_clear_error(&error);
    }
    assert_int_equal(vr_open_beneath(dir->fd, "../x", O_RDONLY, 0, &error), -1);
    expect_error(&error, VR_ERROR_IO, "leads out");
    assert_int_equal(vr_mkdir_beneath(dir->fd, "a/../../y", 0700, &error), -1);
    expect_error(&error, VR_ERROR_USAGE, "leads out");
    assert_int_equal(vr_mkdir_beneath(dir->fd, "/y", 0700, &error), -1);
    expect_error(&error, VR_ERROR_USAGE, "leads out");
}

static void links_are_refused_everywhere_in_a_path(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    vr_autofd real = vr_mkdir_beneath(dir->fd, "real", 0700, NULL);
    assert_int_equal(symlinkat("real", dir->fd, "link"), 0);
    assert_int_equal(symlinkat("/etc/passwd", real, "passwd"), 0);
    assert_int_equal(vr_open_beneath(dir->fd, "link", O_RDONLY, 0, &error), -1);
    expect_error(&error, VR_ERROR_IO, "symbolic link at link");
    assert_int_equal(vr_open_beneath(dir->fd, "link/x", O_RDWR | O_CREAT, 0600, &error), -1);
    expect_error(&error, VR_ERROR_IO, "symbolic link");
    assert_int_equal(vr_open_beneath(dir->fd, "real/passwd", O_RDONLY, 0, &error), -1);
    expect_error(&error, VR_ERROR_IO, "symbolic link");
    assert_int_equal(vr_mkdir_beneath(dir->fd, "link/deep", 0700, &error), -1);
    expect_error(&error, VR_ERROR_IO, "symbolic link");
    assert_false(is_there(dir, "real/deep"));
}

static void directories_are_made_with_their_mode(void **state)
{
    TestDir *dir = *state;
    mode_t before = umask(0077);
    vr_autofd fd = vr_mkdir_beneath(dir->fd, "a/b/c", 0711, NULL);
    umask(before);
    assert_true(fd >= 0);
    assert_int_equal(mode_of(dir, "a"), 0711);
    assert_int_equal(mode_of(dir, "a/b/c"), 0711);
    assert_int_equal(fchmodat(dir->fd, "a", 0700, 0), 0);
    vr_autofd again = vr_mkdir_beneath(dir->fd, "a/b", 0711, NULL);
    assert_true(again >= 0);
    assert_int_equal(mode_of(dir, "a"), 0700); /* what was there keeps its mode */
    vr_autofd self = vr_mkdir_beneath(dir->fd, ".", 0711, NULL);
    assert_true(self >= 0);
    put_file(dir, "file", "", 0);
    assert_int_equal(vr_mkdir_beneath(dir->fd, "file/x", 0711, NULL), -1);
    GError *error = NULL;
    assert_int_equal(vr_dir_open("relative", &error), -1);
    expect_error(&error, VR_ERROR_USAGE, "absolute");
}

/* ---- reading and writing ---- */

static void reading_goes_to_the_end_and_says_how_far(void **state)
{
    TestDir *dir = *state;
    char buffer[16];
    gsize got;
    put_file(dir, "f", "0123456789", 10);
    vr_autofd fd = vr_open_beneath(dir->fd, "f", O_RDONLY, 0, NULL);
    assert_true(vr_pread_all(fd, buffer, 4, 2, &got, NULL));
    assert_int_equal(got, 4);
    assert_memory_equal(buffer, "2345", 4);
    assert_true(vr_pread_all(fd, buffer, 16, 6, &got, NULL));
    assert_int_equal(got, 4);
    assert_true(vr_pread_all(fd, buffer, 16, 100, &got, NULL));
    assert_int_equal(got, 0);
    GError *error = NULL;
    assert_false(vr_pread_all(fd, buffer, 16, G_MAXUINT64 - 3, &got, &error));
    expect_error(&error, VR_ERROR_IO, "offset");
    assert_false(vr_pread_all(dir->fd, buffer, 16, 0, &got, &error));
    expect_error(&error, VR_ERROR_IO, "offset 0");
}

static void errors_of_the_kernel_are_typed(void **state)
{
    GError *error = NULL;
    vr_autofd full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    assert_false(vr_write_all(full, "x", 1, "the test", &error));
    expect_error(&error, VR_ERROR_NO_SPACE, "cannot write the test");
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_false(vr_fsync(ends[0], "a pipe", &error)); /* EINVAL */
    expect_error(&error, VR_ERROR_IO, "cannot flush a pipe");
    vr_fd_clear(&ends[0]);
    vr_fd_clear(&ends[1]);
}

/* ---- whole files ---- */

static void a_file_is_whole_or_absent(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    mode_t before = umask(0077);
    assert_true(vr_durable_write(dir->fd, "f", "one", 3, 0444, FALSE, &error));
    umask(before);
    assert_int_equal(mode_of(dir, "f"), 0444);
    assert_false(vr_durable_write(dir->fd, "f", "two", 3, 0444, FALSE, &error));
    expect_error(&error, VR_ERROR_CONFLICT, "f exists already");
    g_autofree char *first = content_of(dir, "f");
    assert_string_equal(first, "one");
    assert_true(vr_durable_write(dir->fd, "f", "three", 5, 0600, TRUE, &error));
    g_autofree char *second = content_of(dir, "f");
    assert_string_equal(second, "three");
    assert_int_equal(mode_of(dir, "f"), 0600);
    assert_int_equal(count_entries(dir->path), 1);
}

static void a_full_disk_leaves_the_old_file(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    struct rlimit before, small = {4096, 4096};
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small.rlim_max = before.rlim_max;
    g_autofree char *big = g_strnfill(100000, 'x');
    assert_true(vr_durable_write(dir->fd, "f", "old", 3, 0600, FALSE, NULL));
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    gboolean ok = vr_durable_write(dir->fd, "f", big, 100000, 0600, TRUE, &error);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_false(ok);
    expect_error(&error, VR_ERROR_NO_SPACE, "cannot write f");
    g_autofree char *text = content_of(dir, "f");
    assert_string_equal(text, "old");
    assert_int_equal(count_entries(dir->path), 1);
}

static void names_are_plain(void **state)
{
    TestDir *dir = *state;
    const char *rows[] = {"", ".", "..", "a/b", "/etc/x"};
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        GError *error = NULL;
        assert_false(vr_durable_write(dir->fd, rows[i], "", 0, 0600, TRUE, &error));
        expect_error(&error, VR_ERROR_USAGE, "not a plain file name");
        assert_false(vr_durable_unlink(dir->fd, rows[i], &error));
        expect_error(&error, VR_ERROR_USAGE, "not a plain file name");
        assert_false(vr_durable_rename(dir->fd, rows[i], dir->fd, "x", &error));
        expect_error(&error, VR_ERROR_USAGE, "not a plain file name");
        assert_null(vr_tmpdir_new(dir->fd, rows[i], &error));
        expect_error(&error, VR_ERROR_USAGE, "not a plain file name");
    }
}

static void a_rename_never_replaces(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    vr_autofd sub = vr_mkdir_beneath(dir->fd, "sub", 0700, NULL);
    vr_autofd other = vr_mkdir_beneath(dir->fd, "other", 0700, NULL);
    vr_autofd made = vr_mkdir_beneath(sub, "v", 0700, NULL);
    put_file(dir, "sub/v/f", "new", 3);
    assert_true(vr_durable_rename(sub, "v", other, "v", &error));
    g_autofree char *text = content_of(dir, "other/v/f");
    assert_string_equal(text, "new");
    /* rename(2) would replace an empty directory and any file */
    vr_autofd empty = vr_mkdir_beneath(sub, "empty", 0700, NULL);
    vr_autofd second = vr_mkdir_beneath(other, "empty", 0700, NULL);
    assert_false(vr_durable_rename(sub, "empty", other, "empty", &error));
    expect_error(&error, VR_ERROR_CONFLICT, "empty exists already");
    put_file(dir, "a", "a", 1);
    put_file(dir, "b", "b", 1);
    assert_false(vr_durable_rename(dir->fd, "a", dir->fd, "b", &error));
    expect_error(&error, VR_ERROR_CONFLICT, "b exists already");
    assert_false(vr_durable_rename(dir->fd, "absent", dir->fd, "c", &error));
    expect_error(&error, VR_ERROR_NOT_FOUND, "cannot rename");
}

static void unlink_may_be_repeated(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    put_file(dir, "a", "a", 1);
    assert_true(vr_durable_unlink(dir->fd, "a", &error));
    assert_true(vr_durable_unlink(dir->fd, "a", &error));
    vr_autofd sub = vr_mkdir_beneath(dir->fd, "sub", 0700, NULL);
    assert_false(vr_durable_unlink(dir->fd, "sub", &error));
    expect_error(&error, VR_ERROR_IO, "cannot remove sub");
}

/* ---- temp directories ---- */

static void a_temp_directory_goes_with_its_content(void **state)
{
    TestDir *dir = *state;
    g_autoptr(GError) error = NULL;
    VrTmpdir *tmp = vr_tmpdir_new(dir->fd, "op1", &error);
    assert_non_null(tmp);
    assert_int_equal(mode_of(dir, ".tmp-op1"), 0711);
    vr_autofd deep = vr_mkdir_beneath(tmp->dir_fd, "v/w", 0700, NULL);
    assert_true(vr_durable_write(deep, "f", "x", 1, 0444, FALSE, NULL));
    assert_int_equal(symlinkat(dir->path, tmp->dir_fd, "link"), 0); /* is removed, not followed */
    put_file(dir, "bystander", "x", 1);
    vr_tmpdir_free(tmp);
    assert_int_equal(count_entries(dir->path), 1);
}

static void what_is_held_is_not_swept(void **state)
{
    TestDir *dir = *state;
    guint removed = 9;
    g_autoptr(VrTmpdir) live = vr_tmpdir_new(dir->fd, "live", NULL);
    vr_autofd dead = vr_mkdir_beneath(dir->fd, ".tmp-dead/v", 0700, NULL);
    put_file(dir, ".tmp-dead/.lock", "", 0);
    put_file(dir, ".tmp-dead/v/f", "x", 1);
    vr_autofd lockless = vr_mkdir_beneath(dir->fd, ".tmp-lockless", 0700, NULL); /* killed before its lock */
    put_file(dir, ".tmp-wdeadfile", "x", 1);
    put_file(dir, "not-tmp", "x", 1);
    assert_true(vr_tmpdir_sweep(dir->fd, &removed, NULL));
    assert_int_equal(removed, 3);
    assert_true(is_there(dir, ".tmp-live/.lock"));
    assert_true(is_there(dir, "not-tmp"));
    assert_int_equal(count_entries(dir->path), 2);
    assert_true(vr_tmpdir_sweep(dir->fd, NULL, NULL));
}

static void what_is_not_ours_is_not_swept(void **state)
{
    TestDir *dir = *state;
    guint removed = 9;
    assert_int_equal(symlinkat("/etc", dir->fd, ".tmp-link"), 0);
    g_autofree char *fifo = in_dir(dir, ".tmp-fifo");
    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_true(vr_tmpdir_sweep(dir->fd, &removed, NULL));
    assert_int_equal(removed, 0);
    assert_int_equal(count_entries(dir->path), 2);
}

static void one_operation_has_one_directory(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    VrTmpdir *first = vr_tmpdir_new(dir->fd, "op", NULL);
    assert_null(vr_tmpdir_new(dir->fd, "op", &error));
    expect_error(&error, VR_ERROR_BUSY, ".tmp-op");
    vr_tmpdir_free(first);
    vr_autofd dead = vr_mkdir_beneath(dir->fd, ".tmp-op/left-over", 0700, NULL); /* its lock file lost */
    g_autoptr(VrTmpdir) second = vr_tmpdir_new(dir->fd, "op", &error);
    assert_non_null(second);
    assert_false(is_there(dir, ".tmp-op/left-over"));
}

static gpointer sweep_again_and_again(gpointer data)
{
    TestDir *dir = data;
    for (int i = 0; i < 2000; i++)
        (void)vr_tmpdir_sweep(dir->fd, NULL, NULL);
    return NULL;
}

static void a_sweep_beside_a_maker_takes_nothing_from_it(void **state)
{
    TestDir *dir = *state;
    GThread *sweepers[3];
    for (gsize i = 0; i < G_N_ELEMENTS(sweepers); i++)
        sweepers[i] = g_thread_new("sweep", sweep_again_and_again, dir);
    for (int i = 0; i < 300; i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *opid = g_strdup_printf("%d", i);
        g_autoptr(VrTmpdir) tmp = vr_tmpdir_new(dir->fd, opid, &error);
        expect_no_error(error);
        assert_true(vr_durable_write(tmp->dir_fd, "f", "x", 1, 0600, FALSE, &error));
        g_autofree char *name = g_strdup_printf("f%d", i);
        assert_true(vr_durable_rename(tmp->dir_fd, "f", dir->fd, name, &error));
        assert_true(vr_durable_write(dir->fd, "same", name, strlen(name), 0600, TRUE, &error));
    }
    for (gsize i = 0; i < G_N_ELEMENTS(sweepers); i++)
        g_thread_join(sweepers[i]);
    assert_int_equal(count_entries(dir->path), 301);
}

static gpointer make_again_and_again(gpointer data)
{
    TestDir *dir = data;
    for (int i = 0; i < 1500; i++) {
        g_autofree char *opid = g_strdup_printf("%p-%d", (void *)g_thread_self(), i);
        g_autofree char *lock = g_strdup_printf(".tmp-%s/.lock", opid);
        g_autoptr(VrTmpdir) tmp = vr_tmpdir_new(dir->fd, opid, NULL);
        if (!tmp || !is_there(dir, lock))
            return GINT_TO_POINTER(1);
    }
    return NULL;
}

/* The narrow gap between making the name and having its lock. */
static void a_name_is_ours_only_when_its_lock_is(void **state)
{
    GThread *sweepers[2], *makers[2];
    for (gsize i = 0; i < 2; i++) {
        sweepers[i] = g_thread_new("sweep", sweep_again_and_again, *state);
        makers[i] = g_thread_new("make", make_again_and_again, *state);
    }
    for (gsize i = 0; i < 2; i++) {
        gpointer lost = g_thread_join(makers[i]);
        g_thread_join(sweepers[i]);
        assert_null(lost);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        dir_test(paths_that_lead_out_are_refused),
        dir_test(links_are_refused_everywhere_in_a_path),
        dir_test(directories_are_made_with_their_mode),
        dir_test(reading_goes_to_the_end_and_says_how_far),
        cmocka_unit_test(errors_of_the_kernel_are_typed),
        dir_test(a_file_is_whole_or_absent),
        dir_test(a_full_disk_leaves_the_old_file),
        dir_test(names_are_plain),
        dir_test(a_rename_never_replaces),
        dir_test(unlink_may_be_repeated),
        dir_test(a_temp_directory_goes_with_its_content),
        dir_test(what_is_held_is_not_swept),
        dir_test(what_is_not_ours_is_not_swept),
        dir_test(one_operation_has_one_directory),
        dir_test(a_sweep_beside_a_maker_takes_nothing_from_it),
        dir_test(a_name_is_ours_only_when_its_lock_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
