/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "engine/host_state.h"

#include "base/child.h"

#include <string.h>

#define SCHEDULED                                                                                                      \
    "systemd/shutdown/scheduled" /* systemd-logind writes it: USEC=, MODE= (man shutdown, logind's sources) */
#define ASK_MS 5000
#define MAX_ANSWER 4096

void vr_host_state_clear(VrHostState *state)
{
    g_clear_pointer(&state->stopping, g_free);
    g_clear_pointer(&state->shutdown, g_free);
}

static char *when(const char *usec)
{
    gint64 us = g_ascii_strtoll(usec, NULL, 10);
    g_autoptr(GDateTime) time = us > 0 ? g_date_time_new_from_unix_local(us / G_USEC_PER_SEC) : NULL;

    return time ? g_date_time_format(time, "%F %H:%M") : g_strdup("an unknown time");
}

static char *scheduled(const char *run_dir)
{
    g_autofree char *path = g_build_filename(run_dir, SCHEDULED, NULL);
    g_autofree char *text = NULL;
    g_autofree char *at = NULL;
    const char *mode = "shutdown", *usec = "";

    if (!g_file_get_contents(path, &text, NULL, NULL))
        return NULL;
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line; line++) {
        if (g_str_has_prefix(*line, "MODE="))
            mode = *line + strlen("MODE=");
        else if (g_str_has_prefix(*line, "USEC="))
            usec = *line + strlen("USEC=");
    }
    at = when(usec);
    return g_strdup_printf("%s at %s", mode, at);
}

static char *stopping(void)
{
    const char *const argv[] = {"systemctl", "is-system-running", NULL};
    const VrChildLimits limits = {.timeout_ms = ASK_MS, .max_output = MAX_ANSWER};
    g_auto(VrChildResult) result = {0};

    if (!vr_child_run(argv, &limits, &result, NULL) || strcmp(g_strstrip(result.out), "stopping") != 0)
        return NULL;
    return g_strdup("systemctl is-system-running says so");
}

void vr_host_state_read(VrHostState *state, const char *run_dir, gboolean ask)
{
    state->shutdown = scheduled(run_dir);
    state->stopping = ask ? stopping() : NULL;
}
