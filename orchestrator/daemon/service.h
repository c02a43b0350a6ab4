/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The daemon as a service: the one main loop, its words to the service manager (sd_notify), the watchdog, and its end.
 *
 * SIGTERM and SIGINT begin a clean stop: every stop function is called once, in the order in which they were added, and the loop ends when nobody holds it
 * any more. While it is held the manager is asked for more time. A second signal ends it at once.
 */
#pragma once

#include <glib.h>

typedef struct VrService VrService;
typedef void (*VrServiceStop)(void *data);

VrService *vr_service_new(void);
void vr_service_free(VrService *service);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrService, vr_service_free)

/* Called when the stop begins: begin no new work, ask what runs to end, and hold the service until it has. */
void vr_service_add_stop(VrService *service, VrServiceStop stop, void *data);

/* Called at each SIGHUP, but while it stops. */
void vr_service_add_reload(VrService *service, VrServiceStop reload, void *data);

/* The stop waits until each hold is released. `why` is shown in the service's status: "2 runs come to their batch border". Returns its
 * number, never 0. A later call with the same number changes the words. */
guint vr_service_hold(VrService *service, guint number, const char *why);
void vr_service_release(VrService *service, guint number);

gboolean vr_service_stopping(const VrService *service);

/* Begins the stop, as SIGTERM does. */
void vr_service_stop(VrService *service);

/* One line for 'systemctl status'. */
void vr_service_status(VrService *service, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* Says READY=1 and runs the loop to the end of the stop. TRUE: clean; FALSE: a second signal cut it short. */
gboolean vr_service_run(VrService *service);
