/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* metrics: J9, to standard output or into a file. */
#include "base/durable.h"
#include "base/error.h"
#include "base/fd.h"
#include "orchestrator/cli/session.h"
#include "orchestrator/metrics.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define MODE 0644 /* the collector is somebody else */

static gboolean write_file(const char *path, const char *text, GError **error)
{
    g_autofree char *directory = g_path_get_dirname(path), *name = g_path_get_basename(path);
    vr_autofd fd = vr_dir_open(directory, error);

    if (fd < 0 || !vr_durable_replace(fd, name, text, strlen(text), MODE, error)) {
        g_prefix_error(error, "the metrics are not written to '%s': ", path);
        if (error && g_error_matches(*error, VR_ERROR, VR_ERROR_NOT_FOUND))
            (*error)->code = VR_ERROR_IO; /* that is said of a store that is not there yet */
        return FALSE;
    }
    return TRUE;
}

/* Told before anything is read. */
static gboolean check_output(const char *path, GError **error)
{
    struct stat st;

    if (!path || (*path && (lstat(path, &st) < 0 || S_ISREG(st.st_mode))))
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_USAGE,
                *path ? "metrics: --output '%s' is not a regular file" : "metrics: --output '%s' is empty", path);
    vr_error_next(error, "name a file, or leave --output out for standard output");
    return FALSE;
}

gboolean vr_cmd_metrics(const VrCli *cli, GError **error)
{
    VrMetricsFormat format = cli->options.prometheus ? VR_METRICS_PROMETHEUS : VR_METRICS_OPENMETRICS;
    g_auto(VrSession) session = {0};
    g_autofree char *text = NULL;

    if (!check_output(cli->options.output, error) || !vr_session_open_read(&session, cli, error))
        return FALSE;
    text = vr_metrics(session.store, session.journal, format, error);
    if (!text)
        return FALSE;
    if (cli->options.output)
        return write_file(cli->options.output, text, error);
    fputs(text, stdout);
    return TRUE;
}
