/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* diff reads the first text from its standard input and the second from a file in memory that it has open. */
#include "orchestrator/cli/text_diff.h"

#include "base/child.h"
#include "base/error.h"
#include "base/fd.h"

#include <errno.h>

#define DIFFERENT 1
#define MAX_DIFF ((gsize)32 << 20) /* both texts whole, each of 16 MiB at most */

char *vr_text_diff(const char *before, const char *after, const char *label_before, const char *label_after,
                   GError **error)
{
    vr_autofd fd = vr_fd_of_text(after);
    g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", fd);
    const char *const argv[] = {"diff", "-u", "--label", label_before, "--label", label_after, "--", "-", path, NULL};
    const VrChildLimits limits = {.input = before, .keep_fd = fd, .max_output = MAX_DIFF};
    g_auto(VrChildResult) result = {0};

    if (fd < 0) {
        vr_set_error_errno(error, errno, "cannot make a file in memory");
        return NULL;
    }
    if (!vr_child_run(argv, &limits, &result, error))
        return NULL;
    if (result.exit_status <= DIFFERENT)
        return g_steal_pointer(&result.out);
    g_set_error(error, VR_ERROR, VR_ERROR_CHILD, "diff ended with status %d", result.exit_status);
    vr_error_cause(error, "%s", result.err);
    return NULL;
}
