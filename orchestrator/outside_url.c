/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/outside_private.h"

#include "base/clock.h"
#include "base/error.h"
#include "disk/small_file.h"
#include "orchestrator/certificate.h"
#include "orchestrator/expiry.h"
#include "orchestrator/url.h"

#include <string.h>

#define ASK_MS 10000
#define HEADERS_MAX (16 * 1024) /* bytes of a file of headers */
#define HTTP_ANY_GOOD 299

/* One URL that is looked at. */
typedef struct {
    VrThing *thing;
    VrUrl url;
    char *shown;    /* as messages may have it */
    char **headers; /* NULL: none */
} Question;

static void question_free(Question *question)
{
    vr_url_clear(&question->url);
    g_free(question->shown);
    g_strfreev(question->headers);
    g_free(question);
}

/* --- what is asked ----------------------------------------------------------------------------------- */

static gboolean wrong_file(VrOutsideLook *look, const VrThing *thing, char *text)
{
    vr_outside_found(look, thing, "outside-file", text, "correct the file; nothing of it is shown here");
    return FALSE;
}

/* "Name: value", without what would end the line or the request. */
static gboolean is_header(const char *line)
{
    gsize name = strspn(line, G_CSET_A_2_Z G_CSET_a_2_z G_CSET_DIGITS "-_");

    if (name == 0 || line[name] != ':')
        return FALSE;
    for (const char *at = line + name; *at; at++) {
        if (!g_ascii_isprint(*at) && *at != '\t')
            return FALSE;
    }
    return TRUE;
}

static gboolean read_headers(VrOutsideLook *look, Question *question, GError **error)
{
    const VrThing *thing = question->thing;
    const char *path = thing->resource->headers_file;
    g_autofree char *text = path ? vr_small_file_open(path, HEADERS_MAX, error) : NULL;
    g_autoptr(GStrvBuilder) headers = g_strv_builder_new();
    g_auto(GStrv) lines = text ? g_strsplit(text, "\n", -1) : NULL;
    gint64 until_us;

    if (!text)
        return path == NULL;
    for (char **line = lines; *line; line++) {
        if (*g_strchomp(*line) == '\0')
            continue;
        if (!is_header(*line))
            return wrong_file(
                look, thing,
                g_strdup_printf("line %d of %s is no header (Name: value)", (int)(line - lines) + 1, path));
        g_strv_builder_add(headers, *line);
    }
    question->headers = g_strv_builder_end(headers);
    g_autofree char *what = g_strdup_printf("the token in %s", path);
    return !vr_expiry_of_token(text, &until_us) || vr_outside_lasts(look, thing, what, until_us);
}

static gboolean read_url(VrOutsideLook *look, Question *question, GError **error)
{
    const VrModelResource *resource = question->thing->resource;
    g_autofree char *text =
        resource->url ? g_strdup(resource->url) : vr_small_file_open(resource->url_file, VR_URL_MAX + 1, error);
    const char *must;
    gint64 until_us;

    if (!text)
        return FALSE;
    must = vr_url_parse(g_strstrip(text), &question->url);
    if (!must && resource->url_file && question->url.protocol != VR_NET_HTTPS)
        must = "must begin with https://: over http anybody on the way could read it";
    if (must)
        return wrong_file(
            look, question->thing,
            g_strdup_printf("what is in %s %s", resource->url_file ? resource->url_file : "the model", must));
    question->shown = vr_url_shown(text);
    g_autofree char *what = g_strdup_printf("the signature of %s", question->shown);
    return !question->url.query || !vr_expiry_of_query(question->url.query, &until_us) ||
           vr_outside_lasts(look, question->thing, what, until_us);
}

/* NULL, with a finding: it need not be asked any more. */
static Question *prepare(VrOutsideLook *look, VrThing *thing)
{
    Question *question = g_new0(Question, 1);
    g_autoptr(GError) local = NULL;

    question->thing = thing;
    if (read_url(look, question, &local) && read_headers(look, question, &local))
        return question;
    if (local)
        vr_outside_found(look, thing, "outside-file", g_strdup(local->message),
                         "put it there so that this program can read it, or correct the model");
    question_free(question);
    return NULL;
}

/* --- what came --------------------------------------------------------------------------------------- */

static const char *remedy_of(int status)
{
    if (status == 401 || status == 403)
        return "renew what gives access to it (its signature, token or permission), or correct the model";
    if (status >= 300 && status < 400)
        return "name the address that it has now: redirects are not followed";
    if (status >= 500)
        return "see why its server cannot answer, and begin again";
    return "put there what is missing, or correct the model";
}

static void judge_status(VrOutsideLook *look, const Question *question, int status, const char *said)
{
    guint expect = question->thing->resource->expect;
    guint least = expect > 0 ? expect : 200, most = expect > 0 ? expect : HTTP_ANY_GOOD;

    if (status >= (int)least && status <= (int)most)
        return;
    g_autofree char *wanted = expect > 0 ? g_strdup_printf("%u", expect) : g_strdup("200 to 299");
    vr_outside_found(look, question->thing, "outside-url",
                     g_strdup_printf("%s %s, where %s is expected", question->shown, said, wanted), remedy_of(status));
}

/* FALSE, with a finding. *first_us: when the first of them ends. */
static gboolean judge_chain(VrOutsideLook *look, const Question *question, const GPtrArray *chain, gint64 *first_us)
{
    *first_us = G_MAXINT64;
    for (guint i = 0; chain && i < chain->len; i++) {
        const VrCertificate *one = chain->pdata[i];
        g_autofree char *what = g_strdup_printf("the certificate of '%s', which %s shows,", one->name, question->shown);
        g_autofree char *from = vr_clock_format(one->from_us);

        *first_us = MIN(*first_us, one->until_us);
        if (one->from_us > look->now_us) {
            vr_outside_found(look, question->thing, "outside-expires",
                             g_strdup_printf("%s is not valid before %s", what, from),
                             "have its server show another one; see that the clock of this host is right");
            return FALSE;
        }
        if (!vr_outside_lasts(look, question->thing, what, one->until_us))
            return FALSE;
    }
    return TRUE;
}

static void judge(VrOutsideLook *look, const Question *question, const VrNetReply *reply)
{
    gint64 first_us;

    if (!judge_chain(look, question, reply->chain, &first_us))
        return;
    if (!reply->body) {
        vr_outside_found(look, question->thing, "outside-url", g_strdup_printf("%s: %s", question->shown, reply->text),
                         reply->refused ? "renew the certificate of its server, or name in caFile who has signed it"
                                        : "see that this host reaches it, or correct the model");
        return;
    }
    question->thing->until_us = first_us;
    judge_status(look, question, reply->status, reply->text);
}

static void ask_host(VrOutsideLook *look, GPtrArray *questions)
{
    g_autofree VrNetRequest *requests = g_new0(VrNetRequest, questions->len);
    g_autofree VrNetReply *replies = g_new0(VrNetReply, questions->len);

    for (guint i = 0; i < questions->len; i++) {
        const Question *one = questions->pdata[i];
        const VrModelResource *resource = one->thing->resource;
        requests[i] = (VrNetRequest){.protocol = one->url.protocol,
                                     .host = one->url.host,
                                     .port = one->url.port,
                                     .path = one->url.path,
                                     .ca_file = resource->ca_file,
                                     .timeout_ms = look->question->ask_ms > 0 ? look->question->ask_ms : ASK_MS,
                                     .amount = resource->get ? VR_NET_STATUS : VR_NET_HEAD,
                                     .headers = (const char *const *)one->headers,
                                     .wants_chain = TRUE};
    }
    vr_net_ask(requests, questions->len, look->question->aborted, replies);
    for (guint i = 0; i < questions->len; i++) {
        judge(look, questions->pdata[i], &replies[i]);
        vr_net_reply_clear(&replies[i]);
    }
}

/* --- from within a guest ----------------------------------------------------------------------------- */

static void cannot_ask(VrOutsideLook *look, const Question *question, char *why)
{
    vr_outside_found(look, question->thing, "outside-url", why, "see to the guest, or have the host ask (from: host)");
}

static void ask_from_guest(VrOutsideLook *look, const Question *question)
{
    const VrOutsideQuestion *asked = look->question;
    g_autoptr(GError) local = NULL;
    int status = 0;

    if (!asked->guest_uuid)
        cannot_ask(
            look, question,
            g_strdup_printf("%s: no guest of the first batch runs from which it could be asked for", question->shown));
    else if (!vr_outside_ask_guest(asked->hv, asked->guest_uuid, question->thing->resource->url,
                                   question->thing->resource->get, asked->aborted, &status, &local))
        cannot_ask(look, question,
                   g_strdup_printf("%s, asked for in '%s': %s", question->shown, asked->guest_name, local->message));
    else {
        g_autofree char *said = g_strdup_printf("answered %d to '%s'", status, asked->guest_name);
        judge_status(look, question, status, said);
    }
}

/* Between two batches only what was not asked yet, or said a time that is too short by now. */
static gboolean is_due(const VrOutsideLook *look, const VrThing *thing)
{
    return !look->question->border || thing->until_us < vr_outside_due_us(look, thing);
}

void vr_outside_look_at_urls(VrOutsideLook *look)
{
    g_autoptr(GPtrArray) questions = g_ptr_array_new_with_free_func((GDestroyNotify)question_free);

    for (guint i = 0; i < look->outside->things->len; i++) {
        VrThing *thing = look->outside->things->pdata[i];
        Question *question = thing->kind == VR_THING_URL ? prepare(look, thing) : NULL;

        if (question && thing->resource->from_guest && look->question->hv)
            ask_from_guest(look, question);
        if (question && !thing->resource->from_guest && is_due(look, thing))
            g_ptr_array_add(questions, question);
        else if (question)
            question_free(question);
    }
    ask_host(look, questions);
}
