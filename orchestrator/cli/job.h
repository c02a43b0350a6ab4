/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * This process as a job: one that the daemon has started, or a unit (daemon/jobs.h). It is told so by its environment:
 *
 *   VIRT_REIMAGE_JOB         1, or ro for one who came by the read-only socket; not set: this is no job
 *   VIRT_REIMAGE_JOB_ROOT    the store that the daemon serves; its libvirt is LIBVIRT_DEFAULT_URI, or the usual one
 *   VIRT_REIMAGE_JOB_UID     the user on whose behalf it is; not set: root's, or the daemon's own
 *   VIRT_REIMAGE_ERROR_JSON  1: an error is one line of JSON on standard error (orchestrator/error_json.h), as with --json
 *
 * What the words of a peer may be is judged here and not in the daemon: by the parser that then obeys them.
 */
#pragma once

#include "orchestrator/cli/cli.h"

#include <glib.h>

gboolean vr_job_is(void);
gboolean vr_job_wants_json(void);

/* The store that the daemon serves; NULL: this is no job, or was not told. */
const char *vr_job_root(void);

/* A command that only reads and shows nothing secret: it may be asked for on the read-only socket. */
gboolean vr_job_is_public(const VrCliCommand *command);

/* May these words be a job's? No other URI or root than the daemon's own; and of a peer of the read-only socket only public commands. */
gboolean vr_job_check(const VrCli *cli, GError **error);
