/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A10: what counts as a use of an image version, one witness at a time. */
#include "engine/support.h"

#include "base/child.h"
#include "base/error.h"
#include "engine/in_use.h"
#include "fault/io_fault.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <sys/stat.h>
#include <unistd.h>

static int setup(void **state)
{
    *state = world_new(TRUE);
    return 0;
}

static int teardown(void **state)
{
    world_free(*state);
    return 0;
}

/* "who (how, how)" of os 2.0.0; "" when nobody uses it. */
static char *users(World *world, gboolean with_hv)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(VrInUse) in_use = vr_in_use_read(world->store, with_hv ? &world->fake->hv : NULL, world->journal, &error);
    if (error)
        fail_msg("%s", error->message);
    g_autoptr(GPtrArray) list = vr_in_use_of(in_use, "os", "2.0.0");
    return vr_in_use_text(list);
}

static void expect_users(World *world, const char *expected)
{
    g_autofree char *text = users(world, TRUE);
    assert_string_equal(text, expected);
}

static char *base_path(World *world)
{
    return g_build_filename(world->root, "images/os/2.0.0/disk.raw", NULL);
}

static void make_overlay(const char *path, const char *backing)
{
    const char *argv[] = {"qemu-img", "create", "-q",    "-u", "-f", "qcow2", "-F",
                          "raw",      "-b",     backing, path, "1M", NULL};
    g_autoptr(GError) error = NULL;
    if (!vr_child_run(argv, NULL, NULL, &error))
        fail_msg("%s", error->message);
}

static void nobody_uses_a_new_version(void **state)
{
    expect_users(*state, "");
}

static void a_swapped_guest_is_seen_by_all_three(void **state)
{
    World *world = *state;
    GError *error = NULL;
    world_swap(world, -1);
    expect_users(world, "fake (g1.qcow2, generation 1, current, its domain, running)");
    g_autofree char *without = users(world, FALSE);
    assert_string_equal(without, FAKE_UUID " (g1.qcow2, generation 1, current)");
    world_swap(world, 0); /* back: the generation is kept, and its disk */
    expect_users(world, "fake (g1.qcow2, generation 1, kept)");
    assert_true(vr_db_begin(vr_journal_db(world->journal), NULL));
    assert_false(vr_in_use_journaled(vr_journal_db(world->journal), "os", "2.0.0", &error));
    assert_int_equal(error->code, VR_ERROR_REFUSED);
    g_clear_error(&error);
    assert_true(vr_in_use_journaled(vr_journal_db(world->journal), "os", "2.0.1", &error));
    vr_db_rollback(vr_journal_db(world->journal));
}

/* Its disk refers to nothing, but the guest runs what was made of that version: the journal alone says so. */
static void a_full_clone_counts_by_its_generation(void **state)
{
    World *world = *state;
    g_autoptr(VrSwap) swap = NULL;
    world->full = TRUE;
    world_swap(world, -1);
    expect_users(world, "fake (generation 1, current)");
    world_swap(world, 0);
    expect_users(world, "fake (generation 1, kept)");
    swap = world_begin(world, -1, NULL); /* before its copy begins */
    expect_users(world, "fake (generation 1, kept, generation 2, new)");
    assert_true(vr_swap_undo(swap, "test", NULL));
    expect_users(world, "fake (generation 1, kept)");
}

static void an_overlay_alone_counts(void **state)
{
    World *world = *state;
    const char *uuid = "22222222-2222-4222-8222-222222222222";
    g_autofree char *dir = g_build_filename(world->root, "disks", uuid, NULL);
    g_autofree char *tmp = g_build_filename(dir, ".tmp-x", NULL);
    g_autofree char *path = g_build_filename(dir, "g7.qcow2", NULL);
    g_autofree char *making = g_build_filename(tmp, "g8.qcow2", NULL);
    g_autofree char *base = base_path(world);
    assert_int_equal(g_mkdir_with_parents(tmp, 0711), 0);
    make_overlay(path, base);
    g_autofree char *expected = g_strdup_printf("%s (g7.qcow2)", uuid);
    expect_users(world, expected);
    assert_int_equal(unlink(path), 0);
    make_overlay(making, base); /* one that is not finished */
    g_autofree char *other = g_strdup_printf("%s (g8.qcow2)", uuid);
    expect_users(world, other);
    assert_int_equal(truncate(making, 10), 0); /* not begun: the journal knows */
    expect_users(world, "");
}

static void spellings_of_a_backing_name(void **state)
{
    World *world = *state;
    g_autofree char *dir = g_build_filename(world->root, "disks/22222222-2222-4222-8222-222222222222", NULL);
    g_autofree char *path = g_build_filename(dir, "g1.qcow2", NULL);
    g_autofree char *base = base_path(world);
    g_autofree char *link = g_build_filename(world->top, "link", NULL);
    g_autofree char *through = g_build_filename(link, "os/2.0.0/disk.raw", NULL);
    g_autofree char *images = g_build_filename(world->root, "images", NULL);
    g_autofree char *file = g_strconcat("file:", base, NULL);
    g_autofree char *json =
        g_strdup_printf("json:{\"driver\":\"raw\",\"file\":{\"driver\":\"file\",\"filename\":\"%s\"}}", base);
    const char *names[] = {base,   file, json, "../../images/os/2.0.0/disk.raw", "../../images/os//./2.0.0/disk.raw",
                           through};
    assert_int_equal(g_mkdir_with_parents(dir, 0711), 0);
    assert_int_equal(symlink(images, link), 0);
    for (gsize i = 0; i < G_N_ELEMENTS(names); i++) {
        (void)unlink(path);
        make_overlay(path, names[i]);
        expect_users(world, "22222222-2222-4222-8222-222222222222 (g1.qcow2)");
    }
}

static void what_libvirt_does_not_say_is_no_no(void **state)
{
    World *world = *state;
    GError *error = NULL;
    world->fake->fault = FAKE_LOST_BEFORE;
    for (guint i = 0; i < 3; i++) { /* the list, the inactive XML, the live XML */
        world->fake->fault_at = world->fake->point + 1 + i;
        assert_null(vr_in_use_read(world->store, &world->fake->hv, world->journal, &error));
        assert_int_equal(error->code, VR_ERROR_DISCONNECTED);
        g_clear_error(&error);
    }
}

/* What is in doubt of os 2.0.0, and of the disk g1.qcow2 of the guest; NULL: nothing. */
static void expect_doubt(World *world, const char *of_version, const char *of_disk)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(VrInUse) in_use = vr_in_use_read(world->store, &world->fake->hv, world->journal, &error);
    if (error)
        fail_msg("%s", error->message);
    g_autofree char *version = vr_in_use_doubt(in_use, "os", "2.0.0");
    g_autofree char *disk = vr_in_use_doubt(in_use, "disks/" FAKE_UUID, "g1.qcow2");
    if ((version != NULL) != (of_version != NULL) || (version && !strstr(version, of_version)))
        fail_msg("of the version: %s", version ? version : "(nothing)");
    if ((disk != NULL) != (of_disk != NULL) || (disk && !strstr(disk, of_disk)))
        fail_msg("of the disk: %s", disk ? disk : "(nothing)");
}

/* An overlay of nobody's that cannot be read may refer to anything; all else is told as ever. */
static void an_overlay_that_cannot_be_read(void **state)
{
    static const struct {
        const char *bytes;
        gsize length;
        const char *why;
    } damages[] = {{"garbage", 7, "refers to: "},
                   {"", 0, "refers to: "},
                   {"QFI\xfb\0\0\0\3\0\0\0\0\0\0\x10\0\xff\xff\xff\xff", 20, "refers to: "}};
    World *world = *state;
    g_autofree char *dir = g_build_filename(world->root, "disks/22222222-2222-4222-8222-222222222222", NULL);
    g_autofree char *path = g_build_filename(dir, "g1.qcow2", NULL);
    g_autofree char *base = base_path(world);
    world_swap(world, -1);
    assert_int_equal(g_mkdir_with_parents(dir, 0711), 0);
    for (gsize i = 0; i < G_N_ELEMENTS(damages); i++) {
        assert_true(g_file_set_contents(path, damages[i].bytes, (gssize)damages[i].length, NULL));
        expect_doubt(world, path, path);
        expect_users(world, "fake (g1.qcow2, generation 1, current, its domain, running)");
    }
    (void)unlink(path);
    make_overlay(path, base);
    expect_doubt(world, NULL, NULL);
    for (int how = 0; how < 2; how++) { /* it cannot be read, and not even be opened */
        IoKind kind = how ? IO_OPEN : IO_READ;
        io_fault_watch(dir, NULL);
        io_fault_arm(kind, 0, EIO, FALSE);
        expect_doubt(world, NULL, NULL);
        io_fault_arm(kind, how ? io_fault_count() : 1, EIO, FALSE); /* before it, its directory is opened */
        expect_doubt(world, path, path);
        assert_non_null(io_fault_hit());
        io_fault_disarm();
    }
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink("/nonexistent", path), 0); /* where that leads is not looked at */
    expect_doubt(world, path, path);
}

/* Of one of ours the journal knows what it was made from: that version is in use, and nothing else is in doubt. */
static void a_damaged_generation_is_known_by_the_journal(void **state)
{
    World *world = *state;
    g_autofree char *path = g_build_filename(world->root, "disks", FAKE_UUID, "g1.qcow2", NULL);
    GError *error = NULL;
    world_swap(world, -1);
    world_swap(world, 0);
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(truncate(path, 5), 0);
    expect_doubt(world, NULL, NULL);
    expect_users(world, "fake (generation 1, kept)");
    assert_true(vr_db_begin(vr_journal_db(world->journal), NULL));
    assert_true(vr_db_run(vr_journal_db(world->journal), NULL, &error, "UPDATE generations SET image = NULL", ""));
    assert_true(vr_db_commit(vr_journal_db(world->journal), &error));
    expect_doubt(world, path, NULL); /* it does not refer to itself */
}

static void a_domain_that_is_not_ours_counts(void **state)
{
    World *world = *state;
    g_autofree char *base = base_path(world);
    g_autofree char *overlay = g_build_filename(world->top, "admins.qcow2", NULL);
    g_autofree char *second = g_build_filename(world->top, "second.qcow2", NULL);
    /* directly */
    fake_hv_edit(world->fake, world->data_path, base);
    expect_users(world, "fake (its domain)");
    fake_hv_edit(world->fake, base, world->data_path);
    expect_users(world, "");
    /* by a chain of its own that only the files know */
    make_overlay(overlay, base);
    make_overlay(second, "admins.qcow2");
    fake_hv_edit(world->fake, world->data_path, second);
    expect_users(world, "fake (its domain)");
    /* by another name of the same file */
    fake_hv_edit(world->fake, second, world->data_path);
    g_autofree char *name = g_build_filename(world->top, "hard", NULL);
    assert_int_equal(link(base, name), 0);
    fake_hv_edit(world->fake, world->data_path, name);
    expect_users(world, "fake (its domain)");
}

static void a_snapshot_counts(void **state)
{
    World *world = *state;
    g_autofree char *base = base_path(world);
    g_autofree char *kept = g_build_filename(world->hv_dir, "kept.xml", NULL);
    g_autofree char *xml = g_strdup_printf(
        "<domainsnapshot><name>before</name><domain><devices><disk type='file'><source file='/nonexistent'/>"
        "<backingStore type='file'><source file='%s'/></backingStore></disk></devices></domain></domainsnapshot>",
        base);
    assert_true(g_file_set_contents(kept, xml, -1, NULL));
    expect_users(world, "fake (a snapshot, checkpoint or saved state)");
    assert_true(g_file_set_contents(kept, "<nonsense/>", -1, NULL));
    GError *error = NULL;
    assert_null(vr_in_use_read(world->store, &world->fake->hv, world->journal, &error));
    assert_non_null(error);
    g_clear_error(&error);
}

static void a_loop_of_backing_files_ends(void **state)
{
    World *world = *state;
    g_autofree char *one = g_build_filename(world->top, "one.qcow2", NULL);
    g_autofree char *two = g_build_filename(world->top, "two.qcow2", NULL);
    make_overlay(one, two);
    make_overlay(two, one);
    fake_hv_edit(world->fake, world->data_path, one);
    expect_users(world, "");
}

static void what_others_add_is_named(void **state)
{
    World *world = *state;
    g_autoptr(VrInUse) in_use = vr_in_use_read(world->store, NULL, world->journal, NULL);
    vr_in_use_add(in_use, "os", "2.0.0", "set shop", "pinned by its model");
    vr_in_use_add(in_use, "os", "2.0.0", "set shop", "pinned by its model");
    vr_in_use_add(in_use, "os", "2.0.0", "set bar", "pinned by its model");
    g_autoptr(GPtrArray) list = vr_in_use_of(in_use, "os", "2.0.0");
    g_autofree char *text = vr_in_use_text(list);
    assert_string_equal(text, "set bar (pinned by its model), set shop (pinned by its model)");
}

/* ---- a deletion at the same moment ---- */

static gboolean not_journaled(VrDb *db, const char *name, const char *version, void *data, GError **error)
{
    return vr_in_use_journaled(db, name, version, error);
}

static void delete_base(World *world)
{
    g_autoptr(GError) error = NULL;
    if (!vr_store_delete(world->store, "os", "2.0.0", not_journaled, NULL, &error))
        fail_msg("%s", error->message);
}

static void publish_base(VrStore *store, const char *top, char fill)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *file = g_build_filename(top, "again.raw", NULL);
    g_autofree char *bytes = g_malloc(1024 * 1024);
    VrPublication publication = {.name = "os", .version = "2.0.0", .file = file};
    gboolean already;
    memset(bytes, fill, 1024 * 1024);
    assert_true(g_file_set_contents(file, bytes, 1024 * 1024, NULL));
    if (!vr_store_publish(store, &publication, NULL, &already, &error))
        fail_msg("%s", error->message);
}

static void a_planned_swap_keeps_its_base(void **state)
{
    World *world = *state;
    g_autoptr(GError) error = NULL;
    g_autoptr(VrSwap) swap = world_begin(world, -1, &error);
    assert_int_equal(vr_swap_row(swap)->state, VR_SWAP_PLANNED);
    expect_users(world, "fake (generation 1, new)"); /* there is no overlay yet */
    assert_false(vr_store_delete(world->store, "os", "2.0.0", not_journaled, NULL, &error));
    assert_int_equal(error->code, VR_ERROR_REFUSED);
    g_clear_error(&error);
    assert_true(vr_swap_advance(swap, VR_SWAP_STARTED, &world_stop, &error));
    assert_true(vr_swap_commit(swap, NULL, &error));
    world_check(world, TRUE);
}

/* The version went, or another one has its number, after it was chosen and before the journal has the swap. */
static void a_base_that_is_no_more_gets_no_overlay(void **state)
{
    static const struct {
        char fill; /* 0: it stays away */
        VrErrorCode code;
    } rows[] = {{0, VR_ERROR_NOT_FOUND}, {'X', VR_ERROR_CONFLICT}};
    World *world = *state;
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        delete_base(world);
        if (rows[i].fill)
            publish_base(world->store, world->top, rows[i].fill);
        g_autoptr(VrSwap) swap = world_begin(world, -1, &error);
        assert_false(vr_swap_advance(swap, VR_SWAP_PREPARED, &world_stop, &error));
        assert_int_equal(error->code, rows[i].code);
        assert_non_null(strstr(error->message, "os 2.0.0"));
        assert_true(vr_swap_undo(swap, "no base", NULL));
        assert_int_equal(fake_hv_state(world->fake), VR_DOMAIN_RUNNING);
        world_check(world, TRUE);
        if (!rows[i].fill)
            publish_base(world->store, world->top, 'N');
    }
}

#define RACE_ROUNDS 24
#define RACE_STEP_US 800

typedef struct {
    const char *root;
    guint wait_us;
    gboolean deleted;
} Deleter;

/* As another process: with a store of its own. */
static gpointer delete_after_a_while(gpointer data)
{
    Deleter *deleter = data;
    g_autoptr(VrStore) store = vr_store_open(deleter->root, FALSE, NULL);
    g_usleep(deleter->wait_us);
    deleter->deleted = vr_store_delete(store, "os", "2.0.0", not_journaled, NULL, NULL);
    return NULL;
}

/* Invariant 6, whoever is first: the guest runs on a base that is there, or the version went and the guest stays on its old disk. */
static void a_race_has_one_winner(void **state)
{
    guint deletions = 0, swaps = 0;
    for (guint i = 0; i < RACE_ROUNDS; i++) {
        g_autoptr(World) world = world_new(TRUE);
        g_autoptr(GError) error = NULL;
        Deleter deleter = {world->root, i * RACE_STEP_US, FALSE};
        g_autofree char *base = base_path(world);
        GThread *thread = g_thread_new("deleter", delete_after_a_while, &deleter);
        g_usleep(RACE_ROUNDS / 2 * RACE_STEP_US); /* so that both are first now and then */
        g_autoptr(VrSwap) swap = world_begin(world, -1, &error);
        gboolean swapped = swap && vr_swap_advance(swap, VR_SWAP_STARTED, &world_stop, &error);
        if (swapped)
            assert_true(vr_swap_commit(swap, NULL, NULL));
        else
            assert_true(vr_swap_undo(swap, "no base", NULL));
        g_thread_join(thread);
        assert_true(swapped != deleter.deleted);
        assert_true(g_file_test(base, G_FILE_TEST_EXISTS) == swapped);
        world_check(world, TRUE);
        deletions += deleter.deleted;
        swaps += swapped;
    }
    print_message("%u deletions and %u swaps were first\n", deletions, swaps);
}

/* A domain that is off when its XML is asked for and runs again when that is looked at: it is being swapped, and the answer is one moment away. */
static guint off_for;

static char *off_at_first(VrHv *hv, const char *uuid, GError **error)
{
    if (off_for > 0) {
        off_for--;
        g_set_error(error, VR_ERROR, VR_ERROR_HYPERVISOR, "domain %s is not running", uuid);
        return NULL;
    }
    return g_strdup("<domain type='qemu'><name>fake</name><devices><disk type='file' device='disk'>"
                    "<source file='/nowhere/live.qcow2'/></disk></devices></domain>");
}

static void a_domain_that_is_started_meanwhile(void **state)
{
    World *world = *state;
    VrHvOps ops = *world->fake->hv.ops;
    const VrHvOps *before = world->fake->hv.ops;
    g_autoptr(GError) error = NULL;

    ops.live_xml = off_at_first;
    world->fake->hv.ops = &ops;
    off_for = 2;
    g_autoptr(VrInUse) in_use = vr_in_use_read(world->store, &world->fake->hv, world->journal, &error);
    assert_non_null(in_use);
    off_for = 1000; /* it never runs when it is asked, and always when it is looked at: nobody can tell */
    g_autoptr(VrInUse) none = vr_in_use_read(world->store, &world->fake->hv, world->journal, &error);
    assert_null(none);
    assert_non_null(strstr(error->message, "is not running"));
    world->fake->hv.ops = before;
}

/* A domain of which something cannot be told: it is there `there_for` times, and then it is no more. */
static guint there_for;

static char *undefined_meanwhile(VrHv *hv, const char *uuid, GError **error)
{
    if (there_for == 0) {
        g_set_error(error, VR_ERROR, VR_ERROR_NOT_FOUND, "no domain %s", uuid);
        return NULL;
    }
    there_for--;
    return g_strdup("<domain type='qemu'><name>fake</name><devices/></domain>");
}

static GPtrArray *nobody_can_tell(VrHv *hv, const char *uuid, GError **error)
{
    g_set_error(error, VR_ERROR, VR_ERROR_HYPERVISOR, "what is kept of %s cannot be read", uuid);
    return NULL;
}

static void a_domain_that_is_undefined_meanwhile(void **state)
{
    World *world = *state;
    VrHvOps ops = *world->fake->hv.ops;
    const VrHvOps *before = world->fake->hv.ops;
    g_autoptr(GError) error = NULL;

    ops.inactive_xml = undefined_meanwhile;
    ops.kept_xml = nobody_can_tell;
    world->fake->hv.ops = &ops;
    there_for = 1;
    g_autoptr(VrInUse) in_use = vr_in_use_read(world->store, &world->fake->hv, world->journal, &error);
    assert_non_null(in_use);
    there_for = 2; /* it stays: nobody can tell */
    g_autoptr(VrInUse) none = vr_in_use_read(world->store, &world->fake->hv, world->journal, &error);
    assert_null(none);
    assert_non_null(strstr(error->message, "cannot be read"));
    world->fake->hv.ops = before;
}

#define world_test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        world_test(nobody_uses_a_new_version),
        world_test(a_swapped_guest_is_seen_by_all_three),
        world_test(a_full_clone_counts_by_its_generation),
        world_test(an_overlay_alone_counts),
        world_test(spellings_of_a_backing_name),
        world_test(what_libvirt_does_not_say_is_no_no),
        world_test(an_overlay_that_cannot_be_read),
        world_test(a_damaged_generation_is_known_by_the_journal),
        world_test(a_domain_that_is_not_ours_counts),
        world_test(a_snapshot_counts),
        world_test(a_loop_of_backing_files_ends),
        world_test(what_others_add_is_named),
        world_test(a_planned_swap_keeps_its_base),
        world_test(a_base_that_is_no_more_gets_no_overlay),
        world_test(a_domain_that_is_started_meanwhile),
        world_test(a_domain_that_is_undefined_meanwhile),
        cmocka_unit_test(a_race_has_one_winner),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
