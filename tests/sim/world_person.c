/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The people of a world, and messages that nobody waits for. */
#include "tests/sim/world_private.h"

/* The domain of any instance, now and then one that is not there. */
static guint draw_domain(World *world)
{
    if (world_chance(world, 100))
        return world->domains;
    return world->instances[world_below(world, world->config.count)].upgrade_domain;
}

static void says(World *world, VrEventType type)
{
    VrEvent event = {.type = type, .instance = type == VR_EVENT_WALK ? draw_domain(world) : 0};

    world_deliver(world, &event);
}

/* What is said to a process before it starts counts from its start. */
void world_early_words(World *world)
{
    static const VrEventType early[] = {VR_EVENT_PAUSE, VR_EVENT_RESUME, VR_EVENT_APPROVE};

    if (world_chance(world, 150))
        says(world, early[world_below(world, G_N_ELEMENTS(early))]);
}

/* Any order at any moment. */
void world_operate(World *world)
{
    static const VrEventType orders[] = {
        VR_EVENT_CANCEL, VR_EVENT_CANCEL_NOW, VR_EVENT_WITHDRAWN, VR_EVENT_PAUSE,   VR_EVENT_PAUSE,   VR_EVENT_PAUSE,
        VR_EVENT_RESUME, VR_EVENT_RESUME,     VR_EVENT_RESUME,    VR_EVENT_APPROVE, VR_EVENT_APPROVE, VR_EVENT_WALK,
        VR_EVENT_WALK,   VR_EVENT_PROMOTE,    VR_EVENT_PROMOTE,   VR_EVENT_RECALL,
    };

    VrEventType order = orders[world_below(world, G_N_ELEMENTS(orders))];

    says(world, order);
    if (order == VR_EVENT_PAUSE && world_chance(world, 400)) { /* thinks better of it */
        world->now_ms += world_below(world, 20000);
        says(world, VR_EVENT_RESUME);
    }
}

/* Somebody comes to a run that is held, after seconds or after days, and mostly does what it waits for. */
void world_person_acts(World *world)
{
    static const VrEventType fitting[] = {
        [VR_HOLD_PAUSED] = VR_EVENT_RESUME,  [VR_HOLD_APPROVAL] = VR_EVENT_APPROVE,   [VR_HOLD_WALK] = VR_EVENT_WALK,
        [VR_HOLD_CANARY] = VR_EVENT_PROMOTE, [VR_HOLD_CHECKPOINT] = VR_EVENT_PROMOTE, [VR_HOLD_BAKE] = VR_EVENT_PROMOTE,
        [VR_HOLD_WINDOW] = VR_EVENT_RESUME, /* in vain */
    };
    VrRolloutView view;

    vr_rollout_view(world->rollout, &view);
    world->now_ms += 1 + world_below(world, world_chance(world, 700) ? 30000 : 3 * 86400000);
    if (view.hold == VR_HOLD_NONE || world_chance(world, 250))
        world_operate(world);
    else if (view.hold == VR_HOLD_WINDOW && world_chance(world, 100))
        says(world, VR_EVENT_CANCEL);
    else
        says(world, fitting[view.hold]);
}

/* A double of something old, or an answer that nobody asked for. */
void world_say_stale(World *world)
{
    VrEvent event = {.type = world_below(world, VR_EVENT_RECALL + 1),
                     .instance = world_below(world, world->config.count + 2),
                     .outcome = world_below(world, 4),
                     .reason = "late",
                     .answers = world->answers};

    if (world->past->len > 0 && world_chance(world, 700))
        event = g_array_index(world->past, VrEvent, world_below(world, world->past->len));
    if (!check_awaits(world->check, &event, world->now_ms))
        world_deliver(world, &event);
}
