/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the process of the run says is asked for first: what the history has then is all that led there. */
#include "orchestrator/live/snapshot.h"

#include "base/clock.h"
#include "base/durable.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/lock.h"
#include "orchestrator/control.h"
#include "orchestrator/live/expect.h"
#include "orchestrator/run_state.h"

#include <fcntl.h>
#include <jansson.h>

#define RUNS_ASKED 5
#define SILENT_LOOKS 4 /* from then on it does not answer; a socket that is just made, or is going, is no matter */

struct VrLiveSource {
    VrStore *store;
    VrJournal *journal;
    const VrSet *set;
    char *run_id;
    VrExpect expect;
    VrExpectBasis basis;
    gboolean looked_back;
    GHashTable *seen; /* uuid to Seen */
    guint silent;     /* looks in a row in which the process has said nothing */
    guint measured;   /* of this run's guests, those in the basis */
};

G_DEFINE_AUTOPTR_CLEANUP_FUNC(json_t, json_decref)

/* ---- a snapshot ---- */

static void guest_free(gpointer data)
{
    VrLiveGuest *guest = data;

    g_free(guest->domain);
    g_free(guest->reason);
    g_free(guest->answer);
    g_free(guest);
}

VrSnapshot *vr_snapshot_new(const char *set, const char *run_id)
{
    VrSnapshot *snapshot = g_new0(VrSnapshot, 1);

    snapshot->set = g_strdup(set);
    snapshot->run_id = g_strdup(run_id);
    snapshot->guests = g_ptr_array_new_with_free_func(guest_free);
    snapshot->left_ms = snapshot->hold_left_ms = snapshot->wake_left_ms = -1;
    return snapshot;
}

void vr_snapshot_free(VrSnapshot *snapshot)
{
    if (!snapshot)
        return;
    g_free(snapshot->set);
    g_free(snapshot->run_id);
    g_free(snapshot->image);
    g_free(snapshot->version);
    g_free(snapshot->error_text);
    g_free(snapshot->hold_text);
    g_ptr_array_unref(snapshot->guests);
    g_free(snapshot);
}

VrLiveGuest *vr_snapshot_add(VrSnapshot *snapshot, const char *domain)
{
    VrLiveGuest *guest = g_new0(VrLiveGuest, 1);

    guest->domain = g_strdup(domain);
    guest->stage_ms = guest->down_ms = guest->answer_left_ms = -1;
    g_ptr_array_add(snapshot->guests, guest);
    return guest;
}

gboolean vr_live_stage_in_flight(VrLiveStage stage)
{
    return stage >= VR_LIVE_PREPARES && stage <= VR_LIVE_GOES_BACK;
}

gboolean vr_live_stage_failed(VrLiveStage stage)
{
    return stage >= VR_LIVE_BACK;
}

/* ---- guests ---- */

/* By its phase; where that is SWAPPING its steps say more. */
static VrLiveStage stage_of(VrInstancePhase phase)
{
    static const VrLiveStage stages[] = {
        [VR_PHASE_PENDING] = VR_LIVE_WAITS,        [VR_PHASE_SKIPPED] = VR_LIVE_WAITS,
        [VR_PHASE_PREPARING] = VR_LIVE_PREPARES,   [VR_PHASE_PREPARED] = VR_LIVE_READY,
        [VR_PHASE_SWAPPING] = VR_LIVE_STOPS,       [VR_PHASE_PROBING] = VR_LIVE_PROBED,
        [VR_PHASE_COMMITTING] = VR_LIVE_PROBED,    [VR_PHASE_RESTORING] = VR_LIVE_GOES_BACK,
        [VR_PHASE_DISCARDING] = VR_LIVE_GOES_BACK, [VR_PHASE_COMMITTED] = VR_LIVE_DONE,
        [VR_PHASE_RESTORED] = VR_LIVE_BACK,        [VR_PHASE_FAILED] = VR_LIVE_FAILED,
        [VR_PHASE_UNKNOWN] = VR_LIVE_UNKNOWN,      [VR_PHASE_NOTICE] = VR_LIVE_NOTICE};

    return stages[phase];
}

/* Which stage a step of the journal begins. FALSE: none. */
static gboolean begins(const char *step, VrLiveStage *stage)
{
    static const struct {
        const char *step;
        VrLiveStage stage;
    } table[] = {{"begin", VR_LIVE_PREPARES}, {"PREPARED", VR_LIVE_READY},    {"stop-asked", VR_LIVE_STOPS},
                 {"off", VR_LIVE_SWITCHES},   {"start-asked", VR_LIVE_BOOTS}, {"running", VR_LIVE_PROBED}};

    for (guint i = 0; i < G_N_ELEMENTS(table); i++) {
        if (!g_str_equal(table[i].step, step))
            continue;
        *stage = table[i].stage;
        return TRUE;
    }
    return FALSE;
}

static void take_step(VrLiveGuest *guest, const VrSwapStep *step)
{
    VrLiveStage stage;

    if (!vr_live_stage_in_flight(guest->stage))
        return;
    if (guest->stage == VR_LIVE_GOES_BACK) {
        guest->stage_ms = step->ago_ms; /* of its last step */
        return;
    }
    if (!begins(step->step, &stage))
        return;
    if (stage == VR_LIVE_STOPS)
        guest->down_ms = step->ago_ms;
    if (guest->stage >= VR_LIVE_STOPS && guest->stage < VR_LIVE_PROBED && stage > guest->stage)
        guest->stage = MIN(stage, VR_LIVE_BOOTS); /* that it is probed is said by its phase */
    if (stage == guest->stage || (guest->stage == VR_LIVE_NOTICE && stage == VR_LIVE_READY))
        guest->stage_ms = step->ago_ms;
}

static gboolean read_steps(const VrLiveSource *source, GHashTable *by_uuid, GError **error)
{
    g_autoptr(GArray) steps = vr_journal_open_steps(source->journal, source->run_id, error);

    for (guint i = 0; steps && i < steps->len; i++) {
        const VrSwapStep *step = &g_array_index(steps, VrSwapStep, i);
        VrLiveGuest *guest = g_hash_table_lookup(by_uuid, step->uuid);
        if (guest)
            take_step(guest, step);
    }
    return steps != NULL;
}

static void add_guests(VrSnapshot *snapshot, const VrRun *run, GHashTable *by_uuid)
{
    for (guint i = 0; i < run->instances->len; i++) {
        VrRunInstance *instance = run->instances->pdata[i];
        VrLiveGuest *guest;

        if (instance->phase == VR_PHASE_SKIPPED) {
            snapshot->left_alone++;
            continue;
        }
        guest = vr_snapshot_add(snapshot, instance->domain);
        guest->batch = instance->batch;
        guest->stage = stage_of(instance->phase);
        guest->reason = g_strdup(instance->reason);
        g_hash_table_insert(by_uuid, instance->uuid, guest);
    }
}

/* ---- what its process says ---- */

static char *ask_process(const VrLiveSource *source)
{
    g_autofree char *path = g_build_filename("run", source->set->name, NULL);
    vr_autofd dir = vr_open_beneath(vr_store_root_fd(source->store), path, O_RDONLY | O_DIRECTORY, 0, NULL);

    return dir < 0 ? NULL : vr_control_look(dir, source->set->name, NULL);
}

static gint64 ms_until(gint64 wall_us)
{
    return wall_us <= 0 ? -1 : MAX(0, (wall_us - vr_clock_wall_us()) / 1000);
}

static void take_where(VrSnapshot *snapshot, const char *text)
{
    g_auto(VrRunState) state = {0};

    snapshot->point = VR_POINT_BETWEEN;
    if (!text || !vr_run_state_read(&state, text, NULL))
        return; /* it has not made its first step */
    snapshot->point = state.point;
    snapshot->hold = state.hold;
    snapshot->hold_text = g_steal_pointer(&state.hold_text);
    snapshot->hold_left_ms = ms_until(state.hold_until_us);
    snapshot->pause_requested = state.pause_requested;
}

static guint64 number_of(const json_t *object, const char *key)
{
    json_int_t value = json_integer_value(json_object_get(object, key));

    return value > 0 ? (guint64)value : 0;
}

static VrLiveGuest *guest_of(const json_t *object, GHashTable *by_uuid)
{
    const char *uuid = json_string_value(json_object_get(object, "uuid"));

    return uuid ? g_hash_table_lookup(by_uuid, uuid) : NULL;
}

static void take_probes(const json_t *probes, GHashTable *by_uuid)
{
    const json_t *probe;
    size_t i;

    json_array_foreach(probes, i, probe)
    {
        VrLiveGuest *guest = guest_of(probe, by_uuid);

        if (!guest || guest->answer || (guest->stage != VR_LIVE_PROBED && guest->stage != VR_LIVE_GOES_BACK))
            continue;
        guest->answer = g_strdup(json_string_value(json_object_get(probe, "text")));
        guest->answer_left_ms = ms_until(json_integer_value(json_object_get(probe, "until")));
    }
}

/* What is said beyond the state document. */
static void take_said(VrSnapshot *snapshot, const char *said, GHashTable *by_uuid)
{
    g_autoptr(json_t) document = json_loads(said, 0, NULL);
    json_t *copy;
    size_t i;

    snapshot->wake_left_ms = ms_until(json_integer_value(json_object_get(document, "wakesAt")));
    take_probes(json_object_get(document, "probes"), by_uuid);
    json_array_foreach(json_object_get(document, "copies"), i, copy)
    {
        VrLiveGuest *guest = guest_of(copy, by_uuid);

        if (!guest || guest->stage != VR_LIVE_PREPARES)
            continue;
        guest->copy_done = number_of(copy, "done");
        guest->copy_total = number_of(copy, "total");
        guest->copy_rate = number_of(copy, "bytesPerSecond");
    }
}

/* Of another run, that came after this one: nothing is said of ours. */
static gboolean is_of(const char *said, const char *run_id)
{
    g_autoptr(json_t) document = json_loads(said, 0, NULL);

    return g_strcmp0(json_string_value(json_object_get(document, "runId")), run_id) == 0;
}

/* ---- since when ---- */

typedef struct {
    VrLiveStage stage;
    gint64 since_ms;
} Seen;

/* Not each stage has a step of its own in the journal, and what its guest has left is not open there any more: then it is there since this view saw it first. */
static void remember_stage(VrLiveSource *source, const char *uuid, VrLiveGuest *guest)
{
    gint64 now_ms = vr_clock_now_ms();
    Seen *seen = g_hash_table_lookup(source->seen, uuid);

    if (!seen) {
        seen = g_new0(Seen, 1);
        seen->since_ms = -1;
        g_hash_table_insert(source->seen, g_strdup(uuid), seen);
    }
    if (seen->since_ms < 0 || seen->stage != guest->stage)
        *seen = (Seen){guest->stage, now_ms};
    if (vr_live_stage_in_flight(guest->stage))
        guest->stage_ms = MAX(guest->stage_ms,
                              guest->stage_ms < 0 || guest->stage == VR_LIVE_GOES_BACK ? now_ms - seen->since_ms : 0);
}

static void remember_stages(VrLiveSource *source, GHashTable *by_uuid)
{
    GHashTableIter each;
    gpointer uuid, guest;

    g_hash_table_iter_init(&each, by_uuid);
    while (g_hash_table_iter_next(&each, &uuid, &guest))
        remember_stage(source, uuid, guest);
}

/* ---- what is to be expected ---- */

static void add_times(VrLiveSource *source, const char *run_id, GArray *prepare, GArray *down)
{
    VrDb *db = vr_store_db(source->store);
    g_autoptr(GArray) spans = NULL;

    if (!vr_db_begin_read(db, NULL))
        return;
    spans = vr_journal_run_times(source->journal, run_id, NULL);
    vr_db_rollback(db);
    for (guint i = 0; spans && i < spans->len; i++) {
        const VrSwapSpans *one = &g_array_index(spans, VrSwapSpans, i);
        if (one->state != VR_SWAP_COMMITTED)
            continue;
        g_array_append_val(prepare, one->times.prepare_ms);
        g_array_append_val(down, one->times.os_down_ms);
    }
}

static void take_times(VrExpectBasis *basis, const GArray *prepare, const GArray *down)
{
    basis->prepare_ms = vr_spread_of((const gint64 *)(void *)prepare->data, prepare->len).p50;
    basis->down_ms = vr_spread_of((const gint64 *)(void *)down->data, down->len).p50;
}

/* Runs back take other times than those forward. */
static void look_back(VrLiveSource *source, VrRunKind kind)
{
    g_autoptr(GPtrArray) runs = vr_history_list(vr_store_db(source->store), source->set->name, 0, NULL);
    g_autoptr(GArray) prepare = g_array_new(FALSE, FALSE, sizeof(gint64));
    g_autoptr(GArray) down = g_array_new(FALSE, FALSE, sizeof(gint64));
    guint asked = 0;

    for (guint i = 0; runs && i < runs->len && asked < RUNS_ASKED; i++) {
        const VrRun *run = runs->pdata[i];
        guint before = down->len;
        if ((run->kind == VR_RUN_ROLLBACK) != (kind == VR_RUN_ROLLBACK))
            continue;
        add_times(source, run->id, prepare, down);
        asked += down->len > before;
    }
    take_times(&source->basis, prepare, down);
}

/* Once some of this run are done, they say more than the runs before it. */
static void look_at_own(VrLiveSource *source, guint done)
{
    g_autoptr(GArray) prepare = g_array_new(FALSE, FALSE, sizeof(gint64));
    g_autoptr(GArray) down = g_array_new(FALSE, FALSE, sizeof(gint64));

    add_times(source, source->run_id, prepare, down);
    if (down->len > 0 && vr_spread_of((const gint64 *)(void *)down->data, down->len).count > 0)
        take_times(&source->basis, prepare, down);
    source->measured = done;
}

static guint largest_batch(const VrSnapshot *snapshot)
{
    g_autoptr(GHashTable) sizes = g_hash_table_new(NULL, NULL);
    guint largest = 0;

    for (guint i = 0; i < snapshot->guests->len; i++) {
        gpointer batch = GUINT_TO_POINTER(((const VrLiveGuest *)snapshot->guests->pdata[i])->batch);
        guint size = GPOINTER_TO_UINT(g_hash_table_lookup(sizes, batch)) + 1;
        g_hash_table_insert(sizes, batch, GUINT_TO_POINTER(size));
        if (batch)
            largest = MAX(largest, size);
    }
    return largest;
}

static void expect_end(VrLiveSource *source, VrSnapshot *snapshot)
{
    const VrUpgradePolicy *policy = &source->set->model->policy;
    gboolean back = snapshot->kind == VR_RUN_ROLLBACK;
    guint done = 0;

    if (!source->looked_back)
        look_back(source, snapshot->kind);
    source->looked_back = TRUE;
    for (guint i = 0; i < snapshot->guests->len; i++)
        done += ((const VrLiveGuest *)snapshot->guests->pdata[i])->stage == VR_LIVE_DONE;
    if (done > source->measured)
        look_at_own(source, done);
    source->basis.pause_ms = policy->pause_ms;
    source->basis.bake_ms = back ? 0 : policy->bake_ms;
    source->basis.ahead = policy->prepare_ahead && !back;
    source->basis.batch = largest_batch(snapshot);
    if (!policy->by_domain)
        source->basis.batch =
            MAX(source->basis.batch, vr_planner_allowed(source->set->instances->len, policy->max_batch_percent));
    snapshot->left_ms = vr_expect_smooth(&source->expect, vr_expect_left(snapshot, &source->basis), vr_clock_now_ms());
}

/* ---- all of it ---- */

VrLiveSource *vr_live_source_new(VrStore *store, VrJournal *journal, const VrSet *set, const char *run_id)
{
    VrLiveSource *source = g_new0(VrLiveSource, 1);

    source->store = store;
    source->journal = journal;
    source->set = set;
    source->run_id = g_strdup(run_id);
    source->seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    return source;
}

void vr_live_source_free(VrLiveSource *source)
{
    if (!source)
        return;
    g_free(source->run_id);
    g_hash_table_unref(source->seen);
    g_free(source);
}

static gboolean is_owned(const VrLiveSource *source)
{
    vr_autofd locks = vr_open_beneath(vr_store_root_fd(source->store), "locks", O_RDONLY | O_DIRECTORY, 0, NULL);

    return locks >= 0 && vr_lock_is_held(locks, source->set->name, NULL);
}

static VrSnapshot *snapshot_of(const VrRun *run, GHashTable *by_uuid)
{
    VrSnapshot *snapshot = vr_snapshot_new(run->set_name, run->id);
    gint64 end_us = run->completed_us ? run->completed_us : vr_clock_wall_us();

    snapshot->kind = run->kind;
    snapshot->status = run->status;
    snapshot->image = g_strdup(run->image);
    snapshot->version = g_strdup(run->version);
    snapshot->error_text = g_strdup(run->error_text);
    snapshot->ended = run->completed_us != 0;
    snapshot->detached = run->detached;
    snapshot->elapsed_ms = MAX(0, (end_us - run->started_us) / 1000);
    add_guests(snapshot, run, by_uuid);
    return snapshot;
}

VrSnapshot *vr_live_source_read(VrLiveSource *source, GError **error)
{
    gboolean owned = is_owned(source);
    g_autofree char *answer = owned ? ask_process(source) : NULL;
    gboolean said = answer && is_of(answer, source->run_id);
    g_autoptr(VrRun) run = vr_history_get(vr_store_db(source->store), source->set->name, source->run_id, error);
    g_autoptr(GHashTable) by_uuid = g_hash_table_new(g_str_hash, g_str_equal);
    g_autoptr(VrSnapshot) snapshot = run ? snapshot_of(run, by_uuid) : NULL;

    if (!snapshot || (!snapshot->ended && !read_steps(source, by_uuid, error)))
        return NULL;
    if (snapshot->ended)
        return g_steal_pointer(&snapshot);
    remember_stages(source, by_uuid);
    snapshot->has_process = owned;
    source->silent = said ? 0 : source->silent + 1;
    snapshot->answers = source->silent < SILENT_LOOKS; /* it has nothing to say before its first step */
    take_where(snapshot, said ? answer : run->state);
    if (said)
        take_said(snapshot, answer, by_uuid);
    if (!owned)
        snapshot->point = VR_POINT_INTERRUPTED;
    else
        expect_end(source, snapshot);
    return g_steal_pointer(&snapshot);
}
