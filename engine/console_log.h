/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a guest said on its serial console between its start on a generation and the end of that swap: g<n>.console.log (swap_console.c). */
#pragma once

#include "disk/store.h"
#include "engine/journal.h"
#include "hv/console.h"

/* Where it is, if it is there. Free with g_free. */
char *vr_console_log_path(VrStore *store, const char *uuid, guint generation);

/* The bytes of this swap's, as the guest sent them, without the first line, which is ours. NULL: none is kept, or by now it is of another
 * swap to the same generation. Free with g_free. */
char *vr_console_log_read(VrStore *store, const VrSwapRow *row, gsize *length);
