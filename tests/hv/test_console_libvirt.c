/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The console of a real guest on a libvirtd of our own: one that is free, one that somebody has, one that somebody takes, and a libvirtd that dies
 * or hangs meanwhile. Row F11. Skipped, with the reason, where libvirtd or QEMU cannot be had.
 */
#include "hv/support.h"

#include "base/child.h"
#include "hv/connection.h"
#include "hv/private_libvirtd.h"
#include <glib/gstdio.h>
#include <libvirt/libvirt.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#define BANNER "cheap guest version 1\r\n"
#define IN_USE "Active console session exists for this domain"
#define LOST "[virt-reimage: the console was lost: libvirt ended it, or somebody took it]\n"
#define WAIT_MS 60000

typedef struct {
    PrivateLibvirtd *daemon;
    VrHv *hv;
    virConnectPtr conn; /* another client */
    virDomainPtr domain;
    char *dir;
} Stage;

static gboolean skipped;

static void run_tool(const char *const *argv)
{
    g_autoptr(GError) error = NULL;

    if (!vr_child_run(argv, NULL, NULL, &error))
        fail_msg("%s: %s", argv[0], error->message);
}

static void connect_other(Stage *stage)
{
    stage->conn = virConnectOpen(stage->daemon->uri);
    assert_non_null(stage->conn);
    stage->domain = virDomainLookupByUUIDString(stage->conn, UUID);
}

static void disconnect_other(Stage *stage)
{
    if (stage->domain)
        virDomainFree(stage->domain);
    virConnectClose(stage->conn);
}

static void await_text(VrConsole *console, const char *expected)
{
    gint64 deadline = vr_clock_now_ms() + WAIT_MS;
    g_autofree char *text = NULL;
    gsize length;

    do {
        g_free(text);
        text = vr_console_text(console, &length);
        if (g_str_equal(text, expected))
            return;
        g_usleep(20000);
    } while (vr_clock_now_ms() < deadline);
    fail_msg("\"%s\" where \"%s\" was expected", text, expected);
}

/* libvirt lets go of it a moment after it was told to. */
static VrConsole *open_ours(Stage *stage)
{
    gint64 deadline = vr_clock_now_ms() + WAIT_MS;
    VrConsole *console = vr_console_new();
    g_autoptr(GError) error = NULL;

    while (!vr_hv_console(stage->hv, UUID, console, &error)) {
        if (vr_clock_now_ms() > deadline)
            fail_msg("%s", error->message);
        g_clear_error(&error);
        g_usleep(50000);
    }
    return console;
}

/* A guest that runs, and has said its line. Its console is opened before its first instruction. */
static void begin_guest(Stage *stage)
{
    g_autofree char *script = g_build_filename(g_getenv("VR_SOURCE_DIR"), "tests", "lib", "cheap_guest.py", NULL);
    g_autofree char *disk = g_build_filename(stage->dir, "os.raw", NULL);
    const char *const make[] = {"/usr/bin/python3", script, disk, "1", "raw", NULL};
    g_autoptr(VrConsole) first = NULL;
    g_autofree char *xml = g_strdup_printf(
        "<domain type='qemu'><name>console</name><uuid>" UUID "</uuid><memory unit='MiB'>16</memory>"
        "<os><type arch='x86_64' machine='pc'>hvm</type></os><features><acpi/></features><devices>"
        "<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='%s'/><target dev='vda' "
        "bus='virtio'/></disk><serial type='pty'/><memballoon model='none'/></devices></domain>",
        disk);

    run_tool(make);
    stage->domain = virDomainDefineXML(stage->conn, xml);
    assert_non_null(stage->domain);
    assert_int_equal(virDomainCreateWithFlags(stage->domain, VIR_DOMAIN_START_PAUSED), 0);
    first = open_ours(stage);
    assert_int_equal(virDomainResume(stage->domain), 0);
    await_text(first, BANNER);
    vr_console_close(first);
}

static int setup(void **state)
{
    Stage *stage = g_new0(Stage, 1);
    g_autoptr(GError) error = NULL;

    stage->daemon = private_libvirtd_start();
    if (!stage->daemon) {
        print_message("SKIP: root, qemu-system-x86_64 and a private libvirtd are needed\n");
        skipped = TRUE;
        g_free(stage);
        return 0;
    }
    stage->dir = g_strdup("/var/lib/virt-reimage-test-XXXXXX");
    assert_non_null(g_mkdtemp(stage->dir));
    assert_int_equal(chmod(stage->dir, 0711), 0);
    stage->hv = vr_connection_open(stage->daemon->uri, &(VrConnectionOptions){.call_timeout_ms = WAIT_MS}, &error);
    if (!stage->hv)
        fail_msg("%s", error->message);
    connect_other(stage);
    begin_guest(stage);
    *state = stage;
    return 0;
}

static int teardown(void **state)
{
    Stage *stage = *state;

    if (!stage)
        return 0;
    const char *const rm[] = {"rm", "-rf", "--one-file-system", stage->dir, NULL};
    vr_hv_close(stage->hv);
    disconnect_other(stage);
    private_libvirtd_end(stage->daemon);
    vr_child_run(rm, NULL, NULL, NULL);
    g_free(stage->dir);
    g_free(stage);
    return 0;
}

static Stage *stage_of(void **state)
{
    if (!*state)
        skip();
    return *state;
}

/* It boots again, so it says its line again. */
static void reset(Stage *stage)
{
    assert_int_equal(virDomainReset(stage->domain, 0), 0);
}

static virStreamPtr open_other(Stage *stage, guint flags)
{
    virStreamPtr stream = virStreamNew(stage->conn, VIR_STREAM_NONBLOCK);

    assert_int_equal(virDomainOpenConsole(stage->domain, NULL, stream, flags), 0);
    return stream;
}

/* What the guest says while it is open, and nothing once it is closed; then it is free again. */
static void a_free_one(void **state)
{
    Stage *stage = stage_of(state);

    for (guint i = 0; i < 3; i++) {
        g_autoptr(VrConsole) console = open_ours(stage);
        reset(stage);
        await_text(console, BANNER);
        vr_console_close(console);
    }
}

/* Whoever has it keeps it, and hears all of it. */
static void one_that_somebody_has(void **state)
{
    Stage *stage = stage_of(state);
    virStreamPtr theirs =
        open_other(stage, VIR_DOMAIN_CONSOLE_FORCE); /* ours of the beginning may be there for a moment */
    g_autoptr(VrConsole) console = vr_console_new();
    g_autoptr(GError) error = NULL;
    char said[64] = {0};
    gsize got = 0;

    assert_false(vr_hv_console(stage->hv, UUID, console, &error));
    expect_error(&error, VR_ERROR_HYPERVISOR, IN_USE);
    reset(stage);
    for (gint64 until = vr_clock_now_ms() + WAIT_MS; got < strlen(BANNER) && vr_clock_now_ms() < until;) {
        int n = virStreamRecv(theirs, said + got, sizeof(said) - 1 - got);
        assert_true(n == -2 || n > 0);
        got += n > 0 ? (gsize)n : 0;
        g_usleep(10000);
    }
    assert_string_equal(said, BANNER);
    await_text(console, "");
    vr_console_close(console);
    virStreamAbort(theirs);
    virStreamFree(theirs);
}

/* virsh console --force: it is theirs from then on. */
static void one_that_somebody_takes(void **state)
{
    Stage *stage = stage_of(state);
    g_autoptr(VrConsole) console = open_ours(stage);
    virStreamPtr theirs;

    reset(stage);
    await_text(console, BANNER);
    theirs = open_other(stage, VIR_DOMAIN_CONSOLE_FORCE);
    await_text(console, BANNER LOST);
    vr_console_close(console);
    virStreamAbort(theirs);
    virStreamFree(theirs);
}

/* QEMU ends: nothing more comes, which is no news. */
static void a_guest_that_ends(void **state)
{
    Stage *stage = stage_of(state);
    g_autoptr(VrConsole) console = open_ours(stage);
    g_autoptr(GError) error = NULL;

    reset(stage);
    await_text(console, BANNER);
    assert_true(vr_hv_destroy(stage->hv, UUID, &error));
    g_usleep(200000);
    await_text(console, BANNER);
    assert_false(vr_hv_console(stage->hv, UUID, console, &error));
    expect_error(&error, VR_ERROR_HYPERVISOR, "not running");
    vr_console_close(console);
}

/* What came until then stays; the connection is opened anew by the next call, the console is not. */
static void a_daemon_that_dies(void **state)
{
    Stage *stage = stage_of(state);
    g_autoptr(VrConsole) console = open_ours(stage);
    g_autoptr(GError) error = NULL;
    g_auto(VrDomainInfo) info = {0};

    reset(stage);
    await_text(console, BANNER);
    disconnect_other(stage);
    private_libvirtd_again(stage->daemon);
    while (!vr_hv_info(stage->hv, UUID, &info, &error))
        g_clear_error(&error);
    vr_console_close(console);
    await_text(console, BANNER LOST);
    connect_other(stage);
    assert_int_equal(info.state, VR_DOMAIN_RUNNING);
}

/* Neither opening nor closing waits for it beyond its time, and no call is counted as one that hangs on the guest. */
static void a_daemon_that_hangs(void **state)
{
    Stage *stage = stage_of(state);
    g_autoptr(VrConsole) first = open_ours(stage);
    g_autoptr(VrConsole) second = vr_console_new();
    g_autoptr(GError) error = NULL;
    g_auto(VrDomainInfo) info = {0};
    gint64 begun;

    assert_int_equal(kill(stage->daemon->pid, SIGSTOP), 0);
    begun = vr_clock_now_ms();
    vr_console_close(first);
    assert_in_range(vr_clock_now_ms() - begun, 0, 1000);
    gboolean opened = vr_hv_console(stage->hv, UUID, second, &error);
    gint64 took = vr_clock_now_ms() - begun;
    vr_console_close(second);
    kill(stage->daemon->pid, SIGCONT);
    assert_false(opened);
    expect_error(&error, VR_ERROR_TIMEOUT, "no answer within");
    assert_in_range(took, 4000, 15000);
    assert_true(vr_hv_info(stage->hv, UUID, &info, &error));
    g_autoptr(VrConsole) third = open_ours(stage); /* the late one found that nobody wants it any more */
    reset(stage);
    await_text(third, BANNER);
    await_text(second, "");
    vr_console_close(third);
}

#define console_test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        console_test(a_free_one),        console_test(one_that_somebody_has), console_test(one_that_somebody_takes),
        console_test(a_guest_that_ends), console_test(a_daemon_that_dies),    console_test(a_daemon_that_hangs),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);

    return failed == 0 && skipped ? 77 : failed;
}
