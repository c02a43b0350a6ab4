/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Between manifest.c and manifest_journal.c. */
#pragma once

#include "engine/manifest.h"

/* An array that owns its VrManifestEntry *. */
GPtrArray *vr_manifest_new(void);
