/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The CD-ROM of our seed in domain XML. Rows C1, C7. */
#include "hv/support.h"

#include "hv/domain_xml.h"

#define ONE "/var/lib/virt-reimage/disks/x: ä <&\"'>/g1.seed.iso"
#define TWO "/var/lib/virt-reimage/disks/x/g2.seed.iso"
#define OS "<disk type='file' device='disk'><source file='/os.raw'/><target dev='vda' bus='virtio'/></disk>"
#define DOMAIN(machine, devices)                                                                                       \
    "<domain type='qemu'><name>x</name><os><type arch='x86_64' machine='" machine                                      \
    "'>hvm</type></os><devices>" OS devices "</devices></domain>"
#define AT(target, bus, bus_number, unit)                                                                              \
    "<disk type='file' device='disk'><source file='/x.raw'/><target dev='" target "' bus='" bus "'/>"                  \
    "<address type='drive' controller='0' bus='" bus_number "' target='0' unit='" unit "'/></disk>"
#define DRIVE(target, bus, bus_number, unit)                                                                           \
    "<disk type='file' device='cdrom'><target dev='" target "' bus='" bus "'/>"                                        \
    "<address type='drive' controller='0' bus='" bus_number "' target='0' unit='" unit "'/></disk>"
#define VIRTIO_SCSI "<controller type='scsi' index='0' model='virtio-scsi'/>"

static char *with_seed(const char *xml, const char *path)
{
    g_autoptr(GError) error = NULL;
    char *after = vr_domain_xml_with_seed(xml, path, &error);

    expect_no_error(error);
    assert_non_null(after);
    return after;
}

static const VrDomainDisk *seed_of(const VrDomainDef *def)
{
    for (guint i = 0; i < def->disks->len; i++)
        if (((const VrDomainDisk *)g_ptr_array_index(def->disks, i))->seed)
            return g_ptr_array_index(def->disks, i);
    return NULL;
}

static void expect_seed(const char *xml, const char *path)
{
    g_autofree char *is = vr_domain_xml_seed(xml);

    if (g_strcmp0(is, path) != 0)
        fail_msg("the seed is %s, and %s was expected", is ? is : "none", path ? path : "none");
}

static void it_comes_and_changes_and_goes(void **state)
{
    g_autofree char *text = fixture("rich.xml");
    g_autofree char *before = with_seed(text, NULL); /* in libxml2's spelling */
    g_autofree char *one = with_seed(before, ONE);
    g_autofree char *two = with_seed(one, TWO);
    g_autofree char *gone = with_seed(two, NULL);
    g_autoptr(VrDomainDef) def = vr_domain_def_parse(one, NULL);
    const VrDomainDisk *seed = seed_of(def);

    expect_seed(before, NULL);
    expect_seed(one, ONE);
    assert_true(seed->readonly && !seed->shareable);
    assert_string_equal(seed->device, "cdrom");
    assert_string_equal(seed->driver, "raw");
    assert_string_equal(seed->type, "file");
    assert_string_equal(seed->target, "hdb"); /* hda is the admin's own drive */
    assert_string_equal(seed->bus, "ide");
    expect_seed(two, TWO);
    g_autofree char *renamed = replaced(two, TWO, "/x");
    g_autofree char *again = with_seed(one, "/x");
    assert_string_equal(renamed, again); /* nothing else of the drive changes, white space neither */
    assert_string_equal(gone, before);
    assert_true(vr_domain_xml_same(text, before));
}

static void the_proof_allows_it_and_no_more(void **state)
{
    g_autofree char *before = fixture("rich.xml");
    g_autofree char *one = with_seed(before, ONE);
    g_autofree char *two = with_seed(one, TWO);
    g_autofree char *other = replaced(two, "<target dev=\"hda\"", "<target dev=\"hdc\"");
    g_autofree char *no_alias = replaced(one, "<alias name=\"" VR_SEED_ALIAS "\"/>", "<alias name='ua-other'/>");
    GError *error = NULL;

    assert_true(vr_domain_xml_prove(before, one, "vda", &error));
    assert_true(vr_domain_xml_prove(one, two, "vda", &error));
    assert_true(vr_domain_xml_prove(two, before, "vda", &error));
    assert_false(vr_domain_xml_prove(two, other, "vda", &error));
    expect_error(&error, VR_ERROR_CONFLICT, "disk[4]");
    assert_false(vr_domain_xml_prove(before, no_alias, "vda", &error));
    expect_error(&error, VR_ERROR_CONFLICT, "which a swap never changes");
    assert_false(vr_domain_xml_same(one, two));
    assert_true(vr_domain_xml_same_seed(one, one));
    assert_false(vr_domain_xml_same_seed(one, two));
    assert_false(vr_domain_xml_same_seed(before, two));
    assert_true(vr_domain_xml_same_seed(before, before));
}

/* libvirt names a PC's IDE controller once something is on it. */
static void the_controller_of_the_drive_may_come_with_it(void **state)
{
    g_autofree char *before = g_strdup(DOMAIN("pc-i440fx-7.2", ""));
    g_autofree char *with = with_seed(before, ONE);
    g_autofree char *after = replaced(with, "</devices>", "<controller type='ide' index='0'/></devices>");
    g_autofree char *too_many = replaced(after, "</devices>", "<controller type='ide' index='1'/></devices>");
    g_autofree char *scsi = g_strdup(DOMAIN("virt", VIRTIO_SCSI));
    g_autofree char *on_scsi = with_seed(scsi, ONE);
    g_autofree char *more = replaced(on_scsi, "</devices>", "<controller type='usb' index='0'/></devices>");
    g_autofree char *next = replaced(after, "<controller type='ide' index='0'/>", "");
    GError *error = NULL;

    assert_true(vr_domain_xml_prove(before, after, "vda", &error));
    assert_false(vr_domain_xml_prove(before, too_many, "vda", &error));
    expect_error(&error, VR_ERROR_CONFLICT, "controller");
    assert_false(vr_domain_xml_prove(scsi, more, "vda", &error));
    expect_error(&error, VR_ERROR_CONFLICT, "controller");
    assert_false(vr_domain_xml_prove(next, after, "vda", &error)); /* the drive was there before */
    expect_error(&error, VR_ERROR_CONFLICT, "controller");
}

static void it_takes_a_free_place(void **state)
{
    static const struct {
        const char *xml, *target, *bus; /* target NULL: there is none */
    } cases[] = {
        {DOMAIN("pc-i440fx-7.2", ""), "hda", "ide"},
        {DOMAIN("pc-q35-7.2", ""), "sda", "sata"},
        {DOMAIN("pc-q35-7.2", AT("sda", "sata", "0", "0")), "sdb", "sata"},
        {DOMAIN("pc-q35-7.2", AT("sda", "scsi", "0", "0")), "sdb", "sata"}, /* the name is taken, the port is not */
        {DOMAIN("pc-q35-7.2", AT("sdf", "sata", "0", "0")), "sdb", "sata"}, /* the port is taken, the name is not */
        {DOMAIN("pc-i440fx-7.2", AT("hda", "ide", "0", "0") AT("hdb", "ide", "0", "1") AT("hdd", "ide", "1", "1")),
         "hdc", "ide"},
        {DOMAIN("pc-i440fx-7.2", AT("hda", "ide", "0", "0") AT("hdb", "ide", "0", "1") AT("hdc", "ide", "1", "0")
                                     AT("hdd", "ide", "1", "1") VIRTIO_SCSI),
         "sda", "scsi"},
        {DOMAIN("pc-i440fx-7.2", AT("hda", "ide", "0", "0") AT("hdb", "ide", "0", "1") AT("hdc", "ide", "1", "0")
                                     AT("hdd", "ide", "1", "1")),
         NULL, NULL},
        /* behind the admin's drives, whichever of them has a medium */
        {DOMAIN("pc-i440fx-7.2", DRIVE("hdc", "ide", "1", "0")), "hdd", "ide"},
        {DOMAIN("pc-i440fx-7.2", DRIVE("hdc", "ide", "1", "0") DRIVE("hda", "ide", "0", "0")), "hdd", "ide"},
        {DOMAIN("pc-i440fx-7.2", DRIVE("hdb", "ide", "0", "1") AT("hdc", "ide", "1", "0")), "hdd", "ide"},
        {DOMAIN("pc-i440fx-7.2", DRIVE("hdd", "ide", "1", "1")), "hda", "ide"},
        {DOMAIN("pc-q35-7.2", DRIVE("sda", "sata", "0", "0") DRIVE("sdd", "sata", "0", "3")), "sde", "sata"},
        {DOMAIN("virt-7.2", VIRTIO_SCSI), "sda", "scsi"},
        {DOMAIN("virt-7.2", ""), NULL, NULL},
        {DOMAIN("virt-7.2", "<controller type='scsi' index='0' model='lsilogic'/>"), NULL, NULL},
    };

    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *after = vr_domain_xml_with_seed(cases[i].xml, ONE, &error);
        g_autoptr(VrDomainDef) def = after ? vr_domain_def_parse(after, NULL) : NULL;
        if (!cases[i].target) {
            assert_null(after);
            expect_error(&error, VR_ERROR_REFUSED, "no free place");
            continue;
        }
        assert_string_equal(seed_of(def)->target, cases[i].target);
        assert_string_equal(seed_of(def)->bus, cases[i].bus);
    }
}

static void a_path_that_cannot_be_in_xml_is_refused(void **state)
{
    GError *error = NULL;

    assert_null(vr_domain_xml_with_seed(DOMAIN("pc", ""), "relative", &error));
    expect_error(&error, VR_ERROR_INVALID, "a seed has no absolute");
    assert_null(vr_domain_xml_with_seed(DOMAIN("pc", ""), "/a\nb", &error));
    expect_error(&error, VR_ERROR_INVALID, "control character");
}

/* An admin has moved the drive, or taken its place, meanwhile. */
static void a_rollback_brings_back_what_was_in_it(void **state)
{
    g_autofree char *bare = g_strdup(DOMAIN("pc-q35-7.2", ""));
    g_autofree char *taken = g_strdup(DOMAIN("pc-q35-7.2", AT("sda", "sata", "0", "0")));
    g_autofree char *plain = g_strdup(DOMAIN("pc-q35-7.2", AT("sdx", "sata", "0", "0")));
    g_autofree char *one = with_seed(bare, ONE);
    g_autofree char *moved_one = replaced(one, "<target dev=\"sda\"", "<target dev=\"sde\"");
    g_autofree char *addressed =
        replaced(one, "<readonly/>", "<address type='drive' controller='0' bus='0' target='0' unit='0'/><readonly/>");
    g_autofree char *two = with_seed(moved_one, TWO);
    const struct {
        const char *now, *kept, *path, *target;
    } cases[] = {{two, one, ONE, "sde"},   {bare, one, ONE, "sda"},        {bare, moved_one, ONE, "sde"},
                 {taken, one, ONE, "sdb"}, {plain, addressed, ONE, "sdb"}, {bare, addressed, ONE, "sda"},
                 {two, bare, NULL, NULL},  {bare, bare, NULL, NULL}};

    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *back = vr_domain_xml_with_kept(cases[i].now, "vda", cases[i].kept, NULL, &error);
        g_autoptr(VrDomainDef) def = back ? vr_domain_def_parse(back, NULL) : NULL;
        expect_no_error(error);
        expect_seed(back, cases[i].path);
        assert_string_equal(seed_of(def) ? seed_of(def)->target : "-", cases[i].target ? cases[i].target : "-");
        assert_true(vr_domain_xml_prove(cases[i].now, back, "vda", NULL));
    }
}

static void an_ejected_one_is_put_in_again(void **state)
{
    g_autofree char *plain = with_seed(DOMAIN("pc-q35-7.2", ""), TWO);
    g_autofree char *empty = replaced(plain, "<source file=\"" TWO "\"/>", "");
    g_autofree char *again = with_seed(empty, TWO);

    expect_seed(empty, NULL);
    expect_seed(again, TWO);
    assert_true(vr_domain_xml_same(plain, again));
}

static void live_and_intent_have_the_same_seed(void **state)
{
    g_autofree char *bare = g_strdup(DOMAIN("pc-q35-7.2", ""));
    g_autofree char *one = with_seed(bare, ONE);
    g_autofree char *two = with_seed(bare, TWO);
    g_autofree char *ejected = replaced(two, "<source file=\"" TWO "\"/>", "");
    GError *error = NULL;

    assert_true(vr_domain_xml_live_matches(two, two, "vda", &error));
    assert_true(vr_domain_xml_live_matches(ejected, two, "vda", &error));
    assert_true(vr_domain_xml_live_matches(bare, bare, "vda", &error));
    assert_false(vr_domain_xml_live_matches(one, two, "vda", &error));
    expect_error(&error, VR_ERROR_CONFLICT, "the running guest has the seed");
    assert_false(vr_domain_xml_live_matches(bare, two, "vda", &error));
    expect_error(&error, VR_ERROR_CONFLICT, "the seed none");
    assert_false(vr_domain_xml_live_matches(one, bare, "vda", &error));
    expect_error(&error, VR_ERROR_CONFLICT, "none is what was configured");
}

/* It boots nothing, so what comes after it is first as before. */
static void it_is_no_medium_to_boot_from(void **state)
{
    g_autofree char *before = replaced(DOMAIN("pc", ""), "</type>", "</type><boot dev='cdrom'/><boot dev='hd'/>");
    g_autofree char *with = with_seed(before, ONE);
    g_autofree char *theirs = replaced(with, VR_SEED_ALIAS, "ua-theirs");
    g_autoptr(VrDomainDef) def = vr_domain_def_parse(with, NULL);
    g_autoptr(VrDomainDef) other = vr_domain_def_parse(theirs, NULL);

    assert_true(def->os_boot_hd_first);
    assert_false(other->os_boot_hd_first);
    assert_string_equal(vr_domain_def_os_disk(def, NULL, NULL)->target, "vda");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_comes_and_changes_and_goes),
        cmocka_unit_test(the_proof_allows_it_and_no_more),
        cmocka_unit_test(the_controller_of_the_drive_may_come_with_it),
        cmocka_unit_test(it_takes_a_free_place),
        cmocka_unit_test(a_path_that_cannot_be_in_xml_is_refused),
        cmocka_unit_test(a_rollback_brings_back_what_was_in_it),
        cmocka_unit_test(an_ejected_one_is_put_in_again),
        cmocka_unit_test(live_and_intent_have_the_same_seed),
        cmocka_unit_test(it_is_no_medium_to_boot_from),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
