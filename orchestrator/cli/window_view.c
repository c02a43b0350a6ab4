/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/cli/window_view.h"

#include "base/clock.h"
#include "base/error.h"
#include "orchestrator/window.h"

json_t *vr_window_json(const VrMaintenanceWindow *window)
{
    g_autoptr(GError) local = NULL;
    VrWindowView view = {0};
    gboolean is_known;

    if (!window->schedule)
        return json_null();
    is_known = vr_window_look(window, vr_clock_wall_us(), &view, &local);
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "schedule", vr_json_text(window->schedule), "durationSeconds",
                     VR_JSON_SECONDS(window->duration_ms), "open", is_known ? json_boolean(view.open) : json_null(),
                     "openUntil", vr_json_time(view.until_us), "opensNext", vr_json_time(view.next_us), "error",
                     vr_json_text(local ? local->message : NULL));
}

/* Free with g_free. */
static char *state_of(const VrWindowView *view)
{
    g_autofree char *until = vr_text_time(view->until_us);
    g_autofree char *next = vr_text_time(view->next_us);

    if (view->open)
        return g_strdup_printf("open until %s", until);
    return view->next_us ? g_strdup_printf("shut, opens %s", next) : g_strdup("shut, and never opens again");
}

char *vr_window_line(const VrMaintenanceWindow *window)
{
    g_autoptr(GError) local = NULL;
    g_autofree char *duration = vr_text_duration(window->duration_ms);
    g_autofree char *state = NULL;
    VrWindowView view;

    if (!window->schedule)
        return NULL;
    if (vr_window_look(window, vr_clock_wall_us(), &view, &local))
        state = state_of(&view);
    else
        state = vr_printable(local->message, -1);
    return g_strdup_printf("%s, for %s; %s", window->schedule, duration, state);
}
