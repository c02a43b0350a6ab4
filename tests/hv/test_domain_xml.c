/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reading, editing and proving domain XML on fixtures; test_libvirt.c does the same against libvirtd. */
#include "hv/support.h"

#include "hv/domain_xml.h"

#define OVERLAY "/var/lib/virt-reimage/disks/x: ä <&\"'>/g2.qcow2"
#define BASE "/var/lib/virt-reimage/images/debian-12/12.1.0/disk.raw"

static const VrChainLink chain[] = {{OVERLAY, "qcow2"}, {BASE, "raw"}};
static const VrDomainRecord record = {"shop & co", 2, "debian-12", "12.1.0", "swap-1"};

static char *edited(const char *xml, const char *target)
{
    g_autoptr(GError) error = NULL;
    char *after = vr_domain_xml_with_chain(xml, target, chain, G_N_ELEMENTS(chain), &record, &error);

    expect_no_error(error);
    assert_non_null(after);
    return after;
}

static void reads_a_rich_domain(void **state)
{
    g_autofree char *xml = fixture("rich.xml");
    g_autoptr(VrDomainDef) def = vr_domain_def_parse(xml, NULL);

    assert_string_equal(def->name, "hvtest-rich");
    assert_string_equal(def->uuid, "a66126ce-725d-4e6d-b45e-48c275ea11a5");
    assert_string_equal(def->type, "qemu");
    assert_string_equal(def->machine, "pc-i440fx-7.2");
    assert_true(def->agent_channel && def->per_device_boot && def->os_boot_hd_first);
    assert_false(def->uefi || def->tpm);
    assert_int_equal(def->memory_bytes, 64 * 1024 * 1024);
    assert_int_equal(def->disks->len, 4);
    assert_int_equal(def->macs->len, 2);
    assert_string_equal(g_ptr_array_index(def->macs, 1), "52:54:00:aa:bb:02");
    const VrDomainDisk *os = vr_domain_def_os_disk(def, NULL, NULL);
    assert_string_equal(os->target, "vda");
    assert_string_equal(os->source, "/var/lib/hvtest/os old: ä.qcow2");
    assert_string_equal(os->serial, "OS01");
    assert_string_equal(os->address, "pci 0000:00:06.0");
    assert_int_equal(os->boot_order, 1);
    assert_null(os->foreign_child);
    const VrDomainDisk *cdrom = g_ptr_array_index(def->disks, 3);
    assert_string_equal(cdrom->address, "drive controller=0 bus=0 target=0 unit=0");
    assert_null(cdrom->source);
    assert_true(cdrom->readonly);
}

static void reads_the_odd_ones(void **state)
{
    g_autofree char *xml = fixture("volume.xml");
    g_autoptr(VrDomainDef) def = vr_domain_def_parse(xml, NULL);

    assert_string_equal(def->name, "in: a pool ä");
    assert_true(def->uefi && def->tpm);
    assert_false(def->os_boot_hd_first);
    assert_string_equal(def->nvram, "/var/lib/libvirt/qemu/nvram/x_VARS.fd");
    assert_string_equal(def->on_poweroff, "restart");
    assert_int_equal(def->memory_bytes, 1024 * 1024 * 1024);
    const VrDomainDisk *vda = g_ptr_array_index(def->disks, 0);
    assert_string_equal(vda->pool, "default");
    assert_string_equal(vda->volume, "web.qcow2");
    assert_true(vda->shareable && vda->transient);
    const VrDomainDisk *vdc = g_ptr_array_index(def->disks, 2);
    assert_string_equal(vdc->foreign_child, "encryption");
    assert_true(vdc->mirror);
    g_autofree char *block = fixture("block.xml");
    g_autoptr(VrDomainDef) other = vr_domain_def_parse(block, NULL);
    assert_true(other->os_boot_hd_first); /* the drive before it is empty */
    assert_int_equal(other->memory_bytes, G_GUINT64_CONSTANT(2) << 30);
    assert_string_equal(vr_domain_def_os_disk(other, NULL, NULL)->source, "/dev/vg0/web");
}

static void finds_or_refuses_the_os_disk(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *xml = fixture("volume.xml");
    g_autoptr(VrDomainDef) def = vr_domain_def_parse(xml, NULL);

    assert_null(vr_domain_def_os_disk(def, NULL, &error));
    expect_error(&error, VR_ERROR_REFUSED, "vda, vdb, vdc");
    assert_null(vr_domain_def_os_disk(def, "vdz", &error));
    expect_error(&error, VR_ERROR_REFUSED, "osDisk.target");
    assert_string_equal(vr_domain_def_os_disk(def, "vdb", NULL)->type, "network");
    g_autoptr(VrDomainDef) none = vr_domain_def_parse("<domain><name>n</name></domain>", NULL);
    assert_null(vr_domain_def_os_disk(none, NULL, &error));
    expect_error(&error, VR_ERROR_REFUSED, "no hard disk");
}

static void refuses_what_is_no_domain(void **state)
{
    static const char *const bad[] = {
        "",
        "<domain>",
        "text",
        "<network><name>n</name></network>",
        "<domain/>",
        "<!DOCTYPE d [<!ENTITY a 'aaaa'>]><domain><name>&a;</name></domain>",
        "<!DOCTYPE d SYSTEM 'file:///etc/passwd'><domain><name>n</name></domain>",
        "<domain><name>&undefined;</name></domain>",
        "<domain><name>\xff</name></domain>",
    };

    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        assert_null(vr_domain_def_parse(bad[i], &error));
        expect_error(&error, VR_ERROR_INVALID, "XML");
    }
}

static void edit_writes_the_whole_chain(void **state)
{
    g_autofree char *before = fixture("rich.xml");
    g_autofree char *after = edited(before, "vda");
    g_autoptr(GError) error = NULL;
    g_autoptr(VrDomainDef) def = vr_domain_def_parse(after, &error);

    expect_no_error(error);
    const VrDomainDisk *os = vr_domain_def_os_disk(def, "vda", NULL);
    assert_string_equal(os->source, OVERLAY);
    assert_string_equal(os->driver, "qcow2");
    assert_non_null(strstr(after, "cache=\"none\" io=\"native\" discard=\"unmap\" iothread=\"1\""));
    assert_non_null(strstr(after,
                           "<backingStore type=\"file\">\n        <format type=\"raw\"/>\n        <source file=\"" BASE
                           "\">\n          <seclabel model=\"dac\" relabel=\"no\"/>"));
    assert_non_null(strstr(after, "<backingStore/>\n      </backingStore>"));
    assert_non_null(strstr(after, "<app:owner name=\"ops &amp; co\">a  b</app:owner>"));
    assert_non_null(strstr(after, "set=\"shop &amp; co\" generation=\"2\""));
    assert_non_null(strstr(after, "passwd=\"s3cret\""));
    assert_null(strstr(after, "os old"));
    assert_non_null(strstr(after, "ä")); /* UTF-8 stays, no character references */
    assert_true(vr_domain_xml_prove(before, after, "vda", &error));
    assert_false(vr_domain_xml_same(before, after));
    g_autofree char *again = edited(after, "vda");
    assert_true(vr_domain_xml_same(after, again));
    assert_string_equal(after, again);
}

static void edit_makes_a_file_of_a_block_device_or_volume(void **state)
{
    static const struct {
        const char *fixture, *target, *old;
    } cases[] = {{"block.xml", "sda", "/dev/vg0/web"}, {"volume.xml", "vda", "pool="}};

    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *before = fixture(cases[i].fixture);
        g_autofree char *after = edited(before, cases[i].target);
        g_autoptr(VrDomainDef) def = vr_domain_def_parse(after, NULL);

        assert_string_equal(vr_domain_def_os_disk(def, cases[i].target, NULL)->type, "file");
        assert_null(strstr(after, cases[i].old));
        assert_true(vr_domain_xml_prove(before, after, cases[i].target, &error));
        g_autofree char *back = vr_domain_xml_with_kept(after, cases[i].target, before, NULL, &error);
        expect_no_error(error);
        assert_true(vr_domain_xml_same(before, back));
    }
}

static void kept_keeps_what_changed_since(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *before = fixture("rich.xml");
    g_autofree char *after = edited(before, "vda");
    g_autofree char *grown = replaced(after, "<memory unit=\"KiB\">65536", "<memory unit=\"KiB\">131072");
    const VrDomainRecord zero = {"shop", 0, NULL, NULL, "swap-2"};
    g_autofree char *back = vr_domain_xml_with_kept(grown, "vda", before, &zero, &error);

    expect_no_error(error);
    assert_non_null(strstr(back, "131072"));
    assert_non_null(strstr(back, "os old: ä"));
    assert_null(strstr(back, "version=\"12"));
    assert_non_null(strstr(back, "generation=\"0\" swap=\"swap-2\""));
    assert_true(vr_domain_xml_prove(grown, back, "vda", &error));
    assert_null(vr_domain_xml_with_kept(grown, "vdq", before, &zero, &error));
    expect_error(&error, VR_ERROR_NOT_FOUND, "vdq");
    assert_null(vr_domain_xml_with_kept(grown, "hda", before, &zero, &error));
    expect_error(&error, VR_ERROR_INVALID, "no source");
}

static void edit_refuses(void **state)
{
    const VrChainLink relative[] = {{"disk.qcow2", "qcow2"}}, newline[] = {{"/a\nb", "qcow2"}};
    const VrChainLink latin[] = {{"/a\xff", "qcow2"}}, vmdk[] = {{"/a", "vmdk"}}, none[] = {{NULL, "raw"}};
    const VrChainLink *const bad[] = {relative, newline, latin, vmdk, none};
    g_autofree char *xml = fixture("volume.xml");
    g_autoptr(GError) error = NULL;

    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        assert_null(vr_domain_xml_with_chain(xml, "vda", bad[i], 1, &record, &error));
        expect_error(&error, VR_ERROR_INVALID, "");
    }
    assert_null(vr_domain_xml_with_chain(xml, "vda", chain, 0, &record, &error));
    expect_error(&error, VR_ERROR_INVALID, "empty chain");
    assert_null(vr_domain_xml_with_chain(xml, "vdc", chain, 2, &record, &error));
    expect_error(&error, VR_ERROR_REFUSED, "mirror");
    assert_null(vr_domain_xml_with_chain(xml, "vdb", chain, 2, &record, &error));
    expect_error(&error, VR_ERROR_REFUSED, "host");
    assert_null(vr_domain_xml_with_chain(xml, "vdz", chain, 2, &record, &error));
    expect_error(&error, VR_ERROR_NOT_FOUND, "vdz");
}

/* Each is one thing that a swap must never change. */
static void proof_sees_every_other_change(void **state)
{
    static const struct {
        const char *from, *to, *where;
    } changes[] = {
        {"DATA01", "DATA02", "disk[2]/serial"},
        {"data1.raw", "data9.raw", "disk[2]/source"},
        {"OS01", "OS02", "disk[1]/serial"},
        {" discard=\"unmap\" iothread", " iothread", "disk[1]/driver"},
        {"<total_iops_sec>1000", "<total_iops_sec>10", "total_iops_sec"},
        {"aa:bb:01", "aa:bb:0f", "interface[1]/mac"},
        {"passwd=\"s3cret\"", "", "graphics"},
        {"<iothreads>2", "<iothreads>3", "iothreads"},
        {"a  b", "a b", "metadata[1]/x[1]/owner"},
        {"http://example.org/app", "http://example.org/other", "metadata[1]/x"},
        {"pc-i440fx-7.2", "pc-i440fx-7.1", "os[1]/type"},
        {"<boot order=\"1\"/>", "", "disk[1]/boot"},
        {"<readonly/>", "<readonly/><shareable/>", "disk[4]"},
        {"<acpi/>", "", "features"},
        {"slot=\"0x06\"", "slot=\"0x0a\"", "address"},
    };
    g_autofree char *before = fixture("rich.xml");
    g_autofree char *after = edited(before, "vda");

    for (gsize i = 0; i < G_N_ELEMENTS(changes); i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *changed = replaced(after, changes[i].from, changes[i].to);

        assert_false(vr_domain_xml_prove(before, changed, "vda", &error));
        expect_error(&error, VR_ERROR_CONFLICT, changes[i].where);
    }
}

static void proof_does_not_mind_form(void **state)
{
    g_autoptr(GError) error = NULL;
    const char *a =
        "<domain><name>n</name><metadata/><devices><disk type='block'><driver type='raw'/><source dev='/a'/>"
        "<target dev='vda' bus='virtio'/></disk></devices></domain>";
    const char *b = "<domain>\n <!-- x --><name>n</name><devices>\n<disk type='file'><driver name='qemu' type='qcow2'/>"
                    "<source file='/b'/><target bus='virtio' dev='vda'/></disk></devices></domain>";

    assert_true(vr_domain_xml_prove(a, b, "vda", &error));
    assert_false(vr_domain_xml_prove(a, b, "vdb", &error));
    expect_error(&error, VR_ERROR_CONFLICT, "vdb");
    assert_false(vr_domain_xml_prove(a, "<domain", "vda", &error));
    expect_error(&error, VR_ERROR_INVALID, "XML");
    g_autofree char *efi = fixture("volume.xml");
    g_autofree char *moved = replaced(efi, "/var/lib/libvirt/qemu/nvram/x_VARS.fd", "/var/lib/virt-reimage/g1.nvram");
    assert_true(vr_domain_xml_prove(efi, moved, "vda", &error));
    g_autofree char *template = replaced(moved, "OVMF_VARS_4M", "OVMF_VARS_2M");
    assert_false(vr_domain_xml_prove(efi, template, "vda", &error));
    expect_error(&error, VR_ERROR_CONFLICT, "nvram");
}

static void tells_old_from_new(void **state)
{
    g_autofree char *before = fixture("rich.xml");
    g_autofree char *after = edited(before, "vda");
    const VrDomainRecord other = {"shop & co", 3, "debian-12", "12.1.0", "swap-1"};
    g_autofree char *third = vr_domain_xml_with_chain(after, "vda", chain, 2, &other, NULL);
    g_autofree char *grown = replaced(after, "65536", "131072");

    assert_true(vr_domain_xml_same_os_disk(before, before, "vda"));
    assert_false(vr_domain_xml_same_os_disk(before, after, "vda"));
    assert_false(vr_domain_xml_same_os_disk(after, third, "vda"));
    assert_true(vr_domain_xml_same_os_disk(grown, after, "vda"));
    assert_false(vr_domain_xml_same_os_disk("<bad", after, "vda"));
}

static void live_must_be_the_intent(void **state)
{
    static const struct {
        const char *from, *to, *text;
    } changes[] = {
        {"g2.qcow2", "g1.qcow2", "the OS disk"},
        {"a66126ce", "b66126ce", "UUID"},
        {"aa:bb:02", "aa:bb:03", "MAC"},
        {"pc-i440fx-7.2", "pc-i440fx-7.1", "machine"},
        {"<audio id=\"1\" type=\"none\"/>", "<tpm/>", "TPM"},
    };
    g_autoptr(GError) error = NULL;
    g_autofree char *before = fixture("rich.xml");
    g_autofree char *intent = edited(before, "vda");

    assert_true(vr_domain_xml_live_matches(intent, intent, "vda", &error));
    for (gsize i = 0; i < G_N_ELEMENTS(changes); i++) {
        g_autofree char *live = replaced(intent, changes[i].from, changes[i].to);
        assert_false(vr_domain_xml_live_matches(live, intent, "vda", &error));
        expect_error(&error, VR_ERROR_CONFLICT, changes[i].text);
    }
}

/* One text for one disk, however it is written; every other change of it shows. */
static void a_disk_as_text(void **state)
{
    static const char form[] = "<domain><devices><disk type='file' device='disk'>%s</disk></devices></domain>";
    static const char *const same[] = {
        "<source file='/a' mode='x'/><target dev='vdb' bus='virtio'/>",
        "\n  <source mode=\"x\" file=\"/a\"/><!-- a word -->\n <target bus='virtio' dev='vdb'></target>\n"};
    static const char *const others[] = {
        "<source file='/b' mode='x'/><target dev='vdb' bus='virtio'/>",
        "<source file='/a' mode='x'/><target dev='vdb' bus='virtio'/><readonly/>",
        "<source file='/a' mode='x'/><target dev='vdb' bus='virtio'/><serial>A&amp;B</serial>"};
    g_autofree char *first = g_strdup_printf(form, same[0]);
    g_autofree char *second = g_strdup_printf(form, same[1]);
    g_autofree char *text = vr_domain_xml_disk_text(first, "vdb", NULL);
    g_autofree char *again = vr_domain_xml_disk_text(second, "vdb", NULL);
    g_autoptr(GError) error = NULL;

    assert_string_equal(text, again);
    for (gsize i = 0; i < G_N_ELEMENTS(others); i++) {
        g_autofree char *xml = g_strdup_printf(form, others[i]);
        g_autofree char *other = vr_domain_xml_disk_text(xml, "vdb", NULL);
        assert_string_not_equal(text, other);
    }
    assert_null(vr_domain_xml_disk_text(first, "vdc", &error));
    expect_error(&error, VR_ERROR_NOT_FOUND, "vdc");
}

/* B21: our record goes, other people's stays; the chain ends at the disk that it has. */
static void lets_go_of_a_domain(void **state)
{
    g_autofree char *before = fixture("rich.xml");
    g_autofree char *ours = edited(before, "vda");
    g_autofree char *kept = vr_domain_xml_released(ours, "vda", FALSE, NULL);
    g_autofree char *alone = vr_domain_xml_released(ours, "vda", TRUE, NULL);
    g_autofree char *again = vr_domain_xml_released(alone, "vda", TRUE, NULL);
    g_auto(VrDomainRecordRead) read = {0};
    g_autoptr(GError) error = NULL;

    assert_true(vr_domain_xml_record(ours, &read) && read.generation == 2);
    vr_domain_record_clear(&read);
    assert_false(vr_domain_xml_record(kept, &read) || vr_domain_xml_record(alone, &read));
    assert_false(vr_domain_xml_is_alone(ours, "vda") || vr_domain_xml_is_alone(kept, "vda"));
    assert_true(vr_domain_xml_is_alone(alone, "vda"));
    assert_null(strstr(alone, BASE));
    assert_string_equal(alone, again);
    assert_true(vr_domain_xml_prove(before, alone, "vda", NULL));
    assert_false(vr_domain_xml_is_alone(alone, "vdz"));
    assert_null(vr_domain_xml_released(ours, "vdz", TRUE, &error));
    expect_error(&error, VR_ERROR_NOT_FOUND, "vdz");
}

static void says_what_lies_below(void **state)
{
    static const struct {
        const char *store, *path;
        gboolean said;
    } rows[] = {{"", NULL, FALSE},
                {"<backingStore/>", NULL, TRUE},
                {"<backingStore type='file'><source file='/a'/><backingStore/></backingStore>", "/a", TRUE},
                {"<backingStore type='block'><source dev='/dev/a'/></backingStore>", "/dev/a", TRUE},
                {"<backingStore type='network'><source protocol='nbd' name='a'/></backingStore>", "", TRUE}};

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *path = NULL;
        g_autofree char *xml = g_strdup_printf("<domain><devices><disk device='disk'><source file='/x'/>%s<target "
                                               "dev='vda'/></disk></devices></domain>",
                                               rows[i].store);
        assert_int_equal(vr_domain_xml_below(xml, "vda", &path), rows[i].said);
        assert_int_equal(g_strcmp0(path, rows[i].path), 0);
    }
}

/* G10: in libvirt's spelling, whatever a value has; what is in <metadata> is libxml2's. */
static void prints_as_libvirt_does(void **state)
{
    static const char text[] = "<domain type='kvm' xmlns:q='http://q/1'>\n"
                               "  <name>a &amp; &lt;b&gt; &quot;c&quot; &apos;d&apos; ä</name>\n"
                               "  <metadata>\n"
                               "    <v:x xmlns:v=\"http://v/1\" is=\"it&quot;s\"><v:y/></v:x>\n"
                               "  </metadata>\n"
                               "  <a b='&lt;&gt;&amp;&apos;&quot;' q:c=''/>\n"
                               "  <!-- - -->\n"
                               "  <q:arg value='x'></q:arg>\n"
                               "</domain>\n";
    static const char expected[] = "<domain type='kvm' xmlns:q='http://q/1'>\n"
                                   "  <name>a &amp; &lt;b&gt; &quot;c&quot; &apos;d&apos; ä</name>\n"
                                   "  <metadata>\n"
                                   "    <v:x xmlns:v=\"http://v/1\" is=\"it&quot;s\"><v:y/></v:x>\n"
                                   "  </metadata>\n"
                                   "  <a b='&lt;&gt;&amp;&apos;&quot;' q:c=''/>\n"
                                   "  <!-- - -->\n"
                                   "  <q:arg value='x'/>\n"
                                   "</domain>\n";
    g_autoptr(GError) error = NULL;
    g_autofree char *printed = vr_domain_xml_as_libvirt(text, &error);
    g_autofree char *again = vr_domain_xml_as_libvirt(printed, NULL);

    expect_no_error(error);
    assert_string_equal(printed, expected);
    assert_string_equal(again, expected);
    assert_null(vr_domain_xml_as_libvirt("<domain", &error));
    assert_non_null(error);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_a_rich_domain),
        cmocka_unit_test(reads_the_odd_ones),
        cmocka_unit_test(finds_or_refuses_the_os_disk),
        cmocka_unit_test(refuses_what_is_no_domain),
        cmocka_unit_test(edit_writes_the_whole_chain),
        cmocka_unit_test(edit_makes_a_file_of_a_block_device_or_volume),
        cmocka_unit_test(kept_keeps_what_changed_since),
        cmocka_unit_test(edit_refuses),
        cmocka_unit_test(proof_sees_every_other_change),
        cmocka_unit_test(proof_does_not_mind_form),
        cmocka_unit_test(tells_old_from_new),
        cmocka_unit_test(live_must_be_the_intent),
        cmocka_unit_test(a_disk_as_text),
        cmocka_unit_test(lets_go_of_a_domain),
        cmocka_unit_test(says_what_lies_below),
        cmocka_unit_test(prints_as_libvirt_does),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
