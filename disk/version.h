/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Names and versions of images: what may be one, and their order (DESIGN, words; SAFETY section 3, other inputs). */
#pragma once

#include <glib.h>

/* A short name (image, set): 1 to 128 bytes of [A-Za-z0-9._+-], beginning with a letter or digit. what: "image", "set"
 * for the message. Refused: VR_ERROR_USAGE. */
gboolean vr_name_check(const char *name, const char *what, GError **error);

/* A version: 1 to 4 dot-separated integers below 2^31 without leading zeros. Where a near spelling works
 * ("20241004-1890"), the message gives it. Refused: VR_ERROR_USAGE. */
gboolean vr_version_check(const char *version, GError **error);

/* Order by number: <0, 0, >0. Missing parts count as 0, so 1.2 equals 1.2.0. Both must be valid. */
int vr_version_compare(const char *a, const char *b);
