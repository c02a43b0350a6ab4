/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Each call to libvirt fails in each way, once; and the set has another owner after each transaction. */
#include "fault/sweep.h"

#include <sqlite3.h>
#include <string.h>

/* --- calls of libvirt -------------------------------------------------------------------------------- */

typedef struct {
    guint call;
    SweepFault fault;
} Fault;

/* A scenario with a fault; ENDED_UNKNOWN: a swap is UNKNOWN at its end. */
static Ending act_with_fault(World *world, Sweep *sweep, void *data)
{
    const Fault *fault = data;
    g_autoptr(GPtrArray) open = NULL;
    gboolean unknown = FALSE;

    if (fault)
        sweep_hv_script(sweep->hv, fault->call, fault->fault);
    sweep->lenient = TRUE;
    world->scenario->act(sweep);
    world->report->answer = sweep_hv_calls(sweep->hv);
    g_strlcpy(world->report->label, sweep_hv_hit(sweep->hv) ? sweep_hv_hit(sweep->hv) : "", POINTS_LABEL);
    open = vr_journal_open_swaps(sweep->journal, NULL, NULL);
    for (guint i = 0; i < open->len; i++) {
        const VrSwapRow *row = open->pdata[i];
        unknown |= row->state == VR_SWAP_UNKNOWN;
        if (row->state != VR_SWAP_UNKNOWN)
            return ENDED_BADLY;
    }
    return unknown ? ENDED_UNKNOWN : ENDED_WELL;
}

static guint faults_of(Runner *runner, guint scenario)
{
    World *world;

    if (sweep_scenarios[scenario].no_swap)
        return 0;
    world = runner_world(runner, scenario);
    world_restore(world, world->before);
    g_assert_cmpint(world_run(world, 0, act_with_fault, NULL), ==, ENDED_WELL);
    return world->report->answer * (SWEEP_FAULTS - 1);
}

/* Nothing can be known of a libvirt that does not come back. */
static gboolean may_be_unknown(SweepFault fault)
{
    return fault == SWEEP_GONE || fault == SWEEP_GONE_AFTER;
}

static char *judge(Runner *runner, World *world, Ending ending, const Fault *fault)
{
    g_autoptr(Tree) left = tree_read(world->now);
    char *wrong = NULL;

    runner_state(runner, left);
    if (ending == ENDED_WELL)
        wrong = check_settled(world, left);
    else if (ending != ENDED_UNKNOWN)
        wrong = g_strdup("it crashed, or left a swap open that is not UNKNOWN");
    else if (!may_be_unknown(fault->fault))
        wrong = g_strdup("UNKNOWN, though libvirt answers again");
    return wrong ? wrong : settle(runner, world, RECOVERIES_MAX);
}

static void fail_at(Runner *runner, Place place)
{
    World *world = runner_world(runner, place.scenario);
    Fault fault = {.call = (place.at - 1) / (SWEEP_FAULTS - 1) + 1,
                   .fault = (SweepFault)((place.at - 1) % (SWEEP_FAULTS - 1) + 1)};
    g_autofree char *how = NULL;
    Ending ending;

    world_restore(world, world->before);
    ending = world_run(world, 0, act_with_fault, &fault);
    runner->report->tallies[SWEEP_LIBVIRT].fired += world->report->label[0] != '\0';
    how = g_strdup_printf("--scenario '%s' --cut %u (call %u, %s: %s)", world->scenario->name, place.at, fault.call,
                          world->report->label, sweep_fault_name(fault.fault));
    runner_judge(runner, world, how, judge(runner, world, ending, &fault));
}

void sweep_libvirt(Runner *runner)
{
    g_autoptr(GArray) places = runner_places(runner, faults_of);

    runner->report->tallies[SWEEP_LIBVIRT].planned = places->len;
    for (guint i = 0; i < places->len && !runner_is_over(runner); i++)
        fail_at(runner, g_array_index(places, Place, i));
}

/* --- another owner ----------------------------------------------------------------------------------- */

static Tree *at_take_over; /* the world then */

static void take_over(World *world)
{
    g_autofree char *path = g_build_filename(world->now, "root/state.db", NULL);
    sqlite3 *db = NULL;

    g_assert_cmpint(sqlite3_open(path, &db), ==, SQLITE_OK);
    sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    g_assert_cmpint(sqlite3_exec(db, "UPDATE owners SET fence = fence + 1", NULL, NULL, NULL), ==, SQLITE_OK);
    sqlite3_close(db);
    at_take_over = tree_read(world->now);
}

static gboolean same_domains(const Tree *a, const Tree *b)
{
    g_autoptr(GPtrArray) before = tree_paths(a, "hv/");
    g_autoptr(GPtrArray) after = tree_paths(b, "hv/");

    if (before->len != after->len)
        return FALSE;
    for (guint i = 0; i < before->len; i++) {
        const TreeNode *now = tree_get(b, before->pdata[i]);
        if (!now || !tree_same_content(tree_get(a, before->pdata[i]), now))
            return FALSE;
    }
    return TRUE;
}

static Ending act_leniently(World *world, Sweep *sweep, void *data)
{
    sweep->lenient = TRUE;
    world->scenario->act(sweep);
    return ENDED_WELL;
}

/* What the one that lost the set has done since. NULL: nothing. */
static char *compare(World *world)
{
    g_autoptr(Tree) then = g_steal_pointer(&at_take_over);
    g_autoptr(Tree) now = tree_read(world->now);
    g_autofree char *then_rows = tree_journal_text(then);
    g_autofree char *now_rows = tree_journal_text(now);

    if (!same_domains(then, now))
        return g_strdup("22: a domain was changed after another owner took over");
    return g_str_equal(then_rows, now_rows) ? NULL
                                            : g_strdup("22: the journal was changed after another owner took over");
}

static guint transactions_of(Runner *runner, guint scenario)
{
    World *world;

    if (sweep_scenarios[scenario].no_swap)
        return 0;
    world = runner_world(runner, scenario);
    world_restore(world, world->before);
    world_watch(world, "after COMMIT", take_over);
    g_assert_cmpint(world_run(world, 0, act_leniently, NULL), ==, ENDED_WELL);
    return world->report->count;
}

static void lose_at(Runner *runner, Place place)
{
    World *world = runner_world(runner, place.scenario);
    g_autofree char *how = g_strdup_printf("--scenario '%s' --cut %u", world->scenario->name, place.at);
    char *wrong = NULL;

    world_restore(world, world->before);
    world_watch(world, "after COMMIT", take_over);
    if (world_run(world, place.at, act_leniently, NULL) != ENDED_WELL)
        wrong = g_strdup("it crashed");
    if (at_take_over) {
        runner->report->tallies[SWEEP_FENCE].fired++;
        wrong = wrong ? wrong : compare(world);
    }
    runner_judge(runner, world, how, wrong ? wrong : settle(runner, world, RECOVERIES_MAX));
}

void sweep_fence(Runner *runner)
{
    g_autoptr(GArray) places = runner_places(runner, transactions_of);

    runner->report->tallies[SWEEP_FENCE].planned = places->len;
    for (guint i = 0; i < places->len && !runner_is_over(runner); i++)
        lose_at(runner, g_array_index(places, Place, i));
}
