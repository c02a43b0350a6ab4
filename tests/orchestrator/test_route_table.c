/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The routes (K3): which method and path is which row, and which words a command gets of a request. With --list: the rows, for openapi.py. */
#include "base/error.h"
#include "orchestrator/daemon/route_words.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

/* ---- the table ---- */

static void every_row_is_found_by_its_own_path(void **state)
{
    for (const VrRoute *route = vr_routes; route->method; route++) {
        g_auto(VrRouteMatch) match = {0};
        vr_route_match(route->method, route->path, &match); /* "{set}" is a name like any other */
        assert_ptr_equal(match.route, route);
        assert_true(match.path_known);
    }
}

/* What only reads is a GET, and what changes is none. */
static void only_what_reads_may_come_by_the_read_only_socket(void **state)
{
    for (const VrRoute *route = vr_routes; route->method; route++) {
        if (route->kind == VR_ROUTE_COMMANDS)
            continue; /* judged by the job */
        if (route->read_only)
            assert_string_equal(route->method, "GET");
        if (!g_str_equal(route->method, "GET"))
            assert_false(route->read_only);
    }
}

static void every_field_of_a_row_is_known(void **state)
{
    for (const VrRoute *route = vr_routes; route->method; route++) {
        g_auto(GStrv) names = g_strsplit(route->fields, " ", -1);
        for (char **name = names; *name; name++)
            assert_non_null(vr_route_field(*name));
    }
}

static void expect_route(const char *method, const char *path, const char *row)
{
    g_auto(VrRouteMatch) match = {0};

    vr_route_match(method, path, &match);
    if (row) {
        assert_non_null(match.route);
        assert_string_equal(match.route->path, row);
    } else {
        assert_null(match.route);
        assert_int_equal(match.n_values, 0);
    }
}

static void azure_may_put_its_own_before_a_path(void **state)
{
    expect_route("GET", "/subscriptions/S/resourceGroups/G/providers/Microsoft.Compute/virtualMachineScaleSets/shop",
                 "/virtualMachineScaleSets/{set}");
    expect_route("GET", "/subscriptions/S/providers/microsoft.compute/VIRTUALMACHINESCALESETS",
                 "/virtualMachineScaleSets");
    expect_route(
        "GET",
        "/subscriptions/S/providers/Microsoft.Compute/locations/west/publishers/p/artifacttypes/vmimage/offers/"
        "o/skus/s/versions",
        "/publishers/{publisher}/artifacttypes/vmimage/offers/{offer}/skus/{sku}/versions");
    expect_route("GET", "/subscriptions/S/providers/Microsoft.Storage/virtualMachineScaleSets", NULL);
    expect_route("GET", "/subscriptions/S/providers/Microsoft.Compute", NULL);
    expect_route("GET", "/subscriptions", NULL);
}

static void what_is_no_path_is_none(void **state)
{
    static const char *const paths[] = {
        "",
        "x",
        "virtualMachineScaleSets",
        "//",
        "/virtualMachineScaleSets/",
        "/virtualMachineScaleSets//instanceView",
        "/virtualMachineScaleSets/shop/",
        "/virtualMachineScaleSets/shop/nothing",
        "/virtualMachineScaleSets/%00",
        "/virtualMachineScaleSets/a%00b",
        "/virtualMachineScaleSets/%ff",
        "/virtualMachineScaleSets/%zz",
        "/virtualMachineScaleSets/%",
        "*",
    };

    for (guint i = 0; i < G_N_ELEMENTS(paths); i++)
        expect_route("GET", paths[i], NULL);
}

static void a_known_path_with_another_method_is_told_apart(void **state)
{
    g_auto(VrRouteMatch) match = {0};

    vr_route_match("POST", "/images", &match);
    assert_null(match.route);
    assert_true(match.path_known);
    vr_route_match("get", "/images", &match); /* methods have a case */
    assert_null(match.route);
    vr_route_match("GET", "/imagesx", &match);
    assert_false(match.path_known);
}

static void values_are_unescaped_after_the_path_is_taken_apart(void **state)
{
    g_auto(VrRouteMatch) match = {0};

    vr_route_match("GET", "/virtualMachineScaleSets/shop/virtualMachines/w%2Fb%20%C3%A4", &match);
    assert_non_null(match.route);
    assert_string_equal(vr_route_value(&match, "set"), "shop");
    assert_string_equal(vr_route_value(&match, "instance"), "w/b \xc3\xa4");
    assert_null(vr_route_value(&match, "image"));
}

/* ---- the words ---- */

/* query: "name=value&…", already unescaped; NULL: none. NULL: an error, whose text has `wrong`. Free with g_free. */
static char *words_of(const char *method, const char *path, const char *query, const char *body, const char *wrong)
{
    g_auto(VrRouteMatch) match = {0};
    g_autoptr(GHashTable) values = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    g_auto(GStrv) pairs = g_strsplit(query ? query : "", "&", -1);
    g_autoptr(GError) error = NULL;
    json_auto_t *document = vr_body_parse(body, body ? strlen(body) : 0, &error);
    g_auto(GStrv) words = NULL;

    for (char **pair = pairs; *pair; pair++) {
        char **sides = g_strsplit(*pair, "=", 2);
        g_hash_table_insert(values, sides[0], sides[1]);
        g_free(sides);
    }
    vr_route_match(method, path, &match);
    assert_non_null(match.route);
    words = document ? vr_route_words(&match, values, document, &error) : NULL;
    if (wrong) {
        assert_null(words);
        assert_true(g_error_matches(error, VR_ERROR, VR_ERROR_USAGE));
        if (!strstr(error->message, wrong))
            fail_msg("'%s' does not say '%s'", error->message, wrong);
        return NULL;
    }
    if (error)
        fail_msg("%s", error->message);
    return g_strjoinv(" ", words);
}

#define SHOP "/virtualMachineScaleSets/shop"

static void expect_words(const char *method, const char *path, const char *query, const char *body,
                         const char *expected)
{
    g_autofree char *words = words_of(method, path, query, body, NULL);

    assert_string_equal(words, expected);
}

static void a_request_becomes_words(void **state)
{
    expect_words("GET", SHOP, NULL, NULL, "--json set-info -- shop");
    expect_words("GET", SHOP "/osUpgradeHistory", "api-version=2018-10-01", NULL, "--json history --azure -- shop");
    expect_words("GET", SHOP "/history", "run=x", NULL, "--json history --run=x -- shop");
    expect_words("POST", SHOP "/osRollingUpgrade", NULL, NULL, "--json upgrade --detach -- shop");
    expect_words("POST", SHOP "/osRollingUpgrade", "walk=TRUE", "{\"version\": \"1.2\", \"canary\": [\"a\", \"b\"]}",
                 "--json upgrade --detach --walk --version=1.2 --canary=a --canary=b -- shop");
    expect_words("POST", SHOP "/reimage", NULL, "{\"instanceIds\": [\"a\", \"b c\"], \"tempDisk\": true}",
                 "--json reimage --detach --temp-disk -- shop a b c");
    expect_words("POST", SHOP "/reimage", NULL, "{\"instanceIds\": [\"*\"], \"tempDisk\": false}",
                 "--json reimage --detach --all -- shop");
    expect_words("POST", SHOP "/rollback", "toGeneration=0", "{\"instanceIds\": [\"a\"]}",
                 "--json rollback --detach --to-generation=0 -- shop a");
    expect_words("GET", SHOP "/plan", "printDiff=true&version=2.0.0", NULL,
                 "--json plan --version=2.0.0 --print-diff -- shop");
    expect_words("POST", SHOP "/rollingUpgrades/walk", "upgradeDomain=3", NULL, "--json walk -- shop 3");
    expect_words("POST", SHOP "/rollingUpgrades/cancel", "now=true", NULL, "--json cancel --now -- shop");
    expect_words("POST", SHOP "/rollingUpgrades/cancel", "now=false", NULL, "--json cancel -- shop");
    expect_words("POST", SHOP "/auto", NULL, "{\"automatic\": \"off\"}", "set-auto -- shop off");
    expect_words("PUT", SHOP, "reason=why not", NULL, "--json set-define --no-apply --reason=why not -- -");
    expect_words("POST", SHOP "/protect", NULL, "{\"instanceIds\": [\"a\"], \"reason\": \"r\"}",
                 "protect --reason=r -- shop a");
    expect_words("GET", "/publishers/p/artifacttypes/vmimage/offers/o/skus/s/versions", NULL, NULL,
                 "--json image-list --publisher=p --offer=o --sku=s --");
}

/* SAFETY 30: whatever it looks like, it stands where no option is looked for. */
static void a_name_is_never_an_option(void **state)
{
    expect_words("GET", "/virtualMachineScaleSets/--root=x", NULL, NULL, "--json set-info -- --root=x");
    expect_words("POST", SHOP "/reimage", NULL, "{\"instanceIds\": [\"--all\"]}",
                 "--json reimage --detach -- shop --all");
    expect_words("POST", SHOP "/osRollingUpgrade", NULL, "{\"role\": \"--all\"}",
                 "--json upgrade --detach --role=--all -- shop");
    expect_words("GET", "/publishers/-p/artifacttypes/vmimage/offers/--all/skus/s/versions", NULL, NULL,
                 "--json image-list --publisher=-p --offer=--all --sku=s --");
}

static void what_is_wrong_is_named(void **state)
{
    words_of("GET", SHOP, "x=1", NULL, "'x'");
    words_of("GET", SHOP, "version=1", NULL, "'version'");
    words_of("POST", SHOP "/reimage", NULL, NULL, "instanceIds is missing"); /* I3 */
    words_of("POST", SHOP "/reimage", NULL, "{\"instanceIds\": []}", "instanceIds is missing");
    words_of("POST", SHOP "/reimage", NULL, "{\"instanceIds\": \"a\"}", "list of names");
    words_of("POST", SHOP "/reimage", NULL, "{\"instanceIds\": [\"\"]}", "list of names");
    words_of("POST", SHOP "/reimage", NULL, "{\"instanceIds\": [7]}", "list of names");
    words_of("POST", SHOP "/reimage", NULL, "{\"instanceIds\": [\"a\"], \"tempDisk\": \"yes\"}", "true or false");
    words_of("POST", SHOP "/rollingUpgrades/cancel", "now=1", NULL, "true or false");
    words_of("POST", SHOP "/rollingUpgrades/walk", NULL, NULL, "upgradeDomain is missing");
    words_of("POST", SHOP "/rollingUpgrades/walk", "upgradeDomain=-1", NULL, "number from 0");
    words_of("POST", SHOP "/rollingUpgrades/walk", NULL, "{\"upgradeDomain\": 1.5}", "number from 0");
    words_of("POST", SHOP "/rollingUpgrades/walk", NULL, "{\"upgradeDomain\": 99999999999}", "number from 0");
    words_of("POST", SHOP "/osRollingUpgrade", "version=1", "{\"version\": \"2\"}", "twice");
    words_of("POST", SHOP "/osRollingUpgrade", NULL, "{\"version\": 2}", "a text");
}

/* The kernel has a limit for one word and one for all of them; a request meets ours first. */
static void words_are_not_too_long_and_not_too_many(void **state)
{
    g_autofree char *fits = g_strnfill(VR_WORD_MAX, 'x');
    g_autofree char *reason = g_strdup_printf("{\"reason\": \"%s\"}", fits);
    g_autofree char *longer = g_strdup_printf("{\"reason\": \"x%s\"}", fits);
    g_autofree char *name = g_strdup_printf("{\"instanceIds\": [\"x%s\"]}", fits);
    g_autoptr(GString) many = g_string_new("{\"instanceIds\": [\"a\"");

    for (guint i = 0; i < VR_NAMES_MAX; i++)
        g_string_append(many, ",\"a\"");
    g_string_append(many, "]}");
    g_free(words_of("POST", SHOP "/retry", NULL, reason, NULL));
    words_of("POST", SHOP "/retry", NULL, longer, "4,096");
    words_of("POST", SHOP "/reimage", NULL, name, "4,096");
    words_of("POST", SHOP "/reimage", NULL, many->str, "10,000");
}

static void a_body_is_an_object_and_not_deep(void **state)
{
    g_autofree char *deep = g_strnfill(100000, '[');
    g_autofree char *quoted = g_strdup_printf("{\"reason\": \"%.4000s\\\"[[[\"}", deep);

    words_of("POST", SHOP "/retry", NULL, "[]", "object");
    words_of("POST", SHOP "/retry", NULL, "7", "not JSON");
    words_of("POST", SHOP "/retry", NULL, "{\"reason\": \"a\", \"reason\": \"b\"}", "not JSON");
    words_of("POST", SHOP "/retry", NULL, "{\"reason\": \"a\\u0000b\"}", "not JSON");
    words_of("POST", SHOP "/retry", NULL, "{\"reason\": \"\xff\"}", "not JSON");
    words_of("POST", SHOP "/retry", NULL, "{} {}", "not JSON");
    words_of("POST", SHOP "/retry", NULL, deep, "deep");
    words_of("POST", SHOP "/retry", NULL, "{", "not JSON");
    g_free(words_of("POST", SHOP "/retry", NULL, quoted, NULL)); /* brackets in a text are none */
}

static void depth_is_counted_to_the_level(void **state)
{
    for (guint depth = VR_BODY_MAX_DEPTH - 1; depth <= VR_BODY_MAX_DEPTH; depth++) {
        g_autofree char *open = g_strnfill(depth, '['), *close = g_strnfill(depth, ']');
        g_autofree char *body = g_strdup_printf("{\"a\": %s%s}", open, close);
        json_auto_t *document = vr_body_parse(body, strlen(body), NULL);
        assert_int_equal(document != NULL, depth < VR_BODY_MAX_DEPTH); /* the object is one */
    }
}

static void list(void)
{
    for (const VrRoute *route = vr_routes; route->method; route++)
        printf("%s\t%s\t%d\t%d\t%s\t%s\n", route->method, route->path, (int)route->kind, route->read_only,
               route->fields, route->words ? route->words : "");
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_is_found_by_its_own_path),
        cmocka_unit_test(only_what_reads_may_come_by_the_read_only_socket),
        cmocka_unit_test(every_field_of_a_row_is_known),
        cmocka_unit_test(azure_may_put_its_own_before_a_path),
        cmocka_unit_test(what_is_no_path_is_none),
        cmocka_unit_test(a_known_path_with_another_method_is_told_apart),
        cmocka_unit_test(values_are_unescaped_after_the_path_is_taken_apart),
        cmocka_unit_test(a_request_becomes_words),
        cmocka_unit_test(a_name_is_never_an_option),
        cmocka_unit_test(what_is_wrong_is_named),
        cmocka_unit_test(words_are_not_too_long_and_not_too_many),
        cmocka_unit_test(a_body_is_an_object_and_not_deep),
        cmocka_unit_test(depth_is_counted_to_the_level),
    };

    if (argc == 2 && g_str_equal(argv[1], "--list")) {
        list();
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
