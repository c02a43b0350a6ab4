/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/host_file.h"

#include "base/durable.h"
#include "base/error.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

void vr_payload_clear(VrPayload *payload)
{
    if (payload->data)
        explicit_bzero(payload->data, payload->length);
    g_clear_pointer(&payload->data, g_free);
    payload->length = 0;
}

static int open_file(const char *path, gsize max, struct stat *st, GError **error)
{
    vr_autofd fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

    if (fd < 0 || fstat(fd, st) < 0)
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "%s cannot be read: %s", path, g_strerror(errno));
    else if (!S_ISREG(st->st_mode))
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "%s is no regular file", path);
    else if ((guint64)st->st_size > max)
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED,
                    "%s has %" G_GINT64_FORMAT " bytes, at most %" G_GSIZE_FORMAT " can be given", path,
                    (gint64)st->st_size, max);
    else
        return vr_fd_steal(&fd);
    return -1;
}

gboolean vr_host_file_read(const char *path, gsize max, VrPayload *payload, guint *mode, GError **error)
{
    struct stat st;
    vr_autofd fd = open_file(path, max, &st, error);
    g_autoptr(GError) local = NULL;

    if (fd < 0)
        return FALSE;
    payload->data = g_malloc0(max + 2);
    if (!vr_pread_all(fd, payload->data, max + 1, 0, &payload->length, &local) || payload->length > max) {
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "%s cannot be read: %s", path,
                    local ? local->message : "it grows meanwhile");
        vr_payload_clear(payload);
        return FALSE;
    }
    payload->data = g_realloc(payload->data, payload->length + 1);
    if (mode)
        *mode = st.st_mode & 07777;
    return TRUE;
}

static void wipe(gpointer data)
{
    VrPayload *payload = data;

    vr_payload_clear(payload);
    g_free(payload);
}

GBytes *vr_host_file_bytes(const char *path, gsize max, GError **error)
{
    VrPayload payload = {0};

    if (!vr_host_file_read(path, max, &payload, NULL, error))
        return NULL;
    return g_bytes_new_with_free_func(payload.data, payload.length, wipe, g_memdup2(&payload, sizeof(payload)));
}

void vr_leave_no_core(void)
{
    const struct rlimit none = {1, 1}; /* 0 does not hold for a core_pattern with a pipe, 1 does (core(5)) */

    setrlimit(RLIMIT_CORE, &none);
    prctl(PR_SET_DUMPABLE, 0);
}
