/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The console of a guest from its start to its health (engine/swap_console.c), with a scripted hypervisor. Row F11. */
#include "engine/console_log.h"
#include "engine/retire.h"
#include "engine/support.h"

#include "base/error.h"
#include "base/fd.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define SOON_US (20 * G_USEC_PER_SEC)

/* A guest that runs and has this console; %s in it is the path of `log` in the world's directory. */
static World *world_with(const char *console)
{
    World *world = world_new(TRUE);
    g_autofree char *log = g_build_filename(world->top, "log", NULL);
    g_auto(GStrv) parts = g_strsplit(console, "%s", 2);
    g_autofree char *device = g_strjoinv(log, parts);
    g_autofree char *devices = g_strconcat(device, "</devices>", NULL);

    fake_hv_edit(world->fake, "</devices>", devices);
    return world;
}

#define PTY "<serial type='pty'/>"
#define LOG "<serial type='pty'><log file='%s' append='on'/></serial>"
#define LOG_ANEW "<serial type='pty'><log file='%s'/></serial>"

static char *log_of(World *world)
{
    return g_build_filename(world->top, "log", NULL);
}

static void write_log(World *world, int flags, const char *text)
{
    g_autofree char *path = log_of(world);
    vr_autofd fd = open(path, O_WRONLY | O_CREAT | flags, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

static char *kept_path(World *world, guint generation)
{
    return vr_console_log_path(world->store, FAKE_UUID, generation);
}

static gboolean is_kept(World *world, guint generation)
{
    g_autofree char *path = kept_path(world, generation);
    struct stat st;

    return lstat(path, &st) == 0;
}

/* The console is asked for on a thread: until that was answered. */
static void await_console(World *world, gint times)
{
    gint64 until = g_get_monotonic_time() + SOON_US;

    while (g_atomic_int_get(&world->fake->consoles) < times && g_get_monotonic_time() < until)
        g_usleep(1000);
    assert_int_equal(g_atomic_int_get(&world->fake->consoles), times);
    g_usleep(20000);
}

/* -- A pseudo terminal ------------------------------------------------------------------------------ */

static void kept_with_its_generation(void **state)
{
    g_autoptr(World) world = world_with(PTY);
    g_autofree char *path = kept_path(world, 1);
    g_autofree char *text = NULL;
    struct stat st;

    world->fake->console = "booting\r\nlogin: ";
    g_autoptr(VrSwap) swap = world_reach(world, VR_SWAP_STARTED);
    await_console(world, 1);
    assert_false(is_kept(world, 1));
    world_commit(swap);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    world_expect_console(world, vr_swap_row(swap), "booting\r\nlogin: ");
    assert_true(g_file_get_contents(path, &text, NULL, NULL));
    assert_true(g_str_has_prefix(text, "[virt-reimage: serial console of 'fake', generation 1, from 2"));
    assert_non_null(strstr(text, vr_swap_row(swap)->id));
    world_check(world, TRUE);
}

/* Of the one that failed, not of the old system that is started in its place. */
static void kept_of_a_failed_one(void **state)
{
    g_autoptr(World) world = world_with(PTY);

    world->fake->console = "Kernel panic";
    g_autoptr(VrSwap) swap = world_reach(world, VR_SWAP_STARTED);
    await_console(world, 1);
    world_undo(swap);
    assert_int_equal(vr_swap_row(swap)->state, VR_SWAP_UNDONE);
    world_expect_console(world, vr_swap_row(swap), "Kernel panic");
    assert_int_equal(g_atomic_int_get(&world->fake->consoles), 1);
    world_check(world, TRUE);
}

/* The swap fails before its guest runs: nobody is listened to, and above all not the old system. */
static void none_of_one_that_did_not_start(void **state)
{
    g_autoptr(World) world = world_with(PTY);
    g_autoptr(GError) error = NULL;

    world->fake->console = "words";
    world->fake->fail_new_disk = TRUE;
    g_autoptr(VrSwap) swap = world_begin(world, -1, &error);
    assert_non_null(swap);
    assert_false(vr_swap_advance(swap, VR_SWAP_STARTED, &world_stop, &error));
    world_undo(swap);
    g_usleep(20000);
    assert_int_equal(g_atomic_int_get(&world->fake->consoles), 0);
    assert_false(is_kept(world, 1));
}

static void one_that_is_in_use_says_so(void **state)
{
    g_autoptr(World) world = world_with(PTY);
    g_autoptr(VrSwap) swap = world_reach(world, VR_SWAP_STARTED);

    await_console(world, 1);
    world_commit(swap);
    world_expect_console(world, vr_swap_row(swap),
                         "[virt-reimage: the console was not read: Active console session exists for this domain]\n");
}

/* libvirt does not answer: neither the way there nor the way back waits for that. */
static void nobody_waits_for_it(void **state)
{
    for (guint back = 0; back < 2; back++) {
        g_autoptr(World) world = world_with(PTY);
        gint64 begun;

        world->fake->console = "late words";
        g_atomic_int_set(&world->fake->console_hangs, 1);
        g_autoptr(VrSwap) swap = world_reach(world, VR_SWAP_STARTED);
        await_console(world, 1);
        begun = g_get_monotonic_time();
        (back ? world_undo : world_commit)(swap);
        assert_in_range(g_get_monotonic_time() - begun, 0, SOON_US);
        assert_int_equal(g_atomic_int_get(&world->fake->console_hangs), 1);
        world_expect_console(world, vr_swap_row(swap), "");
        world_check(world, TRUE);
        g_atomic_int_set(&world->fake->console_hangs, 0);
    }
}

/* A process that was killed while the guest booted: the next one hears the rest. */
static void the_next_process_listens_on(void **state)
{
    g_autoptr(World) world = world_with(PTY);
    g_autoptr(GError) error = NULL;
    g_autoptr(VrSwapRow) row = NULL;

    world->fake->console = "the rest";
    {
        g_autoptr(VrSwap) killed = world_reach(world, VR_SWAP_STARTED);
        await_console(world, 1);
        row = vr_swap_row_copy(vr_swap_row(killed));
    }
    g_autoptr(VrSwap) swap = vr_swap_resume(&world->engine, row, &error);
    assert_non_null(swap);
    assert_false(is_kept(world, 1));
    vr_swap_listen(swap);
    await_console(world, 2);
    world_commit(swap);
    world_expect_console(world, row, "the rest");
}

/* A rollback to the same generation has a log of its own, and the first swap's is not taken for it. */
static void of_which_swap(void **state)
{
    g_autoptr(World) world = world_with(PTY);
    g_autoptr(GError) error = NULL;
    gsize length;

    world->fake->console = "first";
    g_autoptr(VrSwap) first = world_reach(world, VR_SWAP_STARTED);
    await_console(world, 1);
    world_commit(first);
    world_swap(world, 0);
    world->fake->console = "again";
    g_autoptr(VrSwap) again = world_begin(world, 1, &error);
    assert_non_null(again);
    assert_true(vr_swap_advance(again, VR_SWAP_STARTED, &world_stop, &error));
    await_console(world, 3);
    world_commit(again);
    world_expect_console(world, vr_swap_row(again), "again");
    assert_null(vr_console_log_read(world->store, vr_swap_row(first), &length));
}

/* -- A log file ------------------------------------------------------------------------------------- */

static VrSwap *reach_with_log(World *world, gboolean before_start, int flags, const char *text)
{
    VrSwap *swap = world_reach(world, before_start ? VR_SWAP_SWITCHED : VR_SWAP_STARTED);

    write_log(world, flags, text);
    assert_true(vr_swap_advance(swap, VR_SWAP_STARTED, &world_stop, NULL));
    return swap;
}

/* Only what came since the start, however it is written. What empties its log at the start may have been written to by the time that we look. */
static void log_is_followed(void **state)
{
    static const char *const log_appended = LOG, *const log_anew = LOG_ANEW;
    const struct {
        const char *device, *before, *first;
        int flags;
        const char *expected;
    } cases[] = {
        {log_appended, "old words\n", "new words\n", O_APPEND, "new words\n"},
        {log_appended, "old words\n", "new\n", O_TRUNC, "new\n"},
        {log_appended, NULL, "new words\n", O_TRUNC, "new words\n"},
        {log_anew, "old\n", "longer than before\n", O_TRUNC, "longer than before\n"},
        {log_anew, NULL, "", O_TRUNC, ""},
    };

    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(World) world = world_with(cases[i].device);
        if (cases[i].before)
            write_log(world, O_TRUNC, cases[i].before);
        g_autoptr(VrSwap) swap = reach_with_log(world, cases[i].device != log_appended, cases[i].flags, cases[i].first);
        world_undo(swap);
        write_log(world, O_APPEND, "the old system\n");
        world_expect_console(world, vr_swap_row(swap), cases[i].expected);
        assert_int_equal(g_atomic_int_get(&world->fake->consoles), 0);
    }
}

/* virtlogd's roll-over in the middle of a word. */
static void roll_over_loses_nothing(void **state)
{
    g_autoptr(World) world = world_with(LOG);
    g_autofree char *log = log_of(world);
    g_autofree char *rolled = g_strconcat(log, ".0", NULL);

    write_log(world, O_TRUNC, "before\n");
    g_autoptr(VrSwap) swap = world_reach(world, VR_SWAP_STARTED);
    write_log(world, O_APPEND, "one ");
    g_usleep(600000);
    write_log(world, O_APPEND, "two ");
    assert_int_equal(g_rename(log, rolled), 0);
    write_log(world, O_TRUNC, "three");
    world_commit(swap);
    world_expect_console(world, vr_swap_row(swap), "one two three");
}

/* It is read as root: a name that leads elsewhere is not followed, one that would block does not. */
static void what_is_no_log_is_not_read(void **state)
{
    static const char *const refused =
        "[virt-reimage: its log file is not read: it is no regular file with one name]\n";

    for (guint i = 0; i < 4; i++) {
        g_autoptr(World) world = world_with(LOG_ANEW);
        g_autofree char *log = log_of(world);
        g_autofree char *secret = g_build_filename(world->top, "secret", NULL);
        assert_true(g_file_set_contents(secret, "root:hash", -1, NULL));
        assert_int_equal(i == 0   ? symlink(secret, log)
                         : i == 1 ? link(secret, log)
                         : i == 2 ? mkfifo(log, 0600)
                                  : g_mkdir(log, 0700),
                         0);
        g_autoptr(VrSwap) swap = world_reach(world, VR_SWAP_STARTED);
        world_commit(swap);
        if (i == 0)
            world_expect_console(world, vr_swap_row(swap),
                                 "[virt-reimage: its log file cannot be read: Too many levels of symbolic links]\n");
        else
            world_expect_console(world, vr_swap_row(swap), refused);
    }
}

/* A terabyte between two looks costs no more than what is kept of it. */
static void a_flood_is_passed_over(void **state)
{
    g_autoptr(World) world = world_with(LOG_ANEW);
    g_autofree char *log = log_of(world);
    g_autofree char *bytes = NULL;
    gsize length;
    gint64 begun;

    write_log(world, O_TRUNC, "");
    g_autoptr(VrSwap) swap = world_reach(world, VR_SWAP_STARTED);
    write_log(world, O_TRUNC, "the first word");
    assert_int_equal(truncate(log, G_GUINT64_CONSTANT(1) << 40), 0);
    write_log(world, O_APPEND, "the last word");
    begun = g_get_monotonic_time();
    world_commit(swap);
    assert_in_range(g_get_monotonic_time() - begun, 0, SOON_US);
    bytes = vr_console_log_read(world->store, vr_swap_row(swap), &length);
    assert_in_range(length, VR_CONSOLE_HEAD + VR_CONSOLE_TAIL, VR_CONSOLE_HEAD + VR_CONSOLE_TAIL + 100);
    assert_memory_equal(bytes, "the first word", 14);
    assert_memory_equal(bytes + length - 13, "the last word", 13);
}

/* -- Its end ---------------------------------------------------------------------------------------- */

static void goes_with_its_generation(void **state)
{
    for (guint strange = 0; strange < 2; strange++) {
        g_autoptr(World) world = world_with(LOG);
        g_autofree char *path = kept_path(world, 1);
        g_autoptr(GError) error = NULL;

        world_swap(world, -1);
        assert_true(is_kept(world, 1));
        world_swap(world, -1);
        g_autoptr(VrGeneration) generation = vr_journal_generation(world->journal, FAKE_UUID, 1, NULL);
        g_autoptr(VrInUse) in_use = vr_in_use_read(world->store, &world->fake->hv, world->journal, NULL);
        const VrRetireCheck check = {.in_use = in_use};
        if (strange) { /* what is no file of ours does not keep the disk */
            assert_int_equal(unlink(path), 0);
            assert_int_equal(g_mkdir(path, 0700), 0);
        }
        assert_true(vr_retire(&world->engine, generation, &check, "test", &error));
        assert_int_equal(is_kept(world, 1), strange);
        assert_false(g_file_test(generation->path, G_FILE_TEST_EXISTS));
        assert_true(is_kept(world, 2));
    }
}

/* An owner who lost the set writes nothing any more. */
static void a_fenced_owner_keeps_none(void **state)
{
    g_autoptr(World) world = world_with(PTY);
    g_autoptr(GError) error = NULL;

    world->fake->console = "words";
    g_autoptr(VrSwap) swap = world_reach(world, VR_SWAP_STARTED);
    await_console(world, 1);
    world_run_sql(world, "UPDATE owners SET fence = fence + 1");
    assert_false(vr_swap_undo(swap, "not healthy", &error));
    assert_gerror(error, VR_ERROR_FENCED);
    assert_false(is_kept(world, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kept_with_its_generation),
        cmocka_unit_test(kept_of_a_failed_one),
        cmocka_unit_test(none_of_one_that_did_not_start),
        cmocka_unit_test(one_that_is_in_use_says_so),
        cmocka_unit_test(nobody_waits_for_it),
        cmocka_unit_test(the_next_process_listens_on),
        cmocka_unit_test(of_which_swap),
        cmocka_unit_test(log_is_followed),
        cmocka_unit_test(roll_over_loses_nothing),
        cmocka_unit_test(what_is_no_log_is_not_read),
        cmocka_unit_test(a_flood_is_passed_over),
        cmocka_unit_test(goes_with_its_generation),
        cmocka_unit_test(a_fenced_owner_keeps_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
