/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Each finding by itself, on a domain that is otherwise fine, and what is near to it and none. Rows B11, B12, B18, B22. */
#include "hv/support.h"

#include "hv/preflight.h"

typedef struct {
    VrDomainInfo info;
    VrDomainDef *def;
    VrPreflightNeeds needs;
    VrPreflightFacts facts;
} Case;

static Case case_of(const char *xml)
{
    Case c = {.info = {.state = VR_DOMAIN_RUNNING, .persistent = TRUE, .autostart = TRUE},
              .def = vr_domain_def_parse(xml, NULL)};

    c.info.name = g_strdup(c.def->name);
    return c;
}

static Case new_case(const char *name)
{
    g_autofree char *xml = fixture(name);

    return case_of(xml);
}

static Case edited_case(const char *name, const char *from, const char *to)
{
    g_autofree char *xml = fixture(name);
    g_autofree char *edited = replaced(xml, from, to);

    return case_of(edited);
}

static void case_clear(Case *c)
{
    vr_domain_info_clear(&c->info);
    vr_domain_def_free(c->def);
    vr_preflight_facts_clear(&c->facts);
}

static GPtrArray *findings_of(Case *c)
{
    c->needs.facts = &c->facts;
    return vr_preflight(&c->info, c->def, &c->needs);
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

static void expect_remedy(Case *c, const char *id, const char *words)
{
    g_autoptr(GPtrArray) findings = findings_of(c);
    const VrFinding *finding = find(findings, id);

    assert_non_null(finding);
    assert_non_null(strstr(finding->remedy, words));
}

/* The case has this finding, with both texts; clears the case. */
static void expect(Case *c, const char *id, VrSeverity severity)
{
    g_autoptr(GPtrArray) findings = findings_of(c);
    const VrFinding *finding = find(findings, id);

    if (finding == NULL)
        fail_msg("no finding %s", id);
    assert_int_equal(finding->severity, severity);
    assert_non_null(strstr(finding->text, c->def->name));
    assert_true(finding->remedy[0] != '\0');
    assert_true((vr_preflight_blocker(findings) != NULL) >= (severity == VR_SEVERITY_BLOCKER));
    case_clear(c);
}

/* Nothing at all; clears the case. */
static void expect_none(Case *c)
{
    g_autoptr(GPtrArray) findings = findings_of(c);

    if (findings->len > 0)
        fail_msg("unexpected: %s", ((const VrFinding *)findings->pdata[0])->text);
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
    job.facts.job = g_strdup("block copy on vda");
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
    Case off = new_case("block.xml");
    off.needs.needs_agent = TRUE;
    off.info.state = VR_DOMAIN_OFF;
    expect_none(&off);
    Case kernel = new_case("rich.xml");
    kernel.def->kernel = g_strdup("/boot/vmlinuz");
    expect(&kernel, "direct-kernel-boot", VR_SEVERITY_WARNING);
    Case nvram = new_case("rich.xml");
    nvram.def->nvram_foreign = g_strdup("type 'network'");
    expect(&nvram, "uefi-nvram", VR_SEVERITY_BLOCKER);
    Case cdrom = new_case("rich.xml");
    cdrom.needs.os_target = "hda";
    expect(&cdrom, "not-a-disk", VR_SEVERITY_BLOCKER);
}

/* B12: by serial, WWN with or without 0x, or target. */
static void protected_disks(void **state)
{
    static const struct {
        const char *names[3], *os_target, *temp, *finding;
    } cases[] = {
        {{"DATA01", "DATA02"}, NULL, NULL, NULL},
        {{"vdb"}, NULL, NULL, NULL},
        {{"0x5000C500A1B2C3D4"}, NULL, NULL, NULL},
        {{"DATA01", "OS01"}, NULL, NULL, "protected-disk"},
        {{"DATA01"}, "vdb", NULL, "protected-disk"}, /* the model was mistaken, or targets moved */
        {{"5000c500a1b2c3d4"}, "vdb", NULL, "protected-disk"},
        {{"DATA01"}, NULL, "vdb", "protected-disk"},
        {{"DATA01", "DATA03"}, NULL, NULL, "protected-disk-missing"},
        {{"data01"}, NULL, NULL, "protected-disk-missing"}, /* a serial is a text */
    };

    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        Case c = new_case("rich.xml");
        const char *temp[] = {cases[i].temp, NULL};
        VrDomainDisk *data = (VrDomainDisk *)vr_domain_def_os_disk(c.def, "vdb", NULL);

        data->wwn = g_strdup("5000c500a1b2c3d4");
        c.needs.os_target = cases[i].os_target;
        c.needs.protected_disks = cases[i].names;
        c.needs.temp_targets = temp;
        if (cases[i].finding)
            expect(&c, cases[i].finding, VR_SEVERITY_BLOCKER);
        else
            expect_none(&c);
    }
}

/* H7: nobody is there to be told where the guest is off, and whoever has an agent that answers is told. */
static void notice_needs_an_agent(void **state)
{
    static const struct {
        gboolean channel, silent, off;
        const char *id;
    } cases[] = {{FALSE, FALSE, FALSE, "no-agent-for-notice"},
                 {TRUE, TRUE, FALSE, "no-agent-for-notice"},
                 {TRUE, FALSE, FALSE, NULL},
                 {FALSE, FALSE, TRUE, NULL}};

    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        for (VrNoticeNeed need = VR_NOTICE_NONE; need <= VR_NOTICE_REQUIRED; need++) {
            Case c = new_case("block.xml");
            g_autoptr(GPtrArray) findings = NULL;
            const VrFinding *required, *wanted;

            c.def->agent_channel = cases[i].channel;
            c.facts.agent_silent = cases[i].silent;
            c.info.state = cases[i].off ? VR_DOMAIN_OFF : VR_DOMAIN_RUNNING;
            c.needs.notice = need;
            findings = findings_of(&c);
            required = find(findings, "no-agent-for-notice");
            wanted = find(findings, "goes-without-notice");
            assert_int_equal(required != NULL, cases[i].id != NULL && need == VR_NOTICE_REQUIRED);
            assert_int_equal(wanted != NULL, cases[i].id != NULL && need == VR_NOTICE_IF_POSSIBLE);
            if (required != NULL)
                assert_int_equal(required->severity, VR_SEVERITY_BLOCKER);
            if (wanted != NULL)
                assert_int_equal(wanted->severity, VR_SEVERITY_WARNING);
            case_clear(&c);
        }
    }
}

static void later_in_boot_order(gpointer data, gpointer unused)
{
    VrDomainDisk *disk = data;

    disk->boot_order += disk->boot_order > 0 ? 1 : 0;
}

static void boot_order_of_devices(void **state)
{
    Case second = new_case("rich.xml"); /* vdc has <boot order='2'/> */
    second.needs.os_target = "vdc";
    expect_remedy(&second, "os-disk-not-first-boot",
                  "where vda is the OS disk, set osDisk.target to it; else virsh edit");
    expect(&second, "os-disk-not-first-boot", VR_SEVERITY_BLOCKER);
    Case none = new_case("rich.xml");
    none.needs.os_target = "vdb";
    expect(&none, "os-disk-not-first-boot", VR_SEVERITY_BLOCKER);
    Case network = edited_case("rich.xml", "<mac address='52:54:00:aa:bb:01'",
                               "<boot order='1'/><mac address='52:54:00:aa:bb:01'");
    g_ptr_array_foreach(network.def->disks, later_in_boot_order, NULL);
    network.needs.os_target = "vda";
    expect(&network, "os-disk-not-first-boot", VR_SEVERITY_BLOCKER);
    Case last = edited_case("rich.xml", "<mac address='52:54:00:aa:bb:01'",
                            "<boot order='9'/><mac address='52:54:00:aa:bb:01'");
    expect_none(&last);
}

/* The older spelling of libvirt's, which it keeps. */
static void encryption_beside_the_source(void **state)
{
    Case old = edited_case("rich.xml", "<target dev='vda'", "<encryption format='luks'/><target dev='vda'");
    expect(&old, "unknown-source-child", VR_SEVERITY_BLOCKER);
}

/* What libvirt does with a new disk at a start. */
static void labels_of_the_disks(void **state)
{
    static const struct {
        const char *label;
        gboolean found;
    } cases[] = {
        {"", FALSE},
        {"<seclabel type='dynamic' model='dac' relabel='yes'/>", FALSE},
        {"<seclabel type='dynamic' model='selinux' relabel='yes'/>", FALSE},
        {"<seclabel type='static' model='dac' relabel='yes'><label>+1:+1</label></seclabel>", FALSE},
        {"<seclabel type='static' model='dac' relabel='no'><label>+1:+1</label></seclabel>", TRUE},
        {"<seclabel type='static' model='dac'><label>+1:+1</label></seclabel>", TRUE},
        {"<seclabel type='static' model='selinux' relabel='no'><label>x</label></seclabel>", TRUE},
        {"<seclabel type='none' model='dac'/>", TRUE},
        {"<seclabel type='none' model='selinux'/>", TRUE},
        {"<seclabel type='none'/>", FALSE},
        {"<seclabel type='static' model='apparmor'><label>p</label></seclabel>", FALSE},
        {"<seclabel type='dynamic' model='apparmor' relabel='yes'/>", FALSE},
        {"<seclabel type='dynamic' model='selinux' relabel='yes'/><seclabel type='static' model='dac' relabel='no'/>",
         TRUE},
    };

    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *with = g_strconcat(cases[i].label, "<devices>", NULL);
        Case c = edited_case("rich.xml", "<devices>", with);
        if (cases[i].found)
            expect(&c, "disks-not-labelled", VR_SEVERITY_BLOCKER);
        else
            expect_none(&c);
    }
}

/* What is found out beside libvirt's words; and what was looked at, and is fine. */
static void facts_of_disk_and_host(void **state)
{
    Case volume = new_case("rich.xml");
    volume.facts.no_local_path = g_strdup("pool 'p' is not active");
    expect(&volume, "volume-not-local", VR_SEVERITY_BLOCKER);
    Case shared = new_case("rich.xml");
    shared.facts.shared_with = g_strdup("web-1");
    expect(&shared, "shared-os-disk", VR_SEVERITY_BLOCKER);
    Case changed = new_case("rich.xml");
    changed.facts.should_be = g_strdup("/var/lib/x/g1.qcow2");
    changed.facts.generation = 1;
    expect(&changed, "os-disk-changed", VR_SEVERITY_BLOCKER);
    Case rollback = new_case("rich.xml");
    rollback.facts.rollback_in_use = g_strdup("generation 0, as its disk /x is held by a process");
    expect(&rollback, "rollback-disk-in-use", VR_SEVERITY_BLOCKER);
    Case snapshot = new_case("rich.xml");
    snapshot.facts.internal_snapshots = 1;
    expect(&snapshot, "internal-snapshot", VR_SEVERITY_BLOCKER);
    Case chain = new_case("rich.xml");
    chain.facts.backing = g_strdup("/var/lib/x/base.qcow2");
    expect(&chain, "backing-chain", VR_SEVERITY_WARNING);
    Case scheduled = new_case("rich.xml");
    scheduled.facts.host_shutdown = g_strdup("reboot at 2026-11-22 23:00");
    expect(&scheduled, "host-shutdown-scheduled", VR_SEVERITY_BLOCKER);
    Case stopping = new_case("rich.xml");
    stopping.facts.host_stopping = g_strdup("systemctl says so");
    expect(&stopping, "host-stopping", VR_SEVERITY_BLOCKER);
}

static void autostart_of_what_runs(void **state)
{
    Case off = new_case("rich.xml");
    off.info.autostart = FALSE;
    off.info.state = VR_DOMAIN_OFF;
    expect_none(&off);
    Case on = new_case("rich.xml");
    on.info.autostart = FALSE;
    expect(&on, "no-autostart", VR_SEVERITY_WARNING);
}

static VrDomainDisk *disk_of(Case *c, const char *target)
{
    c->needs.os_target = target;
    return (VrDomainDisk *)vr_domain_def_os_disk(c->def, target, NULL);
}

static void data_disks_without_a_name_that_stays(void **state) /* B11 */
{
    Case none = new_case("rich.xml");
    g_clear_pointer(&disk_of(&none, "vdb")->serial, g_free);
    g_clear_pointer(&disk_of(&none, "vdc")->serial, g_free);
    disk_of(&none, "vda");
    g_autoptr(GPtrArray) findings = findings_of(&none);
    assert_non_null(strstr(find(findings, "data-disk-no-serial")->text, "vdb, vdc"));
    expect(&none, "data-disk-no-serial", VR_SEVERITY_WARNING);
    Case wwn = new_case("rich.xml");
    g_clear_pointer(&disk_of(&wwn, "vdb")->serial, g_free);
    disk_of(&wwn, "vdb")->wwn = g_strdup("5000c50015ea71aa");
    disk_of(&wwn, "vda");
    expect_none(&wwn);
    Case os = new_case("rich.xml"); /* the OS disk's is of no use to anybody */
    g_clear_pointer(&disk_of(&os, "vda")->serial, g_free);
    expect_none(&os);
}

static void the_bus_of_the_os_disk(void **state)
{
    static const char *const buses[] = {"virtio", "scsi", "sata", "ide", "usb", "sd", "fdc"};

    for (gsize i = 0; i < G_N_ELEMENTS(buses); i++) {
        Case c = new_case("rich.xml");
        g_free(disk_of(&c, "vda")->bus);
        disk_of(&c, "vda")->bus = g_strdup(buses[i]);
        if (i < 4)
            expect_none(&c);
        else
            expect(&c, "os-disk-bus", VR_SEVERITY_WARNING);
    }
}

typedef struct {
    gboolean bios, uefi;
    const char *arch;
    guint sector;
    gboolean guest_uefi;
    const char *guest_arch;
    guint guest_block;
    const char *finding; /* NULL: none */
    VrSeverity severity;
} Meeting;

static void meet(const Meeting *m)
{
    Case c = new_case("rich.xml");

    c.facts.image = (VrPreflightImage){.name = "os",
                                       .version = "2",
                                       .known = TRUE,
                                       .bios = m->bios,
                                       .uefi = m->uefi,
                                       .arch = m->arch,
                                       .sector = m->sector};
    g_free(c.def->arch);
    c.def->arch = g_strdup(m->guest_arch);
    disk_of(&c, "vda")->logical_block_size = m->guest_block;
    if (m->guest_uefi) {
        c.def->uefi = TRUE;
        g_autoptr(GPtrArray) findings = findings_of(&c);
        assert_true((find(findings, "image-firmware") != NULL) == (g_strcmp0(m->finding, "image-firmware") == 0));
        case_clear(&c);
    } else if (m->finding != NULL) {
        expect(&c, m->finding, m->severity);
    } else {
        expect_none(&c);
    }
}

static void an_image_and_the_guest_that_is_to_run_it(void **state) /* B22 */
{
    static const Meeting meetings[] = {
        {TRUE, FALSE, NULL, 0, FALSE, "x86_64", 0, NULL, 0},
        {TRUE, TRUE, "x86_64", 512, FALSE, "x86_64", 512, NULL, 0},
        {FALSE, TRUE, NULL, 512, FALSE, "x86_64", 0, "image-firmware", VR_SEVERITY_BLOCKER},
        {TRUE, FALSE, NULL, 512, TRUE, "x86_64", 0, "image-firmware", VR_SEVERITY_BLOCKER},
        {TRUE, TRUE, NULL, 512, TRUE, "x86_64", 0, NULL, 0},
        {FALSE, FALSE, NULL, 0, FALSE, "x86_64", 0, "image-not-bootable", VR_SEVERITY_WARNING},
        {FALSE, FALSE, NULL, 0, FALSE, "s390x", 0, NULL, 0}, /* boots in ways that are not looked for */
        {FALSE, TRUE, "aarch64", 512, FALSE, "x86_64", 0, "image-architecture", VR_SEVERITY_BLOCKER},
        {FALSE, TRUE, "x86_64", 512, FALSE, "aarch64", 0, "image-architecture", VR_SEVERITY_BLOCKER},
        {TRUE, FALSE, "i686", 512, FALSE, "x86_64", 0, NULL, 0},
        {FALSE, TRUE, "aarch64", 512, FALSE, "aarch64", 0, NULL, 0},
        {TRUE, FALSE, NULL, 512, FALSE, "x86_64", 4096, "image-block-size", VR_SEVERITY_WARNING},
        {TRUE, FALSE, NULL, 4096, FALSE, "x86_64", 0, "image-block-size", VR_SEVERITY_WARNING},
        {TRUE, FALSE, NULL, 4096, FALSE, "x86_64", 4096, NULL, 0},
        {TRUE, FALSE, NULL, 0, FALSE, "x86_64", 4096, NULL, 0}, /* an MBR does not say */
    };

    for (gsize i = 0; i < G_N_ELEMENTS(meetings); i++)
        meet(&meetings[i]);
    Case unknown = new_case("rich.xml"); /* all that is zero says nothing as long as it was not read */
    expect_none(&unknown);
    Case kernel = new_case("rich.xml"); /* the disk boots nothing itself */
    kernel.def->kernel = g_strdup("/boot/vmlinuz");
    kernel.facts.image = (VrPreflightImage){.name = "os", .version = "2", .known = TRUE};
    g_autoptr(GPtrArray) findings = findings_of(&kernel);
    assert_null(find(findings, "image-not-bootable"));
    case_clear(&kernel);
}

static void no_loader_that_firmware_finds(void **state) /* B22 */
{
    static const struct {
        gboolean guest_uefi, image_uefi, no_loader;
        const char *loader, *kernel;
        gboolean found;
    } cases[] = {
        {TRUE, TRUE, TRUE, "\\EFI\\BOOT\\BOOTX64.EFI", NULL, TRUE},
        {TRUE, TRUE, FALSE, "\\EFI\\BOOT\\BOOTX64.EFI", NULL, FALSE},
        {TRUE, TRUE, TRUE, NULL, NULL, FALSE}, /* of an architecture whose name for it is not known */
        {TRUE, TRUE, TRUE, "\\EFI\\BOOT\\BOOTX64.EFI", "/boot/vmlinuz", FALSE},
        {TRUE, FALSE, TRUE, "\\EFI\\BOOT\\BOOTX64.EFI", NULL, FALSE},
        {FALSE, TRUE, TRUE, "\\EFI\\BOOT\\BOOTX64.EFI", NULL, FALSE},
    };

    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        Case c = new_case("rich.xml");
        c.def->uefi = cases[i].guest_uefi;
        c.def->kernel = g_strdup(cases[i].kernel);
        c.facts.image = (VrPreflightImage){.name = "os",
                                           .version = "2",
                                           .known = TRUE,
                                           .bios = TRUE,
                                           .uefi = cases[i].image_uefi,
                                           .loader = cases[i].loader,
                                           .no_loader = cases[i].no_loader};
        g_autoptr(GPtrArray) findings = findings_of(&c);
        assert_int_equal(find(findings, "image-no-fallback-loader") != NULL, cases[i].found);
        case_clear(&c);
    }
}

static void secure_boot_in_both_spellings(void **state)
{
    static const char *const os[] = {
        "<os><type arch='x86_64'>hvm</type><loader readonly='yes' secure='yes' type='pflash'>/x</loader></os>",
        "<os firmware='efi'><type arch='x86_64'>hvm</type><firmware><feature enabled='no' name='enrolled-keys'/>"
        "<feature enabled='yes' name='secure-boot'/></firmware></os>",
        "<os firmware='efi'><type arch='x86_64'>hvm</type><firmware><feature enabled='no' name='secure-boot'/>"
        "</firmware></os>",
        "<os><type arch='x86_64'>hvm</type><loader readonly='yes' secure='no' type='pflash'>/x</loader></os>"};

    for (gsize i = 0; i < G_N_ELEMENTS(os); i++) {
        g_autofree char *xml = g_strdup_printf(
            "<domain type='qemu'><name>g</name>%s<devices><disk type='file' device='disk'><source file='/d'/>"
            "<target dev='vda' bus='virtio'/><blockio logical_block_size='4096'/></disk></devices></domain>",
            os[i]);
        Case c = {.info = {.name = g_strdup("g"), .persistent = TRUE, .state = VR_DOMAIN_OFF},
                  .def = vr_domain_def_parse(xml, NULL)};
        g_autoptr(GPtrArray) findings = findings_of(&c);
        assert_true((find(findings, "secure-boot") != NULL) == (i < 2));
        assert_int_equal(disk_of(&c, "vda")->logical_block_size, 4096);
        case_clear(&c);
    }
}

/* -- What a person lets pass ---------------------------------------------------------------------- */

static void a_blocker_that_is_passed_does_not_block(void **state)
{
    static const char *const ids[] = {"internal-snapshot", "managed-save", NULL};
    g_autoptr(GError) error = NULL;
    Case c = new_case("rich.xml");

    c.needs.ignored = ids;
    c.facts.internal_snapshots = 2;
    g_autoptr(GPtrArray) passed = findings_of(&c);
    assert_true(find(passed, "internal-snapshot")->ignored);
    assert_int_equal(find(passed, "internal-snapshot")->severity, VR_SEVERITY_BLOCKER);
    assert_null(vr_preflight_blocker(passed));
    assert_true(vr_preflight_require(passed, "x", &error));
    c.info.managed_save = TRUE; /* which protects data, and blocks whatever is asked for */
    g_autoptr(GPtrArray) blocked = findings_of(&c);
    assert_string_equal(vr_preflight_blocker(blocked)->id, "managed-save");
    assert_false(find(blocked, "managed-save")->ignored);
    assert_false(vr_preflight_require(blocked, "x", &error));
    assert_null(strstr(error->message, "internal-snapshot"));
    expect_error(&error, VR_ERROR_REFUSED, "[managed-save]");
    c.needs.ignored = NULL;
    g_autoptr(GPtrArray) offered = findings_of(&c);
    assert_non_null(strstr(find(offered, "internal-snapshot")->remedy, "--ignore internal-snapshot"));
    assert_null(strstr(find(offered, "managed-save")->remedy, "--ignore"));
    case_clear(&c);
}

static void what_may_be_passed_and_what_not(void **state)
{
    g_autoptr(GError) error = NULL;
    static const char *const good[] = {"internal-snapshot", "image-firmware", NULL};
    static const char *const data[] = {"internal-snapshot", "managed-save", NULL};
    static const char *const warning[] = {"tpm", NULL};
    static const char *const unknown[] = {"snapshot", NULL};

    assert_true(vr_preflight_may_ignore(NULL, &error));
    assert_true(vr_preflight_may_ignore(good, &error));
    assert_false(vr_preflight_may_ignore(data, &error));
    expect_error(&error, VR_ERROR_REFUSED, "[managed-save] is never ignored");
    assert_false(vr_preflight_may_ignore(warning, &error));
    expect_error(&error, VR_ERROR_USAGE, "[tpm] is a warning");
    assert_false(vr_preflight_may_ignore(unknown, &error));
    expect_error(&error, VR_ERROR_USAGE, "'snapshot' is no finding");
}

/* The page has each finding once, in the order of the table, and says the same of it. */
static void the_page_is_the_table(void **state)
{
    const char *root = g_getenv("VR_SOURCE_DIR");
    g_autofree char *path = g_build_filename(root != NULL ? root : ".", "docs", "preflight.md", NULL);
    const VrFindingKind *kind = vr_finding_kinds;
    char *text = NULL;

    if (!g_file_get_contents(path, &text, NULL, NULL))
        fail_msg("cannot read %s", path);
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    g_free(text);
    for (char **line = lines; *line != NULL; line++) {
        if (!g_str_has_prefix(*line, "| `"))
            continue;
        assert_non_null(kind->id);
        g_autofree char *row = g_strdup_printf("| `%s` | %s | %s | ", kind->id,
                                               kind->severity == VR_SEVERITY_BLOCKER ? "blocker" : "warning",
                                               kind->ignorable != NULL ? "yes" : "no");
        if (!g_str_has_prefix(*line, row))
            fail_msg("\"%s\" where the table has \"%s\"", *line, row);
        kind++;
    }
    if (kind->id != NULL)
        fail_msg("%s is not in %s", kind->id, path);
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
    assert_non_null(strstr(error->message, "[transient-disk]"));
    assert_null(strstr(error->message, "[uefi-nvram]")); /* its NVRAM is a file */
    expect_error(&error, VR_ERROR_REFUSED, "[managed-save]");
    case_clear(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_domain_has_no_findings),
        cmocka_unit_test(protected_disks),
        cmocka_unit_test(each_state_that_is_neither_running_nor_off),
        cmocka_unit_test(what_libvirt_says_of_the_domain),
        cmocka_unit_test(what_the_xml_says),
        cmocka_unit_test(notice_needs_an_agent),
        cmocka_unit_test(boot_order_of_devices),
        cmocka_unit_test(encryption_beside_the_source),
        cmocka_unit_test(facts_of_disk_and_host),
        cmocka_unit_test(autostart_of_what_runs),
        cmocka_unit_test(data_disks_without_a_name_that_stays),
        cmocka_unit_test(the_bus_of_the_os_disk),
        cmocka_unit_test(an_image_and_the_guest_that_is_to_run_it),
        cmocka_unit_test(no_loader_that_firmware_finds),
        cmocka_unit_test(labels_of_the_disks),
        cmocka_unit_test(secure_boot_in_both_spellings),
        cmocka_unit_test(a_blocker_that_is_passed_does_not_block),
        cmocka_unit_test(what_may_be_passed_and_what_not),
        cmocka_unit_test(the_page_is_the_table),
        cmocka_unit_test(require_names_all_blockers_and_blockers_come_first),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
