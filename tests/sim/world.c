/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/sim/world.h"

#include "tests/sim/check.h"

/* Chances in thousandths. */
typedef struct {
    guint sick_first, drift, recover, unprepared, unswapped, unhealthy, unrecorded, unrestored, unknown, blind, lies,
        stale, operator;
    guint words;    /* how many kinds of reasons there are */
    gboolean quiet; /* no drift while a batch is in flight: then the real count of what is down is checked too */
} Chances;

typedef struct {
    gboolean sick, off;
    gboolean taken; /* by a swap, until it is proven healthy or restored */
} Guest;

typedef struct {
    VrCommandType type;
    guint instance;
    gint64 due_ms;
} Errand;

typedef struct {
    guint64 random;
    Chances chances;
    VrRolloutConfig config;
    VrRolloutInstance *instances;
    Guest *guests;
    VrSurveyAnswer *answers;
    GArray *errands;  /* Errand: commands that are not answered yet */
    GArray *past;     /* VrEvent: what was answered, for doubles; without answers and reasons of their own */
    GArray *commands; /* VrCommand, of the last step */
    VrRollout *rollout;
    Check *check;
    GString *story;
    gint64 now_ms;
    gboolean in_batch;
    guint taken, sick; /* counts over guests: taken, and sick but not taken */
    guint steps;
    char *violation;
} World;

static const char *const words[] = {"agent", "kernel", "disk", "network", "service"};

static const char *const event_names[] = {
    [VR_EVENT_START] = "START",       [VR_EVENT_SURVEY] = "SURVEY",         [VR_EVENT_PREPARED] = "PREPARED",
    [VR_EVENT_SWAPPED] = "SWAPPED",   [VR_EVENT_PROBED] = "PROBED",         [VR_EVENT_COMMITTED] = "COMMITTED",
    [VR_EVENT_RESTORED] = "RESTORED", [VR_EVENT_DISCARDED] = "DISCARDED",   [VR_EVENT_WAKE] = "WAKE",
    [VR_EVENT_CANCEL] = "CANCEL",     [VR_EVENT_CANCEL_NOW] = "CANCEL_NOW", [VR_EVENT_WITHDRAWN] = "WITHDRAWN",
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
    [VR_COMMAND_FINISH] = "FINISH",
};

static guint64 roll(World *world)
{
    guint64 z = (world->random += 0x9e3779b97f4a7c15ULL);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

static guint below(World *world, guint limit)
{
    return (guint)(roll(world) % limit);
}

static gboolean chance(World *world, guint thousandths)
{
    return below(world, 1000) < thousandths;
}

static guint pick(World *world, const guint *values, guint count)
{
    return values[below(world, count)];
}

static void tell(World *world, const char *format, ...) G_GNUC_PRINTF(2, 3);
static void tell(World *world, const char *format, ...)
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

/* 90 % of the sets have up to 20 instances, 9 % up to 100, 1 % up to 1,000. */
static guint draw_size(World *world)
{
    guint where = below(world, 100);

    if (where < 90)
        return 1 + below(world, 20);
    return where < 99 ? 21 + below(world, 80) : 101 + below(world, 900);
}

static void draw_chances(World *world)
{
    static const guint none_or_some[] = {0, 0, 0, 20, 100};
    static const guint unhealthy[] = {0,   0,   50,
                                      200, 500, 1000}; /* 1000: a version on which every instance fails (18) */
    static const guint sick[] = {0, 0, 50, 100, 200, 400};
    Chances *chances = &world->chances;

    chances->sick_first = pick(world, sick, G_N_ELEMENTS(sick));
    chances->drift = pick(world, none_or_some, G_N_ELEMENTS(none_or_some));
    chances->recover = chance(world, 500) ? 300 : 0;
    chances->unprepared = chance(world, 200) ? 50 : 0;
    chances->unswapped = chance(world, 300) ? 80 : 0;
    chances->unhealthy = pick(world, unhealthy, G_N_ELEMENTS(unhealthy));
    chances->unrecorded = chance(world, 100) ? 50 : 0;
    chances->unrestored = chance(world, 200) ? 200 : 0;
    chances->unknown = chance(world, 150) ? 50 : 0;
    chances->blind = chance(world, 100) ? 300 : 0;
    chances->stale = chance(world, 500) ? 100 : 0;
    chances->operator= chance(world, 300) ? 60 : 0;
    chances->lies = chance(world, 300) ? 500 : 0;
    chances->words = 1 + below(world, G_N_ELEMENTS(words));
    chances->quiet = chance(world, 500);
}

static void draw_config(World *world)
{
    static const guint batch[] = {5, 10, 20, 20, 34, 50, 100};
    static const guint upgraded[] = {0, 20, 20, 25, 50, 100};
    static const guint domains[] = {1, 2, 5, 5, 20};
    VrRolloutConfig *config = &world->config;
    guint domain_count = pick(world, domains, G_N_ELEMENTS(domains));
    guint chosen = chance(world, 500) ? 1000 : 700;
    guint more;

    config->kind = below(world, 3);
    config->count = draw_size(world);
    config->policy.max_batch_percent = pick(world, batch, G_N_ELEMENTS(batch));
    more = chance(world, 500) ? 0 : below(world, 40);
    config->policy.max_unhealthy_percent = MIN(100, config->policy.max_batch_percent + more);
    config->policy.max_unhealthy_upgraded_percent = pick(world, upgraded, G_N_ELEMENTS(upgraded));
    config->policy.pause_ms = chance(world, 300) ? 1 + below(world, 120000) : 0;
    config->policy.prioritize_unhealthy = chance(world, 700);
    config->policy.automatic_rollback = chance(world, 800);
    config->health_timeout_ms = chance(world, 50) ? 0 : 1000 * (1 + below(world, 300));
    config->same_reason_stops = chance(world, 800);
    world->instances = g_new0(VrRolloutInstance, config->count);
    for (guint i = 0; i < config->count; i++) {
        world->instances[i].upgrade_domain = i % domain_count;
        world->instances[i].chosen = chance(world, chosen);
    }
    config->instances = world->instances;
}

static void world_init(World *world, guint64 seed, GString *story)
{
    guint off;

    *world = (World){.random = seed * 0x2545f4914f6cdd1dULL + 1, .story = story, .now_ms = 1000000};
    draw_chances(world);
    draw_config(world);
    off = chance(world, 200) ? 300 : 0;
    world->guests = g_new0(Guest, world->config.count);
    world->answers = g_new0(VrSurveyAnswer, world->config.count);
    for (guint i = 0; i < world->config.count; i++) {
        world->guests[i].off = chance(world, off);
        world->guests[i].sick = !world->guests[i].off && chance(world, world->chances.sick_first);
        world->sick += world->guests[i].sick ? 1 : 0;
    }
    world->errands = g_array_new(FALSE, FALSE, sizeof(Errand));
    world->past = g_array_new(FALSE, FALSE, sizeof(VrEvent));
    world->commands = g_array_new(FALSE, FALSE, sizeof(VrCommand));
    g_array_set_clear_func(world->commands, (GDestroyNotify)vr_command_clear);
    world->rollout = vr_rollout_new(&world->config);
    world->check = check_new(&world->config);
    tell(world,
         "seed %" G_GUINT64_FORMAT ": %s of %u, batch %u%%, unhealthy %u%%, upgraded %u%%, pause %" G_GINT64_FORMAT
         " ms, timeout %" G_GINT64_FORMAT " ms, prioritize %d, rollback %d, same reason %d",
         seed, vr_run_kind_name(world->config.kind), world->config.count, world->config.policy.max_batch_percent,
         world->config.policy.max_unhealthy_percent, world->config.policy.max_unhealthy_upgraded_percent,
         world->config.policy.pause_ms, world->config.health_timeout_ms, world->config.policy.prioritize_unhealthy,
         world->config.policy.automatic_rollback, world->config.same_reason_stops);
}

static void world_clear(World *world)
{
    g_free(world->instances);
    g_free(world->guests);
    g_free(world->answers);
    g_array_unref(world->errands);
    g_array_unref(world->past);
    g_array_unref(world->commands);
    vr_rollout_free(world->rollout);
    check_free(world->check);
}

/* Keeps the two counts of what is down in truth. */
static void guest_becomes(World *world, guint i, gboolean taken, gboolean sick)
{
    Guest *guest = &world->guests[i];

    world->taken -= guest->taken ? 1 : 0;
    world->sick -= !guest->taken && guest->sick ? 1 : 0;
    guest->taken = taken;
    guest->sick = sick;
    world->taken += guest->taken ? 1 : 0;
    world->sick += !guest->taken && guest->sick ? 1 : 0;
}

/* Health comes and goes by itself, at guests that nobody works on. */
static void drift(World *world)
{
    guint i = below(world, world->config.count);
    Guest *guest = &world->guests[i];

    if ((world->chances.quiet && world->in_batch) || guest->taken || guest->off)
        return;
    if (!guest->sick && chance(world, world->chances.drift))
        guest_becomes(world, i, FALSE, TRUE);
    else if (guest->sick && chance(world, world->chances.recover))
        guest_becomes(world, i, FALSE, FALSE);
}

static void add_errand(World *world, const VrCommand *command)
{
    Errand errand = {command->type, command->instance, world->now_ms + 1 + below(world, 20000)};

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

        tell(world, "    -> %s %u (batch %u, at %" G_GINT64_FORMAT ") %s", command_names[command->type],
             command->instance, command->batch_number, command->at_ms, command->text != NULL ? command->text : "");
        switch (command->type) {
        case VR_COMMAND_BATCH_BEGIN:
            world->in_batch = TRUE;
            break;
        case VR_COMMAND_BATCH_END:
            world->in_batch = FALSE;
            break;
        case VR_COMMAND_FINISH:
            break;
        case VR_COMMAND_SWAP:
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

static void deliver(World *world, const VrEvent *event)
{
    VrRolloutView view;

    world->steps++;
    tell(world, "%s %u %s %s", event_names[event->type], event->instance, outcome_names[event->outcome],
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

    if (chance(world, chances->unknown))
        return VR_OUTCOME_UNKNOWN;
    switch (type) {
    case VR_COMMAND_PREPARE:
        return chance(world, chances->unprepared) ? unprepared[below(world, 3)] : VR_OUTCOME_OK;
    case VR_COMMAND_SWAP:
        return chance(world, chances->unswapped) ? VR_OUTCOME_FAILED + below(world, 2) : VR_OUTCOME_OK;
    case VR_COMMAND_PROBE:
        return !guest->off && chance(world, chances->unhealthy) ? VR_OUTCOME_FAILED : VR_OUTCOME_OK;
    case VR_COMMAND_COMMIT:
        return chance(world, chances->unrecorded) ? VR_OUTCOME_FAILED : VR_OUTCOME_OK;
    default:
        return chance(world, chances->unrestored) ? VR_OUTCOME_FAILED : VR_OUTCOME_OK;
    }
}

/* What the answer means for the guest. */
static void settle(World *world, guint i, VrEventType type, VrOutcome outcome)
{
    gboolean good = outcome == VR_OUTCOME_OK && (type == VR_EVENT_PROBED || type == VR_EVENT_RESTORED);
    gboolean stays = type == VR_EVENT_SWAPPED && outcome == VR_OUTCOME_UNTOUCHED;

    if (world->guests[i].taken && (good || stays))
        guest_becomes(world, i, FALSE, FALSE);
    else if (world->guests[i].taken && type == VR_EVENT_PROBED)
        guest_becomes(world, i, TRUE, TRUE);
}

static void answer_survey(World *world)
{
    VrEvent event = {.type = VR_EVENT_SURVEY, .answers = world->answers};

    for (guint i = 0; i < world->config.count; i++) {
        const Guest *guest = &world->guests[i];

        if (guest->off)
            world->answers[i] = VR_SURVEY_OFF;
        else if (guest->taken ? !chance(world, world->chances.lies) : guest->sick)
            world->answers[i] = VR_SURVEY_UNHEALTHY;
        else
            world->answers[i] = VR_SURVEY_HEALTHY;
    }
    tell(world, "    %u down by us, %u sick", world->taken, world->sick);
    if (chance(world, world->chances.blind))
        event = (VrEvent){.type = VR_EVENT_SURVEY, .outcome = VR_OUTCOME_FAILED, .reason = "libvirt is gone"};
    deliver(world, &event);
}

static void answer(World *world, guint errand_index)
{
    static const VrEventType types[] = {
        [VR_COMMAND_PREPARE] = VR_EVENT_PREPARED, [VR_COMMAND_SWAP] = VR_EVENT_SWAPPED,
        [VR_COMMAND_PROBE] = VR_EVENT_PROBED,     [VR_COMMAND_COMMIT] = VR_EVENT_COMMITTED,
        [VR_COMMAND_RESTORE] = VR_EVENT_RESTORED, [VR_COMMAND_DISCARD] = VR_EVENT_DISCARDED,
        [VR_COMMAND_WAKE] = VR_EVENT_WAKE,
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
    if (event.type != VR_EVENT_WAKE)
        event.outcome = draw_outcome(world, errand.type, &world->guests[errand.instance]);
    if (event.outcome != VR_OUTCOME_OK) {
        reason = g_strdup_printf("%s gave no answer on guest-%u", words[below(world, world->chances.words)],
                                 errand.instance);
        event.reason = reason;
    }
    if (check_awaits(world->check, &event, world->now_ms))
        settle(world, errand.instance, event.type, event.outcome);
    deliver(world, &event);
    event.reason = "late";
    g_array_append_val(world->past, event);
}

/* A double of something old, or an answer that nobody asked for. */
static void say_stale(World *world)
{
    VrEvent event = {.type = below(world, VR_EVENT_WAKE + 1),
                     .instance = below(world, world->config.count + 2),
                     .outcome = below(world, 4),
                     .reason = "late",
                     .answers = world->answers};

    if (world->past->len > 0 && chance(world, 700))
        event = g_array_index(world->past, VrEvent, below(world, world->past->len));
    if (!check_awaits(world->check, &event, world->now_ms))
        deliver(world, &event);
}

static void operate(World *world)
{
    static const VrEventType orders[] = {VR_EVENT_CANCEL, VR_EVENT_CANCEL_NOW, VR_EVENT_WITHDRAWN};
    VrEvent event = {.type = orders[below(world, G_N_ELEMENTS(orders))]};

    deliver(world, &event);
}

/* The next errand: usually the one that is due first, sometimes any (an answer that overtakes). */
static guint choose_errand(World *world)
{
    guint first = below(world, world->errands->len);

    if (chance(world, 700) || g_array_index(world->errands, Errand, first).type == VR_COMMAND_WAKE)
        return first;
    for (guint k = 0; k < MIN(world->errands->len, 32); k++) {
        if (g_array_index(world->errands, Errand, k).due_ms < g_array_index(world->errands, Errand, first).due_ms)
            first = k;
    }
    return first;
}

static gboolean is_over(const World *world)
{
    VrRolloutView view;

    vr_rollout_view(world->rollout, &view);
    return view.finished;
}

/* After the end: nothing that still comes may do anything. */
static void afterwards(World *world)
{
    while (world->errands->len > 0 && world->violation == NULL)
        answer(world, world->errands->len - 1);
    for (guint k = 0; k < 5 && world->violation == NULL; k++) {
        say_stale(world);
        operate(world);
    }
}

char *world_run(guint64 seed, GString *story, WorldResult *result)
{
    World world;
    VrEvent start = {.type = VR_EVENT_START};
    VrRolloutView view;
    guint bound;

    world_init(&world, seed, story);
    bound = 1000 + 200 * world.config.count;
    deliver(&world, &start);
    while (!is_over(&world) && world.violation == NULL) {
        drift(&world);
        if (world.errands->len == 0)
            world.violation = g_strdup("the run waits for nothing and is not over"); /* 27 */
        else if (world.steps > bound)
            world.violation = g_strdup("the run does not come to an end"); /* 27 */
        else if (chance(&world, world.chances.stale))
            say_stale(&world);
        else if (chance(&world, world.chances.operator))
            operate(&world);
        else
            answer(&world, choose_errand(&world));
    }
    afterwards(&world);
    vr_rollout_view(world.rollout, &view);
    tell(&world, "%s %s: %s", vr_run_status_name(view.status), view.error_code != NULL ? view.error_code : "-",
         view.error_text != NULL ? view.error_text : "-");
    *result = (WorldResult){world.steps, view.batch_number, world.config.count, (int)view.status, view.error_code};
    world_clear(&world);
    return world.violation;
}
