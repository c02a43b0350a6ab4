/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Private to the model: osProfile's offlineConfiguration (C6), carryOver and carryOverFrom (C8): what is written into a new OS disk before its guest has it. */
#pragma once

#include "orchestrator/model_keys.h"

extern const VrModelKey vr_model_offline_keys[]; /* offsets are those of VrOfflineProfile */
extern const VrModelChoice vr_model_carry_sources[];

gboolean vr_model_carry(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                        GError **error); /* char **, its words as documented */

void vr_model_offline_init(VrOsProfile *profile);
void vr_model_offline_clear(VrOsProfile *profile);

/* Names and machine-ids of each instance that can be told here, and that nothing is written twice. */
gboolean vr_model_check_offline(VrModelParser *parser, VrModel *model, GError **error);

/* "" for "new", else 32 hexadecimal digits, out of these or a UUID; NULL: it is none. Free with g_free. */
char *vr_machine_id_of(const char *text);

/* The keys of it that ask for something. Free with g_strfreev. */
char **vr_model_offline_given(const VrOfflineProfile *offline);

/* What they say, as texts that differ when they do, without what may be a secret. NULL: nothing. Free with g_free. */
char *vr_model_offline_files_text(const GPtrArray *files);
char *vr_model_offline_keys_text(const GPtrArray *keys);
