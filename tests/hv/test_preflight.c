/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Each finding by itself, on a domain that is otherwise fine. Rows B12, B18. */
#include "hv/support.h"

#include "hv/preflight.h"

typedef struct {
    VrDomainInfo info;
    VrDomainDef *def;
    VrPreflightNeeds needs;
} Case;

static Case new_case(const char *name)
{
    g_autofree char *xml = fixture(name);
    Case c = {.info = {.state = VR_DOMAIN_RUNNING, .persistent = TRUE}, .def = vr_domain_def_parse(xml, NULL)};

    c.info.name = g_strdup(c.def->name);
    return c;
}

static void case_clear(Case *c)
{
    vr_domain_info_clear(&c->info);
    vr_domain_def_free(c->def);
}

static const VrFinding *find(const GPtrArray *findings, const char *id)
{
    for (guint i = 0; i < findings->len; i++) {
        const VrFinding *finding = g_ptr_array_index(findings, i);
        if (strcmp(finding->id, id) == 0)
            return finding;
    }
    return NULL;
}

/* The case has this finding, with both texts; clears the case. */
static void expect(Case *c, const char *id, VrSeverity severity)
{
    g_autoptr(GPtrArray) findings = vr_preflight(&c->info, c->def, &c->needs);
    const VrFinding *finding = find(findings, id);

    if (finding == NULL)
        fail_msg("no finding %s", id);
    assert_int_equal(finding->severity, severity);
    assert_non_null(strstr(finding->text, c->def->name));
    assert_true(finding->remedy[0] != '\0');
    assert_true((vr_preflight_blocker(findings) != NULL) >= (severity == VR_SEVERITY_BLOCKER));
    case_clear(c);
}

static void a_good_domain_has_no_findings(void **state)
{
    static const VrDomainState good[] = {VR_DOMAIN_RUNNING, VR_DOMAIN_OFF};
    static const char *const fixtures[] = {"rich.xml", "block.xml"};

    for (gsize f = 0; f < G_N_ELEMENTS(fixtures); f++) {
        Case c = new_case(fixtures[f]);
        for (gsize i = 0; i < G_N_ELEMENTS(good); i++) {
            g_autoptr(GError) error = NULL;
            c.info.state = good[i];
            c.info.autostart = TRUE;
            g_autoptr(GPtrArray) findings = vr_preflight(&c.info, c.def, &c.needs);
            assert_int_equal(findings->len, 0);
            assert_null(vr_preflight_blocker(findings));
            assert_true(vr_preflight_require(findings, "x", &error));
        }
        case_clear(&c);
    }
}

static void each_state_that_is_neither_running_nor_off(void **state)
{
    static const VrDomainState bad[] = {VR_DOMAIN_PAUSED, VR_DOMAIN_STOPPING, VR_DOMAIN_CRASHED, VR_DOMAIN_SUSPENDED,
                                        VR_DOMAIN_UNKNOWN};

    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        Case c = new_case("rich.xml");
        c.info.state = bad[i];
        expect(&c, "not-running-or-off", VR_SEVERITY_BLOCKER);
    }
    Case full = new_case("rich.xml");
    full.info.state = VR_DOMAIN_PAUSED;
    full.info.reason = VR_REASON_IO_ERROR;
    g_autoptr(GPtrArray) findings = vr_preflight(&full.info, full.def, &full.needs);
    assert_non_null(strstr(find(findings, "not-running-or-off")->text, "I/O error"));
    case_clear(&full);
    Case away = new_case("rich.xml");
    away.info.state = VR_DOMAIN_OFF;
    away.info.reason = VR_REASON_MIGRATED;
    expect(&away, "migrated", VR_SEVERITY_BLOCKER);
}

static void what_libvirt_says_of_the_domain(void **state)
{
    Case saved = new_case("rich.xml");
    saved.info.managed_save = TRUE;
    expect(&saved, "managed-save", VR_SEVERITY_BLOCKER);
    Case snapshots = new_case("rich.xml");
    snapshots.info.snapshots = 2;
    expect(&snapshots, "snapshots", VR_SEVERITY_BLOCKER);
    Case checkpoints = new_case("rich.xml");
    checkpoints.info.checkpoints = 1;
    expect(&checkpoints, "checkpoints", VR_SEVERITY_BLOCKER);
    Case job = new_case("rich.xml");
    job.info.job = g_strdup("block copy on vda");
    expect(&job, "job", VR_SEVERITY_BLOCKER);
    Case transient = new_case("rich.xml");
    transient.info.persistent = FALSE;
    expect(&transient, "transient-domain", VR_SEVERITY_BLOCKER);
}

static void what_the_xml_says(void **state)
{
    static const struct {
        const char *target, *id;
        VrSeverity severity;
    } cases[] = {
        {"vda", "transient-disk", VR_SEVERITY_BLOCKER},
        {"vda", "shareable-disk", VR_SEVERITY_BLOCKER},
        {"vda", "os-disk-not-first-boot", VR_SEVERITY_BLOCKER}, /* <boot dev='network'/> first */
        {"vda", "uefi-nvram", VR_SEVERITY_BLOCKER},
        {"vda", "tpm", VR_SEVERITY_WARNING},
        {"vda", "on-poweroff", VR_SEVERITY_BLOCKER},
        {"vda", "on-reboot", VR_SEVERITY_WARNING},
        {"vda", "on-crash", VR_SEVERITY_WARNING},
        {"vdb", "network-disk", VR_SEVERITY_BLOCKER},
        {"vdb", "os-disk-not-first-boot", VR_SEVERITY_BLOCKER},
        {"vdc", "mirror", VR_SEVERITY_BLOCKER},
        {"vdc", "readonly-disk", VR_SEVERITY_BLOCKER},
        {"vdc", "unknown-source-child", VR_SEVERITY_BLOCKER},
        {NULL, "ambiguous-os-disk", VR_SEVERITY_BLOCKER},
    };

    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        Case c = new_case("volume.xml");
        c.needs.os_target = cases[i].target;
        expect(&c, cases[i].id, cases[i].severity);
    }
    Case agent = new_case("block.xml");
    agent.needs.needs_agent = TRUE;
    expect(&agent, "no-agent", VR_SEVERITY_BLOCKER);
    Case kernel = new_case("rich.xml");
    kernel.def->kernel = g_strdup("/boot/vmlinuz");
    expect(&kernel, "direct-kernel-boot", VR_SEVERITY_WARNING);
    Case cdrom = new_case("rich.xml");
    cdrom.needs.os_target = "hda";
    expect(&cdrom, "not-a-disk", VR_SEVERITY_BLOCKER);
}

static void boot_order_of_devices(void **state)
{
    Case second = new_case("rich.xml"); /* vdc has <boot order='2'/> */
    second.needs.os_target = "vdc";
    expect(&second, "os-disk-not-first-boot", VR_SEVERITY_BLOCKER);
    Case none = new_case("rich.xml");
    none.needs.os_target = "vdb";
    expect(&none, "os-disk-not-first-boot", VR_SEVERITY_BLOCKER);
}

static void require_names_all_blockers_and_blockers_come_first(void **state)
{
    g_autoptr(GError) error = NULL;
    Case c = new_case("volume.xml");

    c.info.managed_save = TRUE;
    c.needs.os_target = "vda";
    g_autoptr(GPtrArray) findings = vr_preflight(&c.info, c.def, &c.needs);
    gboolean warned = FALSE;
    for (guint i = 0; i < findings->len; i++) {
        const VrFinding *finding = g_ptr_array_index(findings, i);
        assert_false(warned && finding->severity == VR_SEVERITY_BLOCKER);
        warned = finding->severity == VR_SEVERITY_WARNING;
    }
    assert_true(warned);
    /* The remedy can be typed: the name is quoted where a shell needs it. */
    assert_non_null(strstr(find(findings, "managed-save")->remedy, "virsh managedsave-remove 'in: a pool ä'"));
    assert_false(vr_preflight_require(findings, "web-0", &error));
    assert_non_null(strstr(error->message, "[uefi-nvram]"));
    expect_error(&error, VR_ERROR_REFUSED, "[managed-save]");
    case_clear(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_domain_has_no_findings),
        cmocka_unit_test(each_state_that_is_neither_running_nor_off),
        cmocka_unit_test(what_libvirt_says_of_the_domain),
        cmocka_unit_test(what_the_xml_says),
        cmocka_unit_test(boot_order_of_devices),
        cmocka_unit_test(require_names_all_blockers_and_blockers_come_first),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
