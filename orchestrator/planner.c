/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/planner.h"

/* What one batch may take, found in one pass over the candidates. */
typedef struct {
    guint size;          /* D1: the batch at its largest */
    guint allowed;       /* decision 1: down at once, for any cause */
    guint down;          /* down now, in the whole set */
    guint pending;       /* still to be moved */
    guint free;          /* places for instances that are up now; G_MAXUINT where limits only warn */
    gboolean takes_down; /* an instance that is down already needs no new place */
    gboolean unhealthy_first;
} Room;

guint vr_planner_allowed(guint total, guint percent)
{
    if (total == 0)
        return 0;
    return (guint)MAX(1, (guint64)total * percent / 100); /* decision 1, D1 */
}

guint vr_planner_upgrade_domain(guint index, guint upgrade_domain_count)
{
    return upgrade_domain_count == 0 ? 0 : index % upgrade_domain_count; /* D7 */
}

void vr_batch_free(VrBatch *batch)
{
    if (batch == NULL)
        return;
    g_array_unref(batch->members);
    g_free(batch->reason);
    g_free(batch);
}

static Room measure(const VrUpgradePolicy *policy, const VrCandidate *candidates, guint count, gboolean ignore_limits)
{
    Room room = {
        .size = vr_planner_allowed(count, policy->max_batch_percent),
        .allowed = vr_planner_allowed(count, policy->max_unhealthy_percent),
        .unhealthy_first = policy->prioritize_unhealthy || ignore_limits, /* D12, decision 6 */
    };

    for (guint i = 0; i < count; i++) {
        room.down += candidates[i].down ? 1 : 0;
        room.pending += candidates[i].status == VR_CANDIDATE_PENDING ? 1 : 0;
    }
    room.takes_down = ignore_limits || room.down <= room.allowed;
    if (ignore_limits)
        room.free = G_MAXUINT;
    else
        room.free = room.allowed > room.down ? room.allowed - room.down : 0; /* D6 */
    return room;
}

static gboolean can_take(const Room *room, const VrCandidate *candidate)
{
    if (candidate->status != VR_CANDIDATE_PENDING || candidate->held)
        return FALSE;
    return candidate->down ? room->takes_down : room->free > 0;
}

/* The domain of the next batch: the lowest one out of which something can be taken, but with unhealthy_first the lowest
 * one that has a down instance to move. A domain from which nothing fits does not hold up a down instance elsewhere: moving
 * that one may be what frees the place. */
static gboolean choose_domain(const Room *room, const VrCandidate *candidates, guint count, guint *domain)
{
    gboolean found = FALSE, found_down = FALSE;

    for (guint i = 0; i < count; i++) {
        const VrCandidate *candidate = &candidates[i];
        gboolean preferred = room->unhealthy_first && candidate->down;

        if (!can_take(room, candidate) || (found_down && !preferred))
            continue;
        if (!found || candidate->upgrade_domain < *domain || (preferred && !found_down))
            *domain = candidate->upgrade_domain;
        found = TRUE;
        found_down = found_down || preferred;
    }
    return found;
}

/* Takes pending instances of the batch's domain in order, either those that are down or those that are up or both. */
static void take(VrBatch *batch, Room *room, const VrCandidate *candidates, guint count, gboolean down, gboolean up)
{
    for (guint i = 0; i < count && batch->members->len < room->size; i++) {
        const VrCandidate *candidate = &candidates[i];

        if (candidate->upgrade_domain != batch->upgrade_domain || !can_take(room, candidate))
            continue; /* decision 11: a batch crosses no upgrade domain */
        if (candidate->down ? !down : !up)
            continue;
        g_array_append_val(batch->members, i);
        if (!candidate->down && room->free != G_MAXUINT)
            room->free--;
    }
}

/* ignore_limits: the words for limits that only warn. */
static char *explain(const VrBatch *batch, const Room *room, const VrCandidate *candidates, guint count,
                     gboolean ignore_limits)
{
    GString *text = g_string_new(NULL);
    guint down = 0, left = 0;

    for (guint i = 0; i < batch->members->len; i++)
        down += candidates[g_array_index(batch->members, guint, i)].down ? 1 : 0;
    for (guint i = 0; i < count; i++) {
        if (candidates[i].status == VR_CANDIDATE_PENDING && !candidates[i].held &&
            candidates[i].upgrade_domain == batch->upgrade_domain)
            left++;
    }
    left -= batch->members->len;
    g_string_append_printf(text, "UD %u: %u of %u (%u%%)", batch->upgrade_domain, batch->members->len, count,
                           (guint)((guint64)batch->members->len * 100 / count));
    if (down > 0 && room->unhealthy_first)
        g_string_append(text, ", unhealthy first");
    if (ignore_limits && room->down > room->allowed)
        g_string_append_printf(text, ", although %u are down and at most %u may be", room->down, room->allowed);
    if (left > 0 && batch->members->len < room->size)
        g_string_append_printf(text, ", not %u: %u down elsewhere", MIN(room->size, batch->members->len + left),
                               room->down - down);
    return g_string_free(text, FALSE);
}

VrBatch *vr_planner_next_batch(const VrUpgradePolicy *policy, const VrCandidate *candidates, guint count,
                               gboolean ignore_limits, gboolean *no_place)
{
    Room room = measure(policy, candidates, count, ignore_limits);
    guint domain = 0;
    VrBatch *batch;

    if (no_place != NULL)
        *no_place = FALSE;
    if (!choose_domain(&room, candidates, count, &domain)) {
        if (no_place != NULL)
            *no_place = room.pending > 0;
        return NULL;
    }
    batch = g_new0(VrBatch, 1);
    batch->members = g_array_new(FALSE, FALSE, sizeof(guint));
    batch->upgrade_domain = domain;
    if (room.unhealthy_first)
        take(batch, &room, candidates, count, TRUE, FALSE);
    take(batch, &room, candidates, count, !room.unhealthy_first, TRUE);
    batch->places = room.free == G_MAXUINT ? 0 : room.free;
    batch->reason = explain(batch, &room, candidates, count, ignore_limits);
    return batch;
}

GPtrArray *vr_planner_plan(const VrUpgradePolicy *policy, const VrCandidate *candidates, guint count,
                           gboolean ignore_limits)
{
    GPtrArray *plan = g_ptr_array_new_with_free_func((GDestroyNotify)vr_batch_free);
    g_autofree VrCandidate *state = g_memdup2(candidates, sizeof(*candidates) * count);
    VrBatch *batch;

    while ((batch = vr_planner_next_batch(policy, state, count, ignore_limits, NULL)) != NULL) {
        for (guint i = 0; i < batch->members->len; i++) {
            VrCandidate *moved = &state[g_array_index(batch->members, guint, i)];

            moved->status = VR_CANDIDATE_DONE;
            moved->down = FALSE; /* everything goes well: it is healthy on its new disk */
        }
        g_ptr_array_add(plan, batch);
    }
    return plan;
}
