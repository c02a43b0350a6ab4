/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The words go as they are: whoever parses them there is the same program. What is decided here is only whether they go, and by which socket. The answer
 * to the request is read to the end of its headers and no byte further, as what follows 101 is ours (fd_lines.h).
 */
#include "orchestrator/cli/remote.h"

#include "base/child.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "orchestrator/cli/complete.h"
#include "orchestrator/cli/job.h"
#include "orchestrator/cli/output.h"
#include "orchestrator/cli/remote_socket.h"
#include "orchestrator/cli/signals.h"
#include "orchestrator/cli/worker.h"
#include "orchestrator/fd_lines.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct {
    const VrCli *cli;
    int fd;
    gboolean read_only;
    VrFdLines *lines;
    int pipes
        [VR_FD_LINES_READER_FDS]; /* of the read-only socket: what the job says; -1: its end has come, or nobody wants it */
    gint64 until_ms;              /* for the daemon to say that the job runs */
    gint passed_on;               /* atomic: the last signal; 0: none */
} Remote;

/* Of other hosts' files, of a person's editor, and of this host as this process sees it. */
gboolean vr_remote_is_local(const VrCliCommand *command)
{
    static const char *const names[] = {"image-check", "set-edit", "doctor", NULL};

    return g_strv_contains(names, command->name);
}

/* ---- what is sent ---- */

static json_t *words_of(const VrCli *cli)
{
    json_t *words = json_array();

    for (char **word = cli->argv + 1; *word; word++)
        json_array_append_new(words, json_string(*word)); /* which refuses what is no UTF-8 */
    if (json_array_size(words) == g_strv_length(cli->argv) - 1)
        return words;
    json_decref(words);
    return NULL;
}

/* What changes how an answer looks. The daemon takes no others. */
static json_t *environment(void)
{
    static const char *const names[] = {"TERM",      "COLUMNS",           "LINES", "NO_COLOR", "TZ",
                                        "SUDO_USER", "VIRT_REIMAGE_DEBUG"};
    g_auto(GStrv) all = g_listenv();
    json_t *chosen = json_array();

    for (char **name = all; *name; name++) {
        gboolean wanted = g_str_equal(*name, "LANG") || g_str_has_prefix(*name, "LC_");
        for (guint i = 0; !wanted && i < G_N_ELEMENTS(names); i++)
            wanted = g_str_equal(*name, names[i]);
        g_autofree char *pair = g_strdup_printf("%s=%s", *name, g_getenv(*name));
        if (wanted)
            json_array_append_new(chosen, json_string(pair));
    }
    return chosen;
}

static gboolean send_command(Remote *remote, GError **error)
{
    vr_autofd here = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    const int fds[VR_FD_LINES_COMMAND_FDS] = {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO, here};
    g_autoptr(json_t) document = json_pack("{s:o, s:o}", "argv", words_of(remote->cli), "env", environment());

    if (here >= 0 && document)
        return vr_fd_lines_send(remote->fd, document, fds, remote->read_only ? 0 : VR_FD_LINES_COMMAND_FDS,
                                VR_REMOTE_PATIENCE_MS, error);
    g_set_error(error, VR_ERROR, VR_ERROR_FAILED, "this process has no directory to give");
    return FALSE;
}

/* ---- what comes back ---- */

/* Hands on what is in a pipe. FALSE: our own output cannot be written to, and its reader is not just gone. */
static gboolean copy_pipe(int *from, int to, GError **error)
{
    char piece[16384];
    ssize_t got = read(*from, piece, sizeof(piece)), done = 0;

    if (got < 0 && (errno == EINTR || errno == EAGAIN))
        return TRUE;
    while (done < got) {
        ssize_t n = write(to, piece + done, (gsize)(got - done));
        if (n < 0 && errno != EINTR) {
            int failed = errno;
            vr_fd_clear(from);
            if (failed != EPIPE) {
                vr_set_error_errno(error, failed, "cannot write the output");
                vr_error_now(error, "the command goes on in the daemon; only its answer is lost");
                vr_error_next(error, "make room, or send standard output elsewhere");
            }
            return failed == EPIPE;
        }
        done += n > 0 ? n : 0;
    }
    if (got <= 0)
        vr_fd_clear(from);
    return TRUE;
}

/* Until there is something to read on the connection, or the deadline has come. FALSE: what the job says cannot be shown. */
static gboolean wait_for_more(Remote *remote, int timeout_ms, GError **error)
{
    struct pollfd polls[] = {{remote->fd, POLLIN, 0}, {remote->pipes[0], POLLIN, 0}, {remote->pipes[1], POLLIN, 0}};

    if (poll(polls, G_N_ELEMENTS(polls), timeout_ms) <= 0)
        return TRUE;
    for (int i = 0; i < VR_FD_LINES_READER_FDS; i++)
        if (remote->pipes[i] >= 0 && polls[i + 1].revents && !copy_pipe(&remote->pipes[i], STDOUT_FILENO + i, error))
            return FALSE;
    return TRUE;
}

/* Waits for a line until a deadline; 0: for as long as it takes. BAD also with an error. */
static VrFdLinesGot next_line(Remote *remote, gint64 until_ms, json_t **document, GError **error)
{
    VrFdLinesGot got;

    while ((got = vr_fd_lines_take(remote->lines, document)) == VR_FD_LINES_NONE) {
        gint64 left = until_ms ? until_ms - vr_clock_now_ms() : -1;

        if (until_ms && left <= 0)
            return VR_FD_LINES_NONE;
        if (!wait_for_more(remote, (int)left, error))
            return VR_FD_LINES_BAD;
    }
    return got;
}

/* The daemon's own words, which come when it cannot start the job, and ours when its unit did not begin. */
static VrRemote refused(const VrCli *cli, const char *message, GError **error)
{
    if (geteuid() == 0) {
        vr_note(cli, "the daemon does not take this command: %s; it is done here", message);
        return VR_REMOTE_ALONE;
    }
    g_set_error_literal(error, VR_ERROR, VR_ERROR_BUSY, "the daemon does not take this command");
    vr_error_cause(error, "%s", message);
    return VR_REMOTE_FAILED;
}

static VrRemote not_answered(const VrCli *cli)
{
    vr_note(cli, "the daemon does not answer, so this is done without it; 'systemctl status virt-reimaged' shows it");
    return VR_REMOTE_ALONE;
}

/* DONE: the job runs. */
static VrRemote wait_started(Remote *remote, GError **error)
{
    g_autoptr(json_t) document = NULL;
    VrFdLinesGot got = next_line(remote, remote->until_ms, &document, NULL);
    const char *message = json_string_value(json_object_get(json_object_get(document, "error"), "message"));

    if (got == VR_FD_LINES_LINE && json_is_true(json_object_get(document, "started")) &&
        (!remote->read_only || vr_fd_lines_fds(remote->lines, remote->pipes)))
        return VR_REMOTE_DONE;
    if (message) {
        g_autofree char *shown = vr_printable(message, -1);
        return refused(remote->cli, shown, error);
    }
    return not_answered(remote->cli);
}

/* what: has ended without a word. */
static VrRemote nobody_knows(const VrCli *cli, const char *what, GError **error)
{
    const char *name = cli->command->name;
    gboolean of_images = cli->command->group == VR_GROUP_IMAGES;
    gboolean of_set = cli->n_args > 0 && !of_images && !g_str_has_prefix(name, "set-");

    g_set_error(error, VR_ERROR, VR_ERROR_DISCONNECTED, "%s ended while it did '%s' for us", what, name);
    vr_error_now(error, "that may go on by itself or be done, and nobody here can know");
    vr_error_next(error, "look with '%s %s%s'", VR_PROGRAM,
                  of_set      ? "status "
                  : of_images ? "image-list"
                              : "set-list",
                  of_set ? cli->args[0] : "");
    return VR_REMOTE_FAILED;
}

/* The job's end is ours. One that died of a signal that we had passed on dies of it here under its own name: SIGTERM, say, which goes as INT. */
static VrRemote end_as(Remote *remote, gint64 status, GError **error)
{
    int passed_on = g_atomic_int_get(&remote->passed_on), killed = status > 128 ? (int)status - 128 : 0;

    if (killed && passed_on && killed == SIGINT)
        vr_signals_die_of(passed_on);
    if (killed) {
        g_set_error(error, VR_ERROR, VR_ERROR_FAILED, "the process of '%s' was killed by signal %d (%s)",
                    remote->cli->command->name, killed, g_strsignal(killed));
        return VR_REMOTE_FAILED;
    }
    if (status == VR_CHILD_NOT_BEGUN) {
        g_set_error(error, VR_ERROR, VR_ERROR_CHILD, "the daemon could not start '%s' for us, and nothing was done",
                    remote->cli->command->name);
        return VR_REMOTE_FAILED;
    }
    return VR_REMOTE_DONE;
}

/* What is in the pipes still; their writers are gone. */
static gboolean drain(Remote *remote, GError **error)
{
    for (int i = 0; i < VR_FD_LINES_READER_FDS; i++)
        while (remote->pipes[i] >= 0)
            if (!copy_pipe(&remote->pipes[i], STDOUT_FILENO + i, error))
                return FALSE;
    return TRUE;
}

static VrRemote wait_end(Remote *remote, int *status, GError **error)
{
    for (;;) {
        g_autoptr(json_t) document = NULL;
        g_autoptr(GError) local = NULL;
        VrFdLinesGot got = next_line(remote, 0, &document, &local);
        json_t *exit_status = json_object_get(document, "exit");

        if (local || (json_is_integer(exit_status) && !drain(remote, &local))) {
            g_propagate_error(error, g_steal_pointer(&local));
            return VR_REMOTE_FAILED;
        }
        if (got != VR_FD_LINES_LINE)
            return nobody_knows(remote->cli, "the daemon", error);
        if (exit_status && json_integer_value(exit_status) == VR_JOB_NOT_BEGUN)
            return refused(remote->cli, "its unit did not begin, which 'journalctl -u virt-reimage-job@*' may explain",
                           error);
        if (exit_status && json_integer_value(exit_status) < 0)
            return nobody_knows(remote->cli, "the unit of the job", error);
        if (!json_is_integer(exit_status))
            continue;
        *status = (int)json_integer_value(exit_status);
        return end_as(remote, *status, error);
    }
}

/* ---- signals ---- */

/* On the thread that waits for signals: whatever it is, it is a Ctrl-C to the run, as it would be here. */
static void pass_on(int number, void *data)
{
    Remote *remote = data;
    g_autoptr(json_t) line = json_pack("{s:s}", "signal", "INT");

    g_atomic_int_set(&remote->passed_on, number);
    (void)vr_fd_lines_send(remote->fd, line, NULL, 0, 0, NULL); /* a daemon that is gone is seen by who reads */
}

/* ---- */

static VrRemote run_there(Remote *remote, int *status, GError **error)
{
    VrRemote begun;

    if (!send_command(remote, NULL))
        return not_answered(remote->cli);
    vr_signals_set_relay(pass_on, remote);
    begun = wait_started(remote, error);
    if (begun == VR_REMOTE_DONE)
        begun = wait_end(remote, status, error);
    vr_signals_set_relay(NULL, NULL);
    return begun;
}

static gboolean may_go(const VrCli *cli)
{
    json_t *words = words_of(cli);
    char *text = words ? json_dumps(words, JSON_COMPACT | JSON_ENSURE_ASCII) : NULL;
    gboolean fits = text && strlen(text) < VR_FD_LINES_MAX / 2;

    free(text);
    json_decref(words);
    return fits && !vr_job_is() && !vr_worker_is(cli) && !vr_remote_is_local(cli->command) && !vr_complete_is_ours(cli);
}

/* Who presses Tab waits for nobody. */
static gint64 patience_ms(const VrCliCommand *command)
{
    return g_str_equal(command->name, "complete") ? VR_REMOTE_PATIENCE_MS / 10 : VR_REMOTE_PATIENCE_MS;
}

VrRemote vr_remote_run(const VrCli *cli, int *status, GError **error)
{
    Remote remote = {
        .cli = cli, .fd = -1, .pipes = {-1, -1}, .until_ms = vr_clock_now_ms() + patience_ms(cli->command)};
    g_autofree char *message = NULL;
    VrRemote outcome;

    if (!may_go(cli))
        return VR_REMOTE_ALONE;
    switch (vr_remote_socket_open(cli, remote.until_ms, &remote.fd, &remote.read_only, &message)) {
    case VR_REMOTE_SOCKET_NONE:
    case VR_REMOTE_SOCKET_OTHER:
        return VR_REMOTE_ALONE;
    case VR_REMOTE_SOCKET_SILENT:
        return not_answered(cli);
    case VR_REMOTE_SOCKET_REFUSED:
        return refused(cli, message, error);
    case VR_REMOTE_SOCKET_READY:
        break;
    }
    fflush(stdout);
    remote.lines = vr_fd_lines_new(remote.fd, remote.read_only ? VR_FD_LINES_READER_FDS : 0);
    outcome = run_there(&remote, status, error);
    vr_fd_lines_free(remote.lines);
    vr_fd_clear(&remote.fd);
    for (guint i = 0; i < G_N_ELEMENTS(remote.pipes); i++)
        vr_fd_clear(&remote.pipes[i]);
    return outcome;
}
