/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* history --run: one run, with what each instance went through and for how long (J10): as lines, as JSON, or as a page (report.h). */
#include "orchestrator/cli/history_run.h"

#include "base/error.h"
#include "engine/run_log.h"
#include "orchestrator/cli/console_view.h"
#include "orchestrator/cli/extension_view.h"
#include "orchestrator/cli/output.h"
#include "orchestrator/cli/report.h"
#include "orchestrator/cli/run_view.h"

#include <stdio.h>

static const struct {
    const char *name, *key;
    gsize offset;
} spans[] = {
    {"prepare", "prepareMs", G_STRUCT_OFFSET(VrSwapTimes, prepare_ms)},
    {"stop", "stopMs", G_STRUCT_OFFSET(VrSwapTimes, stop_ms)},
    {"switch", "switchMs", G_STRUCT_OFFSET(VrSwapTimes, switch_ms)},
    {"start", "startMs", G_STRUCT_OFFSET(VrSwapTimes, start_ms)},
    {"healthy", "healthyMs", G_STRUCT_OFFSET(VrSwapTimes, healthy_ms)},
    {"off", "offMs", G_STRUCT_OFFSET(VrSwapTimes, off_ms)},
    {"OS down", "osDownMs", G_STRUCT_OFFSET(VrSwapTimes, os_down_ms)},
};

typedef struct {
    const VrSession *session;
    const VrRun *run;
    GPtrArray *swaps;    /* VrSwapRow * */
    GHashTable *by_uuid; /* UUID of the instance -> its VrSwapRow */
    GArray *times;       /* of the committed ones: what the spread is of */
} RunView;

static void run_view_clear(RunView *view)
{
    g_clear_pointer(&view->by_uuid, g_hash_table_unref);
    g_clear_pointer(&view->swaps, g_ptr_array_unref);
    g_clear_pointer(&view->times, g_array_unref);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(RunView, run_view_clear)

/* -1 everywhere when there is no swap. */
static VrSwapTimes times_of(const RunView *view, const VrSwapRow *row)
{
    VrSwapTimes times;

    if (row && vr_journal_swap_times(view->session->journal, row->id, &times, NULL))
        return times;
    return (VrSwapTimes){-1, -1, -1, -1, -1, -1, -1, -1};
}

static void run_lines(const VrCli *cli, const VrRun *run)
{
    VrRunCounts counts = vr_run_counts(run);
    g_autofree char *title = vr_run_title(run);
    g_autofree char *started = vr_text_time(run->started_us);
    g_autofree char *ended = vr_text_time(run->completed_us);

    vr_label(cli, "Run", run->id);
    vr_label(cli, "What", title);
    vr_label(cli, "Status", vr_run_status_name(run->status));
    vr_label_format(cli, "Started", "%s by %s", started, vr_run_starter(run));
    vr_label(cli, "Ended", ended);
    if (run->reason)
        vr_label(cli, "Reason", run->reason);
    vr_label_format(cli, "Progress", "%u successful, %u failed (%u of them restored), %u pending, %u skipped",
                    counts.successful, counts.failed, counts.restored, counts.pending, counts.skipped);
    if (run->error_code)
        vr_label_format(cli, "Error", "%s: %s", run->error_code, run->error_text ? run->error_text : "-");
    fputc('\n', stdout);
}

static void times_row(VrTable *table, const char *first, const char *second, const char *third,
                      const gint64 values[G_N_ELEMENTS(spans)])
{
    const char *cells[G_N_ELEMENTS(spans) + 3] = {first, second, third};
    g_auto(GStrv) texts = g_new0(char *, G_N_ELEMENTS(spans) + 1);

    for (guint i = 0; i < G_N_ELEMENTS(spans); i++)
        cells[3 + i] = texts[i] = vr_text_duration(values[i]);
    vr_table_row(table, cells);
}

static void spread_rows(VrTable *table, const GArray *times)
{
    static const char *const names[] = {"p50", "p95", "max"};
    gint64 values[3][G_N_ELEMENTS(spans)];

    if (times->len == 0)
        return;
    for (guint i = 0; i < G_N_ELEMENTS(spans); i++) {
        VrSpread spread = vr_times_spread(times, spans[i].offset);
        values[0][i] = spread.p50;
        values[1][i] = spread.p95;
        values[2][i] = spread.max;
    }
    for (guint i = 0; i < G_N_ELEMENTS(names); i++)
        times_row(table, names[i], "", "", values[i]);
}

/* NULL: none was taken, or it cannot be read. */
static VrDataProof *proof_of(const RunView *view, const VrSwapRow *row)
{
    return row ? vr_data_proof_of(view->session->journal, row->id, NULL) : NULL;
}

/* Of its new generation; NULL: it has none, or they cannot be read. A rollback runs none. */
static GPtrArray *extensions_of(const RunView *view, const VrSwapRow *row)
{
    return row && !row->rollback ? vr_extension_results_read(view->session->journal, row->uuid, row->to, NULL) : NULL;
}

static void print_extensions(const VrCli *cli, const RunView *view)
{
    for (guint i = 0; i < view->swaps->len; i++) {
        const VrSwapRow *row = g_ptr_array_index(view->swaps, i);
        g_autoptr(GPtrArray) results = extensions_of(view, row);
        g_autofree char *text = vr_extension_results_line(results);
        if (text)
            vr_say(cli, "extensions of %s: %s", row->domain, text);
    }
}

static void print_disks(const VrCli *cli, const RunView *view)
{
    for (guint i = 0; i < view->swaps->len; i++) {
        const VrSwapRow *row = g_ptr_array_index(view->swaps, i);
        g_autoptr(VrDataProof) proof = proof_of(view, row);
        g_autofree char *text = proof ? vr_data_proof_line(proof) : NULL;
        if (text)
            vr_say(cli, "data disks of %s: %s", row->domain, text);
    }
}

static void run_table(const VrCli *cli, const RunView *view)
{
    static const char *const headings[] = {"INSTANCE", ">BATCH",   "PHASE", ">PREPARE", ">STOP", ">SWITCH",
                                           ">START",   ">HEALTHY", ">OFF",  ">OS DOWN", NULL};
    g_autoptr(VrTable) table = vr_table_new(cli, headings);

    for (guint i = 0; i < view->run->instances->len; i++) {
        const VrRunInstance *instance = g_ptr_array_index(view->run->instances, i);
        VrSwapTimes times = times_of(view, g_hash_table_lookup(view->by_uuid, instance->uuid));
        g_autofree char *batch = instance->batch ? vr_text_number(instance->batch) : NULL;
        gint64 values[G_N_ELEMENTS(spans)];
        for (guint j = 0; j < G_N_ELEMENTS(spans); j++)
            values[j] = G_STRUCT_MEMBER(gint64, &times, spans[j].offset);
        times_row(table, instance->domain, batch, vr_instance_phase_name(instance->phase), values);
    }
    spread_rows(table, view->times);
    vr_table_print(table);
    print_disks(cli, view);
    print_extensions(cli, view);
    for (guint i = 0; i < view->run->instances->len; i++) {
        const VrRunInstance *instance = g_ptr_array_index(view->run->instances, i);
        vr_say_why(cli, instance->domain, instance->reason);
        vr_console_say_last(cli, view->session->store, g_hash_table_lookup(view->by_uuid, instance->uuid),
                            view->run->set_name);
    }
}

/* What was decided in the run, as it was written down. */
static json_t *events_json(const RunView *view)
{
    g_autoptr(GArray) events = vr_run_log_events(view->session->journal, view->run->id, NULL);
    json_t *list = json_array();

    for (guint i = 0; events && i < events->len; i++) {
        const VrLogEvent *event = &g_array_index(events, VrLogEvent, i);
        const VrSwapRow *row = event->uuid ? g_hash_table_lookup(view->by_uuid, event->uuid) : NULL;
        json_array_append_new(list, json_pack("{s:o, s:o, s:o, s:o}", "time", vr_json_time(event->at_us), "kind",
                                              vr_json_text(event->kind), "domain",
                                              vr_json_text(row ? row->domain : event->uuid), "text",
                                              vr_json_text(event->text)));
    }
    return list;
}

/* Milliseconds from the run's start to a time on the wall clock. */
static gint64 since_start(const RunView *view, gint64 at_us)
{
    return MAX((at_us - view->run->started_us) / 1000, 0);
}

static json_t *timeline_json(const RunView *view, const VrSwapRow *row)
{
    g_autoptr(GArray) steps = row ? vr_run_log_steps(view->session->journal, row->id, NULL) : NULL;
    g_autoptr(GArray) done = steps ? vr_run_log_spans(steps) : NULL;
    json_t *list = json_array();

    for (guint i = 0; done && i < done->len; i++) {
        const VrLogSpan *span = &g_array_index(done, VrLogSpan, i);
        json_array_append_new(list, json_pack("{s:s, s:o, s:I, s:o}", "phase", span->phase, "startTime",
                                              vr_json_time(span->at_us), "offsetMs",
                                              (json_int_t)since_start(view, span->at_us), "durationMs",
                                              vr_json_ms(span->ms)));
    }
    return list;
}

/* Of those that did not become what they should; empty for all others. */
static json_t *console_json(const RunView *view, const VrSwapRow *row)
{
    return row && vr_console_tells_why(row) ? vr_console_json(view->session->store, row) : json_array();
}

/* The version of a generation; null where it is not known. */
static json_t *version_json(const RunView *view, const VrSwapRow *row, guint number)
{
    g_autoptr(VrGeneration) generation = vr_journal_generation(view->session->journal, row->uuid, number, NULL);

    return vr_json_text(generation ? generation->version : NULL);
}

static json_t *run_instances_json(const RunView *view)
{
    json_t *list = json_array();

    for (guint i = 0; i < view->run->instances->len; i++) {
        const VrRunInstance *instance = g_ptr_array_index(view->run->instances, i);
        const VrSwapRow *row = g_hash_table_lookup(view->by_uuid, instance->uuid);
        VrSwapTimes times = times_of(view, row);
        g_autoptr(VrDataProof) proof = proof_of(view, row);
        g_autoptr(GPtrArray) extensions = extensions_of(view, row);
        json_t *one =
            json_pack("{s:o, s:s, s:o, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "domain",
                      vr_json_text(instance->domain), "uuid", instance->uuid, "batch", vr_batch_json(instance), "phase",
                      vr_instance_phase_name(instance->phase), "reason", vr_json_text(instance->reason),
                      "targetVersion", vr_json_text(instance->version ? instance->version : view->run->version),
                      "fromGeneration", row ? json_integer(row->from) : json_null(), "toGeneration",
                      row ? json_integer(row->to) : json_null(), "swapState",
                      row ? json_string(vr_swap_state_name(row->state)) : json_null(), "times", vr_times_json(&times),
                      "dataDisks", vr_data_proof_json(proof), "extensions", vr_extension_results_json(extensions));
        json_object_update_new(one, json_pack("{s:o, s:o, s:o, s:o}", "fromVersion",
                                              row ? version_json(view, row, row->from) : json_null(), "toVersion",
                                              row ? version_json(view, row, row->to) : json_null(), "timeline",
                                              timeline_json(view, row), "console", console_json(view, row)));
        json_array_append_new(list, one);
    }
    return list;
}

static json_t *run_json(const RunView *view)
{
    json_t *document = vr_run_json(view->session, view->run), *spread = json_object();

    for (guint i = 0; i < G_N_ELEMENTS(spans); i++) {
        VrSpread of_span = vr_times_spread(view->times, spans[i].offset);
        json_object_set_new(spread, spans[i].key, vr_spread_json(&of_span));
    }
    json_object_set_new(document, "set", vr_json_text(view->run->set_name));
    json_object_set_new(document, "instances", run_instances_json(view));
    json_object_set_new(document, "times", spread);
    json_object_set_new(document, "events", events_json(view));
    return document;
}

gboolean vr_history_run(const VrCli *cli, const VrSession *session, GError **error)
{
    g_autoptr(VrRun) run = vr_history_get(vr_store_db(session->store), session->set->name, cli->options.run, error);
    g_auto(RunView) view = {.session = session, .run = run};

    if (!run)
        return FALSE;
    view.swaps = vr_journal_run_swaps(session->journal, run->id, error);
    view.times = view.swaps ? vr_run_times(session, run, error) : NULL;
    if (!view.times)
        return FALSE;
    view.by_uuid = g_hash_table_new(g_str_hash, g_str_equal);
    for (guint i = 0; i < view.swaps->len; i++) {
        VrSwapRow *row = g_ptr_array_index(view.swaps, i);
        g_hash_table_insert(view.by_uuid, row->uuid, row);
    }
    if (cli->options.html) {
        g_autoptr(json_t) document = run_json(&view);
        return vr_report_write(document, cli->options.html, error);
    }
    if (cli->options.json) {
        vr_json_print(run_json(&view));
        return TRUE;
    }
    run_lines(cli, run);
    run_table(cli, &view);
    return TRUE;
}
