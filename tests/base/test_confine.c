/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A process that restricted itself tries what it must not do. Each test is a process of its own: nothing lifts a restriction. Row B2. */
#include "base/support.h"

#include "base/confine.h"

#include <pthread.h>
#include <stdio.h>
#include <sys/wait.h>

#define expect(condition)                                                                                              \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "line %d: %s (%s)\n", __LINE__, #condition, strerror(errno));                              \
            _exit(1);                                                                                                  \
        }                                                                                                              \
    } while (0)

static gboolean skipped;

/* root/ may be written to, the rest of the directory not. */
static void in_child(TestDir *dir, void (*act)(TestDir *dir))
{
    int status = 0;

    if (vr_confine_version() == 0) {
        print_message("SKIP: the kernel has no Landlock\n");
        skipped = TRUE;
        skip();
    }
    g_autofree char *a = in_dir(dir, "root/a");
    g_autofree char *b = in_dir(dir, "root/b");
    tool("mkdir", "-p", a, b);
    put_file(dir, "data.raw", "data", 4);
    put_file(dir, "root/a/file", "mine", 4);
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        g_autofree char *root = in_dir(dir, "root");
        const char *const dirs[] = {root, NULL};
        g_autoptr(GError) error = NULL;
        if (!vr_confine(dirs, &error)) {
            fprintf(stderr, "%s\n", error->message);
            _exit(1);
        }
        act(dir);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void try_data_disk(TestDir *dir)
{
    g_autofree char *data = in_dir(dir, "data.raw");
    g_autofree char *other = in_dir(dir, "other");
    char bytes[4];

    expect(open(data, O_WRONLY | O_CLOEXEC) < 0 && errno == EACCES);
    expect(open(data, O_RDWR | O_CLOEXEC) < 0 && errno == EACCES);
    expect(unlink(data) < 0 && errno == EACCES);
    expect(rename(data, other) < 0 && errno == EACCES);
    expect(open(other, O_WRONLY | O_CREAT | O_CLOEXEC, 0600) < 0 && errno == EACCES);
    if (vr_confine_version() >= 3)
        expect(truncate(data, 0) < 0 && errno == EACCES);
    vr_autofd fd = open(data, O_RDONLY | O_CLOEXEC);
    expect(fd >= 0 && pread(fd, bytes, 4, 0) == 4);
    /* nor by another name of the same file */
    g_autofree char *same = g_strdup_printf("/proc/self/fd/%d", fd);
    expect(open(same, O_RDWR | O_CLOEXEC) < 0 && errno == EACCES);
}

static void a_data_disk_is_read_only(void **state)
{
    in_child(*state, try_data_disk);
}

static void try_root(TestDir *dir)
{
    g_autofree char *file = in_dir(dir, "root/a/file");
    g_autofree char *there = in_dir(dir, "root/b/file");
    g_autofree char *new = in_dir(dir, "root/new");
    g_autofree char *stolen = in_dir(dir, "stolen");
    vr_autofd fd = open(file, O_RDWR | O_TRUNC | O_CLOEXEC);

    expect(fd >= 0 && write(fd, "x", 1) == 1 && fsync(fd) == 0);
    expect(rename(file, there) == 0);
    expect(mkdir(new, 0700) == 0 && rmdir(new) == 0 && unlink(there) == 0);
    expect(rename(new, stolen) < 0); /* nothing goes out of it either */
    vr_autofd null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    expect(null >= 0);
    vr_autofd outer = open(dir->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    expect(outer >= 0 && fsync(outer) == 0); /* libvirt's directory is flushed so */
}

static void the_store_is_free(void **state)
{
    in_child(*state, try_root);
}

static void *write_data(void *path)
{
    vr_autofd fd = open(path, O_WRONLY | O_CLOEXEC);

    return GINT_TO_POINTER(fd >= 0);
}

static void try_heirs(TestDir *dir)
{
    g_autofree char *data = in_dir(dir, "data.raw");
    g_autofree char *mine = in_dir(dir, "root/image");
    const char *const qemu_img[] = {"qemu-img", "create", "-q", "-f", "qcow2", mine, "1M", NULL};
    const char *const over[] = {"qemu-img", "create", "-q", "-f", "qcow2", data, "1M", NULL};
    pthread_t thread;
    void *wrote = NULL;

    expect(pthread_create(&thread, NULL, write_data, data) == 0 && pthread_join(thread, &wrote) == 0 && !wrote);
    expect(vr_child_run(qemu_img, NULL, NULL, NULL));
    expect(!vr_child_run(over, NULL, NULL, NULL));
}

static void threads_and_children_inherit_it(void **state)
{
    in_child(*state, try_heirs);
}

typedef struct {
    const char *path;
    gboolean thread_wrote, child_wrote;
} Outing;

static void go_out(void *data)
{
    Outing *outing = data;
    const char *const argv[] = {"sh", "-c", "echo out > \"$0\"", outing->path, NULL};

    outing->thread_wrote = write_data((void *)outing->path) != NULL;
    outing->child_wrote = vr_child_run(argv, NULL, NULL, NULL);
}

static void try_outside(TestDir *dir)
{
    g_autofree char *data = in_dir(dir, "data.raw");
    const char *const again[] = {dir->path, NULL};
    Outing outing = {.path = data};

    expect(vr_confine(again, NULL)); /* a second time widens nothing */
    expect(!write_data(data));
    vr_confine_outside(go_out, &outing);
    expect(outing.thread_wrote && outing.child_wrote);
    expect(!write_data(data));
}

static void what_is_not_ours_runs_outside(void **state)
{
    in_child(*state, try_outside);
}

static void try_one_file(TestDir *dir)
{
    g_autofree char *file = in_dir(dir, "root/a/file");
    g_autofree char *other = in_dir(dir, "root/b/new");
    const char *const paths[] = {file, NULL};

    expect(vr_confine_closed(paths, NULL));
    vr_autofd fd = open(file, O_RDWR | O_CLOEXEC);
    expect(fd >= 0);
    expect(open(other, O_WRONLY | O_CREAT | O_CLOEXEC, 0600) < 0 && errno == EACCES);
    expect(unlink(file) < 0 && errno == EACCES);
}

static void one_file_may_be_all(void **state)
{
    in_child(*state, try_one_file);
}

static void nothing_is_outside_before(void **state)
{
    TestDir *dir = *state;
    put_file(dir, "data.raw", "data", 4);
    g_autofree char *data = in_dir(dir, "data.raw");
    Outing outing = {.path = data};

    vr_confine_outside(go_out, &outing);
    assert_true(outing.thread_wrote && outing.child_wrote);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        dir_test(a_data_disk_is_read_only),        dir_test(the_store_is_free),
        dir_test(threads_and_children_inherit_it), dir_test(what_is_not_ours_runs_outside),
        dir_test(nothing_is_outside_before),       dir_test(one_file_may_be_all),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);

    return failed == 0 && skipped ? 77 : failed;
}
