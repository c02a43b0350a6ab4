/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/support.h"

#include "base/clock.h"
#include "base/fd.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static gboolean run(const char *const *argv, const VrChildLimits *limits, VrChildResult *result, GError **error)
{
    return vr_child_run(argv, limits, result, error);
}

#define sh(script) ((const char *const[]){"sh", "-c", script, NULL})

static void output_and_status_come_back(void **state)
{
    g_auto(VrChildResult) result = {0};
    g_autoptr(GError) error = NULL;
    assert_true(run(sh("echo out; echo err >&2; exit 3"), NULL, &result, &error));
    assert_int_equal(result.exit_status, 3);
    assert_string_equal(result.out, "out\n");
    assert_string_equal(result.err, "err\n");
    assert_int_equal(result.out_length, 4);
    assert_int_equal(result.err_length, 4);
}

static void bytes_come_back_as_they_are(void **state)
{
    g_auto(VrChildResult) result = {0};
    assert_true(run(sh("head -c 300000 /dev/zero; printf '\\000x'"), NULL, &result, NULL));
    assert_int_equal(result.out_length, 300002);
    assert_int_equal(result.out[300001], 'x');
    assert_int_equal(result.out[300002], 0);
}

static void a_status_is_an_error_where_no_result_is_asked_for(void **state)
{
    GError *error = NULL;
    assert_true(run(sh("exit 0"), NULL, NULL, &error));
    assert_false(run(sh("echo first >&2; printf 'the \\033[1mreason\\n' >&2; exit 7"), NULL, NULL, &error));
    expect_error(&error, VR_ERROR_CHILD, "sh failed with status 7: the ?[1mreason");
}

static void a_signal_is_an_error_of_its_own(void **state)
{
    GError *error = NULL;
    g_auto(VrChildResult) result = {0};
    assert_false(run(sh("kill -SEGV $$"), NULL, &result, &error));
    expect_error(&error, VR_ERROR_CHILD, "killed by signal 11");
    assert_null(result.out);
    assert_int_equal(result.term_signal, 11);
    assert_false(run(sh("sleep 60"), &(VrChildLimits){.timeout_ms = 100}, &result, &error));
    expect_error(&error, VR_ERROR_TIMEOUT, "did not end in time");
    assert_int_equal(result.term_signal, 0); /* that was us */
}

static void a_program_that_cannot_run_is_named(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    assert_false(run((const char *const[]){"no-such-tool", NULL}, NULL, NULL, &error));
    expect_error(&error, VR_ERROR_CHILD, "no-such-tool: it is not installed");
    put_file(dir, "data", "x", 1);
    g_autofree char *path = in_dir(dir, "data");
    assert_int_equal(chmod(path, 0644), 0);
    assert_false(run((const char *const[]){path, NULL}, NULL, NULL, &error));
    expect_error(&error, VR_ERROR_CHILD, "Permission denied");
}

static gpointer call_off(gpointer aborted)
{
    g_usleep(300000);
    g_atomic_int_set((gint *)aborted, 1);
    return NULL;
}

static void it_can_be_called_off(void **state)
{
    GError *error = NULL;
    gint aborted = 0;
    GThread *thread = g_thread_new("call-off", call_off, &aborted);
    gint64 before = g_get_monotonic_time();
    assert_false(run(sh("sleep 60"), &(VrChildLimits){.aborted = &aborted}, NULL, &error));
    assert_true(g_get_monotonic_time() - before < 3 * G_USEC_PER_SEC);
    expect_error(&error, VR_ERROR_CANCELLED, "sh was called off and killed");
    assert_null(g_thread_join(thread));
}

static void the_deadline_kills_the_whole_group(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    g_autofree char *mark = in_dir(dir, "mark");
    g_autofree char *script = g_strdup_printf("(sleep 1; : > %s) & sleep 60", mark);
    gint64 before = g_get_monotonic_time();
    assert_false(run(sh(script), &(VrChildLimits){.timeout_ms = 200}, NULL, &error));
    assert_true(g_get_monotonic_time() - before < 5 * G_USEC_PER_SEC);
    expect_error(&error, VR_ERROR_TIMEOUT, "sh did not end in time");
    g_usleep(1200000);
    assert_false(is_there(dir, "mark"));
}

static void what_a_child_leaves_running_ends_with_it(void **state)
{
    TestDir *dir = *state;
    g_autofree char *mark = in_dir(dir, "mark");
    g_autofree char *script = g_strdup_printf("(sleep 1; : > %s) & echo done", mark);
    g_auto(VrChildResult) result = {0};
    gint64 before = g_get_monotonic_time();
    assert_true(run(sh(script), NULL, &result, NULL));
    assert_true(g_get_monotonic_time() - before < G_USEC_PER_SEC / 2); /* the pipe is still open over there */
    assert_string_equal(result.out, "done\n");
    g_usleep(1200000);
    assert_false(is_there(dir, "mark"));
}

static void too_much_output_is_an_error(void **state)
{
    GError *error = NULL;
    const VrChildLimits limits = {.max_output = 1000};
    g_auto(VrChildResult) result = {0};
    assert_true(run(sh("head -c 1000 /dev/zero"), &limits, &result, &error));
    assert_false(run(sh("head -c 1001 /dev/zero"), &limits, NULL, &error));
    expect_error(&error, VR_ERROR_CHILD, "more than 1000 bytes");
    assert_false(run(sh("yes >&2"), &limits, NULL, &error));
    expect_error(&error, VR_ERROR_CHILD, "more than 1000 bytes");
}

static void the_begin_may_be_enough(void **state)
{
    g_auto(VrChildResult) result = {0};
    GError *error = NULL;
    const VrChildLimits limits = {.max_output = 1000, .begin_only = TRUE};
    static const char *const more[] = {"head -c 300000 /dev/zero; exit 3", "yes; exit 3", "head -c 1001 /dev/zero"};
    for (gsize i = 0; i < G_N_ELEMENTS(more); i++) {
        assert_true(run((const char *const[]){"sh", "-c", more[i], NULL}, &limits, &result, &error));
        assert_int_equal(result.out_length, 1000);
        assert_int_equal(result.exit_status, 0);
        assert_int_equal(result.term_signal, 0);
        vr_child_result_clear(&result);
    }
    assert_true(run(sh("printf x; exit 3"), &limits, &result, &error));
    assert_int_equal(result.out_length, 1);
    assert_int_equal(result.exit_status, 3);
    vr_child_result_clear(&result);
    assert_false(run(sh("printf x; kill -SEGV $$"), &limits, &result, &error));
    expect_error(&error, VR_ERROR_CHILD, "killed by signal 11");
}

static void limits_reach_the_child(void **state)
{
    GError *error = NULL;
    g_auto(VrChildResult) result = {0};
    const VrChildLimits limits = {.max_memory = 256 * 1024 * 1024, .max_cpu_s = 1, .timeout_ms = 20000};
    assert_true(run(sh("ulimit -v; ulimit -t; ulimit -c"), &limits, &result, &error));
    assert_string_equal(result.out, "262144\n1\n0\n"); /* in blocks, rounded down */
    assert_false(run(sh("while :; do :; done"), &limits, NULL, &error));
    expect_error(&error, VR_ERROR_CHILD, "killed by signal");
}

/* Of 1 byte, and not of none: a kernel.core_pattern with a pipe ignores a limit of 0. */
static void its_core_goes_into_no_pipe(void **state)
{
    const char *const limit[] = {"prlimit", "--core", "--raw", "--noheadings", "--output", "SOFT,HARD", NULL};
    g_auto(VrChildResult) seen = {0}, crashed = {0};
    assert_true(run(limit, NULL, &seen, NULL));
    assert_string_equal(seen.out, "1 1\n");
    assert_false(run(sh("kill -SEGV $$"), NULL, &crashed, NULL));
    assert_int_equal(crashed.term_signal, SIGSEGV);
}

/* As a process of its own, as the limit cannot be raised again. */
static void a_hard_limit_of_no_core_is_no_error(void **state)
{
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
        const VrChildLimits limits = {.nobody = TRUE};
        const struct rlimit none = {0, 0};
        VrChildResult result = {0};
        _exit(setrlimit(RLIMIT_CORE, &none) == 0 && run(sh("ulimit -H -c"), &limits, &result, NULL) &&
                      strcmp(result.out, "0\n") == 0
                  ? 0
                  : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void the_environment_is_clean(void **state)
{
    g_auto(VrChildResult) result = {0};
    g_setenv("VR_TEST_SECRET", "x", TRUE);
    assert_true(run((const char *const[]){"env", NULL}, NULL, &result, NULL));
    assert_null(strstr(result.out, "SECRET"));
    assert_true(g_str_has_prefix(result.out, "PATH="));
    assert_true(g_str_has_suffix(result.out, "\nLANG=C\n"));
}

static void descriptors_and_signals_are_not_inherited(void **state)
{
    vr_autofd leak = dup(STDOUT_FILENO); /* without CLOEXEC on purpose */
    sigset_t some, before;
    sigemptyset(&some);
    sigaddset(&some, SIGUSR1);
    sigaddset(&some, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &some, &before);
    sighandler_t old = signal(SIGPIPE, SIG_IGN);
    g_auto(VrChildResult) result = {0};
    assert_true(run((const char *const[]){"python3", "-c",
                                          "import os,re\n"
                                          "fds=[f for f in os.listdir('/proc/self/fd')]\n"
                                          "print(len(fds)-1, os.readlink('/proc/self/fd/0'))\n"
                                          "s=open('/proc/self/status').read()\n"
                                          "print(re.search('SigBlk:\\s*(\\w+)',s)[1])\n"
                                          "print(os.getpgid(0)==os.getpid()==os.getsid(0))\n",
                                          NULL},
                    NULL, &result, NULL));
    assert_string_equal(result.out, "3 /dev/null\n0000000000000000\nTrue\n");
    vr_child_result_clear(&result);
    assert_true(run(sh("grep SigIgn /proc/self/status"), NULL, &result, NULL));
    assert_string_equal(result.out, "SigIgn:\t0000000000000000\n");
    sigset_t now;
    pthread_sigmask(SIG_SETMASK, &before, &now);
    assert_true(sigismember(&now, SIGUSR1)); /* ours is as it was */
    assert_false(sigismember(&now, SIGINT));
    signal(SIGPIPE, old);
}

static gpointer run_many(gpointer data)
{
    for (int i = 0; i < 30; i++) {
        g_auto(VrChildResult) result = {0};
        g_autofree char *number = g_strdup_printf("%d", i);
        g_autofree char *want = g_strdup_printf("%d\n", i);
        if (!vr_child_run((const char *const[]){"echo", number, NULL}, NULL, &result, NULL) ||
            strcmp(result.out, want) != 0)
            return GINT_TO_POINTER(1);
    }
    return NULL;
}

static void many_threads_may_run_children(void **state)
{
    GThread *threads[8];
    for (gsize i = 0; i < G_N_ELEMENTS(threads); i++)
        threads[i] = g_thread_new("child", run_many, NULL);
    for (gsize i = 0; i < G_N_ELEMENTS(threads); i++)
        assert_null(g_thread_join(threads[i]));
}

static void a_child_may_be_nobody(void **state)
{
    g_auto(VrChildResult) result = {0};
    const VrChildLimits limits = {.nobody = TRUE};
    const char *script = "id -u; id -G; grep -o 'NoNewPrivs:.*' /proc/self/status; grep CapEff /proc/self/status";
    assert_true(run(sh(script), &limits, &result, NULL));
    if (geteuid() == 0)
        assert_string_equal(result.out, "65534\n65534\nNoNewPrivs:\t1\nCapEff:\t0000000000000000\n");
}

/* The change of user clears the death signal: it must be set after it. */
static void nobody_too_dies_with_its_parent(void **state)
{
    g_auto(VrChildResult) result = {0};
    const VrChildLimits limits = {.nobody = TRUE};
    assert_true(run((const char *const[]){"/usr/bin/python3", "-c",
                                          "import ctypes\n"
                                          "s=ctypes.c_int()\n"
                                          "ctypes.CDLL(None).prctl(2,ctypes.byref(s))\n"
                                          "print(s.value)",
                                          NULL},
                    &limits, &result, NULL));
    assert_string_equal(result.out, "9\n");
}

static void one_descriptor_may_be_kept(void **state)
{
    TestDir *dir = *state;
    put_file(dir, "a", "content", 7);
    vr_autofd fd = vr_open_beneath(dir->fd, "a", O_RDONLY, 0, NULL);
    g_autofree char *script = g_strdup_printf("cat <&%d", fd);
    g_auto(VrChildResult) result = {0};
    assert_true(run(sh(script), &(VrChildLimits){.keep_fd = fd}, &result, NULL));
    assert_string_equal(result.out, "content");
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC); /* ours is as it was */
    vr_child_result_clear(&result);
    GError *error = NULL;
    assert_false(run(sh("true"), &(VrChildLimits){.keep_fd = 1000}, &result, &error));
    expect_error(&error, VR_ERROR_CHILD, "Bad file descriptor");
}

/* More than a pipe holds, to one that reads it late, not at all, or to the end. */
static void a_text_may_be_its_input(void **state)
{
    g_autofree char *text = g_strnfill(200000, 'x');
    const VrChildLimits limits = {.input = text};
    static const char *const wc[] = {"/bin/sh", "-c", "sleep 0.1; wc -c", NULL};
    static const char *const deaf[] = {"/bin/true", NULL};
    static const char *const none[] = {"/bin/cat", NULL};
    g_auto(VrChildResult) counted = {0};
    g_auto(VrChildResult) unread = {0};
    g_auto(VrChildResult) empty = {0};

    assert_true(vr_child_run(wc, &limits, &counted, NULL));
    assert_string_equal(g_strstrip(counted.out), "200000");
    assert_true(vr_child_run(deaf, &limits, &unread, NULL));
    assert_int_equal(unread.exit_status, 0);
    assert_true(vr_child_run(none, &(VrChildLimits){0}, &empty, NULL));
    assert_string_equal(empty.out, "");
}

static void nothing_is_left_open(void **state)
{
    guint before = count_entries("/proc/self/fd");
    for (int i = 0; i < 20; i++) {
        (void)run(sh("exit 1"), NULL, NULL, NULL);
        (void)run((const char *const[]){"no-such-tool", NULL}, NULL, NULL, NULL);
    }
    assert_int_equal(count_entries("/proc/self/fd"), before);
}

/* It is nobody's child that would have to wait for it, and holds nothing of ours. */
static void what_is_let_go_stands_alone(void **state)
{
    g_autofree char *path = g_build_filename(g_get_tmp_dir(), "virt-reimage-let-go-XXXXXX", NULL);
    g_autofree char *text = NULL, *script = NULL;
    int fd = g_mkstemp(path);
    int open_here = open("/dev/null", O_RDONLY);
    /* ls has one of its own for the directory that it reads */
    const char *argv[] = {"sh", "-c", NULL, NULL};

    assert_true(fd >= 0 && open_here >= 0);
    script = g_strdup_printf("fds=$(readlink /proc/$$/fd/0 /proc/$$/fd/1 /proc/$$/fd/2); { pwd; ls /proc/self/fd | wc "
                             "-l; echo \"$fds\"; } > "
                             "%s.new 2>&1; mv %s.new %s",
                             path, path, path);
    argv[2] = script;
    assert_true(vr_child_let_go("/bin/sh", argv, NULL));
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    for (guint i = 0; i < 600 && (!text || !*text); i++) {
        g_usleep(10000);
        g_clear_pointer(&text, g_free);
        assert_true(g_file_get_contents(path, &text, NULL, NULL));
    }
    assert_string_equal(text, "/\n4\n/dev/null\n/dev/null\n/dev/null\n");
    close(fd);
    close(open_here);
    unlink(path);
}

static int status_of(GPid pid)
{
    int status;

    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* K1: exactly these descriptors, this directory and this environment, a session of its own, and signals as by default. */
static void what_is_handed_over_is_all_that_it_has(void **state)
{
    static const char script[] = "read line; echo \"$line $PWD $X $HOME\"; echo err >&2; ls /proc/self/fd | wc -l >&2; "
                                 "read _ _ _ _ _ sid _ < /proc/$$/stat; [ $sid = $$ ] || exit 9; kill -HUP $$; exit 8";
    static const char *const argv[] = {"sh", "-c", script, NULL}, *const environment[] = {"PATH=/usr/bin:/bin", "X=y",
                                                                                          NULL};
    int in[2], out[2], err[2];
    vr_autofd dir = open("/usr", O_PATH | O_DIRECTORY | O_CLOEXEC), leak = dup(dir);
    char said[128] = "", complained[128] = "";
    GPid pid;

    assert_int_equal(pipe2(in, O_CLOEXEC) | pipe2(out, O_CLOEXEC) | pipe2(err, O_CLOEXEC), 0);
    const VrChildGiven given = {"/bin/sh", argv, environment, {in[0], out[1], err[1]}, dir};
    signal(SIGHUP, SIG_IGN);
    assert_true(vr_child_hand_over(&given, &pid, NULL));
    signal(SIGHUP, SIG_DFL);
    assert_int_equal(write(in[1], "hello\n", 6), 6);
    assert_int_equal(status_of(pid), -SIGHUP);
    assert_true(read(out[0], said, sizeof(said) - 1) > 0);
    assert_true(read(err[0], complained, sizeof(complained) - 1) > 0);
    assert_string_equal(said, "hello /usr y \n");
    assert_string_equal(complained, "err\n4\n"); /* three, and the one that ls reads */
    for (int i = 0; i < 2; i++) {
        vr_fd_clear(&in[i]);
        vr_fd_clear(&out[i]);
        vr_fd_clear(&err[i]);
    }
}

static void what_cannot_be_handed_over_has_not_begun(void **state)
{
    static const char *const argv[] = {"nothing", NULL};
    vr_autofd null = open("/dev/null", O_RDWR | O_CLOEXEC);
    VrChildGiven given = {"/nonexistent", argv, argv + 1, {null, null, null}, -1};
    g_autoptr(GError) error = NULL;
    GPid pid;

    assert_true(vr_child_hand_over(&given, &pid, NULL));
    assert_int_equal(status_of(pid), VR_CHILD_NOT_BEGUN);
    given.fds[1] = 9999;
    assert_false(vr_child_hand_over(&given, &pid, &error));
    assert_non_null(error);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(output_and_status_come_back),
        cmocka_unit_test(bytes_come_back_as_they_are),
        cmocka_unit_test(a_status_is_an_error_where_no_result_is_asked_for),
        cmocka_unit_test(a_signal_is_an_error_of_its_own),
        dir_test(a_program_that_cannot_run_is_named),
        dir_test(the_deadline_kills_the_whole_group),
        dir_test(it_can_be_called_off),
        dir_test(what_a_child_leaves_running_ends_with_it),
        cmocka_unit_test(too_much_output_is_an_error),
        cmocka_unit_test(the_begin_may_be_enough),
        cmocka_unit_test(limits_reach_the_child),
        cmocka_unit_test(its_core_goes_into_no_pipe),
        cmocka_unit_test(a_hard_limit_of_no_core_is_no_error),
        cmocka_unit_test(the_environment_is_clean),
        cmocka_unit_test(descriptors_and_signals_are_not_inherited),
        cmocka_unit_test(many_threads_may_run_children),
        cmocka_unit_test(a_child_may_be_nobody),
        cmocka_unit_test(nobody_too_dies_with_its_parent),
        dir_test(one_descriptor_may_be_kept),
        cmocka_unit_test(a_text_may_be_its_input),
        cmocka_unit_test(nothing_is_left_open),
        cmocka_unit_test(what_is_let_go_stands_alone),
        cmocka_unit_test(what_is_handed_over_is_all_that_it_has),
        cmocka_unit_test(what_cannot_be_handed_over_has_not_begun),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
