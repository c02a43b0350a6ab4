/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/daemon/reports.h"

#include "base/log.h"

#define METRICS_TIMEOUT_MS 120000
#define DELIVER_S 600

/* One of the two: never twice at once. */
typedef struct {
    VrReports *reports;
    const char *what;
    char **argv;
    gint64 timeout_ms;
    VrJobCapture *job; /* NULL: none runs */
    gboolean again;    /* asked for while it ran */
    gboolean failed;   /* the last time, which was said */
    guint every;
} Report;

struct VrReports {
    VrService *service;
    VrJobs *jobs;
    Report metrics, notices;
};

static void begin(Report *report);

/* That it fails each minute is said once. */
static void take_result(Report *report, gboolean failed, int exit_status, const char *why)
{
    if (failed && !report->failed && !vr_service_stopping(report->reports->service))
        vr_warning(NULL, "%s (exit status %d): %s", report->what, exit_status, why ? why : "it said nothing");
    report->failed = failed;
}

static void on_ended(VrJobOutput *output, void *data)
{
    Report *report = data;
    gboolean no_store = g_strcmp0(output->code, "NotFound") == 0; /* yet */

    report->job = NULL;
    take_result(report, output->exit_status != 0 && !no_store, output->exit_status, output->message);
    if (report->again)
        begin(report);
}

static void begin(Report *report)
{
    VrReports *reports = report->reports;
    const VrJobRequest request = {.argv = (const char *const *)report->argv,
                                  .fds = {-1, -1, -1},
                                  .cwd = -1,
                                  .timeout_ms = report->timeout_ms,
                                  .own = TRUE};
    g_autoptr(GError) local = NULL;

    report->again = report->job != NULL;
    if (report->job || vr_service_stopping(reports->service))
        return;
    report->job = vr_jobs_capture(reports->jobs, &request, on_ended, report, &local);
    if (!report->job)
        take_result(report, TRUE, VR_JOB_NOT_BEGUN, local->message);
}

static gboolean on_every(gpointer data)
{
    begin(data);
    return G_SOURCE_CONTINUE;
}

static void start(VrReports *reports, Report *report, guint every_s)
{
    report->reports = reports;
    report->every = g_timeout_add_seconds(MAX(every_s, 1), on_every, report);
    begin(report);
}

void vr_reports_wake(void *data)
{
    VrReports *reports = data;

    if (reports->notices.argv)
        begin(&reports->notices);
}

VrReports *vr_reports_new(VrService *service, VrJobs *jobs, const VrConfig *config)
{
    VrReports *reports = g_new0(VrReports, 1);

    reports->service = service;
    reports->jobs = jobs;
    if (config->textfile) {
        const char *const argv[] = {"metrics", "--prometheus", "--output", config->textfile, NULL};
        reports->metrics = (Report){.what = "the file of metrics is not written",
                                    .argv = g_strdupv((char **)(gpointer)argv),
                                    .timeout_ms = METRICS_TIMEOUT_MS};
        start(reports, &reports->metrics, (guint)(config->interval_ms / 1000));
    }
    if (config->journal || config->hooks || config->webhook) {
        const char *const argv[] = {"notices", "--deliver", "--wait", NULL};
        reports->notices = (Report){.what = "notices are not delivered", .argv = g_strdupv((char **)(gpointer)argv)};
        start(reports, &reports->notices, DELIVER_S);
    }
    return reports;
}

static void report_clear(Report *report)
{
    if (report->job)
        vr_job_capture_forget(report->job);
    g_clear_handle_id(&report->every, g_source_remove);
    g_strfreev(report->argv);
}

void vr_reports_free(VrReports *reports)
{
    if (!reports)
        return;
    report_clear(&reports->metrics);
    report_clear(&reports->notices);
    g_free(reports);
}
