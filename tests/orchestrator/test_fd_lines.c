/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/fd_lines.h"

#include "base/error.h"
#include "base/fd.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

typedef struct {
    int ours, theirs;
    VrFdLines *lines;
} Pair;

static void pair_open(Pair *pair, guint n)
{
    int ends[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    *pair = (Pair){ends[0], ends[1], vr_fd_lines_new(ends[0], n)};
}

static void pair_close(Pair *pair)
{
    vr_fd_lines_free(pair->lines);
    vr_fd_clear(&pair->ours);
    vr_fd_clear(&pair->theirs);
}

static void put(const Pair *pair, const char *text)
{
    assert_int_equal(write(pair->theirs, text, strlen(text)), (ssize_t)strlen(text));
}

static VrFdLinesGot take(const Pair *pair)
{
    json_t *document;
    VrFdLinesGot got = vr_fd_lines_take(pair->lines, &document);

    assert_int_equal(got == VR_FD_LINES_LINE, document != NULL);
    json_decref(document);
    return got;
}

static guint open_fds(void)
{
    guint n = 0;

    for (int fd = 0; fd < 256; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

/* K1: lines come whole, however they are cut, and the reader never waits. */
static void test_lines(void **state)
{
    Pair pair;

    pair_open(&pair, 0);
    assert_int_equal(take(&pair), VR_FD_LINES_NONE);
    put(&pair, "{\"a\"");
    assert_int_equal(take(&pair), VR_FD_LINES_NONE);
    put(&pair, ":1}\n{\"b\":2}\n{");
    assert_int_equal(take(&pair), VR_FD_LINES_LINE);
    assert_int_equal(take(&pair), VR_FD_LINES_LINE);
    assert_int_equal(take(&pair), VR_FD_LINES_NONE);
    put(&pair, "}\n");
    vr_fd_clear(&pair.theirs);
    assert_false(vr_fd_lines_is_over(pair.lines)); /* a line waits */
    assert_int_equal(take(&pair), VR_FD_LINES_LINE);
    assert_true(vr_fd_lines_is_over(pair.lines));
    assert_int_equal(take(&pair), VR_FD_LINES_END);
    pair_close(&pair);
}

/* ... and what is none, or has no end, is the end of it. */
static void test_nonsense(void **state)
{
    static const char *const bad[] = {
        "\n", "[]\n", "1\n", "{\"a\":1,\"a\":2}\n", "{\n", "\xff{}\n", "{\"a\":\"\\u0000\"}\n"};
    g_autofree char *endless = g_strnfill(VR_FD_LINES_MAX + 1, 'x');
    g_autoptr(GError) error = NULL;
    json_t *line = json_pack("{s:s}", "word", endless);
    Pair pair;

    for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
        pair_open(&pair, 0);
        put(&pair, bad[i]);
        assert_int_equal(take(&pair), VR_FD_LINES_BAD);
        pair_close(&pair);
    }
    pair_open(&pair, 0);
    assert_false(vr_fd_lines_send(pair.theirs, line, NULL, 0, 0, &error)); /* nor is one sent */
    assert_true(g_error_matches(error, VR_ERROR, VR_ERROR_USAGE));
    assert_int_equal(take(&pair), VR_FD_LINES_NONE);
    put(&pair, endless);
    assert_int_equal(take(&pair), VR_FD_LINES_BAD);
    pair_close(&pair);
    json_decref(line);
}

static void give(const Pair *pair, guint n)
{
    const int fds[] = {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO, STDIN_FILENO};
    g_autoptr(GError) error = NULL;
    json_t *line = json_pack("{s:s}", "argv", "x");

    assert_true(vr_fd_lines_send(pair->theirs, line, fds, n, 0, &error));
    json_decref(line);
}

/* Descriptors come with the line, close on exec, and whose they are is said once. */
static void test_descriptors(void **state)
{
    int fds[VR_FD_LINES_COMMAND_FDS];
    guint before = open_fds();
    struct stat ours, theirs;
    Pair pair;

    pair_open(&pair, VR_FD_LINES_COMMAND_FDS);
    assert_false(vr_fd_lines_fds(pair.lines, fds));
    give(&pair, 4);
    assert_int_equal(take(&pair), VR_FD_LINES_LINE);
    assert_true(vr_fd_lines_fds(pair.lines, fds));
    assert_false(vr_fd_lines_fds(pair.lines, fds));
    assert_int_equal(fstat(fds[1], &theirs), 0);
    assert_int_equal(fstat(STDOUT_FILENO, &ours), 0);
    assert_true(ours.st_ino == theirs.st_ino);
    for (guint i = 0; i < G_N_ELEMENTS(fds); i++) {
        assert_int_equal(fcntl(fds[i], F_GETFD), FD_CLOEXEC);
        vr_fd_clear(&fds[i]);
    }
    give(&pair, 4); /* a second time */
    assert_int_equal(take(&pair), VR_FD_LINES_BAD);
    pair_close(&pair);
    assert_int_equal(open_fds(), before);
}

/* Others are not kept: too few, too many, or any where none are meant. */
static void test_other_descriptors(void **state)
{
    guint before = open_fds();
    static const struct {
        guint meant, given;
    } rows[] = {{4, 1}, {4, 3}, {2, 4}, {2, 1}, {0, 1}, {0, 4}};

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        Pair pair;
        pair_open(&pair, rows[i].meant);
        give(&pair, rows[i].given);
        assert_int_equal(take(&pair), VR_FD_LINES_BAD);
        pair_close(&pair);
        assert_int_equal(open_fds(), before);
    }
}

/* K3: where none are meant they are not even taken: whoever closes a file of FUSE waits for the program behind it. That one was closed shows in a lock
 * of ours, which goes with any close of its file. */
static void test_descriptors_that_are_not_taken(void **state)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET}, seen = lock;
    g_autofree char *path = NULL;
    vr_autofd file = g_file_open_tmp("fd-lines-XXXXXX", &path, NULL), probe = open(path, O_RDWR | O_CLOEXEC);
    Pair pair;

    assert_true(file >= 0 && probe >= 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(fcntl(file, F_SETLK, &lock), 0);
    pair_open(&pair, 0);
    json_t *line = json_object();
    assert_true(vr_fd_lines_send(pair.theirs, line, &file, 1, 0, NULL));
    json_decref(line);
    assert_int_equal(take(&pair), VR_FD_LINES_BAD);
    assert_int_equal(fcntl(probe, F_OFD_GETLK, &seen), 0);
    assert_int_equal(seen.l_type, F_WRLCK);
    pair_close(&pair);
}

/* Who does not read is not waited for, and who is gone is an error. */
static void test_a_reader_that_does_not_read(void **state)
{
    g_autofree char *word = g_strnfill(60000, 'x');
    g_autoptr(GError) error = NULL;
    json_t *line = json_pack("{s:s}", "word", word);
    guint sent = 0;
    Pair pair;

    signal(SIGPIPE, SIG_IGN);
    pair_open(&pair, 0);
    while (sent < 1000 && vr_fd_lines_send(pair.theirs, line, NULL, 0, 0, &error))
        sent++;
    assert_true(sent > 0 && sent < 1000); /* one of the longest fits */
    assert_non_null(error);
    g_clear_error(&error);
    vr_fd_clear(&pair.ours);
    assert_false(vr_fd_lines_send(pair.theirs, line, NULL, 0, 100, &error));
    json_decref(line);
    pair_close(&pair);
}

static void test_signals(void **state)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGKILL};
    json_t *other = json_pack("{s:s}", "signal", "STOP"), *none = json_object();

    for (guint i = 0; i < G_N_ELEMENTS(numbers); i++) {
        json_t *line = json_pack("{s:s}", "signal", vr_fd_lines_signal_name(numbers[i]));
        assert_int_equal(vr_fd_lines_signal(line), numbers[i]);
        json_decref(line);
    }
    assert_null(vr_fd_lines_signal_name(SIGSTOP));
    assert_int_equal(vr_fd_lines_signal(other), 0);
    assert_int_equal(vr_fd_lines_signal(none), 0);
    json_decref(other);
    json_decref(none);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_nonsense),
        cmocka_unit_test(test_descriptors),
        cmocka_unit_test(test_other_descriptors),
        cmocka_unit_test(test_descriptors_that_are_not_taken),
        cmocka_unit_test(test_a_reader_that_does_not_read),
        cmocka_unit_test(test_signals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
