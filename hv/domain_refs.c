/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "hv/domain_refs.h"
#include "hv/domain_dom.h"
#include <string.h>

void vr_domain_refs_free(VrDomainRefs *refs)
{
    if (refs == NULL)
        return;
    g_free(refs->name);
    g_ptr_array_unref(refs->paths);
    g_ptr_array_unref(refs->pools);
    g_ptr_array_unref(refs->volumes);
    g_free(refs);
}

static void add_path(VrDomainRefs *refs, const xmlChar *text)
{
    if (text != NULL && text[0] == '/')
        g_ptr_array_add(refs->paths, g_strdup((const char *)text));
}

static void read_element(VrDomainRefs *refs, const xmlNode *node)
{
    g_autofree char *pool = vr_dom_attribute(node, "pool");
    g_autofree char *volume = vr_dom_attribute(node, "volume");

    for (const xmlAttr *attribute = node->properties; attribute != NULL; attribute = attribute->next) {
        g_autofree char *value = vr_dom_attribute(node, (const char *)attribute->name);
        add_path(refs, (const xmlChar *)value);
    }
    if (pool != NULL && volume != NULL) {
        g_ptr_array_add(refs->pools, g_steal_pointer(&pool));
        g_ptr_array_add(refs->volumes, g_steal_pointer(&volume));
    }
}

/* The node after this one in document order, within root; NULL at the end. No recursion: the depth is not ours. */
static const xmlNode *after(const xmlNode *node, const xmlNode *root)
{
    if (node->children != NULL)
        return node->children;
    while (node != root && node->next == NULL)
        node = node->parent;
    return node != root ? node->next : NULL;
}

static xmlDoc *parse(const char *xml, GError **error)
{
    static const char *const roots[] = {"domainsnapshot", "domaincheckpoint"};

    for (gsize i = 0; i < G_N_ELEMENTS(roots); i++) {
        xmlDoc *doc = vr_dom_parse(xml, roots[i], NULL);
        if (doc != NULL)
            return doc;
    }
    return vr_dom_parse(xml, "domain", error);
}

VrDomainRefs *vr_domain_refs_parse(const char *xml, GError **error)
{
    g_autoptr(xmlDoc) doc = parse(xml, error);

    if (doc == NULL)
        return NULL;
    VrDomainRefs *refs = g_new0(VrDomainRefs, 1);
    const xmlNode *root = xmlDocGetRootElement(doc);
    refs->name = vr_dom_content(vr_dom_child(root, "name"));
    refs->paths = g_ptr_array_new_with_free_func(g_free);
    refs->pools = g_ptr_array_new_with_free_func(g_free);
    refs->volumes = g_ptr_array_new_with_free_func(g_free);
    for (const xmlNode *node = root; node != NULL; node = after(node, root)) {
        if (node->type == XML_ELEMENT_NODE)
            read_element(refs, node);
        else if (node->type == XML_TEXT_NODE || node->type == XML_CDATA_SECTION_NODE)
            add_path(refs, node->content);
    }
    return refs;
}
