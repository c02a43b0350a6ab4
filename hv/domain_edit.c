/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "hv/domain_edit.h"

void vr_dom_set_attribute(xmlNode *node, const char *name, const char *value)
{
    if (value != NULL)
        xmlSetProp(node, (const xmlChar *)name, (const xmlChar *)value);
    else
        xmlUnsetProp(node, (const xmlChar *)name);
}

xmlNode *vr_dom_new(const char *name)
{
    return xmlNewNode(NULL, (const xmlChar *)name);
}

xmlNode *vr_dom_add(xmlNode *parent, const char *name)
{
    return xmlAddChild(parent, vr_dom_new(name));
}

xmlNode *vr_dom_indentation(guint depth)
{
    g_autofree char *text = g_strdup_printf("\n%*s", (int)depth * 2, "");

    return xmlNewText((const xmlChar *)text);
}

/* White space as libvirt writes it, for people who read the difference. */
void vr_dom_indent(xmlNode *node, guint depth)
{
    xmlNode *last = NULL;

    for (xmlNode *child = vr_dom_child(node, NULL); child != NULL; child = vr_dom_next(child, NULL)) {
        xmlAddPrevSibling(child, vr_dom_indentation(depth + 1));
        vr_dom_indent(child, depth + 1);
        last = child;
    }
    if (last != NULL)
        xmlAddNextSibling(last, vr_dom_indentation(depth));
}

/* Takes the element out together with the white space before it, so that no empty lines pile up. */
void vr_dom_remove_with_space(xmlNode *node)
{
    if (node != NULL && node->prev != NULL && xmlIsBlankNode(node->prev))
        vr_dom_remove(node->prev);
    vr_dom_remove(node);
}

void vr_dom_insert_after(xmlNode *place, xmlNode *node, guint depth)
{
    xmlAddNextSibling(place, node);
    xmlAddPrevSibling(node, vr_dom_indentation(depth));
}
