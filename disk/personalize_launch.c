/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The request into a file without a name, with room behind it for what the child says -> unshare(1) -> the child -> its report.
 *
 * A run has itself restricted by Landlock (base/confine.h), under which nothing can be mounted; the child needs that for a moment, to take more from itself
 * than we have. So it is started outside of the restriction.
 */
#include "base/child.h"
#include "base/confine.h"
#include "base/durable.h"
#include "base/error.h"
#include "base/fd.h"
#include "disk/personalize_private.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MAX_MEMORY 0 /* their shadow takes terabytes of addresses */
#else
#define MAX_MEMORY (G_GUINT64_CONSTANT(8) << 30) /* of addresses, of each process; the appliance has less than 1 GiB */
#endif
#define MAX_OUTPUT (64u << 10)
#define GRACE_S 5

/* ---- outside ---- */

typedef struct {
    const char *const *argv;
    const VrChildLimits *limits;
    GError *error;
} Outing;

static void run_outside(void *data)
{
    Outing *outing = data;
    (void)vr_child_run(outing->argv, outing->limits, NULL, &outing->error);
}

gboolean vr_personal_run(const char *const *argv, const VrChildLimits *limits, GError **error)
{
    Outing outing = {argv, limits, NULL};
    vr_confine_outside(run_outside, &outing);
    if (!outing.error)
        return TRUE;
    g_propagate_error(error, outing.error);
    return FALSE;
}

/* ---- one launch ---- */

/* Its size is fixed: the child cannot fill the memory of the host with it. */
static int share(const char *text, gsize room, GError **error)
{
    gsize length = strlen(text) + 1;
    vr_autofd fd = memfd_create("personalize", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd >= 0 && ftruncate(fd, (off_t)(length + room)) == 0 &&
        fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) == 0)
        return vr_write_all(fd, text, length, "the request", error) ? vr_fd_steal(&fd) : -1;
    vr_set_error_errno(error, errno, "cannot make a file in memory");
    return -1;
}

static VrPersonalReport *read_report(int fd, gsize at, guint n)
{
    g_autofree char *text = g_malloc0(VR_PERSONAL_REPORT_BYTES + 1);
    gsize got = 0;
    (void)vr_pread_all(fd, text, VR_PERSONAL_REPORT_BYTES, at, &got, NULL);
    return vr_personal_report_read(text, n);
}

/* A copy, to its NUL: what lies behind that was never written to, and takes no memory. */
static char *read_result(int fd, gsize at)
{
    gsize length = at + VR_PERSONAL_RESULT_BYTES;
    char *all = mmap(NULL, length, PROT_READ, MAP_SHARED, fd, 0);
    if (all == MAP_FAILED)
        return NULL;
    char *text = strndup(all + at, VR_PERSONAL_RESULT_BYTES);
    (void)munmap(all, length);
    return text;
}

static gboolean run_child(const char *helper, int fd, gsize length, guint seconds, const gint *aborted, GError **error)
{
    const VrChildLimits limits = {.timeout_ms = (gint64)(seconds + GRACE_S) * 1000,
                                  .max_output = MAX_OUTPUT,
                                  .max_memory = MAX_MEMORY,
                                  .keep_fd = fd,
                                  .aborted = aborted};
    g_autofree char *number = g_strdup_printf("%d", fd), *bytes = g_strdup_printf("%zu", length);
    const char *argv[13] = {"unshare", "--mount", "--net", "--ipc", "--pid", "--fork", "--kill-child"};
    guint n = 7;
    if (geteuid() != 0)
        argv[n++] = "--map-root-user";
    argv[n++] = "--";
    argv[n++] = helper;
    argv[n++] = number;
    argv[n++] = bytes;
    return vr_personal_run(argv, &limits, error);
}

VrPersonalReport *vr_personal_launch(const VrPersonalRequest *request, const char *helper, const gint *aborted,
                                     char **result, GError **died, GError **error)
{
    char *text = vr_personal_request_write(request);
    gsize length = text ? strlen(text) + 1 : 0;
    gsize room = VR_PERSONAL_REPORT_BYTES + (request->read ? VR_PERSONAL_RESULT_BYTES : 0);
    vr_autofd fd = text ? share(text, room, error) : -1;
    if (!text)
        g_set_error_literal(error, VR_ERROR, VR_ERROR_INVALID, "a text of the request is no UTF-8");
    vr_personal_text_free(text);
    if (fd < 0)
        return NULL;
    (void)run_child(helper, fd, length, request->seconds, aborted, died);
    if (request->read)
        *result = read_result(fd, length + VR_PERSONAL_REPORT_BYTES);
    return read_report(fd, length, request->disks->len);
}
