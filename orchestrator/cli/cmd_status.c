/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* status: the set as it is now, and its last run (J12: what Azure calls get-latest). */
#include "orchestrator/cli/automatic.h"
#include "orchestrator/cli/console_view.h"
#include "orchestrator/cli/instance_state.h"
#include "orchestrator/cli/live_view.h"
#include "orchestrator/cli/run_process.h"
#include "orchestrator/cli/targets.h"
#include "orchestrator/trigger_facts.h"

#include <stdio.h>

typedef struct {
    VrSession session;
    VrRun *last;
    VrImage *image;    /* that the model asks for; NULL when there is none */
    GPtrArray *looks;  /* NULL: libvirt cannot be reached */
    GArray *states;    /* VrInstanceState, one for each instance */
    GPtrArray *open;   /* VrSwapRow * */
    char *holder;      /* of the set's lock */
    gboolean owned;    /* somebody works on the set now */
    gboolean open_run; /* the last run has no end yet */
    gboolean answers;  /* ... and a process answers for it */
    VrRunState where;  /* ... and stands here */
    VrTrigger trigger; /* what begins by itself */
    gboolean kept;     /* some instance has a generation that it can go back to */
} Status;

static void status_clear(Status *status)
{
    g_clear_pointer(&status->states, g_array_unref);
    g_clear_pointer(&status->looks, g_ptr_array_unref);
    g_clear_pointer(&status->open, g_ptr_array_unref);
    g_clear_pointer(&status->last, vr_run_free);
    g_clear_pointer(&status->image, vr_image_free);
    g_clear_pointer(&status->holder, g_free);
    vr_run_state_clear(&status->where);
    vr_trigger_clear(&status->trigger);
    vr_session_clear(&status->session);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Status, status_clear)

static gboolean has_kept(const VrSession *session, const char *uuid, gboolean *kept, GError **error)
{
    g_autoptr(GPtrArray) all = vr_journal_generations(session->journal, uuid, error);

    for (guint i = 0; all && i < all->len; i++)
        *kept = *kept || ((const VrGeneration *)g_ptr_array_index(all, i))->state == VR_GENERATION_KEPT;
    return all != NULL;
}

static gboolean read_states(Status *status, GError **error)
{
    const VrSet *set = status->session.set;

    status->states = g_array_sized_new(FALSE, TRUE, sizeof(VrInstanceState), set->instances->len);
    g_array_set_clear_func(status->states, (GDestroyNotify)vr_instance_state_clear);
    g_array_set_size(status->states, set->instances->len);
    for (guint i = 0; i < set->instances->len; i++)
        if (!vr_instance_state_read(&g_array_index(status->states, VrInstanceState, i), &status->session, i,
                                    status->last, status->image, status->looks, error) ||
            !has_kept(&status->session, vr_set_instance(set, i)->uuid, &status->kept, error))
            return FALSE;
    return TRUE;
}

/* F5, G11. A run that was killed before its first step has written nothing. */
static void read_where(Status *status)
{
    g_autoptr(GError) local = NULL;

    status->open_run = status->last && status->last->completed_us == 0;
    if (status->open_run && !vr_run_where(&status->session, status->last, &status->where, &status->answers, &local))
        status->where.point = VR_POINT_BETWEEN;
    if (status->open_run && !status->owned)
        status->where.point = VR_POINT_INTERRUPTED;
}

/* Its process says where it stands; what the history has of it is read after that, so that it has all that led there. */
static gboolean read_run(Status *status, const char *name, GError **error)
{
    VrDb *db = vr_store_db(status->session.store);
    g_autoptr(GError) local = NULL;
    VrRun *again;

    status->last = vr_history_last(db, name, &local);
    if (local) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    read_where(status);
    if (!status->open_run)
        return TRUE;
    again = vr_history_get(db, name, status->last->id, error);
    if (!again)
        return FALSE;
    vr_run_free(status->last);
    status->last = again;
    status->open_run = again->completed_us == 0;
    return TRUE;
}

static gboolean read_status(Status *status, const VrCli *cli, GError **error)
{
    VrSession *session = &status->session;
    const char *name = cli->args[0];

    if (!vr_session_open_read(session, cli, error) || !vr_session_read_set(session, name, error))
        return FALSE;
    status->owned = vr_session_is_owned(session, name, &status->holder);
    status->open = vr_journal_open_swaps(session->journal, name, error);
    if (!status->open)
        return FALSE;
    if (!read_run(status, name, error) ||
        !vr_trigger_look(session->store, session->journal, session->set, &status->trigger, error))
        return FALSE;
    status->image = vr_set_image(session, NULL);
    status->looks = vr_look_if_reachable(session, -1);
    return read_states(status, error);
}

/* "2.0.0 on 4, 1.0.0 on 1": how many instances run which version. */
typedef struct {
    const char *version; /* NULL: not known */
    guint count;
} Share;

static GArray *shares_of(const Status *status)
{
    GArray *shares = g_array_new(FALSE, TRUE, sizeof(Share));

    for (guint i = 0; i < status->states->len; i++) {
        const VrInstanceState *state = &g_array_index(status->states, VrInstanceState, i);
        Share one = {.version = vr_instance_state_version(state), .count = 1};
        guint j = 0;
        while (j < shares->len && g_strcmp0(g_array_index(shares, Share, j).version, one.version) != 0)
            j++;
        if (j < shares->len)
            g_array_index(shares, Share, j).count++;
        else
            g_array_append_val(shares, one);
    }
    return shares;
}

/* --- JSON -------------------------------------------------------------------------------------------- */

/* F5: while instances are on their way; or while a command works that is no run. */
static gboolean is_locked(const Status *status)
{
    return status->open_run ? status->owned && status->where.locked : status->owned;
}

/* Null where no run is open. */
static json_t *where_json(const Status *status)
{
    const VrRunState *where = &status->where;

    if (!status->open_run)
        return json_null();
    return json_pack("{s:s, s:o, s:o, s:o, s:b, s:b, s:b}", "point", vr_run_point_name(where->point), "hold",
                     vr_json_text(vr_hold_name(where->hold)), "holdText", vr_json_text(where->hold_text), "holdUntil",
                     vr_json_time(where->hold_until_us), "pauseRequested", where->pause_requested, "detached",
                     status->last->detached, "processAnswers", status->answers);
}

static json_t *versions_json(const Status *status)
{
    g_autoptr(GArray) shares = shares_of(status);
    json_t *list = json_array();

    for (guint i = 0; i < shares->len; i++) {
        const Share *share = &g_array_index(shares, Share, i);
        json_array_append_new(
            list, json_pack("{s:o, s:i}", "version", vr_json_text(share->version), "instanceCount", (int)share->count));
    }
    return list;
}

/* H2: which version begins by itself, and when. */
static json_t *automatic_json(const Status *status)
{
    const VrSet *set = status->session.set;
    json_t *document = vr_trigger_json(set->name, &status->trigger);

    json_object_del(document, "set");
    json_object_update_new(
        document,
        json_pack("{s:b, s:b, s:o, s:o}", "enabled", vr_set_is_automatic(set), "byCommand",
                  set->automatic != VR_SET_AUTO_AS_MODEL, "since",
                  vr_json_time(set->automatic == VR_SET_AUTO_AS_MODEL ? 0 : set->automatic_us), "byCommandReason",
                  vr_json_text(set->automatic == VR_SET_AUTO_AS_MODEL ? NULL : set->automatic_reason)));
    return document;
}

static void print_json(const Status *status)
{
    const VrSession *session = &status->session;
    json_t *instances = json_array();
    json_t *document = json_pack(
        "{s:o, s:o, s:o, s:i, s:b, s:o, s:o, s:b, s:b, s:i, s:o}", "set", vr_json_text(session->set->name),
        "currentVersion", vr_json_text(session->set->current_version), "latestVersion",
        vr_json_text(status->image ? status->image->version : NULL), "modelRevision", (int)session->set->revision,
        "locked", is_locked(status), "lockHolder", vr_json_text(status->holder), "openRun", where_json(status),
        "rollbackAllowed", status->open_run && status->where.rollback_allowed, "rollbackAvailable", status->kept,
        "openSwapCount", (int)status->open->len, "versions", versions_json(status));

    if (status->last)
        json_object_update_new(document, vr_run_json(session, status->last));
    else
        json_object_update_new(document, vr_no_run_json());
    for (guint i = 0; i < status->states->len; i++)
        json_array_append_new(instances, vr_instance_state_json(&g_array_index(status->states, VrInstanceState, i)));
    json_object_set_new(document, "trigger", automatic_json(status));
    json_object_set_new(document, "instances", instances);
    vr_json_print(document);
}

/* --- lines ------------------------------------------------------------------------------------------- */

/* What it does now, and how that ends. */
static void print_where(const VrCli *cli, const Status *status)
{
    const char *set = status->last->set_name;
    const VrRunState *where = &status->where;

    if (!status->owned && status->last->detached)
        vr_label_format(cli, "Now", "its process is gone: '%s resume %s' goes on with it, '%s cancel %s' ends it",
                        VR_PROGRAM, set, VR_PROGRAM, set);
    else if (!status->owned)
        vr_label_format(cli, "Now", "its process is gone; run '%s recover %s'", VR_PROGRAM, set);
    else if (where->hold_text && where->hold != VR_HOLD_GATE)
        vr_label(cli, "Now", where->hold_text);
    else
        vr_label_format(cli, "Now", "%s%s%s",
                        where->hold_text ? where->hold_text
                        : where->locked  ? "a batch is in flight"
                                         : "between two batches",
                        where->pause_requested ? "; it will pause at the batch border" : "",
                        status->answers ? "" : "; its process does not answer");
}

static void print_run(const VrCli *cli, const Status *status)
{
    const VrRun *run = status->last;
    VrRunCounts counts = vr_run_counts(run);
    g_autofree char *title = vr_run_title(run);
    g_autofree char *started = vr_text_time(run->started_us);
    g_autofree char *ended = vr_text_time(run->completed_us);

    vr_label_format(cli, "Last run", "%s: %s, %s", run->id, title, vr_run_status_name(run->status));
    vr_label_format(cli, "Started", "%s by %s%s%s", started, vr_run_starter(run), run->reason ? ": " : "",
                    run->reason ? run->reason : "");
    if (run->completed_us != 0)
        vr_label(cli, "Ended", ended);
    else
        print_where(cli, status);
    vr_label_format(
        cli, "Progress", "%u successful, %u failed (%u of them restored), %u in progress, %u pending, %u skipped",
        counts.successful, counts.failed, counts.restored, counts.in_progress, counts.pending, counts.skipped);
    if (run->error_code)
        vr_label_format(cli, "Error", "%s: %s", run->error_code, run->error_text ? run->error_text : "-");
}

static void print_versions(const VrCli *cli, const Status *status)
{
    g_autoptr(GArray) shares = shares_of(status);
    g_autoptr(GString) text = g_string_new(NULL);

    for (guint i = 0; i < shares->len; i++) {
        const Share *share = &g_array_index(shares, Share, i);
        g_string_append_printf(text, "%s%s on %u", i ? ", " : "", share->version ? share->version : "not known",
                               share->count);
    }
    vr_label(cli, "Versions", text->str);
}

/* "1.0.0, pinned", "2.0.0, pinned to 1.0.0"; NULL: not known. Free with g_free. */
static char *version_cell(const VrInstanceState *state)
{
    const char *version = vr_instance_state_version(state), *pin = state->instance->pin;

    if (!pin)
        return g_strdup(version);
    if (state->latest)
        return g_strdup_printf("%s, pinned", version);
    return g_strdup_printf("%s, pinned to %s", version ? version : "?", pin);
}

/* The last swap is of the last run, unless a later one was skipped by it or ended without a row. */
static void say_why(const VrCli *cli, const Status *status, const VrInstanceState *state)
{
    const VrRunInstance *run = state->in_run;

    if (!run || run->phase == VR_PHASE_SKIPPED)
        return;
    vr_say_why(cli, state->instance->domain, run->reason);
    if (state->swap && g_strcmp0(state->swap->id, run->swap_id) == 0)
        vr_console_say_last(cli, status->session.store, state->swap, status->session.set->name);
}

/* What runs there is not what the rest of its line is about. */
static void say_changed(const VrCli *cli, const VrInstanceState *state)
{
    if (state->changed)
        vr_say(cli, "  %s; %s", state->changed->text, state->changed->remedy);
}

static void print_instances(const VrCli *cli, const Status *status)
{
    static const char *const headings[] = {"INSTANCE", "POWER", "HEALTH",   ">GEN", "VERSION",
                                           "LAST RUN", ">OFF",  ">OS DOWN", NULL};
    g_autoptr(VrTable) table = vr_table_new(cli, headings);

    for (guint i = 0; i < status->states->len; i++) {
        const VrInstanceState *state = &g_array_index(status->states, VrInstanceState, i);
        g_autofree char *generation = state->current ? vr_text_number(state->current->number) : NULL;
        g_autofree char *off = vr_text_duration(state->times.off_ms);
        g_autofree char *os_down = vr_text_duration(state->times.os_down_ms);
        g_autofree char *version = version_cell(state);
        const VrRunInstance *run = state->in_run;
        const char *const cells[] = {state->instance->domain,
                                     vr_instance_state_power(state),
                                     vr_instance_state_health(state),
                                     generation,
                                     version,
                                     run ? vr_instance_phase_name(run->phase) : NULL,
                                     off,
                                     os_down};
        vr_table_row(table, cells);
    }
    vr_table_print(table);
    for (guint i = 0; i < status->states->len; i++)
        say_changed(cli, &g_array_index(status->states, VrInstanceState, i));
    for (guint i = 0; i < status->states->len; i++)
        say_why(cli, status, &g_array_index(status->states, VrInstanceState, i));
    vr_say_protected(cli, status->session.set);
}

/* Where the model was edited since: nothing to say else. */
static void print_behind(const VrCli *cli, const Status *status)
{
    guint behind = 0;

    for (guint i = 0; i < status->states->len; i++)
        behind += g_array_index(status->states, VrInstanceState, i).behind ? 1 : 0;
    if (behind > 0)
        vr_label_format(cli, "Behind model", "%u of %u instances; 'virt-reimage apply %s --all' brings them to it",
                        behind, status->states->len, status->session.set->name);
}

/* H2 */
static void print_automatic(const VrCli *cli, const Status *status)
{
    g_autofree char *set = vr_automatic_text(status->session.set);
    g_autofree char *text = vr_trigger_text(&status->trigger);
    const char *missing = status->trigger.state == VR_TRIGGER_DUE ? vr_daemon_missing(cli) : NULL;

    if (status->trigger.state == VR_TRIGGER_OFF)
        vr_label(cli, "By itself", set);
    else
        vr_label(cli, "By itself", text);
    if (missing)
        vr_note(cli, "%s", missing);
}

static void print_lines(const VrCli *cli, const Status *status)
{
    vr_label(cli, "Set", status->session.set->name);
    if (status->image)
        vr_label_format(cli, "Image", "%s; the model asks for %s, which is %s", status->image->name,
                        status->session.set->model->version, status->image->version);
    else
        vr_label(cli, "Image", "no version that the model asks for is in the store");
    print_versions(cli, status);
    if (status->session.set->current_version)
        vr_label_format(cli, "Current version", "%s %s", status->session.set->current_image,
                        status->session.set->current_version);
    print_behind(cli, status);
    print_automatic(cli, status);
    if (status->owned)
        vr_label(cli, "Owner now", status->holder);
    if (status->last)
        print_run(cli, status);
    else
        vr_label(cli, "Last run", "none yet");
    fputc('\n', stdout);
    print_instances(cli, status);
}

gboolean vr_cmd_status(const VrCli *cli, GError **error)
{
    g_auto(Status) status = {0};

    if (cli->options.watch)
        return vr_live_view_watch(cli, error);
    if (!read_status(&status, cli, error))
        return FALSE;
    if (cli->options.json)
        print_json(&status);
    else
        print_lines(cli, &status);
    return TRUE;
}
