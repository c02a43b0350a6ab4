/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The sweep of errors (row B17): the Nth operation of a kind on the store, its database or an image fails once, or it and all
 * after it, in each scenario; N = 1, 2, ... until none fires (VR_FULL=1), else a part that VR_SEED draws. No crash, no hang,
 * no leak (AddressSanitizer), an error with a code that names what it was about; the guest runs on one of its disks even when
 * nothing can be written any more; and a recovery without faults ends with all invariants.
 */
#include "fault/io_fault.h"

#include "engine/support.h"

#include "base/error.h"
#include "disk/copy_private.h"
#include "fault/fake_personalize.h"
#include "fault/fake_qemu.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define DEADLINE_S 120 /* of one run, on a slow machine with sanitizers */

/* ---- what is done ---- */

static gboolean move(World *world, int to_generation, gboolean healthy, GError **error)
{
    g_autoptr(VrSwap) swap = world_begin(world, to_generation, error);

    if (!swap)
        return FALSE;
    if (vr_swap_advance(swap, VR_SWAP_STARTED, &world_stop, error)) {
        if (!healthy)
            return vr_swap_undo(swap, "not healthy", error);
        if (vr_swap_commit(swap, NULL, error))
            return TRUE;
        return FALSE; /* it is healthy: the recovery commits it */
    }
    vr_swap_undo(swap, "a step failed", NULL); /* what an executor does */
    return FALSE;
}

static gboolean act_publish(World *world, GError **error)
{
    return world_publish(world, "3.0.0", 'P', error);
}

static gboolean act_publish_converted(World *world, GError **error)
{
    g_autofree char *file = world_image_file(world, 'N');
    const VrPublication publication = {
        .name = "other", .version = "1.0.0", .file = file, .format_given = TRUE, .format = VR_FORMAT_RAW};

    return vr_store_publish(world->store, &publication, NULL, NULL, error);
}

static gboolean act_delete(World *world, GError **error)
{
    return vr_store_delete(world->store, "os", "3.0.0", NULL, NULL, error);
}

static gboolean act_forward(World *world, GError **error)
{
    return move(world, -1, TRUE, error);
}

static gboolean act_full_clone(World *world, GError **error)
{
    world->full = TRUE;
    return move(world, -1, TRUE, error);
}

static gboolean act_carry(World *world, GError **error)
{
    static char *paths[] = {(char *)FAKE_TLS_PATH, NULL};
    static const VrCarryOver carry = {.host_keys = TRUE, .machine_id = TRUE, .paths = paths, .from_disk = TRUE};

    world->carry = &carry;
    return move(world, -1, TRUE, error);
}

static gboolean act_undo(World *world, GError **error)
{
    return move(world, -1, FALSE, error);
}

static gboolean act_rollback(World *world, GError **error)
{
    return move(world, 1, TRUE, error);
}

static gboolean act_recover(World *world, GError **error)
{
    g_autoptr(GPtrArray) recovered = vr_recover(&world->engine, FALSE, error);

    return recovered != NULL;
}

static gboolean act_open(World *world, GError **error)
{
    g_autoptr(VrStore) store = NULL;
    g_autoptr(VrJournal) journal = NULL;
    g_autoptr(VrOwner) owner = NULL;

    world_close(world);
    store = vr_store_open(world->root, FALSE, error);
    journal = store ? vr_journal_new(vr_store_db(store), error) : NULL;
    owner = journal ? vr_owner_acquire(journal, vr_store_root_fd(store), "shop", "test", error) : NULL;
    return owner != NULL;
}

static void before_publish(World *world)
{
    g_free(world_image_file(world, 'P'));
}

static void before_delete(World *world)
{
    assert_true(world_publish(world, "3.0.0", 'P', NULL));
}

static void before_rollback(World *world)
{
    world_swap(world, -1);
    world_swap(world, -1);
}

/* A process ended between the new definition and the start. */
static void before_recover(World *world)
{
    g_autoptr(VrSwap) swap = world_begin(world, -1, NULL);

    assert_true(vr_swap_advance(swap, VR_SWAP_SWITCHED, &world_stop, NULL));
}

static const struct {
    const char *name;
    void (*before)(World *world);
    gboolean (*act)(World *world, GError **error);
    gboolean
        needs_guest; /* to be on again at the end, recovery or not; QEMU could not start where no file can be opened any more */
} scenarios[] = {
    {"publish", before_publish, act_publish, TRUE},
    {"publish, converted", NULL, act_publish_converted, TRUE},
    {"delete", before_delete, act_delete, TRUE},
    {"open", NULL, act_open, TRUE},
    {"forward", NULL, act_forward, TRUE},
    {"full clone", NULL, act_full_clone, TRUE},
    {"undo", NULL, act_undo, TRUE},
    {"rollback", before_rollback, act_rollback, TRUE},
    {"recover", before_recover, act_recover, FALSE},
    {"carry", NULL, act_carry, TRUE},
};

/* ---- what fails ---- */

typedef enum { ONCE_ONLY = 1, UNSEEN = 2 } FaultRule; /* it does not stay; nobody notices */

static const struct {
    IoKind kind;
    int how;
    int rules;
} faults[] = {
    {IO_OPEN, EIO, 0},
    {IO_OPEN, ENOSPC, 0},
    {IO_OPEN, EMFILE, 0},
    {IO_READ, EIO, 0},
    {IO_READ, IO_SHORT, UNSEEN},
    {IO_READ, EINTR, ONCE_ONLY | UNSEEN},
    {IO_WRITE, EIO, 0},
    {IO_WRITE, ENOSPC, 0},
    {IO_WRITE, EDQUOT, 0},
    {IO_WRITE, IO_SHORT, UNSEEN},
    {IO_WRITE, EINTR, ONCE_ONLY | UNSEEN},
    {IO_FLUSH, EIO, 0},
    {IO_FLUSH, ENOSPC, 0},
    {IO_RENAME, EIO, 0},
    {IO_RENAME, ENOSPC, 0},
    {IO_UNLINK, EIO, 0},
    {IO_MKDIR, EIO, 0},
    {IO_MKDIR, ENOSPC, 0},
    {IO_MODE, EIO, 0},
    {IO_LENGTH, EIO, 0},
    {IO_LENGTH, ENOSPC, 0},
    {IO_COMPLETION, EIO, 0},
    {IO_COMPLETION, ENOSPC, 0},
    {IO_COMPLETION, IO_SHORT, UNSEEN},
    {IO_COMPLETION, EINTR, ONCE_ONLY | UNSEEN},
};

static char running[300]; /* what a crash or a hang was in */

static void tell_and_end(int signal)
{
    (void)!write(STDERR_FILENO, running, strlen(running));
    _exit(signal == SIGALRM ? 3 : 4);
}

static int believed_completion(VrCopySide side, guint64 offset, guint8 *buffer, int result, void *data)
{
    return io_fault_completion(result);
}

/* ---- what must hold ---- */

/* A rule that was broken is told with the point, and the sweep goes on. */
static guint violations;

static void violation(const char *format, ...) G_GNUC_PRINTF(1, 2);
static void violation(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_autofree char *what = g_strdup_vprintf(format, args);
    va_end(args);
    print_message("VIOLATION %s%s\n", running, what);
    violations++;
}

/* The file or one of the directories above it, or what of ours it belongs to. */
static gboolean names_object(const World *world, const char *text, const char *path)
{
    const char *const others[] = {world->root,  "state.db", "the target",  "the source", "temp directory", "temp file",
                                  "set 'shop'", "image-",   "image other", "old.raw",    "data.raw"};
    g_auto(GStrv) parts = g_strsplit(path + MIN(strlen(path), strlen(world->top)), "/", -1);

    for (gsize i = 0; parts[i]; i++)
        if (strlen(parts[i]) > 1 && strstr(text, parts[i]))
            return TRUE;
    for (gsize i = 0; i < G_N_ELEMENTS(others); i++)
        if (strstr(text, others[i]))
            return TRUE;
    return FALSE;
}

/* One that cannot be opened is not known to be free, so the guest is not started: UNKNOWN, and a recovery looks again. */
static gboolean is_guest_disk(const char *path)
{
    return g_str_has_suffix(path, "/old.raw") || g_str_has_suffix(path, "/data.raw");
}

/* SQLite does without what it cannot open, and says later what it could not do. Where nothing can be opened any more, no disk of the guest
 * can, and that is what is said. */
static gboolean must_say_no_space(guint fault, const char *hit, gboolean stays)
{
    return (faults[fault].how == ENOSPC || faults[fault].how == EDQUOT) &&
           !(faults[fault].kind == IO_OPEN && (stays || strstr(hit, "state.db") || is_guest_disk(hit)));
}

/* An undo that the journal does not take ends as UNKNOWN, for a person, who reads that there is no room. */
static gboolean says_no_space(const GError *error)
{
    return error->code == VR_ERROR_NO_SPACE ||
           (error->code == VR_ERROR_PERSON && strstr(error->message, "its file system is full"));
}

static void check_error(const World *world, const GError *error, guint fault, const char *hit, gboolean stays)
{
    assert_non_null(error);
    assert_true(error->domain == VR_ERROR);
    if (g_getenv("VR_SHOW_ERRORS"))
        print_message("%s%s\n    %s: %s\n", running, hit, vr_error_name(error->code), error->message);
    if (!names_object(world, error->message, hit))
        violation("at %s the error does not name its object: %s", hit, error->message);
    if (must_say_no_space(fault, hit, stays) && !says_no_space(error))
        violation("at %s the error is %s and not NoSpace: %s", hit, vr_error_name(error->code), error->message);
}

static const char *const strangers[] = {"root/notes.txt", "root/images/os/notes.txt",
                                        "root/disks/" FAKE_UUID "/notes.qcow2"};

static void put_strangers(World *world)
{
    for (gsize i = 0; i < G_N_ELEMENTS(strangers); i++) {
        g_autofree char *path = g_build_filename(world->top, strangers[i], NULL);
        g_autofree char *dir = g_path_get_dirname(path);
        assert_int_equal(g_mkdir_with_parents(dir, 0711), 0);
        assert_true(g_file_set_contents(path, "precious", -1, NULL));
    }
}

static void check_strangers(World *world)
{
    for (gsize i = 0; i < G_N_ELEMENTS(strangers); i++) {
        g_autofree char *path = g_build_filename(world->top, strangers[i], NULL);
        g_autofree char *text = NULL;
        if (!g_file_get_contents(path, &text, NULL, NULL) || strcmp(text, "precious") != 0)
            violation("%s is gone or changed", path);
    }
}

static void check_versions(World *world)
{
    g_autoptr(GPtrArray) states = vr_store_survey(world->store, NULL, NULL);

    assert_non_null(states);
    for (guint i = 0; i < states->len; i++) {
        const VrVersionState *state = g_ptr_array_index(states, i);
        assert_null(state->damage);
        assert_true(vr_store_verify(world->store, state->image, TRUE, NULL));
    }
}

static void check_after(World *world)
{
    guint runs = 1;

    world_open(world);
    world_check(world, FALSE);
    while (world_recover_once(world) > 0)
        assert_true(++runs <= 3);
    world_check(world, TRUE);
    check_versions(world);
    check_strangers(world);
    assert_int_equal(fake_hv_state(world->fake), VR_DOMAIN_RUNNING);
}

static guint open_files(void)
{
    g_autoptr(GDir) dir = g_dir_open("/proc/self/fd", 0, NULL);
    guint n = 0;

    while (g_dir_read_name(dir))
        n++;
    return n;
}

/* ---- one run ---- */

/* TRUE when the fault fired. *count: operations of its kind. */
static gboolean run(guint scenario, guint fault, guint nth, gboolean stays, guint *count)
{
    guint files = open_files();
    World *world = world_new(TRUE);
    g_autoptr(GError) error = NULL;
    g_autofree char *hit = NULL;
    gboolean ok;
    VrDomainState left;

    snprintf(running, sizeof running, "%s, %s %u %s %s: ", scenarios[scenario].name, io_kind_name(faults[fault].kind),
             nth, faults[fault].how == IO_SHORT ? "short" : g_strerror(faults[fault].how), stays ? "for ever" : "once");
    alarm(DEADLINE_S);
    put_strangers(world);
    if (scenarios[scenario].before)
        scenarios[scenario].before(world);
    io_fault_watch(world->top, world->hv_dir);
    io_fault_arm(faults[fault].kind, nth, faults[fault].how, stays);
    ok = scenarios[scenario].act(world, &error);
    *count = io_fault_count();
    hit = g_strdup(io_fault_hit());
    left = world->fake ? fake_hv_state(world->fake) : VR_DOMAIN_RUNNING;
    world_close(world);
    io_fault_disarm();
    io_fault_watch(NULL, NULL);
    world->is_discard_late = TRUE;
    if (!ok && (!hit || faults[fault].rules & UNSEEN))
        violation("fails: %s", error ? error->message : "without an error");
    if (!ok && hit)
        check_error(world, error, fault, hit, stays);
    if (scenarios[scenario].needs_guest && !(stays && faults[fault].kind == IO_OPEN) &&
        !(hit && faults[fault].kind == IO_OPEN && is_guest_disk(hit)) && left != VR_DOMAIN_RUNNING)
        violation("the guest is left off: %s", error ? error->message : "no error");
    check_after(world);
    world_free(world);
    assert_int_equal(open_files(), files);
    alarm(0);
    return hit != NULL;
}

static gboolean is_full(void)
{
    return g_strcmp0(g_getenv("VR_FULL"), "1") == 0;
}

static guint counted[G_N_ELEMENTS(scenarios)]
                    [IO_KINDS]; /* operations without a fault, and one more; 0: not counted yet */

/* Every point; else one that is drawn, or none. */
static void sweep(guint scenario, guint fault, gboolean stays, GRand *drawn, guint *runs, guint *fired)
{
    guint count, last = G_MAXUINT, nth = 1;

    if (!is_full()) {
        if (counted[scenario][faults[fault].kind] == 0) {
            run(scenario, fault, 0, FALSE, &count);
            counted[scenario][faults[fault].kind] = count + 1;
        }
        last = nth = (guint)g_rand_int_range(drawn, 0, (gint)counted[scenario][faults[fault].kind]);
    }
    for (; nth > 0 && nth <= last; nth++) {
        (*runs)++;
        if (!run(scenario, fault, nth, stays, &count))
            return;
        (*fired)++;
    }
}

/* One point that a person asks for: VR_POINT="forward/7/12/1", scenario, number of the fault, N, for ever. */
static gboolean asked_for(void)
{
    g_auto(GStrv) words = g_strsplit(g_getenv("VR_POINT") ? g_getenv("VR_POINT") : "", "/", 4);
    guint count;

    if (g_strv_length(words) < 4)
        return FALSE;
    for (guint i = 0; i < G_N_ELEMENTS(scenarios); i++)
        if (g_str_equal(words[0], scenarios[i].name))
            run(i, (guint)atoi(words[1]), (guint)atoi(words[2]), atoi(words[3]) != 0, &count);
    return TRUE;
}

static void sweep_scenario(guint scenario)
{
    const char *seed = g_getenv("VR_SEED");
    GRand *drawn = g_rand_new_with_seed(seed ? (guint32)atoi(seed) : 1);
    guint runs = 0, fired = 0;

    violations = 0;
    if (!asked_for())
        for (guint fault = 0; fault < G_N_ELEMENTS(faults); fault++)
            for (int stays = 0; stays <= !(faults[fault].rules & ONCE_ONLY); stays++)
                sweep(scenario, fault, stays, drawn, &runs, &fired);
    g_rand_free(drawn);
    print_message("%s: %u runs, %u faults fired, %u violations\n", scenarios[scenario].name, runs, fired, violations);
    assert_int_equal(violations, 0);
}

static void test_errors_in_publish(void **state)
{
    sweep_scenario(0);
}

static void test_errors_in_publish_converted(void **state)
{
    sweep_scenario(1);
}

static void test_errors_in_delete(void **state)
{
    sweep_scenario(2);
}

static void test_errors_in_open(void **state)
{
    sweep_scenario(3);
}

static void test_errors_in_forward(void **state)
{
    sweep_scenario(4);
}

static void test_errors_in_full_clone(void **state)
{
    sweep_scenario(5);
}

static void test_errors_in_undo(void **state)
{
    sweep_scenario(6);
}

static void test_errors_in_rollback(void **state)
{
    sweep_scenario(7);
}

static void test_errors_in_recover(void **state)
{
    sweep_scenario(8);
}

static void test_errors_in_carry(void **state)
{
    sweep_scenario(9);
}

int main(void)
{
    static VrCopyOps ops;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_errors_in_publish), cmocka_unit_test(test_errors_in_publish_converted),
        cmocka_unit_test(test_errors_in_delete),  cmocka_unit_test(test_errors_in_open),
        cmocka_unit_test(test_errors_in_forward), cmocka_unit_test(test_errors_in_full_clone),
        cmocka_unit_test(test_errors_in_undo),    cmocka_unit_test(test_errors_in_rollback),
        cmocka_unit_test(test_errors_in_recover), cmocka_unit_test(test_errors_in_carry),
    };

    ops = vr_copy_real_ops;
    ops.completion = believed_completion;
    vr_copy_set_ops(&ops);
    world_skip_waiting(NULL);
    fake_qemu_aside = io_fault_aside;
    signal(SIGALRM, tell_and_end);
    signal(SIGABRT, tell_and_end);
    if (g_file_test("/dev/shm", G_FILE_TEST_IS_DIR)) /* the faults are ours, so the medium need not be slow */
        g_setenv("TMPDIR", "/dev/shm", TRUE);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
