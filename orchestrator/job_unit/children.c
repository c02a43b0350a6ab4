/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/job_unit/children.h"

#include "base/error.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

gboolean vr_children_adopt(GError **error)
{
    if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)
        return TRUE;
    vr_set_error_errno(error, errno, "cannot become the reaper of the job's processes");
    return FALSE;
}

/* We have one thread, and none of them is reaped meanwhile, so that a number is theirs. */
void vr_children_signal(int number)
{
    g_autofree char *path = g_strdup_printf("/proc/self/task/%d/children", (int)getpid());
    g_autofree char *text = NULL;
    g_auto(GStrv) pids = NULL;

    if (!g_file_get_contents(path, &text, NULL, NULL))
        return;
    pids = g_strsplit(g_strstrip(text), " ", -1);
    for (char **pid = pids; *pid; pid++)
        if (atoi(*pid) > 0)
            (void)kill(atoi(*pid), number);
}

gboolean vr_children_reap(GPid pid, int *status, gboolean *left)
{
    gboolean found = FALSE;

    for (;;) {
        int one = 0;
        pid_t got = waitpid(-1, &one, WNOHANG);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            *left = got == 0;
            return found;
        }
        if (got == pid) {
            *status = one;
            found = TRUE;
        }
    }
}
