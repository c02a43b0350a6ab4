/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Private to the routes: one request on its way from its words through one job or more to its answer. It goes with the request: a peer that
 * is gone leaves its jobs to their ends.
 */
#pragma once

#include "orchestrator/daemon/answers.h"
#include "orchestrator/daemon/jobs.h"
#include "orchestrator/daemon/route_table.h"
#include "orchestrator/daemon/server.h"

#include <jansson.h>

typedef struct VrExchange VrExchange;

/* Called with what a job has said, in the main loop. It settles the exchange, or starts another job. */
typedef void (*VrExchangeStep)(VrExchange *exchange, VrJobOutput *output);

struct VrExchange {
    VrJobs *jobs; /* borrowed */
    VrRequest *request;
    VrRouteMatch match;
    GHashTable *query; /* name -> value, unescaped; owned */
    json_t *body;      /* NULL: none */
    VrJobCapture *capture;
    VrExchangeStep step;
    gboolean rolls;       /* of a model: its edits are applied at once */
    GHashTable *patching; /* borrowed: the sets that a PATCH is at */
    char *patched;        /* what this one has put in there; NULL: nothing */

    /* the answer */
    gboolean settled;
    guint status;
    gboolean refused; /* before anything was asked for: http_code and message say why */
    VrHttpCode http_code;
    int code;      /* of an error (VrErrorCode), where there is a message */
    char *message; /* NULL: it is none */
    GError *error; /* ... with all that it says, where it is one of ours; NULL: it has these two only */
    char *location;
    int out; /* a file; -1: none */
    guint64 out_size;
    json_t *document; /* in its place */
};

VrExchange *vr_exchange_new(VrJobs *jobs, VrRequest *request);
void vr_exchange_free(VrExchange *exchange);

/* Runs virt-reimage with words for the peer; `step` hears of its end. input: what it reads, or NULL. Errors settle the exchange. */
void vr_exchange_run(VrExchange *exchange, const char *const *words, const char *input, VrExchangeStep step);

/* One of these once. The request goes on where it waits. */
void vr_exchange_settle(VrExchange *exchange, guint status);
void vr_exchange_fail(VrExchange *exchange, guint status, int code, const char *message); /* a VrErrorCode */
void vr_exchange_refuse(VrExchange *exchange, VrHttpCode code, const char *message);
void vr_exchange_fail_error(VrExchange *exchange, const GError *error);

/* The steps. */
void vr_exchange_take_answer(VrExchange *exchange, VrJobOutput *output); /* by the route's kind */

/* TRUE when the job did what it was asked for; else the exchange is settled with its error, prefixed with what was done before it (may be NULL). */
gboolean vr_exchange_check(VrExchange *exchange, const VrJobOutput *output, const char *before);

/* What a job has said, of max bytes at most, NUL-terminated. NULL: it is more, or cannot be read. Free with g_free. */
char *vr_exchange_read(const VrJobOutput *output, gsize max);

enum MHD_Result vr_exchange_send(VrExchange *exchange);

/* PUT and PATCH of a set (exchange_model.c). */
void vr_exchange_put(VrExchange *exchange);
void vr_exchange_patch(VrExchange *exchange);
