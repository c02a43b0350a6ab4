/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/support.h"

static void every_code_has_a_name_and_a_status(void **state)
{
    g_autoptr(GHashTable) names = g_hash_table_new(g_str_hash, g_str_equal);
    for (int code = 0; code < VR_ERROR_LAST_; code++) {
        assert_non_null(vr_error_name(code));
        assert_true(g_hash_table_add(names, (gpointer)vr_error_name(code)));
        g_autoptr(GError) error = g_error_new(VR_ERROR, code, "x");
        assert_in_range(vr_error_exit_status(error), 1, 7);
    }
    assert_string_equal(vr_error_name(-1), "Failed");
    assert_string_equal(vr_error_name(VR_ERROR_LAST_), "Failed");
}

static void exit_statuses_are_those_of_the_design(void **state)
{
    const struct {
        int code, status;
    } rows[] = {{VR_ERROR_FAILED, 1}, {VR_ERROR_USAGE, 2},   {VR_ERROR_POLICY, 3}, {VR_ERROR_REFUSED, 4},
                {VR_ERROR_BUSY, 5},   {VR_ERROR_PARTIAL, 6}, {VR_ERROR_PERSON, 7}};
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = g_error_new(VR_ERROR, rows[i].code, "x");
        assert_int_equal(vr_error_exit_status(error), rows[i].status);
    }
    assert_int_equal(vr_error_exit_status(NULL), 0);
    g_autoptr(GError) foreign = g_error_new(G_FILE_ERROR, VR_ERROR_POLICY, "x");
    assert_int_equal(vr_error_exit_status(foreign), 1);
}

static void errno_becomes_a_code_with_context(void **state)
{
    GError *error = NULL;
    vr_set_error_errno(&error, ENOSPC, "cannot write %s", "disk");
    expect_error(&error, VR_ERROR_NO_SPACE, "cannot write disk: No space left");
    vr_set_error_errno(&error, EDQUOT, "x");
    expect_error(&error, VR_ERROR_NO_SPACE, "x: ");
    vr_set_error_errno(&error, EFBIG, "x");
    expect_error(&error, VR_ERROR_NO_SPACE, "x: ");
    vr_set_error_errno(&error, ENOENT, "x");
    expect_error(&error, VR_ERROR_NOT_FOUND, "x: No such file");
    vr_set_error_errno(&error, EIO, "x");
    expect_error(&error, VR_ERROR_IO, "x: ");
    vr_set_error_errno(NULL, EIO, "nobody asks");
}

static void foreign_bytes_are_made_printable(void **state)
{
    const struct {
        const char *in, *out;
    } rows[] = {{"plain", "plain"}, {"a\nb\tc", "a?b?c"}, {"\033[31mred", "?[31mred"}, {"gr\xc3\xbc\xc3\x9f", "grüß"},
                {NULL, ""},         {"\x7f", "?"},        {"\xe2\x80\xae", "?"}};
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *got = vr_printable(rows[i].in, -1);
        assert_string_equal(got, rows[i].out);
    }
    g_autofree char *broken = vr_printable("a\xff z", -1);
    assert_true(g_utf8_validate(broken, -1, NULL));
    g_autofree char *bounded = vr_printable("abcdef", 3);
    assert_string_equal(bounded, "abc");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_has_a_name_and_a_status),
        cmocka_unit_test(exit_statuses_are_those_of_the_design),
        cmocka_unit_test(errno_becomes_a_code_with_context),
        cmocka_unit_test(foreign_bytes_are_made_printable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
