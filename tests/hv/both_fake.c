/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The side of the scripted hypervisor, as the sweeps have it. */
#include "hv/both.h"

#include "fault/sweep_hv.h"

typedef struct {
    Side side;
    SweepHv *sweep;
    gsize told[GUESTS]; /* of the guest's log */
} Scripted;

static void scripted_outside(Side *side, guint guest, Outside what)
{
    FakeHv *fake = sweep_hv_fake(((Scripted *)side)->sweep, guest);

    switch (what) {
    case UNDEFINE:
        fake_hv_undefine(fake);
        break;
    case AUTOSTART:
        fake->autostart = TRUE;
        break;
    case SUSPEND:
        fake_hv_set_state(fake, VR_DOMAIN_PAUSED);
        break;
    case RESUME:
        fake_hv_set_state(fake, VR_DOMAIN_RUNNING);
        break;
    case SAVE:
        fake_hv_save(fake);
        break;
    case DROP_SAVE:
        fake->managed_save = FALSE;
        break;
    case SNAPSHOT:
        fake_hv_snapshot(fake);
        break;
    case COPY:
        fake->job = "block copy on vdb";
        break;
    case CRASH:
        fake_hv_end(fake, VR_REASON_CRASHED);
        break;
    case BOOTED:
        break;
    case DEAF:
    case ENDS:
    case WELL:
        fake->deaf = what == DEAF;
        fake->ends_at_once = what == ENDS;
        break;
    }
}

static void scripted_daemon(Side *side, Daemon what)
{
    SweepHv *sweep = ((Scripted *)side)->sweep;

    if (what == STOP_DAEMON)
        sweep_hv_script(sweep, sweep_hv_calls(sweep) + 1, SWEEP_HUNG_THEN_DONE);
    else if (what == KILL_DAEMON)
        sweep_hv_restart(sweep);
}

static char *scripted_events(Side *side, guint guest)
{
    Scripted *scripted = (Scripted *)side;
    const GString *log = sweep_hv_fake(scripted->sweep, guest)->log;
    gsize from = scripted->told[guest];

    scripted->told[guest] = log->len;
    return g_strdup(log->str + from);
}

char *__wrap_vr_connection_volume_path(VrHv *hv, const char *pool, const char *volume, GError **error);

static char *scripted_volume_path(Side *side, const char *pool, const char *volume, GError **error)
{
    g_autofree char *path = __wrap_vr_connection_volume_path(side->hv, pool, volume, error);

    return path ? g_canonicalize_filename(path, NULL) : NULL;
}

static void scripted_close(Side *side)
{
    sweep_hv_free(((Scripted *)side)->sweep);
    g_free(side);
}

static const SideOps scripted_ops = {"scripted",      scripted_outside,     scripted_daemon,
                                     scripted_events, scripted_volume_path, scripted_close};

Side *both_scripted(const char *dir)
{
    Scripted *scripted = g_new0(Scripted, 1);
    g_autofree char *hv = g_build_filename(dir, "hv", NULL);

    for (guint i = 0; i < GUESTS; i++) {
        g_autofree char *one = g_strdup_printf("%s/%u", hv, i);
        assert_int_equal(g_mkdir_with_parents(one, 0700), 0);
    }
    scripted->side.ops = &scripted_ops;
    scripted->side.dir = (char *)dir;
    scripted->sweep = sweep_hv_new(hv, GUESTS);
    scripted->side.hv = sweep_hv_ops(scripted->sweep);
    return &scripted->side;
}
