/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* healthProfile of a set file: one source a set, and the keys that go with it (E2, E3, E5, E9). */
#include "orchestrator/model_text.h"

#undef HEAD
#undef TAIL
#define HEAD "name: lab\nimageReference: {name: debian-12}\nhealthProfile:\n"
#define TAIL "\ninstances:\n- {domain: lab-0}\n"
#define KEYS "lab.yaml:4: healthProfile.applicationHealth"

static char *document(const char *health, const char *instances)
{
    return g_strconcat(HEAD "  applicationHealth: {", health, "}", instances, NULL);
}

static VrModel *accepted(const char *health, const char *instances)
{
    g_autofree char *text = document(health, instances);

    return parse(text);
}

static void refused_health(const char *health, const char *instances, const char *message)
{
    g_autofree char *text = document(health, instances);

    refused(text, message);
}

static void test_network_sources(void **state) /* E3 */
{
    g_autoptr(VrModel) http = accepted("protocol: http, requestPath: /health", TAIL);
    g_autoptr(VrModel) https = accepted(
        "protocol: HTTPS, requestPath: \"/h?x=%20y\", caFile: /etc/shop/ca.pem, serverName: shop.example", TAIL);
    g_autoptr(VrModel) tcp = accepted("protocol: tcp, port: 22, numberOfProbes: 2, gracePeriod: PT2M", TAIL);

    assert_int_equal(http->health.source, VR_HEALTH_SOURCE_HTTP);
    assert_int_equal(http->health.port, 80);
    assert_string_equal(http->health.request_path, "/health");
    assert_int_equal(http->health.interval_ms, 5000); /* E9 */
    assert_int_equal(https->health.source, VR_HEALTH_SOURCE_HTTPS);
    assert_int_equal(https->health.port, 443);
    assert_string_equal(https->health.request_path, "/h?x=%20y");
    assert_string_equal(https->health.ca_file, "/etc/shop/ca.pem");
    assert_string_equal(https->health.server_name, "shop.example");
    assert_int_equal(tcp->health.source, VR_HEALTH_SOURCE_TCP);
    assert_int_equal(tcp->health.port, 22);
    assert_int_equal(tcp->health.number_of_probes, 2);
    assert_int_equal(tcp->health.grace_period_ms, 120000);
}

static void test_addresses(void **state) /* E3 */
{
    g_autoptr(VrModel) model = accepted("protocol: http, port: 8080, requestPath: /",
                                        "\ninstances:\n- {domain: a, address: \"127.0.0.1:18081\"}\n- {domain: b}\n");

    assert_string_equal(((VrModelInstance *)model->instances->pdata[0])->address, "127.0.0.1:18081");
    assert_null(((VrModelInstance *)model->instances->pdata[1])->address);
    refused_health(
        "protocol: http, requestPath: /", "\ninstances:\n- {domain: a, address: \"http://a/\"}\n",
        "lab.yaml:6: instances[0].address: \"http://a/\" must be HOST or HOST:PORT, an IPv6 address in brackets");
    refused_health(
        "protocol: tcp, port: 22", "\ninstances:\n- {domain: b}\n- {domain: a, address: \"127.0.0.1:2201\"}\n",
        "lab.yaml:7: instances: 127.0.0.1:2201 is this host: tcp would hear the forward's handshake, not the "
        "guest's; use http or agent");
}

static void test_keys_of_a_source(void **state) /* E5 */
{
    static const struct {
        const char *health, *message;
    } rows[] = {
        {"port: 80", KEYS ": protocol is missing"},
        {"protocol: ftp", KEYS ".protocol: \"ftp\" is not agent, http, https or tcp"},
        {"protocol: http", KEYS ": requestPath is missing"},
        {"protocol: tcp", KEYS ": port is missing"},
        {"protocol: tcp, port: 22, requestPath: /", KEYS ".requestPath: does not go with tcp"},
        {"protocol: http, requestPath: /, command: [/bin/true]", KEYS ".command: does not go with this protocol"},
        {"protocol: http, requestPath: /, file: /run/h", KEYS ".file: does not go with this protocol"},
        {"protocol: http, requestPath: /, caFile: /ca", KEYS ".caFile: does not go with this protocol"},
        {"protocol: tcp, port: 1, serverName: a", KEYS ".serverName: does not go with this protocol"},
        {"protocol: agent, file: /run/h, port: 80", KEYS ".port: does not go with this protocol"},
        {"protocol: agent, file: /run/h, requestPath: /", KEYS ".requestPath: does not go with this protocol"},
        {"protocol: agent, file: /run/h, command: [/bin/true]", KEYS ": must have one of command and file"},
        {"protocol: http, port: 0, requestPath: /", KEYS ".port: 0 is out of range (1 to 65535)"},
        {"protocol: http, port: 65536, requestPath: /", KEYS ".port: 65536 is out of range (1 to 65535)"},
        {"protocol: http, requestPath: health", KEYS ".requestPath: \"health\" must begin with a slash"},
        {"protocol: http, requestPath: \"/a b\"", KEYS ".requestPath: \"/a b\" must be a path as a request has it"},
        {"protocol: http, requestPath: \"/a\\r\\nX: y\"", KEYS ".requestPath: \"/a"},
        {"protocol: http, requestPath: \"/a#b\"", KEYS ".requestPath: \"/a#b\" must be"},
        {"protocol: https, requestPath: /, caFile: ca.pem", KEYS ".caFile: \"ca.pem\" must be an absolute path"},
        {"protocol: https, requestPath: /, serverName: \"a:1\"", KEYS ".serverName: \"a:1\" must be the name"},
    };

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++)
        refused_health(rows[i].health, TAIL, rows[i].message);
}

static void test_start_timeout(void **state) /* E2: only where set */
{
    g_autoptr(VrModel) without = accepted("protocol: agent, file: /run/h", TAIL);
    g_autoptr(VrModel) with = accepted("protocol: agent, file: /run/h", "\n  startTimeout: PT30M" TAIL);

    assert_int_equal(without->health.start_timeout_ms, 0);
    assert_int_equal(with->health.start_timeout_ms, 1800000);
    assert_int_equal(with->health.timeout_ms, 300000);
    refused_health("protocol: agent, file: /run/h", "\n  startTimeout: P2D" TAIL,
                   "lab.yaml:5: healthProfile.startTimeout: P2D is out of range (PT1S to P1D)");
}

/* Looks that do not fit into healthTimeout: every guest would fail, and nothing would say why. */
static void test_probes_fit_into_the_timeout(void **state) /* E1 E9 */
{
    const char *most = "protocol: agent, file: /run/h, intervalInSeconds: 60, numberOfProbes: 6";
    g_autoptr(VrModel) fits = accepted("protocol: agent, file: /run/h, intervalInSeconds: 60, numberOfProbes: 5", TAIL);
    g_autoptr(VrModel) longer = accepted(most, "\n  healthTimeout: PT301S" TAIL);

    assert_int_equal(fits->health.number_of_probes, 5);
    assert_int_equal(longer->health.number_of_probes, 6);
    refused_health(most, TAIL,
                   KEYS ".numberOfProbes: 6 looks, 60 s apart, do not fit into healthTimeout (5 min 00 s): no instance "
                        "could become healthy");
    refused_health("protocol: agent, file: /run/h, numberOfProbes: 3", "\n  healthTimeout: PT10S" TAIL,
                   KEYS ".numberOfProbes: 3 looks, 5 s apart, do not fit into healthTimeout (10.0 s)");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_network_sources),
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_keys_of_a_source),
        cmocka_unit_test(test_start_timeout),
        cmocka_unit_test(test_probes_fit_into_the_timeout),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
