/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/support.h"

#include "disk/version.h"

static void names_that_work(void **state)
{
    g_autofree char *longest = g_strnfill(128, 'a');
    const char *rows[] = {"debian-12", "a", "0", "0001-com-ubuntu-server-jammy", "22_04-lts", "c++", "a.b", longest};
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        vr_name_check(rows[i], "image", &error);
        expect_no_error(error);
    }
}

static void names_that_do_not(void **state)
{
    g_autofree char *too_long = g_strnfill(129, 'a');
    const char *rows[] = {"",   ".",      "..",   "/etc", "a/b", "-a", ".hidden", "a b",      "a\nb",  "a:b",
                          NULL, "json:x", "\xff", "ü",    "a%b", "_a", too_long,  ".tmp-abc", "a\033b"};
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        GError *error = NULL;
        assert_false(vr_name_check(rows[i], "image", &error));
        expect_error(&error, VR_ERROR_USAGE, "cannot be the name of an image");
    }
    GError *error = NULL;
    assert_false(vr_name_check("a\nb", "set", &error));
    expect_error(&error, VR_ERROR_USAGE, "\"a?b\" cannot be the name of a set");
}

static void versions_that_work(void **state)
{
    const char *rows[] = {"0", "1", "1.2", "1.2.3", "12.20261101.0", "1.2.3.4", "2147483647", "0.0.0.0"};
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        vr_version_check(rows[i], &error);
        expect_no_error(error);
    }
}

static void versions_that_do_not_say_what_would(void **state)
{
    const struct {
        const char *text, *near;
    } rows[] = {{"20241004-1890", "\"20241004.1890\" works"},
                {"v1.2", "\"1.2\" works"},
                {"01.2", "\"1.2\" works"},
                {"1.00", "\"1.0\" works"},
                {"", NULL},
                {".", NULL},
                {"1.", NULL},
                {"..", NULL},
                {"1..2", NULL},
                {"1.2.3.4.5", NULL},
                {"2147483648", NULL},
                {"99999999999999999999", NULL},
                {"1.2-rc1", NULL},
                {"latest", NULL},
                {"-1", NULL},
                {"1/2", NULL},
                {"1.2\n", NULL},
                {"+1", NULL},
                {"0x1", NULL},
                {"1 2", NULL},
                {NULL, NULL}};
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        GError *error = NULL;
        assert_false(vr_version_check(rows[i].text, &error));
        if (!rows[i].near)
            assert_null(strstr(error->message, "works"));
        expect_error(&error, VR_ERROR_USAGE, rows[i].near ? rows[i].near : "is not a version");
    }
    g_autofree char *longest = g_strnfill(100000, '1');
    GError *error = NULL;
    assert_false(vr_version_check(longest, &error));
    assert_true(strlen(error->message) < 400);
    g_clear_error(&error);
}

static void order_is_by_number(void **state)
{
    const char *ascending[] = {"0", "0.0.0.1", "1", "1.2", "1.10", "2", "10", "12.20261101", "2147483647"};
    for (gsize i = 0; i < G_N_ELEMENTS(ascending); i++)
        for (gsize j = 0; j < G_N_ELEMENTS(ascending); j++) {
            int got = vr_version_compare(ascending[i], ascending[j]);
            assert_int_equal(got < 0, i < j);
            assert_int_equal(got > 0, i > j);
        }
    assert_int_equal(vr_version_compare("1.2", "1.2.0"), 0);
    assert_int_equal(vr_version_compare("1.2.0.0", "1.2"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_that_work),    cmocka_unit_test(names_that_do_not),
        cmocka_unit_test(versions_that_work), cmocka_unit_test(versions_that_do_not_say_what_would),
        cmocka_unit_test(order_is_by_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
