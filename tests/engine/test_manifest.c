/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Data disks are the same when a guest starts as when it went off, or it does not start. Row B2. */
#include "engine/support.h"

#include "base/child.h"
#include "base/error.h"
#include "base/fd.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define assert_error_text(error, expected, text)                                                                       \
    do {                                                                                                               \
        assert_non_null(error);                                                                                        \
        if (!g_error_matches(error, VR_ERROR, expected) || !strstr((error)->message, text))                            \
            fail_msg("wrong error: %s", (error)->message);                                                             \
    } while (0)

/* --- what somebody does to the data disk while the guest is off -------------------------------------- */

static void put_bytes(const char *path, off_t at, const char *bytes)
{
    vr_autofd fd = open(path, O_WRONLY | O_CLOEXEC);

    assert_int_equal(pwrite(fd, bytes, strlen(bytes), at), strlen(bytes));
}

static void keep_mtime(const char *path, const struct stat *st)
{
    const struct timespec times[] = {st->st_atim, st->st_mtim};

    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static void write_far(World *world)
{
    put_bytes(world->data_path, 900000, "changed");
}

static void write_first(World *world)
{
    struct stat st;

    assert_int_equal(stat(world->data_path, &st), 0);
    put_bytes(world->data_path, 10, "changed");
    keep_mtime(world->data_path, &st);
}

static void grow(World *world)
{
    struct stat st;

    assert_int_equal(stat(world->data_path, &st), 0);
    assert_int_equal(truncate(world->data_path, 2 * 1024 * 1024), 0);
    keep_mtime(world->data_path, &st);
}

static void replace(World *world)
{
    g_autofree char *copy = g_strconcat(world->data_path, ".copy", NULL);
    const char *argv[] = {"cp", "-p", world->data_path, copy, NULL};

    assert_true(vr_child_run(argv, NULL, NULL, NULL));
    assert_int_equal(g_rename(copy, world->data_path), 0);
}

static void edit(World *world)
{
    fake_hv_edit(world->fake, "DATA01", "DATA02");
}

static void rename_away(World *world, gboolean away)
{
    g_autofree char *aside = g_strconcat(world->data_path, ".away", NULL);

    assert_int_equal(away ? g_rename(world->data_path, aside) : g_rename(aside, world->data_path), 0);
}

static void take_away(World *world)
{
    rename_away(world, TRUE);
}

static const struct {
    void (*act)(World *world);
    const char *text;
    VrErrorCode code;
} deeds[] = {
    {write_far, "the time at which", VR_ERROR_CONFLICT},
    {write_first, "the first bytes of", VR_ERROR_CONFLICT},
    {grow, "the size of", VR_ERROR_CONFLICT},
    {replace, "is another file", VR_ERROR_CONFLICT},
    {edit, "its XML element", VR_ERROR_CONFLICT},
    {take_away, "cannot be read", VR_ERROR_REFUSED},
};

/* Without its data disk no QEMU starts, on the old disk neither; once it is back, a recovery does it. */
static void check_taken_away(World *world, VrSwap *swap)
{
    g_autoptr(GPtrArray) recovered = NULL;

    assert_false(vr_swap_undo(swap, "test", NULL));
    assert_int_equal(fake_hv_state(world->fake), VR_DOMAIN_OFF);
    rename_away(world, FALSE);
    recovered = vr_recover(&world->engine, FALSE, NULL);
    assert_int_equal(((const VrRecovered *)recovered->pdata[0])->row->state, VR_SWAP_UNDONE);
    assert_int_equal(fake_hv_state(world->fake), VR_DOMAIN_RUNNING);
}

static void check_deed(guint i, VrSwapState at)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(World) world = world_new(TRUE);
    g_autoptr(VrSwap) swap = world_reach(world, at);
    guint starts = world->fake->starts;

    deeds[i].act(world);
    assert_false(vr_swap_advance(swap, VR_SWAP_STARTED, &world_stop, &error));
    assert_int_equal(world->fake->starts, starts); /* not on the new disk */
    if (at == VR_SWAP_STOPPED && deeds[i].act == edit)
        return; /* seen before the switch, as any other edit */
    assert_error_text(error, deeds[i].code, "vdb");
    assert_error_text(error, deeds[i].code, deeds[i].text);
    if (deeds[i].act == take_away) {
        check_taken_away(world, swap);
        return;
    }
    assert_true(vr_swap_undo(swap, error->message, NULL));
    assert_int_equal(fake_hv_state(world->fake), VR_DOMAIN_RUNNING);
    assert_int_equal(vr_swap_row(swap)->state, VR_SWAP_UNDONE);
}

static void test_changed_while_off(void **state)
{
    for (guint i = 0; i < G_N_ELEMENTS(deeds); i++) {
        check_deed(i, VR_SWAP_STOPPED);
        check_deed(i, VR_SWAP_SWITCHED);
    }
}

/* A recovery compares with what the dead process has read. */
static void test_changed_before_recovery(void **state)
{
    g_autoptr(World) world = world_new(TRUE);
    g_autofree char *live = NULL;
    g_autoptr(GPtrArray) recovered = NULL;

    vr_swap_free(world_reach(world, VR_SWAP_SWITCHED));
    world_close(world);
    write_far(world);
    world_open(world);
    recovered = vr_recover(&world->engine, FALSE, NULL);
    assert_int_equal(recovered->len, 1);
    assert_non_null(strstr(((const VrRecovered *)recovered->pdata[0])->told, "vdb"));
    live = fake_hv_os_path(world->fake, TRUE);
    assert_string_equal(live, world->old_path);
}

static void test_untouched_before_recovery(void **state)
{
    g_autoptr(World) world = world_new(TRUE);
    g_autoptr(GPtrArray) recovered = NULL;

    vr_swap_free(world_reach(world, VR_SWAP_SWITCHED));
    world_close(world);
    world_open(world);
    recovered = vr_recover(&world->engine, FALSE, NULL);
    assert_int_equal(((const VrRecovered *)recovered->pdata[0])->row->state, VR_SWAP_STARTED);
    world_check(world, FALSE);
}

/* What the new system wrote is its right, and no hindrance on the way back. */
static void test_new_system_writes(void **state)
{
    g_autoptr(World) world = world_new(TRUE);
    g_autoptr(VrSwap) swap = world_reach(world, VR_SWAP_STARTED);
    g_autoptr(VrDataProof) proof = NULL;

    write_far(world);
    assert_true(vr_swap_undo(swap, "not healthy", NULL));
    assert_int_equal(vr_swap_row(swap)->state, VR_SWAP_UNDONE);
    assert_int_equal(fake_hv_state(world->fake), VR_DOMAIN_RUNNING);
    proof = vr_data_proof_of(world->journal, vr_swap_row(swap)->id, NULL);
    assert_int_equal(proof->phase, VR_PHASE_BACK);
    assert_true(proof->proven_us > 0);
}

static World *writing_world; /* in a define */
static const VrHvOps *real_ops;

static gboolean write_then_define(VrHv *hv, const char *uuid, const char *xml, GError **error)
{
    write_far(writing_world);
    return real_ops->define(hv, uuid, xml, error);
}

/* On the way back, between the two readings: the old system is not started either, and a person looks. */
static void test_changed_on_the_way_back(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(World) world = world_new(TRUE);
    g_autoptr(VrSwap) swap = world_reach(world, VR_SWAP_STARTED);
    VrHvOps ops = *world->fake->hv.ops;

    writing_world = world;
    real_ops = world->fake->hv.ops;
    ops.define = write_then_define;
    world->fake->hv.ops = &ops;
    assert_false(vr_swap_undo(swap, "not healthy", &error));
    world->fake->hv.ops = real_ops;
    assert_error_text(error, VR_ERROR_PERSON, "vdb");
    assert_int_equal(vr_swap_row(swap)->state, VR_SWAP_UNKNOWN);
    assert_int_equal(fake_hv_state(world->fake), VR_DOMAIN_OFF);
    /* the person's word is that it runs */
    assert_true(vr_hv_start(&world->fake->hv, FAKE_UUID, NULL));
    g_autoptr(GPtrArray) recovered = vr_recover(&world->engine, FALSE, NULL);
    assert_int_equal(((const VrRecovered *)recovered->pdata[0])->row->state, VR_SWAP_UNDONE);
}

/* --- what is kept and shown -------------------------------------------------------------------------- */

static void test_shown(void **state)
{
    g_autoptr(World) world = world_new(TRUE);
    g_autoptr(VrSwapRow) row = NULL;
    g_autoptr(VrDataProof) proof = NULL;
    g_autofree char *text = NULL;

    world_swap(world, -1);
    row = vr_journal_last_swap(world->journal, FAKE_UUID, NULL);
    proof = vr_data_proof_of(world->journal, row->id, NULL);
    assert_non_null(proof);
    text = vr_data_proof_text(proof);
    assert_true(g_str_has_prefix(text, "1 untouched: vdb /"));
    assert_non_null(strstr(proof->taken_in, "1 disk in "));
    print_message("read: %s, then %s\n", proof->taken_in, proof->proven_in);
    assert_int_equal(vr_manifest_content(proof->manifest), VR_PROOF_NONE);
}

static void test_off_guest_and_rollback(void **state)
{
    g_autoptr(World) world = world_new(FALSE);

    world_swap(world, -1);
    world_swap(world, 0);
    for (guint i = 0; i < 2; i++) {
        g_autoptr(VrSwapRow) row = vr_journal_last_swap(world->journal, FAKE_UUID, NULL);
        g_autoptr(VrDataProof) proof = vr_data_proof_of(world->journal, row->id, NULL);
        assert_true(proof && proof->proven_us > 0);
    }
}

/* --- the content ------------------------------------------------------------------------------------- */

static const struct {
    VrProofContent content;
    off_t at;
    gboolean seen;
} hashes[] = {{VR_PROOF_NONE, 900000, FALSE}, {VR_PROOF_SAMPLED, 900000, TRUE}, {VR_PROOF_WHOLE, 900000, TRUE}};

/* Somebody who also puts the time back: only a hash of the content sees that. */
static void test_content(void **state)
{
    for (guint i = 0; i < G_N_ELEMENTS(hashes); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(World) world = world_new(TRUE);
        g_autoptr(VrSwap) swap = NULL;
        struct stat st;
        VrSwapRequest request = {
            .uuid = FAKE_UUID, .os_target = "vda", .image = world->image, .data_proof = hashes[i].content};

        swap = vr_swap_begin(&world->engine, &request, NULL);
        assert_true(vr_swap_advance(swap, VR_SWAP_SWITCHED, &world_stop, NULL));
        assert_int_equal(stat(world->data_path, &st), 0);
        put_bytes(world->data_path, hashes[i].at, "changed");
        keep_mtime(world->data_path, &st);
        assert_int_equal(vr_swap_advance(swap, VR_SWAP_STARTED, &world_stop, &error), !hashes[i].seen);
        if (hashes[i].seen)
            assert_error_text(error, VR_ERROR_CONFLICT, "the content of");
    }
}

/* --- which disks ------------------------------------------------------------------------------------- */

static char *domain_of(const char *disks)
{
    return g_strdup_printf("<domain type='qemu'><name>m</name><devices>"
                           "<disk type='file' device='disk'><source file='/os'/><target dev='vda'/></disk>%s"
                           "</devices></domain>",
                           disks);
}

static void test_kinds(void **state)
{
    g_autofree char *dir = g_dir_make_tmp("vr-manifest-XXXXXX", NULL);
    g_autofree char *file = g_build_filename(dir, "a.raw", NULL);
    g_autofree char *link = g_build_filename(dir, "link", NULL);
    g_autofree char *disks = NULL;
    g_autofree char *xml = NULL;
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) manifest = NULL;

    assert_true(g_file_set_contents(file, "data", -1, NULL));
    assert_int_equal(symlink("a.raw", link), 0);
    disks = g_strdup_printf("<disk type='file' device='disk'><source file='%s'/><target dev='vdb'/><shareable/></disk>"
                            "<disk type='file' device='cdrom'><target dev='sda'/></disk>"
                            "<disk type='network' device='disk'><source protocol='rbd' name='a/b'/>"
                            "<target dev='vdc'/></disk>",
                            link);
    xml = domain_of(disks);
    manifest = vr_manifest_take(NULL, xml, "vda", VR_PROOF_WHOLE, &error);
    assert_null(error);
    assert_int_equal(manifest->len, 3);
    const VrManifestEntry *shared = manifest->pdata[0], *drive = manifest->pdata[1], *network = manifest->pdata[2];
    assert_string_equal(shared->proof->path, file); /* where the link ends */
    assert_true(shared->shared);
    assert_string_equal(shared->proof->content, "");
    assert_null(drive->proof);
    assert_null(network->proof);
    assert_int_equal(vr_manifest_bytes(manifest, VR_PROOF_WHOLE), 0);

    /* Another guest writes to what is shareable. */
    put_bytes(file, 0, "atad");
    g_autoptr(GPtrArray) again = vr_manifest_take(NULL, xml, "vda", VR_PROOF_WHOLE, &error);
    g_autofree char *untold = NULL;
    assert_true(vr_manifest_compare(manifest, again, &untold, &error));
    assert_null(untold);
    assert_int_equal(unlink(link), 0);
    assert_int_equal(mkfifo(link, 0600), 0);
    assert_null(vr_manifest_take(NULL, xml, "vda", VR_PROOF_NONE, &error));
    assert_error_text(error, VR_ERROR_REFUSED, "neither a file nor a block device");
    unlink(link);
    unlink(file);
    rmdir(dir);
}

/* --- a block device, and a reboot of the host -------------------------------------------------------- */

static char *attach(const char *file)
{
    g_auto(VrChildResult) result = {0};
    const char *argv[] = {"losetup", "--find", "--show", file, NULL};

    if (!vr_child_run(argv, NULL, &result, NULL) || result.exit_status != 0)
        return NULL;
    return g_strdup(g_strchomp(result.out));
}

static void detach(const char *device)
{
    const char *argv[] = {"losetup", "--detach", device, NULL};

    assert_true(vr_child_run(argv, NULL, NULL, NULL));
}

/* As if the first reading had been before the host was booted; with the lasting name that it had, or none. */
static void boot_host(World *world, gboolean named)
{
    VrDb *db = vr_journal_db(world->journal);

    assert_true(vr_db_begin(db, NULL));
    assert_true(vr_db_run(db, NULL, NULL, "UPDATE data_disks SET boot_id = 'another' WHERE boot_id <> ''", ""));
    if (!named)
        assert_true(vr_db_run(db, NULL, NULL, "UPDATE data_disks SET lasting = NULL", ""));
    assert_true(vr_db_commit(db, NULL));
}

static void point_to(const char *link, const char *device)
{
    unlink(link);
    assert_int_equal(symlink(device, link), 0);
}

static const struct {
    gboolean booted, named; /* its lasting name was recorded */
    gboolean other_number;  /* the link in the XML comes to another loop device */
    gboolean other_file;    /* with another file behind it, that has the same bytes */
    gboolean other_bytes;
    const char *told; /* why the new disk is not started; NULL: it is */
    gboolean untold;
} blocks[] = {
    {FALSE, TRUE, FALSE, FALSE, FALSE, NULL, FALSE},
    {FALSE, TRUE, TRUE, FALSE, FALSE, "its file", FALSE},
    {TRUE, TRUE, FALSE, FALSE, FALSE, NULL, FALSE},
    {TRUE, TRUE, TRUE, FALSE, FALSE, NULL, FALSE},
    {TRUE, TRUE, TRUE, TRUE, FALSE, "is another device: loop ", FALSE},
    {TRUE, TRUE, TRUE, FALSE, TRUE, "the first bytes of", FALSE},
    {TRUE, FALSE, TRUE, FALSE, FALSE, NULL, TRUE},
    {TRUE, FALSE, TRUE, TRUE, FALSE, NULL, TRUE},
    {TRUE, FALSE, TRUE, TRUE, TRUE, "the first bytes of", FALSE},
};

/* The swap is cut while the guest is off; recovered is what a new process makes of it. */
static void recover_block(guint i, World *world, const char *link, const char *first, const char *second)
{
    g_autoptr(GPtrArray) recovered = NULL;
    g_autoptr(VrDataProof) proof = NULL;
    const VrRecovered *one;

    vr_swap_free(world_reach(world, VR_SWAP_SWITCHED));
    if (blocks[i].booted)
        boot_host(world, blocks[i].named);
    if (blocks[i].other_number)
        point_to(link, second);
    if (blocks[i].other_bytes)
        put_bytes(second, 10, "changed");
    world_close(world);
    world_open(world);
    recovered = vr_recover(&world->engine, FALSE, NULL);
    one = recovered->pdata[0];
    assert_int_equal(one->row->state, blocks[i].told ? VR_SWAP_UNDONE : VR_SWAP_STARTED);
    assert_int_equal(fake_hv_state(world->fake), VR_DOMAIN_RUNNING);
    if (blocks[i].told && !strstr(one->told, blocks[i].told))
        fail_msg("block %u: %s", i, one->told);
    proof = vr_data_proof_of(world->journal, one->row->id, NULL);
    assert_int_equal(proof->untold != NULL, blocks[i].untold);
    if (proof->untold) {
        g_autofree char *text = vr_data_proof_text(proof);
        g_autofree char *disk = g_strconcat("the same devices: vdb ", first, NULL);
        assert_non_null(strstr(text, disk));
    }
}

static void test_block_device_over_a_reboot(void **state)
{
    for (guint i = 0; i < G_N_ELEMENTS(blocks); i++) {
        g_autoptr(World) world = world_new(FALSE);
        g_autofree char *link = g_build_filename(world->top, "by-id", NULL);
        g_autofree char *copy = g_build_filename(world->top, "copy.raw", NULL);
        const char *cp[] = {"cp", world->data_path, copy, NULL};
        g_autofree char *from = g_strdup_printf("'%s'", world->data_path);
        g_autofree char *to = g_strdup_printf("'%s'", link);
        g_autofree char *first = attach(world->data_path);
        g_autofree char *second = NULL;

        if (!first)
            skip();
        assert_true(vr_child_run(cp, NULL, NULL, NULL));
        second = attach(blocks[i].other_file ? copy : world->data_path);
        fake_hv_edit(world->fake, from, to);
        fake_hv_edit(world->fake, "<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file=",
                     "<disk type='block' device='disk'><driver name='qemu' type='raw'/><source dev=");
        point_to(link, first);
        assert_true(vr_hv_start(&world->fake->hv, FAKE_UUID, NULL));
        recover_block(i, world, link, first, second);
        detach(second);
        detach(first);
    }
}

/* A disk more, or less. */
static void test_sets_of_disks(void **state)
{
    g_autofree char *none = domain_of("");
    g_autofree char *one = domain_of("<disk type='network' device='disk'><source protocol='nbd' name='x'/>"
                                     "<target dev='vdb'/></disk>");
    g_autoptr(GPtrArray) fewer = vr_manifest_take(NULL, none, "vda", VR_PROOF_NONE, NULL);
    g_autoptr(GPtrArray) more = vr_manifest_take(NULL, one, "vda", VR_PROOF_NONE, NULL);
    g_autoptr(GError) gone = NULL;
    g_autoptr(GError) new = NULL;

    g_autofree char *untold = NULL;
    assert_false(vr_manifest_compare(more, fewer, &untold, &gone));
    assert_error_text(gone, VR_ERROR_CONFLICT, "it is gone");
    assert_false(vr_manifest_compare(fewer, more, &untold, &new));
    assert_error_text(new, VR_ERROR_CONFLICT, "it is new");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_changed_while_off),
        cmocka_unit_test(test_changed_before_recovery),
        cmocka_unit_test(test_untouched_before_recovery),
        cmocka_unit_test(test_new_system_writes),
        cmocka_unit_test(test_changed_on_the_way_back),
        cmocka_unit_test(test_shown),
        cmocka_unit_test(test_off_guest_and_rollback),
        cmocka_unit_test(test_content),
        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_block_device_over_a_reboot),
        cmocka_unit_test(test_sets_of_disks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
