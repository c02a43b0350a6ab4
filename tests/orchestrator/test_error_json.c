/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* J6: an error goes through JSON, between a job and the daemon, with all that it says. */
#include "base/error.h"
#include "orchestrator/error_json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

static GError *through_json(const GError *error)
{
    json_t *document = vr_error_json(error), *read;
    char *text = json_dumps(document, JSON_COMPACT);
    GError *back;

    read = json_loads(text, 0, NULL);
    back = vr_error_of_json(read);
    json_decref(document);
    json_decref(read);
    free(text);
    return back;
}

static void all_parts_come_back(void **state)
{
    g_autoptr(GError) error = g_error_new(VR_ERROR, VR_ERROR_BUSY, "set '%s' is held", "we\"b");
    g_autoptr(GError) back = NULL;
    g_autofree char *what = NULL;

    vr_error_next(&error, "wait");
    vr_error_cause(&error, "100%% of it");
    vr_error_now(&error, "nothing was changed");
    back = through_json(error);
    what = vr_error_what(back);
    assert_int_equal(back->code, VR_ERROR_BUSY);
    assert_string_equal(back->message, error->message);
    assert_string_equal(what, "set 'we\"b' is held");
    assert_string_equal(vr_error_part(back, VR_ERROR_CAUSE), "100% of it");
    assert_string_equal(vr_error_part(back, VR_ERROR_NOW), "nothing was changed");
    assert_string_equal(vr_error_part(back, VR_ERROR_NEXT), "wait");
}

static void what_does_not_print_stays_behind(void **state)
{
    g_autoptr(GError) error = g_error_new_literal(G_FILE_ERROR, 7, "a\033[31m\xff"), back = through_json(error);

    assert_int_equal(back->code, VR_ERROR_FAILED); /* of a foreign domain */
    assert_true(g_utf8_validate(back->message, -1, NULL));
    assert_null(strchr(back->message, '\033'));
    assert_null(vr_error_part(back, VR_ERROR_NEXT));
}

/* A job is a program that may be replaced: its daemon takes what it knows, and nothing amiss. */
static void other_documents_are_read_with_care(void **state)
{
    const struct {
        const char *text, *message;
    } rows[] = {{"{}", NULL},
                {"[]", NULL},
                {"{\"error\": 1}", NULL},
                {"{\"error\": {\"code\": \"Busy\"}}", NULL},
                {"{\"error\": {\"message\": \"x\"}}", NULL},
                {"{\"error\": {\"code\": \"Busy\", \"message\": \"x; y\", \"next\": \"y\"}}", "x; y"},
                {"{\"error\": {\"code\": \"Newer\", \"message\": \"x\", \"what\": \"x\", \"next\": 1}}", "x"}};

    assert_null(vr_error_of_json(NULL));
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        json_t *document = json_loads(rows[i].text, 0, NULL);
        g_autoptr(GError) error = vr_error_of_json(document);
        json_decref(document);
        if (rows[i].message)
            assert_string_equal(error->message, rows[i].message);
        else
            assert_null(error);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_parts_come_back),
        cmocka_unit_test(what_does_not_print_stays_behind),
        cmocka_unit_test(other_documents_are_read_with_care),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
