/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The connection: over test:///default, which is in this process, and over a private libvirtd
 * (tests/lib/libvirtd.py) that the tests hang and kill. Without root, Python's libvirt module or libvirtd the
 * latter are skipped, with the reason.
 */
#include "hv/support.h"

#include "hv/connection_private.h"
#include "hv/domain.h"
#include "hv/domain_xml.h"
#include "hv/private_libvirtd.h"
#include <glib/gstdio.h>
#include <signal.h>

static gboolean skipped;

static void skip_because(const char *why)
{
    print_message("SKIP: %s\n", why);
    skipped = TRUE;
    skip();
}

/* -- In this process ------------------------------------------------------------------------------ */

static void cannot_be_reached(void **state)
{
    static const char *const bad[] = {"qemu:///system?socket=/nonexistent/sock", "nonsense:///x",
                                      "qemu+unix:///nowhere"};

    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        assert_null(vr_connection_open(bad[i], NULL, &error));
        expect_error(&error, VR_ERROR_DISCONNECTED, "'systemctl start libvirtd'");
    }
}

/* Nobody is called: a name that does not resolve would be DISCONNECTED. */
static void another_host_is_refused(void **state)
{
    static const struct {
        const char *uri, *says;
    } bad[] = {{"qemu+ssh://root@other.invalid/system", "'ssh other.invalid virt-reimage …'"},
               {"qemu://other.invalid/system", "works only on the host that it runs on"},
               {"qemu+tcp:///system", "name one of this host"},
               {"test+tls://other.invalid/default", "over the network"}};

    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        assert_null(vr_connection_open(bad[i].uri, NULL, &error));
        expect_error(&error, VR_ERROR_USAGE, bad[i].says);
    }
    g_setenv("LIBVIRT_DEFAULT_URI", bad[0].uri, TRUE);
    g_autoptr(GError) error = NULL;
    assert_null(vr_connection_open(NULL, NULL, &error));
    g_unsetenv("LIBVIRT_DEFAULT_URI");
    expect_error(&error, VR_ERROR_USAGE, bad[0].says);
}

static void test_driver_domain(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(VrHv) hv = vr_connection_open("test:///default", NULL, &error);
    char uuid[VR_UUID_LENGTH + 1], again[VR_UUID_LENGTH + 1];
    g_auto(VrDomainInfo) info = {0};
    g_autofree char *job = NULL;

    expect_no_error(error);
    g_autofree char *uri = vr_connection_uri(hv, &error);
    assert_string_equal(uri, "test:///default");
    assert_true(vr_hv_lookup(hv, "test", uuid, &error));
    assert_true(vr_hv_lookup(hv, uuid, again, &error));
    assert_string_equal(uuid, again);
    assert_false(vr_hv_lookup(hv, "no such", again, &error));
    expect_error(&error, VR_ERROR_NOT_FOUND, "no such");
    assert_false(vr_hv_lookup(hv, "", again, &error));
    expect_error(&error, VR_ERROR_NOT_FOUND, "without a name");
    assert_true(vr_hv_info(hv, uuid, &info, &error));
    assert_string_equal(info.name, "test");
    g_autoptr(GPtrArray) leases = vr_hv_leases(hv, uuid, &error); /* E3 */
    expect_no_error(error);
    assert_int_equal(leases->len, 1);
    assert_true(g_str_has_prefix(g_ptr_array_index(leases, 0), "192.168."));
    assert_null(vr_hv_leases(hv, "00000000-0000-4000-8000-000000000000", &error));
    expect_error(&error, VR_ERROR_NOT_FOUND, "");
    assert_int_equal(info.state, VR_DOMAIN_RUNNING);
    assert_true(info.persistent);
    assert_true(vr_hv_job(hv, uuid, &job, &error));
    assert_null(job);
    assert_false(vr_hv_info(hv, UUID, &info, &error));
    expect_error(&error, VR_ERROR_NOT_FOUND, "state");
    g_autofree char *versions = vr_connection_versions(hv, &error);
    assert_non_null(strstr(versions, "libvirt "));
}

static void test_driver_power(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(VrHv) hv = vr_connection_open("test:///default", NULL, &error);
    char uuid[VR_UUID_LENGTH + 1];

    assert_true(vr_hv_lookup(hv, "test", uuid, &error));
    g_autofree char *inactive = vr_hv_inactive_xml(hv, uuid, &error);
    assert_non_null(inactive);
    assert_true(vr_hv_define(hv, uuid, inactive, &error));
    assert_false(vr_hv_define(hv, UUID, inactive, &error));
    expect_error(&error, VR_ERROR_INVALID, "not of " UUID);
    assert_true(vr_domain_force_off(hv, uuid, NULL, &error));
    assert_null(vr_hv_live_xml(hv, uuid, &error));
    expect_error(&error, VR_ERROR_HYPERVISOR, "is not running");
    assert_true(vr_domain_start(hv, uuid, NULL, NULL, &error));
    assert_false(vr_hv_start(hv, uuid, &error));
    expect_error(&error, VR_ERROR_HYPERVISOR, "start");
}

static void test_driver_pools(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(VrHv) hv = vr_connection_open("test:///default", NULL, &error);
    g_autoptr(GPtrArray) over = vr_connection_pools_over(hv, "/default-pool/sub/dir", &error);

    expect_no_error(error);
    assert_int_equal(over->len, 1);
    g_autoptr(GPtrArray) beside = vr_connection_pools_over(hv, "/default-pool-2", &error);
    assert_int_equal(beside->len, 0);
    assert_null(vr_connection_volume_path(hv, "no-pool", "x", &error));
    expect_error(&error, VR_ERROR_REFUSED, "no storage pool");
}

/* An event between reading the state and waiting must not be lost. */
static void test_driver_events(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(VrHv) hv = vr_connection_open("test:///default", NULL, &error);
    char uuid[VR_UUID_LENGTH + 1];
    g_auto(VrDomainInfo) info = {0};

    assert_true(vr_hv_lookup(hv, "test", uuid, &error));
    assert_true(vr_hv_info(hv, uuid, &info, &error));
    assert_true(vr_hv_destroy(hv, uuid, &error));
    gint64 before = vr_clock_now_ms();
    vr_hv_wait_change(hv, uuid, before + 10000);
    assert_in_range(vr_clock_now_ms() - before, 0, 2000);
    assert_true(vr_hv_start(hv, uuid, &error));
    vr_hv_wait_change(hv, uuid, vr_clock_now_ms() + 10000);
    before = vr_clock_now_ms();
    vr_hv_wait_change(hv, uuid, before + 300);
    assert_in_range(vr_clock_now_ms() - before, 299, 2000);
}

/* -- Many threads --------------------------------------------------------------------------------- */

static gpointer hammer(gpointer data)
{
    VrHv *hv = data;
    char uuid[VR_UUID_LENGTH + 1];

    for (int i = 0; i < 50; i++) {
        g_auto(VrDomainInfo) info = {0};
        if (!vr_hv_lookup(hv, "test", uuid, NULL) || !vr_hv_info(hv, uuid, &info, NULL))
            return GINT_TO_POINTER(1);
        vr_hv_wait_change(hv, uuid, vr_clock_now_ms() + 1);
    }
    return NULL;
}

static void many_threads_share_a_connection(void **state)
{
    g_autoptr(VrHv) hv = vr_connection_open("test:///default", NULL, NULL);
    GThread *threads[16];

    for (gsize i = 0; i < G_N_ELEMENTS(threads); i++)
        threads[i] = g_thread_new("hammer", hammer, hv);
    for (gsize i = 0; i < G_N_ELEMENTS(threads); i++)
        assert_null(g_thread_join(threads[i]));
}

/* -- Calls that hang ------------------------------------------------------------------------------ */

static gint released; /* atomic */

static gboolean hang(VrCall *call, GError **error)
{
    while (!g_atomic_int_get(&released))
        g_usleep(1000);
    return TRUE;
}

static void expect_hanging(VrHv *hv, const char *subject)
{
    g_autoptr(VrCall) call = vr_call_new(hang, subject);
    g_autoptr(GError) error = NULL;

    assert_false(vr_connection_call(vr_connection_of(hv, NULL), call, "state", 20, VR_OVERRUN_DROP, &error));
    expect_error(&error, VR_ERROR_DISCONNECTED, "did not answer");
}

static void expect_refused(VrHv *hv, const char *subject, const char *text)
{
    g_autoptr(VrCall) call = vr_call_new(hang, subject);
    g_autoptr(GError) error = NULL;

    assert_false(vr_connection_call(vr_connection_of(hv, NULL), call, "state", 20, VR_OVERRUN_DROP, &error));
    expect_error(&error, VR_ERROR_DISCONNECTED, text);
}

/* One guest that hangs whatever is asked about it does not take libvirt away from the others; several do. */
static void one_sick_guest(void **state)
{
    static const char *const others[] = {"b", "c", "d", "e"};
    g_autoptr(VrHv) hv = vr_connection_open("test:///default", NULL, NULL);
    char uuid[VR_UUID_LENGTH + 1];

    g_atomic_int_set(&released, 0);
    expect_hanging(hv, UUID);
    expect_hanging(hv, UUID);
    expect_refused(hv, UUID, "not asked about " UUID " any more, as 2 calls");
    for (int i = 0; i < 20; i++)
        assert_true(vr_hv_lookup(hv, "test", uuid, NULL));
    for (gsize i = 0; i < G_N_ELEMENTS(others); i++)
        expect_hanging(hv, others[i]);
    expect_refused(hv, "f", "libvirt is not asked any more");
    assert_false(vr_hv_lookup(hv, "test", uuid, NULL));
    g_atomic_int_set(&released, 1);
    for (int i = 0; i < 500 && !vr_hv_lookup(hv, "test", uuid, NULL); i++)
        g_usleep(10 * 1000);
    assert_true(vr_hv_lookup(hv, "test", uuid, NULL));
}

/* -- A private libvirtd --------------------------------------------------------------------------- */

static int private_setup(void **state)
{
    *state = private_libvirtd_start();
    return 0;
}

static int private_teardown(void **state)
{
    if (*state)
        private_libvirtd_end(*state);
    return 0;
}

static VrHv *open_private(void **state, gint64 timeout_ms)
{
    const PrivateLibvirtd *private = *state;
    const VrConnectionOptions options = {timeout_ms};
    g_autoptr(GError) error = NULL;

    if (private == NULL)
        skip_because("a private libvirtd cannot be started (root, libvirtd and python3-libvirt are needed)");
    VrHv *hv = vr_connection_open(private->uri, &options, &error);
    expect_no_error(error);
    return hv;
}

/* libvirtd is stopped like a process that hangs: the call is abandoned at its deadline, others too, and when libvirtd
 * goes on the same VrHv works again. */
static void a_hanging_libvirtd(void **state)
{
    g_autoptr(VrHv) hv = open_private(state, 1000);
    const PrivateLibvirtd *private = *state;
    g_autoptr(GError) error = NULL;
    char uuid[VR_UUID_LENGTH + 1];

    assert_false(vr_hv_lookup(hv, "x", uuid, &error));
    expect_error(&error, VR_ERROR_NOT_FOUND, "there is no domain 'x'");
    kill(private->pid, SIGSTOP);
    gint64 before = vr_clock_now_ms();
    assert_false(vr_hv_lookup(hv, "x", uuid, &error));
    expect_error(&error, VR_ERROR_DISCONNECTED, "outcome is unknown");
    assert_in_range(vr_clock_now_ms() - before, 990, 1500);
    assert_false(vr_hv_lookup(hv, "x", uuid, &error));
    expect_error(&error, VR_ERROR_DISCONNECTED, "did not answer");
    kill(private->pid, SIGCONT);
    for (int i = 0; i < 5 && !g_error_matches(error, VR_ERROR, VR_ERROR_NOT_FOUND); i++) {
        g_clear_error(&error);
        vr_hv_lookup(hv, "x", uuid, &error);
    }
    expect_error(&error, VR_ERROR_NOT_FOUND, "there is no domain 'x'");
}

/* Calls that hang pile up to a bound: from there on nothing is asked, so nothing can hang, until they return. */
static void too_many_hanging_calls(void **state)
{
    g_autoptr(VrHv) hv = open_private(state, 200);
    const PrivateLibvirtd *private = *state;
    g_autoptr(GError) error = NULL;
    char uuid[VR_UUID_LENGTH + 1];
    int asked = 0;

    vr_hv_lookup(hv, "x", uuid, NULL);
    kill(private->pid, SIGSTOP);
    do {
        g_clear_error(&error);
        assert_false(vr_hv_lookup(hv, "x", uuid, &error));
    } while (!strstr(error->message, "not asked any more") && ++asked < 20);
    assert_int_equal(asked, 5);
    assert_true(g_error_matches(error, VR_ERROR, VR_ERROR_DISCONNECTED));
    gint64 before = vr_clock_now_ms();
    assert_false(vr_hv_lookup(hv, "x", uuid, NULL));
    assert_in_range(vr_clock_now_ms() - before, 0, 50);
    kill(private->pid, SIGCONT);
    for (int i = 0; i < 50 && !g_error_matches(error, VR_ERROR, VR_ERROR_NOT_FOUND); i++) {
        g_clear_error(&error);
        vr_hv_lookup(hv, "x", uuid, &error);
        g_usleep(100 * 1000);
    }
    expect_error(&error, VR_ERROR_NOT_FOUND, "there is no domain 'x'");
}

/* Keepalive ends a call before its deadline, when that is longer than 20 s. */
static void keepalive_ends_a_call(void **state)
{
    g_autoptr(VrHv) hv = open_private(state, 60000);
    const PrivateLibvirtd *private = *state;
    g_autoptr(GError) error = NULL;
    char uuid[VR_UUID_LENGTH + 1];

    kill(private->pid, SIGSTOP);
    gint64 before = vr_clock_now_ms();
    assert_false(vr_hv_lookup(hv, "x", uuid, &error));
    kill(private->pid, SIGCONT);
    expect_error(&error, VR_ERROR_DISCONNECTED, "broke");
    assert_in_range(vr_clock_now_ms() - before, 10000, 30000);
    assert_false(vr_hv_lookup(hv, "x", uuid, &error));
    expect_error(&error, VR_ERROR_NOT_FOUND, "there is no domain 'x'");
}

static void a_killed_libvirtd(void **state)
{
    g_autoptr(VrHv) hv = open_private(state, 5000);
    const PrivateLibvirtd *private = *state;
    g_autoptr(GError) error = NULL;
    char uuid[VR_UUID_LENGTH + 1];

    assert_false(vr_hv_lookup(hv, "x", uuid, &error));
    expect_error(&error, VR_ERROR_NOT_FOUND, "there is no domain 'x'");
    kill(private->pid, SIGKILL);
    gint64 before = vr_clock_now_ms();
    for (int i = 0; i < 4; i++) {
        assert_false(vr_hv_lookup(hv, "x", uuid, &error));
        expect_error(&error, VR_ERROR_DISCONNECTED, "");
    }
    assert_in_range(vr_clock_now_ms() - before, 0, 4000); /* the back-off is short and bounded */
}

#define private_test(f) cmocka_unit_test_setup_teardown(f, private_setup, private_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cannot_be_reached),
        cmocka_unit_test(another_host_is_refused),
        cmocka_unit_test(test_driver_domain),
        cmocka_unit_test(test_driver_power),
        cmocka_unit_test(test_driver_pools),
        cmocka_unit_test(test_driver_events),
        cmocka_unit_test(many_threads_share_a_connection),
        cmocka_unit_test(one_sick_guest),
        private_test(a_hanging_libvirtd),
        private_test(keepalive_ends_a_call),
        private_test(a_killed_libvirtd),
        private_test(too_many_hanging_calls),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);

    return failed == 0 && skipped ? 77 : failed;
}
