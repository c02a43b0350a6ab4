/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* upgradePolicy beyond Azure's own keys, and what instances are labelled with. D7-D10, D15, D16, D23, D30, E11, G7, J10. */
#include "orchestrator/model_text.h"

#define POLICY(text) "upgradePolicy: {" text "}"
#define PATH "3: upgradePolicy."

static void test_defaults(void **state)
{
    g_autoptr(VrModel) model = parse(HEAD TAIL);
    const VrModelInstance *instance = model->instances->pdata[0];

    assert_int_equal(model->policy.checkpoints[0], 0);
    assert_int_equal(model->policy.checkpoint_wait_ms, 3600000); /* D15 */
    assert_int_equal(model->policy.bake_ms, 0);                  /* D16 */
    assert_int_equal(model->policy.timeout_ms, 0);               /* D23 */
    assert_int_equal(model->policy.max_off_ms, 0);               /* J10 */
    assert_int_equal(model->policy.max_in_flight, 0);            /* D24 */
    assert_null(model->policy.gate);                             /* E11 */
    assert_false(model->policy.by_domain);                       /* D30 */
    assert_false(model->policy.cross_zone);                      /* D9 */
    assert_null(instance->role.name);
    assert_int_equal(instance->role.number + instance->zone.number + instance->pair.number, 0);
    assert_int_equal(instance->phase, 0);
    assert_false(instance->is_protected);
}

static void test_all_keys(void **state)
{
    g_autoptr(VrModel) model = parse_with("upgradePolicy:\n"
                                          "  checkpoints: {percent: [1, 50, 99], wait: PT0S}\n"
                                          "  bakeTime: P2D\n"
                                          "  timeout: PT8H\n"
                                          "  maxDowntime: 90s\n"
                                          "  maxInFlightPerHost: 1000\n"
                                          "  gate: [/usr/local/bin/may-go, --set, \"\"]\n"
                                          "  batchBy: UpgradeDomain\n"
                                          "  rollingUpgradePolicy: {enableCrossZoneUpgrade: true}\n");
    static const guint8 checkpoints[] = {1, 50, 99, 0};

    assert_memory_equal(model->policy.checkpoints, checkpoints, sizeof(checkpoints));
    assert_int_equal(model->policy.checkpoint_wait_ms, 0);
    assert_int_equal(model->policy.bake_ms, 172800000);
    assert_int_equal(model->policy.timeout_ms, 8 * 3600000);
    assert_int_equal(model->policy.max_off_ms, 90000);
    assert_int_equal(model->policy.max_in_flight, 1000);
    assert_string_equal(model->policy.gate[0], "/usr/local/bin/may-go");
    assert_string_equal(model->policy.gate[2], "");
    assert_null(model->policy.gate[3]);
    assert_true(model->policy.by_domain);
    assert_true(model->policy.cross_zone);
}

/* D15: ascending, 1 to 99, at most 16. */
static void test_checkpoints(void **state)
{
    static const Refusal rows[] = {
        {POLICY("checkpoints: {percent: []}"), PATH "checkpoints.percent: must be a list of 1 to 16 percentages"},
        {POLICY("checkpoints: {percent: 10}"), PATH "checkpoints.percent: must be a list of 1 to 16 percentages"},
        {POLICY("checkpoints: {percent: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17]}"),
         PATH "checkpoints.percent: must be a list of 1 to 16 percentages"},
        {POLICY("checkpoints: {percent: [0]}"), PATH "checkpoints.percent: 0 is out of range (1 to 99)"},
        {POLICY("checkpoints: {percent: [10, 100]}"), PATH "checkpoints.percent: 100 is out of range (1 to 99)"},
        {POLICY("checkpoints: {percent: [\"10\"]}"), PATH "checkpoints.percent: \"10\" is not a whole number"},
        {POLICY("checkpoints: {percent: [50, 10]}"), PATH "checkpoints.percent: 10 does not follow 50"},
        {POLICY("checkpoints: {percent: [10, 10]}"), PATH "checkpoints.percent: 10 does not follow 10"},
        {POLICY("checkpoints: {wait: PT1H}"), PATH "checkpoints: percent is missing"},
        {POLICY("checkpoints: {}"), PATH "checkpoints: percent is missing"},
        {POLICY("checkpoints: [10]"), PATH "checkpoints: must be a mapping"},
        {POLICY("checkpoints: {percent: [10], wait: PT48H1S}"),
         PATH "checkpoints.wait: PT48H1S is out of range (PT0S to P2D)"},
    };
    g_autoptr(VrModel) sixteen =
        parse_with(POLICY("checkpoints: {percent: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 99]}"));

    assert_int_equal(sixteen->policy.checkpoints[15], 99);
    refused_each(rows, G_N_ELEMENTS(rows));
}

/* D16, D23, E11, J10: ranges, and a program that is found by its path alone. */
static void test_ranges(void **state)
{
    static const Refusal rows[] = {
        {POLICY("bakeTime: P2DT1S"), PATH "bakeTime: P2DT1S is out of range (PT0S to P2D)"},
        {POLICY("timeout: PT0S"), PATH "timeout: PT0S is out of range (PT1S to P30D)"},
        {POLICY("timeout: P31D"), PATH "timeout: P31D is out of range (PT1S to P30D)"},
        {POLICY("timeout: soon"), PATH "timeout: \"soon\" is not a duration"},
        {POLICY("maxDowntime: PT0S"), PATH "maxDowntime: PT0S is out of range (PT1S to P1D)"},
        {POLICY("maxDowntime: PT24H1S"), PATH "maxDowntime: PT24H1S is out of range (PT1S to P1D)"},
        {POLICY("maxInFlightPerHost: 0"), PATH "maxInFlightPerHost: 0 is out of range (1 to 1000)"}, /* D24 */
        {POLICY("maxInFlightPerHost: 1001"), PATH "maxInFlightPerHost: 1001 is out of range (1 to 1000)"},
        {POLICY("maxInFlightPerHost: 20%"), PATH "maxInFlightPerHost: \"20%\" is not a whole number (1 to 1000)"},
        {POLICY("gate: []"), PATH "gate: must be a list of at least one text"},
        {POLICY("gate: /bin/true"), PATH "gate: must be a list"},
        {POLICY("gate: [may-go]"), PATH "gate: the first text must be the absolute path of a program"},
        {POLICY("gate: [\"/bin/a\\nb\"]"), PATH "gate: the first text must be the absolute path of a program"},
        {POLICY("gate: [/bin/a, {b: c}]"), PATH "gate: must be text, not a mapping"},
        {POLICY("batchBy: zone"), PATH "batchBy: \"zone\" is not percent or upgradeDomain"},
    };
    g_autoptr(VrModel) least = parse_with(POLICY("timeout: PT1S, maxDowntime: PT1S, bakeTime: PT0S"));
    g_autoptr(VrModel) most =
        parse_with(POLICY("timeout: P30D, maxDowntime: P1D, checkpoints: {percent: [1], wait: P2D}"));

    assert_int_equal(least->policy.timeout_ms, 1000);
    assert_int_equal(most->policy.checkpoint_wait_ms, 172800000);
    refused_each(rows, G_N_ELEMENTS(rows));
}

/* D28: the four documented values, and no others. */
static void test_use_rolling_policy(void **state)
{
    g_autoptr(VrModel) model = parse_with(
        "upgradePolicy: {automaticOSUpgradePolicy: {useRollingUpgradePolicy: false}, batchBy: upgradeDomain,\n"
        "  bakeTime: PT1H, rollingUpgradePolicy: {maxBatchInstancePercent: 90, enableCrossZoneUpgrade: true}}");

    assert_int_equal(model->policy.max_batch_percent, 20);
    assert_int_equal(model->policy.bake_ms, 3600000);
    assert_true(model->policy.by_domain);
    assert_true(model->policy.cross_zone);
}

/* D8, D9, D10, G7: labels are numbered in the order in which they come. */
static void test_labels(void **state)
{
    g_autoptr(VrModel) model =
        parse(HEAD "instances:\n"
                   "- {domain: a, role: web, zone: z2, phase: 1, pair: p}\n"
                   "- {domain: b, role: worker, zone: z1, phase: 1000}\n"
                   "- {domain: c, role: Web, zone: z2, pair: q,\n"
                   "   protectionPolicy: {protectFromScaleSetActions: true}}\n"
                   "- {domain: d, role: web, pair: p, protectionPolicy: {protectFromScaleSetActions: false}}\n"
                   "- {domain: e, protectionPolicy: {}}\n");
    static const guint numbers[5][4] = {{1, 1, 1, 1}, {2, 2, 0, 1000}, {3, 1, 2, 0}, {1, 0, 1, 0}, {0, 0, 0, 0}};

    for (guint i = 0; i < 5; i++) {
        const VrModelInstance *instance = model->instances->pdata[i];

        assert_int_equal(instance->role.number, numbers[i][0]);
        assert_int_equal(instance->zone.number, numbers[i][1]);
        assert_int_equal(instance->pair.number, numbers[i][2]);
        assert_int_equal(instance->phase, numbers[i][3]);
        assert_int_equal(instance->is_protected, i == 2);
    }
    assert_string_equal(((VrModelInstance *)model->instances->pdata[2])->role.name, "Web");
}

static void test_wrong_labels(void **state)
{
    static const struct {
        const char *label, *message;
    } rows[] = {
        {"role: \"\"", "role: "},
        {"role: a b", "role: "},
        {"zone: ../a", "zone: "},
        {"pair: [a]", "pair: must be text, not a list"},
        {"phase: 0", "phase: 0 is out of range (1 to 1000)"},
        {"phase: 1001", "phase: 1001 is out of range (1 to 1000)"},
        {"phase: first", "phase: \"first\" is not a whole number"},
        {"protectionPolicy: true", "protectionPolicy: must be a mapping"},
        {"protectionPolicy: {protectFromScaleSetActions: 1}",
         "protectionPolicy.protectFromScaleSetActions: 1 is neither true nor false"},
        {"protectionPolicy: {protect: true}", "protectionPolicy.protect: unknown key"},
    };

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *text = g_strdup_printf(HEAD "instances:\n- {domain: a, %s}\n", rows[i].label);
        g_autofree char *message = g_strconcat("lab.yaml:4: instances[0].", rows[i].message, NULL);

        refused(text, message);
    }
}

/* Where a model has phases, a pair is never in the same one; without a phase is the last. */
static void test_pairs_have_phases_of_their_own(void **state) /* D10 */
{
    g_autoptr(VrModel) model = parse(HEAD "instances:\n- {domain: a, pair: p}\n- {domain: b, pair: p}\n"
                                          "- {domain: c, pair: q}\n");

    assert_int_equal(model->instances->len, 3);
    refused(
        HEAD "instances:\n- {domain: a, pair: p, phase: 1}\n- {domain: b, pair: q, phase: 1}\n"
             "- {domain: c, pair: p, phase: 1}\n",
        "lab.yaml:6: instances[2].phase: c and a are of pair p and both in phase 1: give each of a pair a phase of its "
        "own");
    refused(HEAD "instances:\n- {domain: a, pair: p}\n- {domain: b, phase: 1}\n- {domain: c, pair: p}\n",
            "lab.yaml:6: instances[2].phase: c and a are of pair p and both in the last phase: give");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),     cmocka_unit_test(test_all_keys),
        cmocka_unit_test(test_checkpoints),  cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_labels),       cmocka_unit_test(test_use_rolling_policy),
        cmocka_unit_test(test_wrong_labels), cmocka_unit_test(test_pairs_have_phases_of_their_own),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
