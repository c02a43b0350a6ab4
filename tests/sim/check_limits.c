/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The limits of FEATURES (D1-D6, decisions 1-4, 6, 9) and the ends of a run (SAFETY 17-21, 25, 27). */
#include "tests/sim/check_private.h"

#include <string.h>

/* The largest number that is not more than the share, but one at least. */
guint check_most(guint count, guint percent)
{
    guint most = 1;

    while (most < count && (guint64)(most + 1) * 100 <= (guint64)count * percent)
        most++;
    return most;
}

void check_finish(Check *check, VrRunStatus status, const char *code)
{
    const VrRolloutView *view = check->view;

    if (check_expect(check, VR_COMMAND_FINISH) == NULL)
        return;
    check->over = TRUE;
    check->survey_out = check->wake_out = FALSE;
    if (!view->finished || view->status != status)
        check_fail(check, "ended as %s instead of %s", vr_run_status_name(view->status), vr_run_status_name(status));
    if (g_strcmp0(view->error_code, code) != 0)
        check_fail(check, "ended with %s instead of %s", view->error_code, code);
    if (code != NULL && (view->error_text == NULL || strchr(view->error_text, ' ') == NULL)) /* 27 */
        check_fail(check, "ended without a reason");
}

/* 25, decision 9: the word that all of the batch failed with, or "". FALSE: the batch says nothing, all were off. */
static gboolean batch_word(const Check *check, char word[16], guint *heads)
{
    gboolean first = TRUE;

    *heads = 0;
    word[0] = '\0';
    for (guint k = 0; k < check->members->len; k++) {
        const Shadow *shadow = &check->shadows[g_array_index(check->members, guint, k)];

        if (shadow->off && shadow->fate == FATE_GOOD)
            continue;
        ++*heads;
        if (first)
            g_strlcpy(word, shadow->reason, 16);
        else if (strcmp(word, shadow->reason) != 0)
            word[0] = '\0';
        first = FALSE;
        if (word[0] == '\0')
            return TRUE;
    }
    return *heads > 0;
}

/* D4, decision 3: instances that were off are no proof of health (decision 14). */
static gboolean version_is_bad(const Check *check)
{
    guint bad = check->fates[FATE_BACK] + check->fates[FATE_BAD] + check->fates[FATE_LOST];
    guint proofs = check->fates[FATE_GOOD] - check->good_off;

    if (bad == check->untouched)
        return FALSE;
    if (proofs == 0) /* 18 */
        return TRUE;
    return bad * 100.0 / (bad + proofs) > check->policy.max_unhealthy_upgraded_percent;
}

gboolean check_must_end(const Check *check, VrRunStatus *status, const char **code)
{
    gboolean forward = check->kind != VR_RUN_ROLLBACK;

    *status = VR_RUN_FAULTED;
    *code = VR_CODE_INTERNAL;
    if (check->fates[FATE_LOST] > 0)
        return TRUE;
    if (check->cancel) {
        *status = VR_RUN_CANCELLED;
        *code = NULL;
        return TRUE;
    }
    if (forward && version_is_bad(check)) {
        *code = VR_CODE_UPGRADED;
        return TRUE;
    }
    return forward && (check->untouched > 0 || check->uncommitted > 0 || check->withdrawn);
}

void check_at_border(Check *check)
{
    VrRunStatus status;
    const char *code;

    if (check_must_end(check, &status, &code))
        check_finish(check, status, code);
}

static void all_done(Check *check)
{
    guint bad = check->fates[FATE_BACK] + check->fates[FATE_BAD];

    if (check->kind == VR_RUN_ROLLBACK && bad > 0 && check->fates[FATE_GOOD] == 0)
        check_finish(check, VR_RUN_FAULTED, VR_CODE_FAILED_VMS);
    else
        check_finish(check, VR_RUN_COMPLETED, NULL);
}

void check_batch_ended(Check *check)
{
    char word[16];
    guint heads;
    gboolean same = FALSE, says = batch_word(check, word, &heads);
    VrRunStatus status;
    const char *code;
    const VrCommand *wake;

    check->in_batch = FALSE;
    if (says) {
        same = word[0] != '\0' && (heads > 1 || strcmp(word, check->last_word) == 0);
        g_strlcpy(check->last_word, word, sizeof(check->last_word));
    }
    same = same && check->same_reason_stops && check->kind != VR_RUN_ROLLBACK;
    if (check_must_end(check, &status, &code)) {
        check_finish(check, status, code);
    } else if (same) {
        check_finish(check, VR_RUN_FAULTED, VR_CODE_INTERNAL);
    } else if (check->fates[FATE_FRESH] == 0) {
        all_done(check);
    } else if (check->policy.pause_ms > 0) { /* D5 */
        wake = check_expect(check, VR_COMMAND_WAKE);
        check->wake_out = TRUE;
        check->wake_at = check->now_ms + check->policy.pause_ms;
        if (wake != NULL && wake->at_ms != check->wake_at)
            check_fail(check, "a pause of another length");
    } else {
        check->survey_out = check_expect(check, VR_COMMAND_SURVEY) != NULL;
    }
}

/* Waits, but never longer than the health timeout (27). */
static void waits(Check *check, const char *code)
{
    const VrCommand *wake;

    if (check->waits_since < 0)
        check->waits_since = check->now_ms;
    if (check->now_ms - check->waits_since >= check->health_timeout_ms) {
        check_finish(check, VR_RUN_FAULTED, code);
        return;
    }
    wake = check_expect(check, VR_COMMAND_WAKE);
    if (wake == NULL)
        return;
    check->wake_out = TRUE;
    check->wake_at = wake->at_ms;
    if (wake->at_ms <= check->now_ms || wake->at_ms > check->waits_since + check->health_timeout_ms)
        check_fail(check, "waits until %" G_GINT64_FORMAT, wake->at_ms);
}

typedef struct {
    guint down;        /* in the whole set */
    gboolean any;      /* something may be taken */
    guint lowest;      /* domain of that */
    gboolean any_down; /* ... that is down already */
    guint lowest_down;
} Choice;

/* What the documents let a batch begin with (decision 2, D12). */
static Choice choices(const Check *check)
{
    gboolean forward = check->kind != VR_RUN_ROLLBACK;
    Choice choice = {0};

    for (guint i = 0; i < check->count; i++)
        choice.down += check->shadows[i].down ? 1 : 0;
    for (guint i = 0; i < check->count; i++) {
        const Shadow *shadow = &check->shadows[i];

        if (shadow->fate != FATE_FRESH || (forward && choice.down + (shadow->down ? 0 : 1) > check->most_down))
            continue;
        if (!choice.any || shadow->domain < choice.lowest)
            choice.lowest = shadow->domain;
        choice.any = TRUE;
        if (!shadow->down)
            continue;
        if (!choice.any_down || shadow->domain < choice.lowest_down)
            choice.lowest_down = shadow->domain;
        choice.any_down = TRUE;
    }
    return choice;
}

/* 17, 21, D1, decision 11: of the batch as a whole. up: members that serve until now. */
static void check_batch(Check *check, const Choice *choice, guint domain, guint up)
{
    gboolean forward = check->kind != VR_RUN_ROLLBACK;
    gboolean first_down = check->policy.prioritize_unhealthy || !forward;
    guint left_down = 0, left_up = 0, size = check->members->len;

    if (size == 0 || size > check->most_batch)
        check_fail(check, "a batch of %u, at most %u", size, check->most_batch);
    if (forward && choice->down + up > check->most_down)
        check_fail(check, "%u down at once, at most %u", choice->down + up, check->most_down);
    if (domain != (first_down && choice->any_down ? choice->lowest_down : choice->lowest))
        check_fail(check, "upgrade domain %u is not the next one", domain);
    for (guint i = 0; i < check->count; i++) {
        const Shadow *shadow = &check->shadows[i];

        if (shadow->fate == FATE_FRESH && shadow->domain == domain)
            *(shadow->down ? &left_down : &left_up) += 1;
    }
    if (first_down && up > 0 && left_down > 0)
        check_fail(check, "a healthy instance goes before an unhealthy one");
    if (size < check->most_batch &&
        (left_down > 0 || (left_up > 0 && (!forward || choice->down + up < check->most_down))))
        check_fail(check, "the batch is smaller than it must be");
}

static void begins(Check *check, const Choice *choice)
{
    const VrCommand *begin = check_expect(check, VR_COMMAND_BATCH_BEGIN);
    guint up = 0, domain = 0;

    check->batches++;
    if (begin == NULL || begin->batch_number != check->batches || begin->text == NULL) {
        check_fail(check, "a batch begins without its number or reason");
        return;
    }
    g_array_set_size(check->members, 0);
    while (check->cursor < check->commands->len) {
        const VrCommand *prepare = check_expect(check, VR_COMMAND_PREPARE);
        Shadow *shadow;

        if (prepare == NULL)
            return;
        shadow = &check->shadows[prepare->instance];
        domain = check->members->len == 0 ? shadow->domain : domain;
        if (shadow->fate != FATE_FRESH || shadow->domain != domain)
            check_fail(check, "instance %u does not belong in this batch", prepare->instance); /* 21 */
        check->fates[shadow->fate]--;
        check->fates[FATE_OUT]++;
        shadow->fate = FATE_OUT;
        shadow->out = VR_COMMAND_PREPARE;
        shadow->moved_off = shadow->off;
        up += shadow->down ? 0 : 1;
        g_array_append_val(check->members, prepare->instance);
    }
    check->in_batch = TRUE;
    check->waits_since = -1;
    check_batch(check, choice, domain, up);
}

/* D4, E14: of those that were upgraded and were not off, too many are not well now, and at least one came good at first. */
static gboolean upgraded_fell_ill(const Check *check)
{
    guint ill = check->fates[FATE_BACK] + check->fates[FATE_BAD] + check->fates[FATE_LOST];
    guint of = ill + check->fates[FATE_GOOD] - check->good_off, fell = 0;

    for (guint i = 0; i < check->count; i++) {
        const Shadow *shadow = &check->shadows[i];

        fell += shadow->fate == FATE_GOOD && !shadow->moved_off && shadow->down ? 1 : 0;
    }
    return fell > 0 && (ill + fell) * 100.0 / of > check->policy.max_unhealthy_upgraded_percent;
}

void check_surveyed(Check *check)
{
    gboolean forward = check->kind != VR_RUN_ROLLBACK;
    Choice choice;

    if (check->event->answers == NULL) {
        waits(check, VR_CODE_INTERNAL);
        return;
    }
    for (guint i = 0; i < check->count; i++) {
        Shadow *shadow = &check->shadows[i];

        shadow->off = check->event->answers[i] == VR_SURVEY_OFF;
        shadow->down =
            check->event->answers[i] == VR_SURVEY_UNHEALTHY || shadow->fate == FATE_BAD || shadow->fate == FATE_LOST;
    }
    choice = choices(check);
    if (forward && choice.down > check->most_down) /* 19, D2, D3 */
        check_finish(check, VR_RUN_FAULTED, check->batches == 0 ? VR_CODE_BEFORE_ROLLING : VR_CODE_IN_ROLLING);
    else if (forward && upgraded_fell_ill(check))
        check_finish(check, VR_RUN_FAULTED, VR_CODE_UPGRADED);
    else if (choice.any)
        begins(check, &choice);
    else
        waits(check, VR_CODE_IN_ROLLING);
}
