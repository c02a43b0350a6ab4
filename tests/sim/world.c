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
};
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
    [VR_COMMAND_FINISH] = "FINISH",
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
}

static void count_guest(World *world, const Guest *guest, guint by)
{
    if (guest->left)
        return;
    world->taken += guest->taken ? by : 0;
    world->sick += !guest->taken && guest->sick ? by : 0;
}

/* Keeps the two counts of what is down in truth. */
static void guest_becomes(World *world, guint i, gboolean taken, gboolean sick)
{
    Guest *guest = &world->guests[i];

    count_guest(world, guest, -1u);
    guest->taken = taken;
    guest->sick = sick;
    count_guest(world, guest, 1);
}

/* From now on what becomes of it is this run's. */
static void found_well(World *world, guint i)
{
    Guest *guest = &world->guests[i];

    count_guest(world, guest, -1u);
    guest->left = FALSE;
    count_guest(world, guest, 1);
}

/* Its owner turns it off or on. One that ran and was upgraded has only the upgrade to blame. */
static void changes_power(World *world, guint i)
{
    Guest *guest = &world->guests[i];

    if (guest->upgraded && guest->ran && !guest->off) {
        guest->fell = TRUE;
        guest_becomes(world, i, FALSE, TRUE);
    } else {
        guest->off = !guest->off;
        guest_becomes(world, i, FALSE, FALSE);
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
        guest_becomes(world, i, FALSE, TRUE);
    else if (guest->sick && world_chance(world, world->chances.recover)) {
        guest->fell = FALSE;
        guest_becomes(world, i, FALSE, FALSE);
    }
}

static void add_errand(World *world, const VrCommand *command)
{
    Errand errand = {command->type, command->instance, world->now_ms + 1 + world_below(world, 20000)};

    if (command->type == VR_COMMAND_WAKE) {
        errand.due_ms = command->at_ms;
        for (guint k = 0; k < world->errands->len; k++) {
            if (g_array_index(world->errands, Errand, k).type == VR_COMMAND_WAKE)
                g_array_remove_index_fast(world->errands, k--); /* a later one replaces it */
        }
    }
    g_array_append_val(world->errands, errand);
}

/* 17, in truth: only where nothing changes by itself under a batch. */
static void count_down(World *world)
{
    guint percent = world->config.policy.max_unhealthy_percent;
    guint down = world->taken + world->sick;

    if (!world->chances.quiet || world->config.kind == VR_RUN_ROLLBACK || world->violation != NULL)
        return;
    if (down > 1 && (guint64)down * 100 > (guint64)world->config.count * percent)
        world->violation =
            g_strdup_printf("%u guests of %u are down, for a limit of %u%%", down, world->config.count, percent);
}

static void obey(World *world)
{
    gboolean swapped = FALSE;

    for (guint k = 0; k < world->commands->len; k++) {
        const VrCommand *command = &g_array_index(world->commands, VrCommand, k);

        world_tell(world, "    -> %s %u (batch %u, at %" G_GINT64_FORMAT ") %s", command_names[command->type],
                   command->instance, command->batch_number, command->at_ms,
                   command->text != NULL ? command->text : "");
        switch (command->type) {
        case VR_COMMAND_BATCH_BEGIN:
            world->in_batch = TRUE;
            break;
        case VR_COMMAND_BATCH_END:
            world->in_batch = FALSE;
            break;
        case VR_COMMAND_HOLD:
        case VR_COMMAND_FINISH:
            break;
        case VR_COMMAND_SWAP:
            world->guests[command->instance].ran = !world->guests[command->instance].off;
            guest_becomes(world, command->instance, !world->guests[command->instance].off, FALSE);
            swapped = TRUE;
            add_errand(world, command);
            break;
        default:
            add_errand(world, command);
        }
    }
    if (swapped)
        count_down(world);
}

void world_deliver(World *world, const VrEvent *event)
{
    VrRolloutView view;

    world->steps++;
    world_tell(world, "%s %u %s %s", event_names[event->type], event->instance, outcome_names[event->outcome],
               event->reason != NULL ? event->reason : "");
    g_array_set_size(world->commands, 0);
    vr_rollout_step(world->rollout, event, world->now_ms, world->commands);
    vr_rollout_view(world->rollout, &view);
    check_step(world->check, event, world->now_ms, world->commands, &view);
    if (check_violation(world->check) != NULL && world->violation == NULL)
        world->violation = g_strdup(check_violation(world->check));
    obey(world);
}

static VrOutcome draw_outcome(World *world, VrCommandType type, const Guest *guest)
{
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
    case VR_COMMAND_SWAP:
        return world_chance(world, chances->unswapped) ? VR_OUTCOME_FAILED + world_below(world, 2) : VR_OUTCOME_OK;
    case VR_COMMAND_PROBE:
        return !guest->off && world_chance(world, chances->unhealthy) ? VR_OUTCOME_FAILED : VR_OUTCOME_OK;
    case VR_COMMAND_COMMIT:
        return world_chance(world, chances->unrecorded) ? VR_OUTCOME_FAILED : VR_OUTCOME_OK;
    default:
        return world_chance(world, chances->unrestored) ? VR_OUTCOME_FAILED : VR_OUTCOME_OK;
    }
}

/* What the answer means for the guest. */
static void settle(World *world, guint i, VrEventType type, VrOutcome outcome)
{
    gboolean good = outcome == VR_OUTCOME_OK && (type == VR_EVENT_PROBED || type == VR_EVENT_RESTORED);
    gboolean is_new = outcome == VR_OUTCOME_OK && type == VR_EVENT_COMMITTED;
    gboolean stays = type == VR_EVENT_SWAPPED && outcome == VR_OUTCOME_UNTOUCHED;

    world->guests[i].upgraded = world->guests[i].upgraded || is_new;
    if (good)
        found_well(world, i);
    if (world->guests[i].taken && (good || stays))
        guest_becomes(world, i, FALSE, FALSE);
    else if (world->guests[i].taken && type == VR_EVENT_PROBED)
        guest_becomes(world, i, TRUE, TRUE);
}

/* D14: guests keep to what they said, or do not; one that is not well may say anything, or nothing. */
static VrGuestWish say_wish(World *world, Guest *guest)
{
    if (world_chance(world, world->chances.fickle))
        guest->wish = world_draw_wish(world);
    if (guest->off || guest->fell || ((guest->sick || guest->taken) && world_chance(world, 700)))
        return (VrGuestWish){0};
    return guest->wish;
}

static void answer_survey(World *world)
{
    VrEvent event = {.type = VR_EVENT_SURVEY,
                     .answers = world->answers,
                     .wishes = world->chances.numbers + world->chances.skips > 0 ? world->wishes : NULL};
    gboolean blind = world_chance(world, world->chances.blind);

    for (guint i = 0; i < world->config.count; i++) {
        Guest *guest = &world->guests[i];

        world->wishes[i] = say_wish(world, guest);
        if (world->wishes[i].phase > 0 || world->wishes[i].skip)
            world_tell(world, "    guest %u asks for phase %d%s", i, (int)world->wishes[i].phase - 1,
                       world->wishes[i].skip ? " and to be left out" : "");
        if (guest->off || guest->fell)
            world->answers[i] = VR_SURVEY_OFF;
        else if (guest->taken ? !world_chance(world, world->chances.lies) : guest->sick)
            world->answers[i] = VR_SURVEY_UNHEALTHY;
        else
            world->answers[i] = VR_SURVEY_HEALTHY;
        if (!blind && world->answers[i] != VR_SURVEY_UNHEALTHY)
            found_well(world, i);
    }
    world_tell(world, "    %u down by us, %u sick", world->taken, world->sick);
    if (blind)
        event = (VrEvent){.type = VR_EVENT_SURVEY, .outcome = VR_OUTCOME_FAILED, .reason = "libvirt is gone"};
    world_deliver(world, &event);
}

static void answer(World *world, guint errand_index)
{
    static const VrEventType types[] = {
        [VR_COMMAND_PREPARE] = VR_EVENT_PREPARED, [VR_COMMAND_SWAP] = VR_EVENT_SWAPPED,
        [VR_COMMAND_PROBE] = VR_EVENT_PROBED,     [VR_COMMAND_COMMIT] = VR_EVENT_COMMITTED,
        [VR_COMMAND_RESTORE] = VR_EVENT_RESTORED, [VR_COMMAND_DISCARD] = VR_EVENT_DISCARDED,
        [VR_COMMAND_WAKE] = VR_EVENT_WAKE,        [VR_COMMAND_GATE] = VR_EVENT_GATE,
    };
    Errand errand = g_array_index(world->errands, Errand, errand_index);
    g_autofree char *reason = NULL;
    VrEvent event = {.instance = errand.instance};

    g_array_remove_index_fast(world->errands, errand_index);
    world->now_ms = MAX(world->now_ms, errand.due_ms);
    if (errand.type == VR_COMMAND_SURVEY) {
        answer_survey(world);
        return;
    }
    event.type = types[errand.type];
    if (event.type == VR_EVENT_WAKE && world_chance(world, world->chances.late))
        world->now_ms += world_below(world, world_chance(world, 800) ? 90000 : 86400000);
    if (event.type == VR_EVENT_SWAPPED)
        event.off_ms = world_below(world, 10) * world->config.policy.max_off_ms / 8;
    if (event.type != VR_EVENT_WAKE)
        event.outcome = draw_outcome(world, errand.type, &world->guests[errand.instance]);
    if (event.outcome != VR_OUTCOME_OK) {
        reason = g_strdup_printf("%s gave no answer on guest-%u", words[world_below(world, world->chances.words)],
                                 errand.instance);
        event.reason = reason;
    }
    if (event.type != VR_EVENT_GATE && check_awaits(world->check, &event, world->now_ms))
        settle(world, errand.instance, event.type, event.outcome);
    world_deliver(world, &event);
    event.reason = "late";
    g_array_append_val(world->past, event);
}

/* The next errand: usually the one that is due first, sometimes any (an answer that overtakes). */
static guint choose_errand(World *world)
{
    guint first = world_below(world, world->errands->len);

    if (world_chance(world, 700) || g_array_index(world->errands, Errand, first).type == VR_COMMAND_WAKE)
        return first;
    for (guint k = 0; k < MIN(world->errands->len, 32); k++) {
        if (g_array_index(world->errands, Errand, k).due_ms < g_array_index(world->errands, Errand, first).due_ms)
            first = k;
    }
    return first;
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

static void one_step(World *world)
{
    if (world_chance(world, world->chances.jump))
        world->now_ms += world_below(world, 86400000);
    if (world->errands->len == 0)
        nothing_is_due(world);
    else if (world_chance(world, world->chances.stale))
        world_say_stale(world);
    else if (world_chance(world, world->chances.operator))
        world_operate(world);
    else if (world_chance(world, 100) && is_held(world))
        world_person_acts(world);
    else
        answer(world, choose_errand(world));
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
        answer(world, world->errands->len - 1);
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
    world_deliver(&world, &start);
    while (!is_over(&world) && world.violation == NULL) {
        drift(&world);
        one_step(&world);
        if (world.steps > bound && world.violation == NULL)
            world.violation = g_strdup("the run does not come to an end"); /* 27 */
    }
    afterwards(&world);
    ask_for_each(&world);
    vr_rollout_view(world.rollout, &view);
    world_tell(&world, "%s %s: %s", vr_run_status_name(view.status), view.error_code != NULL ? view.error_code : "-",
               view.error_text != NULL ? view.error_text : "-");
    *result = (WorldResult){world.steps, view.batch_number, world.config.count, (int)view.status, view.error_code};
    world_clear(&world);
    return world.violation;
}
