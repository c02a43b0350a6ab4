/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* osProfile's offlineConfiguration and carryOver (C6, C8): their keys, what is refused, and what an edit of them means. */
#include "orchestrator/model_text.h"

#include "orchestrator/health.h"
#include "orchestrator/model_change.h"
#include "orchestrator/model_offline.h"

#define ED25519 "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGW5zT0XQ3H0Xo0R8nqkG1v2hYl3mS7bC0d4w9pKxJ2a"
#define PROFILE(keys) "osProfile: {" keys "}"
#define OFFLINE(keys) PROFILE("offlineConfiguration: {" keys "}")
#define FILES(keys) OFFLINE("files: [" keys "]")
#define NETWORK(keys) OFFLINE("networkFiles: [" keys "]")
#define KEYS(keys) OFFLINE("authorizedKeys: [" keys "]")
#define CARRY(items) PROFILE("carryOver: [" items "]")
#define PATH "3: osProfile.offlineConfiguration."
#define ID "0123456789abcdef0123456789abcdef"

static void test_keys(void **state)
{
    g_autoptr(VrModel) model =
        parse_with("osProfile:\n  OfflineConfiguration:\n    hostname: \"web-@{instance.index}\"\n"
                   "    machineId: \"@{instance.uuid}\"\n    timezone: Europe/Berlin\n"
                   "    sshHostKeys: \"keys/@{instance.name}\"\n"
                   "    authorizedKeys: [{user: debian, keyData: " ED25519 "}, {user: root, file: a.pub}]\n"
                   "    files: [{source: tls.key, path: /etc/shop/tls.key, mode: \"0640\", owner: \"www-data:adm\"},\n"
                   "      {text: \"on @{instance.name}\", path: /etc/motd, template: true}]\n"
                   "    networkFiles: [{text: x, path: /etc/systemd/network/10-lan.network}]\n"
                   "    firstBoot: {text: \"#!/bin/sh\\nid\\n\"}\n    selinuxRelabel: false\n"
                   "  carryOver: [/srv, /var/lib/shop]\n  carryOverFrom: disk");
    const VrOfflineProfile *offline = &model->os_profile.offline;
    const VrOfflineKey *key = offline->authorized->pdata[1];
    const VrOfflineFile *first = offline->files->pdata[0], *second = offline->files->pdata[1],
                        *network = offline->network_files->pdata[0];

    assert_int_equal(model->os_profile.line, 0); /* it has no seed */
    assert_int_equal(offline->line, 4);
    assert_string_equal(offline->hostname, "web-@{instance.index}");
    assert_string_equal(offline->machine_id, "@{instance.uuid}");
    assert_string_equal(offline->timezone, "Europe/Berlin");
    assert_string_equal(offline->host_key_dir, "keys/@{instance.name}");
    assert_string_equal(key->user, "root");
    assert_string_equal(key->key.file, "a.pub");
    assert_string_equal(first->content.file, "tls.key");
    assert_string_equal(first->path, "/etc/shop/tls.key");
    assert_int_equal(first->mode, 0640);
    assert_string_equal(first->owner, "www-data:adm");
    assert_int_equal(second->mode, 0600);
    assert_null(second->owner);
    assert_true(second->content.is_template);
    assert_string_equal(network->path, "/etc/systemd/network/10-lan.network");
    assert_string_equal(offline->first_boot.text, "#!/bin/sh\nid\n");
    assert_true(offline->no_relabel);
    assert_string_equal(model->os_profile.carry.what[0], "/srv");
    assert_string_equal(model->os_profile.carry.what[1], "/var/lib/shop");
    assert_true(model->os_profile.carry.from_disk);
    g_autoptr(VrModel) words = parse_with(CARRY("ssh-hostkeys, machine-id"));
    assert_string_equal(words->os_profile.carry.what[0], "ssh-hostkeys");
    assert_string_equal(words->os_profile.carry.what[1], "machine-id");
    assert_false(words->os_profile.carry.from_disk);
    g_autoptr(VrModel) none = parse_with(OFFLINE("selinuxRelabel: false"));
    assert_int_equal(none->os_profile.offline.line, 0);
    assert_null(none->os_profile.carry.what[0]);
}

static void test_refused(void **state)
{
    static const Refusal rows[] = {
        {OFFLINE("adminPassword: x"), PATH "adminPassword: unknown key"},
        {PROFILE("offlineConfiguration: x"), "3: osProfile.offlineConfiguration: must be a mapping"},
        {OFFLINE("timezone: ../../etc/passwd"), PATH "timezone: the timezone '../../etc/passwd' is none"},
        {OFFLINE("timezone: \"Europe/Ber lin\""), PATH "timezone: the timezone "},
        {OFFLINE("sshHostKeys: \"keys/@{instance.nam}\""), PATH "sshHostKeys: line 1: there is no field"},
        {OFFLINE("sshHostKeys: \"a\\nb\""), PATH "sshHostKeys: "},
        {OFFLINE("firstBoot: {text: \"echo\"}"), PATH "firstBoot: its text must begin with '#!'"},
        {OFFLINE("firstBoot: {}"), PATH "firstBoot: must have one of file and text"},
        {OFFLINE("selinuxRelabel: maybe"), PATH "selinuxRelabel: maybe is neither true nor false"},
        {OFFLINE("unattend: {text: a}, timezone: UTC"), PATH "unattend: is for Windows, where nothing else is written: "
                                                             "it goes without timezone"},
        {PROFILE("carryOver: [/a], offlineConfiguration: {unattend: {file: a}}"),
         PATH "unattend: is for Windows, where nothing else is written: it goes without carryOver"},
        /* keys: those of the issue have options */
        {KEYS("{keyData: " ED25519 "}"), PATH "authorizedKeys[0]: user is missing"},
        {KEYS("{user: root}"), PATH "authorizedKeys[0]: must have one of keyData and file"},
        {KEYS("{user: root, keyData: 'command=\"/bin/sh\" " ED25519 "'}"),
         PATH "authorizedKeys[0].keyData: \"command="},
        {KEYS("{user: root, keyData: 'no-pty " ED25519 "'}"), PATH "authorizedKeys[0].keyData: \"no-pty "},
        {KEYS("{user: \"../etc\", file: a}"), PATH "authorizedKeys[0]: the user '../etc' has a name that no user has"},
        {OFFLINE("authorizedKeys: a"), PATH "authorizedKeys: must be a list of at most 64 keys"},
        /* files */
        {FILES("{text: a}"), PATH "files[0]: path is missing"},
        {FILES("{path: /a}"), PATH "files[0]: must have one of source and text"},
        {FILES("{path: /a, text: a, source: b}"), PATH "files[0]: must have one of source and text"},
        {FILES("{path: /a, text: a}, {path: b, text: a}"), PATH "files[1]: the path 'b' is not absolute"},
        {FILES("{path: /, text: a}"), PATH "files[0]: the path '/' is not absolute, or is the root itself"},
        {FILES("{path: /a/../b, text: a}"), PATH "files[0]: the path '/a/../b' has a part that is empty, '.', '..'"},
        {FILES("{path: /a//b, text: a}"), PATH "files[0]: the path '/a//b' has a part"},
        {FILES("{path: \"/a\\nb\", text: a}"), PATH "files[0]: the path '/a"},
        {FILES("{path: /run/a, text: a}"), PATH "files[0]: the path '/run/a' is not on the disk once the guest runs"},
        {FILES("{path: /etc/passwd, text: a}"), PATH "files[0]: the file '/etc/passwd' is where owners are looked up"},
        {FILES("{path: /a, text: a, mode: \"4755\"}"), PATH "files[0]: the mode of '/a' is more than 0777"},
        {FILES("{path: /a, text: a, mode: rw}"), PATH "files[0].mode: must be three or four octal digits"},
        {FILES("{path: /a, text: a, owner: \"a:b:c\"}"), PATH "files[0]: the owner 'a:b:c' is none"},
        {FILES("{path: /a, text: \"@{x}\", template: true}"), PATH "files[0]: text, line 1: there is no field @{x}"},
        {FILES("{path: /a, text: a}, {path: /a, text: b}"),
         PATH "files[1]: /a would be written twice: osProfile.offlineConfiguration.files[0], too, writes /a"},
        {FILES("{path: /a/b, text: a}, {path: /a, text: b}"), PATH "files[1]: /a would be written twice"},
        {NETWORK("{path: /etc/network.d/a, text: a}"),
         PATH "networkFiles[0]: the network file '/etc/network.d/a' does"},
        {NETWORK("{path: /etc/netplan/a.yaml, text: a, mode: \"0644\"}"), PATH "networkFiles[0].mode: unknown key"},
        {OFFLINE("hostname: a, files: [{path: /etc/hostname, text: b}]"),
         PATH "files[0]: /etc/hostname would be written twice: osProfile.offlineConfiguration.hostname, too, writes"},
        /* carryOver */
        {CARRY("hostname"), "3: osProfile.carryOver[0]: must be ssh-hostkeys, machine-id or the absolute path"},
        {CARRY("[a]"), "3: osProfile.carryOver[0]: must be ssh-hostkeys"},
        {CARRY("/a, /proc/version"), "3: osProfile.carryOver[1]: the path '/proc/version' is not on the disk"},
        {CARRY("/etc/group"), "3: osProfile.carryOver[0]: the file '/etc/group' is where owners are looked up"},
        {PROFILE("carryOver: all"), "3: osProfile.carryOver: must be a list of at most 64 of ssh-hostkeys, machine-id"},
        {PROFILE("carryOver: [/a], carryOverFrom: image"),
         "3: osProfile.carryOverFrom: \"image\" is not guest or disk"},
        {PROFILE("carryOverFrom: disk"), "3: osProfile.carryOverFrom: goes with carryOver, which names nothing"},
        {CARRY("/var/lib/shop, /var/lib"), "3: osProfile.carryOver[1]: /var/lib would be written twice"},
        {CARRY("/etc/ssh, ssh-hostkeys"),
         "3: osProfile.carryOver[1]: /etc/ssh/ssh_host_rsa_key would be written twice"},
        {PROFILE("carryOver: [machine-id], offlineConfiguration: {machineId: new}"),
         "3: osProfile.carryOver[0]: /etc/machine-id would be written twice: "
         "osProfile.offlineConfiguration.machineId, too, writes /etc/machine-id"},
        {PROFILE("carryOver: [ssh-hostkeys], offlineConfiguration: {sshHostKeys: keys}"),
         "3: osProfile.carryOver[0]: /etc/ssh/ssh_host_rsa_key would be written twice"},
        {PROFILE("carryOver: [/etc/shop], offlineConfiguration: {files: [{path: /etc/shop/a, text: b}]}"),
         "3: osProfile.carryOver[0]: /etc/shop would be written twice: "
         "osProfile.offlineConfiguration.files[0], too, writes /etc/shop/a"},
    };

    refused_each(rows, G_N_ELEMENTS(rows));
    vr_model_free(parse_with(CARRY("/var/lib/shop, /var/lib/shop2")));
    vr_model_free(parse_with(CARRY("")));
    vr_model_free(parse_with(OFFLINE("unattend: {file: a}")));
}

/* Those of the issue: a newline, 65 characters, "$()"; each with its line. */
static void test_host_names(void **state)
{
    static const Refusal rows[] = {
        {"osProfile:\n  offlineConfiguration:\n    hostname: \"a\\nb\"",
         "5: osProfile.offlineConfiguration.hostname: \"a\\nb\" of lab-0 is no host name"},
        {OFFLINE("hostname: \"$(reboot)\""), PATH "hostname: \"$(reboot)\" of lab-0 is no host name"},
        {OFFLINE("hostname: \"\""), PATH "hostname: \"\" of lab-0 is no host name"},
        {OFFLINE("hostname: \"@{instance.zone}\""), PATH "hostname: of lab-0, line 1: @{instance.zone}: it has none"},
    };
    g_autofree char *label = g_strnfill(60, 'a');
    g_autofree char *good = g_strdup_printf(OFFLINE("hostname: %s.aa"), label);
    g_autofree char *long_one = g_strdup_printf(HEAD OFFLINE("hostname: %s.aaa") "\n" TAIL, label);

    refused_each(rows, G_N_ELEMENTS(rows));
    vr_model_free(parse_with(good));
    refused(long_one, "lab.yaml:3: osProfile.offlineConfiguration.hostname: \"aaaa");
}

static void test_machine_ids(void **state)
{
    static const struct {
        const char *text, *id; /* NULL: none */
    } rows[] = {{"new", ""},
                {"New", ""},
                {ID, ID},
                {"0123456789ABCDEF0123456789ABCDEF", ID},
                {"01234567-89ab-cdef-0123-456789abcdef", ID},
                {"00000000000000000000000000000000", NULL},
                {"0123", NULL},
                {ID "0", NULL},
                {"", NULL},
                {"g123456789abcdef0123456789abcdef", NULL}};

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *id = vr_machine_id_of(rows[i].text);
        assert_string_equal(id ? id : "-", rows[i].id ? rows[i].id : "-");
    }
    static const Refusal refusals[] = {
        {OFFLINE("machineId: 1234"), PATH "machineId: \"1234\" of lab-0 is no machine-id"},
        {OFFLINE("machineId: \"a\\nb\""), PATH "machineId: \"a\\nb\" of lab-0 is no machine-id"},
    };
    refused_each(refusals, G_N_ELEMENTS(refusals));
    vr_model_free(parse_with(OFFLINE("machineId: " ID)));
    vr_model_free(parse_with(OFFLINE("machineId: \"@{instance.uuid}\"")));
    refused(HEAD OFFLINE("machineId: " ID) "\ninstances: [{domain: a}, {domain: b}]\n",
            "lab.yaml:3: osProfile.offlineConfiguration.machineId: is the same for all instances");
}

static void expect_changes(const char *before, const char *after, const char *expected)
{
    static const VrChangeContext nothing_known;
    g_autoptr(VrModel) then = parse_with(before);
    g_autoptr(VrModel) now = parse_with(after);
    g_autoptr(GPtrArray) changes = vr_model_compare(then, now, &nothing_known);
    g_autoptr(GString) text = g_string_new(NULL);

    for (guint i = 0; i < changes->len; i++) {
        const VrModelChange *change = changes->pdata[i];
        assert_int_equal(change->meaning, VR_CHANGE_REIMAGE);
        g_string_append_printf(text, "%s: %s -> %s\n", change->key, change->from ? change->from : "-",
                               change->to ? change->to : "-");
    }
    assert_string_equal(text->str, expected);
}

static void test_an_edit(void **state) /* C11, K6: no text of the model is shown, it may be a secret */
{
    expect_changes("", OFFLINE("hostname: a, selinuxRelabel: false"),
                   "osProfile.offlineConfiguration.hostname: - -> a\n"
                   "osProfile.offlineConfiguration.selinuxRelabel: true -> false\n");
    expect_changes(FILES("{text: pa55word, path: /a}"),
                   FILES("{source: /b, path: /a, mode: \"0644\", owner: \"33:4\"}"),
                   "osProfile.offlineConfiguration.files: /a 0600 root:root: text of 8 bytes, SHA-256 4c1b9bb3405f... "
                   "-> /a 0644 33:4: file /b\n");
    expect_changes(KEYS("{user: a, file: /k}"), KEYS("{user: b, file: /k}"),
                   "osProfile.offlineConfiguration.authorizedKeys: a: file /k -> b: file /k\n");
    expect_changes(CARRY("ssh-hostkeys"), PROFILE("carryOver: [ssh-hostkeys, /a], carryOverFrom: disk"),
                   "osProfile.carryOver: ssh-hostkeys -> ssh-hostkeys /a\nosProfile.carryOverFrom: guest -> disk\n");
    g_autoptr(VrModel) none = parse_with("");
    g_autoptr(VrModel) offline = parse_with(OFFLINE("timezone: UTC"));
    g_autoptr(VrModel) carry = parse_with(CARRY("/a"));
    assert_true(vr_model_needs_revision(none, offline));
    assert_false(vr_model_needs_revision(none, carry)); /* the disk that runs has it */
}

static void test_who_needs_an_agent(void **state)
{
    g_autoptr(VrModel) none = parse_with(OFFLINE("timezone: UTC"));
    g_autoptr(VrModel) guest = parse_with(CARRY("/a"));
    g_autoptr(VrModel) disk = parse_with(PROFILE("carryOver: [/a], carryOverFrom: disk"));

    assert_false(vr_model_needs_agent(none));
    assert_true(vr_model_needs_agent(guest));
    assert_false(vr_model_needs_agent(disk));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys),        cmocka_unit_test(test_refused), cmocka_unit_test(test_host_names),
        cmocka_unit_test(test_machine_ids), cmocka_unit_test(test_an_edit), cmocka_unit_test(test_who_needs_an_agent),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
