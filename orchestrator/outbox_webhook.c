/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The webhook: each notice is posted as JSON to one URL, which takes it by a status of 200 to 299. https, or http to this host itself: over another
 * network anybody on the way could read it, and answer.
 *
 * No redirect is followed and nothing of an answer but its status is read, so no server can send us elsewhere or fill anything. With a secret,
 * X-Virt-Reimage-Signature is the HMAC-SHA256 of the body; the secret stays in this process. What the URL has after the host may be a
 * secret too, so no message shows it.
 */
#include "orchestrator/outbox_private.h"

#include "base/error.h"
#include "orchestrator/address.h"
#include "orchestrator/host_file.h"
#include "orchestrator/url.h"

#include <curl/curl.h>
#include <string.h>

#define POST_MS 10000
#define SECRET_MAX 4096
#define HEADERS_MAX (64 * 1024)

typedef struct {
    CURL *easy;
    struct curl_slist *headers;
    char *shown; /* of the URL, for messages */
    gsize header_bytes;
    gboolean answered; /* its headers are complete */
    char why[CURL_ERROR_SIZE];
} Post;

static void post_clear(Post *post)
{
    curl_easy_cleanup(post->easy);
    curl_slist_free_all(post->headers);
    g_free(post->shown);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Post, post_clear)

/* --- what is asked ----------------------------------------------------------------------------------- */

static gboolean check_url(const char *text, Post *post, GError **error)
{
    g_auto(VrUrl) url = {0};
    const char *must = vr_url_parse(text, &url);

    if (!must && url.protocol == VR_NET_HTTP && !vr_address_is_loopback(url.host))
        must = "must begin with https://: http only reaches this host itself";
    if (must) {
        g_set_error(error, VR_ERROR, VR_ERROR_FAILED, "webhook %s", must);
        return FALSE;
    }
    post->shown = g_strdup_printf(strchr(url.host, ':') ? "%s://[%s]:%u" : "%s://%s:%u",
                                  url.protocol == VR_NET_HTTPS ? "https" : "http", url.host, url.port);
    return TRUE;
}

static void add_header(Post *post, const char *name, const char *value)
{
    g_autofree char *line = g_strdup_printf("%s: %s", name, value);

    post->headers = curl_slist_append(post->headers, line);
}

/* Without the end of its last line, which editors write. */
static gboolean sign(Post *post, const char *path, const char *body, GError **error)
{
    VrPayload secret = {0};
    g_autofree char *hex = NULL, *value = NULL;
    g_autoptr(GError) local = NULL;
    guint mode = 0;
    gsize length;

    if (!vr_host_file_read(path, SECRET_MAX, &secret, &mode, &local)) {
        g_set_error(error, VR_ERROR, VR_ERROR_FAILED, "%s", local->message); /* it may be there soon */
        return FALSE;
    }
    for (length = secret.length; length > 0 && strchr("\r\n", secret.data[length - 1]); length--)
        continue;
    if (mode & 0077) {
        g_set_error(error, VR_ERROR, VR_ERROR_FAILED, "others can read or write %s", path);
        vr_error_next(error, "'chmod 0600 %s'", path);
    } else if (length == 0) {
        g_set_error(error, VR_ERROR, VR_ERROR_FAILED, "%s is empty", path);
        vr_error_next(error, "put the key of the signature there");
    } else {
        hex = g_compute_hmac_for_string(G_CHECKSUM_SHA256, secret.data, length, body, -1);
    }
    vr_payload_clear(&secret);
    if (!hex)
        return FALSE;
    value = g_strconcat("sha256=", hex, NULL);
    add_header(post, "X-Virt-Reimage-Signature", value);
    return TRUE;
}

static gboolean set_headers(Post *post, const VrConfig *config, const VrOutboxNotice *notice, GError **error)
{
    add_header(post, "Content-Type", "application/json");
    add_header(post, "Expect", ""); /* no round trip before the body */
    add_header(post, "X-Virt-Reimage-Event", vr_outbox_kind_name(notice->kind));
    add_header(post, "X-Virt-Reimage-Id", notice->id);
    return !config->webhook_secret_file || sign(post, config->webhook_secret_file, notice->body, error);
}

/* --- what comes -------------------------------------------------------------------------------------- */

/* The status is known by now, and nothing else is wanted. */
static size_t take_body(char *data, size_t size, size_t count, void *user_data)
{
    Post *post = user_data;

    post->answered = TRUE;
    return CURL_WRITEFUNC_ERROR;
}

static size_t take_header(char *data, size_t size, size_t count, void *user_data)
{
    Post *post = user_data;

    post->header_bytes += count;
    return post->header_bytes > HEADERS_MAX ? CURL_WRITEFUNC_ERROR : count;
}

/* What says that this notice is at fault, and not the time or the place. */
static gboolean is_final(long status)
{
    return status == 400 || status == 413 || status == 415 || status == 422;
}

static gboolean judge(const Post *post, CURLcode code, GError **error)
{
    g_autofree char *why = vr_printable(post->why[0] ? post->why : curl_easy_strerror(code), -1);
    long status = 0;

    curl_easy_getinfo(post->easy, CURLINFO_RESPONSE_CODE, &status);
    if (code != CURLE_OK && !post->answered) {
        if (post->header_bytes > HEADERS_MAX)
            g_set_error(error, VR_ERROR, VR_ERROR_FAILED, "%s: its answer has more than %d KiB of headers", post->shown,
                        HEADERS_MAX / 1024);
        else
            g_set_error(error, VR_ERROR, VR_ERROR_FAILED, "%s: %s", post->shown, why);
        return FALSE;
    }
    if (status >= 200 && status <= 299)
        return TRUE;
    g_set_error(error, VR_ERROR, is_final(status) ? VR_ERROR_REFUSED : VR_ERROR_FAILED, "%s answered %ld%s",
                post->shown, status, status >= 300 && status <= 399 ? ", a redirect, which is not followed" : "");
    return FALSE;
}

/* --- one of them ------------------------------------------------------------------------------------- */

static void set_bounds(CURL *easy)
{
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)POST_MS);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)POST_MS);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_HTTP09_ALLOWED, 0L);
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
    curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "virt-reimage/" VR_VERSION);
}

static void set_up(Post *post, const VrConfig *config, const char *body)
{
    CURL *easy = post->easy;

    set_bounds(easy);
    if (config->webhook_ca_file) {
        curl_easy_setopt(easy, CURLOPT_CAINFO, config->webhook_ca_file);
        curl_easy_setopt(easy, CURLOPT_CAPATH, NULL); /* these and no others */
    }
    curl_easy_setopt(easy, CURLOPT_URL, config->webhook);
    curl_easy_setopt(easy, CURLOPT_POST, 1L);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(body));
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, post->headers);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, post->why);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, post);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, take_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, post);
}

static gpointer init_once(gpointer data)
{
    return GINT_TO_POINTER(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK);
}

gboolean vr_outbox_check_webhook(const VrChannel *channel, GError **error)
{
    const char *secret = channel->config->webhook_secret_file;
    g_auto(Post) post = {0};

    vr_leave_no_core(); /* the key is in memory from here on */
    return check_url(channel->config->webhook, &post, error) && (!secret || sign(&post, secret, "", error));
}

gboolean vr_outbox_send_webhook(const VrChannel *channel, const VrOutboxNotice *notice, GError **error)
{
    static GOnce once = G_ONCE_INIT;
    g_auto(Post) post = {0};

    g_once(&once, init_once, NULL);
    vr_leave_no_core();
    if (!check_url(channel->config->webhook, &post, error) || !set_headers(&post, channel->config, notice, error))
        return FALSE;
    post.easy = curl_easy_init();
    g_assert(post.easy); /* as with GLib, no memory is the end */
    set_up(&post, channel->config, notice->body);
    return judge(&post, curl_easy_perform(post.easy), error);
}
