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
 */
#include "orchestrator/executor.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "orchestrator/health.h"

#include <pwd.h>
#include <unistd.h>

#define SURVEY_WORKERS 32
#define MAX_WORKERS 256
#define SURVEY_WAIT_MS 10000

/* What a worker or a signal says. Owned by whoever holds it. */
typedef struct {
    VrEventType type;
    guint instance;
    VrOutcome outcome;
    char *reason;
    char *text; /* for the view */
    VrSurveyAnswer *answers;
} Message;

typedef struct {
    VrSwap *swap;       /* made by the PREPARE job, then used by one job at a time */
    gint64 started_ms;  /* written by the SWAP job */
    gint probe_aborted; /* atomic */
} Work;

/* The answers of one survey are filled in by many workers; the last one posts them. */
typedef struct {
    gint left; /* atomic */
    VrSurveyAnswer *answers;
} Survey;

typedef struct {
    VrCommandType type;
    guint instance;
    char *text;
    Survey *survey; /* of a SURVEY; shared */
} Job;

struct VrExecutor {
    VrEngine engine;
    VrRunRequest request;
    guint count;
    VrRollout *rollout;
    VrRun *run;
    Work *work;         /* [count] */
    GAsyncQueue *queue; /* Message * */
    GThreadPool *pool;
    gint64 wake_ms; /* 0: none */
    guint batch;
    int prepare_error; /* VrErrorCode of the first preparation that failed, -1: none. Atomic */
};

static const VrInstance *instance_of(const VrExecutor *executor, guint index)
{
    return g_ptr_array_index(executor->request.set->instances, index);
}

/* --- messages ---------------------------------------------------------------------------------------- */

static void message_free(Message *message)
{
    g_free(message->reason);
    g_free(message->text);
    g_free(message->answers);
    g_free(message);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Message, message_free)

static Message *message_new(VrEventType type, guint instance, VrOutcome outcome, const char *reason)
{
    Message *message = g_new0(Message, 1);

    message->type = type;
    message->instance = instance;
    message->outcome = outcome;
    message->reason = g_strdup(reason);
    return message;
}

static void post(VrExecutor *executor, Message *message)
{
    g_async_queue_push(executor->queue, message);
}

void vr_executor_cancel(VrExecutor *executor, gboolean now)
{
    post(executor, message_new(now ? VR_EVENT_CANCEL_NOW : VR_EVENT_CANCEL, 0, VR_OUTCOME_OK, NULL));
}

/* --- jobs: each runs on a worker --------------------------------------------------------------------- */

static void do_survey(VrExecutor *executor, Job *job)
{
    const VrInstance *instance = instance_of(executor, job->instance);
    g_auto(VrHealthAnswer) answer = {0};
    Message *message;

    vr_health_probe(executor->engine.hv, &executor->request.set->model->health, instance->uuid,
                    vr_clock_now_ms() + SURVEY_WAIT_MS, &answer);
    job->survey->answers[job->instance] = answer.off                          ? VR_SURVEY_OFF
                                          : answer.state == VR_HEALTH_HEALTHY ? VR_SURVEY_HEALTHY
                                                                              : VR_SURVEY_UNHEALTHY;
    if (!g_atomic_int_dec_and_test(&job->survey->left))
        return;
    message = message_new(VR_EVENT_SURVEY, 0, VR_OUTCOME_OK, NULL);
    message->answers = job->survey->answers;
    g_free(job->survey);
    post(executor, message);
}

static Message *prepare_failed(VrExecutor *executor, guint index, const GError *why)
{
    Work *work = &executor->work[index];
    g_autoptr(GError) undo = NULL;

    g_atomic_int_compare_and_exchange(&executor->prepare_error, -1, why->code);
    if (!work->swap || vr_swap_undo(work->swap, why->message, &undo))
        return message_new(VR_EVENT_PREPARED, index, VR_OUTCOME_UNTOUCHED, why->message);
    return message_new(VR_EVENT_PREPARED, index, VR_OUTCOME_UNKNOWN, undo->message);
}

static void do_prepare(VrExecutor *executor, Job *job)
{
    const VrModel *model = executor->request.set->model;
    Work *work = &executor->work[job->instance];
    g_autoptr(GError) local = NULL;
    VrSwapRequest request = {.run_id = executor->run->id,
                             .uuid = instance_of(executor, job->instance)->uuid,
                             .os_target = model->os_target,
                             .image = executor->request.image,
                             .to_generation = executor->request.targets[job->instance].to_generation,
                             .needs_agent = model->health.source != VR_HEALTH_SOURCE_POWER};

    work->swap = vr_swap_begin(&executor->engine, &request, &local);
    if (work->swap && vr_swap_advance(work->swap, VR_SWAP_PREPARED, NULL, &local))
        post(executor, message_new(VR_EVENT_PREPARED, job->instance, VR_OUTCOME_OK, NULL));
    else
        post(executor, prepare_failed(executor, job->instance, local));
}

static char *swap_text(VrExecutor *executor, const VrSwap *swap)
{
    VrSwapTimes times;
    g_autofree char *stop = NULL;
    g_autofree char *off = NULL;

    if (!vr_swap_row(swap)->was_running ||
        !vr_journal_swap_times(executor->engine.journal, vr_swap_row(swap)->id, &times, NULL))
        return g_strdup("was off and stays off");
    stop = vr_clock_format_duration(times.stop_ms);
    off = vr_clock_format_duration(times.off_ms);
    return g_strdup_printf("stopped in %s, off for %s", stop, off);
}

static void do_swap(VrExecutor *executor, Job *job)
{
    Work *work = &executor->work[job->instance];
    g_autoptr(GError) local = NULL;
    Message *message;

    if (!vr_swap_advance(work->swap, VR_SWAP_STARTED, &executor->request.set->model->stop, &local)) {
        post(executor, message_new(VR_EVENT_SWAPPED, job->instance, VR_OUTCOME_FAILED, local->message));
        return;
    }
    work->started_ms = vr_clock_now_ms();
    message = message_new(VR_EVENT_SWAPPED, job->instance, VR_OUTCOME_OK, NULL);
    message->text = swap_text(executor, work->swap);
    post(executor, message);
}

static gboolean wait_healthy(VrExecutor *executor, guint index, const char *old_boot_id, gint64 started_ms,
                             const gint *aborted, VrHealthAnswer *answer)
{
    VrHealthWait wait = {.uuid = instance_of(executor, index)->uuid,
                         .old_boot_id = old_boot_id,
                         .started_ms = started_ms,
                         .aborted = aborted};

    return vr_health_wait(executor->engine.hv, &executor->request.set->model->health, &wait, answer);
}

static void do_probe(VrExecutor *executor, Job *job)
{
    Work *work = &executor->work[job->instance];
    const VrSwapRow *row = vr_swap_row(work->swap);
    g_auto(VrHealthAnswer) answer = {0};
    Message *message;

    if (!row->was_running)
        message = message_new(VR_EVENT_PROBED, job->instance, VR_OUTCOME_OK, NULL);
    else if (wait_healthy(executor, job->instance, row->old_boot_id, work->started_ms, &work->probe_aborted, &answer))
        message = message_new(VR_EVENT_PROBED, job->instance, VR_OUTCOME_OK, NULL);
    else
        message = message_new(VR_EVENT_PROBED, job->instance, VR_OUTCOME_FAILED, answer.text);
    /* the boot id travels in the text, so that only the thread of the next command touches the swap */
    message->text = g_steal_pointer(&answer.boot_id);
    post(executor, message);
}

static void do_commit(VrExecutor *executor, Job *job)
{
    g_autoptr(GError) local = NULL;

    if (vr_swap_commit(executor->work[job->instance].swap, job->text, &local))
        post(executor, message_new(VR_EVENT_COMMITTED, job->instance, VR_OUTCOME_OK, NULL));
    else
        post(executor, message_new(VR_EVENT_COMMITTED, job->instance, VR_OUTCOME_FAILED, local->message));
}

/* Back on its old disk, and given the time to come up: until then it holds its place. */
static void do_restore(VrExecutor *executor, Job *job)
{
    Work *work = &executor->work[job->instance];
    g_autoptr(GError) local = NULL;
    g_auto(VrHealthAnswer) answer = {0};
    Message *message;

    if (!vr_swap_undo(work->swap, job->text, &local)) {
        post(executor, message_new(VR_EVENT_RESTORED, job->instance, VR_OUTCOME_UNKNOWN, local->message));
        return;
    }
    message = message_new(VR_EVENT_RESTORED, job->instance, VR_OUTCOME_OK, NULL);
    if (vr_swap_row(work->swap)->was_running &&
        !wait_healthy(executor, job->instance, NULL, vr_clock_now_ms(), NULL, &answer))
        message->text = g_strdup_printf("back on its old disk, but %s", answer.text);
    else
        message->text = g_strdup("back on its old disk");
    post(executor, message);
}

static void do_discard(VrExecutor *executor, Job *job)
{
    g_autoptr(GError) local = NULL;

    if (vr_swap_undo(executor->work[job->instance].swap, job->text, &local))
        post(executor, message_new(VR_EVENT_DISCARDED, job->instance, VR_OUTCOME_OK, NULL));
    else
        post(executor, message_new(VR_EVENT_DISCARDED, job->instance, VR_OUTCOME_UNKNOWN, local->message));
}

static void run_job(gpointer data, gpointer user_data)
{
    static void (*const doers[])(VrExecutor *, Job *) = {
        [VR_COMMAND_SURVEY] = do_survey,  [VR_COMMAND_PREPARE] = do_prepare, [VR_COMMAND_SWAP] = do_swap,
        [VR_COMMAND_PROBE] = do_probe,    [VR_COMMAND_COMMIT] = do_commit,   [VR_COMMAND_RESTORE] = do_restore,
        [VR_COMMAND_DISCARD] = do_discard};
    Job *job = data;

    doers[job->type](user_data, job);
    g_free(job->text);
    g_free(job);
}

/* --- the caller's thread: history, view, commands ---------------------------------------------------- */

static void tell(VrExecutor *executor, VrProgressKind kind, const VrRunInstance *instance, const char *text)
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
    const VrSwap *swap = executor->work[index].swap;
    g_autoptr(GError) local = NULL;

    if (instance->phase == phase)
        return;
    instance->phase = phase;
    if (reason) {
        g_free(instance->reason);
        instance->reason = g_strdup(reason);
    }
    if (phase > VR_PHASE_PREPARING && swap && !instance->swap_id)
        instance->swap_id = g_strdup(vr_swap_row(swap)->id);
    if (!vr_history_instance(executor->engine.journal, executor->engine.owner, executor->run->id, instance, &local))
        vr_warning(instance->domain, "history: %s", local->message);
    tell(executor, VR_PROGRESS_INSTANCE, instance, text ? text : instance->reason);
}

static void audit(VrExecutor *executor, const char *kind, const char *uuid, const char *text)
{
    g_autoptr(GError) local = NULL;

    if (!vr_journal_event(executor->engine.journal, executor->engine.owner, executor->run->id, uuid, kind, text,
                          &local))
        vr_warning(executor->run->set_name, "audit: %s", local->message);
}

static void push_job(VrExecutor *executor, VrCommandType type, guint instance, const char *text, Survey *survey)
{
    Job *job = g_new0(Job, 1);

    job->type = type;
    job->instance = instance;
    job->text = g_strdup(text);
    job->survey = survey;
    g_thread_pool_push(executor->pool, job, NULL);
    /* cppcheck-suppress memleak ; run_job() owns it */
}

/* A version that was excluded since the run began ends it (decision 8). */
static void check_withdrawn(VrExecutor *executor)
{
    const VrImage *image = executor->request.image;
    g_autoptr(VrImage) now = NULL;

    if (!image || image->excluded)
        return;
    now = vr_store_get(executor->engine.store, image->name, image->version, NULL);
    if (now && now->excluded)
        post(executor, message_new(VR_EVENT_WITHDRAWN, 0, VR_OUTCOME_OK, "the version was excluded meanwhile"));
}

static void begin_survey(VrExecutor *executor)
{
    Survey *survey = g_new0(Survey, 1);

    check_withdrawn(executor);
    survey->left = (gint)executor->count;
    survey->answers = g_new0(VrSurveyAnswer, executor->count);
    for (guint i = 0; i < executor->count; i++)
        push_job(executor, VR_COMMAND_SURVEY, i, NULL, survey);
}

static void obey(VrExecutor *executor, const VrCommand *command, const char *boot_id)
{
    VrRunInstance *instance;

    switch (command->type) {
    case VR_COMMAND_SURVEY:
        begin_survey(executor);
        break;
    case VR_COMMAND_BATCH_BEGIN:
        executor->batch = command->batch_number;
        audit(executor, "batch-begin", NULL, command->text);
        tell(executor, VR_PROGRESS_BATCH, NULL, command->text);
        break;
    case VR_COMMAND_BATCH_END:
        audit(executor, "batch-end", NULL, command->text);
        break;
    case VR_COMMAND_WAKE:
        executor->wake_ms = command->at_ms;
        tell(executor, VR_PROGRESS_WAIT, NULL, command->text);
        break;
    case VR_COMMAND_PREPARE:
        instance = g_ptr_array_index(executor->run->instances, command->instance);
        instance->batch = executor->batch;
        push_job(executor, command->type, command->instance, command->text, NULL);
        break;
    case VR_COMMAND_RESTORE:
        g_atomic_int_set(&executor->work[command->instance].probe_aborted, 1);
        audit(executor, "restore", instance_of(executor, command->instance)->uuid, command->text);
        push_job(executor, command->type, command->instance, command->text, NULL);
        break;
    case VR_COMMAND_COMMIT:
        push_job(executor, command->type, command->instance, boot_id, NULL);
        break;
    case VR_COMMAND_SWAP:
    case VR_COMMAND_PROBE:
    case VR_COMMAND_DISCARD:
        push_job(executor, command->type, command->instance, command->text, NULL);
        break;
    case VR_COMMAND_FINISH:
        break;
    }
}

/* An unhealthy instance that the policy leaves where it is: its swap ends there. */
static void leave(VrExecutor *executor, const Message *message)
{
    g_autoptr(GError) local = NULL;

    if (message->type == VR_EVENT_PROBED && vr_rollout_phase(executor->rollout, message->instance) == VR_PHASE_FAILED &&
        !vr_swap_leave(executor->work[message->instance].swap, message->reason, &local))
        vr_warning(instance_of(executor, message->instance)->domain, "%s", local->message);
}

static void take(VrExecutor *executor, const Message *message)
{
    g_autoptr(GArray) commands = g_array_new(FALSE, TRUE, sizeof(VrCommand));
    VrEvent event = {.type = message->type,
                     .instance = message->instance,
                     .outcome = message->outcome,
                     .reason = message->reason,
                     .answers = message->answers};
    const char *boot_id = message->type == VR_EVENT_PROBED ? message->text : NULL;

    g_array_set_clear_func(commands, (GDestroyNotify)vr_command_clear);
    vr_rollout_step(executor->rollout, &event, vr_clock_now_ms(), commands);
    leave(executor, message);
    if (message->type >= VR_EVENT_PREPARED && message->type <= VR_EVENT_DISCARDED)
        sync_instance(executor, message->instance, boot_id ? NULL : message->text);
    for (guint i = 0; i < commands->len; i++) {
        const VrCommand *command = &g_array_index(commands, VrCommand, i);
        obey(executor, command, boot_id);
        if (command->type >= VR_COMMAND_PREPARE && command->type <= VR_COMMAND_DISCARD)
            sync_instance(executor, command->instance, NULL);
    }
}

static Message *next_message(VrExecutor *executor)
{
    gint64 wait_ms;
    Message *message;

    if (executor->wake_ms == 0)
        return g_async_queue_pop(executor->queue);
    wait_ms = MAX(0, executor->wake_ms - vr_clock_now_ms());
    message = g_async_queue_timeout_pop(executor->queue, (guint64)wait_ms * 1000 + 1);
    if (message || vr_clock_now_ms() < executor->wake_ms)
        return message;
    executor->wake_ms = 0;
    return message_new(VR_EVENT_WAKE, 0, VR_OUTCOME_OK, NULL);
}

/* --- a run ------------------------------------------------------------------------------------------- */

static const char *user_name(void)
{
    const char *sudo = g_getenv("SUDO_USER");
    const struct passwd *user = getpwuid(getuid());

    return sudo ? sudo : user ? user->pw_name : "unknown";
}

static VrRun *new_run(const VrExecutor *executor)
{
    const VrRunRequest *request = &executor->request;
    VrRun *run = g_new0(VrRun, 1);

    run->set_name = g_strdup(request->set->name);
    run->kind = request->kind;
    run->image = request->image ? g_strdup(request->image->name) : NULL;
    run->version = request->image ? g_strdup(request->image->version) : NULL;
    run->started_by = g_strdup(user_name());
    run->reason = g_strdup(request->reason);
    run->instances = vr_run_instances_new();
    for (guint i = 0; i < executor->count; i++) {
        VrRunInstance *instance = g_new0(VrRunInstance, 1);
        g_strlcpy(instance->uuid, instance_of(executor, i)->uuid, sizeof(instance->uuid));
        instance->domain = g_strdup(instance_of(executor, i)->domain);
        instance->phase = request->targets[i].chosen ? VR_PHASE_PENDING : VR_PHASE_SKIPPED;
        instance->reason = request->targets[i].chosen ? NULL : g_strdup(request->targets[i].skipped);
        g_ptr_array_add(run->instances, instance);
    }
    return run;
}

static VrRollout *new_rollout(const VrExecutor *executor)
{
    const VrModel *model = executor->request.set->model;
    g_autofree VrRolloutInstance *instances = g_new0(VrRolloutInstance, executor->count);
    VrRolloutConfig config = {.kind = executor->request.kind,
                              .policy = model->policy,
                              .health_timeout_ms = model->health.timeout_ms,
                              .same_reason_stops = TRUE,
                              .count = executor->count,
                              .instances = instances};

    config.policy.automatic_rollback = executor->request.automatic_rollback;
    for (guint i = 0; i < executor->count; i++) {
        instances[i].upgrade_domain = instance_of(executor, i)->upgrade_domain;
        instances[i].chosen = executor->request.targets[i].chosen;
    }
    return vr_rollout_new(&config);
}

VrExecutor *vr_executor_new(const VrEngine *engine, const VrRunRequest *request)
{
    VrExecutor *executor = g_new0(VrExecutor, 1);
    guint batch = vr_planner_allowed(request->set->instances->len, request->set->model->policy.max_batch_percent);

    executor->engine = *engine;
    executor->request = *request;
    executor->count = request->set->instances->len;
    executor->prepare_error = -1;
    executor->queue = g_async_queue_new_full((GDestroyNotify)message_free);
    executor->work = g_new0(Work, executor->count);
    executor->rollout = new_rollout(executor);
    executor->run = new_run(executor);
    /* every instance of a batch needs a worker of its own: a probe that waits in a line would lose its time */
    executor->pool = g_thread_pool_new(
        run_job, executor, (gint)CLAMP(batch, MIN(executor->count, SURVEY_WORKERS), MAX_WORKERS), FALSE, NULL);
    return executor;
}

void vr_executor_free(VrExecutor *executor)
{
    if (!executor)
        return;
    g_thread_pool_free(executor->pool, FALSE, TRUE);
    for (guint i = 0; i < executor->count; i++)
        vr_swap_free(executor->work[i].swap);
    g_free(executor->work);
    g_async_queue_unref(executor->queue);
    vr_rollout_free(executor->rollout);
    vr_run_free(executor->run);
    g_free(executor);
}

/* The run's end as an error, for the exit status. */
static gboolean judge(const VrExecutor *executor, const VrRolloutView *view, GError **error)
{
    const VrRun *run = executor->run;
    const char *what = vr_run_kind_name(run->kind);

    if (view->unknown > 0)
        g_set_error(error, VR_ERROR, VR_ERROR_PERSON,
                    "%s of '%s': the state of %u instance(s) is UNKNOWN: %s; see 'virt-reimage status %s', then run "
                    "'virt-reimage recover %s'",
                    what, run->set_name, view->unknown, view->error_text, run->set_name, run->set_name);
    else if (view->status == VR_RUN_CANCELLED)
        g_set_error(
            error, VR_ERROR, VR_ERROR_CANCELLED,
            "%s of '%s' was cancelled: %u done, %u not begun; the same command goes on with those that are left", what,
            run->set_name, view->successful, view->pending);
    else if (view->status == VR_RUN_FAULTED)
        g_set_error(error, VR_ERROR, executor->prepare_error >= 0 ? executor->prepare_error : VR_ERROR_POLICY,
                    "%s of '%s' stopped: %s: %s; see 'virt-reimage history %s --run %s'", what, run->set_name,
                    view->error_code, view->error_text, run->set_name, run->id);
    else if (view->failed > 0)
        g_set_error(
            error, VR_ERROR, VR_ERROR_PARTIAL,
            "%s of '%s' is done, but %u instance(s) failed, %u of them were put back; see 'virt-reimage history "
            "%s --run %s'",
            what, run->set_name, view->failed, view->restored, run->set_name, run->id);
    else
        return TRUE;
    return FALSE;
}

static gboolean end_run(VrExecutor *executor, GError **error)
{
    VrRolloutView view;
    VrRun *run = executor->run;

    for (guint i = 0; i < executor->count; i++)
        sync_instance(executor, i, NULL);
    vr_rollout_view(executor->rollout, &view);
    run->status = view.status;
    run->completed_us = vr_clock_wall_us();
    run->error_code = g_strdup(view.error_code);
    run->error_text = g_strdup(view.error_text);
    audit(executor, "run-end", NULL, view.error_code ? view.error_code : vr_run_status_name(view.status));
    if (!vr_history_end(executor->engine.journal, executor->engine.owner, run, error))
        return FALSE;
    tell(executor, VR_PROGRESS_END, NULL, view.error_text);
    return judge(executor, &view, error);
}

gboolean vr_executor_run(VrExecutor *executor, VrRun **run, GError **error)
{
    g_autoptr(Message) start = message_new(VR_EVENT_START, 0, VR_OUTCOME_OK, NULL);
    VrRolloutView view;
    gboolean ok;

    if (!vr_history_begin(executor->engine.journal, executor->engine.owner, executor->run, error))
        return FALSE;
    audit(executor, "run-begin", NULL, vr_run_kind_name(executor->run->kind));
    tell(executor, VR_PROGRESS_RUN, NULL, NULL);
    take(executor, start);
    for (vr_rollout_view(executor->rollout, &view); !view.finished; vr_rollout_view(executor->rollout, &view)) {
        g_autoptr(Message) message = next_message(executor);
        if (message)
            take(executor, message);
    }
    ok = end_run(executor, error);
    if (run)
        *run = g_steal_pointer(&executor->run);
    return ok;
}
