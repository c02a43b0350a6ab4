/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/error.h"
#include "orchestrator/control.h"
#include "orchestrator/control_routes.h"

#include <curl/curl.h>
#include <jansson.h>

#define SAY_MS 10000
#define LOOK_MS 2000
#define ANSWER_MAX (1024 * 1024) /* a state document of 10,000 instances */

static size_t take(char *data, size_t size, size_t count, void *into)
{
    GString *answer = into;

    if (answer->len + size * count > ANSWER_MAX)
        return 0;
    g_string_append_len(answer, data, (gssize)(size * count));
    return size * count;
}

static gboolean not_answered(CURLcode code, const char *set_name, const char *why, GError **error)
{
    if (code == CURLE_OPERATION_TIMEDOUT) {
        g_set_error(error, VR_ERROR, VR_ERROR_TIMEOUT, "the process of the run of '%s' does not answer", set_name);
        vr_error_next(error, "'virt-reimage status %s' shows its pid", set_name);
    } else {
        g_set_error(error, VR_ERROR, VR_ERROR_DISCONNECTED, "no process listens for the run of '%s'", set_name);
        vr_error_cause(error, "%s", *why ? why : curl_easy_strerror(code));
    }
    return FALSE;
}

/* The body of the answer, whatever its status. */
static gboolean ask(int dir_fd, const char *set_name, const char *what, gboolean post, long timeout_ms, GString *answer,
                    long *status, GError **error)
{
    g_autofree char *socket = g_strdup_printf("/proc/self/fd/%d/" VR_CONTROL_SOCKET, dir_fd);
    g_autofree char *url =
        g_strdup_printf("http://localhost" VR_CONTROL_PREFIX "%s" VR_CONTROL_MIDDLE "%s", set_name, what);
    char why[CURL_ERROR_SIZE] = "";
    CURL *easy = curl_easy_init();
    CURLcode code;

    curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, socket);
    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http");
    curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, timeout_ms);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, why);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, answer);
    if (post)
        curl_easy_setopt(easy, CURLOPT_POSTFIELDS, "");
    code = curl_easy_perform(easy);
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, status);
    curl_easy_cleanup(easy);
    return code == CURLE_OK || not_answered(code, set_name, why, error);
}

static gboolean refused(const json_t *document, const char *set_name, GError **error)
{
    const char *message = json_string_value(json_object_get(json_object_get(document, "error"), "message"));
    g_autofree char *shown = vr_printable(message ? message : "an answer that cannot be read", -1);

    g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "set '%s': %s", set_name, shown);
    return FALSE;
}

gboolean vr_control_say(int dir_fd, const char *set_name, VrEventType type, guint domain, char **text, GError **error)
{
    g_autoptr(GString) answer = g_string_new(NULL);
    g_autofree char *what = NULL;
    const char *message;
    json_t *document;
    long status = 0;
    gboolean ok;

    if (type == VR_EVENT_WALK)
        what = g_strdup_printf("%s?upgradeDomain=%u", vr_control_verb(type), domain);
    else
        what = g_strconcat(vr_control_verb(type), type == VR_EVENT_CANCEL_NOW ? "?now=true" : NULL, NULL);
    if (!ask(dir_fd, set_name, what, TRUE, SAY_MS, answer, &status, error))
        return FALSE;
    document = json_loadb(answer->str, answer->len, 0, NULL);
    message = json_string_value(json_object_get(document, "message"));
    ok = (status == 200 || status == 202) && message ? TRUE : refused(document, set_name, error);
    if (ok)
        *text = vr_printable(message, -1);
    json_decref(document);
    return ok;
}

static void add_its_words(const GString *answer, GError **error)
{
    json_t *document = json_loadb(answer->str, answer->len, 0, NULL);
    const json_t *said = json_object_get(document, "error");
    const char *code = json_string_value(json_object_get(said, "code"));
    const char *message = json_string_value(json_object_get(said, "message"));
    g_autofree char *shown_code = vr_printable(code, -1), *shown = vr_printable(message, -1);

    if (code && message)
        vr_error_cause(error, "%s: %s", shown_code, shown);
    json_decref(document);
}

char *vr_control_look(int dir_fd, const char *set_name, GError **error)
{
    g_autoptr(GString) answer = g_string_new(NULL);
    long status = 0;

    if (!ask(dir_fd, set_name, VR_CONTROL_LATEST, FALSE, LOOK_MS, answer, &status, error))
        return NULL;
    if (status == 200)
        return g_string_free(g_steal_pointer(&answer), FALSE);
    g_set_error(error, VR_ERROR, VR_ERROR_DISCONNECTED, "the process of the run of '%s' answers with status %ld",
                set_name, status);
    add_its_words(answer, error);
    return NULL;
}
