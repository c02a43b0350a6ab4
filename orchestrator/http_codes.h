/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Codes of errors that only an answer over HTTP has, of the daemon or of the process of a run: they are about the request, and not about
 * what it asks for. All others are those of base/error.h. The manual page and docs/errors.md list both.
 */
#pragma once

typedef enum {
    VR_HTTP_INVALID_API_VERSION,
    VR_HTTP_FORBIDDEN,
    VR_HTTP_METHOD_NOT_ALLOWED,
    VR_HTTP_TOO_LARGE,
    VR_HTTP_MISDIRECTED,
    VR_HTTP_UPGRADE_REQUIRED,
    VR_HTTP_NOT_READY,
    VR_HTTP_STOPPING,
    VR_HTTP_CODES_ /* count */
} VrHttpCode;

/* Texts have no full stop at their end. */
typedef struct {
    const char *name; /* stable, as in the answer */
    int status;       /* of HTTP */
    const char *meaning;
    const char *next; /* what to do */
} VrHttpCodeInfo;

const VrHttpCodeInfo *vr_http_code_info(VrHttpCode code);
