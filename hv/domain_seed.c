/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The CD-ROM of our seed in a domain's XML (rows C1, C7):
 *
 *   <disk type='file' device='cdrom'>
 *     <driver name='qemu' type='raw'/>
 *     <source file='SEED'/>
 *     <target dev='sda' bus='sata'/>
 *     <readonly/>
 *     <alias name='ua-virt-reimage-seed'/>
 *   </disk>
 *
 * It is known by its alias alone. Once it is there it keeps its place from generation to generation; the first time it gets one that no disk has,
 * and libvirt writes the address, which for these buses follows from the target's name. That place is behind the admin's CD-ROM drives where one is
 * free there: of two media labelled "cidata" cloud-init takes the one whose device has the last name (DataSourceNoCloud.py, _get_devices), and Linux
 * gives the names sr0, sr1, ... in the order of places. So the medium that a guest was installed with may stay, for the way back to its first disk.
 * A PC's IDE controller is always there, but libvirt names it only when a disk is on it: so that may come with the drive (domain_proof.c), and
 * stays when the drive goes.
 */
#include "base/error.h"
#include "hv/domain_edit.h"
#include "hv/domain_xml.h"

#include <string.h>

#define DISK_DEPTH 2 /* domain / devices / here */

/* ---- a place for it ---- */

typedef struct {
    const char *bus, *prefix; /* of targets */
    guint places, units;      /* of a bus of the controller */
} Bus;

/* The one that the machine has by itself first. */
static const Bus buses[] = {{"ide", "hd", 4, 2}, {"sata", "sd", 6, 6}, {"scsi", "sd", 7, 7}};

static gboolean has_controller(const xmlNode *devices, const char *type, const char *model)
{
    const xmlNode *node = vr_dom_child(devices, "controller");

    for (; node != NULL; node = vr_dom_next(node, "controller")) {
        g_autofree char *is = vr_dom_attribute(node, "model");
        if (vr_dom_attribute_is(node, "type", type) && vr_dom_attribute_is(node, "index", "0") &&
            (model == NULL || (is != NULL && g_str_has_prefix(is, model))))
            return TRUE;
    }
    return FALSE;
}

static gboolean has_bus(xmlDoc *doc, const Bus *bus)
{
    const xmlNode *root = xmlDocGetRootElement(doc), *devices = vr_dom_child(root, "devices");
    g_autofree char *machine = vr_dom_attribute(vr_dom_child(vr_dom_child(root, "os"), "type"), "machine");
    gboolean is_pc = machine != NULL && g_str_has_prefix(machine, "pc");
    gboolean is_q35 = machine != NULL && (strstr(machine, "q35") != NULL);

    if (strcmp(bus->bus, "ide") == 0)
        return is_pc && !is_q35;
    if (strcmp(bus->bus, "sata") == 0)
        return is_q35 || has_controller(devices, "sata", NULL);
    return has_controller(devices, "scsi", "virtio-");
}

static gboolean number_is(const xmlNode *address, const char *name, guint number)
{
    g_autofree char *text = vr_dom_attribute(address, name);

    return (text != NULL ? g_ascii_strtoull(text, NULL, 10) : 0) == number;
}

static gboolean is_at(const xmlNode *disk, const Bus *bus, guint place)
{
    const xmlNode *address = vr_dom_child(disk, "address");

    return vr_dom_attribute_is(vr_dom_child(disk, "target"), "bus", bus->bus) && address != NULL &&
           number_is(address, "controller", 0) && number_is(address, "target", 0) &&
           number_is(address, "bus", place / bus->units) && number_is(address, "unit", place % bus->units);
}

static gboolean is_free(xmlDoc *doc, const Bus *bus, guint place, const char *target)
{
    const xmlNode *devices = vr_dom_child(xmlDocGetRootElement(doc), "devices");

    for (const xmlNode *disk = vr_dom_child(devices, "disk"); disk != NULL; disk = vr_dom_next(disk, "disk")) {
        if (is_at(disk, bus, place))
            return FALSE;
    }
    return vr_dom_disk(doc, target) == NULL;
}

/* The first place behind all CD-ROM drives of the bus. */
static guint behind_drives(xmlDoc *doc, const Bus *bus)
{
    const xmlNode *devices = vr_dom_child(xmlDocGetRootElement(doc), "devices");
    guint behind = 0;

    for (const xmlNode *disk = vr_dom_child(devices, "disk"); disk != NULL; disk = vr_dom_next(disk, "disk")) {
        for (guint place = behind; place < bus->places && vr_dom_attribute_is(disk, "device", "cdrom"); place++) {
            if (is_at(disk, bus, place))
                behind = place + 1;
        }
    }
    return behind;
}

/* The target's name; free with g_free. NULL: the bus has none. */
static char *free_place(xmlDoc *doc, const Bus *bus)
{
    guint first = behind_drives(doc, bus);

    for (guint i = 0; i < bus->places; i++) {
        guint place = (first + i) % bus->places;
        g_autofree char *target = g_strdup_printf("%s%c", bus->prefix, 'a' + (char)place);
        if (is_free(doc, bus, place, target))
            return g_steal_pointer(&target);
    }
    return NULL;
}

/* NULL: the machine has none. */
static char *find_place(xmlDoc *doc, const Bus **found)
{
    for (gsize i = 0; i < G_N_ELEMENTS(buses); i++) {
        char *target = has_bus(doc, &buses[i]) ? free_place(doc, &buses[i]) : NULL;
        *found = &buses[i];
        if (target != NULL)
            return target;
    }
    return NULL;
}

/* ---- the drive ---- */

static xmlNode *last_disk(xmlDoc *doc)
{
    xmlNode *devices = vr_dom_child(xmlDocGetRootElement(doc), "devices"), *last = NULL;

    for (xmlNode *disk = vr_dom_child(devices, "disk"); disk != NULL; disk = vr_dom_next(disk, "disk"))
        last = disk;
    return last;
}

static void insert_drive(xmlDoc *doc, xmlNode *drive)
{
    xmlNode *last = last_disk(doc);

    vr_dom_indent(drive, DISK_DEPTH);
    if (last != NULL)
        vr_dom_insert_after(last, drive, DISK_DEPTH);
    else
        xmlAddChild(vr_dom_child(xmlDocGetRootElement(doc), "devices"), drive);
}

static void add_drive(xmlDoc *doc, const char *path, const char *target, const char *bus)
{
    xmlNode *drive = vr_dom_new("disk"), *driver = vr_dom_add(drive, "driver");
    xmlNode *source = vr_dom_add(drive, "source"), *place = vr_dom_add(drive, "target");

    vr_dom_set_attribute(drive, "type", "file");
    vr_dom_set_attribute(drive, "device", "cdrom");
    vr_dom_set_attribute(driver, "name", "qemu");
    vr_dom_set_attribute(driver, "type", "raw");
    vr_dom_set_attribute(source, "file", path);
    vr_dom_set_attribute(place, "dev", target);
    vr_dom_set_attribute(place, "bus", bus);
    vr_dom_add(drive, "readonly");
    vr_dom_set_attribute(vr_dom_add(drive, "alias"), "name", VR_SEED_ALIAS);
    insert_drive(doc, drive);
}

/* An empty drive has no source, and libvirt's dump of that has no format either. */
static void change_medium(xmlNode *drive, const char *path)
{
    xmlNode *driver = vr_dom_child(drive, "driver"), *source = vr_dom_new("source");

    vr_dom_remove_with_space(vr_dom_child(drive, "source"));
    vr_dom_remove_with_space(vr_dom_child(drive, "backingStore"));
    vr_dom_set_attribute(drive, "type", "file");
    vr_dom_set_attribute(driver, "type", "raw");
    vr_dom_set_attribute(source, "file", path);
    if (driver != NULL)
        vr_dom_insert_after(driver, source, DISK_DEPTH + 1);
    else
        xmlAddChild(drive, source);
}

static gboolean put_seed(xmlDoc *doc, const char *path, GError **error)
{
    xmlNode *drive = vr_dom_seed(doc);
    const Bus *bus = NULL;
    g_autofree char *target = NULL;

    if (path == NULL) {
        vr_dom_remove_with_space(drive);
        return TRUE;
    }
    if (drive != NULL) {
        change_medium(drive, path);
        return TRUE;
    }
    target = find_place(doc, &bus);
    if (target != NULL) {
        add_drive(doc, path, target, bus->bus);
        return TRUE;
    }
    g_set_error_literal(error, VR_ERROR, VR_ERROR_REFUSED,
                        "the domain has no free place for the CD-ROM of its seed on IDE, SATA or virtio-scsi");
    vr_error_next(error, "free one with 'virsh edit', or add <controller type='scsi' index='0' model='virtio-scsi'/>");
    return FALSE;
}

char *vr_domain_xml_with_seed(const char *xml, const char *path, GError **error)
{
    g_autoptr(xmlDoc) doc =
        path == NULL || vr_dom_path_is_valid(path, "a seed", error) ? vr_dom_parse(xml, "domain", error) : NULL;

    return doc != NULL && put_seed(doc, path, error) ? vr_dom_text_of(doc) : NULL;
}

/* ---- reading ---- */

static char *path_in(xmlDoc *doc)
{
    g_autofree char *path = vr_dom_attribute(vr_dom_child(vr_dom_seed(doc), "source"), "file");

    return path != NULL && path[0] != '\0' ? g_steal_pointer(&path) : NULL;
}

char *vr_domain_xml_seed(const char *xml)
{
    g_autoptr(xmlDoc) doc = vr_dom_parse(xml, "domain", NULL);

    return doc != NULL ? path_in(doc) : NULL;
}

gboolean vr_domain_xml_same_seed(const char *a, const char *intent)
{
    g_autofree char *is = vr_domain_xml_seed(a);
    g_autofree char *want = vr_domain_xml_seed(intent);

    return g_strcmp0(is, want) == 0;
}

/* ---- back ---- */

static gboolean same_address(const xmlNode *a, const xmlNode *b)
{
    static const char *const names[] = {"controller", "bus", "target", "unit"};
    gboolean same = a != NULL && b != NULL;

    for (gsize i = 0; same && i < G_N_ELEMENTS(names); i++) {
        g_autofree char *left = vr_dom_attribute(a, names[i]), *right = vr_dom_attribute(b, names[i]);
        same = g_strcmp0(left, right) == 0;
    }
    return same;
}

static gboolean is_taken(xmlDoc *doc, const xmlNode *drive)
{
    const xmlNode *devices = vr_dom_child(xmlDocGetRootElement(doc), "devices"),
                  *target = vr_dom_child(drive, "target");
    g_autofree char *name = vr_dom_attribute(target, "dev"), *bus = vr_dom_attribute(target, "bus");

    for (const xmlNode *disk = vr_dom_child(devices, "disk"); disk != NULL; disk = vr_dom_next(disk, "disk")) {
        if (vr_dom_attribute_is(vr_dom_child(disk, "target"), "bus", bus) &&
            same_address(vr_dom_child(disk, "address"), vr_dom_child(drive, "address")))
            return TRUE;
    }
    return vr_dom_disk(doc, name) != NULL;
}

/* The very drive, where nobody has taken its place since. */
static gboolean put_back(xmlDoc *doc, xmlNode *old)
{
    xmlNode *last = last_disk(doc);

    if (vr_dom_seed(doc) != NULL || last == NULL || is_taken(doc, old))
        return FALSE;
    vr_dom_insert_after(last, xmlDocCopyNode(old, doc, 1), DISK_DEPTH);
    return TRUE;
}

gboolean vr_dom_keep_seed(xmlDoc *doc, xmlDoc *kept, GError **error)
{
    xmlNode *old = vr_dom_seed(kept);
    g_autofree char *path = path_in(kept);

    return (old != NULL && put_back(doc, old)) || put_seed(doc, path, error);
}
