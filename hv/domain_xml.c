/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The one edit that we make to a domain.
 *
 * It starts from libvirt's own inactive, secure dump and touches seven things: the OS disk's `type`
 * attribute, <driver type>, <source>, <backingStore>, our element in <metadata>, the path of <nvram>, and our seed's CD-ROM
 * (domain_seed.c). A forward swap
 * writes the whole chain, overlay -> base -> empty <backingStore/>, because libvirt else opens and chowns
 * whatever a backing name points to (SAFETY 4.2):
 *
 *   <disk type='file' device='disk'>
 *     <driver name='qemu' type='qcow2' .../>          other attributes stay
 *     <source file='OVERLAY'/>
 *     <backingStore type='file'>
 *       <format type='qcow2'/>
 *       <source file='BASE'>
 *         <seclabel model='dac' relabel='no'/>        a published base is shared, 0444 and root's
 *         <seclabel model='selinux' relabel='no'/>
 *       </source>
 *       <backingStore/>                               the end: libvirt looks no further
 *     </backingStore>
 *
 * Seen on libvirt 9.0 with no driver but DAC: a seclabel of model selinux or apparmor in the chain is accepted by
 * VALIDATE and define, comes back in the dump, and the guest starts; so selinux is always written, as the same XML is
 * then right on a host of the other kind. The same label on the OS disk's own <source> is accepted by define and
 * refused by start ("Security driver model 'selinux' is not available"): it is never written there. None is written
 * for apparmor: its driver does not label files.
 *
 * A rollback copies the same parts from the kept XML of that generation, a block device or a volume too.
 */
#include "hv/domain_xml.h"

#include "base/error.h"
#include "hv/domain_edit.h"
#include <string.h>

static xmlNode *require_disk(xmlDoc *doc, const char *target, GError **error)
{
    xmlNode *disk = vr_dom_disk(doc, target);

    if (disk == NULL)
        g_set_error(error, VR_ERROR, VR_ERROR_NOT_FOUND, "domain XML has no disk %s",
                    target != NULL ? target : "(null)");
    return disk;
}

#define DISK_CHILD_DEPTH 3 /* domain / devices / disk / here */

/* libvirt's dump always has a <driver>; a hand-made one may not. */
static xmlNode *ensure_driver(xmlNode *disk)
{
    xmlNode *driver = vr_dom_child(disk, "driver");

    if (driver == NULL) {
        driver = vr_dom_new("driver");
        vr_dom_set_attribute(driver, "name", "qemu");
        if (disk->children != NULL)
            xmlAddPrevSibling(disk->children, driver);
        else
            xmlAddChild(disk, driver);
        xmlAddPrevSibling(driver, vr_dom_indentation(DISK_CHILD_DEPTH));
    }
    return driver;
}

/* Puts source and chain (may be NULL) in the place of what was there. */
static void replace_chain(xmlNode *disk, xmlNode *source, xmlNode *chain)
{
    vr_dom_remove_with_space(vr_dom_child(disk, "source"));
    vr_dom_remove_with_space(vr_dom_child(disk, "backingStore"));
    vr_dom_insert_after(vr_dom_child(disk, "driver"), source, DISK_CHILD_DEPTH);
    if (chain != NULL)
        vr_dom_insert_after(source, chain, DISK_CHILD_DEPTH);
}

/* -- Our record ----------------------------------------------------------------------------------- */

static xmlNode *ensure_metadata(xmlNode *root)
{
    static const char *const before[] = {"description", "title", "uuid", "name"};
    xmlNode *metadata = vr_dom_child(root, "metadata");

    if (metadata != NULL)
        return metadata;
    metadata = vr_dom_new("metadata");
    for (gsize i = 0; i < G_N_ELEMENTS(before); i++) {
        xmlNode *place = vr_dom_child(root, before[i]);
        if (place != NULL) {
            vr_dom_insert_after(place, metadata, 1);
            return metadata;
        }
    }
    return xmlAddChild(root, metadata);
}

/* What a record that was taken out leaves behind. */
static void drop_blanks(xmlNode *parent)
{
    for (xmlNode *child = parent->children, *next; child != NULL; child = next) {
        next = child->next;
        if (xmlIsBlankNode(child))
            vr_dom_remove(child);
    }
}

/* As the last child, indented like the others, so that writing it again gives the same text. */
static xmlNode *append_to_metadata(xmlNode *metadata)
{
    xmlNode *last = xmlGetLastChild(metadata);
    xmlNode *node = vr_dom_new("instance");

    while (last != NULL && last->type != XML_ELEMENT_NODE)
        last = last->prev;
    if (last != NULL) {
        vr_dom_insert_after(last, node, 2);
    } else {
        drop_blanks(metadata);
        xmlAddChild(metadata, node);
        vr_dom_indent(metadata, 1);
    }
    return node;
}

static void add_record(xmlNode *root, const VrDomainRecord *record)
{
    g_autofree char *generation = g_strdup_printf("%u", record->generation);
    xmlNode *node = append_to_metadata(ensure_metadata(root));
    xmlNs *ns = xmlNewNs(node, (const xmlChar *)VR_METADATA_NS, (const xmlChar *)"vr");

    xmlSetNs(node, ns);
    vr_dom_set_attribute(node, "set", record->set);
    vr_dom_set_attribute(node, "generation", generation);
    vr_dom_set_attribute(node, "image", record->image);
    vr_dom_set_attribute(node, "version", record->version);
    vr_dom_set_attribute(node, "swap", record->swap_id);
}

/* Other people's metadata stays; a record of NULL takes ours away. */
static void write_record(xmlDoc *doc, const VrDomainRecord *record)
{
    xmlNode *ours;

    while ((ours = vr_dom_record(doc)) != NULL)
        vr_dom_remove_with_space(ours);
    if (record != NULL)
        add_record(xmlDocGetRootElement(doc), record);
}

static void copy_record(xmlDoc *doc, xmlDoc *from)
{
    xmlNode *theirs = vr_dom_record(from);
    xmlNode *metadata = theirs != NULL ? ensure_metadata(xmlDocGetRootElement(doc)) : NULL;

    if (metadata != NULL)
        xmlAddChild(metadata, xmlDocCopyNode(theirs, doc, 1));
}

/* -- Forward -------------------------------------------------------------------------------------- */

gboolean vr_dom_path_is_valid(const char *path, const char *what, GError **error)
{
    if (path == NULL || path[0] != '/' || !g_utf8_validate(path, -1, NULL)) {
        g_set_error(error, VR_ERROR, VR_ERROR_INVALID, "%s has no absolute UTF-8 path", what);
        return FALSE;
    }
    for (const char *c = path; *c != '\0'; c++) {
        if (g_ascii_iscntrl(*c)) {
            g_set_error(error, VR_ERROR, VR_ERROR_INVALID, "a path with a control character cannot be in domain XML");
            return FALSE;
        }
    }
    return TRUE;
}

static gboolean link_is_valid(const VrChainLink *link, GError **error)
{
    if (!vr_dom_path_is_valid(link->path, "a link of a chain", error))
        return FALSE;
    if (g_strcmp0(link->format, "qcow2") != 0 && g_strcmp0(link->format, "raw") != 0) {
        g_set_error(error, VR_ERROR, VR_ERROR_INVALID, "%s: format %s is neither qcow2 nor raw", link->path,
                    link->format != NULL ? link->format : "(null)");
        return FALSE;
    }
    return TRUE;
}

static gboolean chain_is_valid(const VrChainLink *links, guint n, GError **error)
{
    if (n == 0) {
        g_set_error(error, VR_ERROR, VR_ERROR_INVALID, "an empty chain is no disk");
        return FALSE;
    }
    for (guint i = 0; i < n; i++) {
        if (!link_is_valid(&links[i], error))
            return FALSE;
    }
    return TRUE;
}

static void add_no_relabel(xmlNode *source)
{
    static const char *const models[] = {"dac", "selinux"};

    for (gsize i = 0; i < G_N_ELEMENTS(models); i++) {
        xmlNode *label = vr_dom_add(source, "seclabel");
        vr_dom_set_attribute(label, "model", models[i]);
        vr_dom_set_attribute(label, "relabel", "no");
    }
}

/* <backingStore> of links[0..n-1]; empty for n = 0, which ends the chain. */
static xmlNode *chain_element(const VrChainLink *links, guint n)
{
    xmlNode *store = vr_dom_new("backingStore");

    if (n == 0)
        return store;
    vr_dom_set_attribute(store, "type", "file");
    vr_dom_set_attribute(vr_dom_add(store, "format"), "type", links[0].format);
    xmlNode *source = vr_dom_add(store, "source");
    vr_dom_set_attribute(source, "file", links[0].path);
    add_no_relabel(source);
    xmlAddChild(store, chain_element(links + 1, n - 1));
    return store;
}

/* A seclabel of the old source goes (our file is labelled as libvirt does it), its startupPolicy stays. */
static xmlNode *source_element(const xmlNode *old, const char *path)
{
    xmlNode *source = vr_dom_new("source");
    g_autofree char *policy = vr_dom_attribute(old, "startupPolicy");

    vr_dom_set_attribute(source, "file", path);
    vr_dom_set_attribute(source, "startupPolicy", policy);
    return source;
}

/* Preflight says all this with a remedy; here it is the last line of defence before something is lost. */
static gboolean disk_can_be_edited(const char *xml, const char *target, GError **error)
{
    g_autoptr(VrDomainDef) def = vr_domain_def_parse(xml, error);
    const VrDomainDisk *disk = def != NULL ? vr_domain_def_os_disk(def, target, error) : NULL;

    if (disk == NULL)
        return FALSE;
    if (strcmp(disk->device, "disk") != 0 || disk->mirror) {
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "disk %s %s", target,
                    disk->mirror ? "is being mirrored" : "is no hard disk");
        return FALSE;
    }
    if (disk->foreign_child != NULL) {
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "the source of disk %s has a part that a swap cannot carry: %s",
                    target, disk->foreign_child);
        return FALSE;
    }
    return TRUE;
}

char *vr_domain_xml_with_chain(const char *xml, const char *target, const VrChainLink *links, guint n,
                               const VrDomainRecord *record, GError **error)
{
    if (!chain_is_valid(links, n, error))
        return NULL;
    g_autoptr(xmlDoc) doc = vr_dom_parse(xml, "domain", error);
    xmlNode *disk = doc != NULL ? require_disk(doc, target, error) : NULL;
    if (disk == NULL || !disk_can_be_edited(xml, target, error))
        return NULL;
    vr_dom_set_attribute(disk, "type", "file");
    vr_dom_set_attribute(ensure_driver(disk), "type", links[0].format);
    xmlNode *source = source_element(vr_dom_child(disk, "source"), links[0].path);
    xmlNode *chain = chain_element(links + 1, n - 1);
    vr_dom_indent(chain, DISK_CHILD_DEPTH);
    replace_chain(disk, source, chain);
    write_record(doc, record);
    return vr_dom_text_of(doc);
}

/* -- NVRAM ---------------------------------------------------------------------------------------- */

#define OS_CHILD_DEPTH 2 /* domain / os / here */

/* Where libvirt has it: after the last of these that is there. */
static void insert_nvram(xmlNode *os, xmlNode *nvram)
{
    static const char *const before[] = {"loader", "firmware", "type"};
    xmlNode *place = NULL;

    for (gsize i = 0; i < G_N_ELEMENTS(before) && place == NULL; i++)
        place = vr_dom_child(os, before[i]);
    if (place != NULL)
        vr_dom_insert_after(place, nvram, OS_CHILD_DEPTH);
    else
        xmlAddChild(os, nvram);
}

static void drop_children(xmlNode *node)
{
    while (node->children != NULL)
        vr_dom_remove(node->children);
}

char *vr_domain_xml_with_nvram(const char *xml, const char *path, GError **error)
{
    g_autoptr(xmlDoc) doc = vr_dom_path_is_valid(path, "an NVRAM", error) ? vr_dom_parse(xml, "domain", error) : NULL;
    xmlNode *os = doc != NULL ? vr_dom_child(xmlDocGetRootElement(doc), "os") : NULL;
    xmlNode *nvram = vr_dom_child(os, "nvram"), *source = vr_dom_child(nvram, "source");

    if (doc == NULL)
        return NULL;
    if (os == NULL) {
        g_set_error_literal(error, VR_ERROR, VR_ERROR_INVALID, "domain XML without an <os>");
        return NULL;
    }
    if (nvram == NULL) {
        nvram = vr_dom_new("nvram");
        insert_nvram(os, nvram);
    }
    if (source != NULL)
        source = source_element(source, path);
    drop_children(nvram);
    if (source == NULL) {
        xmlAddChild(nvram, xmlNewText((const xmlChar *)path));
    } else {
        xmlAddChild(nvram, source);
        vr_dom_indent(nvram, OS_CHILD_DEPTH);
    }
    return vr_dom_text_of(doc);
}

/* -- Back ----------------------------------------------------------------------------------------- */

static xmlNode *copy_into(xmlDoc *doc, xmlNode *node)
{
    return node != NULL ? xmlDocCopyNode(node, doc, 1) : NULL;
}

static void copy_attribute(xmlNode *to, const xmlNode *from, const char *name)
{
    g_autofree char *value = vr_dom_attribute(from, name);

    vr_dom_set_attribute(to, name, value);
}

static gboolean same_nvram_format(const xmlNode *nvram, const xmlNode *old)
{
    g_autofree char *is = vr_dom_attribute(nvram, "format");
    g_autofree char *was = vr_dom_attribute(old, "format");

    return strcmp(is != NULL ? is : "raw", was != NULL ? was : "raw") == 0;
}

/* The path is in its text or in its <source>, so all that is in it is taken; its attributes are about the firmware, and stay. */
static gboolean keep_nvram(xmlDoc *doc, xmlDoc *kept, GError **error)
{
    xmlNode *os = vr_dom_child(xmlDocGetRootElement(doc), "os");
    xmlNode *nvram = vr_dom_child(os, "nvram");
    xmlNode *old = vr_dom_child(vr_dom_child(xmlDocGetRootElement(kept), "os"), "nvram");

    if (old == NULL || nvram == NULL) {
        vr_dom_remove_with_space(nvram);
        if (old != NULL && os != NULL)
            insert_nvram(os, copy_into(doc, old));
        return TRUE;
    }
    if (!same_nvram_format(nvram, old)) {
        g_set_error_literal(error, VR_ERROR, VR_ERROR_REFUSED,
                            "the format of <nvram> was changed since the generation was made");
        vr_error_next(error, "change it back with 'virsh edit'");
        return FALSE;
    }
    copy_attribute(nvram, old, "type");
    drop_children(nvram);
    for (xmlNode *child = old->children; child != NULL; child = child->next)
        xmlAddChild(nvram, copy_into(doc, child));
    return TRUE;
}

char *vr_domain_xml_with_kept(const char *xml, const char *target, const char *kept_xml, const VrDomainRecord *record,
                              GError **error)
{
    g_autoptr(xmlDoc) doc = vr_dom_parse(xml, "domain", error);
    g_autoptr(xmlDoc) kept = doc != NULL ? vr_dom_parse(kept_xml, "domain", error) : NULL;
    xmlNode *disk = kept != NULL ? require_disk(doc, target, error) : NULL;
    xmlNode *old = disk != NULL ? require_disk(kept, target, error) : NULL;

    if (old == NULL)
        return NULL;
    if (vr_dom_child(old, "source") == NULL) {
        g_set_error(error, VR_ERROR, VR_ERROR_INVALID, "the kept XML has no source for disk %s", target);
        return NULL;
    }
    if (!keep_nvram(doc, kept, error) || !vr_dom_keep_seed(doc, kept, error))
        return NULL;
    copy_attribute(disk, old, "type");
    copy_attribute(ensure_driver(disk), vr_dom_child(old, "driver"), "type");
    replace_chain(disk, copy_into(doc, vr_dom_child(old, "source")), copy_into(doc, vr_dom_child(old, "backingStore")));
    write_record(doc, record);
    if (record == NULL)
        copy_record(doc, kept);
    return vr_dom_text_of(doc);
}

/* -- Away ----------------------------------------------------------------------------------------- */

char *vr_domain_xml_released(const char *xml, const char *target, gboolean alone, GError **error)
{
    g_autoptr(xmlDoc) doc = vr_dom_parse(xml, "domain", error);
    xmlNode *disk = doc != NULL ? require_disk(doc, target, error) : NULL;

    if (disk == NULL)
        return NULL;
    if (alone) {
        vr_dom_remove_with_space(vr_dom_child(disk, "backingStore"));
        vr_dom_insert_after(vr_dom_child(disk, "source"), vr_dom_new("backingStore"), DISK_CHILD_DEPTH);
    }
    write_record(doc, NULL);
    return vr_dom_text_of(doc);
}

gboolean vr_domain_xml_is_alone(const char *xml, const char *target)
{
    g_autoptr(xmlDoc) doc = vr_dom_parse(xml, "domain", NULL);
    xmlNode *disk = doc != NULL ? vr_dom_disk(doc, target) : NULL;

    return disk != NULL && vr_dom_child(vr_dom_child(disk, "backingStore"), "source") == NULL;
}

gboolean vr_domain_xml_below(const char *xml, const char *target, char **path)
{
    g_autoptr(xmlDoc) doc = vr_dom_parse(xml, "domain", NULL);
    xmlNode *disk = doc != NULL ? vr_dom_disk(doc, target) : NULL;
    xmlNode *store = vr_dom_child(disk, "backingStore"), *source = vr_dom_child(store, "source");

    *path = source != NULL ? vr_dom_attribute(source, "file") : NULL;
    if (source != NULL && *path == NULL)
        *path = vr_dom_attribute(source, "dev");
    if (source != NULL && *path == NULL)
        *path = g_strdup("");
    return store != NULL;
}
