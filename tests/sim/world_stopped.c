/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * An owner that was stopped while another took over, and wakes (SAFETY 22). It looks as before, but whatever it wants to change is refused,
 * as vr_owner_check() does before each change: it answers with a failure, and the guests are not touched. So it must come to its end.
 */
#include "tests/sim/world_private.h"

void world_stop(World *world)
{
    Stopped *stopped = g_new0(Stopped, 1);

    *stopped = (Stopped){world->rollout, check_copy(world->check), g_array_copy(world->errands), 0};
    world->stopped = stopped;
    world->rollout = NULL;
}

void world_forget_stopped(World *world)
{
    if (world->stopped == NULL)
        return;
    vr_rollout_free(world->stopped->rollout);
    check_free(world->stopped->check);
    g_array_unref(world->stopped->errands);
    g_clear_pointer(&world->stopped, g_free);
}

/* What it was told to do before it was stopped may have come to any end; its undo is refused as all the rest. */
static VrOutcome fenced_outcome(World *world, const Errand *errand)
{
    switch (errand->type) {
    case VR_COMMAND_GATE:
    case VR_COMMAND_PROBE:
        return world_outcome(world, errand->type, errand->instance);
    case VR_COMMAND_NOTICE:
        return world_outcome(world, errand->type, errand->instance);
    case VR_COMMAND_PREPARE:
        if (errand->fenced)
            return VR_OUTCOME_UNTOUCHED; /* its swap could not be begun */
        return world_chance(world, 500) ? VR_OUTCOME_OK : VR_OUTCOME_UNKNOWN;
    case VR_COMMAND_SWAP:
        if (!errand->fenced && world_chance(world, 500))
            return VR_OUTCOME_OK;
        return errand->fenced || world_chance(world, 500) ? VR_OUTCOME_UNKNOWN : VR_OUTCOME_FAILED;
    case VR_COMMAND_COMMIT:
        return !errand->fenced && world_chance(world, 500) ? VR_OUTCOME_OK : VR_OUTCOME_FAILED;
    default:
        return !errand->fenced && world_chance(world, 500) ? VR_OUTCOME_OK : VR_OUTCOME_UNKNOWN;
    }
}

/* Its one batch is the one whose survey was out, or over, when it was stopped: it does not begin another. A rollback goes on to its end,
 * since its ways stay open (decision 6), but it moves nothing. */
static void commands_are_refused(World *world)
{
    Stopped *stopped = world->stopped;

    for (guint k = 0; k < world->commands->len; k++) {
        const VrCommand *command = &g_array_index(world->commands, VrCommand, k);

        if (command->type == VR_COMMAND_BATCH_BEGIN)
            stopped->batches++;
        else if (command->type != VR_COMMAND_BATCH_END && command->type != VR_COMMAND_HOLD &&
                 command->type != VR_COMMAND_RECALL && command->type != VR_COMMAND_FINISH)
            world_add_errand(world, stopped->errands, command, TRUE);
    }
    if (stopped->batches > 1 && world->config.kind != VR_RUN_ROLLBACK && world->violation == NULL)
        world->violation = g_strdup("an owner that was fenced begins one batch after the other");
}

static void deliver(World *world, const VrEvent *event)
{
    Stopped *stopped = world->stopped;
    VrRolloutView view;

    world->steps++;
    world_tell(world, "the stopped one: %s %u", world_event_name(event->type), event->instance);
    g_array_set_size(world->commands, 0);
    vr_rollout_step(stopped->rollout, event, world->now_ms, world->commands);
    vr_rollout_view(stopped->rollout, &view);
    check_step(stopped->check, event, world->now_ms, world->commands, &view);
    if (check_violation(stopped->check) != NULL && world->violation == NULL)
        world->violation = g_strdup_printf("the stopped one: %s", check_violation(stopped->check));
    commands_are_refused(world);
    if (view.finished)
        world_forget_stopped(world);
}

/* A window in which no batch fits: only a person ends that. */
static gboolean looks_for_ever(World *world)
{
    VrRolloutView view;

    vr_rollout_view(world->stopped->rollout, &view);
    return view.hold == VR_HOLD_WINDOW && world_chance(world, 50);
}

void world_stopped_acts(World *world)
{
    g_autofree char *reason = NULL;
    VrEvent event;
    Errand errand;

    if (world->stopped->errands->len == 0 || looks_for_ever(world)) {
        world_forget_stopped(world); /* it waits for a person, and nobody comes to it any more */
        return;
    }
    errand = world_next_errand(world, world->stopped->errands);
    world->now_ms = MAX(world->now_ms, errand.due_ms);
    event = (VrEvent){.type = world_answer_type(errand.type), .instance = errand.instance};
    if (event.type == VR_EVENT_SURVEY)
        world_survey(world, &event);
    else if (event.type == VR_EVENT_WINDOW)
        event.window = world_look_at_window(world);
    else if (event.type != VR_EVENT_WAKE)
        event.outcome = fenced_outcome(world, &errand);
    if (event.outcome != VR_OUTCOME_OK && event.type != VR_EVENT_SURVEY)
        event.reason = reason = g_strdup("the set has another owner by now");
    deliver(world, &event);
}
