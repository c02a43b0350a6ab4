/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/fd.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
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

int vr_fd_of_text(const char *text)
{
    int fd = memfd_create("text", MFD_CLOEXEC);
    gsize length = strlen(text), done = 0;
    while (fd >= 0 && done < length) {
        ssize_t n = write(fd, text + done, length - done);
        if (n < 0 && errno != EINTR)
            vr_fd_clear(&fd);
        done += n > 0 ? (gsize)n : 0;
    }
    if (fd >= 0)
        (void)lseek(fd, 0, SEEK_SET);
    return fd;
}
