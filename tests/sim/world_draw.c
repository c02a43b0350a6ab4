/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a seed makes: the chances of a world, its set and its policy. */
#include "tests/sim/world_private.h"

#define MOODY 200

static guint64 roll(World *world)
{
    guint64 z = (world->random += 0x9e3779b97f4a7c15ULL);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

guint world_below(World *world, guint limit)
{
    return (guint)(roll(world) % limit);
}

gboolean world_chance(World *world, guint thousandths)
{
    return world_below(world, 1000) < thousandths;
}

static guint pick(World *world, const guint *values, guint count)
{
    return values[world_below(world, count)];
}

/* 90 % of the sets have up to 20 instances, 9 % up to 100, 1 % up to 1,000. */
static guint draw_size(World *world)
{
    guint where = world_below(world, 100);

    if (where < 90)
        return 1 + world_below(world, 20);
    return where < 99 ? 21 + world_below(world, 80) : 101 + world_below(world, 900);
}

static void draw_chances(World *world)
{
    static const guint none_or_some[] = {0, 0, 0, 20, 100};
    static const guint unhealthy[] = {0,   0,   50,
                                      200, 500, 1000}; /* 1000: a version on which every instance fails (18) */
    static const guint sick[] = {0, 0, 50, 100, 200, 400};
    static const guint gate_no[] = {0, 200, 500, 1000};
    static const guint numbers[] = {500, 1000}, skips[] = {30, 300, 1000}, fickle[] = {20, 100, 300};
    Chances *chances = &world->chances;
    guint calm = world_chance(world, 350) ? 0 : 1; /* 0: nothing fails in a swap, so that many runs come far */

    chances->sick_first = calm * pick(world, sick, G_N_ELEMENTS(sick));
    chances->drift = pick(world, none_or_some, G_N_ELEMENTS(none_or_some));
    chances->recover = world_chance(world, 500) ? 300 : 0;
    chances->unprepared = calm * (world_chance(world, 200) ? 50 : 0);
    chances->unswapped = calm * (world_chance(world, 300) ? 80 : 0);
    chances->unhealthy = calm * pick(world, unhealthy, G_N_ELEMENTS(unhealthy));
    chances->unrecorded = calm * (world_chance(world, 100) ? 50 : 0);
    chances->unrestored = world_chance(world, 200) ? 200 : 0;
    chances->unknown = calm * (world_chance(world, 150) ? 50 : 0);
    chances->blind = world_chance(world, 100) ? 300 : 0;
    chances->stale = world_chance(world, 500) ? 100 : 0;
    chances->operator= world_chance(world, 400) ? 60 : 0;
    chances->lies = world_chance(world, 300) ? 500 : 0;
    chances->words = 1 + world_below(world, WORDS);
    chances->quiet = world_chance(world, 500);
    chances->relapse = world_chance(world, 200) ? 200 : 0;
    chances->power = world_chance(world, 200) ? 50 : 0;
    chances->gate_no = pick(world, gate_no, G_N_ELEMENTS(gate_no));
    chances->late = world_chance(world, 300) ? 200 : 0;
    chances->jump = world_chance(world, 100) ? 20 : 0;
    chances->numbers = world_chance(world, 300) ? pick(world, numbers, G_N_ELEMENTS(numbers)) : 0;
    chances->skips = world_chance(world, 200) ? pick(world, skips, G_N_ELEMENTS(skips)) : 0;
    chances->stuck = world_chance(world, 200) ? 700 : 0;
    chances->fickle = world_chance(world, 300) ? pick(world, fickle, G_N_ELEMENTS(fickle)) : 0;
    chances->busy = calm * (world_chance(world, 300) ? 100 : 0);
    if (world_chance(world, 50)) { /* moods: guests come and go, so that waits and holds follow each other */
        chances->skips = 100;
        chances->fickle = MOODY;
        chances->blind = 300;
    }
}

/* Half of the worlds know nothing of all that. */
static void draw_deaths(World *world)
{
    Chances *chances = &world->chances;

    chances->vanish = world_chance(world, 100) ? 20 : 0;
    world->crashes_left = world_chance(world, 500) ? 1 + world_below(world, 12) : 0;
    chances->crash = world_chance(world, 500) ? 30 : 150;
    chances->second = world_chance(world, 300) ? 30 : 0;
}

/* What a guest says of the run, if anything. */
VrGuestWish world_draw_wish(World *world)
{
    static const guint phases[] = {1, 1, 2, 3, 1000001};
    gboolean says = world_chance(world, world->chances.numbers);

    return (VrGuestWish){says ? pick(world, phases, G_N_ELEMENTS(phases)) : 0,
                         world_chance(world, world->chances.skips)};
}

/* A time that people set: seconds, minutes, or as long as is allowed. */
static gint64 draw_time(World *world)
{
    static const guint seconds[] = {1, 30, 60, 61, 120, 300, 600, 3600};

    if (world_chance(world, 20) && world->config.count <= 20)
        return 172800000;
    return 1000 * (gint64)pick(world, seconds, G_N_ELEMENTS(seconds)) +
           (world_chance(world, 300) ? world_below(world, 1000) : 0);
}

/* What may hold a run between its batches, and what ends it there. */
static void draw_holds(World *world)
{
    static char gate[] = "/bin/gate";
    VrUpgradePolicy *policy = &world->config.policy;
    guint percent = 0;

    if (world_chance(world, world->chances.fickle == MOODY ? 900 : 250)) {
        for (guint k = 0; k < VR_CHECKPOINTS && percent < 99 && world_chance(world, 800); k++) {
            percent += 1 + world_below(world, MIN(60, 99 - percent));
            policy->checkpoints[k] = percent;
        }
    }
    policy->checkpoint_wait_ms = world_chance(world, 100) ? 0 : draw_time(world);
    policy->bake_ms = world_chance(world, 250) ? draw_time(world) : 0;
    policy->timeout_ms =
        world_chance(world, 250) ? (gint64)1000 * (1 + world_below(world, world_chance(world, 500) ? 200 : 7200)) : 0;
    policy->max_off_ms = world_chance(world, 150) ? 1000 * (gint64)(1 + world_below(world, 60)) : 0;
    policy->max_in_flight = world_chance(world, 200) ? 1 + world_below(world, 4) : 0;
    policy->prepare_ahead = world_chance(world, 500);
    policy->approval = world_chance(world, 200);
    world->gate[0] = gate;
    policy->gate = world_chance(world, 250) ? world->gate : NULL;
    world->config.walk = world_chance(world, 150);
    world->config.notice = world_chance(world, 300);
    world_draw_window(world);
}

static void draw_config(World *world)
{
    static const guint batch[] = {5, 10, 20, 20, 34, 50, 100};
    static const guint upgraded[] = {0, 20, 20, 25, 50, 100};
    static const guint domains[] = {1, 2, 5, 5, 20};
    VrRolloutConfig *config = &world->config;
    guint domain_count = pick(world, domains, G_N_ELEMENTS(domains));
    guint chosen = world_chance(world, 500) ? 1000 : 700;
    guint more, canary, guarded;

    config->kind = world_below(world, 3);
    config->count = draw_size(world);
    config->policy.max_batch_percent = pick(world, batch, G_N_ELEMENTS(batch));
    more = world_chance(world, 500) ? 0 : world_below(world, 40);
    config->policy.max_unhealthy_percent = MIN(100, config->policy.max_batch_percent + more);
    config->policy.max_unhealthy_upgraded_percent = pick(world, upgraded, G_N_ELEMENTS(upgraded));
    config->policy.pause_ms = world_chance(world, 300) ? 1 + world_below(world, 120000) : 0;
    config->policy.prioritize_unhealthy = world_chance(world, 700);
    config->policy.automatic_rollback = world_chance(world, 700);
    config->policy.restore_on_breach = world_chance(world, 500);
    config->health_timeout_ms = world_chance(world, 50) ? 0 : 1000 * (1 + world_below(world, 300));
    config->same_reason_stops = world_chance(world, 800);
    draw_holds(world);
    canary = world_chance(world, 200) ? 50 + world_below(world, 400) : 0;
    guarded = world_chance(world, 250) ? 50 + world_below(world, 400) : 0;
    world->domains = domain_count;
    world->instances = g_new0(VrRolloutInstance, config->count);
    for (guint i = 0; i < config->count; i++) {
        world->instances[i].upgrade_domain = i % domain_count;
        world->instances[i].chosen = world_chance(world, chosen);
        world->instances[i].canary = world_chance(world, canary);
        world->instances[i].named = world_chance(world, 50);
        world->instances[i].left_failed =
            config->kind != VR_RUN_ROLLBACK && world_chance(world, world->chances.stuck / 3);
        world->instances[i].is_protected = world_chance(world, guarded);
        if (world->instances[i].is_protected && world_chance(world, 800))
            world->instances[i].chosen = FALSE;
    }
    if (world_chance(world, 333))
        world_draw_labels(world);
    config->instances = world->instances;
}

static void tell_seed(World *world, guint64 seed)
{
    const VrRolloutConfig *config = &world->config;
    const VrUpgradePolicy *policy = &config->policy;

    if (world->story == NULL)
        return;
    world_tell(
        world,
        "seed %" G_GUINT64_FORMAT ": %s of %u, batch %u%%, unhealthy %u%%, upgraded %u%%, pause %" G_GINT64_FORMAT
        " ms, timeout %" G_GINT64_FORMAT " ms, prioritize %d, rollback %d, same reason %d",
        seed, vr_run_kind_name(config->kind), config->count, policy->max_batch_percent, policy->max_unhealthy_percent,
        policy->max_unhealthy_upgraded_percent, policy->pause_ms, config->health_timeout_ms,
        policy->prioritize_unhealthy, policy->automatic_rollback, config->same_reason_stops);
    world_tell(world,
               "checkpoints from %u%% for %" G_GINT64_FORMAT " ms, bake %" G_GINT64_FORMAT
               " ms, all in %" G_GINT64_FORMAT " ms, off at most %" G_GINT64_FORMAT
               " ms, approval %d, gate %d, walk %d, notice %d, in flight %u, restore on breach %d, "
               "by domain %d, cross zone %d, window %d of %" G_GINT64_FORMAT " ms each %" G_GINT64_FORMAT " ms",
               policy->checkpoints[0], policy->checkpoint_wait_ms, policy->bake_ms, policy->timeout_ms,
               policy->max_off_ms, policy->approval, policy->gate != NULL, config->walk, config->notice,
               policy->max_in_flight, policy->restore_on_breach, policy->by_domain, policy->cross_zone, config->window,
               world->window_ms, world->window_every_ms);
    for (guint i = 0; i < config->count; i++) {
        const VrRolloutInstance *instance = &world->instances[i];
        g_autofree char *labels = world_label_words(instance);

        world_tell(world, "  %u: upgrade domain %u%s%s%s%s%s%s%s%s", i, instance->upgrade_domain, labels,
                   instance->chosen ? ", chosen" : "", instance->canary ? ", canary" : "",
                   instance->named ? ", named" : "", instance->left_failed ? ", left failed" : "",
                   instance->is_protected ? ", protected" : "", world->guests[i].off ? ", off" : "",
                   world->guests[i].sick ? ", sick" : "");
    }
}

/* Much fails, for one reason, and the limits let the run go on: then it is seen whether it still knows that after a restart. */
static void draw_tolerance(World *world)
{
    VrUpgradePolicy *policy = &world->config.policy;

    policy->max_unhealthy_upgraded_percent = 100;
    policy->max_batch_percent = world_chance(world, 500) ? 1 : policy->max_batch_percent;
    policy->timeout_ms = 0;
    policy->bake_ms = world_chance(world, 500) ? 600000 : 0;
    world->chances.words = 1;
    world->chances.unhealthy = 300;
    world->chances.unswapped = world->chances.unrestored = 200;
    world->chances.unprepared = world->chances.unrecorded = world->chances.unknown = 0;
}

/* Some are left unhealthy, the others fall ill in the bake, and that ends the run: then those that were left go back (F3). */
static void draw_relapses(World *world)
{
    VrUpgradePolicy *policy = &world->config.policy;

    policy->max_unhealthy_upgraded_percent = 50;
    policy->automatic_rollback = FALSE;
    policy->restore_on_breach = TRUE;
    policy->timeout_ms = policy->max_off_ms = 0;
    policy->bake_ms = 600000;
    world->config.same_reason_stops = FALSE;
    world->chances.relapse = 200;
    world->chances.unhealthy = 200;
    world->chances.unprepared = world->chances.unrecorded = world->chances.unknown = world->chances.operator= 0;
}

void world_init(World *world, guint64 seed, GString *story)
{
    guint off;

    *world = (World){.random = seed * 0x2545f4914f6cdd1dULL + 1, .story = story, .now_ms = 1000000, .hosts = 1};
    draw_chances(world);
    draw_deaths(world);
    draw_config(world);
    if (world->crashes_left > 0 && world_chance(world, 150))
        draw_tolerance(world);
    else if (world_chance(world, 20))
        draw_relapses(world);
    off = world_chance(world, 200) ? 300 : 0;
    world->guests = g_new0(Guest, world->config.count);
    world->answers = g_new0(VrSurveyAnswer, world->config.count);
    world->wishes = g_new0(VrGuestWish, world->config.count);
    for (guint i = 0; i < world->config.count; i++) {
        world->guests[i].off = world_chance(world, off);
        world->guests[i].guarded = world->instances[i].is_protected;
        world->guests[i].left = world->instances[i].left_failed;
        world->guests[i].sick =
            !world->guests[i].off &&
            world_chance(world, world->guests[i].left ? world->chances.stuck : world->chances.sick_first);
        world->sick += world->guests[i].sick && !world->guests[i].left && !world->guests[i].guarded ? 1 : 0;
        world->guests[i].wish = world_draw_wish(world);
    }
    world->errands = g_array_new(FALSE, FALSE, sizeof(Errand));
    world->past = g_array_new(FALSE, FALSE, sizeof(VrEvent));
    world->commands = g_array_new(FALSE, FALSE, sizeof(VrCommand));
    g_array_set_clear_func(world->commands, (GDestroyNotify)vr_command_clear);
    world->rollout = vr_rollout_new(&world->config);
    world->check = check_new(&world->config);
    tell_seed(world, seed);
}
