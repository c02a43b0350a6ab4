/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Private to the model: extensionProfile (C3, C4), its keys, and the order in which extensions run. */
#pragma once

#include "orchestrator/model_keys.h"

extern const VrModelKey vr_model_extension_profile_keys[]; /* offsets are those of VrModel */

/* The parsers of its two lists; their rows' data is the table of an item. */
gboolean vr_model_extensions(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                             GError **error); /* GPtrArray *, in the order in which they run */
gboolean vr_model_extension_files(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                                  GError **error); /* GPtrArray * */

/* An empty array of VrExtension * that frees its elements. */
GPtrArray *vr_model_extensions_new(void);

/* "base, app (1f2e3d4c)": their names in order, and the beginning of a digest of all that the model says of them. NULL: there are none. Free with g_free. */
char *vr_model_extensions_text(const GPtrArray *extensions);
