/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Surveys and the batches that they begin: D1-D3, D6, D12, decisions 1, 2 and 11, SAFETY 17, 19 and 21. */
#include "tests/sim/check_private.h"

typedef struct {
    guint down;         /* in the whole set */
    gboolean any;       /* something may be taken */
    guint lowest;       /* domain of that */
    gboolean any_first; /* ... that is down, and goes first */
    guint lowest_first;
    guint64 number; /* whose turn it is, of those that guests gave (D14) */
} Choice;

/* D12: the unhealthy go first, where the policy says so, or the way back or on top must stay open (decision 6). */
static gboolean goes_first(const Check *check, const Shadow *shadow)
{
    return shadow->down &&
           (check->policy.prioritize_unhealthy || check->kind == VR_RUN_ROLLBACK || shadow->left_failed);
}

/* Does it take a place when it goes: is it up until then (decisions 2 and 14)? */
static gboolean serves(const Shadow *shadow)
{
    return !shadow->down && !shadow->off;
}

/* Decision 2; but what an earlier run left failed holds no place until this run has taken it (decision 6), nor does what a person
 * protects (G7). */
static gboolean counts_as_down(const Shadow *shadow)
{
    gboolean untaken = shadow->fate == FATE_FRESH || shadow->fate == FATE_SKIP || shadow->ahead == AHEAD_UNWANTED;

    return shadow->down && !(shadow->left_failed && shadow->fate == FATE_FRESH) && !(shadow->guarded && untaken);
}

/* D14: the lowest number goes, and no number last; but the order of guests holds up no unhealthy instance. */
static gboolean fits_number(const Check *check, const Choice *choice, const Shadow *shadow)
{
    return shadow->number == choice->number || goes_first(check, shadow);
}

/* What the documents let a batch begin with (decision 2, D12). */
static Choice choices(const Check *check)
{
    gboolean forward = check->kind != VR_RUN_ROLLBACK;
    Choice choice = {.number = G_MAXUINT64};

    for (guint i = 0; i < check->count; i++) {
        choice.down += counts_as_down(&check->shadows[i]) ? 1 : 0;
        if (check_has_turn(check, &check->shadows[i]))
            choice.number = MIN(choice.number, check->shadows[i].number);
    }
    for (guint i = 0; i < check->count; i++) {
        const Shadow *shadow = &check->shadows[i];

        if (!check_has_turn(check, shadow) || !fits_number(check, &choice, shadow) ||
            (forward && choice.down + (serves(shadow) ? 1 : 0) > check->most_down))
            continue;
        if (!choice.any || shadow->domain < choice.lowest)
            choice.lowest = shadow->domain;
        choice.any = TRUE;
        if (!goes_first(check, shadow))
            continue;
        if (!choice.any_first || shadow->domain < choice.lowest_first)
            choice.lowest_first = shadow->domain;
        choice.any_first = TRUE;
    }
    return choice;
}

/* 17, 21, D1, decision 11: of the batch as a whole. up: members that serve until now; late: that do not go first. */
static void check_batch(Check *check, const Choice *choice, guint domain, guint up, guint late, gboolean canaries)
{
    gboolean forward = check->kind != VR_RUN_ROLLBACK;
    guint left_down = 0, left_up = 0, left_first = 0, size = check->members->len;

    if (size == 0 || size > check->most_batch)
        check_fail(check, "a batch of %u, at most %u", size, check->most_batch);
    if (forward && choice->down + up > check->most_down)
        check_fail(check, "%u down at once, at most %u", choice->down + up, check->most_down);
    if (domain != (choice->any_first ? choice->lowest_first : choice->lowest))
        check_fail(check, "upgrade domain %u is not the next one", domain);
    for (guint i = 0; i < check->count; i++) {
        const Shadow *shadow = &check->shadows[i];

        if (shadow->fate == FATE_FRESH && shadow->domain == domain && (shadow->canary || !canaries) &&
            fits_number(check, choice, shadow)) {
            *(serves(shadow) ? &left_up : &left_down) += 1;
            left_first += goes_first(check, shadow) ? 1 : 0;
        }
    }
    if (late > 0 && left_first > 0)
        check_fail(check, "a healthy instance goes before an unhealthy one");
    if (size < check->most_batch &&
        (left_down > 0 || (left_up > 0 && (!forward || choice->down + up < check->most_down))))
        check_fail(check, "the batch is smaller than it must be");
}

/* B7. Who of those that are prepared already goes now gives no command, so it must be known: in the domain the down ones that go first,
 * then the others, each by number, as many as may. */
static GArray *foretell(const Check *check, const Choice *choice)
{
    GArray *members = g_array_new(FALSE, FALSE, sizeof(guint));
    guint domain = choice->any_first ? choice->lowest_first : choice->lowest, up = 0;

    for (int first = 1; first >= 0; first--) {
        for (guint i = 0; i < check->count && members->len < check->most_batch; i++) {
            const Shadow *shadow = &check->shadows[i];

            if (!check_has_turn(check, shadow) || shadow->domain != domain || !fits_number(check, choice, shadow) ||
                goes_first(check, shadow) != first || (serves(shadow) && choice->down + up >= check->most_down))
                continue;
            up += serves(shadow) ? 1 : 0;
            g_array_append_val(members, i);
        }
    }
    return members;
}

/* D24: what is prepared ahead and is not in the next batch must go before that. */
static gboolean is_crowded(const Check *check, const Choice *choice)
{
    g_autoptr(GArray) members = NULL;
    guint on_their_way = check->fates[FATE_OUT] + check->ahead, more = 0;

    if (check->policy.max_in_flight == 0 || on_their_way == 0)
        return FALSE;
    members = foretell(check, choice);
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

static void begins(Check *check, const Choice *choice)
{
    g_autoptr(GArray) foretold = check->ahead > 0 ? foretell(check, choice) : NULL;
    const VrCommand *begin = check_expect(check, VR_COMMAND_BATCH_BEGIN);
    guint up = 0, late = 0, domain = 0, canaries = check->canaries_left;

    check->batches++;
    if (begin == NULL || begin->batch_number != check->batches || begin->text == NULL) {
        check_fail(check, "a batch begins without its number or reason");
        return;
    }
    g_array_set_size(check->members, 0);
    while (check_next_type(check) == VR_COMMAND_PREPARE) {
        const VrCommand *prepare = check_expect(check, VR_COMMAND_PREPARE);
        Shadow *shadow;

        if (prepare == NULL)
            return;
        shadow = &check->shadows[prepare->instance];
        domain = check->members->len == 0 ? shadow->domain : domain;
        if (shadow->fate != FATE_FRESH || check_is_ahead(shadow) || shadow->domain != domain ||
            !(shadow->canary || canaries == 0))
            check_fail(check, "instance %u does not belong in this batch", prepare->instance); /* 21, D17 */
        if (!fits_number(check, choice, shadow))
            check_fail(check, "the guest of instance %u asks to go later", prepare->instance); /* D14 */
        if (check->walk && shadow->domain != check->walk_domain)
            check_fail(check, "nobody walked to upgrade domain %u", shadow->domain); /* G4 */
        check_become(check, prepare->instance, FATE_OUT);
        shadow->out = VR_COMMAND_PREPARE;
        shadow->moved_off = shadow->off;
        g_array_append_val(check->members, prepare->instance);
    }
    if (foretold != NULL)
        take_prepared(check, foretold);
    for (guint k = 0; k < check->members->len; k++) {
        const Shadow *shadow = &check->shadows[g_array_index(check->members, guint, k)];

        domain = shadow->domain;
        up += serves(shadow) ? 1 : 0;
        late += goes_first(check, shadow) ? 0 : 1;
    }
    if (check->policy.gate != NULL && !check->gate_said_yes)
        check_fail(check, "a batch begins without a yes of the gate"); /* E11, L5 */
    check->in_batch = TRUE;
    check->gate_said_yes = FALSE;
    check->waits_since = check->no_gate_since = check->no_place_since = -1;
    check->looked_ahead = FALSE;
    check_batch(check, choice, domain, up, late, canaries > 0);
    check_clears(check); /* another batch than was foreseen */
    check_goes_down(check);
}

static void take_answers(Check *check)
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

/* 19, D2-D4, E14: what the survey itself ends a run with; NULL: nothing. */
static const char *survey_code(const Check *check, const Choice *choice)
{
    if (check->kind == VR_RUN_ROLLBACK)
        return NULL;
    if (choice->down > check->most_down)
        return check->batches == 0 ? VR_CODE_BEFORE_ROLLING : VR_CODE_IN_ROLLING;
    return check_fell_ill(check) ? VR_CODE_UPGRADED : NULL;
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
        take_answers(check);
        if (!late)
            take_wishes(check); /* else the run is over, whatever they say */
    }
    if (check->baking) {
        check_bake_watches(check);
        return;
    }
    choice = choices(check);
    code = blind ? NULL : survey_code(check, &choice);
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
    else if (choice.any && is_crowded(check, &choice))
        check_clears_first(check);
    else if (choice.any)
        begins(check, &choice);
    else if (check->fates[FATE_FRESH] == 0)
        check_waits_for_clear(check); /* the last are left out when what was prepared of them is gone */
    else
        check_waits(check, &check->no_place_since, VR_CODE_IN_ROLLING);
}
