/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* URLs of http and https, and how they may be shown: what follows '?' and what stands before '@' may be secrets (a SAS, a password). */
#pragma once

#include "orchestrator/health_net.h"

#define VR_URL_MAX 8192 /* bytes */

typedef struct {
    VrNetProtocol protocol;
    char *host; /* an IPv6 address without brackets */
    guint port;
    char *path;        /* from the slash on, with the query */
    const char *query; /* what follows '?', within path; NULL: there is none */
} VrUrl;
void vr_url_clear(VrUrl *url);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(VrUrl, vr_url_clear)

/* NULL when the text is one that can be asked for, else what it must be ("must ..."), which repeats nothing of it. url may be NULL. A
 * user and a password in it are refused. */
const char *vr_url_parse(const char *text, VrUrl *url);

/* As a message may show any text that is or begins with a URL: printable, without user and password, and "?..." for all that follows '?' or '#'. Free
 * with g_free. */
char *vr_url_shown(const char *text);
