/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Private to the model: osProfile (C1, C2, C6, C7); offlineConfiguration and carryOver are in model_offline.c. */
#pragma once

#include "orchestrator/model_keys.h"

extern const VrModelKey vr_model_profile_keys[]; /* offsets are those of VrOsProfile */

gboolean vr_model_profile(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                          GError **error); /* VrOsProfile */
gboolean vr_model_profile_data(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                               GError **error); /* VrProfileData; the row's data is its table */
gboolean vr_model_profile_ssh_keys(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                                   GError **error); /* GPtrArray *; the row's data is the table of an item */

/* The table of a VrProfileData. */
extern const VrModelKey vr_model_data_keys[];

/* One of its two is there; the text is not too large, and its fields are ones. file: how the key of its file is spelled. */
gboolean vr_model_check_data(VrModelParser *parser, const VrProfileData *data, const char *file, GError **error);
void vr_model_data_clear(VrProfileData *data);

/* The fields of the text at that path are ones, and for each instance of which that can be told here it comes to something that check takes. */
gboolean vr_model_check_for_each(VrModelParser *parser, const VrModel *model, const char *path, const char *text,
                                 VrModelCheck check, GError **error);

void vr_model_profile_init(VrOsProfile *profile);
void vr_model_profile_clear(VrOsProfile *profile);

/* The host name of each instance that can be told here. */
gboolean vr_model_check_profile(VrModelParser *parser, VrModel *model, GError **error);

/* What they say, as texts that differ when they do; of a text in the model its length and digest. NULL: nothing. Free with g_free. */
char *vr_model_data_text(const VrProfileData *data);
char *vr_model_meta_text(const GPtrArray *meta);
char *vr_model_keys_text(const GPtrArray *keys);
