/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a run makes of offlineConfiguration and carryOver (C5, C6, C8): files of this host, each read once, and what each instance gets of them. */
#include "orchestrator/model_text.h"

#include "orchestrator/os_content.h"

#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define ED25519 "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGW5zT0XQ3H0Xo0R8nqkG1v2hYl3mS7bC0d4w9pKxJ2a"
#define UUID "11111111-2222-4333-8444-555555555555"

static char *dir; /* of the files of a test */

static int set_up(void **state)
{
    dir = g_dir_make_tmp("vr-offline-XXXXXX", NULL);
    return 0;
}

static int tear_down(void **state)
{
    const char *argv[] = {"rm", "-r", dir, NULL};
    gboolean ok = g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL, NULL);

    g_clear_pointer(&dir, g_free);
    return ok ? 0 : 1;
}

static void put(const char *name, const char *bytes, gssize length, mode_t mode)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);

    assert_true(g_file_set_contents(path, bytes, length, NULL));
    assert_int_equal(chmod(path, mode), 0);
}

/* "{DIR}" in it is the directory. */
static VrModel *model_of(const char *keys)
{
    g_autoptr(GString) text = g_string_new(keys);

    g_string_replace(text, "{DIR}", dir, 0);
    return parse_with(text->str);
}

/* A hypervisor of one domain. */
static char *say_xml(VrHv *hv, const char *uuid, GError **error)
{
    return g_strdup("<domain type='qemu'><name>web-7</name><uuid>" UUID "</uuid></domain>");
}

static VrPersonal *personal_of(const VrModel *model, GError **error)
{
    static const VrHvOps ops = {.inactive_xml = say_xml};
    VrHv hv = {.ops = &ops};
    VrInstance instance = {.uuid = UUID, .domain = (char *)"lab-0"};
    g_autoptr(GPtrArray) instances = g_ptr_array_new();
    VrSet set = {.name = (char *)"lab", .instances = instances};
    const VrImage image = {.name = (char *)"debian-12", .version = (char *)"12.1.0"};
    g_autoptr(VrOsContent) content = NULL;
    g_autoptr(VrSeed) seed = NULL;
    VrPersonal *personal = NULL;
    gboolean ok;

    g_ptr_array_add(instances, &instance);
    if (!vr_os_content_load(model, &content, error))
        return NULL;
    assert_true(vr_os_content_seed(content, &set, 0, &image, &hv, &seed, NULL));
    assert_null(seed);
    ok = vr_os_content_personal(content, &set, 0, &image, &hv, &personal, error);
    assert_true(ok == (personal != NULL));
    return personal;
}

static void expect_file(const GPtrArray *files, guint index, const char *path, guint mode, const char *text)
{
    const VrGuestFile *file = g_ptr_array_index(files, index);
    gsize length;
    const char *bytes = g_bytes_get_data(file->data, &length);

    assert_string_equal(file->path, path);
    assert_int_equal(file->mode, mode);
    assert_int_equal(length, strlen(text));
    assert_memory_equal(bytes, text, length);
}

static void test_what_an_instance_gets(void **state)
{
    put("key.pub", ED25519 " ops\n", -1, 0644);
    put("tls", "name: @{instance.name}\n", -1, 0600);
    put("ssh_host_ed25519_key", "private", -1, 0600);
    put("ssh_host_ed25519_key.pub", "public", -1, 0644);
    put("once", "#!/bin/sh\necho @{set.name}\n", -1, 0600);
    g_autoptr(VrModel) model = model_of(
        "osProfile: {offlineConfiguration: {hostname: \"@{instance.name}.shop\", machineId: \"@{instance.uuid}\",\n"
        " timezone: UTC, sshHostKeys: '{DIR}', firstBoot: {file: '{DIR}/once', template: true},\n"
        " authorizedKeys: [{user: ops, file: '{DIR}/key.pub'}, {user: ops, keyData: " ED25519 "}],\n"
        " files: [{source: '{DIR}/tls', path: /etc/tls, mode: \"0640\", owner: \"0:adm\", template: true},\n"
        "  {text: \"@{x}\", path: /etc/plain}],\n"
        " networkFiles: [{text: \"@{image.version}\", path: /etc/netplan/a.yaml, template: true}]}}");
    g_autoptr(GError) error = NULL;
    g_autoptr(VrPersonal) personal = personal_of(model, &error);
    struct rlimit core;

    if (error)
        fail_msg("%s", error->message);
    assert_null(personal->disk);
    assert_string_equal(personal->hostname, "web-7.shop");
    assert_string_equal(personal->machine_id, "11111111222243338444555555555555");
    assert_string_equal(personal->timezone, "UTC");
    assert_int_equal(personal->host_keys->len, 2);
    expect_file(personal->host_keys, 0, "ssh_host_ed25519_key", 0600, "private");
    expect_file(personal->host_keys, 1, "ssh_host_ed25519_key.pub", 0644, "public");
    assert_int_equal(personal->authorized->len, 1);
    const VrPersonalKeys *keys = personal->authorized->pdata[0];
    assert_string_equal(keys->user, "ops");
    assert_string_equal(keys->keys->pdata[0], ED25519 " ops");
    assert_string_equal(keys->keys->pdata[1], ED25519);
    expect_file(personal->files, 0, "/etc/tls", 0640, "name: web-7\n");
    assert_string_equal(((const VrGuestFile *)personal->files->pdata[0])->owner, "0:adm");
    expect_file(personal->files, 1, "/etc/plain", 0600, "@{x}");
    expect_file(personal->network, 0, "/etc/netplan/a.yaml", 0600, "12.1.0");
    gsize length;
    const char *script = g_bytes_get_data(personal->first_boot, &length);
    assert_int_equal(length, strlen("#!/bin/sh\necho lab\n"));
    assert_memory_equal(script, "#!/bin/sh\necho lab\n", length);
    assert_false(personal->no_relabel);
    assert_int_equal(getrlimit(RLIMIT_CORE, &core), 0);
    assert_int_equal(core.rlim_cur, 1); /* 0 lets one go into a pipe */
}

static void test_what_is_refused(void **state) /* C5 */
{
    static const struct {
        const char *keys, *text;
    } rows[] = {
        {"files: [{source: '{DIR}/none', path: /a}]",
         "osProfile.offlineConfiguration.files[0]: {DIR}/none cannot be read: No such file or directory"},
        {"files: [{text: a, path: /a}, {source: '{DIR}/fifo', path: /b}]", "files[1]: {DIR}/fifo is no regular file"},
        {"files: [{source: '{DIR}/large', path: /a}]", "{DIR}/large has 16777217 bytes, at most 16777216 can be given"},
        {"files: [{source: '{DIR}/binary', path: /a, template: true}]", "{DIR}/binary: it is no UTF-8 text"},
        {"networkFiles: [{source: '{DIR}/none', path: /etc/netplan/a}]", "networkFiles[0]: {DIR}/none cannot be read"},
        {"firstBoot: {file: '{DIR}/binary'}",
         "'lab-0': osProfile.offlineConfiguration: the first-boot script does not begin with '#!'"},
        {"unattend: {text: a}", "osProfile.offlineConfiguration: the answer file for Windows is no XML"},
        {"unattend: {file: '{DIR}/none'}", "osProfile.offlineConfiguration.unattend: {DIR}/none cannot be read"},
        {"authorizedKeys: [{user: a, file: '{DIR}/options.pub'}]",
         "osProfile.offlineConfiguration.authorizedKeys[0]: {DIR}/options.pub: what is in it must begin with the type"},
        {"sshHostKeys: '{DIR}/none'",
         "'lab-0': osProfile.offlineConfiguration.sshHostKeys: {DIR}/none has none of ssh_host_rsa_key"},
        {"sshHostKeys: '{DIR}/@{instance.role}'", "sshHostKeys: line 1: @{instance.role}: it has none"},
        {"sshHostKeys: '{DIR}'", "is a secret that every user of this host may use (mode 0644)"},
        {"files: [{text: \"@{instance.zone}\", path: /a, template: true}]",
         "files[0]: line 1: @{instance.zone}: it has"},
    };

    put("large", "", 0, 0600);
    put("binary", "a\0b", 3, 0600);
    put("options.pub", "restrict " ED25519 "\n", -1, 0600);
    put("ssh_host_rsa_key", "private", -1, 0644);
    g_autofree char *large = g_build_filename(dir, "large", NULL), *fifo = g_build_filename(dir, "fifo", NULL);
    assert_int_equal(truncate(large, 16 * 1024 * 1024 + 1), 0);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *section = g_strdup_printf("osProfile: {offlineConfiguration: {%s}}", rows[i].keys);
        g_autoptr(VrModel) model = model_of(section);
        g_autoptr(GError) error = NULL;
        g_autoptr(VrPersonal) personal = personal_of(model, &error);
        g_autoptr(GString) text = g_string_new(rows[i].text);

        g_string_replace(text, "{DIR}", dir, 0);
        assert_null(personal);
        assert_true(g_error_matches(error, VR_ERROR, VR_ERROR_REFUSED));
        if (!strstr(error->message, text->str))
            fail_msg("\"%s\" does not say \"%s\"", error->message, text->str);
    }
}

/* C11: by which apply sees that a file has other content, and that what is carried over is nobody's content. */
static void test_digests(void **state)
{
    put("tls", "one", -1, 0600);
    g_autoptr(VrModel) model =
        model_of("osProfile: {offlineConfiguration: {files: [{source: '{DIR}/tls', path: /a}]}}");
    g_autoptr(VrModel) carry = model_of("osProfile: {carryOver: [/a]}");
    g_autoptr(VrPersonal) one = personal_of(model, NULL), same = personal_of(model, NULL),
                          none = personal_of(carry, NULL);
    const VrSeed seed = {0};
    put("tls", "two", -1, 0600);
    g_autoptr(VrPersonal) two = personal_of(model, NULL), disk = vr_personal_copy(one, "/disk", VR_FORMAT_RAW);
    g_autofree char *of_one = vr_swap_content_digest(NULL, one), *of_same = vr_swap_content_digest(NULL, same),
                    *of_two = vr_swap_content_digest(NULL, two), *of_disk = vr_swap_content_digest(NULL, disk),
                    *of_seed = vr_swap_content_digest(&seed, none), *seed_alone = vr_seed_digest(&seed),
                    *both = vr_swap_content_digest(&seed, one), *other = vr_swap_content_digest(&seed, two);

    assert_string_equal(of_one, of_same);
    assert_string_equal(of_one, of_disk);
    assert_string_not_equal(of_one, of_two);
    assert_string_equal(of_seed, seed_alone);
    assert_string_not_equal(both, seed_alone);
    assert_string_not_equal(both, of_one);
    assert_string_not_equal(both, other);
    assert_null(vr_swap_content_digest(NULL, none));
}

static void test_windows(void **state) /* C9 */
{
    g_autoptr(VrModel) model = model_of("osProfile: {offlineConfiguration: {unattend: {text: \"<unattend><!-- "
                                        "@{instance.name} -->\", template: true}}}");
    g_autoptr(VrPersonal) personal = personal_of(model, NULL);

    assert_int_equal(g_bytes_get_size(personal->unattend), strlen("<unattend><!-- web-7 -->"));
}

static void test_all_together_are_too_large(void **state)
{
    put("large", "", 0, 0600);
    g_autofree char *large = g_build_filename(dir, "large", NULL);
    assert_int_equal(truncate(large, 16 * 1024 * 1024), 0);
    g_autoptr(VrModel) model =
        model_of("osProfile: {offlineConfiguration: {files: [{source: '{DIR}/large', path: /a},\n"
                 "{source: '{DIR}/large', path: /b}, {source: '{DIR}/large', path: /c},\n"
                 "{source: '{DIR}/large', path: /d}, {text: a, path: /e}]}}");
    g_autoptr(GError) error = NULL;

    assert_null(personal_of(model, &error));
    assert_non_null(strstr(error->message, "files[4]: with it all files together have more than 64 MiB"));
}

static void test_what_is_carried_over(void **state)
{
    g_autoptr(VrModel) model =
        model_of("osProfile: {carryOver: [/srv/a, machine-id, /b], carryOverFrom: disk, offlineConfiguration: "
                 "{selinuxRelabel: false}}");
    g_autoptr(VrOsContent) content = NULL;
    g_autoptr(VrPersonal) personal = personal_of(model, NULL);

    assert_true(vr_os_content_load(model, &content, NULL));
    const VrCarryOver *carry = vr_os_content_carry(content);
    assert_true(carry->machine_id);
    assert_false(carry->host_keys);
    assert_true(carry->from_disk);
    assert_string_equal(carry->paths[0], "/srv/a");
    assert_string_equal(carry->paths[1], "/b");
    assert_null(carry->paths[2]);
    assert_true(personal->no_relabel); /* there is nothing else in it */
    assert_null(vr_os_content_personalize(content));
}

static void test_none(void **state)
{
    g_autoptr(VrModel) model = parse_with("osProfile: {offlineConfiguration: {selinuxRelabel: false}}");
    g_autoptr(VrOsContent) content = NULL;

    assert_true(vr_os_content_load(model, &content, NULL));
    assert_null(content);
}

/* Where the appliance is kept: of the store, for nobody else, and only for a model that needs it. */
static void test_where_it_is_written(void **state)
{
    g_autoptr(VrModel) model = model_of("osProfile: {offlineConfiguration: {timezone: UTC}}");
    g_autofree char *root = g_build_filename(dir, "store", NULL);
    g_autofree char *appliance = g_build_filename(root, "appliance", NULL);
    g_autoptr(VrStore) store = vr_store_open(root, FALSE, NULL);
    g_autoptr(VrOsContent) content = NULL;
    struct stat st;

    assert_non_null(store);
    assert_true(vr_os_content_load(model, &content, NULL));
    for (guint i = 0; i < 2; i++) /* the second run finds it */
        assert_true(vr_os_content_prepare(content, store, NULL));
    assert_string_equal(vr_os_content_personalize(content)->work_dir, appliance);
    assert_int_equal(stat(appliance, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_what_an_instance_gets, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_digests, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_windows, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_all_together_are_too_large, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_carried_over, set_up, tear_down),
        cmocka_unit_test(test_none),
        cmocka_unit_test_setup_teardown(test_where_it_is_written, set_up, tear_down),
    };
    g_autoptr(GError) why = NULL;

    if (!vr_personalize_is_possible(&why)) {
        fprintf(stderr, "skipped: %s; 'packaging/deps lab' installs it\n", why->message);
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
