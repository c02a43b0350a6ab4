/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a run needs from outside: real servers on loopback with good and bad certificates, files of every kind, tokens, and a guest that asks. Row
 * C5. Nothing that is found shows a secret: all of them here have "s3cret" in them. */
#include "orchestrator/outside.h"

#include "base/clock.h"
#include "base/error.h"
#include "orchestrator/expiry.h"
#include "orchestrator/model_text.h"
#include "orchestrator/url.h"

#include <glib/gstdio.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define ASK_MS 20000 /* where an answer comes: the machine may be slow */
#define HOUR_US ((gint64)3600 * G_USEC_PER_SEC)

static struct {
    guint http, good, expired, early, soon, other, chain;
    char *dir;
    int in;
    GPid pid;
} server;

static char *in_dir(const char *name)
{
    return g_build_filename(server.dir, name, NULL);
}

static char *write_file(const char *name, const char *text)
{
    char *path = in_dir(name);

    assert_true(g_file_set_contents(path, text, -1, NULL));
    return path;
}

/* DIR and the names of ports (HTTP, GOOD, ...) in braces are put in. */
static char *filled(const char *text)
{
    const struct {
        const char *name;
        guint port;
    } ports[] = {{"{HTTP}", server.http},   {"{GOOD}", server.good}, {"{EXPIRED}", server.expired},
                 {"{EARLY}", server.early}, {"{SOON}", server.soon}, {"{OTHER}", server.other},
                 {"{CHAIN}", server.chain}};
    g_autoptr(GString) all = g_string_new(text);

    for (guint i = 0; i < G_N_ELEMENTS(ports); i++) {
        g_autofree char *where = g_strdup_printf("127.0.0.1:%u", ports[i].port);
        g_string_replace(all, ports[i].name, where, 0);
    }
    g_string_replace(all, "{DIR}", server.dir, 0);
    return g_strdup(all->str);
}

static VrModel *model_of(const char *section)
{
    g_autofree char *text = filled(section);
    g_autofree char *whole = g_strconcat(HEAD, text, "\n", TAIL, NULL);
    g_autoptr(GError) error = NULL;
    VrModel *model = vr_model_parse(whole, strlen(whole), "lab.yaml", &error);

    if (!model)
        fail_msg("%s", error->message);
    return model;
}

static GPtrArray *look(VrOutside *outside, const VrOutsideQuestion *question)
{
    GPtrArray *findings = vr_outside_check(outside, question);

    for (guint i = 0; i < findings->len; i++) {
        const VrFinding *finding = findings->pdata[i];
        if (strstr(finding->text, "s3cret") || strstr(finding->remedy, "s3cret"))
            fail_msg("a secret is shown: %s; %s", finding->text, finding->remedy);
        assert_null(strchr(finding->text, '\n'));
    }
    return findings;
}

/* The one finding that there is, with what its text has; id NULL: there is none. */
static void expect(const char *what, const GPtrArray *findings, const char *id, const char *text)
{
    const VrFinding *finding = findings->len > 0 ? findings->pdata[0] : NULL;

    if (findings->len != (id ? 1 : 0))
        fail_msg("%s: %u findings: %s", what, findings->len, finding ? finding->text : "none");
    if (!id)
        return;
    if (strcmp(finding->id, id) != 0 || !strstr(finding->text, text))
        fail_msg("%s: \"%s\" [%s] instead of \"%s\" [%s]", what, finding->text, finding->id, text, id);
    assert_non_null(strstr(finding->remedy, "--ignore"));
}

typedef struct {
    const char *item;
    const char *id, *text;
} Row;

static void check_rows(const Row *rows, guint count, gint64 ask_ms)
{
    for (guint i = 0; i < count; i++) {
        g_autofree char *section = g_strconcat("externalResources: [", rows[i].item, "]", NULL);
        g_autoptr(VrModel) model = model_of(section);
        g_autoptr(VrOutside) outside = vr_outside_new(model);
        const VrOutsideQuestion question = {.expected_ms = -1, .ask_ms = ask_ms};
        gint64 begun_ms = vr_clock_now_ms();
        g_autoptr(GPtrArray) findings = look(outside, &question);

        expect(rows[i].item, findings, rows[i].id, rows[i].text);
        assert_true(vr_clock_now_ms() - begun_ms < ask_ms + 20000);
    }
}

/* --- over the network -------------------------------------------------------------------------------- */

#define CA ", caFile: \"{DIR}/ca.pem\"}"

static void test_answers(void **state)
{
    static const Row rows[] = {
        {"{url: \"http://{HTTP}/plain\"}", NULL, NULL},
        {"{url: \"http://{HTTP}/only?HEAD\"}", NULL, NULL},
        {"{url: \"http://{HTTP}/only?GET\", method: GET}", NULL, NULL},
        {"{url: \"http://{HTTP}/only?GET\"}", "outside-url", "externalResources[0]: http://127.0.0.1:"},
        {"{url: \"http://{HTTP}/status?403\"}", "outside-url", "answered 403, where 200 to 299 is expected"},
        {"{url: \"http://{HTTP}/status?403\", expect: 403}", NULL, NULL},
        {"{url: \"http://{HTTP}/plain\", expect: 204}", "outside-url", "answered 200, where 204 is expected"},
        {"{url: \"http://{HTTP}/status?s3cret\"}", "outside-url", "/status?...: the answer is not HTTP"},
        {"{url: \"http://{HTTP}/redirect?http://me:s3cret@10.1.2.3/x?s3cret\"}", "outside-url",
         "answered 302, a redirect to http://10.1.2.3/x?..., which is not followed, where 200 to 299"},
        /* of a body nothing is read, however large it is */
        {"{url: \"http://{HTTP}/endless\", method: GET}", NULL, NULL},
        {"{url: \"http://{HTTP}/drip\", method: GET}", NULL, NULL},
        {"{url: \"http://{HTTP}/huge\"}", NULL, NULL},
        {"{url: \"http://{HTTP}/endless-headers\"}", "outside-url", "the answer is larger than 64 KiB"},
        {"{url: \"http://{HTTP}/close\"}", "outside-url", "closed without an answer"},
        {"{url: \"http://127.0.0.1:1/\"}", "outside-url", "connection refused"},
    };

    check_rows(rows, G_N_ELEMENTS(rows), ASK_MS);
}

static void test_servers_that_hang(void **state)
{
    static const Row rows[] = {
        {"{url: \"http://{HTTP}/hang\"}", "outside-url", "no answer within 500 ms"},
        {"{url: \"http://no-such-host.invalid/\"}", "outside-url", "http://no-such-host.invalid/: the name d"},
        {"{url: \"http://{HTTP}/drip-headers\"}", "outside-url", "was not complete within 500 ms"},
        {"{url: \"http://{HTTP}/huge\", method: GET}", "outside-url", "was not complete within 500 ms"},
    };

    check_rows(rows, G_N_ELEMENTS(rows), 500);
}

/* One deadline for all of them, not one after the other. */
static void test_many_that_hang(void **state)
{
    g_autoptr(GString) section = g_string_new("externalResources:\n");
    const VrOutsideQuestion question = {.expected_ms = -1, .ask_ms = 2000};
    gint64 begun_ms;

    for (guint i = 0; i < 60; i++)
        g_string_append(section, "- {url: \"http://{HTTP}/hang\"}\n");
    g_autoptr(VrModel) model = model_of(section->str);
    g_autoptr(VrOutside) outside = vr_outside_new(model);
    begun_ms = vr_clock_now_ms();
    g_autoptr(GPtrArray) findings = look(outside, &question);
    assert_int_equal(findings->len, 60);
    assert_true(vr_clock_now_ms() - begun_ms < 20000);
}

static void test_certificates_of_servers(void **state)
{
    static const Row rows[] = {
        {"{url: \"https://{GOOD}/plain\"" CA, NULL, NULL},
        {"{url: \"https://{GOOD}/plain\"}", "outside-url", "its certificate is refused"}, /* signed by nobody we know */
        {"{url: \"https://{OTHER}/plain\"" CA, "outside-url", "its certificate is refused"},
        {"{url: \"https://{EXPIRED}/plain\"" CA, "outside-expires", "the certificate of 'expired', which https://127"},
        {"{url: \"https://{EXPIRED}/plain\"" CA, "outside-expires", "shows, expired on 20"},
        {"{url: \"https://{EARLY}/plain\"" CA, "outside-expires", "is not valid before 20"},
        {"{url: \"https://{SOON}/plain\"" CA, "outside-expires", "it must be good for 1 h 00 min"},
        {"{url: \"https://{SOON}/plain\", validFor: PT5M" CA, NULL, NULL},
        {"{url: \"https://{SOON}/plain\", validFor: PT11M" CA, "outside-expires", "it must be good for 11 min 00 s"},
        {"{url: \"https://{CHAIN}/plain\"" CA, "outside-expires", "the certificate of 'between', which"},
        {"{url: \"https://{CHAIN}/plain\", validFor: PT15M" CA, NULL, NULL},
        {"{url: \"https://{GOOD}/status?403\"" CA, "outside-url", "answered 403"},
        {"{url: \"https://{HTTP}/plain\"" CA, "outside-url", "no TLS"},
    };

    check_rows(rows, G_N_ELEMENTS(rows), ASK_MS);
    g_autoptr(VrModel) model = model_of("externalResources: [{url: \"https://{GOOD}/\", caFile: /nonexistent/ca.pem}]");
    g_autoptr(VrOutside) outside = vr_outside_new(model);
    const VrOutsideQuestion question = {.expected_ms = -1, .ask_ms = ASK_MS};
    g_autoptr(GPtrArray) findings = look(outside, &question);
    assert_int_equal(findings->len, 2); /* the file, and who needs it */
    assert_string_equal(((const VrFinding *)findings->pdata[0])->id, "outside-file");
    assert_non_null(strstr(((const VrFinding *)findings->pdata[0])->text, "externalResources[0].caFile: cannot open"));
}

static void test_secrets_in_files(void **state)
{
    static const Row rows[] = {
        {"{url: \"https://{GOOD}/secret\"" CA, "outside-url", "answered 403"},
        {"{url: \"https://{GOOD}/secret\", headers: {file: \"{DIR}/bearer\"}" CA, NULL, NULL},
        {"{url: \"https://{GOOD}/secret\", headers: {file: \"{DIR}/absent\"}" CA, "outside-file", "cannot open"},
        {"{url: \"https://{GOOD}/secret\", headers: {file: \"{DIR}/no-header\"}" CA, "outside-file", "line 2 of "},
        {"{url: \"https://{GOOD}/secret\", headers: {file: \"{DIR}/two-in-one\"}" CA, "outside-file", "line 1 of "},
        {"{url: {file: \"{DIR}/url-good\"}" CA, NULL, NULL},
        {"{url: {file: \"{DIR}/url-403\"}" CA, "outside-url", "/status?... answered 403"},
        {"{url: {file: \"{DIR}/url-old\"}" CA, "outside-expires", "the signature of https://127.0.0.1:"},
        {"{url: {file: \"{DIR}/url-http\"}}", "outside-file", "must begin with https://: over http"},
        {"{url: {file: \"{DIR}/url-user\"}}", "outside-file", "must not hold a user or a password"},
        {"{url: {file: \"{DIR}/fifo\"}}", "outside-file", "is no regular file"},
        {"{url: {file: \"{DIR}\"}}", "outside-file", "is no regular file"},
        {"{url: {file: \"{DIR}/absent\"}}", "outside-file", "No such file"},
    };
    static const struct {
        const char *name, *text;
    } files[] = {
        {"bearer", "Authorization: Bearer s3cret\r\n\n"},
        {"no-header", "X-Fine: s3cret\ns3cret and no colon\n"},
        {"two-in-one", "X-Fine: s3cret\rX-Second: s3cret\n"},
        {"url-good", "https://{GOOD}/plain?se=2099-01-01T00%3A00%3A00Z&sig=s3cret\n"},
        {"url-403", "https://{GOOD}/status?403\n"},
        {"url-old", "https://{GOOD}/plain?sig=s3cret&se=2020-01-01T00%3A00%3A00Z\n"},
        {"url-http", "http://{HTTP}/plain?sig=s3cret\n"},
        {"url-user", "https://me:s3cret@{GOOD}/plain\n"},
    };

    for (guint i = 0; i < G_N_ELEMENTS(files); i++) {
        g_autofree char *text = filled(files[i].text);
        g_free(write_file(files[i].name, text));
    }
    check_rows(rows, G_N_ELEMENTS(rows), ASK_MS);
}

/* --- files and tokens -------------------------------------------------------------------------------- */

#define JWT(exp) "eyJhbGciOiJIUzI1NiJ9." exp ".s3cret"
#define PAST "eyJleHAiOjE1MDAwMDAwMDB9"                       /* {"exp":1500000000} */
#define FUTURE "eyJzdWIiOiJzM2NyZXQiLCJleHAiOjQxMDI0NDQ4MDB9" /* {"sub":"s3cret","exp":4102444800} */

static void test_files(void **state)
{
    static const Row rows[] = {
        {"{file: /etc/passwd}", NULL, NULL},
        {"{file: \"{DIR}/absent\"}", "outside-file", "externalResources[0]: cannot open "},
        {"{file: \"{DIR}\"}", "outside-file", "is no regular file"},
        {"{file: \"{DIR}/fifo\"}", "outside-file", "is no regular file"}, /* nobody writes to it: it would hang */
        {"{file: /dev/zero}", "outside-file", "is no regular file"},
        {"{certificate: \"{DIR}/good.pem\"}", NULL, NULL},
        {"{certificate: \"{DIR}/good.pem\", validFor: P3D}", "outside-expires", "expires on 20"},
        {"{certificate: \"{DIR}/expired.pem\"}", "outside-expires", "the certificate of 'expired' in "},
        {"{certificate: \"{DIR}/expired.pem\"}", "outside-expires", "expired on 20"},
        {"{certificate: \"{DIR}/early.pem\"}", "outside-expires", "is not valid before 20"},
        {"{certificate: \"{DIR}/soon.pem\"}", "outside-expires", "it must be good for 1 h 00 min"},
        {"{certificate: \"{DIR}/soon.pem\", validFor: PT0S}", NULL, NULL},
        {"{certificate: \"{DIR}/chain.pem\"}", "outside-expires", "'between' in "}, /* each in the file */
        {"{certificate: /etc/passwd}", "outside-file", "there is no certificate in it (PEM)"},
        {"{certificate: \"{DIR}/broken.pem\"}", "outside-file", "one of its certificates cannot be read"},
        {"{certificate: \"{DIR}/fifo\"}", "outside-file", "is no regular file"},
        {"{token: {file: \"{DIR}/jwt\"}}", NULL, NULL},
        {"{token: {file: \"{DIR}/jwt-old\"}}", "outside-expires", "expired on 2017-07-14T02:40:00.000Z"},
        {"{token: {file: \"{DIR}/sas-old\"}}", "outside-expires", "expired on 2017-07-14T02:40:00.000Z"},
        {"{token: {file: \"{DIR}/opaque\"}}", "outside-expires", "does not say until when it is good"},
        {"{token: {file: \"{DIR}/opaque\", expiresAt: \"2099-01-01T00:00:00Z\"}}", NULL, NULL},
        {"{token: {expiresAt: \"2020-01-01T00:00:00Z\"}}", "outside-expires", "the token expired on 2020-01-01T00"},
        {"{token: {file: \"{DIR}/absent\", expiresAt: \"2099-01-01T00:00:00Z\"}}", "outside-file", "cannot open"},
        {"{token: {file: \"{DIR}/fifo\"}}", "outside-file", "is no regular file"},
        {"{token: {file: \"{DIR}/large\"}}", "outside-file", "is larger than"},
    };
    g_autofree char *large = g_strnfill(100000, 'a');

    g_free(write_file("jwt", JWT(FUTURE) "\n"));
    g_free(write_file("jwt-old", "Bearer " JWT(PAST)));
    g_free(write_file("sas-old", "SharedAccessSignature sr=x&sig=s3cret&se=1500000000&skn=y"));
    g_free(write_file("opaque", "s3cret"));
    g_free(write_file("broken.pem", "-----BEGIN CERTIFICATE-----\ns3cret\n-----END CERTIFICATE-----\n"));
    g_free(write_file("large", large));
    check_rows(rows, G_N_ELEMENTS(rows), ASK_MS);
}

/* What other keys of the model name. */
static void test_other_keys(void **state)
{
    static const struct {
        const char *section, *id, *text;
    } rows[] = {
        {"upgradePolicy: {gate: [/bin/true]}", NULL, NULL},
        {"upgradePolicy: {gate: [/etc/passwd]}", "outside-file", "upgradePolicy.gate: /etc/passwd cannot be run"},
        {"upgradePolicy: {gate: [/nonexistent/gate]}", "outside-file", "upgradePolicy.gate: cannot open"},
        {"healthProfile: {applicationHealth: {protocol: https, requestPath: /, caFile: \"{DIR}/ca.pem\"}}", NULL, NULL},
        {"healthProfile: {applicationHealth: {protocol: https, requestPath: /, caFile: \"{DIR}/expired.pem\"}}",
         "outside-expires", "healthProfile.applicationHealth.caFile: the last authority in "},
        {"healthProfile: {applicationHealth: {protocol: https, requestPath: /, caFile: \"{DIR}/chain.pem\"}}", NULL,
         NULL}, /* one of it is good */
        {"healthProfile: {applicationHealth: {protocol: https, requestPath: /, caFile: /etc/passwd}}", "outside-file",
         "there is no certificate in it"},
    };

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(VrModel) model = model_of(rows[i].section);
        g_autoptr(VrOutside) outside = vr_outside_new(model);
        const VrOutsideQuestion question = {.expected_ms = -1};
        g_autoptr(GPtrArray) findings = look(outside, &question);
        expect(rows[i].section, findings, rows[i].id, rows[i].text);
    }
}

static void test_added_by_others(void **state)
{
    g_autoptr(VrModel) model = model_of("");
    g_autoptr(VrOutside) outside = vr_outside_new(model);
    const char *const ignored[] = {"outside-file", NULL};
    VrOutsideQuestion question = {.expected_ms = -1};

    vr_outside_add_file(outside, "osProfile.customData", "/nonexistent/user-data");
    g_autoptr(GPtrArray) findings = look(outside, &question);
    expect("added", findings, "outside-file", "osProfile.customData: cannot open /nonexistent/user-data");
    assert_non_null(vr_preflight_blocker(findings));
    assert_int_equal(vr_outside_passed(outside)->len, 0);
    question.ignored = ignored;
    g_autoptr(GPtrArray) passed = look(outside, &question);
    expect("passed", passed, "outside-file", "osProfile.customData");
    assert_null(vr_preflight_blocker(passed));
    assert_int_equal(vr_outside_passed(outside)->len, 1);
    assert_true(g_str_has_suffix(vr_outside_passed(outside)->pdata[0], " [outside-file]"));
}

static void test_tokens(void **state)
{
    static const struct {
        const char *text;
        gint64 until_s; /* -1: none is read */
    } rows[] = {
        {JWT(PAST), 1500000000},
        {"Authorization: Bearer " JWT(PAST) "\r\n", 1500000000},
        {JWT(FUTURE) " " JWT(PAST), 1500000000},
        {JWT("eyJleHAiOjE1MDAwMDAwMDAuNX0"), 1500000000}, /* 1500000000.5 */
        {JWT("eyJleHAiOjFlMzAwfQ"), 253402300799},        /* 1e300 */
        {JWT("eyJleHAiOi0xfQ"), -1},                      /* -1 */
        {JWT("eyJleHAiOiIxNTAwMDAwMDAwIn0"), -1},         /* a text */
        {JWT("eyJleHAiOjEsImV4cCI6Mn0"), -1},             /* twice */
        {JWT("W10"), -1},                                 /* [] */
        {JWT("!!!"), -1},
        {JWT("a"), -1},
        {JWT(""), -1},
        {"a.b", -1},
        {"a.b.c.d", -1},
        {"", -1},
        {"...", -1},
        {"se=2017-07-14&sig=x", 1499990400},
        {"sv=1&se=2017-07-14T02%3A40Z", 1500000000},
        {"https://x.example/a?sv=1&se=2017-07-14T02:40:00Z&sig=x", 1500000000},
        {"se=1500000000", 1500000000},
        {"se=99999999999999999999", -1},
        {"se=tomorrow", -1},
        {"se=2017-07-14T02:40:00", -1}, /* of which zone? */
        {"use=2017-07-14&rse=1", -1},
        {"se=", -1},
        {"se=%00", -1},
    };

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        gint64 until_us = -1;
        gboolean said = vr_expiry_of_token(rows[i].text, &until_us);
        if (said != (rows[i].until_s >= 0) || (said && until_us != rows[i].until_s * G_USEC_PER_SEC))
            fail_msg("%s: %" G_GINT64_FORMAT, rows[i].text, said ? until_us : -1);
    }
}

static void test_urls_as_they_are_shown(void **state)
{
    static const struct {
        const char *text, *shown;
    } rows[] = {
        {"https://h.example:8443/a/b?sig=s3cret#x", "https://h.example:8443/a/b?..."},
        {"https://me:s3cret@h.example/a", "https://h.example/a"},
        {"https://me:s3cret@@h/a@b", "https://h/a@b"},
        {"https://me:pa?s3cret@h/", "https://...?..."},
        {"https://me:s3cret", "https://..."},
        {"/relative?s3cret", "/relative?..."},
        {"file:///etc/passwd", "file:///etc/passwd"},
        {"https://h/\n\033[2J", "https://h/??[2J"},
        {"", ""},
    };

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *shown = vr_url_shown(rows[i].text);
        assert_string_equal(shown, rows[i].shown);
    }
}

/* --- how long ---------------------------------------------------------------------------------------- */

static void test_how_long(void **state)
{
    static const struct {
        const char *section;
        gint64 expected_ms;
        const char *needed; /* NULL: two hours are enough */
    } rows[] = {
        {"", -1, NULL},
        {"", 60000, NULL}, /* an hour at least */
        {"", 3 * 3600000, "3 h 00 min"},
        {"upgradePolicy: {timeout: PT30M}\n", 3 * 3600000, NULL}, /* no longer than the run may take */
        {"upgradePolicy: {timeout: PT6H}\n", 3 * 3600000, "3 h 00 min"},
        {"healthProfile: {healthTimeout: PT3H}\n", -1, "3 h 02 min"}, /* as one batch may take */
        {"healthProfile: {healthTimeout: PT1H, startTimeout: PT1H}\n", -1, "2 h 02 min"},
    };
    g_autofree char *until = vr_clock_format(vr_clock_wall_us() + 2 * HOUR_US);
    g_autofree char *seconds = g_strndup(until, strlen("2026-11-22T10:00:00"));

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *section =
            g_strdup_printf("%sexternalResources: [{token: {expiresAt: \"%sZ\"}}]", rows[i].section, seconds);
        g_autoptr(VrModel) model = model_of(section);
        g_autoptr(VrOutside) outside = vr_outside_new(model);
        const VrOutsideQuestion question = {.expected_ms = rows[i].expected_ms};
        g_autoptr(GPtrArray) findings = look(outside, &question);
        expect(section, findings, rows[i].needed ? "outside-expires" : NULL, rows[i].needed);
    }
}

static gint64 wall_later(void *data)
{
    return g_get_real_time() + *(gint64 *)data;
}

static guint times_asked(const char *what)
{
    g_autofree char *path = in_dir("requests"), *text = NULL;
    guint count = 0;

    assert_true(g_file_get_contents(path, &text, NULL, NULL));
    for (const char *at = text; (at = strstr(at, what)); at++)
        count++;
    return count;
}

/* Between two batches: files are read again; a URL is asked again when its time becomes short. */
static void test_border(void **state)
{
    g_autoptr(VrModel) model = model_of("healthProfile: {healthTimeout: PT1M}\n"
                                        "externalResources:\n"
                                        "- {url: \"https://{SOON}/plain?border\", validFor: PT3M" CA "\n"
                                        "- {url: \"http://{HTTP}/plain?border\"}\n"
                                        "- {token: {file: \"{DIR}/border\"}, validFor: PT0S}");
    g_autoptr(VrOutside) outside = vr_outside_new(model);
    const VrOutsideQuestion before = {.expected_ms = -1, .ask_ms = ASK_MS};
    const VrOutsideQuestion border = {.border = TRUE, .ask_ms = ASK_MS};
    gint64 later_us = 0;
    const VrClockSource source = {.wall_us = wall_later, .data = &later_us};

    g_free(write_file("border", JWT(FUTURE)));
    g_autoptr(GPtrArray) first = look(outside, &before);
    expect("before", first, NULL, NULL);
    assert_int_equal(times_asked("/plain?border"), 2);
    g_autoptr(GPtrArray) second = look(outside, &border);
    expect("border", second, NULL, NULL);
    assert_int_equal(times_asked("/plain?border"), 2); /* both have time */
    g_free(write_file("border", JWT(PAST)));
    g_autoptr(GPtrArray) third = look(outside, &border);
    expect("a token that has expired", third, "outside-expires", "externalResources[2]: the token in ");
    g_free(write_file("border", JWT(FUTURE)));
    later_us = 8 * 60 * G_USEC_PER_SEC; /* of the ten minutes that it has */
    vr_clock_set_source(&source);
    g_autoptr(GPtrArray) fourth = look(outside, &border);
    vr_clock_set_source(NULL);
    expect("a server's", fourth, "outside-expires", "and the next batch may take 3 min 00 s");
    assert_int_equal(times_asked("/plain?border"), 3); /* asked again: it might have been renewed */
}

/* With all that its guests may be waited for: a token that ends within a notice is found before the notice is given. */
static void test_how_long_a_batch_may_take(void **state)
{
#define TIMES "healthProfile: {healthTimeout: PT1M}\nstop: {timeout: PT2M}\n"
#define PROFILE "scheduledEventsProfile: {osImageNotificationProfile: {notBeforeTimeout: PT30M, busyLimit: PT10M, "
#define NOTICE(rest) TIMES PROFILE rest "}}"
    static const struct {
        const char *section;
        gint64 minutes;
    } rows[] = {{TIMES, 3},
                {TIMES "extensionProfile: {extensions: [{name: a, command: [/bin/true], timeout: PT4M},"
                       " {name: b, command: [/bin/true], timeout: PT5M}]}",
                 12},
                {TIMES "osProfile: {carryOver: [machine-id]}", 47},
                {TIMES "osProfile: {carryOver: [machine-id], carryOverFrom: disk}", 27},
                {NOTICE("enable: false, busyFile: /run/busy"), 3},
                {NOTICE("enable: true"), 33},
                {NOTICE("enable: true, busyFile: /run/busy"), 43},
                {NOTICE("enable: true, busyCommand: [/bin/false]"), 43}};

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(VrModel) model = model_of(rows[i].section);
        if (vr_outside_batch_ms(model) != rows[i].minutes * 60 * 1000)
            fail_msg("%s: %" G_GINT64_FORMAT " ms", rows[i].section, vr_outside_batch_ms(model));
    }
}

/* Four guests of a batch have their appliances at a time. */
static void test_how_long_a_large_batch_may_take(void **state)
{
    static const char text[] = "schemaVersion: 1\nname: lab\nimageReference: {name: os, version: latest}\n" TIMES
                               "upgradeDomainCount: 1\nupgradePolicy: {batchBy: upgradeDomain}\n"
                               "osProfile: {carryOver: [machine-id], carryOverFrom: disk}\n"
                               "instances: [{domain: a}, {domain: b}, {domain: c}, {domain: d}, {domain: e}]\n";
    g_autoptr(VrModel) model = vr_model_parse(text, strlen(text), "lab.yaml", NULL);

    assert_non_null(model);
    assert_int_equal(vr_outside_batch_ms(model), (3 + 2 * 24) * 60 * 1000);
}

/* A run that goes on in another process has asked nobody yet. */
static void test_border_of_a_new_process(void **state)
{
    g_autoptr(VrModel) model = model_of("externalResources: [{url: \"http://{HTTP}/status?403\"}]");
    g_autoptr(VrOutside) outside = vr_outside_new(model);
    const VrOutsideQuestion border = {.border = TRUE, .ask_ms = ASK_MS};
    g_autoptr(GPtrArray) findings = look(outside, &border);

    expect("new process", findings, "outside-url", "answered 403");
}

/* --- from within a guest ----------------------------------------------------------------------------- */

static struct {
    gboolean silent;              /* no agent answers */
    const char *curl, *wget;      /* what the tool says; NULL: it is not there */
    int curl_status, wget_status; /* its exit status */
    char *asked;                  /* the last command */
    gboolean by_curl;
} guest;

static char *agent(VrHv *hv, const char *uuid, const char *command, int timeout_s, GError **error)
{
    gboolean curl = strstr(command, "\"curl\"") != NULL;
    const char *tool = curl ? guest.curl : guest.wget;

    if (guest.silent) {
        g_set_error(error, VR_ERROR, VR_ERROR_AGENT, "no agent");
        return NULL;
    }
    if (strstr(command, "guest-exec-status")) {
        const char *said = guest.by_curl ? guest.curl : guest.wget;
        g_autofree char *data = g_base64_encode((const guchar *)said, strlen(said));
        return g_strdup_printf("{\"return\": {\"exited\": true, \"exitcode\": %d, \"%s\": \"%s\"}}",
                               guest.by_curl ? guest.curl_status : guest.wget_status,
                               guest.by_curl ? "out-data" : "err-data", data);
    }
    if (!strstr(command, "guest-exec"))
        return g_strdup("{\"return\": {}}");
    if (!tool) {
        g_set_error(error, VR_ERROR, VR_ERROR_AGENT, "Failed to execute child process: No such file or directory");
        return NULL;
    }
    guest.by_curl = curl;
    g_free(guest.asked);
    guest.asked = g_strdup(command);
    return g_strdup("{\"return\": {\"pid\": 9}}");
}

static const VrHvOps ops = {.agent = agent};
static VrHv hv = {&ops};

static void ask_from_guest(const char *item, const char *uuid, const char *id, const char *text)
{
    g_autofree char *section = g_strconcat("externalResources: [", item, "]", NULL);
    g_autoptr(VrModel) model = model_of(section);
    g_autoptr(VrOutside) outside = vr_outside_new(model);
    const VrOutsideQuestion question = {.expected_ms = -1, .hv = &hv, .guest_uuid = uuid, .guest_name = "web-0"};
    const VrOutsideQuestion border = {.border = TRUE};
    g_autoptr(GPtrArray) findings = look(outside, &question);
    g_autoptr(GPtrArray) later = look(outside, &border);

    expect(section, findings, id, text);
    assert_int_equal(later->len, 0); /* no guest is asked between batches */
}

#define IN_GUEST "{url: \"http://mirror.example/x\", from: guest}"
#define BY_GET "{url: \"http://mirror.example/x\", from: guest, method: GET}"

static void test_from_guest(void **state)
{
    static const struct {
        const char *item, *curl;
        int curl_status;
        const char *wget;
        int wget_status;
        const char *id, *text;
    } rows[] = {
        {IN_GUEST, "200", 0, NULL, 0, NULL, NULL},
        {IN_GUEST, "403", 0, NULL, 0, "outside-url",
         "http://mirror.example/x answered 403 to 'web-0', where 200 to 299"},
        {IN_GUEST, "000", 7, NULL, 0, "outside-url", "asked for in 'web-0': its curl got no answer (exit status 7)"},
        {IN_GUEST, "200", 28, NULL, 0, "outside-url", "exit status 28"},
        {BY_GET, "200", 28, NULL, 0, NULL, NULL}, /* it has its status, and was reading on */
        {BY_GET, "200", 63, NULL, 0, NULL, NULL},
        {IN_GUEST, "nonsense", 0, NULL, 0, "outside-url", "its curl got no answer"},
        {IN_GUEST, NULL, 0, "  HTTP/1.1 200 OK\n", 0, NULL, NULL},
        {IN_GUEST, NULL, 0, "  HTTP/1.0 200 OK\n  Server: SimpleHTTP/0.6 Python/3.11.2\n", 0, NULL, NULL},
        {IN_GUEST, NULL, 0, "  HTTP/1.1 302 X\n  HTTP/1.1 404 Not Found\n", 8, "outside-url", "answered 404"},
        {BY_GET, NULL, 0, "  HTTP/1.1 200 OK\n", 124, NULL, NULL},
        {IN_GUEST, NULL, 0, "\nunable to resolve\033[2J\nmore details", 4, "outside-url",
         "its wget got no answer (exit status 4): unable"},
        {IN_GUEST, NULL, 0, NULL, 0, "outside-url", "no curl runs in it"},
    };

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        guest.curl = rows[i].curl;
        guest.curl_status = rows[i].curl_status;
        guest.wget = rows[i].wget;
        guest.wget_status = rows[i].wget_status;
        ask_from_guest(rows[i].item, "u", rows[i].id, rows[i].text);
    }
    ask_from_guest(IN_GUEST, NULL, "outside-url", "no guest of the first batch runs");
    guest.silent = TRUE;
    ask_from_guest(IN_GUEST, "u", "outside-url", "its guest agent does not answer");
    guest.silent = FALSE;
    g_free(guest.asked);
}

/* --- the server -------------------------------------------------------------------------------------- */

static int setup(void **state)
{
    g_autofree char *script = g_build_filename(g_getenv("VR_SOURCE_DIR"), "tests/orchestrator/outside_server.py", NULL);
    g_autofree char *fifo = NULL;
    GError *error = NULL;
    FILE *lines;
    int out;

    server.dir = g_dir_make_tmp("vr-outside-XXXXXX", NULL);
    const char *argv[] = {"/usr/bin/python3", script, server.dir, NULL};
    if (!g_spawn_async_with_pipes(NULL, (char **)argv, NULL, G_SPAWN_DO_NOT_REAP_CHILD, NULL, NULL, &server.pid,
                                  &server.in, &out, NULL, &error))
        g_error("%s", error->message);
    lines = fdopen(out, "r");
    if (fscanf(lines, "%u %u %u %u %u %u %u", &server.http, &server.good, &server.expired, &server.early, &server.soon,
               &server.other, &server.chain) != 7)
        g_error("the server does not start");
    fclose(lines);
    fifo = in_dir("fifo");
    return mkfifo(fifo, 0600);
}

static int teardown(void **state)
{
    GDir *dir = g_dir_open(server.dir, 0, NULL);
    const char *name;

    close(server.in);
    waitpid(server.pid, NULL, 0);
    while ((name = g_dir_read_name(dir))) {
        g_autofree char *path = in_dir(name);
        g_unlink(path);
    }
    g_dir_close(dir);
    g_rmdir(server.dir);
    g_free(server.dir);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_servers_that_hang),
        cmocka_unit_test(test_many_that_hang),
        cmocka_unit_test(test_certificates_of_servers),
        cmocka_unit_test(test_secrets_in_files),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_other_keys),
        cmocka_unit_test(test_added_by_others),
        cmocka_unit_test(test_tokens),
        cmocka_unit_test(test_urls_as_they_are_shown),
        cmocka_unit_test(test_how_long),
        cmocka_unit_test(test_border),
        cmocka_unit_test(test_how_long_a_batch_may_take),
        cmocka_unit_test(test_how_long_a_large_batch_may_take),
        cmocka_unit_test(test_border_of_a_new_process),
        cmocka_unit_test(test_from_guest),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
