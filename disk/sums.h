/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Digests that were published beside an image, in the forms that sha256sum and its relatives write (row A9). */
#pragma once

#include "disk/copy.h"

/* "sha256:HEX" to lower-case hex; anything else is VR_ERROR_USAGE. */
gboolean vr_digest_parse(const char *text, char digest[VR_DIGEST_HEX_LENGTH + 1], GError **error);

/* The SHA-256 of `name` in text: "HEX  name", "HEX *name" or "SHA256 (name) = HEX", by base names. file is for messages.
 * None, two that differ, or a text that is PGP-clearsigned: VR_ERROR_REFUSED. */
gboolean vr_sums_find(const char *text, const char *file, const char *name, char digest[VR_DIGEST_HEX_LENGTH + 1],
                      GError **error);

/* The same in a file of at most 1 MiB. */
gboolean vr_sums_read(const char *file, const char *name, char digest[VR_DIGEST_HEX_LENGTH + 1], GError **error);
