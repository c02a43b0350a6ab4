/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Recovery: what a killed process left, calls of libvirt that land late, many swaps at once, what a person says, and owners that lost
 * their set. Rows B17, B19. */
#include "engine/support.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "engine/swap_private.h"

#include <glib/gstdio.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

/* The process ends. */
static void restart(World *world)
{
    world_close(world);
    world_open(world);
}

/* One process that recovers; what it says, and commits what is STARTED. Free with g_free; NULL: nothing was open. */
static char *recover(World *world)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) recovered = vr_recover(&world->engine, FALSE, &error);
    const VrRecovered *one;

    assert_null(error);
    if (recovered->len == 0)
        return NULL;
    one = g_ptr_array_index(recovered, 0);
    if (one->row->state == VR_SWAP_STARTED) {
        g_autoptr(VrSwap) swap = vr_swap_resume(&world->engine, one->row, NULL);
        assert_true(vr_swap_commit(swap, NULL, NULL));
    }
    return g_strdup(one->told);
}

static gint64 ask_number(World *world, const char *sql)
{
    VrDb *db = vr_journal_db(world->journal);
    gint64 number = -1;

    assert_true(vr_db_begin(db, NULL));
    {
        g_autoptr(sqlite3_stmt) stmt = vr_db_prepare(db, NULL, sql, "");
        if (vr_db_step(db, stmt, NULL) == 1)
            number = sqlite3_column_int64(stmt, 0);
    }
    vr_db_rollback(db);
    return number;
}

/* Whatever is still under way takes effect now. */
static void let_all_land(World *world)
{
    world->fake->fault_at = 0;
    for (guint i = 0; i < 500 && world->fake->late.what; i++) {
        g_auto(VrDomainInfo) info = {0};
        vr_hv_info(&world->fake->hv, FAKE_UUID, &info, NULL);
    }
    assert_int_equal(world->fake->late.what, 0);
}

static void check_at_rest(World *world)
{
    let_all_land(world);
    assert_int_equal(fake_hv_state(world->fake), VR_DOMAIN_RUNNING);
    world_check(world, TRUE);
}

/* --- journal and XML decide -------------------------------------------------------------------------- */

/* Killed between the define and SWITCHED: the XML names the new disk, so it goes forward; and because libvirt's file may not be flushed,
 * it is defined once more before anything is started (SAFETY 4.6). */
static void test_intent_and_new_xml(void **state)
{
    g_autoptr(World) world = world_new(TRUE);
    g_autoptr(VrSwap) swap = world_reach(world, VR_SWAP_STOPPED);
    g_autofree char *told = NULL;

    assert_true(vr_journal_mark(world->journal, world->owner, vr_swap_row(swap)->id, "intent", NULL, NULL));
    assert_true(vr_hv_define(&world->fake->hv, FAKE_UUID, swap->intent_xml, NULL));
    restart(world);
    told = recover(world);
    assert_non_null(strstr(told, "brought to STARTED on generation 1"));
    assert_string_equal(world->fake->log->str, "ds");
    assert_int_equal(world_current(world), 1);
    check_at_rest(world);
}

/* Without the intent nothing of ours can have switched it: back, whatever the XML says of the old disk. */
static void test_intent_and_old_xml(void **state)
{
    g_autoptr(World) world = world_new(TRUE);
    g_autoptr(VrSwap) swap = world_reach(world, VR_SWAP_STOPPED);
    g_autofree char *told = NULL;

    assert_true(vr_journal_mark(world->journal, world->owner, vr_swap_row(swap)->id, "intent", NULL, NULL));
    restart(world);
    told = recover(world);
    assert_non_null(strstr(told, "put back on generation 0"));
    assert_string_equal(world->fake->log->str, "ds"); /* the old one too is flushed before it starts */
    check_at_rest(world);
}

/* A define that did more than was asked for is found by a recovery as by the swap itself. */
static void test_switch_is_proven_again(void **state)
{
    g_autoptr(World) world = world_new(TRUE);
    g_autoptr(VrSwap) swap = world_reach(world, VR_SWAP_STOPPED);
    g_autofree char *told = NULL;

    assert_true(vr_journal_mark(world->journal, world->owner, vr_swap_row(swap)->id, "intent", NULL, NULL));
    assert_true(vr_hv_define(&world->fake->hv, FAKE_UUID, swap->intent_xml, NULL));
    fake_hv_edit(world->fake, "DATA01", "DATA02");
    restart(world);
    told = recover(world);
    assert_non_null(strstr(told, "put back on generation 0"));
    check_at_rest(world);
}

/* --- the time of health ------------------------------------------------------------------------------ */

/* A guest that runs already gets no new mark: its health counts from when it began to run. One that is found off is started, and counts from
 * then. */
static void test_running_since(void **state)
{
    g_autoptr(World) world = world_new(TRUE);
    g_autoptr(VrSwap) swap = world_reach(world, VR_SWAP_STARTED);
    const char *id = vr_swap_row(swap)->id;
    g_autoptr(GPtrArray) first = NULL;
    g_autoptr(GPtrArray) second = NULL;
    gint64 began, now;

    assert_true(vr_journal_mark_time(world->journal, id, "running", &began, NULL));
    restart(world);
    world_quick_pass(60000);
    first = vr_recover(&world->engine, FALSE, NULL);
    assert_int_equal(((VrRecovered *)first->pdata[0])->row->state, VR_SWAP_STARTED);
    assert_true(vr_journal_mark_time(world->journal, id, "running", &now, NULL));
    assert_int_equal(now, began);
    fake_hv_set_state(world->fake, VR_DOMAIN_OFF);
    second = vr_recover(&world->engine, FALSE, NULL);
    assert_true(vr_journal_mark_time(world->journal, id, "running", &now, NULL));
    assert_true(now > began + 60000);
    world_run_sql(world, "UPDATE steps SET boot_id = 'another boot of the host'");
    assert_true(vr_journal_mark_time(world->journal, id, "running", &now, NULL));
    assert_int_equal(now, 0); /* invariant 24: it starts again */
}

/* --- calls that land late ---------------------------------------------------------------------------- */

static const guint lateness[] = {1, 2, 4, 7, 12, 30};

/* Each call that changes something is given up, in a swap with its undo, and takes effect later. */
static guint sweep_late(VrSwapState undo_at, guint by)
{
    for (guint at = 1;; at++) {
        g_autoptr(World) world = world_new(TRUE);
        g_autoptr(VrSwap) swap = NULL;
        g_autofree char *told = NULL;

        world->fake->fault = FAKE_LATE;
        world->fake->fault_at = at;
        world->fake->late_by = by;
        swap = world_begin(world, -1, NULL);
        if (swap && vr_swap_advance(swap, undo_at, &world_stop, NULL) && undo_at == VR_SWAP_STARTED && at % 2)
            vr_swap_commit(swap, NULL, NULL);
        else if (swap)
            vr_swap_undo(swap, "scripted", NULL);
        if (world->fake->point < at)
            return at - 1;
        world->fake->fault_at = 0;
        told = recover(world);
        check_at_rest(world);
    }
}

static void test_late_calls(void **state)
{
    const VrSwapState ends[] = {VR_SWAP_SWITCHED, VR_SWAP_STARTED};
    guint fired = 0;

    for (guint i = 0; i < G_N_ELEMENTS(lateness); i++)
        for (guint k = 0; k < G_N_ELEMENTS(ends); k++)
            fired += sweep_late(ends[k], lateness[i]);
    print_message("%u late calls, no violation\n", fired);
    assert_true(fired > 100);
}

/* The process was killed in a define, which takes effect when the recovery has begun, or has put all back. */
static void test_late_define_of_a_killed_process(void **state)
{
    for (guint i = 0; i < G_N_ELEMENTS(lateness); i++) {
        g_autoptr(World) world = world_new(TRUE);
        g_autoptr(VrSwap) swap = world_reach(world, VR_SWAP_STOPPED);
        g_autofree char *told = NULL;

        assert_true(vr_journal_mark(world->journal, world->owner, vr_swap_row(swap)->id, "intent", NULL, NULL));
        restart(world);
        fake_hv_late(world->fake, 'd', swap->intent_xml, lateness[i]);
        told = recover(world);
        check_at_rest(world);
    }
}

/* In a destroy of its undo. */
static void test_late_destroy_of_a_killed_process(void **state)
{
    for (guint i = 0; i < G_N_ELEMENTS(lateness); i++) {
        g_autoptr(World) world = world_new(TRUE);
        g_autoptr(VrSwap) swap = world_reach(world, VR_SWAP_STARTED);
        g_autofree char *told = NULL;

        world_run_sql(world, "UPDATE swaps SET backward = 1");
        restart(world);
        fake_hv_late(world->fake, 'x', NULL, lateness[i]);
        told = recover(world);
        assert_non_null(strstr(told, "put back on generation 0"));
        check_at_rest(world);
    }
}

/* libvirt takes each define of the old disk, and something puts the new one back each time: a person must look. */
static VrHvOps stubborn_ops;
static char *stubborn_xml;

static gboolean stubborn_define(VrHv *hv, const char *uuid, const char *xml, GError **error)
{
    fake_hv_late((FakeHv *)hv, 'd', stubborn_xml, 4);
    return TRUE;
}

static void test_late_for_ever(void **state)
{
    g_autoptr(World) world = world_new(TRUE);
    g_autoptr(VrSwap) swap = world_reach(world, VR_SWAP_STARTED);
    g_autoptr(GPtrArray) open = NULL;
    g_autofree char *told = NULL;

    world_run_sql(world, "UPDATE swaps SET backward = 1");
    restart(world);
    stubborn_ops = *world->fake->hv.ops;
    stubborn_ops.define = stubborn_define;
    stubborn_xml = swap->intent_xml;
    world->fake->hv.ops = &stubborn_ops;
    told = recover(world);
    assert_non_null(strstr(told, "UNKNOWN"));
    open = vr_journal_open_swaps(world->journal, "shop", NULL);
    assert_int_equal(open->len, 1); /* it keeps its slot */
}

/* --- UNKNOWN, and a person's word -------------------------------------------------------------------- */

static gint64 rows_of_all(World *world)
{
    return ask_number(world, "SELECT (SELECT COUNT(*) FROM steps) * 1000 + (SELECT COUNT(*) FROM events)");
}

/* What was UNKNOWN and is as it was, is said again and written no more: the third run changes nothing. */
static void three_runs(World *world, const char *expected)
{
    g_autofree char *first = recover(world);
    g_autofree char *second = recover(world);
    gint64 rows = rows_of_all(world);
    g_autofree char *third = recover(world);

    if (!strstr(third, expected))
        fail_msg("it says: %s", third);
    assert_int_equal(rows_of_all(world), rows);
    assert_string_equal(second, third);
}

static void test_third_run_writes_nothing(void **state)
{
    g_autoptr(World) world = world_new(TRUE);
    g_autoptr(VrSwap) swap = world_reach(world, VR_SWAP_STARTED);

    fake_hv_edit(world->fake, "/g1.qcow2", "/third.qcow2");
    three_runs(world, "virsh dumpxml --inactive fake");
    fake_hv_edit(world->fake, "/third.qcow2", "/g1.qcow2");
    g_free(recover(world));
    check_at_rest(world);
}

static void test_third_run_of_a_saved_guest(void **state)
{
    g_autoptr(World) world = world_new(TRUE);
    g_autoptr(VrSwap) swap = world_reach(world, VR_SWAP_STARTED);

    fake_hv_end(world->fake, VR_REASON_SAVED);
    three_runs(world, "virsh domstate --reason fake");
}

/* A dry run says the same, writes nothing, and starts nothing. */
static void test_dry_run(void **state)
{
    g_autoptr(World) world = world_new(TRUE);
    g_autoptr(VrSwap) swap = world_reach(world, VR_SWAP_SWITCHED);
    g_autoptr(GPtrArray) would = NULL;
    gint64 rows;

    restart(world);
    rows = rows_of_all(world);
    would = vr_recover(&world->engine, TRUE, NULL);
    assert_non_null(strstr(((VrRecovered *)would->pdata[0])->told, "would be brought to STARTED on generation 1"));
    fake_hv_edit(world->fake, "/g1.qcow2", "/third.qcow2");
    g_clear_pointer(&would, g_ptr_array_unref);
    would = vr_recover(&world->engine, TRUE, NULL);
    assert_non_null(strstr(((VrRecovered *)would->pdata[0])->told, "virsh dumpxml --inactive fake"));
    assert_int_equal(rows_of_all(world), rows);
    assert_string_equal(world->fake->log->str, "");
}

/* Every decision is in the audit, before it is carried out, and what came of it (invariant 28). */
static void test_audit(void **state)
{
    g_autoptr(World) world = world_new(TRUE);
    g_autoptr(VrSwap) swap = world_reach(world, VR_SWAP_SWITCHED);
    g_autofree char *text = NULL;
    gint64 at_us;

    restart(world);
    g_free(recover(world));
    assert_true(vr_journal_last_event(world->journal, "run", FAKE_UUID, "recovering", &at_us, &text, NULL));
    assert_string_equal(text, "in SWITCHED: the domain names the new disk: it goes forward on its new disk");
    assert_true(at_us > 0);
}

/* The domain of an open swap is gone. */
static gboolean no_info(VrHv *hv, const char *uuid, VrDomainInfo *info, GError **error)
{
    g_set_error(error, VR_ERROR, VR_ERROR_NOT_FOUND, "no domain %s", uuid);
    return FALSE;
}

static char *no_xml(VrHv *hv, const char *uuid, GError **error)
{
    g_set_error(error, VR_ERROR, VR_ERROR_NOT_FOUND, "no domain %s", uuid);
    return NULL;
}

static gboolean may_forget(World *world, const VrSwapRow *row, gboolean dry_run)
{
    g_autofree char *why = vr_swap_forget(&world->engine, row, dry_run, NULL);

    return why != NULL;
}

static void test_forget(void **state)
{
    const VrSwapState from[] = {VR_SWAP_STOPPED, VR_SWAP_STARTED};

    for (guint i = 0; i < G_N_ELEMENTS(from); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(World) world = world_new(TRUE);
        g_autoptr(VrSwap) swap = world_reach(world, from[i]);
        VrHvOps gone = *world->fake->hv.ops;
        const VrHvOps *there = world->fake->hv.ops;
        g_autofree char *told = NULL;
        g_autofree char *said = NULL;
        g_autoptr(VrSwapRow) row = NULL;
        g_autoptr(VrGeneration) made = NULL;
        gint64 at_us;

        gone.info = no_info;
        gone.inactive_xml = gone.live_xml = no_xml;
        world->fake->hv.ops = &gone;
        told = recover(world);
        assert_non_null(strstr(told, "recover shop --forget fake"));
        row = vr_journal_last_swap(world->journal, FAKE_UUID, NULL);
        assert_int_equal(row->state, VR_SWAP_UNKNOWN);
        world->fake->hv.ops = there;
        assert_null(vr_swap_forget(&world->engine, row, FALSE, &error));
        assert_gerror(error, VR_ERROR_REFUSED);
        world->fake->hv.ops = &gone;
        assert_true(may_forget(world, row, TRUE));
        assert_int_equal(ask_number(world, "SELECT COUNT(*) FROM events WHERE kind = 'forgotten'"), 0);
        assert_true(may_forget(world, row, FALSE));
        world->fake->hv.ops = there;
        assert_null(recover(world));
        assert_true(vr_journal_last_event(world->journal, "run", FAKE_UUID, "forgotten", &at_us, &said, NULL));
        assert_non_null(strstr(said, "a person's word"));
        made = vr_journal_generation(world->journal, FAKE_UUID, 1, NULL);
        assert_int_equal(made->state, VR_GENERATION_FAILED);
        assert_true(g_file_test(made->path, G_FILE_TEST_EXISTS));
        assert_int_equal(world_current(world), 0);
    }
}

static void lose_xml(World *world, guint number)
{
    g_autofree char *name = g_strdup_printf("g%u.xml", number);
    g_autofree char *path = g_build_filename(world->root, "disks", FAKE_UUID, name, NULL);

    assert_int_equal(unlink(path), 0);
}

/* A record that is lost is missed only where it is needed: none before the stop, the old XML alone before the intent. */
static void test_lost_record_that_is_not_needed(void **state)
{
    const struct {
        VrSwapState reached;
        int lost[2]; /* -1: none */
    } rows[] = {{VR_SWAP_PREPARED, {1, -1}}, {VR_SWAP_PREPARED, {0, 1}}, {VR_SWAP_STOPPED, {1, -1}}};

    for (guint i = 0; i < 2 * G_N_ELEMENTS(rows); i++) {
        g_autoptr(World) world = world_new(i % 2);
        g_autoptr(VrSwap) swap = world_reach(world, rows[i / 2].reached);
        g_autoptr(VrSwapRow) row = NULL;
        g_autofree char *told = NULL;

        for (int j = 0; j < 2 && rows[i / 2].lost[j] >= 0; j++)
            lose_xml(world, (guint)rows[i / 2].lost[j]);
        restart(world);
        told = recover(world);
        row = vr_journal_last_swap(world->journal, FAKE_UUID, NULL);
        assert_int_equal(row->state, rows[i / 2].reached == VR_SWAP_PREPARED ? VR_SWAP_DISCARDED : VR_SWAP_UNDONE);
        assert_int_equal(fake_hv_state(world->fake), i % 2 ? VR_DOMAIN_RUNNING : VR_DOMAIN_OFF);
        world_check(world, TRUE);
    }
}

/* Where it is needed it is said, with the way out; and that is open when the domain has its old disk. */
static void test_lost_record(void **state)
{
    const VrSwapState from[] = {VR_SWAP_STOPPED, VR_SWAP_STARTED};

    for (guint i = 0; i < G_N_ELEMENTS(from); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(World) world = world_new(TRUE);
        g_autoptr(VrSwap) swap = world_reach(world, from[i]);
        g_autoptr(GPtrArray) found = NULL;
        const char *told;
        g_autoptr(VrSwapRow) row = vr_journal_last_swap(world->journal, FAKE_UUID, NULL);

        lose_xml(world, 0);
        found = vr_recover(&world->engine, FALSE, NULL);
        told = ((const VrRecovered *)found->pdata[0])->told;
        assert_non_null(strstr(told, "recover shop --forget fake"));
        assert_non_null(strstr(told, world->old_path));
        if (from[i] == VR_SWAP_STARTED) {
            assert_null(vr_swap_forget(&world->engine, row, FALSE, &error));
            assert_gerror(error, VR_ERROR_REFUSED);
            assert_true(vr_hv_define(&world->fake->hv, FAKE_UUID, swap->before_xml, NULL));
            assert_false(may_forget(world, row, FALSE)); /* it runs on the new disk */
            fake_hv_set_state(world->fake, VR_DOMAIN_OFF);
        }
        assert_true(may_forget(world, row, TRUE));
        assert_true(may_forget(world, row, FALSE));
        assert_null(recover(world));
        assert_int_equal(fake_hv_state(world->fake), VR_DOMAIN_OFF);
        assert_true(vr_hv_start(&world->fake->hv, FAKE_UUID, NULL));
        check_at_rest(world);
        assert_int_equal(world_current(world), 0);
    }
}

/* --- owners ------------------------------------------------------------------------------------------ */

static gint64 rows_of_journal(World *world)
{
    return ask_number(world, "SELECT (SELECT COUNT(*) FROM steps) * 1000000 + (SELECT COUNT(*) FROM events) * 1000 + "
                             "(SELECT SUM(state * 10 + reached) FROM swaps)");
}

/* An owner that lost its set while it was stopped wakes up in any state, and whatever it tries: nothing is written, nothing that changes
 * something is called (invariant 22). */
static void test_fenced_owner_wakes(void **state)
{
    for (VrSwapState reached = VR_SWAP_PREPARED; reached <= VR_SWAP_STARTED; reached++) {
        g_autoptr(World) world = world_new(TRUE);
        g_autoptr(VrSwap) swap = world_reach(world, reached);
        g_autoptr(GPtrArray) recovered = NULL;
        g_autofree char *before = NULL;
        gint64 rows;

        world_run_sql(world, "UPDATE owners SET fence = fence + 1");
        rows = rows_of_journal(world);
        before = g_strdup(world->fake->log->str);
        swap->row->backward = reached == VR_SWAP_SWITCHED; /* its way back had begun: the next is a call, not a write */
        assert_false(vr_swap_undo(swap, "test", NULL));
        assert_false(reached < VR_SWAP_STARTED && vr_swap_advance(swap, VR_SWAP_STARTED, &world_stop, NULL));
        assert_false(vr_swap_give_up(swap, "test", NULL));
        assert_false(reached == VR_SWAP_STARTED && vr_swap_commit(swap, NULL, NULL));
        assert_false(reached == VR_SWAP_STARTED && vr_swap_leave(swap, "test", NULL));
        assert_false(vr_journal_event(world->journal, world->owner, NULL, NULL, "test", "test", NULL));
        recovered = vr_recover(&world->engine, FALSE, NULL);
        assert_int_equal(rows_of_journal(world), rows);
        assert_string_equal(world->fake->log->str, before);
    }
}

static char *take_over(World *world)
{
    char *text = NULL;
    gint64 at_us;

    g_clear_pointer(&world->owner, vr_owner_release);
    world->owner = vr_owner_acquire(world->journal, vr_store_root_fd(world->store), "shop", "next", NULL);
    assert_non_null(world->owner);
    assert_true(vr_journal_last_event(world->journal, NULL, NULL, "took-over", &at_us, &text, NULL));
    return text;
}

static void test_take_over_is_said(void **state)
{
    g_autoptr(World) world = world_new(TRUE);
    g_autofree char *path = g_build_filename(world->root, "locks", "shop", NULL);
    g_autofree char *orderly = take_over(world);
    g_autofree char *killed = NULL;
    g_autofree char *removed = NULL;

    assert_null(orderly); /* it was given back */
    g_clear_pointer(&world->owner, vr_owner_release);
    assert_true(
        g_file_set_contents(path, "upgrade shop (pid 812, by root, since now)", -1, NULL)); /* as SIGKILL leaves it */
    killed = take_over(world);
    assert_non_null(strstr(killed, "upgrade shop (pid 812, by root, since now), which ended without giving it back"));
    assert_int_equal(unlink(path), 0);
    removed = take_over(world);
    assert_non_null(strstr(removed, "lock file had been removed"));
}

/* --- many at once ------------------------------------------------------------------------------------ */

#define CROWD 40

/* As many domains as there are worlds, behind one hypervisor whose calls take their time. */
typedef struct {
    VrHv hv;
    FakeHv *fakes[CROWD];
    gint at_once, most;
} Crowd;

static guint number_of(const char *uuid)
{
    return (guint)g_ascii_strtoull(uuid + strlen(uuid) - 4, NULL, 10);
}

static char *crowd_uuid(guint i)
{
    return g_strdup_printf("11111111-2222-4333-8444-55555555%04u", i);
}

static VrHv *crowd_enter(VrHv *hv, const char *uuid)
{
    Crowd *crowd = (Crowd *)hv;
    gint now = g_atomic_int_add(&crowd->at_once, 1) + 1;
    gint most;

    do
        most = g_atomic_int_get(&crowd->most);
    while (now > most && !g_atomic_int_compare_and_exchange(&crowd->most, most, now));
    g_usleep(2000);
    return &crowd->fakes[number_of(uuid)]->hv;
}

static void crowd_leave(VrHv *hv)
{
    g_atomic_int_add(&((Crowd *)hv)->at_once, -1);
}

static gboolean crowd_info(VrHv *hv, const char *uuid, VrDomainInfo *info, GError **error)
{
    gboolean ok = vr_hv_info(crowd_enter(hv, uuid), uuid, info, error);

    crowd_leave(hv);
    return ok;
}

static char *crowd_inactive(VrHv *hv, const char *uuid, GError **error)
{
    char *xml = vr_hv_inactive_xml(crowd_enter(hv, uuid), uuid, error);

    crowd_leave(hv);
    return xml;
}

static char *crowd_live(VrHv *hv, const char *uuid, GError **error)
{
    char *xml = vr_hv_live_xml(crowd_enter(hv, uuid), uuid, error);

    crowd_leave(hv);
    return xml;
}

static gboolean crowd_define(VrHv *hv, const char *uuid, const char *xml, GError **error)
{
    gboolean ok = vr_hv_define(crowd_enter(hv, uuid), uuid, xml, error);

    crowd_leave(hv);
    return ok;
}

static gboolean crowd_start(VrHv *hv, const char *uuid, GError **error)
{
    gboolean ok = vr_hv_start(crowd_enter(hv, uuid), uuid, error);

    crowd_leave(hv);
    return ok;
}

static gboolean crowd_destroy(VrHv *hv, const char *uuid, GError **error)
{
    gboolean ok = vr_hv_destroy(crowd_enter(hv, uuid), uuid, error);

    crowd_leave(hv);
    return ok;
}

static gboolean crowd_shutdown(VrHv *hv, const char *uuid, VrShutdownMode mode, GError **error)
{
    gboolean ok = vr_hv_shutdown(crowd_enter(hv, uuid), uuid, mode, error);

    crowd_leave(hv);
    return ok;
}

static void crowd_wait(VrHv *hv, const char *uuid, gint64 deadline_ms)
{
    g_usleep(2000);
}

static const VrHvOps crowd_ops = {.info = crowd_info,
                                  .inactive_xml = crowd_inactive,
                                  .live_xml = crowd_live,
                                  .define = crowd_define,
                                  .start = crowd_start,
                                  .destroy = crowd_destroy,
                                  .shutdown = crowd_shutdown,
                                  .wait_change = crowd_wait};

/* Domain i, with disks and a directory of its own. */
static void crowd_add(World *world, Crowd *crowd, guint i)
{
    g_autofree char *xml = vr_hv_inactive_xml(&world->fake->hv, FAKE_UUID, NULL);
    g_autofree char *dir = g_strdup_printf("%s/hv%u", world->top, i);
    g_autofree char *disk = g_strdup_printf("%s/old%u.raw", world->top, i);
    g_autofree char *uuid = crowd_uuid(i);
    g_autofree char *bytes = g_malloc0(1024 * 1024);
    g_autoptr(GString) mine = g_string_new(xml);

    assert_true(g_file_set_contents(disk, bytes, 1024 * 1024, NULL));
    g_string_replace(mine, FAKE_UUID, uuid, 0);
    g_string_replace(mine, world->old_path, disk, 0);
    assert_int_equal(g_mkdir(dir, 0700), 0);
    crowd->fakes[i] = fake_hv_new(dir, mine->str, TRUE);
}

static void crowd_swap(World *world, guint i, VrSwapState reach)
{
    g_autofree char *uuid = crowd_uuid(i);
    VrSwapRequest request = {.run_id = "run", .uuid = uuid, .os_target = "vda", .image = world->image};
    g_autoptr(GError) error = NULL;
    g_autoptr(VrSwap) swap = vr_swap_begin(&world->engine, &request, &error);

    assert_null(error);
    assert_true(vr_swap_advance(swap, reach, &world_stop, &error));
}

/* Forty swaps that a crash left open, of each kind, are recovered several at a time, and no more than sixteen. */
static void test_many_at_once(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(World) world = world_new(TRUE);
    Crowd crowd = {.hv = {.ops = &crowd_ops}};
    g_autoptr(GPtrArray) recovered = NULL;

    world->engine.hv = &crowd.hv;
    for (guint i = 0; i < CROWD; i++) {
        crowd_add(world, &crowd, i);
        crowd_swap(world, i, i % 4 == 0 ? VR_SWAP_PREPARED : i % 4 == 1 ? VR_SWAP_STOPPED : VR_SWAP_SWITCHED);
    }
    crowd.most = 0;
    vr_clock_set_source(NULL);
    recovered = vr_recover(&world->engine, FALSE, &error);
    world_quick_clock();
    assert_null(error);
    assert_int_equal(recovered->len, CROWD);
    for (guint i = 0; i < CROWD; i++) {
        const VrRecovered *one = g_ptr_array_index(recovered, i);
        const VrSwapState ends[] = {VR_SWAP_DISCARDED, VR_SWAP_UNDONE, VR_SWAP_STARTED, VR_SWAP_STARTED};
        assert_int_equal(number_of(one->row->uuid), i); /* in the order of the journal */
        assert_int_equal(one->row->state, ends[i % 4]);
        assert_int_equal(fake_hv_state(crowd.fakes[i]), VR_DOMAIN_RUNNING);
        fake_hv_free(crowd.fakes[i]);
    }
    print_message("%d at once\n", crowd.most);
    assert_in_range(crowd.most, 4, 16);
}

/* What cannot be swept, of whomever, keeps no guest off (invariant 15). */
static void test_housekeeping_fails(void **state)
{
    g_autoptr(World) world = world_new(TRUE);
    g_autoptr(VrSwap) swap = world_begin(world, -1, NULL);
    g_autofree char *deep =
        g_build_filename(world->root, "images/os/.tmp-x/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17/18", NULL);

    assert_true(vr_swap_advance(swap, VR_SWAP_STOPPED, &world_stop, NULL));
    assert_int_equal(g_mkdir_with_parents(deep, 0711), 0);
    g_clear_pointer(&swap, vr_swap_free);
    world_close(world);
    world_open(world);
    world_recover_once(world);
    assert_int_equal(fake_hv_state(world->fake), VR_DOMAIN_RUNNING);
    world_check(world, TRUE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_intent_and_new_xml),
        cmocka_unit_test(test_intent_and_old_xml),
        cmocka_unit_test(test_switch_is_proven_again),
        cmocka_unit_test(test_running_since),
        cmocka_unit_test(test_late_calls),
        cmocka_unit_test(test_late_define_of_a_killed_process),
        cmocka_unit_test(test_late_destroy_of_a_killed_process),
        cmocka_unit_test(test_late_for_ever),
        cmocka_unit_test(test_third_run_writes_nothing),
        cmocka_unit_test(test_third_run_of_a_saved_guest),
        cmocka_unit_test(test_dry_run),
        cmocka_unit_test(test_audit),
        cmocka_unit_test(test_forget),
        cmocka_unit_test(test_lost_record_that_is_not_needed),
        cmocka_unit_test(test_lost_record),
        cmocka_unit_test(test_fenced_owner_wakes),
        cmocka_unit_test(test_take_over_is_said),
        cmocka_unit_test(test_many_at_once),
        cmocka_unit_test(test_housekeeping_fails),
    };

    world_quick_clock();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
