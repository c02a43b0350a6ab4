/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Is this host going down? By what systemd says, where it runs; a host without it says nothing. */
#pragma once

#include <glib.h>

typedef struct {
    char *stopping; /* how one knows that it goes down now; NULL: it does not */
    char *shutdown; /* what is scheduled: "reboot at 2026-11-22 23:00"; NULL: nothing is */
} VrHostState;
void vr_host_state_clear(VrHostState *state);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(VrHostState, vr_host_state_clear)

/* run_dir: /run (tests have one of their own). ask: systemctl too, which takes some milliseconds. */
void vr_host_state_read(VrHostState *state, const char *run_dir, gboolean ask);
