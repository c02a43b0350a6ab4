/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/health_net.h"

#include "base/clock.h"
#include "base/error.h"
#include "orchestrator/address.h"
#include "orchestrator/certificate.h"
#include "orchestrator/url.h"

#include <curl/curl.h>
#include <errno.h>
#include <string.h>

#define MAX_AT_ONCE 256
#define POLL_MS 200
#define SHOWN_MAX 120 /* characters of a foreign text that a message repeats */

typedef struct {
    const VrNetRequest *request;
    VrNetReply *reply;
    CURL *easy;
    struct curl_slist *connect_to, *headers;
    gsize header_bytes;
    gboolean enough;
    gboolean too_large;
    char why[CURL_ERROR_SIZE];
} Transfer;

void vr_net_reply_clear(VrNetReply *reply)
{
    g_clear_pointer(&reply->body, g_byte_array_unref);
    g_clear_pointer(&reply->peer, g_free);
    g_clear_pointer(&reply->asked, g_free);
    g_clear_pointer(&reply->text, g_free);
    g_clear_pointer(&reply->chain, g_ptr_array_unref);
    reply->answered = reply->from_host = reply->refused = FALSE;
    reply->status = 0;
}

/* --- one transfer ------------------------------------------------------------------------------------ */

static size_t take_body(char *data, size_t size, size_t count, void *user_data)
{
    Transfer *transfer = user_data;

    if (transfer->request->amount != VR_NET_WHOLE) {
        transfer->enough = TRUE;
        return CURL_WRITEFUNC_ERROR;
    }
    if (count > VR_NET_MAX_ANSWER - transfer->reply->body->len) {
        transfer->too_large = TRUE;
        return CURL_WRITEFUNC_ERROR;
    }
    g_byte_array_append(transfer->reply->body, (const guint8 *)data, (guint)count);
    return count;
}

static size_t take_header(char *data, size_t size, size_t count, void *user_data)
{
    Transfer *transfer = user_data;

    transfer->header_bytes += count;
    transfer->too_large = transfer->header_bytes > VR_NET_MAX_ANSWER;
    return transfer->too_large ? CURL_WRITEFUNC_ERROR : count;
}

static const char *scheme_of(const VrNetRequest *request)
{
    static const char *const schemes[] = {[VR_NET_HTTP] = "http", [VR_NET_HTTPS] = "https", [VR_NET_TCP] = "tcp"};

    return schemes[request->protocol];
}

static char *authority(const char *host, guint port)
{
    return g_strdup_printf(strchr(host, ':') ? "[%s]:%u" : "%s:%u", host, port);
}

/* The name of the certificate is asked for at the address of the guest. */
static char *url_of(Transfer *transfer)
{
    const VrNetRequest *request = transfer->request;
    gboolean tcp = request->protocol == VR_NET_TCP;
    g_autofree char *at = authority(request->host, request->port);
    g_autofree char *name = request->server_name ? authority(request->server_name, request->port) : NULL;
    g_autofree char *map = name ? g_strdup_printf("::%s", at) : NULL;

    transfer->reply->asked = g_strconcat(scheme_of(request), "://", at, tcp ? NULL : request->path, NULL);
    if (map) {
        transfer->connect_to = curl_slist_append(NULL, map);
        curl_easy_setopt(transfer->easy, CURLOPT_CONNECT_TO, transfer->connect_to);
    }
    return g_strconcat(tcp ? "http" : scheme_of(request), "://", name ? name : at, tcp ? "/" : request->path, NULL);
}

static void set_bounds(Transfer *transfer)
{
    CURL *easy = transfer->easy;

    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)MAX(transfer->request->timeout_ms, 1));
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)MAX(transfer->request->timeout_ms, 1));
    if (transfer->request->amount == VR_NET_WHOLE)
        curl_easy_setopt(easy, CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)VR_NET_MAX_ANSWER);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L); /* a resolver that hangs is left behind, not waited for */
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, transfer->request->protocol == VR_NET_HTTPS ? "https" : "http");
    curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
    curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, 1L);
    curl_easy_setopt(easy, CURLOPT_HTTP09_ALLOWED, 0L);
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
}

static void set_tls(const Transfer *transfer)
{
    curl_easy_setopt(transfer->easy, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(transfer->easy, CURLOPT_SSL_VERIFYHOST, 2L);
    curl_easy_setopt(transfer->easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(transfer->easy, CURLOPT_CERTINFO, transfer->request->wants_chain ? 1L : 0L);
    if (transfer->request->ca_file) {
        curl_easy_setopt(transfer->easy, CURLOPT_CAINFO, transfer->request->ca_file);
        curl_easy_setopt(transfer->easy, CURLOPT_CAPATH, NULL); /* these and no others */
    }
}

static void set_method(Transfer *transfer)
{
    const char *const *headers = transfer->request->headers;

    curl_easy_setopt(transfer->easy, CURLOPT_NOBODY, transfer->request->amount == VR_NET_HEAD ? 1L : 0L);
    for (; headers != NULL && *headers != NULL; headers++)
        transfer->headers = curl_slist_append(transfer->headers, *headers);
    curl_easy_setopt(transfer->easy, CURLOPT_HTTPHEADER, transfer->headers);
}

static void begin(Transfer *transfer, CURLM *multi)
{
    g_autofree char *url = NULL;

    vr_net_reply_clear(transfer->reply);
    transfer->reply->body = g_byte_array_new();
    transfer->easy = curl_easy_init();
    g_assert(transfer->easy); /* as with GLib, no memory is the end */
    url = url_of(transfer);
    set_bounds(transfer);
    if (transfer->request->protocol == VR_NET_HTTPS)
        set_tls(transfer);
    if (transfer->request->protocol == VR_NET_TCP)
        curl_easy_setopt(transfer->easy, CURLOPT_CONNECT_ONLY, 1L);
    else
        set_method(transfer);
    curl_easy_setopt(transfer->easy, CURLOPT_URL, url);
    curl_easy_setopt(transfer->easy, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(transfer->easy, CURLOPT_USERAGENT, "virt-reimage/" VR_VERSION);
    curl_easy_setopt(transfer->easy, CURLOPT_ERRORBUFFER, transfer->why);
    curl_easy_setopt(transfer->easy, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(transfer->easy, CURLOPT_WRITEDATA, transfer);
    curl_easy_setopt(transfer->easy, CURLOPT_HEADERFUNCTION, take_header);
    curl_easy_setopt(transfer->easy, CURLOPT_HEADERDATA, transfer);
    curl_easy_setopt(transfer->easy, CURLOPT_PRIVATE, transfer);
    curl_multi_add_handle(multi, transfer->easy);
}

/* --- what came --------------------------------------------------------------------------------------- */

static char *shown(const char *text)
{
    g_autofree char *all = vr_printable(text, (gssize)strnlen(text, SHOWN_MAX));

    return g_strconcat(all, strlen(text) > SHOWN_MAX ? "..." : NULL, NULL);
}

static char *status_text(const Transfer *transfer)
{
    const char *to = NULL;
    g_autofree char *where = NULL;

    curl_easy_getinfo(transfer->easy, CURLINFO_REDIRECT_URL, &to);
    if (!to)
        return g_strdup_printf("answered %d", transfer->reply->status);
    g_autofree char *public = vr_url_shown(to);
    where = shown(public);
    return g_strdup_printf("answered %d, a redirect to %s, which is not followed", transfer->reply->status, where);
}

static char *timeout_text(const Transfer *transfer)
{
    g_autofree char *limit = vr_clock_format_duration(transfer->request->timeout_ms);
    double connected = 0, resolved = 0;

    curl_easy_getinfo(transfer->easy, CURLINFO_CONNECT_TIME, &connected);
    curl_easy_getinfo(transfer->easy, CURLINFO_NAMELOOKUP_TIME, &resolved);
    if (transfer->header_bytes > 0)
        return g_strdup_printf("the answer was not complete within %s", limit);
    return g_strdup_printf("%s within %s",
                           connected > 0                                 ? "no answer"
                           : resolved == 0                               ? "the name did not resolve"
                           : transfer->request->protocol == VR_NET_HTTPS ? "no TLS connection"
                                                                         : "no connection",
                           limit);
}

static char *connect_text(const Transfer *transfer)
{
    long number = 0;

    curl_easy_getinfo(transfer->easy, CURLINFO_OS_ERRNO, &number);
    return number == ECONNREFUSED ? g_strdup("connection refused")
                                  : g_strdup_printf("no connection: %s", number ? g_strerror((int)number) : "unknown");
}

static char *failure_text(const Transfer *transfer, CURLcode code)
{
    g_autofree char *why = shown(transfer->why[0] ? transfer->why : curl_easy_strerror(code));

    if (transfer->too_large || code == CURLE_FILESIZE_EXCEEDED)
        return g_strdup_printf("the answer is larger than %d KiB", VR_NET_MAX_ANSWER / 1024);
    switch (code) {
    case CURLE_OPERATION_TIMEDOUT:
        return timeout_text(transfer);
    case CURLE_COULDNT_CONNECT:
        return connect_text(transfer);
    case CURLE_COULDNT_RESOLVE_HOST:
        return g_strdup("the name does not resolve");
    case CURLE_GOT_NOTHING:
        return g_strdup("the connection was closed without an answer");
    case CURLE_PARTIAL_FILE:
        return g_strdup("the answer ended before its end");
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_WEIRD_SERVER_REPLY:
        return g_strdup("the answer is not HTTP");
    case CURLE_SSL_CACERT_BADFILE:
        return g_strdup_printf("the CA file %s cannot be used", transfer->request->ca_file);
    case CURLE_PEER_FAILED_VERIFICATION:
        return g_strdup_printf("its certificate is refused: %s", why);
    case CURLE_SSL_CONNECT_ERROR:
        return g_strdup_printf("no TLS: %s", why);
    default:
        return g_steal_pointer(&why);
    }
}

/* From an address of its own this host reaches itself at the same address, or in 127.0.0.0/8. */
static gboolean is_this_host(const Transfer *transfer, const char *peer)
{
    const char *own = NULL;

    curl_easy_getinfo(transfer->easy, CURLINFO_LOCAL_IP, &own);
    return g_strcmp0(own, peer) == 0 || vr_address_is_loopback(peer);
}

/* NULL: there are none, or one is not as it should be. */
static GPtrArray *read_chain(const Transfer *transfer)
{
    struct curl_certinfo *info = NULL;
    g_autoptr(GString) pem = g_string_new(NULL);

    curl_easy_getinfo(transfer->easy, CURLINFO_CERTINFO, &info);
    for (int i = 0; info != NULL && i < info->num_of_certs; i++) {
        for (const struct curl_slist *line = info->certinfo[i]; line != NULL; line = line->next) {
            if (g_str_has_prefix(line->data, "Cert:"))
                g_string_append_printf(pem, "%s\n", line->data + strlen("Cert:"));
        }
    }
    return vr_certificates_parse(pem->str, NULL);
}

static void read_result(const Transfer *transfer, CURLcode came)
{
    CURLcode code = transfer->enough ? CURLE_OK : came;
    VrNetReply *reply = transfer->reply;
    const char *peer = NULL;
    long status = 0;

    if (transfer->request->wants_chain)
        reply->chain = read_chain(transfer);
    reply->refused = code == CURLE_PEER_FAILED_VERIFICATION;
    curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(transfer->easy, CURLINFO_PRIMARY_IP, &peer);
    reply->status = (int)status;
    reply->answered = code == CURLE_OK || status > 0;
    if (reply->answered && peer && *peer) {
        reply->peer = g_strdup(peer);
        reply->from_host = is_this_host(transfer, peer);
    }
    if (code != CURLE_OK || transfer->request->protocol == VR_NET_TCP)
        g_clear_pointer(&reply->body, g_byte_array_unref);
    if (code != CURLE_OK)
        reply->text = failure_text(transfer, code);
    else
        reply->text =
            transfer->request->protocol == VR_NET_TCP ? g_strdup("accepts connections") : status_text(transfer);
}

static void end(Transfer *transfer, CURLM *multi)
{
    curl_multi_remove_handle(multi, transfer->easy);
    curl_easy_cleanup(transfer->easy);
    curl_slist_free_all(transfer->connect_to);
    curl_slist_free_all(transfer->headers);
    transfer->easy = NULL;
}

/* --- all of them ------------------------------------------------------------------------------------- */

/* How many have ended. */
static guint end_done(CURLM *multi)
{
    CURLMsg *message;
    guint ended = 0;
    int left;

    while ((message = curl_multi_info_read(multi, &left))) {
        CURLcode code = message->data.result;
        Transfer *transfer;

        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &transfer);
        read_result(transfer, code);
        end(transfer, multi);
        ended++;
    }
    return ended;
}

static void give_up(Transfer *transfer, CURLM *multi)
{
    if (transfer->easy)
        end(transfer, multi);
    if (transfer->reply->text)
        return;
    g_clear_pointer(&transfer->reply->body, g_byte_array_unref);
    transfer->reply->text = g_strdup("the question was called off");
}

static void run(CURLM *multi, Transfer *transfers, guint count, const gint *aborted)
{
    guint begun = 0, ended = 0;
    int running;

    while (ended < count && !(aborted && g_atomic_int_get(aborted))) {
        while (begun < count && begun - ended < MAX_AT_ONCE)
            begin(&transfers[begun++], multi);
        if (curl_multi_perform(multi, &running) != CURLM_OK)
            break;
        ended += end_done(multi);
        if (running > 0 && (begun == count || begun - ended == MAX_AT_ONCE))
            curl_multi_poll(multi, NULL, 0, POLL_MS, NULL);
    }
}

static gpointer init_once(gpointer data)
{
    return GINT_TO_POINTER(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK);
}

void vr_net_ask(const VrNetRequest *requests, guint count, const gint *aborted, VrNetReply *replies)
{
    static GOnce once = G_ONCE_INIT;
    g_autofree Transfer *transfers = g_new0(Transfer, count);
    CURLM *multi;

    g_once(&once, init_once, NULL);
    multi = curl_multi_init();
    g_assert(multi);
    for (guint i = 0; i < count; i++) {
        vr_net_reply_clear(&replies[i]);
        transfers[i].request = &requests[i];
        transfers[i].reply = &replies[i];
    }
    run(multi, transfers, count, aborted);
    for (guint i = 0; i < count; i++)
        give_up(&transfers[i], multi);
    curl_multi_cleanup(multi);
}
