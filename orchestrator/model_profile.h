/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Private to the model: osProfile (C1, C2, C6, C7). */
#pragma once

#include "orchestrator/model_keys.h"

extern const VrModelKey vr_model_profile_keys[]; /* offsets are those of VrOsProfile */

gboolean vr_model_profile(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                          GError **error); /* VrOsProfile */
gboolean vr_model_profile_data(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                               GError **error); /* VrProfileData; the row's data is its table */
gboolean vr_model_profile_ssh_keys(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                                   GError **error); /* GPtrArray *; the row's data is the table of an item */

void vr_model_profile_init(VrOsProfile *profile);
void vr_model_profile_clear(VrOsProfile *profile);

/* The host name of each instance that can be told here. */
gboolean vr_model_check_profile(VrModelParser *parser, VrModel *model, GError **error);

/* NULL, or what a line must be: a type that OpenSSH has, and the key itself; no options before it. */
const char *vr_ssh_key_check(const char *line);

/* What they say, as texts that differ when they do; of a text in the model its length and digest. NULL: nothing. Free with g_free. */
char *vr_model_data_text(const VrProfileData *data);
char *vr_model_meta_text(const GPtrArray *meta);
char *vr_model_keys_text(const GPtrArray *keys);
