/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Persons who speak to a run while it runs, and the state that it leaves for those who come later. */
#include "base/clock.h"
#include "base/error.h"
#include "base/handover.h"
#include "base/log.h"
#include "orchestrator/executor_private.h"

#include <string.h>

#define CLOCK_STEP_US 1000000 /* from here on the wall clock was set, and did not only drift */

/* ---- the state ---- */

/* The offset is kept as long as it is right within a second: else each look at two clocks would change every time that is written. */
static gint64 steady_wall_us(VrExecutor *executor, gint64 now_ms)
{
    gint64 offset = vr_clock_wall_us() - now_ms * 1000;

    if (ABS(offset - executor->wall_offset_us) > CLOCK_STEP_US)
        executor->wall_offset_us = offset;
    return now_ms * 1000 + executor->wall_offset_us;
}

/* A survey that waits is nothing that holds the rollout, which knows of no reboot. */
static void take_state(VrExecutor *executor, VrRunState *state, gint64 now_ms, gint64 saved_at_ms)
{
    gint64 wall_us = steady_wall_us(executor, now_ms);

    vr_run_state_take(state, executor->rollout, now_ms, wall_us, saved_at_ms);
    if (!executor->back_text)
        return;
    g_free(state->hold_text);
    state->hold = VR_HOLD_REBOOT;
    state->hold_text = g_strdup(executor->back_text);
    state->hold_until_us = wall_us + (executor->back_until_ms - now_ms) * 1000;
}

void vr_executor_save(VrExecutor *executor)
{
    g_auto(VrRunState) state = {.automatic_rollback = executor->request.automatic_rollback,
                                .walk = executor->request.walk,
                                .temp_disks = executor->request.temp_disks,
                                .windowed = executor->request.windowed,
                                .ignored = g_strdupv((char **)executor->request.ignored),
                                .seen = g_strdup(executor->seen),
                                .seen_boot = g_strdup(executor->seen_boot)};
    g_autoptr(GError) local = NULL;
    g_autofree char *text = NULL;
    gint64 now_ms = vr_clock_now_ms();

    take_state(executor, &state, now_ms, executor->saved_at_ms);
    text = vr_run_state_write(&state);
    if (!executor->unsaved && g_strcmp0(text, executor->state) == 0)
        return;
    g_free(text);
    take_state(executor, &state, now_ms, now_ms);
    text = vr_run_state_write(&state);
    executor->saved_at_ms = now_ms;
    executor->unsaved =
        !vr_history_state(executor->engine.journal, executor->engine.owner, executor->run->id, text, &local);
    if (executor->unsaved)
        vr_warning(executor->run->set_name, "history: %s", local->message);
    pthread_mutex_lock(&executor->control_lock);
    g_free(executor->state);
    executor->state = g_steal_pointer(&text);
    pthread_mutex_unlock(&executor->control_lock);
}

char *vr_executor_state(VrExecutor *executor)
{
    pthread_mutex_lock(&executor->control_lock);
    char *state = g_strdup(executor->state);
    pthread_mutex_unlock(&executor->control_lock);
    return state;
}

void vr_executor_note_wake(VrExecutor *executor)
{
    gint64 in_ms = executor->wake_ms - vr_clock_now_ms();

    __atomic_store_n(&executor->wakes_us, executor->wake_ms == 0 ? 0 : vr_clock_wall_us() + MAX(in_ms, 0) * 1000,
                     __ATOMIC_RELAXED);
}

gint64 vr_executor_wakes_us(const VrExecutor *executor)
{
    return __atomic_load_n(&executor->wakes_us, __ATOMIC_RELAXED);
}

GArray *vr_executor_copies(const VrExecutor *executor)
{
    GArray *copies = g_array_new(FALSE, FALSE, sizeof(VrExecutorCopy));

    for (guint i = 0; i < executor->count; i++) {
        VrExecutorCopy copy = {.uuid = vr_executor_instance(executor, i)->uuid};
        VrCloneProgress now;
        if (!vr_clone_progress_read(&executor->work[i].copy, &now, &copy.rate))
            continue;
        copy.done = now.bytes_done;
        copy.total = now.bytes_total;
        g_array_append_val(copies, copy);
    }
    return copies;
}

void vr_executor_note_answer(VrExecutor *executor, guint index, const char *text, gint64 until_ms)
{
    VrWork *work = &executor->work[index];

    pthread_mutex_lock(&executor->control_lock);
    g_free(work->answer_text);
    work->answer_text = g_strdup(text);
    work->answer_until_ms = until_ms;
    pthread_mutex_unlock(&executor->control_lock);
}

static void clear_probe(gpointer data)
{
    g_free(((VrExecutorProbe *)data)->text);
}

GArray *vr_executor_probes(VrExecutor *executor)
{
    GArray *probes = g_array_new(FALSE, FALSE, sizeof(VrExecutorProbe));
    gint64 now_us = vr_clock_wall_us(), now_ms = vr_clock_now_ms();

    g_array_set_clear_func(probes, clear_probe);
    pthread_mutex_lock(&executor->control_lock);
    for (guint i = 0; i < executor->count; i++) {
        const VrWork *work = &executor->work[i];
        VrExecutorProbe *probe;
        if (!work->answer_text)
            continue;
        g_array_set_size(probes, probes->len + 1);
        probe = &g_array_index(probes, VrExecutorProbe, probes->len - 1);
        probe->uuid = vr_executor_instance(executor, i)->uuid;
        probe->text = g_strdup(work->answer_text);
        probe->until_us = now_us + MAX(work->answer_until_ms - now_ms, 0) * 1000;
    }
    pthread_mutex_unlock(&executor->control_lock);
    return probes;
}

/* ---- on the executor's thread ---- */

static void answer(VrExecutor *executor, VrControlCall *call, gboolean ok, char *text)
{
    pthread_mutex_lock(&executor->control_lock);
    call->answered = TRUE;
    call->ok = ok;
    call->text = text;
    pthread_cond_broadcast(&executor->answered);
    pthread_mutex_unlock(&executor->control_lock);
}

static char *situation(const VrExecutor *executor, const VrRolloutView *view, VrAnswer answer)
{
    if (view->finished)
        return g_strdup_printf("run %s has ended: %s", executor->run->id, vr_run_status_name(view->status));
    if (answer == VR_ANSWER_BORDER)
        return g_strdup_printf("run %s: taken; it counts when the batch in flight (%u) is done", executor->run->id,
                               view->in_progress);
    if (view->hold_text)
        return g_strdup_printf("run %s: %s", executor->run->id, view->hold_text);
    return g_strdup_printf("run %s: %u in progress, %u of %u left", executor->run->id, view->in_progress, view->pending,
                           executor->count - view->skipped);
}

gboolean vr_executor_may(VrExecutor *executor, const VrMessage *message)
{
    VrControlCall *call = message->call;
    VrOperation operation;
    VrRolloutView view;

    if (!call)
        return TRUE;
    operation = vr_operation_of_event(message->type);
    vr_rollout_view(executor->rollout, &view);
    call->answer = vr_run_answer(operation, view.point);
    if (call->answer == VR_ANSWER_REFUSED) {
        answer(executor, call, FALSE,
               g_strdup_printf("run %s: %s", executor->run->id, vr_run_refusal(operation, view.point)));
        return FALSE;
    }
    if (message->type == VR_EVENT_WALK && !vr_rollout_domain_pending(executor->rollout, message->instance)) {
        answer(executor, call, FALSE,
               g_strdup_printf("run %s: upgrade domain %u has nothing that may be moved now", executor->run->id,
                               message->instance));
        return FALSE;
    }
    return TRUE;
}

void vr_executor_tell_person(VrExecutor *executor, const VrMessage *message)
{
    VrControlCall *call = message->call;
    VrRolloutView view;

    if (!call)
        return;
    g_autofree char *line =
        g_strdup_printf("%s by %s", vr_operation_name(vr_operation_of_event(message->type)), call->who);
    vr_executor_audit(executor, "control", NULL, line);
    vr_rollout_view(executor->rollout, &view);
    g_autofree char *what = situation(executor, &view, call->answer);
    answer(executor, call, TRUE,
           g_strconcat(
               what, executor->unsaved ? "; but the journal cannot be written, and a new process would not know" : NULL,
               NULL));
}

void vr_executor_close(VrExecutor *executor)
{
    VrMessage *message;
    VrRolloutView view;

    vr_rollout_view(executor->rollout, &view);
    pthread_mutex_lock(&executor->control_lock);
    executor->over = TRUE;
    pthread_mutex_unlock(&executor->control_lock);
    while ((message = g_async_queue_try_pop(executor->queue))) {
        vr_handover_take(message);
        if (message->call)
            answer(executor, message->call, FALSE,
                   g_strdup_printf(view.finished ? "run %s has ended" : "run %s stays open, and its process ends now",
                                   executor->run->id));
        vr_message_free(message);
    }
}

void vr_executor_keep_open(VrExecutor *executor)
{
    g_autoptr(GError) local = NULL;

    if (!executor->run->detached &&
        !vr_history_detach(executor->engine.journal, executor->engine.owner, executor->run, &local))
        vr_warning(executor->run->set_name, "the run cannot be left open: %s", local->message);
}

/* ---- on any thread ---- */

gboolean vr_executor_control(VrExecutor *executor, VrEventType type, guint domain, const char *who, VrAnswer *answer,
                             char **text, GError **error)
{
    VrControlCall call = {.who = who};
    VrMessage *message = vr_message_new(type, domain, VR_OUTCOME_OK, NULL);

    message->call = &call;
    pthread_mutex_lock(&executor->control_lock);
    if (executor->over) {
        vr_message_free(message);
        call.text = g_strdup("the run has ended");
    } else {
        vr_executor_post(executor, message);
        if (type == VR_EVENT_CANCEL ||
            type == VR_EVENT_CANCEL_NOW) { /* after the message, as in vr_executor_cancel() */
            g_atomic_int_set(&executor->cancelled, 1);
            g_atomic_int_set(&executor->called_off, 1);
        }
        while (!call.answered)
            pthread_cond_wait(&executor->answered, &executor->control_lock);
    }
    pthread_mutex_unlock(&executor->control_lock);
    if (call.ok) {
        *answer = call.answer;
        *text = call.text;
        return TRUE;
    }
    g_set_error_literal(error, VR_ERROR, VR_ERROR_CONFLICT, call.text);
    g_free(call.text);
    return FALSE;
}

/* ---- going on with a run that another process began ---- */

gboolean vr_executor_past(const VrSet *set, VrRun *run, VrRunTarget *targets, VrRunRequest *request, GError **error)
{
    g_auto(VrRunState) state = {0};
    gboolean same = set->instances->len == run->instances->len;

    for (guint i = 0; same && i < run->instances->len; i++) {
        const VrRunInstance *past = g_ptr_array_index(run->instances, i);
        same = g_str_equal(past->uuid, ((const VrInstance *)g_ptr_array_index(set->instances, i))->uuid);
        targets[i] = (VrRunTarget){.chosen = past->phase != VR_PHASE_SKIPPED,
                                   .canary = past->canary,
                                   .to_generation = past->to_generation,
                                   .skipped = past->reason};
    }
    if (!same) {
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "run %s of '%s' cannot go on: the set has other instances now",
                    run->id, set->name);
        vr_error_next(error, "end it with 'virt-reimage cancel %s'", set->name);
        return FALSE;
    }
    request->kind = run->kind;
    request->reason = run->reason;
    request->automatic = request->windowed = run->automatic; /* where it died before it wrote how it was asked for */
    request->detached = run->detached;
    request->automatic_rollback = set->model->policy.automatic_rollback;
    if (!run->state)
        return TRUE; /* it died before its first step */
    if (!vr_run_state_read(&state, run->state, error))
        return FALSE;
    request->automatic_rollback = state.automatic_rollback;
    request->walk = state.walk;
    request->temp_disks = state.temp_disks;
    request->windowed = state.windowed;
    g_strfreev(run->ignored);
    run->ignored = g_steal_pointer(&state.ignored);
    request->ignored = (const char *const *)run->ignored;
    return TRUE;
}

gboolean vr_executor_go_on(VrExecutor *executor, GError **error)
{
    const VrRun *run = executor->run;
    g_autofree VrRolloutPast *past = g_new(VrRolloutPast, executor->count);
    g_auto(VrRunState) state = {0};
    gint64 now_ms = vr_clock_now_ms();

    if (!run->state)
        return TRUE;
    for (guint i = 0; i < executor->count; i++) {
        const VrRunInstance *instance = g_ptr_array_index(run->instances, i);
        past[i] = (VrRolloutPast){instance->phase, instance->reason};
    }
    if (!vr_run_state_read(&state, run->state, error) ||
        !vr_rollout_load(executor->rollout, state.rollout ? state.rollout : "", past, now_ms, vr_clock_boot_id(),
                         error))
        return FALSE;
    vr_executor_take_seen(executor, &state);
    return TRUE;
}
