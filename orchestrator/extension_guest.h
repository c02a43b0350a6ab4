/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One extension in one guest, through its agent and a POSIX shell: what is put there, how it is started, looked at and ended.
 *
 * It has a directory of its own in the guest, 0700 and of root, in /run, so in memory and gone after a restart. Its script lies there, the
 * number of its process while it runs, and then its exit status and the end of its output. So a run that lost sight of it, because the agent or we
 * were started anew, finds it again, and nothing is run twice at once.
 *
 * What is secret goes by standard input alone: argv is seen by every user of the guest, and the agent logs it. The shell
 * texts are constants, and what varies are their arguments.
 */
#pragma once

#include "hv/hv.h"

#define VR_EXTENSION_DIR "/run/virt-reimage"
#define VR_EXTENSION_OUTPUT_MAX 16384 /* bytes of the end of an output that leave the guest */

typedef struct {
    VrHv *hv;
    const char *uuid;
    const char *dir;     /* in the guest, of this extension; not owned */
    const gint *aborted; /* as for vr_agent_exec() */
} VrExtensionGuest;

typedef enum {
    VR_FOUND_NOTHING, /* it was not begun, or what it left is gone */
    VR_FOUND_RUNNING,
    VR_FOUND_ENDED, /* exit_status and output are filled */
    VR_FOUND_LOST   /* it was begun, runs no more, and left no status */
} VrExtensionFound;

typedef struct {
    VrExtensionFound found;
    int exit_status;
    char *output;
    gboolean cut; /* there was more output */
} VrExtensionSight;
void vr_extension_sight_clear(VrExtensionSight *sight);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(VrExtensionSight, vr_extension_sight_clear)

/* All of them talk to the agent until deadline_ms (boot time). VR_ERROR_AGENT: it does not answer, or the guest cannot do it; what has no effect twice may
 * be tried again. VR_ERROR_FAILED: the guest did it, and it failed. VR_ERROR_CANCELLED: aborted. */

/* What is there. Changes nothing. */
gboolean vr_extension_guest_look(const VrExtensionGuest *guest, gint64 deadline_ms, VrExtensionSight *sight,
                                 GError **error);

/* Ends what may still run of it, and makes its directory anew and empty. */
gboolean vr_extension_guest_prepare(const VrExtensionGuest *guest, gint64 deadline_ms, GError **error);

/* Writes a file of the guest whole or not at all, over what was there; its directories are made. */
gboolean vr_extension_guest_put(const VrExtensionGuest *guest, const char *path, guint mode, const void *data,
                                gsize length, gint64 deadline_ms, GError **error);

/* Starts argv in a session of its own, with input on its standard input and what `environment` ("NAME=value") adds. *pid is for
 * vr_extension_guest_wait(). An error does not say that it was not started. */
gboolean vr_extension_guest_start(const VrExtensionGuest *guest, const char *const *argv,
                                  const char *const *environment, const void *input, gsize length, gint64 deadline_ms,
                                  gint64 *pid, GError **error);

/* One look at what was started: 1 it has ended, and *sight is filled; 0 not yet; -1 the agent does not answer or does not know it any more. */
int vr_extension_guest_wait(const VrExtensionGuest *guest, gint64 pid, guint *silences, gint64 deadline_ms,
                            VrExtensionSight *sight, GError **error);

/* Asks all of its processes to end, and five seconds later makes them. */
gboolean vr_extension_guest_kill(const VrExtensionGuest *guest, gint64 deadline_ms, GError **error);

/* Removes its directory. */
gboolean vr_extension_guest_remove(const VrExtensionGuest *guest, gint64 deadline_ms, GError **error);
