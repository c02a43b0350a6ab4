/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The end of a guest's serial console as commands show it: when it did not become healthy, that says why. */
#pragma once

#include "engine/console_log.h"
#include "orchestrator/cli/output.h"

/* Lines that documents have. */
#define VR_CONSOLE_LINES 40

/* The last `most` lines of what was kept of a swap. NULL: nothing was (row NULL too). Element: char *, freed with the array. */
GPtrArray *vr_console_tail(VrStore *store, const VrSwapRow *row, guint most);

/* A list of strings, empty where nothing was kept. */
json_t *vr_console_json(VrStore *store, const VrSwapRow *row);
/* The path of the file; null where nothing was kept. */
json_t *vr_console_path_json(VrStore *store, const VrSwapRow *row);

/* Did this swap end otherwise than it was meant to? */
gboolean vr_console_tells_why(const VrSwapRow *row);

/* Below the reason why an instance is not where it should be: its last line, and where to see more; nothing where none was kept. */
void vr_console_say_last(const VrCli *cli, VrStore *store, const VrSwapRow *row, const char *set);
