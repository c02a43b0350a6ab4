/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The NVRAM in domain XML, in every spelling that libvirt has for it. Rows B14, F7. */
#include "hv/support.h"

#include "hv/domain_xml.h"
#include "hv/libvirt_private.h"

#define OLD "/var/lib/libvirt/qemu/nvram/x_VARS.fd"
#define NEW "/var/lib/virt-reimage/disks/x: ä <&\"'>/g1.nvram"
#define ESCAPED "/var/lib/virt-reimage/disks/x: ä &lt;&amp;\"'&gt;/g1.nvram" /* in text */

#define LOADER "<loader readonly='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE_4M.fd</loader>"
#define AS_TEXT LOADER "<nvram template='/t.fd'>" OLD "</nvram>"
#define AS_SOURCE LOADER "<nvram type='file' template='/t.fd'><source file='" OLD "'/></nvram>"

/* A domain whose <os> has `firmware` as attributes and `parts` after its type. Free with g_free. */
static char *domain(const char *firmware, const char *parts)
{
    return g_strdup_printf("<domain type='kvm'><name>n</name><uuid>" UUID "</uuid>\n  <os%s>\n"
                           "    <type arch='x86_64' machine='pc-q35-7.2'>hvm</type>%s\n    <boot dev='hd'/>\n  </os>"
                           "<devices><disk type='file' device='disk'><driver name='qemu' type='qcow2'/>"
                           "<source file='/old.qcow2'/><target dev='vda' bus='virtio'/></disk></devices></domain>",
                           firmware, parts);
}

static VrDomainDef *parsed(const char *firmware, const char *parts)
{
    g_autofree char *xml = domain(firmware, parts);
    VrDomainDef *def = vr_domain_def_parse(xml, NULL);

    assert_non_null(def);
    return def;
}

static char *with_nvram(const char *xml, const char *path)
{
    g_autoptr(GError) error = NULL;
    char *after = vr_domain_xml_with_nvram(xml, path, &error);

    expect_no_error(error);
    return after;
}

static char *with_kept(const char *xml, const char *kept)
{
    g_autoptr(GError) error = NULL;
    char *after = vr_domain_xml_with_kept(xml, "vda", kept, NULL, &error);

    expect_no_error(error);
    return after;
}

static void reads_every_spelling(void **state)
{
    static const struct {
        const char *firmware, *parts, *path, *format;
        gboolean uefi, unnamed;
    } cases[] = {
        {"", AS_TEXT, OLD, "raw", TRUE, FALSE},
        {"", AS_SOURCE, OLD, "raw", TRUE, FALSE},
        {"", LOADER "<nvram format='qcow2'>" OLD "</nvram>", OLD, "qcow2", TRUE, FALSE},
        {" firmware='efi'", "<nvram>" OLD "</nvram>", OLD, "raw", TRUE, FALSE},
        {" firmware='efi'", "", NULL, NULL, TRUE, TRUE},
        {" firmware='efi'", "<loader secure='yes'/><nvram template='/t.fd'/>", NULL, NULL, TRUE, TRUE},
        {" firmware='efi'", "<loader stateless='yes'/>", NULL, NULL, TRUE, FALSE},
        {" firmware='bios'", "", NULL, NULL, FALSE, FALSE},
        {"", "<loader type='rom'>/usr/share/bios.bin</loader>", NULL, NULL, FALSE, FALSE},
        {"", "", NULL, NULL, FALSE, FALSE},
    };

    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(VrDomainDef) def = parsed(cases[i].firmware, cases[i].parts);
        assert_int_equal(g_strcmp0(def->nvram, cases[i].path), 0);
        assert_int_equal(g_strcmp0(def->nvram_format, cases[i].format), 0);
        assert_int_equal(def->uefi, cases[i].uefi);
        assert_int_equal(def->nvram_unnamed, cases[i].unnamed);
        assert_null(def->nvram_foreign);
    }
}

/* Each has what a copy of one file would not bring along. */
static void names_what_cannot_be_carried(void **state)
{
    static const struct {
        const char *parts, *text;
    } cases[] = {
        {LOADER "<nvram type='network'><source protocol='nbd' name='x'/></nvram>", "type 'network'"},
        {LOADER "<nvram type='block'><source dev='/dev/vg/nv'/></nvram>", "type 'block'"},
        {LOADER "<nvram format='vmdk'>" OLD "</nvram>", "format 'vmdk'"},
        {LOADER "<nvram type='file'><source file='" OLD "'><encryption/></source></nvram>", "encryption"},
        {LOADER "<nvram shared='yes'>" OLD "</nvram>", "'shared'"},
        {LOADER "<nvram type='file'><auth/></nvram>", "'auth'"},
        {"<loader readonly='no' type='pflash'>/my.fd</loader>", "readonly='no'"},
        {LOADER "<varstore path='/x.json'/>", "'varstore'"},
    };

    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(VrDomainDef) def = parsed("", cases[i].parts);
        assert_non_null(def->nvram_foreign);
        assert_non_null(strstr(def->nvram_foreign, cases[i].text));
        assert_false(def->nvram_unnamed);
    }
}

static void a_new_path_keeps_the_spelling(void **state)
{
    static const struct {
        const char *firmware, *parts, *text;
    } cases[] = {
        {"", AS_TEXT, "<nvram template=\"/t.fd\">" ESCAPED "</nvram>"},
        {"", AS_SOURCE, "<nvram type=\"file\" template=\"/t.fd\">\n      <source file=\""},
        {" firmware='efi'", "", "</type>\n    <nvram>" ESCAPED "</nvram>\n    <boot"},
        {" firmware='efi'", "<firmware><feature enabled='no' name='secure-boot'/></firmware>",
         "</firmware>\n    <nvram>" ESCAPED "</nvram>\n    <boot"},
        {" firmware='efi'", "<loader secure='yes'/>", "<loader secure=\"yes\"/>\n    <nvram>" ESCAPED "</nvram>"},
    };

    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *before = domain(cases[i].firmware, cases[i].parts);
        g_autofree char *after = with_nvram(before, NEW);
        g_autoptr(VrDomainDef) def = vr_domain_def_parse(after, NULL);
        assert_non_null(strstr(after, cases[i].text));
        assert_string_equal(def->nvram, NEW);
        assert_true(vr_domain_xml_prove(before, after, "vda", &error));
        assert_false(vr_domain_xml_same(before, after));
        g_autofree char *back = with_kept(after, before);
        assert_true(vr_domain_xml_same(before, back));
    }
}

static void refuses_what_is_no_path(void **state)
{
    static const char *const bad[] = {NULL, "g1.nvram", "/a\nb", "/a\xff"};
    g_autoptr(GError) error = NULL;
    g_autofree char *xml = domain("", AS_TEXT);

    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        assert_null(vr_domain_xml_with_nvram(xml, bad[i], &error));
        expect_error(&error, VR_ERROR_INVALID, "");
    }
    assert_null(vr_domain_xml_with_nvram("<domain><name>n</name></domain>", "/x", &error));
    expect_error(&error, VR_ERROR_INVALID, "<os>");
}

/* libvirt may have the domain in one spelling and the kept XML in the other: the path goes back, what is about the firmware stays. */
static void the_kept_path_goes_back(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *text = domain("", AS_TEXT);
    g_autofree char *source = domain("", AS_SOURCE);
    g_autofree char *now = with_nvram(source, NEW);
    g_autofree char *back = with_kept(now, text);
    g_autofree char *qcow2 = domain("", LOADER "<nvram format='qcow2'>" OLD "</nvram>");
    g_autofree char *later = domain("", LOADER "<nvram template='/new.fd' format='raw'>" NEW "</nvram>");

    assert_true(vr_domain_xml_same(back, text));
    assert_true(vr_domain_xml_prove(now, back, "vda", &error));
    assert_null(vr_domain_xml_with_kept(now, "vda", qcow2, NULL, &error));
    expect_error(&error, VR_ERROR_REFUSED, "format");
    g_autofree char *again = replaced(text, OLD, "/g0.fd");
    g_autofree char *plain = replaced(later, NEW, "/g1.fd");
    g_autofree char *mixed = with_kept(plain, again);
    assert_non_null(strstr(mixed, "<nvram template=\"/new.fd\" format=\"raw\">/g0.fd</nvram>"));
}

static void the_proof_lets_only_the_path_differ(void **state)
{
    static const struct {
        const char *from, *to, *where;
    } changes[] = {
        {"template='/t.fd'", "template='/u.fd'", "nvram"},
        {"type='file'", "type='file' format='qcow2'", "nvram"},
        {"readonly='yes'", "readonly='yes' secure='yes'", "loader"},
        {"OVMF_CODE_4M.fd", "OVMF_CODE.fd", "loader"},
    };
    g_autoptr(GError) error = NULL;
    g_autofree char *before = domain("", AS_SOURCE);
    g_autofree char *text = domain("", AS_TEXT);

    assert_true(vr_domain_xml_prove(before, text, "vda", &error)); /* the same file in the other spelling */
    for (gsize i = 0; i < G_N_ELEMENTS(changes); i++) {
        g_autofree char *after = replaced(before, changes[i].from, changes[i].to);
        assert_false(vr_domain_xml_prove(before, after, "vda", &error));
        expect_error(&error, VR_ERROR_CONFLICT, changes[i].where);
    }
}

/* Invariant 14. */
static void live_must_have_the_nvram_of_the_intent(void **state)
{
    static const char *const spellings[] = {AS_TEXT, AS_SOURCE};
    g_autoptr(GError) error = NULL;

    for (gsize i = 0; i < G_N_ELEMENTS(spellings); i++) {
        g_autofree char *before = domain("", spellings[i]);
        g_autofree char *intent = with_nvram(before, NEW);
        g_autofree char *other = domain("", spellings[1 - i]);
        g_autofree char *live = with_nvram(other, NEW);
        assert_true(vr_domain_xml_live_matches(live, intent, "vda", &error));
        assert_true(vr_domain_xml_same_nvram(live, intent));
        assert_false(vr_domain_xml_same_nvram(other, intent));
        assert_false(vr_domain_xml_live_matches(other, intent, "vda", &error));
        expect_error(&error, VR_ERROR_CONFLICT, "NVRAM " OLD);
        g_autofree char *none = domain("", LOADER);
        assert_false(vr_domain_xml_live_matches(none, intent, "vda", &error));
        expect_error(&error, VR_ERROR_CONFLICT, "NVRAM none");
    }
}

/* Where the domain leaves it to libvirt, only the live XML names one. */
static void live_may_have_any_where_libvirt_chooses(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *intent = domain(" firmware='efi'", "");
    g_autofree char *live = domain("", AS_TEXT);
    g_autofree char *named = with_nvram(intent, NEW);

    assert_true(vr_domain_xml_live_matches(live, intent, "vda", &error));
    assert_true(vr_domain_xml_same_nvram(live, intent));
    assert_false(vr_domain_xml_live_matches(live, named, "vda", &error));
    expect_error(&error, VR_ERROR_CONFLICT, "NVRAM");
}

static void libvirt_says_which_file_it_takes(void **state)
{
    static const char command[] =
        "LC_ALL=C PATH=/usr/bin \\\n/usr/bin/qemu-system-x86_64 \\\n-name guest='a b' \\\n"
        "-blockdev '{\"driver\":\"file\",\"filename\":\"/usr/share/OVMF/OVMF_CODE_4M.ms.fd\",\"node-name\":"
        "\"libvirt-pflash0-storage\"}' \\\n"
        "-blockdev '{\"driver\":\"file\",\"filename\":\"/nvram/it'\\''s_VARS.fd\",\"node-name\":"
        "\"libvirt-pflash1-storage\",\"auto-read-only\":true}' \\\n"
        "-blockdev '{\"node-name\":\"libvirt-pflash1-format\",\"driver\":\"raw\",\"file\":"
        "\"libvirt-pflash1-storage\"}' \\\n-machine pc-q35-7.2";
    g_autofree char *file = vr_libvirt_nvram_of_command(command);
    g_autofree char *network =
        replaced(command, "\"driver\":\"file\",\"filename\":\"/nvram", "\"driver\":\"nbd\",\"x\":\"/nvram");

    assert_string_equal(file, "/nvram/it's_VARS.fd");
    assert_null(vr_libvirt_nvram_of_command(network));
    assert_null(vr_libvirt_nvram_of_command("qemu -machine pc"));
    assert_null(vr_libvirt_nvram_of_command("qemu '"));
    assert_null(vr_libvirt_nvram_of_command(""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_every_spelling),
        cmocka_unit_test(names_what_cannot_be_carried),
        cmocka_unit_test(a_new_path_keeps_the_spelling),
        cmocka_unit_test(refuses_what_is_no_path),
        cmocka_unit_test(the_kept_path_goes_back),
        cmocka_unit_test(the_proof_lets_only_the_path_differ),
        cmocka_unit_test(live_must_have_the_nvram_of_the_intent),
        cmocka_unit_test(live_may_have_any_where_libvirt_chooses),
        cmocka_unit_test(libvirt_says_which_file_it_takes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
