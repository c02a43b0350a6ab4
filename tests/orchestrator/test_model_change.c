/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* K6, A4, decision 11: what each edit of a model means. */
#include "orchestrator/model_text.h"

#include "orchestrator/model_change.h"
#include "orchestrator/model_instances.h"
#include "orchestrator/model_keys.h"
#include "orchestrator/model_profile.h"

#define IMAGE "imageReference: {publisher: local, offer: debian, sku: \"12\"}\n"
#define TWO "instances: [{domain: a, role: web}, {domain: b, role: web}]\n"
#define SET(rest) "name: shop\n" rest

static const VrChangeContext nothing_known;

static GPtrArray *compare(const char *before, const char *after, const VrChangeContext *context)
{
    g_autoptr(VrModel) then = parse(before);
    g_autoptr(VrModel) now = parse(after);

    return vr_model_compare(then, now, context);
}

/* "KEY: FROM -> TO: CLASS" a line, as the one change that there is, or all. */
static char *text_of(GPtrArray *changes)
{
    GString *text = g_string_new(NULL);

    for (guint i = 0; i < changes->len; i++) {
        const VrModelChange *change = changes->pdata[i];
        g_string_append_printf(text, "%s%s: %s -> %s: %s", i > 0 ? "\n" : "", change->key,
                               change->from ? change->from : "-", change->to ? change->to : "-",
                               vr_change_class_name(change->meaning));
        assert_true(change->meaning == VR_CHANGE_LIVE || change->rule->note != NULL);
    }
    return g_string_free(text, FALSE);
}

static void check(const char *before, const char *after, const VrChangeContext *context, const char *expected)
{
    g_autoptr(GPtrArray) changes = compare(before, after, context);
    g_autofree char *text = text_of(changes);
    g_autoptr(GRegex) digest = g_regex_new("\\([0-9a-f]{8}\\)", 0, 0, NULL);
    g_autofree char *shown = g_regex_replace_literal(digest, text, -1, 0, "(@)", 0, NULL);

    assert_string_equal(shown, expected);
}

#define SECTION(before, after, expected)                                                                               \
    {                                                                                                                  \
        HEAD before "\n" TAIL, HEAD after "\n" TAIL, expected                                                          \
    }

static void test_each_kind_of_value(void **state)
{
    static const struct {
        const char *before, *after, *expected;
    } rows[] = {
        SECTION("", "schemaVersion: 1", ""),
        SECTION("", "upgradePolicy: {rollingUpgradePolicy: {maxBatchInstancePercent: 20}}", ""), /* its default */
        SECTION("upgradePolicy: {rollingUpgradePolicy: {maxUnhealthyInstancePercent: 50}}", "",
                "upgradePolicy.rollingUpgradePolicy.maxUnhealthyInstancePercent: 50 -> 20: live"),
        SECTION("", "upgradePolicy: {batchBy: upgradeDomain}", "upgradePolicy.batchBy: percent -> upgradeDomain: live"),
        SECTION("", "upgradePolicy: {checkpoints: {percent: [5, 50]}}",
                "upgradePolicy.checkpoints.percent: - -> 5, 50: live"),
        SECTION("", "upgradePolicy: {gate: [/bin/ask, now]}", "upgradePolicy.gate: - -> /bin/ask now: live"),
        SECTION("", "upgradePolicy: {timeout: PT2H}", "upgradePolicy.timeout: - -> 2 h 00 min: live"),
        SECTION("", "upgradePolicy: {automaticOSUpgradePolicy: {disableAutomaticRollback: true}}",
                "upgradePolicy.automaticOSUpgradePolicy.disableAutomaticRollback: false -> true: live"),
        SECTION("healthProfile: {applicationHealth: {protocol: tcp, port: 1}}",
                "healthProfile: {applicationHealth: {protocol: tcp, port: 1}}\n"
                "upgradePolicy: {automaticOSUpgradePolicy: {enableAutomaticOSUpgrade: true}}",
                "upgradePolicy.automaticOSUpgradePolicy.enableAutomaticOSUpgrade: false -> true: live"),
        SECTION("", "healthProfile: {applicationHealth: {protocol: http, requestPath: /x}}",
                "healthProfile.applicationHealth.protocol: - -> http: live\n"
                "healthProfile.applicationHealth.port: - -> 80: live\n"
                "healthProfile.applicationHealth.requestPath: - -> /x: live"),
        SECTION("stop: {method: acpi}", "STOP: {METHOD: agent, force: true}",
                "stop.method: acpi -> agent: live\nstop.force: false -> true: live"),
        SECTION("tempDisks: [vdc]", "tempDisks: [vdc, vdd]", "tempDisks: vdc -> vdc vdd: live"),
        SECTION("", "dataDiskProof: {content: sampled}", "dataDiskProof.content: none -> sampled: live"),
        SECTION("", "retention: {runs: 50, runsMaxAge: P100D}",
                "retention.runs: 1000 -> 50: live\nretention.runsMaxAge: 730 d 00 h -> 100 d 00 h: live"),
        SECTION("maintenanceWindow: {schedule: daily, duration: PT4H}",
                "maintenanceWindow: {schedule: weekly, duration: 30min}",
                "maintenanceWindow.schedule: daily -> weekly: live\n"
                "maintenanceWindow.duration: 4 h 00 min -> 30 min 00 s: live"),
        SECTION("retention: {failedDisks: 3}", "retention: {generations: 5, maxAge: P30D, failedDisks: 0}",
                "retention.generations: 2 -> 5: live\nretention.maxAge: 14 d 00 h -> 30 d 00 h: live\n"
                "retention.failedDisks: 3 -> -: live"),
        SECTION("", "osDisk: {kind: full}", "osDisk.kind: overlay -> full: at next reimage"),
        SECTION("extensionProfile: {extensions: [{name: a, script: /a.sh}]}",
                "extensionProfile: {extensions: [{name: a, script: /a.sh, forceUpdateTag: 2}]}",
                "extensionProfile.extensions: a (@) -> a (@): at next reimage"), /* C3 */
        SECTION("extensionProfile: {extensions: [{name: a, script: /a.sh}, {name: b, script: /b.sh}]}",
                "extensionProfile: {extensions: [{name: b, script: /b.sh}, {name: a, script: /a.sh}]}",
                "extensionProfile.extensions: a, b (@) -> b, a (@): at next reimage"),
        SECTION("extensionProfile: {extensions: [{name: a, script: /a.sh, provisionAfterExtensions: [b]}, {name: b, "
                "script: /b.sh}]}",
                "extensionProfile: {extensions: [{name: b, script: /b.sh}, {name: a, script: /a.sh, "
                "provisionAfterExtensions: [b], timeout: PT5M}]}",
                ""), /* the same, said in another way */
        SECTION("", "osProfile: {metaData: {a: b}}",
                "osProfile.computerName: - -> @{instance.name}: at next reimage\n"
                "osProfile.metaData: - -> a: b: at next reimage"), /* C2 */
        SECTION("osProfile: {customData: {file: /a}}",
                "osProfile: {customData: {file: /a, template: true}, metaData: {a: b}, vendorData: {file: /v}}",
                "osProfile.customData: file /a -> file /a, a template: at next reimage\n"
                "osProfile.vendorData: - -> file /v: at next reimage\nosProfile.metaData: - -> a: b: at next reimage"),
        SECTION("osProfile: {networkConfig: {text: pa55word}}", "osProfile: {computerName: \"x\"}",
                "osProfile.computerName: @{instance.name} -> x: at next reimage\n"
                "osProfile.networkConfig: text of 8 bytes, SHA-256 4c1b9bb3405f... -> -: at next reimage"),
    };

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++)
        check(rows[i].before, rows[i].after, &nothing_known, rows[i].expected);
}

static void test_image(void **state) /* A4 */
{
    const VrChangeContext same = {.before = {"debian-12", "local", "debian", "12"},
                                  .after = {"debian-12", "local", "debian", "12"}};
    const VrChangeContext other = {.before = {"debian-12", "local", "debian", "12"},
                                   .after = {"arch", "elsewhere", "arch", "1"}};
    const char *by_identity = SET(IMAGE TAIL);
    const char *by_name = HEAD TAIL;

    check(by_identity, SET("imageReference: {publisher: other, offer: debian, sku: \"12\"}\n" TAIL), &nothing_known,
          "imageReference.publisher: local -> other: refused");
    check(by_identity, SET("imageReference: {publisher: local, offer: ubuntu, sku: \"12\"}\n" TAIL), &nothing_known,
          "imageReference.offer: debian -> ubuntu: refused");
    check(by_identity, SET("imageReference: {publisher: local, offer: debian, sku: \"13\"}\n" TAIL), &nothing_known,
          "imageReference.sku: 12 -> 13: at next reimage");
    check(by_name, SET("imageReference: {name: debian-12, version: 12.1}\n" TAIL), &nothing_known,
          "imageReference.version: latest -> 12.1: at next reimage");
    check(by_name, SET("imageReference: {name: debian-13}\n" TAIL), &nothing_known,
          "imageReference.name: debian-12 -> debian-13: at next reimage");
    /* what the store knows of a name counts as if it was said */
    check(by_name, by_identity, &same, "");
    check(by_name, SET("imageReference: {name: arch}\n" TAIL), &other,
          "imageReference.publisher: local -> elsewhere: refused\nimageReference.offer: debian -> arch: refused\n"
          "imageReference.sku: 12 -> 1: at next reimage");
}

static void test_what_depends(void **state)
{
    const VrChangeContext running = {.running = TRUE}, swapped = {.swapped = TRUE};
    const char *vda = HEAD "osDisk: {target: vda}\n" TAIL, *vdb = HEAD "osDisk: {target: vdb}\n" TAIL;
    const char *three = HEAD "upgradeDomainCount: 3\n" TAIL;

    check(HEAD TAIL, three, &nothing_known, "upgradeDomainCount: 5 -> 3: live");
    check(HEAD TAIL, three, &swapped, "upgradeDomainCount: 5 -> 3: live");
    check(HEAD TAIL, three, &running, "upgradeDomainCount: 5 -> 3: refused"); /* D7, decision 11 */
    check(vda, vdb, &running, "osDisk.target: vda -> vdb: live");
    check(vda, vdb, &swapped, "osDisk.target: vda -> vdb: refused");
    check(vda, HEAD TAIL, &swapped, "osDisk.target: vda -> -: live");
    check(HEAD TAIL, vda, &swapped, "osDisk.target: - -> vda: live");
}

static void test_instances(void **state)
{
    static const struct {
        const char *before, *after, *expected;
    } rows[] = {
        {TWO, "instances: [{domain: b, role: web}, {domain: a, role: web}]\n", ""},
        {TWO, "instances: [{domain: a, role: web}]\n", "instances[b]: - -> leaves the set, and goes on as it is: live"},
        {TWO, "instances: [{domain: a, role: web}, {domain: b, role: web}, {domain: c}]\n",
         "instances[c]: - -> joins the set: live"},
        /* D9, D10, B12, G7 */
        {"instances: [{domain: a, zone: x, phase: 2}]\n",
         "instances: [{domain: a, pair: p, address: h, protectDisks: [A, B], protectionPolicy: "
         "{protectFromScaleSetActions: true}}]\n",
         "instances[a].zone: x -> -: live\ninstances[a].phase: 2 -> -: live\ninstances[a].pair: - -> p: live\n"
         "instances[a].address: - -> h: live\ninstances[a].protectDisks: - -> A B: live\n"
         "instances[a].protectionPolicy.protectFromScaleSetActions: false -> true: live"},
        {"instances: [{domain: a}]\n", "instances: [{domain: a, version: \"2.0\"}]\n",
         "instances[a].version: - -> 2.0: at next reimage"},
        /* one goes over to another role, or to a new one: the old one lives on */
        {TWO, "instances: [{domain: a, role: web}, {domain: b, role: db}]\n", "instances[b].role: web -> db: live"},
        {"instances: [{domain: a, role: web}, {domain: b, role: db}]\n",
         "instances: [{domain: a, role: db}, {domain: b, role: db}]\n", "instances[a].role: web -> db: live"},
        {TWO, "instances: [{domain: a}, {domain: b}]\n",
         "instances[a].role: web -> -: live\ninstances[b].role: web -> -: live"},
        {TWO, "instances: [{domain: a, role: www}, {domain: b, role: www}]\n",
         "instances[a].role: web -> www: refused\ninstances[b].role: web -> www: refused"},
    };

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *before = g_strconcat(HEAD, rows[i].before, NULL);
        g_autofree char *after = g_strconcat(HEAD, rows[i].after, NULL);
        check(before, after, &nothing_known, rows[i].expected);
    }
}

/* The same guest under its UUID is the same instance. */
static void test_ids(void **state)
{
    static const char *const ids[] = {"1", NULL};
    const VrChangeContext known = {.before_ids = ids, .after_ids = ids};

    check(HEAD "instances: [{domain: a}]\n", HEAD "instances: [{domain: b}]\n", &known, "");
    check(HEAD "instances: [{domain: a}]\n", HEAD "instances: [{domain: b}]\n", &nothing_known,
          "instances[b]: - -> joins the set: live\ninstances[a]: - -> leaves the set, and goes on as it is: live");
}

/* C11: what a new disk brings, but for the image, which 'upgrade' brings. */
static void test_revision(void **state)
{
    static const struct {
        const char *section;
        gboolean needs;
    } rows[] = {
        {"", FALSE},
        {"osDisk: {kind: full}", TRUE},
        {"extensionProfile: {extensions: [{name: a, command: [/a]}]}", TRUE},
        {"extensionProfile: {extensions: []}", FALSE},
        {"osProfile: {}", FALSE},
        {"osProfile: {computerName: a}", TRUE},
        {"osDisk: {target: vda}", FALSE},
        {"stop: {force: true}", FALSE},
        {"upgradeDomainCount: 2", FALSE},
    };
    g_autoptr(VrModel) before = parse(HEAD TAIL);
    g_autoptr(VrModel) pinned = parse(SET("imageReference: {name: debian-12, version: 12.1}\n" TAIL));

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(VrModel) after = parse_with(rows[i].section);
        assert_int_equal(vr_model_needs_revision(before, after), rows[i].needs);
    }
    assert_false(vr_model_needs_revision(before, pinned));
}

/* --- table, parser and document ------------------------------------------------------------------------ */

static const VrChangeRule *rule_of(const char *key)
{
    for (const VrChangeRule *rule = vr_change_rules; rule->key != NULL; rule++)
        if (g_str_equal(rule->key, key))
            return rule;
    return NULL;
}

/* Keys that have no row: what cannot differ, what is another key's effect, and what names the set. */
static gboolean has_no_rule(const VrModelKey *key, const char *path)
{
    static const char *const known[] = {"schemaVersion",
                                        "name",
                                        "overprovision",
                                        "instances[].domain",
                                        "upgradePolicy.automaticOSUpgradePolicy.useRollingUpgradePolicy",
                                        NULL};

    return key->parse == vr_model_only || key->same_as != NULL || g_strv_contains(known, path);
}

static guint check_keys(const VrModelKey *keys, const char *prefix)
{
    guint count = 0;

    for (; keys->name != NULL; keys++) {
        g_autofree char *path = g_strconcat(prefix, keys->name, NULL);
        g_autofree char *below = g_strconcat(path, keys->parse == vr_model_instances ? "[]." : ".", NULL);

        if (keys->parse == vr_model_section || keys->parse == vr_model_instances || keys->parse == vr_model_profile) {
            count += check_keys(keys->data, below);
        } else if (!has_no_rule(keys, path)) {
            if (rule_of(path) == NULL)
                fail_msg("an edit of %s means nothing", path);
            count++;
        }
    }
    return count;
}

static void test_every_key_has_a_rule(void **state)
{
    guint rules = 0;

    while (vr_change_rules[rules].key != NULL)
        rules++;
    assert_int_equal(check_keys(vr_model_root_keys, "") + 1, rules); /* instances[] itself: joins, leaves */
}

/* "| `a`, `b.c` | live, refused while a run is active | ..." of docs/model.md. */
static gboolean covers(const char *cell, const char *key, gsize *length)
{
    g_auto(GStrv) names = g_strsplit(cell, "`", -1);
    gboolean found = FALSE;

    for (guint i = 1; names[0] != NULL && names[i] != NULL && names[i + 1] != NULL; i += 2) {
        gsize n = strlen(names[i]);
        gboolean whole = g_str_has_prefix(key, names[i]) && (key[n] == '\0' || key[n] == '.');
        if (whole && n > *length) {
            *length = n;
            found = TRUE;
        }
    }
    return found;
}

static char *said_of(char **lines, const char *key, gboolean *used)
{
    char *best = NULL;
    gsize length = 0;
    guint row = 0;

    for (guint i = 0; lines[i] != NULL && g_str_has_prefix(lines[i], "|"); i++) {
        g_auto(GStrv) cells = g_strsplit(lines[i], "|", -1);
        if (!covers(cells[1], key, &length))
            continue;
        g_free(best);
        best = g_strstrip(g_strdup(cells[2]));
        row = i;
    }
    used[row] = best != NULL;
    return best;
}

#define DOC_HEADING "| key | an edit of it |"

static void test_document(void **state)
{
    g_autofree char *path = g_build_filename(g_getenv("VR_SOURCE_DIR"), "docs", "model.md", NULL);
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;
    g_autofree gboolean *used = NULL;
    const char *table;

    assert_true(g_file_get_contents(path, &text, NULL, NULL));
    table = strstr(text, DOC_HEADING);
    assert_non_null(table);
    lines = g_strsplit(table, "\n", -1);
    used = g_new0(gboolean, g_strv_length(lines));
    for (const VrChangeRule *rule = vr_change_rules; rule->key != NULL; rule++) {
        g_autofree char *said = said_of(lines + 2, rule->key, used);
        const char *limit = vr_change_limit_name(rule->limit), *class = vr_change_class_name(rule->meaning);
        g_autofree char *expected = g_strdup_printf("%s%s%s", class, limit ? "; " : "", limit ? limit : "");

        if (g_strcmp0(said, expected) != 0)
            fail_msg("%s: the code says \"%s\", docs/model.md \"%s\"", rule->key, expected, said ? said : "nothing");
    }
    for (guint i = 0; g_str_has_prefix(lines[i + 2], "|"); i++)
        if (!used[i])
            fail_msg("docs/model.md has a row that the code does not: %s", lines[i + 2]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_kind_of_value),
        cmocka_unit_test(test_image),
        cmocka_unit_test(test_what_depends),
        cmocka_unit_test(test_instances),
        cmocka_unit_test(test_ids),
        cmocka_unit_test(test_revision),
        cmocka_unit_test(test_every_key_has_a_rule),
        cmocka_unit_test(test_document),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
