/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a run remembers over the death of its process. The phases of its instances are in the history; here is the rest: what
 * persons have said, what was passed, until when it waits, and what the rules have counted. What is asked anew at every border is
 * not kept: the health of the set, the yes of a gate, the wait for a place. Who was left unhealthy on his new disk is not kept either: a
 * recovery ends their swaps there, so that nobody can put them back any more (F3).
 *
 * Times are of the boot-time clock, with the boot id beside them. On another boot of the host the remainder, as it was when this was
 * written, starts again; the wall clock decides nothing (SAFETY invariant 24).
 */
#include "base/error.h"
#include "orchestrator/rollout_private.h"

#include <jansson.h>

#define SHAPE 1 /* of the document; another one is refused */

typedef enum { FLAG, NUMBER, SPAN, TIME } Kind;

#define KEPT(name, field, kind)                                                                                        \
    {                                                                                                                  \
        name, G_STRUCT_OFFSET(VrRollout, field), kind                                                                  \
    }

#define KEPT_SINCE(name, field, kind)                                                                                  \
    {                                                                                                                  \
        name, G_STRUCT_OFFSET(VrRollout, field), kind, TRUE                                                            \
    }

static const struct {
    const char *name;
    gsize offset;
    Kind kind;
    gboolean is_new; /* may be missing: an older program wrote the document */
} kept[] = {
    KEPT("batch", batch_number, NUMBER),
    KEPT("paused", paused, FLAG),
    KEPT("approved", approved, FLAG),
    KEPT("promoted", promoted, FLAG),
    KEPT("cancel", cancel, FLAG),
    KEPT("withdrawn", withdrawn, FLAG),
    KEPT("walked", walked, NUMBER),
    KEPT("checkpoint", checkpoint, NUMBER),
    KEPT("checkpointUntil", checkpoint_until, TIME),
    KEPT("nextBatchAt", next_batch_at, TIME),
    KEPT("deadline", deadline, TIME),
    KEPT("bakeUntil", bake_until, TIME),
    KEPT("tooLong", too_long, NUMBER),
    KEPT("longestOffMs", longest_off_ms, SPAN),
    KEPT("sameMembers", same_members, NUMBER),
    KEPT("sameBatches", same_batches, NUMBER),
    KEPT_SINCE("deadlineLeft", deadline_left, SPAN),
    KEPT_SINCE("longestBatchMs", longest_batch_ms, SPAN),
};

/* ---- save ---- */

static json_t *value_of(const VrRollout *rollout, guint k)
{
    const void *field = G_STRUCT_MEMBER_P(rollout, kept[k].offset);

    switch (kept[k].kind) {
    case FLAG:
        return json_boolean(*(const gboolean *)field);
    case NUMBER:
        return json_integer(*(const guint *)field);
    case SPAN:
    case TIME:
        return json_integer(*(const gint64 *)field);
    }
    return NULL;
}

/* Of the instances only those of which there is more to say than the history does. */
static json_t *entries_of(const VrRollout *rollout)
{
    json_t *list = json_array();

    for (guint i = 0; i < rollout->count; i++) {
        const VrRolloutEntry *entry = &rollout->entries[i];

        if (entry->off || entry->cause != NULL || entry->named || rollout->candidates[i].left_failed)
            json_array_append_new(list, json_pack("{s:i, s:b, s:i, s:s?, s:b, s:b}", "instance", (int)i, "off",
                                                  entry->off, "failure", (int)entry->failure, "cause",
                                                  vr_reasons_text(&rollout->reasons, entry->cause), "named",
                                                  entry->named, "leftFailed", rollout->candidates[i].left_failed));
    }
    return list;
}

/* What a run that a rule has ended ends with, so that the next process does not begin it again; else NULL. */
static json_t *end_of(const VrRollout *rollout)
{
    if (rollout->stage != VR_STAGE_AMENDS && rollout->stage != VR_STAGE_FINISHED && !rollout->ended)
        return NULL;
    return json_pack("{s:i, s:s?, s:s?}", "status", (int)rollout->status, "code", rollout->error_code, "text",
                     rollout->error_text);
}

char *vr_rollout_save(const VrRollout *rollout, gint64 now_ms, const char *boot_id)
{
    json_t *document = json_pack("{s:i, s:s, s:I, s:i, s:b, s:o, s:s?}", "shape", SHAPE, "bootId", boot_id, "savedAt",
                                 (json_int_t)now_ms, "count", (int)rollout->count, "inBatch",
                                 rollout->stage == VR_STAGE_BATCH, "instances", entries_of(rollout), "sameReason",
                                 vr_reasons_text(&rollout->reasons, rollout->same_reason));
    json_t *end = end_of(rollout);
    char *text;

    if (end != NULL)
        json_object_set_new(document, "end", end);
    for (guint k = 0; k < G_N_ELEMENTS(kept); k++)
        json_object_set_new(document, kept[k].name, value_of(rollout, k));
    text = json_dumps(document, JSON_COMPACT);
    json_decref(document);
    return text;
}

/* ---- load ---- */

static gboolean refuse(GError **error, const char *what)
{
    g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "what the run had kept cannot be read: %s", what);
    return FALSE;
}

static gboolean take_value(VrRollout *rollout, guint k, const json_t *value, gint64 later_ms)
{
    void *field = G_STRUCT_MEMBER_P(rollout, kept[k].offset);
    gint64 number = json_integer_value(value);

    if (value == NULL && kept[k].is_new)
        return TRUE;
    if (kept[k].kind == FLAG ? !json_is_boolean(value) : !json_is_integer(value) || number < 0)
        return FALSE;
    switch (kept[k].kind) {
    case FLAG:
        *(gboolean *)field = json_is_true(value);
        break;
    case NUMBER:
        if (number > G_MAXUINT)
            return FALSE;
        *(guint *)field = (guint)number;
        break;
    case SPAN:
        *(gint64 *)field = number;
        break;
    case TIME:
        *(gint64 *)field = number == 0 ? 0 : MAX(1, number + later_ms); /* 0 would mean that there is none */
        break;
    }
    return TRUE;
}

/* Which phases an instance may come back in, and by which way it got there. */
static gboolean take_past(VrRollout *rollout, guint i, const VrRolloutPast *past)
{
    VrRolloutEntry *entry = &rollout->entries[i];
    gboolean bad =
        past->phase == VR_PHASE_RESTORED || past->phase == VR_PHASE_FAILED || past->phase == VR_PHASE_UNKNOWN;

    if (past->phase != VR_PHASE_PENDING && past->phase != VR_PHASE_SKIPPED && past->phase != VR_PHASE_COMMITTED && !bad)
        return FALSE;
    rollout->phases[entry->phase]--;
    rollout->phases[past->phase]++;
    entry->phase = past->phase;
    rollout->candidates[i].left_failed = FALSE; /* unless it is kept below: a survey may have found it well */
    if (past->phase == VR_PHASE_SKIPPED)
        rollout->candidates[i].status = VR_CANDIDATE_SKIPPED;
    else
        rollout->candidates[i].status = past->phase == VR_PHASE_PENDING ? VR_CANDIDATE_PENDING : VR_CANDIDATE_DONE;
    if (bad)
        entry->reason = g_strdup(past->reason != NULL ? past->reason : "no reason was kept");
    return TRUE;
}

static gboolean take_entry(VrRollout *rollout, const json_t *item)
{
    const json_t *index = json_object_get(item, "instance");
    const char *cause = json_string_value(json_object_get(item, "cause"));
    gint64 failure = json_integer_value(json_object_get(item, "failure"));
    VrRolloutEntry *entry;

    if (!json_is_integer(index) || json_integer_value(index) < 0 || json_integer_value(index) >= rollout->count ||
        failure < 0 || failure >= VR_FAILURE_COUNT)
        return FALSE;
    entry = &rollout->entries[json_integer_value(index)];
    entry->off = json_is_true(json_object_get(item, "off"));
    if (entry->phase == VR_PHASE_FAILED)
        entry->failure = (VrFailure)failure;
    entry->named = json_is_true(json_object_get(item, "named"));
    rollout->candidates[json_integer_value(index)].left_failed = json_is_true(json_object_get(item, "leftFailed"));
    if (entry->reason != NULL && cause != NULL)
        entry->cause = vr_reasons_add(&rollout->reasons, cause);
    return TRUE;
}

static gboolean take_end(VrRollout *rollout, const json_t *end)
{
    static const char *const codes[] = {VR_CODE_BEFORE_ROLLING, VR_CODE_IN_ROLLING, VR_CODE_UPGRADED,
                                        VR_CODE_FAILED_VMS,     VR_CODE_INTERNAL,   VR_CODE_TIMEOUT};
    const char *code = json_string_value(json_object_get(end, "code"));
    gint64 status = json_integer_value(json_object_get(end, "status"));

    if (end == NULL)
        return TRUE;
    if (status < VR_RUN_CANCELLED || status > VR_RUN_FAULTED)
        return FALSE;
    rollout->ended = TRUE;
    rollout->status = (VrRunStatus)status;
    rollout->error_text = g_strdup(json_string_value(json_object_get(end, "text")));
    for (guint k = 0; k < G_N_ELEMENTS(codes); k++)
        if (g_strcmp0(codes[k], code) == 0)
            rollout->error_code = codes[k];
    return code == NULL || rollout->error_code != NULL;
}

/* Those that failed when the process was gone already have their reason from the recovery; one that it brought to another end than
 * the run had seen did not fail as the run had seen it. */
static void count_the_rest(VrRollout *rollout)
{
    for (guint i = 0; i < rollout->count; i++) {
        VrRolloutEntry *entry = &rollout->entries[i];

        if (entry->reason != NULL && entry->cause == NULL)
            entry->cause = vr_reasons_add(&rollout->reasons, entry->reason);
        rollout->failures[entry->failure]++;
        rollout->off_committed += entry->phase == VR_PHASE_COMMITTED && entry->off ? 1 : 0;
    }
}

static gboolean take_document(VrRollout *rollout, json_t *document, const VrRolloutPast *past, gint64 now_ms,
                              const char *boot_id, GError **error)
{
    const json_t *instances = json_object_get(document, "instances");
    const char *same = json_string_value(json_object_get(document, "sameReason"));
    const char *boot = json_string_value(json_object_get(document, "bootId"));
    gboolean rebooted = g_strcmp0(boot, boot_id) != 0;
    gint64 later_ms = rebooted ? now_ms - json_integer_value(json_object_get(document, "savedAt")) : 0;

    if (json_integer_value(json_object_get(document, "shape")) != SHAPE)
        return refuse(error, "another version of this program wrote it");
    if (json_integer_value(json_object_get(document, "count")) != rollout->count)
        return refuse(error, "the set has other instances now");
    for (guint k = 0; k < G_N_ELEMENTS(kept); k++)
        if (!take_value(rollout, k, json_object_get(document, kept[k].name), later_ms))
            return refuse(error, kept[k].name);
    for (guint i = 0; i < rollout->count; i++)
        if (!take_past(rollout, i, &past[i]))
            return refuse(error, "an instance is still on its way");
    for (gsize i = 0; i < json_array_size(instances); i++)
        if (!take_entry(rollout, json_array_get(instances, i)))
            return refuse(error, "instances");
    if (!take_end(rollout, json_object_get(document, "end")))
        return refuse(error, "end");
    count_the_rest(rollout);
    if (json_is_true(json_object_get(document, "inBatch")))
        rollout->next_batch_at = now_ms + rollout->policy.pause_ms; /* D5 */
    if (rollout->phases[VR_PHASE_PENDING] > 0)
        rollout->bake_until = 0; /* the last one was put back when its new disk had not run: it is to be moved again */
    rollout->same_reason = same != NULL ? vr_reasons_key(&rollout->reasons, same) : NULL;
    return TRUE;
}

gboolean vr_rollout_load(VrRollout *rollout, const char *saved, const VrRolloutPast *past, gint64 now_ms,
                         const char *boot_id, GError **error)
{
    json_t *document = json_loads(saved, 0, NULL);
    gboolean ok = document != NULL ? take_document(rollout, document, past, now_ms, boot_id, error)
                                   : refuse(error, "it is damaged");

    json_decref(document);
    return ok;
}
