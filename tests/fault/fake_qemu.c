/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fault/fake_qemu.h"

#include "base/error.h"
#include "disk/disk_file.h"
#include "fault/fake_hv.h"
#include "hv/domain_dom.h"
#include "hv/domain_xml.h"

#include <sys/stat.h>

void (*fake_qemu_aside)(gboolean on);

gboolean fake_hv_is_of(const char *xml, const char *uuid, GError **error)
{
    g_autoptr(VrDomainDef) def = vr_domain_def_parse(xml, error);

    if (!def || g_strcmp0(def->uuid, uuid) == 0)
        return def != NULL;
    g_set_error(error, VR_ERROR, VR_ERROR_INVALID, "the XML is of %s, not of %s", def->uuid, uuid);
    return FALSE;
}

/* Of libvirt's schema this much: what a disk may have, for disks are what we edit. */
gboolean fake_qemu_is_valid(const char *xml, GError **error)
{
    static const char *const parts[] = {
        "driver", "auth",     "source",  "backingStore", "target",        "iotune", "readonly", "shareable",
        "serial", "wwn",      "vendor",  "product",      "address",       "boot",   "alias",    "transient",
        "mirror", "geometry", "blockio", "encryption",   "backenddomain", NULL};
    g_autoptr(xmlDoc) doc = vr_dom_parse(xml, "domain", error);
    const xmlNode *devices = doc ? vr_dom_child(xmlDocGetRootElement(doc), "devices") : NULL;

    for (const xmlNode *disk = vr_dom_child(devices, "disk"); disk; disk = vr_dom_next(disk, "disk"))
        for (const xmlNode *part = vr_dom_child(disk, NULL); part; part = vr_dom_next(part, NULL))
            if (!g_strv_contains(parts, (const char *)part->name)) {
                g_set_error(error, VR_ERROR, VR_ERROR_HYPERVISOR, "the schema has no <%s> in <disk>",
                            (const char *)part->name);
                return FALSE;
            }
    return doc != NULL;
}

/* QEMU runs as another user than root: a disk of mode 0400 does not open for it (SAFETY 4.6), and of a base, which nobody labels for it, it
 * needs that others may read it. */
static gboolean can_open(const char *path, const char *format, mode_t bit)
{
    struct stat st;
    guint64 size;

    return path && stat(path, &st) == 0 && (st.st_mode & bit) && vr_disk_file_virtual_size(path, format, &size, NULL);
}

static gboolean cannot_open(const char *path, GError **error)
{
    g_set_error(error, VR_ERROR, VR_ERROR_HYPERVISOR, "QEMU cannot open %s", path);
    return FALSE;
}

static gboolean chain_opens(const xmlNode *disk, GError **error)
{
    const xmlNode *base = vr_dom_child(disk, "backingStore");

    for (; vr_dom_child(base, "source"); base = vr_dom_child(base, "backingStore")) {
        g_autofree char *path = vr_dom_attribute(vr_dom_child(base, "source"), "file");
        g_autofree char *format = vr_dom_attribute(vr_dom_child(base, "format"), "type");
        if (!can_open(path, format, S_IROTH))
            return cannot_open(path, error);
    }
    return TRUE;
}

static gboolean all_open(const char *xml, gboolean (*is_locked)(const char *path, void *data), void *data,
                         GError **error)
{
    g_autoptr(VrDomainDef) def = vr_domain_def_parse(xml, error);
    g_autoptr(xmlDoc) doc = vr_dom_parse(xml, "domain", error);

    for (guint i = 0; def && i < def->disks->len; i++) {
        const VrDomainDisk *disk = g_ptr_array_index(def->disks, i);
        if (disk->source && (!can_open(disk->source, disk->driver, S_IWUSR) || is_locked(disk->source, data)))
            return cannot_open(disk->source, error);
        if (!chain_opens(vr_dom_disk(doc, disk->target), error))
            return FALSE;
    }
    return def != NULL;
}

gboolean fake_qemu_opens(const char *xml, gboolean (*is_locked)(const char *path, void *data), void *data,
                         GError **error)
{
    gboolean ok;

    if (fake_qemu_aside)
        fake_qemu_aside(TRUE);
    ok = all_open(xml, is_locked, data, error);
    if (fake_qemu_aside)
        fake_qemu_aside(FALSE);
    return ok;
}
