/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The notice before a batch goes down: H7, H8, SAFETY 17. */
#include "tests/sim/check_private.h"

static Shadow *member(const Check *check, guint k)
{
    return &check->shadows[g_array_index(check->members, guint, k)];
}

static void all_ready_become(Check *check, VrCommandType type)
{
    for (guint k = 0; k < check->members->len; k++)
        if (member(check, k)->fate == FATE_READY)
            check_must_go_on(check, g_array_index(check->members, guint, k), type);
}

gboolean check_has_no_notice(Check *check)
{
    guint ready = 0, told = 0;

    for (guint k = 0; k < check->members->len; k++) {
        ready += member(check, k)->fate == FATE_READY ? 1 : 0;
        told += member(check, k)->fate == FATE_READY && member(check, k)->noticed ? 1 : 0;
    }
    if (ready == 0 || check->confirm_out)
        return FALSE;
    if (check->recalled || check->now_ms >= check_deadline(check))
        all_ready_become(check, VR_COMMAND_DISCARD);
    else if (told < ready)
        all_ready_become(check, VR_COMMAND_NOTICE);
    else
        check->confirm_out = check_expect(check, VR_COMMAND_SURVEY) != NULL;
    return FALSE;
}

/* 17, D8, D10: nobody went while they waited who must not be missed together with them. */
static gboolean may_all_go(Check *check)
{
    Choice choice;
    gboolean may = TRUE;

    for (guint k = 0; k < check->members->len; k++) {
        if (member(check, k)->fate != FATE_READY)
            continue;
        check_become(check, g_array_index(check->members, guint, k), FATE_FRESH); /* as if they were chosen now */
        member(check, k)->noticed = TRUE;
    }
    choice = check_choose(check);
    may = check_survey_code(check, &choice) == NULL;
    for (guint k = 0; k < check->members->len; k++) {
        Shadow *shadow = member(check, k);

        if (!shadow->noticed)
            continue;
        may = may && check_obstacle(check, &choice.stand, shadow) == NULL;
        check_takes(&choice.stand, shadow);
        check_become(check, g_array_index(check->members, guint, k), FATE_READY);
    }
    return may;
}

void check_confirmed(Check *check)
{
    gboolean may = !check->recalled && check->event->answers != NULL && check->now_ms < check_deadline(check);

    check->confirm_out = FALSE;
    may = may && check_window_is_open(check); /* H4 */
    if (may)
        check_take_answers(check);
    may = may && may_all_go(check);
    check->recalled = check->recalled || !may;
    all_ready_become(check, may ? VR_COMMAND_SWAP : VR_COMMAND_DISCARD);
}

/* Whoever is being told shall answer now. */
void check_recalls(Check *check)
{
    if (!check->in_batch || check->recalled)
        return;
    check->recalled = TRUE;
    for (guint k = 0; k < check->members->len; k++) {
        const VrCommand *command;

        if (member(check, k)->fate != FATE_OUT || member(check, k)->out != VR_COMMAND_NOTICE)
            continue;
        command = check_expect(check, VR_COMMAND_RECALL);
        if (command != NULL && command->instance != g_array_index(check->members, guint, k))
            check_fail(check, "instance %u is recalled", command->instance);
    }
}
