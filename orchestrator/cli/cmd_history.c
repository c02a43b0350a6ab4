/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* history: the runs of a set. One of them is history_run.c's. */
#include "base/error.h"
#include "orchestrator/cli/history_run.h"
#include "orchestrator/cli/output.h"
#include "orchestrator/cli/run_view.h"

#include <stdio.h>

/* --- the list ---------------------------------------------------------------------------------------- */

static void list_table(const VrCli *cli, GPtrArray *runs)
{
    static const char *const headings[] = {"RUN",     "WHAT",      "STATUS", "STARTED", ">TOOK", ">OK",
                                           ">FAILED", ">RESTORED", "BY",     "ERROR",   NULL};
    g_autoptr(VrTable) table = vr_table_new(cli, headings);

    for (guint i = 0; i < runs->len; i++) {
        const VrRun *run = g_ptr_array_index(runs, i);
        VrRunCounts counts = vr_run_counts(run);
        g_autofree char *title = vr_run_title(run);
        g_autofree char *started = vr_text_time(run->started_us);
        g_autofree char *took = vr_text_duration(run->completed_us ? (run->completed_us - run->started_us) / 1000 : -1);
        g_autofree char *ok = vr_text_number(counts.successful);
        g_autofree char *failed = vr_text_number(counts.failed);
        g_autofree char *restored = vr_text_number(counts.restored);
        const char *const cells[] = {run->id,
                                     title,
                                     vr_run_status_name(run->status),
                                     started,
                                     took,
                                     ok,
                                     failed,
                                     restored,
                                     vr_run_starter(run),
                                     run->error_code ? run->error_code : ""};
        vr_table_row(table, cells);
    }
    vr_table_print(table);
    if (runs->len == 0)
        vr_tell(cli, "no run yet");
}

static gboolean list_runs(const VrCli *cli, const VrSession *session, GError **error)
{
    g_autoptr(GPtrArray) runs = vr_history_list(vr_store_db(session->store), session->set->name, 0, error);
    json_t *list;

    if (!runs)
        return FALSE;
    if (cli->options.azure) {
        vr_json_print(vr_history_azure(session, runs));
        return TRUE;
    }
    if (!cli->options.json) {
        list_table(cli, runs);
        return TRUE;
    }
    list = json_array();
    for (guint i = 0; i < runs->len; i++)
        json_array_append_new(list, vr_run_json(session, g_ptr_array_index(runs, i)));
    vr_json_print(json_pack("{s:o, s:o}", "set", vr_json_text(session->set->name), "runs", list));
    return TRUE;
}

gboolean vr_cmd_history(const VrCli *cli, GError **error)
{
    g_auto(VrSession) session = {0};

    if (cli->options.azure && cli->options.run) {
        g_set_error_literal(error, VR_ERROR, VR_ERROR_USAGE, "--azure and --run are not given together");
        return FALSE;
    }
    if (cli->options.html && (!cli->options.run || cli->options.json)) {
        g_set_error_literal(error, VR_ERROR, VR_ERROR_USAGE, "--html shows one run");
        vr_error_next(error, "name it with --run, and leave --json out");
        return FALSE;
    }
    if (!vr_session_open_read(&session, cli, error) || !vr_session_read_set(&session, cli->args[0], error))
        return FALSE;
    return cli->options.run ? vr_history_run(cli, &session, error) : list_runs(cli, &session, error);
}
