/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/cli/worker.h"

#include "base/child.h"
#include "base/durable.h"
#include "base/error.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#define SELF "/proc/self/exe" /* also when a package has put a newer program in its place */

gboolean vr_worker_is(const VrCli *cli)
{
    return cli->options.worker_fd > STDERR_FILENO;
}

/* What a worker that ended said is on the terminal already; one that was killed has said nothing. */
static void end_as(const VrCli *cli, GPid pid, GError **error)
{
    int status = 0;

    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    fflush(stdout);
    if (WIFEXITED(status) && WEXITSTATUS(status) != VR_CHILD_NOT_BEGUN)
        _exit(WEXITSTATUS(status));
    if (WIFEXITED(status)) {
        g_set_error_literal(error, VR_ERROR, VR_ERROR_FAILED, "the process of the run could not be started");
        vr_error_now(error, "nothing was done");
    } else {
        g_set_error(error, VR_ERROR, VR_ERROR_FAILED,
                    "the process of the run was killed by signal %d (%s) before it said that the run has begun",
                    WTERMSIG(status), g_strsignal(WTERMSIG(status)));
        vr_error_next(error, "'%s status %s' shows whether one is open", VR_PROGRAM, cli->args[0]);
    }
}

gboolean vr_worker_start(const VrCli *cli, GError **error)
{
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    g_autofree char *number = NULL;
    vr_autofd ours = -1, theirs = -1;
    int ends[2];
    GPid pid;
    char byte;
    ssize_t got;

    if (pipe2(ends, O_CLOEXEC) < 0) {
        vr_set_error_errno(error, errno, "cannot make a pipe");
        return FALSE;
    }
    ours = ends[0];
    theirs = ends[1];
    number = g_strdup_printf("%d", theirs);
    g_ptr_array_add(argv, (char *)VR_PROGRAM);
    g_ptr_array_add(argv, (char *)"--worker-fd");
    g_ptr_array_add(argv, number);
    for (char **word = cli->argv + 1; *word; word++)
        g_ptr_array_add(argv, *word);
    g_ptr_array_add(argv, NULL);
    fflush(stdout);
    if (!vr_child_leave(SELF, (const char *const *)argv->pdata, theirs, &pid, error))
        return FALSE;
    vr_fd_clear(&theirs);
    do {
        got = read(ours, &byte, 1);
    } while (got < 0 && errno == EINTR);
    if (got != 1)
        end_as(cli, pid, error);
    return got == 1;
}

gboolean vr_worker_ready(const VrCli *cli, int run_fd, gboolean anew, GError **error)
{
    vr_autofd pipe = cli->options.worker_fd;
    vr_autofd log = vr_open_beneath(run_fd, "log", O_WRONLY | O_CREAT | O_APPEND | (anew ? O_TRUNC : 0), 0600, error);

    if (log < 0)
        return FALSE;
    fflush(stdout);
    if (write(pipe, "r", 1) != 1) {
        g_set_error(error, VR_ERROR, VR_ERROR_CANCELLED, "the command that began this run was ended");
        return FALSE;
    }
    /* from here on it holds up no umount of where the command was given */
    if (dup2(log, STDOUT_FILENO) >= 0 && dup2(log, STDERR_FILENO) >= 0 && chdir("/") == 0)
        return TRUE;
    vr_set_error_errno(error, errno, "cannot write to the log of the run");
    return FALSE;
}
