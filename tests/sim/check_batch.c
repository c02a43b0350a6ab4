/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Surveys and the batches that they begin: D1-D3, D6, D8-D12, D30, decisions 1, 2 and 11, SAFETY 17, 19 and 21. */
#include "tests/sim/check_private.h"

#include <string.h>

/* 17, D1, D8-D11, D30: of the batch as a whole. */
static void check_members(Check *check, const Choice *choice)
{
    Stand stand = choice->stand;

    if (check->members->len == 0 || check->members->len > check->most_batch)
        check_fail(check, "a batch of %u, at most %u", check->members->len, check->most_batch);
    for (guint k = 0; k < check->members->len; k++) {
        guint i = g_array_index(check->members, guint, k);
        const Shadow *shadow = &check->shadows[i];
        const char *obstacle = check_obstacle(check, &stand, shadow);

        if (!check_same_group(check, shadow, choice->next))
            check_fail(check, "upgrade domain %u and zone %u of instance %u are not the next ones", shadow->domain,
                       shadow->zone, i);
        if (obstacle != NULL)
            check_fail(check, "instance %u goes, and %s", i, obstacle);
        check_takes(&stand, shadow);
    }
}

/* D1, D12, D30: nobody else could go as well, nor before those that go. */
static void check_others(Check *check, const Choice *choice, gboolean canaries)
{
    Stand all = choice->stand, first = choice->stand;
    gboolean full = check->members->len >= check->most_batch, late = FALSE;

    for (guint k = 0; k < check->members->len; k++) {
        const Shadow *shadow = &check->shadows[g_array_index(check->members, guint, k)];

        check_takes(&all, shadow);
        if (check_goes_first(check, shadow))
            check_takes(&first, shadow);
        else
            late = TRUE;
    }
    for (guint i = 0; i < check->count; i++) {
        const Shadow *shadow = &check->shadows[i];

        if (shadow->fate != FATE_FRESH || (canaries && !shadow->canary) ||
            !check_same_group(check, shadow, choice->next) || !check_fits_order(check, choice, shadow))
            continue;
        if (!full && check_obstacle(check, &all, shadow) == NULL)
            check_fail(check, "the batch is smaller than it must be: instance %u could go", i);
        if (late && check_goes_first(check, shadow) && check_obstacle(check, &first, shadow) == NULL)
            check_fail(check, "a healthy instance goes before the unhealthy %u", i);
    }
}

/* D24: what is prepared ahead and is not in the next batch must go before that. */
static gboolean is_crowded(const Check *check, const Choice *choice)
{
    g_autoptr(GArray) members = NULL;
    guint on_their_way = check->fates[FATE_OUT] + check->ahead, more = 0;

    if (check->policy.max_in_flight == 0 || on_their_way == 0)
        return FALSE;
    members = check_foretell(check, choice);
    for (guint k = 0; k < members->len; k++)
        more += check_is_ahead(&check->shadows[g_array_index(members, guint, k)]) ? 0 : 1;
    return on_their_way + more > check->policy.max_in_flight;
}

/* Those that were prepared ahead and belong in this batch join the others. */
static void take_prepared(Check *check, const GArray *foretold)
{
    guint joined = 0;

    for (guint k = 0; k < foretold->len; k++) {
        guint i = g_array_index(foretold, guint, k);
        Shadow *shadow = &check->shadows[i];
        gboolean ready = shadow->ahead == AHEAD_READY;

        if (shadow->fate != FATE_OUT && !check_is_ahead(shadow))
            check_fail(check, "instance %u is not in its batch", i);
        if (!check_is_ahead(shadow))
            continue;
        check_set_ahead(check, i, AHEAD_NOT);
        check_become(check, i, ready ? FATE_READY : FATE_OUT);
        shadow->out = VR_COMMAND_PREPARE;
        shadow->moved_off = shadow->off;
        joined++;
    }
    if (foretold->len != check->members->len + joined)
        check_fail(check, "the batch is not what was foretold");
    g_array_set_size(check->members, 0);
    g_array_append_vals(check->members, foretold->data, foretold->len);
}

/* 21, D10, D14, D17, G4: one that is prepared now. */
static void joins(Check *check, const Choice *choice, guint i, gboolean canaries)
{
    Shadow *shadow = &check->shadows[i];

    if (shadow->fate != FATE_FRESH || check_is_ahead(shadow) || (canaries && !shadow->canary))
        check_fail(check, "instance %u does not belong in this batch", i);
    if (!check_fits_order(check, choice, shadow))
        check_fail(check, "instance %u has a later turn", i);
    if (check->walk && shadow->domain != check->walk_domain)
        check_fail(check, "nobody walked to upgrade domain %u", shadow->domain);
    check_become(check, i, FATE_OUT);
    shadow->out = VR_COMMAND_PREPARE;
    shadow->moved_off = shadow->off;
    g_array_append_val(check->members, i);
}

static gboolean same(const GArray *a, const GArray *b)
{
    return a->len == b->len && memcmp(a->data, b->data, a->len * sizeof(guint)) == 0;
}

/* E11, L5: the gate is told who would go, and asked anew where others would. FALSE: its yes is for these. */
static gboolean asks_gate(Check *check, const Choice *choice)
{
    g_autoptr(GArray) members = NULL;

    if (check->policy.gate == NULL)
        return FALSE;
    members = check_foretell(check, choice);
    if (check->gate_said_yes && same(members, check->gated))
        return FALSE;
    g_array_set_size(check->gated, 0);
    g_array_append_vals(check->gated, members->data, members->len);
    check->gate_said_yes = FALSE;
    check->gate_out = check_expect(check, VR_COMMAND_GATE) != NULL;
    return TRUE;
}

void check_gate_batch(Check *check, const GArray *members)
{
    if (check->gate_out && (members == NULL || !same(members, check->gated)))
        check_fail(check, "the gate is asked about other instances than would go");
}

static void begins(Check *check, const Choice *choice)
{
    g_autoptr(GArray) foretold = check->ahead > 0 ? check_foretell(check, choice) : NULL;
    const VrCommand *begin = check_expect(check, VR_COMMAND_BATCH_BEGIN);
    gboolean canaries = check->canaries_left > 0;

    check->batches++;
    check->batch_began_ms = check->now_ms;
    if (begin == NULL || begin->batch_number != check->batches || begin->text == NULL) {
        check_fail(check, "a batch begins without its number or reason");
        return;
    }
    if (check->policy.gate != NULL && !check->gate_said_yes)
        check_fail(check, "a batch begins without a yes of the gate"); /* E11, L5 */
    g_array_set_size(check->members, 0);
    while (check_next_type(check) == VR_COMMAND_PREPARE)
        joins(check, choice, check_expect(check, VR_COMMAND_PREPARE)->instance, canaries);
    if (foretold != NULL)
        take_prepared(check, foretold);
    check->in_batch = TRUE;
    check->gate_said_yes = FALSE;
    check->waits_since = check->no_gate_since = check->no_place_since = -1;
    check->looked_ahead = check->recalled = check->confirm_out = FALSE;
    if (check->policy.gate != NULL && !same(check->members, check->gated))
        check_fail(check, "others go than those that the gate let go");
    check_members(check, choice);
    check_others(check, choice, canaries);
    check_clears(check); /* another batch than was foreseen */
    check_goes_down(check);
}

void check_take_answers(Check *check)
{
    guint on = 0;

    for (guint i = 0; i < check->count; i++) {
        Shadow *shadow = &check->shadows[i];

        shadow->off = check->event->answers[i] == VR_SURVEY_OFF;
        shadow->down =
            check->event->answers[i] == VR_SURVEY_UNHEALTHY || shadow->fate == FATE_BAD || shadow->fate == FATE_LOST;
        /* Decision 14 is about guests that were off; one that ran until this run moved it is down. */
        if (shadow->off && !shadow->moved_off && (shadow->fate == FATE_GOOD || shadow->fate == FATE_BACK))
            shadow->down = TRUE;
        shadow->left_failed = shadow->left_failed && shadow->down;
        on += shadow->off && !shadow->down ? 0 : 1;
    }
    check->most_down = check_most(on, check->policy.max_unhealthy_percent);
}

/* D14. A rollback asks no guest, and who named an instance means it. */
static void take_wishes(Check *check)
{
    const VrGuestWish *wishes = check->event->wishes;

    for (guint i = 0; i < check->count && wishes != NULL && check->kind != VR_RUN_ROLLBACK; i++) {
        Shadow *shadow = &check->shadows[i];

        shadow->number = wishes[i].phase == 0 ? G_MAXUINT64 : wishes[i].phase;
        shadow->said_out = shadow->said_out || wishes[i].skip;
        if (!shadow->said_out || shadow->fate != FATE_FRESH || shadow->named)
            continue;
        if (check_is_ahead(shadow)) {
            check_unwant(check, i); /* left out when that is gone */
            continue;
        }
        check_become(check, i, FATE_SKIP);
        shadow->asked_out = check->fewer = TRUE;
    }
}

/* D2-D4 */
const char *check_survey_code(const Check *check, const Choice *choice)
{
    if (check->kind == VR_RUN_ROLLBACK)
        return NULL;
    if (choice->stand.down > check->most_down)
        return check->batches == 0 ? VR_CODE_BEFORE_ROLLING : VR_CODE_IN_ROLLING;
    return check_fell_ill(check) ? VR_CODE_UPGRADED : NULL;
}

static void waits_for_place(Check *check, const Choice *choice)
{
    if (check_stops(check))
        check_kept_back(check, choice);
    check_waits(check, &check->no_place_since, VR_CODE_IN_ROLLING);
}

void check_surveyed(Check *check)
{
    gboolean blind = check->event->answers == NULL;
    gboolean late = check->now_ms >= check_deadline(check);
    const char *code;
    Choice choice = {0};

    check->fewer = FALSE;
    if (check->fates[FATE_LOST] > 0 && check_ends(check)) /* of what was prepared ahead */
        return;
    if (!blind) {
        check_take_answers(check);
        if (!late)
            take_wishes(check); /* else the run is over, whatever they say */
    }
    if (check->baking) {
        check_bake_watches(check);
        return;
    }
    choice = check_choose(check);
    code = blind ? NULL : check_survey_code(check, &choice);
    if (code == NULL && check->fewer) {
        check_left_out(check);
        return;
    }
    if (code != NULL && !((check->pause_asked || late) && g_strcmp0(check->view->error_code, code) != 0))
        check_finish(check, VR_RUN_FAULTED, code);
    else if (check->pause_asked || late)
        check_goes_on(check);
    else if (blind)
        check_waits(check, &check->no_place_since, VR_CODE_INTERNAL);
    else if (choice.next != NULL && is_crowded(check, &choice))
        check_clears_first(check);
    else if (choice.next != NULL) {
        if (!asks_gate(check, &choice) && !check_is_shut(check))
            begins(check, &choice);
    } else if (check->fates[FATE_FRESH] == 0)
        check_waits_for_clear(check); /* the last are left out when what was prepared of them is gone */
    else
        waits_for_place(check, &choice);
}
