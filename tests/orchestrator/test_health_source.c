/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Health over the network: a scripted hypervisor, real applications (health_server.py), the real clock. Where a guest is
 * asked, what its answers mean, and whether it was this guest and this boot that gave them. Rows E3, E5, E8, E10, E13.
 */
#include "orchestrator/health.h"
#include "orchestrator/health_where.h"

#include "base/child.h"
#include "base/clock.h"
#include "base/error.h"
#include "orchestrator/health_server.h"
#include "orchestrator/neighbour.h"

#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define OLD_BOOT "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
#define NEW_BOOT "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb"
#define HUNG "h" /* the guest whose agent does not answer */
#define AGENT_HANGS_MS 500
#define MAC "52:54:00:00:00:07"

static struct {
    const char *boot_id; /* what its agent says; NULL: no agent */
    const char *cards;   /* of guest-network-get-interfaces */
    const char *lease;
    const char *mac; /* in its XML */
    VrDomainState state;
    gint restarts; /* atomic: so many looks find another QEMU process each */
    gint looks;    /* atomic */
} guest;

static gboolean info(VrHv *hv, const char *uuid, VrDomainInfo *answer, GError **error)
{
    int look = g_atomic_int_add(&guest.looks, 1);

    memset(answer, 0, sizeof(*answer));
    answer->name = g_strdup(uuid);
    answer->state = guest.state;
    answer->id = 1 + MIN(look, g_atomic_int_get(&guest.restarts));
    return TRUE;
}

static char *live_xml(VrHv *hv, const char *uuid, GError **error)
{
    return g_strdup_printf("<domain type='kvm'><name>g</name><uuid>7b0c8d36-5f0e-4f6e-9c7c-0f1f1f1f1f1f</uuid><memory "
                           "unit='KiB'>1</memory><os><type arch='x86_64' machine='pc'>hvm</type></os><devices>"
                           "<interface type='user'><mac address='%s'/></interface>%s</devices></domain>",
                           guest.mac,
                           guest.boot_id || guest.cards ? "<channel type='unix'><target type='virtio' "
                                                          "name='org.qemu.guest_agent.0'/></channel>"
                                                        : "");
}

static GPtrArray *leases(VrHv *hv, const char *uuid, GError **error)
{
    GPtrArray *list = g_ptr_array_new_with_free_func(g_free);

    if (guest.lease) {
        g_ptr_array_add(list, g_strdup("192.0.2.1")); /* an older one */
        g_ptr_array_add(list, g_strdup(guest.lease));
    }
    return list;
}

/* It has two files: its boot id, and one that says that it is healthy. */
static char *file_reply(const char *command)
{
    const char *content = strstr(command, "\"handle\":8") ? "{\"ApplicationHealthState\": \"Healthy\"}" : guest.boot_id;
    g_autofree char *base64 = g_base64_encode((const guchar *)content, strlen(content));

    if (strstr(command, "guest-file-open"))
        return g_strdup_printf("{\"return\": %d}", strstr(command, "boot_id") ? 7 : 8);
    if (strstr(command, "guest-file-read"))
        return g_strdup_printf("{\"return\": {\"count\": %zu, \"buf-b64\": \"%s\", \"eof\": true}}", strlen(content),
                               base64);
    return g_strdup("{\"return\": {}}");
}

static char *agent(VrHv *hv, const char *uuid, const char *command, int timeout_s, GError **error)
{
    if (g_str_equal(uuid, HUNG))
        g_usleep(AGENT_HANGS_MS * 1000);
    else if (guest.cards && strstr(command, "guest-network-get-interfaces"))
        return g_strdup_printf("{\"return\": %s}", guest.cards);
    if (guest.boot_id && !g_str_equal(uuid, HUNG))
        return file_reply(command);
    if (guest.cards && strstr(command, "guest-ping"))
        return g_strdup("{\"return\": {}}");
    g_set_error(error, VR_ERROR, VR_ERROR_AGENT, "no agent");
    return NULL;
}

static const VrHvOps ops = {.info = info, .agent = agent, .live_xml = live_xml, .leases = leases};
static VrHv hv = {&ops};
static VrHealthProfile profile;

#ifdef __SANITIZE_THREAD__
/* GLib is not instrumented: the slices of its errors go from thread to thread where the sanitizer does not see it. */
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
    return "called_from_lib:libglib-2.0.so\n";
}
#endif
static char *address; /* of the http port */

static int setup(void **state)
{
    memset(&guest, 0, sizeof(guest));
    guest.state = VR_DOMAIN_RUNNING;
    guest.mac = MAC;
    profile = (VrHealthProfile){.source = VR_HEALTH_SOURCE_HTTP,
                                .port = server.http,
                                .request_path = (char *)"/healthy",
                                .interval_ms = 300,
                                .number_of_probes = 1,
                                .timeout_ms = 3000};
    return 0;
}

static void look(VrHealthAnswer *answer)
{
    VrHealthSubject subject = {.uuid = "u", .address = address};

    vr_health_probe(&hv, &profile, &subject, vr_clock_now_ms() + 1000, NULL, answer);
    assert_non_null(answer->text);
    assert_null(strchr(answer->text, '\n'));
}

static gboolean wait_for(const char *old_boot_id, VrHealthAnswer *answer)
{
    VrHealthWait wait = {
        .subject = {.uuid = "u", .address = address}, .old_boot_id = old_boot_id, .started_ms = vr_clock_now_ms()};

    return vr_health_wait(&hv, &profile, &wait, answer);
}

static void has_text(const VrHealthAnswer *answer, const char *text)
{
    if (!strstr(answer->text, text))
        fail_msg("\"%s\" does not say \"%s\"", answer->text, text);
}

/* --- what an answer means ---------------------------------------------------------------------------- */

static void test_answers(void **state) /* E3 E8 E10 */
{
    static const struct {
        const char *path;
        VrHealthState state;
        gboolean answered;
        const char *text;
    } rows[] = {
        {"/healthy", VR_HEALTH_HEALTHY, TRUE, "/healthy says Healthy"},
        {"/unhealthy", VR_HEALTH_UNHEALTHY, TRUE, "/unhealthy says Unhealthy"},
        {"/odd", VR_HEALTH_UNKNOWN, TRUE, "/odd says neither Healthy nor Unhealthy"},
        {"/plain", VR_HEALTH_HEALTHY, TRUE, "/plain answered 200"},
        {"/empty", VR_HEALTH_HEALTHY, TRUE, "/empty answered 204"},
        {"/status?503", VR_HEALTH_UNKNOWN, TRUE, "/status?503 answered 503"},
        {"/status?404", VR_HEALTH_UNKNOWN, TRUE, "/status?404 answered 404"},
        {"/redirect?/healthy", VR_HEALTH_UNKNOWN, TRUE, "a redirect to http://127.0.0.1:"},
        {"/over", VR_HEALTH_UNKNOWN, TRUE, "/over: the answer is larger than 64 KiB"},
        {"/cut", VR_HEALTH_UNKNOWN, TRUE, "/cut: the answer ended before its end"},
        {"/drip", VR_HEALTH_UNKNOWN, TRUE, "/drip: the answer was not complete within"},
        {"/hang", VR_HEALTH_UNKNOWN, FALSE, "/hang: no answer within"},
        {"/close", VR_HEALTH_UNKNOWN, FALSE, "/close: the connection was closed without an answer"},
    };

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_auto(VrHealthAnswer) answer = {0};

        profile.request_path = (char *)rows[i].path;
        look(&answer);
        has_text(&answer, rows[i].text);
        assert_true(g_str_has_prefix(answer.text, "http://127.0.0.1:"));
        assert_int_equal(answer.state, rows[i].state);
        assert_int_equal(answer.answered, rows[i].answered);
    }
}

static void test_metrics_are_kept(void **state) /* D14 E10 */
{
    g_auto(VrHealthAnswer) answer = {0};

    look(&answer);
    assert_string_equal(answer.metrics, "{\"rollingUpgrade\":{\"PhaseOrderingNumber\":3}}");
    assert_int_equal(answer.wish.phase, 3 + 1);
    assert_false(answer.wish.skip);
    assert_true(answer.asked_us > 0);
    profile.request_path = (char *)"/plain";
    look(&answer);
    assert_null(answer.metrics);
    assert_int_equal(answer.wish.phase, 0);
    profile.request_path = (char *)"/unhealthy";
    look(&answer);
    assert_int_equal(answer.state, VR_HEALTH_UNHEALTHY);
    assert_true(answer.wish.skip);
}

static void test_tcp_and_https(void **state) /* E3 */
{
    g_autofree char *tls = g_strdup_printf("127.0.0.1:%u", server.https);
    VrHealthSubject subject = {.uuid = "u", .address = tls};
    g_auto(VrHealthAnswer) answer = {0};

    profile.source = VR_HEALTH_SOURCE_TCP;
    subject.address = "127.0.0.1:1";
    vr_health_probe(&hv, &profile, &subject, vr_clock_now_ms() + 1000, NULL, &answer);
    assert_int_equal(answer.state, VR_HEALTH_UNHEALTHY); /* as Azure has it: tcp knows no Unknown */
    has_text(&answer, "tcp://127.0.0.1:1: connection refused");

    subject.address = tls;
    profile.source = VR_HEALTH_SOURCE_HTTPS;
    profile.ca_file = server.ca_file;
    profile.server_name = (char *)"shop.example";
    vr_health_probe(&hv, &profile, &subject, vr_clock_now_ms() + 3000, NULL, &answer);
    assert_int_equal(answer.state, VR_HEALTH_HEALTHY);
    profile.server_name = (char *)"other.example";
    vr_health_probe(&hv, &profile, &subject, vr_clock_now_ms() + 3000, NULL, &answer);
    assert_int_equal(answer.state, VR_HEALTH_UNKNOWN);
    has_text(&answer, "its certificate is refused");
}

/* What this host accepts says nothing of a guest, however the address is spelled (invariant 26, decision 13). */
static void test_tcp_of_this_host(void **state)
{
    static const char *const spellings[] = {"127.0.0.1", "127.1", "0", "2130706433", "localhost"};
    g_auto(VrHealthAnswer) answer = {0};

    profile.source = VR_HEALTH_SOURCE_TCP;
    for (guint i = 0; i < G_N_ELEMENTS(spellings); i++) {
        g_autofree char *at = g_strdup_printf("%s:%u", spellings[i], server.http);
        VrHealthSubject subject = {.uuid = "u", .address = at};

        vr_health_probe(&hv, &profile, &subject, vr_clock_now_ms() + 1000, NULL, &answer);
        assert_int_equal(answer.state, VR_HEALTH_UNHEALTHY);
        assert_false(answer.answered);
        has_text(&answer, "was answered by this host itself");
    }
}

/* Nobody is asked when the domain does not run. */
static void test_off(void **state)
{
    g_auto(VrHealthAnswer) answer = {0};

    guest.state = VR_DOMAIN_OFF;
    look(&answer);
    assert_true(answer.off);
    assert_int_equal(answer.state, VR_HEALTH_UNHEALTHY);
    has_text(&answer, "the domain is shut off");
}

/* --- where it is asked ------------------------------------------------------------------------------- */

#define CARD(mac, ips) "{\"name\": \"x\", \"hardware-address\": \"" mac "\", \"ip-addresses\": [" ips "]}"
#define IP(ip) "{\"ip-address\": \"" ip "\", \"prefix\": 24}"

static void where(const char *given, const char *host, guint port)
{
    g_autofree char *found = NULL;
    g_autoptr(GError) error = NULL;
    guint found_port = 0;

    if (!vr_health_where(&hv, "u", given, 80, vr_clock_now_ms() + 1000, &found, &found_port, &error))
        fail_msg("%s", error->message);
    assert_string_equal(found, host);
    assert_int_equal(found_port, port);
}

static void test_where(void **state) /* E3 */
{
    g_autoptr(GError) error = NULL;
    g_autofree char *host = NULL;
    guint port;

    assert_false(vr_health_where(&hv, "u", NULL, 80, vr_clock_now_ms() + 1000, &host, &port, &error));
    assert_true(g_error_matches(error, VR_ERROR, VR_ERROR_NOT_FOUND));
    guest.lease = "10.0.0.9";
    where(NULL, "10.0.0.9", 80);
    where("web-0.lan", "web-0.lan", 80);
    where("[fd00::1]:81", "fd00::1", 81);
    /* the agent knows it better; only on a card that libvirt gave it, and no address that every guest has */
    guest.cards =
        "[" CARD("00:00:00:00:00:00", IP("127.0.0.1")) "," CARD("02:42:00:00:00:01", IP("172.17.0.1")) "," CARD(
            "52:54:00:00:00:07", IP("fe80::1") "," IP("fd00::5") "," IP("10.0.0.5")) "]";
    where(NULL, "10.0.0.5", 80);
    guest.cards = "[" CARD("52:54:00:00:00:07", IP("169.254.3.4") "," IP("fd00::5")) "]";
    where(NULL, "fd00::5", 80);
    guest.cards = "[" CARD("02:42:00:00:00:01", IP("172.17.0.1")) "]";
    where(NULL, "10.0.0.9", 80);
    /* hostile */
    guest.cards = "[" CARD("52:54:00:00:00:07", IP("10.0.0.5/../x") "," IP("example.com") ","
                                                                                          "{}, 7") ", 3, {}]";
    where(NULL, "10.0.0.9", 80);
    guest.cards = "{}";
    where(NULL, "10.0.0.9", 80);
}

static void test_no_address(void **state)
{
    g_auto(VrHealthAnswer) answer = {0};
    VrHealthSubject subject = {.uuid = "u"};

    vr_health_probe(&hv, &profile, &subject, vr_clock_now_ms() + 1000, NULL, &answer);
    assert_int_equal(answer.state, VR_HEALTH_UNKNOWN);
    has_text(&answer, "its address is not known");
    guest.lease = "127.0.0.1"; /* only an admin may say that a guest is behind this host */
    vr_health_probe(&hv, &profile, &subject, vr_clock_now_ms() + 1000, NULL, &answer);
    assert_int_equal(answer.state, VR_HEALTH_UNKNOWN);
    assert_false(answer.answered);
    has_text(&answer, "/healthy was answered by this host itself");
}

/* --- who answered ------------------------------------------------------------------------------------ */

/* The domain ends or starts anew between the question and the answer: whose answer it is nobody knows. */
static void test_restart_meanwhile(void **state) /* invariant 26 */
{
    g_auto(VrHealthAnswer) answer = {0};

    guest.restarts = 1;
    look(&answer);
    assert_int_equal(answer.state, VR_HEALTH_UNKNOWN);
    has_text(&answer, "was answered while the domain stopped or started anew");
    assert_int_equal(answer.wish.phase, 0); /* D14: nobody knows who said it */
    look(&answer);
    assert_int_equal(answer.state, VR_HEALTH_HEALTHY);
    assert_int_equal(answer.wish.phase, 3 + 1);
}

/* D14: nobody leaves a guest out of a run by answering at its address. */
static void test_wish_of_another(void **state) /* D14, invariant 26 */
{
    g_auto(VrHealthAnswer) answer = {0};

    guest.restarts = 1;
    profile.request_path = (char *)"/unhealthy";
    look(&answer);
    assert_int_equal(answer.state, VR_HEALTH_UNKNOWN);
    assert_false(answer.wish.skip);
}

static void test_boot_id(void **state) /* invariant 26 */
{
    g_auto(VrHealthAnswer) answer = {0};

    profile.timeout_ms = 1000;
    guest.boot_id = OLD_BOOT;
    assert_false(wait_for(OLD_BOOT, &answer));
    has_text(&answer, "the answer comes from the boot before the swap");
    guest.boot_id = NEW_BOOT;
    assert_true(wait_for(OLD_BOOT, &answer));
    assert_string_equal(answer.boot_id, NEW_BOOT);
    guest.boot_id = NULL; /* no agent in the new image: the new QEMU process is what there is (decision 13) */
    assert_true(wait_for(OLD_BOOT, &answer));
    assert_null(answer.boot_id);
}

static void run(const char *format, ...) G_GNUC_PRINTF(1, 2);

static void run(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    g_autofree char *command = g_strdup_vprintf(format, arguments);
    va_end(arguments);
    if (!vr_child_run((const char *const[]){"sh", "-c", command, NULL}, NULL, NULL, NULL))
        fail_msg("%s", command);
}

static void new_network(gpointer data)
{
    if (unshare(CLONE_NEWNET) < 0)
        _exit(1);
}

/* The guest in a network of its own, behind a cable: who has the address 10.99.0.2 is a MAC that its XML has or has not. */
static void check_mac(const char *ip)
{
    g_autofree char *at = g_strdup_printf(strchr(ip, ':') ? "[%s]" : "%s", ip);
    VrHealthSubject subject = {.uuid = "u", .address = at};
    VrHealthSubject own = {.uuid = "u", .address = "[::1]:1"};
    g_auto(VrHealthAnswer) answer = {0};
    char mac[18];

    guest.mac = "52:54:00:0A:0B:0C";
    vr_health_probe(&hv, &profile, &subject, vr_clock_now_ms() + 3000, NULL, &answer);
    if (answer.state != VR_HEALTH_HEALTHY)
        fail_msg("%s", answer.text);
    assert_true(vr_neighbour_mac(ip, mac));
    assert_string_equal(mac, "52:54:00:0a:0b:0c");
    has_text(&answer, profile.source == VR_HEALTH_SOURCE_TCP ? "accepts connections" : "/healthy says Healthy");
    guest.mac = MAC;
    vr_health_probe(&hv, &profile, &subject, vr_clock_now_ms() + 3000, NULL, &answer);
    assert_int_equal(answer.state, profile.source == VR_HEALTH_SOURCE_TCP ? VR_HEALTH_UNHEALTHY : VR_HEALTH_UNKNOWN);
    assert_false(answer.answered);
    has_text(&answer, "is answered by 52:54:00:0a:0b:0c, which is no network card of this guest");
    assert_false(vr_neighbour_mac("10.99.0.77", mac));
    vr_health_probe(&hv, &profile, &own, vr_clock_now_ms() + 3000, NULL, &answer);
    assert_false(vr_neighbour_mac("::1", mac)); /* the kernel has an entry for it, with a MAC of zeros */
    assert_false(vr_neighbour_mac("127.0.0.1", mac));
    assert_false(vr_neighbour_mac("nonsense", mac));
}

static gboolean skipped;

static void test_other_machine(void **state) /* E3, invariant 26, decision 13 */
{
    if (unshare(CLONE_NEWNET) < 0) {
        print_message("SKIP: no network of its own for this test: %s\n", g_strerror(errno));
        skipped = TRUE;
        skip();
    }
    stop_server();
    start_server("::", new_network);
    setup(state);
    run("ip link set lo up");
    run("ip link add vr0 type veth peer name vr1 netns %d", (int)server.pid);
    run("ip addr add 10.99.0.1/24 dev vr0 && ip addr add fd99::1/64 dev vr0 nodad && ip link set vr0 up");
    run("nsenter -t %d -n sh -c 'ip link set vr1 address 52:54:00:0a:0b:0c && ip addr add 10.99.0.2/24 dev vr1 && "
        "ip addr add fd99::2/64 dev vr1 nodad && ip link set vr1 up'",
        (int)server.pid);
    profile.port = server.http;
    profile.source = VR_HEALTH_SOURCE_TCP;
    check_mac("10.99.0.2");
    profile.source = VR_HEALTH_SOURCE_HTTP;
    check_mac("10.99.0.2");
    check_mac("fd99::2");
}

/* --- the wait ---------------------------------------------------------------------------------------- */

static void test_wait(void **state) /* E3 */
{
    g_auto(VrHealthAnswer) answer = {0};
    gint64 begun_ms = vr_clock_now_ms();

    profile.request_path = (char *)"/flap?wait,3"; /* 503, 503, Healthy */
    assert_true(wait_for(NULL, &answer));
    assert_in_range(vr_clock_now_ms() - begun_ms, 590, 1500);
    profile.request_path = (char *)"/status?503";
    profile.timeout_ms = 1000;
    begun_ms = vr_clock_now_ms();
    assert_false(wait_for(NULL, &answer));
    assert_in_range(vr_clock_now_ms() - begun_ms, 990, 2500);
    assert_int_equal(answer.state, VR_HEALTH_UNKNOWN);
    has_text(&answer, "not healthy within 1.0 s: http://127.0.0.1:");
    has_text(&answer, "answered 503");
}

/* A question that got lost while the guest booted does not cost the whole wait. */
static void test_hung_question(void **state)
{
    g_auto(VrHealthAnswer) answer = {0};
    gint64 begun_ms = vr_clock_now_ms();

    profile.request_path = (char *)"/after?hung";
    profile.timeout_ms = 20000;
    assert_true(wait_for(NULL, &answer));
    assert_true(vr_clock_now_ms() - begun_ms < 3000);
}

/* --- the survey -------------------------------------------------------------------------------------- */

#define MANY 100

static void test_survey(void **state) /* E3 */
{
    VrHealthSubject subjects[MANY];
    VrHealthAnswer answers[MANY] = {0};
    gint64 begun_ms = vr_clock_now_ms(), took_ms;
    g_autofree char *silent = g_strdup_printf("127.0.0.1:%u", server.silent);

    for (guint i = 0; i < MANY; i++)
        subjects[i] = (VrHealthSubject){.uuid = "u", .address = i % 2 ? silent : address};
    vr_health_survey(&hv, &profile, subjects, MANY, 1500, 1, NULL, answers);
    took_ms = vr_clock_now_ms() - begun_ms;
    for (guint i = 0; i < MANY; i++) {
        assert_int_equal(answers[i].state, i % 2 ? VR_HEALTH_UNKNOWN : VR_HEALTH_HEALTHY);
        vr_health_answer_clear(&answers[i]);
    }
    print_message("%d guests, half of which hang for 1.5 s: %" G_GINT64_FORMAT " ms\n", MANY, took_ms);
    assert_true(took_ms < 6000);
}

/* Agents that hang do not take the time of those that wait in line behind them. */
static void test_survey_of_hung_agents(void **state)
{
    VrHealthSubject subjects[MANY];
    VrHealthAnswer answers[MANY] = {0};

    profile.source = VR_HEALTH_SOURCE_AGENT_FILE;
    profile.file = (char *)"/run/health.json";
    guest.boot_id = NEW_BOOT;
    for (guint i = 0; i < MANY; i++)
        subjects[i] = (VrHealthSubject){.uuid = i < MANY / 2 ? HUNG : "u"};
    vr_health_survey(&hv, &profile, subjects, MANY, 400, 1, NULL, answers);
    for (guint i = 0; i < MANY; i++) {
        if ((answers[i].state == VR_HEALTH_HEALTHY) != (i >= MANY / 2))
            fail_msg("guest %u: %s", i, answers[i].text);
        vr_health_answer_clear(&answers[i]);
    }
}

/* A moment of overload does not make an instance unhealthy, where numberOfProbes says so. */
static void test_survey_again(void **state) /* E13 */
{
    VrHealthSubject subject = {.uuid = "u", .address = address};
    VrHealthAnswer answer = {0};

    profile.request_path = (char *)"/flap?survey,3";
    vr_health_survey(&hv, &profile, &subject, 1, 1000, 2, NULL, &answer);
    assert_int_equal(answer.state, VR_HEALTH_UNKNOWN);
    profile.request_path = (char *)"/flap?survey2,3";
    vr_health_survey(&hv, &profile, &subject, 1, 1000, 3, NULL, &answer);
    assert_int_equal(answer.state, VR_HEALTH_HEALTHY);
    vr_health_answer_clear(&answer);
}

static int begin(void **state)
{
    start_server("127.0.0.1", NULL);
    address = g_strdup_printf("127.0.0.1:%u", server.http);
    return 0;
}

static int finish(void **state)
{
    stop_server();
    g_free(address);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_answers, setup),
        cmocka_unit_test_setup(test_metrics_are_kept, setup),
        cmocka_unit_test_setup(test_tcp_and_https, setup),
        cmocka_unit_test_setup(test_tcp_of_this_host, setup),
        cmocka_unit_test_setup(test_off, setup),
        cmocka_unit_test_setup(test_where, setup),
        cmocka_unit_test_setup(test_no_address, setup),
        cmocka_unit_test_setup(test_restart_meanwhile, setup),
        cmocka_unit_test_setup(test_wish_of_another, setup),
        cmocka_unit_test_setup(test_boot_id, setup),
        cmocka_unit_test_setup(test_wait, setup),
        cmocka_unit_test_setup(test_hung_question, setup),
        cmocka_unit_test_setup(test_survey, setup),
        cmocka_unit_test_setup(test_survey_of_hung_agents, setup),
        cmocka_unit_test_setup(test_survey_again, setup),
        cmocka_unit_test_setup(test_other_machine, setup), /* last: it leaves this host's network */
    };
    int failed = cmocka_run_group_tests(tests, begin, finish);

    return failed == 0 && skipped ? 77 : failed;
}
