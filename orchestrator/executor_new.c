/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* An executor's beginning and end: the run that it writes, the rollout that it drives, its workers. */
#include "base/handover.h"
#include "orchestrator/executor_private.h"
#include "orchestrator/job_environment.h"

#include <pwd.h>
#include <unistd.h>

#define MAX_WORKERS 256

/* A job is told by number on whose behalf it is: the look-up of a name may take its time, which the daemon has not. */
static const char *user_of_job(void)
{
    static char number[32];
    const char *uid = g_getenv(VR_JOB_UID);
    guint64 value;
    const struct passwd *user;

    if (!uid || !g_ascii_string_to_unsigned(uid, 10, 0, G_MAXUINT32, &value, NULL))
        return NULL;
    user = getpwuid((uid_t)value);
    g_snprintf(number, sizeof number, "uid %u", (unsigned)value);
    return user ? user->pw_name : number;
}

const char *vr_executor_user(void)
{
    const char *sudo = g_getenv("SUDO_USER"), *peer = user_of_job();
    const struct passwd *user = peer || sudo ? NULL : getpwuid(getuid());

    return peer ? peer : sudo ? sudo : user ? user->pw_name : "unknown";
}

static VrRun *new_run(const VrExecutor *executor)
{
    const VrRunRequest *request = &executor->request;
    VrRun *run = g_new0(VrRun, 1);

    run->set_name = g_strdup(request->set->name);
    run->kind = request->kind;
    run->image = request->image ? g_strdup(request->image->name) : NULL;
    run->version = request->image ? g_strdup(request->image->version) : NULL;
    run->started_by = g_strdup(vr_executor_user());
    run->reason = g_strdup(request->reason);
    run->role = g_strdup(request->role);
    run->request_id = g_strdup(request->request_id);
    run->automatic = request->automatic;
    run->detached = request->detached;
    run->instances = vr_run_instances_new();
    for (guint i = 0; i < executor->count; i++) {
        VrRunInstance *instance = g_new0(VrRunInstance, 1);
        g_strlcpy(instance->uuid, vr_executor_instance(executor, i)->uuid, sizeof(instance->uuid));
        instance->domain = g_strdup(vr_executor_instance(executor, i)->domain);
        instance->phase = request->targets[i].chosen ? VR_PHASE_PENDING : VR_PHASE_SKIPPED;
        instance->reason = request->targets[i].chosen ? NULL : g_strdup(request->targets[i].skipped);
        instance->to_generation = request->targets[i].to_generation;
        instance->canary = request->targets[i].canary;
        if (request->targets[i].image && !request->image) {
            instance->image = g_strdup(request->targets[i].image->name);
            instance->version = g_strdup(request->targets[i].image->version);
        }
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
                              .walk = executor->request.walk,
                              .notice = model->notice.enable,
                              .window = executor->request.windowed && model->window.schedule != NULL,
                              .window_ms = model->window.duration_ms,
                              .count = executor->count,
                              .instances = instances};

    config.policy.automatic_rollback = executor->request.automatic_rollback;
    for (guint i = 0; i < executor->count; i++) {
        const VrInstance *instance = vr_executor_instance(executor, i);

        instances[i] = (VrRolloutInstance){.upgrade_domain = instance->upgrade_domain,
                                           .chosen = executor->request.targets[i].chosen,
                                           .canary = executor->request.targets[i].canary,
                                           .named = executor->request.targets[i].named,
                                           .left_failed = executor->request.targets[i].left_failed,
                                           .is_protected = instance->is_protected,
                                           .role = instance->role,
                                           .zone = instance->zone,
                                           .pair = instance->pair,
                                           .phase = instance->phase};
    }
    return vr_rollout_new(&config);
}

/* A cancel of the run ends an appliance, too. */
static void take_options(VrExecutor *executor)
{
    const VrOsContent *content = executor->request.os_content;
    const VrPersonalizeOptions *options = content ? vr_os_content_personalize(content) : NULL;

    if (!options || executor->request.kind == VR_RUN_ROLLBACK)
        return;
    executor->personalize = *options;
    executor->personalize.aborted = &executor->cancelled;
}

VrExecutor *vr_executor_new(const VrEngine *engine, const VrRunRequest *request)
{
    VrExecutor *executor = g_new0(VrExecutor, 1);
    const VrUpgradePolicy *policy = &request->set->model->policy;
    guint count = request->set->instances->len;
    guint batch = policy->by_domain ? count : vr_planner_allowed(count, policy->max_batch_percent);

    executor->engine = *engine;
    executor->request = *request;
    executor->count = request->set->instances->len;
    executor->prepare_error = -1;
    executor->queue = g_async_queue_new_full((GDestroyNotify)vr_message_free);
    executor->work = g_new0(VrWork, executor->count);
    executor->outside = request->outside ? request->outside : vr_outside_new(request->set->model);
    executor->rollout = new_rollout(executor);
    executor->run = request->goes_on ? request->goes_on : new_run(executor);
    pthread_mutex_init(&executor->control_lock, NULL);
    pthread_cond_init(&executor->answered, NULL);
    pthread_mutex_init(&executor->gate_lock, NULL);
    pthread_cond_init(&executor->gate_idle, NULL);
    executor->seats = g_queue_new();
    executor->personal_seats = g_queue_new();
    take_options(executor);
    /* every instance of a batch needs a worker of its own, and so does each that is prepared ahead: a probe that waits in a line
     * would lose its time */
    executor->workers = CLAMP(policy->prepare_ahead ? 2 * batch : batch, 1, MAX_WORKERS);
    executor->pool = g_thread_pool_new(vr_executor_work, executor, (gint)executor->workers, FALSE, NULL);
    return executor;
}

void vr_executor_free(VrExecutor *executor)
{
    if (!executor)
        return;
    if (executor->pool)
        g_thread_pool_free(executor->pool, FALSE, TRUE);
    vr_handover_take(executor);
    for (guint i = 0; i < executor->count; i++) {
        vr_swap_free(executor->work[i].swap);
        vr_notice_free(executor->work[i].notice);
        g_free(executor->work[i].survey_text);
        g_free(executor->work[i].answer_text);
        g_free(executor->work[i].left_text);
    }
    g_free(executor->work);
    g_queue_free_full(executor->seats, (GDestroyNotify)vr_clone_seat_free);
    g_queue_free_full(executor->personal_seats, (GDestroyNotify)vr_personal_seat_free);
    g_async_queue_unref(executor->queue);
    if (executor->outside != executor->request.outside)
        vr_outside_free(executor->outside);
    vr_rollout_free(executor->rollout);
    vr_run_free(executor->run);
    g_free(executor->state);
    g_free(executor->seen);
    g_free(executor->seen_boot);
    g_free(executor->back_text);
    g_free(executor->gate_said);
    g_clear_pointer(&executor->asked, g_array_unref);
    pthread_mutex_destroy(&executor->gate_lock);
    pthread_cond_destroy(&executor->gate_idle);
    pthread_mutex_destroy(&executor->control_lock);
    pthread_cond_destroy(&executor->answered);
    g_free(executor);
}
