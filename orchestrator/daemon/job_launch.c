/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/daemon/job_launch.h"

#include "base/child.h"
#include "base/error.h"
#include "base/fd.h"
#include "orchestrator/daemon/jobs.h"
#include "orchestrator/fd_lines.h"
#include "orchestrator/job_environment.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define PROGRAM_NAME "virt-reimage"
#define BEGIN_MS 90000

struct VrJobLaunch {
    GPid pid; /* of a child; 0: a unit */
    int fd;   /* the child's pidfd, or the connection */
    guint source;
    VrFdLines *lines; /* of a connection */
    guint deadline;   /* for the unit to begin; 0: none, or it has */
    gboolean begun;
    VrJobLaunchEnded ended;
    void *data;
};

void vr_job_launch_free(VrJobLaunch *launch)
{
    if (!launch)
        return;
    g_clear_handle_id(&launch->source, g_source_remove);
    g_clear_handle_id(&launch->deadline, g_source_remove);
    g_clear_pointer(&launch->lines, vr_fd_lines_free);
    vr_fd_clear(&launch->fd);
    g_free(launch);
}

/* The source that calls this goes with it. */
static gboolean end_with(VrJobLaunch *launch, int exit_status)
{
    launch->source = 0;
    launch->ended(exit_status, launch->data);
    return G_SOURCE_REMOVE;
}

/* ---- a child ---- */

static gboolean on_child(int fd, GIOCondition condition, gpointer data)
{
    VrJobLaunch *launch = data;
    int status = 0;
    pid_t got = waitpid(launch->pid, &status, WNOHANG);

    if (got == 0 || (got < 0 && errno == EINTR))
        return G_SOURCE_CONTINUE;
    if (got < 0)
        return end_with(launch, VR_JOB_UNKNOWN);
    return end_with(launch, WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
}

static gboolean launch_child(VrJobLaunch *launch, const VrJobLaunchRequest *request, GError **error)
{
    g_autoptr(GStrvBuilder) words = g_strv_builder_new();
    g_auto(GStrv) own = g_get_environ();
    g_auto(GStrv) environment = vr_job_environment((const char *const *)own, request->env);
    g_auto(GStrv) argv = NULL;

    g_strv_builder_add(words, PROGRAM_NAME);
    g_strv_builder_addv(words, (const char **)(gpointer)request->argv);
    argv = g_strv_builder_end(words);
    VrChildGiven given = {.path = request->program,
                          .argv = (const char *const *)argv,
                          .environment = (const char *const *)environment,
                          .fds = {request->fds[0], request->fds[1], request->fds[2]},
                          .cwd = request->cwd};
    if (!vr_child_hand_over(&given, &launch->pid, error))
        return FALSE;
    launch->fd = (int)syscall(SYS_pidfd_open, launch->pid, 0);
    if (launch->fd < 0) {
        vr_set_error_errno(error, errno, "cannot watch the process of a job, which goes on as pid %d",
                           (int)launch->pid);
        return FALSE;
    }
    launch->source = g_unix_fd_add(launch->fd, G_IO_IN, on_child, launch);
    return TRUE;
}

/* ---- a unit ---- */

/* TRUE: it has ended. */
static gboolean take_line(VrJobLaunch *launch, const json_t *document, int *status)
{
    json_t *exit_status = json_object_get(document, "exit");

    if (json_is_true(json_object_get(document, "started"))) {
        launch->begun = TRUE;
        g_clear_handle_id(&launch->deadline, g_source_remove);
    }
    *status = json_is_integer(exit_status) ? (int)json_integer_value(exit_status) : VR_JOB_UNKNOWN;
    return exit_status != NULL;
}

static gboolean on_line(int fd, GIOCondition condition, gpointer data)
{
    VrJobLaunch *launch = data;
    int status = VR_JOB_UNKNOWN;
    json_t *document;
    VrFdLinesGot got;

    while ((got = vr_fd_lines_take(launch->lines, &document)) == VR_FD_LINES_LINE) {
        gboolean ended = take_line(launch, document, &status);
        json_decref(document);
        if (ended)
            return end_with(launch, status);
    }
    if (got == VR_FD_LINES_NONE)
        return G_SOURCE_CONTINUE;
    return end_with(launch, launch->begun ? VR_JOB_UNKNOWN : VR_JOB_NOT_BEGUN);
}

/* From here on the unit cannot say that it begins, so it does not. What it has said already is read still, and then comes the end. */
static gboolean on_late(gpointer data)
{
    VrJobLaunch *launch = data;

    launch->deadline = 0;
    (void)shutdown(launch->fd, SHUT_RD);
    return G_SOURCE_REMOVE;
}

static void set_connect_error(GError **error, const char *path, int failed)
{
    if (failed == ECONNREFUSED || failed == ENOENT) {
        g_set_error(error, VR_ERROR, VR_ERROR_DISCONNECTED, "nobody listens at %s, by which jobs begin", path);
        vr_error_next(error, "'systemctl restart virt-reimage-job.socket' mends that");
    } else if (failed == EAGAIN) {
        g_set_error(error, VR_ERROR, VR_ERROR_BUSY, "too many jobs wait at %s for their begin", path);
        vr_error_next(error, "give the command again in a moment");
    } else {
        vr_set_error_errno(error, failed, "cannot start a job by %s", path);
    }
}

static int connect_to(const char *path, GError **error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    vr_autofd fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (g_strlcpy(address.sun_path, path, sizeof(address.sun_path)) >= sizeof(address.sun_path))
        set_connect_error(error, path, ENAMETOOLONG);
    else if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
        return vr_fd_steal(&fd);
    else
        set_connect_error(error, path, errno);
    return -1;
}

static json_t *array_of(const char *const *words)
{
    json_t *array = json_array();

    for (; words && *words; words++)
        json_array_append_new(array, json_string(*words));
    return array;
}

static gboolean launch_unit(VrJobLaunch *launch, const VrJobLaunchRequest *request, GError **error)
{
    vr_autofd root = request->cwd < 0 ? open("/", O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
    const int fds[VR_FD_LINES_COMMAND_FDS] = {request->fds[0], request->fds[1], request->fds[2],
                                              request->cwd < 0 ? root : request->cwd};
    g_autoptr(GError) local = NULL;
    json_t *document;
    gboolean sent;

    launch->fd = connect_to(request->socket, error);
    if (launch->fd < 0)
        return FALSE;
    document = json_pack("{s:o, s:o}", "argv", array_of(request->argv), "env", array_of(request->env));
    sent = vr_fd_lines_send(launch->fd, document, fds, VR_FD_LINES_COMMAND_FDS, 0, &local);
    json_decref(document);
    if (g_error_matches(local, VR_ERROR, VR_ERROR_USAGE)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    if (!sent) {
        g_set_error(error, VR_ERROR, VR_ERROR_DISCONNECTED,
                    "the unit of the job did not begin (%s), which 'journalctl -u virt-reimage-job@*' may explain",
                    local->message);
        return FALSE;
    }
    launch->lines = vr_fd_lines_new(launch->fd, 0);
    launch->source = g_unix_fd_add(launch->fd, G_IO_IN | G_IO_HUP | G_IO_ERR, on_line, launch);
    launch->deadline = g_timeout_add(request->begin_ms ? request->begin_ms : BEGIN_MS, on_late, launch);
    return TRUE;
}

/* ---- */

VrJobLaunch *vr_job_launch(const VrJobLaunchRequest *request, VrJobLaunchEnded ended, void *data, GError **error)
{
    g_autoptr(VrJobLaunch) launch = g_new0(VrJobLaunch, 1);
    gboolean ok;

    launch->fd = -1;
    launch->ended = ended;
    launch->data = data;
    ok = request->socket ? launch_unit(launch, request, error) : launch_child(launch, request, error);
    return ok ? g_steal_pointer(&launch) : NULL;
}

void vr_job_launch_signal(VrJobLaunch *launch, int number)
{
    json_t *line;

    if (launch->source == 0)
        return; /* it has ended */
    if (launch->pid > 0) {
        (void)kill(launch->pid, number); /* not reaped yet, so it is nobody else's number */
        return;
    }
    line = json_pack("{s:s}", "signal", vr_fd_lines_signal_name(number));
    (void)vr_fd_lines_send(launch->fd, line, NULL, 0, 0, NULL);
    json_decref(line);
}
