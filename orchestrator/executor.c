/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The executor. One thread (the caller's) owns the rollout, the history and the progress view; workers own one
 * instance each for the length of one command and post its outcome to the queue:
 *
 *   caller:  pop event -> vr_rollout_step -> write history -> push one job a command -> pop ...
 *   worker:  job -> engine or health call -> post event
 *
 * An instance has at most one job that changes something at a time, because the rollout gives its next command only
 * after the answer to the last. The one exception is a probe that RESTORE overtakes: it only looks, it is told to end, and
 * its late answer fits no state and is dropped.
 *
 * Full clones (row B6): the PREPAREs of one step share groups of seats, and each worker of a group waits until all of it have come or
 * left. That cannot stand still: the pool takes jobs in the order in which they were pushed, a group has no more seats than
 * the pool has workers, and all jobs before a group's end without it (surveys are over by then, a probe that was overtaken is told
 * to end, an earlier group by the same argument). So every seat gets a worker; and should the kernel give the pool fewer threads
 * than it asked for, nobody waits longer than VR_GATHER_MS.
 *
 * New disks that are written into (rows C6, C8) have seats of the same kind: one appliance for a group. Both kinds are given in the same groups,
 * so who waits for an appliance waits for jobs that have their workers, and whose copy is led by one of them: no copy of a group waits for
 * its appliance. With groups of two sizes, the last of one could wait for a copy with jobs that have no worker yet.
 */
#include "orchestrator/executor_private.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/handover.h"
#include "base/log.h"
#include "orchestrator/current_version.h"
#include "orchestrator/gc.h"

#define NAMED_UNHEALTHY 5

/* The flag comes after the message, so that the rollout knows of the cancel before it hears what the flag has ended. */
void vr_executor_cancel(VrExecutor *executor, gboolean now)
{
    vr_executor_post(executor, vr_message_new(now ? VR_EVENT_CANCEL_NOW : VR_EVENT_CANCEL, 0, VR_OUTCOME_OK, NULL));
    g_atomic_int_set(&executor->cancelled, 1);
    g_atomic_int_set(&executor->called_off, 1);
}

void vr_executor_say(VrExecutor *executor, VrEventType type, guint domain)
{
    vr_executor_post(executor, vr_message_new(type, domain, VR_OUTCOME_OK, NULL));
}

/* The message wakes the one that waits, and guests that have notice are not waited for. */
void vr_executor_leave(VrExecutor *executor)
{
    g_atomic_int_set(&executor->leaving, 1);
    g_atomic_int_set(&executor->called_off, 1);
    vr_executor_post(executor, vr_message_new(VR_EVENT_RECALL, 0, VR_OUTCOME_OK, NULL));
}

/* --- history and view -------------------------------------------------------------------------------- */

void vr_executor_tell(VrExecutor *executor, VrProgressKind kind, const VrRunInstance *instance, const char *text)
{
    VrRolloutView view;
    VrProgress progress = {.kind = kind,
                           .run = executor->run,
                           .view = &view,
                           .batch = executor->batch,
                           .instance = instance,
                           .text = text,
                           .wall_us = vr_clock_wall_us()};

    vr_rollout_view(executor->rollout, &view);
    if (executor->request.progress)
        executor->request.progress(&progress, executor->request.progress_data);
}

/* Brings the history row of an instance up to what the rollout says of it. */
static void sync_instance(VrExecutor *executor, guint index, const char *text)
{
    VrRunInstance *instance = g_ptr_array_index(executor->run->instances, index);
    VrInstancePhase phase = vr_rollout_phase(executor->rollout, index);
    const char *reason = vr_rollout_reason(executor->rollout, index);
    g_autoptr(GError) local = NULL;

    if (instance->phase == phase)
        return;
    if (instance->phase == VR_PHASE_NOTICE)
        g_clear_pointer(&instance->reason, g_free); /* it does not wait any more */
    instance->phase = phase;
    if (phase == VR_PHASE_PENDING) { /* what was prepared is discarded, ahead of a batch that never came, too */
        g_clear_pointer(&instance->swap_id, g_free);
        instance->batch = 0;
    }
    if (reason) {
        g_free(instance->reason);
        instance->reason = g_strdup(reason);
    }
    /* While it is being prepared the swap is its worker's. */
    if (phase > VR_PHASE_PREPARING && executor->work[index].swap && !instance->swap_id)
        instance->swap_id = g_strdup(vr_swap_row(executor->work[index].swap)->id);
    if (!vr_history_instance(executor->engine.journal, executor->engine.owner, executor->run->id, instance, &local))
        vr_warning(instance->domain, "history: %s", local->message);
    vr_executor_tell(executor, VR_PROGRESS_INSTANCE, instance, text ? text : instance->reason);
}

void vr_executor_audit(VrExecutor *executor, const char *kind, const char *uuid, const char *text)
{
    g_autoptr(GError) local = NULL;

    if (!vr_journal_event(executor->engine.journal, executor->engine.owner, executor->run->id, uuid, kind, text,
                          &local))
        vr_warning(executor->run->set_name, "audit: %s", local->message);
}

/* H7, H8: what a guest with notice waits for is where its reason will be, until it does not wait any more. */
static void note_wait(VrExecutor *executor, const VrMessage *message)
{
    VrRunInstance *instance = g_ptr_array_index(executor->run->instances, message->instance);
    g_autoptr(GError) local = NULL;

    vr_executor_audit(executor, "notice", instance->uuid, message->text);
    if (instance->phase != VR_PHASE_NOTICE)
        return;
    g_free(instance->reason);
    instance->reason = g_strdup(message->text);
    if (!vr_history_instance(executor->engine.journal, executor->engine.owner, executor->run->id, instance, &local))
        vr_warning(instance->domain, "history: %s", local->message);
    vr_executor_tell(executor, VR_PROGRESS_INSTANCE, instance, message->text);
}

void vr_executor_push(VrExecutor *executor, VrCommandType type, guint instance, const char *text)
{
    VrJob *job = g_new0(VrJob, 1);

    job->type = type;
    job->instance = instance;
    job->text = g_strdup(text);
    if (type == VR_COMMAND_PREPARE) {
        job->seat = g_queue_pop_head(executor->seats);
        job->personal_seat = g_queue_pop_head(executor->personal_seats);
    }
    vr_handover_give(job);
    g_thread_pool_push(executor->pool, job, NULL);
    /* cppcheck-suppress memleak ; vr_executor_work() owns it */
}

static void obey(VrExecutor *executor, const VrCommand *command, const char *boot_id)
{
    VrRunInstance *instance;

    switch (command->type) {
    case VR_COMMAND_SURVEY:
        vr_executor_begin_survey(executor);
        break;
    case VR_COMMAND_BATCH_BEGIN:
        executor->batch = command->batch_number;
        __atomic_store_n(&executor->wakes_us, 0, __ATOMIC_RELAXED);
        vr_executor_audit(executor, "batch-begin", NULL, command->text);
        vr_executor_tell(executor, VR_PROGRESS_BATCH, NULL, command->text);
        break;
    case VR_COMMAND_BATCH_END:
        vr_executor_audit(executor, "batch-end", NULL, command->text);
        vr_executor_gate_over(executor);
        break;
    case VR_COMMAND_WAKE:
        executor->wake_ms = command->at_ms;
        vr_executor_note_wake(executor);
        if (!vr_executor_is_held_by_window(executor))
            vr_executor_tell(executor, VR_PROGRESS_WAIT, NULL, command->text);
        break;
    case VR_COMMAND_HOLD:
        vr_executor_audit(executor, "hold", NULL, command->text);
        vr_executor_gate_over(executor);
        vr_executor_tell(executor, VR_PROGRESS_WAIT, NULL, command->text);
        break;
    case VR_COMMAND_GATE:
        vr_executor_ask_gate(executor);
        break;
    case VR_COMMAND_PREPARE:
        instance = g_ptr_array_index(executor->run->instances, command->instance);
        instance->batch = command->batch_number; /* the next one, where it is prepared ahead */
        vr_executor_push(executor, command->type, command->instance, command->text);
        break;
    case VR_COMMAND_RESTORE:
        g_atomic_int_set(&executor->work[command->instance].probe_aborted, 1);
        vr_executor_audit(executor, "restore", vr_executor_instance(executor, command->instance)->uuid, command->text);
        vr_executor_push(executor, command->type, command->instance, command->text);
        break;
    case VR_COMMAND_NOTICE:
        g_atomic_int_set(&executor->work[command->instance].recalled, 0);
        vr_executor_push(executor, command->type, command->instance, NULL);
        break;
    case VR_COMMAND_RECALL:
        g_atomic_int_set(&executor->work[command->instance].recalled, 1);
        break;
    case VR_COMMAND_COMMIT:
        vr_executor_push(executor, command->type, command->instance, boot_id);
        break;
    case VR_COMMAND_SWAP:
    case VR_COMMAND_PROBE:
    case VR_COMMAND_DISCARD:
    case VR_COMMAND_WINDOW:
        vr_executor_push(executor, command->type, command->instance, command->text);
        break;
    case VR_COMMAND_FINISH:
        vr_executor_gate_over(executor);
        break;
    }
}

static void leave(VrExecutor *executor, guint index)
{
    VrWork *work = &executor->work[index];
    g_autofree char *text = g_steal_pointer(&work->left_text);
    g_autoptr(GError) local = NULL;

    if (text && vr_rollout_phase(executor->rollout, index) == VR_PHASE_FAILED &&
        !vr_swap_leave(work->swap, text, &local))
        vr_warning(vr_executor_instance(executor, index)->domain, "%s", local->message);
}

/* An unhealthy instance that the policy leaves where it is: its swap ends there, or with the run, where that may put it back (F3). */
static void note_left(VrExecutor *executor, const VrMessage *message)
{
    if (message->type != VR_EVENT_PROBED || vr_rollout_phase(executor->rollout, message->instance) != VR_PHASE_FAILED)
        return;
    executor->work[message->instance].left_text = g_strdup(message->reason);
    if (!executor->request.set->model->policy.restore_on_breach)
        leave(executor, message->instance);
}

static void give_clone_seats(VrExecutor *executor, guint n)
{
    VrCloneSeat *seats[VR_COPY_TARGETS];

    vr_clone_seats_new(seats, n, &executor->cancelled);
    for (guint i = 0; i < n; i++)
        g_queue_push_tail(executor->seats, seats[i]);
}

static void give_personal_seats(VrExecutor *executor, guint n)
{
    VrPersonalSeat *seats[VR_PERSONAL_MAX_DISKS];

    vr_personal_seats_new(seats, n, &executor->personalize);
    for (guint i = 0; i < n; i++)
        g_queue_push_tail(executor->personal_seats, seats[i]);
}

/* One seat for each instance whose new disk is a full clone, in groups that one read of an image can write; who sits with others but has another
 * image gets a read of its own. And one for each whose new disk is written into, in groups of one appliance. */
static void give_seats(VrExecutor *executor, const GArray *commands)
{
    gboolean is_full = executor->request.set->model->os_disk_kind == VR_OS_DISK_FULL;
    gboolean is_personal = executor->personalize.work_dir != NULL;
    guint most = MIN(executor->workers, is_full ? VR_COPY_TARGETS : VR_PERSONAL_MAX_DISKS);
    guint left = 0;

    G_STATIC_ASSERT(VR_COPY_TARGETS <= VR_PERSONAL_MAX_DISKS);
    if ((!is_full && !is_personal) || executor->request.kind == VR_RUN_ROLLBACK)
        return;
    for (guint i = 0; i < commands->len; i++)
        left += g_array_index(commands, VrCommand, i).type == VR_COMMAND_PREPARE;
    for (guint n; left > 0; left -= n) {
        n = MIN(left, most);
        if (is_full)
            give_clone_seats(executor, n);
        if (is_personal)
            give_personal_seats(executor, n);
    }
}

static void take(VrExecutor *executor, const VrMessage *message)
{
    g_autoptr(GArray) commands = g_array_new(FALSE, TRUE, sizeof(VrCommand));
    gint64 now_ms = vr_clock_now_ms();
    VrEvent event = {.type = message->type,
                     .instance = message->instance,
                     .outcome = message->outcome,
                     .reason = message->reason,
                     .answers = message->answers,
                     .wishes = message->wishes,
                     .off_ms = message->off_ms,
                     .window = vr_executor_window_answer(message, now_ms)};
    const char *boot_id = message->type == VR_EVENT_PROBED ? message->text : NULL;

    g_array_set_clear_func(commands, (GDestroyNotify)vr_command_clear);
    vr_rollout_step(executor->rollout, &event, now_ms, commands);
    note_left(executor, message);
    if (message->type == VR_EVENT_GATE)
        vr_executor_note_gate(executor, message);
    if (message->type >= VR_EVENT_PREPARED && message->type <= VR_EVENT_DISCARDED)
        sync_instance(executor, message->instance, boot_id ? NULL : message->text);
    for (guint i = 0; i < executor->count && message->wishes; i++)
        if (vr_rollout_phase(executor->rollout, i) == VR_PHASE_SKIPPED) /* the guest's word leaves it out */
            sync_instance(executor, i, NULL); /* the others once their batch is known, by the commands */
    if (message->answers)
        vr_executor_note_survey(executor, message);
    vr_executor_save(executor);
    give_seats(executor, commands);
    for (guint i = 0; i < commands->len; i++) {
        const VrCommand *command = &g_array_index(commands, VrCommand, i);
        obey(executor, command, boot_id);
        if (command->type >= VR_COMMAND_PREPARE && command->type <= VR_COMMAND_DISCARD)
            sync_instance(executor, command->instance, NULL);
    }
    vr_executor_tell_person(executor, message);
}

static VrMessage *next_message(VrExecutor *executor)
{
    gint64 wait_ms;
    VrMessage *message;

    if (executor->wake_ms == 0)
        return g_async_queue_pop(executor->queue);
    wait_ms = MAX(0, executor->wake_ms - vr_clock_now_ms());
    message = g_async_queue_timeout_pop(executor->queue, (guint64)wait_ms * 1000 + 1);
    if (message || vr_clock_now_ms() < executor->wake_ms)
        return message;
    executor->wake_ms = 0;
    vr_executor_note_wake(executor);
    return vr_message_new(VR_EVENT_WAKE, 0, VR_OUTCOME_OK, NULL);
}

/* --- a run ------------------------------------------------------------------------------------------- */

/* Instances that were not begun, as one types them. Free with g_free. */
static char *names_of_pending(const VrExecutor *executor)
{
    GString *names = g_string_new(NULL);

    for (guint i = 0; i < executor->count; i++) {
        g_autofree char *word = vr_shell_word(vr_executor_instance(executor, i)->domain);
        if (vr_rollout_phase(executor->rollout, i) == VR_PHASE_PENDING)
            g_string_append_printf(names, " %s", word);
    }
    return g_string_free(names, FALSE);
}

/* What to type for those that are left. An upgrade finds them by itself; the same reimage or rollback would take those that
 * are done once more. */
static void set_cancelled(const VrExecutor *executor, const VrRolloutView *view, GError **error)
{
    const VrRun *run = executor->run;
    const char *what = vr_run_kind_name(run->kind);
    g_autofree char *names = names_of_pending(executor);

    g_set_error(error, VR_ERROR, VR_ERROR_CANCELLED, "%s of '%s' was cancelled: %u done, %u put back, %u not begun",
                what, run->set_name, view->successful, view->restored, view->pending);
    if (view->pending)
        vr_error_next(error, "those that are left: 'virt-reimage %s %s%s'", what, run->set_name,
                      run->kind != VR_RUN_UPGRADE ? names : "");
}

/* A run that stopped because guests could not be prepared or stopped ends with the first cause; else it is the policy. A disk that cannot be written
 * to as the model asks is no mistake of the command. */
static int stop_code(const VrExecutor *executor)
{
    gboolean internal = g_strcmp0(executor->run->error_code, VR_CODE_INTERNAL) == 0;

    if (!internal || executor->prepare_error < 0)
        return VR_ERROR_POLICY;
    return executor->prepare_error == VR_ERROR_INVALID ? VR_ERROR_REFUSED : executor->prepare_error;
}

/* The run's end as an error, for the exit status. */
static gboolean judge(const VrExecutor *executor, const VrRolloutView *view, GError **error)
{
    const VrRun *run = executor->run;
    const char *what = vr_run_kind_name(run->kind);

    if (view->unknown > 0) {
        g_set_error(error, VR_ERROR, VR_ERROR_PERSON, "%s of '%s': the state of %u instance(s) is UNKNOWN", what,
                    run->set_name, view->unknown);
        vr_error_cause(error, "%s", run->error_text ? run->error_text : "");
        vr_error_next(error, "see 'virt-reimage status %s', then run 'virt-reimage recover %s'", run->set_name,
                      run->set_name);
    } else if (view->status == VR_RUN_CANCELLED) {
        set_cancelled(executor, view, error);
    } else if (view->status == VR_RUN_FAULTED) {
        g_set_error(error, VR_ERROR, stop_code(executor), "%s of '%s' stopped: %s", what, run->set_name,
                    run->error_code);
        vr_error_cause(error, "%s", run->error_text ? run->error_text : "");
        vr_error_next(error, "see 'virt-reimage history %s --run %s'", run->set_name, run->id);
    } else if (view->failed > 0) {
        g_set_error(error, VR_ERROR, VR_ERROR_PARTIAL,
                    "%s of '%s' is done, but %u instance(s) failed, %u of them were put back", what, run->set_name,
                    view->failed, view->restored);
        vr_error_next(error, "see 'virt-reimage history %s --run %s'", run->set_name, run->id);
    } else {
        return TRUE;
    }
    return FALSE;
}

/* Where the health of the set stopped the run, it says who counts as down and why: those that hold the places (decision 2). */
static char *error_text(const VrExecutor *executor, const VrRolloutView *view)
{
    g_autoptr(GString) text = g_string_new(view->error_text);
    guint named = 0;

    if (g_strcmp0(view->error_code, VR_CODE_BEFORE_ROLLING) != 0 &&
        g_strcmp0(view->error_code, VR_CODE_IN_ROLLING) != 0)
        return g_strdup(view->error_text);
    for (guint i = 0; i < executor->count && named < NAMED_UNHEALTHY; i++) {
        const char *why = executor->work[i].survey_text;

        if (!vr_rollout_holds_place(executor->rollout, i))
            continue;
        why = why ? why : vr_rollout_reason(executor->rollout, i);
        g_string_append_printf(text, "; '%s': %s", vr_executor_instance(executor, i)->domain, why ? why : "it is off");
        named++;
    }
    return g_strdup(text->str);
}

static void note_disk(const VrGcDisk *disk, void *data)
{
    if (disk->obstacle)
        vr_warning(disk->domain, "generation %u stays, though %s: %s", disk->generation->number, disk->why,
                   disk->obstacle);
    else
        vr_debug("%s: generation %u is deleted: %s", disk->domain, disk->generation->number, disk->why);
}

static void apply_retention(const VrExecutor *executor)
{
    g_auto(VrGc) gc = {.engine = &executor->engine, .tell = note_disk};
    g_autoptr(GError) local = NULL;

    if (!vr_gc_set(&gc, executor->request.set, &local))
        vr_warning(executor->run->set_name, "its kept disks: %s", local->message);
}

/* What the end of the run means for the set; the run has ended all the same when that cannot be written. */
static void settle(const VrExecutor *executor)
{
    const VrEngine *engine = &executor->engine;
    g_autoptr(GError) local = NULL;

    if (!vr_current_version_settle(engine->journal, engine->owner, executor->request.set, executor->run, &local))
        vr_warning(executor->run->set_name, "its current version: %s", local->message);
    g_clear_error(&local);
    if (!vr_history_prune(engine->journal, engine->owner, &executor->request.set->model->history, NULL, &local))
        vr_warning(executor->run->set_name, "its history: %s", local->message);
    apply_retention(executor);
}

static gboolean end_run(VrExecutor *executor, GError **error)
{
    VrRolloutView view;
    VrRun *run = executor->run;

    vr_executor_wait_for_gate(executor);
    for (guint i = 0; i < executor->count; i++) {
        leave(executor, i);
        sync_instance(executor, i, NULL);
    }
    vr_rollout_view(executor->rollout, &view);
    run->status = view.status;
    run->completed_us = vr_clock_wall_us();
    run->error_code = g_strdup(view.error_code);
    vr_handover_take(executor);
    run->error_text = error_text(executor, &view);
    vr_executor_audit(executor, "run-end", NULL, view.error_code ? view.error_code : vr_run_status_name(view.status));
    if (!vr_history_end(executor->engine.journal, executor->engine.owner, run, error))
        return FALSE;
    settle(executor);
    vr_executor_tell(executor, VR_PROGRESS_END, NULL, run->error_text);
    return judge(executor, &view, error);
}

/* The process goes and the run stays: what was prepared ahead does not lie about until somebody goes on with it. */
static void put_away(VrExecutor *executor)
{
    g_atomic_int_set(&executor->cancelled, 1); /* a copy that is made ahead is not waited for */
    vr_executor_gate_over(executor);
    g_thread_pool_free(g_steal_pointer(&executor->pool), FALSE, TRUE);
    vr_handover_take(executor);
    for (guint i = 0; i < executor->count; i++) {
        VrSwap *swap = executor->work[i].swap;
        VrRunInstance *instance = g_ptr_array_index(executor->run->instances, i);
        g_autoptr(GError) local = NULL;

        if (!swap || (vr_swap_row(swap)->state != VR_SWAP_PREPARED && vr_swap_row(swap)->state != VR_SWAP_PLANNED))
            continue;
        instance->phase = VR_PHASE_PENDING;
        g_clear_pointer(&instance->swap_id, g_free);
        if (!vr_swap_undo(swap, "the process of the run ends", &local) ||
            !vr_history_instance(executor->engine.journal, executor->engine.owner, executor->run->id, instance, &local))
            vr_warning(instance->domain, "%s", local->message);
    }
}

/* A new run gets its row; one that another process began is gone on with. */
static gboolean begin(VrExecutor *executor, GError **error)
{
    gboolean goes_on = executor->request.goes_on != NULL;
    VrRolloutView view;

    if (goes_on ? !vr_executor_go_on(executor, error)
                : !vr_history_begin(executor->engine.journal, executor->engine.owner, executor->run, error))
        return FALSE;
    vr_rollout_view(executor->rollout, &view);
    executor->batch = view.batch_number;
    vr_executor_audit(executor, goes_on ? "run-goes-on" : "run-begin", NULL, vr_run_kind_name(executor->run->kind));
    for (guint i = 0; i < vr_outside_passed(executor->outside)->len; i++)
        vr_executor_audit(executor, "ignored", NULL, vr_outside_passed(executor->outside)->pdata[i]);
    vr_executor_tell(executor, VR_PROGRESS_RUN, NULL, NULL);
    return TRUE;
}

/* Until the run has ended, or its process shall: FALSE. Then nothing is in flight, and what answers still come change nothing. */
static gboolean step_to_the_end(VrExecutor *executor)
{
    VrRolloutView view;

    for (vr_rollout_view(executor->rollout, &view); !view.finished; vr_rollout_view(executor->rollout, &view)) {
        if (g_atomic_int_get(&executor->leaving)) {
            vr_executor_keep_open(executor);
            if (!view.locked)
                return FALSE;
        }
        g_autoptr(VrMessage) message = next_message(executor);
        if (!message)
            continue;
        vr_handover_take(message);
        if (message->note)
            note_wait(executor, message);
        else if (vr_executor_may(executor, message))
            take(executor, message);
    }
    return TRUE;
}

/* A pause, its end and an approval that were said before the start count from the start; what else was said comes right after it. */
static void start(VrExecutor *executor)
{
    g_autoptr(VrMessage) start = vr_message_new(VR_EVENT_START, 0, VR_OUTCOME_OK, NULL);
    g_autoptr(GPtrArray) others = g_ptr_array_new();
    VrMessage *early;

    while ((early = g_async_queue_try_pop(executor->queue))) {
        vr_handover_take(early);
        if (early->call ||
            (early->type != VR_EVENT_PAUSE && early->type != VR_EVENT_RESUME && early->type != VR_EVENT_APPROVE)) {
            g_ptr_array_add(others, early);
            continue;
        }
        take(executor, early);
        vr_message_free(early);
    }
    take(executor, start);
    for (guint i = 0; i < others->len; i++)
        vr_executor_post(executor, g_ptr_array_index(others, i));
}

gboolean vr_executor_run(VrExecutor *executor, VrRun **run, GError **error)
{
    gboolean ok;

    if (!begin(executor, error))
        return FALSE;
    start(executor);
    if (step_to_the_end(executor)) {
        ok = end_run(executor, error);
    } else {
        ok = FALSE;
        put_away(executor);
        g_set_error(error, VR_ERROR, VR_ERROR_CANCELLED, "run %s of '%s' stays open", executor->run->id,
                    executor->run->set_name);
        vr_error_next(error, "'virt-reimage resume %s' goes on with it", executor->run->set_name);
    }
    vr_executor_close(executor);
    if (run)
        *run = g_steal_pointer(&executor->run);
    return ok;
}
