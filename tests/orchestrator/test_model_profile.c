/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* osProfile of a set file (C1, C2, C6, C7): its keys, what is refused, templates, and what a run makes of it. */
#include "orchestrator/model_text.h"

#include "base/fd.h"
#include "orchestrator/host_name.h"
#include "orchestrator/model_profile.h"
#include "orchestrator/os_content.h"
#include "orchestrator/template.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define ED25519 "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGW5zT0XQ3H0Xo0R8nqkG1v2hYl3mS7bC0d4w9pKxJ2a"
#define PROFILE(keys) "osProfile: {" keys "}"
#define SSH(keys) PROFILE("linuxConfiguration: {ssh: {publicKeys: [" keys "]}}")
#define SSH_PATH "3: osProfile.linuxConfiguration.ssh.publicKeys"

static void test_keys(void **state)
{
    g_autoptr(VrModel) model =
        parse_with("osProfile:\n  computerName: \"web-@{instance.index}\"\n  customData: {file: user-data.yaml}\n"
                   "  vendorData: {text: \"#!/bin/sh\\n\", template: true}\n  networkConfig: {file: /etc/net.yaml}\n"
                   "  metaData: {env: prod, zone: \"@{instance.name}\"}\n"
                   "  LinuxConfiguration: {ssh: {publicKeys: [{keyData: " ED25519 " ops@shop}, {file: a.pub}]}}");
    const VrOsProfile *profile = &model->os_profile;
    const VrProfileMeta *second = profile->meta_data->pdata[1];
    const VrProfileKey *key = profile->public_keys->pdata[0], *file = profile->public_keys->pdata[1];

    assert_string_equal(profile->computer_name, "web-@{instance.index}");
    assert_string_equal(profile->custom_data.file, "user-data.yaml");
    assert_false(profile->custom_data.is_template);
    assert_string_equal(profile->vendor_data.text, "#!/bin/sh\n");
    assert_true(profile->vendor_data.is_template);
    assert_string_equal(profile->network_config.file, "/etc/net.yaml");
    assert_string_equal(second->key, "zone");
    assert_string_equal(second->value, "@{instance.name}");
    assert_string_equal(key->data, ED25519 " ops@shop");
    assert_string_equal(file->file, "a.pub");
    g_autoptr(VrModel) none = parse_with("");
    assert_int_equal(none->os_profile.line, 0);
    g_autoptr(VrModel) other = parse_with("osProfile: {windowsConfiguration: {enableAutomaticUpdates: false}}");
    assert_int_equal(other->os_profile.line, 0);
    g_autoptr(VrModel) empty = parse_with("osProfile: {metaData: {a: b}}");
    assert_string_equal(empty->os_profile.computer_name, "@{instance.name}");
    assert_int_equal(empty->os_profile.line, 3); /* the name of the guest, and that it is a new instance */
}

static void test_refused(void **state)
{
    static const Refusal rows[] = {
        {PROFILE("adminPassword: x"), "3: osProfile.adminPassword: unknown key"},
        {PROFILE("customData: x"), "3: osProfile.customData: must be a mapping"},
        {PROFILE("customData: {}"), "3: osProfile.customData: must have one of file and text"},
        {PROFILE("customData: {file: a, text: b}"), "3: osProfile.customData: must have one of file and text"},
        {PROFILE("customData: {file: \"a\\nb\"}"), "3: osProfile.customData.file: "},
        {PROFILE("customData: {text: \"a\\n@{instance.nam}\", template: true}"),
         "3: osProfile.customData: text, line 2: there is no field @{instance.nam}; there are instance.name, "},
        {PROFILE("customData: {text: \"@{}\", template: true}"),
         "3: osProfile.customData: text, line 1: what follows @{ is no field"},
        {PROFILE("vendorData: {text: \"@{instance.name\", template: true}"),
         "3: osProfile.vendorData: text, line 1: a field @{ has no }"},
        {PROFILE("metaData: {instance-id: a}"), "3: osProfile.metaData: \"instance-id\" is given by"},
        {PROFILE("metaData: {local-hostname: a}"), "3: osProfile.metaData: \"local-hostname\" is given by"},
        {PROFILE("metaData: {public-keys: a}"), "3: osProfile.metaData: \"public-keys\" is given by"},
        {PROFILE("metaData: {\"a b\": c}"), "3: osProfile.metaData: \"a b\" is no key"},
        {PROFILE("metaData: {\"a\\nb\": c}"), "3: osProfile.metaData: \"a\\nb\" is no key"},
        {PROFILE("metaData: {a: [b]}"), "3: osProfile.metaData: a must be a text"},
        {PROFILE("metaData: {a: \"b\\nc\"}"), "3: osProfile.metaData: a must not have control characters"},
        {PROFILE("metaData: {a: \"@{b}\"}"), "3: osProfile.metaData: a, line 1: there is no field @{b}"},
        {PROFILE("metaData: [a]"), "3: osProfile.metaData: must be a mapping"},
        {SSH("{keyData: 'command=\"/bin/sh\" " ED25519 "'}"), SSH_PATH "[0].keyData: \"command="},
        {SSH("{keyData: 'no-pty " ED25519 "'}"), SSH_PATH "[0].keyData: \"no-pty "},
        {SSH("{keyData: \"" ED25519 "\\n" ED25519 "\"}"), SSH_PATH "[0].keyData: \""},
        {SSH("{keyData: ssh-dss AAAAB3NzaC1kc3MAAACB}"),
         SSH_PATH "[0].keyData: \"ssh-dss AAAAB3NzaC1kc3MAAACB\" must begin"},
        {SSH("{keyData: ssh-ed25519}"), SSH_PATH "[0].keyData: \"ssh-ed25519\" is no public key"},
        {SSH("{keyData: ssh-ed25519 AAAAB3NzaC1yc2EAAAADAQAB}"), SSH_PATH "[0].keyData: \"ssh-ed25519 AAAA"},
        {SSH("{keyData: \"ssh-ed25519 not-base64!\"}"), SSH_PATH "[0].keyData: "},
        {SSH("{}"), SSH_PATH "[0]: must have one of keyData and file"},
        {SSH("{path: /root, file: a}"), SSH_PATH "[0].path: unknown key"},
        {PROFILE("linuxConfiguration: {ssh: {publicKeys: a}}"), SSH_PATH ": must be a list"},
    };

    refused_each(rows, G_N_ELEMENTS(rows));
}

/* Those of the issue: a newline, more than 64 characters, "$()"; each with the line, when the set is defined. */
static void test_computer_names(void **state)
{
    static const Refusal rows[] = {
        {"osProfile:\n  computerName: \"a\\nb\"", "4: osProfile.computerName: \"a\\nb\" of lab-0 is no host name"},
        {"osProfile:\n  computerName: \"$(reboot)\"",
         "4: osProfile.computerName: \"$(reboot)\" of lab-0 is no host name"},
        {"osProfile:\n  computerName: a b", "4: osProfile.computerName: \"a b\" of lab-0 is no host name"},
        {"osProfile:\n  computerName: -a", "4: osProfile.computerName: \"-a\" of lab-0 is no host name"},
        {"osProfile:\n  computerName: a..b", "4: osProfile.computerName: \"a..b\" of lab-0 is no host name"},
        {"osProfile:\n  computerName: a.", "4: osProfile.computerName: \"a.\" of lab-0 is no host name"},
        {"osProfile:\n  computerName: a_b", "4: osProfile.computerName: \"a_b\" of lab-0 is no host name"},
        {"osProfile:\n  computerName: \"@{instance.mac}\"",
         "4: osProfile.computerName: of lab-0, line 1: @{instance.mac}: it has none"},
        {"osProfile:\n  computerName: \"@{instance.role}\"",
         "4: osProfile.computerName: of lab-0, line 1: @{instance.role}: it has none"},
        {"osProfile:\n  computerName: \"@{instance.nme}\"",
         "4: osProfile.computerName: of lab-0, line 1: there is no field @{instance.nme}"},
    };
    g_autofree char *label = g_strnfill(63, 'a'), *long_label = g_strnfill(64, 'a'), *total = g_strnfill(60, 'a');
    g_autofree char *good = g_strdup_printf("osProfile: {computerName: %s}", label);
    g_autofree char *bad = g_strdup_printf(HEAD "osProfile: {computerName: %s}\n" TAIL, long_label);
    g_autofree char *too_long = g_strdup_printf(HEAD "osProfile: {computerName: %s.aaaa}\n" TAIL, total);

    refused_each(rows, G_N_ELEMENTS(rows));
    vr_model_free(parse_with(good));
    vr_model_free(parse_with("osProfile: {computerName: Web-0.example.org}"));
    vr_model_free(parse_with("osProfile: {computerName: \"@{set.name}-@{instance.index}\"}"));
    refused(bad, "lab.yaml:3: osProfile.computerName: \"aaaa");
    refused(too_long, "lab.yaml:3: osProfile.computerName: \"aaaa");
    refused(HEAD "osProfile: {metaData: {a: b}}\ninstances: [{domain: lab 0}]\n",
            "lab.yaml:3: osProfile.computerName: \"lab 0\" of lab 0 is no host name");
    refused(HEAD "osProfile: {computerName: \"x-@{instance.role}\"}\ninstances: [{domain: a, role: web}, {domain: b, "
                 "role: w_b}]\n",
            "lab.yaml:3: osProfile.computerName: \"x-w_b\" of b is no host name");
    /* its name is libvirt's to say */
    vr_model_free(
        parse(HEAD "osProfile: {metaData: {a: b}}\ninstances: [{domain: 11111111-2222-4333-8444-555555555555}]\n"));
}

static void test_templates(void **state)
{
    const char *values[VR_FIELDS] = {[VR_FIELD_NAME] = "web-0", [VR_FIELD_MAC] = "52:54:00:00:00:01"};
    static const struct {
        const char *text, *result; /* NULL: refused */
    } rows[] = {{"", ""},
                {"plain $HOME ${A} {{ v1.name }} {% if %} @ { @", "plain $HOME ${A} {{ v1.name }} {% if %} @ { @"},
                {"@{instance.name}", "web-0"},
                {"a@{instance.name}b@{instance.mac}c", "aweb-0b52:54:00:00:00:01c"},
                {"@@{instance.name}", "@{instance.name}"},
                {"@@@{instance.name}", "@@{instance.name}"},
                {"x@{instance.role}", NULL},
                {"@{instance.name\n}", NULL},
                {"@{Instance.name}", NULL}};

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *result = vr_template_expand(rows[i].text, values, NULL);
        assert_string_equal(result ? result : "-", rows[i].result ? rows[i].result : "-");
    }
    assert_true(vr_template_check("@{instance.role}", NULL)); /* another one may have it */
}

/* --- what a run reads ---------------------------------------------------------------------------------- */

typedef struct {
    char *dir;
} Stage;

static int set_up(void **state)
{
    Stage *stage = g_new0(Stage, 1);

    stage->dir = g_dir_make_tmp("vr-profile-XXXXXX", NULL);
    *state = stage;
    return 0;
}

static int tear_down(void **state)
{
    Stage *stage = *state;
    g_autoptr(GDir) dir = g_dir_open(stage->dir, 0, NULL);

    for (const char *name = g_dir_read_name(dir); name; name = g_dir_read_name(dir)) {
        g_autofree char *path = g_build_filename(stage->dir, name, NULL);
        unlink(path);
    }
    rmdir(stage->dir);
    g_free(stage->dir);
    g_free(stage);
    return 0;
}

static char *put(const Stage *stage, const char *name, const char *bytes, gssize length, mode_t mode)
{
    char *path = g_build_filename(stage->dir, name, NULL);

    assert_true(g_file_set_contents(path, bytes, length, NULL));
    assert_int_equal(chmod(path, mode), 0);
    return path;
}

static VrModel *model_with(const char *key, const char *path, const char *more)
{
    g_autofree char *section = g_strdup_printf("osProfile: {%s: {file: '%s'%s}}", key, path, more);

    return parse_with(section);
}

static void expect_refused(const VrModel *model, const char *text)
{
    g_autoptr(VrOsContent) content = NULL;
    g_autoptr(GError) error = NULL;

    assert_false(vr_os_content_load(model, &content, &error));
    assert_true(g_error_matches(error, VR_ERROR, VR_ERROR_REFUSED));
    if (!strstr(error->message, text))
        fail_msg("\"%s\" does not say \"%s\"", error->message, text);
}

static void test_files_that_are_refused(void **state) /* C5 */
{
    const Stage *stage = *state;
    g_autofree char *large = put(stage, "large", "", 0, 0600);
    g_autofree char *binary = put(stage, "binary", "a\0b", 3, 0600);
    g_autofree char *fifo = g_build_filename(stage->dir, "fifo", NULL),
                    *none = g_build_filename(stage->dir, "none", NULL);
    g_autofree char *unknown = put(stage, "unknown", "a\nb\n@{instance.nme}\n", -1, 0600);
    const struct {
        const char *key, *path, *more, *text;
    } rows[] = {
        {"customData", none, "", "osProfile.customData: "},
        {"customData", none, "", "none cannot be read: No such file or directory"},
        {"customData", fifo, "", "fifo is no regular file"},
        {"customData", "/dev/zero", "", "/dev/zero is no regular file"},
        {"customData", stage->dir, "", "is no regular file"},
        {"customData", large, "", "large has 16777216 bytes, at most 524288 can be given"},
        {"networkConfig", none, "", "osProfile.networkConfig: "},
        {"vendorData", none, "", "osProfile.vendorData: "},
        {"customData", binary, ", template: true", "binary: it is no UTF-8 text, so it cannot be a template"},
        {"customData", unknown, ", template: true", "unknown: line 3: there is no field @{instance.nme}"},
    };

    assert_int_equal(truncate(large, 16 * 1024 * 1024), 0);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(VrModel) model = model_with(rows[i].key, rows[i].path, rows[i].more);
        expect_refused(model, rows[i].text);
    }
    g_autofree char *options = put(stage, "a.pub", "restrict " ED25519 "\n", -1, 0600);
    g_autofree char *section =
        g_strdup_printf("osProfile: {linuxConfiguration: {ssh: {publicKeys: [{file: '%s'}]}}}", options);
    g_autoptr(VrModel) model = parse_with(section);
    expect_refused(model, "osProfile.linuxConfiguration.ssh.publicKeys[0]: ");
    expect_refused(model, "options before it are refused");
}

static void test_open_files(void **state) /* a secret that others may read: said, not refused */
{
    const Stage *stage = *state;
    g_autofree char *path = put(stage, "user-data", "#cloud-config\n", -1, 0644);
    g_autoptr(VrModel) model = model_with("customData", path, "");
    g_autoptr(GPtrArray) lines = vr_os_content_open_files(model);

    assert_int_equal(lines->len, 1);
    assert_non_null(strstr(lines->pdata[0], "user-data is open to every user of this host (mode 0644)"));
    assert_int_equal(chmod(path, 0640), 0);
    g_autoptr(GPtrArray) none = vr_os_content_open_files(model);
    assert_int_equal(none->len, 0);
}

/* A hypervisor of one domain that was renamed since the set was defined. */
static const char renamed[] =
    "<domain type='qemu'><name>web-7</name><uuid>11111111-2222-4333-8444-555555555555</uuid><devices>"
    "<interface type='user'><mac address='52:54:00:00:00:07'/></interface></devices></domain>";
static const char nameless[] = "<domain type='qemu'><name>web 7</name></domain>";

static char *say_xml(VrHv *hv, const char *uuid, GError **error)
{
    return g_strdup(*(const char **)(hv + 1));
}

static VrSeed *seed_of(const VrModel *model, const char *xml, GError **error)
{
    static const VrHvOps ops = {.inactive_xml = say_xml};
    struct {
        VrHv hv;
        const char *xml;
    } fake = {.hv = {.ops = &ops}, .xml = xml};
    VrInstance instance = {
        .uuid = "11111111-2222-4333-8444-555555555555", .domain = (char *)"lab-0", .upgrade_domain = 3};
    g_autoptr(GPtrArray) instances = g_ptr_array_new();
    VrSet set = {.name = (char *)"lab", .instances = instances};
    const VrImage image = {.name = (char *)"debian-12", .version = (char *)"12.1.0"};
    g_autoptr(VrOsContent) content = NULL;

    g_ptr_array_add(instances, &instance);
    if (!vr_os_content_load(model, &content, error))
        return NULL;
    VrSeed *seed = NULL;
    assert_true(vr_os_content_seed(content, &set, 0, &image, &fake.hv, &seed, error) == (seed != NULL));
    return seed;
}

static void expect_bytes(GBytes *bytes, const char *text)
{
    gsize length;
    const char *is = g_bytes_get_data(bytes, &length);

    assert_int_equal(length, strlen(text));
    assert_memory_equal(is, text, length);
}

static void test_a_seed(void **state) /* C1, C2, C6, C7 */
{
    const Stage *stage = *state;
    g_autoptr(GError) error = NULL;
    g_autofree char *data = put(stage, "user-data", "name: @{instance.name}\ntoken: one\n", -1, 0600);
    g_autofree char *key = put(stage, "a.pub", ED25519 " \"ops\"\n", -1, 0600);
    g_autofree char *section = g_strdup_printf(
        "osProfile:\n  computerName: \"@{instance.name}.shop\"\n  customData: {file: '%s', template: true}\n"
        "  vendorData: {text: \"@{instance.name}\"}\n"
        "  networkConfig: {text: \"mac: @{instance.mac}\", template: true}\n"
        "  metaData: {env: \"pr\\\"od\", where: "
        "\"@{set.name}/@{instance.upgradeDomain}/@{image.name}/@{image.version}\"}\n"
        "  linuxConfiguration: {ssh: {publicKeys: [{keyData: " ED25519 "}, {file: '%s'}]}}",
        data, key);
    g_autoptr(VrModel) model = parse_with(section);
    g_autoptr(VrSeed) seed = seed_of(model, renamed, &error);
    struct rlimit core;

    assert_null(error);
    expect_bytes(seed->user_data, "name: web-7\ntoken: one\n");
    expect_bytes(seed->vendor_data, "@{instance.name}"); /* only where it was asked for */
    expect_bytes(seed->network_config, "mac: 52:54:00:00:00:07");
    expect_bytes(seed->meta_data,
                 "local-hostname: \"web-7.shop\"\nenv: \"pr\\\"od\"\nwhere: \"lab/3/debian-12/12.1.0\"\n"
                 "public-keys:\n- \"" ED25519 "\"\n- \"" ED25519 " \\\"ops\\\"\"\n");
    assert_int_equal(getrlimit(RLIMIT_CORE, &core), 0);
    assert_int_equal(core.rlim_cur, 1); /* 0 lets one go into a pipe */
    /* renewed, it is read anew (C11) */
    g_autofree char *before = vr_seed_digest(seed);
    assert_true(g_file_set_contents(data, "token: two\n", -1, NULL));
    g_autoptr(VrSeed) next = seed_of(model, renamed, NULL);
    g_autofree char *after = vr_seed_digest(next);
    expect_bytes(next->user_data, "token: two\n");
    assert_string_not_equal(before, after);
    assert_null(seed_of(model, nameless, &error));
    assert_true(g_error_matches(error, VR_ERROR, VR_ERROR_REFUSED));
    assert_string_equal(error->message,
                        "'lab-0': osProfile.computerName: \"web 7.shop\" is no host name: letters, digits and "
                        "'-' in labels of 1 to 63, with dots between them");
}

static void test_no_profile(void **state)
{
    g_autoptr(VrModel) model = parse_with("");
    g_autoptr(VrOsContent) content = NULL;

    assert_true(vr_os_content_load(model, &content, NULL));
    assert_null(content);
}

/* A value of the model that may be a secret is in no message about a change. */
static void test_texts_are_not_shown(void **state)
{
    g_autoptr(VrModel) model = parse_with(PROFILE("customData: {text: \"pa55word\", template: true}"));
    g_autoptr(VrModel) other = parse_with(PROFILE("customData: {text: \"pa55worD\", template: true}"));
    g_autofree char *text = vr_model_data_text(&model->os_profile.custom_data);
    g_autofree char *differs = vr_model_data_text(&other->os_profile.custom_data);

    assert_null(strstr(text, "pa55word"));
    assert_true(g_str_has_prefix(text, "text of 8 bytes, SHA-256 "));
    assert_true(g_str_has_suffix(text, "..., a template"));
    assert_string_not_equal(text, differs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_computer_names),
        cmocka_unit_test(test_templates),
        cmocka_unit_test_setup_teardown(test_files_that_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_open_files, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_seed, set_up, tear_down),
        cmocka_unit_test(test_no_profile),
        cmocka_unit_test(test_texts_are_not_shown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
