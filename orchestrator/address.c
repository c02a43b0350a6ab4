/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/address.h"

#include <arpa/inet.h>
#include <string.h>

#define HOST_MAX 253 /* of a DNS name */

static gboolean is_name(const char *text, gsize length)
{
    if (length == 0 || length > HOST_MAX || !g_ascii_isalnum(text[0]))
        return FALSE;
    for (gsize i = 0; i < length; i++) {
        if (!g_ascii_isalnum(text[i]) && strchr("-._", text[i]) == NULL)
            return FALSE;
    }
    return TRUE;
}

static gboolean is_port(const char *text, guint *port)
{
    gsize length = strlen(text);

    if (length == 0 || length > 5 || text[0] == '0' || strspn(text, "0123456789") != length)
        return FALSE;
    *port = (guint)g_ascii_strtoull(text, NULL, 10);
    return *port <= 65535;
}

/* The host's first byte, its length, and what follows it ("" or ":PORT"). */
static gboolean find_host(const char *text, const char **host, gsize *length, const char **rest)
{
    const char *end = text[0] == '[' ? strchr(text, ']') : NULL;
    struct in6_addr unused;

    if (text[0] != '[') {
        *host = text;
        *length = strcspn(text, ":");
        *rest = text + *length;
        return is_name(text, *length);
    }
    if (end == NULL)
        return FALSE;
    g_autofree char *inside = g_strndup(text + 1, (gsize)(end - text - 1));
    *host = text + 1;
    *length = strlen(inside);
    *rest = end + 1;
    return inet_pton(AF_INET6, inside, &unused) == 1;
}

const char *vr_address_parse(const char *text, char **host, guint *port)
{
    const char *start, *rest;
    gsize length;
    guint found = 0;

    if (!find_host(text, &start, &length, &rest) || (rest[0] != '\0' && (rest[0] != ':' || !is_port(rest + 1, &found))))
        return "must be HOST or HOST:PORT, an IPv6 address in brackets";
    if (host != NULL)
        *host = g_strndup(start, length);
    if (port != NULL)
        *port = found;
    return NULL;
}

gboolean vr_address_is_loopback(const char *host)
{
    struct in_addr v4;
    struct in6_addr v6;

    if (inet_pton(AF_INET, host, &v4) == 1)
        return ntohl(v4.s_addr) >> 24 == 127;
    if (inet_pton(AF_INET6, host, &v6) == 1)
        return IN6_IS_ADDR_LOOPBACK(&v6) || (IN6_IS_ADDR_V4MAPPED(&v6) && v6.s6_addr[12] == 127);
    return g_ascii_strcasecmp(host, "localhost") == 0 || g_str_has_suffix(host, ".localhost");
}
