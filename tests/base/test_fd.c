/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/support.h"

static int open_null(void)
{
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

static void clear_closes_once_and_keeps_errno(void **state)
{
    int fd = open_null(), number = fd;
    errno = ENOTTY;
    vr_fd_clear(&fd);
    assert_int_equal(errno, ENOTTY);
    assert_int_equal(fd, -1);
    assert_int_equal(fcntl(number, F_GETFD), -1);
    errno = 0;
    vr_fd_clear(&fd);
    assert_int_equal(errno, 0);
}

static void scope_end_closes_and_steal_prevents_it(void **state)
{
    int closed, kept;
    {
        vr_autofd a = open_null();
        vr_autofd b = open_null();
        closed = a;
        kept = vr_fd_steal(&b);
        assert_int_equal(b, -1);
    }
    assert_int_equal(fcntl(closed, F_GETFD), -1);
    assert_true(fcntl(kept, F_GETFD) >= 0);
    vr_fd_clear(&kept);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clear_closes_once_and_keeps_errno),
        cmocka_unit_test(scope_end_closes_and_steal_prevents_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
