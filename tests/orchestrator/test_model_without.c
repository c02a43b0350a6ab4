/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* B21: an instance is cut out of a model's text, and the rest is what a person wrote. */
#include "orchestrator/model_without.h"

#include "base/error.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define HEAD "# the shop\nname: shop\nimageReference: {name: os} # always\n"

static void assert_cut(const char *text, guint index, const char *expected)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *without = vr_model_text_without(text, index, &error);

    if (!without)
        fail_msg("%s", error->message);
    assert_string_equal(without, expected);
}

static void assert_refused(const char *text, guint index, const char *word)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *without = vr_model_text_without(text, index, &error);

    assert_null(without);
    assert_true(g_error_matches(error, VR_ERROR, VR_ERROR_REFUSED));
    if (!strstr(error->message, word))
        fail_msg("\"%s\" does not say \"%s\"", error->message, word);
}

#define A "- {domain: a, role: web}\n"
#define B "# the second\n"
#define C "- {domain: ä-b} # slow\n"
#define D "  - domain: c\n    role: db\n\n"
#define TAIL "stop: {timeout: PT1M}\n"

static void test_one_line_each(void **state)
{
    assert_cut(HEAD "instances:\n" A B C "- {domain: c}\n" TAIL, 0, HEAD "instances:\n" B C "- {domain: c}\n" TAIL);
    assert_cut(HEAD "instances:\n" A B C "- {domain: c}\n" TAIL, 1, HEAD "instances:\n" A B "- {domain: c}\n" TAIL);
    assert_cut(HEAD "instances:\n" A B C "- {domain: c}\n" TAIL, 2, HEAD "instances:\n" A B C TAIL);
    assert_cut(HEAD "Instances:\n" A "- {domain: c}", 1, HEAD "Instances:\n" A); /* no end of line at the end */
}

static void test_several_lines(void **state)
{
    assert_cut(HEAD "instances:\n  - domain: a\n    role: db\n" D TAIL, 0, HEAD "instances:\n" D TAIL);
    assert_cut(HEAD "instances:\n" D "  - domain: a\n    role: db\n" TAIL, 1, HEAD "instances:\n" D TAIL);
    assert_cut(HEAD "instances:\n-\n  domain: a\n  role: db\n- {domain: b}\n", 0, HEAD "instances:\n- {domain: b}\n");
    assert_cut(HEAD "instances:\n- {domain: b,\n   role: db}\n- {domain: a}\n", 0, HEAD "instances:\n- {domain: a}\n");
    assert_cut(HEAD "instances:\r\n- {domain: b}\r\n- {domain: a}\r\n", 0, HEAD "instances:\r\n- {domain: a}\r\n");
}

static void test_in_brackets(void **state) /* JSON too */
{
    assert_cut("{\"name\": \"shop\", \"instances\": [{\"domain\": \"a\"}, {\"domain\": \"b\"}], \"imageReference\": "
               "{\"name\": \"os\"}}",
               0, "{\"name\": \"shop\", \"instances\": [{\"domain\": \"b\"}], \"imageReference\": {\"name\": \"os\"}}");
    assert_cut(HEAD "instances: [{domain: a}, {domain: b},\n  {domain: c}]\n", 2,
               HEAD "instances: [{domain: a}, {domain: b}]\n");
    assert_cut(HEAD "instances: [{domain: a}, {domain: b},\n  {domain: c}]\n", 1,
               HEAD "instances: [{domain: a}, {domain: c}]\n");
}

static void test_refused(void **state)
{
    assert_refused(HEAD "instances:\n- {domain: a}\n", 0, "cannot be cut out"); /* the only one */
    assert_refused(HEAD "instances:\n" A C, 2, "cannot be cut out");
    assert_refused("name: [\n", 0, "cannot be cut out");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_line_each),
        cmocka_unit_test(test_several_lines),
        cmocka_unit_test(test_in_brackets),
        cmocka_unit_test(test_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
