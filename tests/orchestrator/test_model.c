/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The vocabulary of a set file: defaults, ranges, refusals by name and line (E5, E7, E9, D28, K2, SAFETY section 3). */
#include "orchestrator/model_text.h"

/* The smallest useful model has all documented defaults. */
static void test_defaults(void **state)
{
    g_autoptr(VrModel) model = parse(HEAD TAIL);

    assert_string_equal(model->name, "lab");
    assert_string_equal(model->image_name, "debian-12");
    assert_null(model->publisher);
    assert_string_equal(model->version, "latest");
    assert_int_equal(model->upgrade_domain_count, 5); /* D7 */
    assert_int_equal(model->mode, VR_MODE_MANUAL);
    assert_int_equal(model->policy.max_batch_percent, 20); /* D1 */
    assert_int_equal(model->policy.max_unhealthy_percent, 20);
    assert_int_equal(model->policy.max_unhealthy_upgraded_percent, 20); /* D4 */
    assert_int_equal(model->policy.pause_ms, 0);                        /* D5 */
    assert_true(model->policy.prioritize_unhealthy);                    /* D12 */
    assert_true(model->policy.prepare_ahead);                           /* B7 */
    assert_true(model->policy.automatic_rollback);                      /* F1 */
    assert_int_equal(model->health.source, VR_HEALTH_SOURCE_POWER);     /* E6 */
    assert_int_equal(model->health.interval_ms, 5000);                  /* E9 */
    assert_int_equal(model->health.number_of_probes, 1);
    assert_int_equal(model->health.grace_period_ms, 5000);
    assert_int_equal(model->health.timeout_ms, 300000); /* E1 */
    assert_null(model->os_target);
    assert_non_null(model->temp_disks);
    assert_null(model->temp_disks[0]);
    assert_int_equal(model->stop.method, VR_STOP_AUTO);
    assert_int_equal(model->stop.timeout_ms, 120000);
    assert_false(model->stop.force);
    assert_int_equal(model->instances->len, 1);
    assert_string_equal(((VrModelInstance *)model->instances->pdata[0])->domain, "lab-0");
    assert_int_equal(((VrModelInstance *)model->instances->pdata[0])->line, 3);
}

/* Every key that this version knows, with other values than the defaults. */
static void test_all_keys(void **state)
{
    g_autoptr(VrModel) model =
        parse("schemaVersion: 1\n"
              "name: shop\n"
              "imageReference: {publisher: local, offer: debian, sku: \"12\", version: 12.20261101.0}\n"
              "upgradeDomainCount: 20\n"
              "upgradePolicy:\n"
              "  mode: manual\n"
              "  automaticOSUpgradePolicy:\n"
              "    enableAutomaticOSUpgrade: false\n"
              "    useRollingUpgradePolicy: true\n"
              "    disableAutomaticRollback: true\n"
              "  rollingUpgradePolicy:\n"
              "    maxBatchInstancePercent: 25\n"
              "    maxUnhealthyInstancePercent: 30\n"
              "    maxUnhealthyUpgradedInstancePercent: 0\n"
              "    pauseTimeBetweenBatches: PT2M\n"
              "    prioritizeUnhealthyInstances: false\n"
              "    rollbackFailedInstancesOnPolicyBreach: true\n"
              "    enableCrossZoneUpgrade: false\n"
              "    maxSurge: False\n"
              "  batchBy: percent\n"
              "  approval: true\n"
              "  prepareAhead: false\n"
              "healthProfile:\n"
              "  applicationHealth: {protocol: agent, command: [/usr/bin/healthy, --quick, \"\"],\n"
              "    intervalInSeconds: 10, numberOfProbes: 3, gracePeriod: 120}\n"
              "  healthTimeout: 60s\n"
              "osDisk: {kind: Full, target: vda}\n"
              "tempDisks: [vdc, sdb]\n"
              "stop: {method: ACPI, timeout: PT1M, force: true}\n"
              "dataDiskProof: {content: Whole}\n"
              "instances:\n"
              "- {domain: web-0}\n"
              "- domain: \"web 1: caf\\u00e9\"\n"
              "  version: 12.20261001.0\n"
              "- {domain: 6a2f41a3-c54c-fce8-32d2-0324e1c32e22}\n");

    assert_null(model->image_name);
    assert_string_equal(model->sku, "12");
    assert_string_equal(model->version, "12.20261101.0");
    assert_int_equal(model->upgrade_domain_count, 20);
    assert_int_equal(model->policy.max_batch_percent, 25);
    assert_int_equal(model->policy.max_unhealthy_percent, 30);
    assert_int_equal(model->policy.max_unhealthy_upgraded_percent, 0);
    assert_int_equal(model->policy.pause_ms, 120000);
    assert_false(model->policy.prioritize_unhealthy);
    assert_false(model->policy.automatic_rollback);
    assert_true(model->policy.restore_on_breach);                           /* F3 */
    assert_false(model->policy.prepare_ahead);                              /* B7 */
    assert_true(model->policy.approval);                                    /* D20 */
    assert_int_equal(model->health.source, VR_HEALTH_SOURCE_AGENT_COMMAND); /* E4 */
    assert_string_equal(model->health.command[1], "--quick");
    assert_string_equal(model->health.command[2], "");
    assert_null(model->health.command[3]);
    assert_int_equal(model->health.interval_ms, 10000);
    assert_int_equal(model->health.number_of_probes, 3);
    assert_int_equal(model->health.grace_period_ms, 120000);
    assert_int_equal(model->health.timeout_ms, 60000);
    assert_int_equal(model->os_disk_kind, VR_OS_DISK_FULL); /* B6 */
    assert_string_equal(model->os_target, "vda");
    assert_string_equal(model->temp_disks[1], "sdb");
    assert_null(model->temp_disks[2]);
    assert_int_equal(model->stop.method, VR_STOP_ACPI);
    assert_int_equal(model->stop.timeout_ms, 60000);
    assert_true(model->stop.force);
    assert_int_equal(model->data_proof, VR_PROOF_WHOLE);
    assert_int_equal(model->instances->len, 3);
    assert_string_equal(((VrModelInstance *)model->instances->pdata[1])->domain, "web 1: caf\xc3\xa9");
    assert_int_equal(((VrModelInstance *)model->instances->pdata[1])->line, 33);
    assert_string_equal(((VrModelInstance *)model->instances->pdata[1])->version, "12.20261001.0"); /* A11 */
    assert_null(((VrModelInstance *)model->instances->pdata[0])->version);
}

/* K2: Azure's spelling in any case, JSON, and the alias of the documents' own snippet. */
static void test_json(void **state)
{
    g_autoptr(VrModel) model = parse(
        "{\"Name\": \"lab\", \"IMAGEREFERENCE\": {\"name\": \"debian-12\"},\n"
        "\t\"upgradePolicy\": {\"mode\": \"Manual\", \"rollingUpgradePolicy\": {\n"
        "\t\t\"BatchInstancePercent\": 30,\n"
        "\t\t\"MaxUnhealthyInstancePercent\": 40,\n"
        "\t\t\"MaxUnhealthyUpgradedInstancePercent\": 100,\n"
        "\t\t\"PauseTimeBetweenBatches\": \"PT0S\"}},\n"
        "\t\"healthProfile\": {\"applicationHealth\": {\"protocol\": \"agent\", \"file\": \"\\/run\\/health.json\"}},\n"
        "\t\"instances\": [{\"domain\": \"a\"}, {\"domain\": \"b\"}]}");

    assert_int_equal(model->policy.max_batch_percent, 30);
    assert_int_equal(model->policy.max_unhealthy_percent, 40);
    assert_int_equal(model->policy.max_unhealthy_upgraded_percent, 100);
    assert_int_equal(model->health.source, VR_HEALTH_SOURCE_AGENT_FILE);
    assert_string_equal(model->health.file, "/run/health.json");
    assert_int_equal(model->instances->len, 2);
}

/* D28: 20/20/20/PT0S whatever the policy says. */
static void test_use_rolling_policy(void **state)
{
    g_autoptr(VrModel) model = parse_with(
        "upgradePolicy: {automaticOSUpgradePolicy: {useRollingUpgradePolicy: false}, rollingUpgradePolicy:\n"
        "  {maxBatchInstancePercent: 90, maxUnhealthyInstancePercent: 50, maxUnhealthyUpgradedInstancePercent: 1,\n"
        "  pauseTimeBetweenBatches: PT1H, prioritizeUnhealthyInstances: false}}");

    assert_int_equal(model->policy.max_batch_percent, 20);
    assert_int_equal(model->policy.max_unhealthy_percent, 20);
    assert_int_equal(model->policy.max_unhealthy_upgraded_percent, 20);
    assert_int_equal(model->policy.pause_ms, 0);
    assert_false(model->policy.prioritize_unhealthy);
}

#define POLICY(text) "upgradePolicy: {rollingUpgradePolicy: {" text "}}"
#define POLICY_PATH "3: upgradePolicy.rollingUpgradePolicy."
#define BATCH POLICY_PATH "maxBatchInstancePercent: "

/* D1, decision 2: the ranges of percentages, and what is no whole number. */
static void test_percentages(void **state)
{
    static const Refusal rows[] = {
        {POLICY("maxBatchInstancePercent: 101"), BATCH "101 is out of range (5 to 100)"},
        {POLICY("maxBatchInstancePercent: 0"), BATCH "0 is out of range (5 to 100)"},
        {POLICY("maxBatchInstancePercent: 4"), BATCH "4 is out of range (5 to 100)"},
        {POLICY("maxBatchInstancePercent: -1"), BATCH "-1 is out of range (5 to 100)"},
        {POLICY("maxBatchInstancePercent: 99999999999999999999"), BATCH "99999999999999999999 is out of range"},
        {POLICY("maxBatchInstancePercent: NaN"), BATCH "\"NaN\" is not a whole number (5 to 100)"},
        {POLICY("maxBatchInstancePercent: 20.5"), BATCH "\"20.5\" is not a whole number (5 to 100)"},
        {POLICY("maxBatchInstancePercent: 20%"), BATCH "\"20%\" is not a whole number (5 to 100)"},
        {POLICY("maxBatchInstancePercent: \"20%\""), BATCH "\"20%\" is not a whole number (5 to 100)"},
        {POLICY("maxBatchInstancePercent: \"20\""), BATCH "\"20\" is not a whole number (5 to 100)"},
        {POLICY("maxBatchInstancePercent: 0x14"), BATCH "\"0x14\" is not a whole number (5 to 100)"},
        {POLICY("maxBatchInstancePercent: 020"), BATCH "\"020\" is not a whole number (5 to 100)"},
        {POLICY("maxBatchInstancePercent: +20"), BATCH "\"+20\" is not a whole number (5 to 100)"},
        {POLICY("maxBatchInstancePercent: 2e1"), BATCH "\"2e1\" is not a whole number (5 to 100)"},
        {POLICY("maxBatchInstancePercent: null"), BATCH "\"null\" is not a whole number (5 to 100)"},
        {POLICY("maxBatchInstancePercent: [20]"), BATCH "must be a whole number, not a list"},
        {POLICY("BatchInstancePercent: 101"), BATCH "101 is out of range (5 to 100)"},
        {POLICY("maxUnhealthyInstancePercent: 4"),
         POLICY_PATH "maxUnhealthyInstancePercent: 4 is out of range (5 to 100)"},
        {POLICY("maxUnhealthyInstancePercent: 101"),
         POLICY_PATH "maxUnhealthyInstancePercent: 101 is out of range (5 to 100)"},
        {POLICY("maxUnhealthyUpgradedInstancePercent: 101"),
         POLICY_PATH "maxUnhealthyUpgradedInstancePercent: 101 is out of range (0 to 100)"},
        {POLICY("maxUnhealthyUpgradedInstancePercent: -1"),
         POLICY_PATH "maxUnhealthyUpgradedInstancePercent: -1 is out of range (0 to 100)"},
        {POLICY("maxBatchInstancePercent: 30"), BATCH "30 is above maxUnhealthyInstancePercent (20)"},
        {POLICY("maxUnhealthyInstancePercent: 10"),
         POLICY_PATH "maxUnhealthyInstancePercent: 10 is below maxBatchInstancePercent (20, its default)"},
        {POLICY("BatchInstancePercent: 20, maxBatchInstancePercent: 20"),
         BATCH "maxBatchInstancePercent is a second spelling of the key in line 3"},
        {"upgradePolicy:\n  rollingUpgradePolicy:\n    maxUnhealthyInstancePercent: 20\n\n    MAXBATCHINSTANCEPERCENT: "
         "101",
         "7: upgradePolicy.rollingUpgradePolicy.maxBatchInstancePercent: 101 is out of range (5 to 100)"},
    };
    g_autoptr(VrModel) least = NULL, most = NULL;

    refused_each(rows, G_N_ELEMENTS(rows));
    least = parse_with(POLICY("maxBatchInstancePercent: 5, maxUnhealthyInstancePercent: 5, "
                              "maxUnhealthyUpgradedInstancePercent: 0"));
    assert_int_equal(least->policy.max_unhealthy_percent, 5);
    most = parse_with(POLICY("maxBatchInstancePercent: 100, maxUnhealthyInstancePercent: 100, "
                             "maxUnhealthyUpgradedInstancePercent: 100"));
    assert_int_equal(most->policy.max_batch_percent, 100);
}

/* D5, E1, E9, D7: the other ranges. */
static void test_ranges(void **state)
{
    static const Refusal rows[] = {
        {"upgradeDomainCount: 0", "3: upgradeDomainCount: 0 is out of range (1 to 20)"},
        {"upgradeDomainCount: 21", "3: upgradeDomainCount: 21 is out of range (1 to 20)"},
        {"schemaVersion: 2", "3: schemaVersion: must be 1"}, /* K7 */
        {"schemaVersion: \"1\"", "3: schemaVersion: must be 1"},
        {"schemaVersion: [1]", "3: schemaVersion: must be 1"},
        {POLICY("pauseTimeBetweenBatches: P3D"),
         POLICY_PATH "pauseTimeBetweenBatches: P3D is out of range (PT0S to P2D)"},
        {POLICY("pauseTimeBetweenBatches: -PT1S"), POLICY_PATH "pauseTimeBetweenBatches: \"-PT1S\" is not a duration"},
        {POLICY("pauseTimeBetweenBatches: \"\""), POLICY_PATH "pauseTimeBetweenBatches: \"\" is not a duration"},
        {POLICY("pauseTimeBetweenBatches: {a: b}"),
         POLICY_PATH "pauseTimeBetweenBatches: must be a duration, not a mapping"},
        {"healthProfile: {healthTimeout: PT0S}", "3: healthProfile.healthTimeout: PT0S is out of range (PT1S to P1D)"},
        {"healthProfile: {healthTimeout: P2D}", "3: healthProfile.healthTimeout: P2D is out of range (PT1S to P1D)"},
        {"stop: {timeout: 0}", "3: stop.timeout: 0 is out of range (PT1S to P1D)"},
        {"healthProfile: {applicationHealth: {intervalInSeconds: 4}}",
         "3: healthProfile.applicationHealth.intervalInSeconds: 4 is out of range (5 to 60)"},
        {"healthProfile: {applicationHealth: {intervalInSeconds: 61}}",
         "3: healthProfile.applicationHealth.intervalInSeconds: 61 is out of range (5 to 60)"},
        {"healthProfile: {applicationHealth: {numberOfProbes: 0}}",
         "3: healthProfile.applicationHealth.numberOfProbes: 0 is out of range (1 to 24)"},
        {"healthProfile: {applicationHealth: {numberOfProbes: 25}}",
         "3: healthProfile.applicationHealth.numberOfProbes: 25 is out of range (1 to 24)"},
        {"healthProfile: {applicationHealth: {gracePeriod: 14401}}",
         "3: healthProfile.applicationHealth.gracePeriod: 14401 is out of range (0 to 14400 seconds)"},
    };
    g_autoptr(VrModel) model = NULL;

    refused_each(rows, G_N_ELEMENTS(rows));
    model = parse_with("healthProfile: {applicationHealth: {protocol: agent, file: /run/h, intervalInSeconds: 60, "
                       "numberOfProbes: 24}, healthTimeout: PT30M}");
    assert_int_equal(model->health.grace_period_ms, 60 * 24 * 1000); /* E9: interval * numberOfProbes */
}

/* D28: Azure's documents have it. Here it only warns. */
static void test_overprovision(void **state)
{
    g_autoptr(VrModel) with = parse_with("overprovision: true");
    g_autoptr(VrModel) without = parse_with("overprovision: false");

    assert_true(with->overprovision);
    assert_false(without->overprovision);
    refused(HEAD "overprovision: 2\n" TAIL, "lab.yaml:3: overprovision: 2 is neither true nor false");
}

/* What DESIGN names and this version cannot do is refused by its name, never ignored. */
static void test_not_yet(void **state)
{
    static const Refusal rows[] = {
        {"retention: {generations: 0}", "3: retention.generations: 0 is out of range (1 to 1000)"},
        {"retention: {maxAge: PT5H}", "3: retention.maxAge: PT5H is out of range (P1D to P3650D)"},
        {"retention: {failedDisks: -1}", "3: retention.failedDisks: -1 is out of range (0 to 1000)"},
        {"retention: {runs: 0}", "3: retention.runs: 0 is out of range (1 to 100000)"},
        {"retention: {runsMaxAge: PT5H}", "3: retention.runsMaxAge: PT5H is out of range (P1D to P3650D)"},
        {POLICY("maxSurge: true"), POLICY_PATH "maxSurge: true is not supported yet"},
    };

    refused_each(rows, G_N_ELEMENTS(rows));
}

#define AUTOMATIC_TRUE "upgradePolicy: {automaticOSUpgradePolicy: {enableAutomaticOSUpgrade: true}}\n"

/* E7: what starts by itself must see for itself. */
static void test_automatic_needs_health(void **state)
{
    g_autoptr(VrModel) with =
        parse_with(AUTOMATIC_TRUE "healthProfile: {applicationHealth: {protocol: tcp, port: 22}}");
    g_autoptr(VrModel) without = parse_with("");

    assert_true(with->automatic);
    assert_false(without->automatic);
    refused(HEAD AUTOMATIC_TRUE TAIL,
            "lab.yaml:3: upgradePolicy.automaticOSUpgradePolicy.enableAutomaticOSUpgrade: true needs a healthProfile");
}

/* D28: as the documents of VM Scale Sets print it, JSON and the capitals of their REST API, but for what names the machines. */
static void test_document_snippet(void **state)
{
    g_autoptr(VrModel) model = parse(
        "{\"schemaVersion\": 1, \"name\": \"shop\", \"imageReference\": {\"publisher\": \"local\", \"offer\": "
        "\"debian\",\n"
        " \"sku\": \"12\", \"version\": \"latest\"},\n"
        "\"upgradePolicy\": {\n"
        "  \"mode\": \"Rolling\",\n"
        "  \"automaticOSUpgradePolicy\": {\"enableAutomaticOSUpgrade\": true, \"useRollingUpgradePolicy\": true,\n"
        "    \"disableAutomaticRollback\": false},\n"
        "  \"rollingUpgradePolicy\": {\"BatchInstancePercent\": 20, \"MaxUnhealthyInstancePercent\": 25,\n"
        "    \"MaxUnhealthyUpgradedInstancePercent\": 25, \"PauseTimeBetweenBatches\": \"PT0S\"}},\n"
        "\"overprovision\": false,\n"
        "\"healthProfile\": {\"applicationHealth\": {\"protocol\": \"http\", \"port\": 80, \"requestPath\": \"/\"}},\n"
        "\"instances\": [{\"domain\": \"web-0\"}]}\n");

    assert_true(model->automatic && model->mode == VR_MODE_ROLLING);
    assert_int_equal(model->policy.max_unhealthy_percent, 25);
}

/* SAFETY section 3: unknown keys are named with their line, and the nearest known key. */
static void test_unknown_keys(void **state)
{
    static const Refusal rows[] = {
        {"healthprofil: {}", "3: healthprofil: unknown key; did you mean healthProfile?"},
        {POLICY("maxBatchPercent: 20"),
         POLICY_PATH "maxBatchPercent: unknown key; did you mean maxBatchInstancePercent?"},
        {"stop:\n  methd: agent", "4: stop.methd: unknown key; did you mean method?"},
        {"upgradePolicy: {automaticOSUpgradePolicy: {disableRollback: true}}",
         "3: upgradePolicy.automaticOSUpgradePolicy.disableRollback: unknown key; did you mean "
         "disableAutomaticRollback?"},
        {"<<: {name: b}", "3: <<: unknown key"},
        {"\"a\\nb\": 1", "3: a?b: unknown key"},
        {"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx: 1",
         "3: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...: unknown key"},
        {"NAME: again", "3: the key NAME comes twice"},
    };

    refused_each(rows, G_N_ELEMENTS(rows));
    refused(HEAD "instances: [{domain: a, domian: b}]",
            "lab.yaml:3: instances[0].domian: unknown key; did you mean domain?");
}

static void test_types(void **state)
{
    static const Refusal rows[] = {
        {"upgradePolicy: Manual", "3: upgradePolicy: must be a mapping"},
        {"upgradePolicy: {mode: sometimes}",
         "3: upgradePolicy.mode: \"sometimes\" is not Manual, Rolling or Automatic"},
        {"upgradePolicy: {mode: [Manual]}", "3: upgradePolicy.mode: must be text, not a list"},
        {"stop: {force: yes}", "3: stop.force: yes is neither true nor false"},
        {"stop: {force: \"true\"}", "3: stop.force: \"true\" is neither true nor false"},
        {"stop: {force: {}}", "3: stop.force: must be true or false, not a mapping"},
        {"dataDiskProof: {content: some}", "3: dataDiskProof.content: \"some\" is not none, sampled or whole"},
        {"stop: {method: kill}", "3: stop.method: \"kill\" is not auto, agent or acpi"},
        {"osDisk: {target: /dev/vda}", "3: osDisk.target: \"/dev/vda\" is no target of a disk, such as vda"},
        {"osDisk: {target: }", "3: osDisk.target: has no value"},
        {"osDisk: {target: null}", "3: osDisk.target: has no value"},
        {"tempDisks: vdc", "3: tempDisks: must be a list"},
        {"tempDisks: [vdc, VDD]", "3: tempDisks: \"VDD\" is no target of a disk, such as vda"},
        {"tempDisks: [vdc, vdc]", "3: tempDisks: a disk is named twice"},
        {"tempDisks: [vda]\nosDisk: {target: vda}", "3: tempDisks: the OS disk cannot be a temp disk"},
    };

    refused_each(rows, G_N_ELEMENTS(rows));
}

#define APP(text) "healthProfile: {applicationHealth: {" text "}}"
#define APP_PATH "3: healthProfile.applicationHealth"

/* E5: one source a set; paths in the guest are absolute. */
static void test_health(void **state)
{
    static const Refusal rows[] = {
        {APP(""), APP_PATH ": protocol is missing"},
        {APP("command: [/bin/true]"), APP_PATH ": protocol is missing"},
        {APP("protocol: agent"), APP_PATH ": must have one of command and file"},
        {APP("protocol: agent, file: /a, command: [/b]"), APP_PATH ": must have one of command and file"},
        {APP("protocol: agent, file: run/health"), APP_PATH ".file: \"run/health\" must be an absolute path"},
        {APP("protocol: agent, file: \"/run/\\n\""), APP_PATH ".file: \"/run/?\" must not have control characters"},
        {APP("protocol: agent, file: [/a]"), APP_PATH ".file: must be text, not a list"},
        {APP("protocol: agent, command: []"), APP_PATH ".command: must be a list of at least one text"},
        {APP("protocol: agent, command: /bin/true"), APP_PATH ".command: must be a list"},
        {APP("protocol: agent, command: [healthy]"), APP_PATH ".command: the first text must be the absolute path"},
        {APP("protocol: agent, command: [/bin/a, [b]]"), APP_PATH ".command: must be text, not a list"},
        {APP("protocol: agent, command: [/bin/a, ~]"), APP_PATH ".command: has no value"},
    };
    g_autoptr(VrModel) power = NULL;

    refused_each(rows, G_N_ELEMENTS(rows));
    power = parse_with("healthProfile: {healthTimeout: PT1M}");
    assert_int_equal(power->health.source, VR_HEALTH_SOURCE_POWER);
    assert_int_equal(power->health.timeout_ms, 60000);
}

/* A4, A11: an image by name or by publisher, offer and SKU; latest or a pin. */
static void test_image(void **state)
{
    static const char *const wrong[][2] = {
        {"{}", "lab.yaml:2: imageReference: must have a name, or publisher, offer and sku"},
        {"{publisher: a, offer: b}", "lab.yaml:2: imageReference: must have a name, or publisher, offer and sku"},
        {"{name: a, sku: b}", "lab.yaml:2: imageReference: has a name and a publisher, offer or sku"},
        {"{name: ../a}", "lab.yaml:2: imageReference.name: "},
        {"{name: a, version: newest}", "lab.yaml:2: imageReference.version: "},
        {"debian-12", "lab.yaml:2: imageReference: must be a mapping"},
    };
    g_autoptr(VrModel) pinned = parse("name: a\nimageReference: {name: b, version: 12.0}\n" TAIL);
    g_autoptr(VrModel) latest = parse("name: a\nimageReference: {name: b, version: Latest}\n" TAIL);

    assert_string_equal(pinned->version, "12.0");
    assert_string_equal(latest->version, "latest");
    for (guint i = 0; i < G_N_ELEMENTS(wrong); i++) {
        g_autofree char *text = g_strdup_printf("name: lab\nimageReference: %s\n" TAIL, wrong[i][0]);

        refused(text, wrong[i][1]);
    }
}

static void test_required(void **state)
{
    refused("imageReference: {name: a}\n" TAIL, "lab.yaml:1: name: is missing");
    refused("name: a\n" TAIL, "lab.yaml:1: imageReference: is missing");
    refused(HEAD, "lab.yaml:1: instances: is missing");
    refused("name: a b\nimageReference: {name: a}\n" TAIL, "lab.yaml:1: name: ");
    refused("- a\n", "lab.yaml:1: must be a mapping");
    refused("text", "lab.yaml:1: must be a mapping");
}

/* Names as libvirt has them: any UTF-8 without control characters and '/'. */
static void test_instances(void **state)
{
    g_autoptr(VrModel) model = parse(HEAD "instances:\n- domain: 'a:b c'\n- domain: -x\n- domain: A\n- domain: a\n");

    assert_int_equal(model->instances->len, 4);
    assert_string_equal(((VrModelInstance *)model->instances->pdata[0])->domain, "a:b c");
    refused(HEAD "instances: []", "lab.yaml:3: instances: must be a list of at least one instance");
    refused(HEAD "instances: web-0", "lab.yaml:3: instances: must be a list of at least one instance");
    refused(HEAD "instances:\n- web-0\n", "lab.yaml:4: instances[0]: must be a mapping");
    refused(HEAD "instances:\n- {}\n", "lab.yaml:4: instances[0]: domain is missing");
    refused(HEAD "instances:\n- {domain: ''}\n", "lab.yaml:4: instances[0].domain: \"\" must be the name");
    refused(HEAD "instances:\n- {domain: a/b}\n", "lab.yaml:4: instances[0].domain: \"a/b\" is no name of a domain");
    refused(HEAD "instances:\n- {domain: \"a\\tb\"}\n",
            "lab.yaml:4: instances[0].domain: \"a?b\" is no name of a domain");
    refused(HEAD "instances:\n- {domain: \"a\\x85\"}\n",
            "lab.yaml:4: instances[0].domain: \"a?\" is no name of a domain");
    refused(HEAD "instances:\n- {domain: a}\n- {domain: b}\n- {domain: a}\n",
            "lab.yaml:6: instances[2]: the domain a is named twice");
    refused(HEAD "instances:\n- {domain: 6a2f41a3-c54c-fce8-32d2-0324e1c32e22}\n"
                 "- {domain: 6A2F41A3-C54C-FCE8-32D2-0324E1C32E22}\n",
            "lab.yaml:5: instances[1]: the domain 6A2F41A3-C54C-FCE8-32D2-0324E1C32E22 is named twice");
}

/* A11: an instance is pinned to a number, never to latest. */
static void test_pins(void **state)
{
    static const char *const wrong[] = {"latest", "LATEST", "20241004-1890", "''", "1..2"};
    g_autoptr(VrModel) model = parse(HEAD "instances:\n- {domain: a, version: 1.2}\n- {domain: b}\n");

    assert_string_equal(((VrModelInstance *)model->instances->pdata[0])->version, "1.2");
    assert_null(((VrModelInstance *)model->instances->pdata[1])->version);
    for (guint i = 0; i < G_N_ELEMENTS(wrong); i++) {
        g_autofree char *text = g_strdup_printf(HEAD "instances:\n- {domain: a, version: %s}\n", wrong[i]);
        refused(text, "lab.yaml:4: instances[0].version: ");
    }
}

/* The document itself: bounded, one, without aliases, tags and NUL. */
static void test_documents(void **state)
{
    g_autofree char *large = g_strnfill(1024 * 1024 + 1, ' ');
    GString *deep = g_string_new("name: ");
    g_autoptr(GError) error = NULL;

    refused("", "lab.yaml:1: is empty");
    refused("# nothing\n", "lab.yaml:2: is empty");
    refused("name: a\n---\nname: b\n", "lab.yaml:2: has more than one document");
    refused("name: &x a\nimageReference: {name: *x}\n", "lab.yaml:1: anchors are not allowed");
    refused("name: *x\n", "lab.yaml:1: aliases are not allowed");
    refused("name: !!str a\n", "lab.yaml:1: tags are not allowed");
    refused("name: a\nname: b\n", "lab.yaml:2: the key name comes twice");
    refused("? [a]\n: b\n", "lab.yaml:1: a key must be text");
    refused("name: \"a\\0b\"\n", "lab.yaml:1: a text has a NUL character");
    refused("name: \xff\n", "lab.yaml:1: is not UTF-8 text");
    refused("name: {a\n", "lab.yaml:2: ");
    refused("name: a\n b: c\n", "lab.yaml:2: ");
    refused(large, "lab.yaml:1: is larger than 1 MiB");
    for (guint i = 0; i < 40; i++)
        g_string_append_c(deep, '[');
    refused(deep->str, "lab.yaml:1: is nested more than 32 deep");
    g_string_free(deep, TRUE);
    assert_null(vr_model_parse("name: a\0b", 9, "lab.yaml", &error));
    assert_true(g_error_matches(error, VR_ERROR, VR_ERROR_USAGE));
}

/* L2: ten thousand instances are read in no time worth naming; and a cut or bent document never does harm. */
static void test_large_and_bent(void **state)
{
    GString *text = g_string_new(HEAD "instances:\n");
    g_autoptr(VrModel) model = NULL;
    gint64 began = g_get_monotonic_time();
    guint random = 1;

    for (guint i = 0; i < 10000; i++)
        g_string_append_printf(text, "- {domain: guest-%u}\n", i);
    model = vr_model_parse(text->str, text->len, "lab.yaml", NULL);
    assert_non_null(model);
    assert_int_equal(model->instances->len, 10000);
    assert_true(g_get_monotonic_time() - began < 2000000);
    g_string_assign(text, HEAD "upgradePolicy: {mode: Manual, rollingUpgradePolicy: {maxSurge: false}}\n" TAIL);
    for (guint i = 0; i < 3000; i++) {
        g_autofree char *bent = g_strndup(text->str, text->len);
        g_autoptr(GError) error = NULL;
        g_autoptr(VrModel) result = NULL;

        random = random * 1103515245 + 12345;
        bent[(random >> 8) % text->len] = (char)(random >> 24);
        result = vr_model_parse(bent, i % 2 == 0 ? text->len : (random >> 4) % text->len, "lab.yaml", &error);
        assert_true((result == NULL) == (error != NULL));
    }
    g_string_free(text, TRUE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_all_keys),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_use_rolling_policy),
        cmocka_unit_test(test_percentages),
        cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_not_yet),
        cmocka_unit_test(test_unknown_keys),
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_health),
        cmocka_unit_test(test_image),
        cmocka_unit_test(test_required),
        cmocka_unit_test(test_instances),
        cmocka_unit_test(test_pins),
        cmocka_unit_test(test_documents),
        cmocka_unit_test(test_large_and_bent),
        cmocka_unit_test(test_overprovision),
        cmocka_unit_test(test_automatic_needs_health),
        cmocka_unit_test(test_document_snippet),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
