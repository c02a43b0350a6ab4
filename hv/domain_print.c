/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Domain XML in libvirt's own spelling, for people who compare it with what virsh prints: attributes between apostrophes, libvirt's five
 * entities, nothing else moved. libxml2 writes quotation marks and cannot be told otherwise; with them each line of a dump would differ
 * from its edit. What lies in <metadata> libvirt leaves to libxml2, and so is it here.
 */
#include "hv/domain_dom.h"
#include "hv/domain_xml.h"
#include <libxml/xmlsave.h>
#include <string.h>

#define DEPTH_MAX 256 /* libxml2 parses no deeper */

/* g_markup_escape_text() would also write C1 control characters as references. */
static void add_escaped(GString *text, const xmlChar *value)
{
    for (const char *c = (const char *)value; *c != '\0'; c++) {
        const char *entity = *c == '<'    ? "&lt;"
                             : *c == '>'  ? "&gt;"
                             : *c == '&'  ? "&amp;"
                             : *c == '"'  ? "&quot;"
                             : *c == '\'' ? "&apos;"
                                          : NULL;
        if (entity != NULL)
            g_string_append(text, entity);
        else
            g_string_append_c(text, *c);
    }
}

static void add_name(GString *text, const xmlNs *ns, const xmlChar *name)
{
    if (ns != NULL && ns->prefix != NULL)
        g_string_append_printf(text, "%s:", (const char *)ns->prefix);
    g_string_append(text, (const char *)name);
}

/* libvirt names the namespaces last. */
static void add_attributes(GString *text, const xmlNode *node)
{
    for (const xmlAttr *attribute = node->properties; attribute != NULL; attribute = attribute->next) {
        xmlChar *value = xmlNodeListGetString(node->doc, attribute->children, 1);
        g_string_append_c(text, ' ');
        add_name(text, attribute->ns, attribute->name);
        g_string_append(text, "='");
        if (value != NULL)
            add_escaped(text, value);
        g_string_append_c(text, '\'');
        xmlFree(value);
    }
    for (const xmlNs *ns = node->nsDef; ns != NULL; ns = ns->next) {
        g_string_append_printf(text, " xmlns%s%s='", ns->prefix != NULL ? ":" : "",
                               ns->prefix != NULL ? (const char *)ns->prefix : "");
        add_escaped(text, ns->href);
        g_string_append_c(text, '\'');
    }
}

/* As libxml2 writes it. */
static void add_dump(GString *text, xmlNode *node)
{
    xmlBuffer *buffer = xmlBufferCreate();
    xmlSaveCtxt *save = xmlSaveToBuffer(buffer, "UTF-8", XML_SAVE_NO_DECL);

    xmlSaveTree(save, node);
    xmlSaveClose(save);
    g_string_append(text, (const char *)xmlBufferContent(buffer));
    xmlBufferFree(buffer);
}

static gboolean is_metadata(const xmlNode *node)
{
    return node->ns == NULL && strcmp((const char *)node->name, "metadata") == 0 && node->parent != NULL &&
           node->parent == xmlDocGetRootElement(node->doc);
}

static void add_node(GString *text, xmlNode *node, guint depth);

static void add_element(GString *text, xmlNode *node, guint depth)
{
    g_string_append_c(text, '<');
    add_name(text, node->ns, node->name);
    add_attributes(text, node);
    if (node->children == NULL) {
        g_string_append(text, "/>");
        return;
    }
    g_string_append_c(text, '>');
    for (xmlNode *child = node->children; child != NULL; child = child->next) {
        if (is_metadata(node) && child->type == XML_ELEMENT_NODE)
            add_dump(text, child);
        else
            add_node(text, child, depth + 1);
    }
    g_string_append(text, "</");
    add_name(text, node->ns, node->name);
    g_string_append_c(text, '>');
}

static void add_node(GString *text, xmlNode *node, guint depth)
{
    if (node->type == XML_TEXT_NODE)
        add_escaped(text, node->content);
    else if (node->type == XML_ELEMENT_NODE && depth < DEPTH_MAX)
        add_element(text, node, depth);
    else
        add_dump(text, node);
}

char *vr_domain_xml_as_libvirt(const char *xml, GError **error)
{
    g_autoptr(xmlDoc) doc = vr_dom_parse(xml, "domain", error);
    GString *text;

    if (doc == NULL)
        return NULL;
    text = g_string_new(NULL);
    add_node(text, xmlDocGetRootElement(doc), 0);
    g_string_append_c(text, '\n');
    return g_string_free(text, FALSE);
}
