/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* J8: the view on a thread of its own beside a run: it never stops the run, whatever becomes of it, of its terminal and of standard error. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/fd.h"
#include "live/simulated.h"
#include "orchestrator/live/aside.h"
#include "orchestrator/live/screen.h"
#include "orchestrator/live/watch.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define LONG (300 * 1024)

/* ---- a terminal, which standard error is too ---- */

static struct {
    int reader, terminal, error; /* error: what standard error was */
} pty = {-1, -1, -1};

static int open_pty(void **state)
{
    struct winsize size = {.ws_row = 24, .ws_col = 80};

    (void)state;
    g_setenv("TERM", "xterm-256color", TRUE);
    if (openpty(&pty.reader, &pty.terminal, NULL, NULL, &size) < 0)
        return -1;
    (void)fcntl(pty.reader, F_SETFL, O_NONBLOCK);
    (void)fcntl(pty.reader, F_SETFD, FD_CLOEXEC);
    pty.error = dup(STDERR_FILENO);
    return dup2(pty.terminal, STDERR_FILENO) < 0 ? -1 : 0;
}

static int close_pty(void **state)
{
    (void)state;
    (void)dup2(pty.error, STDERR_FILENO);
    vr_fd_clear(&pty.error);
    vr_fd_clear(&pty.terminal);
    vr_fd_clear(&pty.reader);
    return 0;
}

/* What has been sent to it until now. */
static void read_on(GString *text)
{
    char piece[4096];
    ssize_t n;

    while ((n = read(pty.reader, piece, sizeof(piece))) > 0)
        g_string_append_len(text, piece, n);
}

static void read_until(GString *text, const char *words)
{
    for (guint i = 0; i < 3000 && !strstr(text->str, words); i++) {
        g_usleep(10000);
        read_on(text);
    }
    assert_non_null(strstr(text->str, words));
}

static void say(const char *words)
{
    assert_int_equal(write(STDERR_FILENO, words, strlen(words)), strlen(words));
}

/* ---- a run ---- */

typedef struct {
    gint looks, ended; /* atomic */
} Run;

static VrSnapshot *look(void *data)
{
    Run *run = data;

    g_atomic_int_inc(&run->looks);
    return simulated_run(5, 2, 0, g_atomic_int_get(&run->ended) ? 900000 : 17000 + g_atomic_int_get(&run->looks) * 250);
}

static VrWatchOptions options_of(Run *run)
{
    return (VrWatchOptions){.fd = pty.terminal, .read = look, .data = run};
}

static guint open_descriptors(void)
{
    g_autoptr(GDir) dir = g_dir_open("/proc/self/fd", 0, NULL);
    guint count = 0;

    while (g_dir_read_name(dir))
        count++;
    return count;
}

/* ---- beside a run ---- */

static void drawn_until_the_run_ends(void **state)
{
    Run run = {0};
    const VrWatchOptions options = options_of(&run);
    g_autoptr(GString) text = g_string_new(NULL);
    guint before = open_descriptors();

    assert_true(vr_screen_can(pty.terminal));
    VrWatch *watch = vr_watch_begin(&options);
    assert_non_null(watch);
    read_until(text, "batch 1: ");
    say("a warning\033[2J\n");
    read_until(text, "a warning?[2J");
    g_atomic_int_set(&run.ended, 1);
    say("half a line");
    vr_watch_end(watch);
    read_until(text, "Completed: 5 done");
    read_until(text, "half a line");
    assert_null(strstr(text->str, "\033[2J"));
    assert_int_equal(open_descriptors(), before);
    say("as before\n");
    read_until(text, "as before");
}

/* The run goes on without it: no descriptor is left, or no thread. */
static void none_where_nothing_is_left_for_it(void **state)
{
    Run run = {0};
    const VrWatchOptions options = options_of(&run);
    struct rlimit limit, none = {0};
    pthread_attr_t usual, vast;
    guint before = open_descriptors();

    getrlimit(RLIMIT_NOFILE, &limit);
    none.rlim_max = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &none);
    VrWatch *without_descriptor = vr_watch_begin(&options);
    setrlimit(RLIMIT_NOFILE, &limit);
    assert_null(without_descriptor);

    pthread_getattr_default_np(&usual);
    pthread_getattr_default_np(&vast);
    assert_int_equal(pthread_attr_setstacksize(&vast, (size_t)1 << 50), 0);
    assert_int_equal(pthread_setattr_default_np(&vast), 0);
    VrWatch *without_thread = vr_watch_begin(&options);
    pthread_setattr_default_np(&usual);
    assert_null(without_thread);

    assert_int_equal(run.looks, 0);
    assert_int_equal(open_descriptors(), before);
    vr_watch_end(NULL);
}

/* The run is not asked any more, and whoever writes to standard error is not held up and loses nothing but readers. */
static void a_terminal_that_goes(void **state)
{
    Run run = {0};
    const VrWatchOptions options = options_of(&run);
    g_autoptr(GString) text = g_string_new(NULL);
    VrWatch *watch = vr_watch_begin(&options);
    gint looks;

    read_until(text, "batch 1: ");
    vr_fd_clear(&pty.reader);
    for (gint seen = -1; seen != g_atomic_int_get(&run.looks);) { /* until it has seen that */
        seen = g_atomic_int_get(&run.looks);
        say("nobody reads this\n");
        g_usleep(1500000);
    }
    looks = g_atomic_int_get(&run.looks);
    for (guint written = 0; written < LONG; written += 4096) {
        struct pollfd one = {STDERR_FILENO, POLLOUT, 0};
        char words[4096];
        memset(words, 'x', sizeof(words));
        assert_int_equal(poll(&one, 1, 10000), 1);
        assert_int_equal(write(STDERR_FILENO, words, sizeof(words)), sizeof(words));
    }
    vr_watch_end(watch);
    assert_int_equal(g_atomic_int_get(&run.looks), looks);
}

/* ---- standard error ---- */

static void expect_plain(const char *text)
{
    for (const char *p = text; *p; p++)
        assert_true(*p == '\n' || (*p >= ' ' && *p <= '~'));
}

/* A megabyte without an end of line takes no megabyte. */
static void what_is_held_back_has_a_bound(void **state)
{
    VrAside *aside = vr_aside_begin(pty.terminal);
    gsize held = 0, total = 0;

    assert_non_null(aside);
    for (guint written = 0; written < LONG; written += 4096) {
        char words[4096];
        memset(words, '\033', sizeof(words));
        assert_int_equal(write(STDERR_FILENO, words, sizeof(words)), sizeof(words));
        g_autofree char *taken = vr_aside_take(aside);
        held += sizeof(words);
        if (!taken)
            continue;
        expect_plain(taken);
        total += strlen(taken);
        held = 0;
        assert_in_range(strlen(taken), 1, 64 * 1024 + 1);
    }
    assert_in_range(held, 0, 64 * 1024);
    assert_in_range(total, LONG - 64 * 1024, LONG + 64);
    say("\n");
    g_free(vr_aside_take(aside)); /* nobody reads this terminal */
    vr_aside_end(aside);
}

/* The zero byte ends nothing, and the last words are no sequence either. */
static void lines_are_plain(void **state)
{
    static const char words[] = "one\0two\n\n\033]0;title\a\nlast \033[31mwords";
    g_autoptr(GString) text = g_string_new(NULL);
    VrAside *aside = vr_aside_begin(pty.terminal);

    assert_int_equal(write(STDERR_FILENO, words, sizeof(words) - 1), sizeof(words) - 1);
    g_autofree char *taken = vr_aside_take(aside);
    assert_true(g_str_has_prefix(taken, "one") && strstr(taken, "two\n?]0;title?\n"));
    vr_aside_end(aside);
    read_until(text, "last ?[31mwords");
    assert_null(strchr(text->str, '\033'));
}

static void report_slowly(int number)
{
    (void)number;
    say("a report\n");
    g_usleep(1500000);
    say("the end of a report\n");
    _exit(1);
}

static void crash_in_child(int number)
{
    const struct rlimit none = {0, 0};

    (void)setrlimit(RLIMIT_CORE, &none);
    if (!vr_aside_begin(pty.terminal))
        _exit(1);
    say("the last words\033[2J of a process");
    if (number == SIGABRT)
        abort();
    (void)raise(number);
    _exit(2);
}

/* What was held back is on the terminal, and the process has ended by its signal all the same. */
static void a_crash_leaves_its_last_words(void **state)
{
    static const int numbers[] = {SIGABRT, SIGQUIT, SIGTRAP};

    for (guint i = 0; i < G_N_ELEMENTS(numbers); i++) {
        g_autoptr(GString) text = g_string_new(NULL);
        int status;
        pid_t pid = fork();

        assert_true(pid >= 0);
        if (pid == 0)
            crash_in_child(numbers[i]);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), numbers[i]);
        read_until(text, "the last words?[2J of a process");
    }
}

static void crash_beside_view(void)
{
    Run run = {0};
    const VrWatchOptions options = options_of(&run);
    const struct rlimit none = {0, 0};
    struct sigaction slow = {.sa_flags = 0};

    (void)setrlimit(RLIMIT_CORE, &none);
    slow.sa_handler = report_slowly;
    (void)sigaction(SIGQUIT, &slow, NULL);
    if (!vr_watch_begin(&options))
        _exit(1);
    while (g_atomic_int_get(&run.looks) < 2)
        g_usleep(1000);
    g_usleep(120000); /* between two frames */
    (void)raise(SIGQUIT);
}

/* Who handled the signal before takes his time, as a sanitizer does, and no frame comes between his words. */
static void nothing_is_drawn_into_a_crash(void **state)
{
    g_autoptr(GString) text = g_string_new(NULL);
    const char *report;
    int status;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0)
        crash_beside_view();
    read_until(text, "the end of a report");
    assert_int_equal(waitpid(pid, &status, 0), pid);
    report = strstr(text->str, "a report");
    assert_non_null(strstr(text->str, "batch 1"));
    assert_string_equal(report, "a report\r\nthe end of a report\r\n");
}

/* It handles nothing once it is over, and never what was ignored. */
static void signals_are_what_they_were(void **state)
{
    struct sigaction now;
    VrAside *aside;

    signal(SIGQUIT, SIG_IGN);
    aside = vr_aside_begin(pty.terminal);
    sigaction(SIGQUIT, NULL, &now);
    assert_ptr_equal(now.sa_handler, SIG_IGN);
    sigaction(SIGABRT, NULL, &now);
    assert_true(now.sa_flags & SA_SIGINFO);
    vr_aside_end(aside);
    sigaction(SIGABRT, NULL, &now);
    assert_ptr_equal(now.sa_handler, SIG_DFL);
    signal(SIGQUIT, SIG_DFL);
}

#define on_pty(test) cmocka_unit_test_setup_teardown(test, open_pty, close_pty)

int main(void)
{
    const struct CMUnitTest tests[] = {
        on_pty(a_crash_leaves_its_last_words), /* first: these fork, and there is no thread yet */
        on_pty(nothing_is_drawn_into_a_crash),     on_pty(drawn_until_the_run_ends),
        on_pty(none_where_nothing_is_left_for_it), on_pty(a_terminal_that_goes),
        on_pty(what_is_held_back_has_a_bound),     on_pty(lines_are_plain),
        on_pty(signals_are_what_they_were),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
