/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The pure parts of health: addresses, the body of a reply, and the state machine, as tables. Rows D14, E8, E9, E10. */
#include "orchestrator/address.h"
#include "orchestrator/health_track.h"
#include "orchestrator/rollout_text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* --- addresses --------------------------------------------------------------------------------------- */

static void test_addresses(void **state)
{
    static const struct {
        const char *text, *host;
        guint port;
    } rows[] = {
        {"web-0", "web-0", 0},
        {"web-0.lan:8080", "web-0.lan", 8080},
        {"127.0.0.1:18081", "127.0.0.1", 18081},
        {"[::1]", "::1", 0},
        {"[fd00::7]:65535", "fd00::7", 65535},
        {"a_b:1", "a_b", 1},
        {"", NULL, 0},
        {":80", NULL, 0},
        {"web-0:", NULL, 0},
        {"web-0:0", NULL, 0},
        {"web-0:080", NULL, 0},
        {"web-0:65536", NULL, 0},
        {"web-0:+1", NULL, 0},
        {"fd00::7", NULL, 0},
        {"[fd00::7", NULL, 0},
        {"[web-0]:80", NULL, 0},
        {"[fd00::7]80", NULL, 0},
        {"[fe80::1%eth0]", NULL, 0},
        {"user@web-0", NULL, 0},
        {"web-0/x", NULL, 0},
        {"web-0:80/x", NULL, 0},
        {"web 0", NULL, 0},
        {"-web", NULL, 0},
        {"web-0\n", NULL, 0},
        {"http://web-0", NULL, 0},
        {"w\xc3\xa9"
         "b",
         NULL, 0},
        {"web-0:80:80", NULL, 0},
    };

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *host = NULL;
        guint port = 0;
        const char *must = vr_address_parse(rows[i].text, &host, &port);

        if ((must == NULL) != (rows[i].host != NULL))
            fail_msg("\"%s\": %s", rows[i].text, must ? must : "accepted");
        if (must)
            continue;
        assert_string_equal(host, rows[i].host);
        assert_int_equal(port, rows[i].port);
    }
}

static void test_loopback(void **state)
{
    static const char *const local[] = {"127.0.0.1", "127.9.9.9", "::1",        "::ffff:127.0.0.1",
                                        "localhost", "LocalHost", "a.localhost"};
    static const char *const other[] = {"128.0.0.1", "10.0.0.127", "::2", "localhost.lan", "web-0"};

    for (guint i = 0; i < G_N_ELEMENTS(local); i++)
        assert_true(vr_address_is_loopback(local[i]));
    for (guint i = 0; i < G_N_ELEMENTS(other); i++)
        assert_false(vr_address_is_loopback(other[i]));
}

/* --- bodies ------------------------------------------------------------------------------------------ */

#define STATE(value) "{\"ApplicationHealthState\": " value "}"

static void test_reply_states(void **state) /* E8 E10 */
{
    static const struct {
        const char *body;
        gboolean speaks;
        VrHealthState state;
    } rows[] = {
        {STATE("\"Healthy\""), TRUE, VR_HEALTH_HEALTHY},
        {STATE("\"healthy\""), TRUE, VR_HEALTH_HEALTHY},
        {"{\"applicationhealthstate\": \"Healthy\"}", TRUE, VR_HEALTH_HEALTHY},
        {STATE("\"Unhealthy\""), TRUE, VR_HEALTH_UNHEALTHY},
        {STATE("\"Initializing\""), TRUE, VR_HEALTH_UNKNOWN},
        {STATE("\"Healthyish\""), TRUE, VR_HEALTH_UNKNOWN},
        {STATE("\"\""), TRUE, VR_HEALTH_UNKNOWN},
        {STATE("1"), TRUE, VR_HEALTH_UNKNOWN},
        {STATE("true"), TRUE, VR_HEALTH_UNKNOWN},
        {STATE("[\"Healthy\"]"), TRUE, VR_HEALTH_UNKNOWN},
        {"{\"ApplicationHealthState\": \"Healthy\"", TRUE, VR_HEALTH_UNKNOWN}, /* cut off */
        {"[{\"ApplicationHealthState\": \"Healthy\"}]", TRUE, VR_HEALTH_UNKNOWN},
        {"{\"ApplicationHealthState\": \"Healthy\", \"applicationHealthState\": \"Unhealthy\"}", TRUE,
         VR_HEALTH_UNKNOWN},
        {"{\"ApplicationHealthState\": \"Healthy\", \"ApplicationHealthState\": \"Healthy\"}", TRUE, VR_HEALTH_UNKNOWN},
        {"ok", FALSE, VR_HEALTH_UNKNOWN},
        {"{\"status\": \"UP\"}", FALSE, VR_HEALTH_UNKNOWN},
        {"", FALSE, VR_HEALTH_UNKNOWN},
    };

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_auto(VrHealthReply) reply = {0};

        if (vr_health_reply_parse(rows[i].body, strlen(rows[i].body), &reply) != rows[i].speaks ||
            reply.state != rows[i].state)
            fail_msg("%s: %s", rows[i].body, vr_health_state_name(reply.state));
    }
}

/* Bytes that are no text do not end the reading early. */
static void test_reply_bytes(void **state) /* E10 */
{
    static const char zero[] = "\0{\"ApplicationHealthState\": \"Healthy\"}";
    static const char latin[] = "{\"ApplicationHealthState\": \"Healthy\", \"x\": \"\xe9\"}";
    g_auto(VrHealthReply) reply = {0};

    assert_true(vr_health_reply_parse(zero, sizeof(zero) - 1, &reply));
    assert_int_equal(reply.state, VR_HEALTH_UNKNOWN);
    assert_true(vr_health_reply_parse(latin, sizeof(latin) - 1, &reply));
    assert_int_equal(reply.state, VR_HEALTH_UNKNOWN);
}

/* The spellings of Azure's own samples. */
static void test_reply_metrics(void **state) /* D14 E10 */
{
    static const struct {
        const char *metrics;
        int phase; /* -1: none said */
        gboolean skip;
        const char *kept;
    } rows[] = {
        {"\"{ \\\"rollingUpgrade\\\": { \\\"SkipUpgrade\\\": false, \\\"PhaseOrderingNumber\\\": 0 } }\"", 0, FALSE,
         "{\"rollingUpgrade\":{\"SkipUpgrade\":false,\"PhaseOrderingNumber\":0}}"},
        {"{\"RollingUpgrade\": {\"PhaseOrderingNumber\": 1, \"SkipUpgrade\": \"false\"}}", 1, FALSE, NULL},
        {"{\"RollingUpgrade\": {\"SkipUpgrade\": \"true\"}}", -1, TRUE, NULL},
        {"{\"rollingUpgrade\": {\"PhaseOrderingNumber\": \"7\", \"SkipUpgrade\": true}}", 7, TRUE, NULL},
        {"{\"rollingUpgrade\": {\"PhaseOrderingNumber\": -1, \"SkipUpgrade\": 1}}", -1, FALSE, NULL},
        {"{\"rollingUpgrade\": {\"PhaseOrderingNumber\": 1000001}}", -1, FALSE, NULL},
        {"{\"rollingUpgrade\": {\"PhaseOrderingNumber\": 1.5}}", -1, FALSE, NULL},
        {"{\"rollingUpgrade\": 4}", -1, FALSE, "{\"rollingUpgrade\":4}"},
        {"{\"queue\": 12}", -1, FALSE, "{\"queue\":12}"},
        {"\"some words\"", -1, FALSE, "\"some words\""},
        {"null", -1, FALSE, "null"},
    };

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *body =
            g_strdup_printf("{\"ApplicationHealthState\": \"Healthy\", \"CustomMetrics\": %s}", rows[i].metrics);
        g_auto(VrHealthReply) reply = {0};

        assert_true(vr_health_reply_parse(body, strlen(body), &reply));
        assert_int_equal(reply.state, VR_HEALTH_HEALTHY);
        if ((int)reply.wish.phase - 1 != rows[i].phase || reply.wish.skip != rows[i].skip)
            fail_msg("%s: phase %d, skip %d", rows[i].metrics, (int)reply.wish.phase - 1, reply.wish.skip);
        if (rows[i].kept)
            assert_string_equal(reply.metrics, rows[i].kept);
    }
}

/* --- the state machine ------------------------------------------------------------------------------- */

/* Answers, one a second from second 1: H, U, ? unknown, - none yet; R: the next one comes from another boot. States as letters: I, H, U, ?. */
typedef struct {
    const char *name;
    guint probes;
    guint grace_s;
    gboolean tcp;
    const char *answers, *states;
} Story;

static VrHealthState state_of(char letter)
{
    return letter == 'H'   ? VR_HEALTH_HEALTHY
           : letter == 'U' ? VR_HEALTH_UNHEALTHY
           : letter == '?' ? VR_HEALTH_UNKNOWN
                           : VR_HEALTH_INITIALIZING;
}

static void tell(const Story *story)
{
    VrHealthRule rule = {story->probes, story->grace_s * 1000, story->tcp};
    VrHealthTrack track;
    const char *expected = story->states;
    gboolean other = FALSE;
    gint64 now_ms = 5000;

    vr_health_track_begin(&track, &rule, now_ms);
    assert_int_equal(track.state, VR_HEALTH_INITIALIZING);
    for (const char *at = story->answers; *at; at++) {
        if (*at == 'R') {
            other = TRUE;
            continue;
        }
        now_ms += 1000;
        VrHealthState found = vr_health_track_answer(&track, state_of(*at), other, now_ms);
        if (found != state_of(*expected))
            fail_msg("%s: answer %d gives %s, not '%c'", story->name, (int)(at - story->answers) + 1,
                     vr_health_state_name(found), *expected);
        expected++;
        other = FALSE;
    }
    assert_int_equal(*expected, '\0');
}

static void test_track(void **state) /* E8 E9 */
{
    static const Story stories[] = {
        {"one healthy answer is enough", 1, 10, FALSE, "H", "H"},
        {"three are needed", 3, 10, FALSE, "HHH", "IIH"},
        {"the grace period does not delay Healthy", 2, 100, FALSE, "-UHH", "IIIH"},
        {"the grace period delays Unhealthy", 1, 4, FALSE, "UUUUU", "IIIUU"},
        {"the grace period delays Unknown", 1, 3, FALSE, "????", "II??"},
        {"no grace period", 1, 0, FALSE, "U", "U"},
        {"in a row means in a row", 3, 0, FALSE, "HHUHHH", "?????H"},
        {"the end of the grace period without a clear word is Unknown", 3, 3, FALSE, "HUHUHH", "II????"},
        {"for tcp it is Unhealthy", 3, 3, TRUE, "-----", "IIUUU"},
        {"no answer is Unknown after the grace period", 2, 2, FALSE, "---", "I??"},
        {"a healthy one stays so for a moment of trouble", 3, 0, FALSE, "HHHUUHHHUUU", "??HHHHHHHHU"},
        {"back to Healthy it takes as many", 2, 0, FALSE, "UUHH", "?UUH"},
        {"Unknown is not Unhealthy", 2, 0, FALSE, "UUU???", "?UUU??"},
        {"grace is for the first time only", 1, 100, FALSE, "HU", "HU"},
        {"answers of two boots are not in a row", 3, 100, FALSE, "HHRHHH", "IIIIH"},
        {"a crash loop never gets there", 2, 100, FALSE, "HRHRHRHRH", "IIIII"},
    };

    for (guint i = 0; i < G_N_ELEMENTS(stories); i++)
        tell(&stories[i]);
}

/* --- the reason of a failure ------------------------------------------------------------------------- */

/* Two guests that fail in the same way fail for the same reason (decision 9), wherever each of them was asked. */
static void test_same_reason(void **state)
{
    static const struct {
        const char *one, *other;
        gboolean same;
    } rows[] = {
        {"http://web-a.lan:8080/x: connection refused", "http://[fd00::a]/x: connection refused", TRUE},
        {"http://a/x answered 503", "http://b/y answered 503", FALSE},
        {"tcp://a:22: connection refused", "tcp://bb:23: connection refused", TRUE},
        {"http://a/x: connection refused", "http://a/x: no answer within 5.0 s", FALSE},
        {"http://", "http://a", TRUE},
    };

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        VrReasons reasons;

        vr_reasons_init(&reasons);
        if ((vr_reasons_add(&reasons, rows[i].one) == vr_reasons_add(&reasons, rows[i].other)) != rows[i].same)
            fail_msg("%s, %s", rows[i].one, rows[i].other);
        vr_reasons_clear(&reasons);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addresses),   cmocka_unit_test(test_loopback),      cmocka_unit_test(test_reply_states),
        cmocka_unit_test(test_reply_bytes), cmocka_unit_test(test_reply_metrics), cmocka_unit_test(test_track),
        cmocka_unit_test(test_same_reason),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
