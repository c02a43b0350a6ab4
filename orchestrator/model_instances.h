/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Private to the model: the list of instances, and what they are labelled with. */
#pragma once

#include "orchestrator/model_keys.h"

extern const VrModelKey vr_model_instance_keys[]; /* offsets are those of VrModelInstance */

/* Element: VrModelInstance *, freed with the array. */
GPtrArray *vr_model_instances_new(void);

/* The parser of the list; target is the GPtrArray of above. */
gboolean vr_model_instances(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                            GError **error);
