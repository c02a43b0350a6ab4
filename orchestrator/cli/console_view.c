/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/cli/console_view.h"

GPtrArray *vr_console_tail(VrStore *store, const VrSwapRow *row, guint most)
{
    gsize length = 0;
    g_autofree char *text = row ? vr_console_log_read(store, row, &length) : NULL;

    return text ? vr_console_lines(text, length, most) : NULL;
}

json_t *vr_console_json(VrStore *store, const VrSwapRow *row)
{
    g_autoptr(GPtrArray) lines = vr_console_tail(store, row, VR_CONSOLE_LINES);
    json_t *list = json_array();

    for (guint i = 0; lines && i < lines->len; i++)
        json_array_append_new(list, vr_json_text(lines->pdata[i]));
    return list;
}

json_t *vr_console_path_json(VrStore *store, const VrSwapRow *row)
{
    g_autoptr(GPtrArray) lines = vr_console_tail(store, row, 0);
    g_autofree char *path = lines ? vr_console_log_path(store, row->uuid, row->to) : NULL;

    return vr_json_text(path);
}

gboolean vr_console_tells_why(const VrSwapRow *row)
{
    return row->state == VR_SWAP_UNDONE || row->state == VR_SWAP_UNKNOWN ||
           (row->state == VR_SWAP_COMMITTED && row->reason);
}

void vr_console_say_last(const VrCli *cli, VrStore *store, const VrSwapRow *row, const char *set)
{
    g_autoptr(GPtrArray) lines = row && vr_console_tells_why(row) ? vr_console_tail(store, row, 1) : NULL;

    if (lines && lines->len > 0)
        vr_say(cli, "  %s: the last line of its console: %s ('%s instance-view %s %s' shows more)", row->domain,
               (const char *)lines->pdata[0], VR_PROGRAM, set, row->domain);
}
