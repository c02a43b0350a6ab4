/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Writing notices, and what became of the process that asked. Reading is in outbox_read.c. */
#include "orchestrator/outbox.h"

#include "base/clock.h"
#include "base/error.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define SCHEMA_VERSION 1 /* of the JSON, not of the tables */

G_DEFINE_AUTOPTR_CLEANUP_FUNC(json_t, json_decref)

static gint news; /* atomic */

gboolean vr_outbox_has_news(void)
{
    return g_atomic_int_and((guint *)&news, 0) != 0;
}

const char *vr_outbox_kind_name(VrOutboxKind kind)
{
    static const char *const names[] = {"RequestSubmitted", "RequestResult", "CompletionResult"};

    return (guint)kind < G_N_ELEMENTS(names) ? names[kind] : "?";
}

/* --- the process that asks --------------------------------------------------------------------------- */

/* When a process began, in ticks since the boot; 0: it is gone, or has ended and nobody has asked how. */
static guint64 start_of(int pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/stat", pid);
    g_autofree char *text = NULL;
    const char *after;
    guint64 start = 0;
    char state = 'X';

    if (!g_file_get_contents(path, &text, NULL, NULL) || !(after = strrchr(text, ')')))
        return 0;
    /* proc(5): state is field 3, starttime field 22 */
    if (sscanf(after + 1,
               " %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %" G_GUINT64_FORMAT, &state,
               &start) != 2)
        return 0;
    return state == 'Z' || state == 'X' ? 0 : start;
}

static char *holder_of(int pid)
{
    return g_strdup_printf("%s %d %" G_GUINT64_FORMAT, vr_clock_boot_id(), pid, start_of(pid));
}

static gboolean lives(const char *holder)
{
    const char *space = strchr(holder, ' ');
    int pid = space ? (int)g_ascii_strtoll(space, NULL, 10) : 0;
    g_autofree char *now = pid > 0 && start_of(pid) > 0 ? holder_of(pid) : NULL;

    return now && g_str_equal(now, holder);
}

/* --- JSON -------------------------------------------------------------------------------------------- */

static json_t *text_or_null(const char *text)
{
    g_autofree char *valid = text ? g_utf8_make_valid(text, -1) : NULL;

    return valid ? json_string(valid) : json_null();
}

static json_t *time_or_null(gint64 wall_us)
{
    g_autofree char *text = wall_us > 0 ? vr_clock_format(wall_us) : NULL;

    return text_or_null(text);
}

static json_t *list_of(const char *const *texts)
{
    json_t *list = json_array();

    for (; texts && *texts; texts++)
        json_array_append_new(list, text_or_null(*texts));
    return list;
}

static json_t *error_json(const char *code, const char *message)
{
    return code ? json_pack("{s:o, s:o}", "code", text_or_null(code), "message", text_or_null(message)) : json_null();
}

/* Azure's word for who (J4). */
static const char *starter(gboolean automatic)
{
    return automatic ? "Platform" : "User";
}

/* What a run says of the request that it came of. */
static json_t *of_run(const VrRun *run)
{
    return json_pack("{s:s, s:s, s:o, s:o}", "operation", vr_run_kind_name(run->kind), "startedBy",
                     starter(run->automatic), "userName", text_or_null(run->started_by), "reason",
                     text_or_null(run->reason));
}

static json_t *reference_of(const VrRun *run)
{
    return run->image ? json_pack("{s:o, s:o}", "name", text_or_null(run->image), "version", text_or_null(run->version))
                      : json_null();
}

static json_t *progress_of(const VrRun *run)
{
    VrRunCounts counts = vr_run_counts(run);

    return json_pack("{s:i, s:i, s:i, s:i, s:i, s:i, s:i}", "successfulInstanceCount", (int)counts.successful,
                     "failedInstanceCount", (int)counts.failed, "inProgressInstanceCount", (int)counts.in_progress,
                     "pendingInstanceCount", (int)counts.pending, "skippedInstanceCount", (int)counts.skipped,
                     "restoredInstanceCount", (int)counts.restored, "unknownInstanceCount", (int)counts.unknown);
}

/* --- one row ----------------------------------------------------------------------------------------- */

typedef struct {
    VrOutboxKind kind;
    const char *set_name, *request_id, *run_id, *holder;
    json_t *more; /* taken: what this kind says beside what all do */
} Notice;

static char *compose(const Notice *notice, const char *id, gint64 at_us)
{
    g_autoptr(json_t) body =
        json_pack("{s:i, s:s, s:s, s:o, s:o, s:o, s:o, s:o}", "schemaVersion", SCHEMA_VERSION, "id", id, "kind",
                  vr_outbox_kind_name(notice->kind), "time", time_or_null(at_us), "host",
                  text_or_null(g_get_host_name()), "set", text_or_null(notice->set_name), "requestId",
                  text_or_null(notice->request_id), "runId", text_or_null(notice->run_id));
    char *text, *copy;

    json_object_update(body, notice->more);
    text = json_dumps(body, JSON_COMPACT | JSON_PRESERVE_ORDER);
    copy = g_strdup(text);
    free(text);
    return copy;
}

/* What was told stays for a while; what nobody was told yet, such as where no deliverer ever comes, is bounded too. The newest always stays, so that no
 * number is given twice. */
static gboolean forget_old(VrDb *db, gint64 now_us, GError **error)
{
    return vr_db_run(
        db, NULL, error,
        "DELETE FROM notices WHERE (at_us < ?1 OR seq <= (SELECT MAX(seq) FROM notices) - CASE planned WHEN 0 "
        "THEN ?2 ELSE ?3 END) AND seq < (SELECT MAX(seq) FROM notices) AND NOT EXISTS (SELECT 1 FROM "
        "notice_deliveries AS d WHERE d.seq = notices.seq AND d.state = 0)",
        "iii", now_us - VR_OUTBOX_KEPT_US, (gint64)VR_OUTBOX_WAITING, (gint64)VR_OUTBOX_KEPT);
}

/* Within a transaction. One that is there already, such as the end of a run, stays as it is. */
static gboolean add(VrDb *db, const Notice *notice, GError **error)
{
    gint64 now_us = vr_clock_wall_us();
    g_autofree char *id = g_uuid_string_random();
    g_autoptr(json_t) more = notice->more;
    g_autofree char *body = compose(notice, id, now_us);
    int changes = 0;

    if (!vr_db_run(
            db, &changes, error,
            "INSERT INTO notices (id, kind, at_us, set_name, request_id, run_id, holder, body) VALUES (?, ?, ?, ?, "
            "?, ?, ?, ?) ON CONFLICT (request_id, kind) WHERE kind IN (0, 1) DO NOTHING "
            "ON CONFLICT (run_id) WHERE kind = 2 DO NOTHING",
            "siisssss", id, (gint64)notice->kind, now_us, notice->set_name, notice->request_id, notice->run_id,
            notice->holder, body))
        return FALSE;
    if (changes == 0)
        return TRUE;
    g_atomic_int_set(&news, 1);
    return forget_old(db, now_us, error);
}

/* --- requests ---------------------------------------------------------------------------------------- */

static gboolean end(VrDb *db, gboolean ok, GError **error)
{
    if (ok)
        return vr_db_commit(db, error);
    vr_db_rollback(db);
    return FALSE;
}

/* 1, 0, or -1 with an error. */
static int is_there(VrDb *db, const char *sql, const char *argument, GError **error)
{
    g_autoptr(sqlite3_stmt) stmt = vr_db_prepare(db, error, sql, "s", argument);

    return stmt ? vr_db_step(db, stmt, error) : -1;
}

static json_t *asked_json(const VrOutboxRequest *request)
{
    return json_pack("{s:o, s:s, s:o, s:o, s:{s:o, s:o, s:o, s:b}}", "operation", text_or_null(request->operation),
                     "startedBy", starter(request->automatic), "userName", text_or_null(request->user), "reason",
                     text_or_null(request->reason), "request", "version", text_or_null(request->version), "role",
                     text_or_null(request->role), "instances", list_of(request->instances), "all", request->all);
}

static gboolean submit(VrDb *db, const VrOutboxRequest *request, char **id, GError **error)
{
    int known = is_there(db, "SELECT 1 FROM sets WHERE name = ?", request->set_name, error);
    g_autofree char *holder = holder_of(getpid());
    Notice notice = {.kind = VR_OUTBOX_SUBMITTED, .set_name = request->set_name, .holder = holder};

    if (known <= 0)
        return known == 0;
    *id = g_uuid_string_random();
    notice.request_id = *id;
    notice.more = asked_json(request);
    return add(db, &notice, error);
}

gboolean vr_outbox_submit(VrDb *db, const VrOutboxRequest *request, char **id, GError **error)
{
    *id = NULL;
    if (vr_db_begin(db, error) && end(db, submit(db, request, id, error), error))
        return TRUE;
    g_clear_pointer(id, g_free);
    return FALSE;
}

/* The answer says again what was asked. submitted: the JSON of the request. */
static json_t *answer_json(const char *submitted, const char *result, const char *code, const char *message)
{
    static const char *const again[] = {"operation", "startedBy", "userName", "reason"};
    g_autoptr(json_t) asked = json_loads(submitted, 0, NULL);
    json_t *answer = json_object();

    for (guint i = 0; i < G_N_ELEMENTS(again); i++) {
        json_t *value = json_object_get(asked, again[i]);
        json_object_set_new(answer, again[i], value ? json_incref(value) : json_null());
    }
    json_object_set_new(answer, "result", json_string(result));
    json_object_set_new(answer, "error", error_json(code, message));
    return answer;
}

/* Of a request that has none yet; "" as request_id is nobody's. */
static gboolean answer(VrDb *db, const char *request_id, const char *result, const char *code, const char *message,
                       GError **error)
{
    g_autofree char *set_name = NULL, *body = NULL;
    g_autoptr(sqlite3_stmt) stmt = vr_db_prepare(
        db, error, "SELECT set_name, body FROM notices WHERE request_id = ? AND kind = 0", "s", request_id);
    int row = stmt ? vr_db_step(db, stmt, error) : -1;
    Notice notice = {.kind = VR_OUTBOX_RESULT, .request_id = request_id};

    if (row <= 0)
        return row == 0; /* forgotten by now */
    set_name = vr_db_text(stmt, 0);
    body = vr_db_text(stmt, 1);
    notice.set_name = set_name;
    notice.more = answer_json(body, result, code, message);
    return add(db, &notice, error);
}

gboolean vr_outbox_settle(VrDb *db, const char *request_id, const GError *refused, GError **error)
{
    g_autofree char *message = refused ? vr_printable(refused->message, -1) : NULL;

    return vr_db_begin(db, error) && end(db,
                                         answer(db, request_id, refused ? "Refused" : "NothingToDo",
                                                refused ? vr_error_name(refused->code) : NULL, message, error),
                                         error);
}

gboolean vr_outbox_close_lost(VrDb *db, GError **error)
{
    g_autoptr(GPtrArray) lost = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(sqlite3_stmt) stmt =
        vr_db_prepare(db, error,
                      "SELECT request_id, holder FROM notices AS asked WHERE kind = 0 AND NOT EXISTS (SELECT 1 FROM "
                      "notices AS told WHERE told.request_id = asked.request_id AND told.kind = 1) ORDER BY seq",
                      "");
    int row = -1;

    while (stmt && (row = vr_db_step(db, stmt, error)) == 1) {
        g_autofree char *holder = vr_db_text(stmt, 1);
        if (!lives(holder))
            g_ptr_array_add(lost, vr_db_text(stmt, 0));
    }
    for (guint i = 0; row == 0 && i < lost->len; i++)
        if (!answer(db, lost->pdata[i], "Refused", vr_error_name(VR_ERROR_FAILED),
                    "the process of the request ended before it had begun a run", error))
            return FALSE;
    return row == 0;
}

/* --- runs -------------------------------------------------------------------------------------------- */

gboolean vr_outbox_accept(VrDb *db, const VrRun *run, GError **error)
{
    Notice notice = {.kind = VR_OUTBOX_RESULT,
                     .set_name = run->set_name,
                     .request_id = run->request_id,
                     .run_id = run->id,
                     .more = of_run(run)};

    if (!run->request_id) {
        json_decref(notice.more);
        return TRUE;
    }
    json_object_update_new(notice.more, json_pack("{s:s, s:n, s:o}", "result", "Accepted", "error",
                                                  "targetImageReference", reference_of(run)));
    return add(db, &notice, error);
}

gboolean vr_outbox_complete(VrDb *db, const VrRun *run, GError **error)
{
    Notice notice = {.kind = VR_OUTBOX_COMPLETION,
                     .set_name = run->set_name,
                     .request_id = run->request_id,
                     .run_id = run->id,
                     .more = of_run(run)};

    json_object_update_new(notice.more,
                           json_pack("{s:s, s:o, s:o, s:o, s:o, s:o}", "status", vr_run_status_name(run->status),
                                     "error", error_json(run->error_code, run->error_text), "progress",
                                     progress_of(run), "targetImageReference", reference_of(run), "startTime",
                                     time_or_null(run->started_us), "completedTime", time_or_null(run->completed_us)));
    return add(db, &notice, error);
}
