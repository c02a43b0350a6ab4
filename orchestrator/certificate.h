/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Certificates in PEM: whose they are, and from when until when. Nothing is proven of who signed them. */
#pragma once

#include <glib.h>

#define VR_CERTIFICATES_MAX 1024 /* of one text: a host's whole list of authorities has about 150 */

typedef struct {
    char *name; /* its common name, else its whole subject; printable */
    gint64 from_us, until_us;
} VrCertificate;

/* All of a text, whatever else is in it. Element: VrCertificate *, freed with the array. NULL with VR_ERROR_INVALID: there is none, or one that cannot
 * be read. */
GPtrArray *vr_certificates_parse(const char *pem, GError **error);
