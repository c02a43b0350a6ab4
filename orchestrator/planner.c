/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/planner_private.h"

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

void vr_planner_spread(const VrLabel *roles, guint count, guint upgrade_domain_count, guint *domains)
{
    g_autofree guint *seen = NULL;
    guint last = 0;

    for (guint i = 0; i < count; i++)
        last = MAX(last, roles[i].number);
    seen = g_new0(guint, last + 1);
    for (guint i = 0; i < count; i++)
        domains[i] = vr_planner_upgrade_domain(seen[roles[i].number]++, upgrade_domain_count);
}

void vr_batch_free(VrBatch *batch)
{
    if (batch == NULL)
        return;
    g_array_unref(batch->members);
    g_free(batch->reason);
    g_free(batch);
}

gboolean vr_planner_is_counted(const VrCandidate *candidate)
{
    return candidate->down || !candidate->off;
}

gboolean vr_planner_holds_place(const VrCandidate *candidate)
{
    gboolean left = candidate->left_failed && candidate->status == VR_CANDIDATE_PENDING;
    gboolean out = candidate->is_protected && candidate->status != VR_CANDIDATE_DONE;

    return candidate->down && !left && !out;
}

/* ---- who could go ---- */

static gboolean serves(const VrCandidate *candidate)
{
    return !candidate->down && !candidate->off;
}

gboolean vr_room_waits(const VrCandidate *candidate)
{
    return candidate->status == VR_CANDIDATE_PENDING && !candidate->held;
}

guint64 vr_room_phase(const VrCandidate *candidate)
{
    guint model = candidate->phase - 1, guest = candidate->guest_phase - 1; /* none becomes the largest number */

    return (guint64)model << 32 | guest;
}

guint64 vr_room_group(const VrRoom *room, const VrCandidate *candidate)
{
    return (guint64)candidate->upgrade_domain << 32 | (room->policy->cross_zone ? 0 : candidate->zone.number);
}

gboolean vr_room_goes_first(const VrRoom *room, const VrCandidate *candidate)
{
    return candidate->down && (room->unhealthy_first || candidate->left_failed); /* D12, decision 6 */
}

gboolean vr_room_has_turn(const VrRoom *room, const VrCandidate *candidate)
{
    guint64 phase = vr_room_phase(candidate);

    return vr_room_waits(candidate) &&
           (phase == room->phase || (vr_room_goes_first(room, candidate) && phase >> 32 == room->phase >> 32));
}

VrObstacle vr_room_obstacle(const VrRoom *room, const VrCandidate *candidate)
{
    guint8 pair = room->pairs[candidate->pair.number];

    if (serves(candidate) ? room->free == 0 : !room->takes_down)
        return VR_OBSTACLE_PLACE; /* D6 */
    if (serves(candidate) && room->spare[candidate->role.number] == 0)
        return VR_OBSTACLE_ROLE; /* D8 */
    if (pair & VR_PAIR_TAKEN || (pair & VR_PAIR_DOWN && !candidate->down))
        return VR_OBSTACLE_PAIR; /* D10 */
    return VR_OBSTACLE_NONE;
}

static gboolean can_take(const VrRoom *room, guint i)
{
    const VrCandidate *candidate = &room->candidates[i];

    return vr_room_has_turn(room, candidate) && vr_room_obstacle(room, candidate) == VR_OBSTACLE_NONE;
}

/* ---- measuring ---- */

static void count_all(VrRoom *room)
{
    room->phase = G_MAXUINT64;
    for (guint i = 0; i < room->count; i++) {
        const VrCandidate *candidate = &room->candidates[i];

        room->counted += vr_planner_is_counted(candidate) ? 1 : 0;
        room->down += vr_planner_holds_place(candidate) ? 1 : 0;
        room->pending += candidate->status == VR_CANDIDATE_PENDING ? 1 : 0;
        if (vr_room_waits(candidate))
            room->phase = MIN(room->phase, vr_room_phase(candidate));
        room->roles = MAX(room->roles, candidate->role.number + 1);
        room->pair_count = MAX(room->pair_count, candidate->pair.number + 1);
    }
}

/* How many of each role may be taken that serve now: all but one, or all of a role of one. What is left of a role whose
 * others are down is kept, unless limits are ignored. And which pairs have one that is down. */
static void measure_labels(VrRoom *room)
{
    g_autofree guint *sizes = g_new0(guint, room->roles);

    room->spare = g_new0(guint, room->roles);
    room->pairs = g_new0(guint8, room->pair_count);
    for (guint i = 0; i < room->count && room->roles + room->pair_count > 2; i++) {
        const VrCandidate *candidate = &room->candidates[i];

        sizes[candidate->role.number] += vr_planner_is_counted(candidate) ? 1 : 0;
        room->spare[candidate->role.number] += serves(candidate) ? 1 : 0;
        room->pairs[candidate->pair.number] |= candidate->down && !room->ignore_limits ? VR_PAIR_DOWN : 0;
    }
    for (guint role = 1; role < room->roles; role++) {
        gboolean last = room->spare[role] == 1 && room->ignore_limits;

        if (sizes[role] >= 2 && room->spare[role] > 0 && !last)
            room->spare[role]--;
    }
    room->spare[0] = G_MAXUINT; /* without a role, without a pair */
    room->pairs[0] = 0;
}

static void measure(VrRoom *room)
{
    const VrUpgradePolicy *policy = room->policy;

    room->roles = room->pair_count = 1;
    room->wish = policy->by_domain ? room->count : vr_planner_allowed(room->count, policy->max_batch_percent);
    room->size = policy->max_in_flight > 0 ? MIN(room->wish, policy->max_in_flight) : room->wish;
    room->unhealthy_first = policy->prioritize_unhealthy || room->ignore_limits; /* D12, decision 6 */
    count_all(room);
    measure_labels(room);
    room->allowed = vr_planner_allowed(room->counted, policy->max_unhealthy_percent); /* decision 14 */
    room->takes_down = room->ignore_limits || room->down <= room->allowed;
    if (room->ignore_limits)
        room->free = G_MAXUINT;
    else
        room->free = room->allowed > room->down ? room->allowed - room->down : 0; /* D6 */
}

static void room_clear(VrRoom *room)
{
    g_free(room->spare);
    g_free(room->pairs);
    g_free(room->taken);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(VrRoom, room_clear)

/* ---- the batch ---- */

/* The group of the next batch is that of the candidate it gives: of the lowest group out of which something can be taken, but
 * with unhealthy_first of the lowest one that has a down instance to move. A group from which nothing fits does not hold up a
 * down instance elsewhere: moving that one may be what frees the place. */
static const VrCandidate *choose(const VrRoom *room)
{
    const VrCandidate *best = NULL;
    gboolean best_first = FALSE;

    for (guint i = 0; i < room->count; i++) {
        const VrCandidate *candidate = &room->candidates[i];
        gboolean first = vr_room_goes_first(room, candidate);

        if (!can_take(room, i) || (best_first && !first))
            continue;
        if (best == NULL || first != best_first || vr_room_group(room, candidate) < vr_room_group(room, best))
            best = candidate;
        best_first = first;
    }
    return best;
}

static void take_one(VrBatch *batch, VrRoom *room, guint i)
{
    const VrCandidate *candidate = &room->candidates[i];

    g_array_append_val(batch->members, i);
    room->taken[i] = TRUE;
    if (serves(candidate) && room->free != G_MAXUINT)
        room->free--;
    if (serves(candidate) && candidate->role.number > 0)
        room->spare[candidate->role.number]--;
    if (candidate->pair.number > 0)
        room->pairs[candidate->pair.number] |= VR_PAIR_TAKEN;
}

/* Takes what can be taken of the batch's group in order, either those that go first or the others. */
static void take(VrBatch *batch, VrRoom *room, guint64 group, gboolean first)
{
    for (guint i = 0; i < room->count && batch->members->len < room->size; i++) {
        const VrCandidate *candidate = &room->candidates[i];

        if (vr_room_group(room, candidate) != group || !can_take(room, i))
            continue; /* decision 11: a batch crosses no upgrade domain and no zone */
        if (vr_room_goes_first(room, candidate) == first)
            take_one(batch, room, i);
    }
}

/* Why nothing can be taken, of what is left. */
static VrPlannerBlock find_block(const VrRoom *room)
{
    static const VrPlannerBlockKind kinds[] = {
        [VR_OBSTACLE_PLACE] = VR_BLOCK_PLACE, [VR_OBSTACLE_ROLE] = VR_BLOCK_ROLE, [VR_OBSTACLE_PAIR] = VR_BLOCK_PAIR};

    if (room->pending == 0)
        return (VrPlannerBlock){VR_BLOCK_NONE, 0};
    for (guint i = 0; i < room->count; i++) {
        const VrCandidate *candidate = &room->candidates[i];

        if (vr_room_has_turn(room, candidate))
            return (VrPlannerBlock){kinds[vr_room_obstacle(room, candidate)], i};
    }
    return (VrPlannerBlock){VR_BLOCK_PLACE, 0};
}

VrBatch *vr_planner_next_batch(const VrUpgradePolicy *policy, const VrCandidate *candidates, guint count,
                               gboolean ignore_limits, VrPlannerBlock *block)
{
    g_auto(VrRoom) room = {.policy = policy, .candidates = candidates, .count = count, .ignore_limits = ignore_limits};
    const VrCandidate *first;
    VrBatch *batch;
    guint64 group;

    measure(&room);
    first = choose(&room);
    if (block != NULL)
        *block = first != NULL ? (VrPlannerBlock){VR_BLOCK_NONE, 0} : find_block(&room);
    if (first == NULL)
        return NULL;
    batch = g_new0(VrBatch, 1);
    batch->members = g_array_new(FALSE, FALSE, sizeof(guint));
    batch->upgrade_domain = first->upgrade_domain;
    batch->zone = policy->cross_zone ? NULL : first->zone.name;
    batch->phase = first->phase;
    room.taken = g_new0(guint8, count);
    group = vr_room_group(&room, first);
    if (vr_room_goes_first(&room, first))
        take(batch, &room, group, TRUE);
    take(batch, &room, group, FALSE);
    batch->places = room.free == G_MAXUINT ? 0 : room.free;
    batch->reason = vr_room_explain(&room, batch, group);
    return batch;
}

GPtrArray *vr_planner_plan(const VrUpgradePolicy *policy, const VrCandidate *candidates, guint count,
                           gboolean ignore_limits, VrPlannerBlock *block)
{
    GPtrArray *plan = g_ptr_array_new_with_free_func((GDestroyNotify)vr_batch_free);
    g_autofree VrCandidate *state = g_memdup2(candidates, sizeof(*candidates) * count);
    VrBatch *batch;

    while ((batch = vr_planner_next_batch(policy, state, count, ignore_limits, block)) != NULL) {
        for (guint i = 0; i < batch->members->len; i++) {
            VrCandidate *moved = &state[g_array_index(batch->members, guint, i)];

            moved->status = VR_CANDIDATE_DONE;
            moved->down = FALSE; /* everything goes well: it is healthy on its new disk */
        }
        g_ptr_array_add(plan, batch);
    }
    return plan;
}
