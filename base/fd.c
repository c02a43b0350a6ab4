/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/fd.h"

#include <errno.h>
#include <unistd.h>

void vr_fd_clear(int *fd)
{
    if (*fd < 0)
        return;
    int saved = errno;
    /* Never again on EINTR: Linux has freed the number by then, and another thread may own it. */
    (void)close(*fd);
    *fd = -1;
    errno = saved;
}

int vr_fd_steal(int *fd)
{
    int taken = *fd;
    *fd = -1;
    return taken;
}
