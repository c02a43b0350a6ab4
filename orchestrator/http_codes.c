/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/http_codes.h"

#include <microhttpd.h>

/* In the order of the enum, which is that of the statuses. */
static const VrHttpCodeInfo codes[VR_HTTP_CODES_] = {
    [VR_HTTP_INVALID_API_VERSION] = {"InvalidApiVersionParameter", MHD_HTTP_BAD_REQUEST, "no such api-version is known",
                                     "leave it out, or take one that 'GET /' lists"},
    [VR_HTTP_FORBIDDEN] = {"Forbidden", MHD_HTTP_FORBIDDEN, "not by this socket, or not by this user",
                           "ask by the other socket of the daemon, as root or as one of the group that it is for"},
    [VR_HTTP_METHOD_NOT_ALLOWED] = {"MethodNotAllowed", MHD_HTTP_METHOD_NOT_ALLOWED,
                                    "the path is there, and not for this method",
                                    "take a method that the message names"},
    [VR_HTTP_TOO_LARGE] = {"TooLarge", MHD_HTTP_CONTENT_TOO_LARGE, "the body is larger than what is taken",
                           "send less; an image is published by the command, which hands its file over"},
    [VR_HTTP_MISDIRECTED] = {"Misdirected", MHD_HTTP_MISDIRECTED_REQUEST,
                             "this daemon serves another libvirt, or another store",
                             "'GET /' says which; ask the daemon that serves what is meant, or none"},
    [VR_HTTP_UPGRADE_REQUIRED] = {"UpgradeRequired", MHD_HTTP_UPGRADE_REQUIRED,
                                  "this path is not for HTTP but for the program, which changes the protocol",
                                  "give the command 'virt-reimage', which does that"},
    [VR_HTTP_NOT_READY] = {"NotReady", MHD_HTTP_SERVICE_UNAVAILABLE, "the run has not made its first step",
                           "ask again in a moment"},
    [VR_HTTP_STOPPING] = {"Stopping", MHD_HTTP_SERVICE_UNAVAILABLE,
                          "the daemon is being stopped, and begins nothing any more",
                          "ask again when it runs; the command 'virt-reimage' does not need it"},
};

const VrHttpCodeInfo *vr_http_code_info(VrHttpCode code)
{
    return &codes[code];
}
