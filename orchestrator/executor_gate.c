/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The gate (E11, L5): a command of the admin's on this host that is told who would go down together, and says whether they may; it may drain them. Its counterpart,
 * gateAfter, is run once for all that the gate was asked about, whatever it said: when their batch is over, or when it does not come. It is over before the gate
 * is asked again.
 */
#include "orchestrator/executor_private.h"

#include "base/child.h"
#include "base/confine.h"
#include "base/error.h"
#include "base/handover.h"
#include "base/log.h"

#include <jansson.h>
#include <string.h>

#define MAX_REASON 200 /* bytes of what a gate says that are repeated */

/* --- what it is told --------------------------------------------------------------------------------- */

static json_t *text_or_null(const char *text)
{
    return text ? json_string(text) : json_null();
}

/* One that is only prepared, ahead of its batch too, was not touched: for a gate it is as pending as the others. */
static const char *phase_of(const VrExecutor *executor, guint index)
{
    VrInstancePhase phase = vr_rollout_phase(executor->rollout, index);
    gboolean untouched = phase == VR_PHASE_PREPARING || phase == VR_PHASE_PREPARED || phase == VR_PHASE_DISCARDING;

    return vr_instance_phase_name(untouched ? VR_PHASE_PENDING : phase);
}

static json_t *instance_of(const VrExecutor *executor, guint index)
{
    const VrInstance *instance = vr_executor_instance(executor, index);

    return json_pack("{s:s, s:s, s:i, s:o, s:o, s:s}", "domain", instance->domain, "uuid", instance->uuid,
                     "upgradeDomain", (int)instance->upgrade_domain, "role", text_or_null(instance->role.name), "zone",
                     text_or_null(instance->zone.name), "phase", phase_of(executor, index));
}

/* Free with g_free. */
static char *input_of(const VrExecutor *executor)
{
    const VrRun *run = executor->run;
    guint first = g_array_index(executor->asked, guint, 0);
    json_t *instances = json_array();
    json_auto_t *document = json_pack("{s:s, s:s, s:s, s:i, s:i, s:o, s:o}", "set", run->set_name, "runId", run->id,
                                      "kind", vr_run_kind_name(run->kind), "batch", (int)executor->asked_batch,
                                      "upgradeDomain", (int)vr_executor_instance(executor, first)->upgrade_domain,
                                      "version", text_or_null(run->version), "instances", instances);
    char *text, *copy;

    for (guint k = 0; k < executor->asked->len; k++)
        json_array_append_new(instances, instance_of(executor, g_array_index(executor->asked, guint, k)));
    text = json_dumps(document, JSON_COMPACT);
    copy = g_strconcat(text, "\n", NULL);
    free(text);
    return copy;
}

/* --- on the executor's thread ------------------------------------------------------------------------ */

static void push(VrExecutor *executor, gboolean after)
{
    VrJob *job = g_new0(VrJob, 1);

    job->type = VR_COMMAND_GATE;
    job->instance = executor->asked_batch;
    job->text = input_of(executor);
    job->after = after;
    vr_handover_give(job);
    g_thread_pool_push(executor->pool, job, NULL);
    /* cppcheck-suppress memleak ; vr_executor_work() owns it */
}

void vr_executor_gate_over(VrExecutor *executor)
{
    if (!executor->asked)
        return;
    if (executor->request.set->model->policy.gate_after) {
        pthread_mutex_lock(&executor->gate_lock);
        executor->gates_after++;
        pthread_mutex_unlock(&executor->gate_lock);
        push(executor, TRUE);
    }
    g_clear_pointer(&executor->asked, g_array_unref);
}

void vr_executor_ask_gate(VrExecutor *executor)
{
    const GArray *members = vr_rollout_gate_batch(executor->rollout);

    if (executor->asked && (executor->asked->len != members->len ||
                            memcmp(executor->asked->data, members->data, members->len * sizeof(guint)) != 0))
        vr_executor_gate_over(executor);
    if (!executor->asked)
        executor->asked = g_array_copy((GArray *)members);
    executor->asked_batch = executor->batch + 1;
    push(executor, FALSE);
}

void vr_executor_note_gate(VrExecutor *executor, const VrMessage *message)
{
    g_autofree char *line = message->reason ? g_strdup_printf("not now: %s", message->reason) : g_strdup("yes");

    if (g_strcmp0(line, executor->gate_said) == 0)
        return;
    vr_executor_audit(executor, "gate", NULL, line);
    g_free(executor->gate_said);
    executor->gate_said = g_steal_pointer(&line);
}

/* --- on a worker ------------------------------------------------------------------------------------- */

typedef struct {
    const char *const *argv;
    const VrChildLimits *limits;
    VrChildResult *result;
    GError **error;
    gboolean ok;
} Outing;

static void run_outside(void *data)
{
    Outing *outing = data;

    outing->ok = vr_child_run(outing->argv, outing->limits, outing->result, outing->error);
}

/* What this process may not write to, a command of the admin's may. */
static gboolean run_free(const char *const *argv, const VrChildLimits *limits, VrChildResult *result, GError **error)
{
    Outing outing = {.argv = argv, .limits = limits, .result = result, .error = error};

    vr_confine_outside(run_outside, &outing);
    return outing.ok;
}

/* The last line of what it has to say against it, or of what it said; free with g_free. */
static char *last_words(const VrChildResult *result)
{
    g_autofree char *text = g_strchomp(g_strdup(result->err && *result->err ? result->err : result->out));
    const char *line = strrchr(text, '\n');

    line = line ? line + 1 : text;
    return vr_printable(line, (gssize)strnlen(line, MAX_REASON));
}

/* VR_OUTCOME_UNKNOWN: it could not be asked, or did not end. *reason: of all but a yes; free with g_free. */
static VrOutcome ask(VrExecutor *executor, char **command, const VrJob *job, const gint *aborted, char **reason)
{
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    g_autofree char *batch = g_strdup_printf("%u", job->instance);
    const VrChildLimits limits = {
        .aborted = aborted, .timeout_ms = executor->request.set->model->policy.gate_timeout_ms, .input = job->text};
    g_auto(VrChildResult) result = {0};
    g_autoptr(GError) local = NULL;

    for (char **word = command; *word; word++)
        g_ptr_array_add(argv, *word);
    g_ptr_array_add(argv, executor->run->set_name);
    g_ptr_array_add(argv, executor->run->id);
    g_ptr_array_add(argv, batch);
    g_ptr_array_add(argv, NULL);
    if (!run_free((const char *const *)argv->pdata, &limits, &result, &local)) {
        *reason = g_strdup(local->message);
        return VR_OUTCOME_UNKNOWN;
    }
    if (result.exit_status == 0)
        return VR_OUTCOME_OK;
    g_autofree char *said = last_words(&result);
    *reason = g_strdup_printf("%s ended with status %d%s%s", command[0], result.exit_status, *said ? ": " : "", said);
    return VR_OUTCOME_FAILED;
}

static void do_after(VrExecutor *executor, const VrJob *job)
{
    g_autofree char *reason = NULL;

    if (ask(executor, executor->request.set->model->policy.gate_after, job, NULL, &reason) != VR_OUTCOME_OK) {
        vr_executor_audit(executor, "gate-after", NULL, reason);
        vr_warning(executor->run->set_name, "after batch %u: %s", job->instance, reason);
    }
    pthread_mutex_lock(&executor->gate_lock);
    executor->gates_after--;
    pthread_cond_broadcast(&executor->gate_idle);
    pthread_mutex_unlock(&executor->gate_lock);
}

/* Jobs are taken in the order in which they were pushed, so what is waited for here has a worker. */
void vr_executor_wait_for_gate(VrExecutor *executor)
{
    pthread_mutex_lock(&executor->gate_lock);
    while (executor->gates_after > 0)
        pthread_cond_wait(&executor->gate_idle, &executor->gate_lock);
    pthread_mutex_unlock(&executor->gate_lock);
}

void vr_executor_do_gate(VrExecutor *executor, VrJob *job)
{
    g_autofree char *reason = NULL;
    VrOutcome outcome;

    if (job->after) {
        do_after(executor, job);
        return;
    }
    vr_executor_wait_for_gate(executor);
    outcome = ask(executor, executor->request.set->model->policy.gate, job, &executor->called_off, &reason);
    vr_executor_post(executor, vr_message_new(VR_EVENT_GATE, 0, outcome, reason));
}
