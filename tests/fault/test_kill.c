/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The kill sweep, first part (rows B14, B17): a process is ended before and after each hypervisor call, and before each journal
 * write, of a forward swap, a swap with its undo, and a rollback. Then a new process recovers, and every invariant is
 * checked; then a third, which finds nothing to do. A second sweep ends the recovery as well, a third the copy of a full clone (B6).
 */
#include "engine/support.h"

#include "base/clock.h"
#include "disk/copy_private.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

/* A cut: the at-th call of the hypervisor (before, after) or the at-th reading of the wall clock, which each journal write
 * does inside its transaction. */
typedef enum { CUT_BEFORE_CALL, CUT_AFTER_CALL, CUT_IN_JOURNAL, CUT_KINDS, CUT_IN_COPY } CutKind;

static guint clock_at, clock_count;

static gint64 counted_wall_us(void *data)
{
    if (++clock_count == clock_at)
        _exit(FAKE_KILLED);
    return g_get_real_time();
}

/* Each write, and the flush, of a copy. */
static guint copy_at, copy_count;

static void count_copy(void)
{
    if (++copy_count == copy_at)
        _exit(FAKE_KILLED);
}

static gssize counted_write(int fd, const guint8 *buffer, gsize length, guint64 offset, void *data)
{
    count_copy();
    return vr_copy_real_ops.write(fd, buffer, length, offset, NULL);
}

static int counted_flush(int fd, void *data)
{
    count_copy();
    return vr_copy_real_ops.flush(fd, NULL);
}

static int counted_completion(VrCopySide side, guint64 offset, guint8 *buffer, int result, void *data)
{
    count_copy();
    return result;
}

static void count_copies(guint at)
{
    static VrCopyOps ops;

    ops = vr_copy_real_ops;
    ops.write = counted_write;
    ops.flush = counted_flush;
    ops.completion = counted_completion;
    copy_at = at;
    copy_count = 0;
    vr_copy_set_ops(&ops);
}

/* Nobody sleeps: time jumps instead, a little further than was asked for. */
static gint64 skipped_ms;

static gint64 jumping_now_ms(void *data)
{
    struct timespec now;

    clock_gettime(CLOCK_BOOTTIME, &now);
    return (gint64)now.tv_sec * 1000 + now.tv_nsec / 1000000 + skipped_ms;
}

static void jump(gint64 deadline_ms, void *data)
{
    skipped_ms += MAX(0, deadline_ms - jumping_now_ms(NULL)) + 200;
}

static void arm(World *world, CutKind kind, guint at)
{
    clock_count = 0;
    clock_at = kind == CUT_IN_JOURNAL ? at : 0;
    count_copies(kind == CUT_IN_COPY ? at : 0);
    world->fake->fault_at = kind == CUT_IN_JOURNAL || kind == CUT_IN_COPY ? 0 : at;
    world->fake->fault = kind == CUT_BEFORE_CALL ? FAKE_KILL_BEFORE : FAKE_KILL_AFTER;
}

static void commit_started(World *world, GPtrArray *recovered)
{
    for (guint i = 0; i < recovered->len; i++) {
        const VrRecovered *one = g_ptr_array_index(recovered, i);
        g_autoptr(VrSwap) swap = NULL;
        if (one->row->state != VR_SWAP_STARTED)
            continue;
        swap = vr_swap_resume(&world->engine, one->row, NULL);
        assert_true(vr_swap_commit(swap, NULL, NULL));
    }
}

static void recover(World *world)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) recovered = vr_recover(&world->engine, FALSE, &error);

    assert_null(error);
    commit_started(world, recovered);
}

/* --- what is killed ---------------------------------------------------------------------------------- */

static void scenario_forward(World *world)
{
    world_swap(world, -1);
}

static void scenario_undo(World *world)
{
    g_autoptr(VrSwap) swap = world_begin(world, -1, NULL);

    vr_swap_advance(swap, VR_SWAP_STARTED, &world_stop, NULL);
    vr_swap_undo(swap, "not healthy", NULL);
}

static void scenario_rollback(World *world)
{
    world_swap(world, 1);
}

static void scenario_full_clone(World *world)
{
    world->full = TRUE;
    world_swap(world, -1);
}

static void prepare_two(World *world)
{
    world_swap(world, -1);
    world_swap(world, -1);
}

static const struct {
    const char *name;
    gboolean running;
    void (*before)(World *world);
    void (*act)(World *world);
    const char *uefi; /* what its <os> has; NULL: a BIOS guest */
} scenarios[] = {
    {"forward", TRUE, NULL, scenario_forward},
    {"forward, off", FALSE, NULL, scenario_forward},
    {"undo", TRUE, NULL, scenario_undo},
    {"rollback", TRUE, prepare_two, scenario_rollback},
    {"UEFI", TRUE, NULL, scenario_forward, WORLD_NVRAM},
    {"UEFI, undo", TRUE, NULL, scenario_undo, WORLD_NVRAM},
    {"UEFI, rollback", TRUE, prepare_two, scenario_rollback, WORLD_NVRAM},
    {"UEFI, off, libvirt chooses the file", FALSE, NULL, scenario_forward, WORLD_LOADER},
    {"full clone", TRUE, NULL, scenario_full_clone},
};

/* Runs `act` in a process that is ended at the cut. TRUE when the cut fired. */
static gboolean killed(World *world, void (*act)(World *world), CutKind kind, guint at)
{
    int status = 0;
    pid_t pid;

    world_close(world);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        world_open(world);
        arm(world, kind, at);
        act(world);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    world_open(world);
    assert_true(WIFEXITED(status));
    assert_true(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == FAKE_KILLED);
    return WEXITSTATUS(status) == FAKE_KILLED;
}

static World *world_for(guint scenario)
{
    const char *uefi = scenarios[scenario].uefi;
    World *world =
        uefi ? world_new_uefi(scenarios[scenario].running, uefi, FALSE) : world_new(scenarios[scenario].running);

    if (scenarios[scenario].before)
        scenarios[scenario].before(world);
    return world;
}

static gboolean is_swept(World *world)
{
    g_autoptr(GPtrArray) names = vr_store_children(world->store, "disks/" FAKE_UUID, NULL);
    gboolean swept = names != NULL;

    for (guint i = 0; swept && i < names->len; i++)
        swept = !g_str_has_prefix(names->pdata[i], ".tmp-");
    return swept;
}

static void check_after(World *world, guint scenario)
{
    g_autoptr(GPtrArray) open = NULL;

    assert_true(is_swept(world));

    world_check(world, TRUE);
    assert_int_equal(fake_hv_state(world->fake), scenarios[scenario].running ? VR_DOMAIN_RUNNING : VR_DOMAIN_OFF);
    open = vr_recover(&world->engine, FALSE, NULL); /* converged: a second run finds nothing */
    assert_int_equal(open->len, 0);
}

static guint sweep(guint scenario, CutKind kind)
{
    for (guint at = 1;; at++) {
        g_autoptr(World) world = world_for(scenario);
        if (!killed(world, scenarios[scenario].act, kind, at))
            return at - 1;
        world_check(world, FALSE);
        recover(world);
        check_after(world, scenario);
    }
}

static void test_kill_once(void **state)
{
    guint cuts = 0;

    for (guint scenario = 0; scenario < G_N_ELEMENTS(scenarios); scenario++) {
        for (CutKind kind = 0; kind < CUT_KINDS; kind++) {
            guint fired = sweep(scenario, kind);
            print_message("%s, kind %d: %u cuts\n", scenarios[scenario].name, kind, fired);
            assert_true(fired >= 5);
            cuts += fired;
        }
    }
    print_message("%u cuts, no violation\n", cuts);
}

/* Every third first cut, then every second cut of its recovery. */
static void test_kill_twice(void **state)
{
    guint cuts = 0;

    for (guint at = 2;; at += 3) {
        for (guint again = 1;; again += 2) {
            g_autoptr(World) world = world_for(0);
            if (!killed(world, scenario_forward, CUT_AFTER_CALL, at)) {
                print_message("%u double cuts, no violation\n", cuts);
                assert_true(cuts > 5);
                return;
            }
            if (!killed(world, recover, CUT_AFTER_CALL, again))
                break;
            cuts++;
            recover(world);
            check_after(world, 0);
        }
    }
}

/* Nothing of what was copied is left, and the guest is on its old disk. */
static void test_kill_in_copy(void **state)
{
    guint fired = sweep(G_N_ELEMENTS(scenarios) - 1, CUT_IN_COPY);

    print_message("full clone, in the copy: %u cuts\n", fired);
    assert_true(fired >= 3);
}

/* The process ends in the copy, and somebody takes the name before the recovery: the file stays (invariant 7). */
static void test_kill_in_copy_name_taken(void **state)
{
    g_autoptr(World) world = world_for(G_N_ELEMENTS(scenarios) - 1);
    g_autofree char *path = g_build_filename(world->root, "disks", FAKE_UUID, "g1.qcow2", NULL);
    g_autofree char *text = NULL;

    assert_true(killed(world, scenario_full_clone, CUT_IN_COPY, 1));
    assert_true(g_file_set_contents(path, "precious", -1, NULL));
    recover(world);
    assert_true(is_swept(world));
    assert_true(g_file_get_contents(path, &text, NULL, NULL));
    assert_string_equal(text, "precious");
    assert_int_equal(world_current(world), 0);
    assert_int_equal(fake_hv_state(world->fake), VR_DOMAIN_RUNNING);
}

int main(void)
{
    static const VrClockSource source = {jumping_now_ms, counted_wall_us, jump, NULL};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kill_once),
        cmocka_unit_test(test_kill_twice),
        cmocka_unit_test(test_kill_in_copy),
        cmocka_unit_test(test_kill_in_copy_name_taken),
    };

    vr_clock_set_source(&source);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
