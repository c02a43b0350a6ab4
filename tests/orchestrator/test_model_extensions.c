/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* extensionProfile of a set file (C3, C4): its keys, the order in which extensions run, what is refused; and names of files made absolute. */
#include "orchestrator/model_text.h"

#define LIST(items) "extensionProfile: {extensions: [" items "]}"
#define PATH "3: extensionProfile.extensions"

static const VrExtension *extension_of(const VrModel *model, guint index)
{
    return g_ptr_array_index(model->extensions, index);
}

/* "a b c", freed by the caller. */
static char *order_of(const VrModel *model)
{
    GString *text = g_string_new(NULL);

    for (guint i = 0; i < model->extensions->len; i++)
        g_string_append_printf(text, "%s%s", i > 0 ? " " : "", extension_of(model, i)->name);
    return g_string_free(text, FALSE);
}

static void test_keys(void **state) /* C3 */
{
    g_autoptr(VrModel) model = parse_with(
        "extensionProfile:\n  extensions:\n"
        "  - {name: base, script: base.sh}\n"
        "  - name: app\n    command: [/usr/bin/install-app, --quiet]\n    timeout: PT3M\n"
        "    files: [{source: /etc/hosts, path: /etc/app/hosts}, {source: a b.sh, path: /opt/a.sh, mode: \"0755\"}]\n"
        "    settings: {port: 8080, name: \"80\", deep: {list: [true, null, 1.5, x]}}\n"
        "    protectedSettings: {file: app.secret}\n    forceUpdateTag: 7\n    SuppressFailures: true\n"
        "    provisionAfterExtensions: [base]\n");
    const VrExtension *base = extension_of(model, 0), *app = extension_of(model, 1);
    const VrExtensionFile *first = app->files->pdata[0], *second = app->files->pdata[1];

    assert_string_equal(base->script, "base.sh");
    assert_int_equal(base->timeout_ms, 300000);
    assert_null(base->after[0]);
    assert_null(base->settings);
    assert_false(base->suppress_failures);
    assert_string_equal(app->command[1], "--quiet");
    assert_int_equal(app->timeout_ms, 180000);
    assert_string_equal(app->after[0], "base");
    assert_string_equal(app->settings, "{\"port\":8080,\"name\":\"80\",\"deep\":{\"list\":[true,null,1.5,\"x\"]}}");
    assert_string_equal(app->protected_file, "app.secret");
    assert_string_equal(app->force_update_tag, "7");
    assert_true(app->suppress_failures);
    assert_string_equal(first->path, "/etc/app/hosts");
    assert_int_equal(first->mode, 0600);
    assert_int_equal(second->mode, 0755);
}

static void test_order(void **state) /* C4 */
{
    static const struct {
        const char *items, *order;
    } rows[] = {
        {"", ""},
        {"{name: a, command: [/a]}, {name: b, command: [/b]}", "a b"},
        {"{name: a, command: [/a], provisionAfterExtensions: [c]}, {name: b, command: [/b]}, {name: c, command: [/c]}",
         "b c a"},
        {"{name: d, command: [/d], provisionAfterExtensions: [b, c]}, {name: c, command: [/c], "
         "provisionAfterExtensions: [a]}, {name: b, command: [/b], provisionAfterExtensions: [a]}, {name: a, command: "
         "[/a], provisionAfterExtensions: []}",
         "a c b d"},
    };

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *section = g_strconcat("extensionProfile: {extensions: [", rows[i].items, "]}", NULL);
        g_autoptr(VrModel) model = parse_with(section);
        g_autofree char *order = order_of(model);
        assert_string_equal(order, rows[i].order);
    }
}

#define NEEDS(name, others) "{name: " name ", command: [/x], provisionAfterExtensions: [" others "]}"

static void test_refused(void **state) /* C3 C4 */
{
    static const Refusal rows[] = {
        {LIST("{command: [/a]}"), PATH "[0]: name is missing"},
        {LIST("{name: a}"), PATH "[0]: a must have one of script and command"},
        {LIST("{name: a, script: a, command: [/a]}"), PATH "[0]: a must have one of script and command"},
        {LIST("{name: a, command: []}"), PATH "[0]: the command of a must be a list, the absolute path of a program"},
        {LIST("{name: a, command: [a]}"), PATH "[0]: the command of a must be a list, the absolute path of a program"},
        {LIST("{name: a b, command: [/a]}"), PATH "[0].name: "},
        {LIST("{name: ../a, command: [/a]}"), PATH "[0].name: "},
        {LIST("{name: \"a\\nb\", command: [/a]}"), PATH "[0].name: "},
        {LIST("{name: a, script: \"\"}"), PATH "[0].script: \"\" must be the name of a file"},
        {LIST("{name: a, script: \"a\\nb\"}"), PATH "[0].script: \"a?b\" must not have control characters"},
        {LIST("{name: a, script: a, files: [{source: b}]}"), PATH "[0].files[0]: path is missing"},
        {LIST("{name: a, script: a, files: [{path: /b}]}"), PATH "[0].files[0]: source is missing"},
        {LIST("{name: a, script: a, files: [{source: b, path: b}]}"),
         PATH "[0].files[0].path: \"b\" must be an absolute path"},
        {LIST("{name: a, script: a, files: [{source: b, path: /b, mode: rw}]}"),
         PATH "[0].files[0].mode: must be three or four octal digits"},
        {LIST("{name: a, script: a, files: [{source: b, path: /b, mode: \"0800\"}]}"),
         PATH "[0].files[0].mode: must be three or four octal digits"},
        {LIST("{name: a, script: a, timeout: PT0S}"), PATH "[0].timeout: PT0S is out of range (PT1S to PT2H)"},
        {LIST("{name: a, script: a, timeout: PT3H}"), PATH "[0].timeout: PT3H is out of range (PT1S to PT2H)"},
        {LIST("{name: a, script: a, settings: [1]}"), PATH "[0].settings: must be a mapping"},
        {LIST("{name: a, script: a, protectedSettings: {password: x}}"),
         PATH "[0].protectedSettings.password: unknown"},
        {LIST("{name: a, script: a, suppressFailures: 1}"), PATH "[0].suppressFailures: 1 is neither true nor false"},
        {LIST("{name: a, script: a, publisher: b}"), PATH "[0].publisher: unknown key"},
        {LIST("{name: a, script: a}, {name: a, script: b}"), PATH "[1]: the name a comes twice"},
        {LIST(NEEDS("a", "a")), PATH ": a comes after itself"},
        {LIST(NEEDS("app", "base")), PATH ": app comes after base, and no extension has that name"},
        {LIST(NEEDS("a", "b") "," NEEDS("b", "a")),
         PATH ": provisionAfterExtensions goes in a circle: a after b after a"},
        {LIST(NEEDS("w", "") "," NEEDS("x", "w, y") "," NEEDS("y", "z") "," NEEDS("z", "w, y") "," NEEDS("v", "x")),
         PATH ": provisionAfterExtensions goes in a circle: y after z after y"},
    };

    refused_each(rows, G_N_ELEMENTS(rows));
}

static void test_line_of_a_needed_one(void **state) /* C4: who takes one away is told who needs it, and where */
{
    refused(HEAD "extensionProfile:\n  extensions:\n  - {name: a, script: a}\n  - name: b\n    script: b\n"
                 "    provisionAfterExtensions: [gone]\n" TAIL,
            "lab.yaml:6: extensionProfile.extensions: b comes after gone, and no extension has that name; who takes");
}

static char *absolute(const char *text)
{
    g_autoptr(GError) error = NULL;
    char *result = vr_model_text_absolute(text, strlen(text), "lab.yaml", "/srv/o'neil", &error);

    if (result == NULL)
        fail_msg("%s", error->message);
    return result;
}

/* What is relative means beside the model, and everything else stays as a person wrote it. */
static void test_names_of_files(void **state)
{
    g_autofree char *block = absolute("# ä comment\n" HEAD "extensionProfile:\n  extensions:\n"
                                      "  - {name: a, script: a.sh, files: [{source: ../ü.cfg, path: /x}]} # é\n"
                                      "  - name: b\n    script: \"b \\\"c\\\".sh\"   # and this\n"
                                      "    protectedSettings: {'file': 's.key'}\n"
                                      "  - {name: c, script: /abs/c.sh}\n" TAIL);
    g_autofree char *json =
        absolute("{\"name\": \"lab\", \"imageReference\": {\"name\": \"i\"}, \"extensionProfile\": {\"extensions\": "
                 "[{\"name\": \"a\", \"script\": \"a\"}]}, \"instances\": [{\"domain\": \"x\"}]}");
    g_autofree char *nothing = absolute(HEAD TAIL);
    g_autofree char *again = absolute(block);

    assert_string_equal(block,
                        "# ä comment\n" HEAD "extensionProfile:\n  extensions:\n"
                        "  - {name: a, script: '/srv/o''neil/a.sh', files: [{source: '/srv/ü.cfg', path: /x}]} # é\n"
                        "  - name: b\n    script: '/srv/o''neil/b \"c\".sh'   # and this\n"
                        "    protectedSettings: {'file': '/srv/o''neil/s.key'}\n"
                        "  - {name: c, script: /abs/c.sh}\n" TAIL);
    assert_non_null(strstr(json, "\"script\": '/srv/o''neil/a'}"));
    assert_string_equal(nothing, HEAD TAIL);
    assert_string_equal(again, block);
}

static void test_names_of_files_in_odd_texts(void **state)
{
    g_autoptr(GError) error = NULL;
    const char *folded = HEAD "extensionProfile:\n  extensions:\n  - name: a\n    script: >-\n      a.sh\n    timeout: "
                              "PT1M\n" TAIL;
    g_autofree char *text = vr_model_text_absolute(folded, strlen(folded), "lab.yaml", "/srv", &error);

    if (text == NULL)
        assert_non_null(strstr(error->message, "lab.yaml"));
    else
        assert_non_null(strstr(text, "'/srv/a.sh'"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys),           cmocka_unit_test(test_order),
        cmocka_unit_test(test_refused),        cmocka_unit_test(test_line_of_a_needed_one),
        cmocka_unit_test(test_names_of_files), cmocka_unit_test(test_names_of_files_in_odd_texts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
