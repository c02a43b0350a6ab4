/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/model_window.h"

#include <string.h>

#define WINDOW "maintenanceWindow"
#define SCHEDULE WINDOW ".schedule"
#define DURATION WINDOW ".duration"
#define SCHEDULE_MAX 256
#define MODEL(field) G_STRUCT_OFFSET(VrModel, window.field)

/* All that a calendar expression and the name of a zone are made of. It goes to another program's command line: nothing that begins with a minus
 * gets that far. */
static const char *schedule_rule(const char *text)
{
    gsize length = strlen(text);

    if (length == 0 || length > SCHEDULE_MAX)
        return "must have 1 to 256 characters";
    if (text[strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789*~:,./_+- ")] != '\0' ||
        !(g_ascii_isalnum(text[0]) || text[0] == '*') || text[length - 1] == ' ')
        return "is no calendar expression of systemd, such as \"Sat *-*-* 02:00 Europe/Berlin\"";
    return NULL;
}

const VrModelKey vr_model_window_keys[] = {
    {.name = "schedule", .parse = vr_model_text, .offset = MODEL(schedule), .check = schedule_rule},
    {.name = "duration",
     .parse = vr_model_duration,
     .offset = MODEL(duration_ms),
     .min = 900000,
     .max = 604800000,
     .data = "PT15M to P7D"},
    {0},
};

void vr_model_window_clear(VrMaintenanceWindow *window)
{
    g_free(window->schedule);
}

gboolean vr_model_check_window(VrModelParser *parser, VrMaintenanceWindow *window, GError **error)
{
    if (vr_model_line(parser, WINDOW) == 0)
        return TRUE;
    window->line = vr_model_line(parser, SCHEDULE);
    if (window->line == 0)
        return vr_model_fail_at(parser, WINDOW, "schedule is missing: when the window opens", error);
    if (vr_model_line(parser, DURATION) == 0)
        return vr_model_fail_at(parser, WINDOW, "duration is missing: for how long the window is open, PT15M to P7D",
                                error);
    return TRUE;
}
