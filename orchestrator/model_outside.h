/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Private to the model: externalResources, what a run needs that is neither the guests' nor the store's (C5). Azure has no key for it. A secret
 * never stands in the model: a URL with a signature, further headers and tokens come from files, and no message here repeats a URL's query.
 */
#pragma once

#include "orchestrator/model_keys.h"

#define VR_RESOURCES_MAX 256

extern const VrModelKey vr_model_outside_keys[]; /* offsets are those of VrModelResource */

/* The list. Target: GPtrArray * of VrModelResource *. */
gboolean vr_model_outside(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                          GError **error);

GPtrArray *vr_model_outside_new(void);

/* All of it on one line, for a person; NULL: none. Free with g_free. */
char *vr_model_outside_text(const GPtrArray *resources);
