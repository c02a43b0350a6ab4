/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Comparing domain XML: the proof that an edit changed only what it may, and the questions that read-back,
 * recovery and the check after a start ask.
 *
 * Both sides are brought to one form first: comments and white space between elements go, attributes are
 * compared as a set, an empty <metadata> is no metadata. For a proof, what may differ is then taken out of both;
 * everything else, known to us or not, must be the same, in the same order.
 */
#include "base/error.h"
#include "hv/domain_dom.h"
#include "hv/domain_xml.h"
#include <string.h>

/* -- One form ------------------------------------------------------------------------------------- */

static gboolean is_noise(xmlNode *node)
{
    if (node->type == XML_COMMENT_NODE || node->type == XML_PI_NODE)
        return TRUE;
    return node->type == XML_TEXT_NODE && xmlIsBlankNode(node);
}

static void drop_noise(xmlNode *node)
{
    xmlNode *next;

    for (xmlNode *child = node->children; child != NULL; child = next) {
        next = child->next;
        if (is_noise(child))
            vr_dom_remove(child);
        else if (child->type == XML_ELEMENT_NODE)
            drop_noise(child);
    }
}

static void drop_empty_metadata(xmlDoc *doc)
{
    xmlNode *metadata = vr_dom_child(xmlDocGetRootElement(doc), "metadata");

    if (metadata != NULL && metadata->children == NULL)
        vr_dom_remove(metadata);
}

static xmlDoc *canonical(const char *xml, GError **error)
{
    xmlDoc *doc = vr_dom_parse(xml, "domain", error);

    if (doc != NULL) {
        drop_noise(xmlDocGetRootElement(doc));
        drop_empty_metadata(doc);
    }
    return doc;
}

/* A <driver name='qemu'/> says no more than none at all: our edit may have added it for its type. */
static void permit_driver(xmlNode *driver)
{
    if (driver == NULL)
        return;
    xmlUnsetProp(driver, (const xmlChar *)"type");
    if (vr_dom_attribute_is(driver, "name", "qemu"))
        xmlUnsetProp(driver, (const xmlChar *)"name");
    if (driver->properties == NULL && driver->children == NULL)
        vr_dom_remove(driver);
}

/* The path, in either spelling; an <nvram> that says nothing but a path, and none, are the same then. */
static void permit_nvram(xmlNode *nvram)
{
    xmlNode *next;

    if (nvram == NULL)
        return;
    for (xmlNode *child = nvram->children; child != NULL; child = next) {
        next = child->next;
        if (child->type == XML_TEXT_NODE || strcmp((const char *)child->name, "source") == 0)
            vr_dom_remove(child);
    }
    if (vr_dom_attribute_is(nvram, "type", "file"))
        xmlUnsetProp(nvram, (const xmlChar *)"type");
    if (nvram->properties == NULL && nvram->children == NULL)
        vr_dom_remove(nvram);
}

static xmlNode *first_controller(xmlDoc *doc, const char *type)
{
    const xmlNode *devices = vr_dom_child(xmlDocGetRootElement(doc), "devices");

    for (xmlNode *node = vr_dom_child(devices, "controller"); node != NULL; node = vr_dom_next(node, "controller")) {
        if (vr_dom_attribute_is(node, "type", type) && vr_dom_attribute_is(node, "index", "0"))
            return node;
    }
    return NULL;
}

/* The controller that libvirt names since the drive of our seed is on it. */
static void permit_controller(xmlDoc *old, xmlDoc *new)
{
    g_autofree char *bus = vr_dom_attribute(vr_dom_child(vr_dom_seed(new), "target"), "bus");

    if (bus != NULL && vr_dom_seed(old) == NULL && strcmp(bus, "scsi") != 0 && first_controller(old, bus) == NULL)
        vr_dom_remove(first_controller(new, bus));
}

/* Takes out of a canonical document what a swap may change. */
static gboolean permit(xmlDoc *doc, const char *target, GError **error)
{
    xmlNode *disk = vr_dom_disk(doc, target);
    xmlNode *ours;

    if (disk == NULL) {
        g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "disk %s is not there", target != NULL ? target : "(null)");
        return FALSE;
    }
    xmlUnsetProp(disk, (const xmlChar *)"type");
    permit_driver(vr_dom_child(disk, "driver"));
    vr_dom_remove(vr_dom_child(disk, "source"));
    vr_dom_remove(vr_dom_child(disk, "backingStore"));
    permit_nvram(vr_dom_child(vr_dom_child(xmlDocGetRootElement(doc), "os"), "nvram"));
    vr_dom_remove(vr_dom_seed(doc));
    while ((ours = vr_dom_record(doc)) != NULL)
        vr_dom_remove(ours);
    drop_empty_metadata(doc);
    return TRUE;
}

/* -- Comparison ----------------------------------------------------------------------------------- */

static gboolean same_ns(const xmlNs *a, const xmlNs *b)
{
    return xmlStrEqual(a != NULL ? a->href : NULL, b != NULL ? b->href : NULL);
}

static guint count_attributes(const xmlNode *node)
{
    guint n = 0;

    for (const xmlAttr *a = node->properties; a != NULL; a = a->next)
        n++;
    return n;
}

static gboolean same_attributes(const xmlNode *a, const xmlNode *b)
{
    if (count_attributes(a) != count_attributes(b))
        return FALSE;
    for (const xmlAttr *attribute = a->properties; attribute != NULL; attribute = attribute->next) {
        const xmlChar *ns = attribute->ns != NULL ? attribute->ns->href : NULL;
        xmlChar *left = ns != NULL ? xmlGetNsProp(a, attribute->name, ns) : xmlGetNoNsProp(a, attribute->name);
        xmlChar *right = ns != NULL ? xmlGetNsProp(b, attribute->name, ns) : xmlGetNoNsProp(b, attribute->name);
        gboolean same = right != NULL && xmlStrEqual(left, right);
        xmlFree(left);
        xmlFree(right);
        if (!same)
            return FALSE;
    }
    return TRUE;
}

/* Where a difference is, for people: "devices/disk[2]/serial". */
static char *path_of(const xmlNode *node)
{
    GString *path = g_string_new(NULL);

    for (; node != NULL && node->parent != NULL && node->parent->type == XML_ELEMENT_NODE; node = node->parent) {
        guint index = 1;
        for (const xmlNode *prev = node->prev; prev != NULL; prev = prev->prev)
            index += prev->type == node->type && xmlStrEqual(prev->name, node->name);
        g_autofree char *step = g_strdup_printf("%s[%u]%s", (const char *)node->name, index, path->len > 0 ? "/" : "");
        g_string_prepend(path, step);
    }
    if (path->len == 0)
        g_string_append(path, "domain");
    return g_string_free(path, FALSE);
}

static gboolean same_node(const xmlNode *a, const xmlNode *b)
{
    if (a->type != b->type)
        return FALSE;
    if (a->type != XML_ELEMENT_NODE)
        return xmlStrEqual(a->content, b->content);
    return xmlStrEqual(a->name, b->name) && same_ns(a->ns, b->ns) && same_attributes(a, b);
}

/* The first node of a's tree that b has not (or b's own surplus one), NULL when the trees are the same. Depth is
 * bounded by the parser (256). */
static const xmlNode *first_difference(const xmlNode *a, const xmlNode *b)
{
    if (!same_node(a, b))
        return a;
    const xmlNode *left = a->children, *right = b->children;
    while (left != NULL && right != NULL) {
        const xmlNode *at = first_difference(left, right);
        if (at != NULL)
            return at;
        left = left->next;
        right = right->next;
    }
    return left != NULL ? left : right;
}

static const xmlNode *difference(xmlDoc *a, xmlDoc *b)
{
    return first_difference(xmlDocGetRootElement(a), xmlDocGetRootElement(b));
}

gboolean vr_domain_xml_prove(const char *before, const char *after, const char *target, GError **error)
{
    g_autoptr(xmlDoc) old = canonical(before, error);
    g_autoptr(xmlDoc) new = old != NULL ? canonical(after, error) : NULL;

    if (new == NULL)
        return FALSE;
    permit_controller(old, new);
    if (!permit(old, target, error) || !permit(new, target, error))
        return FALSE;
    const xmlNode *at = difference(old, new);
    if (at == NULL)
        return TRUE;
    g_autofree char *path = path_of(at);
    g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "the domain XML differs at %s, which a swap never changes", path);
    return FALSE;
}

gboolean vr_domain_xml_same(const char *a, const char *b)
{
    g_autoptr(xmlDoc) left = canonical(a, NULL);
    g_autoptr(xmlDoc) right = canonical(b, NULL);

    return left != NULL && right != NULL && difference(left, right) == NULL;
}

/* -- One disk ------------------------------------------------------------------------------------- */

static gint by_name(gconstpointer a, gconstpointer b)
{
    const xmlAttr *left = *(const xmlAttr *const *)a, *right = *(const xmlAttr *const *)b;

    return strcmp((const char *)left->name, (const char *)right->name);
}

static void append_attributes(GString *text, const xmlNode *node)
{
    g_autoptr(GPtrArray) attributes = g_ptr_array_new();

    for (xmlAttr *attribute = node->properties; attribute != NULL; attribute = attribute->next)
        g_ptr_array_add(attributes, attribute);
    g_ptr_array_sort(attributes, by_name);
    for (guint i = 0; i < attributes->len; i++) {
        const char *name = (const char *)((const xmlAttr *)g_ptr_array_index(attributes, i))->name;
        g_autofree char *value = vr_dom_attribute(node, name);
        g_autofree char *escaped = g_markup_escape_text(value != NULL ? value : "", -1);
        g_string_append_printf(text, " %s='%s'", name, escaped);
    }
}

static void append_element(GString *text, const xmlNode *node)
{
    g_string_append_printf(text, "<%s", (const char *)node->name);
    append_attributes(text, node);
    g_string_append_c(text, '>');
    for (const xmlNode *child = node->children; child != NULL; child = child->next) {
        if (child->type == XML_ELEMENT_NODE)
            append_element(text, child);
        else if (child->content != NULL) {
            g_autofree char *escaped = g_markup_escape_text((const char *)child->content, -1);
            g_string_append(text, escaped);
        }
    }
    g_string_append_printf(text, "</%s>", (const char *)node->name);
}

char *vr_domain_xml_disk_text(const char *xml, const char *target, GError **error)
{
    g_autoptr(xmlDoc) doc = canonical(xml, error);
    const xmlNode *disk = doc != NULL ? vr_dom_disk(doc, target) : NULL;

    if (disk == NULL) {
        if (doc != NULL)
            g_set_error(error, VR_ERROR, VR_ERROR_NOT_FOUND, "domain XML has no disk %s", target);
        return NULL;
    }
    GString *text = g_string_new(NULL);
    append_element(text, disk);
    return g_string_free(text, FALSE);
}

/* -- Old or new? ---------------------------------------------------------------------------------- */

static gboolean same_source(const VrDomainDisk *a, const VrDomainDisk *b)
{
    return g_strcmp0(a->type, b->type) == 0 && g_strcmp0(a->driver, b->driver) == 0 &&
           g_strcmp0(a->source, b->source) == 0 && g_strcmp0(a->pool, b->pool) == 0 &&
           g_strcmp0(a->volume, b->volume) == 0;
}

static gboolean same_record(const char *a, const char *b)
{
    g_autoptr(xmlDoc) left = vr_dom_parse(a, "domain", NULL);
    g_autoptr(xmlDoc) right = vr_dom_parse(b, "domain", NULL);

    if (left == NULL || right == NULL)
        return FALSE;
    const xmlNode *ours = vr_dom_record(left), *theirs = vr_dom_record(right);
    if (ours == NULL || theirs == NULL)
        return ours == theirs;
    return same_attributes(ours, theirs);
}

gboolean vr_domain_xml_same_os_disk(const char *a, const char *intent, const char *target)
{
    g_autoptr(VrDomainDef) left = vr_domain_def_parse(a, NULL);
    g_autoptr(VrDomainDef) right = vr_domain_def_parse(intent, NULL);
    const VrDomainDisk *ours = left != NULL ? vr_domain_def_os_disk(left, target, NULL) : NULL;
    const VrDomainDisk *theirs = right != NULL ? vr_domain_def_os_disk(right, target, NULL) : NULL;

    return ours != NULL && theirs != NULL && same_source(ours, theirs) && same_record(a, intent);
}

static gboolean is_nvram_of(const VrDomainDef *def, const VrDomainDef *intent)
{
    return intent->nvram_unnamed || g_strcmp0(def->nvram, intent->nvram) == 0;
}

gboolean vr_domain_xml_same_nvram(const char *a, const char *intent)
{
    g_autoptr(VrDomainDef) left = vr_domain_def_parse(a, NULL);
    g_autoptr(VrDomainDef) right = vr_domain_def_parse(intent, NULL);

    return left != NULL && right != NULL && is_nvram_of(left, right);
}

/* -- Live against intent -------------------------------------------------------------------------- */

static gboolean equal_text(const char *what, const char *live, const char *intent, GError **error)
{
    if (g_strcmp0(live, intent) == 0)
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "the running guest has %s %s, and %s is what was configured", what,
                live != NULL ? live : "none", intent != NULL ? intent : "none");
    return FALSE;
}

static gboolean equal_macs(const VrDomainDef *live, const VrDomainDef *intent, GError **error)
{
    g_autofree char *n_live = g_strdup_printf("%u", live->macs->len);
    g_autofree char *n_intent = g_strdup_printf("%u", intent->macs->len);

    if (!equal_text("a number of network interfaces of", n_live, n_intent, error))
        return FALSE;
    for (guint i = 0; i < live->macs->len; i++) {
        if (!equal_text("the MAC", g_ptr_array_index(live->macs, i), g_ptr_array_index(intent->macs, i), error))
            return FALSE;
    }
    return TRUE;
}

static gboolean equal_os_disk(const VrDomainDef *live, const VrDomainDef *intent, const char *target, GError **error)
{
    const VrDomainDisk *is = vr_domain_def_os_disk(live, target, error);
    const VrDomainDisk *want = is != NULL ? vr_domain_def_os_disk(intent, target, error) : NULL;

    return want != NULL && equal_text("an OS disk of type", is->type, want->type, error) &&
           equal_text("an OS disk of format", is->driver, want->driver, error) &&
           equal_text("the OS disk", is->source, want->source, error) &&
           equal_text("the OS disk's pool", is->pool, want->pool, error) &&
           equal_text("the OS disk's volume", is->volume, want->volume, error);
}

static const VrDomainDisk *seed_of(const VrDomainDef *def)
{
    for (guint i = 0; i < def->disks->len; i++) {
        const VrDomainDisk *disk = g_ptr_array_index(def->disks, i);

        if (disk->seed)
            return disk;
    }
    return NULL;
}

/* A guest may open the tray. */
static gboolean equal_seed(const VrDomainDef *live, const VrDomainDef *intent, GError **error)
{
    const VrDomainDisk *is = seed_of(live), *want = seed_of(intent);
    gboolean ejected = is != NULL && want != NULL && is->source == NULL;

    return ejected || equal_text("the seed", is != NULL ? is->source : NULL, want != NULL ? want->source : NULL, error);
}

gboolean vr_domain_xml_live_matches(const char *live, const char *intent, const char *target, GError **error)
{
    g_autoptr(VrDomainDef) is = vr_domain_def_parse(live, error);
    g_autoptr(VrDomainDef) want = is != NULL ? vr_domain_def_parse(intent, error) : NULL;

    return want != NULL && equal_os_disk(is, want, target, error) && equal_seed(is, want, error) &&
           equal_text("the UUID", is->uuid, want->uuid, error) && equal_macs(is, want, error) &&
           equal_text("the machine type", is->machine, want->machine, error) &&
           (is_nvram_of(is, want) || equal_text("the NVRAM", is->nvram, want->nvram, error)) &&
           equal_text("a TPM:", is->tpm ? "yes" : "no", want->tpm ? "yes" : "no", error);
}
