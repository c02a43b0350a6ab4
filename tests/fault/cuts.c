/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fault/cuts.h"

#include "disk/copy_private.h"

#include <sys/wait.h>
#include <unistd.h>

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

void cut_install_clock(void)
{
    world_skip_waiting(counted_wall_us);
}

static void arm(World *world, CutKind kind, guint at)
{
    clock_count = 0;
    clock_at = kind == CUT_IN_JOURNAL ? at : 0;
    count_copies(kind == CUT_IN_COPY ? at : 0);
    world->fake->fault_at = kind == CUT_IN_JOURNAL || kind == CUT_IN_COPY ? 0 : at;
    world->fake->fault = kind == CUT_BEFORE_CALL ? FAKE_KILL_BEFORE : FAKE_KILL_AFTER;
}

gboolean cut_in(World *world, void (*act)(World *world), CutKind kind, guint at)
{
    int status = 0;
    pid_t pid;

    world_close(world);
    pid = fork();
    g_assert_true(pid >= 0);
    if (pid == 0) {
        world_open(world);
        arm(world, kind, at);
        act(world);
        _exit(0);
    }
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    world_open(world);
    g_assert_true(WIFEXITED(status));
    g_assert_true(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == FAKE_KILLED);
    return WEXITSTATUS(status) == FAKE_KILLED;
}
