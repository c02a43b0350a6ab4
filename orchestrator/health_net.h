/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Asks applications in guests, and whoever a model names, over http, https or tcp; many at once from the thread that calls.
 *
 * Who answers is hostile input: an answer is bounded in bytes (headers and body, each) and in time as a whole, a redirect is an
 * answer and not followed, no proxy of the environment is used, no other protocol is spoken, and every connection is a new one, so
 * that no answer was given before it was asked for.
 */
#pragma once

#include <glib.h>

#define VR_NET_MAX_ANSWER (64 * 1024) /* bytes of the body, and of all header lines */

typedef enum { VR_NET_HTTP, VR_NET_HTTPS, VR_NET_TCP } VrNetProtocol;

/* How much of an answer is wanted. */
typedef enum {
    VR_NET_WHOLE,
    VR_NET_HEAD,  /* the request is a HEAD */
    VR_NET_STATUS /* the request is a GET, and the connection ends where the body begins, however large it is */
} VrNetAmount;

/* The strings belong to the caller. */
typedef struct {
    VrNetProtocol protocol;
    const char *host; /* name or address, an IPv6 address without brackets */
    guint port;
    const char *path;        /* http and https: begins with a slash */
    const char *ca_file;     /* https: who may sign; NULL: the host's own list */
    const char *server_name; /* https: the name that the certificate must have; NULL: host */
    gint64 timeout_ms;       /* from the first packet to the last byte */
    VrNetAmount amount;
    const char *const *headers; /* further lines, "Name: value"; NULL: none */
    gboolean wants_chain;       /* https: of the server's certificates */
} VrNetRequest;

typedef struct {
    gboolean answered;  /* an HTTP status came, or the TCP handshake was made */
    int status;         /* of HTTP; 0: none */
    GByteArray *body;   /* complete; NULL unless an HTTP answer came whole. Empty where only its status was wanted */
    char *peer;         /* the address that answered; NULL: none did */
    gboolean from_host; /* it is one of this host's own */
    char *asked;        /* "http://10.0.0.7:8080/health" */
    char *text;         /* what came, for a person: "answered 503", "connection refused" */
    GPtrArray *chain;   /* VrCertificate *, as the server sent them, also where they are refused; NULL: not known */
    gboolean refused;   /* the server's certificate is not accepted */
} VrNetReply;
void vr_net_reply_clear(VrNetReply *reply);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(VrNetReply, vr_net_reply_clear)

/* Fills one reply for each request, at most 256 at a time. Never fails: what went wrong is the text of that reply. *aborted (may be
 * NULL) set to non-zero by another thread ends it within a quarter of a second. */
void vr_net_ask(const VrNetRequest *requests, guint count, const gint *aborted, VrNetReply *replies);
