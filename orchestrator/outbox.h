/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is told to those outside about requests and runs (J7), until it is told: the outbox, in the tables `notices`, `notice_deliveries` and
 * `notice_channels`.
 *
 *   RequestSubmitted   a command asked for a run. Written before anything else is done about it
 *   RequestResult      the run has begun (Accepted), or will not: Refused, with the error, or NothingToDo
 *   CompletionResult   the run has ended, and how
 *
 * A notice is written in the transaction that makes true what it says: Accepted with the row of the run, CompletionResult with the end in it,
 * whoever writes that: the run's own process, a cancel after it was gone, or recovery (Faulted). So after a crash at any moment a run that has an
 * end has one CompletionResult and no second one, and one without an end has none. A request whose process died before it came to a result is found by its
 * process (a boot, a process id and that one's start, since ids come again) and closed as Refused by whoever looks next.
 *
 * Nothing here waits for anybody: to deliver is the work of another process (outbox_deliver.h), which reads what was committed. What a notice says is
 * composed when it is written, as JSON (docs/notices.md), and says the same in each delivery; no secret is in it.
 */
#pragma once

#include "orchestrator/history.h"

#define VR_OUTBOX_TABLES                                                                                               \
    "ALTER TABLE runs ADD COLUMN request_id TEXT;"                                                                     \
    "CREATE TABLE notices ("                                                                                           \
    "  seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, kind INTEGER NOT NULL, at_us INTEGER NOT NULL,"               \
    "  set_name TEXT NOT NULL, request_id TEXT, run_id TEXT, holder TEXT, body TEXT NOT NULL,"                         \
    "  planned INTEGER NOT NULL DEFAULT 0);"                                                                           \
    "CREATE UNIQUE INDEX notices_request ON notices (request_id, kind) WHERE kind IN (0, 1);"                          \
    "CREATE UNIQUE INDEX notices_run ON notices (run_id) WHERE kind = 2;"                                              \
    "CREATE TABLE notice_deliveries ("                                                                                 \
    "  seq INTEGER NOT NULL, channel TEXT NOT NULL, state INTEGER NOT NULL DEFAULT 0,"                                 \
    "  at_us INTEGER NOT NULL DEFAULT 0, attempts INTEGER NOT NULL DEFAULT 0, error TEXT,"                             \
    "  PRIMARY KEY (seq, channel)) WITHOUT ROWID;"                                                                     \
    "CREATE INDEX notice_deliveries_waiting ON notice_deliveries (channel, seq) WHERE state = 0;"                      \
    "CREATE TABLE notice_channels ("                                                                                   \
    "  name TEXT PRIMARY KEY, failures INTEGER NOT NULL, next_us INTEGER NOT NULL) WITHOUT ROWID;"                     \
    "CREATE TRIGGER notices_forgotten AFTER DELETE ON notices "                                                        \
    "BEGIN DELETE FROM notice_deliveries WHERE seq = OLD.seq; END;"

typedef enum { VR_OUTBOX_SUBMITTED, VR_OUTBOX_RESULT, VR_OUTBOX_COMPLETION, VR_OUTBOX_KINDS_ } VrOutboxKind;
const char *vr_outbox_kind_name(VrOutboxKind kind); /* "RequestSubmitted", ... */

#define VR_OUTBOX_WAITING 1000 /* of each channel, and of those that no deliverer has seen */
#define VR_OUTBOX_KEPT 500     /* newest notices that are kept once they are told */
#define VR_OUTBOX_KEPT_US (30 * 86400 * (gint64)G_USEC_PER_SEC) /* ... and for how long */

/* --- writing ----------------------------------------------------------------------------------------- */

/* What a command asks for. */
typedef struct {
    const char *set_name, *operation, *user;
    const char *version, *role, *reason; /* NULL: it says none */
    const char *const *instances;        /* by the names that were typed; may be NULL */
    gboolean all;
    gboolean automatic; /* it begins by itself */
} VrOutboxRequest;

/* In a transaction of its own. *id: of the request, for VrRun.request_id and vr_outbox_settle(); free with g_free. NULL: there is no such set, so
 * nobody is told. */
gboolean vr_outbox_submit(VrDb *db, const VrOutboxRequest *request, char **id, GError **error);

/* The command ends: where no run came of the request, it was refused, or with refused NULL nothing was to be done. In a transaction of its own. */
gboolean vr_outbox_settle(VrDb *db, const char *request_id, const GError *refused, GError **error);

/* Within the transaction that writes a run, or its end. */
gboolean vr_outbox_accept(VrDb *db, const VrRun *run, GError **error);
gboolean vr_outbox_complete(VrDb *db, const VrRun *run, GError **error);

/* Within a transaction: requests without a result whose process is gone are refused. */
gboolean vr_outbox_close_lost(VrDb *db, GError **error);

/* This process has written a notice since this was asked last. */
gboolean vr_outbox_has_news(void);

/* --- reading ----------------------------------------------------------------------------------------- */

typedef enum { VR_DELIVERY_WAITING, VR_DELIVERY_DONE, VR_DELIVERY_GIVEN_UP } VrDeliveryState;
const char *vr_delivery_state_name(VrDeliveryState state); /* "Waiting", "Delivered", "GivenUp" */

typedef struct {
    char *channel; /* "journal", "webhook", "hook/NAME" */
    VrDeliveryState state;
    gint64 at_us; /* of the last attempt; 0: none yet */
    guint attempts;
    char *error; /* of the last attempt, or why it was given up; NULL: none */
} VrDelivery;

typedef struct {
    gint64 seq;
    VrOutboxKind kind;
    gint64 at_us;
    char *id, *set_name, *run_id; /* run_id NULL: no run came of it, or not yet */
    char *body;                   /* JSON */
    GPtrArray *deliveries;        /* VrDelivery *; empty also until a deliverer has seen it */
} VrOutboxNotice;
void vr_outbox_notice_free(VrOutboxNotice *notice);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrOutboxNotice, vr_outbox_notice_free)

/* Newest first, of a set or with NULL of all. Element: VrOutboxNotice *, freed with the array. */
GPtrArray *vr_outbox_list(VrDb *db, const char *set_name, GError **error);

/* Within a transaction: one, without its deliveries; NULL with an error. */
VrOutboxNotice *vr_outbox_read(VrDb *db, gint64 seq, GError **error);

/* What a notice says, in a line for a person: "set shop: upgrade was refused: ...". Free with g_free. */
char *vr_outbox_text(const VrOutboxNotice *notice);

/* Its word of how it went: "Accepted", "Refused", "NothingToDo"; "Completed", "Cancelled", "Faulted"; NULL: it has none. Free with g_free. */
char *vr_outbox_outcome(const VrOutboxNotice *notice);
