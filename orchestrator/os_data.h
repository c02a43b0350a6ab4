/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Files and keys that an osProfile names, as a run has them: read once, with the fields of each instance in them. */
#pragma once

#include "orchestrator/model.h"
#include "orchestrator/template.h"

/* What the model gives, from its file or its text; *bytes NULL: nothing. VR_ERROR_REFUSED: the file cannot be read or has more than max bytes, or a
 * template is no text or has a field that is none. */
gboolean vr_os_data_load(const VrProfileData *data, gsize max, GBytes **bytes, GError **error);

/* The bytes for one instance; shared where it is no template. VR_ERROR_REFUSED: it has no such field, or it comes to more than max bytes. */
GBytes *vr_os_data_of(const VrProfileData *data, GBytes *bytes, gsize max, const char *const *values, GError **error);

/* The line of a public key; free with g_free. VR_ERROR_REFUSED: its file cannot be read, or what is in it is none, or has options. */
char *vr_os_key_load(const VrProfileKey *key, GError **error);
