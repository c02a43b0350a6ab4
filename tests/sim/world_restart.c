/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The death of an orchestrator, what recovery makes of what was in flight (orchestrator/recover_set.c), and the one that goes on. */
#include "tests/sim/world_private.h"

#define DAY_MS 86400000

/* ---- recovery ---- */

/* Its new disk runs: health is judged again. */
static VrInstancePhase judged(World *world, guint i)
{
    const VrRolloutConfig *config = &world->config;
    Guest *guest = &world->guests[i];

    guest->ran_new = TRUE;
    world_found_well(world, i);
    if (guest->off || !world_chance(world, world->chances.unhealthy)) {
        guest->upgraded = TRUE;
        world_guest_becomes(world, i, FALSE, FALSE);
        return VR_PHASE_COMMITTED;
    }
    if (config->policy.automatic_rollback && config->kind != VR_RUN_ROLLBACK) {
        world_guest_becomes(world, i, FALSE, FALSE);
        return VR_PHASE_RESTORED;
    }
    guest->open = SWAP_OVER;
    world_guest_becomes(world, i, TRUE, TRUE);
    return VR_PHASE_FAILED;
}

static VrInstancePhase back(World *world, guint i)
{
    world_guest_becomes(world, i, FALSE, FALSE);
    if (world->guests[i].ran_new)
        world_found_well(world, i);
    return world->guests[i].ran_new ? VR_PHASE_RESTORED : VR_PHASE_PENDING;
}

static VrInstancePhase good(World *world, guint i)
{
    world->guests[i].upgraded = TRUE;
    world_found_well(world, i);
    world_guest_becomes(world, i, FALSE, FALSE);
    return VR_PHASE_COMMITTED;
}

/* One that had failed, and whose swap was not over. */
static VrInstancePhase second_look(World *world, guint i)
{
    switch (world->guests[i].open) {
    case SWAP_UNRECORDED:
        return good(world, i);
    case SWAP_NOT_BACK:
        world->guests[i].ran_new = TRUE;
        return back(world, i);
    case SWAP_LEFT:
        world->guests[i].open = SWAP_OVER;
        return world_chance(world, 300) ? good(world, i) : VR_PHASE_FAILED;
    default:
        return VR_PHASE_FAILED;
    }
}

static VrInstancePhase recovered(World *world, guint i, VrInstancePhase phase)
{
    Guest *guest = &world->guests[i];
    gboolean in_flight = vr_instance_phase_in_flight(phase);

    if (in_flight && world_chance(world, world->chances.unknown))
        return VR_PHASE_UNKNOWN;
    switch (phase) {
    case VR_PHASE_PREPARING:
    case VR_PHASE_PREPARED:
    case VR_PHASE_DISCARDING:
    case VR_PHASE_NOTICE:
        return VR_PHASE_PENDING;
    case VR_PHASE_SWAPPING:
        if (!guest->swapping)
            return VR_PHASE_PENDING;
        return guest->ran_new || world_chance(world, 500) ? judged(world, i) : back(world, i);
    case VR_PHASE_PROBING:
        return judged(world, i);
    case VR_PHASE_COMMITTING:
        return guest->upgraded || world_chance(world, 900) ? good(world, i) : judged(world, i);
    case VR_PHASE_RESTORING:
        return back(world, i);
    case VR_PHASE_FAILED:
        return second_look(world, i);
    case VR_PHASE_UNKNOWN: /* a person has looked, or not */
        return world_chance(world, 500) ? VR_PHASE_UNKNOWN : guest->upgraded ? good(world, i) : back(world, i);
    default:
        return phase;
    }
}

typedef struct {
    VrRolloutPast *past;
    GPtrArray *reasons;
} Settled;

static Settled settle_all(World *world)
{
    Settled settled = {g_new0(VrRolloutPast, world->config.count), g_ptr_array_new_with_free_func(g_free)};

    for (guint i = 0; i < world->config.count; i++) {
        VrInstancePhase before = vr_rollout_phase(world->rollout, i), after = recovered(world, i, before);
        char *reason = g_strdup(vr_rollout_reason(world->rollout, i));

        if (after != before) {
            world_tell(world, "    %u was %s and is %s", i, vr_instance_phase_name(before),
                       vr_instance_phase_name(after));
            g_free(reason);
            reason = g_strdup_printf("recovered: guest-%u was %s", i, vr_instance_phase_name(before));
        }
        world->guests[i].swapping = FALSE;
        g_ptr_array_add(settled.reasons, reason);
        settled.past[i] = (VrRolloutPast){after, reason};
    }
    return settled;
}

/* ---- the one that goes on ---- */

/* The state is kept with the id of the boot, whose clock begins anew with each. */
static char *boot_id(const World *world)
{
    return g_strdup_printf("boot-%u", world->boots);
}

static char *keep(const World *world)
{
    g_autofree char *boot = boot_id(world);

    return vr_rollout_save(world->rollout, world->kept_ms, boot);
}

/* The one that went on may die before it has kept anything: then the state is as the one before it has left it. */
void world_keep_last(World *world)
{
    if (world->kept) {
        g_free(world->saved);
        world->saved = keep(world);
        check_free(world->kept_check);
        world->kept_check = check_copy(world->check);
        world->saved_ms = world->kept_ms;
        world->saved_boot = world->boots;
    } else if (world->kept_check != NULL) {
        check_free(world->check);
        world->check = check_copy(world->kept_check);
    }
    world->kept = FALSE;
}

static void loads(World *world, const VrRolloutPast *past)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *boot = boot_id(world);
    gint64 later_ms = world->boots != world->saved_boot ? world->now_ms - world->saved_ms : 0;
    VrRolloutView view;

    world->rollout = vr_rollout_new(&world->config);
    if (world->saved != NULL && !vr_rollout_load(world->rollout, world->saved, past, world->now_ms, boot, &error)) {
        world->violation = g_strdup_printf("it cannot be loaded: %s", error->message);
        return;
    }
    vr_rollout_view(world->rollout, &view);
    check_restarted(world->check, past, world->now_ms, later_ms, &view);
}

static void goes_on(World *world, const Settled *settled)
{
    VrEvent start = {.type = VR_EVENT_START};

    world->crash = CRASH_NONE;
    world->in_batch = FALSE;
    g_array_set_size(world->errands, 0);
    loads(world, settled->past);
    g_free(settled->past);
    g_ptr_array_unref(settled->reasons);
    if (world->violation != NULL)
        return;
    world_early_words(world);
    world->now_ms += world_below(world, 5000);
    world->crash = world_draw_crash(world);
    world_deliver(world, &start);
    world->crash = CRASH_NONE;
}

/* Minutes to days; the clock of the boot goes on, or begins anew. */
static void time_goes_by(World *world, gboolean reboots)
{
    gint64 wall_ms = world->now_ms + world->wall_ahead_ms;

    if (reboots) {
        world->boots++;
        world->now_ms = 1 + world_below(world, 2000000);
        world->wall_ahead_ms = wall_ms + 1 + world_below(world, 3 * DAY_MS) - world->now_ms;
        world->vanished_until = 0;
        world_forget_stopped(world);
    } else {
        world->now_ms += 1 + world_below(world, world_chance(world, 700) ? 600000 : 3 * DAY_MS);
    }
}

void world_restart(World *world)
{
    gboolean reboots = world_chance(world, 500);
    Settled settled;

    world->restarts++;
    world_tell(world, "    the process dies %s its step was kept%s", world->crash == CRASH_KEPT ? "after" : "before",
               reboots ? ", and its host with it" : "");
    world_keep_last(world);
    settled = settle_all(world);
    vr_rollout_free(world->rollout);
    time_goes_by(world, reboots);
    goes_on(world, &settled);
}

/* The first owner is stopped, and a second one goes on. */
void world_take_over(World *world)
{
    Settled settled;

    world->takeovers++;
    world->crashes_left--;
    world_tell(world, "    the process is stopped, and another one takes over");
    world_keep_last(world);
    settled = settle_all(world);
    world_stop(world);
    world->now_ms += 1 + world_below(world, 600000);
    goes_on(world, &settled);
}
