/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The maintenance window (H4): a worker asks window.h about the wall clock of this host; the rollout hears of its own clock alone. */
#include "orchestrator/executor_private.h"

#include "base/clock.h"
#include "base/error.h"

void vr_executor_look_at_window(const VrExecutor *executor, VrMessage *message)
{
    const VrMaintenanceWindow *window = &executor->request.set->model->window;
    g_autoptr(GError) local = NULL;
    g_autofree char *when = NULL;
    VrWindowView *view = &message->window;

    if (!executor->request.windowed || window->schedule == NULL)
        return;
    message->window_is_known = vr_window_look(window, vr_clock_wall_us(), view, &local);
    if (!message->window_is_known) {
        message->window_words = g_strdup(local->message);
        return;
    }
    when = vr_clock_format(view->next_us);
    message->window_words = view->next_us == 0 ? g_strdup("never opens again")
                                               : g_strdup_printf("opens %sat %s", view->open ? "again " : "", when);
}

void vr_executor_do_window(VrExecutor *executor, VrJob *job)
{
    VrMessage *message = vr_message_new(VR_EVENT_WINDOW, 0, VR_OUTCOME_OK, NULL);

    vr_executor_look_at_window(executor, message);
    vr_executor_post(executor, message);
}

/* What is to come is never past. */
static gint64 steps_ms(gint64 wall_us, gint64 now_ms)
{
    return now_ms + (wall_us - vr_clock_wall_us() + 999) / 1000;
}

VrWindowAnswer vr_executor_window_answer(const VrMessage *message, gint64 now_ms)
{
    const VrWindowView *view = &message->window;

    return (VrWindowAnswer){
        .is_known = message->window_is_known,
        .until_ms = view->open ? MAX(0, steps_ms(view->until_us, now_ms) - 1) : 0,
        .next_ms = view->next_us > 0 ? MAX(1, steps_ms(view->next_us, now_ms)) : 0,
        .words = message->window_words,
    };
}

gboolean vr_executor_is_held_by_window(const VrExecutor *executor)
{
    VrRolloutView view;

    vr_rollout_view(executor->rollout, &view);
    return view.hold == VR_HOLD_WINDOW;
}
