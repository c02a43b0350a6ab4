/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The labels of a world: a third of the sets have roles, zones, phases and pairs, as the model lets them through. */
#include "tests/sim/world_private.h"

static const char *const role_names[] = {"web", "worker", "db"};
static const char *const zone_names[] = {"rack-1", "rack-2", "rack-3"};
static const char *const pair_names[] = {"p1", "p2", "p3", "p4", "p5", "p6", "p7", "p8", "p9", "p10", "p11", "p12"};
static const guint phases[] = {0, 1, 2, 7};

/* The labels of one kind: how many may be drawn, and the numbers of those that were. */
typedef struct {
    const char *const *names;
    guint count;
    guint numbers[G_N_ELEMENTS(pair_names)];
    guint given;
} Kind;

typedef struct {
    Kind roles, zones, pairs;
    guint phases;
    guint taken[G_N_ELEMENTS(pair_names)]; /* of each pair, the phases that it has: a bit for each */
} Labels;

static guint draw_count(World *world, guint most)
{
    return world_chance(world, 600) ? 1 + world_below(world, most) : 0;
}

/* Numbers follow the order in which the model names the labels. */
static VrLabel give(Kind *kind, guint drawn)
{
    if (kind->numbers[drawn] == 0)
        kind->numbers[drawn] = ++kind->given;
    return (VrLabel){kind->names[drawn], kind->numbers[drawn]};
}

/* Some are small, one is large, and a few instances have none. */
static VrLabel draw_label(World *world, Kind *kind)
{
    if (kind->count == 0 || world_chance(world, 150))
        return (VrLabel){0};
    return give(kind, world_below(world, 1 + world_below(world, kind->count)));
}

/* D10: where there are phases, each of a pair has another one. */
static VrLabel draw_pair(World *world, Labels *labels, guint phase)
{
    guint drawn;

    if (labels->pairs.count == 0 || world_chance(world, 300))
        return (VrLabel){0};
    drawn = world_below(world, labels->pairs.count);
    if (labels->phases > 0 && labels->taken[drawn] & 1u << phase)
        return (VrLabel){0};
    labels->taken[drawn] |= 1u << phase;
    return give(&labels->pairs, drawn);
}

void world_draw_labels(World *world)
{
    VrUpgradePolicy *policy = &world->config.policy;
    Labels labels = {.roles = {role_names, draw_count(world, G_N_ELEMENTS(role_names))},
                     .zones = {zone_names, draw_count(world, G_N_ELEMENTS(zone_names))},
                     .pairs = {pair_names, draw_count(world, G_N_ELEMENTS(pair_names))},
                     .phases = draw_count(world, G_N_ELEMENTS(phases) - 1)};
    guint seen[G_N_ELEMENTS(role_names) + 1] = {0};

    policy->by_domain = world_chance(world, 300);
    policy->cross_zone = world_chance(world, 300);
    if (world_chance(world, 500))
        policy->max_batch_percent = policy->max_unhealthy_percent = 100; /* nothing but labels limits a batch */
    for (guint i = 0; i < world->config.count; i++) {
        VrRolloutInstance *instance = &world->instances[i];
        guint phase = world_below(world, labels.phases + 1);

        instance->role = draw_label(world, &labels.roles);
        instance->zone = draw_label(world, &labels.zones);
        instance->pair = draw_pair(world, &labels, phase);
        instance->phase = phases[phase];
        instance->upgrade_domain = seen[instance->role.number]++ % world->domains; /* D7: within each role */
    }
}

static void tell_label(GString *line, const char *kind, const VrLabel *label)
{
    if (label->number > 0)
        g_string_append_printf(line, ", %s %s", kind, label->name);
}

char *world_label_words(const VrRolloutInstance *instance)
{
    GString *line = g_string_new(NULL);

    tell_label(line, "role", &instance->role);
    tell_label(line, "zone", &instance->zone);
    tell_label(line, "pair", &instance->pair);
    if (instance->phase > 0)
        g_string_append_printf(line, ", phase %u", instance->phase);
    return g_string_free(line, FALSE);
}

/* In truth; nothing in a world that does not stand still. */
RoleCounts world_count_roles(const World *world)
{
    RoleCounts counts = {0};

    for (guint i = 0; world_stands_still(world) && i < world->config.count; i++) {
        const Guest *guest = &world->guests[i];
        guint role = world->instances[i].role.number;

        counts.parts[role] += guest->off ? 0 : 1;
        counts.serving[role] += guest->off || guest->fell || guest->taken || guest->sick ? 0 : 1;
    }
    return counts;
}

/* D8. A rollback may take the one that is left (decision 6). */
void world_look_at_roles(World *world, const RoleCounts *before)
{
    RoleCounts after = world_count_roles(world);
    guint most = world->config.kind == VR_RUN_ROLLBACK ? 1 : 0;

    for (guint role = 1; role < G_N_ELEMENTS(after.parts) && world->violation == NULL; role++) {
        if (after.parts[role] >= 2 && before->serving[role] > most && after.serving[role] == 0)
            world->violation = g_strdup_printf("nothing of role number %u serves any more", role);
    }
}
