/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/near.h"

#include "base/support.h"

static void the_word_that_was_meant(void **state)
{
    static const char *const names[] = {"web", "database", "web-staging", "x"};
    static const struct {
        const char *word, *meant; /* NULL: nothing is near */
    } rows[] = {{"wbe", "web"},
                {"we", "web"},
                {"web", "web"},
                {"databsae", "database"},
                {"web-stging", "web-staging"},
                {"dat", NULL},
                {"frobnicate", NULL},
                {"abc", NULL},
                {"y", NULL}, /* nothing of it is left */
                {"", NULL},
                {"a word that is longer than any that anybody would compare", NULL}};

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        const char *found = vr_near(rows[i].word, names, G_N_ELEMENTS(names));
        if (rows[i].meant)
            assert_string_equal(found, rows[i].meant);
        else
            assert_null(found);
    }
    assert_null(vr_near("web", names, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_word_that_was_meant)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
