/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A process is killed at each of its points; then each of its recovery's points, too. */
#include "fault/sweep.h"

#define SECOND_CUTS 8 /* of one first cut, in one go */

char *settle(Runner *runner, World *world, guint most)
{
    g_autoptr(Tree) settled = NULL;
    g_autoptr(Tree) again = NULL;
    g_autofree char *first = NULL;
    g_autofree char *second = NULL;
    Ending ending = ENDED_UNKNOWN;
    char *wrong;

    for (guint i = 0; i < most && ending == ENDED_UNKNOWN; i++)
        ending = world_run(world, 0, world_recover, NULL);
    if (ending != ENDED_WELL)
        return g_strdup_printf(
            ending == ENDED_UNKNOWN ? "not settled in %u recoveries" : "a recovery crashed or failed (%u)", most);
    settled = tree_read(world->now);
    wrong = check_settled(world, settled);
    if (wrong)
        return wrong;
    if (world_run(world, 0, world_recover, NULL) != ENDED_WELL)
        return g_strdup("a further recovery failed");
    again = tree_read(world->now);
    first = tree_state(settled, FALSE);
    second = tree_state(again, FALSE);
    return g_str_equal(first, second) ? NULL : g_strdup("a further recovery changed something");
}

static guint64 digest_of(Tree *world)
{
    g_autofree char *state = tree_state(world, TRUE);

    state[16] = '\0';
    return strtoull(state, NULL, 16);
}

/* Of the process that was just killed, which had begun with the world `from`: two that did the same until then are one cut. */
static guint64 cut_of(const World *world, guint64 from)
{
    guint64 cut = (from ^ world->report->past) * 0x9e3779b97f4a7c15;

    return cut ^ cut >> 29;
}

/* What was left by a process that was killed at `at`. NULL: it was not, or it does not hold (*wrong). */
static Tree *cut(World *world, guint at, WorldJob job, gboolean *fired, char **wrong)
{
    Ending ending = world_run(world, at, job, NULL);
    g_autoptr(Tree) left = NULL;

    *wrong = NULL;
    *fired = ending == ENDED_KILLED;
    if (ending == ENDED_BADLY)
        *wrong = g_strdup("it crashed or failed, and was not cut");
    if (!*fired)
        return NULL;
    left = tree_read(world->now);
    *wrong = check_instant(world, left);
    return *wrong ? NULL : g_steal_pointer(&left);
}

/* left may be NULL. */
static void count_cut(Runner *runner, guint64 cut, Tree *left)
{
    runner->report->tallies[runner->kind].fired++;
    runner_cut(runner, cut);
    if (left)
        runner_state(runner, left);
}

static guint points_of(Runner *runner, guint scenario)
{
    runner_world(runner, scenario);
    return runner->points[scenario];
}

static char *how_of(const Runner *runner, const World *world, guint at, guint at2)
{
    g_autofree char *second = at2 > 0 ? g_strdup_printf(" --cut2 %u", at2) : g_strdup("");

    return g_strdup_printf("--scenario '%s' --cut %u%s (%s)", world->scenario->name, at, second, world->report->label);
}

static void kill_at(Runner *runner, Place place)
{
    World *world = runner_world(runner, place.scenario);
    g_autofree char *how = NULL;
    g_autoptr(Tree) left = NULL;
    gboolean fired;
    char *wrong;

    world_restore(world, world->before);
    left = cut(world, place.at, world_act, &fired, &wrong);
    how = how_of(runner, world, place.at, 0);
    if (fired)
        count_cut(runner, cut_of(world, digest_of(world->before)), left);
    runner_judge(runner, world, how, left ? settle(runner, world, RECOVERIES_MAX) : wrong);
}

void sweep_kill(Runner *runner)
{
    g_autoptr(GArray) places = runner_places(runner, points_of);

    runner->report->tallies[SWEEP_KILL].planned = places->len;
    for (guint i = 0; i < places->len && !runner_is_over(runner); i++)
        kill_at(runner, g_array_index(places, Place, i));
}

/* --- twice ------------------------------------------------------------------------------------------- */

/* Places of the second cut in an order of their own; the pass says which part of them. */
static GArray *second_cuts(const Runner *runner, Place place, guint count, guint pass)
{
    GArray *all = g_array_new(FALSE, FALSE, sizeof(guint));
    g_autoptr(GRand) random = g_rand_new_with_seed(runner->seed * 7919 + place.scenario * 104729 + place.at);

    for (guint i = 1; i <= count; i++)
        g_array_append_val(all, i);
    for (guint i = count; i > 1; i--) {
        guint other = (guint)g_rand_int_range(random, 0, (gint32)i);
        guint kept = g_array_index(all, guint, i - 1);
        g_array_index(all, guint, i - 1) = g_array_index(all, guint, other);
        g_array_index(all, guint, other) = kept;
    }
    g_array_remove_range(all, 0, MIN(pass * SECOND_CUTS, all->len));
    if (all->len > SECOND_CUTS)
        g_array_set_size(all, SECOND_CUTS);
    if (runner->cut2 > 0) {
        g_array_set_size(all, 1);
        g_array_index(all, guint, 0) = runner->cut2;
    }
    return all;
}

static void kill_recovery_at(Runner *runner, World *world, const Tree *left, guint64 first, guint at, guint at2)
{
    g_autofree char *how = NULL;
    g_autoptr(Tree) second = NULL;
    gboolean fired;
    char *wrong;

    world_restore(world, left);
    second = cut(world, at2, world_recover, &fired, &wrong);
    how = how_of(runner, world, at, at2);
    if (fired)
        count_cut(runner, cut_of(world, first), second);
    runner_judge(runner, world, how, second ? settle(runner, world, RECOVERIES_MAX - 1) : wrong);
}

/* Says whether there was anything left to cut in this pass. */
static gboolean kill_twice_at(Runner *runner, Place place, guint pass)
{
    World *world = runner_world(runner, place.scenario);
    g_autoptr(GArray) seconds = NULL;
    g_autoptr(Tree) left = NULL;
    gboolean fired;
    guint64 first;
    char *wrong;

    world_restore(world, world->before);
    left = cut(world, place.at, world_act, &fired, &wrong);
    g_free(wrong); /* the first sweep tells of it */
    if (!left)
        return FALSE;
    first = cut_of(world, digest_of(world->before));
    world_run(world, 0, world_recover, NULL);
    seconds = second_cuts(runner, place, world->report->count, pass);
    runner->report->tallies[SWEEP_TWICE].planned += seconds->len;
    for (guint i = 0; i < seconds->len && !runner_is_over(runner); i++)
        kill_recovery_at(runner, world, left, first, place.at, g_array_index(seconds, guint, i));
    return seconds->len > 0;
}

void sweep_twice(Runner *runner)
{
    g_autoptr(GArray) places = runner_places(runner, points_of);
    gboolean more = TRUE;

    for (guint pass = 0; more && !runner_is_over(runner); pass++) {
        more = FALSE;
        for (guint i = 0; i < places->len && !runner_is_over(runner); i++)
            more |= kill_twice_at(runner, g_array_index(places, Place, i), pass);
        more = more && runner->cut2 == 0;
    }
}
