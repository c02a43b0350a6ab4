/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Why a batch is as it is, in words for a person. */
#include "orchestrator/planner_private.h"

#define ROLES_NAMED 3

/* Those of the upgrade domain that wait and are not in the batch, by what keeps them out. */
typedef struct {
    guint by[VR_OBSTACLE_PAIR + 1]; /* of the batch's own group; NONE: only its size */
    guint other_zones, later;
} Left;

static const VrCandidate *member(const VrRoom *room, const VrBatch *batch, guint k)
{
    return &room->candidates[g_array_index(batch->members, guint, k)];
}

static Left count_left(const VrRoom *room, const VrBatch *batch, guint64 group)
{
    Left left = {0};
    gboolean asked = batch->members->len < room->wish || room->policy->by_domain;

    for (guint i = 0; i < room->count && asked; i++) {
        const VrCandidate *candidate = &room->candidates[i];

        if (candidate->upgrade_domain != batch->upgrade_domain || room->taken[i] || !vr_room_waits(candidate))
            continue;
        if (!vr_room_has_turn(room, candidate))
            left.later++;
        else if (vr_room_group(room, candidate) != group)
            left.other_zones++;
        else
            left.by[vr_room_obstacle(room, candidate)]++;
    }
    return left;
}

/* "phase 1, UD 0, zone a, roles web, worker" */
static void append_labels(GString *text, const VrRoom *room, const VrBatch *batch)
{
    g_autofree guint8 *seen = g_new0(guint8, room->roles);
    g_autoptr(GString) roles = g_string_new(NULL);
    const VrCandidate *last = member(room, batch, batch->members->len - 1); /* an unhealthy one may be of any phase */
    guint guest_phase = vr_room_phase(last) == room->phase ? last->guest_phase : 0, named = 0;

    if (batch->phase > 0)
        g_string_append_printf(text, "phase %u, ", batch->phase);
    if (guest_phase > 0)
        g_string_append_printf(text, "phase %u of the guests, ", guest_phase - 1);
    g_string_append_printf(text, "UD %u", batch->upgrade_domain);
    if (batch->zone != NULL)
        g_string_append_printf(text, ", zone %s", batch->zone);
    for (guint k = 0; k < batch->members->len; k++) {
        const VrLabel *role = &member(room, batch, k)->role;

        if (role->number == 0 || seen[role->number])
            continue;
        seen[role->number] = TRUE;
        if (named++ < ROLES_NAMED)
            g_string_append_printf(roles, "%s%s", named > 1 ? ", " : "", role->name);
    }
    if (named > 0)
        g_string_append_printf(text, ", role%s %s", named > 1 ? "s" : "", roles->str);
    if (named > ROLES_NAMED)
        g_string_append_printf(text, " and %u more", named - ROLES_NAMED);
}

static void append_limits(GString *text, const VrRoom *room, const VrBatch *batch, guint down, const Left *left)
{
    guint places = left->by[VR_OBSTACLE_PLACE] + left->by[VR_OBSTACLE_NONE];

    if (batch->members->len >= room->wish)
        return;
    if (places > 0) {
        g_string_append_printf(text, ", not %u: ", MIN(room->wish, batch->members->len + places));
        if (batch->members->len == room->size)
            g_string_append_printf(text, "at most %u of a host may be on their way", room->size);
        else if (room->down > down)
            g_string_append_printf(text, "%u down elsewhere", room->down - down);
        else
            g_string_append_printf(text, "at most %u may be down at once", room->allowed);
    }
    if (left->by[VR_OBSTACLE_ROLE] > 0)
        g_string_append_printf(text, ", not %u more: the last of their role that serve", left->by[VR_OBSTACLE_ROLE]);
    if (left->by[VR_OBSTACLE_PAIR] > 0)
        g_string_append_printf(text, ", not %u more: pairs go apart", left->by[VR_OBSTACLE_PAIR]);
}

/* D30: what else the upgrade domain has. */
static void append_rest(GString *text, const Left *left)
{
    if (left->other_zones > 0)
        g_string_append_printf(text, ", %u more in other zones", left->other_zones);
    if (left->later > 0)
        g_string_append_printf(text, ", %u more in later phases", left->later);
}

char *vr_room_explain(const VrRoom *room, const VrBatch *batch, guint64 group)
{
    GString *text = g_string_new(NULL);
    Left left = count_left(room, batch, group);
    guint down = 0, first = 0, left_failed = 0, size = batch->members->len;

    for (guint k = 0; k < size; k++) {
        const VrCandidate *candidate = member(room, batch, k);

        down += vr_planner_holds_place(candidate) ? 1 : 0;
        first += vr_room_goes_first(room, candidate) ? 1 : 0;
        left_failed += candidate->down && candidate->left_failed ? 1 : 0;
    }
    append_labels(text, room, batch);
    g_string_append_printf(text, ": %u of %u (%u%%)", size, room->count, (guint)((guint64)size * 100 / room->count));
    if (first > 0)
        g_string_append(text, ", unhealthy first");
    if (left_failed > 0)
        g_string_append_printf(text, ", %u that an earlier run left failed", left_failed);
    if (room->ignore_limits && room->down > room->allowed)
        g_string_append_printf(text, ", although %u are down and at most %u may be", room->down, room->allowed);
    append_limits(text, room, batch, down, &left);
    if (room->policy->by_domain)
        append_rest(text, &left);
    return g_string_free(text, FALSE);
}
