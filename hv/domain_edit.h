/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Private to hv/: what the edits of a domain's XML share (domain_xml.c, domain_seed.c). */
#pragma once

#include "hv/domain_dom.h"

/* value NULL takes the attribute away. */
void vr_dom_set_attribute(xmlNode *node, const char *name, const char *value);

xmlNode *vr_dom_new(const char *name);
xmlNode *vr_dom_add(xmlNode *parent, const char *name);

/* A new line and two blanks for each level. */
xmlNode *vr_dom_indentation(guint depth);

/* White space as libvirt writes it, for people who read the difference. */
void vr_dom_indent(xmlNode *node, guint depth);

/* Takes the element out together with the white space before it, so that no empty lines pile up; NULL does nothing. */
void vr_dom_remove_with_space(xmlNode *node);

/* depth: of the new node. */
void vr_dom_insert_after(xmlNode *place, xmlNode *node, guint depth);

/* Our seed's CD-ROM as it is in the other document (domain_seed.c). VR_ERROR_REFUSED: there is no place for it any more. */
gboolean vr_dom_keep_seed(xmlDoc *doc, xmlDoc *kept, GError **error);

/* The path is absolute, and can be in XML; else VR_ERROR_INVALID. */
gboolean vr_dom_path_is_valid(const char *path, const char *what, GError **error);
