/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* K2: docs/model.schema.json has the keys of the parser's tables and no others, with the same ranges and words. */
#include "orchestrator/model_extensions.h"
#include "orchestrator/model_instances.h"
#include "orchestrator/model_keys.h"
#include "orchestrator/model_outside.h"
#include "orchestrator/model_profile.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

static void check_number(const VrModelKey *key, const json_t *schema)
{
    assert_string_equal(json_string_value(json_object_get(schema, "type")), "integer");
    assert_int_equal(json_integer_value(json_object_get(schema, "minimum")), key->min);
    assert_int_equal(json_integer_value(json_object_get(schema, "maximum")), key->max);
}

static void check_choice(const VrModelKey *key, const json_t *schema)
{
    const json_t *words = json_object_get(schema, "enum");
    guint supported = 0;

    for (const VrModelChoice *choice = key->data; choice->name != NULL; choice++) {
        if (choice->value == VR_NOT_YET)
            continue;
        assert_string_equal(json_string_value(json_array_get(words, supported)), choice->name);
        supported++;
    }
    assert_int_equal(json_array_size(words), supported);
}

static void check_table(const VrModelKey *keys, const json_t *schema);

static void check_key(const VrModelKey *key, const json_t *schema)
{
    const json_t *type = json_object_get(schema, "type");

    if (schema == NULL)
        fail_msg("%s is not in the schema", key->name);
    if (key->parse == vr_model_section || key->parse == vr_model_profile || key->parse == vr_model_profile_data)
        check_table(key->data, schema);
    else if (key->parse == vr_model_instances || key->parse == vr_model_extensions ||
             key->parse == vr_model_extension_files || key->parse == vr_model_outside ||
             key->parse == vr_model_profile_ssh_keys)
        check_table(key->data, json_object_get(schema, "items"));
    else if (key->parse == vr_model_only)
        assert_int_equal(json_is_true(json_object_get(schema, "const")), key->min);
    else if (key->parse == vr_model_number || key->parse == vr_model_seconds)
        check_number(key, schema);
    else if (key->parse == vr_model_choice)
        check_choice(key, schema);
    else if (key->parse == vr_model_boolean || key->parse == vr_model_boolean_not)
        assert_string_equal(json_string_value(type), "boolean");
    else if (key->parse == vr_model_duration)
        assert_string_equal(json_string_value(json_object_get(schema, "$ref")), "#/$defs/duration");
}

static void check_table(const VrModelKey *keys, const json_t *schema)
{
    const json_t *properties = json_object_get(schema, "properties");
    guint count = 0;

    assert_true(json_is_false(json_object_get(schema, "additionalProperties")));
    for (; keys->name != NULL; keys++, count++)
        check_key(keys, json_object_get(properties, keys->name));
    if (json_object_size(properties) != count)
        fail_msg("the schema has %u keys where the parser has %u", (guint)json_object_size(properties), count);
}

static void test_keys(void **state)
{
    g_autofree char *path = g_build_filename(g_getenv("VR_SOURCE_DIR"), "docs", "model.schema.json", NULL);
    json_error_t why;
    json_t *schema = json_load_file(path, JSON_REJECT_DUPLICATES, &why);

    if (schema == NULL)
        fail_msg("%s: %s", path, why.text);
    check_table(vr_model_root_keys, schema);
    json_decref(schema);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_keys)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
