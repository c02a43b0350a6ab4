/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The environment of a job (cli/job.h): that of the process that starts it, without what the service manager said to that one and without its language and
 * terminal, and with what is given for the job. Of a peer only that is taken which changes how an answer looks, and only in forms that name no file: a locale,
 * a terminal type and a time zone with a '/' in the wrong place are files that libraries open as root.
 */
#pragma once

#include <glib.h>

#define VR_JOB_UID "VIRT_REIMAGE_JOB_UID" /* of the peer on whose behalf a job is, where that is not root */

/* base: NAME=VALUE, NULL-terminated; more: likewise, may be NULL, wins. Free with g_strfreev. */
char **vr_job_environment(const char *const *base, const char *const *more);

/* May a peer give this NAME=VALUE? root: he is, so he may also say on whose behalf (SUDO_USER), and ask for what is done (VIRT_REIMAGE_DEBUG). */
gboolean vr_job_environment_may(const char *pair, gboolean root);
