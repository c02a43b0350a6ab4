/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A model as JSON, and what a PATCH makes of it (K3, RFC 7396). */
#include "base/error.h"
#include "orchestrator/daemon/model_merge.h"
#include "orchestrator/model_json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

static void expect_json(json_t *document, const char *expected)
{
    char *text = json_dumps(document, JSON_COMPACT | JSON_ENCODE_ANY);

    assert_string_equal(text, expected);
    free(text);
}

static void expect_model(const char *yaml, const char *expected)
{
    g_autoptr(GError) error = NULL;
    json_auto_t *model = vr_model_to_json(yaml, strlen(yaml), &error);

    if (error)
        fail_msg("%s", error->message);
    expect_json(model, expected);
}

static void yaml_keeps_its_types(void **state)
{
    expect_model("a: 7\nb: -7\nc: '7'\nd: \"true\"\ne: true\nf: False\ng: null\nh: ~\ni:\nj: 1.5\n",
                 "{\"a\":7,\"b\":-7,\"c\":\"7\",\"d\":\"true\",\"e\":true,\"f\":false,\"g\":null,\"h\":null,\"i\":null,"
                 "\"j\":1.5}");
}

/* What only looks like a number stays as it was written: a version, a duration, leading zeros, what does not fit. */
static void what_is_a_text_stays_one(void **state)
{
    expect_model("a: 12.20261101.0\nb: 007\nc: 99999999999999999999\nd: PT2M\ne: 1e5\nf: -x\ng: 0x10\nh: .5\ni: 20%\n",
                 "{\"a\":\"12.20261101.0\",\"b\":\"007\",\"c\":\"99999999999999999999\",\"d\":\"PT2M\",\"e\":\"1e5\","
                 "\"f\":\"-x\",\"g\":\"0x10\",\"h\":\".5\",\"i\":\"20%\"}");
}

static void a_model_is_a_map(void **state)
{
    g_autoptr(GError) error = NULL;

    expect_model("a: {b: [1, x, {c: d}]}\n", "{\"a\":{\"b\":[1,\"x\",{\"c\":\"d\"}]}}");
    assert_null(vr_model_to_json("[1]", 3, &error));
    assert_non_null(error);
    g_clear_error(&error);
    assert_null(vr_model_to_json("a: [", 4, &error));
    assert_non_null(error);
}

static void expect_merged(const char *target, const char *patch, const char *expected)
{
    json_auto_t *one = json_loads(target, 0, NULL);
    json_auto_t *other = json_loads(patch, 0, NULL);

    vr_json_merge(one, other);
    expect_json(one, expected);
}

/* The table of RFC 7396, appendix A, as far as both are objects. */
static void merging_is_that_of_the_rfc(void **state)
{
    expect_merged("{\"a\":\"b\"}", "{\"a\":\"c\"}", "{\"a\":\"c\"}");
    expect_merged("{\"a\":\"b\"}", "{\"b\":\"c\"}", "{\"a\":\"b\",\"b\":\"c\"}");
    expect_merged("{\"a\":\"b\"}", "{\"a\":null}", "{}");
    expect_merged("{\"a\":\"b\",\"b\":\"c\"}", "{\"a\":null}", "{\"b\":\"c\"}");
    expect_merged("{\"a\":[\"b\"]}", "{\"a\":\"c\"}", "{\"a\":\"c\"}");
    expect_merged("{\"a\":\"c\"}", "{\"a\":[\"b\"]}", "{\"a\":[\"b\"]}");
    expect_merged("{\"a\":{\"b\":\"c\"}}", "{\"a\":{\"b\":\"d\",\"c\":null}}", "{\"a\":{\"b\":\"d\"}}");
    expect_merged("{\"a\":[{\"b\":\"c\"}]}", "{\"a\":[1]}", "{\"a\":[1]}");
    expect_merged("{\"e\":null}", "{\"a\":1}", "{\"e\":null,\"a\":1}");
    expect_merged("{}", "{\"a\":{\"bb\":{\"ccc\":null}}}", "{\"a\":{\"bb\":{}}}");
}

/* D28: a model's keys have no case, so a patch does not give it a second one. */
static void keys_are_the_same_in_any_case(void **state)
{
    expect_merged("{\"upgradePolicy\":{\"Mode\":\"Manual\"}}", "{\"UpgradePolicy\":{\"mode\":\"Rolling\"}}",
                  "{\"upgradePolicy\":{\"Mode\":\"Rolling\"}}");
    expect_merged("{\"Retention\":{}}", "{\"retention\":null}", "{}");
}

static void a_set_keeps_its_name(void **state)
{
    json_auto_t *without = json_object();
    json_auto_t *same = json_pack("{s:s}", "Name", "shop");
    json_auto_t *other = json_pack("{s:s}", "name", "shop2");
    json_auto_t *number = json_pack("{s:i}", "name", 1);
    g_autoptr(GError) error = NULL;

    assert_true(vr_model_set_name(without, "shop", NULL));
    expect_json(without, "{\"name\":\"shop\"}");
    assert_true(vr_model_set_name(same, "shop", NULL));
    expect_json(same, "{\"Name\":\"shop\"}");
    assert_false(vr_model_set_name(other, "shop", &error));
    assert_true(g_error_matches(error, VR_ERROR, VR_ERROR_USAGE));
    assert_false(vr_model_set_name(number, "shop", NULL));
}

static void expect_rolls(const char *text, gboolean rolls)
{
    json_auto_t *model = json_loads(text, 0, NULL);

    assert_int_equal(vr_model_rolls(model), rolls);
}

static void only_what_is_not_manual_rolls(void **state)
{
    expect_rolls("{}", FALSE);
    expect_rolls("{\"upgradePolicy\": 7}", FALSE);
    expect_rolls("{\"upgradePolicy\": {\"mode\": \"MANUAL\"}}", FALSE);
    expect_rolls("{\"upgradepolicy\": {\"MODE\": \"rolling\"}}", TRUE);
    expect_rolls("{\"upgradePolicy\": {\"mode\": \"Automatic\"}}", TRUE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(yaml_keeps_its_types),
        cmocka_unit_test(what_is_a_text_stays_one),
        cmocka_unit_test(a_model_is_a_map),
        cmocka_unit_test(merging_is_that_of_the_rfc),
        cmocka_unit_test(keys_are_the_same_in_any_case),
        cmocka_unit_test(a_set_keeps_its_name),
        cmocka_unit_test(only_what_is_not_manual_rolls),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
