/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Questions over http, https and tcp to real servers on loopback, most of which mean no good. Row E3. */
#include "orchestrator/health_net.h"

#include "base/child.h"
#include "base/clock.h"
#include "orchestrator/health_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <cmocka.h>

#define PATIENCE_MS 700

/* A port on which nobody listens: bound, so that nobody else will. */
static guint closed_port(int *fd)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(address);

    *fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(*fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(getsockname(*fd, (struct sockaddr *)&address, &length), 0);
    return ntohs(address.sin_port);
}

static void ask(const VrNetRequest *request, VrNetReply *reply)
{
    gint64 begun_ms = vr_clock_now_ms();

    vr_net_ask(request, 1, NULL, reply);
    /* It ends; how soon is the machine's matter. */
    assert_true(vr_clock_now_ms() - begun_ms < request->timeout_ms + 10000);
    assert_non_null(reply->asked);
    assert_non_null(reply->text);
}

static void expect(const VrNetReply *reply, const char *what, int status, const char *text)
{
    if (reply->status != status || strstr(reply->text, text) == NULL || strchr(reply->text, '\n') != NULL)
        fail_msg("%s: status %d, \"%s\" instead of %d, \"%s\"", what, reply->status, reply->text, status, text);
}

/* --- answers ----------------------------------------------------------------------------------------- */

static void test_answers(void **state) /* E3 */
{
    static const struct {
        const char *path;
        int status;
        gssize body; /* -1: none is handed out */
        const char *text;
    } rows[] = {
        {"/plain", 200, 3, "answered 200"},
        {"/a/../plain", 200, 9, "answered 200"}, /* the path as the model has it */
        {"/empty", 204, 0, "answered 204"},
        {"/full", 200, VR_NET_MAX_ANSWER, "answered 200"},
        {"/status?503", 503, 108, "answered 503"},
        {"/over", 200, -1, "the answer is larger than 64 KiB"},
        {"/huge", 200, -1, "the answer is larger than 64 KiB"},
        {"/endless", 200, -1, "the answer is larger than 64 KiB"},
        {"/endless-chunks", 200, -1, "the answer is larger than 64 KiB"},
        {"/endless-headers", 200, -1, "the answer is larger than 64 KiB"},
        {"/endless-interim", 102, -1, "the answer is larger than 64 KiB"},
        {"/hang", 0, -1, "no answer within 700 ms"},
        {"/drip", 200, -1, "the answer was not complete within 700 ms"},
        {"/drip-headers", 200, -1, "the answer was not complete within 700 ms"},
        {"/cut", 200, -1, "the answer ended before its end"},
        {"/close", 0, -1, "the connection was closed without an answer"},
        {"/garbage", 0, -1, "the answer is not HTTP"},
        {"/old", 0, -1, "the answer is not HTTP"},
        {"/redirect?http://10.1.2.3/x", 302, 108, "a redirect to http://10.1.2.3/x, which is not followed"},
        {"/redirect?file:///etc/passwd", 302, 108, "a redirect to file:///etc/passwd, which is not followed"},
    };

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        VrNetRequest request = {VR_NET_HTTP, "127.0.0.1", server.http, rows[i].path, NULL, NULL, PATIENCE_MS};
        g_auto(VrNetReply) reply = {0};
        g_autofree char *asked = g_strdup_printf("http://127.0.0.1:%u%s", server.http, rows[i].path);

        ask(&request, &reply);
        expect(&reply, rows[i].path, rows[i].status, rows[i].text);
        assert_string_equal(reply.asked, asked);
        assert_int_equal(reply.answered, rows[i].status > 0);
        if (rows[i].body != (reply.body ? (gssize)reply.body->len : -1))
            fail_msg("%s: body of %d bytes", rows[i].path, reply.body ? (int)reply.body->len : -1);
        if (reply.answered)
            assert_string_equal(reply.peer, "127.0.0.1");
    }
}

/* Servers that cannot be reached. */
static void test_unreachable(void **state) /* E3 */
{
    int fd;
    guint closed = closed_port(&fd);
    const struct {
        VrNetRequest request;
        const char *text;
    } rows[] = {
        {{VR_NET_HTTP, "127.0.0.1", closed, "/", NULL, NULL, PATIENCE_MS}, "connection refused"},
        {{VR_NET_TCP, "127.0.0.1", closed, NULL, NULL, NULL, PATIENCE_MS}, "connection refused"},
        {{VR_NET_HTTPS, "127.0.0.1", closed, "/", NULL, NULL, PATIENCE_MS}, "connection refused"},
        {{VR_NET_HTTP, "no-such-guest.invalid", 80, "/", NULL, NULL, PATIENCE_MS}, "the name d"},
        {{VR_NET_HTTP, "127.0.0.1", server.silent, "/", NULL, NULL, PATIENCE_MS}, "no answer within 700 ms"},
        {{VR_NET_HTTPS, "127.0.0.1", server.silent, "/", NULL, NULL, PATIENCE_MS}, "within 700 ms"},
    };

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_auto(VrNetReply) reply = {0};

        ask(&rows[i].request, &reply);
        assert_false(reply.answered);
        assert_null(reply.peer);
        assert_null(reply.body);
        expect(&reply, reply.asked, 0, rows[i].text);
    }
    close(fd);
}

static void test_tcp(void **state) /* E3 */
{
    VrNetRequest request = {VR_NET_TCP, "127.0.0.1", server.silent, NULL, NULL, NULL, PATIENCE_MS};
    g_auto(VrNetReply) reply = {0};

    ask(&request, &reply);
    assert_true(reply.answered);
    assert_string_equal(reply.peer, "127.0.0.1");
    expect(&reply, "tcp", 0, "accepts connections");
    assert_true(g_str_has_prefix(reply.asked, "tcp://127.0.0.1:"));
}

/* --- TLS --------------------------------------------------------------------------------------------- */

static void test_tls(void **state) /* E3 */
{
    g_autofree char *none = g_build_filename(server.dir, "none.pem", NULL);
    const struct {
        guint port;
        const char *path, *ca_file, *name;
        int status;
        const char *text;
    } rows[] = {
        {server.https, "/plain", server.ca_file, "shop.example", 200, "answered 200"},
        {server.https, "/redirect?http://127.0.0.1/", server.ca_file, "shop.example", 302, "which is not followed"},
        {server.https, "/plain", server.ca_file, "other.example", 0, "its certificate is refused"},
        {server.https, "/plain", server.ca_file, NULL, 0, "its certificate is refused"}, /* it names no address */
        {server.https, "/plain", NULL, "shop.example", 0, "its certificate is refused"}, /* signed by nobody we know */
        {server.https, "/plain", none, "shop.example", 0, "the CA file"},
        {server.http, "/plain", server.ca_file, "shop.example", 0, "no TLS"},
    };

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        VrNetRequest request = {VR_NET_HTTPS,    "127.0.0.1",  rows[i].port, rows[i].path,
                                rows[i].ca_file, rows[i].name, 5000};
        g_auto(VrNetReply) reply = {0};

        ask(&request, &reply);
        expect(&reply, rows[i].text, rows[i].status, rows[i].text);
    }
}

/* Plain HTTP asked of a TLS port is no HTTP. */
static void test_http_of_tls(void **state)
{
    VrNetRequest request = {VR_NET_HTTP, "127.0.0.1", server.https, "/plain", NULL, NULL, PATIENCE_MS};
    g_auto(VrNetReply) reply = {0};

    ask(&request, &reply);
    assert_int_equal(reply.status, 0);
    assert_null(reply.body);
}

/* --- how it is asked --------------------------------------------------------------------------------- */

static void test_environment(void **state)
{
    VrNetRequest request = {VR_NET_HTTP, "127.0.0.1", server.http, "/plain", NULL, NULL, PATIENCE_MS};
    g_auto(VrNetReply) reply = {0};

    g_setenv("http_proxy", "http://127.0.0.1:9/", TRUE);
    g_setenv("ALL_PROXY", "socks5://127.0.0.1:9/", TRUE);
    ask(&request, &reply);
    g_unsetenv("http_proxy");
    g_unsetenv("ALL_PROXY");
    expect(&reply, "with a proxy in the environment", 200, "answered 200");
}

#define MANY 300

/* Three hundred at once from one thread: a third hang, and cost the time of one; the others are answered meanwhile. */
static void test_many(void **state) /* E3 */
{
    static const char *const paths[] = {"/healthy", "/hang", "/drip"};
    VrNetRequest requests[MANY];
    VrNetReply replies[MANY] = {0};
    gint64 begun_ms = vr_clock_now_ms(), took_ms;
    struct rusage before, after;

    for (guint i = 0; i < MANY; i++)
        requests[i] =
            (VrNetRequest){VR_NET_HTTP, "127.0.0.1", server.http, paths[i % 3], NULL, NULL, i % 3 ? 3000 : 30000};
    getrusage(RUSAGE_THREAD, &before);
    vr_net_ask(requests, MANY, NULL, replies);
    getrusage(RUSAGE_THREAD, &after);
    took_ms = vr_clock_now_ms() - begun_ms;
    for (guint i = 0; i < MANY; i++) {
        expect(&replies[i], paths[i % 3], i % 3 == 1 ? 0 : 200, i % 3 == 0 ? "answered 200" : "within 3.0 s");
        vr_net_reply_clear(&replies[i]);
    }
    print_message("%d requests, two thirds of which hang for 3 s: %" G_GINT64_FORMAT " ms, %ld ms of CPU\n", MANY,
                  took_ms,
                  (after.ru_utime.tv_sec - before.ru_utime.tv_sec) * 1000 +
                      (after.ru_utime.tv_usec - before.ru_utime.tv_usec) / 1000);
    assert_true(took_ms < 12000);
}

static void *abort_soon(void *data)
{
    g_usleep(300 * 1000);
    g_atomic_int_set((gint *)data, 1);
    return NULL;
}

static void test_aborted(void **state)
{
    VrNetRequest requests[] = {{VR_NET_HTTP, "127.0.0.1", server.http, "/hang", NULL, NULL, 60000},
                               {VR_NET_HTTP, "127.0.0.1", server.http, "/plain", NULL, NULL, 60000}};
    VrNetReply replies[2] = {0};
    gint aborted = 0;
    gint64 begun_ms = vr_clock_now_ms();
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, abort_soon, &aborted), 0);
    vr_net_ask(requests, 2, &aborted, replies);
    assert_true(vr_clock_now_ms() - begun_ms < 2000);
    expect(&replies[0], "hang", 0, "called off");
    expect(&replies[1], "plain", 200, "answered 200");
    vr_net_ask(requests, 2, &aborted, replies); /* before it began */
    expect(&replies[1], "plain", 0, "called off");
    pthread_join(thread, NULL);
    for (guint i = 0; i < 2; i++)
        vr_net_reply_clear(&replies[i]);
}

static void test_none(void **state)
{
    vr_net_ask(NULL, 0, NULL, NULL);
}

static gboolean skipped;

/* A name server that takes questions and never answers; only for this thread and those that it starts. */
static int deaf_name_server(void)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(53), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    g_autofree char *conf = g_build_filename(server.dir, "resolv.conf", NULL);
    int fd;

    if (unshare(CLONE_NEWNET | CLONE_NEWNS) < 0)
        return -1;
    assert_true(g_file_set_contents(conf, "nameserver 127.0.0.1\n", -1, NULL));
    assert_int_equal(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
    assert_int_equal(mount(conf, "/etc/resolv.conf", NULL, MS_BIND, NULL), 0);
    g_unlink(conf);
    assert_true(vr_child_run((const char *const[]){"ip", "link", "set", "lo", "up", NULL}, NULL, NULL, NULL));
    fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

/* The C library asks for ten seconds and more; we go on after our own time. */
static void test_hung_resolver(void **state)
{
    VrNetRequest request = {VR_NET_HTTP, "slow.example", 80, "/", NULL, NULL, PATIENCE_MS};
    g_auto(VrNetReply) reply = {0};
    int fd = deaf_name_server();

    if (fd < 0) {
        print_message("SKIP: no network of its own for this test: %s\n", g_strerror(errno));
        skipped = TRUE;
        skip();
    }
    ask(&request, &reply);
    expect(&reply, "a name server that does not answer", 0, "the name did not resolve within 700 ms");
    close(fd);
}

static int setup(void **state)
{
    start_server("127.0.0.1", NULL);
    return 0;
}

static int teardown(void **state)
{
    stop_server();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers),       cmocka_unit_test(test_unreachable), cmocka_unit_test(test_tcp),
        cmocka_unit_test(test_tls),           cmocka_unit_test(test_http_of_tls), cmocka_unit_test(test_environment),
        cmocka_unit_test(test_many),          cmocka_unit_test(test_aborted),     cmocka_unit_test(test_none),
        cmocka_unit_test(test_hung_resolver), /* last: it leaves this host's network */
    };
    int failed = cmocka_run_group_tests(tests, setup, teardown);

    return failed == 0 && skipped ? 77 : failed;
}
