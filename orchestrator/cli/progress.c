/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/cli/progress.h"

#include "base/error.h"
#include "orchestrator/cli/output.h"
#include "orchestrator/cli/run_view.h"

#include <stdio.h>

/* --- JSON lines -------------------------------------------------------------------------------------- */

static json_t *counts_of(const VrRolloutView *view)
{
    VrRunCounts counts = {.successful = view->successful,
                          .failed = view->failed,
                          .in_progress = view->in_progress,
                          .pending = view->pending,
                          .skipped = view->skipped};

    return vr_counts_json(&counts);
}

static void add_instance(json_t *line, const VrProgressView *view, const VrRunInstance *instance)
{
    VrSwapTimes times;
    gboolean known = instance->phase == VR_PHASE_COMMITTED && instance->swap_id &&
                     vr_journal_swap_times(view->session->journal, instance->swap_id, &times, NULL);

    json_object_set_new(line, "domain", vr_json_text(instance->domain));
    json_object_set_new(line, "uuid", json_string(instance->uuid));
    json_object_set_new(line, "phase", json_string(vr_instance_phase_name(instance->phase)));
    json_object_set_new(line, "reason", vr_json_text(instance->reason));
    json_object_set_new(line, "times", known ? vr_times_json(&times) : json_null());
}

static void show_json(const VrProgressView *view, const VrProgress *progress)
{
    static const char *const names[] = {[VR_PROGRESS_RUN] = "run",
                                        [VR_PROGRESS_BATCH] = "batch",
                                        [VR_PROGRESS_INSTANCE] = "instance",
                                        [VR_PROGRESS_WAIT] = "wait",
                                        [VR_PROGRESS_END] = "end"};
    json_t *line = json_pack(
        "{s:s, s:o, s:o, s:o, s:o, s:o}", "event", names[progress->kind], "time", vr_json_time(progress->wall_us),
        "set", vr_json_text(progress->run->set_name), "runId", vr_json_text(progress->run->id), "batch",
        progress->batch > 0 ? json_integer(progress->batch) : json_null(), "text", vr_json_text(progress->text));

    if (progress->instance)
        add_instance(line, view, progress->instance);
    if (progress->kind == VR_PROGRESS_RUN || progress->kind == VR_PROGRESS_END)
        json_object_set_new(line, "run", vr_run_json(view->session, progress->run));
    else
        json_object_set_new(line, "progress", counts_of(progress->view));
    vr_json_print_line(line);
}

/* --- lines ------------------------------------------------------------------------------------------- */

/* "off 312 ms, OS down 8.2 s"; NULL when it was not measured. Free with g_free. */
static char *downtime(const VrProgressView *view, const VrRunInstance *instance)
{
    VrSwapTimes times;

    if (!instance->swap_id || !vr_journal_swap_times(view->session->journal, instance->swap_id, &times, NULL) ||
        times.off_ms < 0)
        return NULL;
    g_autofree char *off = vr_text_duration(times.off_ms);
    g_autofree char *os_down = vr_text_duration(times.os_down_ms);
    return g_strdup_printf("off %s, OS down %s", off, os_down);
}

static void show_instance(const VrProgressView *view, const VrProgress *progress, const char *clock)
{
    const VrRunInstance *instance = progress->instance;
    g_autofree char *domain = vr_printable(instance->domain, -1);
    g_autofree char *times = instance->phase == VR_PHASE_COMMITTED ? downtime(view, instance) : NULL;
    g_autofree char *text = vr_printable(times ? times : progress->text ? progress->text : "", -1);

    if (instance->phase == VR_PHASE_PREPARED || instance->phase == VR_PHASE_COMMITTING)
        return; /* passed through */
    printf("%s   %-16s %-10s %s\n", clock, domain, vr_instance_phase_name(instance->phase), text);
}

static void add_count(GString *text, guint count, const char *what)
{
    if (count > 0)
        g_string_append_printf(text, "%s%u %s", text->len ? ", " : "", count, what);
}

/* Below the view, whose last frame says the rest and what to type: each in one line of 80 columns. */
static void show_end_below(const VrRun *run, const VrRunCounts *counts, const VrSpread *off, const char *clock)
{
    g_autoptr(GString) text = g_string_new(NULL);

    add_count(text, counts->successful, "successful");
    add_count(text, counts->failed, "failed");
    add_count(text, counts->pending, "pending");
    printf("%s run %s %s: %s\n", clock, run->id, vr_run_status_name(run->status),
           text->len ? text->str : "nothing was to be done");
    if (off->count > 0) {
        g_autofree char *p50 = vr_text_duration(off->p50);
        g_autofree char *p95 = vr_text_duration(off->p95);
        g_autofree char *max = vr_text_duration(off->max);
        printf("%s off per guest: p50 %s, p95 %s, max %s\n", clock, p50, p95, max);
    }
}

static void show_end(const VrProgressView *view, const VrProgress *progress, const char *clock)
{
    const VrRun *run = progress->run;
    VrRunCounts counts = vr_run_counts(run);
    g_autoptr(GArray) times = vr_run_times(view->session, run, NULL);
    VrSpread off = times ? vr_times_spread(times, G_STRUCT_OFFSET(VrSwapTimes, off_ms)) : (VrSpread){-1, -1, -1, 0};

    if (view->drawn) {
        show_end_below(run, &counts, &off, clock);
        return;
    }
    printf("%s run %s %s: %u successful, %u failed (%u of them restored), %u pending\n", clock, run->id,
           vr_run_status_name(run->status), counts.successful, counts.failed, counts.restored, counts.pending);
    if (off.count > 0) {
        g_autofree char *p50 = vr_text_duration(off.p50);
        g_autofree char *p95 = vr_text_duration(off.p95);
        g_autofree char *max = vr_text_duration(off.max);
        printf("%s off per guest: p50 %s, p95 %s, max %s; '%s history %s --run %s' has all times\n", clock, p50, p95,
               max, VR_PROGRAM, run->set_name, run->id);
    }
}

static void show_lines(const VrProgressView *view, const VrProgress *progress)
{
    g_autoptr(GDateTime) now = g_date_time_new_from_unix_local(progress->wall_us / G_USEC_PER_SEC);
    g_autofree char *clock = g_date_time_format(now, "%F %T");
    g_autofree char *title = vr_run_title(progress->run);
    g_autofree char *text = vr_printable(progress->text ? progress->text : "", -1);

    switch (progress->kind) {
    case VR_PROGRESS_RUN:
        printf("%s run %s: %s of set %s, %u of %u instances\n", clock, progress->run->id, title,
               progress->run->set_name, view->targets->chosen, view->targets->count);
        break;
    case VR_PROGRESS_BATCH:
        printf("%s batch %u  %s\n", clock, progress->batch, text);
        break;
    case VR_PROGRESS_INSTANCE:
        show_instance(view, progress, clock);
        break;
    case VR_PROGRESS_WAIT:
        if (*text)
            printf("%s %s\n", clock, text);
        break;
    case VR_PROGRESS_END:
        show_end(view, progress, clock);
        break;
    }
    fflush(stdout);
}

void vr_progress_show(const VrProgress *progress, void *data)
{
    const VrProgressView *view = data;

    if (view->cli->options.json && view->goes_on && progress->kind == VR_PROGRESS_RUN)
        return; /* the answer of 'resume' is one document, and no stream */
    if (view->cli->options.json)
        show_json(view, progress);
    else if (!view->cli->options.quiet)
        show_lines(view, progress);
}
