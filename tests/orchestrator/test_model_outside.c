/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* externalResources of a model: what is taken, what is refused, and that no message repeats a secret. Row C5. */
#include "orchestrator/model_text.h"

#include "orchestrator/model_outside.h"

#define LIST(item) "externalResources: [" item "]"
#define AT(path) "3: externalResources[0]" path ": "
#define HTTPS "url: \"https://shop.example/app.tar\""

static void test_accepted(void **state) /* C5 */
{
    static const struct {
        const char *item, *text;
    } rows[] = {
        {"{" HTTPS "}", "url https://shop.example/app.tar"},
        {"{url: \"HTTP://[::1]:8080\", from: guest}", "url HTTP://[::1]:8080 from guest"},
        {"{url: \"http://mirror?arch=amd64\", method: get, expect: 302}", "url http://mirror?... by GET answers 302"},
        {"{url: {file: /etc/sas}, headers: {file: /etc/bearer}, caFile: /etc/ca.pem, validFor: PT0S}",
         "url in /etc/sas with /etc/bearer signed by /etc/ca.pem for 0 ms"},
        {"{file: /srv/app.tar}", "file /srv/app.tar"},
        {"{certificate: /etc/tls.pem, validFor: P2D}", "certificate /etc/tls.pem for 2 d 00 h"},
        {"{token: {file: /etc/join}}", "token /etc/join"},
        {"{token: {expiresAt: \"2026-12-31T23:59:59+01:00\"}}", "token until 2026-12-31T22:59:59.000Z"},
        {"{token: {file: /t, expiresAt: \"2026-12-31T23:59:59Z\"}}, {file: /f}",
         "token /t until 2026-12-31T23:59:59.000Z, file /f"},
    };

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *section = g_strconcat("externalResources: [", rows[i].item, "]", NULL);
        g_autoptr(VrModel) model = parse_with(section);
        g_autofree char *text = vr_model_outside_text(model->outside);

        assert_string_equal(text, rows[i].text);
    }
    g_autoptr(VrModel) none = parse_with("externalResources: []");
    assert_null(vr_model_outside_text(none->outside));
    assert_int_equal(none->outside->len, 0);
}

static void test_refused(void **state) /* C5 */
{
    static const Refusal rows[] = {
        {"externalResources: {file: /f}", "3: externalResources: must be a list of at most 256 resources"},
        {LIST("{}"), AT("") "must have one of url, file, certificate and token"},
        {LIST("{file: /f, certificate: /c}"), AT("") "must have one of url, file, certificate and token"},
        {LIST("{url: [a]}"), AT(".url") "must be a URL, or {file: PATH}"},
        {LIST("{url: {}}"), AT("") "file is missing in url"},
        {LIST("{url: {path: /f}}"), AT(".url.path") "unknown key"},
        {LIST("{url: \"ftp://h/\"}"), AT(".url") "must begin with https:// or http://"},
        {LIST("{url: \"https:///x\"}"), AT(".url") "must have HOST"},
        {LIST("{url: \"https://h/a b\"}"), AT(".url") "must be a URL as a request has it"},
        {LIST("{url: \"https://h/a#b\"}"), AT(".url") "must be a URL as a request has it"},
        {LIST("{url: \"https://h:0/\"}"), AT(".url") "must have HOST"},
        {LIST("{url: \"https://me:secret@h/\"}"), AT(".url") "must not hold a user or a password"},
        {LIST("{url: \"https://h/?sig=secret\"}"), AT(".url") "must not hold a signature"},
        {LIST("{url: \"https://h/?se=1&sig=secret\"}"), AT(".url") "must not hold a signature"},
        {LIST("{" HTTPS ", method: PUT}"), AT(".method") "\"PUT\" is not HEAD or GET"},
        {LIST("{" HTTPS ", expect: 100}"), AT(".expect") "100 is out of range (200 to 599)"},
        {LIST("{" HTTPS ", headers: {}}"), AT("") "file is missing in headers"},
        {LIST("{" HTTPS ", headers: {file: h}}"), AT(".headers.file") "\"h\" must be an absolute path"},
        {LIST("{url: \"http://h/\", headers: {file: /h}}"), AT("") "headers go with https"},
        {LIST("{" HTTPS ", validFor: P31D}"), AT(".validFor") "P31D is out of range (PT0S to P30D)"},
        {LIST("{file: /f, expect: 200}"), AT("") "expect goes with url"},
        {LIST("{file: /f, from: guest}"), AT("") "from goes with url"},
        {LIST("{certificate: /f, caFile: /c}"), AT("") "caFile goes with url"},
        {LIST("{file: /f, validFor: PT1H}"), AT("") "validFor does not go with a file"},
        {LIST("{file: app.tar}"), AT(".file") "\"app.tar\" must be an absolute path"},
        {LIST("{token: {}}"), AT("") "token must have a file, expiresAt or both"},
        {LIST("{token: {expiresAt: \"2026-12-31T23:59:59\"}}"), AT(".token.expiresAt") "must be a time with its zone"},
        {LIST("{token: {expiresAt: \"2026-13-31T23:59:59Z\"}}"), AT(".token.expiresAt") "must be a time with its zone"},
        {LIST("{" HTTPS ", from: guest, headers: {file: /h}}"), AT("") "headers does not go with from: guest"},
        {LIST("{" HTTPS ", from: guest, caFile: /h}"), AT("") "caFile does not go with from: guest"},
        {LIST("{url: {file: /u}, from: guest}"), AT("") "from: guest needs a url that stands here"},
        {LIST("{url: \"https://h/?a=b\", from: guest}"), AT("") "from: guest needs a url that stands here"},
    };

    refused_each(rows, G_N_ELEMENTS(rows));
}

/* What may be a secret is not in the words that refuse it. */
static void test_nothing_is_repeated(void **state) /* C5 */
{
    static const char *const sections[] = {
        LIST("{url: \"https://me:s3cret@h/\"}"), LIST("{url: \"https://h/?sig=s3cret\"}"),
        LIST("{url: \"https://h/?sig=s3cret x\"}"), LIST("{url: \"s3cret://\"}"), LIST("{token: {expiresAt: s3cret}}")};

    for (guint i = 0; i < G_N_ELEMENTS(sections); i++) {
        g_autofree char *text = g_strconcat(HEAD, sections[i], "\n", TAIL, NULL);
        g_autoptr(GError) error = NULL;

        assert_null(read_text(text, &error));
        if (strstr(error->message, "s3cret"))
            fail_msg("it is told: %s", error->message);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accepted),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_nothing_is_repeated),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
