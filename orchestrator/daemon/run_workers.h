/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The processes of detached runs (cli/worker.h), found by the locks of their sets: whoever started them, and whichever daemon, they are no children of ours.
 * Nothing of the store is read but its locks.
 */
#pragma once

#include <glib.h>

/* How many detached runs have a process in the store; each gets the signal, 0: none. */
guint vr_run_workers_signal(const char *root, int signal);
