/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "disk/small_file.h"

#include "base/durable.h"
#include "base/error.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

char *vr_small_file_read(int fd, const char *path, gsize max, GError **error)
{
    struct stat st;
    gsize got = 0;
    if (fstat(fd, &st) < 0) {
        vr_set_error_errno(error, errno, "cannot look at %s", path);
        return NULL;
    }
    if (!S_ISREG(st.st_mode)) {
        g_set_error(error, VR_ERROR, VR_ERROR_INVALID, "%s is no regular file", path);
        return NULL;
    }
    g_autofree char *text = g_malloc(max + 1);
    if (!vr_pread_all(fd, text, max + 1, 0, &got, error)) {
        g_prefix_error(error, "%s: ", path);
        return NULL;
    }
    if (got > max) {
        g_set_error(error, VR_ERROR, VR_ERROR_INVALID, "%s is larger than %zu bytes: it is not what it should be", path,
                    max);
        return NULL;
    }
    text[got] = '\0';
    if (strlen(text) == got)
        return g_steal_pointer(&text);
    g_set_error(error, VR_ERROR, VR_ERROR_INVALID, "%s is no text file", path);
    return NULL;
}

char *vr_small_file_open(const char *path, gsize max, GError **error)
{
    vr_autofd fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd >= 0)
        return vr_small_file_read(fd, path, max, error);
    vr_set_error_errno(error, errno, "cannot open %s", path);
    return NULL;
}
