/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Our record in a domain's <metadata>, read back. */
#include "hv/domain_dom.h"
#include "hv/domain_xml.h"

void vr_domain_record_clear(VrDomainRecordRead *record)
{
    g_clear_pointer(&record->set, g_free);
    g_clear_pointer(&record->image, g_free);
    g_clear_pointer(&record->version, g_free);
    g_clear_pointer(&record->swap_id, g_free);
}

gboolean vr_domain_xml_record(const char *xml, VrDomainRecordRead *record)
{
    g_autoptr(xmlDoc) doc = vr_dom_parse(xml, "domain", NULL);
    const xmlNode *node = doc != NULL ? vr_dom_record(doc) : NULL;
    g_autofree char *number = vr_dom_attribute(node, "generation");
    guint64 value;

    *record = (VrDomainRecordRead){0};
    if (number == NULL || !g_ascii_string_to_unsigned(number, 10, 0, G_MAXINT, &value, NULL))
        return FALSE;
    record->generation = (guint)value;
    record->set = vr_dom_attribute(node, "set");
    record->image = vr_dom_attribute(node, "image");
    record->version = vr_dom_attribute(node, "version");
    record->swap_id = vr_dom_attribute(node, "swap");
    return TRUE;
}
