/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The ends of a run: D4, D23, J5, J10, decisions 3, 6 and 9, SAFETY 18-21, 25 and 27. */
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

/* F3: those that were left unhealthy on their new disks, and only they, as many at once as may be on their way (D24). FALSE: there
 * are none. */
static gboolean makes_amends(Check *check)
{
    if (check->end_status != VR_RUN_FAULTED || !check->policy.restore_on_breach || check->kind == VR_RUN_ROLLBACK)
        return FALSE;
    for (guint i = 0; i < check->count; i++) {
        Shadow *shadow = &check->shadows[i];

        if (!shadow->left || shadow->fate != FATE_BAD)
            continue;
        if (check->policy.max_in_flight > 0 && check->fates[FATE_OUT] + check->ahead >= check->policy.max_in_flight)
            break;
        check_must_go_on(check, i, VR_COMMAND_RESTORE);
        shadow->left = FALSE;
        check->amends = TRUE;
    }
    return check->amends;
}

static void ended(Check *check)
{
    const VrRolloutView *view = check->view;
    VrRunStatus status = check->end_status;
    const char *code = check->end_code;

    check->amends = FALSE;
    if (check_expect(check, VR_COMMAND_FINISH) == NULL)
        return;
    check->over = TRUE;
    if (!view->finished || view->status != status)
        check_fail(check, "ended as %s instead of %s", vr_run_status_name(view->status), vr_run_status_name(status));
    if (g_strcmp0(view->error_code, code) != 0)
        check_fail(check, "ended with %s instead of %s", view->error_code, code);
    if (code != NULL && (view->error_text == NULL || strchr(view->error_text, ' ') == NULL)) /* 27 */
        check_fail(check, "ended without a reason");
}

void check_amends_made(Check *check)
{
    check->amends = FALSE;
    if (!makes_amends(check))
        ended(check);
}

void check_finish(Check *check, VrRunStatus status, const char *code)
{
    check->end_status = status;
    check->end_code = code;
    check->survey_out = check->gate_out = check->window_out = check->wake_out = FALSE;
    check->hold = VR_HOLD_NONE;
    check->clearing = FALSE;
    makes_amends(check);
    check_clears(check); /* B7 */
    check->amends = check->fates[FATE_OUT] > 0;
    if (!check->amends)
        ended(check);
}

gboolean check_stops(const Check *check)
{
    return check->view->finished || (check->view->point == VR_POINT_ENDING && check->view->error_code != NULL);
}

/* A run that is done with some that failed has the same code as one that failed as a whole. */
static gboolean stops_for(const Check *check, const char *code)
{
    return check_stops(check) && check->view->status != VR_RUN_COMPLETED &&
           g_strcmp0(check->view->error_code, code) == 0;
}

/* 25, decision 9: the word that all of the batch failed with, or "". FALSE: the batch says nothing, all were off. */
static gboolean batch_word(const Check *check, char word[16], guint *heads)
{
    gboolean first = TRUE;

    *heads = 0;
    word[0] = '\0';
    for (guint k = 0; k < check->members->len; k++) {
        const Shadow *shadow = &check->shadows[g_array_index(check->members, guint, k)];

        if ((shadow->moved_off && shadow->fate == FATE_GOOD) || shadow->fate == FATE_FRESH)
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

    if (bad == check_bad(check, BAD_UNTOUCHED))
        return FALSE;
    if (proofs == 0) /* 18 */
        return TRUE;
    return bad * 100.0 / (bad + proofs) > check->policy.max_unhealthy_upgraded_percent;
}

/* Was upgraded, ran then, and is not well now. */
static gboolean fell_ill(const Shadow *shadow)
{
    return shadow->fate == FATE_GOOD && !shadow->moved_off && shadow->down;
}

/* D8, E14: the limit holds within each role, too. What was never touched is no fault of the version. */
static gboolean a_role_is_bad(const Check *check, gboolean with_ill)
{
    guint bad[ROLES] = {0}, of[ROLES] = {0};

    for (guint i = 0; i < check->count && check->has_roles; i++) {
        const Shadow *shadow = &check->shadows[i];
        gboolean failed = shadow->fate == FATE_BACK || (shadow->fate == FATE_BAD && shadow->bad != BAD_UNTOUCHED);

        bad[shadow->role.number] += failed || (with_ill && fell_ill(shadow)) ? 1 : 0;
        of[shadow->role.number] += failed || (shadow->fate == FATE_GOOD && !shadow->moved_off) ? 1 : 0;
    }
    for (guint role = 1; role < ROLES; role++) {
        if (bad[role] > 0 && bad[role] * 100.0 / of[role] > check->policy.max_unhealthy_upgraded_percent)
            return TRUE;
    }
    return FALSE;
}

static gboolean must_end(const Check *check, VrRunStatus *status, const char **code)
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
    if (forward && (version_is_bad(check) || a_role_is_bad(check, FALSE))) {
        *code = VR_CODE_UPGRADED;
        return TRUE;
    }
    if (forward && (check_bad(check, BAD_UNTOUCHED) > 0 || check_bad(check, BAD_UNCOMMITTED) > 0))
        return TRUE;
    if (check->same) {
        *code = VR_CODE_FAILED_VMS;
        return TRUE;
    }
    return forward && (check->withdrawn || check->off_too_long);
}

/* Whatever ends a run at a border, but for the deadline. */
gboolean check_ends(Check *check)
{
    VrRunStatus status;
    const char *code;

    if (!must_end(check, &status, &code))
        return FALSE;
    check_finish(check, status, code);
    return TRUE;
}

/* D4, E14: of those that were upgraded and were not off, too many are not well now, and at least one came good at first. */
gboolean check_fell_ill(const Check *check)
{
    guint ill = check->fates[FATE_BACK] + check->fates[FATE_BAD] + check->fates[FATE_LOST];
    guint of = ill + check->fates[FATE_GOOD] - check->good_off, fell = 0;

    for (guint i = 0; i < check->count; i++)
        fell += fell_ill(&check->shadows[i]) ? 1 : 0;
    return fell > 0 &&
           ((ill + fell) * 100.0 / of > check->policy.max_unhealthy_upgraded_percent || a_role_is_bad(check, TRUE));
}

/* J5: those that failed within the limit are told. */
void check_completed(Check *check)
{
    guint bad = check->fates[FATE_BACK] + check->fates[FATE_BAD];

    check_finish(check, VR_RUN_COMPLETED, bad > 0 ? VR_CODE_FAILED_VMS : NULL);
}

void check_all_done(Check *check)
{
    guint bad = check->fates[FATE_BACK] + check->fates[FATE_BAD];
    gboolean nothing_runs = check->fates[FATE_GOOD] == check->good_off; /* then there is nothing to watch */

    if (check->kind == VR_RUN_ROLLBACK && bad > 0 && check->fates[FATE_GOOD] == 0)
        check_finish(check, VR_RUN_FAULTED, VR_CODE_FAILED_VMS);
    else if (check->policy.bake_ms > 0 && !(nothing_runs && check_next_type(check) == VR_COMMAND_FINISH))
        check_bake_begins(check);
    else
        check_completed(check);
}

/* D15: how many are reached. */
guint check_checkpoints(const Check *check)
{
    guint to_move = check->count - check->fates[FATE_SKIP], moved = to_move - check->fates[FATE_FRESH];
    guint reached = 0;

    for (guint k = 0; k < VR_CHECKPOINTS && check->policy.checkpoints[k] > 0; k++)
        reached += moved >= (double)to_move * check->policy.checkpoints[k] / 100 ? 1 : 0;
    return reached;
}

/* D15: one is reached that was not before, since more are moved or fewer are to be moved. */
void check_look_for_checkpoint(Check *check)
{
    guint reached = check_checkpoints(check);

    if (reached <= check->checkpoints)
        return;
    check->checkpoints = reached;
    check->checkpoint_waits = TRUE;
    check->checkpoint_told = FALSE;
    check->checkpoint_until = check->now_ms + check->policy.checkpoint_wait_ms;
}

/* D14: what is left after a guest was left out. */
void check_left_out(Check *check)
{
    if (check->fates[FATE_OUT] > 0) {
        check_goes_on(check);
        return;
    }
    if (check->fates[FATE_FRESH] == 0) {
        check_all_done(check);
        return;
    }
    check_look_for_checkpoint(check);
    check_goes_on(check);
}

void check_batch_ended(Check *check)
{
    char word[16];
    guint heads;
    gboolean same = FALSE, says = batch_word(check, word, &heads);

    check->in_batch = FALSE;
    check->pause_until = check->now_ms + check->policy.pause_ms;
    check->longest_ms = MAX(check->longest_ms, check->now_ms - check->batch_began_ms);
    if (says) {
        same = word[0] != '\0' && (heads > 1 || (strcmp(word, check->last_word) == 0 &&
                                                 (!check->word_doubt || stops_for(check, VR_CODE_FAILED_VMS))));
        g_strlcpy(check->last_word, word, sizeof(check->last_word));
        check->word_doubt = FALSE;
    }
    check->same = same && check->same_reason_stops && check->kind != VR_RUN_ROLLBACK;
    if (check_ends(check))
        return;
    if (check->fates[FATE_FRESH] == 0) {
        check_all_done(check);
    } else {
        check->checkpoint_waits = FALSE;
        check_look_for_checkpoint(check);
        check_goes_on(check);
    }
}
