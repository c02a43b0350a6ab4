/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The surveys of a run: how well are the guests of the set, before each batch and while the last one bakes?
 *
 * After a reboot of the host (SAFETY 4.22) a run that is gone on with finds guests that are off, or not up yet: libvirt's autostart,
 * libvirt-guests or an admin is only about to start them. That is no ill health, nor are they off on purpose. So the state of the run keeps what its last survey found, and on which
 * boot of the host. On another boot the first survey waits until those that were healthy then are so again, for healthTimeout at
 * most, which is what the model gives a guest that was started. Then the set is judged as it is, and who has not come back is down, whatever has
 * switched it off. A rollback does not wait: it does not ask how well the set is (decision 6).
 */
#include "orchestrator/executor_private.h"

#include "base/clock.h"
#include "orchestrator/extension_swap.h"
#include "orchestrator/health.h"

#include <string.h>

#define SURVEY_WAIT_MS 10000
#define BACK_LOOK_MS 3000 /* how often those who are waited for are looked at */
#define POLL_MS 200

/* What the last survey has found of an instance; a letter for each. */
#define SEEN_WELL 'h'
#define SEEN_ILL 'u'
#define SEEN_OFF 'o'
#define SEEN_AWAITED 'a' /* it was healthy before the host was rebooted, and is not on again */

/* ---- on the caller's thread ---- */

static gboolean is_withdrawn(const VrExecutor *executor, const VrImage *image)
{
    g_autoptr(VrImage) now =
        image->excluded ? NULL : vr_store_get(executor->engine.store, image->name, image->version, NULL);

    return now && now->excluded;
}

/* A version that was excluded since the run began ends it (decision 8). */
static void check_withdrawn(VrExecutor *executor)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(NULL, NULL);

    for (guint i = 0; i < executor->count; i++) {
        const VrImage *image = executor->request.targets[i].chosen ? vr_executor_image(executor, i) : NULL;
        if (!image || !g_hash_table_add(seen, (gpointer)image) || !is_withdrawn(executor, image))
            continue;
        vr_executor_post(executor, vr_message_new(VR_EVENT_WITHDRAWN, 0, VR_OUTCOME_OK,
                                                  "the version was excluded while it was rolled out"));
        return;
    }
}

/* Before the first survey since the host was rebooted. */
static void begin_wait(VrExecutor *executor)
{
    g_autofree char *most = vr_clock_format_duration(executor->request.set->model->health.timeout_ms);

    executor->rebooted = FALSE;
    executor->back_until_ms = vr_clock_now_ms() + executor->request.set->model->health.timeout_ms;
    executor->back_text =
        g_strdup_printf("the host was rebooted: the guests that were healthy before it are waited for, "
                        "%s at most (healthTimeout); then the set is judged as it is",
                        most);
    vr_executor_audit(executor, "hold", NULL, executor->back_text);
    vr_executor_save(executor);
    vr_executor_tell(executor, VR_PROGRESS_WAIT, NULL, executor->back_text);
}

void vr_executor_begin_survey(VrExecutor *executor)
{
    VrRolloutView view;

    check_withdrawn(executor);
    vr_rollout_view(executor->rollout, &view);
    if (executor->rebooted)
        begin_wait(executor);
    vr_executor_push(executor, VR_COMMAND_SURVEY, view.hold == VR_HOLD_BAKE ? 0 : executor->batch + 1, NULL);
}

void vr_executor_note_survey(VrExecutor *executor, const VrMessage *message)
{
    g_autoptr(GString) seen = g_string_sized_new(executor->count);

    for (guint i = 0; i < executor->count; i++) {
        if (message->answers[i] == VR_SURVEY_OFF)
            g_string_append_c(seen, SEEN_OFF);
        else if (message->answers[i] == VR_SURVEY_HEALTHY)
            g_string_append_c(seen, SEEN_WELL);
        else
            g_string_append_c(seen, executor->work[i].awaited ? SEEN_AWAITED : SEEN_ILL);
    }
    g_free(executor->seen);
    g_free(executor->seen_boot);
    executor->seen = g_string_free(g_steal_pointer(&seen), FALSE);
    executor->seen_boot = g_strdup(vr_clock_boot_id());
    executor->back_until_ms = 0;
    g_clear_pointer(&executor->back_text, g_free);
}

/* One that this run has moved came good then, whatever the survey before its batch had found; unless it was off. */
static gboolean shall_be_on(const VrExecutor *executor, guint i, gboolean rebooted)
{
    VrInstancePhase phase = vr_rollout_phase(executor->rollout, i);

    if (phase == VR_PHASE_FAILED || phase == VR_PHASE_UNKNOWN || vr_executor_instance(executor, i)->is_protected)
        return FALSE;
    switch (executor->seen[i]) {
    case SEEN_AWAITED:
        return TRUE;
    case SEEN_WELL:
        return rebooted;
    case SEEN_ILL:
        return rebooted && phase == VR_PHASE_COMMITTED;
    default:
        return FALSE;
    }
}

void vr_executor_take_seen(VrExecutor *executor, const VrRunState *state)
{
    gboolean rebooted = g_strcmp0(state->seen_boot, vr_clock_boot_id()) != 0;

    if (executor->request.kind == VR_RUN_ROLLBACK || !state->seen || strlen(state->seen) != executor->count)
        return;
    executor->seen = g_strdup(state->seen);
    executor->seen_boot = g_strdup(state->seen_boot);
    for (guint i = 0; i < executor->count; i++) {
        executor->work[i].awaited = shall_be_on(executor, i, rebooted);
        executor->rebooted = executor->rebooted || (rebooted && executor->work[i].awaited);
    }
}

/* ---- on a worker ---- */

static VrSurveyAnswer survey_answer(VrWork *work, VrHealthAnswer *answer)
{
    if (!answer->off) {
        work->awaited = FALSE;
        return answer->state == VR_HEALTH_HEALTHY ? VR_SURVEY_HEALTHY : VR_SURVEY_UNHEALTHY;
    }
    if (!work->awaited)
        return VR_SURVEY_OFF;
    g_free(answer->text);
    answer->text = g_strdup("it was healthy before the host was rebooted, and is off since");
    return VR_SURVEY_UNHEALTHY;
}

static void take_answers(VrExecutor *executor, VrHealthAnswer *answers, VrMessage *message)
{
    message->answers = g_new(VrSurveyAnswer, executor->count);
    message->wishes = g_new(VrGuestWish, executor->count);
    for (guint i = 0; i < executor->count; i++) {
        vr_extensions_judge(executor->engine.journal, &executor->request.set->model->health,
                            vr_executor_instance(executor, i)->uuid, &answers[i]);
        message->answers[i] = survey_answer(&executor->work[i], &answers[i]);
        message->wishes[i] = answers[i].wish;
        g_free(executor->work[i].survey_text);
        executor->work[i].survey_text =
            message->answers[i] == VR_SURVEY_UNHEALTHY ? g_steal_pointer(&answers[i].text) : NULL;
    }
}

/* C5: what is not there any more, or ends before the batch could, ends the run before that batch: FALSE. */
static gboolean check_outside(VrExecutor *executor)
{
    const VrOutsideQuestion question = {
        .border = TRUE, .ignored = executor->request.ignored, .aborted = &executor->called_off};
    g_autoptr(GPtrArray) findings = vr_outside_check(executor->outside, &question);
    const VrFinding *finding = vr_preflight_blocker(findings);
    g_autofree char *reason = finding ? g_strdup_printf("%s [%s]", finding->text, finding->id) : NULL;

    if (!reason || g_atomic_int_get(&executor->called_off))
        return TRUE;
    vr_executor_post(executor, vr_message_new(VR_EVENT_WITHDRAWN, 0, VR_OUTCOME_OK, reason));
    return FALSE;
}

static void clear_answers(const VrExecutor *executor, VrHealthAnswer *answers)
{
    for (guint i = 0; i < executor->count; i++)
        vr_health_answer_clear(&answers[i]);
    memset(answers, 0, executor->count * sizeof(*answers));
}

static gboolean look(VrExecutor *executor, guint looks, VrHealthAnswer *answers)
{
    g_autofree VrHealthSubject *subjects = g_new(VrHealthSubject, executor->count);

    for (guint i = 0; i < executor->count; i++)
        subjects[i] = vr_executor_subject(executor, i);
    return vr_health_survey(executor->engine.hv, &executor->request.set->model->health, subjects, executor->count,
                            SURVEY_WAIT_MS, looks, &executor->called_off, answers);
}

static gboolean are_all_back(const VrExecutor *executor, const VrHealthAnswer *answers)
{
    for (guint i = 0; i < executor->count; i++)
        if (executor->work[i].awaited && (answers[i].off || answers[i].state != VR_HEALTH_HEALTHY))
            return FALSE;
    return TRUE;
}

/* Until they are, or their time is over, or the survey is called off. */
static void wait_until_back(VrExecutor *executor, VrHealthAnswer *answers)
{
    gboolean back = FALSE;

    while (!back && vr_clock_now_ms() < executor->back_until_ms && !g_atomic_int_get(&executor->called_off)) {
        gint64 next_ms = MIN(vr_clock_now_ms() + BACK_LOOK_MS, executor->back_until_ms);

        back = look(executor, 1, answers) && are_all_back(executor, answers);
        clear_answers(executor, answers);
        while (!back && vr_clock_now_ms() < next_ms && !g_atomic_int_get(&executor->called_off))
            vr_clock_sleep_until(MIN(next_ms, vr_clock_now_ms() + POLL_MS));
    }
}

/* One that was called off says nothing: the cancel, or the end of the process, is in the queue already or comes next. */
void vr_executor_do_survey(VrExecutor *executor, VrJob *job)
{
    g_autofree VrHealthAnswer *answers = g_new0(VrHealthAnswer, executor->count);
    VrMessage *message;

    wait_until_back(executor, answers);
    if (job->instance > 0 && executor->request.kind != VR_RUN_ROLLBACK && !check_outside(executor)) {
        vr_executor_post(executor, vr_message_new(VR_EVENT_SURVEY, 0, VR_OUTCOME_UNKNOWN, "the run ends before it"));
        return;
    }
    if (look(executor, executor->request.set->model->health.number_of_probes, answers)) {
        message = vr_message_new(VR_EVENT_SURVEY, 0, VR_OUTCOME_OK, NULL);
        take_answers(executor, answers, message);
        vr_executor_look_at_window(executor, message);
    } else {
        message = vr_message_new(VR_EVENT_SURVEY, 0, VR_OUTCOME_UNKNOWN, "it was called off");
    }
    clear_answers(executor, answers);
    vr_executor_post(executor, message);
}
