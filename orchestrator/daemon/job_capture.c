/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a job says is collected by the kernel, in two files in memory: nothing of it passes through the main loop, and the daemon's own memory does not grow with
 * it. The files have their full size from the begin and are sealed against growth, so a job that says too much gets an error from
 * write(); how much was said is where the shared offset stands.
 */
#include "base/error.h"
#include "base/fd.h"
#include "orchestrator/daemon/jobs.h"
#include "orchestrator/error_json.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define OUTPUT_MAX (64 * 1024 * 1024)
#define ERRORS_READ (16 * 1024) /* the last bytes, where the error is */
#define ERROR_LINE "{\"error\":"
#define ASK_FOR_JSON "VIRT_REIMAGE_ERROR_JSON=1"

struct VrJobCapture {
    int out, err;
    VrJobCaptured captured; /* NULL: forgotten */
    void *data;
};

static void capture_free(VrJobCapture *capture)
{
    vr_fd_clear(&capture->out);
    vr_fd_clear(&capture->err);
    g_free(capture);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrJobCapture, capture_free)

static int make_file(GError **error)
{
    vr_autofd fd = memfd_create("job", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (fd >= 0 && ftruncate(fd, OUTPUT_MAX) == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK) == 0)
        return vr_fd_steal(&fd);
    vr_set_error_errno(error, errno, "cannot make a file in memory for what a job says");
    return -1;
}

static VrJobCapture *capture_new(VrJobCaptured captured, void *data, GError **error)
{
    g_autoptr(VrJobCapture) capture = g_new0(VrJobCapture, 1);

    capture->captured = captured;
    capture->data = data;
    capture->err = -1;
    capture->out = make_file(error);
    capture->err = capture->out < 0 ? -1 : make_file(error);
    return capture->err < 0 ? NULL : g_steal_pointer(&capture);
}

/* ---- its end ---- */

static guint64 size_of(int fd)
{
    off_t at = lseek(fd, 0, SEEK_CUR);

    return at > 0 ? (guint64)at : 0;
}

static char *read_end(int fd)
{
    guint64 size = size_of(fd), length = MIN(size, ERRORS_READ);
    char *text = g_malloc0(length + 1);

    if (pread(fd, text, length, (off_t)(size - length)) < 0)
        text[0] = '\0';
    return text;
}

/* What the last line says that is an error. */
static GError *last_error(const char *text)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

    for (guint i = g_strv_length(lines); i > 0; i--)
        if (g_str_has_prefix(lines[i - 1], ERROR_LINE)) {
            json_t *document = json_loads(lines[i - 1], 0, NULL);
            GError *error = vr_error_of_json(document);
            json_decref(document);
            return error;
        }
    return NULL;
}

static GError *not_begun(void)
{
    GError *error = g_error_new_literal(VR_ERROR, VR_ERROR_DISCONNECTED, "the unit of the job did not begin");

    vr_error_now(&error, "nothing was done");
    vr_error_next(&error, "'journalctl -u virt-reimage-job@*' may say why");
    return error;
}

static void on_ended(VrJob *job, int exit_status, void *data)
{
    g_autoptr(VrJobCapture) capture = data;
    g_autofree char *errors = read_end(capture->err);
    VrJobOutput output = {.exit_status = exit_status, .out_size = size_of(capture->out)};

    output.error = exit_status == VR_JOB_NOT_BEGUN ? not_begun() : last_error(errors);
    output.message = output.error ? output.error->message : NULL;
    output.code = output.error ? vr_error_name(output.error->code) : NULL;
    (void)lseek(capture->out, 0, SEEK_SET);
    output.out = vr_fd_steal(&capture->out);
    if (capture->captured)
        capture->captured(&output, capture->data);
    vr_fd_clear(&output.out);
    g_clear_error(&output.error);
}

/* ---- its begin ---- */

static const char **with_asking(const char *const *env)
{
    guint n = env ? g_strv_length((char **)env) : 0;
    const char **all = g_new0(const char *, n + 2);

    for (guint i = 0; i < n; i++)
        all[i] = env[i];
    all[n] = ASK_FOR_JSON;
    return all;
}

VrJobCapture *vr_jobs_capture(VrJobs *jobs, const VrJobRequest *request, VrJobCaptured captured, void *data,
                              GError **error)
{
    g_autoptr(VrJobCapture) capture = capture_new(captured, data, error);
    g_autofree const char **env = with_asking(request->env);
    VrJobRequest own = *request;

    if (!capture)
        return NULL;
    own.env = env;
    own.fds[1] = capture->out;
    own.fds[2] = capture->err;
    if (!vr_jobs_start(jobs, &own, on_ended, capture, error))
        return NULL;
    return g_steal_pointer(&capture);
}

void vr_job_capture_forget(VrJobCapture *capture)
{
    capture->captured = NULL;
}
