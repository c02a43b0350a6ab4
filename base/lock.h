/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * An exclusive lock that goes with its process: an OFD lock on a small file, in which the holder writes
 * who it is, for the error message of the next one (SAFETY invariant 22).
 */
#pragma once

#include <glib.h>

typedef struct VrLock VrLock;

/* Takes the lock on file `name` beneath dirfd without waiting. Held by another process: VR_ERROR_BUSY, the message has
 * the holder's line ("pid 812, upgrade, since ..., by root"). `holder` is the line written for us. */
VrLock *vr_lock_acquire(int dirfd, const char *name, const char *holder, GError **error);

/* The line of a holder before us who ended without releasing it: killed, or its host went down. NULL: nobody did, or the line did not
 * survive. The lock's. */
const char *vr_lock_left(const VrLock *lock);

/* Reads without taking: TRUE when some process holds it; *holder (may be NULL) its line, free with g_free. */
gboolean vr_lock_is_held(int dirfd, const char *name, char **holder);

/* Stopped by a signal or a debugger: what it holds, it holds until somebody lets it go on or ends it. */
gboolean vr_process_is_stopped(int pid);

void vr_lock_release(VrLock *lock);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrLock, vr_lock_release)
