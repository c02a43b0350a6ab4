/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What we read from a domain's XML. Reading never fails for what we do not know: preflight judges it. */
#include "base/error.h"
#include "hv/domain_dom.h"
#include "hv/domain_xml.h"
#include <string.h>

static void disk_free(gpointer data)
{
    VrDomainDisk *disk = data;

    g_free(disk->type);
    g_free(disk->device);
    g_free(disk->driver);
    g_free(disk->source);
    g_free(disk->pool);
    g_free(disk->volume);
    g_free(disk->target);
    g_free(disk->bus);
    g_free(disk->serial);
    g_free(disk->wwn);
    g_free(disk->address);
    g_free(disk->foreign_child);
    g_free(disk);
}

void vr_domain_def_free(VrDomainDef *def)
{
    if (def == NULL)
        return;
    g_free(def->name);
    g_free(def->uuid);
    g_free(def->type);
    g_free(def->arch);
    g_free(def->machine);
    g_free(def->loader);
    g_free(def->nvram);
    g_free(def->nvram_format);
    g_free(def->nvram_foreign);
    g_free(def->on_poweroff);
    g_free(def->on_reboot);
    g_free(def->kernel);
    g_free(def->on_crash);
    g_free(def->other_boot);
    g_free(def->unlabelled);
    g_clear_pointer(&def->disks, g_ptr_array_unref);
    g_clear_pointer(&def->macs, g_ptr_array_unref);
    g_free(def);
}

static guint unsigned_attribute(const xmlNode *node, const char *name)
{
    g_autofree char *text = vr_dom_attribute(node, name);
    guint64 value = 0;

    if (text == NULL || !g_ascii_string_to_unsigned(text, 10, 0, G_MAXUINT, &value, NULL))
        return 0;
    return (guint)value;
}

/* "pci domain 0x0000 bus ...": libvirt writes 0x-numbers; "pci 0000:04:00.0" is how people and lspci spell it. Other
 * kinds are shown attribute by attribute, in document order. */
static char *address_text(const xmlNode *address)
{
    if (address == NULL)
        return NULL;
    g_autofree char *type = vr_dom_attribute(address, "type");

    if (g_strcmp0(type, "pci") == 0) {
        const char *const parts[] = {"domain", "bus", "slot", "function"};
        guint64 number[G_N_ELEMENTS(parts)] = {0};

        for (gsize i = 0; i < G_N_ELEMENTS(parts); i++) {
            g_autofree char *text = vr_dom_attribute(address, parts[i]);
            number[i] = text != NULL ? g_ascii_strtoull(text, NULL, 0) : 0;
        }
        return g_strdup_printf("pci %04x:%02x:%02x.%x", (guint)number[0], (guint)number[1], (guint)number[2],
                               (guint)number[3]);
    }
    GString *text = g_string_new(type);
    for (const xmlAttr *attribute = address->properties; attribute != NULL; attribute = attribute->next) {
        if (strcmp((const char *)attribute->name, "type") == 0)
            continue;
        g_autofree char *value = vr_dom_attribute(address, (const char *)attribute->name);
        g_string_append_printf(text, " %s=%s", (const char *)attribute->name, value);
    }
    return g_string_free(text, FALSE);
}

/* What a swap cannot carry: the name of the first child or attribute of <source> that we do not know. */
static char *foreign_part(const xmlNode *source)
{
    static const char *const known[] = {"file", "dev", "pool", "volume", "mode", "startupPolicy", "index", NULL};

    for (const xmlNode *child = vr_dom_child(source, NULL); child != NULL; child = vr_dom_next(child, NULL)) {
        if (strcmp((const char *)child->name, "seclabel") != 0)
            return g_strdup((const char *)child->name);
    }
    for (const xmlAttr *a = source != NULL ? source->properties : NULL; a != NULL; a = a->next) {
        if (!g_strv_contains(known, (const char *)a->name))
            return g_strdup((const char *)a->name);
    }
    return NULL;
}

/* The older spelling of two parts of the source, which libvirt keeps as it is. */
static char *foreign_beside(const xmlNode *node)
{
    static const char *const names[] = {"encryption", "auth"};

    for (guint i = 0; i < G_N_ELEMENTS(names); i++)
        if (vr_dom_child(node, names[i]) != NULL)
            return g_strdup(names[i]);
    return NULL;
}

static void read_source(VrDomainDisk *disk, const xmlNode *source)
{
    disk->source = vr_dom_attribute(source, "file");
    if (disk->source == NULL)
        disk->source = vr_dom_attribute(source, "dev");
    if (disk->source != NULL && disk->source[0] == '\0')
        g_clear_pointer(&disk->source, g_free);
    disk->pool = vr_dom_attribute(source, "pool");
    disk->volume = vr_dom_attribute(source, "volume");
    disk->foreign_child = foreign_part(source);
}

/* A disk of that policy is left out, which is another matter: what is on it is missed. 'requisite' fails at a cold start. */
static gboolean may_be_empty(const VrDomainDisk *disk, const xmlNode *source)
{
    return strcmp(disk->device, "disk") != 0 && strcmp(disk->device, "lun") != 0 && source != NULL &&
           vr_dom_attribute_is(source, "startupPolicy", "optional");
}

static char *attribute_or(const xmlNode *node, const char *name, const char *fallback)
{
    char *value = vr_dom_attribute(node, name);

    return value != NULL ? value : g_strdup(fallback);
}

static VrDomainDisk *read_disk(const xmlNode *node)
{
    VrDomainDisk *disk = g_new0(VrDomainDisk, 1);
    const xmlNode *target = vr_dom_child(node, "target");

    disk->type = attribute_or(node, "type", "file");
    disk->device = attribute_or(node, "device", "disk");
    disk->driver = vr_dom_attribute(vr_dom_child(node, "driver"), "type");
    read_source(disk, vr_dom_child(node, "source"));
    if (disk->foreign_child == NULL)
        disk->foreign_child = foreign_beside(node);
    disk->target = vr_dom_attribute(target, "dev");
    disk->bus = vr_dom_attribute(target, "bus");
    disk->serial = vr_dom_content(vr_dom_child(node, "serial"));
    disk->wwn = vr_dom_content(vr_dom_child(node, "wwn"));
    disk->address = address_text(vr_dom_child(node, "address"));
    disk->boot_order = unsigned_attribute(vr_dom_child(node, "boot"), "order");
    disk->logical_block_size = unsigned_attribute(vr_dom_child(node, "blockio"), "logical_block_size");
    disk->transient = vr_dom_child(node, "transient") != NULL;
    disk->shareable = vr_dom_child(node, "shareable") != NULL;
    disk->readonly = vr_dom_child(node, "readonly") != NULL;
    disk->mirror = vr_dom_child(node, "mirror") != NULL;
    disk->seed = vr_dom_attribute_is(vr_dom_child(node, "alias"), "name", VR_SEED_ALIAS);
    disk->may_be_empty = may_be_empty(disk, vr_dom_child(node, "source"));
    return disk;
}

static void note_other_boot(VrDomainDef *def, const char *name, guint order)
{
    if (order == 0 || (def->other_boot_order > 0 && def->other_boot_order < order))
        return;
    def->other_boot_order = order;
    g_free(def->other_boot);
    def->other_boot = g_strdup(name);
}

static void read_devices(VrDomainDef *def, const xmlNode *devices)
{
    for (const xmlNode *node = vr_dom_child(devices, NULL); node != NULL; node = vr_dom_next(node, NULL)) {
        const char *name = (const char *)node->name;

        if (strcmp(name, "disk") == 0) {
            g_ptr_array_add(def->disks, read_disk(node));
        } else if (strcmp(name, "interface") == 0) {
            char *mac = vr_dom_attribute(vr_dom_child(node, "mac"), "address");
            if (mac != NULL)
                g_ptr_array_add(def->macs, mac);
        } else if (strcmp(name, "tpm") == 0) {
            def->tpm = TRUE;
        } else if (strcmp(name, "channel") == 0) {
            const xmlNode *target = vr_dom_child(node, "target");
            if (vr_dom_attribute_is(target, "name", "org.qemu.guest_agent.0"))
                def->agent_channel = TRUE;
        }
        if (vr_dom_child(node, "boot") != NULL) {
            def->per_device_boot = TRUE;
            if (strcmp(name, "disk") != 0)
                note_other_boot(def, name, unsigned_attribute(vr_dom_child(node, "boot"), "order"));
        }
    }
}

/* The path of <nvram>: its text, or its <source file> in the newer spelling. */
static char *nvram_path(const xmlNode *nvram)
{
    const xmlNode *source = vr_dom_child(nvram, "source");

    return source != NULL ? vr_dom_attribute(source, "file") : vr_dom_content(nvram);
}

/* Attributes and children of <nvram> that we do not know of may mean that its bytes are not all there is to it. */
static char *foreign_nvram_part(const xmlNode *nvram)
{
    static const char *const known[] = {"template", "templateFormat", "format", "type", NULL};
    const xmlNode *child = vr_dom_child(nvram, NULL);

    for (const xmlAttr *a = nvram->properties; a != NULL; a = a->next) {
        if (!g_strv_contains(known, (const char *)a->name))
            return g_strdup_printf("'%s'", (const char *)a->name);
    }
    if (child != NULL && strcmp((const char *)child->name, "source") != 0)
        return g_strdup_printf("'%s'", (const char *)child->name);
    return foreign_part(child);
}

static char *foreign_nvram(const xmlNode *os)
{
    const xmlNode *nvram = vr_dom_child(os, "nvram");
    g_autofree char *type = attribute_or(nvram, "type", "file");
    g_autofree char *format = attribute_or(nvram, "format", "raw");

    if (vr_dom_child(os, "varstore") != NULL)
        return g_strdup("'varstore'");
    if (vr_dom_attribute_is(vr_dom_child(os, "loader"), "readonly", "no"))
        return g_strdup("a firmware file that it writes (loader readonly='no')");
    if (nvram == NULL)
        return NULL;
    if (strcmp(type, "file") != 0)
        return g_strdup_printf("type '%s'", type);
    if (strcmp(format, "raw") != 0 && strcmp(format, "qcow2") != 0)
        return g_strdup_printf("format '%s'", format);
    return foreign_nvram_part(nvram);
}

/* <os firmware='efi'><firmware><feature enabled='yes' name='secure-boot'/>: libvirt chooses the loader. */
static gboolean wants_secure_boot(const xmlNode *os)
{
    const xmlNode *feature = vr_dom_child(vr_dom_child(os, "firmware"), "feature");

    for (; feature != NULL; feature = vr_dom_next(feature, "feature")) {
        if (vr_dom_attribute_is(feature, "name", "secure-boot") && vr_dom_attribute_is(feature, "enabled", "yes"))
            return TRUE;
    }
    return FALSE;
}

static void read_firmware(VrDomainDef *def, const xmlNode *os)
{
    const xmlNode *loader = vr_dom_child(os, "loader"), *nvram = vr_dom_child(os, "nvram");

    def->loader = vr_dom_content(loader);
    def->uefi = vr_dom_attribute_is(os, "firmware", "efi") || vr_dom_attribute_is(loader, "type", "pflash");
    def->secure_boot = vr_dom_attribute_is(loader, "secure", "yes") || wants_secure_boot(os);
    def->nvram = nvram_path(nvram);
    if (def->nvram != NULL)
        def->nvram_format = attribute_or(nvram, "format", "raw");
    if (def->uefi)
        def->nvram_foreign = foreign_nvram(os);
    def->nvram_unnamed = def->uefi && def->nvram == NULL && def->nvram_foreign == NULL &&
                         !vr_dom_attribute_is(loader, "stateless", "yes");
}

static gboolean has_medium(const VrDomainDef *def, const char *device)
{
    for (guint i = 0; i < def->disks->len; i++) {
        const VrDomainDisk *disk = g_ptr_array_index(def->disks, i);

        if (strcmp(disk->device, device) == 0 && !disk->seed && (disk->source != NULL || disk->volume != NULL))
            return TRUE;
    }
    return FALSE;
}

/* An empty drive in front of the hard disk boots nothing, and nor does our seed: they do not count. */
static gboolean boots_from_hd(const VrDomainDef *def, const xmlNode *os)
{
    const xmlNode *boot = vr_dom_child(os, "boot");

    if (boot == NULL)
        return TRUE;
    for (; boot != NULL; boot = vr_dom_next(boot, "boot")) {
        if (vr_dom_attribute_is(boot, "dev", "hd"))
            return TRUE;
        if (vr_dom_attribute_is(boot, "dev", "cdrom") && !has_medium(def, "cdrom"))
            continue;
        if (vr_dom_attribute_is(boot, "dev", "fd") && !has_medium(def, "floppy"))
            continue;
        return FALSE;
    }
    return FALSE;
}

static void read_os(VrDomainDef *def, const xmlNode *os)
{
    const xmlNode *type = vr_dom_child(os, "type");

    def->arch = vr_dom_attribute(type, "arch");
    def->machine = vr_dom_attribute(type, "machine");
    read_firmware(def, os);
    def->os_boot_hd_first = boots_from_hd(def, os);
    def->kernel = vr_dom_content(vr_dom_child(os, "kernel"));
}

/* Not with a static label without relabel='yes', nor with none of a model. AppArmor labels no file. */
static gboolean labels_disks(const xmlNode *label)
{
    g_autofree char *type = attribute_or(label, "type", "dynamic");

    if (vr_dom_attribute_is(label, "model", "apparmor"))
        return TRUE;
    if (strcmp(type, "none") == 0)
        return vr_dom_attribute_is(label, "model", NULL);
    return vr_dom_attribute_is(label, "relabel", "yes") ||
           (strcmp(type, "dynamic") == 0 && !vr_dom_attribute_is(label, "relabel", "no"));
}

static char *unlabelled(const xmlNode *root)
{
    const xmlNode *label = vr_dom_child(root, "seclabel");

    for (; label != NULL; label = vr_dom_next(label, "seclabel")) {
        if (!labels_disks(label))
            return attribute_or(label, "model", "of the host");
    }
    return NULL;
}

/* libvirt's units; its dump says KiB. */
static guint64 memory_bytes(const xmlNode *memory)
{
    static const struct {
        const char *name;
        guint64 bytes;
    } units[] = {{"b", 1},
                 {"bytes", 1},
                 {"KB", 1000},
                 {"k", 1024},
                 {"KiB", 1024},
                 {"MB", 1000 * 1000},
                 {"M", 1024 * 1024},
                 {"MiB", 1024 * 1024},
                 {"GB", 1000000000},
                 {"G", G_GUINT64_CONSTANT(1) << 30},
                 {"GiB", G_GUINT64_CONSTANT(1) << 30},
                 {"TB", G_GUINT64_CONSTANT(1000000000000)},
                 {"T", G_GUINT64_CONSTANT(1) << 40},
                 {"TiB", G_GUINT64_CONSTANT(1) << 40}};
    g_autofree char *text = vr_dom_content(memory);
    g_autofree char *unit = attribute_or(memory, "unit", "KiB");
    guint64 value = 0;

    if (text == NULL || !g_ascii_string_to_unsigned(text, 10, 0, G_MAXUINT32 * G_GUINT64_CONSTANT(1024), &value, NULL))
        return 0;
    for (gsize i = 0; i < G_N_ELEMENTS(units); i++) {
        guint64 bytes;
        if (g_ascii_strcasecmp(unit, units[i].name) == 0)
            return g_uint64_checked_mul(&bytes, value, units[i].bytes) ? bytes : 0;
    }
    return 0;
}

VrDomainDef *vr_domain_def_parse(const char *xml, GError **error)
{
    g_autoptr(xmlDoc) doc = vr_dom_parse(xml, "domain", error);

    if (doc == NULL)
        return NULL;
    const xmlNode *root = xmlDocGetRootElement(doc);
    g_autoptr(VrDomainDef) def = g_new0(VrDomainDef, 1);
    def->disks = g_ptr_array_new_with_free_func(disk_free);
    def->macs = g_ptr_array_new_with_free_func(g_free);
    def->name = vr_dom_content(vr_dom_child(root, "name"));
    def->uuid = vr_dom_content(vr_dom_child(root, "uuid"));
    def->type = vr_dom_attribute(root, "type");
    def->on_poweroff = vr_dom_content(vr_dom_child(root, "on_poweroff"));
    def->on_reboot = vr_dom_content(vr_dom_child(root, "on_reboot"));
    def->on_crash = vr_dom_content(vr_dom_child(root, "on_crash"));
    def->memory_bytes = memory_bytes(vr_dom_child(root, "memory"));
    def->unlabelled = unlabelled(root);
    read_devices(def, vr_dom_child(root, "devices"));
    read_os(def, vr_dom_child(root, "os"));
    if (def->name == NULL) {
        g_set_error_literal(error, VR_ERROR, VR_ERROR_INVALID, "domain XML without a <name>");
        return NULL;
    }
    return g_steal_pointer(&def);
}

static gboolean is_hard_disk(const VrDomainDisk *disk)
{
    return strcmp(disk->device, "disk") == 0;
}

static char *hard_disk_names(const VrDomainDef *def)
{
    GString *names = g_string_new(NULL);

    for (guint i = 0; i < def->disks->len; i++) {
        const VrDomainDisk *disk = g_ptr_array_index(def->disks, i);

        if (is_hard_disk(disk))
            g_string_append_printf(names, "%s%s", names->len > 0 ? ", " : "", disk->target);
    }
    return g_string_free(names, FALSE);
}

static const VrDomainDisk *disk_by_target(const VrDomainDef *def, const char *target)
{
    for (guint i = 0; i < def->disks->len; i++) {
        const VrDomainDisk *disk = g_ptr_array_index(def->disks, i);

        if (g_strcmp0(disk->target, target) == 0)
            return disk;
    }
    return NULL;
}

static const VrDomainDisk *booting_disk(const VrDomainDef *def)
{
    const VrDomainDisk *only = NULL;
    guint count = 0;

    for (guint i = 0; i < def->disks->len; i++) {
        const VrDomainDisk *disk = g_ptr_array_index(def->disks, i);

        if (!is_hard_disk(disk))
            continue;
        if (disk->boot_order == 1)
            return disk;
        only = disk;
        count++;
    }
    return count == 1 ? only : NULL;
}

const VrDomainDisk *vr_domain_def_os_disk(const VrDomainDef *def, const char *target, GError **error)
{
    const VrDomainDisk *disk = target != NULL ? disk_by_target(def, target) : booting_disk(def);

    if (disk != NULL)
        return disk;
    g_autofree char *names = hard_disk_names(def);
    if (names[0] == '\0')
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "%s has no hard disk", def->name);
    else if (target != NULL)
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "%s has no disk %s", def->name, target);
    else
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "%s: it is not known which disk is its OS disk", def->name);
    if (names[0] != '\0') {
        vr_error_now(error, target != NULL ? "it has %s" : "any of %s may be", names);
        vr_error_next(error, "say which with osDisk.target in the model");
    }
    return NULL;
}
