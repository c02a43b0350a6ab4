/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/job_environment.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static const char *value_of(char **environment, const char *name)
{
    return g_environ_getenv(environment, name);
}

/* K1: what the service manager said to the daemon is not said to a job, nor is the daemon's language; what is given wins. */
static void test_what_a_job_gets(void **state)
{
    static const char *const base[] = {
        "PATH=/bin", "LANG=de_DE.UTF-8",     "LC_TIME=de_DE",      "NOTIFY_SOCKET=@x", "LISTEN_FDS=1",   "TERM=linux",
        "TZ=CET",    "VIRT_REIMAGE_CONF=/x", "SUDO_USER=somebody", "WATCHDOG_USEC=1",  "no equals sign", NULL};
    static const char *const more[] = {"LANG=C.UTF-8", "VIRT_REIMAGE_JOB=ro", "PATH=/usr/bin", NULL};
    g_auto(GStrv) environment = vr_job_environment(base, more);
    g_auto(GStrv) plain = vr_job_environment(base, NULL);

    assert_string_equal(value_of(environment, "LANG"), "C.UTF-8");
    assert_string_equal(value_of(environment, "PATH"), "/usr/bin");
    assert_string_equal(value_of(environment, "VIRT_REIMAGE_JOB"), "ro");
    assert_string_equal(value_of(environment, "VIRT_REIMAGE_CONF"), "/x");
    assert_int_equal(g_strv_length(environment), 4);
    assert_int_equal(g_strv_length(plain), 2);
}

/* K3: no value is a file name to a library, and nothing but how an answer looks is to be said. */
static void test_what_a_peer_may_give(void **state)
{
    static const char *const good[] = {"LANG=C.UTF-8",
                                       "LANG=",
                                       "LC_ALL=de_DE.UTF-8@euro",
                                       "TERM=xterm-256color",
                                       "COLUMNS=80",
                                       "LINES=24",
                                       "NO_COLOR=",
                                       "NO_COLOR=1",
                                       "TZ=Europe/Berlin",
                                       "TZ=CET-1CEST,M3.5.0,M10.5.0/3",
                                       "TZ=",
                                       NULL};
    static const char *const bad[] = {"LANG=/tmp/x",
                                      "LANG=../x",
                                      "LANG=a/b",
                                      "LC_../x=C",
                                      "LC_ALL=C\n",
                                      "TERM=../../x",
                                      "TERM=/x",
                                      "COLUMNS=-1",
                                      "TZ=:/etc/shadow",
                                      "TZ=/etc/shadow",
                                      "TZ=../../etc/shadow",
                                      "TZ=a/../../x",
                                      "LD_PRELOAD=x",
                                      "PATH=x",
                                      "VIRT_REIMAGE_JOB=1",
                                      "VIRT_REIMAGE_JOB_ROOT=x",
                                      "SUDO_USER=root",
                                      "VIRT_REIMAGE_DEBUG=1",
                                      "LANGUAGE=de",
                                      "LANG",
                                      "",
                                      NULL};
    g_autofree char *zeros = g_strnfill(200, '0');
    g_autofree char *wide = g_strconcat("COLUMNS=", zeros, NULL);

    for (guint i = 0; good[i]; i++)
        assert_true(vr_job_environment_may(good[i], FALSE));
    for (guint i = 0; bad[i]; i++)
        assert_false(vr_job_environment_may(bad[i], FALSE));
    assert_false(vr_job_environment_may(wide, TRUE));
    assert_true(vr_job_environment_may("SUDO_USER=jo.doe-1", TRUE));
    assert_false(vr_job_environment_may("SUDO_USER=jo doe\n", TRUE));
    assert_true(vr_job_environment_may("VIRT_REIMAGE_DEBUG=1", TRUE));
    assert_false(vr_job_environment_may("LD_PRELOAD=x", TRUE));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_a_job_gets),
        cmocka_unit_test(test_what_a_peer_may_give),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
