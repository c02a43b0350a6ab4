/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Listens to one guest's serial console, on a thread of its own, from its start on. It is there to say why a guest did not become healthy, and nothing
 * more: nobody waits for it, and it never fails.
 */
#pragma once

#include "hv/hv.h"

typedef struct VrCapture VrCapture;

/* Before the guest starts: where its log file ends now, for which it waits a quarter of a second at most. Of a log file that a start empties all is
 * the guest's, so that it may run already; what it said to a pseudo terminal is gone then. hv outlives the capture. */
VrCapture *vr_capture_new(VrHv *hv, const char *uuid, const VrConsoleDevice *device);

/* The guest runs: from now on. Once. */
void vr_capture_begin(VrCapture *capture);
gboolean vr_capture_has_begun(const VrCapture *capture);

/* No more: what a log file has by now is read, for which it waits a second at most. Repeatable. */
void vr_capture_end(VrCapture *capture);

/* What is kept of it. Not owned by the caller. */
VrConsole *vr_capture_console(VrCapture *capture);

/* Ends it. Waits for an answer of libvirt that is outstanding, which has a deadline. */
void vr_capture_free(VrCapture *capture);
