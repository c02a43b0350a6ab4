/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "hv/domain_dom.h"

#include "base/error.h"
#include "hv/domain_xml.h"
#include <libxml/parser.h>
#include <libxml/xmlsave.h>
#include <string.h>

/* A domain's XML is some kilobytes; its metadata may be large, but not this large. */
#define MAX_XML (16 * 1024 * 1024)

G_DEFINE_AUTOPTR_CLEANUP_FUNC(xmlParserCtxt, xmlFreeParserCtxt)

static gpointer init_parser(gpointer data)
{
    xmlInitParser();
    return NULL;
}

static void set_parse_error(const xmlParserCtxt *context, GError **error)
{
    const xmlError *last = &context->lastError;
    g_autofree char *message = g_strchomp(g_strdup(last->message != NULL ? last->message : "it is not well-formed"));

    g_set_error(error, VR_ERROR, VR_ERROR_INVALID, "XML, line %d: %s", last->line, message);
}

xmlDoc *vr_dom_parse(const char *xml, const char *root_name, GError **error)
{
    static GOnce once = G_ONCE_INIT;
    gsize length = strlen(xml);

    g_once(&once, init_parser, NULL);
    if (length > MAX_XML) {
        g_set_error(error, VR_ERROR, VR_ERROR_INVALID, "XML of %" G_GSIZE_FORMAT " bytes is too large", length);
        return NULL;
    }
    g_autoptr(xmlParserCtxt) context = xmlNewParserCtxt();
    g_autoptr(xmlDoc) doc = xmlCtxtReadMemory(context, xml, (int)length, NULL, NULL,
                                              XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
    if (doc == NULL) {
        set_parse_error(context, error);
        return NULL;
    }
    if (doc->intSubset != NULL) {
        g_set_error_literal(error, VR_ERROR, VR_ERROR_INVALID, "XML with a document type is not accepted");
        return NULL;
    }
    const xmlNode *root = xmlDocGetRootElement(doc);
    if (root == NULL || strcmp((const char *)root->name, root_name) != 0) {
        g_set_error(error, VR_ERROR, VR_ERROR_INVALID, "XML: the root element is not <%s>", root_name);
        return NULL;
    }
    /* A document that names no encoding is written with character references in its attributes. */
    if (doc->encoding == NULL)
        doc->encoding = xmlStrdup((const xmlChar *)"UTF-8");
    return g_steal_pointer(&doc);
}

char *vr_dom_text_of(xmlDoc *doc)
{
    xmlBuffer *buffer = xmlBufferCreate();
    xmlSaveCtxt *save = xmlSaveToBuffer(buffer, "UTF-8", XML_SAVE_NO_DECL);

    xmlSaveTree(save, xmlDocGetRootElement(doc));
    xmlSaveClose(save);
    char *text = g_strdup_printf("%s\n", (const char *)xmlBufferContent(buffer));
    xmlBufferFree(buffer);
    return text;
}

static xmlNode *first_from(xmlNode *node, const char *name)
{
    for (; node != NULL; node = node->next) {
        if (node->type != XML_ELEMENT_NODE)
            continue;
        if (name == NULL || (node->ns == NULL && strcmp((const char *)node->name, name) == 0))
            return node;
    }
    return NULL;
}

xmlNode *vr_dom_child(const xmlNode *parent, const char *name)
{
    return parent != NULL ? first_from(parent->children, name) : NULL;
}

xmlNode *vr_dom_next(const xmlNode *node, const char *name)
{
    return node != NULL ? first_from(node->next, name) : NULL;
}

static char *take_xml_string(xmlChar *value)
{
    char *copy = g_strdup((const char *)value);

    xmlFree(value);
    return copy;
}

char *vr_dom_attribute(const xmlNode *node, const char *name)
{
    xmlChar *value = node != NULL ? xmlGetNoNsProp(node, (const xmlChar *)name) : NULL;

    return value != NULL ? take_xml_string(value) : NULL;
}

gboolean vr_dom_attribute_is(const xmlNode *node, const char *name, const char *value)
{
    g_autofree char *is = vr_dom_attribute(node, name);

    return g_strcmp0(is, value) == 0;
}

char *vr_dom_content(const xmlNode *node)
{
    xmlChar *value = node != NULL ? xmlNodeGetContent(node) : NULL;
    g_autofree char *text = value != NULL ? g_strstrip(take_xml_string(value)) : NULL;

    return text != NULL && text[0] != '\0' ? g_steal_pointer(&text) : NULL;
}

void vr_dom_remove(xmlNode *node)
{
    if (node == NULL)
        return;
    xmlUnlinkNode(node);
    xmlFreeNode(node);
}

xmlNode *vr_dom_disk(xmlDoc *doc, const char *target)
{
    const xmlNode *devices = vr_dom_child(xmlDocGetRootElement(doc), "devices");

    if (target == NULL)
        return NULL;
    for (xmlNode *disk = vr_dom_child(devices, "disk"); disk != NULL; disk = vr_dom_next(disk, "disk")) {
        if (vr_dom_attribute_is(vr_dom_child(disk, "target"), "dev", target))
            return disk;
    }
    return NULL;
}

xmlNode *vr_dom_seed(xmlDoc *doc)
{
    const xmlNode *devices = vr_dom_child(xmlDocGetRootElement(doc), "devices");

    for (xmlNode *disk = vr_dom_child(devices, "disk"); disk != NULL; disk = vr_dom_next(disk, "disk")) {
        if (vr_dom_attribute_is(vr_dom_child(disk, "alias"), "name", VR_SEED_ALIAS))
            return disk;
    }
    return NULL;
}

xmlNode *vr_dom_record(xmlDoc *doc)
{
    const xmlNode *metadata = vr_dom_child(xmlDocGetRootElement(doc), "metadata");

    for (xmlNode *node = vr_dom_child(metadata, NULL); node != NULL; node = vr_dom_next(node, NULL)) {
        if (node->ns != NULL && strcmp((const char *)node->ns->href, VR_METADATA_NS) == 0 &&
            strcmp((const char *)node->name, "instance") == 0)
            return node;
    }
    return NULL;
}
