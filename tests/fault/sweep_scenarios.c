/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the sweeps cut (rows B14, B17). A scenario is a function that does it, a row in the table below, and nothing else. */
#include "fault/sweep_world.h"

#include "engine/retention.h"
#include "engine/retire.h"

static const SweepMove forward = {.to_generation = SWEEP_FORWARD};
static const SweepMove full_clone = {.to_generation = SWEEP_FORWARD, .full = TRUE};

static void must(const Sweep *sweep, gboolean ok)
{
    if (!ok && !sweep->lenient)
        g_error("the scenario does not go as it should");
}

static void act_forward(Sweep *sweep)
{
    must(sweep, sweep_move(sweep, 0, &forward, TRUE));
}

static void act_full_clone(Sweep *sweep)
{
    must(sweep, sweep_move(sweep, 0, &full_clone, TRUE));
}

static void act_unhealthy(Sweep *sweep)
{
    must(sweep, sweep_move(sweep, 0, &forward, FALSE));
}

static void act_unhealthy_full_clone(Sweep *sweep)
{
    must(sweep, sweep_move(sweep, 0, &full_clone, FALSE));
}

/* It does not help, and the policy leaves it there. */
static void act_left(Sweep *sweep)
{
    g_autoptr(VrSwap) swap = sweep_begin(sweep, 0, &forward, NULL, NULL);
    gboolean started = swap && vr_swap_advance(swap, VR_SWAP_STARTED, &sweep_stop, NULL);

    must(sweep, started);
    if (swap)
        must(sweep,
             started ? vr_swap_leave(swap, "not healthy, and left", NULL) : vr_swap_undo(swap, "it failed", NULL));
}

static void back_to(Sweep *sweep, int generation, gboolean healthy)
{
    const SweepMove move = {.to_generation = generation};

    must(sweep, sweep_move(sweep, 0, &move, healthy));
}

static void act_back_to_0(Sweep *sweep)
{
    back_to(sweep, 0, TRUE);
}

static void act_back_to_1(Sweep *sweep)
{
    back_to(sweep, 1, TRUE);
}

static void act_back_unhealthy(Sweep *sweep)
{
    back_to(sweep, 1, FALSE);
}

static void before_two(Sweep *sweep)
{
    act_forward(sweep);
    act_forward(sweep);
}

static void before_two_clones(Sweep *sweep)
{
    act_full_clone(sweep);
    act_full_clone(sweep);
}

/* Five generations: one was tried and failed, one was gone back to. */
static void before_many(Sweep *sweep)
{
    act_forward(sweep);
    act_unhealthy(sweep);
    act_forward(sweep);
    act_back_to_1(sweep);
    act_forward(sweep);
}

/* One that fails is out of its batch. */
static void advance(const Sweep *sweep, VrSwap **swap, VrSwapState to)
{
    if (*swap && vr_swap_advance(*swap, to, &sweep_stop, NULL))
        return;
    must(sweep, FALSE);
    if (*swap)
        vr_swap_undo(*swap, "it failed", NULL);
    g_clear_pointer(swap, vr_swap_free);
}

/* As a batch goes: all are prepared before the first goes down. */
static void act_batch(Sweep *sweep)
{
    VrSwap *swaps[SWEEP_GUESTS_MAX] = {NULL};

    for (guint i = 0; i < sweep->n; i++) {
        swaps[i] = sweep_begin(sweep, i, &forward, NULL, NULL);
        advance(sweep, &swaps[i], VR_SWAP_PREPARED);
    }
    for (guint i = 0; i < sweep->n; i++)
        if (swaps[i])
            advance(sweep, &swaps[i], VR_SWAP_STARTED);
    for (guint i = 0; i < sweep->n; i++) {
        if (swaps[i])
            must(sweep, vr_swap_commit(swaps[i], NULL, NULL));
        g_clear_pointer(&swaps[i], vr_swap_free);
    }
}

static void act_discarded(Sweep *sweep)
{
    g_autoptr(VrSwap) swap = sweep_begin(sweep, 0, &forward, NULL, NULL);

    must(sweep, swap && vr_swap_advance(swap, VR_SWAP_PREPARED, NULL, NULL));
    if (swap)
        must(sweep, vr_swap_undo(swap, "the run is cancelled", NULL));
}

static char *name_of_next(const Sweep *sweep)
{
    return g_build_filename(sweep->top, "root", "disks", sweep_guest_uuid(0), "g1.qcow2", NULL);
}

static void before_name_taken(Sweep *sweep)
{
    g_autofree char *path = name_of_next(sweep);
    g_autofree char *dir = g_path_get_dirname(path);

    g_mkdir_with_parents(dir, 0711);
    g_assert_true(g_file_set_contents(path, "somebody's", -1, NULL));
}

/* Another number is taken, and nothing is overwritten or deleted by inference (SAFETY 7). */
static void act_name_taken(Sweep *sweep)
{
    g_autoptr(VrSwap) swap = sweep_begin(sweep, 0, &forward, NULL, NULL);

    must(sweep, swap && vr_swap_advance(swap, VR_SWAP_PREPARED, NULL, NULL));
    if (swap)
        must(sweep, vr_swap_undo(swap, "not wanted any more", NULL));
}

static void publish(Sweep *sweep, VrImageFormat format)
{
    g_autofree char *file = g_build_filename(sweep->top, "os-3.0.0.raw", NULL);
    VrPublication publication = {
        .name = "os", .version = "3.0.0", .file = file, .as_given = TRUE, .as = format, .format_given = TRUE};

    must(sweep, vr_store_publish(sweep->store, &publication, NULL, NULL, NULL));
}

static void act_publish_raw(Sweep *sweep)
{
    publish(sweep, VR_FORMAT_RAW);
}

static void act_publish_qcow2(Sweep *sweep)
{
    publish(sweep, VR_FORMAT_QCOW2);
}

static void act_image_delete(Sweep *sweep)
{
    must(sweep, vr_store_delete(sweep->store, "os", "1.0.0", NULL, NULL, NULL));
}

/* All that a retention of one generation does not keep. */
static void act_gc(Sweep *sweep)
{
    const VrRetention one = {.generations = 1, .max_age_ms = 86400000, .failed_disks = 0};
    g_autoptr(GPtrArray) all = vr_journal_generations(sweep->journal, sweep_guest_uuid(0), NULL);
    g_autoptr(VrInUse) in_use = vr_in_use_read(sweep->store, sweep->engine.hv, sweep->journal, NULL);
    const VrRetireCheck check = {.in_use = in_use};
    g_autoptr(GPtrArray) verdicts = NULL;
    VrRetentionFacts facts;
    guint gone = 0;

    must(sweep, vr_retention_facts(sweep->journal, SWEEP_SET, sweep_guest_uuid(0), all, &facts, NULL));
    verdicts = vr_retention_judge(all, &one, &facts);
    for (guint i = 0; i < verdicts->len; i++) {
        const VrVerdict *verdict = g_ptr_array_index(verdicts, i);
        gone += verdict->goes && vr_retire(&sweep->engine, verdict->generation, &check, verdict->why, NULL);
    }
    must(sweep, gone > 0);
}

const SweepScenario sweep_scenarios[] = {
    {.name = "forward", .guests = 1, .act = act_forward},
    {.name = "forward, off", .guests = 1, .off = TRUE, .act = act_forward},
    {.name = "forward, block", .guests = 1, .naming = SWEEP_BLOCK, .act = act_forward},
    {.name = "forward, volume", .guests = 1, .naming = SWEEP_VOLUME, .act = act_forward},
    {.name = "full clone", .guests = 1, .act = act_full_clone},
    {.name = "third", .guests = 1, .before = before_two, .act = act_forward},
    {.name = "many generations", .guests = 1, .before = before_many, .act = act_forward},
    {.name = "unhealthy", .guests = 1, .unhealthy = TRUE, .act = act_unhealthy},
    {.name = "unhealthy, full clone", .guests = 1, .unhealthy = TRUE, .act = act_unhealthy_full_clone},
    {.name = "left unhealthy", .guests = 1, .act = act_left},
    {.name = "rollback", .guests = 1, .before = before_two, .act = act_back_to_1},
    {.name = "rollback, off", .guests = 1, .off = TRUE, .before = before_two, .act = act_back_to_1},
    {.name = "rollback of clones", .guests = 1, .before = before_two_clones, .act = act_back_to_1},
    {.name = "rollback to generation 0", .guests = 1, .before = act_forward, .act = act_back_to_0},
    {.name = "rollback to a block device",
     .guests = 1,
     .naming = SWEEP_BLOCK,
     .before = act_forward,
     .act = act_back_to_0},
    {.name = "rollback to a volume", .guests = 1, .naming = SWEEP_VOLUME, .before = act_forward, .act = act_back_to_0},
    {.name = "rollback, unhealthy", .guests = 1, .unhealthy = TRUE, .before = before_two, .act = act_back_unhealthy},
    {.name = "forward, UEFI", .guests = 1, .uefi = TRUE, .act = act_forward},
    {.name = "unhealthy, UEFI", .guests = 1, .uefi = TRUE, .unhealthy = TRUE, .act = act_unhealthy},
    {.name = "rollback, UEFI", .guests = 1, .uefi = TRUE, .before = before_two, .act = act_back_to_1},
    {.name = "rollback to generation 0, UEFI", .guests = 1, .uefi = TRUE, .before = act_forward, .act = act_back_to_0},
    {.name = "forward, seed", .guests = 1, .seeded = TRUE, .act = act_forward},
    {.name = "third, seed", .guests = 1, .seeded = TRUE, .before = before_two, .act = act_forward},
    {.name = "unhealthy, seed",
     .guests = 1,
     .seeded = TRUE,
     .unhealthy = TRUE,
     .before = act_forward,
     .act = act_unhealthy},
    {.name = "rollback, seed", .guests = 1, .seeded = TRUE, .before = before_two, .act = act_back_to_1},
    {.name = "rollback to generation 0, seed",
     .guests = 1,
     .seeded = TRUE,
     .before = act_forward,
     .act = act_back_to_0},
    {.name = "carry", .guests = 1, .carried = SWEEP_CARRY_DISK, .act = act_forward},
    {.name = "carry, off", .guests = 1, .off = TRUE, .carried = SWEEP_CARRY_DISK, .act = act_forward},
    {.name = "third, carry", .guests = 1, .carried = SWEEP_CARRY_DISK, .before = before_two, .act = act_forward},
    {.name = "unhealthy, carry", .guests = 1, .carried = SWEEP_CARRY_DISK, .unhealthy = TRUE, .act = act_unhealthy},
    {.name = "carry from the guest", .guests = 1, .carried = SWEEP_CARRY_GUEST, .act = act_forward},
    {.name = "batch of two", .guests = 2, .act = act_batch},
    {.name = "batch of three", .guests = 3, .before = act_batch, .act = act_batch},
    {.name = "prepared and discarded", .guests = 1, .act = act_discarded},
    {.name = "name is taken", .guests = 1, .before = before_name_taken, .act = act_name_taken},
    {.name = "publish raw", .guests = 1, .no_swap = TRUE, .act = act_publish_raw},
    {.name = "publish qcow2", .guests = 1, .no_swap = TRUE, .act = act_publish_qcow2},
    {.name = "gc",
     .guests = 1,
     .no_swap = TRUE,
     .may_delete = "root/disks/" SWEEP_GUEST_0 "/g",
     .before = before_many,
     .act = act_gc},
    {.name = "gc, UEFI",
     .guests = 1,
     .uefi = TRUE,
     .no_swap = TRUE,
     .may_delete = "root/disks/" SWEEP_GUEST_0 "/g",
     .before = before_many,
     .act = act_gc},
    {.name = "gc, seed",
     .guests = 1,
     .seeded = TRUE,
     .no_swap = TRUE,
     .may_delete = "root/disks/" SWEEP_GUEST_0 "/g",
     .before = before_many,
     .act = act_gc},
    {.name = "image-delete",
     .guests = 1,
     .no_swap = TRUE,
     .may_delete = "root/images/os/1.0.0",
     .act = act_image_delete},
};
const guint sweep_scenario_count = G_N_ELEMENTS(sweep_scenarios);
