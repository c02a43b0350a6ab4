/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Private to hv/: the few libxml2 idioms that reading, editing and comparing share. Names are local names without a
 * namespace; strings that are returned are GLib's (g_free). */
#pragma once

#include <glib.h>
#include <libxml/tree.h>

G_DEFINE_AUTOPTR_CLEANUP_FUNC(xmlDoc, xmlFreeDoc)

/* Parses without network, DTD or entities; the root must be <root_name>. VR_ERROR_INVALID with libxml2's reason. */
xmlDoc *vr_dom_parse(const char *xml, const char *root_name, GError **error);

/* The whole document as text, without an XML declaration. */
char *vr_dom_text_of(xmlDoc *doc);

/* The first child element of that name, and the next sibling; name NULL: any element. parent or node may be NULL. */
xmlNode *vr_dom_child(const xmlNode *parent, const char *name);
xmlNode *vr_dom_next(const xmlNode *node, const char *name);

/* An attribute's value, NULL when it is not there (node NULL too). */
char *vr_dom_attribute(const xmlNode *node, const char *name);

/* TRUE when the attribute is there and has this value. */
gboolean vr_dom_attribute_is(const xmlNode *node, const char *name, const char *value);

/* The text of an element with surrounding white space removed, NULL when node is NULL or there is none. */
char *vr_dom_content(const xmlNode *node);

/* Unlinks and frees; NULL does nothing. */
void vr_dom_remove(xmlNode *node);

/* The <disk> whose <target dev> is target, NULL when there is none. */
xmlNode *vr_dom_disk(xmlDoc *doc, const char *target);

/* Our seed's CD-ROM by its alias, NULL when there is none. */
xmlNode *vr_dom_seed(xmlDoc *doc);

/* Our record in <metadata>, NULL when there is none. */
xmlNode *vr_dom_record(xmlDoc *doc);
