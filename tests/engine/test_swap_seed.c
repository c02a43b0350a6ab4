/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The seed belongs to a generation (engine/swap_seed.c), on real files with a scripted hypervisor. Rows C1, C7. */
#include "engine/support.h"

#include "base/child.h"
#include "base/error.h"
#include "engine/rebuild.h"
#include "engine/release.h"
#include "engine/retire.h"
#include "hv/domain_xml.h"

#include <glib/gstdio.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define SECRET "pa55word-of-the-guest"
#define DIR "root/disks/" FAKE_UUID

static void expect_error(GError **error, int code, const char *text)
{
    assert_non_null(*error);
    if (!g_error_matches(*error, VR_ERROR, code) || !strstr((*error)->message, text))
        fail_msg("wrong error: %s", (*error)->message);
    g_clear_error(error);
}

static const VrSeed *seed(void)
{
    static VrSeed the_seed;

    if (!the_seed.user_data) {
        the_seed.user_data = g_bytes_new_static("#cloud-config\npassword: " SECRET "\n", 46);
        the_seed.meta_data = g_bytes_new_static("local-hostname: web-0\n", 22);
    }
    return &the_seed;
}

static World *seeded_world(gboolean running)
{
    World *world = world_new(running);

    world->seed = seed();
    return world;
}

static char *file_of(World *world, const char *name)
{
    return g_build_filename(world->top, DIR, name, NULL);
}

static gboolean is_there(World *world, const char *name)
{
    g_autofree char *path = file_of(world, name);

    return g_file_test(path, G_FILE_TEST_EXISTS);
}

static mode_t mode_of(World *world, const char *name)
{
    g_autofree char *path = file_of(world, name);

    return world_mode(path);
}

static void expect_configured(World *world, const char *name)
{
    g_autofree char *path = name ? file_of(world, name) : NULL;
    g_autofree char *xml = vr_hv_inactive_xml(&world->fake->hv, FAKE_UUID, NULL);
    g_autofree char *live = fake_hv_state(world->fake) == VR_DOMAIN_RUNNING
                                ? vr_hv_live_xml(&world->fake->hv, FAKE_UUID, NULL)
                                : g_strdup(xml);
    g_autofree char *configured = vr_domain_xml_seed(xml);
    g_autofree char *runs_with = vr_domain_xml_seed(live);

    assert_string_equal(configured ? configured : "-", path ? path : "-");
    assert_string_equal(runs_with ? runs_with : "-", path ? path : "-");
}

static char *read_back(World *world, const char *name, const char *part)
{
    g_autofree char *path = file_of(world, name);
    g_auto(VrChildResult) result = {0};
    const char *argv[] = {"isoinfo", "-R", "-i", path, "-x", part, NULL};

    assert_true(vr_child_run(argv, NULL, &result, NULL));
    return g_steal_pointer(&result.out);
}

static void expect_instance_id(World *world, const char *name, const char *id)
{
    g_autofree char *meta = read_back(world, name, "/meta-data");
    g_autofree char *expected = g_strdup_printf("instance-id: " FAKE_UUID "-%s\nlocal-hostname: web-0\n", id);

    assert_string_equal(meta, expected);
}

static void test_forward_and_back(void **state) /* C7 */
{
    g_autoptr(World) world = seeded_world(TRUE);
    g_autofree char *before = vr_hv_inactive_xml(&world->fake->hv, FAKE_UUID, NULL);

    world_swap(world, -1);
    expect_configured(world, "g1.seed.iso");
    expect_instance_id(world, "g1.seed.iso", "g1-2.0.0");
    world_swap(world, -1);
    expect_configured(world, "g2.seed.iso");
    expect_instance_id(world, "g2.seed.iso", "g2-2.0.0"); /* the same version again is another instance */
    assert_int_equal(mode_of(world, "g1.seed.iso"), 0400);
    assert_int_equal(mode_of(world, "g2.seed.iso"), 0600);
    world_check(world, TRUE);
    world_swap(world, 1);
    expect_configured(world, "g1.seed.iso");
    expect_instance_id(world, "g1.seed.iso", "g1-2.0.0"); /* and one that is gone back to is what it was */
    assert_int_equal(mode_of(world, "g1.seed.iso"), 0600);
    assert_int_equal(mode_of(world, "g2.seed.iso"), 0400);
    world_swap(world, 0);
    expect_configured(world, NULL);
    g_autofree char *after = vr_hv_inactive_xml(&world->fake->hv, FAKE_UUID, NULL);
    assert_true(vr_domain_xml_prove(before, after, "vda", NULL));
    assert_null(strstr(after, VR_SEED_ALIAS));
    world_check(world, TRUE);
}

/* A model that says nothing any more: the new system has no drive, and the kept one has it again. */
static void test_a_generation_without_one(void **state)
{
    g_autoptr(World) world = seeded_world(TRUE);

    world_swap(world, -1);
    world->seed = NULL;
    world_swap(world, -1);
    expect_configured(world, NULL);
    assert_false(is_there(world, "g2.seed.iso"));
    world_check(world, TRUE);
    world_swap(world, 1);
    expect_configured(world, "g1.seed.iso");
    world_swap(world, 2);
    expect_configured(world, NULL);
    world_check(world, TRUE);
}

static void test_it_is_journaled(void **state)
{
    g_autoptr(World) world = seeded_world(TRUE);
    g_autoptr(VrSwap) swap = world_begin(world, -1, NULL);
    g_autoptr(VrGeneration) to = NULL;
    g_autofree char *path = file_of(world, "g1.seed.iso");
    g_autofree char *digest = vr_seed_digest(seed());
    struct stat st;

    assert_false(is_there(world, "g1.seed.iso"));
    assert_true(vr_swap_advance(swap, VR_SWAP_PREPARED, NULL, NULL));
    assert_int_equal(world->fake->shutdowns, 0); /* made while the guest runs */
    assert_int_equal(stat(path, &st), 0);
    to = vr_journal_generation(world->journal, FAKE_UUID, 1, NULL);
    assert_string_equal(to->seed, path);
    assert_int_equal(to->seed_file.inode, st.st_ino);
    assert_string_equal(to->seed_digest, digest);
}

static void test_undo(void **state)
{
    static const struct {
        VrSwapState reached;
        gboolean stays;
    } cases[] = {
        {VR_SWAP_PREPARED, FALSE}, {VR_SWAP_STOPPED, FALSE}, {VR_SWAP_SWITCHED, FALSE}, {VR_SWAP_STARTED, TRUE}};

    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        for (gboolean second = FALSE; second <= TRUE; second++) {
            g_autoptr(World) world = seeded_world(TRUE);
            const char *name = second ? "g2.seed.iso" : "g1.seed.iso";
            if (second)
                world_swap(world, -1);
            g_autofree char *before = vr_hv_inactive_xml(&world->fake->hv, FAKE_UUID, NULL);
            g_autoptr(VrSwap) swap = world_begin(world, -1, NULL);
            assert_true(vr_swap_advance(swap, cases[i].reached, &world_stop, NULL));
            assert_true(vr_swap_undo(swap, "not healthy", NULL));
            g_autofree char *after = vr_hv_inactive_xml(&world->fake->hv, FAKE_UUID, NULL);
            assert_true(vr_domain_xml_same(before, after));
            expect_configured(world, second ? "g1.seed.iso" : NULL);
            assert_int_equal(is_there(world, name), cases[i].stays);
            if (cases[i].stays)
                assert_int_equal(mode_of(world, name), 0400); /* for a post-mortem, with its disk */
            world_check(world, TRUE);
        }
    }
}

/* What fails while it is made fails before the guest is asked to stop. */
static void test_it_cannot_be_made(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(World) world = seeded_world(TRUE);
    g_autoptr(VrSwap) swap = world_begin(world, -1, NULL);
    g_autofree char *taken = file_of(world, "g1.seed.iso");
    g_autofree char *text = NULL;

    assert_true(g_file_set_contents(taken, "precious", -1, NULL));
    assert_false(vr_swap_advance(swap, VR_SWAP_STARTED, &world_stop, &error));
    expect_error(&error, VR_ERROR_CONFLICT, "g1.seed.iso exists already");
    assert_true(vr_swap_undo(swap, "no", NULL));
    assert_true(g_file_get_contents(taken, &text, NULL, NULL));
    assert_string_equal(text, "precious");
    assert_int_equal(world->fake->shutdowns, 0);
    fake_hv_edit(world->fake, "machine='pc'", "machine='virt'");
    g_autoptr(VrSwap) other = world_begin(world, -1, &error);
    assert_false(vr_swap_advance(other, VR_SWAP_STARTED, &world_stop, &error));
    expect_error(&error, VR_ERROR_REFUSED, "no free place for the CD-ROM");
    assert_true(vr_swap_undo(other, "no", NULL));
    assert_false(is_there(world, "g2.seed.iso"));
    assert_int_equal(world->fake->shutdowns, 0);
    world_check(world, TRUE);
}

static void test_a_kept_one_that_is_gone(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(World) world = seeded_world(TRUE);
    g_autofree char *one = file_of(world, "g1.seed.iso");
    g_autofree char *aside = file_of(world, "aside");

    world_swap(world, -1);
    world_swap(world, -1);
    assert_int_equal(g_rename(one, aside), 0);
    assert_null(world_begin(world, 1, &error));
    expect_error(&error, VR_ERROR_NOT_FOUND, "the seed of generation 1");
    assert_true(g_file_set_contents(one, "another", -1, NULL));
    assert_null(world_begin(world, 1, &error));
    expect_error(&error, VR_ERROR_CONFLICT, "not the file that was made for generation 1");
    assert_int_equal(g_rename(aside, one), 0);
    world_swap(world, 1);
    world_check(world, TRUE);
}

/* A guest whose seed is lost does not start again; the way back is another generation. */
static void test_the_current_one_is_gone(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(World) world = seeded_world(TRUE);
    g_autofree char *one = file_of(world, "g1.seed.iso");

    world_swap(world, -1);
    assert_int_equal(unlink(one), 0);
    assert_null(world_begin(world, -1, &error));
    expect_error(&error, VR_ERROR_REFUSED, "g1.seed.iso, is not there");
    world_swap(world, 0);
    expect_configured(world, NULL);
}

/* A define that takes the disk and not the seed is no switch. */
static gboolean half_define(VrHv *hv, const char *uuid, const char *xml, GError **error)
{
    g_autofree char *half = strstr(xml, "/g1.qcow2") ? vr_domain_xml_with_seed(xml, NULL, NULL) : g_strdup(xml);
    FakeHv *fake = (FakeHv *)hv;
    g_autofree char *path = g_build_filename(fake->dir, "inactive.xml", NULL);

    return g_file_set_contents(path, half, -1, error);
}

static void test_half_a_define(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(World) world = seeded_world(TRUE);
    g_autoptr(VrSwap) swap = world_begin(world, -1, NULL);
    VrHvOps ops = *world->fake->hv.ops;

    ops.define = half_define;
    world->fake->hv.ops = &ops;
    assert_true(vr_swap_advance(swap, VR_SWAP_STOPPED, &world_stop, NULL));
    assert_false(vr_swap_advance(swap, VR_SWAP_STARTED, NULL, &error));
    expect_error(&error, VR_ERROR_CONFLICT, "another OS disk, NVRAM or seed");
    assert_true(vr_swap_undo(swap, "no", NULL));
    world_check(world, TRUE);
}

/* Our drive is no data disk: it changes while the guest is off, and the proof of the others holds (invariant 10). */
static void test_it_is_no_data_disk(void **state)
{
    g_autoptr(World) world = seeded_world(TRUE);
    g_autoptr(GPtrArray) manifest = NULL;
    g_autofree char *xml = NULL;

    world_swap(world, -1);
    xml = vr_hv_inactive_xml(&world->fake->hv, FAKE_UUID, NULL);
    manifest = vr_manifest_take(&world->fake->hv, xml, "vda", VR_PROOF_NONE, NULL);
    assert_int_equal(manifest->len, 1);
    world_swap(world, -1);
    world_check(world, TRUE);
}

static GPtrArray *journaled(World *world)
{
    return vr_journal_generations(world->journal, FAKE_UUID, NULL);
}

static GPtrArray *look(World *world)
{
    return vr_rebuild_look(world->store, &world->fake->hv, world->journal, NULL);
}

static const VrFoundInstance *first(GPtrArray *all)
{
    assert_int_equal(all->len, 1);
    return g_ptr_array_index(all, 0);
}

static void lose(World *world)
{
    world_run_sql(world, "DELETE FROM steps");
    world_run_sql(world, "DELETE FROM swaps");
    world_run_sql(world, "DELETE FROM generations");
}

/* As libvirt has it where both are on one bus. */
static void put_drive_first(World *world)
{
    g_autofree char *xml = vr_hv_inactive_xml(&world->fake->hv, FAKE_UUID, NULL);
    const char *begin = strstr(xml, "<disk type=\"file\" device=\"cdrom\">");
    g_autofree char *drive = g_strndup(begin, (gsize)(strstr(begin, "</disk>") - begin) + strlen("</disk>"));
    g_autofree char *devices = g_strconcat("<devices>", drive, NULL);

    fake_hv_edit(world->fake, drive, "");
    fake_hv_edit(world->fake, "<devices>", devices);
}

static void test_it_is_rebuilt(void **state) /* B14 */
{
    g_autoptr(World) world = seeded_world(TRUE);
    g_autoptr(GPtrArray) before = NULL, after = NULL, all = NULL;

    world_swap(world, -1);
    world_swap(world, -1);
    put_drive_first(world);
    before = journaled(world);
    lose(world);
    all = look(world);
    assert_true(first(all)->restorable);
    assert_true(vr_rebuild_restore(world->journal, world->owner, first(all), NULL));
    after = journaled(world);
    for (guint i = 1; i < 3; i++) {
        const VrGeneration *is = after->pdata[i], *was = before->pdata[i];
        assert_string_equal(is->seed, was->seed);
        assert_int_equal(is->seed_file.inode, was->seed_file.inode);
        assert_int_equal(is->seed_file.device, was->seed_file.device);
        assert_int_equal(is->seed_file.born_ns, was->seed_file.born_ns);
    }
    assert_null(((const VrGeneration *)after->pdata[0])->seed);
    world_swap(world, 1);
    expect_configured(world, "g1.seed.iso");
    world_check(world, TRUE);
}

static void expect_not_kept(World *world, const char *why)
{
    g_autoptr(GPtrArray) all = look(world);
    const VrGeneration *one = g_ptr_array_index(first(all)->generations, 1);
    gboolean said = FALSE;

    assert_int_equal(one->state, VR_GENERATION_FAILED);
    for (guint i = 0; i < first(all)->said->len; i++)
        said |= strstr(g_ptr_array_index(first(all)->said, i), why) != NULL;
    if (!said)
        fail_msg("it does not say: %s", why);
}

static void test_not_as_we_leave_it(void **state)
{
    g_autoptr(World) world = seeded_world(TRUE);
    g_autofree char *one = file_of(world, "g1.seed.iso");
    g_autofree char *aside = file_of(world, "aside");
    g_autofree char *xml = file_of(world, "g1.xml");
    g_autofree char *text = NULL;
    g_autoptr(GString) other = NULL;

    world_swap(world, -1);
    world_swap(world, -1);
    lose(world);
    assert_int_equal(chmod(one, 0644), 0);
    expect_not_kept(world, "g1.seed.iso: its owner is");
    assert_int_equal(chmod(one, 0400), 0);
    assert_int_equal(g_rename(one, aside), 0);
    expect_not_kept(world, "g1.seed.iso: cannot look at it: No such file");
    assert_int_equal(symlink(aside, one), 0);
    expect_not_kept(world, "g1.seed.iso: cannot look at it");
    assert_int_equal(unlink(one), 0);
    assert_int_equal(g_rename(aside, one), 0);
    assert_true(g_file_get_contents(xml, &text, NULL, NULL));
    other = g_string_new(text);
    assert_int_equal(g_string_replace(other, "/g1.seed.iso", "/g2.seed.iso", 0), 1);
    assert_true(g_file_set_contents(xml, other->str, -1, NULL));
    expect_not_kept(world, "g2.seed.iso, which is that of another generation");
}

static gboolean retire(World *world, guint number, GError **error)
{
    g_autoptr(VrGeneration) generation = vr_journal_generation(world->journal, FAKE_UUID, number, NULL);
    g_autoptr(VrInUse) in_use = vr_in_use_read(world->store, &world->fake->hv, world->journal, NULL);
    const VrRetireCheck check = {.in_use = in_use};

    return vr_retire(&world->engine, generation, &check, "test", error);
}

static void test_it_goes_with_its_generation(void **state) /* B4 */
{
    g_autoptr(GError) error = NULL;
    g_autoptr(World) world = seeded_world(TRUE);
    g_autofree char *two = file_of(world, "g2.seed.iso");

    for (guint i = 0; i < 3; i++)
        world_swap(world, -1);
    fake_hv_edit(world->fake, "/g3.seed.iso", "/g1.seed.iso"); /* somebody's medium by now */
    assert_false(retire(world, 1, &error));
    expect_error(&error, VR_ERROR_REFUSED, "g1.seed.iso is in use by fake");
    fake_hv_edit(world->fake, "/g1.seed.iso", "/g3.seed.iso");
    assert_true(retire(world, 1, NULL));
    assert_false(is_there(world, "g1.seed.iso") || is_there(world, "g1.qcow2"));
    assert_int_equal(unlink(two), 0);
    assert_true(g_file_set_contents(two, "precious", -1, NULL));
    assert_true(retire(world, 2, NULL));
    assert_true(is_there(world, "g2.seed.iso")); /* another file in its place */
    assert_true(is_there(world, "g3.seed.iso"));
}

/* A flattened disk is the same system: cloud-init must not take it for a new one, nor miss its source. */
static void test_a_flattened_one_keeps_its_seed(void **state)
{
    g_autoptr(World) world = seeded_world(FALSE);
    const VrSwapRequest flatten = {.uuid = FAKE_UUID, .os_target = "vda", .flatten = TRUE};
    g_autoptr(VrSwap) swap = NULL;
    g_autoptr(GError) error = NULL;

    world_swap(world, -1);
    swap = vr_swap_begin(&world->engine, &flatten, &error);
    assert_true(vr_swap_advance(swap, VR_SWAP_STARTED, NULL, &error));
    assert_true(vr_swap_commit(swap, NULL, NULL));
    expect_configured(world, "g2.seed.iso");
    expect_instance_id(world, "g2.seed.iso", "g1-2.0.0");
    world_check(world, TRUE);
}

/* Invariant 29: it is in the seed and nowhere else. */
static void test_the_secret_is_in_the_seed_alone(void **state)
{
    g_autoptr(World) world = seeded_world(TRUE);
    g_auto(VrChildResult) result = {0};

    world_swap(world, -1);
    world_swap(world, -1);
    world_swap(world, 1);
    const char *argv[] = {"sh", "-c", "cd \"$1\" && grep -rla " SECRET " . | sort", "sh", world->top, NULL};
    assert_true(vr_child_run(argv, NULL, &result, NULL));
    assert_string_equal(result.out, "./" DIR "/g1.seed.iso\n./" DIR "/g2.seed.iso\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forward_and_back),
        cmocka_unit_test(test_a_generation_without_one),
        cmocka_unit_test(test_it_is_journaled),
        cmocka_unit_test(test_undo),
        cmocka_unit_test(test_it_cannot_be_made),
        cmocka_unit_test(test_a_kept_one_that_is_gone),
        cmocka_unit_test(test_the_current_one_is_gone),
        cmocka_unit_test(test_half_a_define),
        cmocka_unit_test(test_it_is_no_data_disk),
        cmocka_unit_test(test_it_is_rebuilt),
        cmocka_unit_test(test_not_as_we_leave_it),
        cmocka_unit_test(test_it_goes_with_its_generation),
        cmocka_unit_test(test_a_flattened_one_keeps_its_seed),
        cmocka_unit_test(test_the_secret_is_in_the_seed_alone),
    };

    world_skip_waiting(NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
