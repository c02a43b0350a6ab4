/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/support.h"

#include "base/lock.h"

#include <signal.h>
#include <sys/wait.h>

static void second_taker_is_told_who_holds_it(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    VrLock *first = vr_lock_acquire(dir->fd, "set.lock", "pid 812, upgrade, by root", &error);
    expect_no_error(error);
    assert_null(vr_lock_acquire(dir->fd, "set.lock", "me", &error));
    expect_error(&error, VR_ERROR_BUSY, "set.lock is held by pid 812, upgrade, by root");

    g_autofree char *holder = NULL;
    assert_true(vr_lock_is_held(dir->fd, "set.lock", &holder));
    assert_string_equal(holder, "pid 812, upgrade, by root");
    vr_lock_release(first);

    g_autofree char *nobody = NULL;
    assert_false(vr_lock_is_held(dir->fd, "set.lock", &nobody));
    assert_null(nobody);
    g_autoptr(VrLock) second = vr_lock_acquire(dir->fd, "set.lock", "me", &error);
    assert_non_null(second);
}

static void asking_takes_and_makes_nothing(void **state)
{
    TestDir *dir = *state;
    assert_false(vr_lock_is_held(dir->fd, "absent.lock", NULL));
    assert_false(is_there(dir, "absent.lock"));
    g_autoptr(VrLock) lock = vr_lock_acquire(dir->fd, "a.lock", "x", NULL);
    assert_true(vr_lock_is_held(dir->fd, "a.lock", NULL));
    assert_true(vr_lock_is_held(dir->fd, "a.lock", NULL));
}

static void a_shorter_holder_leaves_no_tail(void **state)
{
    TestDir *dir = *state;
    put_file(dir, "a.lock", "a very long line of a process that was killed", 45);
    g_autoptr(VrLock) lock = vr_lock_acquire(dir->fd, "a.lock", "short\nline", NULL);
    g_autofree char *holder = NULL;
    assert_true(vr_lock_is_held(dir->fd, "a.lock", &holder));
    assert_string_equal(holder, "short?line");
}

static void a_lock_of_another_process_counts_and_goes_with_it(void **state)
{
    TestDir *dir = *state;
    g_autofree char *path = in_dir(dir, "b.lock");
    /* fcntl.lockf would be a lock of the process; flock() another kind: so fcntl with F_OFD_SETLK (37). */
    const char *script = "import fcntl,os,struct,sys,time\n"
                         "fd=os.open(sys.argv[1],os.O_RDWR|os.O_CREAT)\n"
                         "fcntl.fcntl(fd,37,struct.pack('hhqqi4x',fcntl.F_WRLCK,0,0,0,0))\n"
                         "os.write(fd,b'python');print('held',flush=True);time.sleep(60)\n";
    char *argv[] = {(char *)"python3", (char *)"-c", (char *)script, path, NULL};
    GPid pid;
    int out;
    assert_true(g_spawn_async_with_pipes(NULL, argv, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD, NULL, NULL,
                                         &pid, NULL, &out, NULL, NULL));
    char word[8] = {0};
    assert_true(read(out, word, sizeof word - 1) > 0);
    vr_fd_clear(&out);

    GError *error = NULL;
    assert_null(vr_lock_acquire(dir->fd, "b.lock", "me", &error));
    expect_error(&error, VR_ERROR_BUSY, "held by python");
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    g_autoptr(VrLock) lock = vr_lock_acquire(dir->fd, "b.lock", "me", &error);
    assert_non_null(lock);
}

static void a_link_in_the_way_is_refused(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    put_file(dir, "victim", "precious", 8);
    assert_int_equal(symlinkat("victim", dir->fd, "c.lock"), 0);
    assert_null(vr_lock_acquire(dir->fd, "c.lock", "me", &error));
    expect_error(&error, VR_ERROR_IO, "symbolic link");
    g_autofree char *text = content_of(dir, "victim");
    assert_string_equal(text, "precious");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        dir_test(second_taker_is_told_who_holds_it), dir_test(asking_takes_and_makes_nothing),
        dir_test(a_shorter_holder_leaves_no_tail),   dir_test(a_lock_of_another_process_counts_and_goes_with_it),
        dir_test(a_link_in_the_way_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
