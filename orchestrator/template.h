/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Texts with fields of an instance: "@{instance.name}". The spelling is that of no shell, and not that of cloud-init's own templates ("{{ }}", "{% %}");
 * "@@{" is a plain "@{".
 */
#pragma once

#include <glib.h>

/* In the order of vr_template_names. NULL: this instance has none. */
typedef enum {
    VR_FIELD_NAME,
    VR_FIELD_UUID,
    VR_FIELD_INDEX,
    VR_FIELD_UPGRADE_DOMAIN,
    VR_FIELD_ROLE,
    VR_FIELD_ZONE,
    VR_FIELD_MAC,
    VR_FIELD_SET,
    VR_FIELD_IMAGE,
    VR_FIELD_VERSION,
    VR_FIELDS
} VrField;
extern const char *const vr_template_names[]; /* "instance.name", ...; ended by NULL */

/* The text with the values in their places; free with g_free. VR_ERROR_REFUSED "line N: ...": a field that is none, that this instance has not,
 * or without its end. */
char *vr_template_expand(const char *text, const char *const values[VR_FIELDS], GError **error);

/* Only that all fields are ones. */
gboolean vr_template_check(const char *text, GError **error);
