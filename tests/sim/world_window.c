/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The wall clock of a world, which jumps, and the maintenance window that goes by it (H4). */
#include "tests/sim/world_private.h"

#define HOUR_MS 3600000

/* By numbers of its own: a world without a window goes as it would where nobody knew of windows, so that what a seed has found once it finds again. */
void world_draw_window(World *world)
{
    static const guint minutes[] = {1, 2, 5, 10, 60, 600};
    guint64 random = world->random;

    world->random ^= 0x5851f42d4c957f2dULL;
    world->config.window = world_chance(world, 250);
    world->window_every_ms = (gint64)60000 * (1 + world_below(world, 120));
    world->window_ms = MIN((gint64)60000 * minutes[world_below(world, G_N_ELEMENTS(minutes))],
                           world->window_every_ms - world_below(world, 60000));
    world->wall_ahead_ms = world_below(world, 24 * HOUR_MS);
    world->chances.wall = world->config.window && world_chance(world, 300) ? 30 : 0;
    world->chances.unsaid = world_chance(world, 200) ? 200 : 0;
    world->random = random;
}

/* How long it is open still; 0: it is shut. */
static gint64 open_for(const World *world, gint64 *opens_in)
{
    gint64 since = (world->now_ms + world->wall_ahead_ms) % world->window_every_ms;

    *opens_in = world->window_every_ms - since;
    return MAX(0, world->window_ms - since);
}

VrWindowAnswer world_look_at_window(World *world)
{
    gint64 opens_in, open = open_for(world, &opens_in);

    if (!world->config.window)
        return (VrWindowAnswer){0};
    if (world_chance(world, world->chances.unsaid))
        return (VrWindowAnswer){.words = "nobody knows"};
    world_tell(world, "    the window is %s", open > 0 ? "open" : "shut");
    return (VrWindowAnswer){.is_known = TRUE,
                            .until_ms = open > 0 ? world->now_ms + open : 0,
                            .next_ms = world_chance(world, 50) ? 0 : world->now_ms + opens_in,
                            .words = "it opens again"};
}

void world_hears_late(World *world, const VrWindowAnswer *window)
{
    if (!world->config.window)
        return;
    if (world_chance(world, 300))
        world->now_ms += world_below(world, world_chance(world, 500) ? 20 : 90000);
    else if (window->until_ms > world->now_ms && world_chance(world, 30))
        world->now_ms = window->until_ms; /* as it shuts */
}

/* H4, in truth: by the wall clock, and by what batches of this run took. */
void world_batch_begins(World *world)
{
    gint64 opens_in, open = open_for(world, &opens_in);

    world->batch_began_ms = world->now_ms;
    if (!world->config.window || world->config.kind == VR_RUN_ROLLBACK || world->violation != NULL)
        return;
    if (open == 0)
        world->violation = g_strdup("a batch begins outside of the window");
    else if (open < world->longest_ms)
        world->violation = g_strdup_printf("a batch begins %" G_GINT64_FORMAT
                                           " ms before the window shuts, and one took %" G_GINT64_FORMAT " ms",
                                           open, world->longest_ms);
}

void world_batch_ends(World *world)
{
    world->longest_ms = MAX(world->longest_ms, world->now_ms - world->batch_began_ms);
}

void world_wall_jumps(World *world)
{
    if (world->chances.wall > 0 && world_chance(world, world->chances.wall))
        world->wall_ahead_ms += world_chance(world, 500) ? 2 * HOUR_MS : -2 * HOUR_MS;
    if (world->now_ms + world->wall_ahead_ms < 0)
        world->wall_ahead_ms = 0;
}
