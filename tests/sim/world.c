/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/sim/world_private.h"

static const char *const words[WORDS] = {"agent", "kernel", "disk", "network", "service"};

static const char *const event_names[] = {
    [VR_EVENT_START] = "START",       [VR_EVENT_SURVEY] = "SURVEY",         [VR_EVENT_PREPARED] = "PREPARED",
    [VR_EVENT_SWAPPED] = "SWAPPED",   [VR_EVENT_PROBED] = "PROBED",         [VR_EVENT_COMMITTED] = "COMMITTED",
    [VR_EVENT_RESTORED] = "RESTORED", [VR_EVENT_DISCARDED] = "DISCARDED",   [VR_EVENT_WAKE] = "WAKE",
    [VR_EVENT_CANCEL] = "CANCEL",     [VR_EVENT_CANCEL_NOW] = "CANCEL_NOW", [VR_EVENT_WITHDRAWN] = "WITHDRAWN",
    [VR_EVENT_GATE] = "GATE",         [VR_EVENT_PAUSE] = "PAUSE",           [VR_EVENT_RESUME] = "RESUME",
    [VR_EVENT_APPROVE] = "APPROVE",   [VR_EVENT_PROMOTE] = "PROMOTE",       [VR_EVENT_WALK] = "WALK",
    [VR_EVENT_NOTICED] = "NOTICED",   [VR_EVENT_RECALL] = "RECALL",         [VR_EVENT_WINDOW] = "WINDOW",
};
const char *world_event_name(VrEventType type)
{
    return event_names[type];
}

static const char *const outcome_names[] = {[VR_OUTCOME_OK] = "ok",
                                            [VR_OUTCOME_FAILED] = "failed",
                                            [VR_OUTCOME_UNTOUCHED] = "untouched",
                                            [VR_OUTCOME_UNKNOWN] = "unknown",
                                            [VR_OUTCOME_CANCELLED] = "cancelled"};
static const char *const command_names[] = {
    [VR_COMMAND_SURVEY] = "SURVEY",       [VR_COMMAND_BATCH_BEGIN] = "BATCH_BEGIN",
    [VR_COMMAND_BATCH_END] = "BATCH_END", [VR_COMMAND_PREPARE] = "PREPARE",
    [VR_COMMAND_SWAP] = "SWAP",           [VR_COMMAND_PROBE] = "PROBE",
    [VR_COMMAND_COMMIT] = "COMMIT",       [VR_COMMAND_RESTORE] = "RESTORE",
    [VR_COMMAND_DISCARD] = "DISCARD",     [VR_COMMAND_WAKE] = "WAKE",
    [VR_COMMAND_GATE] = "GATE",           [VR_COMMAND_HOLD] = "HOLD",
    [VR_COMMAND_FINISH] = "FINISH",       [VR_COMMAND_NOTICE] = "NOTICE",
    [VR_COMMAND_RECALL] = "RECALL",       [VR_COMMAND_WINDOW] = "WINDOW",
};

void world_tell(World *world, const char *format, ...)
{
    va_list args;

    if (world->story == NULL)
        return;
    va_start(args, format);
    g_string_append_printf(world->story, "%8" G_GINT64_FORMAT " ms  ", world->now_ms);
    g_string_append_vprintf(world->story, format, args);
    g_string_append_c(world->story, '\n');
    va_end(args);
}

static void world_clear(World *world)
{
    g_free(world->instances);
    g_free(world->guests);
    g_free(world->answers);
    g_free(world->wishes);
    g_array_unref(world->errands);
    g_array_unref(world->past);
    g_array_unref(world->commands);
    vr_rollout_free(world->rollout);
    check_free(world->check);
    world_forget_stopped(world);
    check_free(world->kept_check);
    g_free(world->saved);
}

static void count_guest(World *world, const Guest *guest, guint by)
{
    if (guest->left || guest->guarded)
        return;
    world->taken += guest->taken ? by : 0;
    world->sick += !guest->taken && guest->sick ? by : 0;
}

void world_guest_becomes(World *world, guint i, gboolean taken, gboolean sick)
{
    Guest *guest = &world->guests[i];

    count_guest(world, guest, -1u);
    guest->guarded = guest->guarded && !(taken && !guest->sick);
    guest->taken = taken;
    guest->sick = sick;
    count_guest(world, guest, 1);
}

void world_found_well(World *world, guint i)
{
    Guest *guest = &world->guests[i];

    count_guest(world, guest, -1u);
    guest->left = FALSE;
    guest->guarded = guest->guarded && !guest->taken;
    count_guest(world, guest, 1);
}

/* Its owner turns it off or on. One that ran and was upgraded has only the upgrade to blame. */
static void changes_power(World *world, guint i)
{
    Guest *guest = &world->guests[i];

    if (guest->upgraded && guest->ran && !guest->off) {
        guest->fell = TRUE;
        world_guest_becomes(world, i, FALSE, TRUE);
    } else {
        guest->off = !guest->off;
        world_guest_becomes(world, i, FALSE, FALSE);
    }
}

/* Health comes and goes by itself, at guests that nobody works on. */
static void drift(World *world)
{
    guint i = world_below(world, world->config.count);
    Guest *guest = &world->guests[i];

    if ((world->chances.quiet && world->in_batch) || guest->taken)
        return;
    if (!guest->fell && world_chance(world, world->chances.power))
        changes_power(world, i);
    if (guest->off)
        return;
    if (!guest->sick &&
        (world_chance(world, world->chances.drift) || (guest->upgraded && world_chance(world, world->chances.relapse))))
        world_guest_becomes(world, i, FALSE, TRUE);
    else if (guest->sick && world_chance(world, world->chances.recover)) {
        guest->fell = FALSE;
        world_guest_becomes(world, i, FALSE, FALSE);
    }
}

void world_add_errand(World *world, GArray *errands, const VrCommand *command, gboolean fenced)
{
    guint most_ms = command->type == VR_COMMAND_NOTICE ? 1200000 : 20000;
    Errand errand = {command->type, command->instance, world->now_ms + 1 + world_below(world, most_ms), fenced};

    if (command->type == VR_COMMAND_WAKE) {
        errand.due_ms = command->at_ms;
        for (guint k = 0; k < errands->len; k++) {
            if (g_array_index(errands, Errand, k).type == VR_COMMAND_WAKE)
                g_array_remove_index_fast(errands, k--); /* a later one replaces it */
        }
    }
    g_array_append_val(errands, errand);
}

/* Nothing changes by itself under a batch, and no host vanishes: what cannot be reached counts as down. */
gboolean world_stands_still(const World *world)
{
    return world->chances.quiet && world->chances.vanish == 0;
}

/* 17, in truth: only in a world that stands still. */
static void count_down(World *world)
{
    guint percent = world->config.policy.max_unhealthy_percent;
    guint down = world->taken + world->sick;

    if (!world_stands_still(world) || world->config.kind == VR_RUN_ROLLBACK || world->violation != NULL)
        return;
    if (down > 1 && (guint64)down * 100 > (guint64)world->config.count * percent)
        world->violation =
            g_strdup_printf("%u guests of %u are down, for a limit of %u%%", down, world->config.count, percent);
}

/* 21: one that came good is not moved again. */
static void begins_swap(World *world, guint i)
{
    Guest *guest = &world->guests[i];

    if (guest->upgraded && world->violation == NULL)
        world->violation = g_strdup_printf("instance %u is moved once more", i);
    guest->ran = !guest->off;
    guest->swapping = TRUE;
    guest->dark = world_chance(world, 500);
    guest->ran_new = FALSE;
    guest->open = SWAP_OVER;
    world_guest_becomes(world, i, !guest->off, FALSE);
}

static void obey(World *world)
{
    RoleCounts before = {0};
    gboolean swapped = FALSE;

    for (guint k = 0; k < world->commands->len; k++) {
        const VrCommand *command = &g_array_index(world->commands, VrCommand, k);

        world_tell(world, "    -> %s %u (batch %u, at %" G_GINT64_FORMAT ") %s", command_names[command->type],
                   command->instance, command->batch_number, command->at_ms,
                   command->text != NULL ? command->text : "");
        switch (command->type) {
        case VR_COMMAND_BATCH_BEGIN:
            world->in_batch = TRUE;
            world_batch_begins(world);
            break;
        case VR_COMMAND_BATCH_END:
            world->in_batch = FALSE;
            world_batch_ends(world);
            break;
        case VR_COMMAND_HOLD:
        case VR_COMMAND_FINISH:
            break;
        case VR_COMMAND_RECALL:
            world->guests[command->instance].recalled = TRUE;
            break;
        case VR_COMMAND_NOTICE:
            world->guests[command->instance].recalled = FALSE;
            world_add_errand(world, world->errands, command, FALSE);
            break;
        case VR_COMMAND_SWAP:
            if (!swapped)
                before = world_count_roles(world);
            begins_swap(world, command->instance);
            swapped = TRUE;
            world_add_errand(world, world->errands, command, FALSE);
            break;
        default:
            world_add_errand(world, world->errands, command, FALSE);
        }
    }
    if (swapped) {
        count_down(world);
        world_look_at_roles(world, &before);
    }
}

/* The run has seen them well now. */
static void note_the_well(World *world, const VrEvent *event)
{
    for (guint i = 0; event->answers != NULL && i < world->config.count; i++) {
        if (event->answers[i] != VR_SURVEY_UNHEALTHY)
            world_found_well(world, i);
    }
}

/* The executor writes what became of an instance before it writes the state (take() in orchestrator/executor.c). */
static void dies_before(World *world, const VrEvent *event)
{
    if (world->crash == CRASH_BETWEEN) {
        world_keep_last(world);
        g_array_set_size(world->commands, 0);
        vr_rollout_step(world->rollout, event, world->now_ms, world->commands);
    }
    world_restart(world);
}

void world_deliver(World *world, const VrEvent *event)
{
    VrRolloutView view;
    gboolean seen;

    world->steps++;
    world_tell(world, "%s %u %s %s", event_names[event->type], event->instance, outcome_names[event->outcome],
               event->reason != NULL ? event->reason : "");
    if (world->crash == CRASH_LOST || world->crash == CRASH_BETWEEN) {
        dies_before(world, event);
        return;
    }
    seen = event->type == VR_EVENT_SURVEY && check_awaits(world->check, event, world->now_ms);
    g_array_set_size(world->commands, 0);
    vr_rollout_step(world->rollout, event, world->now_ms, world->commands);
    vr_rollout_view(world->rollout, &view);
    check_step(world->check, event, world->now_ms, world->commands, &view);
    check_gate_batch(world->check, vr_rollout_gate_batch(world->rollout));
    if (check_violation(world->check) != NULL && world->violation == NULL)
        world->violation = g_strdup(check_violation(world->check));
    if (seen)
        note_the_well(world, event);
    world->kept = TRUE;
    world->kept_ms = world->now_ms;
    world->amends += view.point == VR_POINT_ENDING && view.error_code != NULL && !world->in_batch ? 1 : 0;
    if (world->crash == CRASH_KEPT)
        world_restart(world);
    else
        obey(world);
}

/* Its host cannot be reached. */
static gboolean has_vanished(const World *world, guint i)
{
    return world->now_ms < world->vanished_until && i % world->hosts == world->vanished_host;
}

VrOutcome world_outcome(World *world, VrCommandType type, guint instance)
{
    const Guest *guest = &world->guests[instance];
    static const VrOutcome unprepared[] = {VR_OUTCOME_FAILED, VR_OUTCOME_UNTOUCHED, VR_OUTCOME_CANCELLED};
    const Chances *chances = &world->chances;

    if (world_chance(world, chances->unknown))
        return VR_OUTCOME_UNKNOWN;
    switch (type) {
    case VR_COMMAND_GATE:
        if (world_chance(world, chances->gate_no))
            return world_chance(world, 500) ? VR_OUTCOME_FAILED : VR_OUTCOME_UNKNOWN;
        return VR_OUTCOME_OK;
    case VR_COMMAND_PREPARE:
        return world_chance(world, chances->unprepared) ? unprepared[world_below(world, 3)] : VR_OUTCOME_OK;
    case VR_COMMAND_NOTICE:
        if (guest->recalled && world_chance(world, 800))
            return VR_OUTCOME_CANCELLED;
        return world_chance(world, chances->busy) ? VR_OUTCOME_FAILED + world_below(world, 2) : VR_OUTCOME_OK;
    case VR_COMMAND_SWAP:
        return world_chance(world, chances->unswapped) ? VR_OUTCOME_FAILED + world_below(world, 2) : VR_OUTCOME_OK;
    case VR_COMMAND_PROBE:
        return !guest->off && (has_vanished(world, instance) || world_chance(world, chances->unhealthy))
                   ? VR_OUTCOME_FAILED
                   : VR_OUTCOME_OK;
    case VR_COMMAND_COMMIT:
        return world_chance(world, chances->unrecorded) ? VR_OUTCOME_FAILED : VR_OUTCOME_OK;
    default:
        return world_chance(world, chances->unrestored) ? VR_OUTCOME_FAILED : VR_OUTCOME_OK;
    }
}

/* What of its swap is left to a recovery, and whether its new disk has run. */
static void note_swap(World *world, guint i, VrEventType type, VrOutcome outcome)
{
    const VrRolloutConfig *config = &world->config;
    Guest *guest = &world->guests[i];
    gboolean stays = !config->policy.automatic_rollback || config->kind == VR_RUN_ROLLBACK;

    if (type == VR_EVENT_SWAPPED)
        guest->ran_new = outcome == VR_OUTCOME_OK || (outcome == VR_OUTCOME_FAILED && world_chance(world, 500));
    if (outcome == VR_OUTCOME_OK || outcome == VR_OUTCOME_UNKNOWN)
        return;
    if (type == VR_EVENT_COMMITTED)
        guest->open = SWAP_UNRECORDED;
    else if (type == VR_EVENT_RESTORED)
        guest->open = SWAP_NOT_BACK;
    else if (type == VR_EVENT_PROBED && stays && config->policy.restore_on_breach)
        guest->open = SWAP_LEFT;
}

/* What the answer means for the guest. */
static void settle(World *world, guint i, VrEventType type, VrOutcome outcome)
{
    gboolean good = outcome == VR_OUTCOME_OK && (type == VR_EVENT_PROBED || type == VR_EVENT_RESTORED);
    gboolean is_new = outcome == VR_OUTCOME_OK && type == VR_EVENT_COMMITTED;
    gboolean stays = type == VR_EVENT_SWAPPED && outcome == VR_OUTCOME_UNTOUCHED;

    note_swap(world, i, type, outcome);
    world->guests[i].upgraded = world->guests[i].upgraded || is_new;
    if (good)
        world_found_well(world, i);
    if (world->guests[i].taken && (good || stays))
        world_guest_becomes(world, i, FALSE, FALSE);
    else if (world->guests[i].taken && type == VR_EVENT_PROBED)
        world_guest_becomes(world, i, TRUE, TRUE);
}

/* D14: guests keep to what they said, or do not; one that is not well may say anything, or nothing. */
static gboolean is_off(const Guest *guest)
{
    return guest->off || guest->fell || (guest->taken && guest->dark);
}

static VrGuestWish say_wish(World *world, Guest *guest)
{
    if (world_chance(world, world->chances.fickle))
        guest->wish = world_draw_wish(world);
    if (is_off(guest) || ((guest->sick || guest->taken) && world_chance(world, 700)))
        return (VrGuestWish){0};
    return guest->wish;
}

void world_survey(World *world, VrEvent *event)
{
    for (guint i = 0; i < world->config.count; i++) {
        Guest *guest = &world->guests[i];

        world->wishes[i] = say_wish(world, guest);
        if (world->wishes[i].phase > 0 || world->wishes[i].skip)
            world_tell(world, "    guest %u asks for phase %d%s", i, (int)world->wishes[i].phase - 1,
                       world->wishes[i].skip ? " and to be left out" : "");
        if (is_off(guest))
            world->answers[i] = VR_SURVEY_OFF;
        else if (has_vanished(world, i) || (guest->taken ? !world_chance(world, world->chances.lies) : guest->sick))
            world->answers[i] = VR_SURVEY_UNHEALTHY;
        else
            world->answers[i] = VR_SURVEY_HEALTHY;
    }
    world_tell(world, "    %u down by us, %u sick", world->taken, world->sick);
    *event = (VrEvent){.type = VR_EVENT_SURVEY,
                       .answers = world->answers,
                       .window = world_look_at_window(world),
                       .wishes = world->chances.numbers + world->chances.skips > 0 ? world->wishes : NULL};
    if (world_chance(world, world->chances.blind) || (world->hosts == 1 && has_vanished(world, 0)))
        *event = (VrEvent){.type = VR_EVENT_SURVEY, .outcome = VR_OUTCOME_FAILED, .reason = "libvirt is gone"};
}

VrEventType world_answer_type(VrCommandType type)
{
    static const VrEventType types[] = {
        [VR_COMMAND_SURVEY] = VR_EVENT_SURVEY,    [VR_COMMAND_PREPARE] = VR_EVENT_PREPARED,
        [VR_COMMAND_NOTICE] = VR_EVENT_NOTICED,   [VR_COMMAND_SWAP] = VR_EVENT_SWAPPED,
        [VR_COMMAND_PROBE] = VR_EVENT_PROBED,     [VR_COMMAND_COMMIT] = VR_EVENT_COMMITTED,
        [VR_COMMAND_RESTORE] = VR_EVENT_RESTORED, [VR_COMMAND_DISCARD] = VR_EVENT_DISCARDED,
        [VR_COMMAND_WAKE] = VR_EVENT_WAKE,        [VR_COMMAND_GATE] = VR_EVENT_GATE,
        [VR_COMMAND_WINDOW] = VR_EVENT_WINDOW,
    };

    return types[type];
}

char *world_reason(World *world, guint instance)
{
    return g_strdup_printf("%s gave no answer on guest-%u", words[world_below(world, world->chances.words)], instance);
}

static void answer(World *world)
{
    Errand errand = world_next_errand(world, world->errands);
    g_autofree char *reason = NULL;
    VrEvent event = {.type = world_answer_type(errand.type), .instance = errand.instance};

    world->now_ms = MAX(world->now_ms, errand.due_ms);
    if (errand.type == VR_COMMAND_SURVEY || errand.type == VR_COMMAND_WINDOW) {
        if (errand.type == VR_COMMAND_SURVEY)
            world_survey(world, &event);
        else
            event.window = world_look_at_window(world);
        world_hears_late(world, &event.window);
        world_deliver(world, &event);
        return;
    }
    if (event.type == VR_EVENT_WAKE && world_chance(world, world->chances.late))
        world->now_ms += world_below(world, world_chance(world, 800) ? 90000 : 86400000);
    if (event.type == VR_EVENT_SWAPPED)
        event.off_ms = world_below(world, 10) * world->config.policy.max_off_ms / 8;
    if (event.type != VR_EVENT_WAKE)
        event.outcome = world_outcome(world, errand.type, errand.instance);
    if (event.outcome != VR_OUTCOME_OK)
        event.reason = reason = world_reason(world, errand.instance);
    if (event.type != VR_EVENT_GATE && check_awaits(world->check, &event, world->now_ms))
        settle(world, errand.instance, event.type, event.outcome);
    world_deliver(world, &event);
    event.reason = "late";
    g_array_append_val(world->past, event);
}

/* Usually the one that is due first, sometimes any (an answer that overtakes). */
Errand world_next_errand(World *world, GArray *errands)
{
    guint first = world_below(world, errands->len);
    Errand errand;

    if (!world_chance(world, 700) && g_array_index(errands, Errand, first).type != VR_COMMAND_WAKE) {
        for (guint k = 0; k < MIN(errands->len, 32); k++) {
            if (g_array_index(errands, Errand, k).due_ms < g_array_index(errands, Errand, first).due_ms)
                first = k;
        }
    }
    errand = g_array_index(errands, Errand, first);
    g_array_remove_index_fast(errands, first);
    return errand;
}

/* 27: a run that waits for nothing of this world waits for a person, and says so. Somebody comes, in the end. */
static void nothing_is_due(World *world)
{
    VrRolloutView view;

    vr_rollout_view(world->rollout, &view);
    if (view.hold == VR_HOLD_NONE || view.hold_until_ms != 0)
        world->violation = g_strdup("the run waits for nothing and is not over");
    else
        world_person_acts(world);
}

static gboolean is_held(const World *world)
{
    VrRolloutView view;

    vr_rollout_view(world->rollout, &view);
    return view.hold != VR_HOLD_NONE;
}

static gboolean makes_amends(const World *world)
{
    VrRolloutView view;

    vr_rollout_view(world->rollout, &view);
    return view.point == VR_POINT_ENDING && !world->in_batch;
}

/* Hosts come and go, and clocks jump. */
static void fates_of_hosts(World *world)
{
    if (world_chance(world, world->chances.jump))
        world->now_ms += world_below(world, 86400000);
    world_wall_jumps(world);
    if (world_chance(world, world->chances.vanish)) {
        world->vanished_until = world->now_ms + world_below(world, 600000);
        world->hosts = 1 + world_below(world, 3);
        world->vanished_host = world_below(world, world->hosts);
    }
}

Crash world_draw_crash(World *world)
{
    if (world->crashes_left == 0 || !world_chance(world, world->chances.crash))
        return CRASH_NONE;
    world->crashes_left--;
    return CRASH_LOST + world_below(world, 3);
}

static void one_step(World *world)
{
    fates_of_hosts(world);
    world->crash = world_draw_crash(world);
    if (world->stopped != NULL && world_chance(world, 200))
        world_stopped_acts(world);
    else if (world->stopped == NULL && world->crashes_left > 0 && world_chance(world, world->chances.second))
        world_take_over(world);
    else if (world->errands->len == 0)
        nothing_is_due(world);
    else if (world_chance(world, world->chances.stale))
        world_say_stale(world);
    else if (world_chance(world, world->chances.operator))
        world_operate(world);
    else if (world_chance(world, 100) && is_held(world))
        world_person_acts(world);
    else if (makes_amends(world) && world_chance(world, 300))
        world_deliver(world, &(VrEvent){.type = VR_EVENT_PROMOTE}); /* somebody who saw it bake */
    else
        answer(world);
    world->crash = CRASH_NONE;
}

static gboolean is_over(const World *world)
{
    VrRolloutView view;

    vr_rollout_view(world->rollout, &view);
    return view.finished;
}

static void ask_for_each(World *world)
{
    for (guint i = 0; i < world->config.count; i++)
        check_instance(world->check, i, vr_rollout_phase(world->rollout, i), vr_rollout_reason(world->rollout, i));
    if (check_violation(world->check) != NULL && world->violation == NULL)
        world->violation = g_strdup(check_violation(world->check));
}

/* After the end: nothing that still comes may do anything. */
static void afterwards(World *world)
{
    while (world->errands->len > 0 && world->violation == NULL)
        answer(world);
    for (guint k = 0; k < 5 && world->violation == NULL; k++) {
        world_say_stale(world);
        world_operate(world);
    }
}

char *world_run(guint64 seed, GString *story, WorldResult *result)
{
    World world;
    VrEvent start = {.type = VR_EVENT_START};
    VrRolloutView view;
    guint bound;

    world_init(&world, seed, story);
    bound = 1000 + 200 * world.config.count + (guint)(world.config.policy.bake_ms / 10000);
    bound += world.config.window ? 5000 : 0;
    bound *= 1 + world.crashes_left;
    world_early_words(&world);
    world.crash = world_draw_crash(&world);
    world_deliver(&world, &start);
    world.crash = CRASH_NONE;
    while (!is_over(&world) && world.violation == NULL) {
        drift(&world);
        one_step(&world);
        if (world.steps > bound && world.violation == NULL)
            world.violation = g_strdup("the run does not come to an end"); /* 27 */
    }
    while (world.stopped != NULL && world.violation == NULL)
        world_stopped_acts(&world);
    afterwards(&world);
    ask_for_each(&world);
    vr_rollout_view(world.rollout, &view);
    world_tell(&world, "%s %s: %s", vr_run_status_name(view.status), view.error_code != NULL ? view.error_code : "-",
               view.error_text != NULL ? view.error_text : "-");
    *result = (WorldResult){world.steps,     view.batch_number, world.config.count, world.restarts,
                            world.takeovers, world.amends > 0,  (int)view.status,   view.error_code};
    world_clear(&world);
    return world.violation;
}
