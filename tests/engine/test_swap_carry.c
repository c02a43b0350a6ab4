/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is written into a new disk and taken over from the old one, by engine/swap_carry.c: a scripted hypervisor and guest, real files. Rows C6, C8. */
#include "engine/support.h"

#include "base/child.h"
#include "base/error.h"
#include "fault/fake_personalize.h"
#include "orchestrator/scripted_agent.h"

#include <glib/gstdio.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include <cmocka.h>

#define DIR "root/disks/" FAKE_UUID
#define HOST_KEY "/etc/ssh/ssh_host_ed25519_key"
#define CHANNEL "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel></devices>"

static World *world;
static ScriptedAgent *agent;
static char *paths[] = {(char *)FAKE_TLS_PATH, (char *)"/var/shop", NULL};
static const VrCarryOver from_guest = {.host_keys = TRUE, .machine_id = TRUE, .paths = paths};
static char *disk_paths[] = {(char *)FAKE_TLS_PATH, NULL};
static const VrCarryOver from_disk = {.host_keys = TRUE, .machine_id = TRUE, .paths = disk_paths, .from_disk = TRUE};

static void expect_error(GError **error, int code, const char *text)
{
    assert_non_null(*error);
    if (!g_error_matches(*error, VR_ERROR, code) || !strstr((*error)->message, text))
        fail_msg("wrong error: %s", (*error)->message);
    g_clear_error(error);
}

static int set_up(void **state)
{
    world = world_new(FALSE);
    fake_hv_edit(world->fake, "</devices>", CHANNEL);
    assert_true(vr_hv_start(&world->fake->hv, FAKE_UUID, NULL));
    world->fake->starts = 0;
    agent = scripted_agent_new();
    scripted_agent_put(agent, HOST_KEY, FAKE_HOST_KEY);
    scripted_agent_put(agent, "/etc/ssh/sshd_config", "Port 22\n");
    scripted_agent_put(agent, "/etc/machine-id", FAKE_MACHINE_ID "\n");
    scripted_agent_put(agent, FAKE_TLS_PATH, FAKE_TLS_KEY);
    scripted_agent_put(agent, "/var/shop/orders", "1");
    world->fake->agent = scripted_agent_answer;
    world->fake->agent_data = agent;
    world->carry = &from_guest;
    fake_personal = (FakePersonal){0};
    return 0;
}

static int tear_down(void **state)
{
    world_free(world);
    scripted_agent_free(agent);
    return 0;
}

static char *file_of(const char *name)
{
    return g_build_filename(world->top, DIR, name, NULL);
}

static gboolean is_there(const char *name)
{
    g_autofree char *path = file_of(name);

    return g_file_test(path, G_FILE_TEST_EXISTS);
}

static char *text_of(const char *name)
{
    g_autofree char *path = file_of(name);

    return fake_personal_text(path);
}

static void expect_written(const char *name, const char *text, gboolean is_written)
{
    g_autofree char *written = text_of(name);

    if (!written || (strstr(written, text) != NULL) != is_written)
        fail_msg("%s in %s: %s", text, name, written ? written : "nothing");
}

/* The steps of the last swap, one after the other. */
static char *steps(void)
{
    GString *text = g_string_new(" ");
    g_autoptr(VrSwapRow) row = vr_journal_last_swap(world->journal, FAKE_UUID, NULL);
    VrDb *db = vr_journal_db(world->journal);
    sqlite3_stmt *stmt;

    assert_true(vr_db_begin_read(db, NULL));
    stmt = vr_db_prepare(db, NULL, "SELECT name FROM steps WHERE swap_id = ? ORDER BY seq", "s", row->id);
    while (vr_db_step(db, stmt, NULL) == 1)
        g_string_append_printf(text, "%s ", (const char *)sqlite3_column_text(stmt, 0));
    sqlite3_finalize(stmt);
    vr_db_rollback(db);
    return g_string_free(text, FALSE);
}

static void expect_untouched(void)
{
    assert_int_equal(fake_hv_state(world->fake), VR_DOMAIN_RUNNING);
    assert_int_equal(world->fake->shutdowns + world->fake->starts + world->fake->defines, 0);
    assert_false(is_there("g1.qcow2") || is_there("g1.xml"));
    world_check(world, TRUE);
}

/* It fails while the guest runs, and leaves no trace. */
static void expect_fails(int code, const char *text)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(VrSwap) swap = world_begin(world, -1, &error);

    assert_non_null(swap);
    assert_false(vr_swap_advance(swap, VR_SWAP_STARTED, &world_stop, &error));
    expect_error(&error, code, text);
    assert_true(vr_swap_row(swap)->reached <= VR_SWAP_PREPARED);
    assert_true(vr_swap_undo(swap, "it failed", NULL));
    assert_int_equal(vr_swap_row(swap)->state, VR_SWAP_DISCARDED);
    expect_untouched();
}

/* --- from the guest ---------------------------------------------------------------------------------- */

static void test_from_the_guest(void **state) /* C6, C8 */
{
    g_autoptr(VrPersonal) personal = vr_personal_new("", VR_FORMAT_QCOW2);
    g_autofree char *text = NULL, *said = NULL;

    personal->hostname = g_strdup("web-0");
    vr_personal_add_file(personal->files, "/etc/motd", 0644, NULL, "hello", 5);
    world->personal = personal;
    world_swap(world, -1);
    text = text_of("g1.qcow2");
    assert_string_equal(text, "HOSTNAME web-0\n" HOST_KEY " 0 600 33:4 28\n" FAKE_HOST_KEY
                              "\n/etc/machine-id 0 444 0:0 33\n" FAKE_MACHINE_ID
                              "\n\n/etc/motd 0 644 0:0 5\nhello\n" FAKE_TLS_PATH " 0 600 33:4 28\n" FAKE_TLS_KEY
                              "\n/var/shop 1 755 0:0 0\n\n/var/shop/orders 0 600 33:4 1\n1\n");
    assert_int_equal(fake_personal.launches, 1);
    assert_int_equal(fake_personal.reads, 0);
    said = steps();
    assert_non_null(strstr(said, " carry made PREPARED stop-asked "));
    world_check(world, TRUE);
}

static void test_changed_before_the_stop(void **state) /* C8 */
{
    g_autoptr(VrSwap) swap = world_reach(world, VR_SWAP_PREPARED);

    scripted_agent_put(agent, "/var/shop/orders", "2 orders");
    scripted_agent_put(agent, "/var/shop/more", "new");
    assert_true(vr_swap_advance(swap, VR_SWAP_STARTED, &world_stop, NULL));
    assert_int_equal(fake_personal.launches, 2);
    expect_written("g1.qcow2", "/var/shop/orders 0 600 33:4 8\n2 orders\n", TRUE);
    expect_written("g1.qcow2", "/var/shop/more 0 600 33:4 3\nnew\n", TRUE);
    assert_true(vr_swap_commit(swap, NULL, NULL));
    world_check(world, TRUE);
}

static void change(const char *disk)
{
    g_autofree char *text = scripted_agent_file(agent, "/var/shop/orders");
    g_autofree char *more = g_strconcat(text, "1", NULL);

    assert_int_equal(fake_hv_state(world->fake), VR_DOMAIN_RUNNING);
    if (fake_personal.launches < 4 || fake_personal.disks > 1)
        scripted_agent_put(agent, "/var/shop/orders", more);
}

static void change_for_ever(const char *disk)
{
    fake_personal.disks = 2;
    change(disk);
}

/* It comes to rest with the third writing. */
static void test_changes_for_a_while(void **state)
{
    fake_personal.before = change;
    world_swap(world, -1);
    assert_int_equal(fake_personal.launches, 4);
    expect_written("g1.qcow2", "/var/shop/orders 0 600 33:4 4\n1111\n", TRUE);
    world_check(world, TRUE);
}

static void test_changes_for_ever(void **state)
{
    fake_personal.before = change_for_ever;
    expect_fails(VR_ERROR_CONFLICT, "faster than they can be carried over");
    assert_int_equal(fake_personal.launches, 4);
}

/* What is on the new disk already is not taken away from there. */
static void test_gone_before_the_stop(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(VrSwap) swap = world_reach(world, VR_SWAP_PREPARED);

    scripted_agent_put(agent, "/var/shop/other", "x");
    scripted_agent_put(agent, "/var/shop/orders", NULL);
    assert_false(vr_swap_advance(swap, VR_SWAP_STARTED, &world_stop, &error));
    expect_error(&error, VR_ERROR_CONFLICT, "/var/shop/orders was carried over, and is gone from the guest since");
    assert_true(vr_swap_undo(swap, "it failed", NULL));
    expect_untouched();
}

static void test_something_is_missing(void **state)
{
    scripted_agent_put(agent, FAKE_TLS_PATH, NULL);
    expect_fails(VR_ERROR_INVALID, FAKE_TLS_PATH " is to be carried over, and the old system has none");
}

static void test_no_host_key(void **state)
{
    scripted_agent_put(agent, HOST_KEY, NULL);
    scripted_agent_put(agent, HOST_KEY ".pub", "ssh-ed25519 AAAA");
    expect_fails(VR_ERROR_INVALID, "/etc/ssh/ssh_host_*_key is to be carried over");
}

static void test_no_machine_id(void **state)
{
    static const char *const wrong[] = {"",
                                        "uninitialized\n",
                                        FAKE_MACHINE_ID "0\n",
                                        FAKE_MACHINE_ID "\n\n",
                                        "0123456789ABCDEF0123456789abcdef\n",
                                        "01234567-89ab-cdef-0123-456789abcdef\n"};

    for (gsize i = 0; i < G_N_ELEMENTS(wrong); i++) {
        g_autoptr(GError) error = NULL;
        scripted_agent_put(agent, "/etc/machine-id", wrong[i]);
        g_autoptr(VrSwap) swap = world_begin(world, -1, &error);
        assert_false(vr_swap_advance(swap, VR_SWAP_PREPARED, &world_stop, &error));
        expect_error(&error, VR_ERROR_INVALID, "/etc/machine-id of the old system holds no machine-id");
        assert_true(vr_swap_undo(swap, "it failed", NULL));
        assert_int_equal(fake_personal.launches, 0);
    }
}

static void test_nobody_answers(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(VrSwap) swap = NULL;

    agent->silent = TRUE;
    expect_fails(VR_ERROR_AGENT, "what is to be carried over cannot be read");
    agent->silent = FALSE;
    swap = world_reach(world, VR_SWAP_PREPARED);
    agent->silent = TRUE;
    assert_false(vr_swap_advance(swap, VR_SWAP_STOPPED, &world_stop, &error));
    expect_error(&error, VR_ERROR_AGENT, "what is to be carried over cannot be read");
    assert_true(vr_swap_undo(swap, "it failed", NULL));
    expect_untouched();
}

static void test_it_needs_an_agent(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(World) without = world_new(TRUE);

    without->carry = &from_guest;
    assert_null(world_begin(without, -1, &error));
    expect_error(&error, VR_ERROR_REFUSED, "agent");
    without->carry = &from_disk;
    world_swap(without, -1);
}

/* --- from the disk ----------------------------------------------------------------------------------- */

static void must_be_off(const char *disk)
{
    if (fake_personal.launches + fake_personal.reads > 1) /* the first one is in PREPARE */
        assert_int_equal(fake_hv_state(world->fake), VR_DOMAIN_OFF);
}

static void expect_carried_from_disk(const char *name)
{
    expect_written(name, HOST_KEY " 0 600 0:0 28\n" FAKE_HOST_KEY "\n", TRUE);
    expect_written(name, FAKE_TLS_PATH " 0 640 33:4 28\n" FAKE_TLS_KEY "\n", TRUE);
    expect_written(name, "/etc/machine-id 0 444 0:0 33\n" FAKE_MACHINE_ID "\n", TRUE);
}

static void test_from_the_disk(void **state) /* C6, C8 */
{
    g_autofree char *said = NULL;
    struct stat before, after;

    world->carry = &from_disk;
    fake_personal.before = must_be_off;
    assert_int_equal(stat(world->old_path, &before), 0);
    world_swap(world, -1);
    assert_int_equal(stat(world->old_path, &after), 0);
    assert_true(before.st_mtim.tv_sec == after.st_mtim.tv_sec && before.st_mtim.tv_nsec == after.st_mtim.tv_nsec);
    assert_int_equal(fake_personal.reads, 1);
    assert_int_equal(fake_personal.launches, 2);
    expect_carried_from_disk("g1.qcow2");
    said = steps();
    assert_non_null(strstr(said, " made PREPARED stop-asked off "));
    assert_non_null(strstr(said, " STOPPED carry intent SWITCHED "));
    world_check(world, TRUE);
    fake_personal = (FakePersonal){.before = must_be_off};
    world_swap(world, -1); /* a disk of ours is read likewise */
    expect_carried_from_disk("g2.qcow2");
    world_check(world, TRUE);
}

static void test_a_guest_that_is_off(void **state)
{
    static const VrCarryOver *const both[] = {&from_guest, &from_disk};
    static char *one[] = {(char *)FAKE_TLS_PATH, NULL};

    assert_true(vr_hv_destroy(&world->fake->hv, FAKE_UUID, NULL));
    for (guint i = 0; i < 2; i++) {
        VrCarryOver carry = *both[i];
        carry.paths = one;
        world->carry = &carry;
        world_swap(world, -1);
        assert_int_equal(fake_personal.reads, i + 1);
        expect_carried_from_disk(i == 0 ? "g1.qcow2" : "g2.qcow2");
        assert_int_equal(fake_hv_state(world->fake), VR_DOMAIN_OFF);
        world_check(world, TRUE);
    }
}

static void start_it(const char *disk)
{
    if (fake_personal.reads > 0 && fake_hv_state(world->fake) == VR_DOMAIN_OFF)
        assert_true(vr_hv_start(&world->fake->hv, FAKE_UUID, NULL));
}

static void write_to_it(const char *disk)
{
    if (fake_personal.reads > 0)
        g_utime(world->old_path, NULL);
}

/* It runs on its old disk again, and what was read may be half of what it wrote since. */
static void test_somebody_starts_it_meanwhile(void **state)
{
    static void (*const by[])(const char *disk) = {start_it, write_to_it};
    static const char *const text[] = {"should be off but is", "was written to while it was read"};

    world->carry = &from_disk;
    for (guint i = 0; i < G_N_ELEMENTS(by); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(VrSwap) swap = world_reach(world, VR_SWAP_STOPPED);

        fake_personal.before = by[i];
        assert_false(vr_swap_advance(swap, VR_SWAP_STARTED, &world_stop, &error));
        expect_error(&error, VR_ERROR_CONFLICT, text[i]);
        assert_int_equal(world->fake->defines, 0);
        fake_personal = (FakePersonal){0};
        assert_true(vr_swap_undo(swap, "it failed", NULL));
        assert_int_equal(fake_hv_state(world->fake), VR_DOMAIN_RUNNING);
        world_check(world, TRUE);
    }
}

/* What is missing there is found when the guest is off, and it runs on its old disk again. */
static void test_missing_on_the_disk(void **state)
{
    static char *none[] = {(char *)"/etc/none", NULL};
    VrCarryOver carry = from_disk;
    g_autoptr(GError) error = NULL;
    g_autoptr(VrSwap) swap = NULL;

    carry.paths = none;
    world->carry = &carry;
    swap = world_begin(world, -1, NULL);
    assert_false(vr_swap_advance(swap, VR_SWAP_STARTED, &world_stop, &error));
    expect_error(&error, VR_ERROR_INVALID, "/etc/none is to be carried over");
    assert_true(vr_swap_undo(swap, "it failed", NULL));
    assert_int_equal(fake_hv_state(world->fake), VR_DOMAIN_RUNNING);
    assert_false(is_there("g1.qcow2"));
    world_check(world, TRUE);
}

/* Root would read by it. The guest goes back to its old disk, which its XML says all of. */
static void expect_no_carry(int code, const char *text)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(VrSwap) swap = world_reach(world, VR_SWAP_STOPPED);
    gint reads = fake_personal.reads;

    assert_false(vr_swap_advance(swap, VR_SWAP_STARTED, &world_stop, &error));
    expect_error(&error, code, text);
    assert_int_equal(fake_personal.reads, reads);
    if (!vr_swap_undo(swap, "it failed", &error))
        fail_msg("%s", error->message);
    assert_int_equal(fake_hv_state(world->fake), VR_DOMAIN_RUNNING);
}

static void run_tool(const char *script, const char *path, const char *other)
{
    const char *argv[] = {"sh", "-ec", script, "sh", path, other, NULL};

    assert_true(vr_child_run(argv, NULL, NULL, NULL));
}

/* A guest that broke out into its QEMU can write there. */
static void test_the_header_of_our_disk_was_changed(void **state)
{
    g_autofree char *g1 = file_of("g1.qcow2");

    world->carry = &from_disk;
    world_swap(world, -1);
    run_tool("qemu-img rebase -u -f qcow2 -F raw -b \"$2\" \"$1\"", g1, "/etc/shadow");
    expect_no_carry(VR_ERROR_REFUSED, "g1.qcow2: its header names '/etc/shadow'");
    world_check(world, TRUE);
    run_tool("qemu-img rebase -u -f qcow2 -F qcow2 -b \"$2\" \"$1\"", g1, world->image->path);
    expect_no_carry(VR_ERROR_REFUSED, "its header names '");
    run_tool("qemu-img rebase -u -f qcow2 -F raw -b \"$2\" \"$1\"", g1, world->image->path);
    run_tool("printf '\\004' | dd of=\"$1\" bs=1 seek=79 conv=notrunc status=none", g1, NULL);
    expect_no_carry(VR_ERROR_REFUSED, "its header names a file with its data");
    run_tool("printf '\\000' | dd of=\"$1\" bs=1 seek=79 conv=notrunc status=none", g1, NULL);
    world_swap(world, -1); /* as it was */
    expect_carried_from_disk("g5.qcow2");
}

/* Of a disk that is not ours: what the XML says, and where that is silent what libvirt would find. */
static void test_the_header_of_another_disk(void **state)
{
    g_autofree char *base = g_build_filename(world->top, "base.raw", NULL);

    world->carry = &from_disk;
    assert_true(vr_hv_destroy(&world->fake->hv, FAKE_UUID, NULL));
    fake_hv_edit(world->fake, "type='raw' discard", "type='qcow2' discard");
    run_tool("mv \"$1\" \"$2\"; qemu-img create -q -f qcow2 -F raw -b base.raw \"$1\"", world->old_path, base);
    assert_true(vr_hv_start(&world->fake->hv, FAKE_UUID, NULL));
    fake_hv_edit(world->fake, "<target dev='vda'", "<backingStore/><target dev='vda'");
    expect_no_carry(VR_ERROR_REFUSED, "its header names 'base.raw'");
    fake_hv_edit(world->fake, "<backingStore/>",
                 "<backingStore type='file'><format type='raw'/><source file='/etc/passwd'/></backingStore>");
    expect_no_carry(VR_ERROR_REFUSED, "its header names 'base.raw'");
    fake_hv_edit(world->fake, "/etc/passwd", base);
    world_swap(world, -1);
    expect_carried_from_disk("g3.qcow2");
}

static void test_the_xml_is_silent(void **state)
{
    g_autofree char *base = g_build_filename(world->top, "base.raw", NULL);

    world->carry = &from_disk;
    fake_hv_edit(world->fake, "type='raw' discard", "type='qcow2' discard");
    run_tool("mv \"$1\" \"$2\"; qemu-img create -q -f qcow2 -F raw -b base.raw \"$1\"", world->old_path, base);
    world_swap(world, -1);
    expect_carried_from_disk("g1.qcow2");
}

/* --- both -------------------------------------------------------------------------------------------- */

static void test_the_new_disk_cannot_be_written(void **state)
{
    g_autoptr(VrPersonal) personal = vr_personal_new("", VR_FORMAT_QCOW2);

    world->personal = personal;
    for (guint i = 0; i < 3; i++) {
        world->carry = i == 0 ? &from_guest : i == 1 ? &from_disk : NULL;
        fake_personal.fails = "there is no system on it";
        expect_fails(VR_ERROR_INVALID, "there is no system on it");
    }
}

/* What the model has written is written without anything that is carried over. */
static void test_nothing_is_carried_over(void **state)
{
    g_autoptr(VrPersonal) personal = vr_personal_new("", VR_FORMAT_QCOW2);
    g_autofree char *said = NULL, *text = NULL;

    personal->hostname = g_strdup("web-0");
    world->personal = personal;
    world->carry = NULL;
    world_swap(world, -1);
    text = text_of("g1.qcow2");
    assert_string_equal(text, "HOSTNAME web-0\n");
    assert_int_equal(fake_personal.launches, 1);
    said = steps();
    assert_null(strstr(said, " carry "));
}

static void test_undo_in_each_state(void **state)
{
    static const VrCarryOver *const both[] = {&from_guest, &from_disk};

    for (guint i = 0; i < 2; i++)
        for (VrSwapState to = VR_SWAP_PREPARED; to <= VR_SWAP_STARTED; to++) {
            world->carry = both[i];
            g_autoptr(VrSwap) swap = world_reach(world, to);
            assert_true(vr_swap_undo(swap, "not wanted", NULL));
            assert_int_equal(fake_hv_state(world->fake), VR_DOMAIN_RUNNING);
            world_check(world, TRUE);
        }
}

static gboolean refuse_define(VrHv *hv, const char *uuid, const char *xml, GError **error)
{
    g_set_error_literal(error, VR_ERROR, VR_ERROR_HYPERVISOR, "refused");
    return FALSE;
}

/* What was written to it before the intent is no sign that something ran on it. */
static void test_the_switch_is_refused(void **state)
{
    static const VrCarryOver *const both[] = {&from_guest, &from_disk};
    const VrHvOps *real = world->fake->hv.ops;
    VrHvOps refusing = *real;

    refusing.define = refuse_define;
    for (guint i = 0; i < 2; i++) {
        world->carry = both[i];
        g_autoptr(VrSwap) swap = world_reach(world, VR_SWAP_STOPPED);
        world->fake->hv.ops = &refusing;
        assert_false(vr_swap_advance(swap, VR_SWAP_STARTED, NULL, NULL));
        world->fake->hv.ops = real;
        assert_true(vr_swap_undo(swap, "it failed", NULL));
        assert_false(is_there("g1.qcow2") || is_there("g2.qcow2"));
        assert_int_equal(fake_hv_state(world->fake), VR_DOMAIN_RUNNING);
        world_check(world, TRUE);
    }
}

/* A process that ended right before the intent: nothing is gone on with. */
static void test_it_is_recovered(void **state)
{
    g_autoptr(VrSwap) swap = NULL;

    world->carry = &from_disk;
    swap = world_reach(world, VR_SWAP_STOPPED);
    g_clear_pointer(&swap, vr_swap_free);
    world_close(world);
    world_open(world);
    assert_int_equal(world_recover_once(world), 1);
    assert_int_equal(fake_hv_state(world->fake), VR_DOMAIN_RUNNING);
    assert_false(is_there("g1.qcow2"));
    world_check(world, TRUE);
}

static void test_a_rollback_and_a_flatten_take_nothing_over(void **state)
{
    const VrSwapRequest flatten = {.uuid = FAKE_UUID, .os_target = "vda", .flatten = TRUE, .carry = &from_disk};
    g_autoptr(GError) error = NULL;
    g_autoptr(VrSwap) swap = NULL;

    world->carry = &from_disk;
    world_swap(world, -1);
    world_swap(world, -1);
    fake_personal = (FakePersonal){0};
    world_swap(world, 1);
    assert_true(vr_hv_destroy(&world->fake->hv, FAKE_UUID, NULL));
    swap = vr_swap_begin(&world->engine, &flatten, &error);
    assert_true(vr_swap_advance(swap, VR_SWAP_STARTED, NULL, &error));
    assert_true(vr_swap_commit(swap, NULL, NULL));
    assert_int_equal(fake_personal.launches + fake_personal.reads, 0);
}

/* Invariant 29: what is carried over is on the new disks and nowhere else; of the journal, too. */
static void test_it_is_on_the_new_disk_alone(void **state)
{
    g_auto(VrChildResult) result = {0};
    const char *argv[] = {"sh", "-c", "cd \"$1\" && grep -rla " FAKE_TLS_KEY " . | sort", "sh", world->top, NULL};

    world_swap(world, -1);
    world->carry = &from_disk;
    world_swap(world, -1);
    world_swap(world, 1);
    assert_true(vr_child_run(argv, NULL, &result, NULL));
    assert_string_equal(result.out, "./" DIR "/g1.qcow2\n./" DIR "/g2.qcow2\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_from_the_guest, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_changed_before_the_stop, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_changes_for_a_while, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_changes_for_ever, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_gone_before_the_stop, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_something_is_missing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_host_key, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_machine_id, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nobody_answers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_it_needs_an_agent, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_from_the_disk, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_guest_that_is_off, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_somebody_starts_it_meanwhile, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_missing_on_the_disk, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_header_of_our_disk_was_changed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_header_of_another_disk, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_xml_is_silent, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_new_disk_cannot_be_written, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nothing_is_carried_over, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_undo_in_each_state, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_switch_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_it_is_recovered, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_rollback_and_a_flatten_take_nothing_over, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_it_is_on_the_new_disk_alone, set_up, tear_down),
    };

    world_skip_waiting(NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
