/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What may differ in a domain's XML between libvirt and the scripted hypervisor, each with its reason; and the rest as text. */
#include "hv/both.h"

#include "hv/domain_dom.h"
#include <libxml/xpath.h>

static const struct {
    const char *what, *why;
} may_differ[] = {
    {"/domain/@id", "a number of the running domain; compared through info"},
    {"//address | //controller", "the places of devices on buses, and the buses"},
    {"//alias | //@index | //@portid", "names that a running domain's parts have in QEMU"},
    {"/domain/cpu", "the default one, and what QEMU made of it"},
    {"/domain/seclabel | /domain/resource", "labels and cgroup of the running QEMU"},
    {"/domain/os/type/@machine", "'pc' is a name for the newest one"},
    {"/domain/devices/emulator | //input | //audio | //console", "devices that every domain gets"},
    {"//serial/target", "... and their models"},
    {"//channel/source | //channel/target/@state", "the socket of a running domain's agent"},
    {"/domain/devices/disk/backingStore[not(*)]",
     "of a disk that names no chain, libvirt says of a running domain that there is none"},
    {"/domain[not(@id)]/os[@firmware]/nvram", "libvirt before 10 chooses it at each start, later ones at define"},
    {"/domain/os/@firmware | /domain/os/firmware | /domain/os/loader", "... and which of these say so"},
    {"//nvram/@template | //nvram/@format | //nvram/@templateFormat", "what an NVRAM is made of"},
};

static void drop(xmlDoc *doc, const char *what)
{
    xmlXPathContext *context = xmlXPathNewContext(doc);
    xmlXPathObject *found = xmlXPathEval((const xmlChar *)what, context);

    assert_non_null(found);
    for (int i = found->nodesetval ? found->nodesetval->nodeNr - 1 : -1; i >= 0; i--) {
        xmlNode *node = found->nodesetval->nodeTab[i];
        xmlUnlinkNode(node);
        if (node->type == XML_ATTRIBUTE_NODE)
            xmlFreeProp((xmlAttr *)node);
        else
            xmlFreeNode(node);
        found->nodesetval->nodeTab[i] = NULL;
    }
    xmlXPathFreeObject(found);
    xmlXPathFreeContext(context);
}

/* "/devices/disk[vda]" for an element below `path`. */
static char *path_of(const char *path, const xmlNode *node)
{
    g_autofree char *target = vr_dom_attribute(vr_dom_child(node, "target"), "dev");

    return target ? g_strdup_printf("%s/%s[%s]", path, (const char *)node->name, target)
                  : g_strdup_printf("%s/%s", path, (const char *)node->name);
}

static void add_lines(const xmlNode *node, const char *path, GPtrArray *lines)
{
    g_autofree char *text = vr_dom_child(node, NULL) ? NULL : vr_dom_content(node);

    if (g_str_equal(path, "/os/nvram") && !strstr(text, "/disks/")) {
        g_free(text);
        text = g_strdup("(where the hypervisor keeps its own)");
    }
    g_ptr_array_add(lines, g_strdup_printf("%s %s", path, text ? text : ""));
    for (const xmlAttr *a = node->properties; a; a = a->next) {
        g_autofree char *value = vr_dom_attribute(node, (const char *)a->name);
        g_ptr_array_add(lines, g_strdup_printf("%s@%s %s", path, (const char *)a->name, value));
    }
    for (const xmlNode *child = vr_dom_child(node, NULL); child; child = vr_dom_next(child, NULL)) {
        g_autofree char *below = path_of(path, child);
        add_lines(child, below, lines);
    }
}

static gint compare_lines(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

char *both_text(const char *xml, const char *dir)
{
    g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(xmlDoc) doc = vr_dom_parse(xml, "domain", NULL);
    g_autofree char *text = NULL;
    g_auto(GStrv) parts = NULL;

    assert_non_null(doc);
    for (gsize i = 0; i < G_N_ELEMENTS(may_differ); i++)
        drop(doc, may_differ[i].what);
    add_lines(xmlDocGetRootElement(doc), "", lines);
    g_ptr_array_sort(lines, compare_lines);
    g_ptr_array_add(lines, NULL);
    text = g_strjoinv("\n    ", (char **)lines->pdata);
    parts = g_strsplit(text, dir, -1);
    return g_strjoinv("DIR", parts);
}
