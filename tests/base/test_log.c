/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/support.h"

#include "base/log.h"

#include <stdio.h>

/* What the block between begin_capture() and end_capture() writes to stderr. */
static int saved_stderr;
static FILE *captured;

static void begin_capture(void)
{
    captured = tmpfile();
    assert_non_null(captured);
    fflush(stderr);
    saved_stderr = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    assert_true(dup2(fileno(captured), STDERR_FILENO) >= 0);
}

static char *end_capture(void)
{
    char buffer[4096] = {0};
    fflush(stderr);
    assert_true(dup2(saved_stderr, STDERR_FILENO) >= 0);
    vr_fd_clear(&saved_stderr);
    assert_true(pread(fileno(captured), buffer, sizeof buffer - 1, 0) >= 0);
    fclose(captured);
    return g_strdup(buffer);
}

static void lines_below_the_level_are_dropped(void **state)
{
    begin_capture();
    vr_log_set_level(VR_LOG_WARNING);
    vr_debug("quiet");
    vr_log(VR_LOG_INFO, NULL, NULL, "quiet too");
    vr_warning("web-0", "disk %s", "full");
    g_autofree char *quiet = end_capture();
    assert_string_equal(quiet, "warning: web-0: disk full\n");

    begin_capture();
    vr_log_set_level(VR_LOG_DEBUG);
    vr_debug("number %d", 5);
    g_autofree char *loud = end_capture();
    assert_string_equal(loud, "debug: number 5\n");
}

static void foreign_text_stays_on_its_line(void **state)
{
    begin_capture();
    vr_log(VR_LOG_WARNING, "0123456789abcdef0123456789abcdef", "a\nwarning: b", "x\n\033[2Jy");
    g_autofree char *text = end_capture();
    assert_string_equal(text, "warning: a?warning: b: x??[2Jy\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_below_the_level_are_dropped),
        cmocka_unit_test(foreign_text_stays_on_its_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
