/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/url.h"

#include "base/error.h"
#include "orchestrator/address.h"

#include <string.h>

void vr_url_clear(VrUrl *url)
{
    g_clear_pointer(&url->host, g_free);
    g_clear_pointer(&url->path, g_free);
    url->query = NULL;
}

/* It becomes part of a request line as it is. */
static gboolean is_plain(const char *text)
{
    gsize length = strlen(text);

    for (gsize i = 0; i < length; i++) {
        if (!g_ascii_isgraph(text[i]) || text[i] == '#')
            return FALSE;
    }
    return length <= VR_URL_MAX;
}

static const char *authority_of(const char *text, VrNetProtocol *protocol)
{
    static const char *const schemes[] = {[VR_NET_HTTP] = "http://", [VR_NET_HTTPS] = "https://"};

    for (guint i = 0; i < G_N_ELEMENTS(schemes); i++) {
        *protocol = i;
        if (g_ascii_strncasecmp(text, schemes[i], strlen(schemes[i])) == 0)
            return text + strlen(schemes[i]);
    }
    return NULL;
}

const char *vr_url_parse(const char *text, VrUrl *url)
{
    g_auto(VrUrl) found = {0};
    const char *authority = authority_of(text, &found.protocol);
    g_autofree char *address = NULL;

    if (authority == NULL)
        return "must begin with https:// or http://";
    if (!is_plain(text))
        return "must be a URL as a request has it, of at most 8 KiB: other characters are written %XX, and it has no #";
    address = g_strndup(authority, strcspn(authority, "/?"));
    if (strchr(address, '@') != NULL)
        return "must not hold a user or a password: they go into a file that headers names";
    if (vr_address_parse(address, &found.host, &found.port) != NULL)
        return "must have HOST, HOST:PORT or [IPv6]:PORT after the //";
    if (found.port == 0)
        found.port = found.protocol == VR_NET_HTTPS ? 443 : 80;
    authority += strlen(address);
    found.path = g_strconcat(*authority == '/' ? "" : "/", authority, NULL);
    if (strchr(found.path, '?') != NULL)
        found.query = strchr(found.path, '?') + 1;
    if (url != NULL) {
        *url = found;
        found = (VrUrl){0};
    }
    return NULL;
}

/* What comes before the path is shown when it is an address and nothing else. */
static char *shown_authority(const char *text)
{
    const char *user_end = strrchr(text, '@');
    const char *address = user_end != NULL ? user_end + 1 : text;

    return g_strdup(*text == '\0' || vr_address_parse(address, NULL, NULL) == NULL ? address : "...");
}

char *vr_url_shown(const char *text)
{
    gsize length = strcspn(text, "?#");
    g_autofree char *cut = g_strndup(text, length);
    const char *begin = strstr(cut, "://");
    g_autoptr(GString) shown = g_string_new(NULL);

    if (begin != NULL) {
        g_autofree char *whole = g_strndup(begin + 3, strcspn(begin + 3, "/"));
        g_autofree char *authority = shown_authority(whole);
        g_string_append_len(shown, cut, begin + 3 - cut);
        g_string_append(shown, authority);
        g_string_append(shown, begin + 3 + strlen(whole));
    } else {
        g_string_append(shown, cut);
    }
    g_autofree char *printable = vr_printable(shown->str, -1);
    return g_strconcat(printable, text[length] != '\0' ? "?..." : NULL, NULL);
}
