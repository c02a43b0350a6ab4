/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is found out for a preflight, what is found right before the stop, and what a person lets pass. Rows B11, B16, B18. */
#include "engine/support.h"

#include "base/child.h"
#include "base/clock.h"
#include "base/error.h"
#include "engine/preflight.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#define OTHER_UUID "22222222-2222-4333-8444-555555555555"

static void assert_error(GError *error, VrErrorCode code, const char *text)
{
    assert_non_null(error);
    if (!g_error_matches(error, VR_ERROR, (int)code) || !strstr(error->message, text))
        fail_msg("\"%s\" where \"%s\" was expected", error->message, text);
}

/* --- right before the stop --------------------------------------------------------------------------- */

static void save(FakeHv *fake)
{
    fake->managed_save = TRUE;
}

static void snapshot(FakeHv *fake)
{
    fake->snapshots = 1;
}

static void checkpoint(FakeHv *fake)
{
    fake->checkpoints = 1;
}

static void block_job(FakeHv *fake)
{
    fake->job = "block commit on vda";
}

static void pause_it(FakeHv *fake)
{
    fake_hv_set_state(fake, VR_DOMAIN_PAUSED);
}

static void edit(FakeHv *fake)
{
    fake_hv_edit(fake, "16384", "32768");
}

static void switch_off(FakeHv *fake)
{
    fake_hv_set_state(fake, VR_DOMAIN_OFF);
}

static const struct {
    void (*happens)(FakeHv *fake);
    VrErrorCode code;
    const char *text;
} meanwhile[] = {
    {save, VR_ERROR_REFUSED, "[managed-save]"},           {snapshot, VR_ERROR_REFUSED, "[snapshots]"},
    {checkpoint, VR_ERROR_REFUSED, "[checkpoints]"},      {block_job, VR_ERROR_REFUSED, "[job]"},
    {pause_it, VR_ERROR_REFUSED, "[not-running-or-off]"}, {edit, VR_ERROR_CONFLICT, "edited by somebody"},
    {switch_off, VR_ERROR_CONFLICT, "is off now"},
};

/* The guest is not asked to stop, and what was prepared is gone. */
static void test_found_before_the_stop(void **state)
{
    for (gsize i = 0; i < G_N_ELEMENTS(meanwhile); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(World) world = world_new(TRUE);
        g_autoptr(VrSwap) swap = world_begin(world, -1, NULL);
        g_autofree char *disk = g_build_filename(world->root, "disks", FAKE_UUID, "g1.qcow2", NULL);
        VrDomainState power;

        assert_true(vr_swap_advance(swap, VR_SWAP_PREPARED, NULL, NULL));
        meanwhile[i].happens(world->fake);
        power = fake_hv_state(world->fake);
        assert_false(vr_swap_advance(swap, VR_SWAP_STARTED, &world_stop, &error));
        assert_error(error, meanwhile[i].code, meanwhile[i].text);
        assert_int_equal(vr_swap_row(swap)->state, VR_SWAP_PREPARED);
        assert_true(vr_swap_undo(swap, error->message, NULL));
        assert_int_equal(vr_swap_row(swap)->state, VR_SWAP_DISCARDED);
        assert_int_equal(world->fake->shutdowns + world->fake->starts + world->fake->defines, 0);
        assert_int_equal(fake_hv_state(world->fake), power);
        assert_false(g_file_test(disk, G_FILE_TEST_EXISTS));
        world_check(world, TRUE);
    }
}

/* The same of a rollback, whose target stays sealed. */
static void test_found_before_a_rollback(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(World) world = world_new(TRUE);
    g_autofree char *one = NULL;
    g_autoptr(VrSwap) swap = NULL;

    world_swap(world, -1);
    one = fake_hv_os_path(world->fake, FALSE);
    world_swap(world, -1);
    swap = world_begin(world, 1, NULL);
    world->fake->shutdowns = 0;
    snapshot(world->fake);
    assert_false(vr_swap_advance(swap, VR_SWAP_STARTED, &world_stop, &error));
    assert_error(error, VR_ERROR_REFUSED, "[snapshots]");
    assert_int_equal(world_mode(one), 0400);
    assert_true(vr_swap_undo(swap, error->message, NULL));
    assert_int_equal(world->fake->shutdowns, 0);
    assert_int_equal(world_current(world), 2);
    world_check(world, TRUE);
}

/* As QEMU holds a file that it runs on, by a lock of its own. Close it to let go. */
static int hold(const char *path)
{
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 140, .l_len = 1};
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
    return fd;
}

static void name_in_other_domain(World *world, const char *path)
{
    g_autofree char *file = g_build_filename(world->hv_dir, "other.xml", NULL);
    g_autofree char *xml = path ? g_strdup_printf("<domain type='qemu'><name>rescue</name><devices><disk type='file'>"
                                                  "<source file='%s'/><target dev='vdb'/></disk></devices></domain>",
                                                  path)
                                : NULL;

    if (xml)
        assert_true(g_file_set_contents(file, xml, -1, NULL));
    else
        assert_int_equal(unlink(file), 0);
}

/* Generation 0 was given to somebody else meanwhile, who has it open, or only named in his XML: no second QEMU on it (invariant 11). It is
 * found at the beginning, and right before the stop. */
static void test_rollback_to_a_disk_in_use(void **state)
{
    for (int named = 0; named < 2; named++) {
        for (int late = named; late < 2; late++) {
            g_autoptr(GError) error = NULL;
            g_autoptr(World) world = world_new(TRUE);
            g_autoptr(VrSwap) swap = NULL;
            int fd = -1;

            world_swap(world, -1);
            world->fake->shutdowns = 0;
            if (late)
                swap = world_begin(world, 0, NULL);
            if (named)
                name_in_other_domain(world, world->old_path);
            else
                fd = hold(world->old_path);
            if (late)
                assert_false(vr_swap_advance(swap, VR_SWAP_STARTED, &world_stop, &error));
            else
                assert_null(world_begin(world, 0, &error));
            assert_error(error, VR_ERROR_REFUSED, "[rollback-disk-in-use]");
            assert_non_null(strstr(error->message, named ? "rescue" : "held by a process"));
            assert_int_equal(world->fake->shutdowns, 0);
            if (late)
                assert_true(vr_swap_undo(swap, error->message, NULL));
            if (named)
                name_in_other_domain(world, NULL);
            else
                close(fd);
            world_check(world, TRUE);
            world_swap(world, 0);
        }
    }
}

/* Somebody opens it while the guest is off already: it is not started on that one, and is back on the one that it had. */
static void test_taken_while_it_is_off(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(World) world = world_new(TRUE);
    g_autoptr(VrSwap) swap = NULL;
    g_autofree char *live = NULL;
    int fd;

    world_swap(world, -1);
    swap = world_begin(world, 0, NULL);
    assert_true(vr_swap_advance(swap, VR_SWAP_SWITCHED, &world_stop, NULL));
    fd = hold(world->old_path);
    world->fake->starts = 0;
    world_skip_waiting(NULL);
    assert_false(vr_swap_advance(swap, VR_SWAP_STARTED, &world_stop, &error));
    vr_clock_set_source(NULL);
    assert_error(error, VR_ERROR_CONFLICT, "still holds its file");
    assert_int_equal(world->fake->starts, 0);
    assert_true(vr_swap_undo(swap, error->message, NULL));
    close(fd);
    live = fake_hv_os_path(world->fake, TRUE);
    assert_non_null(strstr(live, "g1.qcow2"));
    world_check(world, TRUE);
}

/* A rollback is for guests that die by themselves: one that went off since is brought up on the disk that it goes back to. */
static void test_rollback_of_a_guest_that_dies(void **state)
{
    g_autoptr(World) world = world_new(TRUE);
    g_autoptr(VrSwap) swap = NULL;

    world_swap(world, -1);
    swap = world_begin(world, 0, NULL);
    fake_hv_set_state(world->fake, VR_DOMAIN_OFF);
    assert_true(vr_swap_advance(swap, VR_SWAP_STARTED, &world_stop, NULL));
    assert_int_equal(fake_hv_state(world->fake), VR_DOMAIN_RUNNING);
    assert_true(vr_swap_commit(swap, NULL, NULL));
    world_check(world, TRUE);
}

/* A guest that was off is started before its turn: it runs on, on its old disk (B16). */
static void test_started_before_its_turn(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(World) world = world_new(FALSE);
    g_autoptr(VrSwap) swap = world_begin(world, -1, NULL);

    assert_true(vr_swap_advance(swap, VR_SWAP_PREPARED, NULL, NULL));
    assert_true(vr_hv_start(&world->fake->hv, FAKE_UUID, NULL));
    assert_false(vr_swap_advance(swap, VR_SWAP_STARTED, &world_stop, &error));
    assert_error(error, VR_ERROR_CONFLICT, "is running now");
    assert_true(vr_swap_undo(swap, error->message, NULL));
    assert_int_equal(fake_hv_state(world->fake), VR_DOMAIN_RUNNING);
    assert_int_equal(world->fake->shutdowns, 0);
    world_check(world, TRUE);
}

/* --- the OS disk's own header ------------------------------------------------------------------------ */

static void tool(const char *const *argv)
{
    assert_true(vr_child_run(argv, NULL, NULL, NULL));
}

/* The domain's OS disk is a qcow2 file of somebody's, on `backing`, with a snapshot of its own. */
static void use_qcow2(World *world, const char *backing, gboolean with_snapshot)
{
    g_autofree char *path = g_build_filename(world->top, "own.qcow2", NULL);
    g_autofree char *from = g_strdup_printf("type='raw' discard='unmap'/><source file='%s'", world->old_path);
    g_autofree char *to = g_strdup_printf("type='qcow2'/><source file='%s'", path);

    if (backing)
        tool((const char *const[]){"qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", backing, path, NULL});
    else
        tool((const char *const[]){"qemu-img", "create", "-q", "-f", "qcow2", path, "1M", NULL});
    if (with_snapshot)
        tool((const char *const[]){"qemu-img", "snapshot", "-c", "one", path, NULL});
    fake_hv_edit(world->fake, from, to);
}

static VrSwap *begin_ignoring(World *world, const char *const *ignored, GError **error)
{
    const VrSwapRequest request = {
        .run_id = "run", .uuid = FAKE_UUID, .os_target = "vda", .image = world->image, .ignored = ignored};

    return vr_swap_begin(&world->engine, &request, error);
}

static char *ignored_event(World *world)
{
    VrDb *db = vr_journal_db(world->journal);
    char *text = NULL;

    assert_true(vr_db_begin(db, NULL));
    {
        g_autoptr(sqlite3_stmt) stmt =
            vr_db_prepare(db, NULL, "SELECT text FROM events WHERE kind = 'ignored' AND run_id = 'run'", "");
        if (vr_db_step(db, stmt, NULL) == 1)
            text = vr_db_text(stmt, 0);
    }
    vr_db_rollback(db);
    return text;
}

static void test_internal_snapshot(void **state)
{
    static const char *const ids[] = {"internal-snapshot", NULL};
    g_autoptr(GError) error = NULL;
    g_autoptr(World) world = world_new(FALSE);
    g_autoptr(VrSwap) swap = NULL;
    g_autofree char *event = NULL;

    use_qcow2(world, NULL, TRUE);
    assert_null(begin_ignoring(world, NULL, &error));
    assert_error(error, VR_ERROR_REFUSED, "--ignore internal-snapshot");
    assert_null(ignored_event(world));
    swap = begin_ignoring(world, ids, NULL);
    assert_non_null(swap);
    event = ignored_event(world);
    assert_non_null(strstr(event, "[internal-snapshot]"));
    assert_true(vr_swap_advance(swap, VR_SWAP_STARTED, &world_stop, NULL)); /* the second look lets it pass too */
    assert_true(vr_swap_commit(swap, NULL, NULL));
}

static GPtrArray *look(World *world, const VrSwapNeeds *needs)
{
    g_autofree char *xml = vr_hv_inactive_xml(&world->fake->hv, FAKE_UUID, NULL);
    g_autoptr(VrDomainDef) def = vr_domain_def_parse(xml, NULL);
    g_auto(VrDomainInfo) info = {0};

    assert_true(vr_hv_info(&world->fake->hv, FAKE_UUID, &info, NULL));
    return vr_swap_preflight(world->store, &world->fake->hv, &info, def, needs);
}

static const VrFinding *find(const GPtrArray *findings, const char *id)
{
    for (guint i = 0; i < findings->len; i++)
        if (g_str_equal(((const VrFinding *)findings->pdata[i])->id, id))
            return findings->pdata[i];
    return NULL;
}

/* Generation 0 on a file of somebody's: that is said. Ours lie on their base, as they should. */
static void test_backing_chain(void **state)
{
    const VrSwapNeeds needs = {.os_target = "vda"};
    g_autoptr(World) world = world_new(FALSE);
    g_autoptr(GPtrArray) findings = NULL;
    g_autoptr(GPtrArray) after = NULL;

    use_qcow2(world, world->old_path, FALSE);
    findings = look(world, &needs);
    assert_non_null(find(findings, "backing-chain"));
    assert_non_null(strstr(find(findings, "backing-chain")->text, world->old_path));
    assert_null(find(findings, "internal-snapshot"));
    world_swap(world, -1);
    after = look(world, &needs);
    assert_null(find(after, "backing-chain"));
}

static void expect_nvram(World *world, const VrSwapNeeds *needs, const char *text)
{
    g_autoptr(GPtrArray) findings = look(world, needs);
    const VrFinding *finding = find(findings, "nvram-unreadable");

    assert_int_equal(finding != NULL, text != NULL);
    if (finding && !strstr(finding->text, text))
        fail_msg("wrong finding: %s", finding->text);
}

/* B14: it is said before the run; of a guest that was never started there is nothing to say, and a rollback brings its own. */
static void test_nvram(void **state)
{
    const VrGeneration kept = {.number = 0, .disk_type = (char *)"file", .path = (char *)"/none"};
    const VrSwapNeeds forward = {.os_target = "vda"}, had = {.os_target = "vda", .had_nvram = TRUE},
                      back = {.os_target = "vda", .back_to = &kept, .had_nvram = TRUE};

    for (gboolean unnamed = FALSE; unnamed <= TRUE; unnamed++) {
        g_autoptr(World) world = world_new_uefi(TRUE, unnamed ? WORLD_LOADER : WORLD_NVRAM, FALSE);
        g_autofree char *path = unnamed ? g_build_filename(world->hv_dir, FAKE_NVRAM, NULL)
                                        : g_build_filename(world->top, "old.nvram", NULL);
        expect_nvram(world, &forward, NULL);
        assert_int_equal(unlink(path), 0);
        expect_nvram(world, &forward, "No such file");
        expect_nvram(world, &back, NULL);
        fake_hv_set_state(world->fake, VR_DOMAIN_OFF);
        expect_nvram(world, &forward, NULL);
        expect_nvram(world, &had, "No such file");
        assert_int_equal(symlink("/dev/null", path), 0);
        expect_nvram(world, &forward, "is a symbolic link");
        expect_nvram(world, &back, "is a symbolic link");
    }
}

/* The image of these tests is one letter throughout: nothing boots it, and the finding says so. */
static void test_image_is_looked_at(void **state)
{
    g_autoptr(World) world = world_new(FALSE);
    const VrSwapNeeds with = {.os_target = "vda", .image = world->image};
    const VrSwapNeeds without = {.os_target = "vda"};
    g_autoptr(GPtrArray) findings = look(world, &with);
    g_autoptr(GPtrArray) none = look(world, &without);

    assert_non_null(find(findings, "image-not-bootable"));
    assert_null(find(none, "image-not-bootable"));
}

/* --- what the guest mounts --------------------------------------------------------------------------- */

static char *fstab_agent(VrHv *hv, const char *uuid, const char *command, int timeout_s, GError **error)
{
    if (strstr(command, "guest-file-open"))
        return g_strdup("{\"return\":1}");
    if (strstr(command, "guest-file-read")) /* "/dev/vdb /srv ext4\n" */
        return g_strdup("{\"return\":{\"buf-b64\":\"L2Rldi92ZGIgL3NydiBleHQ0Cg==\",\"eof\":true}}");
    return g_strdup("{\"return\":{}}");
}

/* Asked where that is wanted, of a guest that runs and has an agent's channel; one that refuses gives no finding. */
static void test_fstab_by_device(void **state)
{
    static const struct {
        gboolean ask, channel, runs, refuses, found;
    } cases[] = {{TRUE, TRUE, TRUE, FALSE, TRUE},
                 {FALSE, TRUE, TRUE, FALSE, FALSE},
                 {TRUE, FALSE, TRUE, FALSE, FALSE},
                 {TRUE, TRUE, FALSE, FALSE, FALSE},
                 {TRUE, TRUE, TRUE, TRUE, FALSE}};

    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(World) world = world_new(cases[i].runs);
        VrHvOps ops = *world->fake->hv.ops;
        const VrSwapNeeds needs = {.os_target = "vda", .ask_guest = cases[i].ask};
        g_autofree char *xml = vr_hv_inactive_xml(&world->fake->hv, FAKE_UUID, NULL);
        g_autoptr(VrDomainDef) def = vr_domain_def_parse(xml, NULL);
        g_auto(VrDomainInfo) info = {0};
        g_autoptr(GPtrArray) findings = NULL;
        const VrFinding *finding;

        ops.agent = cases[i].refuses ? ops.agent : fstab_agent;
        world->fake->hv.ops = &ops;
        def->agent_channel = cases[i].channel;
        assert_true(vr_hv_info(&world->fake->hv, FAKE_UUID, &info, NULL));
        findings = vr_swap_preflight(world->store, &world->fake->hv, &info, def, &needs);
        finding = find(findings, "fstab-device-name");
        assert_int_equal(finding != NULL, cases[i].found);
        if (finding) {
            assert_int_equal(finding->severity, VR_SEVERITY_WARNING);
            assert_non_null(strstr(finding->text, "by device name: /dev/vdb on /srv. "));
        }
    }
}

/* --- other domains ----------------------------------------------------------------------------------- */

/* Two domains, the second one running with another disk than it has when it is off. */
typedef struct {
    VrHv hv;
    const char *inactive[2], *live;
} Pair;

static GPtrArray *list_pair(VrHv *hv, GError **error)
{
    GPtrArray *uuids = g_ptr_array_new_with_free_func(g_free);

    g_ptr_array_add(uuids, g_strdup(FAKE_UUID));
    g_ptr_array_add(uuids, g_strdup(OTHER_UUID));
    return uuids;
}

static char *domain_of(const char *name, const char *path)
{
    return g_markup_printf_escaped("<domain type='qemu'><name>%s</name><devices><disk type='file' device='disk'>"
                                   "<source file='%s'/><target dev='vda'/></disk></devices></domain>",
                                   name, path);
}

static char *inactive_of_pair(VrHv *hv, const char *uuid, GError **error)
{
    gboolean second = g_str_equal(uuid, OTHER_UUID);

    return domain_of(second ? "other" : "own", ((Pair *)hv)->inactive[second]);
}

static char *live_of_pair(VrHv *hv, const char *uuid, GError **error)
{
    if (g_str_equal(uuid, OTHER_UUID) && ((Pair *)hv)->live)
        return domain_of("other", ((Pair *)hv)->live);
    g_set_error(error, VR_ERROR, VR_ERROR_HYPERVISOR, "it is off");
    return NULL;
}

static void expect_others(const char *own, const char *inactive, const char *live, const char *others)
{
    static const VrHvOps ops = {.list = list_pair, .inactive_xml = inactive_of_pair, .live_xml = live_of_pair};
    Pair pair = {.hv = {&ops}, .inactive = {own, inactive}, .live = live};
    g_autoptr(VrDiskUsers) users = vr_disk_users_read(&pair.hv, FALSE, NULL);
    g_autofree char *found = NULL;

    assert_non_null(users);
    found = vr_disk_users_others(users, own, FAKE_UUID);
    if (g_strcmp0(found, others) != 0)
        fail_msg("%s, %s, %s: %s", own, inactive, live ? live : "off", found ? found : "none");
}

static void test_shared_os_disk(void **state)
{
    g_autoptr(World) world = world_new(FALSE);
    g_autofree char *link_path = g_build_filename(world->top, "link", NULL);
    g_autofree char *hard = g_build_filename(world->top, "hard", NULL);
    g_autofree char *spelled = g_strconcat(world->top, "/../", NULL);
    g_autofree char *absent = g_build_filename(world->top, "absent", NULL);
    g_autofree char *base = g_path_get_basename(world->top);
    g_autofree char *other_way = g_strconcat(spelled, base, "//./old.raw", NULL);

    assert_int_equal(symlink(world->old_path, link_path), 0);
    assert_int_equal(link(world->old_path, hard), 0);
    expect_others(world->old_path, world->data_path, NULL, NULL);
    expect_others(world->old_path, world->old_path, NULL, "other");
    expect_others(world->old_path, world->data_path, world->old_path, "other");
    expect_others(world->old_path, other_way, NULL, "other");
    expect_others(world->old_path, link_path, NULL, "other");
    expect_others(world->old_path, hard, NULL, "other");
    expect_others(link_path, world->old_path, NULL, "other");
    expect_others(absent, absent, NULL, "other"); /* which is not there (yet) */
    expect_others("/dev/nonexistent/a", "/dev/nonexistent/b", NULL, NULL);
}

/* --- the host ---------------------------------------------------------------------------------------- */

static void write_file(const char *dir, const char *name, const char *text, int mode)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);
    g_autofree char *parent = g_path_get_dirname(path);

    assert_int_equal(g_mkdir_with_parents(parent, 0700), 0);
    assert_true(g_file_set_contents_full(path, text, -1, G_FILE_SET_CONTENTS_NONE, mode, NULL));
}

static void expect_host(const char *dir, const char *systemctl, gboolean stops)
{
    g_auto(VrHostState) host = {0};

    write_file(dir, "bin/systemctl", systemctl, 0700);
    vr_host_state_read(&host, dir, TRUE);
    assert_true((host.stopping != NULL) == stops);
}

static void test_host_goes_down(void **state)
{
    g_autofree char *dir = g_dir_make_tmp("vr-host-XXXXXX", NULL);
    g_autofree char *bin = g_build_filename(dir, "bin", NULL);
    g_autofree char *before = g_strdup(g_getenv("PATH"));
    g_autofree char *path = g_strconcat(bin, ":", before, NULL);
    g_auto(VrHostState) quiet = {0};
    g_auto(VrHostState) soon = {0};

    vr_host_state_read(&quiet, dir, FALSE);
    assert_null(quiet.shutdown);
    assert_null(quiet.stopping);
    g_setenv("TZ", "UTC", TRUE);
    write_file(dir, "systemd/shutdown/scheduled", "USEC=1795388400000000\nWARN_WALL=1\nMODE=reboot\n", 0644);
    vr_host_state_read(&soon, dir, FALSE);
    assert_string_equal(soon.shutdown, "reboot at 2026-11-22 23:00");
    g_setenv("PATH", path, TRUE);
    expect_host(dir, "#!/bin/sh\necho running\n", FALSE);
    expect_host(dir, "#!/bin/sh\necho degraded\nexit 1\n", FALSE);
    expect_host(dir, "#!/bin/sh\necho stopping\nexit 1\n", TRUE);
    expect_host(dir, "#!/bin/sh\necho offline\nexit 1\n", FALSE);
    g_setenv("PATH", before, TRUE);
    tool((const char *const[]){"rm", "-rf", "--", dir, NULL});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_found_before_the_stop),
        cmocka_unit_test(test_found_before_a_rollback),
        cmocka_unit_test(test_rollback_of_a_guest_that_dies),
        cmocka_unit_test(test_rollback_to_a_disk_in_use),
        cmocka_unit_test(test_taken_while_it_is_off),
        cmocka_unit_test(test_started_before_its_turn),
        cmocka_unit_test(test_internal_snapshot),
        cmocka_unit_test(test_backing_chain),
        cmocka_unit_test(test_nvram),
        cmocka_unit_test(test_image_is_looked_at),
        cmocka_unit_test(test_fstab_by_device),
        cmocka_unit_test(test_shared_os_disk),
        cmocka_unit_test(test_host_goes_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
