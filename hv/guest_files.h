/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Files of a guest that runs, read through its agent: what a new system takes over from the old one (rows C6, C8). */
#pragma once

#include "base/guest_file.h"
#include "hv/hv.h"

/* Reads what lies at the paths (NULL-terminated; each absolute and in its shortest form): a regular file, a symbolic link as the link that it is, a
 * directory with all beneath it and before it. *files (VrGuestFile *, freed with the array; owners are numbers): what is there; the rest is left out.
 * What changes while it is read is read again, three times in all, and then VR_ERROR_CONFLICT.
 *
 * VR_ERROR_AGENT: nobody answers, the guest has no POSIX shell, find, stat, readlink and head, something is neither file nor link nor directory, has a name with a
 * control character, or is more than VR_GUEST_FILES_MAX and VR_GUEST_FILES_MAX_BYTES. VR_ERROR_TIMEOUT after deadline_ms (boot time), VR_ERROR_CANCELLED
 * when *aborted (may be NULL) is set. Content is in no log and in no argument of a command. */
gboolean vr_agent_read_files(VrHv *hv, const char *uuid, const char *const *paths, gint64 deadline_ms,
                             const gint *aborted, GPtrArray **files, GError **error);
