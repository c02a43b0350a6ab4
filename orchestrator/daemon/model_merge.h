/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What PATCH merges into the model that is there, and what PUT gives. Pure: no I/O. */
#pragma once

#include <glib.h>
#include <jansson.h>

/* RFC 7396: members of patch replace those of target, null removes one, objects are merged, lists replaced. Names are matched without regard to case, as in
 * a model, and keep the spelling of target. */
void vr_json_merge(json_t *target, json_t *patch);

/* The model for set `name` from a body: the name is put in where it is missing. VR_ERROR_USAGE: it has another one. */
gboolean vr_model_set_name(json_t *model, const char *name, GError **error);

/* TRUE when upgradePolicy.mode of a model is another one than Manual: its edits are applied at once. */
gboolean vr_model_rolls(json_t *model);
