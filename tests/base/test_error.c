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

static void expect_parts(const GError *error, const char *what, const char *cause, const char *now, const char *next)
{
    const char *expected[VR_ERROR_PARTS_] = {[VR_ERROR_CAUSE] = cause, [VR_ERROR_NOW] = now, [VR_ERROR_NEXT] = next};
    g_autofree char *got = vr_error_what(error);

    assert_string_equal(got, what);
    for (int part = 0; part < VR_ERROR_PARTS_; part++)
        if (expected[part])
            assert_string_equal(vr_error_part(error, part), expected[part]);
        else
            assert_null(vr_error_part(error, part));
}

static GError *full_error(void)
{
    GError *error = NULL;

    vr_set_error_errno(&error, EACCES, "cannot read %s", "a%b");
    vr_error_next(&error, "run '%s'", "chmod");
    vr_error_now(&error, "nothing was changed");
    return error;
}

/* The message is the whole story, in whatever order the parts came. */
static void the_message_has_all_parts(void **state)
{
    g_autoptr(GError) error = full_error();

    assert_string_equal(error->message, "cannot read a%b: Permission denied; nothing was changed; run 'chmod'");
    expect_parts(error, "cannot read a%b", "Permission denied", "nothing was changed", "run 'chmod'");
    vr_error_next(&error, "something that is further off");
    vr_error_cause(&error, "another");
    vr_error_now(&error, "%s", "");
    vr_error_now(&error, "the guest is off");
    expect_parts(error, "cannot read a%b", "Permission denied", "nothing was changed; the guest is off", "run 'chmod'");
    assert_string_equal(error->message,
                        "cannot read a%b: Permission denied; nothing was changed; the guest is off; run 'chmod'");
}

static void *copy_elsewhere(void *error)
{
    return g_error_copy(error);
}

static void parts_go_with_the_error(void **state)
{
    g_autoptr(GError) moved = NULL, further = NULL, copy = NULL, literal = NULL;
    g_autoptr(GError) error = full_error();

    g_prefix_error(&error, "set '%s': ", "web");
    expect_parts(error, "set 'web': cannot read a%b", "Permission denied", "nothing was changed", "run 'chmod'");
    g_propagate_error(&moved, g_steal_pointer(&error));
    g_propagate_prefixed_error(&further, g_steal_pointer(&moved), "upgrade: ");
    copy = g_thread_join(g_thread_new("copy", copy_elsewhere, further));
    g_clear_error(&further);
    expect_parts(copy, "upgrade: set 'web': cannot read a%b", "Permission denied", "nothing was changed",
                 "run 'chmod'");
    g_set_error(&error, VR_ERROR, VR_ERROR_REFUSED, "it is refused: %s", copy->message);
    expect_parts(error, error->message, NULL, NULL, NULL); /* all of it is what */
    vr_error_adopt(&error, copy);
    expect_parts(error, "it is refused: upgrade: set 'web': cannot read a%b", "Permission denied",
                 "nothing was changed", "run 'chmod'");
    literal = g_error_new_literal(VR_ERROR, VR_ERROR_FAILED, "of other words");
    vr_error_adopt(&literal, copy);
    expect_parts(literal, "of other words", NULL, NULL, NULL);
}

static void a_part_gets_other_words(void **state)
{
    g_autoptr(GError) error = full_error(), plain = g_error_new_literal(VR_ERROR, VR_ERROR_FAILED, "plain");

    vr_error_reword(&error, VR_ERROR_NEXT, "run 'chmod -R'");
    g_prefix_error(&error, "set 'web': ");
    vr_error_reword(&error, VR_ERROR_NOW, "something was changed");
    expect_parts(error, "set 'web': cannot read a%b", "Permission denied", "something was changed", "run 'chmod -R'");
    assert_true(g_str_has_suffix(error->message, ": Permission denied; something was changed; run 'chmod -R'"));
    vr_error_reword(&plain, VR_ERROR_NEXT, "run it");
    expect_parts(plain, "plain", NULL, NULL, NULL); /* it had none */
    vr_error_reword(NULL, VR_ERROR_NEXT, "run it");
}

/* libvirt's text is all that is known, until who asked says what for. */
static void a_message_may_be_the_cause(void **state)
{
    g_autoptr(GError) error = g_error_new_literal(VR_ERROR, VR_ERROR_HYPERVISOR, "Requested operation is not valid");
    g_autofree char *alone = NULL;

    vr_error_is_cause(&error);
    vr_error_next(&error, "start it");
    alone = vr_error_text(error);
    assert_string_equal(alone, "error: Requested operation is not valid\n  next:  start it\n");
    g_prefix_error(&error, "domain a: ");
    expect_parts(error, "domain a", "Requested operation is not valid", NULL, "start it");
    assert_string_equal(error->message, "domain a: Requested operation is not valid; start it");
}

static void who_has_no_parts_is_left_alone(void **state)
{
    g_autoptr(GError) foreign = g_error_new_literal(G_FILE_ERROR, 0, "x"), none = NULL;
    g_autoptr(GError) changed = full_error();

    vr_error_next(NULL, "x");
    vr_error_next(&none, "x");
    vr_error_adopt(&none, foreign);
    vr_error_is_cause(&none);
    assert_null(none);
    vr_error_cause(&foreign, "y");
    vr_error_is_cause(&foreign);
    expect_parts(foreign, "x", NULL, NULL, NULL);
    /* somebody put other words in: the parts that it had are not true of them */
    g_free(changed->message);
    changed->message = g_strdup("other words");
    expect_parts(changed, "other words", NULL, NULL, NULL);
    vr_error_now(&changed, "z");
    expect_parts(changed, "other words", NULL, "z", NULL);
}

/* E: the form that an operator sees; what it quotes cannot make a line. */
static void errors_have_one_form(void **state)
{
    g_autoptr(GError) error = full_error(), plain = g_error_new_literal(VR_ERROR, VR_ERROR_NO_SPACE, "x\n  now: y");
    g_autofree char *text = vr_error_text(error), *short_text = vr_error_text(plain);

    assert_string_equal(text, "error: cannot read a%b\n"
                              "  now:   nothing was changed\n"
                              "  next:  run 'chmod'\n"
                              "  cause: Permission denied\n");
    assert_true(g_str_has_prefix(short_text, "error: x?  now: y\n  next:  'virt-reimage image-list' shows"));
}

static void names_and_codes_belong_together(void **state)
{
    for (int code = 0; code < VR_ERROR_LAST_; code++) {
        const VrErrorCodeInfo *info = vr_error_code_info(code);
        assert_int_equal(vr_error_code_named(info->name), code);
        assert_string_equal(vr_error_name(code), info->name);
        assert_false(g_str_has_suffix(info->meaning, ".") || g_str_has_suffix(info->next, "."));
    }
    assert_int_equal(vr_error_code_named("TooLarge"), VR_ERROR_FAILED);
    assert_int_equal(vr_error_code_named(NULL), VR_ERROR_FAILED);
    g_autoptr(GError) foreign = g_error_new_literal(G_FILE_ERROR, VR_ERROR_POLICY, "x");
    assert_int_equal(vr_error_code(foreign), VR_ERROR_FAILED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_has_a_name_and_a_status),
        cmocka_unit_test(exit_statuses_are_those_of_the_design),
        cmocka_unit_test(errno_becomes_a_code_with_context),
        cmocka_unit_test(foreign_bytes_are_made_printable),
        cmocka_unit_test(the_message_has_all_parts),
        cmocka_unit_test(parts_go_with_the_error),
        cmocka_unit_test(a_part_gets_other_words),
        cmocka_unit_test(a_message_may_be_the_cause),
        cmocka_unit_test(who_has_no_parts_is_left_alone),
        cmocka_unit_test(errors_have_one_form),
        cmocka_unit_test(names_and_codes_belong_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
