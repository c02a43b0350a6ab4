/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which instances may go next, and together: D6-D12, D14, D30, decisions 1, 2, 6, 11 and 14. */
#include "tests/sim/check_private.h"

#include <string.h>

static const char no_place[] = "no place is free", last_of_role[] = "it is the last of its role that serves",
                  pair_is_gone[] = "another of its pair goes", pair_is_down[] = "another of its pair is down";

/* D12: the unhealthy go first, where the policy says so, or the way back or on top must stay open (decision 6). */
gboolean check_goes_first(const Check *check, const Shadow *shadow)
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

/* ---- the order ---- */

/* D10, D14: the lowest phase goes, among those of one phase the lowest number, and none is the last; but the order of guests holds up no
 * unhealthy instance. */
gboolean check_fits_order(const Check *check, const Choice *choice, const Shadow *shadow)
{
    return shadow->phase == choice->phase && (shadow->number == choice->number || check_goes_first(check, shadow));
}

/* Decision 11, D9 */
gboolean check_same_group(const Check *check, const Shadow *a, const Shadow *b)
{
    return a->domain == b->domain && (check->policy.cross_zone || a->zone == b->zone);
}

/* D7, D9 */
static gboolean is_lower(const Check *check, const Shadow *a, const Shadow *b)
{
    if (a->domain != b->domain)
        return a->domain < b->domain;
    return !check->policy.cross_zone && a->zone < b->zone;
}

/* ---- what keeps one back ---- */

static guint64 pair_bit(const Shadow *shadow)
{
    return shadow->pair.number > 0 ? (guint64)1 << shadow->pair.number : 0;
}

static void stands(Stand *stand, const Shadow *shadow)
{
    stand->down += counts_as_down(shadow) ? 1 : 0;
    stand->parts[shadow->role.number] += shadow->off && !shadow->down ? 0 : 1;
    stand->serving[shadow->role.number] += serves(shadow) ? 1 : 0;
    stand->ill |= shadow->down ? pair_bit(shadow) : 0;
}

/* D8, D11. A rollback is not kept back by those that are down (decision 6). */
static gboolean is_last_of_role(const Check *check, const Stand *stand, const Shadow *shadow)
{
    guint role = shadow->role.number;

    if (role == 0 || !serves(shadow) || stand->parts[role] < 2 || stand->serving[role] > 1)
        return FALSE;
    return check->kind != VR_RUN_ROLLBACK || stand->served[role] > 1;
}

const char *check_obstacle(const Check *check, const Stand *stand, const Shadow *shadow)
{
    gboolean forward = check->kind != VR_RUN_ROLLBACK;

    if (forward && stand->down + (serves(shadow) ? 1 : 0) > check->most_down) /* decision 2, D6 */
        return no_place;
    if (is_last_of_role(check, stand, shadow))
        return last_of_role;
    if (stand->gone & pair_bit(shadow)) /* D10 */
        return pair_is_gone;
    return forward && !shadow->down && stand->ill & pair_bit(shadow) ? pair_is_down : NULL;
}

void check_takes(Stand *stand, const Shadow *shadow)
{
    stand->down += serves(shadow) ? 1 : 0;
    stand->serving[shadow->role.number] -= serves(shadow) ? 1 : 0;
    stand->gone |= pair_bit(shadow);
}

/* ---- the next batch ---- */

Choice check_choose(const Check *check)
{
    Choice choice = {.phase = G_MAXUINT, .number = G_MAXUINT64};
    gboolean next_first = FALSE;

    for (guint i = 0; i < check->count; i++) {
        const Shadow *shadow = &check->shadows[i];

        stands(&choice.stand, shadow);
        if (!check_has_turn(check, shadow) || shadow->phase > choice.phase)
            continue;
        choice.number = shadow->phase < choice.phase ? shadow->number : MIN(choice.number, shadow->number);
        choice.phase = shadow->phase;
    }
    memcpy(choice.stand.served, choice.stand.serving, sizeof(choice.stand.served));
    for (guint i = 0; i < check->count; i++) {
        const Shadow *shadow = &check->shadows[i];
        gboolean first = check_goes_first(check, shadow);

        if (!check_has_turn(check, shadow) || !check_fits_order(check, &choice, shadow) ||
            check_obstacle(check, &choice.stand, shadow) != NULL)
            continue;
        if (choice.next == NULL || first > next_first ||
            (first == next_first && is_lower(check, shadow, choice.next))) {
            choice.next = shadow;
            next_first = first;
        }
    }
    return choice;
}

/* The down ones that go first, then the others, each by number, as many as may. */
GArray *check_foretell(const Check *check, const Choice *choice)
{
    GArray *members = g_array_new(FALSE, FALSE, sizeof(guint));
    Stand stand = choice->stand;

    for (int first = 1; first >= 0 && choice->next != NULL; first--) {
        for (guint i = 0; i < check->count && members->len < check->most_batch; i++) {
            const Shadow *shadow = &check->shadows[i];

            if (!check_has_turn(check, shadow) || !check_same_group(check, shadow, choice->next) ||
                !check_fits_order(check, choice, shadow) || check_goes_first(check, shadow) != first ||
                check_obstacle(check, &stand, shadow) != NULL)
                continue;
            check_takes(&stand, shadow);
            g_array_append_val(members, i);
        }
    }
    return members;
}

GArray *check_foresee(Check *check)
{
    g_autofree gboolean *down = g_new(gboolean, check->members->len);
    GArray *members;
    Choice choice;

    for (guint k = 0; k < check->members->len; k++) {
        Shadow *shadow = &check->shadows[g_array_index(check->members, guint, k)];

        down[k] = shadow->down;
        shadow->down = FALSE;
    }
    choice = check_choose(check);
    members = check_foretell(check, &choice);
    for (guint k = 0; k < check->members->len; k++)
        check->shadows[g_array_index(check->members, guint, k)].down = down[k];
    return members;
}

/* ---- a wait in vain ---- */

static gboolean says(const Check *check, const char *words, const char *name)
{
    g_autofree char *all = g_strconcat(words, name, " ", NULL);

    return check->view->error_text != NULL && strstr(check->view->error_text, all) != NULL;
}

/* Decision 2, D8, D10: one of those whose turn it is is kept back by what it says. */
void check_kept_back(Check *check, const Choice *choice)
{
    gboolean true_words = FALSE;

    for (guint i = 0; i < check->count; i++) {
        const Shadow *shadow = &check->shadows[i];
        const char *why;

        if (!check_has_turn(check, shadow) || !check_fits_order(check, choice, shadow))
            continue;
        why = check_obstacle(check, &choice->stand, shadow);
        true_words |= (why == no_place && says(check, "hold the places, ", "at most")) ||
                      (why == last_of_role && says(check, "role ", shadow->role.name)) ||
                      (why == pair_is_down && says(check, "another instance of pair ", shadow->pair.name));
    }
    if (!true_words)
        check_fail(check, "it does not say what keeps it back: %s", check->view->error_text);
}
