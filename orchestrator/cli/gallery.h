/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the commands of the gallery share: who uses which version. */
#pragma once

#include "engine/in_use.h"
#include "orchestrator/cli/session.h"

/* The uses that the engine sees, and those of the sets: a model's pin, a run that is under way. Connects; required FALSE: where
 * libvirt cannot be asked, a note says so and domains are left out; likewise a set whose model cannot be read. */
VrInUse *vr_gallery_uses(VrSession *session, gboolean required, GError **error);

/* Within a transaction: FALSE with VR_ERROR_REFUSED when a generation or a run that is under way needs the version. VrStillFree. */
gboolean vr_gallery_still_free(VrDb *db, const char *name, const char *version, void *data, GError **error);

/* The version of that number in what vr_store_survey() gave ("latest" or NULL: the newest that is not excluded); NULL with an
 * error that says what there is. Not owned by the caller. */
const VrVersionState *vr_gallery_find(const VrSession *session, const GPtrArray *states, const char *name,
                                      const char *version, GError **error);
