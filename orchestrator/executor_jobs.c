/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the executor's workers do: one command about one instance each, and its outcome as a message. */
#include "orchestrator/executor_private.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/handover.h"
#include "orchestrator/extension_swap.h"
#include "orchestrator/health.h"

void vr_message_free(VrMessage *message)
{
    g_free(message->reason);
    g_free(message->text);
    g_free(message->answers);
    g_free(message->wishes);
    g_free(message->window_words);
    g_free(message);
}

VrMessage *vr_message_new(VrEventType type, guint instance, VrOutcome outcome, const char *reason)
{
    VrMessage *message = g_new0(VrMessage, 1);

    message->type = type;
    message->instance = instance;
    message->outcome = outcome;
    message->reason = g_strdup(reason);
    return message;
}

void vr_executor_post(VrExecutor *executor, VrMessage *message)
{
    vr_handover_give(message);
    g_async_queue_push(executor->queue, message);
}

const VrInstance *vr_executor_instance(const VrExecutor *executor, guint index)
{
    return g_ptr_array_index(executor->request.set->instances, index);
}

const VrImage *vr_executor_image(const VrExecutor *executor, guint index)
{
    const VrImage *own = executor->request.targets[index].image;

    return own ? own : executor->request.image;
}

VrHealthSubject vr_executor_subject(const VrExecutor *executor, guint index)
{
    return (VrHealthSubject){.uuid = vr_executor_instance(executor, index)->uuid,
                             .address = vr_set_address(executor->request.set, index)};
}

/* It failed before its guest was off: the guest stays, or comes back, on its old disk, and the version was never tried. */
static VrMessage *untouched(VrExecutor *executor, VrEventType type, guint index, const GError *why)
{
    VrWork *work = &executor->work[index];
    gboolean cancelled = type == VR_EVENT_PREPARED && g_error_matches(why, VR_ERROR, VR_ERROR_CANCELLED);
    g_autoptr(GError) undo = NULL;

    if (!cancelled)
        g_atomic_int_compare_and_exchange(&executor->prepare_error, -1, why->code);
    if (work->notice)
        vr_notice_take_back(work->notice);
    if (!work->swap || vr_swap_undo(work->swap, why->message, &undo))
        return vr_message_new(type, index, cancelled ? VR_OUTCOME_CANCELLED : VR_OUTCOME_UNTOUCHED, why->message);
    return vr_message_new(type, index, VR_OUTCOME_UNKNOWN, undo->message);
}

/* *seed NULL: it gets none; so does one that goes back. */
static gboolean make_seed(VrExecutor *executor, guint index, VrSeed **seed, GError **error)
{
    const VrImage *image = vr_executor_image(executor, index);

    *seed = NULL;
    if (!image || !executor->request.os_content)
        return TRUE;
    return vr_os_content_seed(executor->request.os_content, executor->request.set, index, image, executor->engine.hv,
                              seed, error);
}

/* What is written into its new disk; *personal NULL: nothing. */
static gboolean make_personal(VrExecutor *executor, guint index, VrPersonal **personal, GError **error)
{
    *personal = NULL;
    return !executor->personalize.work_dir ||
           vr_os_content_personal(executor->request.os_content, executor->request.set, index,
                                  vr_executor_image(executor, index), executor->engine.hv, personal, error);
}

static void do_prepare(VrExecutor *executor, VrJob *job)
{
    const VrModel *model = executor->request.set->model;
    VrWork *work = &executor->work[job->instance];
    g_autoptr(GError) local = NULL;
    g_autoptr(VrSeed) seed = NULL;
    g_autoptr(VrPersonal) personal = NULL;
    gboolean prepared;
    VrSwapRequest request = {.run_id = executor->run->id,
                             .uuid = vr_executor_instance(executor, job->instance)->uuid,
                             .os_target = model->os_target,
                             .image = vr_executor_image(executor, job->instance),
                             .seat = job->seat,
                             .personalize = &executor->personalize,
                             .personal_seat = job->personal_seat,
                             .to_generation = executor->request.targets[job->instance].to_generation,
                             .model_revision = executor->request.set->revision,
                             .data_proof = model->data_proof,
                             .needs_agent = vr_model_needs_agent(model),
                             .protected_disks = vr_set_protected_disks(executor->request.set, job->instance),
                             .temp_targets =
                                 executor->request.temp_disks ? (const char *const *)model->temp_disks : NULL,
                             .ignored = executor->request.ignored};

    g_clear_pointer(&work->swap, vr_swap_free); /* prepared ahead, and discarded */
    g_clear_pointer(&work->notice, vr_notice_free);
    if (job->seat)
        vr_clone_seat_watch(job->seat, &work->copy);
    if (make_seed(executor, job->instance, &seed, &local) &&
        make_personal(executor, job->instance, &personal, &local)) {
        request.seed = seed;
        request.personal = personal;
        request.carry = executor->personalize.work_dir ? vr_os_content_carry(executor->request.os_content) : NULL;
        work->swap = vr_swap_begin(&executor->engine, &request, &local);
    }
    prepared = work->swap && vr_swap_advance(work->swap, VR_SWAP_PREPARED, NULL, &local);
    g_clear_pointer(&job->seat, vr_clone_seat_free); /* before an undo that takes its time: others wait */
    g_clear_pointer(&job->personal_seat, vr_personal_seat_free);
    if (prepared)
        vr_executor_post(executor, vr_message_new(VR_EVENT_PREPARED, job->instance, VR_OUTCOME_OK, NULL));
    else
        vr_executor_post(executor, untouched(executor, VR_EVENT_PREPARED, job->instance, local));
}

typedef struct {
    VrExecutor *executor;
    guint instance;
} Waiting;

static void say_wait(const char *text, void *data)
{
    const Waiting *waiting = data;
    VrMessage *message = vr_message_new(VR_EVENT_NOTICED, waiting->instance, VR_OUTCOME_OK, NULL);

    message->note = TRUE;
    message->text = g_strdup(text);
    vr_executor_post(waiting->executor, message);
}

/* For the guest's notice. Free with g_free. */
static char *what_comes(const VrExecutor *executor, guint index)
{
    const VrImage *image = vr_executor_image(executor, index);

    return g_strdup_printf("%s of '%s' to %s %s", vr_run_kind_name(executor->run->kind), executor->run->set_name,
                           image->name, image->version);
}

/* What was prepared for one that is called off is discarded by a job of its own. */
static void do_notice(VrExecutor *executor, VrJob *job)
{
    VrWork *work = &executor->work[job->instance];
    Waiting waiting = {executor, job->instance};
    g_autofree char *what = what_comes(executor, job->instance);
    const VrNoticeRequest request = {.hv = executor->engine.hv,
                                     .profile = &executor->request.set->model->notice,
                                     .uuid = vr_executor_instance(executor, job->instance)->uuid,
                                     .domain = vr_executor_instance(executor, job->instance)->domain,
                                     .what = what};
    g_autoptr(GError) local = NULL;
    VrMessage *message;

    work->notice = vr_notice_new(&request);
    if (vr_notice_wait(work->notice, &work->recalled, say_wait, &waiting, &local))
        message = vr_message_new(VR_EVENT_NOTICED, job->instance, VR_OUTCOME_OK, NULL);
    else if (g_error_matches(local, VR_ERROR, VR_ERROR_CANCELLED))
        message = vr_message_new(VR_EVENT_NOTICED, job->instance, VR_OUTCOME_CANCELLED, local->message);
    else
        message = untouched(executor, VR_EVENT_NOTICED, job->instance, local);
    vr_executor_post(executor, message);
}

static void say_swapped(VrExecutor *executor, const VrSwap *swap, VrMessage *message)
{
    VrSwapTimes times;
    g_autofree char *stop = NULL;
    g_autofree char *off = NULL;

    if (!vr_swap_row(swap)->was_running ||
        !vr_journal_swap_times(executor->engine.journal, vr_swap_row(swap)->id, &times, NULL)) {
        message->text = g_strdup("was off and stays off");
        return;
    }
    stop = vr_clock_format_duration(times.stop_ms);
    off = vr_clock_format_duration(times.off_ms);
    message->text = g_strdup_printf("stopped in %s, off for %s", stop, off);
    message->off_ms = times.off_ms;
}

static void do_swap(VrExecutor *executor, VrJob *job)
{
    VrWork *work = &executor->work[job->instance];
    g_autoptr(GError) local = NULL;
    VrMessage *message;

    if (!vr_swap_advance(work->swap, VR_SWAP_STARTED, &executor->request.set->model->stop, &local)) {
        if (vr_swap_row(work->swap)->reached <= VR_SWAP_PREPARED)
            message = untouched(executor, VR_EVENT_SWAPPED, job->instance, local);
        else
            message = vr_message_new(VR_EVENT_SWAPPED, job->instance, VR_OUTCOME_FAILED, local->message);
        vr_executor_post(executor, message);
        return;
    }
    work->started_ms = vr_clock_now_ms();
    message = vr_message_new(VR_EVENT_SWAPPED, job->instance, VR_OUTCOME_OK, NULL);
    say_swapped(executor, work->swap, message);
    vr_executor_post(executor, message);
}

typedef struct {
    VrExecutor *executor;
    guint index;
} Awaited;

static void told(const VrHealthAnswer *answer, gint64 until_ms, void *data)
{
    const Awaited *awaited = data;

    vr_executor_note_answer(awaited->executor, awaited->index, answer->text ? answer->text : "no answer", until_ms);
}

static gboolean wait_healthy(VrExecutor *executor, guint index, const char *old_boot_id, gint64 started_ms,
                             const gint *aborted, VrHealthAnswer *answer)
{
    Awaited awaited = {executor, index};
    VrHealthWait wait = {.subject = vr_executor_subject(executor, index),
                         .old_boot_id = old_boot_id,
                         .started_ms = started_ms,
                         .aborted = aborted,
                         .told = told,
                         .told_data = &awaited};
    gboolean healthy = vr_health_wait(executor->engine.hv, &executor->request.set->model->health, &wait, answer);

    vr_executor_note_answer(executor, index, NULL, 0);
    return healthy;
}

/* Health is asked for once the extensions have succeeded: it may depend on them (E6). */
static void do_probe(VrExecutor *executor, VrJob *job)
{
    VrWork *work = &executor->work[job->instance];
    const VrSwapRow *row = vr_swap_row(work->swap);
    g_auto(VrHealthAnswer) answer = {0};
    g_autofree char *fault = NULL;
    VrMessage *message;

    if (!row->was_running)
        message = vr_message_new(VR_EVENT_PROBED, job->instance, VR_OUTCOME_OK, NULL);
    else if (!vr_extensions_of_swap(&executor->engine, executor->request.extensions,
                                    &executor->request.set->model->health, row, &work->probe_aborted, &work->started_ms,
                                    &fault))
        message = vr_message_new(VR_EVENT_PROBED, job->instance, VR_OUTCOME_FAILED, fault);
    else if (wait_healthy(executor, job->instance, row->old_boot_id, work->started_ms, &work->probe_aborted, &answer))
        message = vr_message_new(VR_EVENT_PROBED, job->instance, VR_OUTCOME_OK, NULL);
    else
        message = vr_message_new(VR_EVENT_PROBED, job->instance, VR_OUTCOME_FAILED, answer.text);
    /* the boot id travels in the text, so that only the thread of the next command touches the swap */
    message->text = g_steal_pointer(&answer.boot_id);
    vr_executor_post(executor, message);
}

static void do_commit(VrExecutor *executor, VrJob *job)
{
    g_autoptr(GError) local = NULL;

    if (vr_swap_commit(executor->work[job->instance].swap, job->text, &local))
        vr_executor_post(executor, vr_message_new(VR_EVENT_COMMITTED, job->instance, VR_OUTCOME_OK, NULL));
    else
        vr_executor_post(executor,
                         vr_message_new(VR_EVENT_COMMITTED, job->instance, VR_OUTCOME_FAILED, local->message));
}

/* Back on its old disk, and given the time to come up: until then it holds its place. */
static void do_restore(VrExecutor *executor, VrJob *job)
{
    VrWork *work = &executor->work[job->instance];
    g_autoptr(GError) local = NULL;
    g_auto(VrHealthAnswer) answer = {0};
    VrMessage *message;

    if (!vr_swap_undo(work->swap, job->text, &local)) {
        vr_executor_post(executor,
                         vr_message_new(VR_EVENT_RESTORED, job->instance, VR_OUTCOME_UNKNOWN, local->message));
        return;
    }
    message = vr_message_new(VR_EVENT_RESTORED, job->instance, VR_OUTCOME_OK, NULL);
    if (vr_swap_row(work->swap)->was_running &&
        !wait_healthy(executor, job->instance, NULL, vr_clock_now_ms(), NULL, &answer))
        message->text = g_strdup_printf("back on its old disk, but %s", answer.text);
    else
        message->text = g_strdup("back on its old disk");
    vr_executor_post(executor, message);
}

static void do_discard(VrExecutor *executor, VrJob *job)
{
    VrWork *work = &executor->work[job->instance];
    g_autoptr(GError) local = NULL;

    if (work->notice)
        vr_notice_take_back(work->notice);
    if (vr_swap_undo(work->swap, job->text, &local))
        vr_executor_post(executor, vr_message_new(VR_EVENT_DISCARDED, job->instance, VR_OUTCOME_OK, NULL));
    else
        vr_executor_post(executor,
                         vr_message_new(VR_EVENT_DISCARDED, job->instance, VR_OUTCOME_UNKNOWN, local->message));
}

void vr_executor_work(gpointer data, gpointer user_data)
{
    static void (*const doers[])(VrExecutor *, VrJob *) = {[VR_COMMAND_SURVEY] = vr_executor_do_survey,
                                                           [VR_COMMAND_PREPARE] = do_prepare,
                                                           [VR_COMMAND_SWAP] = do_swap,
                                                           [VR_COMMAND_PROBE] = do_probe,
                                                           [VR_COMMAND_COMMIT] = do_commit,
                                                           [VR_COMMAND_RESTORE] = do_restore,
                                                           [VR_COMMAND_DISCARD] = do_discard,
                                                           [VR_COMMAND_GATE] = vr_executor_do_gate,
                                                           [VR_COMMAND_NOTICE] = do_notice,
                                                           [VR_COMMAND_WINDOW] = vr_executor_do_window};
    VrJob *job = data;

    vr_handover_take(job);
    doers[job->type](user_data, job);
    g_free(job->text);
    g_free(job);
    vr_handover_give(user_data); /* vr_executor_free() takes it, after the pool has ended */
}
